//! The closed set of engines. No dynamic dispatch: a call is a match and then the engine's own
//! future.

use std::time::Duration;

use crate::sender::Reason;

#[cfg(any(test, debug_assertions))]
use super::Memory;
use super::{
    Accepted, Cursor, Decided, DeliveryCounts, DeliveryPage, DeliveryQuery, Document,
    DocumentChange, DocumentQuery, Documents, EarlyExpiry, Embedded, Erased, Erasure, EventDetail,
    EventId, EventWindow, ExportPage, GatewayRecord, GatewayReport, Health, HeldId, HeldOne,
    HeldOrder, HeldPage, HeldQuery, HoldOutcome, Holding, Imported, Item, Kind, LeaseAsk,
    LeaseBatch, Ledger, LedgerError, LogPage, LogQuery, NewEvent, NodeId, Nonce, NonceUse,
    Postgres, ReplayOrder, ReplayPage, Retention, Revision, ScrubPage, Settled, Settlement,
    SourceId, Stats, Swept, TargetId,
};

/// How often a gateway looks for deliveries that another one made and did not attempt. Rarely
/// needed: each gateway makes its own attempts at once.
const POLL: Duration = Duration::from_millis(500);

/// One of the engines.
#[derive(Clone, Debug)]
pub enum Engine {
    /// The journal and its index on this machine's disk.
    Embedded(Embedded),
    /// Tables that many gateways share.
    Postgres(Postgres),
    /// The model in memory: lost with the process.
    #[cfg(any(test, debug_assertions))]
    Memory(Memory),
}

impl From<Embedded> for Engine {
    fn from(embedded: Embedded) -> Self {
        Self::Embedded(embedded)
    }
}

impl From<Postgres> for Engine {
    fn from(postgres: Postgres) -> Self {
        Self::Postgres(postgres)
    }
}

#[cfg(any(test, debug_assertions))]
impl From<Memory> for Engine {
    fn from(memory: Memory) -> Self {
        Self::Memory(memory)
    }
}

impl Engine {
    /// The number of concurrent commits that increases throughput.
    #[must_use]
    pub fn writers(&self) -> usize {
        match self {
            Self::Embedded(_) => 1,
            #[cfg(any(test, debug_assertions))]
            Self::Memory(_) => 1,
            Self::Postgres(postgres) => postgres.writers(),
        }
    }

    /// The time until others may have made deliveries; `None`: no other process can.
    #[must_use]
    pub fn look_again(&self) -> Option<Duration> {
        match self {
            Self::Embedded(_) => None,
            #[cfg(any(test, debug_assertions))]
            Self::Memory(_) => None,
            Self::Postgres(_) => Some(POLL),
        }
    }

    /// Whether the engine has its own files that [`Ledger::scrub`] reads.
    #[must_use]
    pub fn has_files(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }
}

macro_rules! each {
    ($self:ident, $engine:ident => $call:expr) => {
        match $self {
            Engine::Embedded($engine) => $call.await,
            Engine::Postgres($engine) => $call.await,
            #[cfg(any(test, debug_assertions))]
            Engine::Memory($engine) => $call.await,
        }
    };
}

impl Ledger for Engine {
    async fn accept(&self, batch: &[NewEvent]) -> Result<Vec<Accepted>, LedgerError> {
        each!(self, engine => engine.accept(batch))
    }

    async fn may_hold_older_keys(&self) -> Result<bool, LedgerError> {
        each!(self, engine => engine.may_hold_older_keys())
    }

    async fn check_nonces(&self, batch: &[Nonce]) -> Result<Vec<NonceUse>, LedgerError> {
        each!(self, engine => engine.check_nonces(batch))
    }

    async fn lease(&self, who: &NodeId, ask: &LeaseAsk) -> Result<LeaseBatch, LedgerError> {
        each!(self, engine => engine.lease(who, ask))
    }

