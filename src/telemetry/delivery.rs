//! What deliveries are counted by.

use prometheus::{IntCounter, IntCounterVec};

/// What an attempt led to: a closed set, for counters and log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DeliveryOutcome {
    /// The destination has the event.
    Done,
    /// It will be tried again.
    Retry,
    /// Given up: its attempts are used up, or it cannot be written in the form that is wanted.
    Dead,
    /// Given up at once: the destination answered 410, it wants no more.
    Gone,
}

/// What an inline backend said of an event, and whether its sender was told: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum VerdictOutcome {
    /// Yes, and the sender is told.
    Valid,
    /// No, and the sender is told.
    Invalid,
    /// The verdict came when nobody waited any more; it does not differ from what was told.
    Late,
    /// The sender was told the contrary before the verdict came.
    LateDiffers,
    /// It cannot be read: the sender is answered as if the backend were late.
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
}

impl DeliveryMetrics {
    pub(super) fn new(outcomes: &IntCounterVec, verdicts: &IntCounterVec, name: &str) -> Self {
        let counter = |family: &IntCounterVec, of| family.with_label_values(&[name, of]);
        Self {
            outcomes: DeliveryOutcome::ALL.map(|of| counter(outcomes, of.as_str())).into(),
            verdicts: VerdictOutcome::ALL.map(|of| counter(verdicts, of.as_str())).into(),
        }
    }

    /// Counts an attempt.
    pub fn count(&self, outcome: DeliveryOutcome) {
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
