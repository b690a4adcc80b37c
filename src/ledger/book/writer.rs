//! Writers: tasks that commit what waits in a lane.

use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::Shared;
use super::lane::{Batch, Lane, Waiter};
use super::recorded::Recorded;
use crate::clock::instant;
use crate::ledger::{Accepted, LedgerError, NewEvent};

/// A sync this quick is over before lingering could fill a batch.
const QUICK_SYNC: Duration = Duration::from_micros(100);

/// A task that commits what waits in one lane until nothing does.
pub(super) struct Writer {
    shared: Arc<Shared>,
    at: usize,
    /// It has taken its leave of the lane.
    gone: bool,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.gone {
            self.lane().abandon();
        }
    }
}

impl Writer {
    /// A writer for lane `at`, which counts it already.
    pub(super) fn new(shared: Arc<Shared>, at: usize) -> Self {
        Self { shared, at, gone: false }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.linger().await;
            match self.lane().take(&self.shared.options) {
                Some(batch) => self.commit(batch).await,
                None => break self.gone = true,
            }
        }
    }

    fn lane(&self) -> &Lane {
        self.shared.lanes.get(self.at)
    }

    /// Waits for those who waited before to come back, where a sync costs more than that.
    async fn linger(&self) {
        let sync = self.shared.engine.last_sync();
        if sync < QUICK_SYNC || self.lane().missing(&self.shared.options) == 0 {
            return;
        }
        let limit = self.shared.options.linger_max.min(sync / 4);
        tokio::select! {
            biased;
            () = self.lane().filled.notified() => {}
            () = pause(limit) => {}
        }
    }

    async fn commit(&self, batch: Batch) {
        let Batch { events, mut waiters } = batch;
        let events = Arc::new(events);
        let start = instant();
        let accepted = self.accept(&events, &mut waiters).await;
        self.lane().committed(events.len());
        match accepted {
            Ok(accepted) => {
                let took = instant().saturating_duration_since(start);
                self.shared.observer.committed(took, events.len());
                self.announce(&events, &accepted, waiters);
            }
            Err(error) if events.len() > 1 && is_about_one(&error) => {
                self.one_by_one(&events, waiters).await;
            }
            Err(error) => self.refuse(&error, waiters),
        }
    }

    /// One event was at fault for the whole batch: the others shall not suffer for it.
    async fn one_by_one(&self, events: &[NewEvent], waiters: Vec<Option<Waiter>>) {
        for (event, waiter) in events.iter().zip(waiters) {
            let mut waiters = vec![waiter];
            let events = Arc::new(vec![event.clone()]);
            match self.accept(&events, &mut waiters).await {
                Ok(accepted) => self.announce(&events, &accepted, waiters),
                Err(error) => self.refuse(&error, waiters),
            }
        }
    }

    fn refuse(&self, error: &LedgerError, waiters: Vec<Option<Waiter>>) {
        self.shared.observer.failed(error, waiters.len());
        for waiter in waiters.into_iter().flatten() {
            waiter.tell(Err(error.clone()));
        }
    }

    fn announce(&self, events: &[NewEvent], accepted: &[Accepted], waiters: Vec<Option<Waiter>>) {
        let mut due = false;
        for ((event, accepted), waiter) in events.iter().zip(accepted).zip(waiters) {
            due |= *accepted == Accepted::Fresh && !event.targets.is_empty();
            if let Some(waiter) = waiter {
                waiter.tell(Ok(Recorded::new(event, accepted)));
            }
        }
        if due {
            self.shared.something_is_due();
        }
    }

    /// Lets the engine work, and meanwhile tells those whose time is over.
    async fn accept(
        &self,
        events: &Arc<Vec<NewEvent>>,
        waiters: &mut [Option<Waiter>],
    ) -> Result<Vec<Accepted>, LedgerError> {
        let mut accepted = pin!(self.shared.engine.accept_shared(events));
        let mut next = earliest(waiters);
        loop {
            let wake = next.unwrap_or_else(|| instant() + self.shared.options.patience);
            tokio::select! {
                biased;
                accepted = &mut accepted => return accepted,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let now = instant();
            for late in
                waiters.iter_mut().filter_map(|waiter| waiter.take_if(|w| w.deadline <= now))
            {
                late.tell(Err(LedgerError::Unknown));
            }
            next = [self.lane().expire(now), earliest(waiters)].into_iter().flatten().min();
        }
    }
}

/// Whether an error, known not to have taken effect, may come from a single event of a batch.
fn is_about_one(error: &LedgerError) -> bool {
    matches!(error, LedgerError::TooLarge { .. } | LedgerError::Corrupt(_))
}

fn earliest(waiters: &[Option<Waiter>]) -> Option<Instant> {
    waiters.iter().flatten().map(|waiter| waiter.deadline).min()
}

/// Sleeps for less than a millisecond, which tokio's timer cannot. Dropping it wakes the thread
/// that sleeps, so that nothing is left behind.
async fn pause(time: Duration) {
    let (awake, asleep) = mpsc::channel::<()>();
    let sleeping = tokio::task::spawn_blocking(move || {
        // Either the time is over or the other end is gone: both end the sleep.
        let _ = asleep.recv_timeout(time);
    });
    // It fails only when the runtime is ending, and then there is nothing to linger for.
    let _ = sleeping.await;
    drop(awake);
}
