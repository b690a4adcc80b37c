//! Key sets: the request for a sender's public keys, and the parsing of the response.
//!
//! Nothing here fetches: `crate::keys` does, and hands what came of it to a callback as a value.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use rustls_pki_types::TrustAnchor;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use super::fetched_certificate::{CertificateError, CertificateRule, FetchedCertificate};
use super::public_key::PublicKey;
use crate::sender::acts::evaluate::{Context, ReplyValues};
use crate::sender::language::bound::{Bound, Gateway, Input};
use crate::sender::language::recipe::Recipe;
use crate::sender::language::text::Text;
use crate::sender::request::Request;

/// Keys of one list: the longest known has a handful.
pub const KEYS_MAX: usize = 64;

/// Bytes of a key's id: the known ones are numbers and short texts.
pub const KEY_ID_MAX: usize = 128;

/// Public keys by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: BTreeMap<Box<[u8]>, PublicKey>,
    left_out: usize,
}

/// The reason why a response is not a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySetError {
    /// Not JSON, or without such a list.
    NoList,
    /// More than [`KEYS_MAX`] entries.
    TooMany,
    /// Two keys have one id.
    Repeated,
    /// No usable key.
    NoKey,
    /// A private key, or a secret one: nothing that such a list has can be trusted.
    Private,
}

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoList => "the response is not JSON with the sender's list of keys",
            Self::TooMany => "the answer has more than 64 keys",
            Self::Repeated => "the answer has two keys under one id",
            Self::NoKey => "the answer has no key that can be used",
            Self::Private => "the answer has a private or secret key",
        })
    }
}

impl std::error::Error for KeySetError {}

impl KeySet {
    /// Takes written keys by their ids; those that cannot be read are left out.
    pub(in crate::sender) fn of<'k>(keys: impl IntoIterator<Item = (&'k str, &'k str)>) -> Self {
        let mut set = Self::default();
        for (id, written) in keys {
            match PublicKey::read(written.as_bytes()) {
                Some(key) => drop(set.keys.insert(id.as_bytes().into(), key)),
                None => set.left_out += 1,
            }
        }
        set
    }

    /// Whether it has a key of that id.
    #[must_use]
    pub fn knows(&self, id: &[u8]) -> bool {
        self.keys.contains_key(id)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of entries that are not a key of a kind that the sender signs with.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    pub(in crate::sender) fn get(&self, id: &[u8]) -> Option<&PublicKey> {
        self.keys.get(id)
    }

    pub(in crate::sender) fn all(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.values()
    }

    /// The set with the key of a certificate under its URL.
    #[must_use]
    pub fn with_certificate(&self, id: &[u8], certificate: &FetchedCertificate) -> Self {
        let mut set = self.clone();
        set.keys.insert(id.into(), certificate.key.clone());
        set
    }

    /// The set without the key of that id.
    #[must_use]
    pub fn without(&self, id: &[u8]) -> Self {
        let mut set = self.clone();
        set.keys.remove(id);
        set
    }

    /// Reads a JSON Web Key Set of any provider: its keys for signatures.
    ///
    /// # Errors
    /// A [`KeySetError`] if it is not one.
    pub fn of_jwks(answer: &[u8]) -> Result<Self, KeySetError> {
        let answer: Value = serde_json::from_slice(answer).map_err(|_| KeySetError::NoList)?;
        let list = answer.get("keys").and_then(Value::as_array).ok_or(KeySetError::NoList)?;
        if list.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        if list.iter().any(is_private) {
            return Err(KeySetError::Private);
        }
        let mut set = Self::default();
        for entry in list {
            let is_for_signatures = entry.get("use").is_none_or(|word| word == "sig");
            let id = entry.get("kid").map_or(Some(""), Value::as_str);
            let id = id.filter(|id| is_for_signatures && id.len() <= KEY_ID_MAX);
            let (Some(id), Some(key)) = (id, PublicKey::of_jwk(entry)) else {
                set.left_out += 1;
                continue;
            };
            if set.keys.insert(id.as_bytes().into(), key.clone()).is_some_and(|old| old != key) {
                return Err(KeySetError::Repeated);
            }
        }
        if set.is_empty() { Err(KeySetError::NoKey) } else { Ok(set) }
    }
}

/// Some servers write it in front of JSON, which RFC 8259 lets a reader ignore.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The list of one source's sender, and how it is read.
pub struct KeyList {
    /// The URL of the list; of certificates, a mirror of the hosts that publish them.
    pub(in crate::sender) url: Option<Uri>,
    pub(in crate::sender) origin: UrlOrigin,
    pub(in crate::sender) headers: Vec<(HeaderName, Text<Bound>)>,
    pub(in crate::sender) form: KeyListForm,
    pub(in crate::sender) keep: Duration,
    pub(in crate::sender) pick: Bound,
    pub(in crate::sender) kinds: SmallVec<[super::public_key::KeyKind; 2]>,
    pub(in crate::sender) identity: [u8; 32],
}

