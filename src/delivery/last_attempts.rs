//! The last attempts of one destination, for operators: whether it works now, before its breaker
//! opens.

use crate::clock::UnixMillis;
use crate::ledger::Attempt;

/// Characters of an error that are kept.
const ERROR_CHARACTERS_MAX: usize = 200;

/// The last attempts of a destination on this gateway, since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastAttempts {
    /// The time of the last attempt that the destination accepted.
    pub success_ms: Option<UnixMillis>,
    /// The last attempt that it did not.
    pub failure: Option<FailedAttempt>,
    /// Attempts in a row without an answer, or with a status of 500 or more. Another status is about
    /// the event, not about the destination.
    pub failures: u32,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// When it began.
    pub at_ms: UnixMillis,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// The error, if there was one.
    pub error: Option<String>,
}

impl LastAttempts {
    /// Adds the next attempt. A success is a response with a status from 200 to 299.
    pub(super) fn add(&mut self, attempt: &Attempt) {
        if attempt.status.is_some_and(|status| (200..300).contains(&status)) {
            self.success_ms = Some(attempt.at_ms);
            self.failures = 0;
            return;
        }
        let cut = |text: &String| text.chars().take(ERROR_CHARACTERS_MAX).collect();
        self.failures = match attempt.status {
            Some(..500) => 0,
            Some(_) | None => self.failures.saturating_add(1),
        };
        self.failure = Some(FailedAttempt {
            at_ms: attempt.at_ms,
            status: attempt.status,
            error: attempt.error.as_ref().map(cut),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_ends_the_failures_and_the_last_error_stays() {
        let attempt = |at_ms, status, error: Option<&str>| Attempt {
            at_ms,
            status,
            error: error.map(str::to_owned),
            latency_ms: 1,
            head: bytes::Bytes::new(),
        };
        let mut last = LastAttempts::default();
        last.add(&attempt(1, None, Some("refused")));
        last.add(&attempt(2, Some(500), None));
        assert_eq!((last.failures, last.success_ms), (2, None));
        last.add(&attempt(3, Some(422), None));
        assert_eq!((last.failures, last.success_ms), (0, None), "it answers");
        last.add(&attempt(2, Some(500), None));
        last.add(&attempt(3, Some(204), None));
        assert_eq!((last.failures, last.success_ms), (0, Some(3)));
        assert_eq!(last.failure.unwrap().status, Some(500));
    }
}
