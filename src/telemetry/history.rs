//! Callbacks of each source over time, by outcome and latency: for the console's charts.
//!
//! Each gateway counts for itself, in memory of a fixed size: minutes for an hour, hours for three
//! days. What it counted is kept in the ledger (`gateway_record`) and outlives it. A cell holds the
//! number of its period and its count in one atomic word. Counting never waits, and a reused cell
//! starts at zero.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

pub(super) use super::cell::{Cell, place};
use super::cell::{cells, count_in};
use crate::clock::{UnixMillis, instant, millis, now_ms};
use crate::sender::{Outcome, Reason};

/// Minutes that are kept.
pub(super) const MINUTES: usize = 60;

/// Hours that are kept.
pub(super) const HOURS: usize = 72;

/// Periods of ten minutes for latencies and reasons: together they are the last hour.
pub(super) const TIMES: usize = 6;

/// Periods of three hours for latencies: together they are three days.
pub(super) const DAY_TIMES: usize = 24;

/// Steps of a latency from 16 us on, two per doubling: the last one begins at 11 s, longer than any
/// known sender waits.
pub(super) const STEPS: usize = 40;

/// The number of reasons.
pub(super) const REASONS: usize = Reason::ALL.len();

/// Periods of which the main reason is taken: ten minutes, and what has begun of the next ten.
const MAIN_PERIODS: usize = 2;

/// The start of the first step, in microseconds.
const FIRST_STEP_US: f64 = 16.0;

/// The callbacks of one source. An outcome takes 1 kB once it has occurred, the latencies take 10
/// kB, the reasons 2 kB: 14 kB for an active source, nothing for one that is never called.
///
/// What this gateway counted, and its predecessors in its slot of the ledger, is in `own`. What the
/// other gateways counted is read every few seconds. Readers get the sum of both.
#[derive(Debug)]
pub struct History {
    start: Start,
    own: Counted,
    others: ArcSwapOption<Counted>,
}

/// The counts of one or several gateways for one source.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) outcomes: Vec<OnceLock<Box<Series>>>,
    pub(super) times: OnceLock<Box<[[Cell; STEPS]; TIMES]>>,
    /// Latencies of the last three days.
    pub(super) day_times: OnceLock<Box<[[Cell; STEPS]; DAY_TIMES]>>,
    /// Rejected callbacks of the last hour, by reason.
    pub(super) recent: OnceLock<Box<[[Cell; REASONS]; TIMES]>>,
    /// Callbacks by outcome since counting began.
    pub(super) totals: Vec<AtomicU64>,
    /// Rejected callbacks by reason since counting began.
    pub(super) reasons: Vec<AtomicU64>,
    pub(super) last_ms: AtomicI64,
    /// The last callback that verified.
    pub(super) verified_ms: AtomicI64,
}

/// The histories of all sources.
#[derive(Debug, Default)]
pub struct Histories {
    start: Start,
    /// When the oldest of the counts began, on any gateway; zero: at the start.
    since_ms: AtomicI64,
    kept: Mutex<BTreeMap<String, Arc<History>>>,
}

/// The start of counting: the wall clock at that time and the monotonic clock from then on. A jump
/// of the clock does not empty a chart.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    instant: Instant,
    ms: UnixMillis,
}

/// The layout of the counts of one outcome.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) minutes: [Cell; MINUTES],
    pub(super) hours: [Cell; HOURS],
}

/// The time range of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The last hour, by minute.
    Hour,
    /// The last three days, by hour.
    Days,
}

/// Latencies of callbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Took {
    /// The median.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

impl Took {
    /// The latencies of the last hour over several histories; `None`: nothing was counted.
    #[must_use]
    pub fn over<'h>(
        histories: impl IntoIterator<Item = &'h History>,
        now: Instant,
    ) -> Option<Self> {
        let mut steps = [0_u64; STEPS];
        histories.into_iter().for_each(|history| history.add_steps(&mut steps, now));
        Self::of(&steps)
    }

    /// The latencies of each period of a time range over several histories, the oldest first.
    #[must_use]
    pub fn over_time<'h>(
        histories: impl IntoIterator<Item = &'h History>,
        span: Span,
        now: Instant,
    ) -> Vec<Option<Self>> {
        let mut periods = vec![[0_u64; STEPS]; span.latency_periods()];
        for history in histories {
            history.add_steps_by_period(&mut periods, span, now);
        }
        periods.iter().map(Self::of).collect()
    }

    fn of(steps: &[u64; STEPS]) -> Option<Self> {
        let all: u64 = steps.iter().sum();
        (all > 0).then(|| Self { p50: quantile(steps, all, 0.5), p99: quantile(steps, all, 0.99) })
    }
}

