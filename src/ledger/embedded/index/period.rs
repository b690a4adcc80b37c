//! A database of sled, which is opened when it is used.
//!
//! sled writes a snapshot of its log only when it opens a database: without one the next start reads
//! the whole log. And it keeps pages in memory that were read once. So a start closes a database
//! that it has read, and one that is written to is closed and opened again at times.

use std::fs::{self, DirEntry, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use super::{KeyFile, broken, guarded, io_failed};
use crate::ledger::LedgerError;
use crate::ledger::embedded::segment::failed;

/// The format of the content; a database with another one is discarded.
const FORMAT: &[u8] = b"postern index 2";
/// How sled names a snapshot while it writes it.
const UNFINISHED: &str = "generating";
/// Longer than the key of a block, and after all of them.
const SENTINEL: &[u8] = b"\xff\xff\xff\xff\xff\xff\xff\xff\xffformat";
/// Approximate bytes that a database caches; two or three databases are read often.
const CACHE: u64 = 32 << 20;
/// How often a database is tried to be opened again: sled's threads hold the old one for a moment.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);
/// How long a renewal waits until the failed database is closed, 10 s in steps: sled then waits for
/// writes that have begun, or for a thread that has ended, which takes forever.
const CLOSE_STEPS: usize = 100;
const CLOSE_STEP: Duration = Duration::from_millis(100);
/// How sled says that another handle has the lock of the file; damage has the same kind of error.
const LOCKED: &str = "could not acquire lock";

/// The database of a period.
pub(super) struct Period {
    dir: PathBuf,
    /// `None` while it is closed.
    database: RwLock<Option<Database>>,
    /// The failed database, until it is closed.
    closing: Mutex<Option<Receiver<()>>>,
    /// Failures of a write, and their ends: odd while one is not made good yet.
    failures: AtomicU64,
}

/// Called in a renewal: an error ends it.
pub(super) type Check<'c> = &'c dyn Fn() -> Result<(), LedgerError>;

impl Drop for Period {
    fn drop(&mut self) {
        let database = self.database.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        drop(database.map(Database::close));
    }
}

/// Whether a failed database is closed: otherwise sled has the lock on its file, perhaps for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closed {
    No,
    Yes,
}

/// Whether a write has failed and is not made good yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    No,
    Yes,
}

impl Failed {
    /// The state after so many failures and ends of them.
    fn of(count: u64) -> Self {
        if count.is_multiple_of(2) { Self::No } else { Self::Yes }
    }
}

pub(super) struct Database {
    pub(super) db: sled::Db,
    /// A second handle of sled's file: sled never syncs it on flush.
    file: File,
}

impl Database {
    /// Opens the database in `dir`, or creates one; does not repair it.
    fn open(dir: &Path) -> Result<Self, LedgerError> {
        remove_unfinished(dir);
        // The periodic flush collects sled's garbage; without it space is never reused.
        let config = sled::Config::new().path(dir).cache_capacity(CACHE).flush_every_ms(Some(500));
        let db = guarded(|| Ok(config.open()))?.map_err(|error| match error {
            sled::Error::Io(error) if !is_damage(&error) => unavailable(dir, &error),
            error => broken(&format!("failed: {error}")),
        })?;
        let file = File::open(file(dir)).map_err(|error| unavailable(dir, &error))?;
        let database = Self { db, file };
        match database.check_format() {
            Ok(()) => Ok(database),
            Err(error) => {
                drop(database.close());
                Err(error)
            }
        }
    }

    /// Checks the format of the content, and writes it to a new database.
    fn check_format(&self) -> Result<(), LedgerError> {
        match guarded(|| self.db.get(SENTINEL))? {
            Some(format) if format == FORMAT => Ok(()),
            None if !self.db.was_recovered() => {
                guarded(|| self.db.insert(SENTINEL, FORMAT))?;
                self.settle()
            }
            _ => Err(broken("is empty or of another form")),
        }
    }

    /// Closes the database. sled may panic when it is dropped and cannot write, or may wait for a
    /// thread of its own that has ended: then it is dropped where nothing waits for it. The lock
    /// on its file is held until then, and the receiver is connected.
    fn close(self) -> Receiver<()> {
        let flushed = guarded(|| self.db.flush());
        let (closed, closing) = mpsc::channel();
        let drop_it = move || {
            let dropped = guarded(|| {
                drop(self);
                Ok(())
            });
            match dropped.is_ok() {
                true => drop(closed),
                // The lock may be held for ever: the receiver stays connected.
                false => std::mem::forget(closed),
            }
            dropped
        };
        // A panic costs the memory of the database until the process ends.
        let _ = match flushed {
            Ok(_) => drop_it(),
            Err(_) => guarded(|| {
                let _ = thread::Builder::new().name("ledger-index".to_owned()).spawn(drop_it);
                Ok(())
            }),
        };
        closing
    }

