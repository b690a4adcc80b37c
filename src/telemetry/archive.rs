//! Metrics of the archive.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;

use super::metrics::{Family, OptionalGauge};

/// Events that went to the archive, and the wait of others.
#[derive(Clone, Debug)]
pub struct ArchiveMetrics {
    /// Expired events that were archived.
    pub events: IntCounter,
    /// For how long expired events have waited, in seconds.
    overdue_seconds: OptionalGauge,
    late: Arc<Mutex<Option<ArchiveDelay>>>,
}

/// Expired events that have waited so long for the archive that operators are notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveDelay {
    /// For how long they have waited.
    pub overdue: Duration,
    /// After how long they are deleted all the same.
    pub deleted_after: Duration,
}

impl ArchiveMetrics {
    pub(super) fn new(family: &Family) -> Result<Self, prometheus::Error> {
        Ok(Self {
            events: family
                .counter("postern_archived_events_total", "Expired events that were archived")?,
            overdue_seconds: family.known(
                "postern_archive_overdue_seconds",
                "Time that expired events have waited for the archive, in seconds",
            )?,
            late: Arc::default(),
        })
    }

    /// Shows for how long expired events have waited; `None`: there is no archive.
    pub fn set_overdue(&self, overdue: Option<Duration>) {
        self.overdue_seconds.set(overdue.map(|overdue| overdue.as_secs_f64()));
    }

    /// Says whether operators are to be notified.
    pub fn set_late(&self, late: Option<ArchiveDelay>) {
        *self.late.lock().unwrap_or_else(PoisonError::into_inner) = late;
    }

    /// The wait of which operators are notified, if there is one.
    #[must_use]
    pub fn late(&self) -> Option<ArchiveDelay> {
        *self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
