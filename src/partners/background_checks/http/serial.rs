//! Serial numbers: callbacks, orders and our replies share one space of them.
//!
//! The platform signs callbacks and orders by one rule, over `key`, `ts` and `seq` alone, and our
//! replies are signed by it too. So an order is recorded, before anything is done for it, in every
//! source that would accept a callback under its signature. It is an event without destinations,
//! under the identity of such a callback. From then on the ledger separates them, on every engine
//! and for all gateways: the first callback or order with a `key` and a `seq` has them, and its
//! content is bound. A reply bears the numbers of its call, which are used by the time it is made.

use bytes::Bytes;
use serde_json::json;
use smallvec::SmallVec;

use crate::config::Source;
use crate::ledger::{
    DedupResult, EventBody, EventId, EventIdentity, Fingerprint, Incoming, LedgerError, NewEvent,
    Release, SourceId,
};
use crate::partners::Call;
use crate::partners::background_checks::SENDER;
use crate::sender::{Judgement, Request, Resolution};

/// The status of an order in the log, in place of a state of its check.
const ORDERED: &str = "temporary report ordered";

/// The owner of a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serial {
    /// This order, now or since its first call.
    OfThisOrder,
    /// A callback, or an order for another check.
    Taken,
    /// No source for callbacks has this signature, and so its company has no check.
    NoSource,
}

/// Gives the serial number of a call to the order for the check `number`, unless another has it.
pub(super) async fn bind(call: &Call<'_>, number: &str) -> Result<Serial, LedgerError> {
    let sources = call.config.sources.values();
    let ours = sources.filter(|source| source.recipe.sender().name() == SENDER);
    let events: Vec<NewEvent> = ours.filter_map(|source| event(call, source, number)).collect();
    if events.is_empty() {
        return Ok(Serial::NoSource);
    }
    for event in events {
        match call.registry.ledger().record(event).await?.result() {
            DedupResult::New | DedupResult::Duplicate => {}
            DedupResult::Conflict | DedupResult::Ambiguous => return Ok(Serial::Taken),
        }
    }
    Ok(Serial::OfThisOrder)
}

/// The order as an event of `source`; none if the source would reject a callback with its headers.
fn event(call: &Call<'_>, source: &Source, number: &str) -> Option<NewEvent> {
    // Not under `recordNo`: an order says nothing about its check, and is not found by it.
    let body = json!({ "reportOf": number, "status": ORDERED }).to_string();
    let request = Request {
        method: &http::Method::POST,
        target: b"/",
        base: "",
        headers: call.headers(),
        body: body.as_bytes(),
    };
    let id = EventId::new(call.at_ms);
    let mut callback = source.recipe.read(request, call.at_ms);
    let Judgement::Verified(mut verified) = callback.verify() else { return None };
    let resolved = match verified.resolve(id) {
        Resolution::Event(resolved) | Resolution::Ambiguous(resolved) => resolved,
        Resolution::Several(_)
        | Resolution::Challenge
        | Resolution::Test
        | Resolution::Rejected(_) => return None,
    };
    let incoming = Incoming {
        id,
        source: &source.name,
        sender: SENDER,
        received_ms: call.at_ms,
        resolved: &resolved,
        params: &callback.shown_params(),
        release: Release::None,
    };
    // The order is shown as its callback would be, and kept with its own target.
    let shown = EventBody::json_of(&EventBody::store(&incoming, &request, None).ok()?).ok()?;
    recorded(call, source, &incoming, &shown, number)
}

fn recorded(
    call: &Call<'_>,
    source: &Source,
    incoming: &Incoming<'_>,
    shown: &Bytes,
    number: &str,
) -> Option<NewEvent> {
    let target = [call.path().as_bytes(), b"?", call.query()].concat();
    let request = Request {
        method: call.method(),
        target: &target,
        base: "",
        headers: call.headers(),
        body: b"",
    };
    let source = SourceId::from(source.id.as_str());
    let mut identity = EventIdentity::of(&source, incoming.resolved);
    // No callback has this content, regardless of its body.
    identity.fingerprint = Fingerprint::new([Some(ORDERED), Some(number), None, None]);
    let body = EventBody::encode(shown, &request, None).ok()?;
    let mut event = NewEvent::new(incoming, identity, body, SmallVec::new());
    (event.user, event.test) = (None, false);
    Some(event)
}
