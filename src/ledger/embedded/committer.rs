//! The committer: the one thread that writes.
//!
//! It takes all waiting calls and the events of the queues, looks up keys, adds records to one frame, writes and syncs the
//! frame, publishes the change and answers. So every answer is on disk, with one exception:
//! finished deliveries are answered at once and written with the next frame, or [`LAZY`] later at
//! the latest.

mod arrivals;
mod end;
mod held;
mod import;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use self::arrivals::Arrivals;
use super::call::{Answer, Call, Move, ReplayCall, SettleCall};
use super::core::{CommitterState, Core};
use super::deliveries::{LeaseDecision, Row};
use super::documents::Written;
use super::indexer::Job;
use super::journal::{Journal, new_header};
use super::keys::Keys;
use super::record::{self, Gaps};
use super::run::{OpenRun, Run};
use super::segment::{HEADER, Position, RECORD_HEAD, Scan, VERSION};
use super::tables::{FullRow, Note, half_id};
use crate::clock::{UnixMillis, instant};
use crate::ledger::accept::{First, Judged};
use crate::ledger::{
    Accepted, DedupeKey, DocumentChange, EventId, HeldId, LedgerError, MasterKey, NewEvent, Nonce,
    NonceUse, PastEvent, ReplayPage, Revision, Settled, TargetId, seal,
};

/// How long a finished delivery may wait to be written with other records.
const LAZY: Duration = Duration::from_millis(20);
/// The interval of attempts to start a segment on a full disk.
const NO_ROOM_MS: i64 = 1000;
/// A frame with this many bytes accepts no further call.
const FRAME_MAX: usize = 4 << 20;

/// The state of the committer.
pub(super) struct Committer {
    core: Arc<Core>,
    journal: Journal,
    keys: Arc<Keys>,
    nonces: HashMap<[u8; 16], UnixMillis>,
    jobs: Sender<Job>,
    staged: Staged,
    /// Events that came over queues.
    arrivals: Arrivals,
    /// Answers that wait for the sync.
    waiting: Vec<Waiting>,
    /// The segment read last.
    buffer: Vec<u8>,
    gaps: Gaps,
    /// When the oldest lazy record was added.
    lazy_since: Option<Instant>,
    /// Why a required segment could not be created, and when that is retried.
    no_room: Option<(LedgerError, UnixMillis)>,
}

/// An answer that waits for the sync: called with its result.
type Waiting = Box<dyn FnOnce(Result<(), &LedgerError>) + Send>;

/// Changes that become visible after the sync.
#[derive(Default)]
struct Staged {
    rows: Vec<FullRow>,
    notes: Vec<Note>,
    fresh: Vec<(EventId, SmallVec<[TargetId; 2]>, Bytes)>,
    changes: Vec<Written>,
    /// Deliveries of imported events.
    states: Vec<(EventId, TargetId, Option<Row>)>,
    /// Callbacks that are held.
    held: Vec<HeldId>,
}

fn waiting<T: Send + 'static>(answer: Answer<T>, value: T) -> Waiting {
    Box::new(move |committed| {
        // The caller may have stopped waiting; the commit stays.
        let _ = answer.send(committed.map(|()| value).map_err(Clone::clone));
    })
}

fn tell<T>(answer: Answer<T>, result: Result<T, LedgerError>) {
    let _ = answer.send(result);
}

// === The loop ===

impl Committer {
    pub(super) fn new(
        core: Arc<Core>,
        memory: CommitterState,
        journal: Journal,
        jobs: Sender<Job>,
    ) -> Self {
        Self {
            core,
            journal,
            keys: memory.keys,
            nonces: memory.nonces,
            jobs,
            staged: Staged::default(),
            arrivals: Arrivals::default(),
            waiting: Vec::new(),
            buffer: Vec::new(),
            gaps: Gaps::default(),
            lazy_since: None,
            no_room: None,
        }
    }

