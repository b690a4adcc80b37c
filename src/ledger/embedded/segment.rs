//! Segments: the files of the journal.
//!
//! ```text
//! file    header (64 bytes) · frame · frame · … · zeros
//! header  magic "POSTERNJ" · version u16 · flags u16 · generation u32 · number u32 · salt u32
//!         · first sequence u64 · created i64 · next sequence u64 · key id (8) · zeros · crc32
//! frame   length u32 · count u32 · sequence u64 · crc32 · mark u32 · records · zeros to 8 bytes
//! record  length u32 · crc32 · payload
//! ```
//!
//! One frame is one commit: written in one piece and synced before anything in it is answered, and
//! before the next is written. So a crash can tear only the last frame of the last segment, and an
//! intact frame *after* a broken one is damage. Checksums start from the segment's random salt and
//! the offset: data from elsewhere, or from earlier, never matches.
//!
//! With flag 1 every payload is sealed under the master key that the key id names, and bound to its
//! place. Lengths, counts and times of commits stay readable.
//!
//! Files are filled with zeros before use: a sync without new blocks is two to three times faster.
//! `generation` counts how often retention rewrote a segment; only then `next sequence` is not
//! zero.

pub(super) mod survey;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::files::{Files, Handle};
use super::open_files::OpenFiles;
use crate::clock::UnixMillis;
use crate::ledger::LedgerError;
use crate::ledger::seal::{KeyId, Keyring, MasterKey};

/// The first bytes of every segment.
const MAGIC: &[u8; 8] = b"POSTERNJ";
/// Payloads are sealed.
const SEALED: u16 = 1;
/// The format that this version writes. In version 1 events have all texts in full. Up to version 2
/// deduplication keys may have an older form: retention keeps a segment's version. From version 4 on
/// bodies of events may have version 2. A segment in another version is read, and not continued.
pub(super) const VERSION: u16 = 4;
/// The format of imports, and the newest that is read: as [`VERSION`], but deduplication keys may
/// have an older form.
pub(super) const IMPORTED: u16 = 5;
/// Up to this version the keys may have an older form too.
const OLDER_KEYS: u16 = 2;
/// Bytes before the first frame.
pub(super) const HEADER: u32 = 64;
/// Bytes before the records of a frame.
pub(super) const FRAME_HEAD: usize = 24;
/// Bytes before the payload of a record.
pub(super) const RECORD_HEAD: usize = 8;
/// Separates the checksums of neighbouring offsets.
const SPREAD: u32 = 0x9e37_79b1;
const MARK: u32 = 0x4d_41_52_46;
/// Frames begin at multiples of this.
const ALIGN: usize = 8;
/// Bytes read at once during a scan.
const WINDOW: usize = 256 << 10;
/// Bytes of the first read of a record; most need no second read.
const GUESS: usize = 2048;

/// The position of a record: segment, generation (one bit, which tells the two forms apart while a
/// segment is rewritten) and offset. Eight bytes, because there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(u64);

impl Position {
    /// Segments are smaller than this.
    const GENERATION: u32 = 1 << 31;

    pub(super) fn new(header: &Header, offset: u32) -> Self {
        let generation = if header.generation & 1 == 1 { Self::GENERATION } else { 0 };
        Self(u64::from(header.number) << 32 | u64::from(offset | generation))
    }

    pub(super) fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn offset(self) -> u32 {
        self.0 as u32 & !Self::GENERATION
    }

    /// Whether it is in the segment with that header.
    pub(super) fn is_in(self, header: &Header) -> bool {
        self == Self::new(header, self.offset())
    }

    /// The place that a sealed payload is bound to.
    pub(super) fn place(self) -> [u8; 15] {
        let mut place = *b"journal\0\0\0\0\0\0\0\0";
        place[7..].copy_from_slice(&self.0.to_le_bytes());
        place
    }
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u16,
    pub(super) number: u32,
    pub(super) generation: u32,
    pub(super) salt: u32,
    pub(super) first_seq: u64,
    pub(super) created_ms: UnixMillis,
    /// The sequence of the next segment's first frame, for a rewritten segment; otherwise 0.
    pub(super) next_seq: u64,
    /// The master key of sealed payloads.
    pub(super) key: Option<KeyId>,
}

