//! The embedded engine: a journal for durability and sled for lookups. One machine, nothing to
//! install.
//!
//! ```text
//!  callers ─▶ calls ─▶ committer ─▶ journal/0000000007-0.journal   one frame, one sync, answers
//!                          │ closed segments
//!                          ▼
//!                       indexer ──▶ index/…  (sled)                tables of closed segments
//! ```
//!
//! The **journal** is the source of truth (`segment`): append-only segments of checksummed frames,
//! one frame per commit. The **index** can be discarded at any time: it caches, for each closed
//! segment, the result of reading it (`tables`). In memory are the deduplication keys, 20 to 40
//! bytes each (`keys`), the unfinished deliveries (`deliveries`), the documents, and the events of
//! the segment being written (`run`).
//!
//! The start loads the tables and reads the last segment. A torn last frame, which was not
//! acknowledged, is cut and reported in [`Health::mended`]. Damage found anywhere else prevents the
//! start; the error names file and offset. The **manifest** (`manifest`) lists the required
//! segments. Damage found later is recorded (`damage`) and does not stop the ledger; a scrub
//! (`scrub`) looks for it. After a failed write or sync, or a panic of a thread, the ledger returns
//! [`LedgerError::Fatal`] until it is opened again.
//!
//! Durability: everything acknowledged survives a crash of the process and of the operating system.
//! Exceptions: leases and unsettled attempts, which end with the process, and deliveries done in
//! the last 20 ms, which are repeated. The loss of the disk is not survived.

mod age;
mod call;
pub(in crate::ledger) mod commit_queue;
mod committer;
mod core;
mod damage;
mod deliveries;
mod documents;
mod erase;
mod event_hasher;
mod export;
pub(in crate::ledger) mod files;
mod frame;
mod gateway;
mod held;
mod index;
mod indexer;
mod journal;
mod keys;
mod known;
mod lease;
mod lock;
mod manifest;
mod open;
mod open_files;
mod options;
mod poison;
mod query;
mod record;
mod run;
mod scrub;
mod segment;
mod sweep;
mod tables;
#[cfg(test)]
mod tests;
mod tools;
mod window;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use self::call::{Answer, Call, ImportCall, ReplayCall, SettleCall, import_batches};
use self::commit_queue::HandOver;
use self::committer::Committer;
use self::core::Core;
use self::files::{Disk, Files};
use self::indexer::Job;
use self::open::{Opened, open};
pub use self::options::{EmbeddedOptions, OpenProgress, OpenStep};
#[doc(hidden)]
#[cfg(any(test, debug_assertions))]
pub use self::record::{RecordCheck, check_record};
use self::run::Run;
pub use self::tools::{Missing, Survey};
use super::accept::First;
use super::{
    Accepted, Cursor, Decided, DeliveryCounts, DeliveryPage, DeliveryQuery, Document,
    DocumentChange, DocumentQuery, Documents, EarlyExpiry, Erased, Erasure, EventDetail, EventId,
    EventKeys, EventWindow, ExportPage, Fingerprint, GatewayRecord, GatewayReport, Health, HeldId,
    HeldOne, HeldOrder, HeldPage, HeldQuery, HoldOutcome, Holding, Imported, Item, Kind, LeaseAsk,
    LeaseBatch, Ledger, LedgerError, LogPage, LogQuery, NewEvent, NodeId, Nonce, NonceUse,
    ReplayOrder, ReplayPage, Retention, Revision, ScrubPage, Settled, Settlement, SourceId, Stats,
    Swept, TargetId,
};
use crate::sender::Reason;

/// The embedded engine. Clones share it. Dropping the last one writes pending records and frees the
/// directory.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    core: Arc<Core>,
    calls: Option<mpsc::Sender<Call>>,
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    /// Serializes replays and rewrites of segments: a replay reads existing records before it adds
    /// more, a sweep must not delete what it found, and two rewrites must not read one segment.
    rewrite_lock: Arc<Mutex<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        (self.calls, self.jobs) = (None, None);
        self.core.closing.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic was caught and has poisoned the ledger.
            let _ = thread.join();
        }
        // Otherwise a broken last frame looks like the end of a commit that a crash truncated.
        if self.core.poison.reason().is_none()
            && let Err(error) = self.core.note_end()
        {
            tracing::warn!(%error, "could not note the end of the journal in the manifest");
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("path", &self.path()).finish_non_exhaustive()
    }
}

// === Opening and calling ===

impl Embedded {
    /// Opens the ledger in `options.path`, or creates one. Reads the disk and blocks.
    ///
    /// # Errors
    /// [`LedgerError::InUse`] if another process uses it; [`LedgerError::Unavailable`] if the disk
    /// fails; [`LedgerError::Sealed`] if a master key is missing; [`LedgerError::Corrupt`], with
    /// file and offset, if the journal is damaged.
    pub fn open(options: EmbeddedOptions) -> Result<Self, LedgerError> {
        Self::open_with(options, Arc::new(Disk))
    }