    /// Works until there are no more callers, and then writes pending records.
    pub(super) fn run(mut self, calls: &Receiver<Call>) {
        loop {
            match self.next(calls) {
                Ok(call) => self.take(call),
                Err(RecvTimeoutError::Timeout) => {
                    self.commit();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break self.commit(),
            }
            while self.has_room() {
                match calls.try_recv() {
                    Ok(call) => self.take(call),
                    Err(_) => break,
                }
            }
            if self.arrivals.has_calls() {
                self.linger(calls);
                self.take_arrivals();
            }
            if !self.waiting.is_empty() || self.arrivals.has_answers() || !self.has_room() {
                self.commit();
            }
        }
    }

    /// Whether the frame accepts another call.
    fn has_room(&self) -> bool {
        self.journal.frame.pending() < FRAME_MAX
    }

    fn next(&self, calls: &Receiver<Call>) -> Result<Call, RecvTimeoutError> {
        match self.lazy_since {
            None => calls.recv().or(Err(RecvTimeoutError::Disconnected)),
            Some(since) => {
                let waited = instant().saturating_duration_since(since);
                calls.recv_timeout(LAZY.saturating_sub(waited))
            }
        }
    }

    fn take(&mut self, call: Call) {
        match call {
            Call::Events(hand_over) => self.arrivals.call(hand_over),
            Call::Accept(batch, answer) => self.after_sync(answer, |own| own.accept(&batch)),
            Call::Nonces(nonces, answer) => self.after_sync(answer, |own| own.use_nonces(&nonces)),
            Call::Settle(call, answer) => self.settle(&call, answer),
            Call::Replay(call, answer) => {
                self.after_sync(answer, |own| own.replay(&call));
            }
            Call::Change(changes, answer) => self.after_sync(answer, |own| own.change_all(changes)),
            Call::Import(call, answer) => self.after_sync(answer, |own| own.import(call)),
            Call::Hold(batch, answer) => self.after_sync(answer, |own| own.hold_all(&batch)),
            Call::NoteReason(id, reason, answer) => {
                self.after_sync(answer, |own| own.note_reason(id, reason));
            }
            Call::Decide(order, answer) => self.after_sync(answer, |own| own.decide(&order)),
            Call::End(events, answer) => self.after_sync(answer, |own| own.end_deliveries(&events)),
            Call::Roll(answer) => {
                self.commit();
                tell(answer, self.roll_if_used());
            }
            Call::Flush(answer) => self.waiting.push(waiting(answer, ())),
            Call::Swap(number, run, answer) => {
                self.core.set_retiring(self.core.segment(number));
                match run {
                    Some(run) => self.core.put_run(number, run),
                    None => self.core.remove_run(number),
                }
                tell(answer, Ok(()));
            }
            Call::Move(moves, answer) => {
                for Move { key, from, to } in moves {
                    self.keys.replace(&key, from, to);
                }
                self.core.published_keys.store(self.keys.len() as u64, Ordering::Relaxed);
                tell(answer, Ok(()));
            }
        }
    }

    /// Stages records, and answers after the sync. An error is answered at once.
    fn after_sync<T: Send + 'static>(
        &mut self,
        answer: Answer<T>,
        stage: impl FnOnce(&mut Self) -> Result<T, LedgerError>,
    ) {
        match stage(self) {
            Ok(value) => self.waiting.push(waiting(answer, value)),
            Err(error) => tell(answer, Err(error)),
        }
    }

    /// Writes the frame, syncs it, publishes it, answers.
    fn commit(&mut self) {
        if self.lazy_since.take().is_some() {
            self.core.lazy.store(false, Ordering::Release);
        }
        let committed = self.write();
        if committed.is_ok() {
            self.publish();
        }
        for waiting in self.waiting.drain(..) {
            waiting(committed.as_ref().copied());
        }
        self.answer_arrivals(&committed);
    }

    fn write(&mut self) -> Result<(), LedgerError> {
        self.core.poison.check()?;
        if self.journal.frame.is_empty() {
            return Ok(());
        }
        match self.journal.commit() {
            Ok(took) => {
                self.core.note_sync(took);
                Ok(())
            }
            Err(error) => {
                let path = self.journal.segment().path.display().to_string();
                Err(self.core.poison.set(format!("could not write {path}: {error}")))
            }
        }
    }

