//! Every way to read one signed text back into values, by reachability.
//!
//! A segment is a graph whose edges consume bytes: a literal, a value, or nothing where something
//! is left out. A forward and a backward pass over places of the text find which edges are on a
//! complete path. The work is bounded; a text that takes more counts as readable in every way.

use std::ops::RangeInclusive;

use super::places::{Places, Wanted};
use super::{Begun, EmptyItems, List, Part, ValueSet};
use crate::sender::language::value_shape::{Seen, ValueShape};

/// The received values of one signed text.
#[derive(Clone, Copy, Debug)]
pub(in crate::sender) struct Received<'t> {
    /// The segments of the signed text.
    pub(in crate::sender) segments: &'t [Vec<u8>],
    /// The values by number; `None` where one is absent, or left out.
    pub(in crate::sender) values: &'t [Option<Vec<u8>>],
}

/// The result of parsing a text again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Readback {
    /// No values that fit make this text.
    Empty,
    /// Values that fit make it. These have in each case the value that was received.
    Closed(ValueSet),
}

/// A segment as a graph. Nodes are numbered so that edges lead upwards.
#[derive(Debug)]
pub(super) struct Graph {
    nodes: usize,
    edges: Vec<Edge>,
}

#[derive(Debug)]
struct Edge {
    from: usize,
    to: usize,
    takes: Takes,
}

#[derive(Debug)]
enum Takes {
    Literal(Box<[u8]>),
    /// A value; `Least` is the fewest bytes that it may have.
    Value(usize, Least),
    /// Nothing, where these values are absent.
    Absent(Vec<usize>),
    /// Nothing.
    Nothing,
}

/// The fewest bytes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Least {
    None,
    One,
}

/// Steps that reading one text back may take: 50 microseconds or so.
const STEPS_MAX: usize = 200_000;

impl Graph {
    pub(super) fn of(parts: &[Part], together: &[usize]) -> Self {
        let mut graph = Self { nodes: 1, edges: Vec::new() };
        let mut at = 0;
        for part in parts {
            at = graph.part(part, at, together, Least::None);
        }
        graph
    }

    fn node(&mut self) -> usize {
        self.nodes += 1;
        self.nodes - 1
    }

    fn edge(&mut self, from: usize, takes: Takes) -> usize {
        let to = self.node();
        self.edges.push(Edge { from, to, takes });
        to
    }

    fn part(&mut self, part: &Part, from: usize, together: &[usize], least: Least) -> usize {
        match part {
            Part::Literal(bytes) => self.edge(from, Takes::Literal(bytes.clone())),
            Part::Value(value) => self.edge(from, Takes::Value(*value, least)),
            Part::Optional(inner) => {
                let mut at = from;
                for part in inner {
                    at = self.part(part, at, together, Least::One);
                }
                let end = self.edge(at, Takes::Nothing);
                let values = inner.iter().filter_map(|part| match part {
                    Part::Value(value) => Some(*value),
                    _ => None,
                });
                self.edges.push(Edge { from, to: end, takes: Takes::Absent(values.collect()) });
                end
            }
            Part::List(list) => self.list(list, from, together),
        }
    }

    /// A list, once with the values that come together and once without them.
    fn list(&mut self, list: &List, from: usize, together: &[usize]) -> usize {
        let concerned = |value: &usize| list.items.iter().any(|item| item.value == Some(*value));
        let mut ends = Vec::new();
        if together.iter().any(concerned) {
            ends.push(self.items(list, from, |value| match together.contains(&value) {
                true => Must::BePresent,
                false => Must::Fit,
            }));
            ends.push(self.items(list, from, |value| match together.contains(&value) {
                true => Must::BeAbsent,
                false => Must::Fit,
            }));
        } else {
            ends.push(self.items(list, from, |_| Must::Fit));
        }
        let end = self.node();
        for at in ends.into_iter().flatten() {
            self.edges.push(Edge { from: at, to: end, takes: Takes::Nothing });
        }
        end
    }

