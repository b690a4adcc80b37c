//! One cell of a chart: a count, and the period that it is of, in one atomic word.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::UnixMillis;

/// A count in the low half, and the number of its period in the high half.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    /// Counts one of a period.
    pub(super) fn count(&self, period: u32) {
        // The update always has a value: it cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            Some(if of(word) == period { word + 1 } else { u64::from(period) << 32 | 1 })
        });
    }

    /// The period, and its count.
    pub(super) fn get(&self) -> (u32, u32) {
        let word = self.0.load(Ordering::Relaxed);
        (of(word), u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX))
    }

    /// Adds a count of a period, unless a later period has the cell.
    pub(super) fn add(&self, period: u32, count: u32) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let before = match of(word).cmp(&period) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Equal => word & u64::from(u32::MAX),
                std::cmp::Ordering::Greater => return None,
            };
            let sum = (before + u64::from(count)).min(u64::from(u32::MAX));
            Some(u64::from(period) << 32 | sum)
        });
    }

    /// The count of a period.
    pub(super) fn read(&self, period: u32) -> u64 {
        let word = self.0.load(Ordering::Relaxed);
        if of(word) == period { word & u64::from(u32::MAX) } else { 0 }
    }
}

/// The period in a cell's word.
fn of(word: u64) -> u32 {
    u32::try_from(word >> 32).unwrap_or(u32::MAX)
}

/// Empty cells.
pub(super) const fn cells<const N: usize>() -> [Cell; N] {
    [const { Cell(AtomicU64::new(0)) }; N]
}

/// Counts one at a time, in the cell of its period.
pub(super) fn count_in(cells: &[Cell], at_ms: UnixMillis, period_ms: i64) {
    let (period, index) = place(at_ms, period_ms, cells.len());
    if let Some(cell) = cells.get(index) {
        cell.count(period);
    }
}

/// The number of the period at that time, and its cell among `count` cells.
pub(super) fn place(at_ms: i64, period_ms: i64, count: usize) -> (u32, usize) {
    let period = u32::try_from(at_ms.div_euclid(period_ms)).unwrap_or(0);
    (period, usize::try_from(period).unwrap_or(0) % count)
}
