//! Retention: closed segments are rewritten without expired data.
//!
//! Two lifetimes: when an event expires, its keys stay in a separate record until they expire too.
//! An event with a pending or dead delivery stays complete, whatever its age, and so do its
//! attempts. Documents stay in their newest version, nonces until their end.
//!
//! Segments are swept strictly from the oldest on, up to the last that has expired: no result is
//! removed before its event. A clock that was ahead may have stamped events among them as newer than
//! they are. Those stay until their stamps are old, and hold up no others: nothing else says how old
//! they are, because later segments may have the stamps of a clock that was behind, or of an import. A
//! segment that does not match the index stays, and so do all later ones: retention fails until the
//! damage is repaired. The new form of a segment is complete, synced and named before the old one
//! is removed. A crash leaves at least one of them, and the newer one counts.
//!
//! Ages use a time that the ledger has observed to pass (`age`): a clock that jumped ahead expires
//! nothing. An old segment that is not full is closed, so its events can expire.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, mpsc};

use tokio::sync::oneshot;

use super::age::DAY_MS;
use super::call::{Answer, Call, Move};
use super::core::Core;
use super::export::new_event;
use super::files::Handle;
use super::frame::Frame;
use super::index::IndexedRun;
use super::journal::{file_name, new_salt, no_random, temporary};
use super::record::{self, EventRecord, Gaps, KeysRecord, Record};
use super::run::Run;
use super::segment::{HEADER, Header, Position, Segment, failed};
use super::tables::Tables;
use crate::clock::{UnixMillis, millis};
use crate::ledger::{
    EventId, EventKeys, HeldId, KeepKeys, LedgerError, MasterKey, NewEvent, Retention, SourceId,
    Swept,
};

/// Keys that move between two commits.
const MOVES: usize = 2000;
/// The approximate size of a frame in a rewritten segment.
const FRAME: usize = 1 << 20;

/// The state of a segment at its last sweep: unless it changes, the segment is not checked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastSweep {
    live: usize,
    /// The sources whose keys may be old, and how long the keys of each are kept.
    old: Vec<SourceId>,
    keep_keys: Vec<KeepKeys>,
    /// Records of decided held callbacks.
    decided: usize,
    /// The day before which its events expired; of a segment with newer ones, the moment.
    until: i64,
}

/// The policy of a sweep.
pub(super) struct Policy<'p> {
    events_before: UnixMillis,
    keys: Option<&'p Retention>,
    /// The source whose keys are deleted.
    forgotten: Option<&'p SourceId>,
    /// Events that expire now, whatever their age. Their deliveries have ended.
    erased: Option<&'p BTreeSet<EventId>>,
}

impl Core {
    /// Deletes data that `policy` does not keep, until about `budget` events and keys are gone.
    pub(super) fn sweep(
        &self,
        policy: &Retention,
        budget: usize,
        calls: &mpsc::Sender<Call>,
    ) -> Result<Swept, LedgerError> {
        if let Err(error) = self.note_end() {
            tracing::warn!(%error, "could not note the end of the journal in the manifest");
        }
        self.close_if_old(calls)?;
        let runs = self.all_runs();
        let newest = runs.iter().filter_map(Run::newest_ms).max().unwrap_or(UnixMillis::MIN);
        let counted_now = self.counted_now(policy.now_ms);
        self.held().expire(counted_now, &policy.held);
        let at = |ms: UnixMillis| {
            let now_ms = ms.min(newest.saturating_add(DAY_MS));
            Retention { now_ms, ..policy.clone() }
        };
        let of_keys = at(self.observed_now(policy.now_ms));
        let policy = Policy {
            events_before: at(counted_now).events_before(),
            keys: Some(&of_keys),
            forgotten: None,
            erased: None,
        };
        let mut swept = Swept::default();
        let last = runs.len().saturating_sub(1);
        let last_old = runs.iter().rposition(|run| policy.has_expired(run));
        for (at, run) in runs.into_iter().enumerate() {
            // A segment that is being written, or is not indexed yet, ends the sweep: order
            // matters.
            let run = match run {
                Run::Indexed(run) => run,
                run @ Run::Open(_) => {
                    if at < last {
                        self.check_whole(run.segment())?;
                    }
                    let old = run.newest_ms().is_some_and(|newest| newest < policy.events_before);
                    // One that waits for its index may wait long.
                    swept.more = at < last && old && self.waits_for_index().is_none();
                    break;
                }
            };
            if run.newest_ms() >= policy.events_before {
                if last_old.is_none_or(|last_old| at > last_old) {
                    break;
                }
                if run.oldest().ms() >= policy.events_before {
                    // All its events stay, and so do their results, wherever these are.
                    continue;
                }
            }
            if swept.events + swept.keys >= budget as u64 {
                swept.more = true;
                break;
            }
            let before = swept;
            if let Err(error) = self.sweep_one(&run, &policy, &mut swept, calls) {
                // Earlier deletions are reported first; the next call fails at once.
                if before == Swept::default() {
                    return Err(error);
                }
                swept = Swept { more: true, ..before };
                break;
            }
        }
        if let Some(last) = self.all_runs().last() {
            self.index.prune(last.segment().header.number);
        }
        Ok(swept)
    }

