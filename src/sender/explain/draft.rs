//! A signed text, taken apart: literals, the secret and values, each of which can be varied.
//!
//! The verify path streams a text into a hasher and keeps nothing. Here the same text is walked
//! once more and recorded, so that a search can change one piece and write it again.

use std::borrow::Cow;

use crate::sender::bound::{Bound, Gateway, Input, Scope};
use crate::sender::callback::Callback;
use crate::sender::definition::{Each, Empty, Order};
use crate::sender::encoding::{self, Plus};
use crate::sender::evaluate::{self, Context};
use crate::sender::modifier::Modifier;
use crate::sender::parameters::{Parameter, Place, Value};
use crate::sender::signature::{ListedValue, Pairs, Plan, Reading};
use crate::sender::text::{Piece, Text};

/// A signed text, taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    /// The literal in front of the first item.
    pub(super) head: Vec<u8>,
    /// Its items, in order.
    pub(super) items: Vec<Item>,
    /// The literal behind the last item.
    pub(super) tail: Vec<u8>,
    /// How the items are put together.
    pub(super) arrangement: Arrangement,
}

/// How the items are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Arrangement {
    /// In the order in which they stand.
    #[default]
    Written,
    /// Sorted as bytes once they are written.
    Sorted,
}

/// A value with what stands in front of it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// What stands between it and the one before it.
    pub(super) between: Vec<u8>,
    /// Its name as the signature writes it; empty where values stand alone.
    pub(super) label: Vec<u8>,
    /// What stands between name and value.
    pub(super) within: Vec<u8>,
    /// Its name as people know it.
    pub(super) name: String,
    /// Its value.
    pub(super) content: Content,
    /// Whether the rule signs it.
    pub(super) presence: Presence,
}

/// Whether a rule signs an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It does.
    Signed,
    /// It came, and the rule leaves it out because it is empty.
    Dropped,
}

/// What an item says.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// The secret, modified.
    Secret(Box<[Modifier]>),
    /// A value.
    Field(Field),
}

/// A value, from the wire to the signature.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// The writing it came in; `None`: a header field, or something that every gateway knows.
    pub(super) place: Option<Place>,
    /// As on the wire.
    pub(super) raw: Vec<u8>,
    /// Decoded.
    pub(super) decoded: Vec<u8>,
    /// As the rule signs it.
    pub(super) text: Vec<u8>,
    shown: Shown,
    each: Each,
    modifiers: Box<[Modifier]>,
}

/// Whether people may see a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// They may.
    Openly,
    /// It is a setting, and masked like a secret.
    Masked,
}

impl Field {
    /// A value that has one writing only.
    pub(super) fn plain(text: &[u8]) -> Self {
        Self {
            place: None,
            raw: text.to_vec(),
            decoded: text.to_vec(),
            text: text.to_vec(),
            shown: Shown::Openly,
            each: Each::Decoded,
            modifiers: Box::default(),
        }
    }

    /// A parameter, written as `each` says.
    pub(super) fn parameter(parameter: Parameter<'_>, each: Each, plus: Plus) -> Option<Self> {
        let value = Value { place: parameter.place, raw: Cow::Borrowed(parameter.raw) };
        let decoded = value.text(plus).ok().flatten().unwrap_or_default().into_owned();
        let mut field = Self {
            place: Some(parameter.place),
            raw: parameter.raw.to_vec(),
            text: Vec::new(),
            decoded,
            shown: Shown::Openly,
            each,
            modifiers: Box::default(),
        };
        field.text =
            if field.is_raw() { field.raw.clone() } else { field.rewritten(&field.decoded)? };
        Some(field)
    }

    /// Whether the rule signs it as it stands on the wire.
    pub(super) fn is_raw(&self) -> bool {
        self.each == Each::Raw || self.modifiers.first() == Some(&Modifier::Raw)
    }