    async fn settle(
        &self,
        who: &NodeId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, LedgerError> {
        each!(self, engine => engine.settle(who, settlements))
    }

    async fn release(&self, who: &NodeId) -> Result<u64, LedgerError> {
        each!(self, engine => engine.release(who))
    }

    async fn replay(
        &self,
        order: &ReplayOrder,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<ReplayPage, LedgerError> {
        each!(self, engine => engine.replay(order, cursor, limit))
    }

    async fn query(
        &self,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<LogPage, LedgerError> {
        each!(self, engine => engine.query(query, cursor, limit))
    }

    async fn event(&self, id: EventId) -> Result<Option<EventDetail>, LedgerError> {
        each!(self, engine => engine.event(id))
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<Option<EventDetail>>, LedgerError> {
        each!(self, engine => engine.events(ids))
    }

    async fn count_deliveries(
        &self,
        events: &[EventId],
        targets: Option<&[TargetId]>,
    ) -> Result<DeliveryCounts, LedgerError> {
        each!(self, engine => engine.count_deliveries(events, targets))
    }

    async fn deliveries(
        &self,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, LedgerError> {
        each!(self, engine => engine.deliveries(query, cursor, limit))
    }

    async fn hold_all(&self, batch: &[Holding]) -> Result<Vec<HoldOutcome>, LedgerError> {
        each!(self, engine => engine.hold_all(batch))
    }

    async fn note_reason(&self, id: HeldId, reason: Reason) -> Result<(), LedgerError> {
        each!(self, engine => engine.note_reason(id, reason))
    }

    async fn held(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<HeldPage, LedgerError> {
        each!(self, engine => engine.held(query, cursor, limit))
    }

    async fn held_one(&self, id: HeldId) -> Result<Option<HeldOne>, LedgerError> {
        each!(self, engine => engine.held_one(id))
    }

    async fn decide(&self, order: &HeldOrder) -> Result<Decided, LedgerError> {
        each!(self, engine => engine.decide(order))
    }

    async fn forget(&self, source: &SourceId) -> Result<u64, LedgerError> {
        each!(self, engine => engine.forget(source))
    }

    async fn erase(&self, erasure: &Erasure) -> Result<Erased, LedgerError> {
        each!(self, engine => engine.erase(erasure))
    }

    async fn expire_early(&self, early: &EarlyExpiry, budget: usize) -> Result<Swept, LedgerError> {
        each!(self, engine => engine.expire_early(early, budget))
    }

    async fn stats(&self) -> Result<Stats, LedgerError> {
        each!(self, engine => engine.stats())
    }

    async fn document(&self, kind: Kind, id: &str) -> Result<Option<Document>, LedgerError> {
        each!(self, engine => engine.document(kind, id))
    }

    async fn documents(&self, kind: Kind) -> Result<Documents, LedgerError> {
        each!(self, engine => engine.documents(kind))
    }

    async fn latest_documents(
        &self,
        query: &DocumentQuery,
        limit: usize,
    ) -> Result<Vec<Document>, LedgerError> {
        each!(self, engine => engine.latest_documents(query, limit))
    }

    async fn change_all(&self, changes: &[DocumentChange]) -> Result<Revision, LedgerError> {
        each!(self, engine => engine.change_all(changes))
    }

    async fn changed(&self, after: Revision, wait: Duration) -> Result<Revision, LedgerError> {
        each!(self, engine => engine.changed(after, wait))
    }

    async fn join(&self, who: &NodeId, ttl: Duration) -> Result<GatewayRecord, LedgerError> {
        each!(self, engine => engine.join(who, ttl))
    }

    async fn report(
        &self,
        report: &GatewayReport,
    ) -> Result<Option<Vec<GatewayRecord>>, LedgerError> {
        each!(self, engine => engine.report(report))
    }

    async fn sweep(&self, policy: &Retention, budget: usize) -> Result<Swept, LedgerError> {
        each!(self, engine => engine.sweep(policy, budget))
    }

    async fn export(
        &self,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        each!(self, engine => engine.export(cursor, bytes))
    }

    async fn events_in(
        &self,
        window: EventWindow,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        each!(self, engine => engine.events_in(window, cursor, bytes))
    }

    async fn scrub(&self, cursor: Option<&Cursor>, bytes: usize) -> Result<ScrubPage, LedgerError> {
        each!(self, engine => engine.scrub(cursor, bytes))
    }

    async fn import(&self, items: Vec<Item>) -> Result<Imported, LedgerError> {
        each!(self, engine => engine.import(items))
    }

    async fn health(&self) -> Result<Health, LedgerError> {
        each!(self, engine => engine.health())
    }
}
