//! The proofs that an event is recorded, or a callback held.

use crate::clock::UnixMillis;
use crate::ledger::{Accepted, EventId, HeldId, HeldWhy, HoldOutcome};

/// An event that the ledger has durably recorded or found known. Only a [`super::BatchedLedger`]
/// creates one: it is the proof with which the sender's callback may be acknowledged.
///
/// ```compile_fail,E0451
/// use postern::ledger::{DedupResult, EventId, Recorded};
/// let id = EventId::new(0);
/// let forged = Recorded { id, result: DedupResult::New, first: id, first_seen_ms: 0 };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    id: EventId,
    result: DedupResult,
    first: EventId,
    first_seen_ms: UnixMillis,
}

/// The relation of a callback to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DedupResult {
    /// A new transaction. The event is stored, and its deliveries are due.
    New,
    /// The identity is known with the same content. Only the first event is stored.
    Duplicate,
    /// The identity is known with another content. Only the first event is stored.
    Conflict,
    /// The signed text is known under another identity. Only the first event is stored.
    Ambiguous,
}

impl Recorded {
    /// The ledger's result for the event `id`. Private to this module, which asks for durable
    /// results only.
    pub(super) fn new(id: EventId, received_ms: UnixMillis, accepted: &Accepted) -> Self {
        let (result, first, first_seen_ms) = match *accepted {
            Accepted::New => (DedupResult::New, id, received_ms),
            Accepted::Duplicate { first, first_seen_ms } => {
                (DedupResult::Duplicate, first, first_seen_ms)
            }
            Accepted::Conflict { first, first_seen_ms } => {
                (DedupResult::Conflict, first, first_seen_ms)
            }
            Accepted::Ambiguous { first, first_seen_ms } => {
                (DedupResult::Ambiguous, first, first_seen_ms)
            }
        };
        Self { id, result, first, first_seen_ms }
    }

    /// The id of the event that was offered. The event is stored only if it is new.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// The relation to the events before it.
    #[must_use]
    pub fn result(&self) -> DedupResult {
        self.result
    }

    /// The stored event of its transaction: itself, or the first one.
    #[must_use]
    pub fn first(&self) -> EventId {
        self.first
    }

    /// When the first event was received.
    #[must_use]
    pub fn first_seen_ms(&self) -> UnixMillis {
        self.first_seen_ms
    }
}

/// A callback that the ledger holds durably for an operator's decision, or about which one decided
/// already. Only a [`super::BatchedLedger`] creates one: with it the callback may be acknowledged.
///
/// ```compile_fail,E0451
/// use postern::ledger::{HeldId, HeldProof, HeldWhy};
/// let forged = HeldProof { id: HeldId::new(0), why: HeldWhy::Conflict, is_new: true };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldProof {
    id: HeldId,
    why: HeldWhy,
    is_new: bool,
}

impl HeldProof {
    /// The proof of the ledger's outcome; `None` if a bound is reached.
    pub(super) fn new(why: HeldWhy, outcome: HoldOutcome) -> Option<Self> {
        match outcome {
            HoldOutcome::Held(id) => Some(Self { id, why, is_new: true }),
            HoldOutcome::Known(id) => Some(Self { id, why, is_new: false }),
            HoldOutcome::Full => None,
        }
    }

    /// The id under which it is held.
    #[must_use]
    pub fn id(&self) -> HeldId {
        self.id
    }

    /// Why it is held.
    #[must_use]
    pub fn why(&self) -> HeldWhy {
        self.why
    }

    /// Whether this call was the first to hold it. Otherwise the same variant was known.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}
