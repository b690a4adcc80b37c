//! Every way to read one list of gathered pairs back into names and values.
//!
//! A list of decoded pairs has a *candidate* wherever a separator is followed by a name. A *chain*
//! of candidates is a way to read the list. It is valid if no name repeats, the names keep the
//! order of the list, every required name is there, and every value fits its shape.

use smallvec::SmallVec;

use super::EmptyItems;
use crate::sender::language::value_shape::ValueShape;

/// Candidates of one list. More than any honest list has.
const CANDIDATES_MAX: usize = 200;

/// How a list is written, and what is known of its names.
#[derive(Clone, Copy)]
pub(in crate::sender) struct ChainRules<'r> {
    /// The separator of two pairs.
    pub(in crate::sender) between: &'r [u8],
    /// The separator of a name and its value.
    pub(in crate::sender) within: &'r [u8],
    /// Whether names ascend.
    pub(in crate::sender) order: NameOrder,
    /// Whether pairs with an empty value are left out.
    pub(in crate::sender) empty: EmptyItems,
    /// Names with a shape.
    pub(in crate::sender) known: &'r [KnownName],
}

/// The order of names in a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) enum NameOrder {
    /// Each name is greater than the one in front of it.
    Ascending,
    /// Names come in any order.
    #[default]
    Any,
}

/// A name that a sender file knows the values of.
#[derive(Clone, Debug)]
pub(in crate::sender) struct KnownName {
    pub(in crate::sender) name: Box<[u8]>,
    pub(in crate::sender) shape: ValueShape,
}

/// A pair as it was received, decoded, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct ReceivedPair {
    pub(in crate::sender) name: Vec<u8>,
    pub(in crate::sender) value: Vec<u8>,
}

/// The result of parsing a list again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Chains {
    /// No chain is valid.
    Empty,
    /// Some are. For each received pair, whether all of them have it as it was received.
    Closed(Vec<Closedness>),
}

/// Whether a value is the same however its text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Closedness {
    /// The same list.
    Closed,
    /// Another variant has another value, or none.
    Open,
}

struct Candidate<'t> {
    start: usize,
    name: &'t [u8],
    /// Where its value begins.
    value: usize,
}

impl ChainRules<'_> {
    /// Reads back the list that `pairs` are written as.
    pub(in crate::sender) fn read_back(&self, pairs: &[ReceivedPair]) -> Chains {
        if pairs.is_empty() {
            let required = self.known.iter().any(|known| !known.shape.may_be_absent());
            return if required { Chains::Empty } else { Chains::Closed(Vec::new()) };
        }
        let text = self.written(pairs);
        let Some(candidates) = self.candidates(&text) else {
            return Chains::Closed(vec![Closedness::Open; pairs.len()]);
        };
        let walk = Walk { rules: self, text: &text, candidates: &candidates };
        let to_end = walk.backward(None);
        if !walk.begins(&to_end) {
            return Chains::Empty;
        }
        let whole = Reach { from_start: walk.forward(), to_end };
        Chains::Closed(pairs.iter().map(|pair| walk.closedness(pair, &whole)).collect())
    }

    /// Whether `pairs` are themselves a valid chain.
    pub(in crate::sender) fn allows(&self, pairs: &[ReceivedPair]) -> bool {
        let fits = |pair: &ReceivedPair| {
            self.shape(&pair.name).is_none_or(|shape| shape.fits(&pair.value))
        };
        let ordered = pairs.windows(2).all(|two| self.may_follow(&two[0].name, &two[1].name));
        let there = |known: &KnownName| {
            known.shape.may_be_absent() || pairs.iter().any(|pair| *pair.name == *known.name)
        };
        ordered && pairs.iter().all(fits) && self.known.iter().all(there)
    }

    /// Whether no value holds what could separate it from a further pair.
    pub(in crate::sender) fn is_finest(&self, pairs: &[ReceivedPair]) -> bool {
        !pairs.iter().any(|pair| self.splits(&pair.value))
    }

    /// Whether `value` holds what could separate it from a further pair.
    pub(in crate::sender) fn splits(&self, value: &[u8]) -> bool {
        memchr::memmem::find_iter(value, self.between)
            .any(|at| memchr::memmem::find(&value[at..], self.within).is_some())
    }

    /// Names that other valid chains have, and `pairs` do not; `None`: any name.
    pub(in crate::sender) fn other_names(&self, pairs: &[ReceivedPair]) -> Option<Vec<Vec<u8>>> {
        if self.is_finest(pairs) {
            return Some(Vec::new());
        }
        let text = self.written(pairs);
        let candidates = self.candidates(&text)?;
        let walk = Walk { rules: self, text: &text, candidates: &candidates };
        let (from_start, to_end) = (walk.forward(), walk.backward(None));
        let on_chain = (0..candidates.len()).filter(|at| from_start[*at] && to_end[*at]);
        let names = on_chain.map(|at| candidates[at].name);
        let others = names.filter(|name| !pairs.iter().any(|pair| pair.name == *name));
        Some(others.map(<[u8]>::to_vec).collect())
    }

    /// The text of `pairs`.
    pub(in crate::sender) fn written(&self, pairs: &[ReceivedPair]) -> Vec<u8> {
        let mut text = Vec::new();
        for (at, pair) in pairs.iter().enumerate() {
            if at > 0 {
                text.extend_from_slice(self.between);
            }
            text.extend_from_slice(&pair.name);
            text.extend_from_slice(self.within);
            text.extend_from_slice(&pair.value);
        }
        text
    }

    /// The candidates of `text`; `None` if they are too many.
    fn candidates<'t>(&self, text: &'t [u8]) -> Option<SmallVec<[Candidate<'t>; 24]>> {
        let behind =
            memchr::memmem::find_iter(text, self.between).map(|at| at + self.between.len());
        let mut candidates = SmallVec::new();
        for start in std::iter::once(0).chain(behind) {
            let Some(len) = memchr::memmem::find(&text[start..], self.within) else { continue };
            let name = &text[start..start + len];
            if memchr::memmem::find(name, self.between).is_some() {
                continue;
            }
            if candidates.len() == CANDIDATES_MAX {
                return None;
            }
            candidates.push(Candidate { start, name, value: start + len + self.within.len() });
        }
        Some(candidates)
    }

    fn shape(&self, name: &[u8]) -> Option<&ValueShape> {
        self.known.iter().find(|known| *known.name == *name).map(|known| &known.shape)
    }

    fn may_follow(&self, one: &[u8], next: &[u8]) -> bool {
        match self.order {
            NameOrder::Ascending => one < next && !self.requires_between(Some(one), Some(next)),
            NameOrder::Any => one != next,
        }
    }

    /// Whether a required name belongs between two names of an ascending list.
    fn requires_between(&self, one: Option<&[u8]>, next: Option<&[u8]>) -> bool {
        self.order == NameOrder::Ascending
            && self.known.iter().any(|known| {
                !known.shape.may_be_absent()
                    && one.is_none_or(|one| one < &*known.name)
                    && next.is_none_or(|next| &*known.name < next)
            })
    }
}

