//! The parameters of a request: slices of the untouched target and body, decoded only when read.
//!
//! Queries and forms are split here, JSON by `serde_json` and XML by `quick-xml`; whatever the
//! place, a parameter is two spans of its buffer. Nothing is allocated for a query or form whose
//! names hold no escapes.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::encoding::{self, EncodingError, Plus};
use super::marks;
use super::names::{Names, Slot, Strangers};
use super::{json, unreplaced, xml};
use crate::sender::acts::outcome::Reason;

/// Parameters that one callback may have. The longest known sender sends fewer than forty.
pub(in crate::sender) const PARAMETERS_MAX: usize = 200;

/// How many parameters of one callback stay off the heap.
const INLINE: usize = 24;

/// A link for each slot that there can be, so that none has to be checked.
const LINKS: usize = Slot::MAX as usize + 1;

/// The place of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Place {
    /// In the query.
    Query,
    /// In a body of `k=v&k=v`.
    Form,
    /// A member of a JSON object.
    Json,
    /// A child of an XML root.
    Xml,
}

/// Part of a buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sender) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(in crate::sender) fn new(start: usize, end: usize) -> Self {
        let bound = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: bound(start), end: bound(end) }
    }

    /// Where it begins in its buffer.
    pub(in crate::sender) fn start(self) -> usize {
        self.start as usize
    }

    /// Where it ends in its buffer.
    pub(in crate::sender) fn end(self) -> usize {
        self.end as usize
    }

    #[inline]
    pub(in crate::sender) fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    place: Place,
    /// The name is decoded in `Parameters::decoded`, not in the buffer.
    decoded: bool,
    /// The slot of the name, if the recipe knows it; else [`UNKNOWN_SLOT`].
    slot: Slot,
    name: Span,
    value: Span,
}

/// No recipe has so many names that this is one of their slots.
const UNKNOWN_SLOT: Slot = Slot::MAX;

/// The buffers that spans are parts of.
#[derive(Clone, Copy, Debug)]
pub(in crate::sender) struct Buffers<'b> {
    /// The text after the first `?` of the target.
    pub(in crate::sender) query: &'b [u8],
    /// The body, or the message that was opened.
    pub(in crate::sender) body: &'b [u8],
}

impl<'b> Buffers<'b> {
    fn get(self, place: Place) -> &'b [u8] {
        match place {
            Place::Query => self.query,
            Place::Form | Place::Json | Place::Xml => self.body,
        }
    }
}

/// Why parameters cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct ParameterError {
    /// The closed reason.
    pub(in crate::sender) reason: Reason,
    /// The parameter it is about.
    pub(in crate::sender) parameter: Option<String>,
}

impl ParameterError {
    pub(in crate::sender) fn new(reason: Reason) -> Self {
        Self { reason, parameter: None }
    }

    #[cold]
    fn repeated(name: &[u8]) -> Self {
        let name = String::from_utf8_lossy(name).chars().take(64).collect();
        Self { reason: Reason::RepeatedParameter, parameter: Some(name) }
    }
}

/// The parameters of one request, in order of appearance.
#[derive(Debug)]
pub(in crate::sender) struct Parameters {
    pairs: SmallVec<[Pair; INLINE]>,
    /// For each slot the index of its pair plus one; 0: it did not come.
    links: [u8; LINKS],
    /// Names that hold escapes, decoded.
    decoded: Vec<u8>,
    /// Whether a query or form has a `+`, whose meaning may differ.
    pub(in crate::sender) plus: bool,
    /// The characters in the values of query and form.
    values: Values,
    /// Pairs whose names no text reads.
    strangers: u8,
    /// Whether a name that no text reads repeats in the query or a form.
    pub(in crate::sender) repeats: Repeats,
}

/// Whether a name occurs twice in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Repeats {
    /// None does.
    None,
    /// One does that no text reads.
    Some,
}

/// The characters in the values of query and form, the hardest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Values {
    /// Nothing that has to be decoded, and no NUL.
    Plain,
    /// Escapes, and none of a NUL.
    Escaped,
    /// A NUL, escaped or not.
    WithNul,
}

