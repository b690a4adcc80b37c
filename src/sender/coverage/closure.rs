//! What the signature of one callback covers: which of its values every reading of the signed text
//! agrees on.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{Always, Chain, ChainSource, Loss, Signed, SignedInput};
use crate::sender::bound::{Bound, Gate, Gateway, Input, Scope};
use crate::sender::callback::{Callback, CallbackError};
use crate::sender::condition::{Condition, Subject};
use crate::sender::definition::{Empty, Reads, RoleText};
use crate::sender::encoding::Plus;
use crate::sender::evaluate::{self, Context};
use crate::sender::names::Slot;
use crate::sender::outcome::Reason;
use crate::sender::parameters::{Parameter, ParameterError, Place, Value};
use crate::sender::recipe::{Also, Protection};
use crate::sender::recut::chains::{Chains, Closedness, KnownName, ReceivedPair};
use crate::sender::recut::{
    Begun, EmptyItems, Part, Proof, Readback, Received, Separation, ValueSet,
};
use crate::sender::signature::{Escapes, Plan, Reading};
use crate::sender::text::Piece;
use crate::sender::unreplaced;
use crate::sender::value_shape::ValueShape;

/// What the signatures of one callback cover.
#[derive(Debug, Default)]
pub(in crate::sender) struct Coverage {
    /// The signature that matched first, further ones, then that of the kind.
    proofs: SmallVec<[ReadingProof; 2]>,
    pub(in crate::sender) verdict: TextVerdict,
    /// Parameters whose value contradicts the sender file.
    pub(in crate::sender) misfits: Vec<String>,
    /// Parameters whose value could be cut in two under the same signature.
    pub(in crate::sender) recut: Vec<String>,
}

/// What the signed text says about the callback as a whole.
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

/// What one signed text proves of one callback.
#[derive(Debug)]
struct ReadingProof {
    of: ReadingOf,
    /// Values that are what was received, by confirmed facts alone.
    closed: ValueSet,
    /// Values that are not, by all facts.
    open: ValueSet,
    pairs: Option<PairsProof>,
}

/// Which of a recipe's readings it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadingOf {
    /// The reading at that index.
    Recipe(usize),
    /// The second signature of the kind.
    Kind,
}

/// What a list of decoded pairs proves.
#[derive(Debug, Default)]
struct PairsProof {
    /// Names whose value is what was received, by confirmed facts alone.
    closed: Vec<Vec<u8>>,
    /// Names whose value is not, or that other readings have, by all facts.
    open: Vec<Vec<u8>>,
    /// Names that other readings have and the callback has not, by confirmed facts; `None`: any.
    others: Option<Vec<Vec<u8>>>,
}

/// A signed text without the secret that cuts it, and the values in it by number.
struct SignedSegments {
    segments: Vec<Vec<u8>>,
    values: Vec<Option<Vec<u8>>>,
}

/// A text read back, before it is known what identifies the callback.
struct ReadAgain {
    proof: ReadingProof,
    misfits: Vec<String>,
    /// Whether values that fit make the same text although those that came do not fit.
    others: Others,
    grain: Grain,
    recut: Vec<String>,
}

/// What the values that fit say of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    /// Those that came are among them, or it is not known that they are not.
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