    /// Starts a new segment if the last one is old. One that a clock ahead of this one began would
    /// not be old before that time has come. On a full disk there may be no room for another one: that
    /// ends no sweep, because what it deletes makes some.
    fn close_if_old(&self, calls: &mpsc::Sender<Call>) -> Result<(), LedgerError> {
        let age = millis(self.options.segment_age);
        let runs = self.all_runs();
        let created = runs.last().map(|run| run.segment().header.created_ms);
        let now = self.now();
        let old = |created: UnixMillis| created > now || created.saturating_add(age) <= now;
        if created.filter(|created| old(*created)).is_none() {
            return Ok(());
        }
        match ask(calls, Call::Roll) {
            Err(error) if !error.is_fatal() => {
                if let Some(others) = self.unrolled.admit() {
                    tracing::warn!(%error, others, "an old segment could not be closed");
                }
                Ok(())
            }
            closed => closed,
        }
    }

    fn sweep_one(
        &self,
        run: &Arc<IndexedRun>,
        policy: &Policy<'_>,
        swept: &mut Swept,
        calls: &mpsc::Sender<Call>,
    ) -> Result<(), LedgerError> {
        if run.scan().records == 0 && self.is_oldest(run) {
            // The segment was emptied while an older one existed.
            let number = run.segment.header.number;
            self.last_sweeps.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            ask(calls, |answer| Call::Swap(number, None, answer))?;
            self.set_retiring(None);
            return self.retire(run);
        }
        self.check_whole(&run.segment)?;
        let Some(found) = self.worth_it(run, policy)? else { return Ok(()) };
        let number = run.segment.header.number;
        self.last_sweeps.lock().unwrap_or_else(PoisonError::into_inner).insert(number, found);
        let written = self.rewrite(run, policy, swept, calls);
        if written.is_err() {
            self.last_sweeps.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        }
        written
    }

    /// Deletes the keys and held callbacks of a source; returns their number.
    pub(super) fn forget(
        &self,
        source: &SourceId,
        calls: &mpsc::Sender<Call>,
    ) -> Result<u64, LedgerError> {
        let held = self.held().forget(source);
        let policy = Policy::keeping_all(Some(source));
        let mut swept = Swept::default();
        for run in self.all_runs() {
            if let Run::Indexed(run) = run
                && mentions(&run.segment, source)?
            {
                self.rewrite(&run, &policy, &mut swept, calls)?;
            }
        }
        Ok(swept.keys + held)
    }

