//! The proof that an event is recorded.

use crate::clock::UnixMillis;
use crate::ledger::{Accepted, EventId, NewEvent};

/// An event of which the ledger has said, durably, whether it is new. Only a [`super::BatchedLedger`] makes
/// one: who holds it may tell the sender.
///
/// ```compile_fail,E0451
/// use postern::ledger::{EventId, Recorded, Standing};
/// let id = EventId::new(0);
/// let forged = Recorded { id, standing: Standing::New, first: id, first_seen_ms: 0 };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    id: EventId,
    standing: DedupResult,
    first: EventId,
    first_seen_ms: UnixMillis,
}

/// What a callback is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DedupResult {
    /// It was unknown. It is stored, and its deliveries are due.
    New,
    /// Its identity was known, with the same content. Only the first is stored.
    Duplicate,
    /// Its identity was known, with another content. Only the first is stored.
    Conflict,
    /// What was signed was known under another identity. Only the first is stored.
    Ambiguous,
}

impl Recorded {
    /// What the ledger answered for `event`. Private to the book, which asks for durable answers
    /// only.
    pub(super) fn new(event: &NewEvent, accepted: &Accepted) -> Self {
        let (standing, first, first_seen_ms) = match *accepted {
            Accepted::Fresh => (DedupResult::New, event.id, event.received_ms),
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
        Self { id: event.id, standing, first, first_seen_ms }
    }

    /// The id of the event that was offered. It is stored only if the event is new.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// What it is to those before it.
    #[must_use]
    pub fn standing(&self) -> DedupResult {
        self.standing
    }

    /// The event that is stored for its transaction: itself, or the one that came first.
    #[must_use]
    pub fn first(&self) -> EventId {
        self.first
    }

    /// When that was received.
    #[must_use]
    pub fn first_seen_ms(&self) -> UnixMillis {
        self.first_seen_ms
    }
}
