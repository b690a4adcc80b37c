//! Rejected callbacks on their way to the ledger.
//!
//! Most are kept as samples, written together and independently of the reply: a flood of forged
//! calls does not cost a commit each. Rates for each source, and for each caller of it, bound their
//! number, so one caller leaves room for the others. Callbacks in the quarantine of a source are
//! persisted before the acknowledgement. Concurrent ones share one commit.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::clock;
use crate::ledger::{
    BatchedLedger, Cursor, DedupeKey, HeldBounds, HeldId, HeldList, HeldOne, HeldProof, HeldQuery,
    Holding, LedgerError, NewHeld, Rejection,
};

/// Bytes of the body of a sample; a longer one is left out.
pub(super) const SAMPLE_BODY_BYTES: usize = 32 * 1024;

/// How long samples wait for others. A crash loses that much of them.
const LINGER: Duration = Duration::from_millis(250);

/// Maximum of rejections that wait to be written. Beyond it samples are omitted, and a callback
/// that was to be held is not acknowledged.
const QUEUE_MAX: usize = 8192;
const QUEUE_BYTES_MAX: usize = 32 << 20;

/// Of one commit.
const BATCH_MAX: usize = 512;
const BATCH_BYTES_MAX: usize = 2 << 20;

/// How long a full quarantine is not asked again for the same caller: a flood costs no question
/// each.
const FULL_FOR: Duration = Duration::from_secs(5);
/// Callers for which that is noted.
const FULL_MAX: usize = 4096;

/// The log of rejected callbacks, of all gateways. Clones share it.
#[derive(Clone, Default)]
pub struct Rejections(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Empty until the store is open: nothing is kept before.
    store: OnceLock<Store>,
    queue: Mutex<Queue>,
    urgent: Notify,
    full: Mutex<HashMap<DedupeKey, Instant>>,
}

struct Store {
    ledger: BatchedLedger,
    /// Where the writer runs. The runtimes of callbacks end before it.
    runtime: Handle,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    bytes: usize,
    flushes: Vec<oneshot::Sender<()>>,
    writer: Writer,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Writer {
    #[default]
    Idle,
    Busy,
}

type Answer = oneshot::Sender<Result<Option<HeldProof>, LedgerError>>;

struct Waiting {
    holding: Holding,
    size: usize,
    answer: Option<Answer>,
}

impl fmt::Debug for Rejections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejections").finish_non_exhaustive()
    }
}

impl Rejections {
    /// Keeps them in `ledger` from now on, written by a task of the runtime that calls this.
    pub(super) fn open(&self, ledger: BatchedLedger) {
        // One store lasts as long as the process runs.
        let _ = self.0.store.set(Store { ledger, runtime: Handle::current() });
    }

    fn store(&self) -> Result<&Store, LedgerError> {
        self.0.store.get().ok_or(LedgerError::Unavailable("the store is not open yet".into()))
    }

    fn ledger(&self) -> Result<&BatchedLedger, LedgerError> {
        self.store().map(|store| &store.ledger)
    }

    /// Rejected callbacks, newest first, including those that this gateway has not written yet. The
    /// list that the query names is ignored.
    ///
    /// # Errors
    /// The ledger fails, or the cursor is none of this list.
    pub async fn list(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<(Vec<Rejection>, Option<Cursor>), LedgerError> {
        self.flush().await;
        let query = HeldQuery { list: HeldList::Rejected, ..query.clone() };
        let page = self.ledger()?.held(&query, cursor, limit).await?;
        let read = page.held.iter().filter_map(|held| Rejection::read(held).ok());
        Ok((read.collect(), page.next))
    }

    /// A rejected callback; `None`: it is not kept any more, or it became an event.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn get(&self, id: HeldId) -> Result<Option<Rejection>, LedgerError> {
        self.flush().await;
        let one = self.ledger()?.held_one(id).await?;
        Ok(match one {
            Some(HeldOne::Waiting(held)) => Rejection::read(&held).ok(),
            Some(HeldOne::Decided(_)) | None => None,
        })
    }

