//! Statistics, retention, health.

use std::time::Duration;

#[cfg(any(test, debug_assertions))]
use super::DeliveryState;
use super::{Damage, FaultCode, HeldStats, HeldWhy, SourceId, TargetId};
use crate::clock::{UnixMillis, millis};

/// Statistics of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events that can be queried.
    pub events: u64,
    /// Stored deduplication keys.
    pub keys: u64,
    /// Deliveries that are pending.
    pub pending: u64,
    /// Deliveries that are dead.
    pub dead: u64,
    /// The time since the oldest overdue delivery became due; `None`: nothing is due.
    pub oldest_due: Option<Duration>,
    /// The same by destination name, for those that have pending or dead deliveries.
    pub targets: Vec<TargetStats>,
    /// Callbacks that wait for a decision, by source, for those that have some.
    pub held: Vec<HeldStats>,
}

/// Statistics of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStats {
    /// The destination.
    pub target: TargetId,
    /// Deliveries that are pending.
    pub pending: u64,
    /// Deliveries that are dead.
    pub dead: u64,
    /// The time since its oldest overdue delivery became due.
    pub oldest_due: Option<Duration>,
}

/// The retention policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The time of reference.
    pub now_ms: UnixMillis,
    /// How long an event and its body are kept.
    pub keep_events: Duration,
    /// The sources whose keys expire. Keys of other sources are kept forever: their callbacks can
    /// be accepted at any time, or they are not configured now.
    pub keep_keys: Vec<KeepKeys>,
    /// How long rejected callbacks are kept.
    pub held: HeldRetention,
}

/// How long rejected callbacks are kept, from receipt. A callback that disputes an event waits
/// until a person decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldRetention {
    /// Samples; `None`: for ever.
    pub samples: Option<Duration>,
    /// Callbacks in the quarantine of a source, and their marks after a decision. For a source that
    /// is not named here: for ever.
    pub quarantined: Vec<KeepKeys>,
}

/// Retention of one source's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepKeys {
    /// The source.
    pub source: SourceId,
    /// The time from receipt; not shorter than that of events.
    pub time: Duration,
}

/// The result of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Events.
    pub events: u64,
    /// Deduplication keys.
    pub keys: u64,
    /// Bytes returned to the file system.
    pub bytes: u64,
    /// Whether another call would delete more at once.
    pub more: bool,
}

/// The durability level of an acknowledged callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives the process and the operating system; not the loss of this machine's disk.
    Local,
    /// Survives the loss of any one machine.
    Replicated,
    /// Survives nothing: the ledger is in memory, or its disk does not sync.
    Unsynced,
}

/// Whether the ledger works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why nothing can be recorded; `None`: the ledger can record.
    pub stopped: Option<String>,
    /// The durability level.
    pub durability: Durability,
    /// Bytes on disk; `None`: not known yet.
    pub bytes: Option<u64>,
    /// The space on its disk; `None`: it has no disk of its own.
    pub room: Option<DiskSpace>,
    /// Repairs made when it was opened, for operators.
    pub mended: Vec<String>,
    /// Its server; `None`: it has none.
    pub server: Option<ServerHealth>,
    /// Damage found so far. The ledger continues: only these places fail.
    pub damage: Vec<Damage>,
    /// Why a closed segment waits for its index, and retention with it; `None`: none waits.
    pub unindexed: Option<String>,
}

/// The state of a ledger's server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHealth {
    /// Milliseconds by which the server's clock is ahead of this gateway's, negative if behind;
    /// `None`: the server does not respond.
    pub clock_ahead_ms: Option<i64>,
    /// Failed statements of this process, by code: each count only grows.
    pub faults: Vec<(FaultCode, u64)>,
    /// Age of the oldest transaction that keeps dead rows, at most a minute old; `None`: not known.
    pub oldest_snapshot: Option<Duration>,
    /// Transactions since the oldest unfrozen row of a table, at most a minute old.
    pub transaction_age: Option<u64>,
}

impl Durability {
    /// All levels, the best first.
    pub const ALL: [Self; 3] = [Self::Replicated, Self::Local, Self::Unsynced];

    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replicated => "replicated",
            Self::Local => "local",
            Self::Unsynced => "unsynced",
        }
    }
}

/// The space on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that may still be written.
    pub free: u64,
    /// The minimum of free bytes.
    pub reserve: u64,
    /// Whether it is short of space; ends when 125 % of the minimum is free.
    pub short: bool,
}

impl Health {
    /// Whether events can be recorded.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.stopped.is_none()
    }

    /// Why callbacks should go elsewhere, for operators; `None`: the ledger is ready.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if let Some(why) = &self.stopped {
            // A server may take writes again at any time; this process does not after a failed write.
            return Some(match &self.server {
                Some(_) => format!("the store takes no writes: {why}"),
                None => format!("the store has stopped: {why}"),
            });
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
    /// Events received before this may be deleted.
    #[must_use]
    pub fn events_before(&self) -> UnixMillis {
        self.now_ms.saturating_sub(millis(self.keep_events))
    }

    /// Keys of events of `source` received before this may be deleted; `None`: they are kept.
    #[must_use]
    pub fn keys_before(&self, source: &str) -> Option<UnixMillis> {
        let keep = self.keep_keys.iter().find(|keep| keep.source.as_str() == source)?;
        Some(self.before(keep))
    }

    /// The same for every source whose keys expire.
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

    /// Counts one delivery that has been due for `overdue_ms`; negative: not yet due.
    #[cfg(any(test, debug_assertions))]
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
    /// The sums of all `targets`.
    pub(super) fn sum(
        events: u64,
        keys: u64,
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
