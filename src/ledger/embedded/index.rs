//! The index: sled databases with the tables of closed segments, one per period of segments
//! (`databases`).
//!
//! It is only a cache: it can be discarded and rebuilt from the journal. Each segment's tables are
//! cut into sorted blocks of a few kB and put once. Their summary is written only after the blocks
//! are flushed **and** synced, because sled's flush alone is not a barrier. If the blocks do not match
//! the summary, they are rebuilt from the segment. sled may panic on a damaged database: every call
//! is caught, and a database that is found damaged when it is opened is removed. After a failed write
//! sled refuses every later one: that database is closed and opened again, and what it has lost is
//! written again (`indexer`). Until then its missing blocks are not lost, and reads of them fail.
//!
//! The keys of each segment are in a plain file beside the database too (`key_file`), which a start
//! reads.
//!
//! One thread writes at a time (`Core::indexing`), with the blocking `flush`. No transactions; no ranges are deleted.

mod databases;
mod key_file;
mod meta;
mod pack;
mod period;

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(super) use self::databases::Index;
pub(super) use self::key_file::{KeyFile, PARTS};
use self::meta::Meta;
use self::pack::{
    BLOCK, DeliveryEntry, lookups, put_deliveries, put_documents, put_events, put_keys,
    put_lookups, put_nonces, put_notes, short, take_deliveries, take_documents, take_events,
    take_keys, take_lookups, take_nonces, take_notes,
};
use self::period::Period;
use super::files::Files;
use super::keys::Sorted;
use super::segment::{Scan, Segment};
use super::tables::{By, EventRow, KeyAt, Tables};
use crate::clock::{UnixMillis, instant};
use crate::ledger::codec::DecodeError;
use crate::ledger::{EventId, LedgerError};

/// Blocks that are put without a rest.
const STEP: usize = 32;

/// The tables of a segment; the number is the first byte of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Meta = 1,
    Keys = 2,
    Events = 3,
    Transactions = 4,
    Users = 5,
    Notes = 6,
    Nonces = 7,
    Deliveries = 8,
    Documents = 9,
}

fn broken(what: &str) -> LedgerError {
    LedgerError::Corrupt(format!("the index {what}; it is rebuilt at the next start"))
}

/// An error of the file system below the index. A disk that takes no more writes damages nothing.
fn io_failed(error: &io::Error) -> LedgerError {
    match error.kind() {
        // sled keeps the kind of an error, and not its text.
        kind @ (ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::ReadOnlyFilesystem) => {
            LedgerError::Unavailable(format!("the index could not be written: {kind}"))
        }
        _ => broken(&format!("failed: {error}")),
    }
}

/// Calls sled, which may panic on unexpected data.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, LedgerError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(io_failed(&error)),
        Ok(Err(error)) => Err(broken(&format!("failed: {error}"))),
        Err(_) => Err(broken("panicked")),
    }
}

/// A segment in one of its forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    number: u32,
    generation: u32,
}

impl Form {
    fn of(segment: &Segment) -> Self {
        Self { number: segment.header.number, generation: segment.header.generation }
    }

    /// Keys sort by segment first: later blocks come after all earlier ones.
    fn key(self, table: Table, block: usize) -> [u8; KEY_LEN] {
        let mut key = [table as u8; KEY_LEN];
        key[..4].copy_from_slice(&self.number.to_be_bytes());
        key[4..8].copy_from_slice(&self.generation.to_be_bytes());
        key[9..].copy_from_slice(&(block as u32).to_be_bytes());
        key
    }
}

const KEY_LEN: usize = 13;
/// Bytes of a key that all blocks of a table share.
const PREFIX: usize = 9;
/// Bytes of a key that all blocks of a segment's form share.
const OF_FORM: usize = 8;

// === Blocks ===

