//! An event, as the admin API shows it and format `event` delivers it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::EventId;
use super::codec::DecodeError;
use super::sound::mend;
use crate::clock::{Stamp, UnixMillis};
use crate::sender::{Effect, Resolved, Role, put_json_text};

/// An event. Its JSON is a public contract: members and their order stay. `kind` and `effect` are
/// always the last two; new optional members come before them. [`Incoming`] writes the same JSON on
/// the way into the ledger.
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
    /// Roles that are percent-encoded as a whole, because they are not UTF-8.
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

/// An event on its way into the ledger. Its JSON has the members of [`Event`]; it is written for
/// every callback, and so without a serializer.
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
    /// How it is recorded.
    pub release: Release,
}

impl EventJson for Incoming<'_> {
    fn size_hint(&self) -> usize {
        let roles = Role::ALL.into_iter().filter_map(|role| self.resolved.role(role));
        let roles: usize = roles.map(str::len).sum();
        let texts = self.resolved.params().len() + self.resolved.template().len() + roles;
        MEMBERS_BYTES + self.source.len() + self.sender.len() + texts
    }

    fn put_json(&self, to: &mut Vec<u8>) -> Result<(), DecodeError> {
        let resolved = self.resolved;
        put(to, "{\"id\":\"", self.id.encode(&mut [0; EventId::TEXT_BYTES]));
        put_text(to, "\",\"source\":", self.source);
        put_text(to, ",\"sender\":", self.sender);
        let transaction = resolved.role(Role::Transaction).unwrap_or_default();
        put_text(to, ",\"transaction\":", transaction);
        put(to, ",\"received_at\":\"", Stamp::of(self.received_ms).as_str());
        put_or_null(to, "\",\"user\":", resolved.role(Role::User));
        put_or_null(to, ",\"item\":", resolved.role(Role::Item));
        put_or_null(to, ",\"amount\":", resolved.role(Role::Amount));
        put(to, ",\"test\":", if resolved.is_test() { "true" } else { "false" });
        put_list(to, ",\"unresolved\":", resolved.unresolved().iter().map(String::as_str));
        let roles = resolved.authenticated().iter().map(|role| role.as_str());
        let facts = resolved.covered().iter().map(|fact| fact.as_str());
        put_list(to, ",\"authenticated\":", roles.chain(facts));
        let params_at = to.len();
        put(to, ",\"params\":", resolved.params());
        mend(&mut to[params_at..]);
        put(to, ",\"resolved\":", resolved.template());
        let later = [
            (",\"currency\":", resolved.role(Role::Currency)),
            (",\"custom\":", resolved.role(Role::Custom)),
            (",\"reverses\":", resolved.role(Role::Reverses)),
        ];
        for (name, value) in later {
            if let Some(value) = value {
                put_text(to, name, value);
            }
        }
        if !resolved.recut().is_empty() {
            put_list(to, ",\"recut\":", resolved.recut().iter().map(String::as_str));
        }
        if let Some(unit) = resolved.amount_unit() {
            put_text(to, ",\"amount_unit\":", unit.as_str());
        }
        if !resolved.escaped().is_empty() {
            put_list(to, ",\"escaped\":", resolved.escaped().iter().map(|role| role.as_str()));
        }
        if !self.release.is_none() {
            put(to, ",\"released\":", "true");
        }
        put_text(to, ",\"kind\":", resolved.kind());
        put_text(to, ",\"effect\":", resolved.effect().as_str());
        to.push(b'}');
        Ok(())
    }
}

/// Appends `json` after `lead`, which is JSON too.
#[inline]
fn put(to: &mut Vec<u8>, lead: &'static str, json: &str) {
    to.extend_from_slice(lead.as_bytes());
    to.extend_from_slice(json.as_bytes());
}

#[inline]
fn put_text(to: &mut Vec<u8>, lead: &'static str, text: &str) {
    to.extend_from_slice(lead.as_bytes());
    put_json_text(to, text.as_bytes());
}

