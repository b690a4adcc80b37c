//! Standard Webhooks: the headers by which a backend verifies and identifies a delivery.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
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

/// The signing keys for one destination, prepared.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// Shared secrets, the newest first.
    pub(super) shared: Vec<SharedKey>,
    /// Keys of the gateway, the newest first.
    pub(super) pairs: Vec<SigningKey>,
}

/// The keyed state of HMAC-SHA256 under a shared secret.
#[derive(Clone)]
pub(super) struct SharedKey(Hmac<Sha256>);

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

impl Keys {
    /// The keys of `destination`.
    pub(super) fn of(destination: &Destination) -> Self {
        Self { pairs: destination.signing_keys.clone(), ..Self::shared(&destination.secrets) }
    }

    /// Only shared secrets.
    pub(super) fn shared(secrets: &[Secret]) -> Self {
        Self { shared: secrets.iter().filter_map(SharedKey::new).collect(), pairs: Vec::new() }
    }

    /// Whether nothing is signed.
    pub(super) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.pairs.is_empty()
    }
}

impl SharedKey {
    /// HMAC takes a key of any length.
    pub(super) fn new(secret: &Secret) -> Option<Self> {
        Hmac::new_from_slice(secret.expose()).ok().map(Self)
    }

    /// The HMAC-SHA256 of `parts`.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(***)")
    }
}

/// Adds id and time, and the signatures of `body` if there are keys.
pub(super) fn put(headers: &mut HeaderMap, attempt: Attempt, keys: &Keys, body: &[u8]) {
    let mut id = [0; EventId::TEXT_BYTES];
    put_as(headers, attempt.event.encode(&mut id), attempt.seconds(), keys, body);
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
        put_as(
            headers,
            self.id,
            self.at_ms.div_euclid(1000),
            &Keys::shared(self.secrets),
            self.body,
        );
    }
}

/// Bytes of an id, a time and the signature of one key, with what is between them.
const USUAL_BYTES: usize = 128;

/// The values of all three headers are one allocation: first the beginning of what is signed,
/// `id.timestamp.`, then the signatures.
fn put_as(headers: &mut HeaderMap, id: &str, seconds: i64, keys: &Keys, body: &[u8]) {
    let mut text = Vec::with_capacity(USUAL_BYTES);
    text.extend_from_slice(id.as_bytes());
    text.push(b'.');
    put_number(&mut text, seconds);
    text.push(b'.');
    let begun = text.len();
    put_signatures(&mut text, keys, body);
    let text = Bytes::from(text);
    let spans =
        [(ID, 0..id.len()), (TIMESTAMP, id.len() + 1..begun - 1), (SIGNATURE, begun..text.len())];
    for (name, span) in spans {
        // Ids, numbers and base64 are always valid header values.
        match HeaderValue::from_maybe_shared(text.slice(span)) {
            Ok(value) if !value.is_empty() => drop(headers.insert(name, value)),
            _ => drop(headers.remove(name)),
        }
    }
}

fn put_number(to: &mut Vec<u8>, number: i64) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), number.unsigned_abs());
    while rest > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    if number < 0 {
        to.push(b'-');
    }
    to.extend_from_slice(&digits[at..]);
}

/// Appends the signatures of `to` and `body`.
fn put_signatures(to: &mut Vec<u8>, keys: &Keys, body: &[u8]) {
    let begun = to.len();
    for key in &keys.shared {
        let mac = key.mac(&[&to[..begun], body]);
        put_signature(to, begun, "v1,", &mac);
    }
    if keys.pairs.is_empty() {
        return;
    }
    let signed = [&to[..begun], body].concat();
    for pair in &keys.pairs {
        put_signature(to, begun, "v1a,", &pair.sign(&signed));
    }
}

fn put_signature(to: &mut Vec<u8>, begun: usize, version: &str, signature: &[u8]) {
    if to.len() > begun {
        to.push(b' ');
    }
    to.extend_from_slice(version.as_bytes());
    let start = to.len();
    to.resize(start + signature.len().div_ceil(3) * 4, 0);
    // There is room for all digits: encoding cannot fail.
    let _ = STANDARD.encode_slice(signature, &mut to[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the header with the signatures.
    fn signatures(id: &str, seconds: i64, keys: &Keys, body: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        put_as(&mut headers, id, seconds, keys, body);
        assert_eq!(headers[ID], id);
        assert_eq!(headers[TIMESTAMP], seconds.to_string());
        headers[SIGNATURE].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_time_is_written_in_decimal() {
        for number in [0, 7, 10, 1_700_000_000, i64::MAX, -1, i64::MIN] {
            let mut text = Vec::new();
            put_number(&mut text, number);
            assert_eq!(text, number.to_string().into_bytes());
        }
    }

    #[test]
    fn no_key_is_shown() {
        let keys = Keys::shared(&[Secret::new([1; 32])]);
        assert_eq!(format!("{keys:?}"), "Keys { shared: [SharedKey(***)], pairs: [] }");
    }

    /// The example of the specification's reference libraries.
    #[test]
    fn the_published_example() {
        let secret = Secret::new(STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        let body = br#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed =
            |secrets: &[Secret]| signatures(id, 1_614_265_330, &Keys::shared(secrets), body);
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
        let keys = Keys { pairs: vec![pair.clone()], ..Keys::shared(&[secret]) };
        let both = signatures("evt_1", 1_700_000_000, &keys, b"{}");
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
        put(&mut headers, attempt, &Keys::default(), b"");
        assert_eq!(headers[ID], "evt_07070707070707070707070707070707");
        assert_eq!(headers[TIMESTAMP], "1");
        assert!(!headers.contains_key(SIGNATURE));
    }
}
