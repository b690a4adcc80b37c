//! Lists of parameters, as they are signed: in the order of the sender's file, or gathered and
//! sorted.

use smallvec::SmallVec;

use super::{Context, EvalError, Nul, holds_nul, is_empty};
use crate::sender::acts::outcome::Reason;
use crate::sender::acts::signature::{
    Listed, ListedValue, Pairs, PartSize, Plan, SORTED_PART_BYTES_MAX, SignatureVariant,
};
use crate::sender::language::bound::{Bound, Input, Scope};
use crate::sender::language::definition::{Each, Empty, Order};
use crate::sender::language::recut::chains::ReceivedPair;
use crate::sender::language::text::Text;
use crate::sender::language::value_shape::ByteSet;
use crate::sender::request::callback::Callback;
use crate::sender::request::encoding::{self, Sink};
use crate::sender::request::parameters::{Parameter, ParameterError, Place};

/// A member of a list that is gathered.
struct Entry<'e> {
    name: &'e [u8],
    of: EntryOf<'e>,
}

/// Most lists stay off the heap.
type Entries<'e> = SmallVec<[Entry<'e>; 40]>;

enum EntryOf<'e> {
    Parameter(Parameter<'e>),
    Ours(&'e Text<Bound>),
}

/// Writes what it takes in PHP's form encoding.
struct FormSink<'s, S>(&'s mut S);

impl<S: Sink> Sink for FormSink<'_, S> {
    fn put(&mut self, bytes: &[u8]) {
        encoding::form(bytes, self.0);
    }
}

/// Writes what it takes percent-encoded.
struct PercentSink<'s, S>(&'s mut S);

impl<S: Sink> Sink for PercentSink<'_, S> {
    fn put(&mut self, bytes: &[u8]) {
        encoding::percent(bytes, self.0);
    }
}

/// Writes what it takes percent-encoded, but for some bytes.
struct EscapedSink<'s, S> {
    stays: ByteSet,
    to: &'s mut S,
}

impl<S: Sink> Sink for EscapedSink<'_, S> {
    fn put(&mut self, bytes: &[u8]) {
        encoding::percent_where(bytes, |byte| self.stays.contains(byte), self.to);
    }
}