    /// Waits until what is queued now is written, or cannot be.
    pub async fn flush(&self) {
        let Ok(store) = self.store() else { return };
        let (done, flushed) = oneshot::channel();
        {
            let mut queue = self.0.queue();
            if queue.waiting.is_empty() && queue.writer == Writer::Idle {
                return;
            }
            queue.flushes.push(done);
            self.begin(store, &mut queue);
        }
        self.0.urgent.notify_one();
        let _ = flushed.await;
    }

    /// Keeps a sample, some time after this returns. It may be left out.
    pub(super) fn sample(&self, held: NewHeld) {
        let Ok(store) = self.store() else { return };
        let mut queue = self.0.queue();
        // Half of the room is for what must not be left out.
        if queue.waiting.len() < QUEUE_MAX / 2 && queue.bytes < QUEUE_BYTES_MAX / 2 {
            let holding = Holding { held, bounds: HeldBounds::default() };
            queue.push(holding, None);
            self.begin(store, &mut queue);
        }
    }

    /// Holds a callback in the quarantine of its source: durable when answered. It goes on when the
    /// caller is gone. `None`: the quarantine is full.
    ///
    /// # Errors
    /// The ledger fails, or too many wait.
    pub(super) async fn hold(
        &self,
        held: NewHeld,
        bounds: HeldBounds,
    ) -> Result<Option<HeldProof>, LedgerError> {
        let (store, caller) = (self.store()?, held.anchor);
        if self.0.is_full_for(caller) {
            return Ok(None);
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.0.queue();
            if queue.waiting.len() >= QUEUE_MAX || queue.bytes >= QUEUE_BYTES_MAX {
                return Err(LedgerError::Overloaded);
            }
            queue.push(Holding { held, bounds }, Some(answer));
            self.begin(store, &mut queue);
        }
        self.0.urgent.notify_one();
        let held = answered.await.unwrap_or(Err(LedgerError::Unknown))?;
        if held.is_none() {
            self.0.note_full(caller);
        }
        Ok(held)
    }

    /// Starts the writer unless it runs.
    fn begin(&self, store: &Store, queue: &mut Queue) {
        if queue.writer == Writer::Idle {
            queue.writer = Writer::Busy;
            store.runtime.spawn(write(Ending(Arc::clone(&self.0))));
        }
    }
}

impl Queue {
    fn push(&mut self, holding: Holding, answer: Option<Answer>) {
        let size = holding.held.event.body.len() + 512;
        self.bytes += size;
        self.waiting.push(Waiting { holding, size, answer });
    }

    /// The next batch, in the order of the queue.
    fn take(&mut self) -> Vec<Waiting> {
        let mut bytes = 0;
        let fits = |one: &&Waiting| {
            bytes += one.size;
            bytes <= BATCH_BYTES_MAX
        };
        let count = self.waiting.iter().take(BATCH_MAX).take_while(fits).count();
        let batch: Vec<Waiting> =
            self.waiting.drain(..count.max(1).min(self.waiting.len())).collect();
        self.bytes -= batch.iter().map(|one| one.size).sum::<usize>();
        batch
    }

    fn is_urgent(&self) -> bool {
        !self.flushes.is_empty() || self.waiting.iter().any(|one| one.answer.is_some())
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self) -> MutexGuard<'_, HashMap<DedupeKey, Instant>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full_for(&self, caller: DedupeKey) -> bool {
        self.full().get(&caller).is_some_and(|since| since.elapsed() < FULL_FOR)
    }

    fn note_full(&self, caller: DedupeKey) {
        let mut full = self.full();
        if full.len() >= FULL_MAX {
            full.clear();
        }
        full.insert(caller, clock::instant());
    }

    /// Waits until the queue is urgent or has waited for further rejections.
    async fn gather(&self) {
        let urgent = self.urgent.notified();
        if self.queue().is_urgent() {
            return;
        }
        tokio::select! {
            () = urgent => {}
            () = tokio::time::sleep(LINGER) => {}
        }
    }
}

/// Marks the writer as idle when it ends, also when its runtime does.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.queue().writer = Writer::Idle;
    }
}

