//! Evaluation of texts on one callback.
//!
//! The verify path streams: literals, secrets and parameter slices go straight into the sink, and
//! nothing is allocated unless a value has a modifier, an escape in JSON or a step into it.

mod conditions;
mod known;
mod pairs;

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

use super::outcome::Reason;
use super::signature::SignatureVariant;
use crate::sender::language::bound::{Bound, Gateway, Input, Scope};
use crate::sender::language::definition::First;
use crate::sender::language::modifier::{CutText, Modifier};
use crate::sender::language::text::{Piece, Text};
use crate::sender::request::callback::Callback;
use crate::sender::request::encoding::{self, EncodingError, Plus, Sink};
use crate::sender::request::parameters::{
    Buffers, Parameter, ParameterError, Parameters, Place, Value,
};
use crate::sender::request::unreplaced;

/// The context of an evaluation.
#[derive(Clone, Copy, Default)]
pub(in crate::sender) struct Context<'x> {
    /// The meaning of `+`.
    pub(in crate::sender) plus: Plus,
    /// The secret that is tried.
    pub(in crate::sender) secret: &'x [u8],
    /// The variant that is tried.
    pub(in crate::sender) variant: Option<&'x SignatureVariant>,
    /// Whether a NUL in a value is rejected.
    pub(in crate::sender) nul: Nul,
    /// Values for a reply.
    pub(in crate::sender) said: Option<&'x ReplyValues<'x>>,
}

/// Whether a value may hold a NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) enum Nul {
    /// Allowed.
    #[default]
    Allowed,
    /// Signed texts: the padding of a length extension always holds one.
    Rejected,
}

/// Values that the gateway adds to a reply or a template.
#[derive(Clone, Copy)]
pub(in crate::sender) struct ReplyValues<'x> {
    pub(in crate::sender) reason: Option<Reason>,
    pub(in crate::sender) at_ms: i64,
    pub(in crate::sender) countersign: &'x str,
    pub(in crate::sender) code: &'x str,
    pub(in crate::sender) event_id: Option<&'x dyn fmt::Display>,
}

/// Why a text cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) enum EvalError<'r> {
    /// A placeholder that has to be there is not.
    Missing(&'r str),
    /// A value cannot be read.
    Parameter(ParameterError),
}

impl From<ParameterError> for EvalError<'_> {
    fn from(unreadable: ParameterError) -> Self {
        Self::Parameter(unreadable)
    }
}

impl From<EncodingError> for ParameterError {
    fn from(_: EncodingError) -> Self {
        Self::new(Reason::BadEncoding)
    }
}

/// A query without escapes: its values need no decoding.
#[derive(Clone, Copy)]
struct PlainQuery<'q> {
    parameters: &'q Parameters,
    query: &'q [u8],
}

/// The value of a placeholder, as far as a look at a query without escapes tells.
#[derive(Clone, Copy)]
pub(in crate::sender) enum PlainValue<'q> {
    /// This value.
    Value(&'q [u8]),
    /// The parameter did not come.
    Absent,
    /// Unknown without an evaluation.
    Unknown,
}

impl<'q> PlainQuery<'q> {
    /// The value of `spot`, if it is one whole parameter of the query.
    #[inline]
    fn value(self, spot: &Bound) -> Option<&'q [u8]> {
        self.parameters.get_plain(spot.plain_slot()?, self.query)
    }
}

/// The secret, if `spot` is only that.
#[inline]
fn secret<'x>(spot: &Bound, context: &Context<'x>) -> Option<&'x [u8]> {
    let is_secret = matches!(spot.input, Input::Gateway(Gateway::Secret));
    (is_secret && spot.modifiers.is_empty()).then_some(context.secret)
}