impl Period {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), LedgerError> {
        self.call(|db| db.insert(key, value)).map(|_| ())
    }

    /// Removes all blocks of a segment's form, the summary first. There may be gaps between them.
    fn forget(&self, form: Form) -> Result<(), LedgerError> {
        let summary = form.key(Table::Meta, 0);
        self.with(|database| {
            let mut found = guarded(|| Ok(database.db.scan_prefix(&summary[..OF_FORM]).keys()))?;
            while let Some(key) = guarded(|| found.next().transpose())? {
                guarded(|| database.db.remove(key))?;
            }
            Ok(())
        })
    }

    /// The same; no crash leaves the summary without its blocks.
    fn clear(&self, form: Form) -> Result<(), LedgerError> {
        if self.call(|db| db.remove(form.key(Table::Meta, 0)))?.is_some() {
            self.settle()?;
        }
        self.forget(form)
    }

    fn block(&self, table: Table, form: Form, block: usize) -> Result<sled::IVec, LedgerError> {
        let seen = self.failures();
        match self.call(|db| db.get(form.key(table, block)))?.filter(|found| !found.is_empty()) {
            Some(found) => Ok(found),
            None => Err(self.lost(form, "has lost a block", seen)),
        }
    }

    /// Removes the summary: the segment is read again at the next start. A database that was written
    /// again since its failures were `seen`, or is to be, has lost nothing.
    fn lost(&self, form: Form, what: &str, seen: u64) -> LedgerError {
        let removed = self.with(|database| {
            // Nothing replaces the database meanwhile.
            self.check_sound(seen)?;
            guarded(|| database.db.remove(form.key(Table::Meta, 0)))
        });
        match removed {
            Ok(_) => broken(what),
            Err(error) => error,
        }
    }
}

// === Writing ===

/// The blocks of a segment's form, by their keys.
struct Blocks {
    form: Form,
    blocks: Vec<([u8; KEY_LEN], Vec<u8>)>,
}

impl Blocks {
    /// Adds a table, cut into blocks that `put` writes.
    fn add<T>(&mut self, table: Table, entries: &[T], put: impl Fn(&mut Vec<u8>, &[T])) {
        for (at, some) in entries.chunks(BLOCK).enumerate() {
            let mut block = Vec::new();
            put(&mut block, some);
            self.blocks.push((self.form.key(table, at), block));
        }
    }
}

impl Period {
    /// Writes the tables of a segment. They count only after this has returned.
    pub(super) fn write(
        self: &Arc<Self>,
        segment: &Arc<Segment>,
        tables: &Tables,
        scan: Scan,
        rest: &dyn Fn(Duration),
    ) -> Result<IndexedRun, LedgerError> {
        let form = Form::of(segment);
        KeyFile::remove(self.dir(), &segment.header);
        // A write that failed may have left more blocks than this one has.
        self.clear(form)?;
        let mut meta = Meta::new(segment, tables, scan);
        let transactions = lookups(&tables.events, By::Transaction);
        let users = lookups(&tables.events, By::User);
        meta.lookups = transactions.len() as u32;
        meta.users = users.len() as u32;
        meta.transactions = transactions.iter().step_by(BLOCK).map(|entry| entry.0).collect();
        meta.user_fences = users.iter().step_by(BLOCK).map(|entry| entry.0).collect();
        let deliveries: Vec<DeliveryEntry> =
            tables.deliveries.iter().map(|(key, row)| (key.clone(), *row)).collect();
        let mut blocks = Blocks { form, blocks: Vec::new() };
        blocks.add(Table::Keys, &tables.keys, put_keys);
        blocks.add(Table::Events, &tables.events, put_events);
        blocks.add(Table::Transactions, &transactions, put_lookups);
        blocks.add(Table::Users, &users, put_lookups);
        blocks.add(Table::Notes, &tables.notes, put_notes);
        blocks.add(Table::Nonces, &tables.nonces, put_nonces);
        blocks.add(Table::Deliveries, &deliveries, put_deliveries);
        blocks.add(Table::Documents, &tables.documents, put_documents);
        self.put_all(&blocks, rest)?;
        self.settle()?;
        self.put(&form.key(Table::Meta, 0), &meta.bytes())?;
        self.settle()?;
        let run = IndexedRun::new(segment, self, meta);
        // Without it, a start reads the blocks of the keys.
        let _ = run.write_keys(&Sorted::new(&segment.header, &tables.keys));
        Ok(run)
    }

    /// Puts empty values under all keys first, then the blocks. sled splits its pages as keys come
    /// and rewrites them each time. This way they are split while empty, and each block is written
    /// once: it takes 1.1 times its size on disk, not 1.8.
    fn put_all(
        &self,
        Blocks { form, blocks }: &Blocks,
        rest: &dyn Fn(Duration),
    ) -> Result<(), LedgerError> {
        self.put(&form.key(Table::Meta, 0), &[])?;
        for (key, _) in blocks {
            self.put(key, &[])?;
        }
        for some in blocks.chunks(STEP) {
            let start = instant();
            some.iter().try_for_each(|(key, block)| self.put(key, block))?;
            rest(instant().saturating_duration_since(start));
        }
        Ok(())
    }
}

