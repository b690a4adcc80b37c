//! Rewriting a closed segment without what has expired or is erased.
//!
//! Steps that may fail for want of space come first: the new form is written, and so is its part of the
//! index. Then the deliveries of erased events end, durably. Only then does the new form get its name
//! and replace the old one. So a rewrite that fails leaves the deliveries as they were, and a crash
//! leaves no delivery of an event that is gone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, mpsc};

use super::{Policy, ask};
use crate::ledger::embedded::call::{Call, Move};
use crate::ledger::embedded::core::Core;
use crate::ledger::embedded::export::new_event;
use crate::ledger::embedded::files::Handle;
use crate::ledger::embedded::frame::Frame;
use crate::ledger::embedded::index::IndexedRun;
use crate::ledger::embedded::journal::{file_name, new_salt, no_random, temporary};
use crate::ledger::embedded::record::{self, EventRecord, Gaps, KeysRecord, Record};
use crate::ledger::embedded::run::Run;
use crate::ledger::embedded::segment::{HEADER, Header, Position, Segment, failed};
use crate::ledger::embedded::tables::Tables;
use crate::ledger::{EventId, EventKeys, HeldId, LedgerError, MasterKey, NewEvent, Swept};

/// Keys that move between two commits.
const MOVES: usize = 2000;
/// The approximate size of a frame in a rewritten segment.
const FRAME: usize = 1 << 20;
/// Events whose deliveries end in one frame.
const ENDED_AT_ONCE: usize = 500;

/// The part of a rewritten segment that an order to erase has removed.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ledger::embedded) struct Rewritten {
    /// Unsettled deliveries of erased events, which have ended.
    pub(in crate::ledger::embedded) deliveries: u64,
    /// Waiting callbacks.
    pub(in crate::ledger::embedded) held: u64,
}

impl Core {
    /// Rewrites a segment without what `policy` removes. After an error the old form is in use.
    pub(in crate::ledger::embedded) fn rewrite(
        &self,
        run: &Arc<IndexedRun>,
        policy: &Policy<'_>,
        swept: &mut Swept,
        calls: &mpsc::Sender<Call>,
    ) -> Result<Rewritten, LedgerError> {
        let number = run.segment.header.number;
        let mut rewrite = Rewrite::begin(self, run, policy)?;
        let written = self.noting(&Run::Indexed(Arc::clone(run)), rewrite.copy(run));
        let same = rewrite.removed == 0 && rewrite.header.key == run.segment.header.key;
        if written.is_err() || same {
            let _ = self.files.remove(&rewrite.path);
            return written.map(|()| Rewritten::default());
        }
        swept.events += rewrite.events;
        swept.keys += rewrite.keys;
        swept.bytes += run.segment.size.saturating_sub(rewrite.size());
        let moves = std::mem::take(&mut rewrite.moves);
        let held = std::mem::take(&mut rewrite.held);
        let erased_held = std::mem::take(&mut rewrite.erased_held);
        // The new form is indexed and put to use in one turn: see there.
        let turn = self.indexing();
        let NewForm { run: new, ended } = match rewrite.records == 0 && self.is_oldest(run) {
            true => rewrite.discard(calls)?,
            false => rewrite.finish(calls)?,
        };
        if new.is_none() {
            self.last_sweeps.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        }
        let new = new.map(|new| Run::Indexed(Arc::new(new)));
        ask(calls, |answer| Call::Swap(number, new, answer))?;
        drop(turn);
        let mut table = self.held();
        erased_held.iter().for_each(|id| table.remove(*id));
        table.moved(&held);
        drop(table);
        for moves in moves.chunks(MOVES) {
            ask(calls, |answer| Call::Move(moves.to_vec(), answer))?;
        }
        self.set_retiring(None);
        self.retire(run)?;
        Ok(Rewritten { deliveries: ended, held: erased_held.len() as u64 })
    }

    /// Has the file of a replaced run removed after its last reader.
    pub(super) fn retire(&self, run: &IndexedRun) -> Result<(), LedgerError> {
        if let Some(oldest) = self.all_runs().first() {
            // The manifest first: a crash in between leaves a file too many, never one too few.
            self.manifest().forget_before(oldest.segment().header.number)?;
        }
        run.retire(&self.files);
        Ok(())
    }

    pub(super) fn is_oldest(&self, run: &IndexedRun) -> bool {
        let oldest = self.all_runs().first().map(|run| run.segment().header.number);
        oldest == Some(run.segment.header.number)
    }
}

