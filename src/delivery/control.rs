//! Operations on destinations at run time: pause, resume, show, test.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Deliveries;
use super::attempt::{AttemptReport, DestinationClient};
use super::breaker::BreakerState;
use super::pauses::{self, Changed, Pause, PauseChange};
use crate::ledger::{Attempt, BatchedLedger, EventId, LedgerError, Revision, TargetId};
use crate::telemetry::HealthView;

/// An order to the dispatcher.
#[derive(Debug)]
pub(super) enum Order {
    /// Read the pauses again, and drop an unwritten one.
    Reload(Option<TargetId>, oneshot::Sender<()>),
    /// Let a probe through to each of these, or to all.
    Probe(Option<Vec<TargetId>>),
    /// Report the condition of a destination.
    Show(TargetId, oneshot::Sender<Condition>),
    /// Note that a destination answered an attempt that was not of a delivery.
    Answered(TargetId),
    /// Return the client of a destination.
    Lend(TargetId, oneshot::Sender<Arc<DestinationClient>>),
}

/// The admin API's handle of the delivery service.
#[derive(Clone, Debug)]
pub struct Control {
    ledger: BatchedLedger,
    deliveries: Deliveries,
    orders: mpsc::UnboundedSender<Order>,
}

/// The condition of a destination.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The state of its breaker.
    pub breaker: BreakerState,
    /// The pause, if it is paused.
    pub paused: Option<Arc<Pause>>,
    /// Attempts in flight.
    pub in_flight: usize,
    /// Its last attempts, as this gateway knows them.
    pub health: HealthView,
}

/// The client of a destination, as configured when it was requested.
#[derive(Debug)]
pub struct DestinationHandle(Arc<DestinationClient>);

impl DestinationHandle {
    /// Makes one attempt to deliver `stored`. The attempt is not recorded.
    pub async fn attempt(&self, event: EventId, stored: &Bytes) -> Attempt {
        let AttemptReport { attempt, .. } = self.0.attempt(event, stored, None).await;
        attempt.trimmed()
    }
}

impl Control {
    pub(super) fn new(
        ledger: BatchedLedger,
        deliveries: Deliveries,
    ) -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (orders, todo) = mpsc::unbounded_channel();
        (Self { ledger, deliveries, orders }, todo)
    }

    /// Whether this gateway sends anything to destinations.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries {
        self.deliveries
    }

    /// Stops deliveries to `target` until it is resumed. `note` is the actor's reason. On return
    /// the pause is durable and applied on this gateway; attempts in flight end normally.
    ///
    /// # Errors
    /// If the ledger cannot persist the pause; then nothing has changed.
    pub async fn pause(
        &self,
        target: &TargetId,
        who: &str,
        note: Option<&str>,
    ) -> Result<(), LedgerError> {
        self.set(target, PauseChange::Pause(note), who).await?;
        Ok(())
    }

    /// Resumes deliveries to `target`. Durable and applied here on return.
    ///
    /// # Errors
    /// If the ledger cannot persist the change; then nothing has changed.
    pub async fn resume(&self, target: &TargetId, who: &str) -> Result<(), LedgerError> {
        self.set(target, PauseChange::Resume, who).await?;
        self.probe(Some(vec![target.clone()]));
        Ok(())
    }

    /// Pauses `target` because it answered 410, unless it is paused.
    pub(super) async fn leave(&self, target: &TargetId) -> Result<(), LedgerError> {
        self.set(target, PauseChange::Leave, "postern").await?;
        Ok(())
    }

    /// Resumes `target`, which accepted a delivery after a 410, unless an operator has paused it.
    pub(super) async fn return_to(&self, target: &TargetId) -> Result<Changed, LedgerError> {
        let changed = self.set(target, PauseChange::Return, "postern").await?;
        self.probe(Some(vec![target.clone()]));
        Ok(changed)
    }

    async fn set(
        &self,
        target: &TargetId,
        change: PauseChange<'_>,
        who: &str,
    ) -> Result<Changed, LedgerError> {
        let changed = pauses::write(&self.ledger, target, change, who).await?;
        // A dispatcher that has ended delivers nothing anyway.
        let _ = self.ask(|done| Order::Reload(Some(target.clone()), done)).await;
        Ok(changed)
    }

    /// Waits, at most for `wait`, until the ledger's documents are newer than `seen`. Then has the
    /// pauses read again and returns the new revision.
    pub(super) async fn reload_after(
        &self,
        seen: Revision,
        wait: Duration,
    ) -> Result<Revision, LedgerError> {
        let revision = self.ledger.changed(seen, wait).await?;
        if revision > seen {
            let _ = self.ask(|done| Order::Reload(None, done)).await;
        }
        Ok(revision)
    }

    /// Lets a probe through an open breaker of each of `targets`, or of all.
    pub fn probe(&self, targets: Option<Vec<TargetId>>) {
        let _ = self.orders.send(Order::Probe(targets));
    }

    /// Notes that `target` accepted an attempt that was not of a delivery: its circuit breaker
    /// closes.
    pub fn answered(&self, target: &TargetId) {
        let _ = self.orders.send(Order::Answered(target.clone()));
    }

    /// The condition of `target`; `None`: it does not exist, or the gateway drains.
    pub async fn condition(&self, target: &TargetId) -> Option<Condition> {
        self.ask(|answer| Order::Show(target.clone(), answer)).await
    }

    /// Whether the configuration has `target`; `None`: the gateway drains.
    pub(super) async fn has(&self, target: &TargetId) -> Option<bool> {
        match self.condition(target).await {
            Some(_) => Some(true),
            // A dispatcher that drains closes its queue before it drops what is in there.
            None => (!self.orders.is_closed()).then_some(false),
        }
    }

    /// The client of `target`, outside of its limits and pauses. `None`: the destination does not
    /// exist, or the gateway drains.
    pub async fn client_of(&self, target: &TargetId) -> Option<DestinationHandle> {
        self.ask(|answer| Order::Lend(target.clone(), answer)).await.map(DestinationHandle)
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).ok()?;
        answered.await.ok()
    }
}