    fn publish(&mut self) {
        let Staged { rows, notes, fresh, changes, states, held } = &mut self.staged;
        self.journal.run.extend(rows.drain(..), notes.drain(..));
        if !fresh.is_empty() {
            let now = self.core.now();
            let mut deliveries = self.core.deliveries();
            for (event, targets, body) in fresh.drain(..) {
                deliveries.keep_body(event, &body);
                targets.iter().for_each(|target| deliveries.renew(event, target, now));
            }
        }
        if !states.is_empty() {
            let mut deliveries = self.core.deliveries();
            states.drain(..).for_each(|(event, target, row)| deliveries.put(event, &target, row));
        }
        if !held.is_empty() {
            let mut table = self.core.held();
            held.drain(..).for_each(|id| table.synced(id));
        }
        if !changes.is_empty() {
            let mut documents = self.core.documents();
            changes.drain(..).for_each(|written| documents.apply(written));
            let newest = documents.revision();
            drop(documents);
            self.core.revision.send_replace(newest);
        }
        self.journal.run.publish(self.journal.frame.base());
        self.core.published_keys.store(self.keys.len() as u64, Ordering::Relaxed);
    }

    /// Makes room for payloads of `bytes` in `count` records: if the segment is too full, commits
    /// pending records to it and starts a new one.
    fn make_room(&mut self, bytes: usize, count: usize) -> Result<(), LedgerError> {
        self.make_room_in(VERSION, bytes, count)
    }

    /// The same in a segment of that version.
    fn make_room_in(
        &mut self,
        version: u16,
        bytes: usize,
        count: usize,
    ) -> Result<(), LedgerError> {
        self.core.poison.check()?;
        if self.journal.fits(bytes, count) && self.writes(version) {
            return Ok(());
        }
        self.commit();
        self.core.poison.check()?;
        self.roll(version)?;
        if self.journal.fits(bytes, count) {
            return Ok(());
        }
        let max = super::journal::payload_max(self.core.options.segment_bytes);
        Err(LedgerError::TooLarge { size: bytes, max })
    }

    /// Whether the segment has that version and this process's sealing; otherwise a new one is
    /// needed.
    fn writes(&self, version: u16) -> bool {
        let header = &self.journal.segment().header;
        let current = self.core.options.keys.current().map(MasterKey::id);
        header.version == version && header.key == current
    }

    /// Closes a segment that is not empty, or that is sealed differently. Room is looked for, also if
    /// there was none a moment ago.
    fn roll_if_used(&mut self) -> Result<(), LedgerError> {
        self.core.poison.check()?;
        self.no_room = None;
        let unused = self.journal.frame.base() == HEADER && self.writes(VERSION);
        if unused { Ok(()) } else { self.roll(VERSION) }
    }

    /// Starts a new segment. A full disk does not stop the ledger: nothing was written.
    fn roll(&mut self, version: u16) -> Result<(), LedgerError> {
        let core = &self.core;
        let number = self.journal.segment().header.number + 1;
        let spare = match core.spare.take() {
            Some(spare) => spare,
            None => {
                if let Some((why, until)) = &self.no_room
                    && core.now() < *until
                {
                    return Err(why.clone());
                }
                let made = core.make_spare(&|_, _| {});
                let until = core.now().saturating_add(NO_ROOM_MS);
                self.no_room = made.as_ref().err().map(|why| (why.clone(), until));
                made?
            }
        };
        let key = core.options.keys.current();
        let header = new_header(number, version, self.journal.next_seq(), core.now(), key);
        let segment = spare.adopt(&*core.files, header, key).map_err(|error| {
            core.poison.set(format!("could not begin segment {number}: {error}"))
        })?;
        core.manifest().begin(number).map_err(|error| {
            core.poison.set(format!("could not name segment {number} in the manifest: {error}"))
        })?;
        let run = Arc::new(OpenRun::new(Arc::new(segment)));
        core.put_run(number, Run::Open(Arc::clone(&run)));
        let scan = Scan { end: HEADER, next_seq: header.first_seq, records: 0 };
        self.journal = Journal::new(run, scan).map_err(|error| {
            core.poison.set(format!("could not begin segment {number}: {error}"))
        })?;
        let nonces_after = self.core.nonces_after();
        self.nonces.retain(|_, expires_ms| *expires_ms > nonces_after);
        // An indexer that has ended has stopped the ledger; nothing is left to do here.
        let _ = self.jobs.send(Job::MakeSpare);
        let _ = self.jobs.send(Job::Close(number - 1));
        Ok(())
    }
}

