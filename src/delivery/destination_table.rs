//! All destinations, and which of them the ledger is asked about.
//!
//! Most have places and little to do: the ledger is asked for what is due for all of them together,
//! first for those that answered their last attempt, then, a batch at a time, for those that did
//! not. A destination without a place, with a backlog or that is paused stands apart until it may
//! have a place again. So ten thousand destinations that are down do not delay the one that is up.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt_result::AttemptResult;
use super::breaker::Change;
use super::destination_state::{DestinationState, Health, Load};
use super::forward::ReadFields;
use super::pauses::Pauses;
use crate::clock::instant;
use crate::config::Config;
use crate::ledger::{TargetFilter, TargetId};
use crate::telemetry::Metrics;

/// A lease outlasts the longest attempt by this time, for what comes behind it: settling, and a
/// ledger that has to be asked twice.
const LEASE_SLACK: Duration = Duration::from_secs(15);

/// Attempts under way, all destinations together, from which on a destination that did not answer
/// its last attempt gets one place: thousands that time out must not use up all sockets.
const CROWD: usize = 1024;

/// Destinations apart that are served before others have their turn: each costs a lease.
const OPEN_MAX: usize = 64;

/// All destinations.
#[derive(Debug)]
pub(super) struct DestinationTable {
    all: HashMap<TargetId, DestinationState>,
    /// Not asked for together with the others. Besides destinations these are strangers: names
    /// that deliveries are for and that the configuration does not have. They wait until it
    /// changes; nothing is lost.
    apart: HashSet<TargetId>,
    /// Those not apart that answered their last attempt …
    proven: HashSet<TargetId>,
    /// … and those that did not, or had none yet.
    unproven: HashSet<TargetId>,
    /// Those apart that may have a place by now, in turn.
    ready: VecDeque<TargetId>,
    /// When time alone gives those apart a place.
    timers: BTreeSet<(Instant, TargetId)>,
    pauses: Pauses,
    in_flight: usize,
    metrics: Arc<Metrics>,
    ttl: Duration,
}

