//! Rate limiters: a burst of a period's whole count, then a steady rate (the generic cell rate
//! algorithm). Each is one atomic word: the time at which the whole count is available again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::{Rate, client_network};

/// Cells of an [`AddressRateLimiter`]: 32 KiB. Addresses that share a cell share its rate, which can
/// only make the log of rejected callbacks shorter.
const CELLS: usize = 4096;

/// A rate limit that all threads share.
#[derive(Debug)]
pub struct RateLimiter {
    origin: Instant,
    rate: Interval,
    recovered_ns: AtomicU64,
}

/// A rate limit for each client address, in fixed memory.
#[derive(Debug)]
pub struct AddressRateLimiter {
    origin: Instant,
    rate: Interval,
    cells: Box<[AtomicU64]>,
    hasher: RandomState,
    /// Multiply addresses without a name, in place of a hash. No caller knows them, so none can
    /// choose an address for its cell.
    factors: [u64; 2],
}

/// A rate in nanoseconds: the time of one, and of the whole count.
#[derive(Clone, Copy, Debug)]
struct Interval {
    one_ns: u64,
    all_ns: u64,
}

impl Interval {
    fn new(rate: Rate) -> Self {
        let all_ns = nanos(rate.per).max(1);
        Self { one_ns: (all_ns / u64::from(rate.count.max(1))).max(1), all_ns }
    }

    /// Returns whether [`Interval::take`] would take one.
    fn has(self, recovered_ns: &AtomicU64, now_ns: u64) -> bool {
        let next = recovered_ns.load(Ordering::Relaxed).max(now_ns).saturating_add(self.one_ns);
        next - now_ns <= self.all_ns
    }

    /// Takes one even if none is available; later ones wait longer.
    fn charge(self, recovered_ns: &AtomicU64, now_ns: u64) {
        let next = |recovered: u64| Some(recovered.max(now_ns).saturating_add(self.one_ns));
        // It always has a next value.
        let _ = recovered_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Takes one that is available within `most_ns`. Returns how long that is from now.
    fn reserve(self, recovered_ns: &AtomicU64, now_ns: u64, most_ns: u64) -> Option<u64> {
        let next = |recovered: u64| recovered.max(now_ns).saturating_add(self.one_ns);
        let wait = |next: u64| (next - now_ns).saturating_sub(self.all_ns);
        let taken = recovered_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |recovered| {
            Some(next(recovered)).filter(|next| wait(*next) <= most_ns)
        });
        taken.ok().map(|recovered| wait(next(recovered)))
    }

    /// Returns one that was taken.
    fn give_back(self, recovered_ns: &AtomicU64) {
        let before = |recovered: u64| Some(recovered.saturating_sub(self.one_ns));
        // It always has a value before.
        let _ = recovered_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, before);
    }

    /// Takes one if one is available.
    fn take(self, recovered_ns: &AtomicU64, now_ns: u64) -> bool {
        recovered_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |recovered| {
                let next = recovered.max(now_ns).saturating_add(self.one_ns);
                (next - now_ns <= self.all_ns).then_some(next)
            })
            .is_ok()
    }
}

impl RateLimiter {
    /// Creates a limiter with its whole count available. `origin` is the earliest time that it is
    /// asked about.
    #[must_use]
    pub fn new(rate: Rate, origin: Instant) -> Self {
        Self { origin, rate: Interval::new(rate), recovered_ns: AtomicU64::new(0) }
    }

    /// Returns a copy in the same state.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let recovered_ns = AtomicU64::new(self.recovered_ns.load(Ordering::Relaxed));
        Self { origin: self.origin, rate: self.rate, recovered_ns }
    }

    /// Returns whether one is available.
    pub fn has(&self, now: Instant) -> bool {
        self.rate.has(&self.recovered_ns, nanos(now.saturating_duration_since(self.origin)))
    }

    /// Takes one even if none is available: concurrent requests may exceed the rate, and later ones
    /// wait longer.
    pub fn charge(&self, now: Instant) {
        self.rate.charge(&self.recovered_ns, nanos(now.saturating_duration_since(self.origin)));
    }

    /// Takes one if one is available.
    pub fn take(&self, now: Instant) -> bool {
        self.rate.take(&self.recovered_ns, nanos(now.saturating_duration_since(self.origin)))
    }

    /// Returns how many are available.
    pub fn available(&self, now: Instant) -> usize {
        let left = self.rate.all_ns.saturating_sub(self.owed_ns(now)) / self.rate.one_ns;
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Returns when one is available: `now`, or later.
    pub fn next_at(&self, now: Instant) -> Instant {
        let wait = (self.owed_ns(now) + self.rate.one_ns).saturating_sub(self.rate.all_ns);
        now + Duration::from_nanos(wait)
    }

    fn owed_ns(&self, now: Instant) -> u64 {
        let now_ns = nanos(now.saturating_duration_since(self.origin));
        self.recovered_ns.load(Ordering::Relaxed).saturating_sub(now_ns)
    }
}

impl AddressRateLimiter {
    /// Creates limiters with their whole counts available.
    #[must_use]
    pub fn new(rate: Rate, origin: Instant) -> Self {
        let cells = std::iter::repeat_with(AtomicU64::default).take(CELLS).collect();
        let hasher = RandomState::new();
        let factors = [0, 1].map(|number: u64| hasher.hash_one(number));
        Self { origin, rate: Interval::new(rate), cells, hasher, factors }
    }

