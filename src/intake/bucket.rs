//! Rates: how many of something may happen in a time.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::Rate;

/// Cells of [`ByAddress`]: 32 KiB. Addresses that share a cell share its rate, which can only make
/// the log of refused callbacks shorter.
const CELLS: usize = 4096;

/// A rate that all threads share: one atomic word, the time at which it will have recovered.
#[derive(Debug)]
pub(super) struct Bucket {
    origin: Instant,
    rate: Pace,
    recovered_ns: AtomicU64,
}

/// One such rate for every address, in fixed memory.
#[derive(Debug)]
pub struct ByAddress {
    origin: Instant,
    rate: Pace,
    cells: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// A rate in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Pace {
    each_ns: u64,
    all_ns: u64,
}

impl Pace {
    fn new(rate: Rate) -> Self {
        let all_ns = nanos(rate.per).max(1);
        Self { each_ns: (all_ns / u64::from(rate.count.max(1))).max(1), all_ns }
    }

    /// Whether [`Pace::take`] would take one.
    fn has(self, recovered_ns: &AtomicU64, now_ns: u64) -> bool {
        let next = recovered_ns.load(Ordering::Relaxed).max(now_ns).saturating_add(self.each_ns);
        next - now_ns <= self.all_ns
    }

    /// Takes one, whether or not the rate allows: what is taken too much is waited for.
    fn charge(self, recovered_ns: &AtomicU64, now_ns: u64) {
        let next = |recovered: u64| Some(recovered.max(now_ns).saturating_add(self.each_ns));
        // It always has a next value.
        let _ = recovered_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Takes one that is there within `most_ns`, and answers how long that is from now.
    fn reserve(self, recovered_ns: &AtomicU64, now_ns: u64, most_ns: u64) -> Option<u64> {
        let next = |recovered: u64| recovered.max(now_ns).saturating_add(self.each_ns);
        let wait = |next: u64| (next - now_ns).saturating_sub(self.all_ns);
        let taken = recovered_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |recovered| {
            Some(next(recovered)).filter(|next| wait(*next) <= most_ns)
        });
        taken.ok().map(|recovered| wait(next(recovered)))
    }

    /// Gives one back that was taken.
    fn give_back(self, recovered_ns: &AtomicU64) {
        let before = |recovered: u64| Some(recovered.saturating_sub(self.each_ns));
        // It always has a value before.
        let _ = recovered_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, before);
    }

    /// Takes one, if the rate allows: all of a period's at once, then one after the other.
    fn take(self, recovered_ns: &AtomicU64, now_ns: u64) -> bool {
        recovered_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |recovered| {
                let next = recovered.max(now_ns).saturating_add(self.each_ns);
                (next - now_ns <= self.all_ns).then_some(next)
            })
            .is_ok()
    }
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: Rate, origin: Instant) -> Self {
        Self { origin, rate: Pace::new(rate), recovered_ns: AtomicU64::new(0) }
    }

    /// Another one that is as full as this one is now.
    pub(super) fn again(&self) -> Self {
        let recovered_ns = AtomicU64::new(self.recovered_ns.load(Ordering::Relaxed));
        Self { origin: self.origin, rate: self.rate, recovered_ns }
    }

    /// Whether there is one.
    pub(super) fn has(&self, now: Instant) -> bool {
        self.rate.has(&self.recovered_ns, nanos(now.saturating_duration_since(self.origin)))
    }

    /// Takes one in any case. Those in flight together may take more than there are, and whoever
    /// comes later waits longer.
    pub(super) fn charge(&self, now: Instant) {
        self.rate.charge(&self.recovered_ns, nanos(now.saturating_duration_since(self.origin)));
    }

    /// Takes one, if there is one.
    pub(super) fn take(&self, now: Instant) -> bool {
        self.rate.take(&self.recovered_ns, nanos(now.saturating_duration_since(self.origin)))
    }
}

impl ByAddress {
    /// Full buckets.
    #[must_use]
    pub fn new(rate: Rate, origin: Instant) -> Self {
        let cells = std::iter::repeat_with(AtomicU64::default).take(CELLS).collect();
        Self { origin, rate: Pace::new(rate), cells, hasher: RandomState::new() }
    }

    /// Takes one of `address`, if there is one.
    pub fn take(&self, address: IpAddr, now: Instant) -> bool {
        self.take_as("", address, now)
    }

