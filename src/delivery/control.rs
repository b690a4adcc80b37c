//! What people do with destinations while the gateway runs: pause, resume, look, try.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::attempt::{AttemptReport, DestinationClient};
use super::breaker::BreakerState;
use super::pauses::{self, Pause, PauseReason};
use crate::ledger::{Attempt, BatchedLedger, EventId, LedgerError, Revision, TargetId};

/// What the courier is asked to do.
#[derive(Debug)]
pub(super) enum Order {
    /// To read the pauses again, and to forget one that is not written down.
    Reload(Option<TargetId>, oneshot::Sender<()>),
    /// To let a probe through to each of these, or to all.
    Probe(Option<Vec<TargetId>>),
    /// To say how a destination is.
    Show(TargetId, oneshot::Sender<Condition>),
    /// To hand out what is needed to call a destination.
    Lend(TargetId, oneshot::Sender<Arc<DestinationClient>>),
}

/// The handle of the delivery service that the admin API has.
#[derive(Clone, Debug)]
pub struct Control {
    book: BatchedLedger,
    orders: mpsc::UnboundedSender<Order>,
}

/// How a destination is.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Its breaker.
    pub breaker: BreakerState,
    /// Why nothing is delivered to it, if nothing is.
    pub paused: Option<Arc<Pause>>,
    /// Attempts under way.
    pub in_flight: usize,
}

/// What is needed to call a destination, as it was when it was lent.
#[derive(Debug)]
pub struct DestinationHandle(Arc<DestinationClient>);

impl DestinationHandle {
    /// Makes one attempt to deliver `stored`. Nothing of it is written down.
    pub async fn attempt(&self, event: EventId, stored: &Bytes) -> Attempt {
        let AttemptReport { attempt, .. } = self.0.attempt(event, stored).await;
        attempt.trimmed()
    }
}

impl Control {
    pub(super) fn new(book: BatchedLedger) -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (orders, todo) = mpsc::unbounded_channel();
        (Self { book, orders }, todo)
    }

    /// Delivers nothing to `target` until it is resumed. Durable, and in force here, when answered;
    /// what is under way ends.
    ///
    /// # Errors
    /// When the ledger cannot write it down; then nothing has changed.
    pub async fn pause(&self, target: &TargetId, who: &str) -> Result<(), LedgerError> {
        self.set(target, Some(PauseReason::Operator), who).await
    }

    /// Goes on delivering to `target`. Durable, and in force here, when answered.
    ///
    /// # Errors
    /// When the ledger cannot write it down; then nothing has changed.
    pub async fn resume(&self, target: &TargetId, who: &str) -> Result<(), LedgerError> {
        self.set(target, None, who).await?;
        self.probe(Some(vec![target.clone()]));
        Ok(())
    }

    /// `target` answered that it wants no more.
    pub(super) async fn gone(&self, target: &TargetId) -> Result<(), LedgerError> {
        self.set(target, Some(PauseReason::Gone), "postern").await
    }

    async fn set(
        &self,
        target: &TargetId,
        why: Option<PauseReason>,
        who: &str,
    ) -> Result<(), LedgerError> {
        pauses::write(&self.book, target, why, who).await?;
        // A courier that has ended delivers nothing anyway.
        let _ = self.ask(|done| Order::Reload(Some(target.clone()), done)).await;
        Ok(())
    }

    /// Waits, `wait` at most, until the ledger's documents are newer than `seen`, has the pauses read
    /// again, and answers the new revision.
    pub(super) async fn reload_after(
        &self,
        seen: Revision,
        wait: Duration,
    ) -> Result<Revision, LedgerError> {
        let revision = self.book.changed(seen, wait).await?;
        if revision > seen {
            let _ = self.ask(|done| Order::Reload(None, done)).await;
        }
        Ok(revision)
    }

    /// Somebody wants deliveries to `targets` now, or to all: an open breaker lets a probe through.
    pub fn probe(&self, targets: Option<Vec<TargetId>>) {
        let _ = self.orders.send(Order::Probe(targets));
    }

    /// How `target` is; `None`: there is none of that name, or the gateway drains.
    pub async fn condition(&self, target: &TargetId) -> Option<Condition> {
        self.ask(|answer| Order::Show(target.clone(), answer)).await
    }

    /// What is needed to call `target` beside all others, paused or not. `None`: there is no such
    /// destination, or the gateway drains.
    pub async fn lend(&self, target: &TargetId) -> Option<DestinationHandle> {
        self.ask(|answer| Order::Lend(target.clone(), answer)).await.map(DestinationHandle)
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).ok()?;
        answered.await.ok()
    }
}
