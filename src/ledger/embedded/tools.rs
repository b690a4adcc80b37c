//! Offline tools: verify, salvage, rebuild the index, change the master key.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use super::core::{index_dir, journal_dir};
use super::damage::{REMEDY, with_remedy};
use super::deliveries::{Row, after};
use super::documents::{DocumentTable, Written};
use super::export::{done, new_event, past};
use super::files::{Disk, Files};
use super::index::Index;
use super::indexer::Job;
use super::journal::parse_name;
use super::lock::{DiskAccess, Lock};
use super::manifest::{self, Content};
use super::open::NextSegment;
use super::open_files::OpenFiles;
use super::record::{EventRecord, Record};
use super::segment::survey::{End, Found};
use super::segment::{Segment, failed};
use super::sweep::ask;
use super::tables::Tables;
use super::{Call, Embedded, EmbeddedOptions};
use crate::clock::UnixMillis;
use crate::ledger::{
    Damage, Delivery, DeliveryState, EventId, HeldId, Item, LedgerError, Nonce, TargetId,
};

/// The findings in a ledger's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Segments of the journal.
    pub segments: u64,
    /// Intact records, and the events among them.
    pub records: u64,
    /// Intact events.
    pub events: u64,
    /// Damage and its place.
    pub damage: Vec<Damage>,
    /// Notes that need no repair: the next start handles them.
    pub remarks: Vec<String>,
}

/// The behavior of [`Embedded::rebuild`] if segments are missing at the start or the end of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Fail.
    Refuse,
    /// Continue without them: their events and keys are lost.
    Accept,
}

/// The allowed bytes after the last frame of a segment.
#[derive(Clone, Copy)]
enum Tail {
    /// Only zeros: the segment is closed.
    Closed,
    /// A commit that a crash tore, after the end in the manifest.
    Open { written: u32 },
}

/// The approximate size of a page of items, in bytes.
const PAGE: usize = 1 << 20;

impl Embedded {
    /// Reads the whole journal and the index, and reports damage. Does not change the journal.
    ///
    /// # Errors
    /// If another process uses the ledger, the disk fails, or a key is missing.
    pub fn verify(options: &EmbeddedOptions) -> Result<Survey, LedgerError> {
        let files: Arc<dyn Files> = Arc::new(Disk);
        let lock = Lock::take_to_read(&options.path)?;
        let mut survey = Survey::default();
        let segments = list(&files, &options.path)?;
        let known = survey.manifest(&files, &options.path, &segments)?;
        let index = survey.index(&lock, index_dir(&options.path));
        let last = segments.keys().next_back().copied();
        let mut next = None;
        for (number, path) in &segments {
            survey.segments += 1;
            let segment = match Segment::open(&files, &options.keys, path) {
                Ok(segment) => Arc::new(segment),
                Err(LedgerError::Corrupt(what)) => {
                    survey.damaged(path, 0..length(path), &what);
                    next = None;
                    continue;
                }
                Err(error) => return Err(error),
            };
            survey.follows(&segment, *number, next);
            let before = survey.damage.len();
            let end = survey.look_at(&segment, tail(*number, last, known))?;
            // No start makes the index of a damaged segment again.
            let is_whole = survey.damage.len() == before;
            if let Some(index) = index.as_ref().filter(|_| is_whole)
                && Some(*number) != last
            {
                survey.compare(index, &segment)?;
            }
            next = Some(NextSegment { number: number + 1, first_seq: end.next_seq });
        }
        survey.remarks.extend(index.iter().flat_map(Index::notices));
        Ok(survey)
    }

