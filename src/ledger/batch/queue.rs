//! Queues of the engines that take a batch from a writer: events wait here for their commit.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::writer::Writer;
use super::{BatchOptions, Recorded, Shared};
use crate::clock::instant;
use crate::ledger::embedded::commit_queue::QUEUES;
use crate::ledger::{LedgerError, NewEvent};

/// All queues, and the size of what is waiting or being committed.
pub(super) struct BatchQueues {
    queues: [BatchQueue; QUEUES],
    events: AtomicUsize,
    events_max: usize,
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// The events of one thread.
#[derive(Default)]
pub(super) struct BatchQueue(Mutex<State>);

#[derive(Default)]
struct State {
    queue: VecDeque<Ticket>,
    writers: usize,
    /// One writer has not taken its batch yet: new events go into it.
    waiting: bool,
}

/// A waiting event and its caller.
struct Ticket {
    event: NewEvent,
    waiter: Waiter,
}

/// The progress of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The writer has no batch yet.
    Waiting,
    /// The engine has the batch.
    Committing,
}

/// A caller that waits for an event, and its deadline.
pub(super) struct Waiter {
    pub(super) deadline: Instant,
    answer: oneshot::Sender<Result<Recorded, LedgerError>>,
}

/// Events that are committed together, and the caller of each: `None` once it was answered.
pub(super) struct Batch {
    pub(super) events: Vec<NewEvent>,
    pub(super) waiters: Vec<Option<Waiter>>,
    /// When the batch was taken.
    pub(super) began: Instant,
}

impl Waiter {
    /// Answers the caller. A caller may have stopped waiting.
    pub(super) fn answer(self, answer: Result<Recorded, LedgerError>) {
        let _ = self.answer.send(answer);
    }
}

impl BatchQueues {
    pub(super) fn new(options: &BatchOptions) -> Self {
        Self {
            queues: Default::default(),
            events: AtomicUsize::new(0),
            events_max: options.queue_events,
            bytes: AtomicUsize::new(0),
            bytes_max: options.queue_bytes,
        }
    }

    pub(super) fn get(&self, at: usize) -> &BatchQueue {
        &self.queues[at]
    }

    /// Takes a place for an event of `bytes`, which [`Self::leave`] gives back. A caller that is
    /// alone always gets one.
    pub(super) fn enter(&self, bytes: usize) -> Result<(), LedgerError> {
        let events = self.events.fetch_add(1, Ordering::Relaxed);
        let others = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if events >= self.events_max || (others > 0 && others + bytes > self.bytes_max) {
            self.leave(bytes);
            return Err(LedgerError::Overloaded);
        }
        Ok(())
    }

    /// Gives the place of an event of `bytes` back.
    pub(super) fn leave(&self, bytes: usize) {
        self.events.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The place of an event, until it is dropped.
struct Place<'a> {
    queues: &'a BatchQueues,
    bytes: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queues.leave(self.bytes);
    }
}

/// The queue of this thread.
pub(super) fn own_queue() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = THREADS.fetch_add(1, Ordering::Relaxed) % QUEUES;
    }
    OWN.with(|own| *own)
}

/// Queues `event` and waits for its result, until `deadline`.
pub(super) async fn record(
    shared: Arc<Shared>,
    event: NewEvent,
    deadline: Instant,
) -> Result<Recorded, LedgerError> {
    let bytes = event.body.len();
    shared.queues.enter(bytes)?;
    let _place = Place { queues: &shared.queues, bytes };
    let (answer, answered) = oneshot::channel();
    let ticket = Ticket { event, waiter: Waiter { deadline, answer } };
    let at = own_queue();
    if shared.queues.get(at).push(ticket, shared.engine.writers()) {
        tokio::spawn(Writer::new(Arc::clone(&shared), at).run());
    }
    // A writer that vanished with its runtime leaves its batch undecided.
    answered.await.unwrap_or(Err(LedgerError::Unknown))
}

impl BatchQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a ticket; returns whether a writer has to be started for it.
    fn push(&self, ticket: Ticket, writers_max: usize) -> bool {
        let mut state = self.state();
        state.queue.push_back(ticket);
        let start = !state.waiting && state.writers < writers_max;
        if start {
            state.writers += 1;
            state.waiting = true;
        }
        start
    }

    /// Takes waiting events, up to the limits of a batch, for the writer that waited for them.
    pub(super) fn take(&self, options: &BatchOptions) -> Batch {
        let began = instant();
        let mut bytes = 0;
        let mut state = self.state();
        state.waiting = false;
        let most = state.queue.len().min(options.batch_events);
        let (mut events, mut waiters) = (Vec::with_capacity(most), Vec::with_capacity(most));
        while let Some(ticket) = state.queue.pop_front_if(|ticket| {
            bytes += ticket.event.body.len();
            events.is_empty() || bytes <= options.batch_bytes
        }) {
            if ticket.waiter.answer.is_closed() {
                continue;
            }
            if ticket.waiter.deadline <= began {
                ticket.waiter.answer(Err(LedgerError::Overloaded));
                continue;
            }
            events.push(ticket.event);
            waiters.push(Some(ticket.waiter));
            if events.len() >= options.batch_events {
                break;
            }
        }
        Batch { events, waiters, began }
    }

    /// Whether a writer has to wait for another batch. If not, it counts as gone from this moment
    /// on, and the next event starts another.
    pub(super) fn again(&self) -> bool {
        let mut state = self.state();
        let again = !state.waiting && !state.queue.is_empty();
        if again {
            state.waiting = true;
        } else {
            state.writers -= 1;
        }
        again
    }

    /// Answers callers whose deadline passed before their commit began.
    pub(super) fn expire(&self, now: Instant) {
        let mut state = self.state();
        for ticket in mem::take(&mut state.queue) {
            if ticket.waiter.deadline <= now {
                ticket.waiter.answer(Err(LedgerError::Overloaded));
            } else {
                state.queue.push_back(ticket);
            }
        }
    }

    /// The earliest deadline of the waiting events.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.state().queue.iter().map(|ticket| ticket.waiter.deadline).min()
    }

    /// Answers all callers after a writer died with its runtime: their events are not recorded.
    pub(super) fn abandon(&self, stage: Stage) {
        let mut state = self.state();
        state.writers -= 1;
        state.waiting &= stage != Stage::Waiting;
        for ticket in state.queue.drain(..) {
            ticket.waiter.answer(Err(LedgerError::Overloaded));
        }
    }
}
