//! Recording with the embedded engine: its committer gathers the events itself, from a queue for
//! each thread.
//!
//! A queue has a driver while callers wait in it: a task of their runtime. The driver runs after
//! all tasks that were ready before, and again after the requests that came meanwhile. It tells the
//! committer of events when no more have come, when there are many, or when it has looked often
//! enough: what the thread has to record at that time is one batch. Each commit wakes two threads
//! and costs as much as several callbacks, however many events it has. A full batch is handed over
//! at once.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::queue::own_queue;
use super::recorded::Recorded;
use super::{Observer, Shared};
use crate::clock::{UnixMillis, instant};
use crate::ledger::embedded::commit_queue::{
    CommitListener, CommitQueues, Gathered, Gathering, Progress, Ticket,
};
use crate::ledger::{Embedded, EventId, LedgerError, NewEvent};

/// The listener of the queues of a [`super::BatchedLedger`].
pub(super) struct Listener {
    pub(super) observer: Arc<dyn Observer>,
    pub(super) due: tokio::sync::watch::Sender<()>,
}

impl CommitListener for Listener {
    fn committed(&self, took: Duration, events: usize) {
        self.observer.committed(took, events);
    }

    fn failed(&self, error: &LedgerError, events: usize) {
        self.observer.failed(error, events);
    }

    fn deliveries_due(&self) {
        self.due.send_replace(());
    }
}

/// The way of events to an embedded engine.
pub(super) struct Direct<'s> {
    pub(super) shared: &'s Arc<Shared>,
    pub(super) embedded: &'s Embedded,
    pub(super) queues: &'s Arc<CommitQueues>,
}

/// An event in a queue, and the place of its caller, which is left when this is dropped.
pub(super) struct QueuedEvent {
    shared: Arc<Shared>,
    queues: Arc<CommitQueues>,
    at: usize,
    ticket: Option<Ticket>,
    id: EventId,
    received_ms: UnixMillis,
    body_bytes: usize,
}

/// The duty to say that the driver of a queue has ended.
struct DriverGuard {
    queues: Arc<CommitQueues>,
    at: usize,
    has_ended: bool,
}

impl Drop for QueuedEvent {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.queues.leave(self.at, ticket);
        }
        self.shared.queues.leave(self.body_bytes);
    }
}

impl Drop for DriverGuard {
    fn drop(&mut self) {
        if !self.has_ended {
            self.queues.detach_driver(self.at);
        }
    }
}

impl Direct<'_> {
    /// Queues `event`, for a caller that waits until `deadline`.
    pub(super) fn submit(
        self,
        event: NewEvent,
        deadline: Instant,
    ) -> Result<QueuedEvent, LedgerError> {
        let Self { shared, embedded, queues } = self;
        embedded.check()?;
        let (id, received_ms, body_bytes) = (event.id, event.received_ms, event.body.len());
        shared.queues.enter(body_bytes)?;
        let at = own_queue();
        let added = queues.add(at, event, deadline);
        let (shared, queues) = (Arc::clone(shared), Arc::clone(queues));
        let ticket = Some(added.ticket);
        let queued = QueuedEvent { shared, queues, at, ticket, id, received_ms, body_bytes };
        if added.hands_over {
            embedded.hand_over(queued.queues.hand_over(at));
        }
        if added.starts_driver {
            queued.start_driver();
        }
        Ok(queued)
    }
}

impl QueuedEvent {
    /// The result, if it is there; otherwise the caller is woken.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Recorded, LedgerError>> {
        let Some(ticket) = self.ticket else { return Poll::Ready(Err(LedgerError::Unknown)) };
        match self.queues.progress(self.at, ticket, cx.waker()) {
            Progress::Answered(answer) => {
                self.ticket = None;
                let recorded =
                    answer.map(|accepted| Recorded::new(self.id, self.received_ms, &accepted));
                return Poll::Ready(recorded);
            }
            Progress::Waiting => {}
            Progress::Undriven => self.start_driver(),
        }
        Poll::Pending
    }

    fn start_driver(&self) {
        let (queues, at) = (Arc::clone(&self.queues), self.at);
        let guard = DriverGuard { queues, at, has_ended: false };
        tokio::spawn(drive(Arc::downgrade(&self.shared), guard));
    }
}

/// Has the task polled again after all others that are ready, and after those with requests that
/// have come by then.
fn look_again(cx: &mut Context<'_>) {
    // Its first poll leaves the waker with the runtime, which calls it once it has looked at the
    // sockets.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

/// Tells the committer of events, wakes callers with an answer, and watches their deadlines, until
/// no caller is waiting.
///
/// The driver does not keep the ledger open.
async fn drive(shared: Weak<Shared>, mut guard: DriverGuard) {
    let mut alarm = pin!(tokio::time::sleep(Duration::ZERO));
    let mut set_to: Option<Instant> = None;
    let mut awake: Vec<Waker> = Vec::new();
    let mut gathering = Gathering::default();
    poll_fn(|cx| {
        loop {
            let DriverGuard { queues, at, .. } = &guard;
            let duties = queues.attend(*at, cx.waker(), &mut awake, &mut gathering);
            match duties.gathered {
                Gathered::Nothing => {}
                Gathered::More => look_again(cx),
                Gathered::All => {
                    let message = queues.hand_over(*at);
                    if let Some(shared) = shared.upgrade() {
                        shared.hand_over(message);
                    }
                }
            }
            awake.drain(..).for_each(Waker::wake);
            let Some(deadline) = duties.deadline else {
                guard.has_ended = true;
                return Poll::Ready(());
            };
            if set_to == Some(deadline) && !alarm.is_elapsed() {
                return Poll::Pending;
            }
            if set_to != Some(deadline) {
                alarm.as_mut().reset(deadline.into());
                set_to = Some(deadline);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            set_to = None;
            queues.expire(*at, instant());
        }
    })
    .await;
}