    /// Returns everything readable of a journal, page by page, and reports damage. Omits attempts.
    /// Changes nothing.
    ///
    /// # Errors
    /// If another process uses the ledger, the disk fails, a key is missing, or `take` fails.
    pub fn salvage<E: From<LedgerError>>(
        options: &EmbeddedOptions,
        take: &mut dyn FnMut(&[Item]) -> Result<(), E>,
    ) -> Result<Survey, E> {
        let files: Arc<dyn Files> = Arc::new(Disk);
        let open_files = OpenFiles::new(Arc::clone(&files));
        let _lock = Lock::take_to_read(&options.path)?;
        let mut survey = Survey::default();
        let mut segments = Vec::new();
        let paths = list(&files, &options.path)?;
        let known = survey.manifest(&files, &options.path, &paths)?;
        let last = paths.keys().next_back().copied();
        for path in paths.values() {
            survey.segments += 1;
            match Segment::open_damaged(&files, &options.keys, path) {
                Ok((segment, what)) => {
                    if !what.is_empty() {
                        survey.damaged(path, 0..super::segment::HEADER, &what);
                    }
                    segments.push(Segment::at_rest(&open_files, &segment));
                }
                Err(error @ LedgerError::Sealed(_)) => return Err(error.into()),
                Err(error) => survey.damaged(path, 0..length(path), &error.to_string()),
            }
        }
        let mut salvage = Salvage::default();
        for segment in &segments {
            let tail = tail(segment.header.number, last, known);
            survey.salvage(segment, tail, &mut |_, record| {
                salvage.learn(record);
            })?;
        }
        let mut page = Page::default();
        for document in salvage.documents() {
            page.add(document, take)?;
        }
        let now = options.clock.earlier_ms();
        for segment in &segments {
            let mut taken = Ok(());
            Survey::default().salvage(segment, Tail::Closed, &mut |_, record| {
                if let Some(item) = salvage.item(record, now).filter(|_| taken.is_ok()) {
                    taken = page.add(item, take);
                }
            })?;
            taken?;
        }
        take(&page.items)?;
        Ok(survey)
    }

    /// Discards the index and rebuilds it from the journal; returns its number of segments. The
    /// journal is read first: an index of unreadable segments could not be rebuilt.
    ///
    /// # Errors
    /// As [`Embedded::open`]. Then the index is unchanged.
    pub fn rebuild(options: EmbeddedOptions, missing: Missing) -> Result<u64, LedgerError> {
        {
            let files: Arc<dyn Files> = Arc::new(Disk);
            let _lock = Lock::take(&options.path)?;
            let segments = list(&files, &options.path)?;
            if segments.is_empty() {
                let dir = journal_dir(&options.path);
                let dir = dir.display();
                let what = format!("{dir}: there is no segment; mount the volume, or {REMEDY}");
                return Err(LedgerError::Corrupt(what));
            }
            check_journal(&files, &options, &segments)?;
            check_gaps(&segments)?;
            let manifest = manifest::path(&options.path);
            if missing == Missing::Accept && manifest.is_file() {
                // The next start creates a manifest of the existing segments.
                files.remove(&manifest).map_err(|error| failed(&manifest, "remove", &error))?;
            } else if let Some(found) = manifest::read(&*files, &options.path)? {
                let journal = journal_dir(&options.path);
                found.content.check(&journal, |number| segments.contains_key(&number))?;
            }
            Index::remove(&index_dir(&options.path))?;
        }
        let ledger = Self::open(options)?;
        ledger.wait_until_indexed()?;
        Ok(ledger.core().all_runs().len() as u64)
    }

    /// Seals everything with the keyring's current key, or unseals it without one, and returns the
    /// number of segments; `progress` is called with the number done and the total. If interrupted,
    /// some segments have the one key and some the other; a repeated call continues.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn rekey(
        options: EmbeddedOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<u64, LedgerError> {
        let ledger = Self::open(options)?;
        let Some(calls) = &ledger.shared.calls else { return Ok(0) };
        ask(calls, Call::Roll)?;
        ledger.wait_until_indexed()?;
        let key = ledger.core().options.keys.current().map(crate::ledger::MasterKey::id);
        let runs = ledger.core().all_runs();
        let others = runs.iter().filter(|run| run.segment().header.key != key).count();
        drop(runs);
        ledger.core().reseal(calls, progress)?;
        Ok(others as u64)
    }

