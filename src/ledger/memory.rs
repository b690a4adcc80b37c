//! The model: a ledger in memory, simple enough to be verified by reading.
//!
//! It is the reference for the other engines ([`super::conformance`] and the property tests compare
//! them with it), and serves tests. All data is lost with the process.

mod model;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use self::model::Model;
use super::portable::ImportRevisions;
use super::{
    Accepted, Cursor, Decided, DeliveryCounts, DeliveryPage, DeliveryQuery, Document,
    DocumentChange, DocumentQuery, Documents, Durability, EarlyExpiry, Erased, Erasure,
    EventDetail, EventId, EventWindow, ExportPage, GatewayRecord, GatewayReport, Health, HeldId,
    HeldOne, HeldOrder, HeldPage, HeldQuery, HoldOutcome, Holding, Imported, Item, Kind, LeaseAsk,
    LeaseBatch, LeaseResult, Ledger, LedgerError, LogPage, LogQuery, NewEvent, NodeId, Nonce,
    NonceUse, ReplayOrder, ReplayPage, Retention, Revision, Settled, Settlement, SourceId, Stats,
    StoreClock, Swept, TargetId,
};
use crate::sender::Reason;

/// Whether the settlement with a result fails.
type Fails = fn(LeaseResult) -> bool;

/// A ledger in memory. Clones share it.
#[derive(Clone)]
pub struct Memory {
    model: Arc<Mutex<Model>>,
    revision: Arc<watch::Sender<Revision>>,
    failing: Arc<Mutex<Fails>>,
}

impl Memory {
    /// An empty ledger with `clock` for leases and due times.
    #[must_use]
    pub fn new(clock: StoreClock) -> Self {
        let none: Fails = |_| false;
        Self {
            model: Arc::new(Mutex::new(Model::new(clock))),
            revision: Arc::new(watch::Sender::new(Revision(0))),
            failing: Arc::new(Mutex::new(none)),
        }
    }

