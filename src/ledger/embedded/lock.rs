//! The lock: only one process works on a store.
//!
//! The directories themselves are locked: removing a file does not lift the lock. The file `lock`
//! is locked too: it names the process, and older versions lock nothing else.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::core::journal_dir;
use super::segment::failed;
use crate::ledger::LedgerError;
use crate::private;

/// Held while this process works on the store.
pub(super) struct Lock {
    held: Vec<File>,
    disk: DiskAccess,
}

/// The access that the file system of a store allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskAccess {
    /// To change the store.
    Write,
    /// To read it: it is mounted read-only.
    Read,
}

impl Lock {
    /// Makes this process the only one that works on the existing store in `path`.
    ///
    /// # Errors
    /// [`LedgerError::InUse`] if another process does.
    pub(super) fn take(path: &Path) -> Result<Self, LedgerError> {
        let lock = Self::take_to_read(path)?;
        match lock.disk {
            DiskAccess::Write => Ok(lock),
            DiskAccess::Read => Err(LedgerError::Unavailable(format!(
                "{} is on a read-only file system: mount it for writing; `postern verify` and \
                 `postern export --salvage` work there too",
                path.display()
            ))),
        }
    }

    /// As [`Lock::take`], also on a read-only file system. Nothing can be written there, so the lock
    /// file is not needed.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub(super) fn take_to_read(path: &Path) -> Result<Self, LedgerError> {
        let mut held = vec![];
        for dir in [path, &journal_dir(path)] {
            if dir.is_dir() {
                held.extend(lock_dir(path, dir)?);
            }
        }
        let name = path.join("lock");
        let mut options = private::options();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&name);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                return Ok(Self { held, disk: DiskAccess::Read });
            }
            Err(error) => return Err(failed(&name, "open", &error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(path)),
            Err(TryLockError::Error(error)) => return Err(failed(&name, "lock", &error)),
        }
        // Only for operators: the lock itself counts.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
        held.push(file);
        Ok(Self { held, disk: DiskAccess::Write })
    }

    /// The access that the file system of the store allows.
    pub(super) fn disk(&self) -> DiskAccess {
        self.disk
    }

    /// Locks the journal's directory too, which was created after the lock was taken.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub(super) fn add_journal(&mut self, path: &Path) -> Result<(), LedgerError> {
        self.held.extend(lock_dir(path, &journal_dir(path))?);
        Ok(())
    }
}

impl Drop for Lock {
    /// Closing is not enough: a child of this process has a copy of every open file until it
    /// executes its program, and a lock belongs to all copies. Unlocking one of them lifts it.
    fn drop(&mut self) {
        for file in &self.held {
            let _ = file.unlock();
        }
    }
}

/// Locks a directory of the store in `path`. On file systems without locks on directories, the lock
/// file has to suffice.
fn lock_dir(path: &Path, dir: &Path) -> Result<Option<File>, LedgerError> {
    let file = File::open(dir).map_err(|error| failed(dir, "open", &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(in_use(path)),
        Err(TryLockError::Error(error)) => {
            let dir = dir.display();
            tracing::warn!(%dir, %error, "could not lock a directory of the store; do not remove its file lock");
            Ok(None)
        }
    }
}

fn in_use(path: &Path) -> LedgerError {
    let holder = fs::read_to_string(path.join("lock")).unwrap_or_default();
    LedgerError::InUse(format!(
        "{} belongs to another process{}: one process owns a store; stop that process first",
        path.display(),
        if holder.is_empty() { String::new() } else { format!(" ({})", holder.trim()) },
    ))
}