impl Header {
    pub(super) fn bytes(&self) -> [u8; HEADER as usize] {
        let mut to = Vec::with_capacity(HEADER as usize);
        to.extend_from_slice(MAGIC);
        to.extend_from_slice(&self.version.to_le_bytes());
        let flags = if self.key.is_some() { SEALED } else { 0 };
        to.extend_from_slice(&flags.to_le_bytes());
        for number in [self.generation, self.number, self.salt] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        to.extend_from_slice(&self.first_seq.to_le_bytes());
        to.extend_from_slice(&self.created_ms.to_le_bytes());
        to.extend_from_slice(&self.next_seq.to_le_bytes());
        to.extend_from_slice(&self.key.unwrap_or(KeyId([0; 8])).0);
        let mut bytes = [0; HEADER as usize];
        bytes[..to.len()].copy_from_slice(&to);
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8; HEADER as usize]) -> Result<Self, String> {
        if &bytes[..8] != MAGIC {
            return Err("not a journal of Postern (offset 0)".into());
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if !(1..=IMPORTED).contains(&version) {
            return Err(format!(
                "written in version {version}; this program reads 1 to {IMPORTED}"
            ));
        }
        if crc32fast::hash(&bytes[..60]) != u32_at(bytes, 60) {
            return Err("the header is damaged (offset 0)".into());
        }
        let flags = u16::from_le_bytes([bytes[10], bytes[11]]);
        if flags & !SEALED != 0 {
            return Err(format!("written with flags {flags:#x}, which this program does not know"));
        }
        Ok(Self::fields(bytes))
    }

    /// Whether deduplication keys of the segment may have an older form.
    pub(super) fn may_hold_older_keys(&self) -> bool {
        self.version <= OLDER_KEYS || self.version == IMPORTED
    }

    /// The raw fields, unchecked.
    fn fields(bytes: &[u8; HEADER as usize]) -> Self {
        let flags = u16::from_le_bytes([bytes[10], bytes[11]]);
        let mut key = [0; 8];
        key.copy_from_slice(&bytes[48..56]);
        Self {
            version: u16::from_le_bytes([bytes[8], bytes[9]]),
            key: (flags & SEALED != 0).then_some(KeyId(key)),
            generation: u32_at(bytes, 12),
            number: u32_at(bytes, 16),
            salt: u32_at(bytes, 20),
            first_seq: u64_at(bytes, 24),
            created_ms: u64_at(bytes, 32) as i64,
            next_seq: u64_at(bytes, 40),
        }
    }

    /// The checksum of data at `offset`.
    pub(super) fn crc(&self, offset: u32, bytes: &[u8]) -> u32 {
        let seed = self.salt.wrapping_add(offset.wrapping_mul(SPREAD));
        let mut hasher = crc32fast::Hasher::new_with_initial(seed);
        hasher.update(bytes);
        hasher.finalize()
    }

    /// Writes the head of a frame at `offset`, before its records in `frame`, and pads it.
    pub(super) fn seal(&self, frame: &mut Vec<u8>, offset: u32, count: u32, seq: u64) {
        let len = (frame.len() - FRAME_HEAD) as u32;
        frame.resize(frame.len().next_multiple_of(ALIGN), 0);
        frame[..4].copy_from_slice(&len.to_le_bytes());
        frame[4..8].copy_from_slice(&count.to_le_bytes());
        frame[8..16].copy_from_slice(&seq.to_le_bytes());
        let crc = self.crc(offset, &frame[..16]);
        frame[16..20].copy_from_slice(&crc.to_le_bytes());
        frame[20..24].copy_from_slice(&MARK.to_le_bytes());
    }
}

/// The head of a frame, read and checked.
#[derive(Clone, Copy, Debug)]
struct FrameHead {
    len: u32,
    count: u32,
    seq: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// A segment, open for reading, and for the committer to write.
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn Handle>,
    pub(super) size: u64,
    /// The key of its payloads.
    pub(super) key: Option<MasterKey>,
}

/// The end of a segment after its intact frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Only zeros.
    Clean,
    /// A broken frame with nothing intact after it, up to this offset.
    Torn { until: u32 },
    /// A broken frame, and an intact one after it at this offset.
    Damaged { whole_at: u32 },
}

/// The readable part of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where the next frame would begin.
    pub(super) end: u32,
    /// Its sequence.
    pub(super) next_seq: u64,
    pub(super) records: u64,
}

impl Scan {
    /// The start of a segment.
    pub(super) fn start(header: &Header) -> Self {
        Self { end: HEADER, next_seq: header.first_seq, records: 0 }
    }
}

/// Called with the offset and payload of each record.
pub(super) type Visit<'v> = &'v mut dyn FnMut(u32, &[u8]) -> Result<(), LedgerError>;

