//! The record of a gateway in the ledger: what it counted, in a compact form that only grows with
//! what happened.
//!
//! A number takes one byte for each seven bits. Names of outcomes and reasons are texts, so a
//! version that knows others reads the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;

use super::Metrics;
use super::destination_health::HealthView;
use super::history::{
    Cell, Counted, DAY_TIME_MS, HOURS, Histories, History, MINUTES, STEPS, Span, TIME_MS, TIMES,
    place,
};
use crate::clock::UnixMillis;
use crate::ledger::RECORD_BYTES_MAX;
use crate::sender::{Outcome, Reason};

/// The form of the record.
const VERSION: u64 = 1;

/// Prefix of the name of a destination among those of sources, which do not contain it.
const OF_DESTINATION: char = '>';

/// Bytes that the parts besides the sources may take.
const REST_BYTES: usize = 1 << 20;

/// The parts of a record besides the counts of sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayNotes {
    /// Problems that only this gateway sees, opaque here.
    pub problems: Bytes,
    /// The health of destinations as this gateway knows it.
    pub destinations: Vec<(String, HealthView)>,
}

/// The state of the other gateways that share the ledger, as this one knows it.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// Whether this gateway does what only one of them does: its slot is the lowest.
    pub leads: bool,
    /// The notes of those that are alive.
    pub notes: Vec<GatewayNotes>,
}

impl Metrics {
    /// The record of this gateway at `now_ms`, with its `problems`.
    #[must_use]
    pub fn gateway_record(&self, now_ms: UnixMillis, problems: &[u8]) -> Bytes {
        let mut to = Writer::default();
        to.number(VERSION);
        to.time(now_ms);
        to.time(self.histories.since_ms());
        to.bytes(problems);
        let destinations = self.destination_health.views();
        to.number(destinations.len() as u64);
        for (name, view) in destinations {
            to.bytes(name.as_bytes());
            to.time(view.delivered_ms.unwrap_or(0));
            to.time(view.failing_ms.unwrap_or(0));
            to.number(view.status.unwrap_or(0).into());
        }
        let attempts = self.attempts.all().into_iter();
        let attempts = attempts.map(|(name, history)| (format!("{OF_DESTINATION}{name}"), history));
        let mut all: Vec<_> = self.histories.all().into_iter().chain(attempts).collect();
        // If the record is full, the sources that were called last are in it.
        all.sort_by_key(|(_, history)| std::cmp::Reverse(history.last_ms()));
        for (name, history) in all.iter().filter(|(_, history)| is_used(history)) {
            let mut one = Writer::default();
            one.bytes(name.as_bytes());
            one.counted(history.own(), now_ms);
            if to.0.len() + one.0.len() > RECORD_BYTES_MAX - REST_BYTES {
                break;
            }
            to.bytes(&one.0);
        }
        to.0.into()
    }

    /// Continues the counts of a gateway that has ended, for the sources and destinations that are
    /// configured.
    pub fn adopt_record(&self, record: &[u8]) {
        let Some((since_ms, notes, sources)) = read(record) else { return };
        self.histories.reach_back_to(since_ms);
        for (name, view) in notes.destinations {
            if let Some(health) = self.destination_health.find(&name) {
                health.adopt(&view);
            }
        }
        for (name, counted) in sources {
            if let Some(history) = self.history(&name) {
                history.own().absorb(&counted);
            }
        }
    }

    /// The history of a source, or with the mark in front of the attempts of a destination.
    fn history(&self, name: &str) -> Option<Arc<History>> {
        let (kept, name): (&Histories, &str) = match name.strip_prefix(OF_DESTINATION) {
            Some(name) => (&self.attempts, name),
            None => (&self.histories, name),
        };
        kept.find(name)
    }

    /// Replaces what the other gateways counted, and returns what else each of them says; `None`
    /// for a record that cannot be read.
    pub fn set_other_records<'r>(
        &self,
        records: impl IntoIterator<Item = &'r [u8]>,
    ) -> Vec<Option<GatewayNotes>> {
        let mut sums: BTreeMap<String, Counted> = BTreeMap::new();
        let mut all = Vec::new();
        for record in records.into_iter().map(read) {
            let Some((since_ms, notes, sources)) = record else {
                all.push(None);
                continue;
            };
            self.histories.reach_back_to(since_ms);
            all.push(Some(notes));
            for (name, counted) in sources {
                match sums.get(&name) {
                    Some(sum) => sum.absorb(&counted),
                    None => drop(sums.insert(name, counted)),
                }
            }
        }
        for (name, history) in self.histories.all() {
            history.set_others(sums.remove(&name));
        }
        for (name, history) in self.attempts.all() {
            history.set_others(sums.remove(&format!("{OF_DESTINATION}{name}")));
        }
        all
    }
}

