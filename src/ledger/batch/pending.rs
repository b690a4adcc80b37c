//! An event on its way into the ledger.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Recorded;
use super::direct::QueuedEvent;
use crate::ledger::LedgerError;

type Answer = Result<Recorded, LedgerError>;

/// The result to come of an event that was submitted. If this is dropped, the event may still be
/// recorded.
#[must_use = "the result says whether the event is recorded"]
pub struct PendingRecord(State);

enum State {
    /// In a queue of the embedded engine: most are, and have no future of their own.
    Queued(QueuedEvent),
    /// With a writer of another engine.
    Written(Pin<Box<dyn Future<Output = Answer> + Send>>),
    /// Not queued.
    Refused(LedgerError),
}

impl PendingRecord {
    pub(super) fn queued(queued: Result<QueuedEvent, LedgerError>) -> Self {
        Self(match queued {
            Ok(queued) => State::Queued(queued),
            Err(error) => State::Refused(error),
        })
    }

    pub(super) fn of(written: impl Future<Output = Answer> + Send + 'static) -> Self {
        Self(State::Written(Box::pin(written)))
    }
}

impl Future for PendingRecord {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut self.0 {
            State::Queued(queued) => queued.poll(cx),
            State::Written(written) => written.as_mut().poll(cx),
            State::Refused(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl fmt::Debug for PendingRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingRecord")
    }
}
