//! Identity of events: the deduplication keys of a callback, and its content.
//!
//! An *identity key* is made of the kind, and of the values that identify an event of that kind. It
//! holds no signature, secret, nonce or send time, so that a repetition has the same one. A
//! *signature key* is what a signature states. It is written for each signature that does not cover
//! the identity alone, so that one signature makes one event, also without those that came beside
//! it. See `docs/adding-a-sender.md`.

use smallvec::SmallVec;

use super::evaluate::Context;
use super::outcome::Reason;
use super::resolved::{Effect, KeyForm, KeyRole, Keys, Resolved, Role};
use super::signature::{self, SignatureVariant};
use crate::sender::crypto::digest::{Algorithm, Feed, Output, Start};
use crate::sender::language::bound::Bound;
use crate::sender::language::coverage::Coverage;
use crate::sender::language::definition::{First, RoleText, Writing};
use crate::sender::language::recipe::Recipe;
use crate::sender::language::text::Text;
use crate::sender::request::callback::{Callback, CallbackError};
use crate::sender::request::encoding::Sink;
use crate::sender::request::parameters::ParameterError;

/// The first byte of a key: one number for each form of a key, never reused. The forms of the first
/// versions are 0 (transaction), 1 (replay) and 2 (signed text).
const IDENTITY_FORM: u8 = 16;
const SIGNATURE_FORM: u8 = 17;

/// The forms of the first versions.
const FORMER_TRANSACTION: u8 = 0;
const FORMER_REPLAY: u8 = 1;
const FORMER_SIGNED: u8 = 2;

/// Whether a callback is marked as a test by a flag that nothing signs. A mark has keys of its own:
/// it never takes the place of the unmarked callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Mark {
    Unmarked,
    Marked,
}

/// Facts about a callback when its keys are made.
#[derive(Clone, Copy, Debug)]
pub(in crate::sender) struct KeyFacts<'k> {
    pub(in crate::sender) coverage: &'k Coverage,
    pub(in crate::sender) mark: Mark,
    pub(in crate::sender) identity: IdentityCover,
    pub(in crate::sender) kind: KindCover,
}

/// Whether the signatures cover what identifies an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum IdentityCover {
    Covered,
    Open,
    /// One signature serves several transactions by design.
    Repeats,
}

/// Whether the signatures cover what selects the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum KindCover {
    Covered,
    Open,
}

/// A signature that can be valid for another event, and what its key is made of.
struct OpenSignature<'s> {
    variant: &'s SignatureVariant,
    output: &'s Output,
    kind: KindCover,
    mark: Mark,
}

/// The text that identifies an event, among those that could.
#[derive(Clone, Copy, Debug)]
pub(in crate::sender) struct IdentityChoice<'r> {
    pub(in crate::sender) texts: &'r [RoleText<Bound>],
    pub(in crate::sender) text: &'r RoleText<Bound>,
}

impl Recipe {
    /// The texts of the transaction; kinds and variants may have others.
    fn transaction_texts(&self) -> &[RoleText<Bound>] {
        self.roles.texts.get(Role::Transaction).map_or(&[], Vec::as_slice)
    }

    /// Why one signature of this sender serves several transactions, where it does.
    #[must_use]
    pub fn repeats(&self) -> Option<RepeatingSignature<'_>> {
        let repeats = self.identity.repeats.as_ref()?;
        Some(match repeats.when.as_slice() {
            [] => RepeatingSignature::Always(&repeats.why),
            _ => RepeatingSignature::Sometimes(&repeats.why),
        })
    }
}