    /// Waits until every segment that is closed now is in the index. Those whose index has failed are
    /// retried at once.
    ///
    /// # Errors
    /// Of one that cannot be indexed.
    pub(super) fn wait_until_indexed(&self) -> Result<(), LedgerError> {
        self.core().poison.check()?;
        let (answer, answered) = mpsc::channel();
        if let Some(jobs) = &self.shared.jobs
            && jobs.send(Job::Retry(answer)).is_ok()
            && let Ok(indexed) = answered.recv()
        {
            return indexed;
        }
        // It ended during the call: with a panic, which is recorded only after this.
        Err(self.core().poison.set("the indexer has ended".into()))
    }
}

/// Checks that every closed segment is complete. Opening reports on the last one.
fn check_journal(
    files: &Arc<dyn Files>,
    options: &EmbeddedOptions,
    segments: &BTreeMap<u32, PathBuf>,
) -> Result<(), LedgerError> {
    let last = segments.keys().next_back();
    for (number, path) in segments {
        let segment = Segment::open(files, &options.keys, path)?;
        let scan = segment.scan(&mut |_, _| Ok(()))?;
        if Some(number) != last {
            segment.check_complete(scan).map_err(with_remedy)?;
        }
    }
    Ok(())
}

/// Checks that no segment is missing in between: no start goes on over a gap.
fn check_gaps(segments: &BTreeMap<u32, PathBuf>) -> Result<(), LedgerError> {
    for ((before, _), (number, path)) in segments.iter().zip(segments.iter().skip(1)) {
        let expected = before.saturating_add(1);
        if *number != expected {
            let path = path.display();
            let what = format!("segment {expected} is missing before {path}; {REMEDY}");
            return Err(LedgerError::Corrupt(what));
        }
    }
    Ok(())
}

/// The allowed bytes after the frames of segment `number`.
fn tail(number: u32, last: Option<u32>, known: Option<Content>) -> Tail {
    match Some(number) == last {
        true => {
            let known = known.filter(|known| known.segment == number);
            Tail::Open { written: known.map_or(0, |known| known.end) }
        }
        false => Tail::Closed,
    }
}

/// The size of a file, for operators.
fn length(path: &Path) -> u32 {
    std::fs::metadata(path).map_or(0, |found| u32::try_from(found.len()).unwrap_or(u32::MAX))
}

/// The newest form of each segment, by number.
fn list(files: &Arc<dyn Files>, path: &Path) -> Result<BTreeMap<u32, PathBuf>, LedgerError> {
    let dir = journal_dir(path);
    let mut newest: BTreeMap<u32, (u32, PathBuf)> = BTreeMap::new();
    if !dir.is_dir() {
        return Ok(BTreeMap::new());
    }
    for path in files.list(&dir).map_err(|error| failed(&dir, "list", &error))? {
        if let Some((number, generation)) = parse_name(&path) {
            let known = newest.get(&number).map(|(known, _)| *known);
            if known.is_none_or(|known| known < generation) {
                newest.insert(number, (generation, path));
            }
        }
    }
    Ok(newest.into_iter().map(|(number, (_, path))| (number, path)).collect())
}

// === Looking ===