    /// Rewrites every closed segment that is sealed differently from this process; `progress` is
    /// called with the number done and the total.
    pub(super) fn reseal(
        &self,
        calls: &mpsc::Sender<Call>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(), LedgerError> {
        let policy = Policy::keeping_all(None);
        let key = self.options.keys.current().map(MasterKey::id);
        let others: Vec<Run> =
            self.all_runs().into_iter().filter(|run| run.segment().header.key != key).collect();
        for (done, run) in others.iter().enumerate() {
            progress(done, others.len());
            let Run::Indexed(run) = run else {
                let segment = run.segment();
                return Err(segment.damaged(0, "the segment is not indexed, so it is not sealed"));
            };
            self.rewrite(run, &policy, &mut Swept::default(), calls)?;
        }
        progress(others.len(), others.len());
        Ok(())
    }

    pub(super) fn rewrite(
        &self,
        run: &Arc<IndexedRun>,
        policy: &Policy<'_>,
        swept: &mut Swept,
        calls: &mpsc::Sender<Call>,
    ) -> Result<(), LedgerError> {
        let number = run.segment.header.number;
        let mut rewrite = Rewrite::begin(self, run, policy)?;
        let written = self.noting(&Run::Indexed(Arc::clone(run)), rewrite.copy(run));
        let same = rewrite.removed == 0 && rewrite.header.key == run.segment.header.key;
        if written.is_err() || same {
            let _ = self.files.remove(&rewrite.path);
            return written;
        }
        swept.events += rewrite.events;
        swept.keys += rewrite.keys;
        swept.bytes += run.segment.size.saturating_sub(rewrite.size());
        let moves = std::mem::take(&mut rewrite.moves);
        let rewrite_held = std::mem::take(&mut rewrite.held);
        // The new form is indexed and put to use in one turn: see there.
        let turn = self.indexing();
        let new = if rewrite.records == 0 && self.is_oldest(run) {
            let _ = self.files.remove(&rewrite.path);
            None
        } else {
            Some(Run::Indexed(Arc::new(rewrite.finish()?)))
        };
        if new.is_none() {
            self.last_sweeps.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        }
        ask(calls, |answer| Call::Swap(number, new, answer))?;
        drop(turn);
        self.held().moved(&rewrite_held);
        for moves in moves.chunks(MOVES) {
            ask(calls, |answer| Call::Move(moves.to_vec(), answer))?;
        }
        self.set_retiring(None);
        self.retire(run)
    }

    /// Has the file of a replaced run removed after its last reader.
    fn retire(&self, run: &IndexedRun) -> Result<(), LedgerError> {
        if let Some(oldest) = self.all_runs().first() {
            // The manifest first: a crash in between leaves a file too many, never one too few.
            self.manifest().forget_before(oldest.segment().header.number)?;
        }
        run.retire(&self.files);
        Ok(())
    }

    fn is_oldest(&self, run: &IndexedRun) -> bool {
        let oldest = self.all_runs().first().map(|run| run.segment().header.number);
        oldest == Some(run.segment.header.number)
    }

    /// Whether anything can be removed from the segment, as far as known without reading it; and
    /// the state to remember if nothing can.
    fn worth_it(
        &self,
        run: &IndexedRun,
        policy: &Policy<'_>,
    ) -> Result<Option<LastSweep>, LedgerError> {
        let mut live = 0;
        let mut block = None;
        for at in 0..run.len() {
            let id = run.row(at, &mut block)?.id;
            live += usize::from(self.deliveries().is_live(id));
        }
        let befores = policy.keys.into_iter().flat_map(Retention::all_keys_before);
        let is_old = |(source, before): (&SourceId, UnixMillis)| {
            (run.keys() > 0 && run.newest_ms() < before).then(|| source.clone())
        };
        let old: Vec<SourceId> = befores.filter_map(is_old).collect();
        let keep_keys = policy.keys.map(|keys| keys.keep_keys.clone()).unwrap_or_default();
        // Once everything in it is old, another day makes no difference. While a part is, each moment
        // does: later segments may have the results of an event that expires now.
        let everything = !old.is_empty() && old.len() == keep_keys.len();
        let until = if everything {
            0
        } else if run.newest_ms() >= policy.events_before {
            policy.events_before
        } else {
            policy.events_before / DAY_MS
        };
        let decided = self.held().dead().get(&run.segment.header.number).copied().unwrap_or(0);
        let anything = live < run.len() || !old.is_empty() || run.notes_len() > 0 || decided > 0;
        let found = LastSweep { live, old, keep_keys, decided, until };
        let last = self.last_sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.get(&run.segment.header.number) == Some(&found);
        Ok(Some(found).filter(|_| anything && !known))
    }
}

impl<'p> Policy<'p> {
    /// Keeps everything except the keys of a source.
    fn keeping_all(forgotten: Option<&'p SourceId>) -> Self {
        Self { events_before: UnixMillis::MIN, keys: None, forgotten, erased: None }
    }

    /// Keeps everything except the content of these events.
    pub(super) fn erasing(events: &'p BTreeSet<EventId>) -> Self {
        Self { erased: Some(events), ..Self::keeping_all(None) }
    }

    /// Whether a closed segment has events, all of which have expired.
    fn has_expired(&self, run: &Run) -> bool {
        match run {
            Run::Indexed(run) => run.len() > 0 && run.newest_ms() < self.events_before,
            Run::Open(_) => false,
        }
    }

