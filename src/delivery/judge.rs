//! What an inline backend's answer means for the sender who waits for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::attempt_result::AttemptResult;
use crate::clock::instant;
use crate::config::{Destination, Late, Mode};
use crate::ledger::{
    Attempt, BatchedLedger, EventId, Settled, Settlement, TargetId, Verdict as Settling,
};
use crate::telemetry::VerdictOutcome;
use crate::verdict::{self, LATE, Timing, Verdict, Verdicts};

/// How often an unreadable verdict of one destination is logged: each is counted.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Decides whether verdicts are in time.
#[derive(Debug)]
pub(super) struct Judge {
    verdicts: Verdicts,
    /// When an unreadable verdict of a destination was last logged, by name: one for each
    /// destination that the configuration had.
    complaints: HashMap<String, Instant>,
}

impl Judge {
    pub(super) fn new(verdicts: Verdicts) -> Self {
        Self { verdicts, complaints: HashMap::new() }
    }

    /// Takes the verdict out of an `attempt` that ended with a 2xx, and marks it there if the sender
    /// was told something else meanwhile; `None`: nobody waits for this destination's verdicts.
    pub(super) fn judge(
        &mut self,
        (event, earlier): (EventId, Option<(Verdict, Timing)>),
        destination: &Destination,
        (ending, attempt): (AttemptResult, &mut Attempt),
    ) -> Option<VerdictOutcome> {
        let Mode::Inline { late } = destination.mode else { return None };
        let verdict = match ending {
            AttemptResult::Unreadable(_) => Verdict::Unreadable,
            AttemptResult::Answered(status, _) if status.is_success() => {
                Verdict::read(&attempt.head)
            }
            _ => return None,
        };
        if verdict == Verdict::Unreadable {
            self.complain(event, destination, attempt);
            // Where the sender comes again, the backend is asked again: nothing is decided.
            if late != Late::Unavailable && earlier.is_none() {
                self.verdicts.decide(event, verdict);
            }
            return Some(VerdictOutcome::Unreadable);
        }
        let timing = match earlier {
            // A replay: what was told once stays.
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
            // The sender was told to come again: then it gets this verdict.
            (Timing::Late, _, Late::Unavailable) => return Some(VerdictOutcome::Late),
            (Timing::Late, _, Late::Accepted) => Verdict::Valid,
            (Timing::Late, _, Late::Rejected) => Verdict::Invalid,
        };
        attempt.error = Some(LATE.to_owned());
        if told == verdict {
            return Some(VerdictOutcome::Late);
        }
        let name = destination.name.as_str();
        tracing::warn!(%event, destination = name, ?verdict, ?told, "a late verdict differs");
        Some(VerdictOutcome::LateDiffers)
    }

    /// Logs that a verdict could not be read, unless that was logged a moment ago.
    fn complain(&mut self, event: EventId, destination: &Destination, attempt: &Attempt) {
        let (name, now) = (destination.name.as_str(), instant());
        let is_due = self.complaints.get(name).is_none_or(|last| *last + COMPLAIN_EVERY <= now);
        if is_due {
            self.complaints.insert(name.to_owned(), now);
            let status = attempt.status;
            tracing::warn!(%event, destination = name, status, "could not read a verdict");
        } else {
            tracing::debug!(%event, destination = name, "could not read a verdict");
        }
    }
}

/// The verdict on `event` that `target` gave before, if it did.
pub(super) async fn earlier(
    book: &BatchedLedger,
    event: EventId,
    target: &TargetId,
) -> Option<(Verdict, Timing)> {
    let detail = book.event(event).await.ok()??;
    verdict::recorded(detail.deliveries.iter().find(|delivery| delivery.target == *target)?)
}

fn in_time(verdict: Verdict) -> VerdictOutcome {
    match verdict {
        Verdict::Valid => VerdictOutcome::Valid,
        Verdict::Invalid => VerdictOutcome::Invalid,
        Verdict::Unreadable => VerdictOutcome::Unreadable,
    }
}

/// Lets those who wait know what was written down.
pub(super) fn pronounce(verdicts: &Verdicts, batch: &[Settlement], answers: &[Settled]) {
    for (at, settlement) in batch.iter().enumerate() {
        if settlement.verdict != Settling::Decided {
            continue;
        }
        match answers.get(at) {
            Some(Settled::Applied) => verdicts.settled(settlement.event),
            Some(Settled::Stale) | None => verdicts.lost(settlement.event),
        }
    }
}
