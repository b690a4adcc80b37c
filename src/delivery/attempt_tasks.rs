//! The tasks that make attempts: each makes one after the other.
//!
//! A task for each attempt is some kilobytes that are allocated, moved and freed for each delivery.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

use super::attempt::{AttemptReport, DestinationClient};
use super::attempt_trace::AttemptTrace;
use super::destination_state::AttemptPurpose;
use super::verdict_recorder;
use crate::config::{Destination, Mode};
use crate::ledger::{BatchedLedger, EventId, TargetId};

/// Tasks that wait for an attempt; one more ends. So a burst over thousands of destinations does
/// not hold its memory for ever.
const WAITING_MAX: usize = 256;

/// The tasks, and the number of their attempts.
#[derive(Debug)]
pub(super) struct AttemptTasks {
    tasks: JoinSet<()>,
    /// Tasks without an attempt.
    waiting: Vec<Task>,
    in_flight: usize,
    results: UnboundedSender<Finished>,
    finished: UnboundedReceiver<Finished>,
}

/// A delivery in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) event: EventId,
    pub(super) target: TargetId,
    pub(super) token: u64,
    pub(super) number: u32,
    pub(super) destination: Arc<Destination>,
    pub(super) purpose: AttemptPurpose,
}

/// An attempt to make.
#[derive(Debug)]
pub(super) struct AttemptOrder {
    pub(super) flight: InFlight,
    pub(super) client: Arc<DestinationClient>,
    /// The stored event.
    pub(super) body: Bytes,
    /// Where spans are made.
    pub(super) trace: Option<Box<AttemptTrace>>,
}

/// The end of an attempt; without a report, its task stopped unexpectedly.
#[derive(Debug)]
pub(super) struct AttemptEnd {
    pub(super) flight: InFlight,
    pub(super) report: Option<AttemptReport>,
}

/// A task, which ends when this is dropped. While it makes an attempt, the task has it.
#[derive(Debug)]
struct Task(UnboundedSender<Assigned>);

/// An attempt with the task that makes it.
#[derive(Debug)]
struct Assigned {
    order: AttemptOrder,
    task: Task,
}

/// An attempt that has ended, with the task that made it.
#[derive(Debug)]
struct Finished {
    end: AttemptEnd,
    task: Option<Task>,
}

/// An attempt that is being made. Its end is reported even if it panics.
struct Making<'t> {
    flight: Option<InFlight>,
    results: &'t UnboundedSender<Finished>,
}

impl AttemptTasks {
    /// No tasks yet: each is started when all others are busy.
    pub(super) fn new() -> Self {
        let (results, finished) = mpsc::unbounded_channel();
        Self { tasks: JoinSet::new(), waiting: Vec::new(), in_flight: 0, results, finished }
    }

    /// Has an attempt made. `ledger` is asked for earlier verdicts.
    pub(super) fn start(&mut self, order: AttemptOrder, ledger: &BatchedLedger) {
        self.in_flight += 1;
        let task = self.waiting.pop().unwrap_or_else(|| {
            let (task, orders) = mpsc::unbounded_channel();
            self.tasks.spawn(make_all(orders, ledger.clone(), self.results.clone()));
            Task(task)
        });
        let to = task.0.clone();
        // A task receives until it has no sender; after a panic it is not in the list.
        let _ = to.send(Assigned { order, task });
    }

    /// Waits for the end of an attempt.
    pub(super) async fn ended(&mut self) -> Option<AttemptEnd> {
        let finished = self.finished.recv().await?;
        Some(self.note(finished))
    }

    /// The next attempt that has ended already.
    pub(super) fn next_ended(&mut self) -> Option<AttemptEnd> {
        let finished = self.finished.try_recv().ok()?;
        Some(self.note(finished))
    }

    fn note(&mut self, finished: Finished) -> AttemptEnd {
        self.in_flight = self.in_flight.saturating_sub(1);
        match finished.task {
            Some(task) if self.waiting.len() < WAITING_MAX => self.waiting.push(task),
            Some(_) | None => while self.tasks.try_join_next().is_some() {},
        }
        finished.end
    }

    /// Whether an attempt is in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight > 0
    }

    /// Stops all attempts.
    pub(super) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Makes attempts until the task is not needed any more.
async fn make_all(
    mut orders: UnboundedReceiver<Assigned>,
    ledger: BatchedLedger,
    results: UnboundedSender<Finished>,
) {
    while let Some(Assigned { order, task }) = orders.recv().await {
        let AttemptOrder { flight, client, body, mut trace } = order;
        let event = flight.event;
        let mut making = Making { flight: Some(flight), results: &results };
        let mut report = client.attempt(event, &body, trace.as_deref_mut()).await;
        if let (Some(trace), Some(flight)) = (trace, &making.flight) {
            trace.end(&flight.target, &report);
        }
        if let Some(target) = making.inline_target() {
            report.earlier = Box::pin(verdict_recorder::earlier(&ledger, event, target)).await;
        }
        making.end(Some(report), Some(task));
    }
}

impl Making<'_> {
    fn inline_target(&self) -> Option<&TargetId> {
        let flight = self.flight.as_ref()?;
        matches!(flight.destination.mode, Mode::Inline { .. }).then_some(&flight.target)
    }

    fn end(&mut self, report: Option<AttemptReport>, task: Option<Task>) {
        if let Some(flight) = self.flight.take() {
            // Without a dispatcher the lease is released or expires.
            let _ = self.results.send(Finished { end: AttemptEnd { flight, report }, task });
        }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.end(None, None);
    }
}