/// Writes until nothing is left.
async fn write(ending: Ending) {
    let shared = &ending.0;
    loop {
        shared.gather().await;
        let (batch, flushes) = {
            let mut queue = shared.queue();
            let batch = queue.take();
            let last = queue.waiting.is_empty();
            let flushes = if last { std::mem::take(&mut queue.flushes) } else { Vec::new() };
            (batch, flushes)
        };
        if let Some(store) = shared.store.get() {
            keep(&store.ledger, batch).await;
        }
        for flush in flushes {
            // The waiter may be gone.
            let _ = flush.send(());
        }
        let mut queue = shared.queue();
        if queue.waiting.is_empty() && queue.flushes.is_empty() {
            // Noted under the lock: otherwise an item queued after it would stay.
            queue.writer = Writer::Idle;
            break;
        }
    }
}

async fn keep(ledger: &BatchedLedger, batch: Vec<Waiting>) {
    if batch.is_empty() {
        return;
    }
    let (holdings, answers): (Vec<Holding>, Vec<Option<Answer>>) =
        batch.into_iter().map(|one| (one.holding, one.answer)).unzip();
    let outcomes = ledger.hold_all(&holdings).await;
    if let Err(error) = &outcomes {
        tracing::debug!(%error, count = holdings.len(), "rejected callbacks were not kept");
    }
    for (at, answer) in answers.into_iter().enumerate() {
        let outcome = match &outcomes {
            Ok(outcomes) => outcomes.get(at).copied().ok_or(LedgerError::Unknown),
            Err(error) => Err(error.clone()),
        };
        // The caller may be gone.
        answer.into_iter().for_each(|answer| drop(answer.send(outcome.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{
        BatchOptions, HeldWhy, Memory, NoopObserver, REJECTED_MAX, StoreClock, conformance,
    };

    fn log() -> Rejections {
        let memory = Memory::new(StoreClock::manual(conformance::START_MS));
        let log = Rejections::default();
        log.open(BatchedLedger::new(memory, BatchOptions::default(), Arc::new(NoopObserver)));
        log
    }

    #[tokio::test]
    async fn what_was_queued_is_there_when_the_list_is_read() {
        let log = log();
        let sample = conformance::rejected(1, HeldWhy::Rejected, 1);
        log.sample(sample.clone());
        let (page, next) = log.list(&HeldQuery::default(), None, 10).await.unwrap();
        assert_eq!((page.len(), next), (1, None));
        assert_eq!(log.get(sample.id).await.unwrap().unwrap().id, sample.id);
        assert!(log.get(HeldId::new(1)).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_flood_of_samples_is_bounded_and_the_queue_empties() {
        let log = log();
        for n in 0..QUEUE_MAX as u32 {
            log.sample(conformance::rejected(n, HeldWhy::Rejected, 1));
        }
        assert_eq!(log.0.queue().waiting.len(), QUEUE_MAX / 2);
        log.flush().await;
        assert!(log.0.queue().waiting.is_empty());
        assert_eq!(log.0.queue().bytes, 0);
        let (page, _) = log.list(&HeldQuery::default(), None, 5000).await.unwrap();
        assert_eq!(page.len() as u64, REJECTED_MAX.count);
    }

    #[tokio::test]
    async fn many_hold_at_once_and_a_full_quarantine_is_not_asked_again() {
        let log = log();
        let bounds = HeldBounds { count: 40, bytes: 1 << 20 };
        let hold = |n| {
            let (log, held) = (log.clone(), conformance::rejected(n, HeldWhy::Quarantine, 1));
            tokio::spawn(async move { log.hold(held, bounds).await.unwrap() })
        };
        let all: Vec<_> = (0..50).map(hold).collect();
        let mut held = 0;
        for one in all {
            held += usize::from(one.await.unwrap().is_some_and(|held| held.is_new()));
        }
        assert_eq!(held, 30);
        let one = conformance::rejected(99, HeldWhy::Quarantine, 1);
        assert!(log.0.is_full_for(one.anchor));
        assert_eq!(log.hold(one, bounds).await, Ok(None));
        let other = conformance::rejected(99, HeldWhy::Quarantine, 2);
        let held = log.hold(other.clone(), bounds).await.unwrap().unwrap();
        assert_eq!((held.id(), held.is_new()), (other.id, true));
    }
}
