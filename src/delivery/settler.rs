//! The clerk writes down what became of deliveries, beside the courier, who never waits for a sync.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::ledger::{BatchedLedger, NodeId, Settled, Settlement};

/// Settlements of one call.
const BATCH: usize = 256;

/// The first pause after a failed call; it doubles up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How often a call is tried: half a minute in all, and then the leases are over anyway.
const TRIES: u32 = 20;

/// Where settlements are handed in. There are never more of them than leases.
#[derive(Debug)]
pub(super) struct Settler {
    desk: UnboundedSender<Settlement>,
    task: JoinHandle<()>,
}

impl Settler {
    /// One that settles in the name of `who`, and calls `written` with what was handed in together
    /// and the answers to it, or with none when it could not be written down.
    pub(super) fn start(
        book: BatchedLedger,
        who: NodeId,
        written: impl Fn(&[Settlement], &[Settled]) + Send + 'static,
    ) -> Self {
        let (desk, pile) = unbounded_channel();
        Self { desk, task: tokio::spawn(work(book, who, pile, written)) }
    }

    /// Takes a settlement in.
    pub(super) fn settle(&self, settlement: Settlement) {
        // It ends before the courier only if it panicked; the lease then ends by itself.
        let _ = self.desk.send(settlement);
    }

    /// Waits until everything that was taken in is written down.
    pub(super) async fn end(self) {
        drop(self.desk);
        let _ = self.task.await;
    }
}

async fn work(
    book: BatchedLedger,
    who: NodeId,
    mut pile: UnboundedReceiver<Settlement>,
    written: impl Fn(&[Settlement], &[Settled]),
) {
    let mut batch = Vec::new();
    while pile.recv_many(&mut batch, BATCH).await > 0 {
        let answers = write(&book, &who, &batch).await;
        warn_of_stale(&batch, &answers);
        written(&batch, &answers);
        batch.clear();
    }
}

async fn write(book: &BatchedLedger, who: &NodeId, batch: &[Settlement]) -> Vec<Settled> {
    let mut pause = PAUSE_FIRST;
    for _ in 0..TRIES {
        let error = match book.settle(who, batch).await {
            Ok(answers) => return answers,
            Err(error) => error,
        };
        tracing::warn!(%error, settlements = batch.len(), "deliveries could not be settled");
        if !error.is_transient() {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    tracing::error!(
        settlements = batch.len(),
        "deliveries stay unsettled; they are made again when their leases are over"
    );
    Vec::new()
}

fn warn_of_stale(batch: &[Settlement], answers: &[Settled]) {
    for (settlement, answer) in batch.iter().zip(answers) {
        if *answer == Settled::Stale {
            let (event, destination) = (settlement.event, settlement.target.as_str());
            // A replay by hand while the attempt was under way, or a lease that was over.
            tracing::debug!(%event, destination, "an attempt ended after its lease");
        }
    }
}