impl Span {
    /// Milliseconds of one period.
    #[must_use]
    pub const fn period_ms(self) -> i64 {
        match self {
            Self::Hour => 60_000,
            Self::Days => 3_600_000,
        }
    }

    /// Milliseconds of one period of latencies, which are kept in longer ones.
    #[must_use]
    pub const fn latency_period_ms(self) -> i64 {
        match self {
            Self::Hour => TIME_MS,
            Self::Days => DAY_TIME_MS,
        }
    }

    /// The number of periods of latencies.
    #[must_use]
    pub const fn latency_periods(self) -> usize {
        match self {
            Self::Hour => TIMES,
            Self::Days => DAY_TIMES,
        }
    }

    /// The number of periods.
    #[must_use]
    pub const fn periods(self) -> usize {
        match self {
            Self::Hour => MINUTES,
            Self::Days => HOURS,
        }
    }
}

impl Default for Start {
    fn default() -> Self {
        Self { instant: instant(), ms: now_ms() }
    }
}

impl Start {
    /// The wall-clock time at `now`.
    #[must_use]
    pub fn at_ms(self, now: Instant) -> UnixMillis {
        self.ms.saturating_add(millis(now.saturating_duration_since(self.instant)))
    }

    /// The wall-clock time of the start.
    #[must_use]
    pub fn ms(self) -> UnixMillis {
        self.ms
    }
}

impl Histories {
    /// The start of counting.
    #[must_use]
    pub fn start(&self) -> Start {
        self.start
    }

    /// When counting began, on any gateway, as far as is known.
    #[must_use]
    pub fn since_ms(&self) -> UnixMillis {
        match self.since_ms.load(Ordering::Relaxed) {
            0 => self.start.ms,
            since_ms => since_ms.min(self.start.ms),
        }
    }

    /// Notes that counts reach back to `since_ms`.
    pub(super) fn reach_back_to(&self, since_ms: UnixMillis) {
        let earlier = |known: i64| (known == 0 || since_ms < known).then_some(since_ms);
        let _ = self.since_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earlier);
    }

    /// Every source with a history.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Arc<History>)> {
        self.kept().iter().map(|(name, history)| (name.clone(), Arc::clone(history))).collect()
    }

    /// The history of a source; created if missing.
    pub(super) fn of(&self, source: &str) -> Arc<History> {
        let mut kept = self.kept();
        if let Some(history) = kept.get(source) {
            return Arc::clone(history);
        }
        let history = Arc::new(History::new(self.start));
        kept.insert(source.to_owned(), Arc::clone(&history));
        history
    }

    /// The history of a source, if there is one.
    #[must_use]
    pub fn find(&self, source: &str) -> Option<Arc<History>> {
        self.kept().get(source).cloned()
    }

    pub(super) fn forget(&self, source: &str) {
        self.kept().remove(source);
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Arc<History>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn new(start: Start) -> Self {
        Self { start, own: Counted::new(), others: ArcSwapOption::empty() }
    }

    /// Counts a callback that came at `now`, with this outcome, reason and latency.
    pub fn count(&self, of: (Outcome, Option<Reason>), now: Instant, took: Duration) {
        self.own.count(of, self.start.at_ms(now), took);
    }

    /// The counts of this gateway.
    pub(super) fn own(&self) -> &Counted {
        &self.own
    }

    /// Replaces what the other gateways counted.
    pub(super) fn set_others(&self, others: Option<Counted>) {
        self.others.store(others.map(Arc::new));
    }

    /// Both parts.
    fn parts<T>(&self, read: impl Fn(&Counted) -> T) -> (T, Option<T>) {
        (read(&self.own), self.others.load().as_deref().map(&read))
    }

    /// The time of the last callback, if there was one.
    #[must_use]
    pub fn last_ms(&self) -> Option<UnixMillis> {
        self.latest(|part| &part.last_ms)
    }

    /// The time of the last callback that verified, if there was one.
    #[must_use]
    pub fn verified_ms(&self) -> Option<UnixMillis> {
        self.latest(|part| &part.verified_ms)
    }

    fn latest(&self, of: impl Fn(&Counted) -> &AtomicI64) -> Option<UnixMillis> {
        let (own, others) = self.parts(|part| of(part).load(Ordering::Relaxed));
        Some(own.max(others.unwrap_or(0))).filter(|ms| *ms > 0)
    }

    /// The number of callbacks with this outcome since counting began.
    #[must_use]
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.sum(|part| part.totals.get(outcome as usize))
    }

    /// The number of callbacks rejected for this reason since counting began.
    #[must_use]
    pub fn rejected(&self, reason: Reason) -> u64 {
        self.sum(|part| part.reasons.get(reason as usize))
    }

    /// The most frequent reason of the last rejections: of the last ten minutes, or of the last
    /// hour if none was rejected since.
    #[must_use]
    pub fn main_reason(&self, now: Instant) -> Option<Reason> {
        let now_ms = self.start.at_ms(now);
        let most = |periods| {
            let count = |reason: Reason| {
                let (own, others) = self.parts(|part| part.recent(reason, periods, now_ms));
                own + others.unwrap_or(0)
            };
            let counted = Reason::ALL.iter().map(|reason| (count(*reason), *reason));
            // Of equal ones the first: the order of the list does not change.
            let most = counted.rev().max_by_key(|(count, _)| *count)?;
            (most.0 > 0).then_some(most.1)
        };
        most(MAIN_PERIODS).or_else(|| most(TIMES))
    }

    fn sum(&self, of: impl Fn(&Counted) -> Option<&AtomicU64>) -> u64 {
        let count = |part: &Counted| of(part).map_or(0, |count| count.load(Ordering::Relaxed));
        let (own, others) = self.parts(count);
        own + others.unwrap_or(0)
    }

    /// The number of callbacks with this outcome, by period, the oldest first; the last period is
    /// that of `now`.
    #[must_use]
    pub fn counts(&self, outcome: Outcome, span: Span, now: Instant) -> Vec<u64> {
        let mut sums = vec![0; span.periods()];
        self.add_to(&mut sums, outcome, span, now);
        sums
    }

    /// Adds the same numbers to the `sums` of several sources.
    pub fn add_to(&self, sums: &mut [u64], outcome: Outcome, span: Span, now: Instant) {
        let now_ms = self.start.at_ms(now);
        self.own.add_to(sums, outcome, span, now_ms);
        if let Some(others) = self.others.load().as_deref() {
            others.add_to(sums, outcome, span, now_ms);
        }
    }

    /// The latencies of the last hour's callbacks; `None`: no callbacks.
    #[must_use]
    pub fn took(&self, now: Instant) -> Option<Took> {
        Took::over([self], now)
    }

    /// Adds the latencies of the last hour to `steps`.
    fn add_steps(&self, steps: &mut [u64; STEPS], now: Instant) {
        let mut periods = [[0; STEPS]; TIMES];
        self.add_steps_by_period(&mut periods, Span::Hour, now);
        for period in &periods {
            for (sum, count) in steps.iter_mut().zip(period) {
                *sum += count;
            }
        }
    }

    /// Adds the latencies of each period to `periods`, the oldest first.
    fn add_steps_by_period(&self, periods: &mut [[u64; STEPS]], span: Span, now: Instant) {
        let now_ms = self.start.at_ms(now);
        self.own.add_steps(periods, span, now_ms);
        if let Some(others) = self.others.load().as_deref() {
            others.add_steps(periods, span, now_ms);
        }
    }
}

