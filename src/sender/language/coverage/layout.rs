//! The order of literals and values in the text of a variant, compiled for one source.

use std::collections::BTreeMap;

use super::{
    Always, Chain, ChainSource, Gathered, Loss, Signed, SignedInput, SignedValue, SlotCover,
};
use crate::sender::acts::resolved::Role;
use crate::sender::acts::signature::{self, Listed, ListedValue, Pairs, Plan};
use crate::sender::language::bound::{Binder, Bound, Gateway, Input, Scope};
use crate::sender::language::definition::{Each, Empty, Order, Reads};
use crate::sender::language::modifier::Modifier;
use crate::sender::language::recut::chains::{KnownName, NameOrder};
use crate::sender::language::recut::{
    Begun, EmptyItems, Item, Layout, List, Part, Separation, ValueSet,
};
use crate::sender::language::text::{Piece, Text};
use crate::sender::language::value_shape::{ByteSet, ShapeBasis, ValueShape};
use crate::sender::request::names::Slot;
use crate::sender::request::parameters::Place;

/// The shapes of one source: those of the sender file, and the source's confirmations.
#[derive(Debug, Default)]
pub(in crate::sender) struct Shaping {
    of: BTreeMap<String, ValueShape>,
    together: Vec<String>,
    order: NameOrder,
}

impl Shaping {
    /// The shapes for the source of `binder`.
    pub(in crate::sender) fn new(binder: &Binder<'_>) -> Self {
        let (sender, terms) = (binder.sender, binder.terms);
        let mut of = sender.shapes.of.clone();
        for name in &terms.confirmed {
            if let Some(shape) = of.get_mut(name) {
                shape.basis = ShapeBasis::Confirmed;
            }
        }
        if let Some(time) = &sender.time
            && let [Piece::Value(spot)] = time.r#in.pieces.as_slice()
        {
            of.entry(spot.key.clone()).or_insert_with(|| ValueShape::of_time(&time.stamp));
        }
        let items = ValueShape::words(terms.rewards.keys().map(String::as_bytes));
        let amounts = ValueShape::words(terms.rewards.values().map(String::as_bytes));
        for (role, words) in [(Role::Item, items), (Role::Amount, amounts)] {
            if let (Some(words), Some(name)) = (words, sender.single_parameter(role)) {
                of.insert(name, words);
            }
        }
        if let Some(name) = sender.only_transaction() {
            of.entry(name).or_insert_with(ValueShape::required);
        }
        Self { of, together: sender.shapes.together.clone(), order: sender.shapes.order }
    }

    fn shape(&self, key: &str) -> ValueShape {
        self.of.get(key).cloned().unwrap_or_else(ValueShape::free)
    }

    /// The names of parameters that have a shape, as they are on the wire.
    fn known(&self, binder: &Binder<'_>, separators: &[u8]) -> Vec<KnownName> {
        let names = self.of.iter().filter(|(name, _)| !name.contains('.'));
        let separators = ByteSet::of_text(separators);
        let known = |(name, shape): (&String, &ValueShape)| KnownName {
            name: binder.wire(name).as_bytes().into(),
            shape: shape.clone().between(separators),
        };
        names.map(known).collect()
    }
}

/// The texts of one variant.
#[derive(Clone, Copy, Debug)]
pub(in crate::sender) struct SignedTexts<'r> {
    pub(in crate::sender) of: &'r Text<Bound>,
    pub(in crate::sender) sorted: &'r [Text<Bound>],
    pub(in crate::sender) pairs: Option<&'r Pairs>,
}

/// Gathers the parts and values of one text.
struct Builder<'b, 'r> {
    binder: &'b Binder<'b>,
    shaping: &'b Shaping,
    pairs: Option<&'r Pairs>,
    segments: Vec<Vec<Part>>,
    values: Vec<SignedValue>,
    spots: Vec<Option<Bound>>,
    shapes: Vec<ValueShape>,
    together: Vec<usize>,
    chain: Option<Chain>,
}

impl Signed {
    /// The values that the texts of a signature variant read.
    pub(in crate::sender) fn of(
        texts: SignedTexts<'_>,
        binder: &Binder<'_>,
        shaping: &Shaping,
    ) -> Self {
        let mut builder = Builder {
            binder,
            shaping,
            pairs: texts.pairs,
            segments: vec![Vec::new()],
            values: Vec::new(),
            spots: Vec::new(),
            shapes: Vec::new(),
            together: Vec::new(),
            chain: None,
        };
        for piece in &texts.of.pieces {
            let part = builder.piece(piece);
            builder.push(part);
        }
        let mut signed = builder.finish();
        if !texts.sorted.is_empty() {
            signed.add_sorted(texts.sorted, binder, shaping);
        }
        let has_places = texts.pairs.is_none() && !binder.sender.reads.is_empty();
        signed.by_slot = SlotCover::of(&signed, texts.of).filter(|_| has_places);
        signed
    }

