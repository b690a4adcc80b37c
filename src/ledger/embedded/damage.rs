//! Damaged places: recorded when a read fails, until the file reads correctly again.
//!
//! A damaged store continues: readable data is served, and new events are recorded. The metric
//! `postern_store_damaged` and the log report the damage, and each operation that needs the place
//! fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::core::Core;
use super::record::Record;
use super::run::Run;
use super::segment::survey::Found;
use super::segment::{HEADER, Segment};
use crate::clock::instant;
use crate::ledger::{Damage, LedgerError};

/// Maximum number of files recorded as damaged, and of places in each: more would not help an
/// operator.
const FILES_MAX: usize = 1000;
const PLACES_MAX: usize = 100;
/// The interval of log lines about the same file.
const SAID_EVERY: Duration = Duration::from_secs(3600);
/// Files that the log names in that time; the metric and `postern verify` cover the others.
const SAID_MAX: usize = 20;

/// The remedy for damage.
pub(super) const REMEDY: &str = "restore a backup, or get out what is whole with \
                                 `postern export --salvage` (docs/operations.md, a damaged store)";

/// An error about damage, with its remedy.
pub(super) fn with_remedy(error: LedgerError) -> LedgerError {
    match error {
        LedgerError::Corrupt(what) => LedgerError::Corrupt(format!("{what}; {REMEDY}")),
        other => other,
    }
}

/// The known damage.
#[derive(Default)]
pub(super) struct DamageLog(Mutex<Known>);

#[derive(Default)]
struct Known {
    files: BTreeMap<PathBuf, Vec<Damage>>,
    /// When the log last named a file.
    said: BTreeMap<PathBuf, Instant>,
}

impl DamageLog {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a place to the known ones of its file.
    pub(super) fn add(&self, damage: Damage) {
        let mut known = self.known();
        known.say(&damage);
        let full = known.files.len() >= FILES_MAX && !known.files.contains_key(&damage.path);
        if full {
            return;
        }
        let places = known.files.entry(damage.path.clone()).or_default();
        // A place inside a known one adds nothing.
        let inside = |place: &Damage| place.from <= damage.from && damage.from <= place.until;
        if places.len() < PLACES_MAX && !places.iter().any(inside) {
            places.push(damage);
        }
    }

    /// Replaces all places of a file; none: the file is intact.
    pub(super) fn replace(&self, path: &Path, places: &[Damage]) {
        self.known().files.remove(path);
        places.iter().for_each(|place| self.add(place.clone()));
    }

    /// Drops files that are not in use any more.
    pub(super) fn retain(&self, used: impl Fn(&Path) -> bool) {
        self.known().files.retain(|path, _| used(path));
    }

    /// The first damaged place of a file.
    pub(super) fn of(&self, path: &Path) -> Option<Damage> {
        self.known().files.get(path)?.first().cloned()
    }

    /// All places.
    pub(super) fn all(&self) -> Vec<Damage> {
        self.known().files.values().flatten().cloned().collect()
    }
}

impl Known {
    /// Logs a place, if its file was not logged recently.
    fn say(&mut self, damage: &Damage) {
        let now = instant();
        self.said.retain(|_, at| now.saturating_duration_since(*at) < SAID_EVERY);
        if self.said.len() >= SAID_MAX || self.said.contains_key(&damage.path) {
            return;
        }
        self.said.insert(damage.path.clone(), now);
        let (path, from, until) = (damage.path.display(), damage.from, damage.until);
        tracing::error!(%path, from, until, what = damage.what, remedy = REMEDY, "the store is damaged");
    }
}

impl Segment {
    /// A damaged place of this segment.
    pub(super) fn place(&self, from: u32, until: u32, what: &str) -> Damage {
        let (path, what) = (self.path.clone(), what.to_owned());
        Damage { path, from: from.into(), until: until.into(), what }
    }