impl Callback<'_> {
    /// Finds out what is covered.
    ///
    /// # Errors
    /// `bad_encoding` if a value does not fit a shape that the sender file enforces, or a name in a
    /// decoded list holds a separator.
    pub(in crate::sender) fn cover(&self) -> Result<Coverage, CallbackError> {
        let mut coverage = Coverage::default();
        let Some(matched) = self.matched.as_ref() else { return Ok(coverage) };
        let Some(first) = matched.reading else { return Ok(coverage) };
        let main = self.read_again(ReadingOf::Recipe(first))?;
        let refused = &self.recipe.sender.shapes.refuse;
        if let Some(name) = main.misfits.iter().find(|name| refused.contains(name)) {
            return Err(CallbackError::of(Reason::BadEncoding, name));
        }
        coverage.proofs.push(main.proof);
        for index in matched.further.iter() {
            coverage.proofs.push(self.read_again(ReadingOf::Recipe(*index))?.proof);
        }
        if matches!(self.kind_here().map(|kind| &kind.also), Some(Also::Reading(_))) {
            coverage.proofs.push(self.read_again(ReadingOf::Kind)?.proof);
        }
        coverage.verdict = match (main.others, main.misfits.is_empty()) {
            (Others::Fit, _) => TextVerdict::Ambiguous,
            (Others::NotEven, _) | (Others::None, false) => TextVerdict::Misfit,
            (Others::None, true)
                if main.grain == Grain::Coarse && self.disagrees(&coverage.proofs[0]) =>
            {
                TextVerdict::Ambiguous
            }
            (Others::None, true) => TextVerdict::Agrees,
        };
        coverage.misfits = main.misfits;
        coverage.recut = main.recut;
        Ok(coverage)
    }

    fn reading_of(&self, of: ReadingOf) -> Option<&Reading> {
        match of {
            ReadingOf::Recipe(index) => self.recipe.readings.get(index),
            ReadingOf::Kind => match self.kind_here().map(|kind| &kind.also) {
                Some(Also::Reading(reading)) => Some(reading),
                _ => None,
            },
        }
    }

    fn read_again(&self, of: ReadingOf) -> Result<ReadAgain, CallbackError> {
        let empty = || ReadAgain {
            proof: ReadingProof {
                of,
                closed: ValueSet::default(),
                open: ValueSet::default(),
                pairs: None,
            },
            misfits: Vec::new(),
            others: Others::None,
            grain: Grain::Finest,
            recut: Vec::new(),
        };
        let Some(reading) = self.reading_of(of) else { return Ok(empty()) };
        let signed = &reading.signed;
        let mut again = empty();
        again.proof.closed = *signed.always_closed();
        again.misfits = self.misfits(reading)?;
        if again.misfits.is_empty() && signed.is_closed == Always::Yes {
            return Ok(again);
        }
        let is_open = signed.has_open_value() || !reading.siblings.is_empty();
        if !again.misfits.is_empty() || is_open {
            self.read_text_back(reading, &mut again)?;
        }
        if signed.chain.is_some() {
            self.read_pairs_back(reading, &mut again)?;
        }
        if let Escapes::BothWays { other } = reading.escapes {
            self.open_escapes(reading, other, &mut again)?;
        }
        Ok(again)
    }

    /// The names of the values of `reading` that do not fit their shape.
    fn misfits(&self, reading: &Reading) -> Result<Vec<String>, ParameterError> {
        let signed = &reading.signed;
        let context = Context { plus: reading.plus, ..Context::default() };
        let mut names = Vec::new();
        for (spot, shape) in signed.spots.iter().zip(&signed.assumed.shapes) {
            let Some(spot) = spot.as_ref().filter(|_| !shape.is_free()) else { continue };
            let value = self.value(spot, &context)?.filter(|value| !value.is_empty());
            let fits = value.map_or(shape.may_be_absent(), |value| shape.fits(&value));
            if !fits {
                names.push(spot.name.to_string());
            }
        }
        self.absent_of_together(signed, &context, |name| names.push(name.to_owned()))?;
        Ok(names)
    }

    /// Calls `absent` with each value that is absent although the provider sends it whenever it
    /// sends one of those that came.
    fn absent_of_together<'s>(
        &'s self,
        signed: &'s Signed,
        context: &Context<'s>,
        mut absent: impl FnMut(&str),
    ) -> Result<(), ParameterError> {
        let spot = |value: &usize| signed.spots.get(*value).and_then(Option::as_ref);
        let (mut came, mut missing) = (false, SmallVec::<[&Bound; 4]>::new());
        for spot in signed.together.iter().filter_map(spot) {
            match self.value(spot, context)?.is_some_and(|value| !value.is_empty()) {
                true => came = true,
                false => missing.push(spot),
            }
        }
        missing.iter().filter(|_| came).for_each(|spot| absent(&spot.name));
        Ok(())
    }

    fn read_text_back(
        &self,
        reading: &Reading,
        again: &mut ReadAgain,
    ) -> Result<(), CallbackError> {
        let signed = &reading.signed;
        let SignedSegments { segments, values } = self.signed_segments(reading)?;
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
                again.others = self.others_of_siblings(reading, &segments);
            }
        }
        self.read_as_siblings(reading, &received, again);
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

    /// Whether values that fit make the text of a misfit as another reading of the same signature.
    fn others_of_siblings(&self, reading: &Reading, segments: &[Vec<u8>]) -> Others {
        let fits = |index: &usize| {
            self.recipe.readings.get(*index).is_some_and(|sibling| {
                let theirs = &sibling.signed;
                let values = vec![None; theirs.values.len()];
                let received = Received { segments, values: &values };
                theirs.layout.segments.len() == segments.len()
                    && matches!(theirs.assumed.read_back(&received), Readback::Closed(_))
            })
        };
        if reading.siblings.iter().any(fits) { Others::Fit } else { Others::NotEven }
    }

    /// Opens what another reading of the same signature reads otherwise, or leaves unsigned.
    fn read_as_siblings(&self, reading: &Reading, received: &Received<'_>, again: &mut ReadAgain) {
        for index in &reading.siblings {
            let Some(sibling) = self.recipe.readings.get(*index) else { continue };
            let theirs = &sibling.signed;
            if theirs.layout.segments.len() != received.segments.len() {
                continue;
            }
            let place_of = |input: &SignedInput| {
                reading.signed.values.iter().position(|value| value.input == *input)
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
                let Readback::Closed(closed) = proof.read_back(&received) else { continue };
                for (number, value) in (0..).zip(&reading.signed.values) {
                    let there = theirs.values.iter().position(|other| other.input == value.input);
                    let agrees = there
                        .and_then(|there| u8::try_from(there).ok())
                        .is_some_and(|there| closed.contains(there));
                    if !agrees {
                        again.proof.open_value(number, is_assumed);
                    }
                }
            }
        }
    }

    /// Opens what holds an escape, where one reading decodes escapes and `other` does not, or the
    /// other way round.
    fn open_escapes(
        &self,
        reading: &Reading,
        other: usize,
        again: &mut ReadAgain,
    ) -> Result<(), CallbackError> {
        let holds = |text: &[u8]| match reading.plus {
            Plus::Blank => memchr::memchr2(b'%', b'+', text).is_some(),
            Plus::Kept => memchr::memchr(b'%', text).is_some(),
        };
        let other = self.recipe.readings.get(other).and_then(|one| one.signed.chain.as_ref());
        let pairs = match &reading.signed.chain {
            Some(_) => self.received_pairs(reading)?,
            None => self.spelled_pairs(reading)?,
        };
        if reading.signed.chain.is_none() {
            // What is signed as it came says which pairs there are, but for the reading that
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
    fn spelled_pairs(&self, reading: &Reading) -> Result<Vec<ReceivedPair>, CallbackError> {
        let signed = &reading.signed;
        let values = signed.values.iter().zip(&signed.spots);
        let mut queries = values.filter(|(value, _)| value.input == SignedInput::Query);
        let Some((_, Some(spot))) = queries.next() else { return Ok(Vec::new()) };
        let context = Context { plus: reading.plus, reading: Some(reading), ..Context::default() };
        let text = self.value(spot, &context)?.unwrap_or_default();
        let start = memchr::memchr(b'?', &text).filter(|_| spot.is_url()).map_or(0, |at| at + 1);
        let pair = |pair: &[u8]| {
            let equals = memchr::memchr(b'=', pair)?;
            Some(ReceivedPair { name: pair[..equals].to_vec(), value: pair[equals + 1..].to_vec() })
        };
        let pairs: Option<Vec<_>> = text[start..].split(|byte| *byte == b'&').map(pair).collect();
        pairs.ok_or_else(|| CallbackError::new(Reason::BadEncoding))
    }

    /// The text of `reading` in segments, without the secret, and the values in it.
    fn signed_segments(&self, reading: &Reading) -> Result<SignedSegments, CallbackError> {
        let signed = &reading.signed;
        let context = Context { plus: reading.plus, reading: Some(reading), ..Context::default() };
        let mut values: Vec<Option<Vec<u8>>> = Vec::with_capacity(signed.values.len());
        for (spot, value) in signed.spots.iter().zip(&signed.values) {
            values.push(match (spot, &value.input) {
                (Some(spot), _) => self.value(spot, &context)?.map(Cow::into_owned),
                (None, SignedInput::Pairs { .. } | SignedInput::Other) => {
                    let mut out = Vec::new();
                    if let Some(pairs) = &reading.pairs {
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

    fn read_pairs_back(
        &self,
        reading: &Reading,
        again: &mut ReadAgain,
    ) -> Result<(), CallbackError> {
        let Some(chain) = &reading.signed.chain else { return Ok(()) };
        let pairs = self.received_pairs(reading)?;
        let splits = |name: &[u8]| {
            let holds = |separator| memchr::memmem::find(name, separator).is_some();
            holds(&*chain.between) || holds(&*chain.within)
        };
        if let Some(odd) = pairs.iter().find(|pair| splits(&pair.name)) {
            return Err(CallbackError::of(Reason::BadEncoding, &unreplaced::shown(&odd.name)));
        }
        let rules = chain.rules(&chain.assumed);
        self.refuse_unlisted(reading, chain, &rules.written(&pairs))?;
        let mut proof = PairsProof::default();
        // A list is one value of its text: which of its pairs are closed is said below.
        if let Ok(number) = u8::try_from(chain.value) {
            let mut list = ValueSet::default();
            list.insert(number);
            again.proof.closed = again.proof.closed.without(list);
        }
        let fits = rules.allows(&pairs);
        match rules.read_back(&pairs) {
            Chains::Empty => {
                again.misfits.push(chain_misfit(&pairs, &chain.assumed));
            }
            Chains::Closed(_) if !fits => {
                again.misfits.push(chain_misfit(&pairs, &chain.assumed));
                again.others = Others::Fit;
            }
            Chains::Closed(closedness) => {
                let open = pairs.iter().zip(&closedness);
                let open = open.filter(|(_, closed)| **closed == Closedness::Open);
                proof.open.extend(open.map(|(pair, _)| pair.name.clone()));
                proof.open.extend(rules.other_names(&pairs).unwrap_or_default());
                let proven = proven_pairs(chain, &pairs);
                proof = PairsProof { open: proof.open, ..proven };
            }
        }
        if !proof.open.is_empty() && !rules.is_finest(&pairs) {
            again.grain = Grain::Coarse;
            let coarse = pairs
                .iter()
                .filter(|pair| proof.open.contains(&pair.name) && rules.splits(&pair.value));
            again.recut.extend(coarse.map(|pair| unreplaced::shown(&pair.name)));
        }
        again.proof.pairs = Some(proof);
        Ok(())
    }

    /// Rejects a decoded query with an empty pair or a name without a value: its text is another
    /// than that of its pairs.
    fn refuse_unlisted(
        &self,
        reading: &Reading,
        chain: &Chain,
        written: &[u8],
    ) -> Result<(), CallbackError> {
        let ChainSource::Query(_) = &chain.source else { return Ok(()) };
        let context = Context { plus: reading.plus, reading: Some(reading), ..Context::default() };
        let spot = reading.signed.spots.get(chain.value).and_then(Option::as_ref);
        let text = spot.map(|spot| self.value(spot, &context)).transpose()?.flatten();
        match text.as_deref() == Some(written) {
            true => Ok(()),
            false => Err(CallbackError::new(Reason::BadEncoding)),
        }
    }

    /// The pairs of a decoded list as they were received, in the order of the list.
    fn received_pairs(&self, reading: &Reading) -> Result<Vec<ReceivedPair>, CallbackError> {
        let Some(chain) = &reading.signed.chain else { return Ok(Vec::new()) };
        let (parameters, buffers) = self.side(Scope::Outer);
        match (&chain.source, &reading.pairs) {
            (ChainSource::Pairs, Some(pairs)) => Ok(self.gathered_pairs(pairs, reading)?),
            (ChainSource::Pairs, None) => Ok(Vec::new()),
            (ChainSource::Query(cut), _) => {
                let in_query = parameters.iter(buffers).filter(|one| one.place == Place::Query);
                let is_cut = |name: &[u8]| cut.as_deref().is_some_and(|cut| cut.as_bytes() == name);
                let mut pairs = Vec::new();
                for parameter in in_query.take_while(|one| !is_cut(one.name)) {
                    let value = Value { place: parameter.place, raw: parameter.raw.into() };
                    let value = value.text(Plus::Kept).map_err(ParameterError::from)?;
                    let value = value.unwrap_or_default().into_owned();
                    pairs.push(ReceivedPair { name: parameter.name.to_vec(), value });
                }
                Ok(pairs)
            }
        }
    }

    /// Whether two readings of the text can name two events: something that identifies the event or
    /// selects its kind is open.
    fn disagrees(&self, proof: &ReadingProof) -> bool {
        let Some(reading) = self.reading_of(proof.of) else { return false };
        let is_open = |spot: &Bound| self.is_open(&reading.signed, proof, spot);
        let identity = self.identity_texts();
        let identity = identity.iter().flat_map(|text| text.of.spots());
        identity.chain(self.selecting_spots()).any(is_open)
    }

    fn is_open(&self, signed: &Signed, proof: &ReadingProof, spot: &Bound) -> bool {
        let by_value = || {
            (0..).zip(&signed.values).any(|(number, value)| {
                let is_it = match (&value.input, &spot.input) {
                    (
                        SignedInput::Parameter { slot, .. },
                        Input::Parameter { slot: own, scope, .. },
                    ) => slot == own && !(self.opened.is_some() && *scope == Scope::Message),
                    (SignedInput::Header(name), Input::Header(own)) => name == own,
                    (SignedInput::List { list, item }, Input::List { list: own, item: also }) => {
                        list == own && item == also
                    }
                    _ => false,
                };
                is_it && proof.open.contains(number)
            })
        };
        match &spot.input {
            Input::Known(text) => text.spots().any(|spot| self.is_open(signed, proof, spot)),
            Input::Parameter { slot, .. } => {
                let name = self.recipe.names.name(*slot);
                let in_pairs = |pairs: &PairsProof| pairs.open.iter().any(|open| open == name);
                by_value() || proof.pairs.as_ref().is_some_and(in_pairs)
            }
            _ => by_value(),
        }
    }

    /// Whether the signatures cover the value of `spot`, or that it is absent.
    pub(in crate::sender) fn covers(&self, coverage: &Coverage, spot: &Bound) -> bool {
        match &spot.input {
            Input::Known(text) => text.spots().all(|spot| self.covers(coverage, spot)),
            Input::Setting(_) | Input::Absent | Input::Role(_) => true,
            Input::Gateway(Gateway::Source | Gateway::Signed) => {
                self.recipe.protection == Protection::Signed
            }
            Input::Gateway(Gateway::BodySha256 | Gateway::Content) if self.opened.is_some() => {
                self.seal_is_covered(coverage)
            }
            _ => coverage.proofs.iter().any(|proof| self.proves(coverage, proof, spot)),
        }
    }

    fn proves(&self, coverage: &Coverage, proof: &ReadingProof, spot: &Bound) -> bool {
        let Some(reading) = self.reading_of(proof.of) else { return false };
        let signed = &reading.signed;
        let closed = || {
            (0..)
                .zip(&signed.values)
                .filter(|(number, value)| {
                    value.loss == Loss::None && proof.closed.contains(*number)
                })
                .map(|(_, value)| &value.input)
        };
        match &spot.input {
            Input::Parameter { slot, steps, scope } => {
                if self.opened.is_some() && *scope == Scope::Message {
                    return self.seal_is_covered(coverage);
                }
                let (parameters, buffers) = self.side(*scope);
                let name = self.recipe.names.name(*slot);
                let there = parameters.get(*slot, buffers);
                let there = there.filter(|one| !self.is_left_out(reading, *slot, *one));
                let Some(place) = there.map(|parameter| parameter.place) else {
                    return self.proves_absence(signed, proof, name);
                };
                closed().any(|input| match input {
                    SignedInput::Parameter { slot: own, steps: into } => {
                        own == slot && steps.starts_with(into)
                    }
                    SignedInput::Pairs { slots, gathered: None } => slots.contains(slot),
                    SignedInput::Pairs { gathered: Some(gathered), .. } => {
                        gathered.has(place, name)
                    }
                    SignedInput::Query => place == Place::Query,
                    SignedInput::Body => place != Place::Query,
                    _ => false,
                }) || proof.has_closed_pair(name)
            }
            Input::Header(name) => {
                closed().any(|input| matches!(input, SignedInput::Header(own) if own == name))
            }
            Input::List { list, item } => {
                let whole = || {
                    self.recipe
                        .lists
                        .get(*list)
                        .is_some_and(|of| of.spots().all(|spot| self.proves(coverage, proof, spot)))
                };
                closed().any(|input| {
                    matches!(input, SignedInput::List { list: own, item: also }
                        if own == list && also == item)
                }) || whole()
            }
            Input::Gateway(Gateway::BodySha256 | Gateway::Content) => {
                closed().any(|input| matches!(input, SignedInput::Body))
            }
            _ => false,
        }
    }

    /// Whether the text of `reading` is the same without a parameter that came: a list may leave out
    /// what is empty, an optional part also a macro that the sender left in place.
    fn is_left_out(&self, reading: &Reading, slot: Slot, parameter: Parameter<'_>) -> bool {
        let in_list = reading.pairs.as_ref().is_some_and(|pairs| {
            pairs.empty == Empty::Dropped || matches!(pairs.plan, Plan::Listed(_))
        });
        let is_it = |spot: &Bound| matches!(&spot.input, Input::Parameter { slot: own, .. } if *own == slot);
        let optional = reading.of.pieces.iter().filter_map(|piece| match piece {
            Piece::Optional(inner) => Some(inner),
            _ => None,
        });
        let spots = optional.flatten().filter_map(|piece| match piece {
            Piece::Value(spot) => Some(spot),
            _ => None,
        });
        let context = Context { plus: reading.plus, ..Context::default() };
        let is_nothing = |spot: &Bound| match self.value(spot, &context) {
            Ok(Some(value)) => self.is_nothing(&value),
            Ok(None) | Err(_) => true,
        };
        (in_list && evaluate::is_empty(parameter)) || spots.filter(|one| is_it(one)).any(is_nothing)
    }

    /// Whether the signature covers that the parameter `name` is absent: every place that is read
    /// is signed as a whole.
    fn proves_absence(&self, signed: &Signed, proof: &ReadingProof, name: &[u8]) -> bool {
        let is_whole = |place: Place| {
            (0..).zip(&signed.values).any(|(number, value)| {
                let closed = proof.closed.contains(number);
                match &value.input {
                    SignedInput::Query => closed && place == Place::Query,
                    SignedInput::Body => closed && place != Place::Query,
                    SignedInput::Pairs { gathered: Some(gathered), .. } => {
                        closed && gathered.has(place, name)
                    }
                    _ => false,
                }
            }) || proof.pairs.as_ref().is_some_and(|pairs| {
                let others = pairs.others.as_ref();
                others.is_some_and(|others| others.iter().all(|other| other != name))
                    && chain_reads(signed, place, name)
            })
        };
        self.recipe.sender.reads.iter().all(|reads| {
            is_whole(match reads {
                Reads::Query => Place::Query,
                Reads::Form => Place::Form,
                Reads::Json => Place::Json,
                Reads::Xml => Place::Xml,
            })
        })
    }

    /// Whether the signature covers the cipher text that the message was sealed in.
    fn seal_is_covered(&self, coverage: &Coverage) -> bool {
        let slot = self.opened.as_ref().and_then(|opened| opened.slot);
        let is_sealed = |input: &SignedInput| match input {
            SignedInput::Parameter { slot: own, steps } => steps.is_empty() && Some(*own) == slot,
            SignedInput::Body => true,
            _ => false,
        };
        coverage.proofs.iter().any(|proof| {
            self.reading_of(proof.of).is_some_and(|reading| {
                (0..)
                    .zip(&reading.signed.values)
                    .any(|(number, value)| proof.closed.contains(number) && is_sealed(&value.input))
            })
        })
    }

    /// Whether the signatures cover what `gate` says of this callback.
    pub(in crate::sender) fn covers_gate(&self, coverage: &Coverage, gate: &Gate) -> bool {
        match gate {
            Gate::Always | Gate::Never => true,
            Gate::Any(conditions) => {
                conditions.iter().all(|condition| self.covers_condition(coverage, condition))
            }
        }
    }

    pub(in crate::sender) fn covers_condition(
        &self,
        coverage: &Coverage,
        condition: &Condition<Bound>,
    ) -> bool {
        match &condition.subject {
            Subject::There(spot) | Subject::Is(spot, _) => self.covers(coverage, spot),
            // Any value can look like a macro, and what can be re-cut is not covered.
            Subject::Unreplaced | Subject::Recut => false,
        }
    }

    /// Whether the signatures cover what `text` makes, and that it was chosen among `texts`.
    pub(in crate::sender) fn covers_text(
        &self,
        coverage: &Coverage,
        texts: &[RoleText<Bound>],
        text: &RoleText<Bound>,
    ) -> bool {
        let earlier = texts.iter().take_while(|one| !std::ptr::eq(*one, text));
        let passed_over = |one: &RoleText<Bound>| {
            one.when.iter().all(|condition| self.covers_condition(coverage, condition))
                && one.of.spots().all(|spot| self.covers(coverage, spot))
        };
        let chosen = text.when.iter().all(|condition| self.covers_condition(coverage, condition));
        chosen
            && text.of.spots().all(|spot| self.covers(coverage, spot))
            && earlier.into_iter().all(passed_over)
    }
}

/// Which facts a proof rests on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Facts {
    Proven,
    All,
}

impl ReadingProof {
    fn open_value(&mut self, number: u8, facts: Facts) {
        let mut value = ValueSet::default();
        value.insert(number);
        match facts {
            Facts::Proven => self.closed = self.closed.without(value),
            Facts::All => self.open.insert(number),
        }
    }

    fn has_closed_pair(&self, name: &[u8]) -> bool {
        self.pairs.as_ref().is_some_and(|pairs| pairs.closed.iter().any(|closed| closed == name))
    }
}

impl super::Gathered {
    pub(super) fn has(&self, place: Place, name: &[u8]) -> bool {
        self.places.contains(&place) && !self.except.iter().any(|except| except.takes(name))
    }
}

/// Whether the chain of `signed` has every pair of that place, so that one may be missed there.
fn chain_reads(signed: &Signed, place: Place, name: &[u8]) -> bool {
    signed.values.iter().any(|value| match &value.input {
        SignedInput::Query => place == Place::Query,
        SignedInput::Pairs { gathered: Some(gathered), .. } => gathered.has(place, name),
        _ => false,
    })
}

/// What confirmed facts prove of a list of pairs.
fn proven_pairs(chain: &Chain, pairs: &[ReceivedPair]) -> PairsProof {
    let rules = chain.rules(&chain.confirmed);
    let Chains::Closed(closedness) = rules.read_back(pairs) else { return PairsProof::default() };
    if !rules.allows(pairs) {
        return PairsProof::default();
    }
    let closed = pairs.iter().zip(&closedness);
    let closed = closed.filter(|(_, closed)| **closed == Closedness::Closed);
    PairsProof {
        closed: closed.map(|(pair, _)| pair.name.clone()).collect(),
        open: Vec::new(),
        others: rules.other_names(pairs),
    }
}

/// What to call the pair that makes a list no list of the provider's.
fn chain_misfit(pairs: &[ReceivedPair], known: &[KnownName]) -> String {
    let misfit = known.iter().find(|known| {
        let value = pairs.iter().find(|pair| *pair.name == *known.name);
        let fits = |shape: &ValueShape| match value {
            Some(pair) => shape.fits(&pair.value),
            None => shape.may_be_absent(),
        };
        !fits(&known.shape)
    });
    misfit.map_or(Chain::WHOLE.to_owned(), |known| unreplaced::shown(&known.name))
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