impl Segment {
    /// Scans a closed segment that was read before: `known` is its content at that time.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] if the content differs. Then the visitor has seen a part of it,
    /// which must not be used.
    pub(super) fn scan_closed(&self, known: Scan, visit: Visit<'_>) -> Result<(), LedgerError> {
        let scan = self.scan(visit)?;
        if scan != known {
            let what = format!(
                "a frame is broken: {} of {} records can be read",
                scan.records, known.records
            );
            return Err(self.damaged(scan.end, &what));
        }
        self.check_complete(scan)
    }

    /// Checks that a closed segment ends correctly: with zeros, or after its last frame if
    /// retention rewrote it.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] if it does not: a part of it was not read.
    pub(super) fn check_complete(&self, scan: Scan) -> Result<(), LedgerError> {
        let complete = match self.header.generation {
            0 => self.rest(scan)? == Rest::Clean,
            _ => u64::from(scan.end) == self.size,
        };
        match complete {
            true => Ok(()),
            false => Err(self.damaged(scan.end, "a frame is broken, or bytes follow the last one")),
        }
    }

    /// The same segment, with its file open only while it is read.
    pub(super) fn at_rest(files: &Arc<OpenFiles>, segment: &Self) -> Self {
        let (header, path, size) = (segment.header, segment.path.clone(), segment.size);
        Self { header, file: files.at_rest(path.clone()), path, size, key: segment.key.clone() }
    }

    /// Opens a segment, checks its header and finds its key.
    pub(super) fn open(
        files: &Arc<dyn Files>,
        keys: &Keyring,
        path: &Path,
    ) -> Result<Self, LedgerError> {
        let file = files.open(path).map_err(|error| unread(path, &error))?;
        let size = file.len().map_err(|error| failed(path, "measure", &error))?;
        let mut bytes = [0; HEADER as usize];
        file.read_at(&mut bytes, 0).map_err(|error| unread(path, &error))?;
        let header = Header::read(&bytes)
            .map_err(|what| LedgerError::Corrupt(format!("{}: {what}", path.display())))?;
        let key = match header.key {
            Some(id) => Some(keys.find(id).cloned().ok_or_else(|| {
                LedgerError::Sealed(format!("{} {}", path.display(), keys.missing(id)))
            })?),
            None => None,
        };
        Ok(Self { header, path: path.to_owned(), file, size, key })
    }

