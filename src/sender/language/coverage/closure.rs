//! Coverage of one callback: the values on which every parse of the signed text agrees.

mod covers;
mod misfits;
mod pairs;

use std::borrow::Cow;

use smallvec::SmallVec;

use self::pairs::proven_pairs;
use super::{Always, Loss, SignedInput};
use crate::sender::acts::evaluate::Context;
use crate::sender::acts::outcome::Reason;
use crate::sender::acts::signature::{Escapes, SignatureVariant};
use crate::sender::language::bound::Bound;
use crate::sender::language::recipe::Also;
use crate::sender::language::recut::chains::{Chains, ReceivedPair};
use crate::sender::language::recut::{
    Begun, EmptyItems, Part, Proof, Readback, Received, Separation, ValueSet,
};
use crate::sender::request::callback::{Callback, CallbackError};
use crate::sender::request::encoding::Plus;

/// Coverage by the signatures of one callback.
#[derive(Debug, Default)]
pub(in crate::sender) struct Coverage {
    /// The signature that matched first, further ones, then that of the kind.
    proofs: SmallVec<[VariantProof; 2]>,
    pub(in crate::sender) verdict: TextVerdict,
    /// Parameters whose value contradicts the sender file.
    pub(in crate::sender) misfits: Vec<String>,
    /// Parameters whose value could be cut in two under the same signature.
    pub(in crate::sender) recut: Vec<String>,
    basis: Basis,
}

/// The basis of the coverage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Basis {
    /// The text that was signed, or nothing.
    #[default]
    Text,
    /// The sender's file alone: one signature, of the variant at that index, which closes every
    /// value that fits its shape.
    File { variant: usize },
}

/// The signed text's evidence about the callback as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) enum TextVerdict {
    /// Nothing speaks against it.
    #[default]
    Agrees,
    /// Values contradict the sender file, and no others make the text: the file is wrong.
    Misfit,
    /// Other values make the same text, and the provider is more likely to have signed those.
    Ambiguous,
}

/// Values that one signed text proves of one callback.
#[derive(Clone, Debug)]
struct VariantProof {
    of: VariantRef,
    /// The evidence of this text about the callback as a whole.
    verdict: TextVerdict,
    /// Values that equal the received ones, by confirmed facts only.
    closed: ValueSet,
    /// Values that are not, by all facts.
    open: ValueSet,
    pairs: Option<PairsProof>,
}

/// Which of a recipe's variants it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VariantRef {
    /// The variant at that index.
    Recipe(usize),
    /// The second signature of the kind.
    Kind,
}

/// Pairs that a list of decoded pairs proves.
#[derive(Clone, Debug, Default)]
struct PairsProof {
    /// Names whose value equals the received one, by confirmed facts only.
    closed: Vec<Vec<u8>>,
    /// Names whose value is not, or that other variants have, by all facts.
    open: Vec<Vec<u8>>,
    /// Names that other variants have and the callback has not, by confirmed facts; `None`: any.
    others: Option<Vec<Vec<u8>>>,
}

/// A signed text without the secret that cuts it, and the values in it by number.
struct SignedSegments {
    segments: Vec<Vec<u8>>,
    values: Vec<Option<Vec<u8>>>,
}

/// A text read back, before it is known what identifies the callback.
struct ReadAgain {
    proof: VariantProof,
    misfits: Vec<String>,
    /// Whether values that fit make the same text although those that came do not fit.
    others: Others,
    grain: Grain,
    recut: Vec<String>,
}

/// Whether other values that fit make the same text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    /// The received values fit, or nothing shows that they do not.
    None,
    /// Others make it, and those that came do not fit.
    Fit,
    /// None make it.
    NotEven,
}

/// Whether a value that is open holds what separates values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grain {
    /// None does: an honest callback.
    Finest,
    /// One does: two values may have been made one.
    Coarse,
}

impl Coverage {
    /// The coverage by the signature at `at` alone, as if no other had come. The second signature of
    /// a kind counts too: no callback of that kind comes without it.
    pub(in crate::sender) fn alone(&self, at: usize) -> Self {
        let own = self.proofs.get(at);
        let of_kind = self.proofs.iter().filter(|proof| proof.of == VariantRef::Kind);
        Self {
            proofs: own.into_iter().chain(of_kind).cloned().collect(),
            verdict: own.map_or(TextVerdict::Agrees, |proof| proof.verdict),
            ..Self::default()
        }
    }

