//! Parameters as operators and backends see them: secrets and supplied signatures are masked.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::sender::acts::evaluate::Context;
use crate::sender::acts::json_object::{JsonObject, put_json_text};
use crate::sender::acts::params_form::{BodySection, MASK, ParamTexts, ParamsForm, ShownParams};
use crate::sender::crypto::digest;
use crate::sender::language::bound::{Input, Scope};
use crate::sender::language::definition::Reads;
use crate::sender::language::recipe::Also;
use crate::sender::request::callback::Callback;
use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::names::Slot;
use crate::sender::request::parameters::{Buffers, Parameter, Parameters, Place, Repeats, Value};
use crate::sender::request::xml;

/// Masking of parameters that the sender's file does not read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownNames {
    /// Shown.
    Shown,
    /// Masked if they could be a signature.
    Masked,
}

/// The shortest signature of any sender, in characters: truncated ones keep eight.
const CLAIM_LEN_MIN: usize = 8;

/// The JSON object of an XML element that holds others.
fn object_of(parameter: &Parameter<'_>) -> Option<Vec<u8>> {
    if parameter.place == Place::Xml { xml::object(parameter.raw) } else { None }
}

impl Callback<'_> {
    /// The parameters as received, as a JSON object, for operators. Supplied signatures are masked,
    /// as is any unknown parameter that could be one: a valid signature under a misspelt name could
    /// still be used. So are secrets of the source, wherever they are in a name or a value: nothing
    /// has verified that this is a callback of its sender, written as its sender writes them.
    #[must_use]
    pub fn params(&self) -> Box<RawValue> {
        let mut out = Vec::new();
        self.put_params(&mut out, UnknownNames::Masked);
        raw_value(self.recipe.json_without_secrets(&out))
    }

    /// The same, but a secret is masked only where it is a whole value, so that each name is that of
    /// a parameter. For readers that look for the masked ones in the request; not to be shown.
    #[must_use]
    pub fn params_by_name(&self) -> Box<RawValue> {
        let mut out = Vec::new();
        self.put_params(&mut out, UnknownNames::Masked);
        raw_value(out)
    }

    /// The JSON that [`Self::shown_params`] stands for.
    #[cfg(test)]
    pub(in crate::sender) fn written_params(&self) -> String {
        let mut out = Vec::new();
        self.put_params(&mut out, UnknownNames::Shown);
        String::from_utf8(out).unwrap()
    }

    /// Writes the parameters as an object, and returns how their texts are shown.
    pub(super) fn put_params(&self, out: &mut Vec<u8>, unknown: UnknownNames) -> ParamTexts {
        let (parameters, buffers) = self.side(Scope::Message);
        let plus = self.plus();
        let mut texts = ParamTexts::Plain;
        let mut object = JsonObject::begin(out);
        for (index, (slot, parameter)) in parameters.iter_known(buffers).enumerate() {
            if self.is_shadowed(parameters, buffers, index, &parameter) {
                continue;
            }
            let out = match slot {
                Some(slot) => object.member(self.recipe.names.member(slot)),
                None => object.name(encoding::shown(parameter.name).as_bytes()),
            };
            let text = self.shown_text(parameters, &parameter, plus);
            let is_hidden = self.hides(slot, &text, unknown);
            if is_odd(parameter.name) || (!is_hidden && is_odd(&text)) {
                texts = ParamTexts::Escaped;
            }
            if is_hidden {
                put_json_text(out, MASK.as_bytes());
            } else if parameter.place == Place::Json {
                let json = self.without_inner_secrets(slot, parameter.raw);
                out.extend_from_slice(str::from_utf8(&json).unwrap_or("null").as_bytes());
            } else if let Some(json) = object_of(&parameter)
                && (slot.is_some() || parameters.repeats == Repeats::None)
            {
                let json = self.without_inner_secrets(slot, &json);
                out.extend_from_slice(str::from_utf8(&json).unwrap_or("null").as_bytes());
            } else if slot.is_none() && parameters.repeats == Repeats::Some {
                self.put_repeated(&parameter, plus, out);
            } else {
                put_json_text(out, encoding::shown(&text).as_bytes());
            }
        }
        object.end();
        texts
    }

    /// The parameters as events show them, to be stored with the request of this callback, which was
    /// resolved: before that its body may be unread, and its message sealed. Supplied signatures are
    /// masked. Only a callback that is recorded needs them.
    #[must_use]
    pub fn shown_params(&self) -> ShownParams {
        match self.form_of_plain_query() {
            Some(form) => ShownParams { form, texts: ParamTexts::Plain },
            None => self.examined_params(),
        }
    }

    /// The same, parameter by parameter. A text that is not UTF-8 is an edit: what older versions
    /// stored without one keeps its meaning.
    fn examined_params(&self) -> ShownParams {
        let (parameters, buffers) = self.side(Scope::Message);
        let of_body = parameters.iter(buffers).map(|one| one.place);
        let body = match of_body.into_iter().find(|place| *place != Place::Query) {
            _ if self.opened.is_some() => return self.literal_params(),
            _ if parameters.repeats == Repeats::Some => return self.literal_params(),
            _ if self.is_body_rewritten() => return self.literal_params(),
            _ if parameters.iter(buffers).any(|one| is_odd(one.name)) => {
                return self.literal_params();
            }
            Some(Place::Xml) => return self.literal_params(),
            Some(Place::Json) => BodySection::Json,
            Some(Place::Form) => BodySection::Form,
            Some(Place::Query) | None => BodySection::None,
        };
        let plus = self.plus();
        let query = self.recipe.sender.reads.contains(&Reads::Query).then_some(self.query);
        let mut form = ParamsForm::of(query, body, plus);
        let mut texts = ParamTexts::Plain;
        for (index, (slot, parameter)) in parameters.iter_known(buffers).enumerate() {
            if self.is_shadowed(parameters, buffers, index, &parameter) {
                form.omit(index);
                continue;
            }
            let text = self.shown_text(parameters, &parameter, plus);
            if self.hides(slot, &text, UnknownNames::Shown) {
                form.mask(index);
            } else if is_odd(&text) {
                texts = ParamTexts::Escaped;
                let mut json = Vec::new();
                put_json_text(&mut json, encoding::shown(&text).as_bytes());
                form.replace(index, &json);
            } else if parameter.place == Place::Json
                && let Cow::Owned(json) = self.without_inner_secrets(slot, parameter.raw)
            {
                form.replace(index, str::from_utf8(&json).unwrap_or("null").as_bytes());
            }
        }
        ShownParams { form, texts }
    }

    /// The same where all parameters are in a query without escapes, each name once: the commonest
    /// by far.
    fn form_of_plain_query(&self) -> Option<ParamsForm> {
        let once = self.unreadable.is_none() && self.parameters.repeats == Repeats::None;
        if self.opened.is_some() || !once || self.is_body_rewritten() || !self.query.is_ascii() {
            return None;
        }
        let values = self.parameters.plain_values(self.query)?;
        let query = self.recipe.sender.reads.contains(&Reads::Query).then_some(self.query);
        let mut form = ParamsForm::of(query, BodySection::None, self.plus());
        for (index, (slot, value)) in values.enumerate() {
            if self.recipe.hidden.contains(slot) || self.is_secret(value) {
                form.mask(index);
            }
        }
        Some(form)
    }

    /// Whether the body is read in another form than it was received in.
    fn is_body_rewritten(&self) -> bool {
        matches!(self.body, Cow::Owned(_)) || self.body.len() != self.request.body.len()
    }

    /// The parameters of a message that the request does not show as it is.
    #[cold]
    fn literal_params(&self) -> ShownParams {
        let mut out = Vec::new();
        let texts = self.put_params(&mut out, UnknownNames::Shown);
        ShownParams { form: ParamsForm::literal(&out), texts }
    }

    /// Whether an earlier parameter has the same name. Each place has a name once; of two places
    /// the first counts.
    #[inline]
    fn is_shadowed(
        &self,
        parameters: &Parameters,
        buffers: Buffers<'_>,
        index: usize,
        parameter: &Parameter<'_>,
    ) -> bool {
        let once = self.unreadable.is_none()
            && parameter.place == Place::Query
            && parameters.repeats == Repeats::None;
        let mut earlier = parameters.iter(buffers).take(index);
        !once && earlier.any(|other| other.name == parameter.name)
    }

    /// Whether a value is masked: a supplied signature, or a secret.
    #[inline]
    fn hides(&self, slot: Option<Slot>, text: &[u8], unknown: UnknownNames) -> bool {
        let is_signature_field = match slot {
            Some(slot) => self.recipe.supplied_signatures.contains(&slot),
            None => unknown == UnknownNames::Masked && may_be_signature(text),
        };
        is_signature_field || slot.is_some_and(|slot| self.is_masked(slot)) || self.is_secret(text)
    }

    /// `raw`, the JSON text of the parameter in `slot`, without what is masked inside.
    fn without_inner_secrets<'r>(&self, slot: Option<Slot>, raw: &'r [u8]) -> Cow<'r, [u8]> {
        let json = self.without_inner_signature(slot, raw);
        self.without_inner_masked(slot, json)
    }

    /// The text of a parameter that nothing reads, or the list of all that have its name.
    fn put_repeated(&self, parameter: &Parameter<'_>, plus: Plus, out: &mut Vec<u8>) {
        let (parameters, buffers) = self.side(Scope::Message);
        let same = parameters
            .iter(buffers)
            .filter(|other| other.name == parameter.name && other.place == parameter.place);
        let same: Vec<Parameter<'_>> = same.collect();
        let put = |one: &Parameter<'_>, out: &mut Vec<u8>| match object_of(one) {
            Some(json) => out.extend_from_slice(&json),
            None => {
                let text = self.shown_text(parameters, one, plus);
                put_json_text(out, encoding::shown(&text).as_bytes());
            }
        };
        if let [one] = same.as_slice() {
            return put(one, out);
        }
        for (at, one) in same.iter().enumerate() {
            out.push(if at == 0 { b'[' } else { b',' });
            put(one, out);
        }
        out.push(b']');
    }

    /// The decoded text of `parameter`; what cannot be decoded is empty.
    fn shown_text<'p>(
        &self,
        parameters: &Parameters,
        parameter: &Parameter<'p>,
        plus: Plus,
    ) -> Cow<'p, [u8]> {
        match parameter.place {
            Place::Query | Place::Form if parameters.is_plain() => Cow::Borrowed(parameter.raw),
            place => {
                let value = Value { place, raw: Cow::Borrowed(parameter.raw) };
                value.into_text(plus).ok().flatten().unwrap_or_default()
            }
        }
    }

    /// Whether a value is a secret of the source: some senders send theirs.
    fn is_secret(&self, value: &[u8]) -> bool {
        self.recipe.secrets.iter().any(|secret| digest::same(secret.value.expose(), value))
    }

    /// Whether the whole parameter in `slot` is a secret of the sender.
    fn is_masked(&self, slot: Slot) -> bool {
        self.recipe.masked.iter().any(|spot| match &spot.input {
            Input::Parameter { slot: own, steps, .. } => *own == slot && steps.is_empty(),
            _ => false,
        })
    }

    /// `json`, the text of the parameter in `slot`, without the secrets of the sender inside.
    fn without_inner_masked<'r>(
        &self,
        slot: Option<Slot>,
        mut json: Cow<'r, [u8]>,
    ) -> Cow<'r, [u8]> {
        for spot in &self.recipe.masked {
            let Input::Parameter { slot: own, steps, scope } = &spot.input else { continue };
            if Some(*own) != slot || steps.is_empty() {
                continue;
            }
            let Ok(Some(value)) = self.stepped(*own, steps, *scope) else { continue };
            // An empty text is not a secret, and a value that is not a text could be a part of
            // anything.
            if !value.raw.starts_with(b"\"") || value.raw.len() <= b"\"\"".len() {
                continue;
            }
            let mask = format!("\"{MASK}\"");
            json = Cow::Owned(replaced(&json, &value.raw, mask.as_bytes()));
        }
        json
    }

    /// The JSON text of the parameter in `slot` without the second signature, which may be inside.
    fn without_inner_signature<'r>(&self, slot: Option<Slot>, raw: &'r [u8]) -> Cow<'r, [u8]> {
        let kind = self.recipe.kinds.iter().find_map(|kind| match &kind.also {
            Also::Signature(variant) => Some(variant),
            Also::None | Also::Lacking => None,
        });
        let supplied =
            kind.map(|variant| &variant.supplied).filter(|supplied| match &supplied.input {
                Input::Parameter { slot: own, steps, .. } => {
                    Some(*own) == slot && !steps.is_empty()
                }
                _ => false,
            });
        let supplied =
            supplied.and_then(|supplied| self.value(supplied, &Context::default()).ok().flatten());
        match supplied.filter(|supplied| !supplied.is_empty()) {
            Some(supplied) => Cow::Owned(replaced(raw, &supplied, MASK.as_bytes())),
            None => Cow::Borrowed(raw),
        }
    }
}

fn raw_value(json: Vec<u8>) -> Box<RawValue> {
    let text = String::from_utf8(json).unwrap_or_default();
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Whether `text` is not UTF-8, and so is shown percent-encoded.
#[inline]
fn is_odd(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_err()
}

/// `text` with `other` in every place of `part`.
fn replaced(text: &[u8], part: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut from = 0;
    for at in memchr::memmem::find_iter(text, part) {
        out.extend_from_slice(&text[from..at]);
        out.extend_from_slice(other);
        from = at + part.len();
    }
    out.extend_from_slice(&text[from..]);
    out
}

/// Whether a value is written as signatures are: nothing but characters of hex or base64, digits
/// among them.
fn may_be_signature(value: &[u8]) -> bool {
    let written = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
    let text = value.trim_ascii();
    text.len() >= CLAIM_LEN_MIN
        && text.iter().all(written)
        && text.iter().any(u8::is_ascii_digit)
        && text.iter().any(u8::is_ascii_alphabetic)
}
