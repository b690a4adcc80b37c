//! The parameters of a recorded callback, as they are shown: not written out, but as what is to be
//! done with those in its request.
//!
//! ```text
//! form   0 · the whole JSON object, where the request does not have it as it is shown
//!        sections (1 byte, not 0) · edits, in the order of the parameters
//! edit   index << 2 | 0: masked · | 1: omitted · | 2: another value, length, JSON
//! ```
//!
//! Numbers have seven bits per byte, lowest first. A form is read by this file alone, never by a
//! sender's file, and so has the same meaning for ever: a section of pairs is split at `&` and the
//! first `=`, its texts are percent-decoded, and a section of JSON has the members of an object.

use smallvec::SmallVec;

use super::json_object::{JsonObject, put_json_text};
use crate::sender::request::Request;
use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::json;
use crate::sender::request::marks;

/// Shown in place of a masked value.
pub(in crate::sender) const MASK: &str = "***";

/// The parameters of the query.
const QUERY: u8 = 1;
/// The parameters of a body of pairs.
const FORM: u8 = 2;
/// The members of a body that is a JSON object.
const JSON: u8 = 4;
/// A `+` in a value is a plus sign.
const PLUS_KEPT: u8 = 8;
const LITERAL: u8 = 0;

const MASKED: usize = 0;
const OMITTED: usize = 1;
const REPLACED: usize = 2;
/// Bits of an edit below the index.
const EDIT_BITS: u32 = 2;

/// Bytes of a form that stay off the heap: a head and some masked parameters.
const INLINE: usize = 22;

/// A form, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) struct ParamsForm(SmallVec<[u8; INLINE]>);

/// The parameters of a callback as they are shown: what is to be done with those of its request, not
/// the values. [`crate::sender::Callback::shown_params`] makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownParams {
    pub(in crate::sender) form: ParamsForm,
    pub(in crate::sender) texts: ParamTexts,
}

/// How the texts of a callback's parameters are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParamTexts {
    /// As they were decoded.
    #[default]
    Plain,
    /// One or several are percent-encoded as a whole, because they are not UTF-8.
    Escaped,
}

/// The body of a request, as far as parameters are shown of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum BodySection {
    /// None are.
    None,
    /// Pairs.
    Form,
    /// The members of a JSON object.
    Json,
}

/// The parameters of a stored callback, as they are shown to operators and backends.
#[derive(Clone, Copy, Debug)]
pub struct StoredParams<'r> {
    /// The form that [`ShownParams::form`] returned.
    pub form: &'r [u8],
    /// Path and query of the request that was resolved.
    pub target: &'r [u8],
    /// Its body.
    pub body: &'r [u8],
}

/// A form that no version wrote, or one of another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the parameters of this request")]
pub struct ParamsFormError;

impl ParamsForm {
    /// A form that holds the JSON object itself.
    pub(in crate::sender) fn literal(json: &[u8]) -> Self {
        let mut bytes = SmallVec::with_capacity(json.len() + 1);
        bytes.push(LITERAL);
        bytes.extend_from_slice(json);
        Self(bytes)
    }

    /// A form of parameters in a query, if the sender's file reads it, and in a body.
    pub(in crate::sender) fn of(query: Option<&[u8]>, body: BodySection, plus: Plus) -> Self {
        let mut sections = if query.is_some() { QUERY } else { 0 };
        sections |= match body {
            BodySection::None => 0,
            BodySection::Form => FORM,
            BodySection::Json => JSON,
        };
        sections |= if plus == Plus::Kept { PLUS_KEPT } else { 0 };
        if sections & (QUERY | FORM | JSON) == 0 {
            return Self::literal(b"{}");
        }
        let mut bytes = SmallVec::new();
        bytes.push(sections);
        Self(bytes)
    }

    /// Masks the parameter at `index`. Edits come in the order of the parameters.
    pub(in crate::sender) fn mask(&mut self, index: usize) {
        self.put(index << EDIT_BITS | MASKED);
    }