    /// The coverage without the second signature of the kind; `None` if there is none.
    pub(in crate::sender) fn without_kind(&self) -> Option<Self> {
        let is_other = |proof: &&VariantProof| proof.of != VariantRef::Kind;
        if self.proofs.iter().all(|proof| is_other(&proof)) {
            return None;
        }
        let proofs = self.proofs.iter().filter(is_other).cloned().collect();
        Some(Self { proofs, verdict: self.verdict, ..Self::default() })
    }
}

impl Callback<'_> {
    /// Finds out what is covered.
    ///
    /// # Errors
    /// `bad_encoding` if a value does not fit a shape that the sender file enforces, or a name in a
    /// decoded list holds a separator.
    pub(in crate::sender) fn cover(&mut self) -> Result<(), CallbackError> {
        match self.settled_by_file()? {
            Some(variant) => {
                let of = VariantRef::Recipe(variant);
                let closed = *self.recipe.variants[variant].signed.always_closed();
                let open = ValueSet::default();
                let verdict = TextVerdict::Agrees;
                let coverage = &mut self.coverage;
                coverage.proofs.clear();
                coverage.proofs.push(VariantProof { of, verdict, closed, open, pairs: None });
                coverage.basis = Basis::File { variant };
            }
            None => self.coverage = self.covered_by_text()?,
        }
        Ok(())
    }

    fn covered_by_text(&self) -> Result<Coverage, CallbackError> {
        let mut coverage = Coverage::default();
        let Some(matched) = self.matched.as_ref() else { return Ok(coverage) };
        let Some(first) = matched.variant else { return Ok(coverage) };
        let main = self.read_again(VariantRef::Recipe(first))?;
        let rejected = &self.recipe.sender.shapes.refuse;
        if let Some(name) = main.misfits.iter().find(|name| rejected.contains(name)) {
            return Err(CallbackError::of(Reason::BadEncoding, name));
        }
        coverage.verdict = self.verdict(&main);
        coverage.misfits = main.misfits;
        coverage.recut = main.recut;
        coverage.proofs.push(VariantProof { verdict: coverage.verdict, ..main.proof });
        for one in &matched.further {
            let again = self.read_again(VariantRef::Recipe(one.variant))?;
            let verdict = self.verdict(&again);
            coverage.proofs.push(VariantProof { verdict, ..again.proof });
        }
        if matches!(self.kind_here().map(|kind| &kind.also), Some(Also::Signature(_))) {
            coverage.proofs.push(self.read_again(VariantRef::Kind)?.proof);
        }
        Ok(coverage)
    }

    /// The evidence of a text that was read back about the callback as a whole.
    fn verdict(&self, again: &ReadAgain) -> TextVerdict {
        match (again.others, again.misfits.is_empty()) {
            (Others::Fit, _) => TextVerdict::Ambiguous,
            (Others::NotEven, _) | (Others::None, false) => TextVerdict::Misfit,
            (Others::None, true)
                if again.grain == Grain::Coarse && self.disagrees(&again.proof) =>
            {
                TextVerdict::Ambiguous
            }
            (Others::None, true) => TextVerdict::Agrees,
        }
    }

    fn variant_of(&self, of: VariantRef) -> Option<&SignatureVariant> {
        match of {
            VariantRef::Recipe(index) => self.recipe.variants.get(index),
            VariantRef::Kind => match self.kind_here().map(|kind| &kind.also) {
                Some(Also::Signature(variant)) => Some(variant),
                _ => None,
            },
        }
    }

    fn read_again(&self, of: VariantRef) -> Result<ReadAgain, CallbackError> {
        let empty = || ReadAgain {
            proof: VariantProof {
                of,
                verdict: TextVerdict::Agrees,
                closed: ValueSet::default(),
                open: ValueSet::default(),
                pairs: None,
            },
            misfits: Vec::new(),
            others: Others::None,
            grain: Grain::Finest,
            recut: Vec::new(),
        };
        let Some(variant) = self.variant_of(of) else { return Ok(empty()) };
        let signed = &variant.signed;
        let mut again = empty();
        again.proof.closed = *signed.always_closed();
        again.misfits = self.misfits(variant)?;
        if again.misfits.is_empty() && signed.is_closed == Always::Yes {
            return Ok(again);
        }
        let is_open = signed.has_open_value() || !variant.siblings.is_empty();
        if !again.misfits.is_empty() || is_open {
            self.read_text_back(variant, &mut again)?;
        }
        if signed.chain.is_some() {
            self.read_pairs_back(variant, &mut again)?;
        }
        if let Escapes::BothWays { other } = variant.escapes {
            self.open_escapes(variant, other, &mut again)?;
        }
        Ok(again)
    }

    fn read_text_back(
        &self,
        variant: &SignatureVariant,
        again: &mut ReadAgain,
    ) -> Result<(), CallbackError> {
        let signed = &variant.signed;
        let SignedSegments { segments, values } = self.signed_segments(variant)?;
        let received = Received { segments: &segments, values: &values };
        let all_closed = |proof: &Proof| match proof.read_back(&received) {
            Readback::Closed(closed) => Some(closed),
            Readback::Empty => None,
        };
        let assumed = all_closed(&signed.assumed);
        let is_one = again.misfits.is_empty() && signed.assumed.allows(&received);
        match (assumed, is_one) {
            (Some(closed), true) => {
                again.proof.closed = match &signed.confirmed {
                    Some(confirmed) => all_closed(confirmed).unwrap_or_default(),
                    None => closed,
                };
                again.proof.open = ValueSet::first(values.len()).without(closed);
            }
            // The provider signed something else.
            (Some(_), false) => {
                again.others = Others::Fit;
                again.proof.closed = ValueSet::default();
                again.proof.open = ValueSet::first(values.len());
            }
            // What came fits and makes the text, so that this cannot be: prove nothing.
            (None, true) => again.proof.closed = ValueSet::default(),
            // The facts are wrong, and which ones the text does not say: none of them counts.
            (None, false) => {
                again.proof.closed = match signed.confirmed().read_back_freely(&received) {
                    Readback::Closed(closed) => closed,
                    Readback::Empty => ValueSet::default(),
                };
                again.others = self.others_of_siblings(variant, &segments);
            }
        }
        self.read_as_siblings(variant, &received, again);
        let literals = signed.layout.literals();
        for (number, value) in (0..).zip(&values) {
            let (Some(value), true) = (value, again.proof.open.contains(number)) else { continue };
            let holds = |literal: &&[u8]| memchr::memmem::find(value, literal).is_some();
            if literals.iter().any(holds) && signed.separation == Separation::Separated {
                again.grain = Grain::Coarse;
                let spot = signed.spots.get(usize::from(number)).and_then(Option::as_ref);
                again.recut.extend(spot.map(|spot| spot.name.to_string()));
            }
        }
        Ok(())
    }

    /// Whether values that fit make the text of a misfit as another variant of the same signature.
    fn others_of_siblings(&self, variant: &SignatureVariant, segments: &[Vec<u8>]) -> Others {
        let fits = |index: &usize| {
            self.recipe.variants.get(*index).is_some_and(|sibling| {
                let theirs = &sibling.signed;
                let values = vec![None; theirs.values.len()];
                let received = Received { segments, values: &values };
                theirs.layout.segments.len() == segments.len()
                    && matches!(theirs.assumed.read_back(&received), Readback::Closed(_))
            })
        };
        if variant.siblings.iter().any(fits) { Others::Fit } else { Others::NotEven }
    }

    /// Opens what another variant of the same signature reads otherwise, or leaves unsigned.
    fn read_as_siblings(
        &self,
        variant: &SignatureVariant,
        received: &Received<'_>,
        again: &mut ReadAgain,
    ) {
        for index in &variant.siblings {
            let Some(sibling) = self.recipe.variants.get(*index) else { continue };
            let theirs = &sibling.signed;
            if theirs.layout.segments.len() != received.segments.len() {
                continue;
            }
            let place_of = |input: &SignedInput| {
                variant.signed.values.iter().position(|value| value.input == *input)
            };
            let values: Vec<Option<Vec<u8>>> = theirs
                .values
                .iter()
                .map(|value| received.values.get(place_of(&value.input)?)?.clone())
                .collect();
            let received = Received { segments: received.segments, values: &values };
            for (proof, is_assumed) in
                [(theirs.confirmed(), Facts::Proven), (&theirs.assumed, Facts::All)]
            {
                let closed = match proof.read_back(&received) {
                    Readback::Closed(closed) => Some(closed),
                    // Its shapes are as wrong as those of this variant: what it loses is lost.
                    Readback::Empty if !again.misfits.is_empty() => None,
                    Readback::Empty => continue,
                };
                for (number, value) in (0..).zip(&variant.signed.values) {
                    let there = theirs.values.iter().position(|other| other.input == value.input);
                    let agrees = closed.is_none_or(|closed| {
                        there
                            .and_then(|there| u8::try_from(there).ok())
                            .is_some_and(|there| closed.contains(there))
                    });
                    // A value that the sibling signs in one case can have come in the other.
                    let merges = there.is_some_and(|there| {
                        let written = values[there].as_deref().unwrap_or_default();
                        value.loss == Loss::None && theirs.merges(there, written)
                    });
                    if !agrees || merges {
                        again.proof.open_value(number, is_assumed);
                    }
                }
            }
        }
    }

    /// Opens what holds an escape, where one variant decodes escapes and `other` does not, or the
    /// other way round.
    fn open_escapes(
        &self,
        variant: &SignatureVariant,
        other: usize,
        again: &mut ReadAgain,
    ) -> Result<(), CallbackError> {
        let holds = |text: &[u8]| match variant.plus {
            Plus::Space => memchr::memchr2(b'%', b'+', text).is_some(),
            Plus::Kept => memchr::memchr(b'%', text).is_some(),
        };
        let other = self.recipe.variants.get(other).and_then(|one| one.signed.chain.as_ref());
        let pairs = match &variant.signed.chain {
            Some(_) => self.received_pairs(variant)?,
            None => self.spelled_pairs(variant)?,
        };
        if variant.signed.chain.is_none() {
            // What is signed as it came says which pairs there are, but for the variant that
            // decodes: to that one these pairs are a text.
            again.proof.pairs = Some(match other {
                Some(chain) => {
                    let rules = chain.rules(&chain.assumed);
                    if !rules.allows(&pairs) {
                        again.others = match rules.read_back(&pairs) {
                            Chains::Closed(_) => Others::Fit,
                            Chains::Empty => Others::NotEven,
                        };
                    }
                    proven_pairs(chain, &pairs)
                }
                None => PairsProof::default(),
            });
            again.proof.closed = ValueSet::default();
        }
        let Some(proof) = &mut again.proof.pairs else { return Ok(()) };
        let escaped = |name: &Vec<u8>| {
            let value = pairs.iter().find(|pair| pair.name == *name);
            holds(name) || value.is_some_and(|pair| holds(&pair.value))
        };
        proof.closed.retain(|name| !escaped(name));
        if pairs.iter().any(|pair| holds(&pair.name)) {
            proof.others = None;
        }
        Ok(())
    }

    /// The pairs of a query that is signed as it came, without decoding.
    ///
    /// # Errors
    /// `bad_encoding` if one of them is empty or has no value: decoded it is another query's text.
    fn spelled_pairs(
        &self,
        variant: &SignatureVariant,
    ) -> Result<Vec<ReceivedPair>, CallbackError> {
        let signed = &variant.signed;
        let values = signed.values.iter().zip(&signed.spots);
        let mut queries = values.filter(|(value, _)| value.input == SignedInput::Query);
        let Some((_, Some(spot))) = queries.next() else { return Ok(Vec::new()) };
        let context = Context { plus: variant.plus, variant: Some(variant), ..Context::default() };
        let text = self.value(spot, &context)?.unwrap_or_default();
        let start = memchr::memchr(b'?', &text).filter(|_| spot.is_url()).map_or(0, |at| at + 1);
        let pair = |pair: &[u8]| {
            let equals = memchr::memchr(b'=', pair)?;
            Some(ReceivedPair { name: pair[..equals].to_vec(), value: pair[equals + 1..].to_vec() })
        };
        let pairs: Option<Vec<_>> = text[start..].split(|byte| *byte == b'&').map(pair).collect();
        pairs.ok_or_else(|| CallbackError::new(Reason::BadEncoding))
    }

    /// The text of `variant` in segments, without the secret, and the values in it.
    fn signed_segments(&self, variant: &SignatureVariant) -> Result<SignedSegments, CallbackError> {
        let signed = &variant.signed;
        let context = Context { plus: variant.plus, variant: Some(variant), ..Context::default() };
        let mut values: Vec<Option<Vec<u8>>> = Vec::with_capacity(signed.values.len());
        for (spot, value) in signed.spots.iter().zip(&signed.values) {
            values.push(match (spot, &value.input) {
                (Some(spot), _) => self.value(spot, &context)?.map(Cow::into_owned),
                (None, SignedInput::Pairs { .. } | SignedInput::Other) => {
                    let mut out = Vec::new();
                    if let Some(pairs) = &variant.pairs {
                        self.put_pairs(pairs, &context, &mut out)?;
                    }
                    Some(out)
                }
                (None, _) => None,
            });
        }
        let mut segments = Vec::with_capacity(signed.layout.segments.len());
        for parts in &signed.layout.segments {
            let mut text = Vec::new();
            let is_nothing = |value: &[u8]| self.is_nothing(value);
            parts.iter().for_each(|part| put_part(part, &mut values, &is_nothing, &mut text));
            segments.push(text);
        }
        Ok(SignedSegments { segments, values })
    }
}

