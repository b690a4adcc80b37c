//! All destinations, and which of them the ledger is asked about.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lane::Lane;
use crate::config::Config;
use crate::ledger::{TargetFilter, TargetId};
use crate::telemetry::Metrics;

/// A lease outlasts the longest attempt by this time, for what comes behind it: settling, and a
/// ledger that has to be asked twice.
const LEASE_SLACK: Duration = Duration::from_secs(15);

/// All destinations.
#[derive(Debug)]
pub(super) struct Lanes {
    all: HashMap<TargetId, Lane>,
    /// Destinations that deliveries are for and that the configuration does not have. They are not
    /// asked for until it changes; nothing is lost.
    strangers: HashSet<TargetId>,
    metrics: Arc<Metrics>,
    ttl: Duration,
}

impl Lanes {
    pub(super) fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        let (all, strangers) = (HashMap::new(), HashSet::new());
        let mut lanes = Self { all, strangers, metrics, ttl: LEASE_SLACK };
        lanes.apply(config);
        lanes
    }

    /// Goes on under another configuration: destinations come, change and go.
    pub(super) fn apply(&mut self, config: &Config) {
        let metrics = &self.metrics;
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
                .and_modify(|lane| lane.apply(destination))
                .or_insert_with(|| Lane::new(destination, metrics.destination(name)));
        }
        self.strangers.clear();
        let longest = config.destinations.values().map(|destination| destination.timeout).max();
        self.ttl = longest.unwrap_or_default() + LEASE_SLACK;
    }

    /// How long a lease is held.
    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) fn get_mut(&mut self, target: &TargetId) -> Option<&mut Lane> {
        self.all.get_mut(target)
    }

    /// Whether an attempt for `target` may begin now; if not, it is not asked for with the others.
    pub(super) fn has_place(&mut self, target: &TargetId, now: Instant) -> bool {
        let Some(lane) = self.all.get_mut(target) else {
            self.meet_stranger(target);
            return false;
        };
        let has_place = lane.places(now) > 0;
        lane.busy |= !has_place;
        has_place
    }

    /// A delivery is for a destination that there is not.
    fn meet_stranger(&mut self, target: &TargetId) {
        if self.strangers.insert(target.clone()) {
            tracing::warn!(
                destination = target.as_str(),
                "deliveries wait for a destination that the configuration does not have"
            );
        }
    }

    /// The destinations that have a place and no backlog that is known of; all others are busy from
    /// now on.
    pub(super) fn calm(&mut self, now: Instant) -> TargetFilter {
        let mut except: Vec<TargetId> = self.strangers.iter().cloned().collect();
        for lane in self.all.values_mut() {
            lane.busy = lane.busy || lane.places(now) == 0;
            if lane.busy {
                except.push(lane.target.clone());
            }
        }
        match except.is_empty() {
            true => TargetFilter::All,
            false => TargetFilter::Except(except),
        }
    }

    /// Busy destinations that have places, and how many.
    pub(super) fn open(&mut self, now: Instant) -> Vec<(TargetId, usize)> {
        let busy = self.all.values_mut().filter(|lane| lane.busy);
        busy.filter_map(|lane| {
            let places = lane.places(now);
            (places > 0).then(|| (lane.target.clone(), places))
        })
        .collect()
    }

    /// When time alone gives a busy destination a place.
    pub(super) fn opens_up(&self) -> Option<Instant> {
        self.all.values().filter(|lane| lane.busy).filter_map(Lane::opens_up).min()
    }
}
