//! Held callbacks, as people see them and decide about them: recorded in the audit log first.

use serde_json::{Map, Value};

use super::masked::recipes;
use super::{SeenLedger, source_name};
use crate::clock::now_ms;
use crate::config::Config;
use crate::intake::{CallbackHandler, ReleaseMode, Released};
use crate::ledger::{
    Decided, Decision, Event, EventBody, HeldId, HeldMark, HeldOne, HeldOrder, HeldWhy,
    LedgerError, NewHeld,
};
use crate::registry::{Action, Actor, AuditSubject, Registry};
use crate::sender::{CallbackError, without_secrets};

/// Bytes of the reason that a person gives.
pub const REASON_BYTES_MAX: usize = 500;

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The ledger fails.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No such callback exists.
    #[error("no held callback has this id")]
    Unknown,
    /// The callback was decided before, and otherwise.
    #[error("this callback is decided already: {}", said(.0))]
    Already(HeldMark),
    /// The callback never verified.
    #[error("this callback never verified; give a reason for its release")]
    NoReason,
    /// The callback's content cannot be read.
    #[error("no event can be made of this callback: {}", .0.reason)]
    Unreadable(CallbackError),
    /// The callback disputes an event, and no more such callbacks can be held.
    #[error("this callback disputes an event: decide the callbacks that are held for that first")]
    Full,
}

fn said(mark: &HeldMark) -> &'static str {
    match mark.decision {
        Decision::Release | Decision::Settle => "it was released",
        Decision::Drop => "it was dropped",
    }
}

/// A decision about a held callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldDecision<'a> {
    /// The callback.
    pub id: HeldId,
    /// The decision.
    pub decision: Decision,
    /// The reason that the person gives.
    pub reason: Option<&'a str>,
}

/// A held callback, and the event that it disputes.
#[derive(Debug)]
pub struct Shown {
    /// The callback.
    pub held: NewHeld,
    /// The event that the callback describes.
    pub event: Option<Event<'static>>,
    /// The recorded event, if it still exists.
    pub first: Option<Event<'static>>,
}

/// Reads what a held callback says, and the event that it disputes.
///
/// # Errors
/// The ledger fails.
pub async fn shown(ledger: &SeenLedger, held: NewHeld) -> Result<Shown, LedgerError> {
    let first = match held.first {
        Some(first) => ledger.event(first).await?.and_then(|detail| read(&detail.event.body)),
        None => None,
    };
    Ok(Shown { event: read(&held.event.body), first, held })
}

fn read(body: &bytes::Bytes) -> Option<Event<'static>> {
    EventBody::decode(body).and_then(|body| body.event()).ok()
}

/// The roles of an event: who gets what.
#[must_use]
pub fn roles(event: &Event<'_>) -> Map<String, Value> {
    let all = [
        ("transaction", Some(&event.transaction)),
        ("user", event.user.as_ref()),
        ("item", event.item.as_ref()),
        ("amount", event.amount.as_ref()),
        ("currency", event.currency.as_ref()),
        ("custom", event.custom.as_ref()),
        ("kind", Some(&event.kind)),
        ("reverses", event.reverses.as_ref()),
    ];
    let some = all.into_iter().filter_map(|(name, text)| {
        Some((name.to_owned(), Value::from(text?.clone().into_owned())))
    });
    some.collect()
}

/// Facts about a decision for the audit log: after it, the callback itself is gone.
fn facts(config: &Config, held: &NewHeld, reason: Option<&str>) -> Map<String, Value> {
    // What a rejected callback claims may be a secret in the wrong place.
    let claimed = |text: &str| without_secrets(text, recipes(config)).into_owned();
    let transaction = Some(held.event.transaction.as_str()).filter(|text| !text.is_empty());
    let all = [
        ("reason", reason.map(str::to_owned)),
        ("why", Some(held.why.as_str().to_owned())),
        ("rejected_for", held.reason.map(|reason| reason.as_str().to_owned())),
        ("source", Some(source_name(config, &held.event.source).to_owned())),
        ("transaction", transaction.map(claimed)),
        ("user", held.event.user.as_deref().map(claimed)),
    ];
    let some =
        all.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?))));
    some.collect()
}

/// Decides about a held callback.
///
/// # Errors
/// It is unknown, was decided before otherwise, needs a reason, or the ledger fails.
pub async fn decide(
    registry: &Registry,
    callback_handler: &CallbackHandler,
    who: &Actor,
    wanted: HeldDecision<'_>,
) -> Result<HeldMark, DecideError> {
    let HeldDecision { id, decision, reason } = wanted;
    let ledger = registry.ledger();
    let held = match ledger.held_one(id).await? {
        None => return Err(DecideError::Unknown),
        Some(HeldOne::Decided(mark)) => return repeated(mark, decision),
        // A sample does not wait for a decision.
        Some(HeldOne::Waiting(held)) if held.why == HeldWhy::Rejected => {
            return Err(DecideError::Unknown);
        }
        Some(HeldOne::Waiting(held)) => held,
    };
    let reason = reason.map(str::trim).filter(|text| !text.is_empty());
    let reason = reason.map(|text| &text[..text.floor_char_boundary(REASON_BYTES_MAX)]);
    if held.why == HeldWhy::Quarantine && decision == Decision::Release {
        return release(registry, callback_handler, who, &held, reason).await;
    }
    let action = match decision {
        Decision::Release | Decision::Settle => Action::Released,
        Decision::Drop => Action::Dropped,
    };
    let facts = facts(&registry.config(), &held, reason);
    let subject = id.to_string();
    registry.note_with(who, action, AuditSubject::new("held", &subject), facts).await?;
    match ledger.decide(&HeldOrder { id, decision, at_ms: now_ms(), event: None }).await? {
        Decided::Done(mark) => Ok(mark),
        Decided::Already(mark) => repeated(mark, decision),
        Decided::Unknown => Err(DecideError::Unknown),
    }
}

/// The result of a decision that was made before: the same one is repeated by a caller that missed
/// its answer.
fn repeated(mark: HeldMark, decision: Decision) -> Result<HeldMark, DecideError> {
    match (mark.decision == Decision::Drop) == (decision == Decision::Drop) {
        true => Ok(mark),
        false => Err(DecideError::Already(mark)),
    }
}

/// Releases one callback from quarantine: verified again if it verifies by now, else granted by the
/// operator, who says why.
async fn release(
    registry: &Registry,
    callback_handler: &CallbackHandler,
    who: &Actor,
    held: &NewHeld,
    reason: Option<&str>,
) -> Result<HeldMark, DecideError> {
    let id = held.id.to_string();
    let facts = facts(&registry.config(), held, reason);
    let note = registry.note_with(who, Action::Released, AuditSubject::new("held", &id), facts);
    match callback_handler.release(held, ReleaseMode::DryRun).await?.result {
        Released::Event(_) | Released::Duplicate(_) | Released::Disputed => {
            note.await?;
            callback_handler.release(held, ReleaseMode::Real).await?;
        }
        Released::Rejected(_) | Released::Undecided if reason.is_none() => {
            return Err(DecideError::NoReason);
        }
        Released::Rejected(_) | Released::Undecided => {
            note.await?;
            callback_handler.grant(held).await?.map_err(DecideError::Unreadable)?;
        }
    }
    match registry.ledger().held_one(held.id).await? {
        Some(HeldOne::Decided(mark)) => Ok(mark),
        // What is held of the event that it disputes has no room.
        Some(HeldOne::Waiting(_)) => Err(DecideError::Full),
        None => Err(DecideError::Unknown),
    }
}
