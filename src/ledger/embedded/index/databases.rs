//! The databases of the index: one for each period of segments in each of their forms.
//!
//! sled never returns space, but a removed directory does: when the last segment of a period is
//! rewritten or gone, its old database is removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{IndexedRun, Period};
use crate::ledger::LedgerError;
use crate::ledger::embedded::segment::{Scan, Segment, failed};
use crate::ledger::embedded::tables::Tables;

/// Segments of a period: 4 GiB of the journal, or two months of a quiet one.
const SEGMENTS: u32 = 64;

/// The index of all segments.
pub(in crate::ledger::embedded) struct Index {
    dir: PathBuf,
    open: Mutex<BTreeMap<Name, Arc<Period>>>,
    /// Discarded databases and the reason, for operators.
    notices: Mutex<Vec<String>>,
}

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
        let mut open = lock(&self.open);
        if let Some(period) = open.get(&name) {
            return Ok(Arc::clone(period));
        }
        let (period, thrown_away) = Period::open(&name.dir(&self.dir))?;
        lock(&self.notices).extend(thrown_away);
        let period = Arc::new(period);
        open.insert(name, Arc::clone(&period));
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
        self.period(segment)?.write(segment, tables, scan, rest)
    }

    /// The tables of exactly this segment, if they are complete: the part that is kept in memory,
    /// and the run for the rest.
    pub(in crate::ledger::embedded) fn load(
        &self,
        segment: &Arc<Segment>,
    ) -> Result<Option<(Tables, IndexedRun)>, LedgerError> {
        self.period(segment)?.load(segment)
    }

    /// Its size on disk in bytes.
    pub(in crate::ledger::embedded) fn size(&self) -> u64 {
        lock(&self.open).values().map(|period| period.size()).sum()
    }

    /// Databases discarded since the last call.
    pub(in crate::ledger::embedded) fn notices(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.notices))
    }

    /// Removes unused databases, except the one for the next segments.
    pub(in crate::ledger::embedded) fn prune(&self, next: u32) {
        let next = Name { period: next / SEGMENTS, generation: 0 };
        let mut open = lock(&self.open);
        // A database that only the map has is unused, and stays so while the map is locked.
        open.retain(|name, period| *name == next || Arc::strong_count(period) > 1);
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
