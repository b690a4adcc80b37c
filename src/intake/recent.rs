//! The latest callbacks that neither became events nor were rejected: duplicates, conflicts, tests,
//! address checks and the like. In bounded memory, of this gateway only.
//!
//! Accepted callbacks are in the ledger and rejected ones in their own log, so a flood of either
//! does not drive these out. Callbacks of an unauthenticated caller are kept only as far as they
//! are logged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::UnixMillis;
use crate::ledger::EventId;
use crate::sender::Outcome;

/// Callbacks that are kept. At 700 bytes each, the longest texts included, that is 3.5 MB.
const KEPT_MAX: usize = 5000;

/// A callback that this gateway answered.
#[derive(Clone, Debug)]
pub struct UnrecordedCallback {
    /// The number on this gateway, ascending.
    pub number: u64,
    /// When it came.
    pub at_ms: UnixMillis,
    /// The source it came to.
    pub source: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The event that is known of its transaction.
    pub event: Option<EventId>,
    /// The transaction, where the callback was verified.
    pub transaction: Option<String>,
    /// The user, where the callback was verified.
    pub user: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// The latest callbacks that were neither recorded nor rejected.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    next: u64,
    kept: VecDeque<Arc<UnrecordedCallback>>,
}

impl Recent {
    /// Keeps `passed` under the next number, and lets the oldest go.
    pub(super) fn keep(&self, passed: UnrecordedCallback) {
        let mut passed = Arc::new(passed);
        let oldest;
        {
            let mut ring = self.lock();
            ring.next += 1;
            if let Some(passed) = Arc::get_mut(&mut passed) {
                passed.number = ring.next;
            }
            oldest = if ring.kept.len() < KEPT_MAX { None } else { ring.kept.pop_front() };
            ring.kept.push_back(passed);
        }
        // Returns the memory to the allocator after the lock is released.
        drop(oldest);
    }

    /// The latest with a number below `below` that are `wanted`, newest first, `limit` at most, and
    /// whether there are more.
    #[must_use]
    pub fn list(
        &self,
        below: Option<u64>,
        limit: usize,
        wanted: impl Fn(&UnrecordedCallback) -> bool,
    ) -> (Vec<Arc<UnrecordedCallback>>, bool) {
        let all: Vec<Arc<UnrecordedCallback>> = {
            let ring = self.lock();
            let older =
                |one: &&Arc<UnrecordedCallback>| below.is_none_or(|below| one.number < below);
            ring.kept.iter().rev().filter(older).cloned().collect()
        };
        let mut found = all.into_iter().filter(|one| wanted(one));
        let page = found.by_ref().take(limit).collect();
        (page, found.next().is_some())
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(at_ms: UnixMillis, outcome: Outcome) -> UnrecordedCallback {
        UnrecordedCallback {
            number: 0,
            at_ms,
            source: "a".to_owned(),
            outcome,
            event: None,
            transaction: None,
            user: None,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn the_oldest_goes() {
        let recent = Recent::default();
        for at in 0..i64::try_from(KEPT_MAX).unwrap() + 10 {
            recent.keep(passed(at, Outcome::Duplicate));
        }
        let (all, more) = recent.list(None, usize::MAX, |_| true);
        assert_eq!((all.len(), more), (KEPT_MAX, false));
        assert_eq!(all.last().unwrap().at_ms, 10);
    }

    #[test]
    fn pages_go_back_without_a_gap() {
        let recent = Recent::default();
        for at in 0..10 {
            recent.keep(passed(at, if at % 2 == 0 { Outcome::Test } else { Outcome::Duplicate }));
        }
        let tests =
            |below| recent.list(below, 3, |one: &UnrecordedCallback| one.outcome == Outcome::Test);
        let (first, more) = tests(None);
        assert!(more);
        let (rest, more) = tests(Some(first[2].number));
        assert!(!more);
        let times: Vec<i64> = first.iter().chain(&rest).map(|one| one.at_ms).collect();
        assert_eq!(times, [8, 6, 4, 2, 0]);
    }
}
