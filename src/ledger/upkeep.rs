//! Upkeep: counts, retention, health.

use std::time::Duration;

use super::{Damage, DeliveryState, FaultCode, HeldStats, HeldWhy, SourceId, TargetId};
use crate::clock::UnixMillis;

/// Counts of what the ledger holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events that can be queried.
    pub events: u64,
    /// De-duplication keys remembered.
    pub keys: u64,
    /// Deliveries that are pending.
    pub pending: u64,
    /// Deliveries that are dead.
    pub dead: u64,
    /// How long the oldest pending delivery that is due has been due; `None`: nothing is due.
    pub oldest_due: Option<Duration>,
    /// The same by destination, by name, for those that have pending or dead deliveries.
    pub targets: Vec<TargetStats>,
    /// Callbacks that wait for a decision, by source, for those that have some.
    pub held: Vec<HeldStats>,
}

/// Counts of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStats {
    /// The destination.
    pub target: TargetId,
    /// Deliveries that are pending.
    pub pending: u64,
    /// Deliveries that are dead.
    pub dead: u64,
    /// How long the oldest pending delivery that is due has been due.
    pub oldest_due: Option<Duration>,
}

/// What to keep, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The time to count from.
    pub now_ms: UnixMillis,
    /// How long an event and its body are kept.
    pub keep_events: Duration,
    /// The sources whose keys are kept for a time. Those of every other source are kept for ever:
    /// its callbacks can be accepted at any time, or it is not configured now.
    pub keep_keys: Vec<KeepKeys>,
    /// How long rejected callbacks are kept.
    pub held: HeldRetention,
}

/// How long rejected callbacks are kept, from receipt. What disputes an event waits until a person
/// decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldRetention {
    /// Samples; `None`: for ever.
    pub samples: Option<Duration>,
    /// Those in the quarantine of a source, and what is left of them when they are decided; one
    /// that is not named here: for ever.
    pub quarantined: Vec<KeepKeys>,
}

/// How long the keys of one source are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepKeys {
    /// The source.
    pub source: SourceId,
    /// The time from receipt; never shorter than that of the event.
    pub time: Duration,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Events.
    pub events: u64,
    /// De-duplication keys.
    pub keys: u64,
    /// Bytes given back to the file system.
    pub bytes: u64,
    /// Whether another call would remove more at once.
    pub more: bool,
}

/// What an answer of the ledger survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The process and the operating system; not the loss of this machine's disk.
    Local,
    /// The loss of any one machine.
    Replicated,
    /// Nothing: the ledger is in memory, or its disk is told not to sync.
    Unsynced,
}

/// Whether the ledger works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why nothing can be recorded; `None`: it can.
    pub stopped: Option<String>,
    /// What an answer survives.
    pub durability: Durability,
    /// Bytes that it takes on disk; `None`: it is not known yet.
    pub bytes: Option<u64>,
    /// How much room its disk has; `None`: it has none of its own.
    pub room: Option<DiskSpace>,
    /// What was found and mended when it was opened, for people.
    pub mended: Vec<String>,
    /// Its server; `None`: it has none.
    pub server: Option<ServerHealth>,
    /// What cannot be read, as far as it was met. The ledger goes on: only these places fail.
    pub damage: Vec<Damage>,
}

/// What is known of the server that a ledger is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHealth {
    /// Milliseconds that the server's clock is ahead of this gateway's, less than zero where it is
    /// behind; `None`: the server cannot be asked just now.
    pub clock_ahead_ms: Option<i64>,
    /// Faults of this process's statements, by code: each only grows.
    pub faults: Vec<(FaultCode, u64)>,
    /// How long the oldest transaction that keeps dead rows has been open, a minute ago at most;
    /// `None`: it is not known.
    pub oldest_snapshot: Option<Duration>,
    /// Transactions since the oldest row of a table that is not frozen, a minute ago at most.
    pub transaction_age: Option<u64>,
}