// === Loading ===

impl Period {
    /// The run of exactly this segment, if its summary is there.
    pub(super) fn find(
        self: &Arc<Self>,
        segment: &Arc<Segment>,
    ) -> Result<Option<IndexedRun>, LedgerError> {
        let form = Form::of(segment);
        if let Some(generation) = form.generation.checked_sub(1) {
            // Left behind if the segment was rewritten and the cleanup failed.
            self.forget(Form { generation, ..form })?;
        }
        let Some(bytes) = self.call(|db| db.get(form.key(Table::Meta, 0)))? else {
            return Ok(None);
        };
        let header = &segment.header;
        let meta = Meta::read(&bytes)
            .ok()
            .filter(|meta| meta.salt == header.salt && meta.generation == header.generation);
        Ok(meta.map(|meta| IndexedRun::new(segment, self, meta)))
    }

    fn each_block(
        &self,
        table: Table,
        form: Form,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), DecodeError>,
    ) -> Result<(), LedgerError> {
        let first = form.key(table, 0);
        self.with(|database| {
            let mut blocks = guarded(|| Ok(database.db.scan_prefix(&first[..PREFIX])))?;
            while let Some((_, block)) = guarded(|| blocks.next().transpose())? {
                visit(&block).map_err(|_| broken("has a block of no known form"))?;
            }
            Ok(())
        })
    }
}

// === Searching ===

/// The events of one indexed segment.
pub(super) struct IndexedRun {
    pub(super) segment: Arc<Segment>,
    index: Arc<Period>,
    meta: Meta,
    /// Set when the segment was rewritten: file and blocks are removed with the last reader.
    retired: OnceLock<Arc<dyn Files>>,
}

impl Drop for IndexedRun {
    fn drop(&mut self) {
        if let Some(files) = self.retired.get() {
            // If the removal fails, the next start does it.
            let _ = files.remove(&self.segment.path);
            KeyFile::remove(self.index.dir(), &self.segment.header);
            let _ = self.index.forget(self.form());
        }
    }
}

impl IndexedRun {
    fn new(segment: &Arc<Segment>, index: &Arc<Period>, meta: Meta) -> Self {
        let (segment, index) = (Arc::clone(segment), Arc::clone(index));
        Self { segment, index, meta, retired: OnceLock::new() }
    }

    /// The keys, in order; `None` if they are not complete.
    pub(super) fn load_keys(&self) -> Result<Option<Vec<KeyAt>>, LedgerError> {
        let mut keys = Vec::with_capacity(self.meta.keys as usize);
        let visit = &mut |block: &[u8]| take_keys(block, &mut keys);
        self.index.each_block(Table::Keys, self.form(), visit)?;
        Ok((keys.len() == self.meta.keys as usize).then_some(keys))
    }

    /// The file of its keys.
    ///
    /// # Errors
    /// If there is none, or it is damaged or has other keys.
    pub(super) fn key_file(&self) -> io::Result<KeyFile> {
        let file = KeyFile::open(self.index.dir(), &self.segment.header, self.scan())?;
        match file.keys() == self.keys() {
            true => Ok(file),
            false => Err(io::Error::new(ErrorKind::InvalidData, "it has other keys")),
        }
    }

    /// Writes the file of its keys.
    pub(super) fn write_keys(&self, keys: &Sorted) -> io::Result<()> {
        KeyFile::write(self.index.dir(), &self.segment.header, self.scan(), keys).map(drop)
    }

    /// The tables that are kept in memory, but for the keys; `None` if they are not complete.
    pub(super) fn load(&self) -> Result<Option<Tables>, LedgerError> {
        let (index, form, meta) = (&self.index, self.form(), &self.meta);
        let (mut nonces, mut documents, mut deliveries) = (Vec::new(), Vec::new(), Vec::new());
        index.each_block(Table::Nonces, form, &mut |block| take_nonces(block, &mut nonces))?;
        index.each_block(Table::Documents, form, &mut |block| {
            take_documents(block, &mut documents)
        })?;
        index.each_block(Table::Deliveries, form, &mut |block| {
            take_deliveries(block, &mut deliveries)
        })?;
        let lens = [nonces.len(), documents.len(), deliveries.len()];
        let counts = [meta.nonces, meta.documents, meta.deliveries];
        if !lens.into_iter().eq(counts.into_iter().map(|count| count as usize)) {
            return Ok(None);
        }
        Ok(Some(Tables {
            nonces,
            documents,
            deliveries: deliveries.into_iter().collect(),
            newest_ms: meta.newest_ms,
            ..Tables::default()
        }))
    }

