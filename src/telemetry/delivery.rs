//! Counters of deliveries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntCounterVec};

use super::DestinationHealth;
use super::history::History;
use crate::sender::Outcome;

/// The result of an attempt: a closed set, for counters and log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DeliveryOutcome {
    /// The destination has the event.
    Done,
    /// The delivery will be retried.
    Retry,
    /// Dead-lettered: its attempts are used up, or the event cannot be written in the destination's
    /// format.
    Dead,
    /// Dead-lettered at once: the destination answered 410.
    Gone,
}

/// The verdict of an inline backend, and whether its sender received it: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum VerdictOutcome {
    /// Grant, and the sender receives it.
    Valid,
    /// Reject, and the sender receives it.
    Invalid,
    /// The verdict was late, and is the same as the sender's reply.
    Late,
    /// The verdict was late, and the sender received the opposite.
    LateDiffers,
    /// Not a valid verdict: the sender gets the reply for a late backend.
    Unreadable,
}

impl DeliveryOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Done, Self::Retry, Self::Dead, Self::Gone];

    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Dead => "dead",
            Self::Gone => "gone",
        }
    }
}

impl VerdictOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Valid, Self::Invalid, Self::Late, Self::LateDiffers, Self::Unreadable];

    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Late => "late",
            Self::LateDiffers => "late_differs",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The counters of one destination, found once.
#[derive(Clone, Debug)]
pub struct DeliveryMetrics {
    outcomes: Vec<IntCounter>,
    verdicts: Vec<IntCounter>,
    history: Arc<History>,
    /// How the destination is.
    pub health: Arc<DestinationHealth>,
}

impl DeliveryMetrics {
    pub(super) fn new(
        outcomes: &IntCounterVec,
        verdicts: &IntCounterVec,
        name: &str,
        history: Arc<History>,
        health: Arc<DestinationHealth>,
    ) -> Self {
        let counter = |family: &IntCounterVec, of| family.with_label_values(&[name, of]);
        Self {
            outcomes: DeliveryOutcome::ALL.map(|of| counter(outcomes, of.as_str())).into(),
            verdicts: VerdictOutcome::ALL.map(|of| counter(verdicts, of.as_str())).into(),
            history,
            health,
        }
    }

    /// Counts an attempt that ended at `now` after `took`.
    pub fn count(&self, outcome: DeliveryOutcome, now: Instant, took: Duration) {
        let result = match outcome {
            DeliveryOutcome::Done => Outcome::Accepted,
            _ => Outcome::Unavailable,
        };
        self.history.count((result, None), now, took);
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.inc();
        }
    }

    /// Counts a verdict.
    pub fn count_verdict(&self, outcome: VerdictOutcome) {
        if let Some(counter) = self.verdicts.get(outcome as usize) {
            counter.inc();
        }
    }
}
