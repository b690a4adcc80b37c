//! The manifest: the required segments, and the end of the journal that was certainly written.
//!
//! ```text
//! file  slot (64 bytes, then zeros to 4 KiB) · slot
//! slot  magic "POSTERNM" · version u16 · zeros u16 · sequence u64 · first u32 · last u32
//!       · segment u32 · end u32 · created i64 · zeros · crc32
//! ```
//!
//! Without it, a segment missing at the start or the end of the journal would go unnoticed, and so
//! would a whole journal. `first` and `last` are the numbers of required segments. Everything up to
//! `end` in `segment` was written and synced: a broken frame before it is damage, and not the end
//! of a commit that a crash tore.
//!
//! Each change is written to the slot with the older state, and synced: a crash leaves at least one
//! intact slot. A segment is created before the manifest names it, and removed after the manifest
//! stops naming it. So the journal never has fewer segments than the manifest names.
//!
//! The file is beside the journal, not in it, and is created with the first segment. A store of an
//! older version has none: it is created at its first start.

use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::damage::REMEDY;
use super::files::{Files, Handle};
use super::segment::{HEADER, failed};
use crate::clock::UnixMillis;
use crate::ledger::LedgerError;

const NAME: &str = "manifest";
const MAGIC: &[u8; 8] = b"POSTERNM";
/// The format that this version writes, and the only one that it reads.
const VERSION: u16 = 1;
/// Used bytes of a slot.
const SLOT: usize = 64;
/// The distance of the slots: a disk writes a sector or a page completely or not at all.
const STRIDE: u64 = 4096;
const SLOTS: usize = 2;

/// The content of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// The oldest segment.
    pub(super) first: u32,
    /// The newest segment.
    pub(super) last: u32,
    /// Everything in this segment up to `end` is on the disk.
    pub(super) segment: u32,
    pub(super) end: u32,
    /// When the manifest was created.
    pub(super) created_ms: UnixMillis,
}

/// The manifest of an open store.
pub(super) struct Manifest {
    path: PathBuf,
    file: Box<dyn Handle>,
    content: Content,
    sequence: u64,
    /// The slot with the newest state.
    slot: usize,
}

/// A manifest as read.
pub(super) struct Found {
    pub(super) content: Content,
    sequence: u64,
    slot: usize,
    /// Whether the other slot is broken: torn by a crash, or damaged.
    pub(super) half: bool,
}

