//! Recorded events without a gateway: for a store that is older than the test, and for
//! `make bench-console`.

use std::borrow::Cow;

use http::{HeaderMap, Method};
use md5::{Digest as _, Md5};
use postern::clock::{UnixMillis, rfc3339};
use postern::ledger::{DedupeKey, Event, EventBody, EventId, NewEvent, Release, SourceId};
use postern::sender::{Effect, Request, Resolved};
use serde_json::value::RawValue;

/// A Taku callback that was accepted.
pub(crate) struct Recorded<'r> {
    pub(crate) source: &'r str,
    pub(crate) secret: &'r str,
    pub(crate) user: &'r str,
    pub(crate) transaction: &'r str,
    pub(crate) received_ms: UnixMillis,
}

impl Recorded<'_> {
    /// The event with number `n`.
    pub(crate) fn event(&self, n: u64) -> NewEvent {
        let (id, source) = (EventId::new(self.received_ms), SourceId::from(self.source));
        let event = Event {
            id,
            source: self.source.into(),
            sender: "taku".into(),
            transaction: self.transaction.into(),
            received_at: rfc3339(self.received_ms),
            user: Some(self.user.into()),
            item: Some("coin".into()),
            amount: Some("10".into()),
            test: false,
            unresolved: vec![],
            authenticated: vec!["transaction".into(), "item".into(), "amount".into()],
            params: raw(self.params()),
            resolved: raw(String::from("{}")),
            currency: None,
            custom: None,
            reverses: None,
            recut: vec![],
            amount_unit: None,
            escaped: vec![],
            released: Release::None,
            kind: Resolved::PLAIN_KIND.into(),
            effect: Some(Effect::Grant),
        };
        let (headers, target) = (HeaderMap::new(), self.target());
        let request = Request {
            method: &Method::GET,
            target: target.as_bytes(),
            base: "",
            headers: &headers,
            body: b"",
        };
        let mut new = NewEvent::sample(id, &source, n);
        new.keys = [DedupeKey::new(&source, self.transaction.as_bytes())].into_iter().collect();
        new.body = EventBody::encode(&event, &request, None).unwrap();
        new.transaction = self.transaction.to_owned();
        new.user = Some(self.user.to_owned());
        new
    }

    fn target(&self) -> String {
        let Self { source, secret, user, transaction, .. } = self;
        let signed = format!(
            "trans_id={transaction}&placement_id=p1&adsource_id=9&reward_amount=10\
             &reward_name=coin&sec_key={secret}"
        );
        let sign = const_hex::encode(Md5::digest(signed));
        format!(
            "/callback/{source}?user_id={user}&trans_id={transaction}&placement_id=p1\
             &adsource_id=9&reward_amount=10&reward_name=coin&sign={sign}"
        )
    }

    fn params(&self) -> String {
        let Self { user, transaction, .. } = self;
        format!(
            r#"{{"user_id":"{user}","trans_id":"{transaction}","placement_id":"p1","adsource_id":"9","reward_amount":"10","reward_name":"coin"}}"#
        )
    }
}

fn raw(text: String) -> Cow<'static, RawValue> {
    Cow::Owned(RawValue::from_string(text).unwrap())
}
