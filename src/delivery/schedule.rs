//! When a delivery is retried.

use std::time::Duration;

use http::{HeaderMap, header};

use crate::clock::{self, UnixMillis};
use crate::config::Retry;

/// A gap may be this much longer: deliveries that failed together do not retry together.
const JITTER: f64 = 0.2;

/// The longest gap that a backend may ask for, unless its own `retry.max` is longer. A backend that
/// mistakenly asks for a year is called again.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// The gap after attempt number `attempt` (from 1): doubles from `first` to `max`, with jitter, and
/// is not shorter than the backend `asked` for.
pub(super) fn gap(retry: Retry, attempt: u32, asked: Option<Duration>) -> Duration {
    let doubled = 2_u32.checked_pow(attempt.saturating_sub(1));
    let plain = doubled.and_then(|times| retry.first.checked_mul(times));
    let plain = plain.unwrap_or(retry.max).min(retry.max);
    let jittered = plain.mul_f64(1.0 + JITTER * fraction());
    let asked = asked.map(|asked| asked.min(RETRY_AFTER_MAX.max(retry.max)));
    jittered.max(asked.unwrap_or_default())
}

/// A random number from 0 to 1.
fn fraction() -> f64 {
    // Without random bytes there is no jitter, which costs a backend only a burst.
    getrandom::u32().map_or(0.0, |number| f64::from(number) / f64::from(u32::MAX))
}

/// The value of `Retry-After`, seconds or a date; `None` if it is invalid.
pub(super) fn retry_after(headers: &HeaderMap, now_ms: UnixMillis) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(clock::between(now_ms, date.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const RETRY: Retry =
        Retry { first: Duration::from_secs(1), max: Duration::from_secs(3600), attempts: 84 };

    proptest! {
        #[test]
        fn a_gap_doubles_and_is_at_most_20_percent_longer(attempt in 1_u32..200) {
            let plain = 2_f64.powi(i32::try_from(attempt).unwrap() - 1).min(3600.0);
            let gap = gap(RETRY, attempt, None).as_secs_f64();
            prop_assert!(gap >= plain && gap <= plain * 1.2 + 1e-6, "{gap} for {plain}");
        }
    }

    #[test]
    fn a_backend_may_ask_for_more_time_but_not_for_ever() {
        let asked = |seconds| gap(RETRY, 1, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(120), Duration::from_secs(120));
        assert!(asked(0) >= RETRY.first);
        assert_eq!(asked(1_000_000), Duration::from_secs(3600));
        let long = Retry { max: Duration::from_secs(7200), ..RETRY };
        assert_eq!(gap(long, 1, Some(Duration::MAX)), Duration::from_secs(7200));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers, now).map(|time| time.as_secs())
        };
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for unreadable in ["", "-1", "soon", "99999999999999", "1.5"] {
            assert_eq!(read(unreadable), None, "{unreadable}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