    fn erases(&self, event: EventId) -> bool {
        self.erased.is_some_and(|events| events.contains(&event))
    }
}

/// Whether a segment has keys or held callbacks of a source.
fn mentions(segment: &Segment, source: &SourceId) -> Result<bool, LedgerError> {
    let mut found = false;
    segment.scan(&mut |_, payload| {
        let of = match Record::read(payload) {
            Ok(Record::Held(held)) => held.event.source == *source,
            Ok(Record::Mark(mark)) => mark.source == *source,
            Ok(record) => record.keys().is_some_and(|head| head.source == source.as_str()),
            Err(_) => false,
        };
        found |= of;
        Ok(())
    })?;
    Ok(found)
}

/// Calls the committer from a thread that may block.
pub(super) fn ask(
    calls: &mpsc::Sender<Call>,
    call: impl FnOnce(Answer<()>) -> Call,
) -> Result<(), LedgerError> {
    let (answer, answered) = oneshot::channel();
    let ended = || LedgerError::Fatal("the committer has ended".into());
    calls.send(call(answer)).map_err(|_| ended())?;
    answered.blocking_recv().unwrap_or_else(|_| Err(ended()))
}

/// A segment that is being rewritten.
struct Rewrite<'c> {
    core: &'c Core,
    policy: &'c Policy<'c>,
    path: std::path::PathBuf,
    file: Box<dyn Handle>,
    header: Header,
    frame: Frame,
    seq: u64,
    moves: Vec<Move>,
    /// The new positions of held callbacks.
    held: Vec<(HeldId, Option<Position>)>,
    /// Removed events and keys.
    events: u64,
    keys: u64,
    /// Records that are kept, and removed.
    records: u64,
    removed: u64,
}

impl<'c> Rewrite<'c> {
    fn begin(
        core: &'c Core,
        old: &IndexedRun,
        policy: &'c Policy<'c>,
    ) -> Result<Self, LedgerError> {
        let mut header = Header {
            generation: old.segment.header.generation + 1,
            // What a failed rewrite has left in the index is of another form.
            salt: new_salt(old.segment.header.number, core.now()),
            next_seq: old.scan().next_seq,
            ..old.segment.header
        };
        // Rewritten with the current key.
        let key = core.options.keys.current();
        header.key = key.map(MasterKey::id);
        let path = temporary(&core.journal_dir());
        let file = core.files.create(&path).map_err(|error| failed(&path, "create", &error))?;
        let frame = Frame::new(header, HEADER, key).map_err(|error| no_random(&error))?;
        Ok(Self {
            core,
            policy,
            path,
            file,
            header,
            frame,
            seq: header.first_seq,
            moves: Vec::new(),
            held: Vec::new(),
            events: 0,
            keys: 0,
            records: 0,
            removed: 0,
        })
    }

    fn size(&self) -> u64 {
        u64::from(self.frame.base())
    }

    /// Copies the kept records, and syncs them.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] if the segment does not match the index. Then the copy must not
    /// replace it.
    fn copy(&mut self, run: &IndexedRun) -> Result<(), LedgerError> {
        let head = self.header.bytes();
        self.file.write_at(&head, 0).map_err(|error| failed(&self.path, "write", &error))?;
        let old = &run.segment;
        old.scan_closed(run.scan(), &mut |offset, payload| {
            let record = Record::read(payload)
                .map_err(|_| old.damaged(offset, "the record is of no known form"))?;
            self.judge(Position::new(&old.header, offset), &record, payload);
            if self.frame.pending() >= FRAME { self.write() } else { Ok(()) }
        })?;
        self.write()?;
        self.file.sync_data().map_err(|error| failed(&self.path, "sync", &error))
    }

