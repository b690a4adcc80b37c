//! The signature of a callback: which reading and secret make what it claims.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{Callback, CallbackError, Match};
use crate::sender::acts::evaluate::{Context, EvalError, Nul};
use crate::sender::acts::outcome::Reason;
use crate::sender::acts::signature::{self, Public, Reading, Redundancy};
use crate::sender::crypto::digest::{Feed, Output};
use crate::sender::language::bound::{Input, Scope};
use crate::sender::language::definition::{First, Writing};
use crate::sender::language::recipe::Protection;
use crate::sender::language::shape::Shape;
use crate::sender::request::encoding::Plus;
use crate::sender::request::parameters::{ParameterError, Place};
use crate::sender::request::unreplaced;

/// Claims of one list that are looked at.
pub(in crate::sender) const CLAIMS_MAX: usize = 4;

/// A supplied signature.
#[derive(Debug)]
enum Claim<'c> {
    /// A parameter, which is read when something is to be compared with it.
    Parameter,
    /// A text.
    Text(Cow<'c, [u8]>),
    /// One or several of a list: the list's text, its shape, and what they are called in it.
    List(Cow<'c, [u8]>, &'c Shape, &'c [u8]),
}

/// Under what a signature matched.
#[derive(Clone, Copy, Debug)]
pub(super) enum Under {
    /// The secret at that place.
    Secret(usize),
    /// A public key that belongs to no secret.
    PublicKey,
}

impl Callback<'_> {
    /// Finds the reading and secret that match.
    pub(super) fn match_signature(&mut self) -> Result<(), CallbackError> {
        let mut output = Output::NONE;
        self.matched = Some(match self.recipe.protection {
            Protection::Unsigned => {
                Match { reading: None, secret: None, output: None, further: SmallVec::new() }
            }
            Protection::Signed => {
                let (reading, under) = self.signature(&mut output)?;
                let secret = match under {
                    Under::Secret(index) => Some(index),
                    Under::PublicKey => None,
                };
                let further = self.further(reading);
                Match { reading: Some(reading), secret, output: Some(output), further }
            }
        });
        Ok(())
    }

    /// Finds the reading that matches, and under what; `output` is what they make. The first claim
    /// that is there decides.
    fn signature(&self, output: &mut Output) -> Result<(usize, Under), CallbackError> {
        let mut decided = None;
        let mut lacking = None;
        let mut tried = false;
        for (index, reading) in self.recipe.readings.iter().enumerate() {
            let another = decided.is_some_and(|group| group != reading.claim_group);
            let idle = match reading.twin {
                Redundancy::No => false,
                Redundancy::OfPlus => !self.parameters.plus,
                Redundancy::OfEscapes => self.parameters.is_plain(),
            };
            if another || idle || !self.holds(&reading.when) {
                continue;
            }
            let Some(claim) = self.claim(reading)? else {
                lacking.get_or_insert(&*reading.claim.name);
                continue;
            };
            if !self.is_usable(reading) {
                continue;
            }
            decided = Some(reading.claim_group);
            self.refuse_strays(reading)?;
            if self.is_macro_for(reading, &claim) {
                tried = true;
                continue;
            }
            match self.try_reading(reading, &claim, output) {
                Ok(Some(under)) => return Ok((index, under)),
                Ok(None) => tried = true,
                Err(EvalError::Missing(name)) => {
                    lacking.get_or_insert(name);
                }
                Err(EvalError::Parameter(unreadable)) => return Err(unreadable.into()),
            }
        }
        match lacking.filter(|_| !tried) {
            Some(name) => Err(CallbackError::of(Reason::MissingParameter, name)),
            None => Err(CallbackError::new(Reason::BadSignature)),
        }
    }

    /// Readings of other signatures that the callback has and that match too, beside the one that
    /// decided. One that does not match says nothing: the first signature decides.
    fn further(&self, decided: usize) -> SmallVec<[usize; 2]> {
        let readings = &self.recipe.readings;
        let group = readings[decided].claim_group;
        let mut found = SmallVec::<[usize; 2]>::new();
        for (index, reading) in readings.iter().enumerate() {
            let known = reading.claim_group == group
                || found.iter().any(|other| readings[*other].claim_group == reading.claim_group);
            if known || !self.holds(&reading.when) || !self.is_usable(reading) {
                continue;
            }
            let Ok(Some(claim)) = self.claim(reading) else { continue };
            if self.refuse_strays(reading).is_err() || self.is_macro_for(reading, &claim) {
                continue;
            }
            let mut output = Output::NONE;
            if let Ok(Some(_)) = self.try_reading(reading, &claim, &mut output) {
                found.push(index);
            }
        }
        found
    }

    /// Whether a claim is a macro that the sender left in place, where a signature is never written
    /// so. Nothing has to be worked out to see that it is wrong, and no public key is needed.
    fn is_macro_for(&self, reading: &Reading, claim: &Claim<'_>) -> bool {
        let Input::Parameter { slot, scope, .. } = &reading.claim.input else { return false };
        if !matches!(claim, Claim::Parameter) || reading.writing == Writing::Text {
            return false;
        }
        let (parameters, buffers) = self.side(*scope);
        let raw = parameters.get(*slot, buffers).map_or(&[][..], |parameter| parameter.raw);
        // The comparison reports an unreadable one.
        unreplaced::may_be_macro(raw)
            && self
                .any_of(claim, reading, |text| self.recipe.macros.is_unreplaced(text))
                .unwrap_or(false)
    }

    /// Whether the source has anything that a claim of `reading` can be checked with. A claim that
    /// cannot be checked at all decides nothing.
    fn is_usable(&self, reading: &Reading) -> bool {
        let secrets = &self.recipe.secrets;
        let listed = reading.public.as_ref().is_some_and(Public::is_listed);
        listed
            || secrets.is_empty()
            || (0..secrets.len()).any(|at| self.is_live(at) && reading.can_use(at))
    }

    /// Whether the secret at `index` has not ended.
    pub(super) fn is_live(&self, index: usize) -> bool {
        let until = self.recipe.secrets.get(index).and_then(|secret| secret.until_ms);
        until.is_none_or(|until| until > self.now_ms)
    }

    /// Under what a claim of `reading` says what it makes.
    fn try_reading<'r>(
        &self,
        reading: &'r Reading,
        claim: &Claim<'_>,
        output: &mut Output,
    ) -> Result<Option<Under>, EvalError<'r>> {
        if let Some(public) = &reading.public {
            return self.try_public(reading, public, output);
        }
        for (index, secret) in self.recipe.secrets.iter().enumerate() {
            if !self.is_live(index) {
                continue;
            }
            let usable = self.put_output(reading, index, secret.value.expose(), output)?;
            let says = |claim: &[u8]| reading.is_claimed(output, claim);
            if usable && self.any_of(claim, reading, says)? {
                return Ok(Some(Under::Secret(index)));
            }
        }
        Ok(None)
    }

    /// The output of `reading` for this callback under one secret; `None` if the secret cannot be
    /// used with it.
    pub(in crate::sender) fn output<'r>(
        &self,
        reading: &'r Reading,
        index: usize,
        secret: &[u8],
    ) -> Result<Option<Output>, EvalError<'r>> {
        let mut output = Output::NONE;
        Ok(self.put_output(reading, index, secret, &mut output)?.then_some(output))
    }

    /// [`Self::output`], put where it stays; whether the secret can be used.
    pub(super) fn put_output<'r>(
        &self,
        reading: &'r Reading,
        index: usize,
        secret: &[u8],
        output: &mut Output,
    ) -> Result<bool, EvalError<'r>> {
        let Some(start) = signature::start(&reading.with, &reading.keyed, index) else {
            return Ok(false);
        };
        let context = Context {
            plus: reading.plus,
            secret,
            reading: Some(reading),
            nul: Nul::Refused,
            said: None,
        };
        let mut feed = Feed::new(start);
        match self.put(&reading.of, &context, &mut feed) {
            Ok(()) => {
                *output = reading.finish(&feed);
                Ok(true)
            }
            Err(EvalError::Missing("sorted")) => {
                Err(EvalError::Missing(self.lacking(reading, &context)))
            }
            Err(lack) => Err(lack),
        }
    }

    /// The claim of `reading`, if it is there.
    fn claim<'s>(&'s self, reading: &'s Reading) -> Result<Option<Claim<'s>>, ParameterError> {
        let context = Context { plus: claim_plus(reading), ..Context::default() };
        match &reading.claim.input {
            Input::Parameter { slot, steps, scope } if steps.is_empty() => {
                Ok(self.side(*scope).0.has(*slot).then_some(Claim::Parameter))
            }
            Input::List { list, item } => {
                let Some(text) = self.list_text(*list, &context)? else { return Ok(None) };
                let shape = &self.recipe.sender.lists[*list].shape;
                let any = shape.values(&text, item, 1).next().is_some();
                Ok(any.then_some(Claim::List(text, shape, item)))
            }
            _ => Ok(self.value(&reading.claim, &context)?.map(Claim::Text)),
        }
    }

    /// Whether a claim of the callback says `output`.
    pub(in crate::sender) fn claims(
        &self,
        reading: &Reading,
        output: &Output,
    ) -> Result<bool, ParameterError> {
        self.any_claim(reading, |claim| reading.is_claimed(output, claim))
    }

    /// Whether `says` holds of a claim of the callback.
    pub(super) fn any_claim(
        &self,
        reading: &Reading,
        says: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, ParameterError> {
        match self.claim(reading)? {
            Some(claim) => self.any_of(&claim, reading, says),
            None => Ok(false),
        }
    }

    /// Whether `says` holds of `claim`, or of one of several.
    #[inline]
    fn any_of(
        &self,
        claim: &Claim<'_>,
        reading: &Reading,
        says: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, ParameterError> {
        match claim {
            Claim::Text(text) => Ok(says(text)),
            Claim::List(text, shape, item) => {
                let claims = shape.values(text, item, CLAIMS_MAX);
                Ok(claims.fold(false, |any, claim| any | says(claim)))
            }
            Claim::Parameter => {
                let context = Context { plus: claim_plus(reading), ..Context::default() };
                let text = self.value(&reading.claim, &context)?;
                Ok(text.is_some_and(|text| says(&text)))
            }
        }
    }

    /// Rejects a callback with one of the gateway's own names, or with a parameter after the signed
    /// part.
    #[inline(never)]
    fn refuse_strays(&self, reading: &Reading) -> Result<(), CallbackError> {
        let (parameters, buffers) = self.side(Scope::Outer);
        for slot in reading.pairs.iter().flat_map(|pairs| &pairs.added) {
            if parameters.get(*slot, buffers).is_some() {
                let name = unreplaced::shown(self.recipe.names.name(*slot));
                return Err(CallbackError::of(Reason::RepeatedParameter, &name));
            }
        }
        let Some(cut) = &reading.cut_before else { return Ok(()) };
        let behind = parameters
            .iter(buffers)
            .filter(|parameter| parameter.place == Place::Query)
            .skip_while(|parameter| parameter.name != cut.as_bytes());
        for parameter in behind {
            let slot = self.recipe.names.find(parameter.name);
            // Nothing vouches for a value there: only what the signature itself needs has its
            // place.
            if !slot.is_some_and(|slot| self.recipe.unsigned.contains(&slot)) {
                let name = unreplaced::shown(parameter.name);
                return Err(CallbackError::of(Reason::UnsignedParameter, &name));
            }
        }
        Ok(())
    }

    pub(super) fn also(&self, reading: &Reading) -> Result<(), CallbackError> {
        let key_is_setting = matches!(reading.with.first, First::Keyed(_));
        let secrets = if key_is_setting { 1 } else { self.recipe.secrets.len() };
        let mut live = (0..secrets).filter(|index| key_is_setting || self.is_live(*index));
        let matches = live.try_fold(false, |any, index| {
            let secret = self.recipe.secrets.get(index);
            let secret = secret.map_or(&[][..], |secret| secret.value.expose());
            match self.output(reading, index, secret)? {
                Some(output) => Ok::<_, EvalError<'_>>(any | self.claims(reading, &output)?),
                None => Ok(any),
            }
        });
        if matches? {
            Ok(())
        } else {
            Err(CallbackError::of(Reason::BadSignature, &reading.claim.name))
        }
    }
}

/// Base64 may stand in a query as it is, so a `+` in a claim is one.
pub(in crate::sender) fn claim_plus(reading: &Reading) -> Plus {
    match reading.writing {
        Writing::Hex | Writing::Text => reading.plus,
        Writing::Base64 | Writing::Base64Url => Plus::Kept,
    }
}