    /// Parts that are hashed in the order of their bytes can be exchanged and re-cut. Closed is
    /// what is sealed: its length changes by whole blocks, more than the other parts can hold. And
    /// a JSON object, where no other part can hold its brackets: it is the last, and begins at the
    /// first of them.
    fn add_sorted(&mut self, sorted: &[Text<Bound>], binder: &Binder<'_>, shaping: &Shaping) {
        let sealed = binder.sender.sealed_names();
        let is_secret = |spot: &&Bound| matches!(spot.input, Input::Gateway(Gateway::Secret));
        let mut closed = ValueSet::default();
        let is_apart_from_others = |own: &Bound| {
            let spots = sorted.iter().flat_map(Text::spots).filter(|spot| !is_secret(spot));
            let mut others = spots.filter(|spot| spot.name != own.name);
            let shape = shaping.shape(&own.name);
            shape.is_object()
                && shape.basis == ShapeBasis::Confirmed
                && own.modifiers.is_empty()
                && others.all(|other| shaping.shape(&other.name).precedes_objects())
        };
        for spot in sorted.iter().flat_map(Text::spots) {
            let Some((input, _)) = signed_input(spot) else { continue };
            if (sealed.contains(&&*spot.name) || is_apart_from_others(spot))
                && let Ok(number) = u8::try_from(self.values.len())
            {
                closed.insert(number);
            }
            self.values.push(SignedValue { input, loss: loss_of(spot) });
            self.spots.push(None);
        }
        // The layout has no part of them: this alone says what is closed.
        self.assumed.closed = closed;
        self.confirmed = None;
        self.is_closed = Always::Yes;
        self.separation = Separation::Touching;
    }
}

impl Builder<'_, '_> {
    fn push(&mut self, part: Option<Part>) {
        if let (Some(part), Some(segment)) = (part, self.segments.last_mut()) {
            segment.push(part);
        }
    }

    /// The part that `piece` is; `None` for the secret, which cuts the text.
    fn piece(&mut self, piece: &Piece<Bound>) -> Option<Part> {
        match piece {
            Piece::Literal(bytes) => Some(Part::Literal(bytes.clone())),
            Piece::Value(spot) => self.spot(spot),
            Piece::Optional(inner) => {
                let parts = inner.iter().filter_map(|piece| self.piece(piece)).collect();
                Some(Part::Optional(parts))
            }
        }
    }

    fn spot(&mut self, spot: &Bound) -> Option<Part> {
        match &spot.input {
            Input::Gateway(Gateway::Secret) => {
                self.segments.push(Vec::new());
                None
            }
            Input::Gateway(Gateway::Sorted) | Input::Absent => None,
            Input::Setting(_) => {
                let text = Text { pieces: vec![Piece::Value(spot.clone())] };
                signature::fixed(&text, &[]).map(|bytes| Part::Literal(bytes.into()))
            }
            Input::Gateway(Gateway::Pairs) => {
                if let Some(pairs) = self.pairs {
                    self.pairs(pairs);
                }
                None
            }
            _ => Some(Part::Value(self.value_of(spot))),
        }
    }

    fn value_of(&mut self, spot: &Bound) -> usize {
        let (input, shape) = signed_input(spot).unwrap_or((SignedInput::Other, None));
        // The file may know what its provider takes for the URL or the body.
        let whole = matches!(spot.input, Input::Gateway(Gateway::Url | Gateway::Body));
        let shape = shape.filter(|_| !whole || !self.shaping.of.contains_key(&*spot.name));
        let own = || self.shaping.shape(&spot.name).modified(&spot.modifiers);
        let shape = shape.unwrap_or_else(own);
        let decoded = spot.modifiers.contains(&Modifier::Unpercent);
        let is_decoded_query = matches!(input, SignedInput::Query) && decoded;
        let signed = SignedValue { input, loss: loss_of(spot) };
        let value = self.value(signed, shape, Some(spot.clone()));
        if is_decoded_query {
            let cut = spot.modifiers.iter().find_map(|modifier| match modifier {
                Modifier::Before(name) => Some(name.as_str().into()),
                _ => None,
            });
            let assumed = self.shaping.known(self.binder, b"&=");
            self.chain = Some(Chain {
                value,
                source: ChainSource::Query(cut),
                between: (*b"&").into(),
                within: (*b"=").into(),
                order: self.shaping.order,
                empty: EmptyItems::Kept,
                confirmed: confirmed(&assumed),
                assumed,
            });
        }
        value
    }