impl Callback<'_> {
    /// Whether two variants of the text can name two events: something that identifies the event or
    /// selects its kind is open.
    fn disagrees(&self, proof: &VariantProof) -> bool {
        let Some(variant) = self.variant_of(proof.of) else { return false };
        let is_open = |spot: &Bound| self.is_open(&variant.signed, proof, spot);
        let identity = self.identity_texts();
        let identity = identity.iter().flat_map(|text| text.of.spots());
        identity.chain(self.selecting_spots()).any(is_open)
    }
}

/// Which facts a proof rests on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Facts {
    Proven,
    All,
}

impl VariantProof {
    fn open_value(&mut self, number: u8, facts: Facts) {
        let mut value = ValueSet::default();
        value.insert(number);
        match facts {
            Facts::Proven => self.closed = self.closed.without(value),
            Facts::All => self.open.insert(number),
        }
    }
}

/// Writes a part, and forgets the values of what is left out.
fn put_part(
    part: &Part,
    values: &mut [Option<Vec<u8>>],
    is_nothing: &impl Fn(&[u8]) -> bool,
    text: &mut Vec<u8>,
) {
    match part {
        Part::Literal(bytes) => text.extend_from_slice(bytes),
        Part::Value(value) => text.extend_from_slice(values[*value].as_deref().unwrap_or_default()),
        Part::Optional(inner) => {
            let own: Vec<usize> = inner
                .iter()
                .filter_map(|part| if let Part::Value(value) = part { Some(*value) } else { None })
                .collect();
            let is_out = |value: &usize| values[*value].as_deref().is_none_or(is_nothing);
            if own.iter().any(is_out) {
                own.into_iter().for_each(|value| values[value] = None);
            } else {
                inner.iter().for_each(|part| put_part(part, values, is_nothing, text));
            }
        }
        Part::List(list) => {
            let mut begun = list.begun;
            for item in &list.items {
                let dropped = list.empty == EmptyItems::Dropped;
                if let Some(value) = item.value {
                    if dropped && values[value].as_ref().is_some_and(Vec::is_empty) {
                        values[value] = None;
                    }
                    if values[value].is_none() {
                        continue;
                    }
                }
                if begun == Begun::Yes {
                    text.extend_from_slice(&list.between);
                }
                begun = Begun::Yes;
                text.extend_from_slice(&item.lead);
                let value = item.value.and_then(|value| values[value].as_deref());
                text.extend_from_slice(value.unwrap_or_default());
            }
        }
    }
}
