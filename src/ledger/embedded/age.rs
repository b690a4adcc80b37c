//! The time that retention counts with: time that the ledger has seen pass.
//!
//! A clock may jump, and nothing of ours can tell a jump from a long standstill. So at a start the
//! clock is believed for one day beyond what was seen to pass before, and from then on the ledger
//! makes up for the rest at double speed. Whoever was switched off for a month keeps events for a
//! month longer at first; a clock that is a year ahead has expired nothing by the time that
//! somebody looks. What was seen is kept in the file `clock`, as milliseconds since 1970.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::core::Core;
use super::files::Files;
use crate::clock::UnixMillis;

pub(super) const DAY_MS: i64 = 86_400_000;
/// How often what was seen is written down.
const NOTED_MS: i64 = 3_600_000;

/// What was seen to pass.
pub(super) struct Age {
    /// The time that was believed at the start, and what the store's clock said then.
    start_ms: UnixMillis,
    start: UnixMillis,
    noted: Mutex<UnixMillis>,
}

impl Age {
    /// As it was noted in `dir`, or else at the newest event; a ledger without any begins now.
    pub(super) fn open(dir: &Path, newest: Option<UnixMillis>, now: UnixMillis) -> Self {
        let noted = fs::read_to_string(dir.join(NAME)).ok();
        let noted = noted.and_then(|text| text.trim().parse().ok()).filter(|ms| *ms > 0);
        let start_ms = noted.or(newest).unwrap_or(now).min(now);
        Self { start_ms, start: now, noted: Mutex::new(noted.unwrap_or(UnixMillis::MIN)) }
    }

    /// What has passed, with the time that is made up for.
    fn seen(&self, now: UnixMillis) -> UnixMillis {
        let passed = now.saturating_sub(self.start).max(0);
        self.start_ms.saturating_add(passed.saturating_mul(2))
    }
}

const NAME: &str = "clock";

impl Core {
    /// The time to count ages from, where the clock says `ms`.
    pub(super) fn counted_now(&self, ms: UnixMillis) -> UnixMillis {
        let seen = self.age.seen(self.now());
        let lived = seen.min(ms);
        let mut noted = self.age.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if lived >= noted.saturating_add(NOTED_MS) {
            match note(&*self.files, &self.options.path, lived) {
                Ok(()) => *noted = lived,
                Err(error) => tracing::warn!(%error, "the time that has passed was not noted"),
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
        // An event that was stamped after the jump does not make it true.
        let age = Age::open(dir.path(), Some(1101 * DAY_MS), 1101 * DAY_MS);
        assert_eq!(age.seen(1101 * DAY_MS), 1002 * DAY_MS);
        // A clock that goes back is believed at once.
        let age = Age::open(dir.path(), None, 900 * DAY_MS);
        assert_eq!(age.seen(900 * DAY_MS), 900 * DAY_MS);
    }
}
