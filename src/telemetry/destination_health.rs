//! How each destination is: its last delivery, and since when it fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::UnixMillis;

/// The health of one destination, as this gateway knows it. A time of zero means never.
#[derive(Debug, Default)]
pub struct DestinationHealth {
    delivered_ms: AtomicI64,
    failing_ms: AtomicI64,
    failed_ms: AtomicI64,
    open_ms: AtomicI64,
    paused_ms: AtomicI64,
    status: AtomicU16,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    /// The last delivery.
    pub delivered_ms: Option<UnixMillis>,
    /// The first failed attempt since the last delivery.
    pub failing_ms: Option<UnixMillis>,
    /// The last failed attempt.
    pub failed_ms: Option<UnixMillis>,
    /// When the circuit breaker left the state closed.
    pub open_ms: Option<UnixMillis>,
    /// When an operator paused it. A backend that answered 410 is not paused by anybody.
    pub paused_ms: Option<UnixMillis>,
    /// The status of the last failed attempt; `None`: no response.
    pub status: Option<u16>,
}

/// The health of all destinations, by name.
#[derive(Debug, Default)]
pub struct DestinationHealths(Mutex<BTreeMap<String, Arc<DestinationHealth>>>);

impl DestinationHealth {
    /// Notes a delivery.
    pub fn delivered(&self, now_ms: UnixMillis) {
        self.delivered_ms.fetch_max(now_ms, Ordering::Relaxed);
        self.failing_ms.store(0, Ordering::Relaxed);
    }

    /// Notes a failed attempt.
    pub fn failed(&self, now_ms: UnixMillis, status: Option<u16>) {
        self.status.store(status.unwrap_or(0), Ordering::Relaxed);
        self.failed_ms.fetch_max(now_ms, Ordering::Relaxed);
        begin(&self.failing_ms, now_ms);
    }

    /// Notes that the circuit breaker opened, also again after a failed probe.
    pub fn breaker_opened(&self, now_ms: UnixMillis) {
        begin(&self.open_ms, now_ms);
    }

    /// Notes that the circuit breaker closed.
    pub fn breaker_closed(&self) {
        self.open_ms.store(0, Ordering::Relaxed);
    }

    /// Notes since when an operator has paused it; `None`: it is not paused.
    pub fn set_paused(&self, since_ms: Option<UnixMillis>) {
        self.paused_ms.store(since_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes over what a gateway that has ended knew.
    pub(super) fn adopt(&self, former: HealthView) {
        self.delivered_ms.fetch_max(former.delivered_ms.unwrap_or(0), Ordering::Relaxed);
        if let Some(failing_ms) = former.failing_ms {
            self.failed(failing_ms, former.status);
        }
    }

    /// The health now.
    #[must_use]
    pub fn view(&self) -> HealthView {
        let time = |of: &AtomicI64| Some(of.load(Ordering::Relaxed)).filter(|ms| *ms > 0);
        HealthView {
            delivered_ms: time(&self.delivered_ms),
            failing_ms: time(&self.failing_ms),
            failed_ms: time(&self.failed_ms),
            open_ms: time(&self.open_ms),
            paused_ms: time(&self.paused_ms),
            status: Some(self.status.load(Ordering::Relaxed)).filter(|status| *status > 0),
        }
    }
}

/// Sets a time unless it is set.
fn begin(time: &AtomicI64, now_ms: UnixMillis) {
    // The first value stays.
    let _ = time.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed);
}

impl DestinationHealths {
    /// The health of a destination; created if missing.
    pub(super) fn of(&self, name: &str) -> Arc<DestinationHealth> {
        Arc::clone(self.all_kept().entry(name.to_owned()).or_default())
    }

    /// The health of a destination, if it is known.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<DestinationHealth>> {
        self.all_kept().get(name).cloned()
    }

    pub(super) fn forget(&self, name: &str) {
        self.all_kept().remove(name);
    }

    /// The health of every destination.
    #[must_use]
    pub fn views(&self) -> Vec<(String, HealthView)> {
        self.all_kept().iter().map(|(name, health)| (name.clone(), health.view())).collect()
    }

    fn all_kept(&self) -> MutexGuard<'_, BTreeMap<String, Arc<DestinationHealth>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_lasts_from_its_first_attempt_to_the_next_delivery() {
        let health = DestinationHealth::default();
        assert_eq!(health.view(), HealthView::default());
        health.failed(10, Some(401));
        health.failed(20, None);
        health.breaker_opened(20);
        health.breaker_opened(30);
        let view = health.view();
        assert_eq!((view.failing_ms, view.status, view.open_ms), (Some(10), None, Some(20)));
        health.breaker_closed();
        health.delivered(40);
        let view = health.view();
        assert_eq!((view.failing_ms, view.delivered_ms, view.open_ms), (None, Some(40), None));
    }
}
