//! A test of a destination: one attempt with an event that no sender sent and that is not recorded.
//! The audit log names the actor.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::{now_ms, rfc3339};
use crate::config::Format;
use crate::delivery::{Control, Deliveries};
use crate::ledger::{Attempt, Event, EventBody, EventId, LedgerError, Release, TargetId};
use crate::registry::{Action, Actor, AuditSubject, DESTINATION, Registry};
use crate::sender::{Effect, Request, Resolved};

/// A test event. Missing values are invented.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestEvent {
    /// The source that it says it is of.
    pub source: Option<String>,
    /// Its user.
    pub user: Option<String>,
    /// Its item.
    pub item: Option<String>,
    /// Its amount.
    pub amount: Option<String>,
    /// Its parameters.
    pub params: BTreeMap<String, String>,
    /// The resolved template.
    pub resolved: BTreeMap<String, String>,
}

/// The result of a test.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The id that the event had.
    pub event: EventId,
    /// The attempt.
    pub attempt: Attempt,
}

/// Why a destination is not tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestDeliveryError {
    /// No destination has that name, or the gateway drains.
    Absent,
    /// This gateway delivers nothing: it was started to try a store.
    Off,
    /// The destination expects a sender's request, and a test has none.
    Forward,
    /// The event cannot be written.
    Unwritten,
    /// The test cannot be recorded in the audit log.
    Unnoted(LedgerError),
}

impl Tried {
    /// Whether the destination took it.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.attempt.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// Makes one attempt to deliver `event` to the destination called `name`, and notes who did.
///
/// # Errors
/// Why no attempt was made.
pub async fn try_out(
    registry: &Registry,
    control: &Control,
    who: &Actor,
    name: &str,
    event: TestEvent,
) -> Result<Tried, TestDeliveryError> {
    if control.deliveries() == Deliveries::Off {
        return Err(TestDeliveryError::Off);
    }
    let config = registry.config();
    let target = TargetId::from(name);
    let client = control.client_of(&target).await.ok_or(TestDeliveryError::Absent)?;
    let format = config.destinations.get(name).map(|destination| destination.format);
    if format == Some(Format::Forward) {
        return Err(TestDeliveryError::Forward);
    }
    let uses = |names: &[String]| names.iter().any(|used| used == name);
    let first = || {
        let mut all = config.sources.values();
        all.find(|source| uses(&source.destinations)).map(|source| source.name.clone())
    };
    let source = event.source.clone().or_else(first).unwrap_or_else(|| String::from("test"));
    let id = EventId::new(now_ms());
    let stored = made_up(id, &source, event).ok_or(TestDeliveryError::Unwritten)?;
    let subject = AuditSubject::new(DESTINATION.as_str(), name);
    registry.note(who, Action::Tried, subject).await.map_err(TestDeliveryError::Unnoted)?;
    let attempt = client.attempt(id, &stored).await;
    let tried = Tried { event: id, attempt };
    if tried.is_delivered() {
        control.answered(&target);
    }
    Ok(tried)
}

fn made_up(id: EventId, source: &str, wanted: TestEvent) -> Option<Bytes> {
    let TestEvent { user, item, amount, params, resolved, .. } = wanted;
    let made = |value: Option<String>, other: &str| {
        Some(Cow::Owned(value.unwrap_or_else(|| other.to_owned())))
    };
    let raw = |map: &BTreeMap<String, String>| {
        let text = serde_json::to_string(map).ok()?;
        Some(Cow::Owned(RawValue::from_string(text).ok()?))
    };
    let event = Event {
        id,
        source: source.into(),
        sender: "postern".into(),
        transaction: format!("test-{}", id.to_string().trim_start_matches("evt_")).into(),
        received_at: rfc3339(now_ms()),
        user: made(user, "test-user"),
        item: made(item, "test-item"),
        amount: made(amount, "1"),
        test: true,
        unresolved: vec![],
        authenticated: vec![],
        params: raw(&params)?,
        resolved: raw(&resolved)?,
        currency: None,
        custom: None,
        reverses: None,
        recut: vec![],
        amount_unit: None,
        escaped: vec![],
        released: Release::None,
        kind: Resolved::PLAIN_KIND.into(),
        // No sender asked for it, so a backend must not grant it.
        effect: Some(Effect::None),
    };
    let headers = HeaderMap::new();
    let request =
        Request { method: &Method::GET, target: b"/", base: "", headers: &headers, body: b"" };
    EventBody::encode(&event, &request, None).ok()
}