impl Survey {
    /// Whether everything is readable.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty()
    }

    fn remark(&mut self, what: String) {
        self.remarks.push(what);
    }

    fn damaged(&mut self, path: &Path, bytes: std::ops::Range<u32>, what: &str) {
        let (path, what) = (path.to_owned(), what.to_owned());
        self.damage.push(Damage { path, from: bytes.start.into(), until: bytes.end.into(), what });
    }

    /// The index in `dir`, if it can be compared.
    fn index(&mut self, lock: &Lock, dir: PathBuf) -> Option<Index> {
        if !dir.is_dir() {
            self.remark("there is no index; it is rebuilt at the next start".to_owned());
        } else if lock.disk() == DiskAccess::Read {
            // A database writes when it is opened.
            self.remark("the index is not compared: the file system is read-only".to_owned());
        } else {
            return Some(Index::new(dir));
        }
        None
    }

    /// Checks that neither segment numbers nor frame sequences have gaps.
    fn follows(&mut self, segment: &Segment, number: u32, next: Option<NextSegment>) {
        let header = &segment.header;
        if header.number != number {
            self.damaged(&segment.path, 0..0, "the file has another segment's name");
        }
        match next {
            Some(NextSegment { number: expected, .. }) if expected != number => {
                let what = format!("segment {expected} is missing before it");
                self.damaged(&segment.path, 0..0, &what);
            }
            Some(NextSegment { first_seq: seq, .. }) if seq != header.first_seq => {
                let first = header.first_seq;
                let what = format!("it begins with frame {first}, but frame {seq} is the next");
                self.damaged(&segment.path, 0..0, &what);
            }
            _ => {}
        }
    }

    /// Compares the manifest with the existing segments, and returns its content.
    fn manifest(
        &mut self,
        files: &Arc<dyn Files>,
        path: &Path,
        segments: &BTreeMap<u32, PathBuf>,
    ) -> Result<Option<Content>, LedgerError> {
        let found = match manifest::read(&**files, path) {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.remark("there is no manifest; it is created at the next start".to_owned());
                return Ok(None);
            }
            Err(LedgerError::Corrupt(what)) => {
                self.damaged(&manifest::path(path), 0..0, &what);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if found.half {
            let what =
                "one of two copies of the manifest is broken; it is written at the next start";
            self.remark(what.to_owned());
        }
        let missing = found.content.missing(|number| segments.contains_key(&number));
        // Missing ones in between are reported where the segments are read.
        let between = |range: &RangeInclusive<u32>| {
            let (first, last) = (segments.keys().next(), segments.keys().next_back());
            first.is_some_and(|first| first < range.start())
                && last.is_some_and(|last| last > range.end())
        };
        for range in missing.iter().filter(|range| !between(range)) {
            let what =
                format!("segments are missing: {}", manifest::name(std::slice::from_ref(range)));
            self.damaged(&journal_dir(path), 0..0, &what);
        }
        Ok(Some(found.content))
    }

    fn look_at(&mut self, segment: &Segment, tail: Tail) -> Result<End, LedgerError> {
        self.salvage(segment, tail, &mut |_, _| ())
    }

    /// Visits every intact record, and records damage.
    fn salvage(
        &mut self,
        segment: &Segment,
        tail: Tail,
        visit: &mut dyn FnMut(u32, &Record<'_>),
    ) -> Result<End, LedgerError> {
        let path = &segment.path;
        let end = segment.survey(&mut |found| {
            match found {
                Found::Broken { from, until, what } => self.damaged(path, from..until, what),
                Found::Record { offset, payload } => match Record::read(payload) {
                    Ok(record) => {
                        self.records += 1;
                        self.events += u64::from(matches!(record, Record::Event(_)));
                        visit(offset, &record);
                    }
                    Err(_) => {
                        let until = offset.saturating_add(payload.len() as u32);
                        self.damaged(path, offset..until, "the record is of no known form");
                    }
                },
            }
            Ok(())
        })?;
        if end.torn_until > end.end {
            let (from, until) = (end.end, end.torn_until);
            match tail {
                Tail::Open { written } if segment.header.generation == 0 && from >= written => {
                    self.remark(format!(
                        "{}: a torn commit at offset {from} ({} bytes), which was not \
                         acknowledged, is cut at the next start",
                        path.display(),
                        until - from
                    ));
                }
                _ => self.damaged(path, from..until, "no frame begins here"),
            }
        } else if u64::from(end.end) > segment.size {
            self.damaged(path, segment.size as u32..end.end, "the file is too short");
        }
        if let Tail::Open { written } = tail
            && end.torn_until <= end.end
            && end.end < written
        {
            self.damaged(path, end.end..written, "frames are missing at the end");
        }
        Ok(end)
    }

    /// Checks the index of a segment against the segment.
    fn compare(&mut self, index: &Index, segment: &Arc<Segment>) -> Result<(), LedgerError> {
        let (tables, _) = Tables::read(segment)?;
        let same = match index.find(segment) {
            Ok(Some(run)) => {
                matches!(run.load(), Ok(Some(loaded)) if loaded.is_part_of(&tables))
                    && matches!(run.load_keys(), Ok(Some(keys)) if keys == tables.keys)
                    && match run.key_file() {
                        Ok(file) => file.has(&tables.keys).unwrap_or(false),
                        // An earlier version writes none.
                        Err(error) => error.kind() == ErrorKind::NotFound,
                    }
                    && run.has(&tables).unwrap_or(false)
            }
            Ok(None) | Err(_) => false,
        };
        if !same {
            self.remark(format!(
                "the index does not have segment {} as it is; it is rebuilt at the next start",
                segment.header.number
            ));
        }
        Ok(())
    }
}

// === Salvaging ===

/// Items that are handed over together.
#[derive(Default)]
struct Page {
    items: Vec<Item>,
    size: usize,
}

impl Page {
    /// Adds an item, after a full page was handed over.
    fn add<E>(
        &mut self,
        item: Item,
        take: &mut dyn FnMut(&[Item]) -> Result<(), E>,
    ) -> Result<(), E> {
        // Documents of one change share a revision, so a page has all of them.
        let revision = self.items.last().and_then(Item::revision);
        if self.size >= PAGE && (revision.is_none() || revision != item.revision()) {
            take(&std::mem::take(self).items)?;
        }
        self.size += item.size();
        self.items.push(item);
        Ok(())
    }
}

/// The combined content of the records, as far as readable.
#[derive(Default)]
struct Salvage {
    /// Unfinished deliveries.
    deliveries: BTreeMap<(EventId, TargetId), Row>,
    documents: DocumentTable,
    /// Decided held callbacks.
    decided: BTreeSet<HeldId>,
}

impl Salvage {
    fn learn(&mut self, record: &Record<'_>) {
        let mut put = |event, target: &str, row| {
            let key = (event, TargetId::from(target));
            match row {
                Some(row) => self.deliveries.insert(key, row),
                None => self.deliveries.remove(&key),
            };
        };
        match record {
            Record::Event(event) => {
                let due = Row::due(event.head.received_ms);
                event.targets.iter().for_each(|target| put(event.head.id, target, Some(due)));
            }
            Record::Attempt(one) => put(one.event, one.target, after(one.outcome, one.attempt)),
            Record::State(one) => put(one.event, one.target, after(one.outcome, one.attempt)),
            Record::Replay(replay) => {
                let due = Row::due(replay.at_ms);
                replay.targets.iter().for_each(|target| put(replay.event, target, Some(due)));
            }
            Record::Document(document) => self.documents.apply(Written::read(document)),
            Record::Mark(mark) => {
                self.decided.insert(mark.id);
            }
            Record::Nonce(_) | Record::Keys(_) | Record::Held(_) | Record::Reason(..) => {}
        }
    }

    fn documents(&self) -> Vec<Item> {
        let all = self.documents.everything().into_iter();
        all.map(|(kind, document)| Item::Document { kind, document }).collect()
    }

    fn item(&self, record: &Record<'_>, now: UnixMillis) -> Option<Item> {
        Some(match record {
            Record::Event(event) => {
                Item::Event { event: new_event(event), deliveries: self.of(event) }
            }
            Record::Keys(keys) => Item::Past(past(keys)),
            Record::Nonce(nonce @ Nonce { expires_ms, .. }) if *expires_ms > now => {
                Item::Nonce(nonce.clone())
            }
            Record::Held(held) if !self.decided.contains(&held.id) => Item::Held(held.clone()),
            Record::Mark(mark) => Item::Mark(mark.clone()),
            _ => return None,
        })
    }

    /// The deliveries of an event: a delivery without records is done.
    fn of(&self, event: &EventRecord<'_>) -> Vec<Delivery> {
        let id = event.head.id;
        let rows = self.deliveries.range((id, TargetId::from(""))..);
        let rows = rows.take_while(|((of, _), _)| *of == id);
        let mut deliveries: Vec<Delivery> = rows
            .map(|((_, target), row)| Delivery {
                event: id,
                target: target.clone(),
                state: if row.dead { DeliveryState::Dead } else { DeliveryState::Pending },
                attempt: row.attempt,
                due_ms: Some(row.due_ms).filter(|_| !row.dead),
                attempts: Vec::new(),
            })
            .collect();
        for target in &event.targets {
            if !deliveries.iter().any(|delivery| delivery.target.as_str() == *target) {
                deliveries.push(done(id, target));
            }
        }
        deliveries
    }
}
