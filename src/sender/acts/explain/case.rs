//! A case: one variant of one callback, to be tried under changed texts, secrets and digests.

use std::borrow::Cow;
use std::time::Instant;

use crate::sender::acts::evaluate::Context;
use crate::sender::acts::explain::Mistake;
use crate::sender::acts::explain::draft::{self, Draft};
use crate::sender::acts::signature::{self, Keys, Public, Redundancy, SignatureVariant};
use crate::sender::crypto::digest::{Algorithm, Feed, Output, Start};
use crate::sender::crypto::public_key::{PublicKey, Scheme};
use crate::sender::language::bound::{Bound, Gate, Gateway, Input};
use crate::sender::language::definition::{Chain, First, Signs};
use crate::sender::language::recipe::Recipe;
use crate::sender::language::text::Piece;
use crate::sender::request::Request;
use crate::sender::request::callback::{self, Callback};
use crate::sender::request::encoding::Sink as _;

/// Digests that one explanation may cost: about a millisecond's work for a usual text.
pub const DIGESTS_MAX: usize = 4096;

/// Digests that a check under a public key counts for: with all of them that is some 20 ms.
const PUBLIC_COST: usize = 16;

/// Bytes that one explanation may read, compose and hash: some 100 ms' work. With all digests,
/// texts of 8 KiB are tried under everything.
pub(super) const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of the largest request that mistakes are searched for: one step of the search takes
/// milliseconds with it, so that the budget is looked at often enough.
pub(super) const SEARCHED_BYTES_MAX: usize = 64 * 1024;

/// The end of the time for an explanation. The caller brings the clock: this module reads none.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The end.
    pub at: Instant,
    /// The monotonic clock.
    pub clock: fn() -> Instant,
}

impl Deadline {
    fn is_over(self) -> bool {
        (self.clock)() >= self.at
    }
}

/// The remaining budget of one explanation: all of its parts spend the same.
#[derive(Debug)]
pub(super) struct Budget {
    digests: usize,
    /// Bytes to be read, composed or hashed; none are left once the time is over.
    bytes: usize,
    deadline: Option<Deadline>,
    /// The text that matched last, secrets masked.
    matched: Option<Vec<u8>>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { digests: DIGESTS_MAX, bytes: BYTES_MAX, deadline: None, matched: None }
    }
}

impl Budget {
    /// The whole budget, for the time until `deadline`.
    pub(super) fn until(deadline: Option<Deadline>) -> Self {
        Self { deadline, ..Self::default() }
    }

    /// The result of a `search` that has so many digests of its own. Bytes and time are those of
    /// the whole explanation.
    pub(super) fn apart<R>(&mut self, digests: usize, search: impl FnOnce(&mut Self) -> R) -> R {
        let kept = std::mem::replace(&mut self.digests, digests);
        let found = search(self);
        self.digests = kept;
        found
    }

    /// Takes the cost of reading or composing `len` bytes; whether there was enough left.
    pub(super) fn work(&mut self, len: usize) -> bool {
        let is_over = self.deadline.is_some_and(Deadline::is_over);
        self.bytes = if is_over { 0 } else { self.bytes.saturating_sub(len) };
        !self.is_spent()
    }

    /// Whether bytes or time were not enough, so that usual mistakes may be untried.
    pub(super) fn was_cut_short(&self) -> bool {
        self.bytes == 0
    }

    /// The mistake that `search` finds, with the text under which the signature that came is right.
    pub(super) fn traced(
        &mut self,
        search: impl FnOnce(&mut Self) -> Option<Mistake>,
    ) -> Option<Mistake> {
        self.matched = None;
        let found = search(self)?;
        let text = self.matched().map(|text| String::from_utf8_lossy(&text).into_owned());
        Some(Mistake { text, ..found })
    }

    /// Takes the text that matched last.
    pub(super) fn matched(&mut self) -> Option<Vec<u8>> {
        self.matched.take()
    }

    /// Takes the cost of one digest of `len` bytes; whether there was enough left.
    fn spend(&mut self, len: usize) -> bool {
        let enough = self.work(len);
        self.digests = self.digests.saturating_sub(1);
        enough
    }

    /// Takes the cost of one check of a text of `len` bytes under a public key.
    pub(super) fn spend_public(&mut self, len: usize) -> bool {
        let enough = self.digests >= PUBLIC_COST;
        self.digests = self.digests.saturating_sub(PUBLIC_COST - 1);
        enough && self.spend(len)
    }

    /// Whether nothing more can be tried.
    pub(super) fn is_spent(&self) -> bool {
        self.digests == 0 || self.bytes == 0
    }
}

