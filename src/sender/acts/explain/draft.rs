//! A signed text in parts: literals, the secret and values, each of which can be varied.
//!
//! The verify path streams a text into a hasher and keeps nothing. Here the same text is recorded,
//! so a search can change one piece and write it again.

use std::borrow::Cow;
use std::rc::Rc;

use crate::sender::language::definition::Each;
use crate::sender::language::modifier::Modifier;
use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::parameters::{Parameter, Place, Value};

/// A signed text in parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    /// The literal in front of the first item.
    pub(super) head: Vec<u8>,
    /// Its items, in order; shared, because a search makes thousands of texts that differ in one.
    pub(super) items: Vec<Rc<Item>>,
    /// The literal behind the last item.
    pub(super) tail: Vec<u8>,
    /// How the items are put together.
    pub(super) arrangement: Arrangement,
    /// Modifiers of the items inside, written as one text.
    pub(super) wrap: Box<[Modifier]>,
}

/// How the items are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Arrangement {
    /// The items, in order.
    #[default]
    Written,
    /// Sorted as bytes once they are written.
    Sorted,
}

/// A value with the separator before it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The separator from the preceding one.
    pub(super) between: Vec<u8>,
    /// Its name as the signature writes it; empty if names are not signed.
    pub(super) label: Vec<u8>,
    /// The separator of name and value.
    pub(super) within: Vec<u8>,
    /// The name for the advice.
    pub(super) name: String,
    /// Its value.
    pub(super) content: Content,
    /// Whether the rule signs it.
    pub(super) presence: Presence,
    /// Whether it is one of those that are written as one text.
    pub(super) side: Side,
}

/// Where an item stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Side {
    /// In the text.
    #[default]
    Outside,
    /// In a list that is modified as a whole.
    Inside,
}

/// Whether a rule signs an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Signed.
    Signed,
    /// Received, and omitted by the rule because it is empty.
    Dropped,
}

/// The content of an item.
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
    /// The place it was received in; `None` for a header, or a value that every gateway knows.
    pub(super) place: Option<Place>,
    /// As on the wire.
    pub(super) raw: Vec<u8>,
    /// Decoded.
    pub(super) decoded: Vec<u8>,
    /// As the rule signs it.
    pub(super) text: Vec<u8>,
    pub(super) shown: Shown,
    pub(super) each: Each,
    pub(super) modifiers: Box<[Modifier]>,
}

/// Whether a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Shown.
    Openly,
    /// A setting, masked like a secret.
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

    /// A parameter, in the encoding `each`.
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

    /// Whether the rule signs it as on the wire.
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
            Each::Escaped(stays) => {
                encoding::percent_where(&value, |byte| stays.contains(byte), &mut out);
            }
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

    /// Its name in a Chinese sentence.
    pub(super) fn in_chinese(&self) -> String {
        if self.is_secret() { String::from("密钥") } else { format!(" `{}` ", self.name) }
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

    /// The name and value, without the separator before them.
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

/// Shown in place of a secret.
const MASK: &[u8] = b"***";

/// `value` with `modifiers` applied.
pub(super) fn modified<'v>(value: &'v [u8], modifiers: &[Modifier]) -> Option<Cow<'v, [u8]>> {
    modifiers.iter().try_fold(Cow::Borrowed(value), |value, one| one.apply(value).ok())
}

impl Draft {
    /// The whole text under `secret`.
    pub(super) fn written(&self, secret: &[u8]) -> Option<Vec<u8>> {
        let mut parts = Vec::new();
        for item in self.signed() {
            parts.push((item.written(secret)?, item));
        }
        if self.arrangement == Arrangement::Sorted {
            parts.sort_by(|one, other| one.0.cmp(&other.0));
        }
        self.joined(parts)
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
        self.joined(parts.into_iter().map(|(_, item)| (item.masked(), item)).collect())
    }

    fn joined(&self, parts: Vec<(Vec<u8>, &Item)>) -> Option<Vec<u8>> {
        let mut out = self.head.clone();
        // The list that is modified as a whole, as far as it is written.
        let mut list: Option<Vec<u8>> = None;
        for (index, (part, item)) in parts.into_iter().enumerate() {
            if item.side == Side::Outside
                && let Some(list) = list.take()
            {
                out.extend_from_slice(&modified(&list, &self.wrap)?);
            }
            let to = list.as_mut().unwrap_or(&mut out);
            if index > 0 {
                to.extend_from_slice(&item.between);
            }
            match (item.side, &mut list) {
                (Side::Inside, None) => list = Some(part),
                (Side::Inside, Some(list)) => list.extend_from_slice(&part),
                (Side::Outside, _) => out.extend_from_slice(&part),
            }
        }
        out.extend_from_slice(&modified(&list.unwrap_or_default(), &self.wrap)?);
        out.extend_from_slice(&self.tail);
        Some(out)
    }

    /// The items that the rule signs.
    pub(super) fn signed(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().map(Rc::as_ref).filter(|item| item.is_signed())
    }

    /// Where a further parameter would stand: inside of the list, if there is one.
    pub(super) fn side(&self) -> Side {
        if self.wrap.is_empty() { Side::Outside } else { Side::Inside }
    }

    /// The indexes of the items that the rule signs.
    pub(super) fn places(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|&index| self.items[index].is_signed()).collect()
    }

    /// The position of the secret among the items.
    pub(super) fn secret(&self) -> Option<usize> {
        self.items.iter().position(|item| item.is_secret())
    }

    /// The usual separator of two items.
    pub(super) fn between(&self) -> Vec<u8> {
        self.items.get(1).map_or_else(Vec::new, |item| item.between.clone())
    }

    /// The usual separator of a name and its value.
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
        draft.items[index] = Rc::new(item);
        draft
    }

    /// The item at `index`, to be changed.
    pub(super) fn item_mut(&mut self, index: usize) -> &mut Item {
        Rc::make_mut(&mut self.items[index])
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
            items: order.iter().map(|&index| Rc::clone(&self.items[index])).collect(),
            tail: self.tail.clone(),
            arrangement: Arrangement::Written,
            wrap: self.wrap.clone(),
        }
    }
}
