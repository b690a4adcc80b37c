//! Log lines about a destination that fails: one when it begins, then one a minute, one when it
//! recovers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Occasional, UnixMillis};
use crate::ledger::Attempt;

/// The interval of lines about one destination, each with the number of failed attempts. A
/// destination that fails for some events only gets no more lines than one that is down.
const EVERY: Duration = Duration::from_secs(60);

/// The state of the lines about one destination.
#[derive(Debug)]
pub(super) struct FailureLog {
    lines: Occasional,
    /// Whether its failure was logged, so its recovery will be.
    announced: AtomicBool,
    failures: AtomicU64,
}

impl FailureLog {
    /// Nothing was logged.
    pub(super) fn new() -> Self {
        let (announced, failures) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { lines: Occasional::new(EVERY), announced, failures }
    }

    /// A failed attempt; the delivery is attempted again after `next`, if at all.
    pub(super) fn failed(&self, destination: &str, attempt: &Attempt, next: Option<Duration>) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if self.lines.admit().is_none() {
            return;
        }
        let (status, error) = (attempt.status, attempt.error.as_deref());
        let ms = |next: Duration| u64::try_from(next.as_millis()).unwrap_or(u64::MAX);
        let next_attempt_ms = next.map(ms);
        if self.announced.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                destination,
                failures,
                status,
                error,
                next_attempt_ms,
                "destination still fails"
            );
        } else {
            tracing::warn!(destination, status, error, next_attempt_ms, "destination fails");
        }
    }

    /// A delivery, at `now_ms`, after failures since `since_ms`.
    pub(super) fn delivered(&self, destination: &str, since_ms: UnixMillis, now_ms: UnixMillis) {
        let failures = self.failures.swap(0, Ordering::Relaxed);
        if self.announced.swap(false, Ordering::Relaxed) {
            let seconds = now_ms.saturating_sub(since_ms).max(0) / 1000;
            tracing::info!(destination, failures, seconds, "destination recovered");
        }
    }
}
