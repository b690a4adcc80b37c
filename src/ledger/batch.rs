//! The handle that the gateway uses: it gathers events into batches, and makes the proof that one
//! is recorded.
//!
//! Each thread that records has a lane of its own. The first event in an idle lane starts a
//! writer, a task on the same runtime; while its commit is at the disk, the next events queue up
//! and make the next batch, with a writer that waits for the disk to be free. So a lone callback
//! waits for nobody, many share one commit, and one wake-up from the engine serves a whole batch:
//! the answers are handed on within the runtime.
//!
//! Where a sync is slow, the writer lingers for a fraction of it, until those who waited before
//! are back ([`BatchOptions::linger_max`]). A waiter that stops waiting may still be recorded; that
//! is right, because the sender's next try is then a duplicate.

mod queue;
mod recorded;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::queue::BatchQueues;
pub use self::recorded::{DedupResult, Recorded};
use super::{
    Cursor, Decided, DeliveryPage, DeliveryQuery, Document, DocumentChange, Documents, Engine,
    EventDetail, EventId, ExportPage, Health, HeldBounds, HeldId, HeldOne, HeldOrder, HeldPage,
    HeldQuery, HoldOutcome, Holding, Kind, LeaseAsk, LeaseBatch, Ledger, LedgerError, LogPage,
    LogQuery, NewEvent, NewHeld, NodeId, Nonce, NonceUse, ReplayOrder, ReplayPage, Retention,
    Revision, Settled, Settlement, SourceId, Stats, Swept,
};
use crate::sender::Reason;

/// The ledger as the gateway sees it. Clones share it; it may be used from any number of runtimes
/// at once.
#[derive(Clone)]
pub struct BatchedLedger {
    shared: Arc<Shared>,
}

/// What lanes and writers share.
struct Shared {
    engine: Engine,
    options: BatchOptions,
    observer: Arc<dyn Observer>,
    lanes: BatchQueues,
    due: watch::Sender<()>,
}

/// Bounds of a [`BatchedLedger`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Events that may wait at once; one more is told [`LedgerError::Overloaded`].
    pub queue_events: usize,
    /// Bytes of their bodies.
    pub queue_bytes: usize,
    /// Events in one commit.
    pub batch_events: usize,
    /// Bytes of bodies in one commit; a single larger event goes alone.
    pub batch_bytes: usize,
    /// How long [`BatchedLedger::record`] waits before it gives up.
    pub patience: Duration,
    /// The longest linger. It is also never more than a quarter of the last sync.
    pub linger_max: Duration,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            queue_events: 16_384,
            queue_bytes: 64 << 20,
            batch_events: 256,
            batch_bytes: 1 << 20,
            patience: Duration::from_millis(2500),
            linger_max: Duration::from_millis(1),
        }
    }
}

/// Hears of what a [`BatchedLedger`] does, for metrics. Called on the path of an answer: it must be quick
/// and must not block.
pub trait Observer: Send + Sync {
    /// A commit of `events` events took `took`, from when it was handed to the engine.
    fn committed(&self, took: Duration, events: usize);

    /// A commit of `events` events failed.
    fn failed(&self, error: &LedgerError, events: usize) {
        let _ = (error, events);
    }
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn committed(&self, _: Duration, _: usize) {}
}

/// Tells a delivery loop that something may have become due since it last looked.
#[derive(Clone, Debug)]
pub struct Due(watch::Receiver<()>);

impl Due {
    /// Waits until a delivery was made, replayed or given back since the last call. It may return
    /// for nothing; it returns at once, and always, when the book is gone.
    ///
    /// Time that passes wakes nobody: for that a loop waits [`LeaseBatch::next_due`] at most.
    pub async fn wait(&mut self) {
        let _ = self.0.changed().await;
    }
}

