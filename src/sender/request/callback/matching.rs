//! The signature of a callback: which variant and secret make the supplied signature.

use std::borrow::Cow;

use super::{Callback, CallbackError, FurtherMatch, Match};
use crate::sender::acts::evaluate::{Context, EvalError, Nul};
use crate::sender::acts::outcome::Reason;
use crate::sender::acts::signature::{self, Public, Redundancy, SignatureVariant};
use crate::sender::crypto::digest::{Feed, Output};
use crate::sender::language::bound::{Input, Scope};
use crate::sender::language::definition::{First, Writing};
use crate::sender::language::recipe::Protection;
use crate::sender::language::shape::Shape;
use crate::sender::request::encoding::Plus;
use crate::sender::request::parameters::{ParameterError, Place};
use crate::sender::request::unreplaced;

/// Supplied signatures of one list that are checked.
pub(in crate::sender) const SUPPLIED_MAX: usize = 4;

/// A supplied signature.
#[derive(Debug)]
enum SuppliedSignature<'c> {
    /// A parameter, which is read when something is to be compared with it.
    Parameter,
    /// A text.
    Text(Cow<'c, [u8]>),
    /// One or several of a list: the list's text, its shape, and what they are called in it.
    List(Cow<'c, [u8]>, &'c Shape, &'c [u8]),
}

/// The secret or key under which a signature matched.
#[derive(Clone, Copy, Debug)]
pub(super) enum Under {
    /// The secret at that place.
    Secret(usize),
    /// A public key that belongs to no secret.
    PublicKey,
}

impl Callback<'_> {
    /// Finds the variant and secret that match.
    pub(super) fn match_signature(&mut self) -> Result<(), CallbackError> {
        let mut output = Output::NONE;
        self.matched = Some(match self.recipe.protection {
            Protection::Unsigned => {
                Match { variant: None, secret: None, output: None, further: Vec::new() }
            }
            Protection::Signed => {
                let (variant, under) = self.signature(&mut output)?;
                let secret = match under {
                    Under::Secret(index) => Some(index),
                    Under::PublicKey => None,
                };
                let further = self.further(variant);
                Match { variant: Some(variant), secret, output: Some(output), further }
            }
        });
        Ok(())
    }

    /// Finds the variant that matches, and under what; `output` is what they make. The first
    /// supplied signature that is there decides.
    fn signature(&self, output: &mut Output) -> Result<(usize, Under), CallbackError> {
        let mut decided = None;
        let mut lacking = None;
        let mut tried = false;
        for (index, variant) in self.recipe.variants.iter().enumerate() {
            let another = decided.is_some_and(|group| group != variant.supplied_group);
            let idle = match variant.twin {
                Redundancy::No => false,
                Redundancy::OfPlus => !self.parameters.plus,
                Redundancy::OfEscapes => self.parameters.is_plain(),
            };
            if another || idle || !self.holds(&variant.when) {
                continue;
            }
            let Some(supplied) = self.supplied(variant)? else {
                lacking.get_or_insert(&*variant.supplied.name);
                continue;
            };
            if !self.is_usable(variant) {
                continue;
            }
            decided = Some(variant.supplied_group);
            self.reject_strays(variant)?;
            // Once another variant was tried, it does not matter what this one lacks.
            if tried && self.lacks_parameter(&variant.of) {
                continue;
            }
            if self.is_macro_for(variant, &supplied) {
                tried = true;
                continue;
            }
            match self.try_variant(variant, &supplied, output) {
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

    /// The variant whose signature is supplied, right or wrong: of those that would decide, the
    /// first. It says how a callback is read that an operator grants.
    pub(super) fn supplied_variant(&self) -> Option<usize> {
        if self.recipe.protection == Protection::Unsigned {
            return None;
        }
        let variants = &self.recipe.variants;
        let is_supplied = |variant: &SignatureVariant| {
            self.holds(&variant.when) && matches!(self.supplied(variant), Ok(Some(_)))
        };
        // Where every secret has ended, none of them is usable.
        let usable = variants.iter().position(|one| is_supplied(one) && self.is_usable(one));
        usable.or_else(|| variants.iter().position(is_supplied))
    }

    /// Other signatures that the callback has and that match too, beside the one that decided. One
    /// that does not match is ignored: the first signature decides.
    fn further(&self, decided: usize) -> Vec<FurtherMatch> {
        let variants = &self.recipe.variants;
        let group = variants[decided].supplied_group;
        let mut found: Vec<FurtherMatch> = Vec::new();
        for (index, variant) in variants.iter().enumerate() {
            let is_of_group = |other: &FurtherMatch| {
                variants[other.variant].supplied_group == variant.supplied_group
            };
            let known = variant.supplied_group == group || found.iter().any(is_of_group);
            if known || !self.holds(&variant.when) || !self.is_usable(variant) {
                continue;
            }
            let Ok(Some(supplied)) = self.supplied(variant) else { continue };
            if self.reject_strays(variant).is_err() || self.is_macro_for(variant, &supplied) {
                continue;
            }
            let mut output = Output::NONE;
            if let Ok(Some(_)) = self.try_variant(variant, &supplied, &mut output) {
                found.push(FurtherMatch { variant: index, output });
            }
        }
        found
    }

    /// Whether a supplied signature is a macro that the sender left in place, where a signature is
    /// never written so. Nothing has to be worked out to see that it is wrong, and no public key is
    /// needed.
    fn is_macro_for(&self, variant: &SignatureVariant, supplied: &SuppliedSignature<'_>) -> bool {
        let Input::Parameter { slot, scope, .. } = &variant.supplied.input else { return false };
        if !matches!(supplied, SuppliedSignature::Parameter) || variant.writing == Writing::Text {
            return false;
        }
        let (parameters, buffers) = self.side(*scope);
        let raw = parameters.get(*slot, buffers).map_or(&[][..], |parameter| parameter.raw);
        // The comparison reports an unreadable one.
        unreplaced::may_be_macro(raw)
            && self
                .any_of(supplied, variant, |text| self.recipe.macros.is_unreplaced(text))
                .unwrap_or(false)
    }

    /// Whether the source has anything that a supplied signature of `variant` can be checked with.
    /// A supplied signature that cannot be checked decides nothing.
    fn is_usable(&self, variant: &SignatureVariant) -> bool {
        let secrets = &self.recipe.secrets;
        let listed = variant.public.as_ref().is_some_and(Public::is_listed);
        listed
            || secrets.is_empty()
            || (0..secrets.len()).any(|at| self.is_live(at) && variant.can_use(at))
    }

    /// Whether the secret at `index` has not ended.
    pub(super) fn is_live(&self, index: usize) -> bool {
        let until = self.recipe.secrets.get(index).and_then(|secret| secret.until_ms);
        until.is_none_or(|until| until > self.now_ms)
    }

    /// The secret or key under which a supplied signature of `variant` matches.
    fn try_variant<'r>(
        &self,
        variant: &'r SignatureVariant,
        supplied: &SuppliedSignature<'_>,
        output: &mut Output,
    ) -> Result<Option<Under>, EvalError<'r>> {
        if let Some(algorithm) = variant.token
            && !self.names_algorithm(variant, algorithm)?
        {
            return Ok(None);
        }
        if let Some(public) = &variant.public {
            return self.try_public(variant, public, output);
        }
        for (index, secret) in self.recipe.secrets.iter().enumerate() {
            if !self.is_live(index) {
                continue;
            }
            let usable = self.put_output(variant, index, secret.value.expose(), output)?;
            let says = |supplied: &[u8]| variant.matches(output, supplied);
            if usable && self.any_of(supplied, variant, says)? {
                return Ok(Some(Under::Secret(index)));
            }
        }
        Ok(None)
    }

    /// The output of `variant` for this callback under one secret; `None` if the secret cannot be
    /// used with it.
    pub(in crate::sender) fn output<'r>(
        &self,
        variant: &'r SignatureVariant,
        index: usize,
        secret: &[u8],
    ) -> Result<Option<Output>, EvalError<'r>> {
        let mut output = Output::NONE;
        Ok(self.put_output(variant, index, secret, &mut output)?.then_some(output))
    }

    /// [`Self::output`], put where it stays; whether the secret can be used.
    pub(super) fn put_output<'r>(
        &self,
        variant: &'r SignatureVariant,
        index: usize,
        secret: &[u8],
        output: &mut Output,
    ) -> Result<bool, EvalError<'r>> {
        let Some(start) = signature::start(&variant.with, &variant.keyed, index) else {
            return Ok(false);
        };
        let context = Context {
            plus: variant.plus,
            secret,
            variant: Some(variant),
            nul: Nul::Rejected,
            said: None,
        };
        let mut feed = Feed::new(start);
        match self.put(&variant.of, &context, &mut feed) {
            Ok(()) => {
                *output = variant.finish(&feed);
                Ok(true)
            }
            Err(EvalError::Missing("sorted")) => {
                Err(EvalError::Missing(self.lacking(variant, &context)))
            }
            Err(lack) => Err(lack),
        }
    }

    /// The supplied signature of `variant`, if present.
    fn supplied<'s>(
        &'s self,
        variant: &'s SignatureVariant,
    ) -> Result<Option<SuppliedSignature<'s>>, ParameterError> {
        let context = Context { plus: supplied_plus(variant), ..Context::default() };
        match &variant.supplied.input {
            Input::Parameter { slot, steps, scope } if steps.is_empty() => {
                Ok(self.side(*scope).0.has(*slot).then_some(SuppliedSignature::Parameter))
            }
            Input::List { list, item } => {
                let Some(text) = self.list_text(*list, &context)? else { return Ok(None) };
                let shape = &self.recipe.sender.lists[*list].shape;
                let any = shape.values(&text, item, 1).next().is_some();
                Ok(any.then_some(SuppliedSignature::List(text, shape, item)))
            }
            _ => Ok(self.value(&variant.supplied, &context)?.map(SuppliedSignature::Text)),
        }
    }

    /// Whether a supplied signature of the callback equals `output`.
    pub(in crate::sender) fn supplied_signatures(
        &self,
        variant: &SignatureVariant,
        output: &Output,
    ) -> Result<bool, ParameterError> {
        self.any_supplied(variant, |supplied| variant.matches(output, supplied))
    }

    /// Whether `says` holds of a supplied signature of the callback.
    pub(super) fn any_supplied(
        &self,
        variant: &SignatureVariant,
        says: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, ParameterError> {
        match self.supplied(variant)? {
            Some(supplied) => self.any_of(&supplied, variant, says),
            None => Ok(false),
        }
    }

    /// Whether `says` holds of `supplied`, or of one of several.
    #[inline]
    fn any_of(
        &self,
        supplied: &SuppliedSignature<'_>,
        variant: &SignatureVariant,
        says: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, ParameterError> {
        match supplied {
            SuppliedSignature::Text(text) => Ok(says(text)),
            SuppliedSignature::List(text, shape, item) => {
                let supplied_signatures = shape.values(text, item, SUPPLIED_MAX);
                Ok(supplied_signatures.fold(false, |any, supplied| any | says(supplied)))
            }
            SuppliedSignature::Parameter => {
                let context = Context { plus: supplied_plus(variant), ..Context::default() };
                let text = self.value(&variant.supplied, &context)?;
                Ok(text.is_some_and(|text| says(&text)))
            }
        }
    }

    /// Rejects a callback with one of the gateway's own names, or with a parameter after the signed
    /// part.
    #[inline(never)]
    fn reject_strays(&self, variant: &SignatureVariant) -> Result<(), CallbackError> {
        let (parameters, buffers) = self.side(Scope::Outer);
        for slot in variant.pairs.iter().flat_map(|pairs| &pairs.added) {
            if parameters.get(*slot, buffers).is_some() {
                let name = unreplaced::shown(self.recipe.names.name(*slot));
                return Err(CallbackError::of(Reason::RepeatedParameter, &name));
            }
        }
        let Some(cut) = &variant.cut_before else { return Ok(()) };
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

    pub(super) fn also(&self, variant: &SignatureVariant) -> Result<(), CallbackError> {
        let key_is_setting = matches!(variant.with.first, First::Keyed(_));
        let secrets = if key_is_setting { 1 } else { self.recipe.secrets.len() };
        let mut live = (0..secrets).filter(|index| key_is_setting || self.is_live(*index));
        let matches = live.try_fold(false, |any, index| {
            let secret = self.recipe.secrets.get(index);
            let secret = secret.map_or(&[][..], |secret| secret.value.expose());
            match self.output(variant, index, secret)? {
                Some(output) => {
                    Ok::<_, EvalError<'_>>(any | self.supplied_signatures(variant, &output)?)
                }
                None => Ok(any),
            }
        });
        if matches? {
            Ok(())
        } else {
            Err(CallbackError::of(Reason::BadSignature, &variant.supplied.name))
        }
    }
}

/// Base64 may be unescaped in a query, so a `+` in a supplied signature is a plus sign.
pub(in crate::sender) fn supplied_plus(variant: &SignatureVariant) -> Plus {
    match variant.writing {
        Writing::Hex | Writing::Text => variant.plus,
        Writing::Base64 | Writing::Base64Url => Plus::Kept,
    }
}