/// When one signature serves several transactions, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatingSignature<'r> {
    /// For every callback.
    Always(&'r str),
    /// For some callbacks.
    Sometimes(&'r str),
}

impl<'a> Callback<'a> {
    /// The texts that identify an event of this kind; the first that can be made counts.
    pub(in crate::sender) fn identity_texts(&self) -> &'a [RoleText<Bound>] {
        self.identity_texts_under(self.matched_variant())
    }

    /// The same as if `variant` had matched.
    fn identity_texts_under(&self, variant: Option<&'a SignatureVariant>) -> &'a [RoleText<Bound>] {
        match self.row_here() {
            Some(row) => &row.id,
            None if !self.recipe.identity.by.is_empty() => &self.recipe.identity.by,
            None => self.role_texts_under(variant, Role::Transaction),
        }
    }

    /// The text that identifies this event.
    ///
    /// # Errors
    /// `missing_parameter` or `unresolved_placeholder` if there is none.
    pub(in crate::sender) fn identity_text(&self) -> Result<IdentityChoice<'a>, CallbackError> {
        let texts = self.identity_texts();
        if let Some((_, text)) = self.first_made(texts)? {
            return Ok(IdentityChoice { texts, text });
        }
        let mut spots = texts.iter().flat_map(|text| text.of.spots());
        Err(match spots.find_map(|spot| self.unreplaced_name(spot)) {
            Some(name) => CallbackError::of(Reason::UnresolvedPlaceholder, &name),
            None => {
                let name = texts.iter().flat_map(|text| text.of.spots()).next();
                CallbackError::of(
                    Reason::MissingParameter,
                    name.map_or("transaction", |spot| &spot.name),
                )
            }
        })
    }

    /// The name of the kind: the file's, or the plain one.
    pub(in crate::sender) fn kind_name(&self) -> &'a str {
        self.kind_here().map_or(Resolved::PLAIN_KIND, |kind| &kind.name)
    }

    /// Makes the keys of an event that `identity` identifies.
    pub(in crate::sender) fn put_keys(
        &self,
        identity: IdentityChoice<'_>,
        facts: KeyFacts<'_>,
        keys: &mut Keys,
    ) -> Result<(), ParameterError> {
        self.put_identity(identity, facts.mark, keys.identity())?;
        for texts in self.further_transactions() {
            if let Some((_, text)) = self.first_made(texts)? {
                let further = IdentityChoice { texts, text };
                self.put_identity(further, facts.mark, keys.identity())?;
            }
        }
        let signatures = self.open_signatures(identity, &facts)?;
        for one in &signatures {
            self.put_signature(one, one.mark, keys.signature());
        }
        if facts.mark == Mark::Marked {
            let to = keys.lookup(KeyRole::Identity, KeyForm::Unmarked);
            self.put_identity(identity, Mark::Unmarked, to)?;
        }
        for one in signatures.iter().filter(|one| one.mark == Mark::Marked) {
            let to = keys.lookup(KeyRole::Signature, KeyForm::Unmarked);
            self.put_signature(one, Mark::Unmarked, to);
        }
        if self.older_keys == OlderKeys::Wanted {
            self.put_former(keys)?;
        }
        Ok(())
    }

    /// The kind, which of the texts it is, then for each placeholder its place in the text, its
    /// length and its value, so that no two events run into one. A further signature counts its own
    /// texts, so that it makes the same key where it is the only one.
    fn put_identity(
        &self,
        identity: IdentityChoice<'_>,
        mark: Mark,
        to: &mut impl Sink,
    ) -> Result<(), ParameterError> {
        let IdentityChoice { texts, text } = identity;
        to.put(&[IDENTITY_FORM, u8::from(mark == Mark::Marked)]);
        put_part(to, self.kind_name().as_bytes());
        let index = texts.iter().position(|known| std::ptr::eq(known, text));
        to.put(&[small(index.unwrap_or(usize::MAX))]);
        self.put_values(&text.of, to)
    }

    fn put_values(&self, text: &Text<Bound>, to: &mut impl Sink) -> Result<(), ParameterError> {
        let context = Context { plus: self.plus(), ..Context::default() };
        for (place, spot) in text.spots().enumerate() {
            // An optional part that is empty is left out, and so is one that did not come.
            let Some(value) = self.value(spot, &context)?.filter(|value| !value.is_empty()) else {
                continue;
            };
            to.put(&[small(place)]);
            put_part(to, &value);
        }
        Ok(())
    }

    /// The signatures that do not cover the event alone: without the others, each of them could
    /// make another event. `whole` are the facts by all of them.
    fn open_signatures(
        &self,
        identity: IdentityChoice<'_>,
        whole: &KeyFacts<'_>,
    ) -> Result<SmallVec<[OpenSignature<'_>; 1]>, ParameterError> {
        let mut open = SmallVec::new();
        let Some(matched) = &self.matched else { return Ok(open) };
        let first = matched.variant.zip(matched.output.as_ref());
        let further = matched.further.iter().map(|one| (one.variant, &one.output));
        let is_bare = |variant: &SignatureVariant| variant.with.first == First::Equal;
        let all = matched.variant.into_iter().chain(matched.further.iter().map(|one| one.variant));
        let mut variants = all.filter_map(|index| self.recipe.variants.get(index));
        let has_other = variants.any(|variant| !is_bare(variant));
        for (at, (index, output)) in first.into_iter().chain(further).enumerate() {
            let Some(variant) = self.recipe.variants.get(index) else { continue };
            // A bare secret is in every callback, so that its key would hold all but the first.
            if has_other && is_bare(variant) {
                continue;
            }
            let alone;
            let facts = match matched.further.is_empty() {
                true => *whole,
                false => {
                    alone = self.coverage.alone(at);
                    let own = if at == 0 { None } else { self.identity_under(variant)? };
                    self.key_facts(&alone, own.unwrap_or(identity))
                }
            };
            if facts.identity == IdentityCover::Open {
                let KeyFacts { kind, mark, .. } = facts;
                open.push(OpenSignature { variant, output, kind, mark });
            }
        }
        Ok(open)
    }

    /// The text that would identify the event under the signature of `variant` alone, if it can be
    /// made.
    fn identity_under(
        &self,
        variant: &'a SignatureVariant,
    ) -> Result<Option<IdentityChoice<'a>>, ParameterError> {
        let texts = self.identity_texts_under(Some(variant));
        Ok(self.first_made(texts)?.map(|(_, text)| IdentityChoice { texts, text }))
    }

    /// Writes the key of the signed content, with the kind if that is not signed. A truncated
    /// signature that fits two texts is one key.
    fn put_signature(&self, of: &OpenSignature<'_>, mark: Mark, to: &mut impl Sink) {
        let OpenSignature { variant, output, kind, .. } = *of;
        to.put(&[SIGNATURE_FORM, u8::from(mark == Mark::Marked)]);
        match variant.cut {
            Some(cut) if variant.writing != Writing::Text => {
                let written = signature::written(output, variant.writing);
                put_part(to, written.as_bytes().get(..cut).unwrap_or(written.as_bytes()));
            }
            _ => put_part(to, output.bytes()),
        }
        if kind == KindCover::Open {
            put_part(to, self.kind_name().as_bytes());
        }
    }

    /// The keys that the first versions made of such a callback.
    fn put_former(&self, keys: &mut Keys) -> Result<(), ParameterError> {
        let formerly = &self.recipe.identity.formerly;
        let of_kind = self.kind_here().map_or(&[][..], |kind| &kind.formerly.transaction);
        let texts = match (of_kind, formerly.transaction.as_slice()) {
            // The first versions had no table of events.
            ([], []) if self.row.is_some() => self.recipe.transaction_texts(),
            ([], []) => self.role_texts(Role::Transaction),
            ([], texts) | (texts, _) => texts,
        };
        if let Some((_, text)) = self.first_made(texts)? {
            let to = keys.lookup(KeyRole::Identity, KeyForm::Older);
            self.put_former_key(FORMER_TRANSACTION, texts, text, to)?;
        }
        if let Some((_, text)) = self.first_made(&formerly.replay)? {
            let to = keys.lookup(KeyRole::Signature, KeyForm::Older);
            self.put_former_key(FORMER_REPLAY, &formerly.replay, text, to)?;
        }
        if let Some(output) = self.matched.as_ref().and_then(|matched| matched.output) {
            let to = keys.lookup(KeyRole::Signature, KeyForm::Older);
            to.put(&[FORMER_SIGNED]);
            to.put(output.bytes());
        }
        Ok(())
    }

    fn put_former_key(
        &self,
        form: u8,
        texts: &[RoleText<Bound>],
        text: &RoleText<Bound>,
        to: &mut impl Sink,
    ) -> Result<(), ParameterError> {
        let index = texts.iter().position(|known| std::ptr::eq(known, text));
        to.put(&[form, small(index.unwrap_or_default()), self.former_number()]);
        self.put_values(&text.of, to)
    }

    /// The number that the kind had in the first versions: its place in the file, from 1. They had
    /// no table of events.
    fn former_number(&self) -> u8 {
        let said = self.kind_here().and_then(|kind| kind.formerly.number);
        said.unwrap_or_else(|| match (self.kind, self.row) {
            (Some(kind), None) => small(kind + 1),
            _ => 0,
        })
    }

    /// Whether `spot` reads what a provider changes when it repeats this callback.
    fn is_volatile(&self, spot: &Bound) -> bool {
        let of_row = self.row_here().map_or(&[][..], |row| &row.volatile);
        self.recipe.is_volatile(spot) || of_row.iter().any(|name| **name == *spot.name)
    }

    /// The transactions of further signatures that verified and name one of their own.
    fn further_transactions(&self) -> impl Iterator<Item = &'a [RoleText<Bound>]> {
        let further = self.matched.iter().flat_map(|matched| &matched.further);
        let recipe = self.recipe;
        let variants = further.filter_map(|one| recipe.variants.get(one.variant));
        variants.filter_map(|variant| variant.roles.texts.get(Role::Transaction)).map(Vec::as_slice)
    }

    /// The content in 8 bytes of SHA-256: the kind, all roles, the named values of the sender file,
    /// and the values of the source's template. Amounts are compared as decimals.
    /// `escaped` are roles whose text is escaped, because their bytes are not UTF-8. `decided` is the
    /// effect, if values of the callback decide it: what grants nothing must not pass for what grants
    /// under the same identity. Grants have no such part, as in earlier versions.
    pub(in crate::sender) fn content<'t>(
        &self,
        decided: Option<Effect>,
        role: impl Fn(Role) -> Option<&'t str>,
        escaped: &[Role],
    ) -> u64 {
        let mut feed = Feed::new(Start::Plain(Algorithm::Sha256));
        let mut part = |value: Option<&[u8]>| {
            let len = value.map_or(u64::MAX, |value| value.len() as u64);
            feed.put(&len.to_le_bytes());
            feed.put(value.unwrap_or_default());
        };
        part(Some(self.kind_name().as_bytes()));
        if let Some(effect) = decided {
            part(Some(effect.as_str().as_bytes()));
        }
        for one in Role::ALL {
            match role(one) {
                Some(amount) if one == Role::Amount => {
                    part(Some(&super::resolve::plain_amount(amount)));
                }
                value => part(value.map(str::as_bytes)),
            }
            // The same text can also have come as it is.
            if escaped.contains(&one) {
                part(None);
            }
        }
        let context = Context { plus: self.plus(), ..Context::default() };
        let known = self.recipe.known.iter().map(|(_, text)| text);
        let template = self.recipe.template.iter().map(|(_, text)| text);
        for text in known.chain(template) {
            for spot in text.spots().filter(|spot| !self.is_volatile(spot)) {
                part(self.value(spot, &context).ok().flatten().as_deref());
            }
        }
        feed.finish().bytes().first_chunk().map_or(0, |short| u64::from_le_bytes(*short))
    }
}

/// Whether the keys of earlier versions are wanted: a store that was never upgraded has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OlderKeys {
    /// The store has no keys of earlier versions.
    #[default]
    Unwanted,
    /// The store may have keys of earlier versions: look them up too.
    Wanted,
}

fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn put_part(to: &mut impl Sink, part: &[u8]) {
    to.put(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.put(part);
}
