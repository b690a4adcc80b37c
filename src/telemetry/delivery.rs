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

/// The counters of one destination, found once.
#[derive(Clone, Debug)]
pub struct DeliveryMetrics(Vec<IntCounter>);

impl DeliveryMetrics {
    pub(super) fn new(family: &IntCounterVec, name: &str) -> Self {
        let counter = |of: &DeliveryOutcome| family.with_label_values(&[name, of.as_str()]);
        Self(DeliveryOutcome::ALL.iter().map(counter).collect())
    }

    /// Counts an attempt.
    pub fn count(&self, outcome: DeliveryOutcome) {
        if let Some(counter) = self.0.get(outcome as usize) {
            counter.inc();
        }
    }
}