    /// `decoded` as the rule would sign it.
    pub(super) fn rewritten(&self, decoded: &[u8]) -> Option<Vec<u8>> {
        let mut value = Cow::Borrowed(decoded);
        for modifier in &self.modifiers {
            value = modifier.apply(value).ok()?;
        }
        let mut out = Vec::new();
        match self.each {
            Each::Decoded | Each::Raw => return Some(value.into_owned()),
            Each::Form => encoding::form(&value, &mut out),
            Each::Percent => encoding::percent(&value, &mut out),
        }
        Some(out)
    }

    /// The value decoded with another meaning of `+`, where that makes a difference.
    pub(super) fn decoded_with(&self, plus: Plus) -> Option<Vec<u8>> {
        let pairs = matches!(self.place, Some(Place::Query | Place::Form));
        pairs.then(|| encoding::unpercented(&self.raw, plus).into_owned())
    }
}

impl Item {
    /// Whether it is the secret.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self.content, Content::Secret(_))
    }

    /// Whether the rule signs it.
    pub(super) fn is_signed(&self) -> bool {
        self.presence == Presence::Signed
    }

    /// Its value, if it is not the secret.
    pub(super) fn field(&self) -> Option<&Field> {
        match &self.content {
            Content::Field(field) => Some(field),
            Content::Secret(_) => None,
        }
    }

    /// The same item with another text for its value.
    pub(super) fn saying(&self, text: Vec<u8>) -> Self {
        let mut item = self.clone();
        if let Content::Field(field) = &mut item.content {
            field.text = text;
        }
        item
    }

    /// Its name and value, without what stands in front of them.
    fn written(&self, secret: &[u8]) -> Option<Vec<u8>> {
        let value = match &self.content {
            Content::Field(field) => Cow::Borrowed(field.text.as_slice()),
            Content::Secret(modifiers) => modified(secret, modifiers)?,
        };
        Some([&self.label, &self.within, &*value].concat())
    }

    fn masked(&self) -> Vec<u8> {
        match &self.content {
            Content::Field(field) if field.shown == Shown::Openly => {
                [&self.label, &self.within, &field.text[..]].concat()
            }
            _ => [&self.label, &self.within, MASK].concat(),
        }
    }
}

/// What stands in place of a secret wherever a text is shown.
const MASK: &[u8] = b"***";

/// `value` with `modifiers` applied.
pub(super) fn modified<'v>(value: &'v [u8], modifiers: &[Modifier]) -> Option<Cow<'v, [u8]>> {
    modifiers.iter().try_fold(Cow::Borrowed(value), |value, one| one.apply(value).ok())
}

impl Draft {
    /// The text that `reading` signs of `callback`; `None` where it cannot be made.
    pub(super) fn of(callback: &Callback<'_>, reading: &Reading) -> Option<Self> {
        let mut drafter = Drafter {
            callback,
            reading,
            pending: Vec::new(),
            presence: Presence::Signed,
            draft: Self::default(),
        };
        drafter.text(&reading.of.pieces)?;
        drafter.draft.tail = drafter.pending;
        let mut draft = drafter.draft;
        let between = draft.between();
        if let Some(first) = draft.items.first_mut().filter(|item| item.between.is_empty()) {
            first.between = between;
        }
        Some(draft)
    }

    /// The whole text under `secret`.
    pub(super) fn written(&self, secret: &[u8]) -> Option<Vec<u8>> {
        let mut parts = Vec::new();
        for item in self.signed() {
            parts.push((item.written(secret)?, item));
        }
        if self.arrangement == Arrangement::Sorted {
            parts.sort_by(|one, other| one.0.cmp(&other.0));
        }
        Some(self.joined(parts))
    }

    /// The whole text under `secret`, which is masked in it.
    pub(super) fn masked(&self, secret: &[u8]) -> Option<Vec<u8>> {
        let mut parts = Vec::new();
        for item in self.signed() {
            parts.push((item.written(secret)?, item));
        }
        if self.arrangement == Arrangement::Sorted {
            parts.sort_by(|one, other| one.0.cmp(&other.0));
        }
        Some(self.joined(parts.into_iter().map(|(_, item)| (item.masked(), item)).collect()))
    }