    /// The items of a list, on two tracks: nothing came so far, or something did.
    fn items(&mut self, list: &List, from: usize, must: impl Fn(usize) -> Must) -> [usize; 2] {
        let least = match list.empty {
            EmptyItems::Kept => Least::None,
            EmptyItems::Dropped => Least::One,
        };
        let mut tracks: [Option<usize>; 2] = match list.begun {
            Begun::No => [Some(from), None],
            Begun::Yes => [None, Some(from)],
        };
        for item in &list.items {
            let mut taken = Vec::new();
            for (track, at) in tracks.into_iter().enumerate() {
                let Some(at) = at else { continue };
                let between = if track == 0 { &[][..] } else { &*list.between };
                let lead = [between, &*item.lead].concat();
                let must_be_absent = item.value.is_some_and(|v| must(v) == Must::BeAbsent);
                if !must_be_absent {
                    let named = self.edge(at, Takes::Literal(lead.into()));
                    taken.push(match item.value {
                        Some(value) => self.edge(named, Takes::Value(value, least)),
                        None => named,
                    });
                }
            }
            let skipped = tracks.map(|at| {
                let (at, value) = (at?, item.value?);
                let may = must(value) != Must::BePresent;
                may.then(|| self.edge(at, Takes::Absent(vec![value])))
            });
            let some = self.node();
            for at in taken.into_iter().chain(skipped[1]) {
                self.edges.push(Edge { from: at, to: some, takes: Takes::Nothing });
            }
            tracks = [skipped[0], Some(some)];
        }
        let unreachable = self.node();
        tracks.map(|at| at.unwrap_or(unreachable))
    }
}

/// The demand of a set of values that come together on one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    Fit,
    BePresent,
    BeAbsent,
}

/// Reads all segments of a text back.
pub(super) fn read_back(
    graphs: &[Graph],
    shapes: &[ValueShape],
    received: &Received<'_>,
) -> Readback {
    let mut closed = ValueSet::default();
    (0..received.values.len().min(super::VALUES_MAX))
        .filter_map(|value| u8::try_from(value).ok())
        .for_each(|value| closed.insert(value));
    let mut open = ValueSet::default();
    for (graph, text) in graphs.iter().zip(received.segments) {
        let mut walk = Walk { shapes, text, steps: 0 };
        match walk.open_values(graph, received.values, &mut open) {
            Some(Found::Nothing) => return Readback::Empty,
            Some(Found::Some) => {}
            // Too much work: nothing is proven.
            None => return Readback::Closed(ValueSet::default()),
        }
    }
    Readback::Closed(closed.without(open))
}

/// Whether the values of `received` are one way to read its segments.
pub(super) fn allows(graphs: &[Graph], shapes: &[ValueShape], received: &Received<'_>) -> bool {
    graphs
        .iter()
        .zip(received.segments)
        .all(|(graph, text)| graph.leads(shapes, text, received.values))
}

enum Found {
    Nothing,
    Some,
}

struct Walk<'w> {
    shapes: &'w [ValueShape],
    text: &'w [u8],
    steps: usize,
}

/// Places at which the value of an edge can begin and end.
#[derive(Clone, Copy)]
struct EdgeEnds<'p> {
    before: &'p Places,
    after: &'p Places,
}

/// The places where values that start in ascending order can end, where these are all up to a last
/// one: most of these values share it.
#[derive(Default)]
struct Run {
    last: Option<usize>,
}

impl Run {
    /// The last end of a value from `start` on; `None` if its ends are others.
    fn last(&mut self, shape: &ValueShape, text: &[u8], start: usize) -> Option<usize> {
        self.last = match self.last.filter(|last| start <= *last) {
            Some(same) => Some(same),
            None => shape.run_end(text, start),
        };
        self.last
    }
}