impl DestinationTable {
    pub(super) fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        let mut lanes = Self {
            all: HashMap::new(),
            apart: HashSet::new(),
            proven: HashSet::new(),
            unproven: HashSet::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            pauses: Pauses::default(),
            in_flight: 0,
            metrics,
            ttl: LEASE_SLACK,
        };
        lanes.apply(config);
        lanes
    }

    /// Goes on under another configuration: destinations come, change and go.
    pub(super) fn apply(&mut self, config: &Config) {
        let metrics = &self.metrics;
        let fields = Arc::new(ReadFields::of(&config.catalog));
        self.all.retain(|target, _| {
            let stays = config.destinations.contains_key(target.as_str());
            if !stays {
                metrics.forget_destination(target.as_str());
            }
            stays
        });
        for (name, destination) in &config.destinations {
            self.all
                .entry(TargetId::from(name.as_str()))
                .and_modify(|lane| lane.apply(destination, &fields))
                .or_insert_with(|| DestinationState::new(destination, &fields, metrics));
        }
        let longest = config.destinations.values().map(|destination| destination.timeout).max();
        self.ttl = longest.unwrap_or_default() + LEASE_SLACK;
        self.sort_anew();
    }

    /// Goes on with other pauses.
    pub(super) fn pause(&mut self, pauses: Pauses) {
        self.pauses = pauses;
        self.sort_anew();
    }

    /// Decides anew who stands apart.
    fn sort_anew(&mut self) {
        let (all, pauses) = (&mut self.all, &self.pauses);
        self.apart.retain(|target| all.contains_key(target));
        self.proven.clear();
        self.unproven.clear();
        self.ready.clear();
        self.timers.clear();
        for (target, lane) in all {
            (lane.timer, lane.is_ready) = (None, false);
            lane.paused = pauses.get(target);
        }
        let targets: Vec<TargetId> = self.all.keys().cloned().collect();
        let now = instant();
        for target in &targets {
            self.sort(target);
            self.refresh(target, now);
        }
    }

    /// Puts `target` among those that it belongs to.
    fn sort(&mut self, target: &TargetId) {
        self.proven.remove(target);
        self.unproven.remove(target);
        let Some(lane) = self.all.get(target) else { return };
        if !self.apart.contains(target) {
            match lane.health() {
                Health::Proven => self.proven.insert(target.clone()),
                Health::Unproven => self.unproven.insert(target.clone()),
            };
        }
    }

    /// How long a lease is held.
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
    /// An attempt for `target` begins, if there is a place for it; otherwise the destination stands
    /// apart from now on.
    pub(super) fn begin(&mut self, target: &TargetId, now: Instant) -> Option<&DestinationState> {
        let crowd = self.crowd();
        let Some(lane) = self.all.get_mut(target) else {
            self.meet_stranger(target);
            return None;
        };
        let has_place = lane.places(now, crowd) > 0;
        if has_place {
            lane.begin(now);
            self.in_flight += 1;
        }
        self.refresh(target, now);
        if has_place { self.all.get(target) } else { None }
    }

    /// An attempt for `target` has ended; `None`: nobody knows how.
    pub(super) fn end(
        &mut self,
        target: &TargetId,
        ending: Option<AttemptResult>,
        now: Instant,
    ) -> Option<Change> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let lane = self.all.get_mut(target)?;
        let before = lane.health();
        let change = lane.end(ending, now);
        if lane.health() != before {
            self.sort(target);
        }
        self.refresh(target, now);
        change
    }

    /// Lets a probe through to each of `targets`, or to all, whose breaker is open.
    pub(super) fn probe(&mut self, targets: Option<Vec<TargetId>>, now: Instant) {
        for target in targets.unwrap_or_else(|| self.all.keys().cloned().collect()) {
            if let Some(lane) = self.all.get_mut(&target) {
                lane.probe();
                self.refresh(&target, now);
            }
        }
    }

    fn crowd(&self) -> Load {
        if self.in_flight >= CROWD { Load::High } else { Load::Normal }
    }

    /// A delivery is for a destination that there is not.
    fn meet_stranger(&mut self, target: &TargetId) {
        if self.apart.insert(target.clone()) {
            tracing::warn!(
                destination = target.as_str(),
                "deliveries wait for a destination that the configuration does not have"
            );
        }
    }

    /// After something about `target` has changed: without a place it stands apart, and with one it
    /// is ready if it stands apart.
    fn refresh(&mut self, target: &TargetId, now: Instant) {
        let crowd = self.crowd();
        let Some(lane) = self.all.get_mut(target) else { return };
        if lane.places(now, crowd) > 0 {
            if self.apart.contains(target) {
                self.again(target.clone());
            }
            return;
        }
        if self.apart.insert(target.clone()) {
            self.sort(target);
        }
        self.arm(target);
    }

    fn arm(&mut self, target: &TargetId) {
        let Some(lane) = self.all.get_mut(target) else { return };
        let at = lane.opens_up();
        if lane.timer == at {
            return;
        }
        if let Some(old) = lane.timer {
            self.timers.remove(&(old, target.clone()));
        }
        lane.timer = at;
        self.timers.extend(at.map(|at| (at, target.clone())));
    }
}

// === Who is asked for ===

impl DestinationTable {
    /// Those who answered their last attempt; `None`: there are none.
    pub(super) fn proven(&self) -> Option<TargetFilter> {
        filter(&self.proven, [&self.unproven, &self.apart])
    }

    /// Those who did not; `None`: there are none.
    pub(super) fn unproven(&self) -> Option<TargetFilter> {
        filter(&self.unproven, [&self.proven, &self.apart])
    }

    /// Whether `target` is asked for together with the others.
    pub(super) fn is_calm(&self, target: &TargetId) -> bool {
        !self.apart.contains(target)
    }