    /// Has the segment's file and blocks removed after the last reader.
    pub(super) fn retire(&self, files: &Arc<dyn Files>) {
        let _ = self.retired.set(Arc::clone(files));
    }

    /// The number of deduplication keys.
    pub(super) fn keys(&self) -> usize {
        self.meta.keys as usize
    }

    /// The number of records about deliveries.
    pub(super) fn notes_len(&self) -> usize {
        self.meta.notes as usize
    }

    /// When the newest event was received.
    pub(super) fn newest_ms(&self) -> UnixMillis {
        self.meta.newest_ms
    }

    pub(super) fn len(&self) -> usize {
        self.meta.events as usize
    }

    /// The end of the segment's frames, and how they continue.
    pub(super) fn scan(&self) -> Scan {
        let Meta { end, next_seq, records, .. } = self.meta;
        Scan { end, next_seq, records }
    }

    /// The smallest id; the largest possible one if there is none.
    pub(super) fn oldest(&self) -> EventId {
        self.meta.ids.first().copied().unwrap_or(EventId::from_bytes([0xff; 16]))
    }

    /// The largest id; the smallest possible one if there is none.
    pub(super) fn newest(&self) -> EventId {
        self.meta.last.unwrap_or(EventId::from_bytes([0; 16]))
    }

    /// Whether it has exactly the events of `tables`.
    pub(super) fn has(&self, tables: &Tables) -> Result<bool, LedgerError> {
        let mut block = None;
        for (at, full) in tables.events.iter().enumerate() {
            if at >= self.len() || self.row(at, &mut block)? != full.row {
                return Ok(false);
            }
        }
        Ok(self.len() == tables.events.len() && self.notes_len() == tables.notes.len())
    }

    /// Reads every block, and returns their size in bytes.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] if a block is missing, is unreadable, or has another number of
    /// entries than were put; [`LedgerError::Unavailable`] while its database is written again.
    pub(super) fn verify(&self) -> Result<u64, LedgerError> {
        let (meta, seen) = (&self.meta, self.index.failures());
        self.index.check_sound(seen)?;
        let lost = |what| self.index.lost(self.form(), what, seen);
        let mut bytes = 0;
        let mut count = |table, blocks, wanted: u32, len: &dyn Fn(&[u8]) -> Option<usize>| {
            let mut entries = 0;
            for block in 0..blocks {
                let found = self.index.block(table, self.form(), block)?;
                bytes += found.len() as u64;
                entries += len(&found).ok_or_else(|| lost("has a block of no known form"))?;
            }
            match entries == wanted as usize {
                true => Ok(()),
                false => Err(lost("has lost entries")),
            }
        };
        let rows = |block: &[u8]| take_events(block).ok().map(|rows| rows.len());
        let lookups = |block: &[u8]| take_lookups(block).ok().map(|found| found.len());
        let notes = |block: &[u8]| take_notes(block).ok().map(|notes| notes.len());
        count(Table::Events, meta.ids.len(), meta.events, &rows)?;
        count(Table::Transactions, meta.transactions.len(), meta.lookups, &lookups)?;
        count(Table::Users, meta.user_fences.len(), meta.users, &lookups)?;
        count(Table::Notes, meta.note_fences.len(), meta.notes, &notes)?;
        match (self.load()?, self.load_keys()?) {
            (Some(_), Some(keys)) => Ok(bytes + self.verify_key_file(&keys)?),
            _ => Err(lost("has lost entries")),
        }
    }

