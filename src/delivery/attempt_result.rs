//! The result of an attempt, and what follows from it.

use std::time::Duration;

use http::StatusCode;

use super::breaker::HealthSignal;
use super::schedule;
use crate::config::{Late, Retry};
use crate::ledger::LeaseResult;
use crate::telemetry::DeliveryOutcome;
use crate::verdict::UNREADABLE;

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptResult {
    /// The backend answered with this status, and possibly with a time to retry after.
    Answered(StatusCode, Option<Duration>),
    /// An inline backend answered with 2xx, and the connection broke before the verdict was
    /// complete.
    Unclear,
    /// An inline backend answered with 2xx and an invalid verdict. The delivery is done where the
    /// sender's reply is final; where the sender retries, the delivery is retried too.
    Unreadable(Late),
    /// No response within the destination's timeout.
    Late,
    /// No connection, or no HTTP on it.
    Broken,
    /// The event cannot be written in the destination's format. A retry does not help: an operator
    /// has to act.
    InvalidPayload,
    /// The destination cannot be called at all: its certificate, key or URL is unusable.
    Unable,
}

impl AttemptResult {
    /// The signal about the destination's health.
    pub(super) fn signal(self) -> HealthSignal {
        match self {
            Self::Answered(status, _) if status.is_server_error() => HealthSignal::Down,
            Self::Answered(..) | Self::Unclear | Self::Unreadable(_) => HealthSignal::Up,
            Self::Late | Self::Broken => HealthSignal::Down,
            Self::InvalidPayload | Self::Unable => HealthSignal::Neutral,
        }
    }

    /// The result for the lease of attempt number `attempt` (from 1).
    pub(super) fn lease_result(self, attempt: u32, retry: Retry) -> (LeaseResult, DeliveryOutcome) {
        let asked = match self {
            Self::Answered(status, _) if status.is_success() => {
                return (LeaseResult::Done, DeliveryOutcome::Done);
            }
            Self::Unreadable(Late::Accepted | Late::Rejected) => {
                return (LeaseResult::Done, DeliveryOutcome::Done);
            }
            Self::Answered(StatusCode::GONE, _) => {
                return (LeaseResult::Dead, DeliveryOutcome::Gone);
            }
            Self::InvalidPayload => return (LeaseResult::Dead, DeliveryOutcome::Dead),
            Self::Answered(_, asked) => asked,
            Self::Unclear | Self::Unreadable(Late::Unavailable) => None,
            Self::Late | Self::Broken | Self::Unable => None,
        };
        if attempt >= retry.attempts {
            return (LeaseResult::Dead, DeliveryOutcome::Dead);
        }
        let after = schedule::gap(retry, attempt, asked);
        (LeaseResult::Retry { after }, DeliveryOutcome::Retry)
    }

    /// The error text for operators; `None` where the status says enough.
    pub(super) fn why(self) -> Option<&'static str> {
        match self {
            Self::Answered(status, _) if status.is_redirection() => {
                Some("redirects are not followed")
            }
            Self::Answered(StatusCode::GONE, _) => {
                Some("the backend answered 410: it accepts no more deliveries")
            }
            Self::Answered(..) | Self::Broken | Self::InvalidPayload | Self::Unable => None,
            Self::Unclear => Some("the connection broke before the verdict was complete"),
            Self::Unreadable(Late::Unavailable) => {
                Some("the verdict is unreadable; the backend is asked again")
            }
            Self::Unreadable(Late::Accepted | Late::Rejected) => Some(UNREADABLE),
            Self::Late => Some("no answer in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry =
        Retry { first: Duration::from_secs(1), max: Duration::from_secs(60), attempts: 3 };

    fn answered(status: u16) -> AttemptResult {
        AttemptResult::Answered(StatusCode::from_u16(status).unwrap(), None)
    }

    #[test]
    fn only_2xx_is_done_and_only_410_is_dead_at_once() {
        for status in 100..1000 {
            let (result, outcome) = answered(status).lease_result(1, RETRY);
            match status {
                200..=299 => {
                    assert_eq!((result, outcome), (LeaseResult::Done, DeliveryOutcome::Done));
                }
                410 => assert_eq!((result, outcome), (LeaseResult::Dead, DeliveryOutcome::Gone)),
                _ => assert_eq!(outcome, DeliveryOutcome::Retry, "{status}"),
            }
        }
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        for result in [
            answered(500),
            answered(404),
            answered(301),
            AttemptResult::Late,
            AttemptResult::Broken,
        ] {
            assert_eq!(result.lease_result(2, RETRY).1, DeliveryOutcome::Retry);
            assert_eq!(result.lease_result(3, RETRY), (LeaseResult::Dead, DeliveryOutcome::Dead));
        }
        assert_eq!(answered(200).lease_result(3, RETRY).0, LeaseResult::Done);
    }

    #[test]
    fn an_unreadable_verdict_is_retried_only_if_the_sender_retries() {
        for (late, outcome) in [
            (Late::Accepted, DeliveryOutcome::Done),
            (Late::Rejected, DeliveryOutcome::Done),
            (Late::Unavailable, DeliveryOutcome::Retry),
        ] {
            assert_eq!(
                AttemptResult::Unreadable(late).lease_result(1, RETRY).1,
                outcome,
                "{late:?}"
            );
        }
    }

    #[test]
    fn only_a_verdict_that_rejects_is_called_invalid() {
        for late in [Late::Accepted, Late::Rejected, Late::Unavailable] {
            let why = AttemptResult::Unreadable(late).why().unwrap();
            assert!(!why.contains("invalid"), "{why}");
        }
    }

    #[test]
    fn a_4xx_is_no_failure_of_the_backend() {
        for status in [200, 301, 400, 404, 410, 429] {
            assert_eq!(answered(status).signal(), HealthSignal::Up, "{status}");
        }
        for result in [answered(500), answered(503), AttemptResult::Late, AttemptResult::Broken] {
            assert_eq!(result.signal(), HealthSignal::Down, "{result:?}");
        }
        assert_eq!(AttemptResult::InvalidPayload.signal(), HealthSignal::Neutral);
    }
}
