//! Recording an event, even when its sender hangs up meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::callback_log::CallbackRecord;
use crate::clock;
use crate::ledger::{DedupResult, LedgerError, PendingRecord, Recorded};
use crate::sender::Outcome;

type Answer = Result<Recorded, LedgerError>;

/// Waits for the ledger. If the sender hangs up, this is dropped before the ledger has answered.
/// The event is recorded all the same, and its record then states the outcome.
pub(super) struct Commit<'e> {
    record: &'e mut Option<CallbackRecord>,
    /// The answer to come; `None` once it has come.
    answer: &'e mut Option<PendingRecord>,
}

impl<'e> Commit<'e> {
    pub(super) fn new(
        record: &'e mut Option<CallbackRecord>,
        answer: &'e mut Option<PendingRecord>,
    ) -> Self {
        Self { record, answer }
    }
}

impl Future for Commit<'_> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(pending) = self.answer.as_mut() else {
            return Poll::Ready(Err(LedgerError::Unknown));
        };
        let answer = std::task::ready!(Pin::new(pending).poll(cx));
        *self.answer = None;
        if let Some(record) = self.record.as_mut() {
            conclude(record, &answer);
        }
        Poll::Ready(answer)
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        let Some(pending) = self.answer.take() else { return };
        let Some(mut record) = self.record.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let answer = pending.await;
                conclude(&mut record, &answer);
            });
        }
    }
}

/// The answer about a callback that the ledger knew without being asked to record it.
pub(super) fn known(record: &mut Option<CallbackRecord>, recorded: Recorded) -> Answer {
    let answer = Ok(recorded);
    record.iter_mut().for_each(|record| conclude(record, &answer));
    answer
}

/// Notes the outcome of a verified callback.
fn conclude(record: &mut CallbackRecord, answer: &Answer) {
    record.trace.iter_mut().for_each(|trace| trace.recorded());
    match answer {
        Ok(recorded) => {
            record.set_event(recorded.first());
            record.set_outcome(outcome(recorded));
            match recorded.result() {
                // The rate is that of new callbacks: one that is sent again must not use it up.
                DedupResult::New => {
                    let rate = record.route.rate.as_ref();
                    rate.into_iter().for_each(|rate| rate.charge(clock::instant()));
                }
                DedupResult::Duplicate | DedupResult::Conflict | DedupResult::Ambiguous => {
                    record.limit_logging();
                }
            }
        }
        Err(error) => {
            tracing::debug!(%error, "not recorded");
            record.set_outcome(Outcome::Unavailable);
        }
    }
}

/// The outcome of a callback that is recorded.
pub(super) fn outcome(recorded: &Recorded) -> Outcome {
    match recorded.result() {
        DedupResult::New => Outcome::Accepted,
        DedupResult::Duplicate => Outcome::Duplicate,
        DedupResult::Conflict => Outcome::Conflict,
        DedupResult::Ambiguous => Outcome::Ambiguous,
    }
}
