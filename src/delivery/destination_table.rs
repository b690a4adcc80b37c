//! All destinations, and which of them the ledger is asked about.
//!
//! Most destinations have free slots and little to do. The ledger is asked for the due deliveries
//! of all of them together: first of those that answered their last attempt, then, a batch at a
//! time, of the others. A destination is served separately while it has no free slot, has a backlog
//! or is paused. So ten thousand destinations that are down do not delay the one that is up.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt_result::AttemptResult;
use super::breaker::Change;
use super::destination_state::{AttemptPurpose, DestinationState, Health, Load};
use super::forward::ReadFields;
use super::pauses::Pauses;
use super::quick_hash::{QuickMap, QuickSet};
use crate::clock::instant;
use crate::config::Config;
use crate::ledger::{TargetFilter, TargetId};
use crate::telemetry::Metrics;

/// A lease lasts this much longer than the longest attempt: time to settle, and to call the ledger
/// twice.
const LEASE_SLACK: Duration = Duration::from_secs(15);

/// Attempts in flight, over all destinations, from which a destination that did not answer its last
/// attempt gets one slot: thousands of timeouts must not use up all sockets.
const HIGH_LOAD: usize = 1024;

/// Separate destinations that are served in one round: each costs a lease.
const OPEN_MAX: usize = 64;

/// All destinations.
#[derive(Debug)]
pub(super) struct DestinationTable {
    all: QuickMap<TargetId, DestinationState>,
    /// Attempts in flight for destinations that the configuration no longer has. They count if it
    /// has them again before they end.
    removed: QuickMap<TargetId, usize>,
    /// Destinations that are not leased together with the others. Includes unknown destinations:
    /// names in deliveries that the configuration does not have. Their deliveries wait until it has
    /// them.
    separate: QuickSet<TargetId>,
    /// Grouped destinations that answered their last attempt.
    proven: QuickSet<TargetId>,
    /// Grouped destinations that did not, or were not called yet.
    unproven: QuickSet<TargetId>,
    /// Separate destinations that may have a free slot, in turn.
    ready: VecDeque<TargetId>,
    /// When time alone frees a slot of a separate destination.
    timers: BTreeSet<(Instant, TargetId)>,
    pauses: Pauses,
    in_flight: usize,
    metrics: Arc<Metrics>,
    ttl: Duration,
}

impl DestinationTable {
    pub(super) fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        let mut table = Self {
            all: QuickMap::default(),
            removed: QuickMap::default(),
            separate: QuickSet::default(),
            proven: QuickSet::default(),
            unproven: QuickSet::default(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            pauses: Pauses::default(),
            in_flight: 0,
            metrics,
            ttl: LEASE_SLACK,
        };
        table.apply(config);
        table
    }

    /// Applies another configuration: destinations are added, changed and removed.
    pub(super) fn apply(&mut self, config: &Config) {
        let metrics = &self.metrics;
        let fields = Arc::new(ReadFields::of(&config.catalog));
        let is_removed = |target: &TargetId| !config.destinations.contains_key(target.as_str());
        for (target, state) in self.all.extract_if(|target, _| is_removed(target)) {
            metrics.forget_destination(target.as_str());
            if state.in_flight() > 0 {
                self.removed.insert(target, state.in_flight());
            }
        }
        for (name, destination) in &config.destinations {
            let target = TargetId::from(name.as_str());
            let in_flight = self.removed.remove(&target).unwrap_or(0);
            self.all
                .entry(target)
                .and_modify(|state| state.apply(destination, &fields))
                .or_insert_with(|| DestinationState::new(destination, &fields, metrics, in_flight));
        }
        let longest = config.destinations.values().map(|destination| destination.timeout).max();
        self.ttl = longest.unwrap_or_default() + LEASE_SLACK;
        self.separate.retain(|target| self.all.contains_key(target));
        self.sort_all();
    }

    /// Applies other pauses.
    pub(super) fn pause(&mut self, pauses: Pauses) {
        self.pauses = pauses;
        self.sort_all();
    }