fn put_or_null(to: &mut Vec<u8>, lead: &'static str, text: Option<&str>) {
    match text {
        Some(text) => put_text(to, lead, text),
        None => put(to, lead, "null"),
    }
}

fn put_list<'t>(to: &mut Vec<u8>, lead: &'static str, mut texts: impl Iterator<Item = &'t str>) {
    match texts.next() {
        None => return put(to, lead, "[]"),
        Some(first) => {
            put(to, lead, "[");
            put_json_text(to, first.as_bytes());
        }
    }
    for text in texts {
        put_text(to, ",", text);
    }
    to.push(b']');
}

#[cfg(test)]
pub(super) mod tests {
    use md5::Digest as _;

    use super::*;
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

    /// The result of `taku`'s catalog file for a callback signed with `secret`.
    fn resolved(query: &str, secret: &str) -> Box<Resolved> {
        let catalog = Catalog::embedded().unwrap();
        let value = Secret::new(secret.as_bytes());
        let secrets = vec![LiveSecret { id: "1".into(), value, until_ms: None }];
        let template = Some("who={user_id}&more={more}".into());
        let terms = Terms { secrets, template, ..Terms::default() };
        let recipe = Recipe::compile(catalog.get("taku").unwrap(), &terms).unwrap();
        let target = format!("/callback/a?{query}");
        let request = Request {
            method: &http::Method::GET,
            target: target.as_bytes(),
            base: "",
            headers: &http::HeaderMap::new(),
            body: b"",
        };
        let mut callback = recipe.read(request, 0);
        let Judgement::Verified(mut verified) = callback.verify() else { panic!("{query}") };
        let Resolution::Event(resolved) = verified.resolve("evt_0") else { panic!("{query}") };
        resolved
    }

    #[test]
    fn what_is_written_by_hand_is_what_a_library_writes_of_the_same_event() {
        // md5(trans_id=..&placement_id=&adsource_id=&reward_amount=..&reward_name=..&sec_key=..)
        for (user, name) in [("u1", "coin"), ("%22%E4%BA%BA%0A", "a%5Cb"), ("%ff", "%01+%2B")] {
            let plain = |text: &str| {
                let pairs = format!("v={text}");
                let mut all: Vec<(String, String)> = serde_urlencoded::from_str(&pairs).unwrap();
                all.remove(0).1
            };
            let signed = format!(
                "trans_id=t-1&placement_id=p&adsource_id=5&reward_amount=10&reward_name={}&sec_key=key",
                plain(name)
            );
            let sign = const_hex::encode(md5::Md5::digest(signed));
            let resolved = resolved(
                &format!(
                    "user_id={user}&trans_id=t-1&placement_id=p&adsource_id=5&reward_amount=10\
                     &reward_name={name}&extra_data=%7B%7D&odd%22={user}&sign={sign}"
                ),
                "key",
            );
            let id = EventId::from_bytes([0xa7; 16]);
            let (source, sender) = ("level\"-end", "taku");
            let event = Incoming {
                id,
                source,
                sender,
                received_ms: 1_700_000_000_123,
                resolved: &resolved,
                release: Release::None,
            };
            let mut written = Vec::new();
            event.put_json(&mut written).unwrap();
            let read: Event<'_> = serde_json::from_slice(&written).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&read).unwrap());
            assert_eq!((read.id, &*read.source, &*read.transaction), (id, source, "t-1"));
            // Bytes that are not UTF-8 are shown in their escapes.
            let shown = if user == "%ff" { String::from("%FF") } else { plain(user) };
            assert_eq!(read.user.as_deref(), Some(&*shown));
            assert_eq!(read.unresolved, ["more"]);
            assert_eq!(read.received_at, "2023-11-14T22:13:20.123Z");
            let params: serde_json::Value = serde_json::from_str(read.params.get()).unwrap();
            assert_eq!(params["sign"], "***");
            assert_eq!(params["odd\""], plain(user));
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
