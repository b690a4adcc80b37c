//! Private keys in a sender file: the signed text, and where the public keys are published.

use std::time::Duration;

use http::{HeaderName, Uri};

use super::token::TokenRule;
use super::{Chain, First, Reader};
use crate::sender::crypto::digest::Algorithm;
use crate::sender::crypto::key_set::KeyListForm;
use crate::sender::crypto::public_key::Scheme;
use crate::sender::language::file;
use crate::sender::language::text::{Spot, Strictness, Text};
use crate::sender::language::time;

/// Where a sender publishes its public keys.
#[derive(Debug)]
pub(in crate::sender) struct KeySet {
    /// `None`: each callback names the URL of a certificate.
    pub(in crate::sender) url: Option<Uri>,
    pub(in crate::sender) headers: Vec<(HeaderName, Text)>,
    pub(in crate::sender) form: KeyListForm,
    /// The longest time that it is kept.
    pub(in crate::sender) keep: Duration,
    /// The id that a callback names; the URL is that of a certificate.
    pub(in crate::sender) pick: Spot,
}

/// The default time for which a list of keys is kept.
pub(super) const KEEP: &str = "24h";

/// A signature that a private key makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) struct Public {
    pub(in crate::sender) scheme: Scheme,
    pub(in crate::sender) signs: Signs,
}

/// The input of a private key's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Signs {
    /// The text.
    Text,
    /// The output of the chain of digests.
    Bytes,
    /// The same, in hex.
    Hex,
}

impl Reader {
    pub(super) fn key_set(
        &mut self,
        set: file::KeySet,
        token: Option<&TokenRule>,
    ) -> Option<KeySet> {
        let url = set.url.parse::<Uri>().ok();
        let url = url.filter(|url| url.scheme_str() == Some("https") && url.host().is_some());
        if url.is_none() {
            self.fault("key_set.url", "is not an https URL", "write https://host/path");
        }
        let mut headers = Vec::new();
        for (name, text) in set.headers {
            let key = format!("key_set.headers.{name}");
            let text = self.text(&key, &text, Strictness::Strict);
            if text.spots().any(Spot::came) {
                self.fault(&key, "reads a callback", "there is none when keys are fetched");
            }
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => headers.push((name, text)),
                Err(_) => self.fault(&key, "is not a valid header name", "name a header"),
            }
        }
        let keep = set.keep.as_deref().unwrap_or(KEEP);
        let keep = time::duration_ms(keep).map(|ms| Duration::from_millis(ms.unsigned_abs()));
        if keep.is_none() {
            self.fault("key_set.keep", "is not a duration", "write 24h");
        }
        let written = (set.entries, set.id, set.key);
        let (form, pick) = match (set.form.as_deref(), written, token) {
            (Some("jwks"), (None, None, None), Some(token)) => {
                let algorithms = token.algorithms.iter().map(|one| one.name()).collect();
                if set.pick.is_some() {
                    self.fault("key_set.pick", "is not for tokens", "the header of a token picks");
                }
                (KeyListForm::Jwks { algorithms }, Some(token.key_id.clone()))
            }
            (None, (Some(entries), Some(id), Some(key)), _) => {
                let pick = set.pick.unwrap_or_default();
                let pick = self.text("key_set.pick", &pick, Strictness::Strict);
                let pick = pick.spots().next().filter(|_| pick.pieces.len() == 1).cloned();
                if pick.is_none() {
                    let remedy = "say where the key's id stands";
                    self.fault("key_set.pick", "is not one placeholder", remedy);
                }
                (KeyListForm::Members { entries, id, key }, pick)
            }
            _ => {
                let remedy = "write entries, id, key and pick; or form = \"jwks\", for a token";
                self.fault("key_set.form", "does not say how the list is written", remedy);
                return None;
            }
        };
        Some(KeySet { url: Some(url?), headers, form, keep: keep?, pick: pick? })
    }

    /// A chain that may end in a signature. Where that is over the text itself, the chain says how
    /// what was signed is remembered.
    pub(super) fn public(
        &mut self,
        key: &str,
        steps: &[String],
    ) -> (Option<Public>, Option<Chain>) {
        let last = steps.split_last();
        let scheme = last.and_then(|(last, rest)| Some((Scheme::from_name(last)?, rest)));
        let Some((scheme, rest)) = scheme else { return (None, self.chain(key, steps)) };
        let (signs, digests) = match rest {
            [] => {
                let with = Chain { first: First::Digest(Algorithm::Sha256), then: Vec::new() };
                return (Some(Public { scheme, signs: Signs::Text }), Some(with));
            }
            [digests @ .., last] if last == "hex" => (Signs::Hex, digests),
            digests => (Signs::Bytes, digests),
        };
        let chain = self.chain(key, digests);
        if chain.as_ref().is_some_and(|chain| matches!(chain.first, First::Keyed(_))) {
            self.fault(key, "signs an HMAC", "a private key signs the text or a plain digest");
        }
        (Some(Public { scheme, signs }), chain)
    }
}
