//! Counters of rejected callbacks, of calls to unknown paths, and of releases.

use prometheus::{IntCounter, IntCounterVec};

use super::metrics::Family;

/// Counts of rejected callbacks, and of releases.
#[derive(Debug)]
pub(super) struct RejectionMetrics {
    pub(super) by_reason: IntCounterVec,
    pub(super) unknown_paths: IntCounter,
    pub(super) released: IntCounterVec,
}

impl RejectionMetrics {
    pub(super) fn new(family: &Family) -> Result<Self, prometheus::Error> {
        Ok(Self {
            by_reason: family.counters(
                "postern_rejections_total",
                "Rejected callbacks, by reason",
                &["source", "reason"],
            )?,
            unknown_paths: family.counter(
                "postern_unknown_paths_total",
                "Requests to a path that belongs to no source",
            )?,
            released: family.counters(
                "postern_released_total",
                "Events that were released from quarantine",
                &["source"],
            )?,
        })
    }
}
