//! Writers: tasks that commit the events of a queue.
//!
//! The engine takes a writer's batch when it can commit it. So a second writer waits while the
//! first one's commit is at the disk: all events that arrive meanwhile are in the next commit,
//! which begins without waking any task in between.

use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::Shared;
use super::queue::{Batch, BatchQueue, Stage, Waiter};
use super::recorded::Recorded;
use crate::clock::instant;
use crate::ledger::{Accepted, Ledger, LedgerError, NewEvent};

/// A task that commits the events of one queue until it is empty.
pub(super) struct Writer {
    shared: Arc<Shared>,
    at: usize,
    claim: Arc<Claim>,
    /// Whether the writer has left the queue.
    gone: bool,
}

/// The batch of a writer: taken by the engine when it can commit, then returned.
struct Claim {
    shared: Arc<Shared>,
    at: usize,
    state: Mutex<Claimed>,
}

enum Claimed {
    /// Not yet taken.
    Open,
    Taken(Batch),
    /// The writer does not need the batch any more.
    Closed,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.gone {
            self.queue().abandon(match self.claim.close() {
                Claimed::Open => Stage::Waiting,
                Claimed::Taken(_) | Claimed::Closed => Stage::Committing,
            });
        }
    }
}

impl Claim {
    fn new(shared: &Arc<Shared>, at: usize) -> Arc<Self> {
        Arc::new(Self { shared: Arc::clone(shared), at, state: Mutex::new(Claimed::Open) })
    }

    fn state(&self) -> MutexGuard<'_, Claimed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the batch; an empty one if the writer is gone.
    fn take(&self) -> Arc<Vec<NewEvent>> {
        let mut state = self.state();
        if !matches!(*state, Claimed::Open) {
            return Arc::default();
        }
        let batch = self.shared.queues.get(self.at).take(&self.shared.options);
        let events = Arc::clone(&batch.events);
        *state = Claimed::Taken(batch);
        events
    }

    fn close(&self) -> Claimed {
        mem::replace(&mut self.state(), Claimed::Closed)
    }

    /// Answers callers whose deadline has passed; returns the next deadline.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let queue = self.shared.queues.get(self.at);
        let Claimed::Taken(batch) = &mut *self.state() else { return queue.expire(now) };
        let waiters = batch.waiters.iter_mut();
        let late = waiters.filter_map(|waiter| waiter.take_if(|waiter| waiter.deadline <= now));
        late.for_each(|waiter| waiter.answer(Err(LedgerError::Unknown)));
        let next = batch.waiters.iter().flatten().map(|waiter| waiter.deadline).min();
        [queue.expire(now), next].into_iter().flatten().min()
    }
}

impl Writer {
    /// A writer for queue `at`, which already counts it as waiting.
    pub(super) fn new(shared: Arc<Shared>, at: usize) -> Self {
        let claim = Claim::new(&shared, at);
        Self { shared, at, claim, gone: false }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.linger().await;
            self.commit().await;
            if !self.queue().again() {
                return self.gone = true;
            }
            self.claim = Claim::new(&self.shared, self.at);
        }
    }

    fn queue(&self) -> &BatchQueue {
        self.shared.queues.get(self.at)
    }

    /// Waits for the callers of the last commit, where a sync costs more than that.
    async fn linger(&self) {
        let sync = self.shared.engine.sync_time();
        if !self.shared.has_linger() || self.queue().missing(&self.shared.options) == 0 {
            return;
        }
        let limit = self.shared.options.linger_max.min(sync / 4);
        tokio::select! {
            biased;
            () = self.queue().filled.notified() => {}
            () = pause(limit) => {}
        }
    }

    async fn commit(&self) {
        let accepted = self.accept().await;
        let Batch { events, waiters, began } = match self.claim.close() {
            Claimed::Taken(batch) => batch,
            // The engine failed before it took anything: the waiting events would fail too.
            Claimed::Open | Claimed::Closed => self.queue().take(&self.shared.options),
        };
        if events.is_empty() {
            return;
        }
        self.queue().committed(events.len());
        match accepted {
            Ok(accepted) => {
                let took = instant().saturating_duration_since(began);
                self.shared.observer.committed(took, events.len());
                self.announce(&events, &accepted, waiters);
            }
            Err(error) if events.len() > 1 && is_about_one(&error) => {
                self.one_by_one(&events, waiters).await;
            }
            Err(error) => self.refuse(&error, waiters),
        }
    }

    /// Commits the events one by one after one event failed the whole batch.
    async fn one_by_one(&self, events: &[NewEvent], waiters: Vec<Option<Waiter>>) {
        for (event, waiter) in events.iter().zip(waiters) {
            let events = std::slice::from_ref(event);
            match self.shared.engine.accept(events).await {
                Ok(accepted) => self.announce(events, &accepted, vec![waiter]),
                Err(error) => self.refuse(&error, vec![waiter]),
            }
        }
    }

    fn refuse(&self, error: &LedgerError, waiters: Vec<Option<Waiter>>) {
        self.shared.observer.failed(error, waiters.len());
        for waiter in waiters.into_iter().flatten() {
            waiter.answer(Err(error.clone()));
        }
    }

    fn announce(&self, events: &[NewEvent], accepted: &[Accepted], waiters: Vec<Option<Waiter>>) {
        let mut due = false;
        for ((event, accepted), waiter) in events.iter().zip(accepted).zip(waiters) {
            due |= *accepted == Accepted::Fresh && !event.targets.is_empty();
            if let Some(waiter) = waiter {
                waiter.answer(Ok(Recorded::new(event, accepted)));
            }
        }
        if due {
            self.shared.something_is_due();
        }
    }

    /// Calls the engine, and meanwhile answers callers whose deadline passes.
    async fn accept(&self) -> Result<Vec<Accepted>, LedgerError> {
        let claim = Arc::clone(&self.claim);
        let mut accepted = pin!(self.shared.engine.accept_offer(Box::new(move || claim.take())));
        let mut next = self.queue().earliest();
        loop {
            let wake = next.unwrap_or_else(|| instant() + self.shared.options.patience);
            tokio::select! {
                biased;
                accepted = &mut accepted => return accepted,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            next = self.claim.expire(instant());
        }
    }
}

/// Whether an error, known not to have taken effect, may come from a single event of a batch.
fn is_about_one(error: &LedgerError) -> bool {
    matches!(error, LedgerError::TooLarge { .. } | LedgerError::Corrupt(_))
}

/// Sleeps for less than a millisecond, which tokio's timer cannot. Dropping the future wakes the
/// sleeping thread: nothing is left behind.
async fn pause(time: Duration) {
    let (awake, asleep) = mpsc::channel::<()>();
    let sleeping = tokio::task::spawn_blocking(move || {
        // The time is over or the other end is gone: both end the sleep.
        let _ = asleep.recv_timeout(time);
    });
    // Fails only when the runtime ends, and then lingering is pointless.
    let _ = sleeping.await;
    drop(awake);
}