    fn value(&mut self, value: SignedValue, shape: ValueShape, spot: Option<Bound>) -> usize {
        self.values.push(value);
        self.shapes.push(shape);
        self.spots.push(spot);
        self.values.len() - 1
    }

    /// `[pairs]`: values of its own where names and order are known and nothing is encoded, one
    /// value otherwise.
    fn pairs(&mut self, pairs: &Pairs) {
        let within = pairs.shape.within.as_deref().unwrap_or_default();
        let escaped = match pairs.each {
            Each::Form | Each::Percent | Each::Escaped(_) => !pairs.shape.is_seamless(),
            // No value of a query or form has its own separators in it; one of JSON may.
            Each::Raw => {
                &*pairs.shape.between == b"&" && within == b"=" && self.is_of_pairs(&pairs.plan)
            }
            Each::Decoded => false,
        };
        let encoded = matches!(pairs.each, Each::Form | Each::Percent | Each::Escaped(_));
        if encoded && !escaped {
            // An encoded list without separators: nothing says where its values end.
            self.whole_list(SignedInput::Other);
            return;
        }
        match &pairs.plan {
            Plan::Listed(list) if !escaped => self.list(list, pairs),
            Plan::Listed(list) => {
                let slots = list.iter().filter_map(slot_of).collect();
                self.whole_list(SignedInput::Pairs { slots, gathered: None });
            }
            // Without separators, nothing says where a name or a value ends.
            Plan::Gathered { .. } if pairs.shape.is_seamless() => {
                self.whole_list(SignedInput::Other);
            }
            Plan::Gathered { places, except, order, .. } => {
                let gathered = Gathered { places, except: except.clone() };
                let input = SignedInput::Pairs { slots: Vec::new(), gathered: Some(gathered) };
                let value = self.whole_list(input);
                if escaped {
                    return;
                }
                let separators = [&*pairs.shape.between, within].concat();
                let assumed = self.shaping.known(self.binder, &separators);
                self.chain = Some(Chain {
                    value,
                    source: ChainSource::Pairs,
                    between: pairs.shape.between.clone(),
                    within: within.into(),
                    order: match order {
                        Order::Name => NameOrder::Ascending,
                        Order::Given | Order::Macro => self.shaping.order,
                    },
                    empty: empty_of(pairs.empty),
                    confirmed: confirmed(&assumed),
                    assumed,
                });
            }
        }
    }

    /// Whether all values of a list come in a query or form.
    fn is_of_pairs(&self, plan: &Plan) -> bool {
        let is_pair = |reads: &Reads| matches!(reads, Reads::Query | Reads::Form);
        match plan {
            Plan::Gathered { places, .. } => !places.contains(&Place::Json),
            Plan::Listed(_) => self.binder.sender.reads.iter().all(is_pair),
        }
    }

    fn whole_list(&mut self, input: SignedInput) -> usize {
        let value = SignedValue { input, loss: Loss::None };
        let number = self.value(value, ValueShape::free(), None);
        self.push(Some(Part::Value(number)));
        number
    }

    fn list(&mut self, list: &[Listed], pairs: &Pairs) {
        let between = pairs.shape.between.clone();
        let empty = empty_of(pairs.empty);
        let mut begun = Begun::No;
        let mut items = Vec::new();
        for listed in list {
            // A lead begins with the separator.
            let lead = &listed.lead[between.len().min(listed.lead.len())..];
            match &listed.value {
                ListedValue::Parameter(slot) => {
                    let value = self.listed_value(*slot, pairs.each);
                    items.push(Item { lead: lead.into(), value: Some(value) });
                }
                ListedValue::Ours(text) => {
                    let is_secret = signature::reads_secret(text);
                    let tail = signature::fixed(text, &[]).filter(|_| !is_secret);
                    let lead = [lead, &tail.unwrap_or_default()].concat();
                    items.push(Item { lead: lead.into(), value: None });
                    if is_secret {
                        let items = std::mem::take(&mut items);
                        let list = List { between: between.clone(), begun, items, empty };
                        self.push(Some(Part::List(list)));
                        self.segments.push(Vec::new());
                        begun = Begun::Yes;
                    }
                }
            }
        }
        self.push(Some(Part::List(List { between, begun, items, empty })));
    }

