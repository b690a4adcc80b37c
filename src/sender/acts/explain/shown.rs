//! Shown texts: bounded, and without a secret or a valid signature.

use std::borrow::Cow;

use crate::sender::acts::explain::{Mistake, Shown, keys};
use crate::sender::acts::without_secrets::masked;
use crate::sender::crypto::secret::Secret;
use crate::sender::language::bound::{Input, Scope};
use crate::sender::language::recipe::Recipe;
use crate::sender::language::text::Text;
use crate::sender::request::callback::Callback;
use crate::sender::request::parameters::{Place, Value};

/// Characters of a signed text that are shown.
const TEXT_MAX: usize = 4096;

/// Characters of a parameter's value that are shown.
const VALUE_MAX: usize = 1024;

/// Characters of a name that are shown.
const NAME_MAX: usize = 64;

/// Bytes below which a secret is not looked for in what came: a secret `k` would take every `k`
/// out of every text. Where the gateway itself writes it, it is masked whatever its length.
const SCRUBBED_MIN: usize = 4;

const MASK: &[u8] = b"***";

/// Masks secrets and signatures in shown texts, should a callback contain them.
#[derive(Debug)]
pub(super) struct Scrubber {
    hidden: Vec<Vec<u8>>,
    /// The secrets of the source, which are found in other spellings too.
    own: Vec<Secret>,
}

impl Scrubber {
    /// Hides the secrets and settings of `recipe`.
    pub(super) fn new(recipe: &Recipe) -> Self {
        let own = recipe.secrets.iter().map(|secret| secret.value.clone()).collect();
        let mut scrubber = Self { hidden: Vec::new(), own };
        let secrets = recipe.secrets.iter().map(|secret| secret.value.expose());
        scrubber.take(secrets.clone().map(<[u8]>::to_vec));
        scrubber.take(secrets.map(|secret| keys::core(secret).to_vec()));
        scrubber.take(
            recipe
                .secrets
                .iter()
                .filter_map(|secret| secret.value.expose().split(|byte| *byte == b'_').nth(1))
                .map(<[u8]>::to_vec),
        );
        let texts = recipe.variants.iter().map(|variant| &variant.key);
        let also = recipe.kinds.iter().filter_map(|kind| match &kind.also {
            crate::sender::language::recipe::Also::Signature(variant) => Some(&variant.key),
            _ => None,
        });
        let settings =
            texts.chain(also).flat_map(Text::spots).filter_map(|spot| match &spot.input {
                Input::Setting(value) => Some(value.expose().to_vec()),
                _ => None,
            });
        scrubber.take(settings);
        scrubber
    }

    /// Hides `texts` too.
    pub(super) fn take(&mut self, texts: impl IntoIterator<Item = Vec<u8>>) {
        for text in texts {
            let text = text.trim_ascii().to_ascii_lowercase();
            if text.len() >= SCRUBBED_MIN && !self.hidden.contains(&text) {
                self.hidden.push(text);
            }
        }
        // The longest first: no part of one remains.
        self.hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
    }

    /// A signed text.
    pub(super) fn text(&self, text: &[u8]) -> String {
        self.bounded(text, TEXT_MAX)
    }

    /// A name.
    pub(super) fn short(&self, name: &str) -> String {
        self.bounded(name.as_bytes(), NAME_MAX)
    }

    /// A value.
    pub(super) fn text_of_value(&self, value: &[u8]) -> String {
        self.bounded(value, VALUE_MAX)
    }

    /// A mistake: an advice made for the callback names parameters, which the callback chose. One
    /// that is a sentence of our own is left alone: a mask in it would tell that the word is a
    /// secret.
    pub(super) fn mistake(&self, mistake: Mistake) -> Mistake {
        Mistake {
            kind: mistake.kind,
            parameter: mistake.parameter.map(|name| self.short(&name)),
            advice: mistake.advice.rewritten(|made| self.bounded(made.as_bytes(), VALUE_MAX)),
            text: mistake.text.map(|text| self.text(text.as_bytes())),
        }
    }

    fn bounded(&self, bytes: &[u8], most: usize) -> String {
        let clean = self.clean(bytes);
        let text = String::from_utf8_lossy(&clean);
        let text = masked(&text, self.own.iter());
        match text.char_indices().nth(most) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text.into_owned(),
        }
    }

    /// The text without hidden values, case-insensitively.
    fn clean(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        let mut low = out.to_ascii_lowercase();
        for hidden in &self.hidden {
            // Most do not occur, and copying a large text for each would take long.
            if memchr::memmem::find(&low, hidden).is_none() {
                continue;
            }
            let mut next = Vec::with_capacity(out.len());
            let mut at = 0;
            for found in memchr::memmem::find_iter(&low, hidden) {
                next.extend_from_slice(&out[at..found]);
                next.extend_from_slice(MASK);
                at = found + hidden.len();
            }
            next.extend_from_slice(&out[at..]);
            low = next.to_ascii_lowercase();
            out = next;
        }
        out
    }
}

/// The parameters that were read, signatures masked.
pub(super) fn parameters(callback: &Callback<'_>, scrubber: &Scrubber) -> Vec<Shown> {
    let recipe = callback.recipe;
    let (parameters, buffers) = callback.side(Scope::Message);
    parameters
        .iter(buffers)
        .map(|parameter| {
            let slot = recipe.names.find(parameter.name);
            let is_signature_field =
                slot.is_some_and(|slot| recipe.supplied_signatures.contains(&slot));
            let value = Value { place: parameter.place, raw: Cow::Borrowed(parameter.raw) };
            let value = match value.text(callback.plus()) {
                _ if is_signature_field => "***".to_owned(),
                Ok(Some(text)) => scrubber.bounded(&text, VALUE_MAX),
                Ok(None) => "null".to_owned(),
                Err(_) => scrubber.bounded(parameter.raw, VALUE_MAX),
            };
            Shown {
                name: scrubber.bounded(parameter.name, NAME_MAX),
                r#in: place(parameter.place),
                value,
            }
        })
        .collect()
}

fn place(place: Place) -> &'static str {
    match place {
        Place::Query => "query",
        Place::Form => "form",
        Place::Json => "json",
        Place::Xml => "xml",
    }
}