impl BatchedLedger {
    /// A book over `engine`.
    #[must_use]
    pub fn new(
        engine: impl Into<Engine>,
        options: BatchOptions,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let lanes = BatchQueues::new(&options);
        let due = watch::Sender::new(());
        Self { shared: Arc::new(Shared { engine: engine.into(), options, observer, lanes, due }) }
    }

    /// Records `event`, or finds out that its transaction is known; waits for
    /// [`BatchOptions::patience`] at most. Must be called within a tokio runtime with time enabled.
    ///
    /// # Errors
    /// As [`BatchedLedger::record_within`].
    pub async fn record(&self, event: NewEvent) -> Result<Recorded, LedgerError> {
        self.record_within(event, self.shared.options.patience).await
    }

    /// Records `event`, or finds out that its transaction is known; waits for `patience` at most.
    ///
    /// What is answered is durable. If the future is dropped the event may be recorded all the
    /// same.
    ///
    /// # Errors
    /// [`LedgerError::Overloaded`] if the queue is full or the time was over before the commit
    /// began; [`LedgerError::Unknown`] if it was over before the commit ended; otherwise as
    /// [`Ledger::accept`], the same for every event of the batch.
    pub async fn record_within(
        &self,
        event: NewEvent,
        patience: Duration,
    ) -> Result<Recorded, LedgerError> {
        queue::record(&self.shared, event, patience).await
    }

    /// A signal for a delivery loop; each has its own.
    #[must_use]
    pub fn due(&self) -> Due {
        Due(self.shared.due.subscribe())
    }

    /// The engine, for what has no method here.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }
}

/// Where syncs are quicker, lingering fills no batch: it is a quarter of a sync at most, and to be
/// woken from it takes a tenth of a millisecond.
const QUICK_SYNC: Duration = Duration::from_micros(400);

impl Shared {
    /// Whether writers linger before a commit: only where a sync costs more than that.
    fn lingers(&self) -> bool {
        self.engine.sync_time() >= QUICK_SYNC
    }

    /// How many writers a lane may have. Where they linger there is one: a second one would take
    /// half of those who are waited for.
    fn writers(&self) -> usize {
        if self.lingers() { 1 } else { self.engine.writers() }
    }

    fn something_is_due(&self) {
        self.due.send_replace(());
    }
}

impl fmt::Debug for BatchedLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchedLedger").field("engine", &self.shared.engine).finish_non_exhaustive()
    }
}

// === What the engine does, handed through. Errors are those of the operation of the same name. ===

#[expect(clippy::missing_errors_doc, reason = "said by the operations of `Ledger`")]
impl BatchedLedger {
    /// See [`Ledger::may_hold_older_keys`].
    pub async fn may_hold_older_keys(&self) -> Result<bool, LedgerError> {
        self.shared.engine.may_hold_older_keys().await
    }

    /// See [`Ledger::check_nonces`].
    pub async fn check_nonces(&self, batch: &[Nonce]) -> Result<Vec<NonceUse>, LedgerError> {
        self.shared.engine.check_nonces(batch).await
    }

    /// See [`Ledger::lease`]. Where others make deliveries too, `next_due` is soon.
    pub async fn lease(&self, who: &NodeId, ask: &LeaseAsk) -> Result<LeaseBatch, LedgerError> {
        let mut batch = self.shared.engine.lease(who, ask).await?;
        if let Some(poll) = self.shared.engine.look_again() {
            batch.next_due = Some(batch.next_due.map_or(poll, |due| due.min(poll)));
        }
        Ok(batch)
    }

