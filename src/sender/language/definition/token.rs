//! Tokens in a sender file: `[jws]`.
//!
//! A token is a signature over its own header and payload. `[jws]` makes the variant that verifies
//! it, and, if it is the message, the opening of its payload: both read the parts of one value.

use std::collections::BTreeMap;

use super::reader::Reader;
use super::{
    Chain, Cipher, First, Open, Plus, Public, Reads, Roles, SignatureVariant, Signs, Writing,
};
use crate::sender::crypto::certificate::{self, CHAIN_MAX, ChainRule, VerifiedChains};
use crate::sender::crypto::digest::Algorithm;
use crate::sender::crypto::jws::{JwsAlgorithm, TokenPart};
use crate::sender::language::file;
use crate::sender::language::modifier::Modifier;
use crate::sender::language::text::{Piece, Spot, Strictness, Text};

/// A token that a callback brings.
#[derive(Debug)]
pub(in crate::sender) struct TokenRule {
    /// The token.
    of: Spot,
    /// The id of its key.
    pub(in crate::sender) key_id: Spot,
    /// The algorithms that its header may name.
    pub(in crate::sender) algorithms: Vec<JwsAlgorithm>,
    pub(in crate::sender) key: TokenKey,
    /// The type that its header must have.
    pub(in crate::sender) kind: Option<String>,
    pub(in crate::sender) meaning: TokenMeaning,
    /// Members of the message that are tokens by the same rule.
    pub(in crate::sender) also: Vec<Box<[Box<str>]>>,
    /// Its claims.
    pub(in crate::sender) claims: Vec<(String, Claim)>,
}

/// Where the key of a token comes from.
#[derive(Clone, Debug)]
pub(in crate::sender) enum TokenKey {
    /// Certificates in its header that lead to a pinned root.
    Certificates(ChainRule),
    /// The sender's list of keys.
    List,
    /// The secret of the source.
    Secret(Text),
}

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum TokenMeaning {
    /// The message: its claims are the parameters.
    Message,
    /// The proof of who sends a message that it does not cover.
    Bearer,
}

/// The value that a claim has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Claim {
    /// One of these words.
    Words(Vec<String>),
    /// The value of a setting.
    Setting(String),
    /// `true`.
    True,
}

impl TokenRule {
    /// The variants that verify it, one for each algorithm.
    pub(super) fn variants(&self) -> Vec<SignatureVariant> {
        self.algorithms.iter().map(|algorithm| self.variant(*algorithm)).collect()
    }

    fn variant(&self, algorithm: JwsAlgorithm) -> SignatureVariant {
        let public = algorithm.scheme().map(|scheme| Public { scheme, signs: Signs::Text });
        let first = match public {
            Some(_) => First::Digest(Algorithm::Sha256),
            None => First::Keyed(Algorithm::Sha256),
        };
        let key = match &self.key {
            TokenKey::Secret(text) => text.clone(),
            TokenKey::List => Text::parse("[public_key]", Strictness::Strict).unwrap_or_default(),
            TokenKey::Certificates(_) => Text::default(),
        };
        SignatureVariant {
            why: None,
            of: self.part(TokenPart::Signed),
            with: Chain { first, then: Vec::new() },
            public,
            key,
            r#in: with_part(&self.of, TokenPart::Signature),
            r#as: Writing::Base64Url,
            cut: None,
            when: Vec::new(),
            plus: Plus::Space,
            roles: Roles::default(),
            sorted: Vec::new(),
            pairs: None,
            token: Some(algorithm),
        }
    }

    /// The opening of its payload, if it is the message.
    pub(super) fn opening(&self) -> Option<Open> {
        (self.meaning == TokenMeaning::Message).then(|| Open {
            of: vec![self.part(TokenPart::Payload)],
            with: Cipher::None,
            key: Text::default(),
            frame: None,
            when: Vec::new(),
            reads: vec![Reads::Json],
        })
    }

    /// The text that is one part of it.
    pub(in crate::sender) fn part(&self, part: TokenPart) -> Text {
        Text { pieces: vec![Piece::Value(with_part(&self.of, part))] }
    }

    /// Whether everybody gets tokens that verify under the same key, and nothing says whose this
    /// one is.
    pub(super) fn is_for_anybody(&self) -> bool {
        let is_setting = |(_, claim): &(String, Claim)| matches!(claim, Claim::Setting(_));
        !matches!(self.key, TokenKey::Secret(_)) && !self.claims.iter().any(is_setting)
    }
}

fn with_part(of: &Spot, part: TokenPart) -> Spot {
    let mut spot = of.clone();
    spot.modifiers.push(Modifier::Token(part));
    spot
}

const KEYS: &str = "use \"x5c\", \"list\", or a text of the secret: \"[secret]\"";

