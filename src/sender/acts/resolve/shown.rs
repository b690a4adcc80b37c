//! Parameters as operators and backends see them: secrets and supplied signatures are masked.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::sender::acts::json_object::{JsonObject, put_json_text};
use crate::sender::acts::params_form::{BodySection, MASK, ParamTexts, ParamsForm, ShownParams};
use crate::sender::crypto::digest;
use crate::sender::language::bound::Scope;
use crate::sender::language::definition::Reads;
use crate::sender::language::recipe::MaskedMember;
use crate::sender::request::callback::Callback;
use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::json;
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
            } else if let Some(json) = self.masked_inside(slot, &parameter, &text) {
                out.extend_from_slice(&json);
            } else if parameter.place == Place::Json {
                out.extend_from_slice(str::from_utf8(parameter.raw).unwrap_or("null").as_bytes());
            } else if let Some(json) = object_of(&parameter)
                && (slot.is_some() || parameters.repeats == Repeats::None)
            {
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
            // A JSON text without escapes is UTF-8: the parser checked it.
            let is_checked = parameter.place == Place::Json && matches!(text, Cow::Borrowed(_));
            if self.hides(slot, &text, UnknownNames::Shown) {
                form.mask(index);
            } else if !is_checked && is_odd(&text) {
                texts = ParamTexts::Escaped;
                form.replace(index, &json_text(&text));
            } else if let Some(json) = self.masked_inside(slot, &parameter, &text) {
                form.replace(index, &json);
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
        let masked = &self.recipe.masked;
        for (index, (slot, value)) in values.enumerate() {
            if masked.whole.contains(slot) || self.is_secret(value) {
                form.mask(index);
            } else if masked.members.iter().any(|member| member.slot == slot) {
                return None;
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

    /// Whether a value is masked: a supplied signature, or a secret. In what nothing has verified, a
    /// signature inside may be under any name.
    #[inline]
    fn hides(&self, slot: Option<Slot>, text: &[u8], unknown: UnknownNames) -> bool {
        let is_guess = unknown == UnknownNames::Masked;
        let is_signature_field = match slot {
            Some(slot) if self.recipe.masked.whole.contains(slot) => true,
            Some(slot) => is_guess && self.recipe.supplied_signatures.contains(&slot),
            None => is_guess && may_be_signature(text),
        };
        is_signature_field || self.is_secret(text)
    }

    /// The JSON of a parameter whose members are masked, and that is shown as `text` if it is not
    /// JSON; `None` if it has none of these members. Where one is there and not found in what is
    /// shown, all of it is masked.
    fn masked_inside(
        &self,
        slot: Option<Slot>,
        parameter: &Parameter<'_>,
        text: &[u8],
    ) -> Option<Vec<u8>> {
        let is_its = |member: &&MaskedMember| Some(member.slot) == slot;
        let mut members = self.recipe.masked.members.iter().filter(is_its).peekable();
        members.peek()?;
        let json = match parameter.place {
            Place::Json => parameter.raw.to_vec(),
            _ => object_of(parameter).unwrap_or_else(|| json_text(text)),
        };
        let mut masked: Option<Vec<u8>> = None;
        for MaskedMember { slot, steps } in members {
            let is_there =
                |plus: Plus| !matches!(self.stepped(*slot, steps, Scope::Message, plus), Ok(None));
            match masked_at(masked.as_deref().unwrap_or(&json), steps) {
                Some(next) => masked = Some(next),
                None if is_there(Plus::Space) || is_there(Plus::Kept) => {
                    return Some(json_text(MASK.as_bytes()));
                }
                None => {}
            }
        }
        masked
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
}

/// `json`, a JSON value, with a mask in place of what `steps` lead to, as [`Value::step`] takes
/// them; `None` if they lead nowhere.
fn masked_at(json: &[u8], steps: &[Box<str>]) -> Option<Vec<u8>> {
    let Some((step, rest)) = steps.split_first() else { return Some(json_text(MASK.as_bytes())) };
    match json.first()? {
        b'{' | b'[' => masked_in(json, step, rest),
        // A text that is JSON.
        _ => {
            let text = encoding::json_text(json).ok().flatten()?;
            Some(json_text(&masked_in(&text, step, rest)?))
        }
    }
}

/// The same for the object or list `text`, of which `step` names a member or an item. Of a name
/// that repeats, each one is masked.
fn masked_in(text: &[u8], step: &str, rest: &[Box<str>]) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = match json::members(text) {
        Some(members) => {
            members.iter().filter(|member| member.name == step).map(|member| member.raw).collect()
        }
        None => json::inner(text, step).ok().flatten().into_iter().collect(),
    };
    let mut out = Vec::with_capacity(text.len());
    let mut from = 0;
    for value in values {
        let Some(masked) = masked_at(value, rest) else { continue };
        let at = json::span(text, value);
        out.extend_from_slice(text.get(from..at.start())?);
        out.extend_from_slice(&masked);
        from = at.end();
    }
    out.extend_from_slice(text.get(from..)?);
    (from > 0).then_some(out)
}

/// `text` as a JSON string; what is not UTF-8, percent-encoded.
fn json_text(text: &[u8]) -> Vec<u8> {
    let mut json = Vec::with_capacity(text.len() + 2);
    put_json_text(&mut json, encoding::shown(text).as_bytes());
    json
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