/// How a list is written.
#[derive(Clone, Debug)]
pub(in crate::sender) enum KeyListForm {
    /// A list of objects: the member of the answer that is the list, and those of an entry that are
    /// its id and its key.
    Members { entries: String, id: String, key: String },
    /// A JSON Web Key Set (RFC 7517), and the algorithms that its keys may be for.
    Jwks { algorithms: Vec<&'static str> },
    /// Certificates, each at the URL that callbacks name as its id.
    Certificates(Box<CertificateRule>),
}

/// Who wrote the URL of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlOrigin {
    /// The sender's file.
    Sender,
    /// The source, as `key_set_url`.
    Source,
}

/// A request for a list, to be sent as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// Where it goes.
    pub url: Uri,
    /// The headers; they may authenticate the request.
    pub headers: HeaderMap,
}

// A URL that a source is given may hold a secret, and so may what proves who asks.
impl fmt::Debug for KeyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyList").field("host", &self.host()).finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRequest").field("host", &self.url.host()).finish_non_exhaustive()
    }
}

impl KeyList {
    /// The identity of a list: sources with the same sender, URL and settings share it. Secrets are
    /// not part of it: a new secret keeps the cached keys.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        self.identity
    }

    /// The longest time that it is kept.
    #[must_use]
    pub fn keep(&self) -> Duration {
        self.keep
    }

    /// Host and port that it is fetched from; the rest of a URL may hold a secret.
    #[must_use]
    pub fn host(&self) -> &str {
        match (&self.url, &self.form) {
            (Some(url), _) => url.authority().map_or("", |authority| authority.as_str()),
            (None, KeyListForm::Certificates(rule)) => rule.pins.host(),
            (None, _) => "",
        }
    }

    /// Whether its keys are those of certificates, fetched when a callback names one.
    #[must_use]
    pub fn is_of_certificates(&self) -> bool {
        matches!(self.form, KeyListForm::Certificates(_))
    }

    /// Whether a callback may name a key of that id.
    pub(in crate::sender) fn allows(&self, id: &[u8]) -> bool {
        match &self.form {
            KeyListForm::Certificates(rule) => id.len() <= KEY_ID_MAX && rule.pins.allow(id),
            KeyListForm::Members { .. } | KeyListForm::Jwks { .. } => true,
        }
    }

    /// Reads the response to [`Recipe::certificate_request`]; `web` are the authorities that TLS
    /// trusts.
    ///
    /// # Errors
    /// Why the certificate does not count.
    pub fn read_certificate(
        &self,
        response: &[u8],
        now_ms: i64,
        web: &[TrustAnchor<'_>],
    ) -> Result<FetchedCertificate, CertificateError> {
        let KeyListForm::Certificates(rule) = &self.form else {
            return Err(CertificateError::NotPem);
        };
        let found = rule.read(response, now_ms, web)?;
        let fits = self.kinds.contains(&found.key.kind());
        if fits { Ok(found) } else { Err(CertificateError::Key) }
    }

    /// Who wrote its URL.
    #[must_use]
    pub fn origin(&self) -> UrlOrigin {
        self.origin
    }

    /// Reads the response to a [`KeyRequest`].
    ///
    /// # Errors
    /// A [`KeySetError`] if it is not a list of keys. Unknown entries are ignored: senders publish
    /// keys of kinds that they do not sign with yet.
    pub fn read(&self, answer: &[u8]) -> Result<KeySet, KeySetError> {
        let answer = answer.strip_prefix(BYTE_ORDER_MARK).unwrap_or(answer);
        let answer: Value = serde_json::from_slice(answer).map_err(|_| KeySetError::NoList)?;
        let entries = match &self.form {
            KeyListForm::Members { entries, .. } => entries,
            KeyListForm::Jwks { .. } => "keys",
            KeyListForm::Certificates(_) => return Err(KeySetError::NoList),
        };
        let list = answer.get(entries).and_then(Value::as_array);
        let list = list.ok_or(KeySetError::NoList)?;
        if list.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        if matches!(self.form, KeyListForm::Jwks { .. }) && list.iter().any(is_private) {
            return Err(KeySetError::Private);
        }
        let mut set = KeySet::default();
        for entry in list {
            let Some((id, key)) = self.entry(entry) else {
                set.left_out += 1;
                continue;
            };
            let before = set.keys.insert(id.into_bytes().into(), key.clone());
            if before.is_some_and(|before| before != key) {
                return Err(KeySetError::Repeated);
            }
        }
        if set.is_empty() { Err(KeySetError::NoKey) } else { Ok(set) }
    }

    fn entry(&self, entry: &Value) -> Option<(String, PublicKey)> {
        let (id, key) = match &self.form {
            KeyListForm::Members { id, key, .. } => {
                let id = match entry.get(id)? {
                    Value::String(text) => text.clone(),
                    Value::Number(number) if number.is_u64() => number.to_string(),
                    _ => return None,
                };
                (id, PublicKey::read(entry.get(key)?.as_str()?.as_bytes())?)
            }
            KeyListForm::Jwks { algorithms } => {
                let word = |name: &str| entry.get(name).map(|value| value.as_str().unwrap_or(""));
                let is_for = word("use").is_none_or(|word| word == "sig")
                    && word("alg").is_none_or(|word| algorithms.contains(&word));
                let key = PublicKey::of_jwk(entry).filter(|_| is_for)?;
                (entry.get("kid")?.as_str()?.to_owned(), key)
            }
            KeyListForm::Certificates(_) => return None,
        };
        let sound = !id.is_empty() && id.len() <= KEY_ID_MAX && self.kinds.contains(&key.kind());
        sound.then_some((id, key))
    }
}

