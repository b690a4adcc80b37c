//! Coverage of a placeholder, a condition or a text by the proofs of one callback.

use super::{Basis, Coverage, PairsProof, VariantProof};
use crate::sender::acts::evaluate::{self, Context};
use crate::sender::acts::signature::{Plan, SignatureVariant};
use crate::sender::language::bound::{Bound, Gate, Gateway, Input, Scope};
use crate::sender::language::condition::{Condition, Subject};
use crate::sender::language::coverage::{Gathered, Loss, Signed, SignedInput};
use crate::sender::language::definition::{Empty, Reads, RoleText};
use crate::sender::language::recipe::Protection;
use crate::sender::language::text::Piece;
use crate::sender::request::callback::Callback;
use crate::sender::request::names::Slot;
use crate::sender::request::parameters::{Parameter, Place};

impl Callback<'_> {
    pub(super) fn is_open(&self, signed: &Signed, proof: &VariantProof, spot: &Bound) -> bool {
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
        match self.covers_by_file(coverage, spot) {
            Some(is_covered) => {
                debug_assert_eq!(is_covered, self.covers_by_proofs(coverage, spot));
                is_covered
            }
            None => self.covers_by_proofs(coverage, spot),
        }
    }

    fn covers_by_proofs(&self, coverage: &Coverage, spot: &Bound) -> bool {
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

    /// The same for one whole parameter, where the sender's file decides it.
    #[inline]
    fn covers_by_file(&self, coverage: &Coverage, spot: &Bound) -> Option<bool> {
        let Basis::File { variant } = coverage.basis else { return None };
        let slot = spot.plain_slot().filter(|_| self.opened.is_none())?;
        let cover = self.recipe.variants.get(variant)?.signed.by_slot.as_ref()?;
        let is_sure = !cover.optional.contains(slot);
        is_sure.then(|| cover.closed.contains(slot) && self.parameters.has(slot))
    }

    fn proves(&self, coverage: &Coverage, proof: &VariantProof, spot: &Bound) -> bool {
        let Some(variant) = self.variant_of(proof.of) else { return false };
        let signed = &variant.signed;
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
                let there = there.filter(|one| !self.is_left_out(variant, *slot, *one));
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

    /// Whether the text of `variant` is the same without a parameter that came: a list may leave
    /// out
    /// what is empty, an optional part also a macro that the sender left in place.
    fn is_left_out(
        &self,
        variant: &SignatureVariant,
        slot: Slot,
        parameter: Parameter<'_>,
    ) -> bool {
        let in_list = variant.pairs.as_ref().is_some_and(|pairs| {
            pairs.empty == Empty::Dropped || matches!(pairs.plan, Plan::Listed(_))
        });
        let is_it = |spot: &Bound| matches!(&spot.input, Input::Parameter { slot: own, .. } if *own == slot);
        let optional = variant.of.pieces.iter().filter_map(|piece| match piece {
            Piece::Optional(inner) => Some(inner),
            _ => None,
        });
        let spots = optional.flatten().filter_map(|piece| match piece {
            Piece::Value(spot) => Some(spot),
            _ => None,
        });
        let context = Context { plus: variant.plus, ..Context::default() };
        let is_nothing = |spot: &Bound| match self.value(spot, &context) {
            Ok(Some(value)) => self.is_nothing(&value),
            Ok(None) | Err(_) => true,
        };
        (in_list && evaluate::is_empty(parameter)) || spots.filter(|one| is_it(one)).any(is_nothing)
    }

    /// Whether the signature covers that the parameter `name` is absent: every place that is read
    /// is signed as a whole.
    fn proves_absence(&self, signed: &Signed, proof: &VariantProof, name: &[u8]) -> bool {
        let is_whole = |place: Place| {
            (0..).zip(&signed.values).any(|(number, value)| {
                let closed = value.loss == Loss::None && proof.closed.contains(number);
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
            self.variant_of(proof.of).is_some_and(|variant| {
                (0..)
                    .zip(&variant.signed.values)
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
            Subject::All(parts) => parts.iter().all(|one| self.covers_condition(coverage, one)),
        }
    }

    /// Whether the signatures cover what `text` makes, and that it was chosen among `texts`.
    pub(in crate::sender) fn covers_text(
        &self,
        coverage: &Coverage,
        texts: &[RoleText<Bound>],
        text: &RoleText<Bound>,
    ) -> bool {
        // One text of one placeholder: the commonest by far.
        if let ([only], Some(spot)) = (texts, text.of.only_spot())
            && only.when.is_empty()
        {
            return self.covers(coverage, spot);
        }
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

impl VariantProof {
    fn has_closed_pair(&self, name: &[u8]) -> bool {
        self.pairs.as_ref().is_some_and(|pairs| pairs.closed.iter().any(|closed| closed == name))
    }
}

impl Gathered {
    pub(in crate::sender::language::coverage) fn has(&self, place: Place, name: &[u8]) -> bool {
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
