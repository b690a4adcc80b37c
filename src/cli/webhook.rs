//! Standard Webhooks, as a backend checks deliveries and as a gateway signs them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::Sha256;

use crate::config::SigningKey;
use crate::sender::Secret;

/// How much a timestamp may differ from this machine's clock, in seconds, in both directions.
const AGE_SECONDS_MAX: i64 = 300;

/// The prefix of a secret.
const WHSEC: &str = "whsec_";

/// The prefix of a public key.
const WHPK: &str = "whpk_";

/// A key that deliveries are verified with.
#[derive(Clone, Debug)]
pub(super) enum WebhookKey {
    /// A shared secret, of `v1`: the bytes after `whsec_`.
    Shared(Secret),
    /// An Ed25519 public key, of `v1a`: the bytes after `whpk_`.
    Public(Vec<u8>),
}

/// Why a delivery is not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WebhookError {
    /// A header is missing, or is not text.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// No signature that can be checked is there, or none is right under a known key.
    #[error("no {0} signature matches: the gateway signs with another key")]
    Mismatch(&'static str),
    /// The timestamp is not a number, or too far from now.
    #[error("webhook-timestamp is more than 5 minutes from this machine's time")]
    Stale,
}

impl WebhookKey {
    /// The key that `text` spells: `whsec_` or `whpk_`, and base64.
    ///
    /// # Errors
    /// A sentence for people.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let decoded =
            |text: &str| STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok();
        if let Some(encoded) = text.strip_prefix(WHPK) {
            let bytes = decoded(encoded).filter(|bytes| bytes.len() == PUBLIC_BYTES);
            let what = "the public key is not 32 bytes in base64 behind whpk_";
            return bytes.map(Self::Public).ok_or_else(|| String::from(what));
        }
        let encoded = text.strip_prefix(WHSEC);
        let encoded = encoded.ok_or("the secret does not begin with whsec_ or whpk_")?;
        let bytes = decoded(encoded).ok_or("the secret is not base64 behind whsec_")?;
        Ok(Self::Shared(Secret::new(bytes)))
    }

    /// The key of a shared secret.
    pub(super) fn shared(secret: &Secret) -> Self {
        Self::Shared(secret.clone())
    }

    /// The public half of a signing key.
    pub(super) fn public(key: &SigningKey) -> Self {
        Self::Public(key.public_bytes().to_vec())
    }

    /// The version of its signatures.
    fn version(&self) -> &'static str {
        match self {
            Self::Shared(_) => "v1",
            Self::Public(_) => "v1a",
        }
    }

    /// The headers of a delivery of `body` under `id`, at `seconds` since the Unix epoch. `None`
    /// for a public key, too: it signs nothing.
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
        let Self::Shared(secret) = self else { return None };
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).ok()?;
        mac.update(&signed_text(id, stamp, body));
        Some(mac)
    }

    /// Whether `signature` is that of a delivery of `body` under `id`, at `stamp`.
    fn is_of(&self, signature: &[u8], id: &str, stamp: &str, body: &[u8]) -> bool {
        match self {
            Self::Shared(_) => {
                self.mac(id, stamp, body).is_some_and(|mac| mac.verify_slice(signature).is_ok())
            }
            Self::Public(key) => {
                let key = UnparsedPublicKey::new(&ED25519, key);
                key.verify(&signed_text(id, stamp, body), signature).is_ok()
            }
        }
    }
}

/// Bytes of an Ed25519 public key.
const PUBLIC_BYTES: usize = 32;

fn signed_text(id: &str, stamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", stamp.as_bytes(), b".", body].concat()
}

/// Checks that a delivery is signed under one of `keys` and fresh at `now_seconds`. A signature of
/// a version that no key is known for decides nothing; where both versions came and are known, both
/// have to be right.
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
    let mut checked = None;
    for version in ["v1", "v1a"] {
        let mut known = keys.iter().filter(|key| key.version() == version).peekable();
        let of_version = |one: &&str| one.split_once(',').is_some_and(|(name, _)| name == version);
        let came: Vec<&str> = supplied.split(' ').filter(of_version).collect();
        if known.peek().is_none() || came.is_empty() {
            continue;
        }
        let is_right = |key: &WebhookKey| {
            let values = came.iter().filter_map(|one| one.split_once(','));
            let mut decoded = values.filter_map(|(_, value)| STANDARD.decode(value).ok());
            decoded.any(|bytes| key.is_of(&bytes, id, stamp, body))
        };
        if !known.any(is_right) {
            return Err(WebhookError::Mismatch(version));
        }
        checked = Some(version);
    }
    if checked.is_none() {
        return Err(WebhookError::Mismatch(keys.first().map_or("v1", WebhookKey::version)));
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
        assert_eq!(verify(&keys, &headers, b"{}", at), Err(WebhookError::Mismatch("v1")));
        assert_eq!(verify(&[other], &headers, body, at), Err(WebhookError::Mismatch("v1")));
        let missing = Err(WebhookError::Missing("webhook-id"));
        assert_eq!(verify(&keys, &HeaderMap::new(), body, at), missing);
        assert!(WebhookKey::parse("secret").is_err() && WebhookKey::parse("whsec_*").is_err());
    }

    /// Signs as the gateway does, with a shared secret and with a key of its own.
    #[test]
    fn a_signature_of_each_version_that_is_known_has_to_be_right() {
        let shared = WebhookKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let other = WebhookKey::parse("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        let own = SigningKey::from_seed(&[7; 32]).unwrap();
        let stranger = SigningKey::from_seed(&[8; 32]).unwrap();
        let (id, at, body) = ("evt_1", 1_700_000_000, &b"{}"[..]);
        let mut headers = shared.sign(id, at, body).unwrap();
        let v1 = headers["webhook-signature"].to_str().unwrap().to_owned();
        let v1a = STANDARD.encode(own.sign(&signed_text(id, &at.to_string(), body)));
        headers.insert("webhook-signature", format!("{v1} v1a,{v1a}").parse().unwrap());
        let public = |key: &SigningKey| WebhookKey::parse(&key.public_text()).unwrap();
        let right = |keys: &[WebhookKey]| verify(keys, &headers, body, at);
        assert_eq!(right(&[public(&own)]), Ok(()));
        assert_eq!(right(std::slice::from_ref(&shared)), Ok(()));
        assert_eq!(right(&[public(&stranger), public(&own), shared.clone()]), Ok(()));
        let wrong = Err(WebhookError::Mismatch("v1a"));
        assert_eq!(right(&[public(&stranger)]), wrong);
        assert_eq!(right(&[shared.clone(), public(&stranger)]), wrong);
        assert_eq!(right(&[other, public(&own)]), Err(WebhookError::Mismatch("v1")));
        assert_eq!(verify(&[public(&own)], &headers, b"{ }", at), wrong);
        // Nothing but `v1` came.
        headers.insert("webhook-signature", v1.parse().unwrap());
        assert_eq!(verify(&[public(&own)], &headers, body, at), wrong);
        assert_eq!(verify(&[public(&own), shared], &headers, body, at), Ok(()));
        assert!(WebhookKey::parse("whpk_AAAA").is_err());
        assert!(public(&own).sign(id, at, body).is_none());
    }
}