    /// See [`Ledger::settle`].
    pub async fn settle(
        &self,
        who: &NodeId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, LedgerError> {
        self.shared.engine.settle(who, settlements).await
    }

    /// See [`Ledger::release`].
    pub async fn release(&self, who: &NodeId) -> Result<u64, LedgerError> {
        let released = self.shared.engine.release(who).await?;
        self.shared.something_is_due();
        Ok(released)
    }

    /// See [`Ledger::replay`].
    pub async fn replay(
        &self,
        order: &ReplayOrder,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<ReplayPage, LedgerError> {
        let page = self.shared.engine.replay(order, cursor, limit).await?;
        self.shared.something_is_due();
        Ok(page)
    }

    /// See [`Ledger::query`].
    pub async fn query(
        &self,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<LogPage, LedgerError> {
        self.shared.engine.query(query, cursor, limit).await
    }

    /// See [`Ledger::event`].
    pub async fn event(&self, id: EventId) -> Result<Option<EventDetail>, LedgerError> {
        self.shared.engine.event(id).await
    }

    /// See [`Ledger::deliveries`].
    pub async fn deliveries(
        &self,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, LedgerError> {
        self.shared.engine.deliveries(query, cursor, limit).await
    }

    /// See [`Ledger::hold`].
    pub async fn hold(
        &self,
        held: &NewHeld,
        bounds: HeldBounds,
    ) -> Result<HoldOutcome, LedgerError> {
        self.shared.engine.hold(held, bounds).await
    }

    /// See [`Ledger::hold_all`].
    pub async fn hold_all(&self, batch: &[Holding]) -> Result<Vec<HoldOutcome>, LedgerError> {
        self.shared.engine.hold_all(batch).await
    }

    /// See [`Ledger::note_reason`].
    pub async fn note_reason(&self, id: HeldId, reason: Reason) -> Result<(), LedgerError> {
        self.shared.engine.note_reason(id, reason).await
    }

    /// See [`Ledger::held`].
    pub async fn held(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<HeldPage, LedgerError> {
        self.shared.engine.held(query, cursor, limit).await
    }

    /// See [`Ledger::held_one`].
    pub async fn held_one(&self, id: HeldId) -> Result<Option<HeldOne>, LedgerError> {
        self.shared.engine.held_one(id).await
    }

    /// See [`Ledger::decide`].
    pub async fn decide(&self, order: &HeldOrder) -> Result<Decided, LedgerError> {
        let decided = self.shared.engine.decide(order).await?;
        self.shared.something_is_due();
        Ok(decided)
    }

    /// See [`Ledger::forget`].
    pub async fn forget(&self, source: &SourceId) -> Result<u64, LedgerError> {
        self.shared.engine.forget(source).await
    }

    /// See [`Ledger::stats`].
    pub async fn stats(&self) -> Result<Stats, LedgerError> {
        self.shared.engine.stats().await
    }

    /// See [`Ledger::document`].
    pub async fn document(&self, kind: Kind, id: &str) -> Result<Option<Document>, LedgerError> {
        self.shared.engine.document(kind, id).await
    }

    /// See [`Ledger::documents`].
    pub async fn documents(&self, kind: Kind) -> Result<Documents, LedgerError> {
        self.shared.engine.documents(kind).await
    }

    /// See [`Ledger::change`].
    pub async fn change(&self, change: &DocumentChange) -> Result<Revision, LedgerError> {
        self.shared.engine.change(change).await
    }

    /// See [`Ledger::change_all`].
    pub async fn change_all(&self, changes: &[DocumentChange]) -> Result<Revision, LedgerError> {
        self.shared.engine.change_all(changes).await
    }

    /// See [`Ledger::changed`].
    pub async fn changed(&self, after: Revision, wait: Duration) -> Result<Revision, LedgerError> {
        self.shared.engine.changed(after, wait).await
    }

    /// See [`Ledger::sweep`].
    pub async fn sweep(&self, policy: &Retention, budget: usize) -> Result<Swept, LedgerError> {
        self.shared.engine.sweep(policy, budget).await
    }

    /// See [`Ledger::export`].
    pub async fn export(
        &self,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        self.shared.engine.export(cursor, bytes).await
    }

    /// See [`Ledger::health`].
    pub async fn health(&self) -> Result<Health, LedgerError> {
        self.shared.engine.health().await
    }
}
