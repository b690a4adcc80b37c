//! The settler records the results of deliveries. The dispatcher never waits for a sync.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::ledger::{BatchedLedger, NodeId, Settled, Settlement};

/// Settlements of one call.
const BATCH: usize = 256;

/// The first pause after a failed call; it doubles up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Attempts of one call: 30 s in all; after that the leases have expired anyway.
const TRIES: u32 = 20;

/// The queue of settlements. Bounded by the number of leases.
#[derive(Debug)]
pub(super) struct Settler {
    desk: UnboundedSender<Settlement>,
    task: JoinHandle<()>,
}

impl Settler {
    /// Starts a settler that settles as `who`. Calls `written` with each batch and its answers, or
    /// with no answers if it could not be persisted.
    pub(super) fn start(
        ledger: BatchedLedger,
        who: NodeId,
        written: impl Fn(&[Settlement], &[Settled]) + Send + 'static,
    ) -> Self {
        let (desk, pile) = unbounded_channel();
        Self { desk, task: tokio::spawn(work(ledger, who, pile, written)) }
    }

    /// Queues a settlement.
    pub(super) fn settle(&self, settlement: Settlement) {
        // The task ends before the dispatcher only after a panic; the lease then expires.
        let _ = self.desk.send(settlement);
    }

    /// Waits until all queued settlements are persisted.
    pub(super) async fn end(self) {
        drop(self.desk);
        let _ = self.task.await;
    }
}

async fn work(
    ledger: BatchedLedger,
    who: NodeId,
    mut pile: UnboundedReceiver<Settlement>,
    written: impl Fn(&[Settlement], &[Settled]),
) {
    let mut batch = Vec::new();
    while pile.recv_many(&mut batch, BATCH).await > 0 {
        let answers = write(&ledger, &who, &batch).await;
        warn_of_stale(&batch, &answers);
        written(&batch, &answers);
        batch.clear();
    }
}

async fn write(ledger: &BatchedLedger, who: &NodeId, batch: &[Settlement]) -> Vec<Settled> {
    let mut pause = PAUSE_FIRST;
    for _ in 0..TRIES {
        let error = match ledger.settle(who, batch).await {
            Ok(answers) => return answers,
            Err(error) => error,
        };
        tracing::warn!(%error, settlements = batch.len(), "could not settle deliveries");
        if !error.is_transient() {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    tracing::error!(
        settlements = batch.len(),
        "could not settle deliveries, they are retried when their leases expire"
    );
    Vec::new()
}

fn warn_of_stale(batch: &[Settlement], answers: &[Settled]) {
    for (settlement, answer) in batch.iter().zip(answers) {
        if *answer == Settled::Stale {
            let (event, destination) = (settlement.event, settlement.target.as_str());
            // A manual replay while the attempt was in flight, or an expired lease.
            tracing::debug!(%event, destination, "attempt ended after its lease");
        }
    }
}