    /// Decides again which destinations are separate.
    fn sort_all(&mut self) {
        let (all, pauses) = (&mut self.all, &self.pauses);
        self.proven.clear();
        self.unproven.clear();
        self.ready.clear();
        self.timers.clear();
        for (target, state) in all {
            (state.timer, state.is_ready) = (None, false);
            state.pause(pauses.get(target));
        }
        let targets: Vec<TargetId> = self.all.keys().cloned().collect();
        let now = instant();
        for target in &targets {
            self.sort(target);
            self.refresh(target, now);
        }
    }

    /// Puts `target` into the set that it belongs to.
    fn sort(&mut self, target: &TargetId) {
        self.proven.remove(target);
        self.unproven.remove(target);
        let Some(state) = self.all.get(target) else { return };
        if !self.separate.contains(target) {
            match state.health() {
                Health::Proven => self.proven.insert(target.clone()),
                Health::Unproven => self.unproven.insert(target.clone()),
            };
        }
    }

    /// The time that a lease lasts.
    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) fn get(&self, target: &TargetId) -> Option<&DestinationState> {
        self.all.get(target)
    }

    pub(super) fn pauses(&self) -> &Pauses {
        &self.pauses
    }
}

// === Attempts ===

impl DestinationTable {
    /// Begins an attempt for `target` if it has a free slot; otherwise makes the destination
    /// separate.
    pub(super) fn begin(
        &mut self,
        target: &TargetId,
        now: Instant,
    ) -> Option<(AttemptPurpose, &DestinationState)> {
        let load = self.load();
        let Some(state) = self.all.get_mut(target) else {
            self.note_unknown(target);
            return None;
        };
        let slots = state.slots(now, load);
        let purpose = (slots > 0).then(|| state.begin(now));
        if purpose.is_some() {
            self.in_flight += 1;
        }
        if slots < 2 || self.load() == Load::High {
            // Perhaps none is left.
            self.refresh(target, now);
        }
        Some((purpose?, self.all.get(target)?))
    }

    /// Records the end of an attempt for `target`; `None`: its result is unknown.
    pub(super) fn end(
        &mut self,
        target: &TargetId,
        result: Option<AttemptResult>,
        now: Instant,
    ) -> Option<Change> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(state) = self.all.get_mut(target) else {
            self.end_removed(target);
            return None;
        };
        let before = state.health();
        let change = state.end(result, now);
        if state.health() != before {
            self.sort(target);
        }
        self.refresh(target, now);
        change
    }

    fn end_removed(&mut self, target: &TargetId) {
        if let Some(in_flight) = self.removed.get_mut(target) {
            *in_flight = in_flight.saturating_sub(1);
            if *in_flight == 0 {
                self.removed.remove(target);
            }
        }
    }

    /// Records that `target` answered an attempt that was not of a delivery.
    pub(super) fn answered(&mut self, target: &TargetId, now: Instant) -> Option<Change> {
        let state = self.all.get_mut(target)?;
        let before = state.health();
        let change = state.answered(now);
        if state.health() != before {
            self.sort(target);
        }
        self.refresh(target, now);
        change
    }

    /// Lets a probe through the open breaker of each of `targets`, or of all.
    pub(super) fn probe(&mut self, targets: Option<Vec<TargetId>>, now: Instant) {
        for target in targets.unwrap_or_else(|| self.all.keys().cloned().collect()) {
            if let Some(state) = self.all.get_mut(&target) {
                state.probe();
                self.refresh(&target, now);
            }
        }
    }

    fn load(&self) -> Load {
        if self.in_flight >= HIGH_LOAD { Load::High } else { Load::Normal }
    }

    /// Records a delivery for a destination that the configuration does not have.
    fn note_unknown(&mut self, target: &TargetId) {
        if self.separate.insert(target.clone()) {
            // A start and a reload have warned of those that waited then, with their numbers.
            tracing::info!(
                destination = target.as_str(),
                "deliveries wait for a destination that is not configured"
            );
        }
    }

    /// Updates `target` after a change: without a free slot it becomes separate; with one, a
    /// separate destination becomes ready.
    fn refresh(&mut self, target: &TargetId, now: Instant) {
        let load = self.load();
        let Some(state) = self.all.get_mut(target) else { return };
        if state.slots(now, load) > 0 {
            if self.separate.contains(target) {
                self.again(target);
            }
            return;
        }
        if self.separate.insert(target.clone()) {
            self.sort(target);
        }
        self.arm(target);
    }

    fn arm(&mut self, target: &TargetId) {
        let Some(state) = self.all.get_mut(target) else { return };
        let at = state.opens_at();
        if state.timer == at {
            return;
        }
        if let Some(old) = state.timer {
            self.timers.remove(&(old, target.clone()));
        }
        state.timer = at;
        self.timers.extend(at.map(|at| (at, target.clone())));
    }
}