    fn open_again(dir: &Path) -> Result<Self, LedgerError> {
        for _ in 1..TRIES {
            match Self::open(dir) {
                Err(LedgerError::Unavailable(_)) => thread::sleep(PAUSE),
                opened => return opened,
            }
        }
        Self::open(dir)
    }

    fn settle(&self) -> Result<(), LedgerError> {
        guarded(|| self.db.flush())?;
        self.file.sync_data().map_err(|error| io_failed(&error))
    }
}

/// Removes snapshots that were not written to their end, for example on a full disk: sled would take
/// them for whole ones. The log that they were made of is still there.
fn remove_unfinished(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            // If the removal fails, the database is opened as it is, or replaced.
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes a database that is damaged. The files of keys beside it stay: each says what it is of.
fn discard(dir: &Path) -> Result<(), LedgerError> {
    let remove = |entry: io::Result<DirEntry>| {
        let path = entry?.path();
        match path.is_dir() {
            true => fs::remove_dir_all(path),
            false if KeyFile::is_one(&path) => Ok(()),
            false => fs::remove_file(path),
        }
    };
    match fs::read_dir(dir).and_then(|mut entries| entries.try_for_each(remove)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(dir, "empty", &error)),
        _ => Ok(()),
    }
}

/// Whether sled could not open a database for what it read there. A full disk, a lack of memory or
/// file handles, and a lock are not.
fn is_damage(error: &io::Error) -> bool {
    match error.kind() {
        ErrorKind::UnexpectedEof
        | ErrorKind::InvalidData
        | ErrorKind::InvalidInput
        | ErrorKind::NotFound => true,
        ErrorKind::Other => !error.to_string().starts_with(LOCKED),
        // A place of the disk cannot be read.
        _ => error.raw_os_error() == Some(Errno::IO.raw_os_error()),
    }
}

/// The system's fault, and not one of the content: nothing is damaged.
fn unavailable(dir: &Path, error: &io::Error) -> LedgerError {
    LedgerError::Unavailable(format!("the index {} could not be opened: {error}", dir.display()))
}

/// The error of reads of what was lost with a failed database.
fn not_yet() -> LedgerError {
    LedgerError::Unavailable("a part of the index is being written again; try again later".into())
}

fn discarded(why: &LedgerError) -> String {
    format!("the index was discarded and rebuilt: {why}")
}

fn file(dir: &Path) -> PathBuf {
    dir.join("db")
}

impl Period {
    /// Opens the database in `dir`, or replaces a damaged one with a new one. The text says why.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] if it cannot be opened now; it stays as it is.
    pub(super) fn open(dir: &Path) -> Result<(Self, Option<String>), LedgerError> {
        let (database, why) = match Database::open(dir) {
            Ok(database) => (database, None),
            Err(error @ LedgerError::Corrupt(_)) => {
                discard(dir)?;
                (Database::open(dir)?, Some(discarded(&error)))
            }
            Err(error) => return Err(error),
        };
        let (dir, database) = (dir.to_owned(), RwLock::new(Some(database)));
        let (closing, failures) = (Mutex::default(), AtomicU64::new(0));
        Ok((Self { dir, database, closing, failures }, why))
    }