impl Content {
    fn bytes(&self, sequence: u64) -> [u8; SLOT] {
        let mut to = Vec::with_capacity(SLOT);
        to.extend_from_slice(MAGIC);
        to.extend_from_slice(&VERSION.to_le_bytes());
        to.extend_from_slice(&[0; 2]);
        to.extend_from_slice(&sequence.to_le_bytes());
        for number in [self.first, self.last, self.segment, self.end] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        to.extend_from_slice(&self.created_ms.to_le_bytes());
        let mut bytes = [0; SLOT];
        bytes[..to.len()].copy_from_slice(&to);
        let crc = crc32fast::hash(&bytes[..SLOT - 4]);
        bytes[SLOT - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The content of a slot and its sequence; `None` if the slot is broken.
    fn read(bytes: &[u8; SLOT]) -> Result<Option<(Self, u64)>, u16> {
        let (body, crc) = bytes.split_at(SLOT - 4);
        if &bytes[..8] != MAGIC || crc32fast::hash(body).to_le_bytes() != crc {
            return Ok(None);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(version);
        }
        let u32_at = |at: usize| {
            bytes[at..].first_chunk().map_or(0, |chunk: &[u8; 4]| u32::from_le_bytes(*chunk))
        };
        let u64_at = |at: usize| {
            bytes[at..].first_chunk().map_or(0, |chunk: &[u8; 8]| u64::from_le_bytes(*chunk))
        };
        let content = Self {
            first: u32_at(20),
            last: u32_at(24),
            segment: u32_at(28),
            end: u32_at(32),
            created_ms: u64_at(36) as i64,
        };
        Ok(Some((content, u64_at(12))))
    }

    /// The named segments that are not among `present`.
    pub(super) fn missing(&self, present: impl Fn(u32) -> bool) -> Vec<RangeInclusive<u32>> {
        let mut missing: Vec<RangeInclusive<u32>> = Vec::new();
        for number in (self.first..=self.last).filter(|number| !present(*number)) {
            match missing.last_mut().filter(|range| *range.end() + 1 == number) {
                Some(range) => *range = *range.start()..=number,
                None => missing.push(number..=number),
            }
        }
        missing
    }

    /// An error that names the missing segments and the remedy; `Ok` if none are missing.
    pub(super) fn check(
        &self,
        journal: &Path,
        present: impl Fn(u32) -> bool,
    ) -> Result<(), LedgerError> {
        let missing = self.missing(&present);
        if missing.is_empty() {
            return Ok(());
        }
        let (journal, which) = (journal.display(), name(&missing));
        // The journal may be one segment longer: it is created before the manifest names it.
        let at_an_end = |range: &RangeInclusive<u32>| {
            let is_last = *range.end() == self.last && !present(self.last.saturating_add(1));
            *range.start() == self.first || is_last
        };
        let remedy = if missing == [self.first..=self.last] {
            "mount the volume, or restore a backup; to begin an empty store instead, remove \
             `manifest` and `index` beside it"
        } else if missing.iter().all(at_an_end) {
            "restore them from a backup; or get out what is there with `postern export --salvage`; \
             or go on without them with `postern rebuild --accept-missing`: their events are lost, \
             and their transactions are accepted again if they repeat"
        } else {
            // No rebuild goes on over a gap: what comes after it may belong to what was in it.
            REMEDY
        };
        Err(LedgerError::Corrupt(format!("{journal}: segments are missing: {which}; {remedy}")))
    }
}

/// Ranges of segments, for operators.
pub(super) fn name(ranges: &[RangeInclusive<u32>]) -> String {
    let one = |range: &RangeInclusive<u32>| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{} to {}", range.start(), range.end()),
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The path of the manifest of the store in `dir`.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Reads the manifest of the store in `dir`; `None` if there is none.
///
/// # Errors
/// [`LedgerError::Corrupt`] if no slot is intact, or a newer version wrote it.
pub(super) fn read(files: &dyn Files, dir: &Path) -> Result<Option<Found>, LedgerError> {
    let path = path(dir);
    match files.open(&path) {
        Ok(file) => read_slots(&*file, &path).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&path, "open", &error)),
    }
}

fn read_slots(file: &dyn Handle, path: &Path) -> Result<Found, LedgerError> {
    let mut found: Option<Found> = None;
    let mut whole = 0;
    for slot in 0..SLOTS {
        let mut bytes = [0; SLOT];
        let read = file.read_at(&mut bytes, slot as u64 * STRIDE);
        read.map_err(|error| failed(path, "read", &error))?;
        let content = Content::read(&bytes).map_err(|version| {
            let path = path.display();
            LedgerError::Corrupt(format!(
                "{path}: written in version {version}; this program reads {VERSION}"
            ))
        })?;
        let Some((content, sequence)) = content else { continue };
        whole += 1;
        if found.as_ref().is_none_or(|found| found.sequence < sequence) {
            found = Some(Found { content, sequence, slot, half: false });
        }
    }
    match found {
        Some(found) => Ok(Found { half: whole < SLOTS, ..found }),
        None => Err(LedgerError::Corrupt(format!(
            "{}: both copies in it are damaged; check the journal with `postern verify`, then run \
             `postern rebuild --accept-missing`, which creates the file from the segments that are \
             there",
            path.display()
        ))),
    }
}

impl Manifest {
    /// Creates the manifest of the store in `dir`: durable on return.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn create(
        files: &dyn Files,
        dir: &Path,
        content: Content,
    ) -> Result<Self, LedgerError> {
        let (path, fresh) = (path(dir), dir.join("manifest.tmp"));
        let create = || -> io::Result<Box<dyn Handle>> {
            match files.remove(&fresh) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = files.create(&fresh)?;
            for slot in 0..SLOTS {
                let mut bytes = content.bytes(slot as u64 + 1).to_vec();
                bytes.resize(STRIDE as usize, 0);
                file.write_at(&bytes, slot as u64 * STRIDE)?;
            }
            file.sync_data()?;
            files.rename(&fresh, &path)?;
            files.sync_dir(dir)?;
            Ok(file)
        };
        let file = create().map_err(|error| failed(&path, "create", &error))?;
        Ok(Self { path, file, content, sequence: SLOTS as u64, slot: SLOTS - 1 })
    }

