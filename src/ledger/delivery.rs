//! Deliveries: leases, verdicts, attempts, replays.

use std::time::Duration;

use bytes::Bytes;

use super::{Cursor, EventId, LogQuery, ReplayId, TargetId};
use crate::clock::UnixMillis;

/// Which destinations a call is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TargetFilter {
    /// All of them.
    #[default]
    All,
    /// These and no others.
    Only(Vec<TargetId>),
    /// All but these.
    Except(Vec<TargetId>),
}

/// What a delivery loop asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAsk {
    /// For which destinations.
    pub targets: TargetFilter,
    /// How many at most.
    pub max: usize,
    /// How long they are held for the caller: longer than its time-out.
    pub ttl: Duration,
}

/// Deliveries handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseBatch {
    /// The deliveries, earliest due first.
    pub leases: Vec<Lease>,
    /// How long until the next delivery of those destinations is due, zero if more are due now;
    /// `None`: nothing is waiting, or nothing soon on a ledger that many gateways share
    /// ([`super::Engine::look_again`]).
    pub next_due: Option<Duration>,
}

/// One delivery, held by one node until it is settled or its time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The event.
    pub event: EventId,
    /// The destination.
    pub target: TargetId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Grows with every lease of this delivery; [`super::Ledger::settle`] takes the newest only.
    pub token: u64,
    /// The event's encoded [`super::EventBody`].
    pub body: Bytes,
    /// How long the lease lasts.
    pub expires_in: Duration,
}

/// What became of a leased delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The destination has it.
    Done,
    /// The destination has it, and what it answered decides what others are told: a lost
    /// settlement might bring another answer, so this one is durable before it counts.
    Decided,
    /// To be tried again after this time.
    Retry {
        /// From now.
        after: Duration,
    },
    /// Given up; it is kept for query and replay.
    Dead,
    /// Not tried (an open breaker, a full destination): given back without using up the attempt.
    /// Not written down: a restart makes it due at once.
    Postpone {
        /// From now.
        after: Duration,
    },
}

/// A verdict on one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The event.
    pub event: EventId,
    /// The destination.
    pub target: TargetId,
    /// The token of the lease.
    pub token: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// The attempt, kept as long as its event. Ignored with [`Verdict::Postpone`].
    pub attempt: Attempt,
}

/// Whether a settlement counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It did.
    Applied,
    /// The lease was over, or there is no such delivery: nothing changed.
    Stale,
}

/// One HTTP try of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub at_ms: UnixMillis,
    /// How long it took.
    pub latency_ms: u32,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The head of the answer's body; no more than [`Attempt::HEAD_MAX`] bytes are kept.
    pub head: Bytes,
    /// Why there was no good answer; no more than [`Attempt::HEAD_MAX`] bytes are kept.
    pub error: Option<String>,
}

impl Attempt {
    /// Bytes of an answer, and of an error, that are kept.
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
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeliveryState {
    /// Due now or later, or leased.
    Pending,
    /// Given up.
    Dead,
    /// The destination has it.
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

/// Which deliveries to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryQuery {
    /// In this state.
    pub state: DeliveryState,
    /// For this destination only.
    pub target: Option<TargetId>,
}

/// A page of deliveries, newest event first, the destinations of one event by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryPage {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<Cursor>,
}

/// An order to deliver again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayOrder {
    /// The order's own id.
    pub id: ReplayId,
    /// Which events.
    pub what: ReplayWhat,
    /// To which destinations; `None`: to those that each event has.
    pub targets: Option<Vec<TargetId>>,
}

/// Which events are to be delivered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayWhat {
    /// These; ids without an event are passed over.
    Events(Vec<EventId>),
    /// Those that a query finds.
    Matching(LogQuery),
}

/// What a call to replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayPage {
    /// Events whose deliveries were made anew.
    pub events: u64,
    /// Deliveries made anew.
    pub deliveries: u64,
    /// Where to go on; `None`: the order is complete.
    pub next: Option<Cursor>,
}

impl TargetFilter {
    /// Whether `target` is meant.
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
    /// Its name in the admin API.
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