impl Values {
    /// The class of `text`, which has an escape or a `+`.
    #[inline(never)]
    fn of(text: &[u8]) -> Self {
        let has_nul =
            memchr::memchr(0, text).is_some() || memchr::memmem::find(text, b"%00").is_some();
        if has_nul { Self::WithNul } else { Self::Escaped }
    }
}

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub(in crate::sender) struct Parameter<'p> {
    /// Its decoded name.
    pub(in crate::sender) name: &'p [u8],
    /// The place.
    pub(in crate::sender) place: Place,
    /// Its value as on the wire.
    pub(in crate::sender) raw: &'p [u8],
}

impl Parameters {
    /// No parameters.
    #[inline]
    pub(in crate::sender) fn new() -> Self {
        Self {
            pairs: SmallVec::new(),
            links: [0; LINKS],
            decoded: Vec::new(),
            plus: false,
            values: Values::Plain,
            strangers: 0,
            repeats: Repeats::None,
        }
    }

    /// Takes the pairs of a query or form.
    ///
    /// # Errors
    /// `repeated_parameter` or `too_large`.
    pub(in crate::sender) fn read_pairs(
        &mut self,
        place: Place,
        buffer: &[u8],
        names: &Names,
    ) -> Result<(), ParameterError> {
        let end = u32::try_from(buffer.len()).map_err(|_| ParameterError::new(Reason::TooLarge))?;
        let from = self.pairs.len();
        let mut start = 0;
        let mut equals = None;
        let mut escaped = false;
        for block in marks::blocks(buffer, end) {
            if block.escaped && !escaped {
                escaped = true;
                self.values = self.values.max(Values::of(&buffer[start as usize..]));
            }
            for mark in block.separators() {
                if buffer[mark as usize] == b'=' {
                    equals.get_or_insert(mark);
                    continue;
                }
                let spans = PairSpans::of(start, equals.take(), mark);
                self.take_spans(spans, place, buffer, names)?;
                start = mark + 1;
            }
        }
        self.take_spans(PairSpans::of(start, equals, end), place, buffer, names)?;
        self.plus |= !self.is_plain() && memchr::memchr(b'+', buffer).is_some();
        match self.reject_repeats(from, Buffers { query: buffer, body: buffer }) {
            Err(_) if names.strangers == Strangers::Repeated => {
                self.repeats = Repeats::Some;
                Ok(())
            }
            once => once,
        }
    }

    /// Takes the members of the JSON object in `buffer`.
    ///
    /// # Errors
    /// `bad_body` when it is none, `repeated_parameter` or `too_large`.
    pub(in crate::sender) fn read_json(
        &mut self,
        buffer: &[u8],
        names: &Names,
    ) -> Result<(), ParameterError> {
        let from = self.pairs.len();
        let members = json::members(buffer).ok_or(ParameterError::new(Reason::BadBody))?;
        for member in members {
            let (name, decoded) = match &member.name {
                Cow::Borrowed(name) => (json::span(buffer, name.as_bytes()), false),
                Cow::Owned(name) => (self.keep(name.as_bytes()), true),
            };
            let value = json::span(buffer, member.raw);
            let pair = Pair { place: Place::Json, decoded, slot: UNKNOWN_SLOT, name, value };
            self.take(pair, member.name.as_bytes(), names)?;
        }
        self.reject_repeats(from, Buffers { query: buffer, body: buffer })
    }

    /// Takes the children of the XML root in `buffer`. XML writes lists as repeated children, so
    /// only names that the recipe reads must not repeat.
    ///
    /// # Errors
    /// `bad_body` when it is none or has a document type, `repeated_parameter` or `too_large`.
    pub(in crate::sender) fn read_xml(
        &mut self,
        buffer: &[u8],
        names: &Names,
    ) -> Result<(), ParameterError> {
        let children = xml::children_of_root(buffer).ok_or(ParameterError::new(Reason::BadBody))?;
        for (name, value) in children {
            let pair = Pair { place: Place::Xml, decoded: false, slot: UNKNOWN_SLOT, name, value };
            self.take(pair, name.of(buffer), names)?;
        }
        Ok(())
    }

