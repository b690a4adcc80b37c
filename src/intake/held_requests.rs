//! Silence: requests held past their sender's timeout and then closed, because only a timeout makes
//! that sender retry.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::wire::CloseWithoutReply;

/// How many are held, and how many may be.
#[derive(Debug)]
pub(super) struct HeldRequests {
    now: AtomicUsize,
    max: usize,
}

/// A held request, until this is dropped.
struct HoldPermit<'a>(&'a AtomicUsize);

impl HeldRequests {
    pub fn new(max: usize) -> Self {
        Self { now: AtomicUsize::new(0), max }
    }

    /// Holds a request until `until`. When too many are held already it is closed at once: a
    /// sender that does not try again after that is a smaller loss than a gateway without memory.
    pub async fn hold(&self, until: Instant) -> CloseWithoutReply {
        if let Some(_place) = self.place() {
            tokio::time::sleep_until(until.into()).await;
        }
        CloseWithoutReply
    }

    fn place(&self) -> Option<HoldPermit<'_>> {
        let place = HoldPermit(&self.now);
        (self.now.fetch_add(1, Ordering::Relaxed) < self.max).then_some(place)
    }
}

impl Drop for HoldPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn at_the_bound_a_request_is_closed_at_once() {
        let held = HeldRequests::new(1);
        let until = clock::instant() + Duration::from_secs(60);
        let first = held.place().unwrap();
        assert_eq!(held.hold(until).await, CloseWithoutReply);
        assert!(clock::instant() < until);
        drop(first);
        assert!(held.place().is_some());
        assert_eq!(held.now.load(Ordering::Relaxed), 0);
    }
}
