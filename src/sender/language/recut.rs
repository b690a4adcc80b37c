//! Which values of a signed text can be re-cut: bytes moved to a neighbour without a change of the
//! text, and so under the same signature.
//!
//! A signed text is cut at the secret, which no value contains, into segments. [`Layout`] is the
//! order of literals and values in them. A value is *closed* if every way to read the text back
//! gives it the value that was received, and *open* otherwise. Three procedures decide it:
//! [`Layout::peeled`] for all texts at once, when a source loads; [`read_back`](graph) for one
//! text;
//! [`chains`] for one list gathered from all received names.

pub(in crate::sender) mod chains;
mod graph;
mod places;

use super::value_shape::{ByteSet, Neighbour, Presence, ValueShape};
use graph::Graph;
pub(in crate::sender) use graph::{Readback, Received};

/// A set of values of one signed text, by their numbers.
pub(in crate::sender) type ValueSet = ByteSet;

/// Values that a signed text can have. More than a recipe has names.
pub(in crate::sender) const VALUES_MAX: usize = 256;

/// One part of a signed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Part {
    /// Bytes that are always there.
    Literal(Box<[u8]>),
    /// The value of that number.
    Value(usize),
    /// Parts that are left out when one of their values is absent or empty.
    Optional(Vec<Part>),
    /// Values with their names, of which any may be absent.
    List(List),
}

/// A list of known names in a known order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct List {
    /// The separator of two items.
    pub(in crate::sender) between: Box<[u8]>,
    /// Whether an item precedes the list, in an earlier segment.
    pub(in crate::sender) begun: Begun,
    /// The items.
    pub(in crate::sender) items: Vec<Item>,
    /// Whether an item that is empty is left out.
    pub(in crate::sender) empty: EmptyItems,
}

/// Whether a list has an item in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Begun {
    /// The first item has no separator in front of it.
    No,
    /// Each item has a separator in front of it.
    Yes,
}

/// Handling of empty values in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum EmptyItems {
    /// An empty value is written.
    Kept,
    /// An empty value counts as absent.
    Dropped,
}

/// An item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct Item {
    /// The name as it is written, with what separates it from the value.
    pub(in crate::sender) lead: Box<[u8]>,
    /// The value; `None` for a name that the secret follows.
    pub(in crate::sender) value: Option<usize>,
}

/// The values of a signed text under one set of facts, and what the facts prove.
#[derive(Debug)]
pub(in crate::sender) struct Proof {
    /// By number of the value.
    pub(in crate::sender) shapes: Vec<ValueShape>,
    /// The values that are closed in every text whose values fit their shapes.
    pub(in crate::sender) closed: ValueSet,
    graphs: Vec<Graph>,
}

/// The order of literals and values in a signed text, cut at the secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) struct Layout {
    pub(in crate::sender) segments: Vec<Vec<Part>>,
}

/// Whether any two values that can touch have bytes of ours between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Separation {
    /// Yes. A value rarely contains a separator by chance.
    Separated,
    /// Some touch: every value can be re-cut, honest ones too.
    Touching,
}

impl Layout {
    /// The bytes at which a separator meets a value: what no token contains. A literal in front of
    /// the first value, or behind the last one, has one such end.
    pub(in crate::sender) fn separators(&self) -> ByteSet {
        let mut separators = ByteSet::default();
        for parts in &self.segments {
            let ends = parts.len().saturating_sub(1);
            for (at, part) in parts.iter().enumerate() {
                match part {
                    Part::Literal(bytes) => {
                        let first = bytes.first().filter(|_| at > 0);
                        let last = bytes.last().filter(|_| at < ends);
                        first.into_iter().chain(last).for_each(|byte| separators.insert(*byte));
                    }
                    other => borders_of(other, &mut separators),
                }
            }
        }
        separators
    }