// === Selection ===

impl DestinationTable {
    /// The grouped destinations that answered their last attempt; `None`: none.
    pub(super) fn proven(&self) -> Option<TargetFilter> {
        filter(&self.proven, [&self.unproven, &self.separate])
    }

    /// The grouped destinations that did not; `None`: none.
    pub(super) fn unproven(&self) -> Option<TargetFilter> {
        filter(&self.unproven, [&self.proven, &self.separate])
    }

    /// Whether `target` is leased together with the others.
    pub(super) fn is_grouped(&self, target: &TargetId) -> bool {
        !self.separate.contains(target)
    }

    /// Separate destinations with free slots, and how many; at most `OPEN_MAX` of them.
    pub(super) fn open(&mut self, now: Instant) -> Vec<(TargetId, usize)> {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, target)) = self.timers.pop_first()
        {
            if let Some(state) = self.all.get_mut(&target) {
                state.timer = None;
            }
            self.again(&target);
        }
        let load = self.load();
        let mut open = Vec::new();
        for target in self.ready.drain(..self.ready.len().min(OPEN_MAX)).collect::<Vec<_>>() {
            let Some(state) = self.all.get_mut(&target) else { continue };
            state.is_ready = false;
            match state.slots(now, load) {
                0 => self.arm(&target),
                slots => open.push((target, slots)),
            }
        }
        open
    }

    /// Queues `target` for the next check.
    pub(super) fn again(&mut self, target: &TargetId) {
        if let Some(state) = self.all.get_mut(target)
            && !state.is_ready
        {
            state.is_ready = true;
            self.ready.push_back(target.clone());
        }
    }

    /// Groups `target` with the others again: it has no backlog.
    pub(super) fn rejoin(&mut self, target: &TargetId) {
        self.separate.remove(target);
        self.sort(target);
        let timer = self.all.get_mut(target).and_then(|state| state.timer.take());
        if let Some(at) = timer {
            self.timers.remove(&(at, target.clone()));
        }
    }

    /// When a separate destination has to be checked.
    pub(super) fn opens_at(&self, now: Instant) -> Option<Instant> {
        match self.ready.is_empty() {
            true => self.timers.first().map(|(at, _)| *at),
            false => Some(now),
        }
    }
}