/// Whether `request` is too large for a search.
pub(super) fn is_large(request: &Request<'_>) -> bool {
    let headers = request.headers.iter();
    let head: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
    request.target.len() + head + request.body.len() > SEARCHED_BYTES_MAX
}

/// One variant of one callback.
#[derive(Debug)]
pub(super) struct Case<'c> {
    /// The callback.
    pub(super) callback: &'c Callback<'c>,
    /// The variant.
    pub(super) variant: &'c SignatureVariant,
    /// The signed text.
    pub(super) draft: Draft,
    /// The signatures that came, as written.
    pub(super) supplied_signatures: Vec<Vec<u8>>,
    /// Possible keys: the live secrets, or the setting that is the key.
    pub(super) materials: Vec<&'c [u8]>,
}

impl<'c> Case<'c> {
    /// The variants that would decide on `callback`: those of the first supplied signature that
    /// came.
    pub(super) fn all(callback: &'c Callback<'c>) -> Vec<Self> {
        let mut decided = None;
        let mut cases = Vec::new();
        for variant in &callback.recipe.variants {
            let another = decided.is_some_and(|group| group != variant.supplied_group);
            let idle = variant.twin == Redundancy::OfPlus && !callback.parameters.plus;
            let holds = matches!(variant.when, Gate::Always) || callback.holds(&variant.when);
            if another || idle || !holds {
                continue;
            }
            if let Some(case) = Self::of(callback, variant) {
                decided = Some(variant.supplied_group);
                cases.push(case);
            }
        }
        cases
    }

    /// The case of `variant`; `None` where its text cannot be made or no supplied signature of it
    /// came.
    pub(super) fn of(callback: &'c Callback<'c>, variant: &'c SignatureVariant) -> Option<Self> {
        let supplied_signatures = supplied_signatures(callback, variant);
        if supplied_signatures.is_empty() {
            return None;
        }
        let draft = Draft::of(callback, variant)?;
        let listed = variant.public.as_ref().is_some_and(Public::is_listed);
        let materials = match setting(variant) {
            // The key of a key set is not a secret, and there is one.
            None if listed => vec![&[][..]],
            Some(setting) => vec![setting],
            None => live_secrets(callback.recipe, callback.now_ms),
        };
        Some(Self { callback, variant, draft, supplied_signatures, materials })
    }

    /// Whether the supplied signature equals the digest of `draft` under one of the case's secrets.
    pub(super) fn matches(&self, draft: &Draft, budget: &mut Budget) -> bool {
        self.materials.iter().any(|material| self.matches_under(draft, material, budget))
    }

    /// Whether the supplied signature equals the digest of `draft` under `material`.
    pub(super) fn matches_under(
        &self,
        draft: &Draft,
        material: &[u8],
        budget: &mut Budget,
    ) -> bool {
        // Composing a text costs about as much as hashing it.
        if budget.is_spent() {
            return false;
        }
        let text = draft.written(material).filter(|text| budget.work(text.len()));
        let key = self.key(material);
        let says = match (text, key) {
            (Some(text), Some(key)) => self.says(&text, &key, budget),
            _ => false,
        };
        if says {
            budget.matched = draft.masked(material);
        }
        says
    }

    /// Whether the supplied signature equals the digest of `text` under `key`.
    pub(super) fn says(&self, text: &[u8], key: &[u8], budget: &mut Budget) -> bool {
        if let Some(public) = &self.variant.public {
            return self.is_signed(public, text, key, budget);
        }
        match self.output(&self.variant.with, text, key, budget) {
            Some(output) => {
                self.supplied_signatures.iter().any(|one| self.variant.matches(&output, one))
            }
            None => false,
        }
    }

    fn is_signed(&self, public: &Public, text: &[u8], key: &[u8], budget: &mut Budget) -> bool {
        let Some(key) = self.public_key(public, key) else { return false };
        let Some(message) = self.message(public.signs, text, budget) else { return false };
        self.supplied_signatures.iter().any(|supplied| {
            budget.spend_public(message.len())
                && public.is_signature(self.variant, &key, &message, supplied)
        })
    }

    /// The public key that the rule makes of `key`, or the one that the callback names.
    pub(super) fn public_key(&self, public: &Public, key: &[u8]) -> Option<PublicKey> {
        match &public.keys {
            Keys::List => self.callback.listed_key().ok().cloned(),
            Keys::Certificates(_) => None,
            Keys::Secrets(_) => PublicKey::read_for(public.scheme, key),
        }
    }

