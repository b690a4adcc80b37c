//! A rejected callback that its source holds for a person: recorded before it is answered.
//!
//! The sender receives a rejection or, where it would give up for good, an acceptance. Then nothing
//! unrecorded is acknowledged: if there is no room, or the ledger does not answer in time, the
//! sender gets its own "try later".

use http::StatusCode;

use super::inline_wait::InlineReply;
use super::judging::{EarlyReply, Slot, salt, told};
use super::received::Received;
use super::route::Route;
use crate::clock;
use crate::config::{HeldAnswer, Quarantine};
use crate::ledger::{HeldWhy, HoldOutcome};
use crate::sender::{Callback, Outcome, Reply};

/// Whether it is recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recorded {
    Yes,
    No,
}

impl EarlyReply {
    /// Whether a source holds what it rejects so.
    pub(super) fn is_held_by(&self, route: &Route) -> bool {
        match (self, &route.source.quarantine) {
            (Self::Refused(Outcome::Rejected, refusal), Some(rules)) => rules.holds(refusal.reason),
            _ => false,
        }
    }
}

/// Holds a rejected callback and answers it.
pub(super) async fn quarantine(
    slot: &mut Slot,
    callback: &Callback<'_>,
    received: &Received,
    stop: EarlyReply,
) -> Reply {
    let (EarlyReply::Refused(_, refusal), Some(rules)) =
        (stop, &received.route().source.quarantine)
    else {
        return callback.reply(Outcome::Unavailable, None, &salt);
    };
    let reason = refusal.reason;
    let planned = match rules.answer {
        HeldAnswer::Refuse => callback.reply(Outcome::Rejected, Some(reason), &salt),
        HeldAnswer::Accept => as_accepted(callback, received),
    };
    if let Some(entry) = slot {
        entry.is(Outcome::Rejected);
        entry.spare();
        entry.refused(refusal);
    }
    let recorded = hold(slot, callback, received, Holding { rules, planned: &planned }).await;
    let reply = match (rules.answer, recorded) {
        (HeldAnswer::Refuse, _) | (HeldAnswer::Accept, Recorded::Yes) => planned,
        (HeldAnswer::Accept, Recorded::No) => callback.reply(Outcome::Unavailable, None, &salt),
    };
    told(slot, reply)
}

/// The reply to the sender of a callback that counts as accepted. For an inline source: as if its
/// backend were late.
fn as_accepted(callback: &Callback<'_>, received: &Received) -> Reply {
    let said = received
        .route()
        .inline
        .as_ref()
        .map_or(InlineReply::Accepted, |one| InlineReply::late(one.late));
    let outcome = match said {
        InlineReply::Accepted => Outcome::Accepted,
        InlineReply::Rejected => Outcome::Rejected,
        InlineReply::Unavailable => Outcome::Unavailable,
    };
    callback.reply(outcome, None, &salt)
}

/// How a callback is held.
struct Holding<'h> {
    rules: &'h Quarantine,
    /// The reply to its sender once it is held.
    planned: &'h Reply,
}

impl Holding<'_> {
    /// The status of the planned reply; `None`: there is none.
    fn status(&self) -> Option<StatusCode> {
        match self.planned {
            Reply::Answer(answer) => Some(answer.status),
            Reply::Silence => None,
        }
    }
}

/// Holds the callback, within its sender's patience. If there is no room, it is kept as a sample.
async fn hold(
    slot: &mut Slot,
    callback: &Callback<'_>,
    received: &Received,
    holding: Holding<'_>,
) -> Recorded {
    let Some(entry) = slot else { return Recorded::No };
    let route = received.route();
    let Some(mut new) = entry.rejection(HeldWhy::Quarantine, received, callback) else {
        return Recorded::No;
    };
    // It is recorded before the reply is sent.
    new.note.status = holding.status().map(|status| status.as_u16());
    let Ok(held) = new.held() else { return Recorded::No };
    let left = (entry.began + route.patience).saturating_duration_since(clock::instant());
    let being_held = route.desk.rejections.hold(held, holding.rules.bounds);
    match tokio::time::timeout(left, being_held).await {
        Ok(Ok(HoldOutcome::Held(id) | HoldOutcome::Known(id))) => {
            entry.held(id);
            return Recorded::Yes;
        }
        Ok(Ok(HoldOutcome::Full)) => route.say_quarantine_is_full(),
        Ok(Err(error)) => tracing::debug!(%error, "a rejected callback was not held"),
        Err(_) => {}
    }
    if let (HeldAnswer::Refuse, Some(status)) = (holding.rules.answer, holding.status()) {
        entry.answered(status);
    }
    entry.keep(received, callback);
    Recorded::No
}