    /// Takes a pair of a query or form. Here and in [`Self::take`] the common path is inlined and
    /// the other one is not, so that a pair is written once, where it stays: a processor waits
    /// long for what was just written in parts and is read as a whole.
    #[inline(always)]
    fn take_spans(
        &mut self,
        spans: PairSpans,
        place: Place,
        buffer: &[u8],
        names: &Names,
    ) -> Result<(), ParameterError> {
        let PairSpans { name, value } = spans;
        if name.start == value.end {
            Ok(())
        } else if self.is_plain() {
            let pair = Pair { place, decoded: false, slot: UNKNOWN_SLOT, name, value };
            self.take(pair, name.of(buffer), names)
        } else {
            self.take_escaped(spans, place, buffer, names)
        }
    }

    /// Takes a pair whose name may hold escapes.
    #[inline(never)]
    fn take_escaped(
        &mut self,
        spans: PairSpans,
        place: Place,
        buffer: &[u8],
        names: &Names,
    ) -> Result<(), ParameterError> {
        let PairSpans { name, value } = spans;
        let text = encoding::unpercented(name.of(buffer), Plus::Space);
        let (name, decoded) = match &text {
            Cow::Borrowed(_) => (name, false),
            Cow::Owned(text) => (self.keep(text), true),
        };
        self.take(Pair { place, decoded, slot: UNKNOWN_SLOT, name, value }, &text, names)
    }

    fn keep(&mut self, name: &[u8]) -> Span {
        let start = self.decoded.len();
        self.decoded.extend_from_slice(name);
        Span::new(start, self.decoded.len())
    }

    /// Takes `pair`, which is called `name`.
    #[inline(always)]
    fn take(&mut self, mut pair: Pair, name: &[u8], names: &Names) -> Result<(), ParameterError> {
        if self.pairs.len() >= PARAMETERS_MAX {
            return Err(ParameterError::new(Reason::TooLarge));
        }
        match names.find(name) {
            Some(slot) => {
                let link = &mut self.links[usize::from(slot)];
                if *link != 0 {
                    return Err(ParameterError::repeated(name));
                }
                *link = u8::try_from(self.pairs.len() + 1).unwrap_or(u8::MAX);
                pair.slot = slot;
            }
            None => self.strangers = self.strangers.saturating_add(1),
        }
        self.pairs.push(pair);
        Ok(())
    }

    /// Names that no text reads must not repeat within their place either, where a signature covers
    /// them: parsers behind us disagree on which one counts.
    fn reject_repeats(&self, from: usize, buffers: Buffers<'_>) -> Result<(), ParameterError> {
        if self.strangers < 2 {
            return Ok(());
        }
        let strangers = || self.pairs[from..].iter().filter(|pair| pair.slot == UNKNOWN_SLOT);
        for (index, pair) in strangers().enumerate() {
            let name = self.parameter(pair, buffers).name;
            let mut earlier = strangers().take(index);
            if earlier.any(|other| self.parameter(other, buffers).name == name) {
                return Err(ParameterError::repeated(name));
            }
        }
        Ok(())
    }

    fn parameter<'p>(&'p self, pair: &Pair, buffers: Buffers<'p>) -> Parameter<'p> {
        let names = if pair.decoded { &self.decoded } else { buffers.get(pair.place) };
        Parameter {
            name: pair.name.of(names),
            place: pair.place,
            raw: pair.value.of(buffers.get(pair.place)),
        }
    }

