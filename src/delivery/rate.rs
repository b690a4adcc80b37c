//! The rate limit of a destination.

use std::time::{Duration, Instant};

use crate::config::Rate;

/// Allows all attempts of a period at once, then one after the other.
#[derive(Debug)]
pub(super) struct RateLimiter {
    each: Duration,
    rate: Rate,
    /// When all of a period's attempts are available again.
    recovered: Option<Instant>,
    /// When the next attempt is available; `None`: now.
    next: Option<Instant>,
}

impl RateLimiter {
    pub(super) fn new(rate: Rate) -> Self {
        let each = (rate.per / rate.count.max(1)).max(Duration::from_nanos(1));
        Self { each, rate, recovered: None, next: None }
    }

    /// The number of attempts that may begin now.
    pub(super) fn slots(&mut self, now: Instant) -> usize {
        let owed = self.owed(now);
        let left = self.rate.per.saturating_sub(owed);
        let slots = usize::try_from(left.as_nanos() / self.each.as_nanos()).unwrap_or(usize::MAX);
        self.next = (slots == 0).then(|| now + self.each.saturating_sub(left));
        slots
    }

    /// When a slot is free again; `None`: one was free at the last call.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        self.next
    }

    /// Records that an attempt begins.
    pub(super) fn take(&mut self, now: Instant) {
        self.recovered = Some(now + self.owed(now) + self.each);
    }

    fn owed(&self, now: Instant) -> Duration {
        self.recovered.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::instant;

    #[test]
    fn a_period_at_once_and_then_one_after_the_other() {
        let mut rate = RateLimiter::new(Rate { count: 10, per: Duration::from_secs(1) });
        let now = instant();
        for left in (1..=10).rev() {
            assert_eq!(rate.slots(now), left);
            assert_eq!(rate.opens_at(), None);
            rate.take(now);
        }
        assert_eq!(rate.slots(now), 0);
        let next = now + Duration::from_millis(100);
        assert_eq!(rate.opens_at(), Some(next));
        assert_eq!(rate.slots(next), 1);
        rate.take(next);
        assert_eq!(rate.slots(next), 0);
        assert_eq!(rate.slots(now + Duration::from_secs(9)), 10);
    }
}
