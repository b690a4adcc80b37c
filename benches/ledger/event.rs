//! Events to be recorded, as a gateway makes them.

use bytes::Bytes;
use postern::clock::now_ms;
use postern::ledger::{EventId, NewEvent, SourceId, TargetId};

/// Bytes of a body: a callback with its headers and its JSON.
pub(crate) const BODY: usize = 700;
const SOURCE: &str = "level-end";

/// The event with number `n`, for those destinations.
pub(crate) fn new(n: u64, targets: &[TargetId]) -> NewEvent {
    let source = SourceId::from(SOURCE);
    let received_ms = now_ms();
    let transaction = format!("transaction-{n:016}");
    let user = format!("user-{}", n % 50_000);
    let mut event = NewEvent::sample(EventId::new(received_ms), &source, n);
    event.body = body(&transaction, &user);
    event.transaction = transaction;
    event.user = Some(user);
    event.targets.extend(targets.iter().cloned());
    event
}

/// A body that says what is recorded beside it as a real one does: JSON that begins with it, and
/// behind that the rest, whatever it is.
fn body(transaction: &str, user: &str) -> Bytes {
    let mut body = Vec::with_capacity(BODY);
    let parts = [
        r#"{"id":"evt_0123456789abcdef0123456789abcdef","source":""#,
        SOURCE,
        r#"","sender":"taku","transaction":""#,
        transaction,
        r#"","received_at":"2026-01-02T03:04:05.678Z","user":""#,
        user,
    ];
    parts.iter().for_each(|part| body.extend_from_slice(part.as_bytes()));
    body.resize(BODY, b'x');
    body.into()
}