impl Counted {
    pub(super) fn new() -> Self {
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            outcomes: Outcome::ALL.iter().map(|_| OnceLock::new()).collect(),
            times: OnceLock::new(),
            day_times: OnceLock::new(),
            recent: OnceLock::new(),
            totals: zeros(Outcome::ALL.len()),
            reasons: zeros(Reason::ALL.len()),
            last_ms: AtomicI64::new(0),
            verified_ms: AtomicI64::new(0),
        }
    }

    fn count(&self, (outcome, reason): (Outcome, Option<Reason>), at_ms: i64, took: Duration) {
        if let Some(series) = self.series(outcome) {
            count_in(&series.minutes, at_ms, Span::Hour.period_ms());
            count_in(&series.hours, at_ms, Span::Days.period_ms());
        }
        let add = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
        self.totals.get(outcome as usize).map(add);
        reason.and_then(|reason| self.reasons.get(reason as usize)).map(add);
        let (period, index) = place(at_ms, TIME_MS, TIMES);
        let step = step(took);
        if let Some(cell) = self.latencies().get(index).and_then(|steps| steps.get(step)) {
            cell.count(period);
        }
        let (days, place_of_days) = place(at_ms, DAY_TIME_MS, DAY_TIMES);
        if let Some(cell) = self.day_latencies().get(place_of_days).and_then(|all| all.get(step)) {
            cell.count(days);
        }
        if let Some(reason) = reason
            && let Some(cells) = self.last_reasons().get(index)
            && let Some(cell) = cells.get(reason as usize)
        {
            cell.count(period);
        }
        self.last_ms.fetch_max(at_ms, Ordering::Relaxed);
        if is_verified(outcome) {
            self.verified_ms.fetch_max(at_ms, Ordering::Relaxed);
        }
    }

    /// The periods of an outcome; created if missing.
    pub(super) fn series(&self, outcome: Outcome) -> Option<&Series> {
        let series = self.outcomes.get(outcome as usize)?;
        Some(series.get_or_init(|| Box::new(Series::new())))
    }

    /// The latencies; created if missing.
    pub(super) fn latencies(&self) -> &[[Cell; STEPS]; TIMES] {
        self.times.get_or_init(|| Box::new([const { cells() }; TIMES]))
    }

    /// The latencies of three days; created if missing.
    pub(super) fn day_latencies(&self) -> &[[Cell; STEPS]; DAY_TIMES] {
        self.day_times.get_or_init(|| Box::new([const { cells() }; DAY_TIMES]))
    }

    /// The reasons of the last hour; created if missing.
    pub(super) fn last_reasons(&self) -> &[[Cell; REASONS]; TIMES] {
        self.recent.get_or_init(|| Box::new([const { cells() }; TIMES]))
    }

    /// The number of callbacks that were rejected for a reason within the last periods.
    fn recent(&self, reason: Reason, periods: usize, now_ms: UnixMillis) -> u64 {
        let Some(times) = self.recent.get() else { return 0 };
        let last = now_ms.div_euclid(TIME_MS);
        let ages = 0..i64::try_from(periods).unwrap_or(0);
        let count = |age| {
            let (period, index) = place(last - age, 1, TIMES);
            times.get(index)?.get(reason as usize).map(|cell| cell.read(period))
        };
        ages.filter_map(count).sum()
    }

    fn add_to(&self, sums: &mut [u64], outcome: Outcome, span: Span, now_ms: UnixMillis) {
        let series = self.outcomes.get(outcome as usize).and_then(OnceLock::get);
        let Some(series) = series else { return };
        let cells = match span {
            Span::Hour => &series.minutes[..],
            Span::Days => &series.hours[..],
        };
        let last = now_ms.div_euclid(span.period_ms());
        let ages = (0..i64::try_from(cells.len()).unwrap_or(0)).rev();
        for (sum, age) in sums.iter_mut().zip(ages) {
            let (period, index) = place(last - age, 1, cells.len());
            *sum += cells.get(index).map_or(0, |cell| cell.read(period));
        }
    }

    fn add_steps(&self, sums: &mut [[u64; STEPS]], span: Span, now_ms: UnixMillis) {
        let times = match span {
            Span::Hour => self.times.get().map(|times| &times[..]),
            Span::Days => self.day_times.get().map(|times| &times[..]),
        };
        let Some(times) = times else { return };
        let last = now_ms.div_euclid(span.latency_period_ms());
        let ages = (0..i64::try_from(times.len()).unwrap_or(0)).rev();
        for (sums, age) in sums.iter_mut().zip(ages) {
            let (period, index) = place(last - age, 1, times.len());
            let Some(cells) = times.get(index) else { continue };
            for (sum, cell) in sums.iter_mut().zip(cells) {
                *sum += cell.read(period);
            }
        }
    }
}