    /// The proof that `shapes` give. `together` are values that are all there or none.
    pub(in crate::sender) fn proof(&self, shapes: Vec<ValueShape>, together: &[usize]) -> Proof {
        let graphs = self.segments.iter().map(|parts| Graph::of(parts, together)).collect();
        let closed = self.peeled(&shapes);
        Proof { shapes, closed, graphs }
    }

    /// The values that are closed in every text of values that fit `shapes`. Sound: it never calls
    /// an open value closed.
    fn peeled(&self, shapes: &[ValueShape]) -> ValueSet {
        let mut closed = ValueSet::default();
        for parts in &self.segments {
            peel(parts, shapes, &mut closed);
        }
        closed
    }

    /// Whether values that are not `closed` have separators between them.
    pub(in crate::sender) fn separation(&self, closed: &ValueSet) -> Separation {
        let touching = self.segments.iter().any(|parts| touches(parts, closed));
        if touching { Separation::Touching } else { Separation::Separated }
    }

    /// The same with every optional part there.
    pub(in crate::sender) fn without_options(&self) -> Self {
        let flat = |parts: &Vec<Part>| {
            let mut out = Vec::new();
            for part in parts {
                match part {
                    Part::Optional(inner) => out.extend(inner.iter().cloned()),
                    other => out.push(other.clone()),
                }
            }
            out
        };
        Self { segments: self.segments.iter().map(flat).collect() }
    }