struct Walk<'w> {
    rules: &'w ChainRules<'w>,
    text: &'w [u8],
    candidates: &'w [Candidate<'w>],
}

/// The candidates that a chain can have: which it can reach from its beginning, and which can lead
/// to its end.
struct Reach {
    from_start: Vec<bool>,
    to_end: Vec<bool>,
}

impl<'w> Walk<'w> {
    /// The value of the candidate at `at` if the one at `next` follows it; `None` if it cannot.
    fn value(&self, at: usize, next: Option<usize>) -> Option<&'w [u8]> {
        let one = &self.candidates[at];
        let end = match next {
            Some(next) => {
                let next = &self.candidates[next];
                if !self.rules.may_follow(one.name, next.name) {
                    return None;
                }
                next.start - self.rules.between.len()
            }
            None if self.rules.requires_between(Some(one.name), None) => return None,
            None => self.text.len(),
        };
        let value = self.text.get(one.value..end)?;
        let dropped = self.rules.empty == EmptyItems::Dropped && value.is_empty();
        let fits = self.rules.shape(one.name).is_none_or(|shape| shape.fits(value));
        (fits && !dropped).then_some(value)
    }

    /// Whether a chain may begin with the first candidate.
    fn may_begin(&self) -> bool {
        self.candidates.first().is_some_and(|first| {
            first.start == 0 && !self.rules.requires_between(None, Some(first.name))
        })
    }

    /// Which candidates a chain can reach from its beginning.
    fn forward(&self) -> Vec<bool> {
        let len = self.candidates.len();
        let mut from_start = vec![false; len];
        if let Some(start) = from_start.first_mut() {
            *start = self.may_begin();
        }
        for at in 0..len {
            for next in at + 1..len {
                if from_start[at] && !from_start[next] && self.value(at, Some(next)).is_some() {
                    from_start[next] = true;
                }
            }
        }
        from_start
    }

    /// Which candidates can lead to the end, leaving out those that are called `without`.
    fn backward(&self, without: Option<&[u8]>) -> Vec<bool> {
        let len = self.candidates.len();
        let mut to_end = vec![false; len];
        for at in (0..len).rev() {
            let leads = |next: usize| to_end[next] && self.value(at, Some(next)).is_some();
            to_end[at] = Some(self.candidates[at].name) != without
                && (self.value(at, None).is_some() || (at + 1..len).any(leads));
        }
        to_end
    }

    /// Whether some chain is whole, by what [`Self::backward`] says.
    fn begins(&self, to_end: &[bool]) -> bool {
        self.may_begin() && to_end.first().copied().unwrap_or_default()
    }

    /// Whether all chains have `pair` as it was received. `whole` is the reach of all candidates.
    fn closedness(&self, pair: &ReceivedPair, whole: &Reach) -> Closedness {
        if self.begins(&self.backward(Some(&pair.name))) {
            return Closedness::Open;
        }
        let Reach { from_start, to_end } = whole;
        let len = self.candidates.len();
        let named = (0..len).filter(|at| from_start[*at] && self.candidates[*at].name == pair.name);
        for at in named {
            let differs = |value: Option<&[u8]>| value.is_some_and(|value| value != pair.value);
            let follows = |next: usize| to_end[next] && differs(self.value(at, Some(next)));
            if differs(self.value(at, None)) || (at + 1..len).any(follows) {
                return Closedness::Open;
            }
        }
        Closedness::Closed
    }
}
