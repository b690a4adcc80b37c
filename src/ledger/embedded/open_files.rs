//! Files of closed segments: opened on demand, and kept open while they are read often. Closed
//! segments are many, and open files are limited.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{Files, Handle};

/// Files kept open: duplicates and lists mostly need the newest segments.
const OPEN_MAX: usize = 16;

/// The files that were read last.
pub(super) struct OpenFiles {
    files: Arc<dyn Files>,
    /// By the number of their [`AtRest`], the most recently used at the end.
    open: Mutex<Vec<(u64, Arc<dyn Handle>)>>,
    count: AtomicU64,
}

impl OpenFiles {
    pub(super) fn new(files: Arc<dyn Files>) -> Arc<Self> {
        Arc::new(Self { files, open: Mutex::default(), count: AtomicU64::new(0) })
    }

    /// The file system of the files.
    pub(super) fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    /// The file at `path`, as a handle that is open only while it is read.
    pub(super) fn at_rest(self: &Arc<Self>, path: PathBuf) -> Box<dyn Handle> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        Box::new(AtRest { pool: Arc::clone(self), number, path })
    }

    /// Closes all files, as reads of other files would.
    #[cfg(test)]
    pub(super) fn close_all(&self) {
        self.open().clear();
    }

    fn open(&self) -> MutexGuard<'_, Vec<(u64, Arc<dyn Handle>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct AtRest {
    pool: Arc<OpenFiles>,
    number: u64,
    path: PathBuf,
}

impl AtRest {
    fn file(&self) -> io::Result<Arc<dyn Handle>> {
        let mut open = self.pool.open();
        if let Some(at) = open.iter().rposition(|(number, _)| *number == self.number) {
            open[at..].rotate_left(1);
            if let Some((_, file)) = open.last() {
                return Ok(Arc::clone(file));
            }
        }
        drop(open);
        let file: Arc<dyn Handle> = Arc::from(self.pool.files.open(&self.path)?);
        let mut open = self.pool.open();
        // Two concurrent opens keep it open twice for a while, which is harmless.
        if open.len() >= OPEN_MAX {
            open.remove(0);
        }
        open.push((self.number, Arc::clone(&file)));
        Ok(file)
    }
}

impl Drop for AtRest {
    fn drop(&mut self) {
        // The file may be removed now: an open one would keep its bytes on the disk.
        self.pool.open().retain(|(number, _)| *number != self.number);
    }
}

impl Handle for AtRest {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file()?.read_at(buffer, offset)
    }

    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.file()?.read_cached(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file()?.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.file()?.cut(len)
    }

    fn forget(&self, offset: u64, len: u64) {
        if let Ok(file) = self.file() {
            file.forget(offset, len);
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.file()?.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::Disk;
    use super::*;

    #[test]
    fn few_files_are_open_and_none_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let pool = OpenFiles::new(Arc::new(Disk));
        let handles: Vec<_> = (0..OPEN_MAX as u8 + 5)
            .map(|n| {
                let path = dir.path().join(n.to_string());
                std::fs::write(&path, [n]).unwrap();
                pool.at_rest(path)
            })
            .collect();
        for _ in 0..2 {
            for (n, handle) in (0..).zip(&handles) {
                let mut byte = [99];
                assert_eq!(handle.read_at(&mut byte, 0).unwrap(), 1);
                assert_eq!(byte, [n]);
                assert!(pool.open().len() <= OPEN_MAX);
            }
        }
        // The file that is read often stays.
        let first = pool.open()[0].0;
        let _ = handles[first as usize].len().unwrap();
        let _ = handles[0].len().unwrap();
        assert!(pool.open().iter().any(|(number, _)| *number == first));
        drop(handles);
        assert!(pool.open().is_empty());
    }
}