    /// Takes one of `address` under that name, if there is one. Of IPv6 the network counts, since
    /// whoever has one address there has 2^64.
    pub fn take_as(&self, name: &str, address: IpAddr, now: Instant) -> bool {
        self.cell(name, address).is_some_and(|cell| self.rate.take(cell, self.nanos(now)))
    }

    /// Whether there is one of `address` under that name.
    pub fn has_as(&self, name: &str, address: IpAddr, now: Instant) -> bool {
        self.cell(name, address).is_some_and(|cell| self.rate.has(cell, self.nanos(now)))
    }

    /// Takes one in any case. Those in flight together may take more than there are, and what comes
    /// later waits longer.
    pub fn charge_as(&self, name: &str, address: IpAddr, now: Instant) {
        self.cell(name, address).into_iter().for_each(|cell| {
            self.rate.charge(cell, self.nanos(now));
        });
    }

    /// Takes one that is there within `most`, and answers how long to wait for it.
    pub fn reserve_as(
        &self,
        name: &str,
        address: IpAddr,
        now: Instant,
        most: Duration,
    ) -> Option<Duration> {
        let cell = self.cell(name, address)?;
        self.rate.reserve(cell, self.nanos(now), nanos(most)).map(Duration::from_nanos)
    }

    /// Gives one back that was taken.
    pub fn give_back_as(&self, name: &str, address: IpAddr) {
        self.cell(name, address).into_iter().for_each(|cell| self.rate.give_back(cell));
    }

    fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin))
    }

    fn cell(&self, name: &str, address: IpAddr) -> Option<&AtomicU64> {
        let network = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits() >> 64,
        };
        let hash = self.hasher.hash_one((name, address.is_ipv4(), network));
        let at = usize::try_from(hash).unwrap_or(usize::MAX) % CELLS;
        self.cells.get(at)
    }
}

fn nanos(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const TEN: Rate = Rate { count: 10, per: Duration::from_secs(1) };

    #[test]
    fn a_burst_then_a_steady_rate() {
        let origin = clock::instant();
        let bucket = Bucket::new(TEN, origin);
        let burst = (0..100).filter(|_| bucket.take(origin)).count();
        assert_eq!(burst, 10);
        let later = origin + Duration::from_millis(100);
        assert!(bucket.take(later));
        assert!(!bucket.take(later));
        let much_later = origin + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| bucket.take(much_later)).count(), 10);
    }

    #[test]
    fn what_is_charged_too_much_is_waited_for() {
        let origin = clock::instant();
        let bucket = Bucket::new(TEN, origin);
        assert!((0..100).all(|_| bucket.has(origin)), "looking takes nothing");
        (0..12).for_each(|_| bucket.charge(origin));
        assert!(!bucket.has(origin));
        assert!(!bucket.has(origin + Duration::from_millis(299)));
        assert!(bucket.has(origin + Duration::from_millis(300)));
    }

    #[test]
    fn one_loud_address_leaves_room_for_others() {
        let origin = clock::instant();
        let by_address = ByAddress::new(TEN, origin);
        let loud: IpAddr = "203.0.113.1".parse().unwrap();
        assert_eq!((0..100).filter(|_| by_address.take(loud, origin)).count(), 10);
        let others = (0..200u8).filter(|n| by_address.take([198, 51, 100, *n].into(), origin));
        assert!(others.count() >= 198, "two of 200 may share the cell of the loud one");
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        assert_eq!((0..100).filter(|_| by_address.take(one, origin)).count(), 10);
        assert!(!by_address.take(neighbour, origin), "the same network");
    }

    #[test]
    fn what_is_reserved_is_waited_for_and_can_be_given_back() {
        let origin = clock::instant();
        let by_address = ByAddress::new(TEN, origin);
        let (one, most) = (IpAddr::from([203, 0, 113, 1]), Duration::from_millis(150));
        (0..10).for_each(|_| by_address.charge_as("m", one, origin));
        assert!(!by_address.has_as("m", one, origin));
        let reserve = || by_address.reserve_as("m", one, origin, most);
        assert_eq!(reserve(), Some(Duration::from_millis(100)));
        assert_eq!(reserve(), None, "two hundred milliseconds are too long");
        by_address.give_back_as("m", one);
        assert_eq!(reserve(), Some(Duration::from_millis(100)));
        assert!(!by_address.has_as("m", one, origin + Duration::from_millis(199)));
        assert!(by_address.has_as("m", one, origin + Duration::from_millis(200)));
    }
}
