//! The keys of a segment as a start reads them: a plain file beside the database of its period.
//!
//! The database has them too. A start needs all keys of all segments, and nothing else of most: they
//! are read three times as fast from files that are sorted as the maps in memory are.
//!
//! ```text
//! head   magic (8) · segment · generation · salt · end (4 each) · frames · records (8 each) ·
//!        end of each shard's keys (4 each) · CRC (4)
//! part   first half of a key (8) · offset (4), for each key of some shards · CRC (4)
//! ```
//!
//! Numbers are little-endian. A file counts only if its head says the same of the segment as the
//! summary in the database. Nothing is synced: what a power cut leaves of a file has another CRC,
//! and is read from the database or the segment instead.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use crate::ledger::embedded::keys::{SHARDS, Sorted};
use crate::ledger::embedded::segment::{Header, Position, Scan};
use crate::ledger::embedded::tables::KeyAt;
use crate::private;

/// The format, with the number of shards and parts, and the choice of a key's shard: another one
/// has another last letter.
const MAGIC: &[u8; 8] = b"postkey1";
/// The first letters of the names of these files.
const PREFIX: &str = "keys-";
/// Parts of a file, each with a CRC: it can be read in pieces.
pub(in crate::ledger::embedded) const PARTS: usize = 64;
/// Shards whose keys are in one part.
const SHARDS_OF_PART: usize = SHARDS / PARTS;
/// Bytes of a key.
const ENTRY: usize = 12;
const CRC: usize = 4;
/// Bytes in which the head says of which segment it is.
const CLAIM: usize = MAGIC.len() + 4 * 4 + 2 * 8;
const HEAD: usize = CLAIM + SHARDS * 4 + CRC;

/// The file of a segment's keys. It is open only while it is read: there may be thousands.
pub(in crate::ledger::embedded) struct KeyFile {
    path: PathBuf,
    header: Header,
    /// The first bytes of the file.
    claim: [u8; CLAIM],
    /// The end of each shard's keys.
    ends: Vec<u32>,
}

fn path_of(dir: &Path, header: &Header) -> PathBuf {
    dir.join(format!("{PREFIX}{:010}-{}", header.number, header.generation))
}