    /// Opens the manifest that was found in `dir`.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn open(files: &dyn Files, dir: &Path, found: &Found) -> Result<Self, LedgerError> {
        let path = path(dir);
        let file = files.open(&path).map_err(|error| failed(&path, "open", &error))?;
        let Found { content, sequence, slot, half } = *found;
        let mut manifest = Self { path, file, content, sequence, slot };
        if half {
            manifest.write(content).map_err(|error| manifest.failed(&error))?;
        }
        Ok(manifest)
    }

    /// Sets the content at a start.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn set(&mut self, content: Content) -> Result<(), LedgerError> {
        self.both(Content { created_ms: self.content.created_ms, ..content })
    }

    /// Names a new segment, which was created and is not used yet.
    ///
    /// # Errors
    /// Of the file system. The old state remains.
    pub(super) fn begin(&mut self, number: u32) -> io::Result<()> {
        self.write(Content { last: number, segment: number, end: HEADER, ..self.content })
    }

    /// Records that everything in a segment up to `end` is on the disk.
    ///
    /// # Errors
    /// Of the file system. The old state remains, and is still true.
    pub(super) fn reached(&mut self, segment: u32, end: u32) -> Result<(), LedgerError> {
        if (segment, end) <= (self.content.segment, self.content.end) {
            return Ok(());
        }
        let content = Content { segment, end, ..self.content };
        self.write(content).map_err(|error| self.failed(&error))
    }

    /// Stops naming segments before `first`, so they may be removed.
    ///
    /// # Errors
    /// Of the file system. Then the segments must not be removed.
    pub(super) fn forget_before(&mut self, first: u32) -> Result<(), LedgerError> {
        // In both slots: neither may require a removed segment.
        self.both(Content { first, ..self.content })
    }

    /// Reads both slots back from the disk.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] if one is broken.
    pub(super) fn verify(&self) -> Result<(), LedgerError> {
        let found = read_slots(&*self.file, &self.path)?;
        match found.half || found.content != self.content {
            true => Err(LedgerError::Corrupt("a copy of the manifest is damaged".to_owned())),
            false => Ok(()),
        }
    }

    /// Writes both slots again.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn mend(&mut self) -> Result<(), LedgerError> {
        let written = self.write(self.content).and_then(|()| self.write(self.content));
        written.map_err(|error| self.failed(&error))
    }

    /// Bytes of the file.
    pub(super) const BYTES: u64 = SLOTS as u64 * STRIDE;

    fn both(&mut self, content: Content) -> Result<(), LedgerError> {
        if content == self.content {
            return Ok(());
        }
        let written = self.write(content).and_then(|()| self.write(content));
        written.map_err(|error| self.failed(&error))
    }

    /// Writes a state over the older one, and syncs it. After an error the newer state remains, and
    /// the next write replaces the failed one.
    fn write(&mut self, content: Content) -> io::Result<()> {
        let slot = (self.slot + 1) % SLOTS;
        let sequence = self.sequence + 1;
        self.file.write_at(&content.bytes(sequence), slot as u64 * STRIDE)?;
        self.file.sync_data()?;
        (self.content, self.sequence, self.slot) = (content, sequence, slot);
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> LedgerError {
        failed(&self.path, "write", error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::sim::{Fault, Left, Sim};
    use super::*;

    const CONTENT: Content = Content { first: 3, last: 5, segment: 5, end: 64, created_ms: 7 };

    fn content(files: &Sim) -> Content {
        read(files, Path::new("d")).unwrap().unwrap().content
    }

    #[test]
    fn what_was_written_is_read_and_one_broken_slot_leaves_the_other() {
        let sim = Sim::default();
        assert!(read(&sim, Path::new("d")).unwrap().is_none());
        let mut manifest = Manifest::create(&sim, Path::new("d"), CONTENT).unwrap();
        manifest.begin(6).unwrap();
        manifest.reached(6, 900).unwrap();
        manifest.reached(6, 800).unwrap();
        manifest.forget_before(4).unwrap();
        let said = Content { first: 4, last: 6, segment: 6, end: 900, created_ms: 7 };
        assert_eq!(content(&sim), said);
        manifest.verify().unwrap();
        let file = sim.open(&path(Path::new("d"))).unwrap();
        for (at, half) in [(20, true), (STRIDE + 20, true)] {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_at(&[byte[0] ^ 1], at).unwrap();
            let found = read(&sim, Path::new("d")).unwrap().unwrap();
            // Both slots say the same of the first and the last segment.
            assert_eq!((found.content, found.half), (said, half));
            assert!(manifest.verify().is_err());
            file.write_at(&byte, at).unwrap();
        }
        for at in [20, STRIDE + 20] {
            file.write_at(&[99], at).unwrap();
        }
        let error = read(&sim, Path::new("d")).err().unwrap().to_string();
        assert!(error.contains("both copies") && error.contains("--accept-missing"), "{error}");
    }

    #[test]
    fn a_crash_or_a_fault_at_any_step_leaves_a_state_that_was_written() {
        for fault in [Fault::Cut, Fault::Io, Fault::Short, Fault::NoSpace] {
            for step in 0..30 {
                let sim = Sim::default();
                sim.fail_at(step, fault);
                let mut states = vec![];
                if let Ok(mut manifest) = Manifest::create(&sim, Path::new("d"), CONTENT) {
                    states.push(CONTENT);
                    for number in 6..9 {
                        let before = manifest.content;
                        if manifest.begin(number).is_ok() {
                            states = vec![before];
                        }
                        states.push(Content { last: number, segment: number, ..before });
                        if manifest.forget_before(number - 2).is_ok() {
                            states = vec![manifest.content];
                        } else {
                            states.push(Content { first: number - 2, ..manifest.content });
                        }
                    }
                }
                for left in [Left::Everything, Left::Nothing, Left::Some(step * 7 + 1)] {
                    let found = read(&sim.after(left), Path::new("d")).unwrap();
                    match found {
                        Some(found) => {
                            let known = states.is_empty() || states.contains(&found.content);
                            assert!(known, "{fault:?} {step} {left:?}: {:?}", found.content);
                        }
                        None => assert!(states.is_empty(), "{fault:?} {step} {left:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_remedy() {
        let said = |present: &[u32]| {
            let checked = CONTENT.check(Path::new("j"), |number| present.contains(&number));
            checked.err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(said(&[3, 4, 5, 6]), "");
        assert!(said(&[4]).contains("segments are missing: 3, 5; restore"));
        assert!(said(&[3]).contains("missing: 4 to 5") && said(&[3]).contains("--accept-missing"));
        assert!(said(&[]).contains("mount the volume"));
        // A rebuild does not go on over a gap.
        for (present, named) in [(&[3, 5][..], "missing: 4;"), (&[3, 4, 6], "missing: 5;")] {
            let said = said(present);
            assert!(said.contains(named) && said.contains("--salvage"), "{said}");
            assert!(!said.contains("--accept-missing"), "{said}");
        }
    }
}
