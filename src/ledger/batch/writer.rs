//! Writers: tasks that commit the events of a queue.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use super::Shared;
use super::queue::{Batch, BatchQueue, Stage, Waiter};
use super::recorded::Recorded;
use crate::clock::instant;
use crate::ledger::{Accepted, Ledger, LedgerError, NewEvent};

/// A task that commits the events of one queue until it is empty.
pub(super) struct Writer {
    shared: Arc<Shared>,
    at: usize,
    stage: Stage,
    /// Whether the writer has left the queue.
    gone: bool,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.gone {
            self.queue().abandon(self.stage);
        }
    }
}

impl Writer {
    /// A writer for queue `at`, which already counts it as waiting.
    pub(super) fn new(shared: Arc<Shared>, at: usize) -> Self {
        Self { shared, at, stage: Stage::Waiting, gone: false }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.commit().await;
            if !self.queue().again() {
                return self.gone = true;
            }
            self.stage = Stage::Waiting;
        }
    }

    fn queue(&self) -> &BatchQueue {
        self.shared.queues.get(self.at)
    }

    async fn commit(&mut self) {
        let Batch { events, mut waiters, began } = self.queue().take(&self.shared.options);
        self.stage = Stage::Committing;
        if events.is_empty() {
            return;
        }
        match self.accept(&events, &mut waiters).await {
            Ok(accepted) => {
                self.announce(&events, &accepted, waiters, began);
            }
            Err(error) if events.len() > 1 && is_about_one(&error) => {
                self.one_by_one(&events, waiters).await;
            }
            Err(error) => self.refuse(&error, waiters),
        }
    }

    /// Commits the events one by one after one event failed the whole batch.
    async fn one_by_one(&self, events: &[NewEvent], mut waiters: Vec<Option<Waiter>>) {
        let mut waiters = waiters.as_mut_slice();
        for event in events {
            let (events, began) = (std::slice::from_ref(event), instant());
            // Those that wait for a later event have deadlines too.
            let accepted = self.accept(events, waiters).await;
            let Some((own, later)) = waiters.split_first_mut() else { return };
            match accepted {
                Ok(accepted) => self.announce(events, &accepted, vec![own.take()], began),
                Err(error) => self.refuse(&error, vec![own.take()]),
            }
            waiters = later;
        }
    }

    fn refuse(&self, error: &LedgerError, waiters: Vec<Option<Waiter>>) {
        self.shared.observer.failed(error, waiters.len());
        for waiter in waiters.into_iter().flatten() {
            waiter.answer(Err(error.clone()));
        }
    }

    /// Answers the callers of a commit that began at `began`.
    fn announce(
        &self,
        events: &[NewEvent],
        accepted: &[Accepted],
        waiters: Vec<Option<Waiter>>,
        began: Instant,
    ) {
        let took = instant().saturating_duration_since(began);
        self.shared.observer.committed(took, events.len());
        let mut due = false;
        for ((event, accepted), waiter) in events.iter().zip(accepted).zip(waiters) {
            due |= *accepted == Accepted::New && !event.targets.is_empty();
            if let Some(waiter) = waiter {
                waiter.answer(Ok(Recorded::new(event.id, event.received_ms, accepted)));
            }
        }
        if due {
            self.shared.something_is_due();
        }
    }

    /// Calls the engine, and meanwhile answers callers whose deadline passes.
    async fn accept(
        &self,
        events: &[NewEvent],
        waiters: &mut [Option<Waiter>],
    ) -> Result<Vec<Accepted>, LedgerError> {
        let mut accepted = pin!(self.shared.engine.accept(events));
        loop {
            let next = [self.queue().earliest(), earliest(waiters)].into_iter().flatten().min();
            let wake = next.unwrap_or_else(|| instant() + self.shared.options.patience);
            tokio::select! {
                biased;
                accepted = &mut accepted => return accepted,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let now = instant();
            self.queue().expire(now);
            for waiter in waiters.iter_mut() {
                let late = waiter.take_if(|waiter| waiter.deadline <= now);
                late.into_iter().for_each(|waiter| waiter.answer(Err(LedgerError::Unknown)));
            }
        }
    }
}

/// The next deadline of the callers of a batch.
fn earliest(waiters: &[Option<Waiter>]) -> Option<Instant> {
    waiters.iter().flatten().map(|waiter| waiter.deadline).min()
}

/// Whether an error, known not to have taken effect, may come from a single event of a batch.
fn is_about_one(error: &LedgerError) -> bool {
    matches!(error, LedgerError::TooLarge { .. } | LedgerError::Corrupt(_))
}
