//! Replies to senders, and the rule about them: an acknowledgement takes a proof.
//!
//! A [`ReplyDraft`] is only a text. It becomes a [`Reply`], which the handler sends, in two ways:
//! with a [`Proof`] that the ledger has the callback, or for an outcome that acknowledges none.

use bytes::Bytes;
use http::StatusCode;

use super::received::Received;
use crate::ledger::{DedupResult, EventId, HeldProof, HeldWhy, Recorded};
use crate::sender::{Answer, Callback, Outcome, Reason, Recipe, ReplyDraft, ReplyKind};

/// A reply that may be sent to a sender.
///
/// ```no_run
/// use postern::intake::{Proof, Reply};
/// use postern::ledger::HeldProof;
/// use postern::sender::ReplyDraft;
///
/// fn held(draft: ReplyDraft, held: &HeldProof) -> Reply {
///     Reply::acknowledge(draft, &Proof::of_held(held, None))
/// }
/// ```
///
/// An outcome alone acknowledges nothing:
///
/// ```compile_fail,E0308
/// use postern::intake::{Proof, Reply};
/// use postern::sender::{Outcome, ReplyDraft};
///
/// fn accepted(draft: ReplyDraft) -> Reply {
///     Reply::acknowledge(draft, &Outcome::Accepted)
/// }
/// ```
///
/// A draft is not a reply:
///
/// ```compile_fail,E0423
/// use postern::intake::Reply;
/// use postern::sender::ReplyDraft;
///
/// fn accepted(draft: ReplyDraft) -> Reply {
///     Reply(draft)
/// }
/// ```
#[derive(Debug)]
pub struct Reply(ReplyDraft);

/// The proof that a callback is recorded: as an event, as a repetition of one, or among those that
/// are held for an operator. Made of what only the ledger can make.
///
/// ```compile_fail,E0451
/// use postern::intake::Proof;
/// use postern::sender::Outcome;
///
/// let forged = Proof { outcome: Outcome::Accepted, earlier: None };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    outcome: Outcome,
    earlier: Option<EventId>,
}

/// An outcome that acknowledges no event, so its reply needs no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unacknowledged {
    /// A probe, or a test of a sender's console.
    Test,
    /// An address check.
    Challenge,
    /// Another source delivers it.
    Superseded,
    /// The source is disabled.
    Disabled,
    /// Rejected, by Postern or by an inline backend.
    Rejected,
    /// Not decided: the sender may try again.
    Unavailable,
}

impl Unacknowledged {
    /// The outcome as it is counted.
    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::Test => Outcome::Test,
            Self::Challenge => Outcome::Challenge,
            Self::Superseded => Outcome::Superseded,
            Self::Disabled => Outcome::Disabled,
            Self::Rejected => Outcome::Rejected,
            Self::Unavailable => Outcome::Unavailable,
        }
    }
}

impl Proof {
    /// The proof of the ledger's result.
    ///
    /// # Errors
    /// Why the callback has to be held first: it disputes an event. A dispute between test calls
    /// needs no decision.
    pub fn of_event(recorded: &Recorded, received: &Received) -> Result<Self, HeldWhy> {
        let earlier = Some(recorded.first());
        let (outcome, earlier, dispute) = match recorded.result() {
            DedupResult::New => (Outcome::Accepted, None, None),
            DedupResult::Duplicate => (Outcome::Duplicate, earlier, None),
            DedupResult::Conflict => (Outcome::Conflict, earlier, Some(HeldWhy::Conflict)),
            DedupResult::Ambiguous => (Outcome::Ambiguous, earlier, Some(HeldWhy::Ambiguous)),
        };
        match dispute.filter(|_| !received.is_test_call()) {
            Some(why) => Err(why),
            None => Ok(Self { outcome, earlier }),
        }
    }

    /// The proof of a held callback. `earlier` is the event that it disputes.
    #[must_use]
    pub fn of_held(held: &HeldProof, earlier: Option<EventId>) -> Self {
        let outcome = match held.why() {
            HeldWhy::Conflict => Outcome::Conflict,
            HeldWhy::Ambiguous => Outcome::Ambiguous,
            HeldWhy::Quarantine | HeldWhy::Rejected => Outcome::Rejected,
        };
        Self { outcome, earlier }
    }

    /// The proof of a callback that was held before, and that an operator made `event` of: it is a
    /// duplicate of that.
    #[must_use]
    pub fn of_released(_: &HeldProof, event: EventId) -> Self {
        Self { outcome: Outcome::Duplicate, earlier: Some(event) }
    }

    /// The event of a duplicate that was held before.
    #[must_use]
    pub fn released_as(&self) -> Option<EventId> {
        self.earlier.filter(|_| self.outcome == Outcome::Duplicate)
    }

    /// The outcome that it proves.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The event that the callback repeats or disputes.
    #[must_use]
    pub fn earlier(&self) -> Option<EventId> {
        self.earlier
    }
}

impl Reply {
    /// Acknowledges a recorded callback with `draft`.
    #[must_use]
    pub fn acknowledge(draft: ReplyDraft, _: &Proof) -> Self {
        Self(draft)
    }

    /// The reply for an outcome that acknowledges nothing; `reason` if it is a rejection.
    pub(super) fn unacknowledged(
        callback: &Callback<'_>,
        outcome: Unacknowledged,
        reason: Option<Reason>,
    ) -> Self {
        Self(callback.draft_reply(outcome.outcome(), reason, &salt))
    }

    /// The reply to a verified callback that could not be recorded, if it is the same for all of
    /// its kind.
    pub(super) fn unavailable(recipe: &Recipe, kind: ReplyKind) -> Option<Self> {
        recipe.fixed_draft(kind, Outcome::Unavailable).map(Self)
    }

    /// The reply to a request over a limit of size, the same for every sender.
    pub(super) fn too_large() -> Self {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self(ReplyDraft::Answer(Answer {
            status,
            content_type: None,
            headers: Box::default(),
            body: Bytes::new(),
        }))
    }

    /// The status; `None`: no answer is sent.
    pub(super) fn status(&self) -> Option<StatusCode> {
        match &self.0 {
            ReplyDraft::Answer(answer) => Some(answer.status),
            ReplyDraft::Silence => None,
        }
    }

    /// The answer to be sent; `None`: silence.
    pub(super) fn into_answer(self) -> Option<Answer> {
        match self.0 {
            ReplyDraft::Answer(answer) => Some(answer),
            ReplyDraft::Silence => None,
        }
    }
}

/// Random bytes for a sealed answer. The operating system never runs out of them.
pub(super) fn salt() -> [u8; 16] {
    let mut bytes = [0; 16];
    let _ = getrandom::fill(&mut bytes);
    bytes
}
