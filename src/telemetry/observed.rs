//! Metrics that are set from counts of all gateways, not counted here.

use prometheus::{GaugeVec, IntGaugeVec};

use super::Metrics;
use super::metrics::Family;
use crate::clock::UnixMillis;

/// Metrics of all gateways.
#[derive(Debug)]
pub(super) struct ObservedMetrics {
    pub(super) last_callback_seconds: GaugeVec,
    alerts_open: IntGaugeVec,
}

impl ObservedMetrics {
    pub(super) fn new(family: &Family) -> Result<Self, prometheus::Error> {
        Ok(Self {
            last_callback_seconds: family.ages(
                "postern_last_callback_seconds",
                "Time since the source's last callback, on any gateway, in seconds",
                &["source"],
            )?,
            alerts_open: family.gauges(
                "postern_alerts_open",
                "Open alerts, on the gateway that sends them",
                &["alert"],
            )?,
        })
    }
}

impl Metrics {
    /// Sets the number of open alerts of one kind.
    pub fn set_alerts_open(&self, alert: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.observed.alerts_open.with_label_values(&[alert]).set(count);
    }

    /// Sets the time since the last callback of each source that had one.
    pub fn observe_callbacks(&self, now_ms: UnixMillis) {
        for (name, history) in self.histories.all() {
            if let Some(last_ms) = history.last_ms() {
                let age = now_ms.saturating_sub(last_ms).max(0) as f64 / 1000.0;
                self.observed.last_callback_seconds.with_label_values(&[&name]).set(age);
            }
        }
    }
}
