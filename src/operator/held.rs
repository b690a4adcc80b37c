//! Held callbacks, as people see them and decide about them: written down in the audit log first.

use serde_json::{Map, Value};

use crate::clock::now_ms;
use crate::ledger::{
    Book, Decided, Decision, Event, EventBody, HeldId, HeldMark, HeldOne, HeldOrder, HeldWhy,
    LedgerError, NewHeld,
};
use crate::registry::{Action, Registry, Who};

/// Bytes of the reason that a person gives.
pub const REASON_BYTES_MAX: usize = 500;

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The ledger fails.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is no such callback.
    #[error("no held callback has this id")]
    Unknown,
    /// It was decided before, otherwise or the same.
    #[error("this callback is decided already: {}", said(.0))]
    Already(HeldMark),
    /// It never verified.
    #[error("this callback never verified; give a reason for its release")]
    NoReason,
}

fn said(mark: &HeldMark) -> &'static str {
    match mark.decision {
        Decision::Release | Decision::Settle => "it was released",
        Decision::Drop => "it was dropped",
    }
}

/// A held callback, and the event that it disputes.
#[derive(Debug)]
pub struct Shown {
    /// The callback.
    pub held: NewHeld,
    /// What it says.
    pub event: Option<Event<'static>>,
    /// What the event says that stands, if that is still there.
    pub first: Option<Event<'static>>,
}

/// Reads what a held callback says, and the event that it disputes.
///
/// # Errors
/// The ledger fails.
pub async fn shown(book: &Book, held: NewHeld) -> Result<Shown, LedgerError> {
    let first = match held.first {
        Some(first) => book.event(first).await?.and_then(|detail| read(&detail.event.body)),
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

/// Decides about a held callback.
///
/// # Errors
/// It is unknown, was decided before, needs a reason, or the ledger fails.
pub async fn decide(
    registry: &Registry,
    who: &Who,
    (id, decision): (HeldId, Decision),
    reason: Option<&str>,
) -> Result<HeldMark, DecideError> {
    let book = registry.book();
    let held = match book.held_one(id).await? {
        None => return Err(DecideError::Unknown),
        Some(HeldOne::Decided(mark)) => return Err(DecideError::Already(mark)),
        // A sample waits for nobody.
        Some(HeldOne::Waiting(held)) if held.why == HeldWhy::Rejected => {
            return Err(DecideError::Unknown);
        }
        Some(HeldOne::Waiting(held)) => held,
    };
    let reason = reason.map(str::trim).filter(|text| !text.is_empty());
    if held.why == HeldWhy::Quarantine && decision == Decision::Release && reason.is_none() {
        return Err(DecideError::NoReason);
    }
    let action = match decision {
        Decision::Release | Decision::Settle => Action::Released,
        Decision::Drop => Action::Dropped,
    };
    let reason = reason.map(|text| &text[..text.floor_char_boundary(REASON_BYTES_MAX)]);
    registry.note_for(who, action, ("held", &id.to_string()), reason).await?;
    match book.decide(&HeldOrder { id, decision, at_ms: now_ms(), event: None }).await? {
        Decided::Done(mark) => Ok(mark),
        Decided::Already(mark) => Err(DecideError::Already(mark)),
        Decided::Unknown => Err(DecideError::Unknown),
    }
}