impl Reader {
    pub(super) fn token(&mut self, jws: &file::Jws) -> Option<TokenRule> {
        let of = self.spot("jws.of", &jws.of);
        let algorithms = self.algorithms(&jws.alg.to_vec());
        let key = self.token_key(jws, &algorithms);
        let meaning = match jws.r#as.as_str() {
            "body" => TokenMeaning::Message,
            "bearer" => TokenMeaning::Bearer,
            other => {
                let remedy = "use body, if its claims are the message, or bearer";
                self.fault("jws.as", &format!("`{other}`"), remedy);
                TokenMeaning::Bearer
            }
        };
        let mut also = Vec::new();
        for text in jws.also.to_vec() {
            let spot = self.spot("jws.also", &format!("{{{text}}}"));
            also.extend(spot.map(|spot| spot.steps));
        }
        let is_secret = matches!(key, Some(TokenKey::Secret(_)));
        if !also.is_empty() && (meaning == TokenMeaning::Bearer || is_secret) {
            let remedy = "write it where a token with a public key is the message";
            self.fault("jws.also", "does not fit `as` or `key`", remedy);
        }
        let claims = jws.claims.iter().filter_map(|(name, value)| {
            let claim = self.claim(name, value)?;
            Some((name.clone(), claim))
        });
        let claims = claims.collect();
        let of = of?;
        let key_id = with_part(&of, TokenPart::KeyId);
        let kind = jws.typ.clone();
        Some(TokenRule { of, key_id, algorithms, key: key?, kind, meaning, also, claims })
    }

    fn algorithms(&mut self, names: &[String]) -> Vec<JwsAlgorithm> {
        let mut algorithms = Vec::new();
        for name in names {
            match JwsAlgorithm::from_name(name) {
                Some(algorithm) => algorithms.push(algorithm),
                None => self.fault(
                    "jws.alg",
                    &format!("`{name}`"),
                    "use RS256, PS256, ES256, ES384, EdDSA or HS256",
                ),
            }
        }
        if algorithms.is_empty() {
            self.fault("jws.alg", "is missing", "pin the algorithm: the token does not choose it");
        }
        algorithms
    }

    fn token_key(&mut self, jws: &file::Jws, algorithms: &[JwsAlgorithm]) -> Option<TokenKey> {
        let is_shared = algorithms == [JwsAlgorithm::Hs256];
        if !is_shared && algorithms.contains(&JwsAlgorithm::Hs256) {
            let remedy = "a public key is never the key of an HMAC: write HS256 alone";
            self.fault("jws.alg", "mixes HS256 with private keys", remedy);
        }
        let has_chain =
            jws.chain.is_some() || !jws.roots.to_vec().is_empty() || !jws.oids.is_empty();
        if has_chain && jws.key != "x5c" {
            self.fault("jws.chain", "is of certificates alone", "write key = \"x5c\"");
        }
        match jws.key.as_str() {
            "x5c" if !is_shared => self.certificates(jws).map(TokenKey::Certificates),
            "list" if !is_shared => Some(TokenKey::List),
            text if is_shared && text.contains("[secret") => {
                Some(TokenKey::Secret(self.text("jws.key", text, Strictness::Strict)))
            }
            _ => {
                self.fault("jws.key", "does not fit the algorithm", KEYS);
                None
            }
        }
    }

    fn certificates(&mut self, jws: &file::Jws) -> Option<ChainRule> {
        let mut roots = Vec::new();
        for (index, written) in jws.roots.to_vec().iter().enumerate() {
            match certificate::read_root(written) {
                Some(root) => roots.push(root),
                None => self.fault(
                    format!("jws.roots[{index}]"),
                    "is not a certificate",
                    "write the whole root: PEM, or base64 of DER",
                ),
            }
        }
        if roots.is_empty() {
            self.fault("jws.roots", "is missing", "pin the root: nothing else is trusted");
        }
        let length = jws.chain.filter(|length| (2..=CHAIN_MAX).contains(length));
        if length.is_none() {
            let remedy = "write the number of certificates in x5c, from 2 to 8";
            self.fault("jws.chain", "is missing, or out of range", remedy);
        }
        let leaf = self.identifier(&jws.oids, "leaf");
        let intermediate = self.identifier(&jws.oids, "intermediate");
        if jws.oids.keys().any(|name| name != "leaf" && name != "intermediate") {
            self.fault("jws.oids", "names another certificate", "use leaf and intermediate");
        }
        let verified = VerifiedChains::default();
        Some(ChainRule { roots, length: length?, leaf, intermediate, verified })
    }

    fn identifier(&mut self, oids: &BTreeMap<String, String>, name: &str) -> Option<Box<[u8]>> {
        let text = oids.get(name)?;
        let oid = certificate::object_identifier(text);
        if oid.is_none() {
            let remedy = "write it with dots: 1.2.840.113635.100.6.11.1";
            self.fault(format!("jws.oids.{name}"), "is not an object identifier", remedy);
        }
        oid
    }

    fn claim(&mut self, name: &str, value: &toml::Value) -> Option<Claim> {
        let words = |list: &[toml::Value]| {
            let words = list.iter().map(|word| word.as_str().map(str::to_owned));
            words.collect::<Option<Vec<_>>>().filter(|words| !words.is_empty())
        };
        let claim = match value {
            toml::Value::Boolean(true) => Some(Claim::True),
            toml::Value::Array(list) => words(list).map(Claim::Words),
            toml::Value::String(text) => {
                match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
                    Some(setting) => Some(Claim::Setting(setting.to_owned())),
                    None => Some(Claim::Words(vec![text.clone()])),
                }
            }
            _ => None,
        };
        if claim.is_none() {
            let remedy = "write a word, a list of words, \"[setting]\" or true";
            self.fault(format!("jws.claims.{name}"), "is not what a claim can be", remedy);
        }
        claim
    }
}
