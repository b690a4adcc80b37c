//! Records what a variant signs: the same walk that verification makes, into a [`Draft`].

use std::rc::Rc;

use crate::sender::acts::evaluate::{self, Context};
use crate::sender::acts::explain::draft::{
    Arrangement, Content, Draft, Field, Item, Presence, Shown, Side,
};
use crate::sender::acts::signature::{ListedValue, Pairs, Plan, SignatureVariant};
use crate::sender::language::bound::{Bound, Gateway, Input, Scope};
use crate::sender::language::definition::{Each, Empty, Order};
use crate::sender::language::modifier::Modifier;
use crate::sender::language::text::{Piece, Text};
use crate::sender::request::callback::Callback;
use crate::sender::request::encoding;
use crate::sender::request::parameters::Parameter;

/// An item of a list, before its separators are known.
struct ListedItem<'l> {
    name: String,
    content: Content,
    label: &'l [u8],
    presence: Presence,
}

impl Draft {
    /// The text that `variant` signs of `callback`; `None` where it cannot be made.
    pub(super) fn of(callback: &Callback<'_>, variant: &SignatureVariant) -> Option<Self> {
        let mut drafter = Drafter {
            callback,
            variant,
            pending: Vec::new(),
            presence: Presence::Signed,
            draft: Self::default(),
        };
        drafter.text(&variant.of.pieces)?;
        drafter.draft.tail = drafter.pending;
        let mut draft = drafter.draft;
        let between = draft.between();
        if let Some(first) = draft.items.first_mut().filter(|item| item.between.is_empty()) {
            Rc::make_mut(first).between = between;
        }
        Some(draft)
    }
}

