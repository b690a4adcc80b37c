//! Standard Webhooks: the header fields that tell a backend that a delivery is genuine, and which.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use crate::clock::UnixMillis;
use crate::ledger::EventId;
use crate::sender::Secret;

/// The event's id, the same on every attempt.
pub(super) const ID: HeaderName = HeaderName::from_static("webhook-id");
/// When this attempt was made, in seconds since the Unix epoch.
pub(super) const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64, one a secret, with blanks between.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Says which event `body` is, made at `now_ms`; signed if there are secrets.
pub(super) fn put(
    headers: &mut HeaderMap,
    event: EventId,
    now_ms: UnixMillis,
    (body, secrets): (&[u8], &[Secret]),
) {
    let id = event.to_string();
    let stamp = now_ms.div_euclid(1000).to_string();
    let signed = signatures(&id, &stamp, body, secrets);
    for (name, text) in [(ID, id), (TIMESTAMP, stamp), (SIGNATURE, signed)] {
        // Ids, numbers and base64 are always fit for a header field.
        if let Ok(value) = HeaderValue::try_from(text)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
}

fn signatures(id: &str, stamp: &str, body: &[u8], secrets: &[Secret]) -> String {
    let one = |secret: &Secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).ok()?;
        for part in [id.as_bytes(), b".", stamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    };
    secrets.iter().filter_map(one).collect::<Vec<_>>().join(" ")
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
        assert_eq!(
            signatures(id, "1614265330", body, &[secret.clone()]),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        let two = signatures(id, "1614265330", body, &[secret.clone(), secret]);
        assert_eq!(two.split(' ').count(), 2);
    }

    #[test]
    fn without_a_secret_there_is_no_signature_but_an_id() {
        let mut headers = HeaderMap::new();
        put(&mut headers, EventId::from_bytes([7; 16]), 1_999, (b"", &[]));
        assert_eq!(headers[ID], "evt_07070707070707070707070707070707");
        assert_eq!(headers[TIMESTAMP], "1");
        assert!(!headers.contains_key(SIGNATURE));
    }
}