    /// The directory of the database, and of files beside it.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Works with the database, which is opened again if it was closed. One that has failed is opened
    /// by [`Self::renew`] only: no reader waits for that.
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
            None if self.has_failed() => return Err(not_yet()),
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
        let is_flushed = |database: &Database| guarded(|| database.db.flush()).is_ok();
        // One that cannot be flushed can still be read, and may not open again.
        if !self.has_failed() && open.as_ref().is_some_and(is_flushed) {
            drop(open.take().map(Database::close));
        }
    }

    /// Notes that a write has failed: sled refuses every later one.
    pub(super) fn note_failure(&self) {
        self.count(Failed::No);
    }

    /// Notes that every block is there again.
    pub(super) fn note_mended(&self) {
        self.count(Failed::Yes);
    }

    /// Counts a change, where the state was `before`.
    fn count(&self, before: Failed) {
        let next = |count: u64| (Failed::of(count) == before).then_some(count.wrapping_add(1));
        // Otherwise the state is the wanted one already.
        let _ = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
    }

    /// Whether a write has failed and is not made good yet.
    pub(super) fn has_failed(&self) -> bool {
        Failed::of(self.failures()) == Failed::Yes
    }

    /// The count of failures and their ends, to be asked before a read. See [`Self::check_sound`].
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::SeqCst)
    }

    /// Checks that what was read since the count of failures was `seen` is true: neither has the
    /// database failed, nor was it written again in the meantime.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    pub(super) fn check_sound(&self, seen: u64) -> Result<(), LedgerError> {
        let now = self.failures();
        if Failed::of(now) == Failed::No && now == seen { Ok(()) } else { Err(not_yet()) }
    }

    /// Closes a failed database and opens it again, without what was not synced. A damaged one, or
    /// one that sled does not let go, is replaced with an empty one after `check_journal` has found
    /// that all of it can be written again; the text says why. Until this has succeeded, reads fail at
    /// once. `go_on` ends the waiting. Only one thread calls it at a time.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] if it cannot be opened now; an error of the checks. The database
    /// on the disk stays as it is.
    pub(super) fn renew(
        &self,
        go_on: Check<'_>,
        check_journal: Check<'_>,
    ) -> Result<Option<String>, LedgerError> {
        self.note_failure();
        let failed = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(failed) = failed {
            let closing = failed.close();
            *self.closing.lock().unwrap_or_else(PoisonError::into_inner) = Some(closing);
        }
        let opened = match self.wait_for_close(go_on)? {
            Closed::Yes => Database::open_again(&self.dir),
            // No try in this process gets the lock.
            Closed::No => Database::open(&self.dir)
                .map_err(|error| broken(&format!("was not closed after a failed write: {error}"))),
        };
        let (database, why) = match opened {
            Ok(database) => (database, None),
            Err(error @ LedgerError::Corrupt(_)) => {
                check_journal()?;
                discard(&self.dir)?;
                (Database::open(&self.dir)?, Some(discarded(&error)))
            }
            Err(error) => return Err(error),
        };
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok(why)
    }

    /// Waits until the failed database is closed, which frees the lock on its file.
    fn wait_for_close(&self, go_on: Check<'_>) -> Result<Closed, LedgerError> {
        let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..CLOSE_STEPS {
            go_on()?;
            let step = closing.as_ref().map(|closing| closing.recv_timeout(CLOSE_STEP));
            if step != Some(Err(RecvTimeoutError::Timeout)) {
                *closing = None;
                return Ok(Closed::Yes);
            }
        }
        Ok(Closed::No)
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

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_was_read_before_or_during_a_failure_proves_no_loss_after_it() {
        let dir = TempDir::new().unwrap();
        let (period, _) = Period::open(dir.path()).unwrap();
        let before = period.failures();
        assert_eq!(period.check_sound(before), Ok(()));
        period.note_failure();
        period.note_failure();
        let during = period.failures();
        assert!(period.has_failed());
        assert!([before, during].into_iter().all(|seen| period.check_sound(seen).is_err()));
        period.note_mended();
        period.note_mended();
        assert!(!period.has_failed());
        assert!([before, during].into_iter().all(|seen| period.check_sound(seen).is_err()));
        assert_eq!(period.check_sound(period.failures()), Ok(()));
    }

    #[test]
    fn a_damaged_database_is_replaced_only_if_the_journal_has_everything() {
        let dir = TempDir::new().unwrap();
        let (period, _) = Period::open(dir.path()).unwrap();
        // One that sled opens, of another form.
        discard(dir.path()).unwrap();
        let other = sled::open(dir.path()).unwrap();
        other.insert("other", "form").unwrap();
        drop(other);
        fs::write(dir.path().join("keys-0000000001-0"), "kept").unwrap();
        let go_on = || Ok(());
        let damaged = || Err(broken("cannot be written again"));
        let renewed = period.renew(&go_on, &damaged);
        assert!(matches!(renewed, Err(LedgerError::Corrupt(_))), "{renewed:?}");
        let read = period.call(|db| db.get("key"));
        assert!(matches!(read, Err(LedgerError::Unavailable(_))), "{read:?}");
        let why = period.renew(&go_on, &go_on).unwrap();
        assert!(why.unwrap().contains("discarded"));
        assert_eq!(period.call(|db| db.get("key")), Ok(None));
        assert_eq!(fs::read(dir.path().join("keys-0000000001-0")).unwrap(), b"kept");
    }

    #[test]
    fn a_renewal_ends_when_it_is_told_to() {
        let dir = TempDir::new().unwrap();
        let (period, _) = Period::open(dir.path()).unwrap();
        let ended = || Err(LedgerError::Overloaded);
        assert_eq!(period.renew(&ended, &ended), Err(LedgerError::Overloaded));
        assert!(period.has_failed() && !period.is_open());
        assert_eq!(period.renew(&|| Ok(()), &ended), Ok(None));
        assert!(period.has_failed() && period.is_open());
    }
}