/// One pair of a list that is gathered from what came.
enum Entry<'e> {
    Parameter(Parameter<'e>),
    Ours(&'e Text<Bound>),
}

/// Records a text.
struct Drafter<'d, 'a> {
    callback: &'d Callback<'a>,
    variant: &'d SignatureVariant,
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
            Input::Gateway(Gateway::Query) if self.whole_query(spot).is_some() => {}
            Input::Gateway(Gateway::Pairs) => {
                let variant = self.variant;
                self.draft.wrap = spot.modifiers.clone();
                self.pairs(variant.pairs.as_ref()?)?;
            }
            Input::Gateway(Gateway::Sorted) if plain => {
                let variant = self.variant;
                for text in &variant.sorted {
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

    /// A query up to a parameter, in parts; `None` if it is not made of plain pairs.
    fn whole_query(&mut self, spot: &Bound) -> Option<()> {
        let (cut, each) = match &*spot.modifiers {
            [Modifier::Before(cut)] => (cut, Each::Raw),
            [Modifier::Before(cut), Modifier::Unpercent] => (cut, Each::Decoded),
            _ => return None,
        };
        let callback = self.callback;
        let (parameters, buffers) = callback.side(Scope::Outer);
        let mut items = Vec::new();
        let mut text = Vec::new();
        for parameter in parameters.iter(buffers) {
            if parameter.name == cut.as_bytes() {
                break;
            }
            let field = Field::parameter(parameter, each, self.variant.plus)?;
            let between = if items.is_empty() { Vec::new() } else { b"&".to_vec() };
            for part in [&between, parameter.name, b"=", &field.text] {
                text.extend_from_slice(part);
            }
            items.push(Rc::new(Item {
                between,
                label: parameter.name.to_vec(),
                within: b"=".to_vec(),
                name: String::from_utf8_lossy(parameter.name).into_owned(),
                content: Content::Field(field),
                presence: Presence::Signed,
                side: Side::Outside,
            }));
        }
        let alone = self.pending.is_empty() && self.draft.items.is_empty();
        let same = callback.value(spot, &self.context()).ok()?? == text;
        if alone && same {
            self.draft.items = items;
        }
        (alone && same).then_some(())
    }

    fn stepped(&self, spot: &Bound, slot: u8, steps: &[Box<str>], scope: Scope) -> Option<Field> {
        let value = self.callback.stepped(slot, steps, scope, self.variant.plus).ok()??;
        let text = self.callback.value(spot, &self.context()).ok()??.into_owned();
        let decoded = value.text(self.variant.plus).ok()??.into_owned();
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
        let context = Context { variant: Some(self.variant), ..self.context() };
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
        let supplied = match &self.variant.supplied.input {
            Input::Parameter { slot, .. } => Some(self.callback.recipe.names.name(*slot)),
            _ => None,
        };
        let callback = self.callback;
        let (parameters, buffers) = callback.side(Scope::Outer);
        let mut entries: Vec<(Vec<u8>, Entry<'_>)> = parameters
            .iter(buffers)
            .filter(|one| {
                places.contains(&one.place)
                    && Some(one.name) != supplied
                    && !except.iter().any(|except| except.takes(one.name))
            })
            .map(|one| (one.name.to_vec(), Entry::Parameter(one)))
            .collect();
        entries.extend(add.iter().map(|(name, text)| (name.to_vec(), Entry::Ours(text))));
        if *order != Order::Given {
            entries.sort_by(|one, other| one.0.cmp(&other.0));
        }
        for (name, entry) in entries {
            let label = encoded(&name, pairs.each);
            match entry {
                Entry::Parameter(parameter) => self.pair(parameter, &label, pairs)?,
                Entry::Ours(text) => self.ours(&label, text, pairs)?,
            }
        }
        Some(())
    }

    fn pair(&mut self, parameter: Parameter<'_>, label: &[u8], pairs: &Pairs) -> Option<()> {
        let field = Field::parameter(parameter, pairs.each, self.variant.plus)?;
        let dropped = pairs.empty == Empty::Dropped && evaluate::is_empty(parameter);
        let presence = if dropped { Presence::Dropped } else { Presence::Signed };
        let name = String::from_utf8_lossy(parameter.name).into_owned();
        self.listed(pairs, ListedItem { name, content: Content::Field(field), label, presence });
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
        self.listed(pairs, ListedItem { name, content, label, presence: Presence::Signed });
        Some(())
    }

    fn listed(&mut self, pairs: &Pairs, item: ListedItem<'_>) {
        let pending = std::mem::take(&mut self.pending);
        if self.draft.items.is_empty() {
            self.draft.head.extend_from_slice(&pending);
        }
        let within = pairs.shape.within.as_deref();
        self.draft.items.push(Rc::new(Item {
            between: pairs.shape.between.to_vec(),
            label: if within.is_some() { item.label.to_vec() } else { Vec::new() },
            within: within.unwrap_or_default().to_vec(),
            name: item.name,
            content: item.content,
            presence: item.presence,
            side: self.draft.side(),
        }));
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
        self.draft.items.push(Rc::new(Item {
            between,
            label,
            within,
            name: name.to_owned(),
            content,
            presence: self.presence,
            side: Side::Outside,
        }));
    }

    fn context(&self) -> Context<'static> {
        Context { plus: self.variant.plus, ..Context::default() }
    }
}

/// A name as pairs write it.
pub(super) fn encoded(name: &[u8], each: Each) -> Vec<u8> {
    let mut out = Vec::new();
    match each {
        Each::Decoded | Each::Raw => out.extend_from_slice(name),
        Each::Form => encoding::form(name, &mut out),
        Each::Percent => encoding::percent(name, &mut out),
        Each::Escaped(_) => out.extend_from_slice(name),
    }
    out
}

/// A literal in front of a value: `&`, `name`, `=`.
fn taken_apart(literal: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    // A name may hold underscores, and one that stands alone is a separator.
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80;
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
        assert_eq!(shown("_"), ["_", "", ""]);
        assert_eq!(shown("sid"), ["", "sid", ""]);
        assert_eq!(shown(""), ["", "", ""]);
    }
}