impl Durability {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Replicated, Self::Local, Self::Unsynced];

    /// Its name as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replicated => "replicated",
            Self::Local => "local",
            Self::Unsynced => "unsynced",
        }
    }
}

/// The room of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that may still be written.
    pub free: u64,
    /// Bytes that must be free to go on for long.
    pub reserve: u64,
    /// Whether it is short of room; it is no longer when a quarter more than the reserve is free.
    pub short: bool,
}

impl Health {
    /// Whether events can be recorded.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.stopped.is_none()
    }

    /// Why callbacks should go elsewhere, for people; `None`: they need not.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if let Some(why) = &self.stopped {
            return Some(format!("the ledger has stopped: {why}"));
        }
        let room = self.room.filter(|room| room.short)?;
        let mib = |bytes: u64| bytes >> 20;
        Some(format!(
            "the ledger's disk is nearly full: {} MiB are free, {} MiB are needed",
            mib(room.free),
            mib(room.reserve + room.reserve / 4)
        ))
    }
}

impl Retention {
    /// Events received before this may go.
    #[must_use]
    pub fn events_before(&self) -> UnixMillis {
        self.now_ms.saturating_sub(millis(self.keep_events))
    }

    /// Keys of events of `source` received before this may go; `None`: they stay.
    #[must_use]
    pub fn keys_before(&self, source: &str) -> Option<UnixMillis> {
        let keep = self.keep_keys.iter().find(|keep| keep.source.as_str() == source)?;
        Some(self.before(keep))
    }

    /// The same of every source whose keys are kept for a time.
    pub(super) fn all_keys_before(&self) -> impl Iterator<Item = (&SourceId, UnixMillis)> {
        self.keep_keys.iter().map(|keep| (&keep.source, self.before(keep)))
    }

    fn before(&self, keep: &KeepKeys) -> UnixMillis {
        self.now_ms.saturating_sub(millis(keep.time.max(self.keep_events)))
    }
}

impl HeldRetention {
    /// Callbacks of `source` that were kept for `why` and received before this may go; `None`: they
    /// stay.
    pub(super) fn before(
        &self,
        now_ms: UnixMillis,
        why: HeldWhy,
        source: &SourceId,
    ) -> Option<UnixMillis> {
        let time = match why {
            HeldWhy::Rejected => self.samples?,
            HeldWhy::Quarantine => {
                self.quarantined.iter().find(|keep| keep.source == *source)?.time
            }
            HeldWhy::Ambiguous | HeldWhy::Conflict => return None,
        };
        Some(now_ms.saturating_sub(millis(time)))
    }
}

impl TargetStats {
    pub(super) fn new(target: TargetId) -> Self {
        Self { target, pending: 0, dead: 0, oldest_due: None }
    }

    /// Counts one delivery that has been due for `overdue_ms`; less than zero: it is not yet due.
    pub(super) fn count(&mut self, state: DeliveryState, overdue_ms: i64) {
        match state {
            DeliveryState::Dead => self.dead += 1,
            DeliveryState::Done => {}
            DeliveryState::Pending => {
                self.pending += 1;
                let overdue = u64::try_from(overdue_ms).ok().map(Duration::from_millis);
                self.oldest_due = self.oldest_due.max(overdue);
            }
        }
    }
}

impl Stats {
    /// The counts of all `targets` together.
    pub(super) fn sum(
        (events, keys): (u64, u64),
        targets: Vec<TargetStats>,
        held: Vec<HeldStats>,
    ) -> Self {
        Self {
            events,
            keys,
            pending: targets.iter().map(|target| target.pending).sum(),
            dead: targets.iter().map(|target| target.dead).sum(),
            oldest_due: targets.iter().filter_map(|target| target.oldest_due).max(),
            targets,
            held,
        }
    }
}

/// A duration in whole milliseconds; what does not fit is for ever.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