    /// Lets each call fail that settles one of these results, from now on.
    #[doc(hidden)]
    pub fn fail_settlements(&self, of: Fails) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = of;
    }

    /// Simulates a restart of an embedded engine for comparisons: leases end, and with them the
    /// unsettled attempts.
    #[doc(hidden)]
    pub fn restart(&self) {
        self.model().restart();
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Ledger for Memory {
    async fn accept(&self, batch: &[NewEvent]) -> Result<Vec<Accepted>, LedgerError> {
        let mut model = self.model();
        Ok(batch.iter().map(|event| model.accept(event)).collect())
    }

    async fn may_hold_older_keys(&self) -> Result<bool, LedgerError> {
        Ok(self.model().imported)
    }

    async fn check_nonces(&self, batch: &[Nonce]) -> Result<Vec<NonceUse>, LedgerError> {
        let mut model = self.model();
        Ok(batch.iter().map(|nonce| model.use_nonce(nonce)).collect())
    }

    async fn lease(&self, who: &NodeId, ask: &LeaseAsk) -> Result<LeaseBatch, LedgerError> {
        Ok(self.model().lease(who, ask))
    }

    async fn settle(
        &self,
        who: &NodeId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, LedgerError> {
        let fails = *self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if settlements.iter().any(|settlement| fails(settlement.result)) {
            return Err(LedgerError::Unavailable("a test lets it fail".to_owned()));
        }
        let mut model = self.model();
        Ok(settlements.iter().map(|settlement| model.settle(who, settlement)).collect())
    }

    async fn release(&self, who: &NodeId) -> Result<u64, LedgerError> {
        Ok(self.model().release(who))
    }

    async fn replay(
        &self,
        order: &ReplayOrder,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<ReplayPage, LedgerError> {
        self.model().replay(order, cursor, limit)
    }

    async fn query(
        &self,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<LogPage, LedgerError> {
        self.model().query(query, cursor, limit)
    }

    async fn event(&self, id: EventId) -> Result<Option<EventDetail>, LedgerError> {
        Ok(self.model().detail(id))
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<Option<EventDetail>>, LedgerError> {
        let model = self.model();
        Ok(ids.iter().map(|id| model.detail(*id)).collect())
    }

    async fn count_deliveries(
        &self,
        events: &[EventId],
        targets: Option<&[TargetId]>,
    ) -> Result<DeliveryCounts, LedgerError> {
        Ok(self.model().count_deliveries(events, targets))
    }

    async fn deliveries(
        &self,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, LedgerError> {
        self.model().deliveries(query, cursor, limit)
    }

    async fn hold_all(&self, batch: &[Holding]) -> Result<Vec<HoldOutcome>, LedgerError> {
        let mut model = self.model();
        Ok(batch.iter().map(|one| model.hold(&one.held, one.bounds)).collect())
    }

    async fn note_reason(&self, id: HeldId, reason: Reason) -> Result<(), LedgerError> {
        self.model().note_reason(id, reason);
        Ok(())
    }

    async fn held(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<HeldPage, LedgerError> {
        self.model().held(query, cursor, limit)
    }

    async fn held_one(&self, id: HeldId) -> Result<Option<HeldOne>, LedgerError> {
        Ok(self.model().held_one(id))
    }

    async fn decide(&self, order: &HeldOrder) -> Result<Decided, LedgerError> {
        Ok(self.model().decide(order))
    }

    async fn forget(&self, source: &SourceId) -> Result<u64, LedgerError> {
        Ok(self.model().forget(source))
    }

    async fn erase(&self, erasure: &Erasure) -> Result<Erased, LedgerError> {
        Ok(self.model().erase(erasure))
    }

    async fn expire_early(&self, early: &EarlyExpiry, budget: usize) -> Result<Swept, LedgerError> {
        Ok(self.model().expire_early(early, budget))
    }

    async fn stats(&self) -> Result<Stats, LedgerError> {
        Ok(self.model().stats())
    }

    async fn document(&self, kind: Kind, id: &str) -> Result<Option<Document>, LedgerError> {
        Ok(self.model().document(kind, id))
    }

    async fn documents(&self, kind: Kind) -> Result<Documents, LedgerError> {
        Ok(self.model().documents(kind))
    }

    async fn latest_documents(
        &self,
        query: &DocumentQuery,
        limit: usize,
    ) -> Result<Vec<Document>, LedgerError> {
        let mut documents = self.model().documents(query.kind).documents;
        documents.retain(|document| query.finds(document));
        Ok(documents.into_iter().rev().take(limit.max(1)).collect())
    }

    async fn change_all(&self, changes: &[DocumentChange]) -> Result<Revision, LedgerError> {
        let revision = self.model().change_all(changes)?;
        self.revision.send_if_modified(|newest| {
            let newer = revision > *newest;
            *newest = revision.max(*newest);
            newer
        });
        Ok(revision)
    }

    async fn changed(&self, after: Revision, wait: Duration) -> Result<Revision, LedgerError> {
        let mut revisions = self.revision.subscribe();
        let newer = revisions.wait_for(|revision| *revision > after);
        // A timeout is not an error: the caller gets the current revision.
        let _ = tokio::time::timeout(wait, newer).await;
        Ok(*self.revision.borrow())
    }

    async fn join(&self, who: &NodeId, ttl: Duration) -> Result<GatewayRecord, LedgerError> {
        Ok(self.model().join(who, ttl))
    }

    async fn report(
        &self,
        report: &GatewayReport,
    ) -> Result<Option<Vec<GatewayRecord>>, LedgerError> {
        Ok(self.model().report(report))
    }

    async fn sweep(&self, policy: &Retention, budget: usize) -> Result<Swept, LedgerError> {
        Ok(self.model().sweep(policy, budget))
    }

    async fn export(
        &self,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        self.model().export(cursor, bytes)
    }

    async fn events_in(
        &self,
        window: EventWindow,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        self.model().events_in(window, cursor, bytes)
    }

    async fn import(&self, items: Vec<Item>) -> Result<Imported, LedgerError> {
        let mut imported = Imported::default();
        let mut model = self.model();
        model.imported |= !items.is_empty();
        let mut revisions = ImportRevisions::default();
        for item in items {
            let taken = model.import(item, &mut revisions, &mut imported.differing);
            imported.taken += u64::from(taken);
            imported.known += u64::from(!taken);
        }
        self.revision.send_replace(model.revision());
        Ok(imported)
    }

    async fn health(&self) -> Result<Health, LedgerError> {
        Ok(Health {
            stopped: None,
            durability: Durability::Unsynced,
            bytes: Some(0),
            room: None,
            mended: Vec::new(),
            server: None,
            damage: Vec::new(),
            unindexed: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::conformance;

    #[tokio::test]
    async fn the_model_conforms() {
        conformance::all(Memory::new).await;
    }
}