    /// Every literal that separates values, each once.
    pub(in crate::sender) fn literals(&self) -> Vec<&[u8]> {
        fn collect<'p>(parts: &'p [Part], to: &mut Vec<&'p [u8]>) {
            for part in parts {
                match part {
                    Part::Literal(bytes) => to.push(bytes),
                    Part::Value(_) => {}
                    Part::Optional(inner) => collect(inner, to),
                    Part::List(list) => to.extend(list.items.iter().map(|item| &*item.lead)),
                }
            }
        }
        let mut all = Vec::new();
        self.segments.iter().for_each(|parts| collect(parts, &mut all));
        all.retain(|literal| !literal.is_empty());
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Proof {
    /// Reads the text that `received` made back, under these facts.
    pub(in crate::sender) fn read_back(&self, received: &Received<'_>) -> Readback {
        graph::read_back(&self.graphs, &self.shapes, received)
    }

    /// Whether the values of `received` are themselves one way to read its text.
    pub(in crate::sender) fn allows(&self, received: &Received<'_>) -> bool {
        graph::allows(&self.graphs, &self.shapes, received)
    }

    /// The same without any shape.
    pub(in crate::sender) fn read_back_freely(&self, received: &Received<'_>) -> Readback {
        let shapes = vec![ValueShape::free(); self.shapes.len()];
        graph::read_back(&self.graphs, &shapes, received)
    }
}

/// The numbers of the values in `parts`.
pub(in crate::sender) fn values_of(parts: &[Part]) -> Vec<usize> {
    let mut values = Vec::new();
    for part in parts {
        match part {
            Part::Literal(_) => {}
            Part::Value(value) => values.push(*value),
            Part::Optional(inner) => values.extend(values_of(inner)),
            Part::List(list) => values.extend(list.items.iter().filter_map(|item| item.value)),
        }
    }
    values
}

/// The same of a part inside a segment: of a list, an item begins with what is between two of them.
fn borders_of(part: &Part, to: &mut ByteSet) {
    let mut put = |first: &[u8], last: &[u8]| {
        first.first().into_iter().chain(last.last()).for_each(|byte| to.insert(*byte));
    };
    match part {
        Part::Literal(bytes) => put(bytes, bytes),
        Part::Value(_) => {}
        Part::Optional(parts) => parts.iter().for_each(|part| borders_of(part, to)),
        Part::List(list) => list.items.iter().for_each(|item| match list.between.is_empty() {
            true => put(&item.lead, &item.lead),
            false => put(&list.between, &item.lead),
        }),
    }
}

/// Peels the closed values off both ends of a segment.
fn peel(parts: &[Part], shapes: &[ValueShape], closed: &mut ValueSet) {
    // An optional part that is alone is there or not, and so is what is in it.
    if let [Part::Optional(inner)] = parts {
        return peel_values(inner, shapes, closed);
    }
    // Outside of an optional part, a value that may be absent may be empty.
    let shapes: Vec<ValueShape> = shapes.iter().map(ValueShape::or_empty).collect();
    peel_values(parts, &shapes, closed);
}

fn peel_values(parts: &[Part], shapes: &[ValueShape], closed: &mut ValueSet) {
    let mut left = 0;
    while let Some(part) = parts.get(left) {
        match part {
            Part::Literal(_) => {}
            Part::Value(value) if ends_at(&shapes[*value], parts.get(left + 1), shapes) => {
                insert(closed, *value);
            }
            _ => break,
        }
        left += 1;
    }
    let mut right = parts.len();
    while let Some(part) = right.checked_sub(1).filter(|at| *at >= left).map(|at| &parts[at]) {
        let previous = right.checked_sub(2).filter(|at| *at >= left).and_then(|at| parts.get(at));
        match part {
            Part::Literal(_) => {}
            Part::Value(value) if starts_at(&shapes[*value], previous, shapes) => {
                insert(closed, *value);
            }
            _ => break,
        }
        right -= 1;
    }
}

fn insert(set: &mut ValueSet, value: usize) {
    if let Ok(value) = u8::try_from(value) {
        set.insert(value);
    }
}

fn ends_at(shape: &ValueShape, next: Option<&Part>, shapes: &[ValueShape]) -> bool {
    shape.ends_before(&neighbour(next, <[u8]>::first, shapes))
}

/// Whether a value starts by itself behind `previous`; `None`: what was peeled off ends there.
fn starts_at(shape: &ValueShape, previous: Option<&Part>, shapes: &[ValueShape]) -> bool {
    shape.starts_after(&neighbour(previous, <[u8]>::last, shapes))
}

fn neighbour<'s>(
    part: Option<&Part>,
    nearest: fn(&[u8]) -> Option<&u8>,
    shapes: &'s [ValueShape],
) -> Neighbour<'s> {
    match part {
        None => Neighbour::Edge,
        Some(Part::Literal(bytes)) => {
            nearest(bytes).map_or(Neighbour::Unknown, |b| Neighbour::Byte(*b))
        }
        Some(Part::Value(value)) if shapes[*value].may_be_empty() => Neighbour::Unknown,
        Some(Part::Value(value)) => Neighbour::Value(&shapes[*value]),
        Some(Part::Optional(_) | Part::List(_)) => Neighbour::Unknown,
    }
}

/// Whether two open values of a segment can be adjacent.
fn touches(parts: &[Part], closed: &ValueSet) -> bool {
    let is_open = |value: usize| u8::try_from(value).is_ok_and(|value| !closed.contains(value));
    let mut open_before = false;
    for part in parts {
        match part {
            Part::Literal(bytes) => open_before &= bytes.is_empty(),
            Part::Value(value) => {
                if open_before && is_open(*value) {
                    return true;
                }
                open_before = is_open(*value);
            }
            Part::Optional(inner) => {
                let led = matches!(inner.first(), Some(Part::Literal(bytes)) if !bytes.is_empty());
                if (open_before && !led) || touches(inner, closed) {
                    return true;
                }
                open_before |= matches!(inner.last(), Some(Part::Value(value)) if is_open(*value));
            }
            Part::List(list) => {
                let led = |item: &Item| !item.lead.is_empty() || !list.between.is_empty();
                if !list.items.iter().all(led) {
                    return true;
                }
                open_before = true;
            }
        }
    }
    false
}

impl ValueShape {
    /// Whether the parameter may be absent.
    pub(in crate::sender) fn may_be_absent(&self) -> bool {
        self.presence == Presence::Optional
    }
}

#[cfg(test)]
mod tests;
