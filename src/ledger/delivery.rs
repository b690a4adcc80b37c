//! Deliveries: leases, results, attempts, replays.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::codec::{DecodeError, Put, Take};
use super::{Cursor, EventId, LogQuery, ReplayId, SourceId, TargetId};
use crate::clock::UnixMillis;

/// Which destinations a call is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TargetFilter {
    /// All of them.
    #[default]
    All,
    /// Only these.
    Only(Vec<TargetId>),
    /// All but these.
    Except(Vec<TargetId>),
}

/// A request for leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAsk {
    /// The destinations.
    pub targets: TargetFilter,
    /// The maximum number.
    pub max: usize,
    /// The time of a lease: longer than the caller's timeout.
    pub ttl: Duration,
}

/// Leased deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseBatch {
    /// The deliveries, earliest due first.
    pub leases: Vec<Lease>,
    /// How long until the next delivery of those destinations is due, zero if more are due now;
    /// `None`: nothing is waiting, or nothing soon on a ledger that many gateways share
    /// ([`super::Engine::look_again`]).
    pub next_due: Option<Duration>,
}

/// One delivery, leased to one node until it is settled or the lease expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The event.
    pub event: EventId,
    /// The destination.
    pub target: TargetId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Increases with every lease of this delivery; [`super::Ledger::settle`] accepts only the
    /// newest.
    pub token: u64,
    /// The event's encoded [`super::EventBody`].
    pub body: Bytes,
    /// How long the lease lasts.
    pub expires_in: Duration,
}

/// The result of a leased delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseResult {
    /// Delivered.
    Done,
    /// Delivered, and the response is a verdict for others: a lost settlement might bring another
    /// verdict, so this one counts only when durable.
    Decided,
    /// To be retried after this time.
    Retry {
        /// From now.
        after: Duration,
    },
    /// Dead-lettered; kept for queries and replay.
    Dead,
    /// Not tried (open breaker, no free slot): released without using up the attempt. Not
    /// persisted: a restart makes it due at once.
    Postpone {
        /// From now.
        after: Duration,
    },
}

/// The result of one lease, to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The event.
    pub event: EventId,
    /// The destination.
    pub target: TargetId,
    /// The token of the lease.
    pub token: u64,
    /// The result.
    pub result: LeaseResult,
    /// The attempt, kept as long as its event. Ignored with [`LeaseResult::Postpone`].
    pub attempt: Attempt,
}

/// Whether a settlement was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Applied.
    Applied,
    /// The lease was over, or the delivery does not exist: nothing changed.
    Stale,
}

/// One HTTP attempt of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub at_ms: UnixMillis,
    /// Its latency.
    pub latency_ms: u32,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// The head of the response body; at most [`Attempt::HEAD_MAX`] bytes are kept.
    pub head: Bytes,
    /// The error, if there was one; at most [`Attempt::HEAD_MAX`] bytes are kept.
    pub error: Option<String>,
}

impl Attempt {
    /// Bytes of a response, and of an error, that are kept.
    pub const HEAD_MAX: usize = 1024;

    /// The attempt with head and error cut to what is kept.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        self.head.truncate(Self::HEAD_MAX);
        if let Some(error) = &mut self.error {
            error.truncate(error.floor_char_boundary(Self::HEAD_MAX));
        }
        self
    }

    /// Writes the attempt, in journals and exports.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.at_ms.to_le_bytes());
        to.put_len(self.latency_ms as usize);
        to.extend_from_slice(&self.status.unwrap_or(0).to_le_bytes());
        to.put_bytes(&self.head);
        to.put_opt(self.error.as_deref());
    }

    /// Reads the output of [`Attempt::put`].
    pub(super) fn take(from: &mut Take<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            at_ms: from.i64()?,
            latency_ms: u32::try_from(from.len()?).or(Err(DecodeError))?,
            status: Some(u16::from_le_bytes(from.array()?)).filter(|status| *status != 0),
            head: Bytes::copy_from_slice(from.bytes()?),
            error: from.opt()?.map(str::to_owned),
        })
    }
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeliveryState {
    /// Due now or later, or leased.
    Pending,
    /// Dead-lettered.
    Dead,
    /// Delivered.
    Done,
}