fn claim_of(header: &Header, scan: Scan) -> [u8; CLAIM] {
    let mut claim = [0; CLAIM];
    let numbers = [header.number, header.generation, header.salt, scan.end];
    let numbers = numbers.into_iter().flat_map(u32::to_le_bytes);
    let counts = [scan.next_seq, scan.records].into_iter().flat_map(u64::to_le_bytes);
    let bytes = MAGIC.iter().copied().chain(numbers).chain(counts);
    claim.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    claim
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

impl KeyFile {
    /// Writes the keys of a segment that was read to `scan`.
    pub(super) fn write(
        dir: &Path,
        header: &Header,
        scan: Scan,
        keys: &Sorted,
    ) -> io::Result<Self> {
        let (path, ends) = (path_of(dir, header), keys.ends().to_vec());
        let file = Self { path, header: *header, claim: claim_of(header, scan), ends };
        let unfinished = file.path.with_extension("tmp");
        let written = private::create(&unfinished)
            .and_then(|mut to| to.write_all(&file.bytes(keys)))
            .and_then(|()| fs::rename(&unfinished, &file.path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written.map(|()| file)
    }

    fn bytes(&self, keys: &Sorted) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size() as usize);
        bytes.extend_from_slice(&self.claim);
        bytes.extend(self.ends.iter().flat_map(|end| end.to_le_bytes()));
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        for part in 0..PARTS {
            let start = bytes.len();
            let entries = Self::shards(&(part..part + 1)).flat_map(|shard| keys.of_shard(shard));
            for (half, at) in entries {
                bytes.extend_from_slice(&half.to_le_bytes());
                bytes.extend_from_slice(&at.offset().to_le_bytes());
            }
            let crc = self.crc_of(part, &bytes[start..]);
            bytes.extend_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    /// The CRC of a part of this segment, and of no other.
    fn crc_of(&self, part: usize, entries: &[u8]) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.claim);
        crc.update(&(part as u32).to_le_bytes());
        crc.update(entries);
        crc.finalize()
    }

    /// The file of a segment that was read to `scan`. Its parts are checked when they are read.
    ///
    /// # Errors
    /// If there is none, or it is damaged or of another segment.
    pub(super) fn open(dir: &Path, header: &Header, scan: Scan) -> io::Result<Self> {
        let path = path_of(dir, header);
        let file = File::open(&path)?;
        let mut head = vec![0; HEAD];
        file.read_exact_at(&mut head, 0)?;
        let (head, crc) = head.split_at(HEAD - CRC);
        let claim = claim_of(header, scan);
        if !head.starts_with(&claim) || crc32fast::hash(head).to_le_bytes() != crc {
            return Err(broken("it is of another segment, or damaged"));
        }
        let (ends, _) = head[CLAIM..].as_chunks();
        let ends: Vec<u32> = ends.iter().map(|end| u32::from_le_bytes(*end)).collect();
        let opened = Self { path, header: *header, claim, ends };
        let is_whole = opened.ends.is_sorted() && file.metadata()?.len() == opened.size();
        if is_whole { Ok(opened) } else { Err(broken("it was not written to its end")) }
    }

    /// Has the system read the file of a segment, if there is one, from the disk in the meantime.
    pub(super) fn read_ahead(dir: &Path, header: &Header) {
        if let Ok(file) = File::open(path_of(dir, header)) {
            // A system that does not do that reads it later.
            let _ = fadvise(&file, 0, None, Advice::WillNeed);
        }
    }

    /// Removes the file of a segment, if there is one.
    pub(super) fn remove(dir: &Path, header: &Header) {
        let _ = fs::remove_file(path_of(dir, header));
    }

    /// Whether a path is that of such a file.
    pub(super) fn is_one(path: &Path) -> bool {
        let name = path.file_name().and_then(OsStr::to_str);
        path.extension().is_none() && name.is_some_and(|name| name.starts_with(PREFIX))
    }

    /// The segment's number.
    pub(in crate::ledger::embedded) fn segment(&self) -> u32 {
        self.header.number
    }

    /// The number of keys.
    pub(in crate::ledger::embedded) fn keys(&self) -> usize {
        self.start(SHARDS)
    }

    /// Bytes on disk.
    pub(in crate::ledger::embedded) fn size(&self) -> u64 {
        self.part_at(PARTS)
    }

    /// The shards of some parts.
    pub(in crate::ledger::embedded) fn shards(parts: &Range<usize>) -> Range<usize> {
        parts.start * SHARDS_OF_PART..parts.end * SHARDS_OF_PART
    }

    /// The index of a shard's first key.
    fn start(&self, shard: usize) -> usize {
        shard.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    /// The offset of a part.
    fn part_at(&self, part: usize) -> u64 {
        (HEAD + ENTRY * self.start(part * SHARDS_OF_PART) + CRC * part) as u64
    }

    /// Reads the keys of some parts into `to`, for [`Self::of_shard`].
    ///
    /// # Errors
    /// If a part cannot be read, or was damaged; `to` is empty then.
    pub(in crate::ledger::embedded) fn read(
        &self,
        parts: Range<usize>,
        to: &mut Vec<u8>,
    ) -> io::Result<()> {
        let from = self.part_at(parts.start);
        to.clear();
        to.resize((self.part_at(parts.end) - from) as usize, 0);
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(to, from));
        let checked = read.and_then(|()| self.check(parts, to));
        if checked.is_err() {
            to.clear();
        }
        checked
    }

    fn check(&self, parts: Range<usize>, bytes: &[u8]) -> io::Result<()> {
        let first = self.part_at(parts.start);
        for part in parts {
            let range = [part, part + 1].map(|part| (self.part_at(part) - first) as usize);
            let (entries, crc) = bytes[range[0]..range[1]]
                .split_last_chunk()
                .ok_or_else(|| broken("a part is too short"))?;
            if self.crc_of(part, entries) != u32::from_le_bytes(*crc) {
                return Err(broken("a part is damaged"));
            }
        }
        Ok(())
    }

    /// Whether it has exactly these keys.
    ///
    /// # Errors
    /// If it cannot be read, or was damaged.
    pub(in crate::ledger::embedded) fn has(&self, keys: &[KeyAt]) -> io::Result<bool> {
        let (keys, mut bytes) = (Sorted::new(&self.header, keys), Vec::new());
        let parts = 0..PARTS;
        self.read(parts.clone(), &mut bytes)?;
        Ok((0..SHARDS).all(|shard| {
            let own = keys.of_shard(shard).iter().copied();
            self.of_shard(shard, &parts, &bytes).eq(own)
        }))
    }

    /// The keys of a shard in `bytes`, which [`Self::read`] read of these parts; none if it failed.
    pub(in crate::ledger::embedded) fn of_shard<'b>(
        &self,
        shard: usize,
        parts: &Range<usize>,
        bytes: &'b [u8],
    ) -> impl Iterator<Item = (u64, Position)> + use<'b, '_> {
        let before = ENTRY * self.start(parts.start * SHARDS_OF_PART);
        let crcs = CRC * (shard / SHARDS_OF_PART - parts.start);
        let [from, to] = [shard, shard + 1].map(|at| ENTRY * self.start(at) - before + crcs);
        let (entries, _) = bytes.get(from..to).unwrap_or_default().as_chunks::<ENTRY>();
        entries.iter().map(|entry| {
            let half = entry.first_chunk().map_or(0, |half| u64::from_le_bytes(*half));
            let offset = entry.last_chunk().map_or(0, |offset| u32::from_le_bytes(*offset));
            (half, Position::new(&self.header, offset))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tempfile::TempDir;

    use super::*;
    use crate::ledger::embedded::keys::Keys;

    fn header(number: u32) -> Header {
        Header {
            version: 1,
            number,
            generation: 0,
            salt: number ^ 0x5a5a,
            first_seq: 1,
            created_ms: 0,
            next_seq: 0,
            key: None,
        }
    }

    fn keys(from: u64, count: u64) -> Vec<KeyAt> {
        let half = |n: u64| (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (from..from + count).map(|n| KeyAt { half: half(n), offset: n as u32 }).collect()
    }

    const SCAN: Scan = Scan { end: 4096, next_seq: 9, records: 5000 };

    fn write(dir: &TempDir, number: u32, keys: &[KeyAt]) -> KeyFile {
        let header = header(number);
        KeyFile::write(dir.path(), &header, SCAN, &Sorted::new(&header, keys)).unwrap()
    }

    fn open(dir: &TempDir, header: &Header) -> io::Result<KeyFile> {
        KeyFile::open(dir.path(), header, SCAN)
    }

    #[test]
    fn a_file_has_the_keys_that_it_was_written_with() {
        let dir = TempDir::new().unwrap();
        for (number, count) in [(1, 0), (2, 1), (3, 5000)] {
            let keys = keys(u64::from(number), count);
            let written = write(&dir, number, &keys);
            let file = open(&dir, &header(number)).unwrap();
            assert_eq!(file.keys(), keys.len());
            assert!(file.has(&keys).unwrap());
            assert!(keys.is_empty() || !file.has(&keys[1..]).unwrap());
            assert_eq!(fs::metadata(&written.path).unwrap().len(), file.size());
        }
        // Another segment, or another form of it, has other keys.
        for other in [header(4), Header { generation: 1, ..header(3) }] {
            fs::copy(path_of(dir.path(), &header(3)), path_of(dir.path(), &other)).unwrap();
            assert!(open(&dir, &other).is_err());
        }
        assert!(open(&dir, &Header { salt: 0, ..header(3) }).is_err());
        // And so has the same one with other records.
        let scans =
            [Scan { end: 8, ..SCAN }, Scan { next_seq: 8, ..SCAN }, Scan { records: 8, ..SCAN }];
        let is_refused = |scan| KeyFile::open(dir.path(), &header(3), scan).is_err();
        assert!(scans.into_iter().all(is_refused));
        assert!(open(&dir, &header(3)).is_ok());
        KeyFile::remove(dir.path(), &header(3));
        assert!(open(&dir, &header(3)).is_err());
    }

    #[test]
    fn parts_are_read_apart_and_damage_is_found_in_each() {
        let dir = TempDir::new().unwrap();
        let keys = keys(0, 5000);
        let file = write(&dir, 1, &keys);
        let mut found = BTreeSet::new();
        for start in (0..PARTS).step_by(3) {
            let (parts, mut bytes) = (start..(start + 3).min(PARTS), Vec::new());
            file.read(parts.clone(), &mut bytes).unwrap();
            for shard in KeyFile::shards(&parts) {
                found.extend(file.of_shard(shard, &parts, &bytes));
            }
        }
        let at = |key: &KeyAt| (key.half, Position::new(&header(1), key.offset));
        assert_eq!(found, keys.iter().map(at).collect());

        let whole = fs::read(&file.path).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 200) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&file.path, bytes).unwrap();
            let opened = open(&dir, &header(1));
            let read = opened.and_then(|file| file.read(0..PARTS, &mut Vec::new()));
            assert!(read.is_err(), "{at}");
        }
        for len in [0, HEAD - 1, HEAD, whole.len() - 1] {
            fs::write(&file.path, &whole[..len]).unwrap();
            assert!(open(&dir, &header(1)).is_err(), "{len}");
        }
    }

    #[test]
    fn files_are_loaded_whole_and_those_that_cannot_be_read_are_told() {
        let dir = TempDir::new().unwrap();
        let all: Vec<Vec<KeyAt>> = (0..5).map(|n| keys(n * 1000, 1000)).collect();
        let mut files: Vec<KeyFile> =
            (1..).zip(&all).map(|(number, keys)| write(&dir, number, keys)).collect();
        // A key whose first half another one has.
        let twin = KeyAt { offset: 77, ..all[0][7] };
        files.push(write(&dir, 6, &[twin]));
        let mut damaged = fs::read(&files[2].path).unwrap();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        fs::write(&files[2].path, damaged).unwrap();
        fs::remove_file(&files[4].path).unwrap();

        let known = Keys::new();
        let load = known.load_files(&files);
        assert_eq!(load.unreadable, BTreeSet::from([2, 4]));
        // Which of the two comes first is open.
        assert_eq!(load.twins.iter().map(|twin| twin.0).collect::<Vec<_>>(), [twin.half]);
        let of_two = known.len();
        assert!((3000..4000).contains(&of_two), "{of_two}");
        // What was read of a damaged file is loaded again, and does not count as its own twin.
        let mut again = crate::ledger::embedded::keys::Loading::default();
        for at in [2, 4] {
            again.add(Sorted::new(&header(at as u32 + 1), &all[at]));
        }
        assert_eq!(known.load(&again), []);
        assert_eq!(known.len(), 5000);
    }
}