    fn joined(&self, parts: Vec<(Vec<u8>, &Item)>) -> Vec<u8> {
        let mut out = self.head.clone();
        for (index, (part, item)) in parts.into_iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(&item.between);
            }
            out.extend_from_slice(&part);
        }
        out.extend_from_slice(&self.tail);
        out
    }

    /// The items that the rule signs.
    pub(super) fn signed(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.is_signed())
    }

    /// The indexes of the items that the rule signs.
    pub(super) fn places(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|&index| self.items[index].is_signed()).collect()
    }

    /// Where the secret stands among the items.
    pub(super) fn secret(&self) -> Option<usize> {
        self.items.iter().position(Item::is_secret)
    }

    /// What usually stands between two items.
    pub(super) fn between(&self) -> Vec<u8> {
        self.items.get(1).map_or_else(Vec::new, |item| item.between.clone())
    }

    /// What usually stands between a name and its value.
    pub(super) fn within(&self) -> Vec<u8> {
        let labelled = self.items.iter().find(|item| !item.label.is_empty());
        labelled.map_or_else(|| b"=".to_vec(), |item| item.within.clone())
    }

    /// Whether names are signed.
    pub(super) fn is_labelled(&self) -> bool {
        self.items.iter().any(|item| !item.label.is_empty() && !item.is_secret())
    }

    /// The same text with another item at `index`.
    pub(super) fn with(&self, index: usize, item: Item) -> Self {
        let mut draft = self.clone();
        draft.items[index] = item;
        draft
    }

    /// The same text without the item at `index`.
    pub(super) fn without(&self, index: usize) -> Self {
        let mut draft = self.clone();
        draft.items.remove(index);
        draft
    }

    /// The same text with its items in another order; those it does not name are left out.
    pub(super) fn ordered(&self, order: &[usize]) -> Self {
        Self {
            head: self.head.clone(),
            items: order.iter().map(|&index| self.items[index].clone()).collect(),
            tail: self.tail.clone(),
            arrangement: Arrangement::Written,
        }
    }
}

/// Records a text.
struct Drafter<'d, 'a> {
    callback: &'d Callback<'a>,
    reading: &'d Reading,
    /// The literal since the last value.
    pending: Vec<u8>,
    presence: Presence,
    draft: Draft,
}

impl Drafter<'_, '_> {
    fn text(&mut self, pieces: &[Piece<Bound>]) -> Option<()> {
        for piece in pieces {
            match piece {
                Piece::Literal(bytes) => self.pending.extend_from_slice(bytes),
                Piece::Value(spot) => self.spot(spot)?,
                Piece::Optional(inner) => self.optional(inner)?,
            }
        }
        Some(())
    }

    /// An optional part that is empty is kept as one that the rule drops.
    fn optional(&mut self, inner: &[Piece<Bound>]) -> Option<()> {
        let context = self.context();
        let mut empty = false;
        for piece in inner {
            let Piece::Value(spot) = piece else { continue };
            match self.callback.value(spot, &context).ok()? {
                None => return Some(()),
                Some(value) => empty |= value.is_empty(),
            }
        }
        if !empty {
            return self.text(inner);
        }
        let before = std::mem::take(&mut self.pending);
        self.presence = Presence::Dropped;
        let walked = self.text(inner);
        self.presence = Presence::Signed;
        self.pending = before;
        walked
    }

