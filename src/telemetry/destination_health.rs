//! How each destination is: its last delivery, its last failure, and since when it fails. One
//! record for the console, the alerts and the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::UnixMillis;
use crate::ledger::Attempt;

/// Characters of an error that are kept.
const ERROR_CHARACTERS_MAX: usize = 200;

/// The health of one destination, as this gateway knows it.
#[derive(Debug, Default)]
pub struct DestinationHealth(Mutex<HealthView>);

/// The same at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    /// The last delivery.
    pub delivered_ms: Option<UnixMillis>,
    /// The first failed attempt since the last delivery.
    pub failing_ms: Option<UnixMillis>,
    /// The last failed attempt.
    pub failed_ms: Option<UnixMillis>,
    /// When the circuit breaker left the state closed.
    pub open_ms: Option<UnixMillis>,
    /// When an operator paused it. A backend that answered 410 is not paused by an operator.
    pub paused_ms: Option<UnixMillis>,
    /// The status of the last failed attempt; `None`: no response.
    pub status: Option<u16>,
    /// The error of the last failed attempt, if there was one.
    pub error: Option<String>,
    /// Attempts in a row without an answer, or with a status of 500 or more. Another status is
    /// about the event, not about the destination.
    pub failures: u32,
}

/// The health of all destinations, by name.
#[derive(Debug, Default)]
pub struct DestinationHealths(Mutex<BTreeMap<String, Arc<DestinationHealth>>>);

impl DestinationHealth {
    fn lock(&self) -> MutexGuard<'_, HealthView> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a delivery; says since when the destination failed, if it did.
    pub fn delivered(&self, now_ms: UnixMillis) -> Option<UnixMillis> {
        let mut view = self.lock();
        view.delivered_ms = view.delivered_ms.max(Some(now_ms));
        view.failures = 0;
        view.failing_ms.take()
    }

    /// Notes a failed attempt.
    pub fn failed(&self, now_ms: UnixMillis, attempt: &Attempt) {
        let cut = |text: &String| text.chars().take(ERROR_CHARACTERS_MAX).collect();
        let mut view = self.lock();
        view.failures = match attempt.status {
            Some(..500) => 0,
            Some(_) | None => view.failures.saturating_add(1),
        };
        view.error = attempt.error.as_ref().map(cut);
        view.fail(now_ms, attempt.status);
    }

    /// Notes that the circuit breaker opened, also again after a failed probe.
    pub fn breaker_opened(&self, now_ms: UnixMillis) {
        self.lock().open_ms.get_or_insert(now_ms);
    }

    /// Notes that the circuit breaker closed.
    pub fn breaker_closed(&self) {
        self.lock().open_ms = None;
    }

    /// Notes since when an operator has paused it; `None`: it is not paused.
    pub fn set_paused(&self, since_ms: Option<UnixMillis>) {
        self.lock().paused_ms = since_ms;
    }

    /// Takes over what a gateway that has ended knew.
    pub(super) fn adopt(&self, former: &HealthView) {
        let mut view = self.lock();
        view.delivered_ms = view.delivered_ms.max(former.delivered_ms);
        if let Some(failing_ms) = former.failing_ms {
            view.fail(failing_ms, former.status);
        }
    }

    /// The health now.
    #[must_use]
    pub fn view(&self) -> HealthView {
        self.lock().clone()
    }
}

impl HealthView {
    fn fail(&mut self, at_ms: UnixMillis, status: Option<u16>) {
        self.status = status;
        self.failed_ms = self.failed_ms.max(Some(at_ms));
        self.failing_ms.get_or_insert(at_ms);
    }
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

    fn attempt(status: Option<u16>, error: Option<&str>) -> Attempt {
        Attempt { status, error: error.map(str::to_owned), ..Attempt::default() }
    }

    #[test]
    fn a_failure_lasts_from_its_first_attempt_to_the_next_delivery() {
        let health = DestinationHealth::default();
        assert_eq!(health.view(), HealthView::default());
        health.failed(10, &attempt(Some(401), None));
        health.failed(20, &attempt(None, None));
        health.breaker_opened(20);
        health.breaker_opened(30);
        let view = health.view();
        assert_eq!((view.failing_ms, view.status, view.open_ms), (Some(10), None, Some(20)));
        health.breaker_closed();
        assert_eq!(health.delivered(40), Some(10));
        assert_eq!(health.delivered(50), None);
        let view = health.view();
        assert_eq!((view.failing_ms, view.delivered_ms, view.open_ms), (None, Some(50), None));
    }

    #[test]
    fn a_success_ends_the_failures_and_the_last_error_stays() {
        let health = DestinationHealth::default();
        health.failed(1, &attempt(None, Some("refused")));
        health.failed(2, &attempt(Some(500), None));
        let view = health.view();
        assert_eq!((view.failures, view.delivered_ms), (2, None));
        health.failed(3, &attempt(Some(422), None));
        let view = health.view();
        assert_eq!((view.failures, view.delivered_ms), (0, None), "it answers");
        health.failed(4, &attempt(Some(500), Some("later")));
        health.delivered(5);
        let view = health.view();
        assert_eq!((view.failures, view.delivered_ms), (0, Some(5)));
        assert_eq!((view.failed_ms, view.status), (Some(4), Some(500)));
        assert_eq!(view.error.as_deref(), Some("later"));
    }
}
