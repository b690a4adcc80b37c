//! The indexer: a background thread. It prepares the next segment, and writes the tables of closed
//! segments into the index. A segment whose index fails is retried: retention needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::core::Core;
use super::index::{Index, IndexedRun};
use super::run::Run;
use super::segment::{Scan, Segment};
use super::tables::Tables;
use crate::clock::instant;
use crate::ledger::LedgerError;

/// A job of the indexer.
#[derive(Debug)]
pub(super) enum Job {
    /// Prepare a file of zeros.
    MakeSpare,
    /// Index this segment: nothing more is written to it.
    Close(u32),
    /// Retry the segments that wait, at once, and answer whether all of them are indexed now. An
    /// explicit order needs them.
    Retry(Sender<Result<(), LedgerError>>),
}

/// The rest after each use of the disk, as a multiple of its duration: commits take precedence.
const REST: u32 = 3;
/// The longest rest: where a step takes longer, waiting does not help.
const REST_MAX: Duration = Duration::from_millis(10);
/// The number of unindexed segments, including the one being written, from which it no longer
/// rests.
const BEHIND: usize = 3;
/// The niceness of its thread; 19 would be the lowest priority.
const NICE: i32 = 5;
/// The time until a segment that could not be indexed is retried; it doubles with each try. Space that
/// is free again soon is used soon.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest such time: each try reads a segment, and retention waits for it.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The same for the next segment, where a try on a full disk costs nothing.
const SPARE_RETRY_MAX: Duration = Duration::from_secs(8);

/// Closed segments that could not be indexed, and when they are retried. Data is safe: their events
/// are in memory, and retention waits.
#[derive(Default)]
struct Waiting {
    segments: BTreeSet<u32>,
    /// When, and how long after the try before; `None`: no segment waits.
    retry: Option<(Instant, Duration)>,
    /// The same for a next segment that could not be made.
    spare: Option<(Instant, Duration)>,
}