    pub(in crate::ledger) fn open_with(
        mut options: EmbeddedOptions,
        files: Arc<dyn Files>,
    ) -> Result<Self, LedgerError> {
        options.segment_bytes = options.segment_bytes.clamp(64 << 10, 1 << 30);
        let Opened { core, memory, journal, unindexed } = open(options, files)?;
        let core = Arc::new(core);
        let (jobs, todo) = mpsc::channel();
        let closed = unindexed.into_iter().map(Job::Close);
        for job in closed.chain([Job::MakeSpare]) {
            // The indexer is not running yet; the channel holds them.
            let _ = jobs.send(job);
        }
        let (calls, taken) = mpsc::channel();
        let committer = Committer::new(Arc::clone(&core), memory, journal, jobs.clone());
        let keeping = Arc::clone(&core);
        let threads = vec![
            start("ledger-commit", &core, move || committer.run(&taken))?,
            start("ledger-keep", &core, move || indexer::run(&keeping, &todo))?,
        ];
        let (calls, jobs, rewrite_lock) = (Some(calls), Some(jobs), Arc::default());
        Ok(Self { shared: Arc::new(Shared { core, calls, jobs, threads, rewrite_lock }) })
    }

    /// Whether there is, or was, a ledger in `path`.
    #[must_use]
    pub fn is_in(path: &Path) -> bool {
        core::journal_dir(path).is_dir() || manifest::path(path).is_file()
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.core().options.path
    }

    /// Sets the duration of a sync: tests need no slow disk.
    #[cfg(test)]
    pub(in crate::ledger) fn pretend_sync(&self, took: Duration) {
        self.core().pretend_sync(took);
    }

    fn core(&self) -> &Arc<Core> {
        &self.shared.core
    }

    /// Whether the ledger may acknowledge anything.
    ///
    /// # Errors
    /// [`LedgerError::Fatal`] after a failed write or sync.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        self.core().poison.check()
    }

    /// Looks a duplicate up without the committer: the durable answer to the event `id`
    /// with these keys and this content, if nothing has to be written for it. `None` says nothing.
    pub(super) fn known_duplicate(
        &self,
        id: EventId,
        keys: &EventKeys,
        fingerprint: Fingerprint,
    ) -> Option<Accepted> {
        let First { id: first, received_ms: first_seen_ms, .. } =
            self.core().known_duplicate(id, keys, fingerprint)?;
        Some(Accepted::Duplicate { first, first_seen_ms })
    }

    /// Tells the committer of the events in a queue.
    pub(super) fn hand_over(&self, message: HandOver) {
        if let Some(calls) = &self.shared.calls {
            // A message that the committer does not get answers its callers.
            let _ = calls.send(Call::Events(message));
        }
    }

    /// Sends a call to the committer and waits for the answer.
    async fn call<T>(&self, call: impl FnOnce(Answer<T>) -> Call) -> Result<T, LedgerError> {
        self.core().poison.check()?;
        let (answer, answered) = oneshot::channel();
        if let Some(calls) = &self.shared.calls
            && calls.send(call(answer)).is_ok()
            && let Ok(result) = answered.await
        {
            return result;
        }
        // The committer ended during the call: with a panic, which is recorded only after this.
        Err(self.core().poison.set("the committer has ended".into()))
    }

    /// Writes the attempts that are only in memory: they are read from the journal.
    async fn write_attempts(&self) -> Result<(), LedgerError> {
        if self.core().lazy.load(Ordering::Acquire) && self.core().poison.reason().is_none() {
            self.call(Call::Flush).await?;
        }
        Ok(())
    }

    /// Takes the lock to replay or to rewrite. It is held until the result is dropped.
    async fn lock_rewrites(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.shared.rewrite_lock).lock_owned().await
    }

    /// As [`Self::read`], under a lock that is held until `work` has ended: it goes on if its caller is
    /// gone.
    async fn read_in<T: Send + 'static>(
        &self,
        lock: OwnedMutexGuard<()>,
        work: impl FnOnce(&Core) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.read(move |core| {
            let worked = work(core);
            drop(lock);
            worked
        })
        .await
    }

    /// Reads on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Core) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let core = Arc::clone(self.core());
        let read = tokio::task::spawn_blocking(move || read(&core));
        read.await
            .unwrap_or_else(|error| Err(LedgerError::Corrupt(format!("a read ended: {error}"))))
    }
}

/// Does work of several steps to its end, also if its caller is gone after the first.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, LedgerError>> + Send + 'static,
) -> Result<T, LedgerError> {
    tokio::spawn(work).await.unwrap_or(Err(LedgerError::Unknown))
}

