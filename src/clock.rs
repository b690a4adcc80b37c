//! The only place that reads a clock.
//!
//! Everything that needs the time is handed it, so that tests say what time it is and a clock
//! that jumps is met in one file.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, as senders stamp them. Negative before 1970.
pub type UnixMillis = i64;

/// Wall-clock time in milliseconds since the Unix epoch. It may jump.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_ms() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A point on the monotonic clock, for measuring how long something took. It never jumps.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn instant() -> Instant {
    Instant::now()
}

/// `ms` as RFC 3339 in UTC with milliseconds, `2026-01-02T03:04:05.678Z`.
#[must_use]
pub fn rfc3339(ms: UnixMillis) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(stamp) => format!("{stamp:.3}"),
        Err(_) => String::from("out of range"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_three_decimals_even_when_they_are_zero() {
        assert_eq!(rfc3339(1_767_323_045_678), "2026-01-02T03:04:05.678Z");
        assert_eq!(rfc3339(1_767_323_045_000), "2026-01-02T03:04:05.000Z");
    }
}
