//! Records verdicts of inline backends: in time, late, or unreadable.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::attempt::AttemptReport;
use super::attempt_result::AttemptResult;
use crate::clock::instant;
use crate::config::{Destination, Late, Mode};
use crate::ledger::{Attempt, BatchedLedger, EventId, LeaseResult, Settled, Settlement, TargetId};
use crate::telemetry::VerdictOutcome;
use crate::verdict::{self, LATE, Timing, Verdict, Verdicts};

/// How often an unreadable verdict of one destination is logged. Each one is counted.
const UNREADABLE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Decides whether verdicts are in time.
#[derive(Debug)]
pub(super) struct VerdictRecorder {
    verdicts: Verdicts,
    /// When an unreadable verdict was last logged, by destination name. Bounded by the destinations
    /// that the configuration had.
    last_logged: HashMap<String, Instant>,
}

impl VerdictRecorder {
    pub(super) fn new(verdicts: Verdicts) -> Self {
        Self { verdicts, last_logged: HashMap::new() }
    }

    /// Reads the verdict of an attempt that ended with a 2xx. Marks the attempt if the sender has
    /// received another reply meanwhile. `None`: the destination is not inline.
    pub(super) fn record(
        &mut self,
        event: EventId,
        destination: &Destination,
        report: &mut AttemptReport,
    ) -> Option<VerdictOutcome> {
        let AttemptReport { attempt, result, earlier } = report;
        let (result, earlier) = (*result, *earlier);
        let Mode::Inline { late } = destination.mode else { return None };
        let verdict = match result {
            AttemptResult::Unreadable(_) => Verdict::Unreadable,
            AttemptResult::Answered(status, _) if status.is_success() => {
                Verdict::read(&attempt.head)
            }
            _ => return None,
        };
        if verdict == Verdict::Unreadable {
            self.log_unreadable(event, destination, attempt);
            // Where the sender retries, the backend is asked again: nothing is decided.
            if late != Late::Unavailable && earlier.is_none() {
                self.verdicts.decide(event, verdict);
            }
            return Some(VerdictOutcome::Unreadable);
        }
        let timing = match earlier {
            // A replay: the first decision stays.
            Some(_) => Timing::Late,
            None => self.verdicts.decide(event, verdict),
        };
        let told = match (timing, earlier, late) {
            (Timing::InTime, ..) => return Some(in_time(verdict)),
            (
                Timing::Late,
                Some((told @ (Verdict::Valid | Verdict::Invalid), Timing::InTime)),
                _,
            ) => told,
            // The sender was asked to retry: then it gets this verdict.
            (Timing::Late, _, Late::Unavailable) => return Some(VerdictOutcome::Late),
            (Timing::Late, _, Late::Accepted) => Verdict::Valid,
            (Timing::Late, _, Late::Rejected) => Verdict::Invalid,
        };
        attempt.error = Some(LATE.to_owned());
        if told == verdict {
            return Some(VerdictOutcome::Late);
        }
        let name = destination.name.as_str();
        tracing::warn!(%event, destination = name, ?verdict, ?told, "late verdict differs");
        Some(VerdictOutcome::LateDiffers)
    }

    /// Logs an unreadable verdict, unless one was logged a moment ago.
    fn log_unreadable(&mut self, event: EventId, destination: &Destination, attempt: &Attempt) {
        let (name, now) = (destination.name.as_str(), instant());
        let is_due =
            self.last_logged.get(name).is_none_or(|last| *last + UNREADABLE_LOG_INTERVAL <= now);
        if is_due {
            self.last_logged.insert(name.to_owned(), now);
            let status = attempt.status;
            tracing::warn!(%event, destination = name, status, "could not read a verdict");
        } else {
            tracing::debug!(%event, destination = name, "could not read a verdict");
        }
    }
}

/// The recorded verdict of `target` on `event`, if there is one.
pub(super) async fn earlier(
    ledger: &BatchedLedger,
    event: EventId,
    target: &TargetId,
) -> Option<(Verdict, Timing)> {
    let detail = ledger.event(event).await.ok()??;
    verdict::recorded(detail.deliveries.iter().find(|delivery| delivery.target == *target)?)
}

fn in_time(verdict: Verdict) -> VerdictOutcome {
    match verdict {
        Verdict::Valid => VerdictOutcome::Valid,
        Verdict::Invalid => VerdictOutcome::Invalid,
        Verdict::Unreadable => VerdictOutcome::Unreadable,
    }
}

/// Notifies the waiting callbacks of settled verdicts.
pub(super) fn notify_settled(verdicts: &Verdicts, batch: &[Settlement], answers: &[Settled]) {
    for (at, settlement) in batch.iter().enumerate() {
        if settlement.result != LeaseResult::Decided {
            continue;
        }
        match answers.get(at) {
            Some(Settled::Applied) => verdicts.settled(settlement.event),
            Some(Settled::Stale) | None => verdicts.lost(settlement.event),
        }
    }
}