    /// The unsealed payload.
    fn unsealed<'p>(&self, offset: u32, payload: &'p [u8]) -> Result<Cow<'p, [u8]>, LedgerError> {
        let Some(key) = &self.key else { return Ok(Cow::Borrowed(payload)) };
        let place = Position::new(&self.header, offset).place();
        let opened = key.open(&place, payload);
        opened.map(Cow::Owned).ok_or_else(|| self.damaged(offset, "the record does not unseal"))
    }

    /// The payload of the record at `offset`.
    pub(super) fn read(&self, offset: u32) -> Result<Bytes, LedgerError> {
        let mut buffer = Vec::new();
        let whole = self.fetch(offset, &mut buffer)?;
        buffer.truncate(whole);
        let payload = Bytes::from(buffer).split_off(RECORD_HEAD);
        Ok(match self.unsealed(offset, &payload)? {
            Cow::Borrowed(_) => payload,
            Cow::Owned(opened) => opened.into(),
        })
    }

    /// The payload of the record at `offset`, in a reusable buffer.
    pub(super) fn read_into<'b>(
        &self,
        offset: u32,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Cow<'b, [u8]>, LedgerError> {
        let whole = self.fetch(offset, buffer)?;
        self.unsealed(offset, buffer.get(RECORD_HEAD..whole).unwrap_or_default())
    }

    /// The payload of the record at `offset`, if all of it is in memory and in order.
    pub(super) fn read_cached<'b>(
        &self,
        offset: u32,
        buffer: &'b mut Vec<u8>,
    ) -> Option<Cow<'b, [u8]>> {
        buffer.resize(GUESS, 0);
        let filled = self.file.read_cached(buffer, u64::from(offset)).ok()??;
        let whole = RECORD_HEAD + u32_at(buffer, 0) as usize;
        if u64::from(offset) + whole as u64 > self.size {
            return None;
        }
        if whole > filled {
            buffer.resize(whole, 0);
            let from = u64::from(offset) + filled as u64;
            let rest = self.file.read_cached(&mut buffer[filled..], from).ok()??;
            if filled + rest < whole {
                return None;
            }
        }
        let payload = buffer.get(RECORD_HEAD..whole)?;
        if u32_at(buffer, 4) != self.header.crc(offset, payload) {
            return None;
        }
        self.unsealed(offset, payload).ok()
    }

    /// Reads the record at `offset` to the front of the buffer; returns its end there.
    fn fetch(&self, offset: u32, buffer: &mut Vec<u8>) -> Result<usize, LedgerError> {
        buffer.resize(GUESS, 0);
        let filled = self.read_some(buffer, offset)?;
        let len = u32_at(buffer, 0) as usize;
        if filled < RECORD_HEAD || u64::from(offset) + len as u64 > self.size {
            return Err(self.damaged(offset, "no record is here"));
        }
        let whole = RECORD_HEAD + len;
        if whole > filled {
            buffer.resize(whole, 0);
            self.read_some(&mut buffer[filled..], offset + filled as u32)?;
        }
        if u32_at(buffer, 4) != self.header.crc(offset, &buffer[RECORD_HEAD..whole]) {
            return Err(self.damaged(offset, "the record's checksum is wrong"));
        }
        Ok(whole)
    }

    fn read_some(&self, buffer: &mut [u8], offset: u32) -> Result<usize, LedgerError> {
        let read = self.file.read_at(buffer, u64::from(offset));
        read.map_err(|error| unread(&self.path, &error))
    }

    /// An error with the position.
    pub(super) fn damaged(&self, offset: u32, what: &str) -> LedgerError {
        LedgerError::Corrupt(format!("{}: {what} (offset {offset})", self.path.display()))
    }

    /// Walks through all whole frames.
    pub(super) fn scan(&self, visit: Visit<'_>) -> Result<Scan, LedgerError> {
        let mut frames = self.frames(Scan::start(&self.header));
        while frames.next(visit)? {}
        let mut scan = frames.scan();
        if self.header.next_seq > 0 {
            scan.next_seq = self.header.next_seq;
        }
        Ok(scan)
    }

    /// The whole frames from `scan` on.
    pub(super) fn frames(&self, scan: Scan) -> Frames<'_> {
        Frames { window: Window::new(self), scan }
    }

    /// Whether the frames from `from` on, where one begins, are still those of `scan`.
    pub(super) fn is_as_scanned(&self, from: u32, scan: Scan) -> Result<bool, LedgerError> {
        let mut window = Window::new(self);
        let Some(head) = window.frame_head(from)? else { return Ok(from == scan.end) };
        let first = Scan { end: from, next_seq: head.seq, records: 0 };
        let mut frames = Frames { window, scan: first };
        while frames.next(&mut |_, _| Ok(()))? {}
        let found = frames.scan();
        // A rewritten segment counts for more frames than it holds.
        let is_rewritten = self.header.next_seq > 0;
        Ok(found.end == scan.end && (is_rewritten || found.next_seq == scan.next_seq))
    }

    /// The end after the last intact frame.
    pub(super) fn rest(&self, scan: Scan) -> Result<Rest, LedgerError> {
        let mut window = Window::new(self);
        let mut until = None;
        let mut offset = scan.end;
        while let Some(bytes) = window.get(offset, ALIGN)? {
            if bytes.iter().any(|byte| *byte != 0) {
                until = Some(offset + ALIGN as u32);
                if offset > scan.end && window.frame_head(offset)?.is_some() {
                    return Ok(Rest::Damaged { whole_at: offset });
                }
            }
            offset += ALIGN as u32;
        }
        Ok(until.map_or(Rest::Clean, |until| Rest::Torn { until }))
    }

    /// Writes the same bytes again from `from` to `until`, without a sync.
    pub(super) fn write_again(&self, from: u32, until: u32) -> std::io::Result<()> {
        let (mut at, until) = (u64::from(from), u64::from(until));
        let mut bytes = Vec::new();
        while at < until {
            bytes.resize((until - at).min(WINDOW as u64) as usize, 0);
            let filled = self.file.read_at(&mut bytes, at)?;
            if filled < bytes.len() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.file.write_at(&bytes, at)?;
            at += filled as u64;
        }
        Ok(())
    }

    /// Overwrites a torn frame with zeros, so no part of it is ever read as a frame.
    pub(super) fn cut(&self, scan: Scan, until: u32) -> Result<(), LedgerError> {
        let zeros = vec![0; (until - scan.end) as usize];
        let written = self.file.write_at(&zeros, u64::from(scan.end));
        written
            .and_then(|()| self.file.sync_data())
            .map_err(|error| failed(&self.path, "cut the torn end of", &error))
    }
}

fn frame_size(head: FrameHead) -> u32 {
    (FRAME_HEAD + head.len as usize).next_multiple_of(ALIGN) as u32
}