/// A filter for `these` with the fewest names. `All` and `Except` include unknown destinations.
fn filter(these: &QuickSet<TargetId>, others: [&QuickSet<TargetId>; 2]) -> Option<TargetFilter> {
    let others_count: usize = others.iter().map(|set| set.len()).sum();
    let others = || others.into_iter().flatten().cloned().collect();
    match these.len() {
        0 => None,
        _ if others_count == 0 => Some(TargetFilter::All),
        count if count <= others_count => Some(TargetFilter::Only(these.iter().cloned().collect())),
        _ => Some(TargetFilter::Except(others())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::pauses::{Pause, PauseReason};
    use super::*;
    use crate::config::{self, Machine};

    fn config(destinations: usize) -> Config {
        let tables: String = (0..destinations)
            .map(|n| {
                format!(
                    "[[destination]]\nname = \"d{n}\"\nformat = \"forward\"\nurl = \"http://h/\"\n"
                )
            })
            .collect();
        config::load_str(&Machine, Path::new("postern.toml"), &tables).unwrap().config
    }

    fn table(destinations: usize) -> DestinationTable {
        DestinationTable::new(&config(destinations), Arc::new(Metrics::new().unwrap()))
    }

    fn named(n: usize) -> TargetId {
        TargetId::from(format!("d{n}"))
    }

    fn begun(table: &mut DestinationTable, n: usize) -> usize {
        let now = instant();
        std::iter::repeat_with(|| table.begin(&named(n), now).is_some())
            .take_while(|has_begun| *has_begun)
            .count()
    }

    #[test]
    fn under_high_load_a_silent_destination_gets_one_slot_and_an_answering_one_gets_all() {
        let mut table = table(200);
        let now = instant();
        assert!(table.begin(&named(0), now).is_some());
        table.end(&named(0), Some(AttemptResult::Answered(http::StatusCode::OK, None)), now);
        let begun_first: Vec<usize> = (1..100).map(|n| begun(&mut table, n)).collect();
        assert_eq!(begun_first.iter().sum::<usize>(), HIGH_LOAD + 99 - HIGH_LOAD / 16);
        assert_eq!(begun(&mut table, 150), 1, "the first attempt is always made");
        assert_eq!(begun(&mut table, 0), 16);
        // A destination that waits for a slot is checked when one of its attempts has ended.
        assert!(!table.is_grouped(&named(150)));
        table.open(now);
        table.end(&named(150), Some(AttemptResult::Late), now);
        assert_eq!(table.open(now), [(named(150), 1)]);
    }

    #[test]
    fn a_separate_destination_is_grouped_again_without_a_backlog() {
        let mut table = table(2);
        let now = instant();
        assert_eq!(begun(&mut table, 1), 16);
        assert_eq!(table.unproven(), Some(TargetFilter::Only(vec![named(0)])));
        assert_eq!((table.open(now), table.opens_at(now)), (vec![], None));
        table.end(&named(1), None, now);
        assert_eq!(table.open(now), [(named(1), 1)]);
        table.rejoin(&named(1));
        assert!(table.is_grouped(&named(1)));
    }

    #[test]
    fn a_destination_that_is_not_configured_is_asked_for_once_whatever_is_paused() {
        let mut table = table(2);
        let unknown = TargetId::from("removed");
        assert!(table.begin(&unknown, instant()).is_none());
        table.pause(Pauses::default());
        assert!(!table.is_grouped(&unknown));
        table.apply(&config(2));
        assert!(table.is_grouped(&unknown));
    }

    #[test]
    fn answering_destinations_are_leased_first() {
        let mut table = table(2);
        let now = instant();
        let answered = || Some(AttemptResult::Answered(http::StatusCode::OK, None));
        for (n, result) in [(0, answered()), (1, Some(AttemptResult::Late))] {
            assert!(table.begin(&named(n), now).is_some());
            table.end(&named(n), result, now);
        }
        assert_eq!(table.proven(), Some(TargetFilter::Only(vec![named(0)])));
        assert_eq!(table.unproven(), Some(TargetFilter::Only(vec![named(1)])));
        assert!(table.begin(&named(1), now).is_some());
        table.end(&named(1), answered(), now);
        assert_eq!((table.proven(), table.unproven()), (Some(TargetFilter::All), None));
    }

    #[test]
    fn a_filter_has_the_fewest_names() {
        let mut table = table(5);
        let now = instant();
        assert_eq!((table.proven(), table.unproven()), (None, Some(TargetFilter::All)));
        assert!(table.begin(&named(0), now).is_some());
        table.end(&named(0), Some(AttemptResult::Answered(http::StatusCode::OK, None)), now);
        assert_eq!(table.proven(), Some(TargetFilter::Only(vec![named(0)])));
        assert_eq!(table.unproven(), Some(TargetFilter::Except(vec![named(0)])));
        assert!(table.begin(&TargetId::from("unknown"), now).is_none());
        let Some(TargetFilter::Except(others)) = table.unproven() else { panic!("all but two") };
        assert!(others.contains(&named(0)) && others.contains(&TargetId::from("unknown")));
    }

    #[test]
    fn separate_destinations_take_turns() {
        let mut table = table(2 * OPEN_MAX);
        let now = instant();
        for n in 0..2 * OPEN_MAX {
            begun(&mut table, n);
            table.end(&named(n), None, now);
        }
        let first: QuickSet<TargetId> = table.open(now).into_iter().map(|(name, _)| name).collect();
        first.iter().for_each(|name| table.again(name));
        let second: QuickSet<TargetId> =
            table.open(now).into_iter().map(|(name, _)| name).collect();
        assert_eq!((first.len(), second.len()), (OPEN_MAX, OPEN_MAX));
        assert!(first.is_disjoint(&second));
    }

    #[test]
    fn an_open_breaker_is_checked_when_its_time_is_over() {
        let mut table = table(1);
        let now = instant();
        for _ in 0..10 {
            assert!(table.begin(&named(0), now).is_some());
            table.end(&named(0), Some(AttemptResult::Late), now);
        }
        let second = now + Duration::from_secs(1);
        assert_eq!((table.open(now), table.opens_at(now)), (vec![], Some(second)));
        assert_eq!((table.open(second), table.opens_at(now)), (vec![(named(0), 1)], None));
        // A manual probe is due now.
        table.begin(&named(0), second);
        table.end(&named(0), Some(AttemptResult::Late), second);
        assert_eq!(table.open(second), []);
        table.probe(None, second);
        assert_eq!(table.open(second), [(named(0), 1)]);
    }

    fn end_all(table: &mut DestinationTable, n: usize) {
        for _ in 0..16 {
            table.end(&named(n), None, instant());
        }
    }

    #[test]
    fn attempts_count_while_their_destination_is_removed_and_added_again() {
        let (mut table, now) = (table(2), instant());
        assert_eq!(begun(&mut table, 1), 16);
        table.apply(&config(1));
        assert!(table.begin(&named(1), now).is_none(), "it is not configured");
        table.end(&named(1), None, now);
        table.apply(&config(2));
        assert_eq!(begun(&mut table, 1), 1, "15 are in flight");
        end_all(&mut table, 1);
        assert_eq!(begun(&mut table, 1), 16);
        // Nothing is kept of one that ends while the destination is away.
        table.apply(&config(1));
        end_all(&mut table, 1);
        assert!(table.removed.is_empty());
    }

    fn paused(why: PauseReason) -> Pauses {
        let mut pauses = Pauses::default();
        let pause = Pause { why, at_ms: 0, who: "me".to_owned(), note: None };
        pauses.add(named(0), pause);
        pauses
    }

    #[test]
    fn a_trial_waits_for_the_attempts_that_are_in_flight() {
        let mut table = table(1);
        let now = instant();
        let (ok, late) = (AttemptResult::Answered(http::StatusCode::OK, None), AttemptResult::Late);
        for _ in 0..2 {
            let (purpose, _) = table.begin(&named(0), now).unwrap();
            assert_eq!(purpose, AttemptPurpose::Delivery);
        }
        table.pause(paused(PauseReason::Gone));
        table.end(&named(0), Some(late), now);
        table.probe(None, now);
        assert_eq!(table.open(now), []);
        table.end(&named(0), Some(ok), now);
        assert_eq!(table.open(now), [(named(0), 1)]);
        assert_eq!(table.begin(&named(0), now).unwrap().0, AttemptPurpose::Trial);
        assert!(table.begin(&named(0), now).is_none());
    }

    #[test]
    fn an_operator_who_pauses_a_destination_ends_its_trial() {
        let mut table = table(1);
        let now = instant();
        table.pause(paused(PauseReason::Gone));
        table.probe(None, now);
        table.pause(paused(PauseReason::Operator));
        assert!(table.begin(&named(0), now).is_none());
    }
}
