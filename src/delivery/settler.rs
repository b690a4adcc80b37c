//! The settler records the results of deliveries. The dispatcher never waits for a sync, but leases
//! nothing more while results cannot be recorded: each of them would be delivered again when its
//! lease expires.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch::{self, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::clock::Backoff;
use crate::ledger::{
    Attempt, BatchedLedger, Lease, LeaseResult, LedgerError, NodeId, Settled, Settlement,
};

/// Settlements of one call.
const BATCH: usize = 256;

/// The first pause after a failed call; it doubles up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A call that takes longer counts as one that fails: leases expire while it waits.
const SLOW: Duration = Duration::from_secs(2);

/// The queues of settlements. Bounded by the number of leases.
#[derive(Debug)]
pub(super) struct Settler {
    /// Results that a crash may undo.
    lazy: Queue,
    /// Results that are durable when they are settled. The others do not wait for them: what makes
    /// a result durable may be missing alone.
    durable: Queue,
    behind: watch::Receiver<usize>,
}

#[derive(Debug)]
struct Queue {
    results: UnboundedSender<Settlement>,
    task: JoinHandle<()>,
}

/// Calls the ledger for one queue.
struct SettleWorker {
    ledger: BatchedLedger,
    who: NodeId,
    /// The number of queues that are behind.
    behind: watch::Sender<usize>,
}

/// Marks a queue as behind until it is dropped.
struct Behind<'c>(&'c watch::Sender<usize>);

impl Settler {
    /// Starts a settler that settles as `who`. Calls `written` with each batch and its answers, or
    /// with no answers if it could not be persisted.
    pub(super) fn start(
        ledger: &BatchedLedger,
        who: &NodeId,
        written: impl Fn(&[Settlement], &[Settled]) + Clone + Send + 'static,
    ) -> Self {
        let (sender, behind) = watch::channel(0);
        let queue = || {
            let (results, pile) = unbounded_channel();
            let (ledger, who, behind) = (ledger.clone(), who.clone(), sender.clone());
            let worker = SettleWorker { ledger, who, behind };
            Queue { results, task: tokio::spawn(work(worker, pile, written.clone())) }
        };
        Self { lazy: queue(), durable: queue(), behind }
    }

    /// Queues a settlement.
    pub(super) fn settle(&self, settlement: Settlement) {
        let may_be_lost = settlement.result.may_be_lost();
        let queue = if may_be_lost { &self.lazy } else { &self.durable };
        // The task ends before the dispatcher only after a panic; the lease then expires.
        let _ = queue.results.send(settlement);
    }

    /// Whether results cannot be settled now: nothing more is to be leased.
    pub(super) fn is_behind(&self) -> bool {
        *self.behind.borrow() > 0
    }

    /// Waits until another queue is behind, or one is not any more.
    ///
    /// # Errors
    /// If both tasks have ended.
    pub(super) async fn changed(&mut self) -> Result<(), RecvError> {
        self.behind.changed().await
    }

    /// Waits until all queued settlements are persisted.
    pub(super) async fn end(self) {
        for Queue { results, task } in [self.lazy, self.durable] {
            drop(results);
            let _ = task.await;
        }
    }
}

async fn work(
    worker: SettleWorker,
    mut pile: UnboundedReceiver<Settlement>,
    written: impl Fn(&[Settlement], &[Settled]),
) {
    let (mut batch, mut behind) = (Vec::new(), None);
    while pile.recv_many(&mut batch, BATCH).await > 0 {
        let answers = worker.settle(&batch, &mut behind).await;
        warn_of_stale(&batch, &answers);
        written(&batch, &answers);
        batch.clear();
        // The leases of results that still wait have ended too: they could be leased again.
        if pile.is_empty() {
            behind = None;
        }
    }
}

impl SettleWorker {
    /// Settles a batch, however long that takes: the ledger accepts a result after the end of its
    /// lease, as long as the delivery was not leased again. Without answers, it never will be.
    /// Marks the queue as behind if that fails or takes long.
    async fn settle<'c>(
        &'c self,
        batch: &[Settlement],
        behind: &mut Option<Behind<'c>>,
    ) -> Vec<Settled> {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_MAX);
        let mark = || Behind::new(&self.behind);
        loop {
            let mut call = pin!(self.ledger.settle(&self.who, batch));
            let in_time = timeout(SLOW, call.as_mut()).await;
            let result = match in_time {
                Ok(result) => result,
                Err(_) => {
                    behind.get_or_insert_with(mark);
                    call.await
                }
            };
            let error = match result {
                Ok(answers) => return answers,
                Err(error) => error,
            };
            tracing::warn!(%error, settlements = batch.len(), "could not settle deliveries");
            if is_final(&error) {
                tracing::error!(
                    settlements = batch.len(),
                    "could not settle deliveries, they are retried when their leases expire"
                );
                return Vec::new();
            }
            behind.get_or_insert_with(mark);
            sleep(backoff.next_pause()).await;
        }
    }
}

/// Whether the same call never succeeds. A missing key concerns every batch: to drop them one by
/// one would deliver them all again.
fn is_final(error: &LedgerError) -> bool {
    !error.is_transient() && !matches!(error, LedgerError::Sealed(_))
}

impl<'c> Behind<'c> {
    fn new(count: &'c watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Behind<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// The settlement of a lease that was not tried.
pub(super) fn postponed(lease: Lease) -> Settlement {
    Settlement {
        event: lease.event,
        target: lease.target,
        token: lease.token,
        result: LeaseResult::Postpone { after: Duration::ZERO },
        attempt: Attempt::default(),
    }
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::ledger::{BatchOptions, EventId, Memory, NoopObserver, StoreClock, TargetId};

    fn done(ms: i64) -> Settlement {
        Settlement {
            event: EventId::new(ms),
            target: TargetId::from("game"),
            token: 1,
            result: LeaseResult::Done,
            attempt: Attempt::default(),
        }
    }

    /// The first result is settled again and again; the second one comes meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_queue_is_behind_until_its_last_result_is_settled() {
        let memory = Memory::new(StoreClock::manual(0));
        memory.fail_settlements(|_| true);
        let observer = Arc::new(NoopObserver);
        let ledger = BatchedLedger::new(memory.clone(), BatchOptions::default(), observer);
        let (sender, mut behind) = watch::channel(0);
        let (results, pile) = unbounded_channel();
        let worker = SettleWorker { ledger, who: NodeId::from("me"), behind: sender };
        let written: Arc<Mutex<Vec<usize>>> = Arc::default();
        let (marks, mark) = (Arc::clone(&written), behind.clone());
        let note =
            move |_: &[Settlement], _: &[Settled]| marks.lock().unwrap().push(*mark.borrow());
        let task = tokio::spawn(work(worker, pile, note));

        results.send(done(1)).unwrap();
        behind.changed().await.unwrap();
        results.send(done(2)).unwrap();
        memory.fail_settlements(|_| false);
        behind.wait_for(|count| *count == 0).await.unwrap();
        drop(results);
        task.await.unwrap();
        assert_eq!(*written.lock().unwrap(), [1, 1]);
    }
}