/// Starts a thread whose panic stops the ledger.
fn start(
    name: &str,
    core: &Arc<Core>,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, LedgerError> {
    let core = Arc::clone(core);
    let thread = name.to_owned();
    let guarded = move || {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            core.poison.set(format!("the thread {thread} panicked"));
        }
    };
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(guarded);
    started.map_err(|error| LedgerError::Unavailable(format!("could not start {name}: {error}")))
}

// === The operations ===

impl Ledger for Embedded {
    async fn accept(&self, batch: &[NewEvent]) -> Result<Vec<Accepted>, LedgerError> {
        self.call(|answer| Call::Accept(batch.to_vec(), answer)).await
    }

    async fn may_hold_older_keys(&self) -> Result<bool, LedgerError> {
        let may = |run: &Run| run.segment().header.may_hold_older_keys();
        Ok(self.core().all_runs().iter().any(may))
    }

    async fn check_nonces(&self, batch: &[Nonce]) -> Result<Vec<NonceUse>, LedgerError> {
        self.call(|answer| Call::Nonces(batch.to_vec(), answer)).await
    }

    async fn lease(&self, who: &NodeId, ask: &LeaseAsk) -> Result<LeaseBatch, LedgerError> {
        self.lease_due(who, ask).await
    }

    async fn settle(
        &self,
        who: &NodeId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, LedgerError> {
        let settle = SettleCall::new(who, settlements);
        self.call(|answer| Call::Settle(settle, answer)).await
    }

    async fn release(&self, who: &NodeId) -> Result<u64, LedgerError> {
        let now = self.core().now();
        Ok(self.core().deliveries().release(who, now))
    }

    async fn replay(
        &self,
        order: &ReplayOrder,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<ReplayPage, LedgerError> {
        let (own, order, cursor) = (self.clone(), order.clone(), cursor.cloned());
        whole(async move {
            let _lock = own.lock_rewrites().await;
            let (id, only) = (order.id, order.only);
            let choose = move |core: &Core| core.choose(&order, cursor.as_ref(), limit);
            let (chosen, next) = own.read(choose).await?;
            if chosen.is_empty() {
                return Ok(ReplayPage { next, ..ReplayPage::default() });
            }
            own.call(|answer| Call::Replay(ReplayCall { id, chosen, only, next }, answer)).await
        })
        .await
    }

    async fn query(
        &self,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<LogPage, LedgerError> {
        let (query, cursor) = (query.clone(), cursor.cloned());
        self.read(move |core| core.query(&query, cursor.as_ref(), limit)).await
    }

    async fn event(&self, id: EventId) -> Result<Option<EventDetail>, LedgerError> {
        self.write_attempts().await?;
        self.read(move |core| core.detail(id)).await
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<Option<EventDetail>>, LedgerError> {
        self.write_attempts().await?;
        let ids = ids.to_vec();
        self.read(move |core| core.details(&ids)).await
    }

    async fn count_deliveries(
        &self,
        events: &[EventId],
        targets: Option<&[TargetId]>,
    ) -> Result<DeliveryCounts, LedgerError> {
        let (events, targets) = (events.to_vec(), targets.map(<[TargetId]>::to_vec));
        self.read(move |core| core.count_deliveries(&events, targets.as_deref())).await
    }

    async fn deliveries(
        &self,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, LedgerError> {
        let (query, cursor) = (query.clone(), cursor.cloned());
        self.read(move |core| core.list(&query, cursor.as_ref(), limit)).await
    }

    async fn hold_all(&self, batch: &[Holding]) -> Result<Vec<HoldOutcome>, LedgerError> {
        let batch = batch.to_vec();
        self.call(|answer| Call::Hold(batch, answer)).await
    }

    async fn note_reason(&self, id: HeldId, reason: Reason) -> Result<(), LedgerError> {
        self.call(|answer| Call::NoteReason(id, reason, answer)).await
    }

    async fn held(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<HeldPage, LedgerError> {
        let (query, cursor) = (query.clone(), cursor.cloned());
        self.read(move |core| core.held_page(&query, cursor.as_ref(), limit)).await
    }

    async fn held_one(&self, id: HeldId) -> Result<Option<HeldOne>, LedgerError> {
        self.read(move |core| core.held_one(id)).await
    }

    async fn decide(&self, order: &HeldOrder) -> Result<Decided, LedgerError> {
        let order = *order;
        self.call(|answer| Call::Decide(order, answer)).await
    }

    async fn forget(&self, source: &SourceId) -> Result<u64, LedgerError> {
        self.core().poison.check()?;
        let lock = self.lock_rewrites().await;
        let Some(calls) = self.shared.calls.clone() else { return Ok(0) };
        self.call(Call::Roll).await?;
        let (own, source) = (self.clone(), source.clone());
        self.read_in(lock, move |core| {
            own.wait_until_indexed()?;
            core.forget(&source, &calls)
        })
        .await
    }

    async fn erase(&self, erasure: &Erasure) -> Result<Erased, LedgerError> {
        self.erase_user(erasure).await
    }

    async fn expire_early(&self, early: &EarlyExpiry, budget: usize) -> Result<Swept, LedgerError> {
        self.expire_source(early, budget).await
    }

    async fn stats(&self) -> Result<Stats, LedgerError> {
        let core = self.core();
        let events = core.all_runs().iter().map(|run| run.len() as u64).sum();
        let targets = core.deliveries().stats(core.now());
        let held = core.held().stats();
        Ok(Stats::sum(events, core.published_keys.load(Ordering::Relaxed), targets, held))
    }

    async fn document(&self, kind: Kind, id: &str) -> Result<Option<Document>, LedgerError> {
        Ok(self.core().documents().get(kind.as_str(), id))
    }

    async fn documents(&self, kind: Kind) -> Result<Documents, LedgerError> {
        Ok(self.core().documents().all(kind))
    }

    async fn latest_documents(
        &self,
        query: &DocumentQuery,
        limit: usize,
    ) -> Result<Vec<Document>, LedgerError> {
        Ok(self.core().documents().latest(query, limit))
    }

    async fn change_all(&self, changes: &[DocumentChange]) -> Result<Revision, LedgerError> {
        self.call(|answer| Call::Change(changes.to_vec(), answer)).await
    }

    async fn changed(&self, after: Revision, wait: Duration) -> Result<Revision, LedgerError> {
        let mut revisions = self.core().revision.subscribe();
        let newer = revisions.wait_for(|revision| *revision > after);
        // A timeout is not an error: the caller gets the current revision.
        let _ = tokio::time::timeout(wait, newer).await;
        Ok(*self.core().revision.borrow())
    }

    async fn join(&self, _: &NodeId, _: Duration) -> Result<GatewayRecord, LedgerError> {
        self.read(|core| gateway::read(&core.options.path)).await
    }

    async fn report(
        &self,
        report: &GatewayReport,
    ) -> Result<Option<Vec<GatewayRecord>>, LedgerError> {
        let body = report.body.clone();
        self.read(move |core| gateway::write(&core.options.path, &body)).await.map(Some)
    }

    async fn sweep(&self, policy: &Retention, budget: usize) -> Result<Swept, LedgerError> {
        self.core().poison.check()?;
        let lock = self.lock_rewrites().await;
        let Some(calls) = self.shared.calls.clone() else { return Ok(Swept::default()) };
        let policy = policy.clone();
        self.read_in(lock, move |core| core.sweep(&policy, budget, &calls)).await
    }

    async fn export(
        &self,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        // No segment is rewritten while a page is read.
        let (lock, cursor) = (self.lock_rewrites().await, cursor.cloned());
        self.read_in(lock, move |core| core.export(cursor.as_ref(), bytes)).await
    }

    async fn events_in(
        &self,
        window: EventWindow,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        // No segment is rewritten while a page is read.
        let (lock, cursor) = (self.lock_rewrites().await, cursor.cloned());
        self.read_in(lock, move |core| core.events_in(window, cursor.as_ref(), bytes)).await
    }

    async fn scrub(&self, cursor: Option<&Cursor>, bytes: usize) -> Result<ScrubPage, LedgerError> {
        let (core, cursor) = (Arc::clone(self.core()), cursor.cloned());
        let (answer, answered) = oneshot::channel();
        // A separate thread, with the lowest priority.
        let step = move || {
            let _ = rustix::process::nice(scrub::NICE);
            let page = core.scrub(cursor.as_ref(), bytes);
            // First this: after the last clone is dropped the directory is free.
            drop(core);
            // The caller may have stopped waiting.
            let _ = answer.send(page);
        };
        let started = std::thread::Builder::new().name("ledger-scrub".to_owned()).spawn(step);
        started.map_err(|error| LedgerError::Unavailable(format!("no thread: {error}")))?;
        answered.await.unwrap_or_else(|_| Err(LedgerError::Corrupt("a scrub ended".to_owned())))
    }

    async fn import(&self, items: Vec<Item>) -> Result<Imported, LedgerError> {
        let max = journal::payload_max(self.core().options.segment_bytes);
        let mut imported = Imported::default();
        for items in import_batches(items, max)? {
            let call = ImportCall::new(items);
            let some = self.call(|answer| Call::Import(call, answer)).await?;
            imported.add(some);
        }
        Ok(imported)
    }

    async fn health(&self) -> Result<Health, LedgerError> {
        self.read(|core| Ok(core.health())).await
    }
}