    fn spot(&mut self, spot: &Bound) -> Option<()> {
        let plain = spot.modifiers.is_empty();
        match &spot.input {
            Input::Gateway(Gateway::Secret) => {
                self.push("the secret", Content::Secret(spot.modifiers.clone()));
            }
            Input::Gateway(Gateway::Pairs) if plain => {
                let reading = self.reading;
                self.pairs(reading.pairs.as_ref()?)?;
            }
            Input::Gateway(Gateway::Sorted) if plain => {
                let reading = self.reading;
                for text in &reading.sorted {
                    self.text(&text.pieces)?;
                }
                self.draft.arrangement = Arrangement::Sorted;
            }
            Input::Parameter { slot, steps, scope } => {
                let field = self.stepped(spot, *slot, steps, *scope)?;
                let mut name =
                    String::from_utf8_lossy(self.callback.recipe.names.name(*slot)).into_owned();
                for step in steps {
                    name.push('.');
                    name.push_str(step);
                }
                self.push(&name, Content::Field(field));
            }
            _ => {
                let field = self.known(spot)?;
                self.push(&spot.name, Content::Field(field));
            }
        }
        Some(())
    }

    fn stepped(&self, spot: &Bound, slot: u8, steps: &[Box<str>], scope: Scope) -> Option<Field> {
        let value = self.callback.stepped(slot, steps, scope).ok()??;
        let text = self.callback.value(spot, &self.context()).ok()??.into_owned();
        let decoded = value.text(self.reading.plus).ok()??.into_owned();
        Some(Field {
            place: Some(value.place),
            raw: value.raw.into_owned(),
            decoded,
            text,
            shown: Shown::Openly,
            each: Each::Decoded,
            modifiers: spot.modifiers.clone(),
        })
    }

    fn known(&self, spot: &Bound) -> Option<Field> {
        let context = self.context();
        let is_setting = matches!(spot.input, Input::Setting(_));
        let bare = Bound { modifiers: Box::default(), ..spot.clone() };
        let raw = self.callback.value(&bare, &context).ok()??.into_owned();
        let text = self.callback.value(spot, &context).ok()??.into_owned();
        Some(Field {
            place: None,
            decoded: raw.clone(),
            raw,
            text,
            shown: if is_setting { Shown::Masked } else { Shown::Openly },
            each: Each::Decoded,
            modifiers: spot.modifiers.clone(),
        })
    }

    fn pairs(&mut self, pairs: &Pairs) -> Option<()> {
        match &pairs.plan {
            Plan::Listed(list) => {
                for listed in list {
                    match &listed.value {
                        ListedValue::Parameter(slot) => {
                            let callback = self.callback;
                            let (parameters, buffers) = callback.side(Scope::Outer);
                            if let Some(parameter) = parameters.get(*slot, buffers) {
                                self.pair(parameter, &listed.label, pairs)?;
                            }
                        }
                        ListedValue::Ours(text) => self.ours(&listed.label, text, pairs)?,
                    }
                }
            }
            Plan::Gathered { .. } => self.gathered(pairs)?,
        }
        Some(())
    }