    fn listed_value(&mut self, slot: Slot, each: Each) -> usize {
        let name = self.binder.file_name(slot);
        let modifiers: Box<[Modifier]> = match each {
            Each::Raw => [Modifier::Raw].into(),
            _ => [].into(),
        };
        let input = Input::Parameter { slot, steps: Box::default(), scope: Scope::Outer };
        let spot = Bound { input, modifiers, name: name.as_str().into() };
        let input = SignedInput::Parameter { slot, steps: Box::default() };
        let shape = self.shaping.shape(&name);
        let value = self.value(SignedValue { input, loss: Loss::None }, shape, Some(spot));
        if self.shaping.together.contains(&name) {
            self.together.push(value);
        }
        value
    }

    fn finish(self) -> Signed {
        let layout = Layout { segments: self.segments };
        let separators = layout.separators();
        let shapes: Vec<ValueShape> =
            self.shapes.into_iter().map(|shape| shape.between(separators)).collect();
        let is_assumed = |shape: &ValueShape| shape.basis == ShapeBasis::Unconfirmed;
        let confirmed = shapes.iter().any(is_assumed).then(|| {
            let proven = shapes.iter().map(|shape| match shape.basis {
                ShapeBasis::Confirmed => shape.clone(),
                ShapeBasis::Unconfirmed => ValueShape::free(),
            });
            let assumed = self.together.iter().any(|value| is_assumed(&shapes[*value]));
            let together = if assumed { &[][..] } else { &*self.together };
            layout.proof(proven.collect(), together)
        });
        let assumed = layout.proof(shapes, &self.together);
        let separation = layout.separation(&assumed.closed);
        let proven = &confirmed.as_ref().unwrap_or(&assumed).closed;
        let all = (0..self.values.len())
            .all(|value| u8::try_from(value).is_ok_and(|value| proven.contains(value)));
        let is_closed = if all && self.chain.is_none() { Always::Yes } else { Always::ByCallback };
        let (values, spots, chain) = (self.values, self.spots, self.chain);
        let together = self.together.into();
        Signed {
            values,
            spots,
            layout,
            assumed,
            confirmed,
            together,
            separation,
            chain,
            is_closed,
            by_slot: None,
        }
    }
}

fn confirmed(assumed: &[KnownName]) -> Vec<KnownName> {
    let is_confirmed = |known: &&KnownName| known.shape.basis == ShapeBasis::Confirmed;
    assumed.iter().filter(is_confirmed).cloned().collect()
}

fn slot_of(listed: &Listed) -> Option<Slot> {
    match listed.value {
        ListedValue::Parameter(slot) => Some(slot),
        ListedValue::Ours(_) => None,
    }
}

fn empty_of(empty: Empty) -> EmptyItems {
    match empty {
        Empty::Kept => EmptyItems::Kept,
        Empty::Dropped => EmptyItems::Dropped,
    }
}

/// Whether two values of `spot` can be signed as one. Of a query that is decoded as a whole, what
/// is read back says which of its pairs are covered.
fn loss_of(spot: &Bound) -> Loss {
    let is_query = matches!(spot.input, Input::Gateway(Gateway::Query | Gateway::Url));
    let is_read_back = |modifier: &Modifier| is_query && *modifier == Modifier::Unpercent;
    let loses = |modifier: &Modifier| modifier.is_lossy() && !is_read_back(modifier);
    if spot.modifiers.iter().any(loses) { Loss::Lossy } else { Loss::None }
}

/// The input of `spot` in a signed text, with its shape where the file does not decide it.
fn signed_input(spot: &Bound) -> Option<(SignedInput, Option<ValueShape>)> {
    let any = Some(ValueShape::free());
    Some(match &spot.input {
        Input::Parameter { slot, steps, .. } => {
            (SignedInput::Parameter { slot: *slot, steps: steps.clone() }, None)
        }
        Input::Header(name) => (SignedInput::Header(name.clone()), None),
        Input::List { list, item } => (SignedInput::List { list: *list, item: item.clone() }, None),
        Input::Gateway(Gateway::Query | Gateway::Url) => (SignedInput::Query, any),
        Input::Gateway(Gateway::Body | Gateway::BodySha256) => (SignedInput::Body, any),
        Input::Gateway(Gateway::Secret) => return None,
        Input::Gateway(Gateway::Method) => (SignedInput::Other, ValueShape::parse("letters").ok()),
        Input::Gateway(Gateway::Path) => (SignedInput::Other, Some(path_shape(&spot.modifiers))),
        _ => (SignedInput::Other, any),
    })
}

/// The shape of the path of a request, escaped or as it is.
fn path_shape(modifiers: &[Modifier]) -> ValueShape {
    match modifiers {
        [] => ValueShape::path(),
        [Modifier::Percent] => ValueShape::escaped(),
        _ => ValueShape::required(),
    }
}
