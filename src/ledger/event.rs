//! An event, as the admin API shows it and format `event` delivers it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::EventId;
use super::codec::DecodeError;
use crate::clock::UnixMillis;
use crate::sender::{Effect, Resolved, ShownParams};

/// An event. Its JSON is a public contract: members and their order stay. `kind` and `effect` are
/// always the last two; new optional members come before them. A stored body writes the same JSON
/// when it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event<'e> {
    /// The id, the same on every attempt of every delivery.
    pub id: EventId,
    /// The name that the source had when the event was received.
    pub source: Cow<'e, str>,
    /// The sender's name.
    pub sender: Cow<'e, str>,
    /// The transaction: the sender's own id.
    pub transaction: Cow<'e, str>,
    /// When it was received, RFC 3339 in UTC with milliseconds.
    pub received_at: String,
    /// The user that is rewarded.
    pub user: Option<Cow<'e, str>>,
    /// The item.
    pub item: Option<Cow<'e, str>>,
    /// The amount, as the sender wrote it.
    pub amount: Option<Cow<'e, str>>,
    /// Whether the sender marks it as a test.
    pub test: bool,
    /// Placeholders that are unresolved, or that the sender did not expand.
    pub unresolved: Vec<Cow<'e, str>>,
    /// The roles that the signature covers.
    pub authenticated: Vec<Cow<'e, str>>,
    /// The parameters as received.
    pub params: Cow<'e, RawValue>,
    /// The source's template, resolved.
    pub resolved: Cow<'e, RawValue>,
    /// The currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Cow<'e, str>>,
    /// The custom value of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Cow<'e, str>>,
    /// The transaction that this one reverses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverses: Option<Cow<'e, str>>,
    /// Parameters that could be re-cut without changing the signature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recut: Vec<Cow<'e, str>>,
    /// The unit of the amount, where the sender counts in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_unit: Option<Cow<'e, str>>,
    /// Roles that are percent-encoded as a whole, because they are not UTF-8; `params` if one or
    /// several parameters are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub escaped: Vec<Cow<'e, str>>,
    /// Whether an operator released it from quarantine.
    #[serde(default, skip_serializing_if = "Release::is_none")]
    pub released: Release,
    /// The kind of event: `event` where the sender's file names none.
    #[serde(default = "plain_kind")]
    pub kind: Cow<'e, str>,
    /// Its effect on the user's balance. Missing in events of older versions: see
    /// [`Event::effect`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// How an event was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum Release {
    /// Its callback was accepted at once.
    #[default]
    None,
    /// An operator released it from quarantine.
    ByOperator,
}

impl Release {
    /// Whether its callback was accepted at once.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl From<bool> for Release {
    fn from(released: bool) -> Self {
        if released { Self::ByOperator } else { Self::None }
    }
}

impl From<Release> for bool {
    fn from(release: Release) -> Self {
        !release.is_none()
    }
}

fn plain_kind() -> Cow<'static, str> {
    Cow::Borrowed(Resolved::PLAIN_KIND)
}

impl Event<'_> {
    /// Its effect on the user's balance. An event of an older version has none: it revokes if it
    /// names the transaction that it reverses; otherwise the effect is unknown.
    #[must_use]
    pub fn effect(&self) -> Option<Effect> {
        self.effect.or_else(|| self.reverses.is_some().then_some(Effect::Revoke))
    }
}

/// Writes the JSON of an event.
pub trait EventJson {
    /// The approximate length of the JSON.
    fn size_hint(&self) -> usize;

    /// Appends the JSON to `to`.
    ///
    /// # Errors
    /// If it cannot be written, which no event of a sender causes.
    fn put_json(&self, to: &mut Vec<u8>) -> Result<(), DecodeError>;
}

impl EventJson for Event<'_> {
    fn size_hint(&self) -> usize {
        MEMBERS_BYTES + self.params.get().len() + self.resolved.get().len()
    }

    fn put_json(&self, to: &mut Vec<u8>) -> Result<(), DecodeError> {
        serde_json::to_writer(to, self).or(Err(DecodeError))
    }
}

/// The approximate length of an event's JSON without parameters and template.
const MEMBERS_BYTES: usize = 400;

