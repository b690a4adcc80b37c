//! Lists of pairs in a signed text, read back as the text says them.

use super::super::{Chain, ChainSource};
use super::{Grain, Others, PairsProof, ReadAgain};
use crate::sender::acts::evaluate::Context;
use crate::sender::acts::outcome::Reason;
use crate::sender::acts::signature::SignatureVariant;
use crate::sender::language::bound::Scope;
use crate::sender::language::recut::ValueSet;
use crate::sender::language::recut::chains::{Chains, Closedness, KnownName, ReceivedPair};
use crate::sender::language::value_shape::ValueShape;
use crate::sender::request::callback::{Callback, CallbackError};
use crate::sender::request::encoding::Plus;
use crate::sender::request::parameters::{ParameterError, Place, Value};
use crate::sender::request::unreplaced;

impl Callback<'_> {
    pub(super) fn read_pairs_back(
        &self,
        variant: &SignatureVariant,
        again: &mut ReadAgain,
    ) -> Result<(), CallbackError> {
        let Some(chain) = &variant.signed.chain else { return Ok(()) };
        let pairs = self.received_pairs(variant)?;
        let splits = |name: &[u8]| {
            let holds = |separator| memchr::memmem::find(name, separator).is_some();
            holds(&*chain.between) || holds(&*chain.within)
        };
        if let Some(odd) = pairs.iter().find(|pair| splits(&pair.name)) {
            return Err(CallbackError::of(Reason::BadEncoding, &unreplaced::shown(&odd.name)));
        }
        let rules = chain.rules(&chain.assumed);
        self.reject_unlisted(variant, chain, &rules.written(&pairs))?;
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
    fn reject_unlisted(
        &self,
        variant: &SignatureVariant,
        chain: &Chain,
        written: &[u8],
    ) -> Result<(), CallbackError> {
        let ChainSource::Query(_) = &chain.source else { return Ok(()) };
        let context = Context { plus: variant.plus, variant: Some(variant), ..Context::default() };
        let spot = variant.signed.spots.get(chain.value).and_then(Option::as_ref);
        let text = spot.map(|spot| self.value(spot, &context)).transpose()?.flatten();
        match text.as_deref() == Some(written) {
            true => Ok(()),
            false => Err(CallbackError::new(Reason::BadEncoding)),
        }
    }

    /// The pairs of a decoded list as they were received, in the order of the list.
    pub(super) fn received_pairs(
        &self,
        variant: &SignatureVariant,
    ) -> Result<Vec<ReceivedPair>, CallbackError> {
        let Some(chain) = &variant.signed.chain else { return Ok(Vec::new()) };
        let (parameters, buffers) = self.side(Scope::Outer);
        match (&chain.source, &variant.pairs) {
            (ChainSource::Pairs, Some(pairs)) => Ok(self.gathered_pairs(pairs, variant)?),
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
}

/// Pairs that confirmed facts prove of a list.
pub(super) fn proven_pairs(chain: &Chain, pairs: &[ReceivedPair]) -> PairsProof {
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

/// The name of the pair that the provider's list cannot contain.
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
