//! The time for retention: time that the ledger has observed to pass.
//!
//! A clock may jump, and a jump cannot be told from a long standstill. At a start the clock is
//! trusted for one day beyond the observed time; from then on the ledger catches up at double
//! speed. After a month offline, events are kept a month longer at first. A clock that is a year
//! ahead has expired nothing before an operator notices. The observed time is kept in the file
//! `clock`, as milliseconds since 1970.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::core::Core;
use super::files::Files;
use crate::clock::UnixMillis;

pub(super) const DAY_MS: i64 = 86_400_000;
/// How often the observed time is written.
const NOTED_MS: i64 = 3_600_000;

/// The observed time.
pub(super) struct Age {
    /// The trusted time at the start, and the store clock at that moment.
    start_ms: UnixMillis,
    start: UnixMillis,
    noted: Mutex<UnixMillis>,
}

impl Age {
    /// Reads the time from `dir`, or else takes the newest event's; a new ledger begins now.
    pub(super) fn open(dir: &Path, newest: Option<UnixMillis>, now: UnixMillis) -> Self {
        let noted = fs::read_to_string(dir.join(NAME)).ok();
        let noted = noted.and_then(|text| text.trim().parse().ok()).filter(|ms| *ms > 0);
        let start_ms = noted.or(newest).unwrap_or(now).min(now);
        Self { start_ms, start: now, noted: Mutex::new(noted.unwrap_or(UnixMillis::MIN)) }
    }

    /// The observed time, including what is caught up.
    fn seen(&self, now: UnixMillis) -> UnixMillis {
        let passed = now.saturating_sub(self.start).max(0);
        self.start_ms.saturating_add(passed.saturating_mul(2))
    }
}

const NAME: &str = "clock";

impl Core {
    /// The reference time for ages, where the clock shows `ms`.
    pub(super) fn counted_now(&self, ms: UnixMillis) -> UnixMillis {
        let seen = self.age.seen(self.now());
        let lived = seen.min(ms);
        let mut noted = self.age.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if lived >= noted.saturating_add(NOTED_MS) {
            match note(&*self.files, &self.options.path, lived) {
                Ok(()) => *noted = lived,
                Err(error) => tracing::warn!(%error, "could not write the observed time"),
            }
        }
        ms.min(seen.saturating_add(DAY_MS))
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
    fn a_jump_counts_for_a_day_and_is_made_up_for_at_double_speed() {
        let dir = tempfile::tempdir().unwrap();
        let age = Age::open(dir.path(), Some(1000 * DAY_MS), 1100 * DAY_MS);
        assert_eq!(age.seen(1100 * DAY_MS), 1000 * DAY_MS);
        assert_eq!(age.seen(1101 * DAY_MS), 1002 * DAY_MS);
        assert_eq!(age.seen(1000 * DAY_MS), 1000 * DAY_MS);
        note(&super::super::files::Disk, dir.path(), 1001 * DAY_MS).unwrap();
        note(&super::super::files::Disk, dir.path(), 1002 * DAY_MS).unwrap();
        // An event stamped after the jump does not confirm it.
        let age = Age::open(dir.path(), Some(1101 * DAY_MS), 1101 * DAY_MS);
        assert_eq!(age.seen(1101 * DAY_MS), 1002 * DAY_MS);
        // A clock that goes back is trusted at once.
        let age = Age::open(dir.path(), None, 900 * DAY_MS);
        assert_eq!(age.seen(900 * DAY_MS), 900 * DAY_MS);
    }
}