    /// Reads everything again and lists damage. There must be frames up to `written`.
    pub(super) fn damages(&self, written: u32) -> Vec<Damage> {
        let mut damages = Vec::new();
        let found = self.survey(&mut |found| {
            match found {
                Found::Broken { from, until, what } => damages.push(self.place(from, until, what)),
                Found::Record { offset, payload } => {
                    if Record::read(payload).is_err() {
                        let until = offset.saturating_add(payload.len() as u32);
                        damages.push(self.place(offset, until, "the record is of no known form"));
                    }
                }
            }
            Ok(())
        });
        match found {
            Ok(end) if end.end < written => {
                damages.push(self.place(end.end, written, "a frame is broken or missing"));
            }
            Ok(end) if end.torn_until > end.end => {
                damages.push(self.place(end.end, end.torn_until, "no frame begins here"));
            }
            Err(LedgerError::Corrupt(what)) => damages.push(self.place(HEADER, written, &what)),
            // An error of the system, not of the file.
            Ok(_) | Err(_) => {}
        }
        damages
    }
}

impl Run {
    /// The end of the written part of its segment.
    pub(super) fn written(&self) -> u32 {
        match self {
            Self::Open(run) => run.published(),
            Self::Indexed(run) => run.scan().end,
        }
    }
}

impl Core {
    /// Reads the segment of a run again after a read failed, and records damage.
    pub(super) fn examine(&self, run: &Run) -> Vec<Damage> {
        let (segment, written) = (run.segment(), run.written());
        let mut damages = segment.damages(written);
        if matches!(run, Run::Open(_)) {
            // The committer may be writing the next frames.
            damages.retain(|damage| damage.from < u64::from(written));
        }
        self.damage.replace(&segment.path, &damages);
        damages
    }

    /// As [`Core::examine`], by number.
    pub(super) fn examine_segment(&self, number: u32) {
        if let Some(run) = self.run(number) {
            self.examine(&run);
        }
    }

    /// Records an unreadable record, if it is damaged, and returns the error for the caller.
    pub(super) fn unreadable(
        &self,
        segment: &Arc<Segment>,
        offset: u32,
        error: LedgerError,
    ) -> LedgerError {
        // The reader may be late: retention may have replaced its segment.
        let used = self.segment(segment.header.number).is_some_and(|now| now.path == segment.path);
        if used && let LedgerError::Corrupt(what) = &error {
            self.damage.add(segment.place(offset, offset, what));
        }
        error
    }

    /// Fails if a segment is known to be damaged: another read is pointless.
    pub(super) fn check_whole(&self, segment: &Segment) -> Result<(), LedgerError> {
        match self.damage.of(&segment.path) {
            None => Ok(()),
            Some(damage) => Err(with_remedy(LedgerError::Corrupt(damage.to_string()))),
        }
    }

    /// Passes on the result of a read of a run; records damage where it failed.
    pub(super) fn noting<T>(
        &self,
        run: &Run,
        walked: Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        walked.map_err(|error| match error {
            LedgerError::Corrupt(what) => {
                self.examine(run);
                let place = self.damage.of(&run.segment().path);
                with_remedy(LedgerError::Corrupt(place.map_or(what, |place| place.to_string())))
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: &str, from: u64, until: u64) -> Damage {
        Damage { path: file.into(), from, until, what: "broken".into() }
    }

    #[test]
    fn places_are_noted_once_and_forgotten_when_the_file_is_whole() {
        let log = DamageLog::default();
        log.add(place("a", 10, 20));
        log.add(place("a", 15, 15));
        log.add(place("a", 30, 30));
        log.add(place("b", 1, 2));
        assert_eq!(log.all().len(), 3);
        assert_eq!(log.of(Path::new("a")), Some(place("a", 10, 20)));
        log.replace(Path::new("a"), &[place("a", 5, 6)]);
        assert_eq!(log.all(), [place("a", 5, 6), place("b", 1, 2)]);
        log.replace(Path::new("a"), &[]);
        log.retain(|path| path != Path::new("b"));
        assert_eq!(log.all(), []);
    }

    #[test]
    fn neither_memory_nor_log_grows_with_the_damage() {
        let log = DamageLog::default();
        for file in 0..2 * FILES_MAX {
            log.add(place(&file.to_string(), 0, 0));
        }
        for at in 1..2 * PLACES_MAX as u64 {
            log.add(place("0", 2 * at, 2 * at));
        }
        assert_eq!(log.all().len(), FILES_MAX + PLACES_MAX - 1);
        assert_eq!(log.known().said.len(), SAID_MAX);
    }
}
