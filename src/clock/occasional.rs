//! Log lines that could repeat without end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Admits one line per period and counts the others. Shared by all threads.
#[derive(Debug)]
pub struct Occasional {
    every: Duration,
    origin: Instant,
    /// Nanoseconds from the origin at which the next line is admitted.
    next_ns: AtomicU64,
    held: AtomicU64,
}

impl Occasional {
    /// Admits the first line, and then one per `every`.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        let (next_ns, held) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { every, origin: super::instant(), next_ns, held }
    }

    /// Admits a line if it is due, and returns the number of lines skipped since the last one.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(super::instant())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now_ns = nanos(now.saturating_duration_since(self.origin));
        let next_ns = now_ns.saturating_add(nanos(self.every));
        let due = |at: u64| (at <= now_ns).then_some(next_ns);
        match self.next_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due) {
            Ok(_) => Some(self.held.swap(0, Ordering::Relaxed)),
            Err(_) => {
                self.held.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_each_period_is_admitted_and_says_how_many_were_not() {
        let lines = Occasional::new(Duration::from_secs(60));
        let at = |seconds| lines.origin + Duration::from_secs(seconds);
        assert_eq!(lines.admit_at(at(5)), Some(0));
        assert_eq!(lines.admit_at(at(5)), None);
        assert_eq!(lines.admit_at(at(64)), None);
        assert_eq!(lines.admit_at(at(65)), Some(2));
        assert_eq!(lines.admit_at(at(600)), Some(0));
    }
}