    /// Omits the parameter at `index`.
    pub(in crate::sender) fn omit(&mut self, index: usize) {
        self.put(index << EDIT_BITS | OMITTED);
    }

    /// Shows the parameter at `index` with the value `json`.
    pub(in crate::sender) fn replace(&mut self, index: usize, json: &[u8]) {
        self.put(index << EDIT_BITS | REPLACED);
        self.put(json.len());
        self.0.extend_from_slice(json);
    }

    fn put(&mut self, mut n: usize) {
        while n >= 0x80 {
            self.0.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    pub(in crate::sender) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl ShownParams {
    /// The edits of the request's parameters, for [`StoredParams`].
    #[must_use]
    pub fn form(&self) -> &[u8] {
        self.form.bytes()
    }

    /// How their texts are shown.
    #[must_use]
    pub fn texts(&self) -> ParamTexts {
        self.texts
    }

    /// The JSON object of the parameters of `request`, from which this was made; empty if it is seen
    /// to be another one.
    #[must_use]
    pub fn json(&self, request: &Request<'_>) -> String {
        let Request { target, body, .. } = *request;
        let mut out = Vec::new();
        match (StoredParams { form: self.form(), target, body }.put_json(&mut out)) {
            Ok(()) => String::from_utf8(out).unwrap_or_default(),
            Err(_) => String::new(),
        }
    }
}

impl StoredParams<'_> {
    /// Appends the JSON object of the parameters.
    ///
    /// # Errors
    /// If the form is not one of this request.
    pub fn put_json(&self, to: &mut Vec<u8>) -> Result<(), ParamsFormError> {
        let (sections, edits) = self.form.split_first().ok_or(ParamsFormError)?;
        if *sections == LITERAL {
            std::str::from_utf8(edits).or(Err(ParamsFormError))?;
            to.extend_from_slice(edits);
            return Ok(());
        }
        if *sections & !(QUERY | FORM | JSON | PLUS_KEPT) != 0 {
            return Err(ParamsFormError);
        }
        let plus = if sections & PLUS_KEPT == 0 { Plus::Space } else { Plus::Kept };
        let mut shown = Shown { object: JsonObject::begin(to), edits: Edits::begin(edits)?, at: 0 };
        if sections & QUERY != 0 {
            let start = memchr::memchr(b'?', self.target).map_or(self.target.len(), |at| at + 1);
            shown.put_pairs(&self.target[start..], plus)?;
        }
        if sections & FORM != 0 {
            shown.put_pairs(self.body, plus)?;
        }
        if sections & JSON != 0 {
            for member in json::members(self.body).ok_or(ParamsFormError)? {
                shown.put(member.name.as_bytes(), |out| out.extend_from_slice(member.raw))?;
            }
        }
        shown.end()
    }
}

/// An object under construction.
struct Shown<'o, 'e> {
    object: JsonObject<'o>,
    edits: Edits<'e>,
    /// The index of the next parameter.
    at: usize,
}

impl Shown<'_, '_> {
    fn put_pairs(&mut self, pairs: &[u8], plus: Plus) -> Result<(), ParamsFormError> {
        let end = u32::try_from(pairs.len()).or(Err(ParamsFormError))?;
        if memchr::memchr2(b'%', b'+', pairs).is_none() {
            return marks::for_each_pair(pairs, end, |name, value| {
                self.put(name, |out| put_json_text(out, value))
            });
        }
        marks::for_each_pair(pairs, end, |name, value| {
            let name = encoding::unpercented(name, Plus::Space);
            self.put(&name, |out| put_json_text(out, &encoding::unpercented(value, plus)))
        })
    }

    fn put(
        &mut self,
        name: &[u8],
        value: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ParamsFormError> {
        let edit = self.edits.of(self.at)?;
        self.at += 1;
        match edit {
            None => value(self.object.name(name)),
            Some(Edit::Masked) => put_json_text(self.object.name(name), MASK.as_bytes()),
            Some(Edit::Omitted) => {}
            Some(Edit::Replaced(json)) => self.object.name(name).extend_from_slice(json),
        }
        Ok(())
    }

    fn end(self) -> Result<(), ParamsFormError> {
        self.object.end();
        if self.edits.next.is_none() { Ok(()) } else { Err(ParamsFormError) }
    }
}

enum Edit<'e> {
    Masked,
    Omitted,
    Replaced(&'e [u8]),
}

/// Edits that are left.
struct Edits<'e> {
    rest: &'e [u8],
    /// The next one.
    next: Option<usize>,
}

impl<'e> Edits<'e> {
    fn begin(rest: &'e [u8]) -> Result<Self, ParamsFormError> {
        let mut edits = Self { rest, next: None };
        edits.advance()?;
        Ok(edits)
    }

    fn advance(&mut self) -> Result<(), ParamsFormError> {
        self.next = if self.rest.is_empty() { None } else { Some(self.number()?) };
        Ok(())
    }

    /// The edit of the parameter at `index`, if it has one.
    fn of(&mut self, index: usize) -> Result<Option<Edit<'e>>, ParamsFormError> {
        let Some(next) = self.next.filter(|next| next >> EDIT_BITS == index) else {
            return Ok(None);
        };
        let edit = match next & ((1 << EDIT_BITS) - 1) {
            MASKED => Edit::Masked,
            OMITTED => Edit::Omitted,
            REPLACED => {
                let len = self.number()?;
                let (json, rest) = self.rest.split_at_checked(len).ok_or(ParamsFormError)?;
                std::str::from_utf8(json).or(Err(ParamsFormError))?;
                self.rest = rest;
                Edit::Replaced(json)
            }
            _ => return Err(ParamsFormError),
        };
        self.advance()?;
        Ok(Some(edit))
    }

    fn number(&mut self) -> Result<usize, ParamsFormError> {
        let mut n = 0_usize;
        for shift in (0..28).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(ParamsFormError)?;
            self.rest = rest;
            n |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(ParamsFormError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(form: &ParamsForm, target: &str, body: &str) -> Result<String, ParamsFormError> {
        let mut out = Vec::new();
        let stored =
            StoredParams { form: &form.0, target: target.as_bytes(), body: body.as_bytes() };
        stored.put_json(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn pairs_are_decoded_masked_omitted_and_replaced() {
        let mut form = ParamsForm::of(Some(b""), BodySection::Form, Plus::Kept);
        form.mask(1);
        form.omit(3);
        form.replace(4, b"[1]");
        assert_eq!(
            json(&form, "/a?x=%41+b&&sign=s%20&=", "x=again&y=1&%7A").unwrap(),
            r#"{"x":"A+b","sign":"***","":"","y":[1],"z":""}"#
        );
        // An edit of a parameter that is missing is not one of this request.
        assert_eq!(json(&form, "/a?x=1", ""), Err(ParamsFormError));
    }

    #[test]
    fn members_are_shown_as_they_are_spelled() {
        let mut form = ParamsForm::of(None, BodySection::Json, Plus::Space);
        form.mask(1);
        let shown = json(&form, "/a?x=1", r#" {"a" : 1.50, "s":"x", "b\"":{ "c":[] }}"#).unwrap();
        assert_eq!(shown, r#"{"a":1.50,"s":"***","b\"":{ "c":[] }}"#);
        assert_eq!(json(&form, "/", "[]"), Err(ParamsFormError));
    }

    #[test]
    fn where_nothing_is_read_nothing_is_shown() {
        let form = ParamsForm::of(None, BodySection::None, Plus::Kept);
        assert_eq!(json(&form, "/a?x=1", "x=1").unwrap(), "{}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(form: Vec<u8>, target in "[a?&=%+]{0,20}", body: String) {
            let form = ParamsForm(SmallVec::from_vec(form));
            let _ = json(&form, &target, &body);
        }
    }
}
