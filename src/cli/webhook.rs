//! Standard Webhooks, as a backend checks deliveries and as a gateway signs them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use sha2::Sha256;

use crate::sender::Secret;

/// How much a timestamp may differ from this machine's clock, in seconds, in both directions.
const AGE_SECONDS_MAX: i64 = 300;

/// The prefix of a secret.
const WHSEC: &str = "whsec_";

/// A shared secret of a destination: the bytes after `whsec_`.
#[derive(Clone, Debug)]
pub(super) struct WebhookKey(Secret);

/// Why a delivery is not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WebhookError {
    /// A header is missing, or is not text.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// No signature is one under a known secret.
    #[error("no signature matches: the gateway signs with another secret")]
    Mismatch,
    /// The timestamp is not a number, or too far from now.
    #[error("webhook-timestamp is more than 5 minutes from this machine's time")]
    Stale,
}

impl WebhookKey {
    /// The key that `text` spells: `whsec_` and base64.
    ///
    /// # Errors
    /// A sentence for people.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let encoded = text.trim().strip_prefix(WHSEC);
        let encoded = encoded.ok_or("the secret does not begin with whsec_")?;
        let bytes = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded));
        Ok(Self(Secret::new(bytes.map_err(|_| "the secret is not base64 behind whsec_")?)))
    }

    /// The key of those bytes.
    pub(super) fn of(secret: &Secret) -> Self {
        Self(secret.clone())
    }

    /// The headers of a delivery of `body` under `id`, at `seconds` since the Unix epoch.
    pub(super) fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> Option<HeaderMap> {
        let stamp = seconds.to_string();
        let signature = STANDARD.encode(self.mac(id, &stamp, body)?.finalize().into_bytes());
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().ok()?);
        headers.insert("webhook-timestamp", stamp.parse().ok()?);
        headers.insert("webhook-signature", format!("v1,{signature}").parse().ok()?);
        Some(headers)
    }

    fn mac(&self, id: &str, stamp: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose()).ok()?;
        for part in [id.as_bytes(), b".", stamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        Some(mac)
    }
}

/// Checks that a delivery is signed under one of `keys` and fresh at `now_seconds`.
///
/// # Errors
/// Why it is not.
pub(super) fn verify(
    keys: &[WebhookKey],
    headers: &HeaderMap,
    body: &[u8],
    now_seconds: i64,
) -> Result<(), WebhookError> {
    let header = |name: &'static str| {
        let text = headers.get(name).and_then(|value| value.to_str().ok());
        text.ok_or(WebhookError::Missing(name))
    };
    let (id, stamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    let supplied = header("webhook-signature")?;
    let is_right = |key: &WebhookKey| {
        let of_v1 = supplied.split(' ').filter_map(|one| one.strip_prefix("v1,"));
        let mut decoded = of_v1.filter_map(|one| STANDARD.decode(one).ok());
        let Some(mac) = key.mac(id, stamp, body) else { return false };
        decoded.any(|bytes| mac.clone().verify_slice(&bytes).is_ok())
    };
    if !keys.iter().any(is_right) {
        return Err(WebhookError::Mismatch);
    }
    let sent: i64 = stamp.parse().map_err(|_| WebhookError::Stale)?;
    match now_seconds.saturating_sub(sent).saturating_abs() <= AGE_SECONDS_MAX {
        true => Ok(()),
        false => Err(WebhookError::Stale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_verified_under_any_key_and_for_five_minutes() {
        // The example of the specification's libraries.
        let key = WebhookKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let other = WebhookKey::parse("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        let (id, at, body) =
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        let headers = key.sign(id, at, body).unwrap();
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let keys = [other.clone(), key];
        assert_eq!(verify(&keys, &headers, body, at + 300), Ok(()));
        assert_eq!(verify(&keys, &headers, body, at + 301), Err(WebhookError::Stale));
        assert_eq!(verify(&keys, &headers, body, at - 301), Err(WebhookError::Stale));
        assert_eq!(verify(&keys, &headers, b"{}", at), Err(WebhookError::Mismatch));
        assert_eq!(verify(&[other], &headers, body, at), Err(WebhookError::Mismatch));
        let missing = Err(WebhookError::Missing("webhook-id"));
        assert_eq!(verify(&keys, &HeaderMap::new(), body, at), missing);
        assert!(WebhookKey::parse("secret").is_err() && WebhookKey::parse("whsec_*").is_err());
    }
}
