//! The journal's only access to the disk, so tests can make it fail.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::io::{Errno, ReadWriteFlags};

use crate::clock::instant;
use crate::{file_descriptors, private};

/// File system operations of the journal.
pub(in crate::ledger) trait Files: Send + Sync {
    /// Creates a file. An existing file is an error: nothing is ever truncated.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Handle>>;
    /// Opens a file to read and write; on a read-only file system, where its writes fail, to read.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>>;
    /// The files of a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Renames a file, replacing one of that name. Durable only after [`Files::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written in the file system of a directory.
    fn free(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file.
pub(in crate::ledger) trait Handle: Send + Sync {
    /// Fills `buffer` from `offset`, as far as the file goes; returns the number of bytes.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As [`Handle::read_at`], without a wait for the disk: `None` if it would have to wait.
    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes all writes survive a crash of the operating system, if the disk keeps what it
    /// acknowledges.
    fn sync_data(&self) -> io::Result<()>;
    /// Truncates the file to `len`.
    fn cut(&self, len: u64) -> io::Result<()>;
    /// Asks the system to read these bytes from the disk next time. It may ignore that.
    fn forget(&self, _offset: u64, _len: u64) {}
    /// Its length.
    fn len(&self) -> io::Result<u64>;
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Disk;

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        Ok(Box::new(private::create_new(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        match OpenOptions::new().read(true).write(true).open(path) {
            // A store is verified and salvaged there too.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Ok(Box::new(File::open(path)?))
            }
            opened => Ok(Box::new(opened?)),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        opened(|| File::open(dir))?.sync_all()
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// The time limit of waiting for a file descriptor. Idle connections end before it, and callbacks
/// are answered meanwhile as while the ledger is unavailable.
const DESCRIPTOR_PATIENCE: Duration = Duration::from_secs(120);
/// The interval of tries.
const DESCRIPTOR_AGAIN: Duration = Duration::from_millis(20);

/// Opens a file once a file descriptor is free. A name that cannot be synced stops the ledger for good,
/// and the disk has no part in a lack of descriptors.
fn opened(mut open: impl FnMut() -> io::Result<File>) -> io::Result<File> {
    let until = instant() + DESCRIPTOR_PATIENCE;
    let mut waits = false;
    loop {
        match open() {
            Err(error) if file_descriptors::is_exhausted(&error) && instant() < until => {
                if !waits {
                    tracing::warn!(%error, "the ledger waits for a file descriptor");
                }
                waits = true;
                thread::sleep(DESCRIPTOR_AGAIN);
            }
            done => return done,
        }
    }
}

impl Handle for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let mut into = [io::IoSliceMut::new(buffer)];
        match rustix::io::preadv2(self, &mut into, offset, ReadWriteFlags::NOWAIT) {
            Ok(filled) => Ok(Some(filled)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            // A file system in memory never waits; others are rarely without this.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Handle::read_at(self, buffer, offset).map(Some),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn forget(&self, offset: u64, len: u64) {
        // Only a hint: otherwise the bytes are read from memory.
        let len = std::num::NonZeroU64::new(len);
        let _ = rustix::fs::fadvise(self, offset, len, rustix::fs::Advice::DontNeed);
    }

    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }
}

#[cfg(test)]
pub(in crate::ledger) mod sim;

/// A file system with injected faults, for tests.
#[cfg(test)]
pub(in crate::ledger) mod faulty {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The operations that fail from now on.
    #[derive(Clone, Debug, Default)]
    pub(in crate::ledger) struct Faults {
        pub(in crate::ledger) sync: Arc<AtomicBool>,
        pub(in crate::ledger) write: Arc<AtomicBool>,
        pub(in crate::ledger) create: Arc<AtomicBool>,
        pub(in crate::ledger) panic: Arc<AtomicBool>,
        /// Free bytes, if not zero.
        pub(in crate::ledger) free: Arc<AtomicU64>,
        /// While this is locked, syncs wait.
        pub(in crate::ledger) hold: Arc<Mutex<()>>,
        /// While this is set, reads wait; and whether one does.
        pub(in crate::ledger) hold_reads: Arc<AtomicBool>,
        pub(in crate::ledger) holds_a_read: Arc<AtomicBool>,
        /// Files that are open, and the most that were at a time.
        pub(in crate::ledger) handles: Arc<AtomicU64>,
        pub(in crate::ledger) most_handles: Arc<AtomicU64>,
        /// Syncs that the committer has begun.
        pub(in crate::ledger) commits: Arc<AtomicU64>,
    }

    struct FaultyHandle(Box<dyn Handle>, Faults);

    impl FaultyHandle {
        fn boxed(handle: Box<dyn Handle>, faults: &Faults) -> Box<dyn Handle> {
            let open = faults.handles.fetch_add(1, Ordering::SeqCst) + 1;
            faults.most_handles.fetch_max(open, Ordering::SeqCst);
            Box::new(Self(handle, faults.clone()))
        }
    }

    impl Drop for FaultyHandle {
        fn drop(&mut self) {
            self.1.handles.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn check(fault: &AtomicBool, what: &str) -> io::Result<()> {
        if fault.load(Ordering::SeqCst) { Err(io::Error::other(what)) } else { Ok(()) }
    }

    impl Files for Faults {
        fn create(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
            check(&self.create, "no space left (injected)")?;
            Ok(FaultyHandle::boxed(Disk.create(path)?, self))
        }

        fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
            Ok(FaultyHandle::boxed(Disk.open(path)?, self))
        }

        fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
            Disk.list(dir)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            Disk.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            Disk.remove(path)
        }

        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            Disk.sync_dir(dir)
        }

        fn free(&self, dir: &Path) -> io::Result<u64> {
            match self.free.load(Ordering::SeqCst) {
                0 => Disk.free(dir),
                free => Ok(free),
            }
        }
    }

    impl Handle for FaultyHandle {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            while self.1.hold_reads.load(Ordering::SeqCst) {
                self.1.holds_a_read.store(true, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            self.0.read_at(buffer, offset)
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            assert!(!self.1.panic.load(Ordering::SeqCst), "injected panic");
            check(&self.1.write, "write failed (injected)")?;
            self.0.write_at(bytes, offset)
        }

        fn sync_data(&self) -> io::Result<()> {
            if std::thread::current().name() == Some("ledger-commit") {
                self.1.commits.fetch_add(1, Ordering::SeqCst);
            }
            drop(self.1.hold.lock());
            check(&self.1.sync, "sync failed (injected)")?;
            self.0.sync_data()
        }

        fn cut(&self, len: u64) -> io::Result<()> {
            self.0.cut(len)
        }

        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_opened_once_a_descriptor_is_free() {
        let mut errors = vec![Errno::NFILE, Errno::MFILE];
        let found = opened(|| match errors.pop() {
            Some(error) => Err(error.into()),
            None => File::open("/dev/null"),
        });
        assert!(found.is_ok());
        let mut tries = 0;
        let denied = opened(|| {
            tries += 1;
            Err(Errno::ACCESS.into())
        });
        assert_eq!(
            denied.map_err(|error| error.kind()).err(),
            Some(io::ErrorKind::PermissionDenied)
        );
        assert_eq!(tries, 1);
    }
}