    /// The parameter in `slot`, if it came.
    #[inline]
    pub(in crate::sender) fn get<'p>(
        &'p self,
        slot: Slot,
        buffers: Buffers<'p>,
    ) -> Option<Parameter<'p>> {
        let link = self.links[usize::from(slot)];
        let pair = self.pairs.get(usize::from(link).checked_sub(1)?)?;
        Some(self.parameter(pair, buffers))
    }

    /// Whether the parameter in `slot` came.
    #[inline]
    pub(in crate::sender) fn has(&self, slot: Slot) -> bool {
        self.links[usize::from(slot)] != 0
    }

    /// The value in `slot` as in `query`, if it is there.
    #[inline]
    pub(in crate::sender) fn get_plain<'p>(
        &'p self,
        slot: Slot,
        query: &'p [u8],
    ) -> Option<&'p [u8]> {
        let link = self.links[usize::from(slot)];
        let pair = self.pairs.get(usize::from(link).checked_sub(1)?)?;
        (pair.place == Place::Query).then(|| pair.value.of(query))
    }

    /// Each value, with the slot of its name, if all are in the query and none needs decoding. The
    /// slot of a name that the recipe does not know is one that no name has.
    pub(in crate::sender) fn plain_values<'p>(
        &'p self,
        query: &'p [u8],
    ) -> Option<impl Iterator<Item = (Slot, &'p [u8])>> {
        let plain = self.is_plain() && self.pairs.iter().all(|pair| pair.place == Place::Query);
        plain.then(|| self.pairs.iter().map(|pair| (pair.slot, pair.value.of(query))))
    }

    /// Whether a value as on the wire may start with a bracket, or with quotes around one.
    pub(in crate::sender) fn may_hold_macros(&self, buffers: Buffers<'_>) -> bool {
        self.pairs.iter().any(|pair| {
            let first = buffers.get(pair.place).get(pair.value.start as usize);
            first.is_some_and(|first| unreplaced::MAY_BEGIN.contains(first))
        })
    }

    /// The parameter called `name` in any place, if it came.
    pub(in crate::sender) fn find<'p>(
        &'p self,
        name: &[u8],
        buffers: Buffers<'p>,
    ) -> Option<Parameter<'p>> {
        self.iter(buffers).find(|parameter| parameter.name == name)
    }

    /// Every parameter, in order of appearance.
    pub(in crate::sender) fn iter<'p>(
        &'p self,
        buffers: Buffers<'p>,
    ) -> impl Iterator<Item = Parameter<'p>> {
        self.pairs.iter().map(move |pair| self.parameter(pair, buffers))
    }

    /// Whether no value of query and form has an escape or a NUL: none needs decoding.
    #[inline]
    pub(in crate::sender) fn is_plain(&self) -> bool {
        self.values == Values::Plain
    }

    /// Whether a value of query or form may have a NUL.
    #[inline]
    pub(in crate::sender) fn may_hold_nul(&self) -> bool {
        self.values == Values::WithNul
    }

    /// Every parameter, with the slot of its name.
    pub(in crate::sender) fn iter_known<'p>(
        &'p self,
        buffers: Buffers<'p>,
    ) -> impl Iterator<Item = (Option<Slot>, Parameter<'p>)> {
        self.pairs.iter().map(move |pair| {
            let slot = Some(pair.slot).filter(|slot| *slot != UNKNOWN_SLOT);
            (slot, self.parameter(pair, buffers))
        })
    }

    /// The place of each parameter.
    pub(in crate::sender) fn iter_places(&self) -> impl Iterator<Item = Place> {
        self.pairs.iter().map(|pair| pair.place)
    }

    /// The value at `index` of [`Self::iter`] as it is in `query`, if it is there.
    pub(in crate::sender) fn value_at<'q>(
        &self,
        index: usize,
        query: &'q [u8],
    ) -> Option<&'q [u8]> {
        let pair = self.pairs.get(index)?;
        (pair.place == Place::Query).then(|| pair.value.of(query))
    }

    /// How many there are.
    pub(in crate::sender) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// The parameter at `index` of [`Self::iter`].
    pub(in crate::sender) fn at<'p>(
        &'p self,
        index: usize,
        buffers: Buffers<'p>,
    ) -> Option<Parameter<'p>> {
        self.pairs.get(index).map(|pair| self.parameter(pair, buffers))
    }
}