    fn write(&mut self) -> Result<(), LedgerError> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let base = u64::from(self.frame.base());
        let written = self.file.write_at(self.frame.seal(self.seq), base);
        // In small steps: the committer's syncs wait for concurrent writes.
        let written = written.and_then(|()| self.file.sync_data());
        written.map_err(|error| failed(&self.path, "write", &error))?;
        self.frame.next();
        self.seq += 1;
        Ok(())
    }

    fn keep(&mut self, payload: &[u8]) -> Position {
        self.records += 1;
        self.frame.append(|to| to.extend_from_slice(payload))
    }

    /// Decides whether a record is kept.
    fn judge(&mut self, from: Position, record: &Record<'_>, payload: &[u8]) {
        let kept = match record {
            Record::Event(event) => return self.judge_event(from, event, payload),
            Record::Keys(head) => {
                // Keys that a duplicate brought stay as long as the event does.
                let live = self.core.deliveries().is_live(head.id);
                let kept = !self.is_old(head) || (live && !self.is_forgotten(head));
                let to = kept.then(|| self.keep(payload));
                return self.note_moves(from, head, to);
            }
            Record::Attempt(attempt) => self.is_kept(attempt.event),
            Record::Replay(replay) => self.is_kept(replay.event),
            Record::State(state) => self.is_kept(state.event),
            Record::Held(held) => {
                let waits = self.core.held().is_waiting(held.id);
                let to = waits.then(|| self.keep(payload));
                self.removed += u64::from(to.is_none());
                return self.held.push((held.id, to));
            }
            Record::Mark(mark) => self.core.held().needs_mark(mark.id),
            Record::Reason(id, reason) => self.core.held().reason(*id) == Some(*reason),
            Record::Document(record) => self.core.documents().needs(record),
            Record::Nonce(nonce) => nonce.expires_ms > self.core.nonces_after(),
        };
        if kept {
            self.keep(payload);
        } else {
            self.removed += 1;
        }
    }

    fn judge_event(&mut self, from: Position, event: &EventRecord<'_>, payload: &[u8]) {
        let head = &event.head;
        if self.is_forgotten(head) && head.keys().next().is_some() {
            let bare = NewEvent { keys: EventKeys::default(), ..new_event(event) };
            self.records += 1;
            self.frame.append(|to| record::put_event(to, &bare, &mut Gaps::default()));
            return self.note_moves(from, head, None);
        }
        let live = self.core.deliveries().is_live(head.id);
        let is_recent = head.received_ms >= self.policy.events_before;
        if !self.policy.erases(head.id) && (live || is_recent) {
            let to = self.keep(payload);
            return self.note_moves(from, head, Some(to));
        }
        self.events += 1;
        self.removed += 1;
        let has_keys = head.keys().next().is_some();
        let to = (has_keys && !self.is_old(head)).then(|| {
            self.records += 1;
            self.frame.append(|to| head.put(to))
        });
        self.note_moves(from, head, to);
    }

    fn is_forgotten(&self, head: &KeysRecord<'_>) -> bool {
        self.policy.forgotten.is_some_and(|source| source.as_str() == head.source)
    }

    /// Whether these keys have expired.
    fn is_old(&self, head: &KeysRecord<'_>) -> bool {
        if self.is_forgotten(head) {
            return true;
        }
        let before = self.policy.keys.and_then(|keys| keys.keys_before(head.source));
        before.is_some_and(|before| head.received_ms < before)
    }

    fn note_moves(&mut self, from: Position, head: &KeysRecord<'_>, to: Option<Position>) {
        self.moves.extend(head.keys().map(|key| Move { key, from, to }));
        if to.is_none() {
            self.keys += head.keys().count() as u64;
            self.removed += 1;
        }
    }

    /// Whether the event of an attempt still exists. Every earlier segment was swept, so an old
    /// event exists only if it has an unfinished delivery.
    fn is_kept(&self, event: EventId) -> bool {
        let is_recent = event.ms() >= self.policy.events_before;
        !self.policy.erases(event) && (is_recent || self.core.deliveries().is_live(event))
    }

    /// Names the new form, reads it back and indexes it, in a turn of [`Core::indexing`].
    fn finish(self) -> Result<IndexedRun, LedgerError> {
        let dir = self.core.journal_dir();
        let path = dir.join(file_name(self.header.number, self.header.generation));
        let files = &self.core.files;
        let named = files.rename(&self.path, &path).and_then(|()| files.sync_dir(&dir));
        named.map_err(|error| failed(&path, "name", &error))?;
        let indexed = self.index(&path);
        if indexed.is_err() {
            // The old form stays in use, so it must be the one that the next start finds.
            let _ = files.remove(&path).and_then(|()| files.sync_dir(&dir));
        }
        indexed
    }

    fn index(&self, path: &std::path::Path) -> Result<IndexedRun, LedgerError> {
        let segment = Segment::open(&self.core.files, &self.core.options.keys, path)?;
        let segment = Arc::new(Segment::at_rest(&self.core.open_files, &segment));
        self.core.ready_index(&segment)?;
        let (tables, scan) = Tables::read(&segment)?;
        if scan.records != self.records {
            return Err(segment.damaged(scan.end, "it does not read back as it was written"));
        }
        segment.check_complete(scan)?;
        self.core.index_segment(&segment, &tables, scan)
    }
}
