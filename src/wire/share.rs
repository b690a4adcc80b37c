//! A capacity that all client addresses share, so that one of them cannot take it all.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::client_network;

/// How many times the capacity that is left one address may have: alone three quarters, beside
/// another busy one three sevenths. Something is always left for an address that has none yet.
const SHARE_OF_LEFT: usize = 3;

/// Cells for addresses: 32 KiB. Addresses that share a cell share its part; which ones do is
/// random in each process.
const CELLS: usize = 4096;

/// A capacity, in any unit, and how much of it is left. Fixed memory, whatever the number of
/// addresses. IPv6 addresses count by /64.
#[derive(Debug)]
pub struct SharedCapacity {
    left: AtomicUsize,
    cells: Box<[AtomicUsize]>,
    hasher: RandomState,
}

/// The part of a [`SharedCapacity`] that one request has, returned on drop.
#[derive(Debug)]
#[must_use = "dropping it returns the part"]
pub struct CapacityPart<'a> {
    shared: &'a SharedCapacity,
    cell: Option<&'a AtomicUsize>,
    taken: usize,
}

/// The capacity, or the share of the address, is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no capacity is left for this address")]
pub struct CapacityError;

impl SharedCapacity {
    /// Creates a capacity of `total`.
    #[must_use]
    pub fn new(total: usize) -> Self {
        let cells = std::iter::repeat_with(AtomicUsize::default).take(CELLS).collect();
        Self { left: AtomicUsize::new(total), cells, hasher: RandomState::new() }
    }

    /// A part of nothing, for a request of `address`.
    pub fn part(&self, address: IpAddr) -> CapacityPart<'_> {
        let hash = self.hasher.hash_one(client_network(address));
        let at = usize::try_from(hash).unwrap_or(usize::MAX) % CELLS;
        CapacityPart { shared: self, cell: self.cells.get(at), taken: 0 }
    }

    /// A part of nothing that stays empty.
    pub fn nothing(&self) -> CapacityPart<'_> {
        CapacityPart { shared: self, cell: None, taken: 0 }
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }
}

impl CapacityPart<'_> {
    /// Takes `amount` more. The only request of an address may take all that is left.
    ///
    /// # Errors
    /// If that is more than is left, or more than the share of the address; then nothing is taken.
    pub fn take(&mut self, amount: usize) -> Result<(), CapacityError> {
        let Some(cell) = self.cell.filter(|_| amount > 0) else { return Ok(()) };
        let left = self
            .shared
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount))
            .map_err(|_| CapacityError)?
            - amount;
        let before = cell.fetch_add(amount, Ordering::Relaxed);
        let is_alone = before == self.taken;
        if !is_alone && before + amount > left.saturating_mul(SHARE_OF_LEFT) {
            cell.fetch_sub(amount, Ordering::Relaxed);
            self.shared.left.fetch_add(amount, Ordering::Relaxed);
            return Err(CapacityError);
        }
        self.taken += amount;
        Ok(())
    }
}

impl Drop for CapacityPart<'_> {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.filter(|_| self.taken > 0) {
            cell.fetch_sub(self.taken, Ordering::Relaxed);
            self.shared.left.fetch_add(self.taken, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many parts of `each` as `address` can have.
    fn fill<'c>(shared: &'c SharedCapacity, address: &str, each: usize) -> Vec<CapacityPart<'c>> {
        let address = address.parse().unwrap();
        std::iter::from_fn(|| {
            let mut part = shared.part(address);
            part.take(each).ok().map(|()| part)
        })
        .collect()
    }

    #[test]
    fn one_address_has_three_quarters_and_always_leaves_something() {
        let shared = SharedCapacity::new(1000);
        let loud = fill(&shared, "203.0.113.1", 10);
        assert_eq!(loud.len(), 75);
        // Each further one finds something, and leaves something. Two of them may share a cell.
        let others: Vec<_> = ["198.51.100.1", "198.51.100.2", "2001:db8::1"]
            .iter()
            .flat_map(|address| fill(&shared, address, 1))
            .collect();
        assert!(others.len() >= 187 && shared.left() > 0, "{} {}", others.len(), shared.left());
        assert!(shared.part([203, 0, 113, 1].into()).take(1).is_err());
        drop((loud, others));
        assert_eq!(shared.left(), 1000);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let shared = SharedCapacity::new(100);
        let all: Vec<_> = (0..100)
            .flat_map(|n| {
                let mut part = shared.part(format!("2001:db8::{n:x}").parse().unwrap());
                part.take(1).ok().map(|()| part)
            })
            .collect();
        assert_eq!(all.len(), 75);
    }

    #[test]
    fn one_alone_may_have_all_of_it() {
        let shared = SharedCapacity::new(10);
        let mut one = shared.part([203, 0, 113, 1].into());
        (0..10).for_each(|_| one.take(1).unwrap());
        assert_eq!(one.take(1), Err(CapacityError));
        assert_eq!(shared.left(), 0);
        assert_eq!(shared.nothing().take(5), Ok(()));
    }
}