/// Whether a callback with this outcome verified, and so came from its sender.
#[must_use]
pub const fn is_verified(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Accepted
        | Outcome::Duplicate
        | Outcome::Conflict
        | Outcome::Ambiguous
        | Outcome::Superseded => true,
        Outcome::Test
        | Outcome::Challenge
        | Outcome::Disabled
        | Outcome::Rejected
        | Outcome::Unavailable => false,
    }
}

/// Milliseconds of one latency period of the last hour.
pub(super) const TIME_MS: i64 = 600_000;

/// Milliseconds of one latency period of the last three days.
pub(super) const DAY_TIME_MS: i64 = 10_800_000;

impl Series {
    fn new() -> Self {
        Self { minutes: cells(), hours: cells() }
    }
}

/// Two steps for each doubling are one for each doubling of the square.
fn step(took: Duration) -> usize {
    let nanos =
        took.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(took.subsec_nanos()));
    let thousandths = nanos.min(LAST_STEP_NS) / FIRST_STEP_US as u64;
    let square = thousandths * thousandths / 1_000_000;
    square.checked_ilog2().map_or(0, |step| step as usize).min(STEPS - 1)
}

/// Longer than where the last step begins; its square fits into a word.
const LAST_STEP_NS: u64 = 60_000_000_000;

/// The start of step number `at`.
fn begin(at: usize) -> Duration {
    Duration::from_secs_f64(FIRST_STEP_US * (at as f64 / 2.0).exp2() / 1e6)
}

/// The latency that `share` of `all` callbacks do not exceed, interpolated within a step.
fn quantile(steps: &[u64; STEPS], all: u64, share: f64) -> Duration {
    let wanted = all as f64 * share;
    let mut below = 0.0;
    for (at, count) in steps.iter().enumerate() {
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            let (from, to) = (if at == 0 { Duration::ZERO } else { begin(at) }, begin(at + 1));
            return from + (to - from).mul_f64(((wanted - below) / count).clamp(0.0, 1.0));
        }
        below += count;
    }
    begin(STEPS)
}
