//! Values of a callback that do not fit the shapes of the sender's file.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::sender::acts::evaluate::{Context, PlainValue};
use crate::sender::acts::signature::SignatureVariant;
use crate::sender::language::bound::Bound;
use crate::sender::language::coverage::{Always, Signed};
use crate::sender::language::recipe::Also;
use crate::sender::request::callback::{Callback, CallbackError};
use crate::sender::request::parameters::ParameterError;

impl Callback<'_> {
    /// The variant that alone signed the callback, if the file says what it covers.
    pub(super) fn settled_by_file(&self) -> Result<Option<usize>, CallbackError> {
        let Some(matched) = self.matched.as_ref() else { return Ok(None) };
        let Some(index) = matched.variant.filter(|_| matched.further.is_empty()) else {
            return Ok(None);
        };
        let variant = &self.recipe.variants[index];
        let also = self.kind_here().is_some_and(|kind| matches!(kind.also, Also::Signature(_)));
        if also || variant.signed.is_closed != Always::Yes {
            return Ok(None);
        }
        let mut fits = true;
        self.each_misfit(variant, |_| fits = false)?;
        Ok(fits.then_some(index))
    }

    /// The names of the values of `variant` that do not fit their shape.
    pub(super) fn misfits(
        &self,
        variant: &SignatureVariant,
    ) -> Result<Vec<String>, ParameterError> {
        let mut names = Vec::new();
        self.each_misfit(variant, |name| names.push(name.to_owned()))?;
        Ok(names)
    }

    /// Calls `misfit` with the name of each value of `variant` that does not fit its shape.
    fn each_misfit(
        &self,
        variant: &SignatureVariant,
        mut misfit: impl FnMut(&str),
    ) -> Result<(), ParameterError> {
        let signed = &variant.signed;
        let context = Context { plus: variant.plus, ..Context::default() };
        for (spot, shape) in signed.spots.iter().zip(&signed.assumed.shapes) {
            let Some(spot) = spot.as_ref().filter(|_| !shape.is_free()) else { continue };
            let value = match self.plain_value(spot) {
                PlainValue::Value(value) => Some(Cow::Borrowed(value)),
                PlainValue::Absent => None,
                PlainValue::Unknown => self.value(spot, &context)?,
            };
            let value = value.filter(|value| !value.is_empty());
            if !value.map_or(shape.may_be_absent(), |value| shape.fits(&value)) {
                misfit(&spot.name);
            }
        }
        if signed.together.is_empty() {
            return Ok(());
        }
        self.absent_of_together(signed, &context, misfit)
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
}