impl Callback<'_> {
    /// Writes the parameters that a variant signs as a list.
    pub(in crate::sender) fn put_pairs(
        &self,
        pairs: &Pairs,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), ParameterError> {
        match &pairs.plan {
            Plan::Listed(list) => self.put_list(list, pairs, context, sink),
            Plan::Gathered { .. } => self.put_gathered(pairs, context, sink),
        }
    }

    fn put_list(
        &self,
        list: &[Listed],
        pairs: &Pairs,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), ParameterError> {
        let (parameters, buffers) = self.side(Scope::Outer);
        let as_it_is = parameters.is_plain() && matches!(pairs.each, Each::Raw | Each::Decoded);
        // The first pair has no separator.
        let mut skipped = pairs.shape.between.len();
        for listed in list {
            match &listed.value {
                ListedValue::Parameter(slot) => {
                    let parameter = parameters.get(*slot, buffers);
                    let dropped = |p: &Parameter<'_>| pairs.empty == Empty::Dropped && is_empty(*p);
                    let Some(parameter) = parameter.filter(|p| !dropped(p)) else { continue };
                    sink.put(&listed.lead[std::mem::take(&mut skipped)..]);
                    match parameter.place {
                        Place::Query | Place::Form if as_it_is => sink.put(parameter.raw),
                        _ => self.put_each(parameter, pairs.each, context, sink)?,
                    }
                }
                ListedValue::Ours(text) => {
                    sink.put(&listed.lead[std::mem::take(&mut skipped)..]);
                    self.put_ours(text, context, sink)?;
                }
            }
        }
        Ok(())
    }

    fn put_ours(
        &self,
        text: &Text<Bound>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), ParameterError> {
        match self.put(text, context, sink) {
            Ok(()) | Err(EvalError::Missing(_)) => Ok(()),
            Err(EvalError::Parameter(unreadable)) => Err(unreadable),
        }
    }

    fn put_each(
        &self,
        parameter: Parameter<'_>,
        each: Each,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), ParameterError> {
        let (parameters, _) = self.side(Scope::Outer);
        match each {
            Each::Raw => {
                if context.nul == Nul::Rejected && holds_nul(parameter.raw) {
                    return Err(ParameterError::new(Reason::BadEncoding));
                }
                sink.put(parameter.raw);
            }
            Each::Decoded => {
                self.put_parameter(parameters, parameter, context, sink)?;
            }
            Each::Form => {
                self.put_parameter(parameters, parameter, context, &mut FormSink(sink))?;
            }
            Each::Percent => {
                self.put_parameter(parameters, parameter, context, &mut PercentSink(sink))?;
            }
            Each::Escaped(stays) => {
                let mut sink = EscapedSink { stays, to: sink };
                self.put_parameter(parameters, parameter, context, &mut sink)?;
            }
        }
        Ok(())
    }

    fn put_gathered(
        &self,
        pairs: &Pairs,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), ParameterError> {
        let entries = self.entries(pairs, context);
        let mut first = true;
        for entry in &entries {
            put_gap(pairs, &mut first, sink);
            match &entry.of {
                EntryOf::Parameter(parameter) => {
                    put_name(parameter.name, pairs, sink);
                    self.put_each(*parameter, pairs.each, context, sink)?;
                }
                EntryOf::Ours(text) => {
                    put_name(entry.name, pairs, sink);
                    self.put_ours(text, context, sink)?;
                }
            }
        }
        Ok(())
    }

    /// The pairs of a gathered list as they came, decoded, in the order of the list.
    pub(in crate::sender) fn gathered_pairs(
        &self,
        pairs: &Pairs,
        variant: &SignatureVariant,
    ) -> Result<Vec<ReceivedPair>, ParameterError> {
        let context = Context { plus: variant.plus, variant: Some(variant), ..Context::default() };
        let mut all = Vec::new();
        for entry in self.entries(pairs, &context) {
            let EntryOf::Parameter(parameter) = entry.of else { continue };
            let mut value = Vec::new();
            self.put_each(parameter, Each::Decoded, &context, &mut value)?;
            all.push(ReceivedPair { name: parameter.name.to_vec(), value });
        }
        Ok(all)
    }

    /// The members of a gathered list, in its order.
    fn entries<'e>(&'e self, pairs: &'e Pairs, context: &Context<'_>) -> Entries<'e> {
        let mut entries = Entries::new();
        let Plan::Gathered { places, except, order, add } = &pairs.plan else { return entries };
        let (parameters, buffers) = self.side(Scope::Outer);
        let supplied = context.variant.and_then(|variant| match &variant.supplied.input {
            Input::Parameter { slot, .. } => Some(self.recipe.names.name(*slot)),
            _ => None,
        });
        for index in 0..parameters.len() {
            let Some(parameter) = parameters.at(index, buffers) else { continue };
            let left_out = !places.contains(&parameter.place)
                || Some(parameter.name) == supplied
                || except.iter().any(|except| except.takes(parameter.name))
                || (pairs.empty == Empty::Dropped && is_empty(parameter));
            if !left_out {
                entries.push(Entry { name: parameter.name, of: EntryOf::Parameter(parameter) });
            }
        }
        entries.extend(add.iter().map(|(name, text)| Entry { name, of: EntryOf::Ours(text) }));
        if *order != Order::Given {
            entries.sort_unstable_by(|one, other| one.name.cmp(other.name));
        }
        entries
    }

    /// Writes a variant's texts, sorted as bytes.
    pub(super) fn put_sorted(
        &self,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<bool, ParameterError> {
        let Some(variant) = context.variant else { return Ok(false) };
        let mut scratch: SmallVec<[u8; 512]> = SmallVec::new();
        let mut parts: SmallVec<[(usize, usize); 8]> = SmallVec::new();
        for (text, size) in variant.sorted.iter().zip(&variant.sorted_sizes) {
            let start = scratch.len();
            match self.put(text, context, &mut scratch) {
                Ok(()) => {
                    if *size == PartSize::Bounded && scratch.len() - start > SORTED_PART_BYTES_MAX {
                        return Err(ParameterError::new(Reason::BadEncoding));
                    }
                    parts.push((start, scratch.len()));
                }
                Err(EvalError::Missing(_)) => return Ok(false),
                Err(EvalError::Parameter(unreadable)) => return Err(unreadable),
            }
        }
        parts.sort_unstable_by(|one, other| scratch[one.0..one.1].cmp(&scratch[other.0..other.1]));
        for (start, end) in parts {
            sink.put(&scratch[start..end]);
        }
        Ok(true)
    }
}

fn put_gap(pairs: &Pairs, first: &mut bool, sink: &mut impl Sink) {
    if !std::mem::take(first) {
        sink.put(&pairs.shape.between);
    }
}

fn put_name(name: &[u8], pairs: &Pairs, sink: &mut impl Sink) {
    let Some(within) = &pairs.shape.within else { return };
    match pairs.each {
        Each::Decoded => sink.put(name),
        Each::Form => encoding::form(name, sink),
        Each::Percent => encoding::percent(name, sink),
        // Values are escaped, or as they came. A name keeps all but what would make it another pair.
        Each::Raw | Each::Escaped(_) => pairs.shape.put_name(name, sink),
    }
    sink.put(within);
}
