//! The keys that sign deliveries: `sign` of a destination, and `[egress] signing_key`.
//!
//! A backend that verifies `v1` has to keep a shared secret. A key of the gateway (`v1a`, Ed25519)
//! has a public half, which verifies and cannot sign. Each destination has keys of its own, made
//! from those of the gateway: what is signed for one proves nothing to another.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::hkdf;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

use super::file::{Item, Read, Section, ValueError};
use super::{Format, secret, unit};
use crate::sender::Secret;

/// Bytes of the private half.
const SEED_BYTES: usize = 32;

const WHSK: &str = "whsk_";
const WHPK: &str = "whpk_";

const REMEDY: &str = "make one: echo \"whsk_$(openssl rand -base64 32)\"";

/// A way to sign deliveries, as Standard Webhooks names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// HMAC-SHA256 with the destination's secrets.
    V1,
    /// Ed25519 with the gateway's keys.
    V1a,
}

const VERSIONS: &[(&str, Version)] = &[("v1", Version::V1), ("v1a", Version::V1a)];

/// A key of the gateway, or of one destination. Only its public half is ever shown.
#[derive(Clone)]
pub struct SigningKey(Arc<Seeded>);

/// A pair of keys, and the seed from which those of destinations are made.
struct Seeded {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; SEED_BYTES]>,
}

/// The salt of the keys of destinations: another one makes other keys of the same seed.
const SALT: &[u8] = b"postern destination key 1";

/// The length of a seed, as HKDF asks for it.
struct SeedLength;

impl hkdf::KeyType for SeedLength {
    fn len(&self) -> usize {
        SEED_BYTES
    }
}

impl SigningKey {
    /// The key that `seed` makes; `None`: it does not have 32 bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let seed = Zeroizing::new(<[u8; SEED_BYTES]>::try_from(seed).ok()?);
        Some(Self(Arc::new(Seeded { pair, seed })))
    }

    /// The key of the destination `name` that wants events in `format`: HKDF-SHA256 (RFC 5869) of
    /// the seed. A destination that changes its format has another key.
    #[must_use]
    pub fn of_destination(&self, name: &str, format: Format) -> Option<Self> {
        // No format has a NUL in its word.
        let info = [format.as_str().as_bytes(), b"\0", name.as_bytes()];
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT);
        let made = salt.extract(&*self.0.seed);
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        made.expand(&info, SeedLength).ok()?.fill(&mut *seed).ok()?;
        Self::from_seed(&*seed)
    }

    /// The Ed25519 signature of `text`.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        // Ed25519 signatures have 64 bytes.
        for (to, from) in bytes.iter_mut().zip(self.0.pair.sign(text).as_ref()) {
            *to = *from;
        }
        bytes
    }

    /// Its public half.
    #[must_use]
    pub fn public_bytes(&self) -> &[u8] {
        self.0.pair.public_key().as_ref()
    }

    /// Its public half as Standard Webhooks writes it, `whpk_…`.
    #[must_use]
    pub fn public_text(&self) -> String {
        format!("{WHPK}{}", STANDARD.encode(self.public_bytes()))
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.public_bytes() == other.public_bytes()
    }
}

impl Eq for SigningKey {}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public_text()).finish()
    }
}

/// The key behind `whsk_`: the seed, or the seed and the public half that belongs to it.
pub(super) fn key(item: &Item<'_>) -> Read<SigningKey> {
    let secret = secret::secret(item)?;
    let text = std::str::from_utf8(secret.expose()).ok().and_then(|text| text.strip_prefix(WHSK));
    let text = text.ok_or_else(|| ValueError::new("does not begin with whsk_", REMEDY))?;
    let bytes = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| ValueError::new("is not base64 after whsk_", REMEDY))?;
    let (seed, public) = bytes.split_at(bytes.len().min(SEED_BYTES));
    let key =
        SigningKey::from_seed(seed).filter(|key| public.is_empty() || public == key.public_bytes());
    key.ok_or_else(|| {
        let what = "is not an Ed25519 key: 32 bytes, or 64 with its public half";
        ValueError::new(what, REMEDY)
    })
}

/// The keys of the destination `name`, made from `keys` of the gateway.
pub(crate) fn of_destination(keys: &[SigningKey], name: &str, format: Format) -> Vec<SigningKey> {
    keys.iter().filter_map(|key| key.of_destination(name, format)).collect()
}

/// The keys among `keys` that a destination's `sign` asks for. Takes its `secrets` away where it
/// leaves `v1` out.
pub(super) fn sign(
    section: &Section<'_>,
    keys: &[SigningKey],
    secrets: &mut Vec<Secret>,
) -> Vec<SigningKey> {
    let Some(versions) = section.list("sign", unit::word(VERSIONS)) else { return Vec::new() };
    if versions.is_empty() && !section.is_faulty("sign") {
        section.fault("sign", "is an empty list", "omit it, or write sign = [\"v1\", \"v1a\"]");
    }
    let has = |version| versions.contains(&version);
    if has(Version::V1) && !section.has("secret") {
        let remedy = "write secret = \"env:…\", or sign = \"v1a\" alone";
        section.fault("sign", "has v1, which needs a secret", remedy);
    }
    if !has(Version::V1) && section.has("secret") {
        section.warning("secret", "is not used: sign does not have v1", "omit one of the two");
        secrets.clear();
    }
    if !has(Version::V1a) {
        return Vec::new();
    }
    if keys.is_empty() {
        let remedy = format!("write [egress] signing_key = \"env:…\"; {REMEDY}");
        section.fault("sign", "has v1a, and the gateway has no signing key", remedy);
    }
    keys.to_vec()
}
