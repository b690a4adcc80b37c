//! A rejected callback that its source holds for a person: recorded before it is answered.
//!
//! The sender receives a rejection or, where it would give up for good, an acceptance. Then nothing
//! unrecorded is acknowledged: if there is no room, or the ledger does not answer in time, the
//! sender gets its own "try later".

use http::StatusCode;

use super::inline_wait::InlineReply;
use super::judging::{EarlyReply, Slot, note_reply};
use super::received::Received;
use super::reply::{Proof, Reply, Unacknowledged, salt};
use super::route::Route;
use crate::clock;
use crate::config::{HeldAnswer, Quarantine};
use crate::ledger::{HeldProof, HeldWhy};
use crate::sender::{Callback, CallbackError, Outcome, ReplyDraft};

/// A rejection, and the rules by which its callback is held.
pub(super) struct Quarantined<'r> {
    error: CallbackError,
    rules: &'r Quarantine,
}

impl EarlyReply {
    /// Whether a source holds what it rejects so.
    pub(super) fn is_held_by(&self, route: &Route) -> bool {
        match (self, &route.source.quarantine) {
            (Self::Rejected(error), Some(rules)) => {
                self.outcome() == Unacknowledged::Rejected && rules.holds(error.reason)
            }
            _ => false,
        }
    }

    /// The rejection, with the rules of the source that holds it.
    ///
    /// # Errors
    /// Itself, if the source does not hold it.
    pub(super) fn quarantined(self, route: &Route) -> Result<Quarantined<'_>, Self> {
        match (&route.source.quarantine, self.is_held_by(route), self) {
            (Some(rules), true, Self::Rejected(error)) => Ok(Quarantined { error, rules }),
            (_, _, early) => Err(early),
        }
    }
}

/// Holds a callback that is rejected for `error`, by the rules of its source, and answers it.
pub(super) async fn quarantine(
    slot: &mut Slot,
    callback: &Callback<'_>,
    received: &Received,
    quarantined: Quarantined<'_>,
) -> Reply {
    let Quarantined { error, rules } = quarantined;
    let reason = error.reason;
    let planned = match rules.answer {
        HeldAnswer::Refuse => callback.draft_reply(Outcome::Rejected, Some(reason), &salt),
        HeldAnswer::Accept => as_accepted(callback, received),
    };
    if let Some(record) = slot {
        record.set_outcome(Outcome::Rejected);
        record.limit_logging();
        record.set_error(error);
    }
    let held = hold(slot, callback, received, Holding { rules, planned: &planned }).await;
    let reply = match (rules.answer, held) {
        (HeldAnswer::Refuse, _) => {
            Reply::unacknowledged(callback, Unacknowledged::Rejected, Some(reason))
        }
        (HeldAnswer::Accept, Some(held)) => {
            Reply::acknowledge(planned, &Proof::of_held(&held, None))
        }
        (HeldAnswer::Accept, None) => {
            Reply::unacknowledged(callback, Unacknowledged::Unavailable, None)
        }
    };
    note_reply(slot, reply)
}

/// The draft of the reply to a callback that counts as accepted. For an inline source: as if its
/// backend were late.
fn as_accepted(callback: &Callback<'_>, received: &Received) -> ReplyDraft {
    let outcome = match InlineReply::of_held(received.route()) {
        InlineReply::Accepted => Outcome::Accepted,
        InlineReply::Rejected => Outcome::Rejected,
        InlineReply::Unavailable => Outcome::Unavailable,
    };
    callback.draft_reply(outcome, None, &salt)
}

/// How a callback is held.
struct Holding<'h> {
    rules: &'h Quarantine,
    /// The reply to its sender once it is held.
    planned: &'h ReplyDraft,
}

impl Holding<'_> {
    /// The status of the planned reply; `None`: there is none.
    fn status(&self) -> Option<StatusCode> {
        match self.planned {
            ReplyDraft::Answer(answer) => Some(answer.status),
            ReplyDraft::Silence => None,
        }
    }
}

/// Holds the callback, within its sender's patience. If there is no room, it is kept as a sample.
async fn hold(
    slot: &mut Slot,
    callback: &Callback<'_>,
    received: &Received,
    holding: Holding<'_>,
) -> Option<HeldProof> {
    let record = slot.as_mut()?;
    let route = received.route();
    let mut new = record.rejection(HeldWhy::Quarantine, received, callback)?;
    // It is recorded before the reply is sent.
    new.note.status = holding.status().map(|status| status.as_u16());
    let held = new.held().ok()?;
    let left = (record.began + route.patience).saturating_duration_since(clock::instant());
    let being_held = route.callback_log.rejections.hold(held, holding.rules.bounds);
    match tokio::time::timeout(left, being_held).await {
        Ok(Ok(Some(held))) => {
            record.set_held(held.id());
            return Some(held);
        }
        Ok(Ok(None)) => route.say_quarantine_is_full(),
        Ok(Err(error)) => tracing::debug!(%error, "a rejected callback was not held"),
        Err(_) => {}
    }
    if let (HeldAnswer::Refuse, Some(status)) = (holding.rules.answer, holding.status()) {
        record.set_status(status);
    }
    record.keep_sample(received, callback);
    None
}
