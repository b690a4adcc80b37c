//! The databases of the index: one for each period of segments in each of their forms.
//!
//! sled never returns space, but a removed directory does: when the last segment of a period is
//! rewritten or gone, its old database is removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::period::{Check, Period};
use super::{IndexedRun, KeyFile};
use crate::ledger::LedgerError;
use crate::ledger::embedded::segment::{Scan, Segment, failed};
use crate::ledger::embedded::tables::Tables;

/// Segments of a period: 4 GiB of the journal, or two months of a quiet one.
const SEGMENTS: u32 = 64;
/// Segments that are written to a database until it takes a snapshot; a period ends with one. What
/// came after it is read again at a start.
const SNAPSHOT: u32 = 16;

/// The index of all segments.
pub(in crate::ledger::embedded) struct Index {
    dir: PathBuf,
    open: Mutex<BTreeMap<Name, Arc<Place>>>,
    /// Discarded databases and the reason, for operators.
    notices: Mutex<Vec<String>>,
}

/// A database, when it is open. Each has a lock of its own: some may be opened at the same time.
type Place = Mutex<Option<Arc<Period>>>;

/// The name of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    period: u32,
    generation: u32,
}

impl Name {
    fn of(segment: &Segment) -> Self {
        let header = &segment.header;
        Self { period: header.number / SEGMENTS, generation: header.generation }
    }

    fn dir(self, index: &Path) -> PathBuf {
        index.join(format!("period-{:010}-{}", self.period, self.generation))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Index {
    /// The index in `dir`. Databases are opened when needed.
    pub(in crate::ledger::embedded) fn new(dir: PathBuf) -> Self {
        Self { dir, open: Mutex::default(), notices: Mutex::default() }
    }

    /// Removes the index in `dir`.
    pub(in crate::ledger::embedded) fn remove(dir: &Path) -> Result<(), LedgerError> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(dir, "remove", &error))
            }
            _ => Ok(()),
        }
    }

    fn period(&self, segment: &Segment) -> Result<Arc<Period>, LedgerError> {
        let name = Name::of(segment);
        let place = Arc::clone(lock(&self.open).entry(name).or_default());
        let mut place = lock(&place);
        if let Some(period) = &*place {
            return Ok(Arc::clone(period));
        }
        let (period, thrown_away) = Period::open(&name.dir(&self.dir))?;
        lock(&self.notices).extend(thrown_away);
        let period = Arc::new(period);
        *place = Some(Arc::clone(&period));
        Ok(period)
    }

    /// Writes the tables of a segment; `rest` is called with the duration of each step. They count
    /// only after this has returned.
    pub(in crate::ledger::embedded) fn write(
        &self,
        segment: &Arc<Segment>,
        tables: &Tables,
        scan: Scan,
        rest: &dyn Fn(Duration),
    ) -> Result<IndexedRun, LedgerError> {
        let period = self.period(segment)?;
        let written = period.write(segment, tables, scan, rest);
        let run = written.inspect_err(|_| period.note_failure())?;
        if (segment.header.number + 1).is_multiple_of(SNAPSHOT) {
            // If it cannot be opened now, its next use tries that again.
            let _ = period.snapshot();
        }
        Ok(run)
    }

    /// Whether a write to the database of that segment has failed and is not made good yet.
    pub(in crate::ledger::embedded) fn has_failed(&self, segment: &Segment) -> bool {
        let place = lock(&self.open).get(&Name::of(segment)).cloned();
        place.is_some_and(|place| lock(&place).as_ref().is_some_and(|period| period.has_failed()))
    }

    /// Opens the database of that segment, if it is not open.
    ///
    /// # Errors
    /// As [`Period::open`].
    pub(in crate::ledger::embedded) fn open(&self, segment: &Segment) -> Result<(), LedgerError> {
        self.period(segment).map(drop)
    }

    /// Opens the database of that segment again after a failed write; it may be empty then, and the
    /// text says why.
    ///
    /// # Errors
    /// As [`Period::renew`].
    pub(in crate::ledger::embedded) fn renew(
        &self,
        segment: &Segment,
        go_on: Check<'_>,
        check_journal: Check<'_>,
    ) -> Result<Option<String>, LedgerError> {
        self.period(segment)?.renew(go_on, check_journal)
    }

    /// Notes that the database of that segment has every block again.
    pub(in crate::ledger::embedded) fn note_mended(&self, segment: &Segment) {
        if let Ok(period) = self.period(segment) {
            period.note_mended();
        }
    }

    /// Whether two segments are in the same database.
    pub(in crate::ledger::embedded) fn is_shared(one: &Segment, other: &Segment) -> bool {
        Name::of(one) == Name::of(other)
    }

    /// Has the database of that segment taken for one in which a write failed.
    #[cfg(test)]
    pub(in crate::ledger::embedded) fn fail(&self, segment: &Segment) {
        self.period(segment).unwrap().note_failure();
    }

    /// Has the system read the keys of that segment from the disk in the meantime.
    pub(in crate::ledger::embedded) fn read_ahead(&self, segment: &Segment) {
        KeyFile::read_ahead(&Name::of(segment).dir(&self.dir), &segment.header);
    }

    /// The run of exactly this segment, if its summary is there.
    pub(in crate::ledger::embedded) fn find(
        &self,
        segment: &Arc<Segment>,
    ) -> Result<Option<IndexedRun>, LedgerError> {
        self.period(segment)?.find(segment)
    }

    /// Closes the databases of periods before that segment's, until they are used again.
    pub(in crate::ledger::embedded) fn close_before(&self, segment: &Segment) {
        let first = Name { generation: 0, ..Name::of(segment) };
        let before: Vec<Arc<Place>> =
            lock(&self.open).range(..first).map(|(_, place)| Arc::clone(place)).collect();
        for place in before {
            if let Some(period) = &*lock(&place) {
                period.close();
            }
        }
    }

    /// Its size on disk in bytes.
    pub(in crate::ledger::embedded) fn size(&self) -> u64 {
        let places: Vec<Arc<Place>> = lock(&self.open).values().map(Arc::clone).collect();
        places.iter().filter_map(|place| Some(lock(place).as_ref()?.size())).sum()
    }

    #[cfg(test)]
    pub(in crate::ledger::embedded) fn opened(&self) -> usize {
        let places: Vec<Arc<Place>> = lock(&self.open).values().map(Arc::clone).collect();
        let is_open = |place: &&Arc<Place>| lock(place).as_ref().is_some_and(|one| one.is_open());
        places.iter().filter(is_open).count()
    }

    /// Databases discarded since the last call.
    pub(in crate::ledger::embedded) fn notices(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.notices))
    }

    /// Removes unused databases, except the one for the next segments.
    pub(in crate::ledger::embedded) fn prune(&self, next: u32) {
        let next = Name { period: next / SEGMENTS, generation: 0 };
        let mut open = lock(&self.open);
        // A database that only the map has is unused, and stays so while the map is locked. One that
        // could not be opened yet is not: closed segments wait for it.
        let is_used = |place: &Arc<Place>| {
            Arc::strong_count(place) > 1
                || lock(place).as_ref().is_none_or(|period| Arc::strong_count(period) > 1)
        };
        open.retain(|name, place| *name == next || is_used(place));
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let kept: Vec<PathBuf> = open.keys().map(|name| name.dir(&self.dir)).collect();
        for path in entries.flatten().map(|entry| entry.path()) {
            if !kept.contains(&path) && path != next.dir(&self.dir) {
                // If the removal fails, the next start does it.
                let _ = Self::remove(&path);
            }
        }
    }
}