    /// Takes one of `address` if one is available.
    pub fn take(&self, address: IpAddr, now: Instant) -> bool {
        self.take_as("", address, now)
    }

    /// Takes one of `address` under that name if one is available. For IPv6 the /64 network counts,
    /// because its owner has 2^64 addresses.
    pub fn take_as(&self, name: &str, address: IpAddr, now: Instant) -> bool {
        self.cell(name, address).is_some_and(|cell| self.rate.take(cell, self.nanos(now)))
    }

    /// Returns whether one of `address` is available under that name.
    pub fn has_as(&self, name: &str, address: IpAddr, now: Instant) -> bool {
        self.cell(name, address).is_some_and(|cell| self.rate.has(cell, self.nanos(now)))
    }

    /// Takes one even if none is available, as [`RateLimiter::charge`] does.
    pub fn charge_as(&self, name: &str, address: IpAddr, now: Instant) {
        self.cell(name, address).into_iter().for_each(|cell| {
            self.rate.charge(cell, self.nanos(now));
        });
    }

    /// Takes one that is available within `most`. Returns how long to wait for it.
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

    /// Returns one that was taken.
    pub fn give_back_as(&self, name: &str, address: IpAddr) {
        self.cell(name, address).into_iter().for_each(|cell| self.rate.give_back(cell));
    }

    fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin))
    }

    fn cell(&self, name: &str, address: IpAddr) -> Option<&AtomicU64> {
        let hash = match name {
            "" => self.product(client_network(address)),
            name => self.hasher.hash_one((name, client_network(address))),
        };
        let at = usize::try_from(hash).unwrap_or(usize::MAX) % CELLS;
        self.cells.get(at)
    }

    /// A keyed product of both halves of a network.
    fn product(&self, network: u128) -> u64 {
        let [high, low] = [(network >> 64) as u64, network as u64];
        let [one, other] = self.factors;
        let product = u128::from(high ^ one) * u128::from(low ^ other);
        (product >> 64) as u64 ^ product as u64
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
        let limiter = RateLimiter::new(TEN, origin);
        let burst = (0..100).filter(|_| limiter.take(origin)).count();
        assert_eq!(burst, 10);
        let later = origin + Duration::from_millis(100);
        assert!(limiter.take(later));
        assert!(!limiter.take(later));
        let much_later = origin + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| limiter.take(much_later)).count(), 10);
    }

    #[test]
    fn tells_how_many_are_available_and_when_the_next_one_is() {
        let origin = clock::instant();
        let limiter = RateLimiter::new(TEN, origin);
        for left in (1..=10).rev() {
            assert_eq!((limiter.available(origin), limiter.next_at(origin)), (left, origin));
            assert!(limiter.take(origin));
        }
        let next = origin + Duration::from_millis(100);
        assert_eq!((limiter.available(origin), limiter.next_at(origin)), (0, next));
        assert_eq!(limiter.available(next), 1);
        assert!(limiter.take(next));
        assert_eq!(limiter.available(next), 0);
        assert_eq!(limiter.available(origin + Duration::from_secs(9)), 10);
    }

    #[test]
    fn a_charge_beyond_the_rate_is_waited_for() {
        let origin = clock::instant();
        let limiter = RateLimiter::new(TEN, origin);
        assert!((0..100).all(|_| limiter.has(origin)), "looking takes nothing");
        (0..12).for_each(|_| limiter.charge(origin));
        assert!(!limiter.has(origin));
        assert!(!limiter.has(origin + Duration::from_millis(299)));
        assert!(limiter.has(origin + Duration::from_millis(300)));
    }

    #[test]
    fn one_loud_address_leaves_room_for_others() {
        let origin = clock::instant();
        let limiter = AddressRateLimiter::new(TEN, origin);
        let loud: IpAddr = "203.0.113.1".parse().unwrap();
        assert_eq!((0..100).filter(|_| limiter.take(loud, origin)).count(), 10);
        let others = (0..200u8).filter(|n| limiter.take([198, 51, 100, *n].into(), origin));
        assert!(others.count() >= 198, "two of 200 may share the cell of the loud one");
        // Another limiter: in the first one, this network may share a cell with one of the 200.
        let limiter = AddressRateLimiter::new(TEN, origin);
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        assert_eq!((0..100).filter(|_| limiter.take(one, origin)).count(), 10);
        assert!(!limiter.take(neighbour, origin), "the same network");
    }

    #[test]
    fn a_reservation_is_waited_for_and_can_be_returned() {
        let origin = clock::instant();
        let limiter = AddressRateLimiter::new(TEN, origin);
        let (one, most) = (IpAddr::from([203, 0, 113, 1]), Duration::from_millis(150));
        (0..10).for_each(|_| limiter.charge_as("m", one, origin));
        assert!(!limiter.has_as("m", one, origin));
        let reserve = || limiter.reserve_as("m", one, origin, most);
        assert_eq!(reserve(), Some(Duration::from_millis(100)));
        assert_eq!(reserve(), None, "two hundred milliseconds are too long");
        limiter.give_back_as("m", one);
        assert_eq!(reserve(), Some(Duration::from_millis(100)));
        assert!(!limiter.has_as("m", one, origin + Duration::from_millis(199)));
        assert!(limiter.has_as("m", one, origin + Duration::from_millis(200)));
    }
}
