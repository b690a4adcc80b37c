//! The handle that the gateway uses: it gathers events into batches, and makes the proof that one
//! is recorded.
//!
//! Each thread that records has a queue. With the embedded engine the committer takes what is in
//! the queues (`direct`): the events that come during a sync make the next commit, so a lone
//! callback does not wait, many share one commit, and one wake-up serves a whole batch. Where a
//! sync is slow, the committer lingers for a fraction of it, until those who waited before are back
//! ([`BatchOptions::linger_max`]).
//!
//! For the other engines (`queue`, `writer`) the first event in an idle queue starts a writer, a
//! task on the same runtime, which commits what is there.
//!
//! A waiter that stops waiting may still be recorded; that is right, because the sender's next try
//! is then a duplicate.

mod direct;
mod pending;
mod queue;
mod recorded;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::direct::{Direct, Listener};
pub use self::pending::PendingRecord;
use self::queue::BatchQueues;
pub use self::recorded::{DedupResult, HeldProof, Recorded};
use super::embedded::commit_queue::{CommitLimits, CommitQueues, HandOver};
use super::window::interrupt_archives;
use super::{
    Cursor, Decided, DeliveryCounts, DeliveryPage, DeliveryQuery, Document, DocumentChange,
    DocumentQuery, Documents, EarlyExpiry, Engine, Erased, Erasure, EventDetail, EventId,
    EventKeys, EventWindow, ExportPage, Fingerprint, GatewayRecord, GatewayReport, Health,
    HeldBounds, HeldId, HeldOne, HeldOrder, HeldPage, HeldQuery, Holding, Kind, LeaseAsk,
    LeaseBatch, Ledger, LedgerError, LogPage, LogQuery, NewEvent, NewHeld, NodeId, Nonce, NonceUse,
    ReplayOrder, ReplayPage, Retention, Revision, Settled, Settlement, SourceId, Stats, Swept,
    TargetId,
};
use crate::clock::instant;
use crate::sender::Reason;

/// The gateway's handle of the ledger. Clones share it; any number of runtimes may use it
/// concurrently.
#[derive(Clone)]
pub struct BatchedLedger {
    shared: Arc<Shared>,
}

/// State shared by queues and writers.
struct Shared {
    engine: Engine,
    options: BatchOptions,
    observer: Arc<dyn Observer>,
    queues: BatchQueues,
    /// The queues of an embedded engine.
    direct: Option<Arc<CommitQueues>>,
    due: watch::Sender<()>,
}

/// Bounds of a [`BatchedLedger`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Maximum number of waiting events; one more gets [`LedgerError::Overloaded`].
    pub queue_events: usize,
    /// Bytes of their bodies.
    pub queue_bytes: usize,
    /// Events in one commit.
    pub batch_events: usize,
    /// Bytes of bodies in one commit; a single larger event goes alone.
    pub batch_bytes: usize,
    /// The time limit of [`BatchedLedger::record`].
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

/// Observes a [`BatchedLedger`], for metrics. Called on the reply path: it must be quick and must
/// not block.
pub trait Observer: Send + Sync {
    /// A commit of `events` events took `took`, from when it was handed to the engine.
    fn committed(&self, took: Duration, events: usize);

    /// A commit of `events` events failed.
    fn failed(&self, error: &LedgerError, events: usize) {
        let _ = (error, events);
    }
}

/// A no-op observer.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn committed(&self, _: Duration, _: usize) {}
}

/// Signals a delivery loop that deliveries may have become due.
#[derive(Clone, Debug)]
pub struct Due(watch::Receiver<()>);

impl Due {
    /// Waits until a delivery was made, replayed or released since the last call. May return
    /// without cause; returns at once, and always, when the ledger is gone.
    ///
    /// Time alone wakes no loop: it has to wait [`LeaseBatch::next_due`] at most.
    pub async fn wait(&mut self) {
        let _ = self.0.changed().await;
    }
}

impl BatchedLedger {
    /// A batched ledger over `engine`.
    #[must_use]
    pub fn new(
        engine: impl Into<Engine>,
        options: BatchOptions,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let engine = engine.into();
        let queues = BatchQueues::new(&options);
        let due = watch::Sender::new(());
        let direct = match &engine {
            Engine::Embedded(_) => {
                let limits = CommitLimits {
                    events: options.batch_events,
                    bytes: options.batch_bytes,
                    linger_max: options.linger_max,
                };
                let listener = Listener { observer: Arc::clone(&observer), due: due.clone() };
                Some(Arc::new(CommitQueues::new(limits, Box::new(listener))))
            }
            Engine::Postgres(_) => None,
            #[cfg(any(test, debug_assertions))]
            Engine::Memory(_) => None,
        };
        Self { shared: Arc::new(Shared { engine, options, observer, queues, direct, due }) }
    }

    /// Records `event`, or finds that its transaction is known; waits for
    /// [`BatchOptions::patience`] at most. Must be called within a tokio runtime with time enabled.
    ///
    /// # Errors
    /// As [`BatchedLedger::record_within`].
    pub async fn record(&self, event: NewEvent) -> Result<Recorded, LedgerError> {
        self.record_within(event, self.shared.options.patience).await
    }