/// Works until there are no more jobs.
pub(super) fn run(core: &Core, jobs: &Receiver<Job>) {
    // Where that is not allowed it has the usual priority.
    let _ = rustix::process::nice(NICE);
    let mut waiting = Waiting::default();
    loop {
        match waiting.next(jobs) {
            Ok(Job::MakeSpare) => waiting.make_spare(core),
            Ok(Job::Close(number)) => {
                // One that fails waits.
                let _ = waiting.close(core, number);
            }
            Ok(Job::Retry(answer)) => {
                // The caller may have stopped waiting.
                let _ = answer.send(waiting.close_now(core));
            }
            Err(RecvTimeoutError::Timeout) => waiting.try_again(core),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
}

impl Waiting {
    /// The next job; a timeout when it is time to try again.
    fn next(&self, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        let retries = [self.retry, self.spare].into_iter().flatten();
        match retries.map(|(at, _)| at).min() {
            None => jobs.recv().or(Err(RecvTimeoutError::Disconnected)),
            Some(at) => jobs.recv_timeout(at.saturating_duration_since(instant())),
        }
    }

    /// Retries what is due.
    fn try_again(&mut self, core: &Core) {
        let now = instant();
        let is_due = |retry: Option<(Instant, Duration)>| retry.is_some_and(|(at, _)| at <= now);
        let (spare, segments) = (is_due(self.spare), is_due(self.retry));
        if spare {
            self.make_spare(core);
        }
        if segments {
            self.close_again(core);
        }
    }

    /// Makes the next segment. One that cannot be made is retried, although the committer makes it too
    /// when it needs it: until then no delivery may begin.
    fn make_spare(&mut self, core: &Core) {
        let Err(error) = make_spare(core) else {
            self.spare = None;
            return;
        };
        let gap = match self.spare {
            Some((_, gap)) => (gap * 2).min(SPARE_RETRY_MAX),
            None => {
                let why = reason(&error);
                core.notice(format!("the next segment is made when it is needed: {why}"));
                RETRY_FIRST
            }
        };
        self.spare = Some((instant() + gap, gap));
    }

    /// Indexes a segment; one that fails waits. Each has its own blocks, so later ones need not.
    fn close(&mut self, core: &Core, number: u32) -> Result<(), LedgerError> {
        let Err(error) = close(core, number) else {
            if self.segments.remove(&number) {
                tracing::info!(segment = number, "a segment that waited for its index has it now");
            }
            return Ok(());
        };
        if self.segments.insert(number) {
            let why = reason(&error);
            core.notice(format!("segment {number} waits for its index, and retention too: {why}"));
            if matches!(error, LedgerError::Corrupt(_)) {
                core.examine_segment(number);
            }
        }
        *core.unindexed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        if self.retry.is_none() {
            self.retry = Some((instant() + RETRY_FIRST, RETRY_FIRST));
        }
        Err(error)
    }

    /// Retries all segments that wait before they are due, which makes no later try later.
    fn close_now(&mut self, core: &Core) -> Result<(), LedgerError> {
        let before = self.retry;
        self.close_again(core);
        if let (Some((_, gap)), Some(_)) = (before, self.retry) {
            self.retry = Some((instant() + gap, gap));
        }
        let failed = core.unindexed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.clone().map_or(Ok(()), Err)
    }

    /// Tries all segments that wait, oldest first. A database that is not available is tried once.
    fn close_again(&mut self, core: &Core) {
        let mut later: Vec<Arc<Segment>> = Vec::new();
        for number in self.segments.clone() {
            let segment = core.segment(number);
            let is_later =
                |segment: &Arc<Segment>| later.iter().any(|other| Index::is_shared(other, segment));
            if segment.as_ref().is_some_and(is_later) || core.go_on().is_err() {
                continue;
            }
            if let Err(LedgerError::Unavailable(_)) = self.close(core, number) {
                later.extend(segment);
            }
        }
        if self.segments.is_empty() {
            self.retry = None;
            *core.unindexed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        } else if let Some((_, gap)) = self.retry {
            let gap = (gap * 2).min(RETRY_MAX);
            self.retry = Some((instant() + gap, gap));
        }
    }
}

/// An error in the index as operators read it: the ledger itself works.
fn reason(error: &LedgerError) -> String {
    match error {
        LedgerError::Unavailable(why) => why.clone(),
        other => other.to_string(),
    }
}

fn make_spare(core: &Core) -> Result<(), LedgerError> {
    if !core.spare.is_empty() {
        return Ok(());
    }
    let rest = |done: u64, took| {
        // Must be ready well before the current segment is full: at half of it.
        if done >= 2 * core.written_of_last() {
            core.rest(took);
        }
    };
    core.spare.put(core.make_spare(&rest)?);
    Ok(())
}

impl Core {
    /// Why a closed segment is not in the index, and retention waits for it; `None`: all are there.
    pub(super) fn waits_for_index(&self) -> Option<String> {
        let waiting = self.unindexed.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = self.lost();
        waiting.as_ref().or_else(|| lost.values().next()).map(reason)
    }

    /// The turn to write to the index: one thread at a time does. It lasts until what was written is
    /// in use, because a renewed database gets only what is. The committer and readers never wait
    /// for it.
    pub(super) fn indexing(&self) -> MutexGuard<'_, ()> {
        self.indexing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if the ledger is being closed: work that takes long ends.
    fn go_on(&self) -> Result<(), LedgerError> {
        match self.closing.load(Ordering::Relaxed) {
            true => Err(LedgerError::Unavailable("the ledger is being closed".to_owned())),
            false => Ok(()),
        }
    }

    /// Makes the database of a segment ready for writing: after a failed write it is opened again.
    /// Only in a turn of [`Self::indexing`]. Cheap if that is not possible yet, so it comes before the
    /// segment is read.
    pub(super) fn ready_index(&self, segment: &Segment) -> Result<(), LedgerError> {
        self.index.open(segment)?;
        if self.index.has_failed(segment) { self.mend_index(segment) } else { Ok(()) }
    }

    /// Writes the tables of a closed segment into the index, in a turn of [`Self::indexing`].
    pub(super) fn index_segment(
        &self,
        segment: &Arc<Segment>,
        tables: &Tables,
        scan: Scan,
    ) -> Result<IndexedRun, LedgerError> {
        self.index.write(segment, tables, scan, &|took| self.rest(took))
    }

    /// Opens the database of a segment again, and writes what it has lost of other segments.
    fn mend_index(&self, segment: &Segment) -> Result<(), LedgerError> {
        let needed = self.options.segment_bytes;
        if let Some(room) = self.room().filter(|room| room.free < needed) {
            // The failed database can still be read. It stays while a new one would fail too.
            let (free, needed) = (room.free >> 20, needed >> 20);
            return Err(LedgerError::Unavailable(format!(
                "the disk of the store has {free} MiB free, and the index may need {needed} MiB"
            )));
        }
        let check_journal = || self.check_rewritable(segment);
        if let Some(why) = self.index.renew(segment, &|| self.go_on(), &check_journal)? {
            self.notice(why);
        }
        for indexed in self.indexed_with(segment) {
            self.go_on()?;
            let (own, number) = (&indexed.segment, indexed.segment.header.number);
            if self.index.find(own)?.is_none() {
                match self.tables_of(&indexed) {
                    Ok(tables) => drop(self.index_segment(own, &tables, indexed.scan())?),
                    Err(LedgerError::Corrupt(what)) => {
                        // The others need their blocks all the same.
                        let what = format!("segment {number} has lost its index: {what}");
                        self.notice(what.clone());
                        self.lost().insert(number, LedgerError::Corrupt(what));
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.lost().remove(&number);
        }
        self.index.note_mended(segment);
        Ok(())
    }

    /// Checks that everything in the database of a segment can be written again from the journal.
    /// Known damage is not looked for again: that would be a long read with each try.
    fn check_rewritable(&self, segment: &Segment) -> Result<(), LedgerError> {
        let all = self.indexed_with(segment);
        all.iter().try_for_each(|indexed| self.check_whole(&indexed.segment))?;
        all.iter().try_for_each(|indexed| {
            self.go_on()?;
            self.tables_of(indexed).map(drop)
        })
    }

    /// The segments in the index that are in the same database as that one.
    fn indexed_with(&self, segment: &Segment) -> Vec<Arc<IndexedRun>> {
        let shared = |run: Run| match run {
            Run::Indexed(indexed) if Index::is_shared(&indexed.segment, segment) => Some(indexed),
            _ => None,
        };
        self.all_runs().into_iter().filter_map(shared).collect()
    }

    /// The tables of a segment in the index, read from its file.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] if the file has other records than the index; damage is noted.
    fn tables_of(&self, indexed: &Arc<IndexedRun>) -> Result<Tables, LedgerError> {
        let segment = &indexed.segment;
        let read = Tables::read(segment).and_then(|(tables, scan)| match scan == indexed.scan() {
            true => Ok(tables),
            false => Err(segment.damaged(scan.end, "a frame is broken")),
        });
        self.noting(&Run::Indexed(Arc::clone(indexed)), read)
    }

    fn lost(&self) -> MutexGuard<'_, BTreeMap<u32, LedgerError>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the disk to the commits after a step of that duration, unless too much work is left
    /// or the ledger is being closed.
    pub(super) fn rest(&self, took: Duration) {
        let behind = self.all_runs().iter().filter(|run| matches!(run, Run::Open(_))).count();
        if behind < BEHIND && !self.closing.load(Ordering::Relaxed) {
            std::thread::sleep((took * REST).min(REST_MAX));
        }
    }
}

/// Reads the segment back, which checks it, cuts off its unused part, and indexes it.
fn close(core: &Core, number: u32) -> Result<(), LedgerError> {
    let Some(Run::Open(written)) = core.run(number) else { return Ok(()) };
    let mut segment = Arc::clone(&written.segment);
    let _turn = core.indexing();
    core.ready_index(&segment)?;
    let (tables, scan) = Tables::read(&segment)?;
    if scan.end != written.published() {
        return Err(segment.damaged(scan.end, "it does not read back as it was written"));
    }
    segment.check_complete(scan)?;
    if segment.file.cut(u64::from(scan.end)).is_ok() {
        segment = Arc::new(Segment::open(&core.files, &core.options.keys, &segment.path)?);
    }
    let at_rest = Arc::new(Segment::at_rest(&core.open_files, &segment));
    let run = core.index_segment(&at_rest, &tables, scan)?;
    core.put_run(number, Run::Indexed(Arc::new(run)));
    Ok(())
}