    fn gathered(&mut self, pairs: &Pairs) -> Option<()> {
        let Plan::Gathered { places, except, order, add } = &pairs.plan else { return None };
        let claim = match &self.reading.claim.input {
            Input::Parameter { slot, .. } => Some(self.callback.recipe.names.name(*slot)),
            _ => None,
        };
        let callback = self.callback;
        let (parameters, buffers) = callback.side(Scope::Outer);
        let mut entries: Vec<(Vec<u8>, Option<Parameter<'_>>, Option<&Text<Bound>>)> = parameters
            .iter(buffers)
            .filter(|one| {
                places.contains(&one.place)
                    && Some(one.name) != claim
                    && !except.iter().any(|except| except.takes(one.name))
            })
            .map(|one| (one.name.to_vec(), Some(one), None))
            .collect();
        entries.extend(add.iter().map(|(name, text)| (name.to_vec(), None, Some(text))));
        if *order != Order::Given {
            entries.sort_by(|one, other| one.0.cmp(&other.0));
        }
        for (name, parameter, text) in entries {
            match (parameter, text) {
                (Some(parameter), _) => {
                    self.pair(parameter, &encoded(&name, pairs.each), pairs)?;
                }
                (None, Some(text)) => self.ours(&encoded(&name, pairs.each), text, pairs)?,
                (None, None) => {}
            }
        }
        Some(())
    }

    fn pair(&mut self, parameter: Parameter<'_>, label: &[u8], pairs: &Pairs) -> Option<()> {
        let field = Field::parameter(parameter, pairs.each, self.reading.plus)?;
        let dropped = pairs.empty == Empty::Dropped && evaluate::is_empty(parameter);
        let presence = if dropped { Presence::Dropped } else { Presence::Signed };
        let name = String::from_utf8_lossy(parameter.name).into_owned();
        self.listed(&name, Content::Field(field), label, (pairs, presence));
        Some(())
    }

    fn ours(&mut self, label: &[u8], text: &Text<Bound>, pairs: &Pairs) -> Option<()> {
        let content = match text.pieces.as_slice() {
            [Piece::Value(Bound { input: Input::Gateway(Gateway::Secret), modifiers, .. })] => {
                Content::Secret(modifiers.clone())
            }
            _ => {
                let mut out = Vec::new();
                self.callback.put(text, &self.context(), &mut out).ok()?;
                Content::Field(Field::plain(&out))
            }
        };
        let name = String::from_utf8_lossy(label).into_owned();
        self.listed(&name, content, label, (pairs, Presence::Signed));
        Some(())
    }

    fn listed(
        &mut self,
        name: &str,
        content: Content,
        label: &[u8],
        (pairs, presence): (&Pairs, Presence),
    ) {
        let pending = std::mem::take(&mut self.pending);
        if self.draft.items.is_empty() {
            self.draft.head.extend_from_slice(&pending);
        }
        let within = pairs.shape.within.as_deref();
        self.draft.items.push(Item {
            between: pairs.shape.between.to_vec(),
            label: if within.is_some() { label.to_vec() } else { Vec::new() },
            within: within.unwrap_or_default().to_vec(),
            name: name.to_owned(),
            content,
            presence,
        });
    }

    fn push(&mut self, name: &str, content: Content) {
        let (between, label, within) = taken_apart(&std::mem::take(&mut self.pending));
        let first = self.draft.signed().next().is_none() && self.presence == Presence::Signed;
        let between = if first {
            self.draft.head = between;
            Vec::new()
        } else {
            between
        };
        self.draft.items.push(Item {
            between,
            label,
            within,
            name: name.to_owned(),
            content,
            presence: self.presence,
        });
    }

    fn context(&self) -> Context<'static> {
        Context { plus: self.reading.plus, ..Context::default() }
    }
}

/// A name as pairs write it.
pub(super) fn encoded(name: &[u8], each: Each) -> Vec<u8> {
    let mut out = Vec::new();
    match each {
        Each::Decoded | Each::Raw => out.extend_from_slice(name),
        Each::Form => encoding::form(name, &mut out),
        Each::Percent => encoding::percent(name, &mut out),
    }
    out
}

/// A literal in front of a value: `&`, `name`, `=`.
fn taken_apart(literal: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    let Some(start) = literal.iter().position(is_word) else {
        return (literal.to_vec(), Vec::new(), Vec::new());
    };
    let end = literal.iter().rposition(is_word).map_or(literal.len(), |at| at + 1);
    (literal[..start].to_vec(), literal[start..end].to_vec(), literal[end..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_a_separator_a_name_and_a_sign() {
        let shown = |literal: &str| {
            let (between, label, within) = taken_apart(literal.as_bytes());
            [between, label, within].map(|part| String::from_utf8(part).unwrap())
        };
        assert_eq!(shown("&sec_key="), ["&", "sec_key", "="]);
        assert_eq!(shown("trans_id="), ["", "trans_id", "="]);
        assert_eq!(shown(":"), [":", "", ""]);
        assert_eq!(shown("sid"), ["", "sid", ""]);
        assert_eq!(shown(""), ["", "", ""]);
    }
}