    /// Records `event`, or finds that its transaction is known; waits for `patience` at most.
    ///
    /// The result is durable. If the future is dropped the event may still be recorded.
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
        self.submit(event, instant() + patience).await
    }

    /// Submits `event` to be recorded, for a caller that waits until `deadline`. Otherwise as
    /// [`BatchedLedger::record_within`]. Must be called within a tokio runtime with time enabled.
    pub fn submit(&self, event: NewEvent, deadline: Instant) -> PendingRecord {
        let Shared { engine, direct, .. } = &*self.shared;
        match (engine, direct) {
            (Engine::Embedded(embedded), Some(queues)) => {
                let direct = Direct { shared: &self.shared, embedded, queues };
                PendingRecord::queued(direct.submit(event, deadline))
            }
            _ => PendingRecord::of(queue::record(Arc::clone(&self.shared), event, deadline)),
        }
    }

    /// Looks a duplicate up, without a commit: the result that [`BatchedLedger::record`]
    /// would have for the event `id` with these keys and this content. `None` says nothing: the
    /// event has to be recorded, and may be a duplicate all the same.
    #[must_use]
    pub fn known(
        &self,
        id: EventId,
        keys: &EventKeys,
        fingerprint: Fingerprint,
    ) -> Option<Recorded> {
        let Engine::Embedded(embedded) = &self.shared.engine else { return None };
        let accepted = embedded.known_duplicate(id, keys, fingerprint)?;
        Some(Recorded::new(id, id.ms(), &accepted))
    }

    /// A signal for a delivery loop; each has its own.
    #[must_use]
    pub fn due(&self) -> Due {
        Due(self.shared.due.subscribe())
    }

    /// The engine, for operations without a method here.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }
}

impl Shared {
    /// Tells the committer of the events in a queue.
    fn hand_over(&self, message: HandOver) {
        if let Engine::Embedded(embedded) = &self.engine {
            embedded.hand_over(message);
        }
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

// === Operations of the engine. Errors are those of the operation of the same name. ===

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

    /// See [`Ledger::lease`]. Where other gateways make deliveries too, `next_due` is soon.
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

    /// See [`Ledger::events`].
    pub async fn events(&self, ids: &[EventId]) -> Result<Vec<Option<EventDetail>>, LedgerError> {
        self.shared.engine.events(ids).await
    }

    /// See [`Ledger::count_deliveries`].
    pub async fn count_deliveries(
        &self,
        events: &[EventId],
        targets: Option<&[TargetId]>,
    ) -> Result<DeliveryCounts, LedgerError> {
        self.shared.engine.count_deliveries(events, targets).await
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

    /// See [`Ledger::hold`]. `None`: a bound is reached, and nothing was recorded.
    pub async fn hold(
        &self,
        held: &NewHeld,
        bounds: HeldBounds,
    ) -> Result<Option<HeldProof>, LedgerError> {
        let outcome = self.shared.engine.hold(held, bounds).await?;
        Ok(HeldProof::new(held.why, outcome))
    }

    /// See [`Ledger::hold_all`]. `None`: a bound is reached, and nothing was recorded.
    pub async fn hold_all(&self, batch: &[Holding]) -> Result<Vec<Option<HeldProof>>, LedgerError> {
        let outcomes = self.shared.engine.hold_all(batch).await?;
        let held = batch.iter().zip(outcomes);
        Ok(held.map(|(one, outcome)| HeldProof::new(one.held.why, outcome)).collect())
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

    /// See [`Ledger::erase`]. No archive completes a file with what was erased. It goes on when its
    /// caller stops waiting, as one does that hangs up.
    pub async fn erase(&self, erasure: &Erasure) -> Result<Erased, LedgerError> {
        let (shared, erasure) = (Arc::clone(&self.shared), erasure.clone());
        let erased = tokio::spawn(async move {
            let erased = shared.engine.erase(&erasure).await;
            // Deliveries of events that were not erased go on.
            let erased = erased.inspect_err(|_| shared.something_is_due())?;
            interrupt_archives(&shared.engine).await?;
            Ok(erased)
        });
        erased.await.unwrap_or(Err(LedgerError::Unknown))
    }

    /// See [`Ledger::expire_early`].
    pub async fn expire_early(
        &self,
        early: &EarlyExpiry,
        budget: usize,
    ) -> Result<Swept, LedgerError> {
        self.shared.engine.expire_early(early, budget).await
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

    /// See [`Ledger::latest_documents`].
    pub async fn latest_documents(
        &self,
        query: &DocumentQuery,
        limit: usize,
    ) -> Result<Vec<Document>, LedgerError> {
        self.shared.engine.latest_documents(query, limit).await
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

    /// See [`Ledger::join`].
    pub async fn join(&self, who: &NodeId, ttl: Duration) -> Result<GatewayRecord, LedgerError> {
        self.shared.engine.join(who, ttl).await
    }

    /// See [`Ledger::report`].
    pub async fn report(
        &self,
        report: &GatewayReport,
    ) -> Result<Option<Vec<GatewayRecord>>, LedgerError> {
        self.shared.engine.report(report).await
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

    /// See [`Ledger::events_in`].
    pub async fn events_in(
        &self,
        window: EventWindow,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        self.shared.engine.events_in(window, cursor, bytes).await
    }

    /// See [`Ledger::health`].
    pub async fn health(&self) -> Result<Health, LedgerError> {
        self.shared.engine.health().await
    }
}
