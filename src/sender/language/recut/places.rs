//! Sets of places in a text.

use std::ops::RangeInclusive;

/// Places of a text, one bit each.
#[derive(Clone, Debug)]
pub(super) struct Places(Vec<u64>);

impl Places {
    pub(super) fn none(len: usize) -> Self {
        Self(vec![0; len / 64 + 1])
    }

    pub(super) fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    /// The first place in `range`. Looks at nothing behind it.
    pub(super) fn first_in(&self, range: RangeInclusive<usize>) -> Option<usize> {
        let (from, last) = (*range.start(), *range.end());
        let mut unseen = u64::MAX << (from % 64);
        for word in from / 64..=last / 64 {
            let bits = self.0.get(word)? & unseen;
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize).filter(|at| *at <= last);
            }
            unseen = u64::MAX;
        }
        None
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own |= other);
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(own, other)| own & other != 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let at = left.trailing_zeros() as usize;
                left &= left.checked_sub(1)?;
                Some(word * 64 + at)
            })
        })
    }
}

/// The ends of a value that are looked for: these places, without one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'p> {
    pub(super) places: &'p Places,
    pub(super) except: Option<usize>,
}

impl Wanted<'_> {
    pub(super) fn contains(self, at: usize) -> bool {
        self.except != Some(at) && self.places.contains(at)
    }

    /// The first in `range`.
    pub(super) fn first_in(self, range: RangeInclusive<usize>) -> Option<usize> {
        let last = *range.end();
        let first = self.places.first_in(range)?;
        let is_other = self.except != Some(first);
        if is_other { Some(first) } else { self.places.first_in(first + 1..=last) }
    }
}