    /// Those apart that have places, and how many; not all of them at once.
    pub(super) fn open(&mut self, now: Instant) -> Vec<(TargetId, usize)> {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, target)) = self.timers.pop_first()
        {
            if let Some(lane) = self.all.get_mut(&target) {
                lane.timer = None;
            }
            self.again(target);
        }
        let crowd = self.crowd();
        let mut open = Vec::new();
        for target in self.ready.drain(..self.ready.len().min(OPEN_MAX)).collect::<Vec<_>>() {
            let Some(lane) = self.all.get_mut(&target) else { continue };
            lane.is_ready = false;
            match lane.places(now, crowd) {
                0 => self.arm(&target),
                places => open.push((target, places)),
            }
        }
        open
    }

    /// `target` is to be looked at once more.
    pub(super) fn again(&mut self, target: TargetId) {
        if let Some(lane) = self.all.get_mut(&target)
            && !lane.is_ready
        {
            lane.is_ready = true;
            self.ready.push_back(target);
        }
    }

    /// `target` has no backlog any more: it is asked for together with the others.
    pub(super) fn rejoin(&mut self, target: &TargetId) {
        self.apart.remove(target);
        self.sort(target);
        let timer = self.all.get_mut(target).and_then(|lane| lane.timer.take());
        if let Some(at) = timer {
            self.timers.remove(&(at, target.clone()));
        }
    }

    /// When one of those apart is to be looked at.
    pub(super) fn opens_up(&self, now: Instant) -> Option<Instant> {
        match self.ready.is_empty() {
            true => self.timers.first().map(|(at, _)| *at),
            false => Some(now),
        }
    }
}