    /// The signed part of `text`.
    pub(super) fn message(
        &self,
        signs: Signs,
        text: &[u8],
        budget: &mut Budget,
    ) -> Option<Vec<u8>> {
        if signs == Signs::Text {
            return Some(text.to_vec());
        }
        let output = self.output(&self.variant.with, text, b"", budget)?;
        Some(signature::message(signs, &output).to_vec())
    }

    /// Whether `supplied` is a signature of `message` by another scheme.
    pub(super) fn is_signed_by(
        &self,
        scheme: Scheme,
        key: &PublicKey,
        message: &[u8],
        budget: &mut Budget,
    ) -> bool {
        self.supplied_signatures.iter().any(|supplied| {
            budget.spend_public(message.len())
                && self.variant.is_signature(scheme, key, message, supplied)
        })
    }

    /// The digest of `text` by `chain` under `key`; `None` when the budget is spent.
    pub(super) fn output(
        &self,
        chain: &Chain,
        text: &[u8],
        key: &[u8],
        budget: &mut Budget,
    ) -> Option<Output> {
        if !budget.spend(text.len()) {
            return None;
        }
        let keyed;
        let start = match chain.first {
            First::Digest(algorithm) => Start::Plain(algorithm),
            First::Equal => Start::Plain(Algorithm::Sha256),
            First::Keyed(algorithm) => {
                keyed = algorithm.keyed(key)?;
                Start::Keyed(&keyed)
            }
        };
        let mut feed = Feed::new(start);
        feed.put(text);
        Some(signature::chained(feed.finish(), &chain.then))
    }

    /// The key that the rule makes of `material`; empty where it has none.
    pub(super) fn key(&self, material: &[u8]) -> Option<Vec<u8>> {
        let needed = match &self.variant.public {
            Some(public) => !public.is_listed(),
            None => self.is_keyed(),
        };
        if !needed {
            return Some(Vec::new());
        }
        let mut key = Vec::new();
        let own = setting(self.variant).is_some();
        for piece in &self.variant.key.pieces {
            match piece {
                Piece::Literal(bytes) => key.extend_from_slice(bytes),
                Piece::Value(spot) => {
                    let value = match &spot.input {
                        Input::Gateway(Gateway::Secret) => material,
                        Input::Setting(_) if own => material,
                        Input::Setting(value) => value.expose(),
                        _ => return None,
                    };
                    key.extend_from_slice(&draft::modified(value, &spot.modifiers)?);
                }
                Piece::Optional(_) => return None,
            }
        }
        Some(key)
    }

    /// Whether the rule is an HMAC.
    pub(super) fn is_keyed(&self) -> bool {
        matches!(self.variant.with.first, First::Keyed(_))
    }

    /// The text under `secret`, or under the first there is, which is masked in it.
    pub(super) fn masked(&self, secret: Option<&[u8]>) -> Option<Vec<u8>> {
        let first = self.materials.first().copied();
        self.draft.masked(secret.or(first).unwrap_or_default())
    }
}

/// The setting that is the key of `variant`, where its key does not read the secret.
fn setting(variant: &SignatureVariant) -> Option<&[u8]> {
    let mut settings = variant.key.spots().map(|spot| match &spot.input {
        Input::Setting(value) => Some(value.expose()),
        _ => None,
    });
    match (settings.next(), settings.next()) {
        (Some(Some(setting)), None) => Some(setting),
        _ => None,
    }
}

/// The secrets of `recipe` that have not ended.
pub(super) fn live_secrets(recipe: &Recipe, now_ms: i64) -> Vec<&[u8]> {
    recipe
        .secrets
        .iter()
        .filter(|secret| secret.until_ms.is_none_or(|until| until > now_ms))
        .map(|secret| secret.value.expose())
        .collect()
}

/// The signatures that came for `variant`, as written.
pub(super) fn supplied_signatures(
    callback: &Callback<'_>,
    variant: &SignatureVariant,
) -> Vec<Vec<u8>> {
    let context = Context { plus: callback::supplied_plus(variant), ..Context::default() };
    if let Input::List { list, item } = &variant.supplied.input {
        let text = callback.list_text(*list, &context).ok().flatten().unwrap_or(Cow::Borrowed(b""));
        let shape = &callback.recipe.sender.lists[*list].shape;
        let all = shape.values(&text, item, callback::SUPPLIED_MAX);
        return all.map(<[u8]>::to_vec).collect();
    }
    let bare = Bound { modifiers: Box::default(), ..variant.supplied.clone() };
    let supplied = match callback.value(&variant.supplied, &context) {
        Ok(supplied) => supplied,
        // A supplied signature may lack its prefix: use it as written.
        Err(_) => callback.value(&bare, &context).ok().flatten(),
    };
    supplied.map(Cow::into_owned).into_iter().collect()
}
