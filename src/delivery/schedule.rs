//! When a delivery is retried.

use std::time::Duration;

use http::{HeaderMap, header};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::TimeZone;

use crate::clock::{self, UnixMillis};
use crate::config::Retry;

/// A gap may be this much longer: deliveries that failed together do not retry together.
const JITTER: f64 = 0.2;

/// The longest gap that a backend may ask for, unless its own `retry.max` is longer. A backend that
/// mistakenly asks for a year is called again.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// A date whose year has two digits is at most this many years ahead: RFC 9110, section 5.6.7.
const YEARS_AHEAD: i16 = 50;

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
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than fit into a number are a long time as well: the gap has a maximum.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = http_date(text, now_ms)?;
    Some(clock::between(now_ms, date.as_millisecond()))
}

/// A date in one of the three forms of RFC 9110, section 5.6.7.
fn http_date(text: &str, now_ms: UnixMillis) -> Option<Timestamp> {
    let usual = DateTimeParser::new().parse_timestamp(text).ok();
    usual.or_else(|| rfc850_date(text, now_ms)).or_else(|| asctime_date(text))
}

/// A date such as `Wednesday, 02-Dec-26 17:53:49 GMT`.
fn rfc850_date(text: &str, now_ms: UnixMillis) -> Option<Timestamp> {
    let (_, date) = text.split_once(", ")?;
    let (day, rest) = date.rsplit_once('-')?;
    let (year, time) = rest.split_once(' ')?;
    let year: u8 = year.parse().ok().filter(|_| year.len() == 2)?;
    let now = TimeZone::UTC.to_datetime(Timestamp::from_millisecond(now_ms).ok()?);
    let latest = now.year() + YEARS_AHEAD;
    // Of the years that end with these digits, the last one that is not too far ahead.
    let year = latest - (latest - i16::from(year)).rem_euclid(100);
    in_gmt("%d-%b-%Y %H:%M:%S GMT", &format!("{day}-{year} {time}"))
}

/// A date such as `Wed Dec  2 17:53:49 2026`.
fn asctime_date(text: &str) -> Option<Timestamp> {
    let (_, date) = text.split_once(' ')?;
    in_gmt("%b %d %H:%M:%S %Y", date)
}

fn in_gmt(format: &str, text: &str) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(DateTime::strptime(format, text).ok()?).ok()
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

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const NOW_MS: UnixMillis = 784_111_777_000;

    fn read(text: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(text));
        retry_after(&headers, NOW_MS)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        for unreadable in ["", "-1", "+1", "soon", "1.5", "1 2"] {
            assert_eq!(read(unreadable), None, "{unreadable}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), NOW_MS), None);
    }

    #[test]
    fn seconds_that_no_number_holds_are_capped_as_others() {
        for long in ["4294967295", "4294967296", "99999999999999999999999"] {
            assert_eq!(gap(RETRY, 1, read(long)), RETRY_AFTER_MAX, "{long}");
        }
    }

    #[test]
    fn a_date_has_three_forms() {
        for minute in [
            "Sun, 06 Nov 1994 08:50:37 GMT",
            "Sunday, 06-Nov-94 08:50:37 GMT",
            "Sun Nov  6 08:50:37 1994",
        ] {
            assert_eq!(read(minute), Some(Duration::from_secs(60)), "{minute}");
        }
        for past in [
            "Sun, 06 Nov 1994 08:00:00 GMT",
            "Sunday, 06-Nov-94 08:00:00 GMT",
            "Sun Nov  6 08:00:00 1994",
        ] {
            assert_eq!(read(past), Some(Duration::ZERO), "{past}");
        }
        for unreadable in [
            "Sunday, 06-Nov-1994 08:50:37 GMT",
            "Sunday, 06-Nov-94 08:50:37 CET",
            "Sunday, 06-Nov-x4 08:50:37 GMT",
            "Sun Nov 31 08:50:37 1994",
        ] {
            assert_eq!(read(unreadable), None, "{unreadable}");
        }
    }

    #[test]
    fn two_digits_are_a_year_that_is_at_most_fifty_years_ahead() {
        let now_ms = 1_796_234_029_000; // Wed, 02 Dec 2026 17:53:49 GMT
        let year = |text: &str| {
            let date = http_date(text, now_ms).unwrap();
            TimeZone::UTC.to_datetime(date).year()
        };
        assert_eq!(year("Wednesday, 02-Dec-26 17:53:49 GMT"), 2026);
        assert_eq!(year("Wednesday, 02-Dec-00 17:53:49 GMT"), 2000);
        assert_eq!(year("Wednesday, 02-Dec-76 17:53:49 GMT"), 2076);
        assert_eq!(year("Wednesday, 02-Dec-77 17:53:49 GMT"), 1977);
        let same = http_date("Wed Dec  2 17:53:49 2026", now_ms).unwrap();
        assert_eq!(same.as_millisecond(), now_ms);
    }
}
