//! The end of the journal, where the committer writes.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::core::RESERVE;
use super::files::{Files, Handle};
use super::frame::Frame;
use super::run::OpenRun;
use super::segment::{FRAME_HEAD, HEADER, Header, RECORD_HEAD, Scan, Segment, failed};
use crate::clock::{UnixMillis, instant};
use crate::ledger::LedgerError;
use crate::ledger::seal::MasterKey;

/// Zeros are written in steps of about one commit, so commits wait briefly at most.
const ZEROS: usize = 128 << 10;

/// The segment being written, and the frame being filled.
pub(super) struct Journal {
    pub(super) run: Arc<OpenRun>,
    pub(super) frame: Frame,
    next_seq: u64,
}

impl Journal {
    /// Continues after the end that `scan` found in the segment of `run`.
    pub(super) fn new(run: Arc<OpenRun>, scan: Scan) -> Result<Self, LedgerError> {
        let segment = &run.segment;
        let frame = Frame::new(segment.header, scan.end, segment.key.as_ref());
        let frame = frame.map_err(|error| no_random(&error))?;
        Ok(Self { run, frame, next_seq: scan.next_seq })
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.run.segment
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Whether payloads of that many bytes in `count` records fit into the segment.
    pub(super) fn fits(&self, bytes: usize, count: usize) -> bool {
        self.frame.end_with(bytes, count) <= self.segment().size as usize
    }

    /// Writes the frame and syncs it; returns the duration of the sync. After an error the state on
    /// disk is unknown, and the journal must not be used again.
    pub(super) fn commit(&mut self) -> io::Result<Duration> {
        let file = &self.run.segment.file;
        let base = u64::from(self.frame.base());
        file.write_at(self.frame.seal(self.next_seq), base)?;
        let start = instant();
        file.sync_data()?;
        let took = instant().saturating_duration_since(start);
        self.frame.next();
        self.next_seq += 1;
        Ok(took)
    }
}

// === New segments ===

/// A file of zeros, ready to become a segment.
pub(super) struct Spare {
    path: PathBuf,
    file: Box<dyn Handle>,
    size: u64,
}

/// The spare file that the indexer made for the committer.
#[derive(Default)]
pub(super) struct SpareSlot(Mutex<Option<Spare>>);

impl SpareSlot {
    pub(super) fn take(&self) -> Option<Spare> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, spare: Spare) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(spare);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// A unique file name within this process. The next start removes files of earlier processes.
pub(super) fn temporary(dir: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    dir.join(format!("{}.tmp", COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// The file name of a segment.
pub(super) fn file_name(number: u32, generation: u32) -> String {
    format!("{number:010}-{generation}.journal")
}

/// Number and generation from a file name, if it is one of a segment.
pub(super) fn parse_name(path: &Path) -> Option<(u32, u32)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".journal")?;
    let (number, generation) = name.split_once('-')?;
    Some((number.parse().ok()?, generation.parse().ok()?))
}

impl Spare {
    /// Writes `size` zeros to a new file in `dir` and syncs them; `rest` is called after each step
    /// with the progress and the duration of the step. File names are unique: the committer may
    /// write one file while the indexer makes the next. Where so much does not fit, nothing is written:
    /// what is left belongs to retention, which makes room.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`], for example if the disk is full; nothing is left behind.
    pub(super) fn make(
        files: &dyn Files,
        dir: &Path,
        size: u64,
        rest: &dyn Fn(u64, Duration),
    ) -> Result<Self, LedgerError> {
        let path = temporary(dir);
        // Where that is not known, the writes say it.
        if files.free(dir).is_ok_and(|free| free < size) {
            return Err(not_made(&path, size, &ErrorKind::StorageFull.into()));
        }
        let zeroed = files.create(&path).and_then(|file| {
            let zeros = vec![0; ZEROS.min(size as usize)];
            let mut at = 0;
            while at < size {
                let start = instant();
                let step = zeros.len().min((size - at) as usize);
                file.write_at(&zeros[..step], at)?;
                file.sync_data()?;
                at += step as u64;
                rest(at, instant().saturating_duration_since(start));
            }
            Ok(file)
        });
        match zeroed {
            Ok(file) => Ok(Self { path, file, size }),
            Err(error) => {
                let _ = files.remove(&path);
                Err(not_made(&path, size, &error))
            }
        }
    }

    /// Makes the file the segment of `header`: header, sync, name, sync of the directory.
    ///
    /// # Errors
    /// Of the file system. Acknowledged data is intact, but the name may exist.
    pub(super) fn adopt(
        self,
        files: &dyn Files,
        header: Header,
        key: Option<&MasterKey>,
    ) -> io::Result<Segment> {
        self.file.write_at(&header.bytes(), 0)?;
        self.file.sync_data()?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let path = dir.join(file_name(header.number, header.generation));
        files.rename(&self.path, &path)?;
        files.sync_dir(dir)?;
        Ok(Segment { header, path, file: self.file, size: self.size, key: key.cloned() })
    }
}

/// The header of a segment that begins now, sealed with `key`.
pub(super) fn new_header(
    number: u32,
    version: u16,
    first_seq: u64,
    now_ms: UnixMillis,
    key: Option<&MasterKey>,
) -> Header {
    let salt = new_salt(number, now_ms);
    let key = key.map(MasterKey::id);
    Header { version, number, generation: 0, salt, first_seq, created_ms: now_ms, next_seq: 0, key }
}

/// The salt of a segment's new form.
pub(super) fn new_salt(number: u32, now_ms: UnixMillis) -> u32 {
    let mut salt = [0; 4];
    // Without random bytes the time tells this segment from earlier data on the disk.
    match getrandom::fill(&mut salt) {
        Ok(()) => u32::from_le_bytes(salt),
        Err(_) => now_ms as u32 ^ number,
    }
}

/// The error of a file of `size` bytes that could not be written. On a full disk it says how much
/// must be freed.
fn not_made(path: &Path, size: u64, error: &io::Error) -> LedgerError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let (mib, reserve) = (size.div_ceil(1 << 20), (size * RESERVE).div_ceil(1 << 20));
            LedgerError::Unavailable(format!(
                "could not write {mib} MiB to {}: {error}; free space on the disk: a segment takes \
                 {mib} MiB, and with less than {reserve} MiB beside it the gateway is not ready",
                path.display()
            ))
        }
        _ => failed(path, "create", error),
    }
}

