//! The time for retention: time that the ledger has observed to pass.
//!
//! A clock may jump, and a jump cannot be told from a long standstill. So the observed time follows
//! the wall clock, but at no more than double speed. Events expire by the clock up to one day
//! beyond the observed time, keys by the observed time alone: a forgotten key is a transaction that
//! can be accepted twice. After a month offline, events are kept a month longer at first. A clock
//! that is a year ahead has expired nothing before an operator notices, however long the process
//! has run. The observed time is kept in the file `clock`, as milliseconds since 1970.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::core::Core;
use super::files::Files;
use crate::clock::UnixMillis;

pub(super) const DAY_MS: i64 = 86_400_000;
/// How often the observed time is written.
const NOTED_MS: i64 = 3_600_000;

/// The observed time.
pub(super) struct Age(Mutex<Observed>);

struct Observed {
    /// The observed time, and the store clock when it was looked at.
    seen_ms: UnixMillis,
    at: UnixMillis,
    /// As it is in the file.
    noted: UnixMillis,
}

impl Age {
    /// Reads the time from `dir`, or else takes the newest event's; a new ledger begins now.
    pub(super) fn open(dir: &Path, newest: Option<UnixMillis>, now: UnixMillis) -> Self {
        let noted = fs::read_to_string(dir.join(NAME)).ok();
        let noted = noted.and_then(|text| text.trim().parse().ok()).filter(|ms| *ms > 0);
        let seen_ms = noted.or(newest).unwrap_or(now).min(now);
        let noted = noted.unwrap_or(UnixMillis::MIN);
        Self(Mutex::new(Observed { seen_ms, at: now, noted }))
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observed {
    /// The observed time, where the wall clock shows `ms` and the store clock `now`. A clock that
    /// was set back and then right has nothing to catch up with.
    fn see(&mut self, ms: UnixMillis, now: UnixMillis) -> UnixMillis {
        let passed = now.saturating_sub(self.at).max(0);
        let reached = self.seen_ms.saturating_add(passed.saturating_mul(2));
        self.seen_ms = self.seen_ms.max(ms.min(reached));
        self.at = self.at.max(now);
        self.seen_ms.min(ms)
    }
}

const NAME: &str = "clock";

impl Core {
    /// The reference time for the ages of events, where the clock shows `ms`.
    pub(super) fn counted_now(&self, ms: UnixMillis) -> UnixMillis {
        ms.min(self.observed_now(ms).saturating_add(DAY_MS))
    }

    /// The reference time for the ages of keys, where the clock shows `ms`.
    pub(super) fn observed_now(&self, ms: UnixMillis) -> UnixMillis {
        let mut observed = self.age.lock();
        let seen = observed.see(ms, self.now());
        if seen >= observed.noted.saturating_add(NOTED_MS) {
            match note(&*self.files, &self.options.path, seen) {
                Ok(()) => observed.noted = seen,
                Err(error) => tracing::warn!(%error, "could not write the observed time"),
            }
        }
        seen
    }
}

fn note(files: &dyn Files, dir: &Path, ms: UnixMillis) -> std::io::Result<()> {
    let fresh = dir.join("clock.tmp");
    if fresh.exists() {
        files.remove(&fresh)?;
    }
    let file = files.create(&fresh)?;
    file.write_at(format!("{ms}\n").as_bytes(), 0)?;
    file.sync_data()?;
    files.rename(&fresh, &dir.join(NAME))?;
    files.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_before_the_start_is_made_up_for_at_double_speed() {
        let dir = tempfile::tempdir().unwrap();
        let age = Age::open(dir.path(), Some(1000 * DAY_MS), 1100 * DAY_MS);
        assert_eq!(age.lock().see(1100 * DAY_MS, 1100 * DAY_MS), 1000 * DAY_MS);
        assert_eq!(age.lock().see(1101 * DAY_MS, 1101 * DAY_MS), 1002 * DAY_MS);
        assert_eq!(age.lock().see(1101 * DAY_MS, 1000 * DAY_MS), 1002 * DAY_MS);
        note(&super::super::files::Disk, dir.path(), 1001 * DAY_MS).unwrap();
        note(&super::super::files::Disk, dir.path(), 1002 * DAY_MS).unwrap();
        // An event stamped after the jump does not confirm it.
        let age = Age::open(dir.path(), Some(1101 * DAY_MS), 1101 * DAY_MS);
        assert_eq!(age.lock().see(1101 * DAY_MS, 1101 * DAY_MS), 1002 * DAY_MS);
        // A clock that goes back is trusted at once.
        let age = Age::open(dir.path(), None, 900 * DAY_MS);
        assert_eq!(age.lock().see(900 * DAY_MS, 900 * DAY_MS), 900 * DAY_MS);
    }

    #[test]
    fn a_jump_after_a_long_uptime_counts_no_more_than_one_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let age = Age::open(dir.path(), None, 1000 * DAY_MS);
        for day in 1001..=1100 {
            assert_eq!(age.lock().see(day * DAY_MS, day * DAY_MS), day * DAY_MS);
        }
        let minute = DAY_MS / 1440;
        assert_eq!(age.lock().see(1200 * DAY_MS, 1100 * DAY_MS), 1100 * DAY_MS);
        let later = 1100 * DAY_MS + minute;
        assert_eq!(age.lock().see(1200 * DAY_MS + minute, later), 1100 * DAY_MS + 2 * minute);
        // Set right, it is followed at once; and so it is after a while in the past.
        assert_eq!(age.lock().see(later, later), later);
        assert_eq!(age.lock().see(1000 * DAY_MS, later + minute), 1000 * DAY_MS);
        assert_eq!(age.lock().see(later + 2 * minute, later + 2 * minute), later + 2 * minute);
    }
}