/// An event on its way into the ledger; [`super::EventBody::store`] writes it down.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'e> {
    /// The id.
    pub id: EventId,
    /// The name of its source.
    pub source: &'e str,
    /// The sender's name.
    pub sender: &'e str,
    /// When it was received.
    pub received_ms: UnixMillis,
    /// The resolved callback.
    pub resolved: &'e Resolved,
    /// Its parameters.
    pub params: &'e ShownParams,
    /// How it is recorded.
    pub release: Release,
}

#[cfg(test)]
pub(super) mod tests {
    use md5::Digest as _;

    use super::*;
    use crate::ledger::EventBody;
    use crate::sender::{
        Catalog, Judgement, LiveSecret, Recipe, Request, Resolution, Secret, Terms,
    };

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
            reverses: None,
            recut: vec![],
            amount_unit: None,
            escaped: vec![],
            released: Release::None,
            kind: Resolved::PLAIN_KIND.into(),
            effect: Some(Effect::Grant),
        }
    }

    #[test]
    fn the_json_is_as_documented_and_keeps_raw_values() {
        let text = serde_json::to_string(&sample()).unwrap();
        let expected = concat!(
            r#"{"id":"evt_07070707070707070707070707070707","source":"level-end","sender":"taku","#,
            r#""transaction":"tr-0001","received_at":"2026-01-02T03:04:05.678Z","user":"u1","#,
            r#""item":null,"amount":"10","test":false,"unresolved":[],"#,
            r#""authenticated":["transaction"],"params":{"a":"1",  "b":2.50},"resolved":{},"#,
            r#""kind":"event","effect":"grant"}"#,
        );
        assert_eq!(text, expected);
        let back: Event<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), expected);
    }

    /// The secret of the callbacks of these tests.
    pub(in crate::ledger) const SECRET: &str = "key";

    /// The target of a callback of `taku` with the parameters `query`, signed under `secret`.
    pub(in crate::ledger) fn signed(query: &str, secret: &str) -> String {
        let all: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap();
        let value = |name: &str| {
            let found = all.iter().find(|(other, _)| other == name);
            found.map_or("", |(_, value)| value).to_owned()
        };
        let names = ["trans_id", "placement_id", "adsource_id", "reward_amount", "reward_name"];
        let mut text: String =
            names.map(|name| format!("{name}={}&", value(name))).into_iter().collect();
        text += &format!("sec_key={secret}");
        let sign = const_hex::encode(md5::Md5::digest(text));
        format!("/callback/a?{query}&sign={sign}")
    }

    /// The result of `taku`'s catalog file for a callback signed under `secret`.
    pub(in crate::ledger) fn resolved(
        request: &Request<'_>,
        secret: &str,
    ) -> (Box<Resolved>, ShownParams) {
        let catalog = Catalog::embedded().unwrap();
        let value = Secret::new(secret.as_bytes());
        let secrets = vec![LiveSecret { id: "1".into(), value, until_ms: None }];
        let template = Some("who={user_id}&more={more}".into());
        let terms = Terms { secrets, template, ..Terms::default() };
        let recipe = Recipe::compile(catalog.get("taku").unwrap(), &terms).unwrap();
        let mut callback = recipe.read(*request, 0);
        let Judgement::Verified(mut verified) = callback.verify() else { panic!("{request:?}") };
        let Resolution::Event(resolved) = verified.resolve("evt_0") else { panic!("{request:?}") };
        (resolved, callback.shown_params())
    }

    #[test]
    fn what_is_derived_is_what_a_library_writes_of_the_same_event() {
        for (user, name) in [("u1", "coin"), ("%22%E4%BA%BA%0A", "a%5Cb"), ("%ff", "%01+%2B")] {
            let plain = |text: &str| {
                let pairs = format!("v={text}");
                let mut all: Vec<(String, String)> = serde_urlencoded::from_str(&pairs).unwrap();
                all.remove(0).1
            };
            let target = signed(
                &format!(
                    "user_id={user}&trans_id=t-1&placement_id=p&adsource_id=5&reward_amount=10\
                     &reward_name={name}&extra_data=%7B%7D&odd%22={user}"
                ),
                SECRET,
            );
            let request = Request {
                method: &http::Method::GET,
                target: target.as_bytes(),
                base: "",
                headers: &http::HeaderMap::new(),
                body: b"",
            };
            let id = EventId::from_bytes([0xa7; 16]);
            let (source, sender) = ("level\"-end", "taku");
            let (resolved, params) = &resolved(&request, SECRET);
            let event = Incoming {
                id,
                source,
                sender,
                received_ms: 1_700_000_000_123,
                resolved,
                params,
                release: Release::None,
            };
            let stored = EventBody::store(&event, &request, None).unwrap();
            let written = EventBody::json_of(&stored).unwrap();
            let read: Event<'_> = serde_json::from_slice(&written).unwrap();
            let again = serde_json::to_string(&read).unwrap();
            assert_eq!(String::from_utf8(written.to_vec()).unwrap(), again);
            assert_eq!((read.id, &*read.source, &*read.transaction), (id, source, "t-1"));
            // Bytes that are not UTF-8 are shown in their escapes.
            let shown = if user == "%ff" { String::from("%FF") } else { plain(user) };
            assert_eq!(read.user.as_deref(), Some(&*shown));
            assert!(read.resolved.get().contains(&serde_json::to_string(&shown).unwrap()));
            assert_eq!(read.unresolved, ["more"]);
            assert_eq!(read.received_at, "2023-11-14T22:13:20.123Z");
            let params: serde_json::Value = serde_json::from_str(read.params.get()).unwrap();
            assert_eq!(params["sign"], "***");
            assert_eq!(params["odd\""], shown);
            let escaped: &[&str] = if user == "%ff" { &["user", "params"] } else { &[] };
            assert_eq!(read.escaped, escaped);
        }
    }

    #[test]
    fn extra_members_come_before_the_last_two_and_only_when_present() {
        let event = Event {
            currency: Some("USD".into()),
            recut: vec!["a".into()],
            reverses: Some("tr-0".into()),
            amount_unit: Some("fen".into()),
            escaped: vec!["user".into()],
            released: Release::ByOperator,
            kind: "refund".into(),
            effect: Some(Effect::Revoke),
            ..sample()
        };
        let text = serde_json::to_string(&event).unwrap();
        let end = concat!(
            r#","resolved":{},"currency":"USD","reverses":"tr-0","recut":["a"],"#,
            r#""amount_unit":"fen","escaped":["user"],"released":true,"#,
            r#""kind":"refund","effect":"revoke"}"#,
        );
        assert!(text.ends_with(end), "{text}");
        let back: Event<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }

    #[test]
    fn events_of_older_versions_are_read() {
        let text = serde_json::to_string(&sample()).unwrap();
        let older = text.replace(r#","kind":"event","effect":"grant""#, "");
        let read: Event<'_> = serde_json::from_str(&older).unwrap();
        assert_eq!((&*read.kind, read.effect, read.effect()), ("event", None, None));
        let kinds = older
            .replace(r#""resolved":{}"#, r#""resolved":{},"kind":"reversal","reverses":"tr-0""#);
        let read: Event<'_> = serde_json::from_str(&kinds).unwrap();
        assert_eq!((&*read.kind, read.effect()), ("reversal", Some(Effect::Revoke)));
    }

    #[test]
    fn what_takes_another_callback_back_revokes() {
        let catalog = Catalog::embedded().unwrap();
        let resolved_with = |query: &str| {
            let value = Secret::new(&b"key"[..]);
            let secrets = vec![LiveSecret { id: "1".into(), value, until_ms: None }];
            let terms = Terms { secrets, ..Terms::default() };
            let recipe = Recipe::compile(catalog.get("cpx").unwrap(), &terms).unwrap();
            let hash = const_hex::encode(md5::Md5::digest("t1-key"));
            let target = format!("/callback/a?trans_id=t1&{query}&hash={hash}");
            let headers = http::HeaderMap::new();
            let request = Request {
                method: &http::Method::GET,
                target: target.as_bytes(),
                base: "",
                headers: &headers,
                body: b"",
            };
            let mut callback = recipe.read(request, 0);
            let Judgement::Verified(mut verified) = callback.verify() else { panic!("{query}") };
            let Resolution::Event(resolved) = verified.resolve("evt_0") else { panic!("{query}") };
            (resolved.kind().to_owned(), resolved.effect())
        };
        assert_eq!(resolved_with("status=1&user_id=u"), ("event".into(), Effect::Grant));
        assert_eq!(resolved_with("status=2&user_id=u"), ("reversal".into(), Effect::Revoke));
    }
}
