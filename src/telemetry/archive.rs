//! Metrics of the archive.

use prometheus::IntCounter;

use super::metrics::{Family, Known};

/// Events that went to the archive, and the wait of others.
#[derive(Clone, Debug)]
pub struct ArchiveMetrics {
    /// Expired events that were archived.
    pub events: IntCounter,
    /// For how long expired events have waited, in seconds.
    pub overdue_seconds: Known,
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
        })
    }
}