/// The name and the value of a pair in a query or form.
#[derive(Clone, Copy)]
struct PairSpans {
    name: Span,
    value: Span,
}

impl PairSpans {
    /// The pair from `start` to `end`, with its first `=` at `equals`.
    #[inline(always)]
    fn of(start: u32, equals: Option<u32>, end: u32) -> Self {
        match equals {
            Some(equals) => {
                Self { name: Span { start, end: equals }, value: Span { start: equals + 1, end } }
            }
            None => Self { name: Span { start, end }, value: Span { start: end, end } },
        }
    }
}

/// A value with the writing it is in.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Value<'v> {
    /// The writing.
    pub(in crate::sender) place: Place,
    /// The value as on the wire.
    pub(in crate::sender) raw: Cow<'v, [u8]>,
}

impl<'v> Value<'v> {
    /// The decoded text; `None` for JSON's `null`.
    pub(in crate::sender) fn text(
        &self,
        plus: Plus,
    ) -> Result<Option<Cow<'_, [u8]>>, EncodingError> {
        match self.place {
            Place::Query | Place::Form => Ok(Some(encoding::unpercented(&self.raw, plus))),
            Place::Json => encoding::json_text(&self.raw),
            Place::Xml => xml::text(&self.raw).map(Some),
        }
    }

    /// The decoded text, given away; `None` for JSON's `null`.
    pub(in crate::sender) fn into_text(
        self,
        plus: Plus,
    ) -> Result<Option<Cow<'v, [u8]>>, EncodingError> {
        match self.raw {
            Cow::Borrowed(raw) => match self.place {
                Place::Query | Place::Form => Ok(Some(encoding::unpercented(raw, plus))),
                Place::Json => encoding::json_text(raw),
                Place::Xml => xml::text(raw).map(Some),
            },
            Cow::Owned(_) => Ok(self.text(plus)?.map(|text| Cow::Owned(text.into_owned()))),
        }
    }

    /// The member `name` of a JSON object, of a text that is JSON, or of an XML element; of a JSON
    /// list, the item of that number. `plus` is that of the text: what is read inside of it may not
    /// depend on a spelling that the signature does not see.
    ///
    /// # Errors
    /// `repeated_parameter` when there are two.
    pub(in crate::sender) fn step(
        self,
        name: &str,
        plus: Plus,
    ) -> Result<Option<Value<'v>>, ParameterError> {
        if self.place == Place::Xml {
            let child = match &self.raw {
                Cow::Borrowed(raw) => xml::child(raw, name)?.map(Cow::Borrowed),
                Cow::Owned(raw) => xml::child(raw, name)?.map(|raw| Cow::Owned(raw.to_vec())),
            };
            if let Some(raw) = child {
                return Ok(Some(Value { place: Place::Xml, raw }));
            }
        }
        if self.place == Place::Json && matches!(self.raw.first(), Some(b'{' | b'[')) {
            // A part of a body that was parsed.
            let raw = match self.raw {
                Cow::Borrowed(raw) => json::inner_of_read(raw, name)?.map(Cow::Borrowed),
                Cow::Owned(raw) => {
                    json::inner_of_read(&raw, name)?.map(|raw| Cow::Owned(raw.to_vec()))
                }
            };
            return Ok(raw.map(|raw| Value { place: Place::Json, raw }));
        }
        let raw = match self.into_text(plus).ok().flatten() {
            Some(Cow::Borrowed(object)) => json::inner(object, name)?.map(Cow::Borrowed),
            Some(Cow::Owned(object)) => {
                json::inner(&object, name)?.map(|raw| Cow::Owned(raw.to_vec()))
            }
            None => None,
        };
        Ok(raw.map(|raw| Value { place: Place::Json, raw }))
    }
}

/// The repeated name `name`, as a rejection.
pub(in crate::sender) fn repeated(name: &str) -> ParameterError {
    ParameterError::repeated(name.as_bytes())
}

#[cfg(test)]
mod tests;
