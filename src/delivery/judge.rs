//! What an inline backend's answer means for the sender who waits for it.

use crate::config::{Destination, Late, Mode};
use crate::ledger::{Attempt, Book, EventId, Settled, Settlement, TargetId, Verdict as Settling};
use crate::telemetry::VerdictOutcome;
use crate::verdict::{self, LATE, Timing, Verdict, Verdicts};

/// Decides whether verdicts are in time.
#[derive(Debug)]
pub(super) struct Judge(Verdicts);

impl Judge {
    pub(super) fn new(verdicts: Verdicts) -> Self {
        Self(verdicts)
    }

    /// Takes the verdict out of a good `attempt`, and marks it there if the sender was told
    /// something else meanwhile; `None`: nobody waits for this destination's verdicts.
    pub(super) fn judge(
        &self,
        (event, earlier): (EventId, Option<(Verdict, Timing)>),
        destination: &Destination,
        attempt: &mut Attempt,
    ) -> Option<VerdictOutcome> {
        let Mode::Inline { late } = destination.mode else { return None };
        let verdict = Verdict::read(&attempt.head);
        let timing = match earlier {
            // A replay: what was told once stays.
            Some(_) => Timing::Late,
            None => self.0.decide(event, verdict),
        };
        let told = match (timing, earlier, late) {
            (Timing::InTime, ..) => return Some(in_time(verdict)),
            (Timing::Late, Some((told, Timing::InTime)), _) => told,
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
}

/// The verdict on `event` that `target` gave before, if it did.
pub(super) async fn earlier(
    book: &Book,
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