    /// Compares the file of its keys, if there is one, and returns its size.
    fn verify_key_file(&self, keys: &[KeyAt]) -> Result<u64, LedgerError> {
        let read = self.key_file().and_then(|file| {
            let is_same = file.has(keys)?;
            let other = || io::Error::new(ErrorKind::InvalidData, "it has other keys");
            is_same.then_some(file.size()).ok_or_else(other)
        });
        match read {
            Ok(bytes) => Ok(bytes),
            Err(error) => match error.kind() {
                ErrorKind::NotFound => Ok(0),
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                    KeyFile::remove(self.index.dir(), &self.segment.header);
                    Err(broken(&format!("had a damaged file of keys ({error})")))
                }
                _ => Err(broken(&format!("has a file of keys that could not be read ({error})"))),
            },
        }
    }

    fn form(&self) -> Form {
        Form::of(&self.segment)
    }

    /// A row by its number; `read` keeps the last block.
    pub(super) fn row(&self, at: usize, read: &mut Option<Rows>) -> Result<EventRow, LedgerError> {
        let row = self.block(at / BLOCK, read)?.get(at % BLOCK);
        row.copied().ok_or_else(|| broken("has a short block"))
    }

    /// The event with that id. `read` is the block that was read last.
    pub(super) fn find(
        &self,
        id: EventId,
        read: &mut Option<Rows>,
    ) -> Result<Option<EventRow>, LedgerError> {
        if id < self.oldest() || id > self.newest() {
            return Ok(None);
        }
        let blocks = self.meta.ids.partition_point(|first| *first <= id);
        let Some(number) = blocks.checked_sub(1) else { return Ok(None) };
        let rows = self.block(number, read)?;
        let at = rows.binary_search_by_key(&id, |row| row.id).ok();
        Ok(at.and_then(|at| rows.get(at)).copied())
    }

    fn block<'r>(
        &self,
        number: usize,
        read: &'r mut Option<Rows>,
    ) -> Result<&'r [EventRow], LedgerError> {
        if read.as_ref().is_none_or(|block| block.number != number) {
            *read = Some(Rows { number, rows: self.rows(number)? });
        }
        Ok(read.as_ref().map_or(&[], |block| &block.rows))
    }

    fn rows(&self, block: usize) -> Result<Vec<EventRow>, LedgerError> {
        self.entries(Table::Events, block, take_events)
    }

    fn entries<T>(
        &self,
        table: Table,
        block: usize,
        take: impl Fn(&[u8]) -> Result<Vec<T>, DecodeError>,
    ) -> Result<Vec<T>, LedgerError> {
        let seen = self.index.failures();
        let bytes = self.index.block(table, self.form(), block)?;
        take(&bytes).map_err(|_| self.index.lost(self.form(), "has a block of no known form", seen))
    }

    /// The number of rows with a smaller id.
    pub(super) fn lower(&self, id: EventId) -> Result<usize, LedgerError> {
        let blocks = self.meta.ids.partition_point(|first| *first < id);
        let Some(block) = blocks.checked_sub(1) else { return Ok(0) };
        let rows = self.rows(block)?;
        Ok(block * BLOCK + rows.partition_point(|row| row.id < id))
    }

    /// Events that may have that hash.
    pub(super) fn find_by(&self, by: By, hash: u32) -> Result<Vec<EventRow>, LedgerError> {
        let (table, fences) = match by {
            By::Transaction => (Table::Transactions, &self.meta.transactions),
            By::User => (Table::Users, &self.meta.user_fences),
        };
        let wanted = short(hash);
        let mut rows = Vec::new();
        let mut read = None;
        for at in blocks_of(fences, &wanted) {
            for (hash, row) in self.entries(table, at, take_lookups)? {
                if hash == wanted {
                    rows.push(self.row(row as usize, &mut read)?);
                }
            }
        }
        Ok(rows)
    }

    /// The possible positions of records about an event's deliveries.
    pub(super) fn notes(&self, half: u64) -> Result<Vec<u32>, LedgerError> {
        let mut offsets = Vec::new();
        for at in blocks_of(&self.meta.note_fences, &half) {
            let notes = self.entries(Table::Notes, at, take_notes)?;
            offsets.extend(notes.iter().filter(|note| note.event == half).map(|note| note.offset));
        }
        Ok(offsets)
    }
}

/// The block of rows that was read last.
pub(super) struct Rows {
    number: usize,
    rows: Vec<EventRow>,
}

/// The blocks that may contain `wanted`, given the first entry of each.
fn blocks_of<T: Ord>(fences: &[T], wanted: &T) -> std::ops::Range<usize> {
    let first = fences.partition_point(|fence| fence < wanted).saturating_sub(1);
    first..fences.partition_point(|fence| fence <= wanted)
}