fn is_used(history: &History) -> bool {
    history.own().last_ms.load(Ordering::Relaxed) > 0
}

impl Counted {
    /// Adds what another gateway counted.
    fn absorb(&self, other: &Self) {
        for (sum, one) in self.totals.iter().zip(&other.totals) {
            sum.fetch_add(one.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for (sum, one) in self.reasons.iter().zip(&other.reasons) {
            sum.fetch_add(one.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for (sum, one) in [(&self.last_ms, &other.last_ms), (&self.verified_ms, &other.verified_ms)]
        {
            sum.fetch_max(one.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for outcome in Outcome::ALL {
            let there = other.outcomes.get(*outcome as usize).and_then(|series| series.get());
            if let (Some(from), Some(to)) = (there, there.and_then(|_| self.series(*outcome))) {
                add_all(&to.minutes, &from.minutes);
                add_all(&to.hours, &from.hours);
            }
        }
        if let Some(from) = other.times.get() {
            for (to, from) in self.latencies().iter().zip(from.iter()) {
                add_all(to, from);
            }
        }
        if let Some(from) = other.day_times.get() {
            for (to, from) in self.day_latencies().iter().zip(from.iter()) {
                add_all(to, from);
            }
        }
        if let Some(from) = other.recent.get() {
            for (to, from) in self.last_reasons().iter().zip(from.iter()) {
                add_all(to, from);
            }
        }
    }
}

fn add_all(to: &[Cell], from: &[Cell]) {
    for (to, from) in to.iter().zip(from) {
        match from.get() {
            (_, 0) => {}
            (period, count) => to.add(period, count),
        }
    }
}

// === Written ===

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn time(&mut self, ms: UnixMillis) {
        self.number(u64::try_from(ms).unwrap_or(0));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn counted(&mut self, counted: &Counted, now_ms: UnixMillis) {
        let read = |of: &AtomicI64| of.load(Ordering::Relaxed);
        self.time(read(&counted.last_ms));
        self.time(read(&counted.verified_ms));
        self.totals(Outcome::ALL.iter().map(|of| of.as_str()), &counted.totals);
        self.totals(Reason::ALL.iter().map(|of| of.as_str()), &counted.reasons);
        let there: Vec<_> = Outcome::ALL
            .iter()
            .zip(&counted.outcomes)
            .filter_map(|(of, series)| Some((of.as_str(), series.get()?)))
            .collect();
        self.number(there.len() as u64);
        for (name, series) in there {
            self.bytes(name.as_bytes());
            self.cells(&series.minutes, now_ms.div_euclid(Span::Hour.period_ms()));
            self.cells(&series.hours, now_ms.div_euclid(Span::Days.period_ms()));
        }
        self.latencies(counted.times.get().map(|times| &times[..]), now_ms.div_euclid(TIME_MS));
        // A reader that does not know what follows stops here.
        self.reasons(counted, now_ms.div_euclid(TIME_MS));
        let days = counted.day_times.get().map(|times| &times[..]);
        self.latencies(days, now_ms.div_euclid(DAY_TIME_MS));
    }

    fn latencies(&mut self, times: Option<&[[Cell; STEPS]]>, last: i64) {
        let times = times.unwrap_or_default();
        self.number(times.len() as u64);
        for steps in times {
            self.steps(steps, last, times.len());
        }
    }

    /// Reasons of the last hour: for each its name, the age of its period, its count.
    fn reasons(&mut self, counted: &Counted, last: i64) {
        let times = counted.recent.get().map_or(&[][..], |times| &times[..]);
        let some: Vec<_> = times
            .iter()
            .flat_map(|cells| cells.iter().zip(Reason::ALL))
            .filter_map(|(cell, reason)| Some((reason.as_str(), live(cell, last, TIMES)?)))
            .collect();
        self.number(some.len() as u64);
        for (name, (age, count)) in some {
            self.bytes(name.as_bytes());
            self.number(age);
            self.number(count);
        }
    }

    fn totals<'n>(&mut self, names: impl Iterator<Item = &'n str>, counts: &[AtomicU64]) {
        let some: Vec<_> = names
            .zip(counts)
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect();
        self.number(some.len() as u64);
        for (name, count) in some {
            self.bytes(name.as_bytes());
            self.number(count);
        }
    }

    /// The cells of the periods up to `last`: for each its age and its count.
    fn cells(&mut self, cells: &[Cell], last: i64) {
        let some: Vec<_> = cells.iter().filter_map(|cell| live(cell, last, cells.len())).collect();
        self.number(some.len() as u64);
        for (age, count) in some {
            self.number(age);
            self.number(count);
        }
    }

    /// Steps of one period of latencies: its age, then the number of each step that has a count.
    fn steps(&mut self, steps: &[Cell], last: i64, kept: usize) {
        let some: Vec<_> = steps
            .iter()
            .enumerate()
            .filter_map(|(at, step)| Some((at, live(step, last, kept)?)))
            .collect();
        self.number(some.len() as u64);
        for (at, (age, count)) in some {
            self.number(at as u64);
            self.number(age);
            self.number(count);
        }
    }
}

/// The age of a cell's period, and its count, unless it is too old.
fn live(cell: &Cell, last: i64, kept: usize) -> Option<(u64, u64)> {
    let (period, count) = cell.get();
    let age = u64::try_from(last - i64::from(period)).ok()?;
    (count > 0 && age < kept as u64).then_some((age, count.into()))
}

// === Read ===

struct Reader<'r>(&'r [u8]);

type Record<'r> = (UnixMillis, GatewayNotes, Vec<(String, Counted)>);

/// The parts of a record; `None` if it is empty, damaged or of another form.
fn read(record: &[u8]) -> Option<Record<'_>> {
    let mut from = Reader(record);
    if from.number()? != VERSION {
        return None;
    }
    let (at_ms, since_ms) = (from.time()?, from.time()?);
    let problems = Bytes::copy_from_slice(from.bytes()?);
    let mut destinations = Vec::new();
    for _ in 0..from.number()? {
        let name = from.text()?;
        let some = |ms: UnixMillis| Some(ms).filter(|ms| *ms > 0);
        let (delivered_ms, failing_ms) = (some(from.time()?), some(from.time()?));
        let status = u16::try_from(from.number()?).ok().filter(|status| *status > 0);
        let view = HealthView { delivered_ms, failing_ms, status, ..HealthView::default() };
        destinations.push((name, view));
    }
    let mut sources = Vec::new();
    while !from.0.is_empty() {
        let mut one = Reader(from.bytes()?);
        sources.push((one.text()?, one.counted(at_ms)?));
    }
    Some((since_ms, GatewayNotes { problems, destinations }, sources))
}

impl<'r> Reader<'r> {
    fn number(&mut self) -> Option<u64> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    fn time(&mut self) -> Option<UnixMillis> {
        i64::try_from(self.number()?).ok()
    }

    fn bytes(&mut self) -> Option<&'r [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn counted(&mut self, at_ms: UnixMillis) -> Option<Counted> {
        let counted = Counted::new();
        counted.last_ms.store(self.time()?, Ordering::Relaxed);
        counted.verified_ms.store(self.time()?, Ordering::Relaxed);
        for _ in 0..self.number()? {
            let (name, count) = (self.text()?, self.number()?);
            let of = Outcome::from_name(&name).map(|of| of as usize);
            store(&counted.totals, of, count);
        }
        for _ in 0..self.number()? {
            let (name, count) = (self.text()?, self.number()?);
            let of = Reason::from_name(&name).map(|of| of as usize);
            store(&counted.reasons, of, count);
        }
        for _ in 0..self.number()? {
            let name = self.text()?;
            let series = Outcome::from_name(&name).and_then(|of| counted.series(of));
            let minutes = series.map_or(&[][..], |series| &series.minutes[..]);
            let hours = series.map_or(&[][..], |series| &series.hours[..]);
            self.cells(minutes, at_ms.div_euclid(Span::Hour.period_ms()), MINUTES)?;
            self.cells(hours, at_ms.div_euclid(Span::Days.period_ms()), HOURS)?;
        }
        self.latencies(|| counted.latencies(), at_ms.div_euclid(TIME_MS))?;
        self.reasons(&counted, at_ms.div_euclid(TIME_MS))?;
        // A record of an older version ends here.
        if !self.0.is_empty() {
            self.latencies(|| counted.day_latencies(), at_ms.div_euclid(DAY_TIME_MS))?;
        }
        Some(counted)
    }

    /// Latencies by period. The cells are made where there is something for them.
    fn latencies<'c>(&mut self, cells: impl Fn() -> &'c [[Cell; STEPS]], last: i64) -> Option<()> {
        for _ in 0..self.number()? {
            for _ in 0..self.number()? {
                let (at, age, count) = (self.number()?, self.number()?, self.number()?);
                let times = cells();
                let age = i64::try_from(age).ok()?;
                let (period, index) = place(last.checked_sub(age)?, 1, times.len());
                let step = times.get(index)?.get(usize::try_from(at).ok()?)?;
                step.add(period, u32::try_from(count).ok()?);
            }
        }
        Some(())
    }

    /// The reasons of the last hour. A record of an older version ends before them.
    fn reasons(&mut self, counted: &Counted, last: i64) -> Option<()> {
        if self.0.is_empty() {
            return Some(());
        }
        for _ in 0..self.number()? {
            let (name, age, count) = (self.text()?, self.number()?, self.number()?);
            let (period, index) = place(last.checked_sub(i64::try_from(age).ok()?)?, 1, TIMES);
            // A later version has reasons that this one does not know.
            let reason = Reason::from_name(&name).map(|reason| reason as usize);
            let cells = counted.last_reasons().get(index)?;
            if let Some(cell) = reason.and_then(|reason| cells.get(reason)) {
                cell.add(period, u32::try_from(count).ok()?);
            }
        }
        Some(())
    }

    fn cells(&mut self, cells: &[Cell], last: i64, kept: usize) -> Option<()> {
        for _ in 0..self.number()? {
            let (age, count) = (i64::try_from(self.number()?).ok()?, self.number()?);
            let (period, index) = place(last.checked_sub(age)?, 1, kept);
            if let Some(cell) = cells.get(index) {
                cell.add(period, u32::try_from(count).ok()?);
            }
        }
        Some(())
    }
}

fn store(counts: &[AtomicU64], at: Option<usize>, count: u64) {
    if let Some(sum) = at.and_then(|at| counts.get(at)) {
        sum.store(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{instant, now_ms};
    use crate::ledger::Attempt;
    use crate::telemetry::Took;

    fn counted(metrics: &Metrics, times: usize) {
        let source = metrics.source("a", [], []);
        for _ in 0..times {
            let took = Duration::from_micros(300);
            source.count(Outcome::Accepted, None, instant(), took);
            source.count(Outcome::Rejected, Some(Reason::Stale), instant(), took);
        }
    }

    fn sums(metrics: &Metrics) -> (u64, u64, u64, u64) {
        let history = metrics.histories.find("a").unwrap();
        let hour: u64 = history.counts(Outcome::Accepted, Span::Hour, instant()).iter().sum();
        let days: u64 = history.counts(Outcome::Rejected, Span::Days, instant()).iter().sum();
        (hour, days, history.total(Outcome::Accepted), history.rejected(Reason::Stale))
    }

    #[test]
    fn the_next_gateway_goes_on_and_others_are_added() {
        let first = Metrics::new().unwrap();
        counted(&first, 3);
        let health = first.destination("game");
        let attempt = Attempt { status: Some(401), ..Attempt::default() };
        health.health.failed(7, &attempt);
        first.attempts.find("game").unwrap().count(
            (Outcome::Unavailable, None),
            instant(),
            Duration::from_millis(9),
        );
        let record = first.gateway_record(now_ms(), b"problems");
        assert!(record.len() < 400, "{}", record.len());

        let next = Metrics::new().unwrap();
        let _ = next.source("a", [], []);
        let _ = next.destination("game");
        next.adopt_record(&record);
        counted(&next, 2);
        assert_eq!(sums(&next), (5, 5, 5, 5));
        let main = |metrics: &Metrics| metrics.histories.find("a").unwrap().main_reason(instant());
        assert_eq!(main(&next), Some(Reason::Stale));
        let took = next.histories.find("a").unwrap().took(instant()).unwrap();
        assert!((256..=400).contains(&took.p99.as_micros()), "{took:?}");
        let days = |metrics: &Metrics| {
            let history = metrics.histories.find("a").unwrap();
            Took::over_time([&*history], Span::Days, instant()).iter().flatten().count()
        };
        assert_eq!(days(&next), 1, "the latencies of three days");
        let tried = next.attempts.find("game").unwrap();
        assert_eq!(tried.total(Outcome::Unavailable), 1);
        let view = next.destination_health.find("game").unwrap().view();
        assert_eq!((view.failing_ms, view.status), (Some(7), Some(401)));

        for _ in 0..2 {
            let notes = next.set_other_records([&record[..], &record[..]]);
            assert_eq!(notes[0].as_ref().unwrap().problems, "problems");
            assert_eq!(sums(&next), (11, 11, 11, 11), "the others are replaced, not added again");
        }
        // What others counted is not in its own record.
        let other = Metrics::new().unwrap();
        let _ = other.source("a", [], []);
        other.set_other_records([&next.gateway_record(now_ms(), b"")[..]]);
        assert_eq!(sums(&other), (5, 5, 5, 5));
        assert_eq!(main(&other), Some(Reason::Stale));
        other.set_other_records([]);
        assert_eq!(main(&other), None);
        assert_eq!(sums(&other), (0, 0, 0, 0));
    }

    #[test]
    fn a_damaged_record_counts_nothing() {
        let metrics = Metrics::new().unwrap();
        counted(&metrics, 3);
        let record = metrics.gateway_record(now_ms(), b"");
        let next = Metrics::new().unwrap();
        let _ = next.source("a", [], []);
        for cut in 0..record.len() {
            next.adopt_record(&record[..cut]);
        }
        next.adopt_record(b"");
        next.adopt_record(&[0xff; 40]);
        assert_eq!(next.histories.find("a").unwrap().total(Outcome::Accepted), 0);
    }
}