/// An error of the file system; reading or opening changed nothing.
pub(super) fn failed(path: &Path, what: &str, error: &std::io::Error) -> LedgerError {
    LedgerError::Unavailable(format!("could not {what} {}: {error}", path.display()))
}

/// An error while reading a required file. A read error of the disk is damage; a lack of memory or
/// file handles is not.
fn unread(path: &Path, error: &std::io::Error) -> LedgerError {
    let lost = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    match lost || error.kind() == std::io::ErrorKind::NotFound {
        true => LedgerError::Corrupt(format!("{}: could not be read: {error}", path.display())),
        false => failed(path, "read", error),
    }
}

/// The frames of a segment, one after the other.
pub(super) struct Frames<'s> {
    window: Window<'s>,
    scan: Scan,
}

impl Frames<'_> {
    /// The end of the frames read so far.
    pub(super) fn scan(&self) -> Scan {
        self.scan
    }

    /// Visits the records of the next frame; `false` if no intact one follows.
    pub(super) fn next(&mut self, visit: Visit<'_>) -> Result<bool, LedgerError> {
        let (segment, window, scan) = (self.window.segment, &mut self.window, &mut self.scan);
        let Some(head) = window.frame_head(scan.end)? else { return Ok(false) };
        if head.seq != scan.next_seq || !window.is_whole(scan.end, head)? {
            return Ok(false);
        }
        let mut offset = scan.end + FRAME_HEAD as u32;
        for _ in 0..head.count {
            let vanished = || segment.damaged(offset, "a record vanished while it was read");
            let payload = window.record(offset)?.ok_or_else(vanished)?;
            let size = (RECORD_HEAD + payload.len()) as u32;
            visit(offset, &segment.unsealed(offset, payload)?)?;
            offset += size;
        }
        scan.end += frame_size(head);
        scan.next_seq += 1;
        scan.records += u64::from(head.count);
        Ok(true)
    }
}

/// Reads a segment from front to back in large steps.
struct Window<'s> {
    segment: &'s Segment,
    start: u32,
    bytes: Vec<u8>,
}

impl<'s> Window<'s> {
    fn new(segment: &'s Segment) -> Self {
        Self { segment, start: 0, bytes: Vec::new() }
    }

    /// `len` bytes at `offset`; `None` if the file is too short.
    fn get(&mut self, offset: u32, len: usize) -> Result<Option<&[u8]>, LedgerError> {
        if u64::from(offset) + len as u64 > self.segment.size {
            return Ok(None);
        }
        let inside =
            offset >= self.start && (offset - self.start) as usize + len <= self.bytes.len();
        if !inside {
            self.bytes.resize(WINDOW.max(len), 0);
            let filled = self.segment.read_some(&mut self.bytes, offset)?;
            self.bytes.truncate(filled);
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        Ok(self.bytes.get(from..from + len))
    }

    /// The head of a frame that begins at `offset`, if one does.
    fn frame_head(&mut self, offset: u32) -> Result<Option<FrameHead>, LedgerError> {
        let header = self.segment.header;
        Ok(self.get(offset, FRAME_HEAD)?.and_then(|bytes| {
            let fits =
                u32_at(bytes, 20) == MARK && u32_at(bytes, 16) == header.crc(offset, &bytes[..16]);
            fits.then(|| FrameHead {
                len: u32_at(bytes, 0),
                count: u32_at(bytes, 4),
                seq: u64_at(bytes, 8),
            })
        }))
    }

    /// Whether all records of a frame are complete.
    fn is_whole(&mut self, start: u32, head: FrameHead) -> Result<bool, LedgerError> {
        let first = start + FRAME_HEAD as u32;
        if self.get(first, head.len as usize)?.is_none() {
            return Ok(false);
        }
        let mut offset = first;
        for _ in 0..head.count {
            match self.record(offset)? {
                Some(payload) => offset += (RECORD_HEAD + payload.len()) as u32,
                None => return Ok(false),
            }
        }
        Ok(offset - first == head.len)
    }

    /// The payload at `offset`, if its checksum is right.
    fn record(&mut self, offset: u32) -> Result<Option<&[u8]>, LedgerError> {
        let Some(head) = self.get(offset, RECORD_HEAD)? else { return Ok(None) };
        let (len, crc) = (u32_at(head, 0) as usize, u32_at(head, 4));
        let header = self.segment.header;
        let whole = self.get(offset, RECORD_HEAD + len)?;
        let payload = whole.map(|bytes| &bytes[RECORD_HEAD..]);
        Ok(payload.filter(|payload| header.crc(offset, payload) == crc))
    }
}
