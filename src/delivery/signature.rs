//! Standard Webhooks: the headers by which a backend verifies and identifies a delivery.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use crate::clock::UnixMillis;
use crate::config::{Destination, SigningKey};
use crate::ledger::EventId;
use crate::sender::Secret;

/// The event's id, the same on every attempt.
pub(super) const ID: HeaderName = HeaderName::from_static("webhook-id");
/// The time of this attempt, in seconds since the Unix epoch.
pub(super) const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// For each key a version, a comma and the base64 signature of `id.timestamp.body`, separated by
/// spaces: `v1` is HMAC-SHA256, `v1a` is Ed25519.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The signing keys for one destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys<'d> {
    /// Shared secrets, the newest first.
    pub(super) secrets: &'d [Secret],
    /// Keys of the gateway, the newest first.
    pub(super) pairs: &'d [SigningKey],
}

/// The identity of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// The event.
    pub(super) event: EventId,
    /// The time of the attempt.
    pub(super) at_ms: UnixMillis,
}

impl Attempt {
    /// Seconds since the Unix epoch.
    pub(super) fn seconds(self) -> i64 {
        self.at_ms.div_euclid(1000)
    }
}

impl<'d> Keys<'d> {
    /// The keys of `destination`.
    pub(super) fn of(destination: &'d Destination) -> Self {
        Self { secrets: &destination.secrets, pairs: &destination.signing_keys }
    }
}

/// The HMAC-SHA256 of `parts` under `secret`.
pub(super) fn hmac(secret: &Secret, parts: &[&[u8]]) -> Option<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).ok()?;
    for part in parts {
        mac.update(part);
    }
    Some(mac.finalize().into_bytes().into())
}

/// Adds id and time, and the signatures of `body` if there are keys.
pub(super) fn put(headers: &mut HeaderMap, attempt: Attempt, keys: Keys<'_>, body: &[u8]) {
    put_as(headers, attempt.event.to_string(), attempt.seconds(), keys, body);
}

/// A message that is signed as events are, and is not an event.
#[derive(Clone, Copy, Debug)]
pub struct SignedMessage<'m> {
    /// Its id, the same on every attempt.
    pub id: &'m str,
    /// The time of this attempt.
    pub at_ms: UnixMillis,
    /// The shared secrets, the newest first.
    pub secrets: &'m [Secret],
    /// The body.
    pub body: &'m [u8],
}

impl SignedMessage<'_> {
    /// Adds id and time, and the signatures if there are secrets.
    pub fn put(&self, headers: &mut HeaderMap) {
        let keys = Keys { secrets: self.secrets, pairs: &[] };
        put_as(headers, self.id.to_owned(), self.at_ms.div_euclid(1000), keys, self.body);
    }
}

fn put_as(headers: &mut HeaderMap, id: String, seconds: i64, keys: Keys<'_>, body: &[u8]) {
    let stamp = seconds.to_string();
    let signed = signatures(&id, &stamp, keys, body);
    for (name, text) in [(ID, id), (TIMESTAMP, stamp), (SIGNATURE, signed)] {
        // Ids, numbers and base64 are always valid header values.
        match HeaderValue::try_from(text) {
            Ok(value) if !value.is_empty() => drop(headers.insert(name, value)),
            _ => drop(headers.remove(name)),
        }
    }
}

fn signatures(id: &str, stamp: &str, keys: Keys<'_>, body: &[u8]) -> String {
    let parts = [id.as_bytes(), b".", stamp.as_bytes(), b".", body];
    let v1 = keys.secrets.iter().filter_map(|secret| hmac(secret, &parts));
    let v1 = v1.map(|mac| format!("v1,{}", STANDARD.encode(mac)));
    let text = if keys.pairs.is_empty() { Vec::new() } else { parts.concat() };
    let v1a = keys.pairs.iter().map(|pair| format!("v1a,{}", STANDARD.encode(pair.sign(&text))));
    v1.chain(v1a).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn the_published_example() {
        let secret = Secret::new(STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        let body = br#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed =
            |secrets: &[Secret]| signatures(id, "1614265330", Keys { secrets, pairs: &[] }, body);
        assert_eq!(
            signed(std::slice::from_ref(&secret)),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(signed(&[secret.clone(), secret]).split(' ').count(), 2);
    }

    #[test]
    fn a_key_of_the_gateway_signs_beside_a_secret() {
        use ring::signature::{ED25519, UnparsedPublicKey};
        let pair = SigningKey::from_seed(&[7; 32]).unwrap();
        let secret = Secret::new([1; 32]);
        let keys = Keys { secrets: &[secret], pairs: std::slice::from_ref(&pair) };
        let both = signatures("evt_1", "1700000000", keys, b"{}");
        let (v1, v1a) = both.split_once(' ').unwrap();
        assert!(v1.starts_with("v1,"), "{v1}");
        let signed = STANDARD.decode(v1a.strip_prefix("v1a,").unwrap()).unwrap();
        let public = UnparsedPublicKey::new(&ED25519, pair.public_bytes());
        public.verify(b"evt_1.1700000000.{}", &signed).unwrap();
        assert!(public.verify(b"evt_1.1700000000.{} ", &signed).is_err());
    }

    #[test]
    fn without_a_key_there_is_no_signature_but_an_id() {
        let attempt = Attempt { event: EventId::from_bytes([7; 16]), at_ms: 1_999 };
        let mut headers = HeaderMap::from_iter([
            (ID, HeaderValue::from_static("evt_spoofed")),
            (SIGNATURE, HeaderValue::from_static("v1,AAAA")),
        ]);
        put(&mut headers, attempt, Keys { secrets: &[], pairs: &[] }, b"");
        assert_eq!(headers[ID], "evt_07070707070707070707070707070707");
        assert_eq!(headers[TIMESTAMP], "1");
        assert!(!headers.contains_key(SIGNATURE));
    }
}
