//! Metrics of senders' keys, and of requests to senders.

use prometheus::{GaugeVec, IntCounterVec};

use super::metrics::Family;

/// Key sets of senders, and confirmations to them.
#[derive(Debug)]
pub struct KeyMetrics {
    /// Age of a sender's key set.
    pub key_set_age_seconds: GaugeVec,
    /// Confirmations of subscriptions, by what came of them.
    pub confirmations: IntCounterVec,
}

impl KeyMetrics {
    pub(super) fn new(family: &Family) -> Result<Self, prometheus::Error> {
        Ok(Self {
            key_set_age_seconds: family.ages(
                "postern_key_set_age_seconds",
                "Age of the cached key set, in seconds",
                &["sender"],
            )?,
            confirmations: family.counters(
                "postern_confirmations_total",
                "Subscriptions that the gateway confirmed, or could not confirm",
                &["sender", "outcome"],
            )?,
        })
    }
}
