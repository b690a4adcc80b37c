//! An event, as the admin API shows it and as format `event` delivers it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::EventId;
use crate::clock::{UnixMillis, rfc3339};
use crate::sender::{Resolved, Role};

/// An event. Its JSON is a promise to people outside: members and their order stay as they are,
/// new ones come last and only when they are present. On its way into the ledger it borrows from
/// the callback; read back, it owns what it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event<'e> {
    /// Its id, the same on every attempt of every delivery.
    pub id: EventId,
    /// The name that the source had when the event was received.
    pub source: Cow<'e, str>,
    /// The sender's name.
    pub sender: Cow<'e, str>,
    /// The sender's own id of what happened.
    pub transaction: Cow<'e, str>,
    /// When it was received, RFC 3339 in UTC with milliseconds.
    pub received_at: String,
    /// Who is rewarded.
    pub user: Option<Cow<'e, str>>,
    /// What is given.
    pub item: Option<Cow<'e, str>>,
    /// How much of it, as the sender wrote it.
    pub amount: Option<Cow<'e, str>>,
    /// Whether the sender marks it as a test.
    pub test: bool,
    /// What was asked for and not there, or left unreplaced by the sender.
    pub unresolved: Vec<Cow<'e, str>>,
    /// The roles that the signature covers.
    pub authenticated: Vec<Cow<'e, str>>,
    /// The parameters as received.
    pub params: Cow<'e, RawValue>,
    /// The source's template, resolved.
    pub resolved: Cow<'e, RawValue>,
    /// In which currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Cow<'e, str>>,
    /// What the app passed through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Cow<'e, str>>,
    /// The kind of event, where the sender has kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Cow<'e, str>>,
    /// The transaction that this one takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverses: Option<Cow<'e, str>>,
    /// Parameters whose value could have been cut anew without changing the signature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recut: Vec<Cow<'e, str>>,
}

impl<'e> Event<'e> {
    /// The event `id` of a callback that `sender` made to `source` at `received_ms`.
    #[must_use]
    pub fn new(
        id: EventId,
        source: &'e str,
        sender: &'e str,
        received_ms: UnixMillis,
        resolved: &'e Resolved,
    ) -> Self {
        let role = |role| resolved.role(role).map(Cow::Borrowed);
        let authenticated = resolved.authenticated().iter().map(|role| role.as_str().into());
        Self {
            id,
            source: source.into(),
            sender: sender.into(),
            transaction: role(Role::Transaction).unwrap_or_default(),
            received_at: rfc3339(received_ms),
            user: role(Role::User),
            item: role(Role::Item),
            amount: role(Role::Amount),
            test: resolved.is_test(),
            unresolved: resolved.unresolved().iter().map(Into::into).collect(),
            authenticated: authenticated.collect(),
            params: Cow::Borrowed(resolved.params()),
            resolved: Cow::Borrowed(resolved.template()),
            currency: role(Role::Currency),
            custom: role(Role::Custom),
            kind: resolved.kind().map(Cow::Borrowed),
            reverses: role(Role::Reverses),
            recut: resolved.recut().iter().map(Into::into).collect(),
        }
    }

    /// About how long its JSON is, to make room once.
    pub(super) fn size_hint(&self) -> usize {
        400 + self.params.get().len() + self.resolved.get().len()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ledger) fn sample() -> Event<'static> {
        Event {
            id: EventId::from_bytes([7; 16]),
            source: "level-end".into(),
            sender: "taku".into(),
            transaction: "tr-0001".into(),
            received_at: "2026-01-02T03:04:05.678Z".into(),
            user: Some("u1".into()),
            item: None,
            amount: Some("10".into()),
            test: false,
            unresolved: vec![],
            authenticated: vec!["transaction".into()],
            params: Cow::Owned(RawValue::from_string(r#"{"a":"1",  "b":2.50}"#.into()).unwrap()),
            resolved: Cow::Owned(RawValue::from_string("{}".into()).unwrap()),
            currency: None,
            custom: None,
            kind: None,
            reverses: None,
            recut: vec![],
        }
    }

    #[test]
    fn the_json_is_as_documented_and_keeps_raw_values() {
        let text = serde_json::to_string(&sample()).unwrap();
        let expected = concat!(
            r#"{"id":"evt_07070707070707070707070707070707","source":"level-end","sender":"taku","#,
            r#""transaction":"tr-0001","received_at":"2026-01-02T03:04:05.678Z","user":"u1","#,
            r#""item":null,"amount":"10","test":false,"unresolved":[],"#,
            r#""authenticated":["transaction"],"params":{"a":"1",  "b":2.50},"resolved":{}}"#,
        );
        assert_eq!(text, expected);
        let back: Event<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), expected);
    }

    #[test]
    fn extra_members_come_last_and_only_when_present() {
        let event = Event {
            currency: Some("USD".into()),
            recut: vec!["a".into()],
            reverses: Some("tr-0".into()),
            ..sample()
        };
        let text = serde_json::to_string(&event).unwrap();
        assert!(text.ends_with(r#","currency":"USD","reverses":"tr-0","recut":["a"]}"#), "{text}");
    }
}