/// Whether an entry of a JSON Web Key Set is more than public.
fn is_private(entry: &Value) -> bool {
    entry.get("d").is_some() || entry.get("k").is_some() || entry.get("kty") == Some(&"oct".into())
}

/// The identity of a list.
pub(in crate::sender) fn identity<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

impl Recipe {
    /// The list of public keys that its callbacks are verified with, where its sender has one.
    #[must_use]
    pub fn key_list(&self) -> Option<&KeyList> {
        self.key_list.as_ref()
    }

    /// The requests for its list at `now_ms`, of which the first that is answered counts: one, or
    /// one for each live secret where the request is signed.
    #[must_use]
    pub fn key_requests(&self, now_ms: i64) -> Vec<KeyRequest> {
        let Some(list) = &self.key_list else { return Vec::new() };
        let Some(url) = list.url.as_ref().filter(|_| !list.is_of_certificates()) else {
            return Vec::new();
        };
        let live = self.live_secrets(now_ms);
        let mut requests: Vec<KeyRequest> = Vec::new();
        for secret in live.map(Some).chain(self.secrets.is_empty().then_some(None)) {
            let headers = self.key_headers(list, secret, now_ms);
            let request = headers.map(|headers| KeyRequest { url: url.clone(), headers });
            if let Some(request) = request.filter(|request| !requests.contains(request)) {
                requests.push(request);
            }
        }
        requests
    }

    /// The request for the certificate whose URL a callback names; `None` if no callback may name
    /// it. From a mirror, it is the path of the URL below that of the mirror.
    #[must_use]
    pub fn certificate_request(&self, id: &[u8]) -> Option<KeyRequest> {
        let list = self.key_list.as_ref().filter(|list| list.is_of_certificates())?;
        let named = std::str::from_utf8(id).ok().filter(|_| list.allows(id))?;
        let named: Uri = named.parse().ok()?;
        let url = match &list.url {
            None => named,
            Some(mirror) => {
                let base = mirror.to_string();
                format!("{}{}", base.trim_end_matches('/'), named.path()).parse().ok()?
            }
        };
        Some(KeyRequest { url, headers: HeaderMap::new() })
    }

    /// The places of the secrets that have not ended.
    fn live_secrets(&self, now_ms: i64) -> impl Iterator<Item = usize> {
        let live = move |until: Option<i64>| until.is_none_or(|until| until > now_ms);
        self.secrets
            .iter()
            .enumerate()
            .filter_map(move |(index, secret)| live(secret.until_ms).then_some(index))
    }

    fn key_headers(&self, list: &KeyList, secret: Option<usize>, now_ms: i64) -> Option<HeaderMap> {
        let nothing = HeaderMap::new();
        let request =
            Request { method: &Method::GET, target: b"/", base: "", headers: &nothing, body: b"" };
        let callback = self.read(request, now_ms);
        let countersign = secret.map_or_else(String::new, |index| callback.countersigned(index));
        let said = ReplyValues {
            reason: None,
            at_ms: now_ms,
            countersign: &countersign,
            code: "",
            event_id: None,
        };
        let bytes = secret.and_then(|index| self.secrets.get(index));
        let bytes = bytes.map_or(&[][..], |secret| secret.value.expose());
        let context = Context { secret: bytes, said: Some(&said), ..Context::default() };
        let mut headers = HeaderMap::new();
        for (name, text) in &list.headers {
            let mut value = Vec::new();
            callback.put(text, &context, &mut value).ok()?;
            let mut value = HeaderValue::from_bytes(&value).ok()?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        Some(headers)
    }
}

/// Whether a key's text is the key that the list has under the id that a callback names.
pub(in crate::sender) fn is_from_list(key: &Text<Bound>) -> bool {
    use crate::sender::language::text::Piece;
    matches!(
        key.pieces.as_slice(),
        [Piece::Value(Bound { input: Input::Gateway(Gateway::PublicKey), modifiers, .. })]
            if modifiers.is_empty()
    )
}