// === Events ===

impl Committer {
    fn accept(&mut self, batch: &[NewEvent]) -> Result<Vec<Accepted>, LedgerError> {
        let size = batch.iter().map(NewEvent::size).sum();
        let max = super::journal::payload_max(self.core.options.segment_bytes);
        if size + batch.len() * (RECORD_HEAD + seal::OVERHEAD) > max {
            return Err(LedgerError::TooLarge { size, max });
        }
        self.make_room(size, batch.len())?;
        let mark = self.journal.frame.mark();
        let staged = (self.staged.rows.len(), self.staged.fresh.len());
        let mut added = Vec::with_capacity(batch.len());
        let mut accepted = Vec::with_capacity(batch.len());
        for event in batch {
            match event.judge(|key| self.find(key)) {
                Ok(judged) => {
                    added.extend(self.enter(event, &judged).map(|at| (event, at)));
                    accepted.push(judged.accepted());
                }
                Err(error) => {
                    for (event, at) in added {
                        event.keys.written().for_each(|key| self.keys.replace(&key, at, None));
                    }
                    self.journal.frame.go_back(mark.0, mark.1);
                    self.staged.rows.truncate(staged.0);
                    self.staged.fresh.truncate(staged.1);
                    return Err(error);
                }
            }
        }
        Ok(accepted)
    }

    /// Writes the records of an event: itself, or keys for the first one; returns where.
    fn enter(&mut self, event: &NewEvent, judged: &Judged) -> Option<Position> {
        match judged {
            Judged::New => {
                if !event.targets.is_empty() {
                    let (targets, body) = (event.targets.clone(), event.body.clone());
                    self.staged.fresh.push((event.id, targets, body));
                }
                Some(self.add(event))
            }
            Judged::Duplicate { first, missing } if !missing.is_empty() => {
                Some(self.add_keys(&PastEvent {
                    id: first.id,
                    source: event.source.clone(),
                    keys: missing.clone(),
                    fingerprint: event.fingerprint,
                    received_ms: first.received_ms,
                }))
            }
            _ => None,
        }
    }

    /// Adds an event whose keys are unknown.
    fn add(&mut self, event: &NewEvent) -> Position {
        let put = |to: &mut Vec<u8>| record::put_event(to, event, &mut self.gaps);
        let at = self.journal.frame.append(put);
        event.keys.written().for_each(|key| self.keys.insert(&key, at));
        self.staged.rows.push(FullRow::of(event, at.offset()));
        at
    }

    /// Adds keys that are unknown.
    fn add_keys(&mut self, past: &PastEvent) -> Position {
        let at = self.journal.frame.append(|to| record::put_past(to, past));
        past.keys.iter().for_each(|key| self.keys.insert(key, at));
        at
    }

    /// The event that a key belongs to.
    fn find(&mut self, key: &DedupeKey) -> Result<Option<First>, LedgerError> {
        for at in self.keys.find(key) {
            let first = match self.journal.frame.peek(at) {
                Some(payload) => record::owner_of(key, &payload),
                None => {
                    let segment = self.core.segment_at(at)?;
                    let payload = segment.read_into(at.offset(), &mut self.buffer);
                    let payload = payload
                        .map_err(|error| self.core.unreadable(&segment, at.offset(), error))?;
                    record::owner_of(key, &payload)
                }
            };
            if first.is_some() {
                return Ok(first);
            }
        }
        Ok(None)
    }