/// `these` in the fewest names. Where that is all but the others, strangers come along, and are met.
fn filter(these: &HashSet<TargetId>, others: [&HashSet<TargetId>; 2]) -> Option<TargetFilter> {
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

    use super::*;
    use crate::config::{self, Machine};

    fn lanes(destinations: usize) -> DestinationTable {
        let tables: String = (0..destinations)
            .map(|n| {
                format!(
                    "[[destination]]\nname = \"d{n}\"\nformat = \"forward\"\nurl = \"http://h/\"\n"
                )
            })
            .collect();
        let loaded = config::load_str(&Machine, Path::new("postern.toml"), &tables).unwrap();
        DestinationTable::new(&loaded.config, Arc::new(Metrics::new().unwrap()))
    }

    fn named(n: usize) -> TargetId {
        TargetId::from(format!("d{n}"))
    }

    fn begun(lanes: &mut DestinationTable, n: usize) -> usize {
        let now = instant();
        std::iter::repeat_with(|| lanes.begin(&named(n), now).is_some())
            .take_while(|has_begun| *has_begun)
            .count()
    }

    #[test]
    fn in_a_crowd_one_that_does_not_answer_gets_one_place_and_one_that_does_gets_all() {
        let mut lanes = lanes(200);
        let now = instant();
        assert!(lanes.begin(&named(0), now).is_some());
        lanes.end(&named(0), Some(AttemptResult::Answered(http::StatusCode::OK, None)), now);
        let begun_first: Vec<usize> = (1..100).map(|n| begun(&mut lanes, n)).collect();
        assert_eq!(begun_first.iter().sum::<usize>(), CROWD + 99 - CROWD / 16);
        assert_eq!(begun(&mut lanes, 150), 1, "the first attempt is always made");
        assert_eq!(begun(&mut lanes, 0), 16);
        // One that waits for a place is looked at when one of its attempts has ended.
        assert!(!lanes.is_calm(&named(150)));
        lanes.open(now);
        lanes.end(&named(150), Some(AttemptResult::Late), now);
        assert_eq!(lanes.open(now), [(named(150), 1)]);
    }

    #[test]
    fn who_stands_apart_comes_back_when_there_is_no_backlog() {
        let mut lanes = lanes(2);
        let now = instant();
        assert_eq!(begun(&mut lanes, 1), 16);
        assert_eq!(lanes.unproven(), Some(TargetFilter::Only(vec![named(0)])));
        assert_eq!((lanes.open(now), lanes.opens_up(now)), (vec![], None));
        lanes.end(&named(1), None, now);
        assert_eq!(lanes.open(now), [(named(1), 1)]);
        lanes.rejoin(&named(1));
        assert!(lanes.is_calm(&named(1)));
    }

    #[test]
    fn who_answers_is_asked_for_before_all_others() {
        let mut lanes = lanes(2);
        let now = instant();
        let answered = || Some(AttemptResult::Answered(http::StatusCode::OK, None));
        for (n, ending) in [(0, answered()), (1, Some(AttemptResult::Late))] {
            assert!(lanes.begin(&named(n), now).is_some());
            lanes.end(&named(n), ending, now);
        }
        assert_eq!(lanes.proven(), Some(TargetFilter::Only(vec![named(0)])));
        assert_eq!(lanes.unproven(), Some(TargetFilter::Only(vec![named(1)])));
        assert!(lanes.begin(&named(1), now).is_some());
        lanes.end(&named(1), answered(), now);
        assert_eq!((lanes.proven(), lanes.unproven()), (Some(TargetFilter::All), None));
    }

    #[test]
    fn whom_to_ask_for_is_said_in_the_fewest_names() {
        let mut lanes = lanes(5);
        let now = instant();
        assert_eq!((lanes.proven(), lanes.unproven()), (None, Some(TargetFilter::All)));
        assert!(lanes.begin(&named(0), now).is_some());
        lanes.end(&named(0), Some(AttemptResult::Answered(http::StatusCode::OK, None)), now);
        assert_eq!(lanes.proven(), Some(TargetFilter::Only(vec![named(0)])));
        assert_eq!(lanes.unproven(), Some(TargetFilter::Except(vec![named(0)])));
        assert!(lanes.begin(&TargetId::from("stranger"), now).is_none());
        let Some(TargetFilter::Except(others)) = lanes.unproven() else { panic!("all but two") };
        assert!(others.contains(&named(0)) && others.contains(&TargetId::from("stranger")));
    }

    #[test]
    fn those_apart_take_turns() {
        let mut lanes = lanes(2 * OPEN_MAX);
        let now = instant();
        for n in 0..2 * OPEN_MAX {
            begun(&mut lanes, n);
            lanes.end(&named(n), None, now);
        }
        let first: HashSet<TargetId> = lanes.open(now).into_iter().map(|(name, _)| name).collect();
        first.iter().for_each(|name| lanes.again(name.clone()));
        let second: HashSet<TargetId> = lanes.open(now).into_iter().map(|(name, _)| name).collect();
        assert_eq!((first.len(), second.len()), (OPEN_MAX, OPEN_MAX));
        assert!(first.is_disjoint(&second));
    }

    #[test]
    fn an_open_breaker_is_looked_at_when_its_time_is_over() {
        let mut lanes = lanes(1);
        let now = instant();
        for _ in 0..10 {
            assert!(lanes.begin(&named(0), now).is_some());
            lanes.end(&named(0), Some(AttemptResult::Late), now);
        }
        let second = now + Duration::from_secs(1);
        assert_eq!((lanes.open(now), lanes.opens_up(now)), (vec![], Some(second)));
        assert_eq!((lanes.open(second), lanes.opens_up(now)), (vec![(named(0), 1)], None));
        // By hand it is looked at now.
        lanes.begin(&named(0), second);
        lanes.end(&named(0), Some(AttemptResult::Late), second);
        assert_eq!(lanes.open(second), []);
        lanes.probe(None, second);
        assert_eq!(lanes.open(second), [(named(0), 1)]);
    }
}