/// The new form of a segment.
struct NewForm {
    /// `None`: the segment has nothing left.
    run: Option<IndexedRun>,
    /// Deliveries of erased events that have ended.
    ended: u64,
}

/// A segment that is being rewritten.
struct Rewrite<'c> {
    core: &'c Core,
    policy: &'c Policy<'c>,
    path: PathBuf,
    file: Box<dyn Handle>,
    header: Header,
    frame: Frame,
    seq: u64,
    moves: Vec<Move>,
    /// The new positions of held callbacks.
    held: Vec<(HeldId, Option<Position>)>,
    /// Waiting callbacks that are erased.
    erased_held: Vec<HeldId>,
    /// Erased events with unsettled deliveries.
    live: Vec<EventId>,
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
            erased_held: Vec::new(),
            live: Vec::new(),
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
                let is_erased = waits && self.policy.erases_held(held);
                if is_erased {
                    self.erased_held.push(held.id);
                }
                let to = (waits && !is_erased).then(|| self.keep(payload));
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
        let is_erased = self.policy.erases(head.id);
        if !is_erased && (live || is_recent) {
            let to = self.keep(payload);
            return self.note_moves(from, head, Some(to));
        }
        if is_erased && live {
            self.live.push(head.id);
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

    /// Reads the new form back and indexes it, ends deliveries, and names it, in a turn of
    /// [`Core::indexing`]. A name makes it the form that a start finds: then its events are gone.
    fn finish(self, calls: &mpsc::Sender<Call>) -> Result<NewForm, LedgerError> {
        let files = &self.core.files;
        let ended = match self.index().and_then(|()| self.end_deliveries(calls)) {
            Ok(ended) => ended,
            Err(error) => {
                let _ = files.remove(&self.path);
                return Err(error);
            }
        };
        let dir = self.core.journal_dir();
        let path = dir.join(file_name(self.header.number, self.header.generation));
        let named = files.rename(&self.path, &path).and_then(|()| files.sync_dir(&dir));
        let named = named.map_err(|error| failed(&path, "name", &error));
        match named.and_then(|()| self.indexed(&path)) {
            Ok(run) => Ok(NewForm { run: Some(run), ended }),
            Err(error) => {
                // The old form stays in use, so it must be the one that the next start finds.
                let _ = files.remove(&path).and_then(|()| files.sync_dir(&dir));
                Err(error)
            }
        }
    }

    /// Ends deliveries and removes the new form: the segment has nothing left, and goes.
    fn discard(self, calls: &mpsc::Sender<Call>) -> Result<NewForm, LedgerError> {
        let _ = self.core.files.remove(&self.path);
        Ok(NewForm { run: None, ended: self.end_deliveries(calls)? })
    }

    /// Ends the unsettled deliveries of erased events, durably, and returns their number.
    fn end_deliveries(&self, calls: &mpsc::Sender<Call>) -> Result<u64, LedgerError> {
        if self.live.len() > ENDED_AT_ONCE && !self.core.has_room_for_results() {
            // Otherwise only some of them might end.
            return Err(LedgerError::Unavailable(
                "the disk has no room for another segment of the store; free space on it".into(),
            ));
        }
        let mut ended = 0;
        for some in self.live.chunks(ENDED_AT_ONCE) {
            ended += ask(calls, |answer| Call::End(some.to_vec(), answer))?;
        }
        Ok(ended)
    }

    /// Writes the tables of the new form, before it has its name.
    fn index(&self) -> Result<(), LedgerError> {
        let segment = Segment::open(&self.core.files, &self.core.options.keys, &self.path)?;
        let segment = Arc::new(segment);
        self.core.ready_index(&segment)?;
        let (tables, scan) = Tables::read(&segment)?;
        if scan.records != self.records {
            return Err(segment.damaged(scan.end, "it does not read back as it was written"));
        }
        segment.check_complete(scan)?;
        self.core.index_segment(&segment, &tables, scan).map(drop)
    }

    /// The run of the new form under its name, with the tables that were written before.
    fn indexed(&self, path: &Path) -> Result<IndexedRun, LedgerError> {
        let segment = Segment::open(&self.core.files, &self.core.options.keys, path)?;
        let segment = Arc::new(Segment::at_rest(&self.core.open_files, &segment));
        let lost = || LedgerError::Unavailable("the index of a rewritten segment is lost".into());
        self.core.index.find(&segment)?.ok_or_else(lost)
    }
}