impl<const N: usize> Sink for SmallVec<[u8; N]> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Callback<'_> {
    /// The parameters of one side of the callback, with their buffers.
    pub(in crate::sender) fn side(&self, scope: Scope) -> (&Parameters, Buffers<'_>) {
        match (&self.opened, scope) {
            (Some(opened), Scope::Message) => {
                (&opened.parameters, Buffers { query: b"", body: &opened.message })
            }
            _ => (&self.parameters, Buffers { query: self.query, body: &self.body }),
        }
    }

    /// Writes `text` into `sink`.
    pub(in crate::sender) fn put<'r>(
        &self,
        text: &'r Text<Bound>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), EvalError<'r>> {
        let plain = self.plain_query();
        for piece in &text.pieces {
            match piece {
                Piece::Literal(bytes) => sink.put(bytes),
                Piece::Value(spot) => {
                    let value = plain.and_then(|plain| plain.value(spot));
                    if let Some(value) = value.or_else(|| secret(spot, context)) {
                        sink.put(value);
                    } else if !self.put_spot(spot, context, sink)? {
                        return Err(EvalError::Missing(&spot.name));
                    }
                }
                Piece::Optional(inner) => self.put_optional(inner, context, sink)?,
            }
        }
        Ok(())
    }

    /// Whether the parameters alone show that `text` cannot be made, because one of them is missing,
    /// and not because another cannot be read.
    pub(in crate::sender) fn lacks_parameter(&self, text: &Text<Bound>) -> bool {
        let Some(plain) = self.plain_query() else { return false };
        let is_missing = |piece: &Piece<Bound>| match piece {
            Piece::Value(spot) => spot.plain_slot().is_some_and(|slot| !plain.parameters.has(slot)),
            Piece::Literal(_) | Piece::Optional(_) => false,
        };
        let is_readable = |spot: &Bound| {
            spot.plain_slot().is_some() || matches!(spot.input, Input::Gateway(Gateway::Secret))
        };
        text.pieces.iter().any(is_missing) && text.spots().all(is_readable)
    }

    /// The parameters that texts read, where they stand in a query without escapes: the commonest
    /// by far.
    #[inline]
    fn plain_query(&self) -> Option<PlainQuery<'_>> {
        let plain = self.opened.is_none() && self.parameters.is_plain();
        plain.then_some(PlainQuery { parameters: &self.parameters, query: self.query })
    }

    /// The value of `spot`, if it is one whole parameter of a query without escapes.
    #[inline]
    pub(in crate::sender) fn plain_value(&self, spot: &Bound) -> PlainValue<'_> {
        let (Some(plain), Some(slot)) = (self.plain_query(), spot.plain_slot()) else {
            return PlainValue::Unknown;
        };
        match plain.parameters.get_plain(slot, plain.query) {
            Some(value) => PlainValue::Value(value),
            None if plain.parameters.has(slot) => PlainValue::Unknown,
            None => PlainValue::Absent,
        }
    }

    fn put_optional(
        &self,
        inner: &[Piece<Bound>],
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), ParameterError> {
        let (parameters, _) = self.side(Scope::Message);
        for piece in inner {
            let Piece::Value(spot) = piece else { continue };
            let absent = spot.plain_slot().is_some_and(|slot| !parameters.has(slot));
            if absent || self.value(spot, context)?.is_none_or(|value| self.is_nothing(&value)) {
                return Ok(());
            }
        }
        for piece in inner {
            match piece {
                Piece::Literal(bytes) => sink.put(bytes),
                Piece::Value(spot) => {
                    self.put_spot(spot, context, sink)?;
                }
                Piece::Optional(_) => {}
            }
        }
        Ok(())
    }

    /// Whether a value counts as absent in an optional part: it is empty, or a macro that the
    /// sender left in place.
    pub(in crate::sender) fn is_nothing(&self, value: &[u8]) -> bool {
        value.is_empty()
            || (unreplaced::may_be_macro(value) && self.recipe.macros.is_unreplaced(value))
    }

    /// Writes the value of `spot`; whether there is one.
    #[inline(never)]
    fn put_spot(
        &self,
        spot: &Bound,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<bool, ParameterError> {
        if spot.modifiers.is_empty() {
            match &spot.input {
                Input::Parameter { slot, steps, scope } if steps.is_empty() => {
                    let (parameters, buffers) = self.side(*scope);
                    let Some(parameter) = parameters.get(*slot, buffers) else { return Ok(false) };
                    return self.put_parameter(parameters, parameter, context, sink);
                }
                // A header cannot contain NUL.
                Input::Header(name) => {
                    let Some(value) = self.header(name)? else { return Ok(false) };
                    sink.put(value);
                    return Ok(true);
                }
                Input::Gateway(Gateway::Body) => {
                    self.reject_nul_in(self.message(), context)?;
                    sink.put(self.message());
                    return Ok(true);
                }
                Input::Gateway(Gateway::Pairs) => {
                    if let Some(pairs) = context.variant.and_then(|r| r.pairs.as_ref()) {
                        self.put_pairs(pairs, context, sink)?;
                    }
                    return Ok(true);
                }
                Input::Gateway(Gateway::Sorted) => {
                    return self.put_sorted(context, sink);
                }
                _ => {}
            }
        }
        if matches!(spot.input, Input::Gateway(Gateway::Query | Gateway::Url)) {
            self.reject_nul_in(self.request.target, context)?;
        }
        if self.put_cut(spot, sink) {
            return Ok(true);
        }
        match self.value(spot, context)? {
            Some(value) => {
                reject_nul(&value, context.nul)?;
                sink.put(&value);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Writes the query or the whole URL, cut at most once: slices of what came.
    fn put_cut(&self, spot: &Bound, sink: &mut impl Sink) -> bool {
        let (base, whole) = match spot.input {
            Input::Gateway(Gateway::Url) => (self.request.base, CutText::url(self.request.target)),
            Input::Gateway(Gateway::Query) => ("", CutText::query(self.query)),
            _ => return false,
        };
        let (head, tail): (&[u8], &[u8]) = match &*spot.modifiers {
            [] => (whole.text, &[]),
            [one] => match one.cut(whole) {
                Some(parts) => parts,
                None => return false,
            },
            _ => return false,
        };
        sink.put(base.as_bytes());
        sink.put(head);
        sink.put(tail);
        true
    }

    #[inline]
    fn put_parameter(
        &self,
        parameters: &Parameters,
        parameter: Parameter<'_>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<bool, ParameterError> {
        match parameter.place {
            Place::Query | Place::Form if parameters.is_plain() => {
                sink.put(parameter.raw);
                Ok(true)
            }
            Place::Query | Place::Form => {
                let exempt = context.nul == Nul::Allowed || self.recipe.open.is_some();
                if parameters.may_hold_nul() && !exempt && holds_nul(parameter.raw) {
                    return Err(ParameterError::new(Reason::BadEncoding));
                }
                encoding::unpercent(parameter.raw, context.plus, sink);
                Ok(true)
            }
            place => {
                let value = Value { place, raw: Cow::Borrowed(parameter.raw) };
                let Some(text) = value.text(context.plus)? else { return Ok(false) };
                reject_nul(&text, context.nul)?;
                sink.put(&text);
                Ok(true)
            }
        }
    }

    /// Rejects a NUL in what a plain digest is made of: the padding of a length extension always
    /// holds one. A keyed digest and a public key have no such extension.
    fn reject_nul_in(&self, bytes: &[u8], context: &Context<'_>) -> Result<(), ParameterError> {
        let plain = context.variant.is_some_and(|variant| {
            variant.public.is_none() && matches!(variant.with.first, First::Digest(_))
        });
        let nul = if plain && self.recipe.open.is_none() { context.nul } else { Nul::Allowed };
        reject_nul(bytes, nul)
    }

    /// The message that was opened, or the body.
    pub(in crate::sender) fn message(&self) -> &[u8] {
        self.opened.as_ref().map_or(self.request.body, |opened| &opened.message)
    }

    /// The value of `spot`, decoded and modified; `None` if it is missing.
    pub(in crate::sender) fn value<'s>(
        &'s self,
        spot: &'s Bound,
        context: &Context<'s>,
    ) -> Result<Option<Cow<'s, [u8]>>, ParameterError> {
        if let Some(value) = self.plain_query().and_then(|plain| plain.value(spot)) {
            return Ok(Some(Cow::Borrowed(value)));
        }
        let raw = spot.modifiers.first() == Some(&Modifier::Raw);
        let value = match &spot.input {
            Input::Parameter { slot, steps, scope } => {
                let stepped = self.stepped(*slot, steps, *scope, context.plus)?;
                let Some(value) = stepped else { return Ok(None) };
                if raw { Some(value.raw) } else { value.into_text(context.plus)? }
            }
            input => self.known(input, spot, context)?,
        };
        let Some(mut value) = value else { return Ok(None) };
        let is_query = matches!(spot.input, Input::Gateway(Gateway::Query));
        for (at, modifier) in spot.modifiers.iter().enumerate() {
            let cut = (is_query && at == 0).then(|| modifier.cut(CutText::query(self.query)));
            value = match cut.flatten() {
                Some((head, [])) => Cow::Borrowed(head),
                Some((head, tail)) => Cow::Owned([head, tail].concat()),
                None => modifier.apply(value)?,
            };
        }
        Ok(Some(value))
    }

    /// The parameter in `slot`, or what the steps into it lead to.
    pub(in crate::sender) fn stepped(
        &self,
        slot: u8,
        steps: &[Box<str>],
        scope: Scope,
        plus: Plus,
    ) -> Result<Option<Value<'_>>, ParameterError> {
        let (parameters, buffers) = self.side(scope);
        let Some(parameter) = parameters.get(slot, buffers) else { return Ok(None) };
        let mut value = Value { place: parameter.place, raw: Cow::Borrowed(parameter.raw) };
        for step in steps {
            match value.step(step, plus)? {
                Some(inner) => value = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }
}

impl Callback<'_> {
    /// The missing placeholder of a variant's texts, for the rejection.
    pub(in crate::sender) fn lacking<'r>(
        &self,
        variant: &'r SignatureVariant,
        context: &Context<'_>,
    ) -> &'r str {
        let texts = variant.sorted.iter().chain(std::iter::once(&variant.of));
        let lacking = texts.flat_map(|text| text.pieces.iter()).find_map(|piece| match piece {
            Piece::Value(spot) => {
                let composed = matches!(
                    spot.input,
                    Input::Gateway(Gateway::Pairs | Gateway::Sorted | Gateway::Secret)
                );
                let there = composed || matches!(self.value(spot, context), Ok(Some(_)));
                (!there).then_some(&*spot.name)
            }
            _ => None,
        });
        lacking.unwrap_or(&variant.supplied.name)
    }

    /// The meaning of `+` in the variant that matched.
    pub(in crate::sender) fn plus(&self) -> Plus {
        self.matched_variant().map_or(Plus::Space, |variant| variant.plus)
    }
}

/// Whether a parameter is empty once decoded.
pub(in crate::sender) fn is_empty(parameter: Parameter<'_>) -> bool {
    match parameter.place {
        Place::Query | Place::Form => parameter.raw.is_empty(),
        place => {
            let value = Value { place, raw: Cow::Borrowed(parameter.raw) };
            matches!(value.text(Plus::Space), Ok(None))
                || matches!(value.text(Plus::Space), Ok(Some(text)) if text.is_empty())
        }
    }
}

/// Whether a query or form value holds a NUL once decoded.
#[inline]
fn holds_nul(raw: &[u8]) -> bool {
    let Some(at) = memchr::memchr2(0, b'%', raw) else { return false };
    raw[at] == 0
        || memchr::memchr(0, &raw[at..]).is_some()
        || memchr::memmem::find(&raw[at..], b"%00").is_some()
}

fn reject_nul(value: &[u8], nul: Nul) -> Result<(), ParameterError> {
    if nul == Nul::Rejected && memchr::memchr(0, value).is_some() {
        return Err(ParameterError::new(Reason::BadEncoding));
    }
    Ok(())
}
