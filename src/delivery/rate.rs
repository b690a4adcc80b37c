//! How many attempts a destination takes over time.

use std::time::{Duration, Instant};

use crate::config::Rate;

/// All of a period's attempts at once, then one after the other.
#[derive(Debug)]
pub(super) struct Pacer {
    each: Duration,
    rate: Rate,
    /// When all of a period's attempts may be made again.
    recovered: Option<Instant>,
    /// When there is one again; `None`: there is one.
    next: Option<Instant>,
}

impl Pacer {
    pub(super) fn new(rate: Rate) -> Self {
        let each = (rate.per / rate.count.max(1)).max(Duration::from_nanos(1));
        Self { each, rate, recovered: None, next: None }
    }

    /// How many may begin now.
    pub(super) fn places(&mut self, now: Instant) -> usize {
        let owed = self.owed(now);
        let left = self.rate.per.saturating_sub(owed);
        let places = usize::try_from(left.as_nanos() / self.each.as_nanos()).unwrap_or(usize::MAX);
        self.next = (places == 0).then(|| now + self.each.saturating_sub(left));
        places
    }

    /// When there is a place again; `None`: there was one when it was last asked.
    pub(super) fn opens_up(&self) -> Option<Instant> {
        self.next
    }

    /// One begins.
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
        let mut pacer = Pacer::new(Rate { count: 10, per: Duration::from_secs(1) });
        let now = instant();
        for left in (1..=10).rev() {
            assert_eq!(pacer.places(now), left);
            assert_eq!(pacer.opens_up(), None);
            pacer.take(now);
        }
        assert_eq!(pacer.places(now), 0);
        let next = now + Duration::from_millis(100);
        assert_eq!(pacer.opens_up(), Some(next));
        assert_eq!(pacer.places(next), 1);
        pacer.take(next);
        assert_eq!(pacer.places(next), 0);
        assert_eq!(pacer.places(now + Duration::from_secs(9)), 10);
    }
}
