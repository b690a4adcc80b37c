//! A database of sled, which is opened when it is used.
//!
//! sled writes a snapshot of its log only when it opens a database: without one the next start reads
//! the whole log. And it keeps pages in memory that were read once. So a start closes a database
//! that it has read, and one that is written to is closed and opened again at times.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::{Index, broken, guarded};
use crate::ledger::LedgerError;

/// The format of the content; a database with another one is discarded.
const FORMAT: &[u8] = b"postern index 2";
/// Longer than the key of a block, and after all of them.
const SENTINEL: &[u8] = b"\xff\xff\xff\xff\xff\xff\xff\xff\xffformat";
/// Approximate bytes that a database caches; two or three databases are read often.
const CACHE: u64 = 32 << 20;
/// How often a database is tried to be opened again: sled's threads hold the old one for a moment.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// The database of a period.
pub(super) struct Period {
    dir: PathBuf,
    /// `None` while it is closed.
    database: RwLock<Option<Database>>,
}

pub(super) struct Database {
    pub(super) db: sled::Db,
    /// A second handle of sled's file: sled never syncs it on flush.
    file: File,
}

impl Drop for Database {
    fn drop(&mut self) {
        // sled panics when it is dropped and cannot write. The next start reads missing blocks from
        // the journal, so a database that is never dropped only costs memory until the process
        // ends.
        if guarded(|| self.db.flush()).is_err() {
            std::mem::forget(self.db.clone());
        }
    }
}

impl Database {
    /// Opens the database in `dir`, or creates one; does not repair it.
    fn open(dir: &Path) -> Result<Self, LedgerError> {
        // The periodic flush collects sled's garbage; without it space is never reused.
        let config = sled::Config::new().path(dir).cache_capacity(CACHE).flush_every_ms(Some(500));
        let db = guarded(|| Ok(config.open()))?.map_err(|error| match error {
            sled::Error::Io(error) => unavailable(&error),
            error => broken(&format!("failed: {error}")),
        })?;
        let file = File::open(file(dir)).map_err(|error| unavailable(&error))?;
        let database = Self { db, file };
        let format = guarded(|| database.db.get(SENTINEL))?;
        match format {
            Some(format) if format == FORMAT => Ok(database),
            None if !database.db.was_recovered() => {
                guarded(|| database.db.insert(SENTINEL, FORMAT))?;
                database.settle()?;
                Ok(database)
            }
            _ => Err(broken("is empty or of another form")),
        }
    }

    fn open_again(dir: &Path) -> Result<Self, LedgerError> {
        for _ in 1..TRIES {
            match Self::open(dir) {
                Err(LedgerError::Unavailable(_)) => std::thread::sleep(PAUSE),
                opened => return opened,
            }
        }
        Self::open(dir)
    }

    fn settle(&self) -> Result<(), LedgerError> {
        guarded(|| self.db.flush())?;
        self.file.sync_data().map_err(|error| broken(&format!("could not be synced: {error}")))
    }
}

/// The disk's fault, and not one of the content: nothing is damaged.
fn unavailable(error: &io::Error) -> LedgerError {
    LedgerError::Unavailable(format!("the index could not be opened: {error}"))
}

fn file(dir: &Path) -> PathBuf {
    dir.join("db")
}

impl Period {
    /// Opens the database in `dir`, or replaces it with a new one. The text says why.
    pub(super) fn open(dir: &Path) -> Result<(Self, Option<String>), LedgerError> {
        let (database, why) = match Database::open(dir) {
            Ok(database) => (database, None),
            Err(error) => {
                let why = format!("the index was discarded and rebuilt: {error}");
                Index::remove(dir)?;
                (Database::open(dir)?, Some(why))
            }
        };
        Ok((Self { dir: dir.to_owned(), database: RwLock::new(Some(database)) }, why))
    }

    /// The directory of the database, and of files beside it.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Works with the database, which is opened again if it was closed.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let open = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*open {
            return work(database);
        }
        drop(open);
        let mut open = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = match open.take() {
            Some(database) => database,
            None => Database::open_again(&self.dir)?,
        };
        work(open.insert(database))
    }

    /// Calls sled, which may panic on unexpected data.
    pub(super) fn call<T>(
        &self,
        call: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, LedgerError> {
        self.with(|database| guarded(|| call(&database.db)))
    }

    /// Flushes and syncs: earlier blocks survive a crash.
    pub(super) fn settle(&self) -> Result<(), LedgerError> {
        self.with(Database::settle)
    }

    /// Closes the database until it is used again, which frees its memory.
    pub(super) fn close(&self) {
        let mut open = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // One that cannot be flushed keeps its file locked, and could not be opened again.
        if open.as_ref().is_some_and(|database| guarded(|| database.db.flush()).is_ok()) {
            *open = None;
        }
    }

    /// Has sled write a snapshot, from which the next start continues.
    pub(super) fn snapshot(&self) -> Result<(), LedgerError> {
        self.close();
        self.with(|_| Ok(()))
    }

    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.database.read().unwrap().is_some()
    }

    /// Its size on disk in bytes, with the files beside the database.
    pub(super) fn size(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.dir) else { return 0 };
        let found = entries.flatten().filter_map(|entry| entry.metadata().ok());
        found.filter(Metadata::is_file).map(|found| found.len()).sum()
    }
}