impl Walk<'_> {
    /// Adds the values that some path gives another value than was received; `None` if that takes
    /// too much work.
    fn open_values(
        &mut self,
        graph: &Graph,
        received: &[Option<Vec<u8>>],
        open: &mut ValueSet,
    ) -> Option<Found> {
        let forward = self.forward(graph)?;
        let backward = self.backward(graph, &forward)?;
        if !backward[0].contains(0) {
            return Some(Found::Nothing);
        }
        for edge in &graph.edges {
            let ends = EdgeEnds { before: &forward[edge.from], after: &backward[edge.to] };
            match &edge.takes {
                Takes::Literal(_) | Takes::Nothing => {}
                Takes::Absent(values) => {
                    if self.may_skip(values) && ends.before.meets(ends.after) {
                        let is_there = |value: &&usize| {
                            received[**value].as_ref().is_some_and(|v| !v.is_empty())
                        };
                        let present = values.iter().filter(is_there);
                        present.for_each(|value| super::insert(open, *value));
                    }
                }
                Takes::Value(value, least) => {
                    let own = received[*value].as_deref();
                    if self.differs(*value, *least, ends, own)? {
                        super::insert(open, *value);
                    }
                }
            }
        }
        Some(Found::Some)
    }

    fn may_skip(&self, values: &[usize]) -> bool {
        values.iter().any(|value| self.shapes[*value].may_be_absent())
    }

    /// Whether a path gives a value that is not `own`.
    fn differs(
        &mut self,
        value: usize,
        least: Least,
        ends: EdgeEnds<'_>,
        own: Option<&[u8]>,
    ) -> Option<bool> {
        // To be empty and to be absent says the same.
        let own = own.unwrap_or_default();
        let mut run = Run::default();
        for start in ends.before.iter() {
            let last = run.last(&self.shapes[value], self.text, start);
            let own_end = self.text[start..].starts_with(own).then_some(start + own.len());
            let wanted = Wanted { places: ends.after, except: own_end };
            let other = self.has_end(value, least, start, last, wanted)?;
            if other {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Whether one of the ends of a value is wanted. `last` is its last end, where its ends are a run.
    fn has_end(
        &mut self,
        value: usize,
        least: Least,
        start: usize,
        last: Option<usize>,
        wanted: Wanted<'_>,
    ) -> Option<bool> {
        if let Some(last) = last {
            return self.first_end(value, least, start..=last, wanted);
        }
        let mut found = false;
        self.ends(value, least, start, |end| {
            found = wanted.contains(end);
            if found { Seen::Enough } else { Seen::More }
        })?;
        Some(found)
    }

    /// The same where the ends are a run: `place` is from the value's start to the last end. Counts as
    /// many steps as [`Self::ends`], which looks at one end after another.
    fn first_end(
        &mut self,
        value: usize,
        least: Least,
        place: RangeInclusive<usize>,
        wanted: Wanted<'_>,
    ) -> Option<bool> {
        let (start, last) = (*place.start(), *place.end());
        let first = self.run_begin(value, start);
        let all = (last + 1).saturating_sub(first);
        let (found, steps) = if self.may_be_empty(value, least) && wanted.contains(start) {
            (true, all.min(1))
        } else {
            let from = first.max(start + usize::from(least == Least::One));
            match wanted.first_in(from..=last) {
                Some(end) => (true, end + 1 - first),
                None => (false, all),
            }
        };
        self.count(steps)?;
        Some(found)
    }

    /// The first end in a run, of a value that starts here.
    fn run_begin(&self, value: usize, start: usize) -> usize {
        start + usize::from(!self.shapes[value].is_free())
    }

    /// Counts the steps of one value from one start; `None` if that is too much work.
    fn count(&mut self, steps: usize) -> Option<()> {
        self.steps += steps + 1;
        (self.steps <= STEPS_MAX).then_some(())
    }

    /// Whether a value that nothing leaves out may be empty: it may be absent.
    fn may_be_empty(&self, value: usize, least: Least) -> bool {
        let shape = &self.shapes[value];
        least == Least::None && !shape.is_free() && shape.may_be_absent()
    }

    fn ends(
        &mut self,
        value: usize,
        least: Least,
        start: usize,
        mut end: impl FnMut(usize) -> Seen,
    ) -> Option<()> {
        let (text, mut steps, shape) = (self.text, 0, &self.shapes[value]);
        let mut seen = if self.may_be_empty(value, least) { end(start) } else { Seen::More };
        shape.ends(text, start, |stop| {
            steps += 1;
            if seen == Seen::More && !(least == Least::One && stop == start) {
                seen = end(stop);
            }
            seen
        });
        self.count(steps)
    }

    /// Places that each node can be reached at.
    fn forward(&mut self, graph: &Graph) -> Option<Vec<Places>> {
        let len = self.text.len();
        let mut places = vec![Places::none(len); graph.nodes];
        places[0].insert(0);
        for edge in graph.by_start() {
            let before = places[edge.from].clone();
            match &edge.takes {
                Takes::Literal(bytes) => {
                    let ends = before.iter().filter(|at| self.text[*at..].starts_with(bytes));
                    let ends: Vec<usize> = ends.map(|at| at + bytes.len()).collect();
                    ends.into_iter().for_each(|end| places[edge.to].insert(end));
                }
                Takes::Nothing => places[edge.to].add(&before),
                Takes::Absent(values) if self.may_skip(values) => places[edge.to].add(&before),
                Takes::Absent(_) => {}
                Takes::Value(value, least) => {
                    let (mut run, mut filled) = (Run::default(), None);
                    for start in before.iter() {
                        let to = &mut places[edge.to];
                        let last = run.last(&self.shapes[*value], self.text, start);
                        if let Some(last) = last {
                            self.count((last + 1).saturating_sub(self.run_begin(*value, start)))?;
                            if self.may_be_empty(*value, *least) {
                                to.insert(start);
                            }
                            // An earlier start reaches the same ends.
                            if filled != Some(last) {
                                let is_later =
                                    !self.shapes[*value].is_free() || *least == Least::One;
                                (start + usize::from(is_later)..=last)
                                    .for_each(|end| to.insert(end));
                                filled = Some(last);
                            }
                        } else {
                            self.ends(*value, *least, start, |end| {
                                to.insert(end);
                                Seen::More
                            })?;
                        }
                        // Whatever ends a later start of free text can reach, the first reaches.
                        if self.shapes[*value].is_free() {
                            break;
                        }
                    }
                }
            }
        }
        Some(places)
    }

    /// Places of each node from which the end can be reached, among those that can be reached.
    fn backward(&mut self, graph: &Graph, forward: &[Places]) -> Option<Vec<Places>> {
        let len = self.text.len();
        let mut places = vec![Places::none(len); graph.nodes];
        if let Some(last) = places.last_mut() {
            last.insert(len);
        }
        for edge in graph.by_start().rev() {
            let after = places[edge.to].clone();
            let mut from = places[edge.from].clone();
            match &edge.takes {
                Takes::Literal(bytes) => forward[edge.from]
                    .iter()
                    .filter(|at| self.text[*at..].starts_with(bytes))
                    .filter(|at| after.contains(at + bytes.len()))
                    .for_each(|at| from.insert(at)),
                Takes::Nothing => from.add(&after),
                Takes::Absent(values) if self.may_skip(values) => from.add(&after),
                Takes::Absent(_) => {}
                Takes::Value(value, least) => {
                    let mut run = Run::default();
                    let wanted = Wanted { places: &after, except: None };
                    for start in forward[edge.from].iter() {
                        let last = run.last(&self.shapes[*value], self.text, start);
                        if self.has_end(*value, *least, start, last, wanted)? {
                            from.insert(start);
                        }
                    }
                }
            }
            places[edge.from] = from;
        }
        Some(places)
    }
}

impl Graph {
    /// Whether `values` lead from the start of `text` to its end.
    fn leads(&self, shapes: &[ValueShape], text: &[u8], values: &[Option<Vec<u8>>]) -> bool {
        let mut places = vec![Places::none(text.len()); self.nodes];
        places[0].insert(0);
        for edge in self.by_start() {
            let before = places[edge.from].clone();
            let taken = match &edge.takes {
                Takes::Nothing => Some(&[][..]),
                Takes::Literal(bytes) => Some(&**bytes),
                Takes::Absent(all) => {
                    let may = all.iter().any(|value| shapes[*value].may_be_absent());
                    let is_absent =
                        |value: &usize| values[*value].as_ref().is_none_or(Vec::is_empty);
                    (may && all.iter().any(is_absent)).then_some(&[][..])
                }
                Takes::Value(value, least) => {
                    let (own, shape) = (values[*value].as_deref(), &shapes[*value]);
                    own.filter(|own| match own.is_empty() {
                        true => *least == Least::None && (shape.is_free() || shape.may_be_absent()),
                        false => shape.fits(own),
                    })
                }
            };
            let Some(taken) = taken else { continue };
            for at in before.iter().filter(|at| text[*at..].starts_with(taken)) {
                places[edge.to].insert(at + taken.len());
            }
        }
        places.last().is_some_and(|last| last.contains(text.len()))
    }

    /// The edges, each behind all that lead to where it starts.
    fn by_start(&self) -> impl DoubleEndedIterator<Item = &Edge> {
        let mut order: Vec<&Edge> = self.edges.iter().collect();
        order.sort_by_key(|edge| (edge.from, edge.to));
        order.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Which values are proven must not depend on how fast that is found.
        #[test]
        fn the_first_end_of_a_run_is_found_in_as_many_steps_as_end_by_end(
            text in "[ab1-]{1,9}",
            wanted in proptest::collection::vec(any::<bool>(), 10),
            start in 0_usize..9,
            except in proptest::option::of(0_usize..10),
            of in proptest::sample::select(vec!["free", "word", "word?", "digits", "token?"]),
            least in proptest::sample::select(vec![Least::None, Least::One]),
        ) {
            let (text, start) = (text.as_bytes(), start.min(text.len()));
            let shapes = [ValueShape::parse(of).unwrap()];
            let mut after = Places::none(text.len());
            let ends = wanted.iter().take(text.len() + 1).enumerate();
            ends.filter(|(_, wanted)| **wanted).for_each(|(end, _)| after.insert(end));
            let wanted = Wanted { places: &after, except };
            let walk = || Walk { shapes: &shapes, text, steps: 0 };
            let (mut oracle, mut by_end, mut at_once, mut leads) = (walk(), walk(), walk(), false);
            oracle.ends(0, least, start, |end| {
                leads |= after.contains(end) && except != Some(end);
                if leads { Seen::Enough } else { Seen::More }
            });
            let ended = by_end.has_end(0, least, start, None, wanted);
            prop_assert_eq!((ended, by_end.steps), (Some(leads), oracle.steps));
            let last = Run::default().last(&shapes[0], text, start);
            prop_assert!(last.is_some());
            let found = at_once.has_end(0, least, start, last, wanted);
            prop_assert_eq!((found, at_once.steps), (Some(leads), oracle.steps));
        }
    }
}