    /// Whether one of some keys is known.
    fn knows(&mut self, keys: impl IntoIterator<Item = DedupeKey>) -> Result<bool, LedgerError> {
        for key in keys {
            if self.find(&key)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn use_nonces(&mut self, nonces: &[Nonce]) -> Result<Vec<NonceUse>, LedgerError> {
        self.make_room(32 * nonces.len(), nonces.len())?;
        let (now, dropped) = (self.core.nonces_now(), self.core.nonces_after());
        let uses = nonces.iter().map(|nonce| {
            let known = self.nonces.get(&nonce.key.0);
            if known.is_some_and(|expires_ms| *expires_ms > now) {
                return NonceUse::Repeated;
            }
            // One that would be dropped at once is looked up and not stored.
            if nonce.expires_ms <= dropped {
                return NonceUse::First;
            }
            self.nonces.insert(nonce.key.0, nonce.expires_ms);
            self.journal.frame.append(|to| record::put_nonce(to, nonce));
            NonceUse::First
        });
        Ok(uses.collect())
    }
}

// === Deliveries and documents ===

impl Committer {
    fn settle(&mut self, call: &SettleCall, answer: Answer<Vec<Settled>>) {
        if let Err(error) = self.make_room(call.size(), call.settlements.len()) {
            return tell(answer, Err(error));
        }
        let mut lazy = true;
        let mut settled = Vec::with_capacity(call.settlements.len());
        for (settlement, detail) in &call.settlements {
            let now = self.core.now();
            let decision = self.core.deliveries().settle(&call.who, settlement, now);
            settled.push(match decision {
                LeaseDecision::Stale => Settled::Stale,
                LeaseDecision::Postponed => Settled::Applied,
                LeaseDecision::Settled(outcome, attempt) => {
                    let at = self
                        .journal
                        .frame
                        .append(|to| record::put_attempt(to, outcome, attempt, detail));
                    let event = half_id(settlement.event);
                    self.staged.notes.push(Note { event, offset: at.offset() });
                    lazy &= settlement.result.may_be_lost();
                    Settled::Applied
                }
            });
        }
        if !lazy {
            return self.waiting.push(waiting(answer, settled));
        }
        if !self.journal.frame.is_empty() && self.lazy_since.is_none() {
            self.lazy_since = Some(instant());
            self.core.lazy.store(true, Ordering::Release);
        }
        tell(answer, Ok(settled));
    }

    /// Only what is made is written, and counted: the state of a delivery is read here, where it
    /// changes.
    fn replay(&mut self, call: &ReplayCall) -> Result<ReplayPage, LedgerError> {
        self.make_room(call.size(), call.chosen.len())?;
        let now = self.core.now();
        let mut page = ReplayPage { next: call.next.clone(), ..ReplayPage::default() };
        for (event, targets) in &call.chosen {
            // At once, not after the sync: the result of an older lease, written after this record,
            // must not count. If the sync fails, nothing is leased either.
            let made = self.core.deliveries().renew_taken(*event, targets, call.only, now);
            if made.is_empty() {
                continue;
            }
            let put = |to: &mut Vec<u8>| record::put_replay(to, call.id, *event, now, &made);
            let at = self.journal.frame.append(put);
            self.staged.notes.push(Note { event: half_id(*event), offset: at.offset() });
            page.events += 1;
            page.deliveries += made.len() as u64;
        }
        Ok(page)
    }

    /// All changes in one frame: a crash leaves all of them or none.
    fn change_all(&mut self, changes: Vec<DocumentChange>) -> Result<Revision, LedgerError> {
        let revision = Revision(self.revision().0 + 1);
        let written = |change: &DocumentChange| Written::new(revision, change.clone());
        let size = changes.iter().map(|change| written(change).size()).sum();
        self.make_room(size, changes.len())?;
        // Making room may have moved staged changes: versions are read after it.
        for change in &changes {
            let current = self.version(change.kind.as_str(), &change.id);
            if !change.expect.holds(current) {
                return Err(LedgerError::Conflict { current });
            }
        }
        let revision = Revision(self.revision().0 + 1);
        for change in changes {
            self.write_document(Written::new(revision, change));
        }
        Ok(revision)
    }

    fn write_document(&mut self, written: Written) {
        self.journal.frame.append(|to| record::put_document(to, &written));
        self.staged.changes.push(written);
    }

    /// The version of a document, including unsynced changes.
    fn version(&self, kind: &str, id: &str) -> Option<Revision> {
        let mut staged = self.staged.changes.iter().rev();
        match staged.find(|written| written.kind == kind && written.id == id) {
            Some(written) => written.body.as_ref().map(|_| written.revision),
            None => self.core.documents().version(kind, id),
        }
    }

    /// The newest revision, including unsynced changes.
    fn revision(&self) -> Revision {
        let staged = self.staged.changes.iter().map(|written| written.revision).max();
        staged.unwrap_or_else(|| self.core.documents().revision())
    }
}