/// One event for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event.
    pub event: EventId,
    /// The destination.
    pub target: TargetId,
    /// Its state.
    pub state: DeliveryState,
    /// Attempts begun since it was made or last replayed; 0 when it is done.
    pub attempt: u32,
    /// When it is due, or its lease ends; `None` unless it is pending.
    pub due_ms: Option<UnixMillis>,
    /// The attempts that were settled, oldest first; empty in lists.
    pub attempts: Vec<Attempt>,
}

/// Deliveries of some events, counted by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Deliveries that are done.
    pub done: u64,
    /// Dead-lettered deliveries.
    pub dead: u64,
    /// Deliveries that are due now or later.
    pub pending: u64,
    /// Events that are no longer kept, with their deliveries.
    pub gone: u64,
}

/// Which deliveries to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryQuery {
    /// In this state.
    pub state: DeliveryState,
    /// For this destination only.
    pub target: Option<TargetId>,
    /// Of events of these sources only. A page may then be short and have a next one.
    pub among: Option<Arc<[SourceId]>>,
}

impl DeliveryQuery {
    /// All deliveries in `state`.
    #[must_use]
    pub const fn of(state: DeliveryState) -> Self {
        Self { state, target: None, among: None }
    }
}

/// A page of deliveries, newest event first, the destinations of one event by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryPage {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<Cursor>,
}

/// An order to replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayOrder {
    /// The order's own id.
    pub id: ReplayId,
    /// Which events.
    pub what: ReplayWhat,
    /// The destinations; `None`: those that each event has.
    pub targets: Option<Vec<TargetId>>,
    /// Only deliveries that are in this state when they are made due again, not when they were listed;
    /// `None`: in any. With [`DeliveryState::Pending`], a leased one is left alone: it is in flight.
    pub only: Option<DeliveryState>,
}

/// The events of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayWhat {
    /// Only these; ids without an event are skipped.
    Events(Vec<EventId>),
    /// The events that a query finds.
    Matching(LogQuery),
}

/// The result of a page of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayPage {
    /// Events with new deliveries.
    pub events: u64,
    /// New deliveries.
    pub deliveries: u64,
    /// Where the next page begins; `None`: the order is complete.
    pub next: Option<Cursor>,
}

impl DeliveryCounts {
    /// Counts deliveries in `state`.
    pub(super) fn count(&mut self, state: DeliveryState) {
        match state {
            DeliveryState::Pending => self.pending += 1,
            DeliveryState::Dead => self.dead += 1,
            DeliveryState::Done => self.done += 1,
        }
    }

    /// Adds what `other` counted.
    pub fn add(&mut self, other: Self) {
        let Self { done, dead, pending, gone } = other;
        self.done += done;
        self.dead += dead;
        self.pending += pending;
        self.gone += gone;
    }
}

impl LeaseResult {
    /// Whether a crash may undo it: a done delivery is then made again, a postponed one is due earlier.
    /// All others are durable when they are answered.
    pub(crate) const fn may_be_lost(self) -> bool {
        match self {
            Self::Done | Self::Postpone { .. } => true,
            Self::Decided | Self::Retry { .. } | Self::Dead => false,
        }
    }
}

impl TargetFilter {
    /// Whether `target` is included.
    #[must_use]
    pub fn admits(&self, target: &TargetId) -> bool {
        match self {
            Self::All => true,
            Self::Only(these) => these.contains(target),
            Self::Except(these) => !these.contains(target),
        }
    }
}

impl DeliveryState {
    /// The name in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Dead => "dead",
            Self::Done => "done",
        }
    }

    /// The state of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pending, Self::Dead, Self::Done].into_iter().find(|state| state.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_cut_at_a_character() {
        let long = Attempt {
            head: Bytes::from(vec![b'x'; 5000]),
            error: Some("é".repeat(1000)),
            ..Attempt::default()
        };
        let cut = long.trimmed();
        assert_eq!(cut.head.len(), 1024);
        assert_eq!(cut.error.map(|text| text.len()), Some(1024));
    }

    #[test]
    fn filters_and_names() {
        let a = TargetId::from("a");
        assert!(TargetFilter::All.admits(&a));
        assert!(TargetFilter::Only(vec![a.clone()]).admits(&a));
        assert!(!TargetFilter::Except(vec![a.clone()]).admits(&a));
        assert_eq!(DeliveryState::from_name("dead"), Some(DeliveryState::Dead));
        assert_eq!(DeliveryState::from_name("Dead"), None);
    }
}