/// The error without random bytes.
pub(super) fn no_random(error: &getrandom::Error) -> LedgerError {
    LedgerError::Unavailable(format!("the system gives no random bytes: {error}"))
}

/// The largest payload that fits into a segment of that size.
pub(super) fn payload_max(segment_bytes: u64) -> usize {
    let room = segment_bytes as usize - HEADER as usize - 2 * FRAME_HEAD - 2 * RECORD_HEAD;
    room.min(16 << 20)
}

#[cfg(test)]
mod tests {
    use super::super::files::faulty::Faults;
    use super::super::files::sim::{Fault, Sim};
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_what_must_be_freed() {
        let said = |fault| {
            let sim = Sim::default();
            sim.fail_at(0, fault);
            let made = Spare::make(&sim, Path::new("d"), 64 << 20, &|_, _| {});
            made.err().map(|error| error.to_string()).unwrap_or_default()
        };
        let full = said(Fault::NoSpace);
        assert!(full.contains("could not write 64 MiB") && full.contains("256 MiB"), "{full}");
        assert!(said(Fault::Io).contains("could not create"));
    }

    #[test]
    fn nothing_is_written_to_a_disk_that_has_no_room_for_all_of_it() {
        const SIZE: u64 = 64 << 10;
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        faults.free.store(SIZE - 1, Ordering::SeqCst);
        let made = Spare::make(&faults, dir.path(), SIZE, &|_, _| panic!("zeros were written"));
        let said = made.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("free space on the disk"), "{said}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        faults.free.store(SIZE, Ordering::SeqCst);
        assert!(Spare::make(&faults, dir.path(), SIZE, &|_, _| {}).is_ok());
    }
}
