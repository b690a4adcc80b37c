//! The only place that reads a clock.
//!
//! All other code receives the time as a value: tests choose it, and a clock that jumps is handled
//! in one file.

mod backoff;
mod occasional;

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) use backoff::Backoff;
pub use occasional::Occasional;

/// Milliseconds since the Unix epoch, as senders stamp them. Negative before 1970.
pub type UnixMillis = i64;

/// Wall-clock time in milliseconds since the Unix epoch. It may jump.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_ms() -> UnixMillis {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}

/// Wall-clock time in nanoseconds since the Unix epoch, as traces have it. It may jump.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// `of` in milliseconds; if it is too long for them, the largest number.
#[must_use]
pub fn millis(of: Duration) -> i64 {
    i64::try_from(of.as_millis()).unwrap_or(i64::MAX)
}

/// The time from `from_ms` to `to_ms`; zero if `to_ms` is earlier.
#[must_use]
pub fn between(from_ms: UnixMillis, to_ms: UnixMillis) -> Duration {
    Duration::from_millis(u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0))
}

/// A point on the monotonic clock, for durations. It never jumps.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn instant() -> Instant {
    Instant::now()
}

/// `ms` as RFC 3339 in UTC with milliseconds, `2026-01-02T03:04:05.678Z`.
#[must_use]
pub fn rfc3339(ms: UnixMillis) -> String {
    Stamp::of(ms).as_str().to_owned()
}

/// A time in the format of [`rfc3339`], on the stack.
///
/// Written for every event and every log line, so it is computed here without time zones.
#[derive(Clone, Copy, Debug)]
pub struct Stamp([u8; STAMP_BYTES]);

/// Bytes of a stamp.
const STAMP_BYTES: usize = 24;

impl Stamp {
    /// The time `ms`; years outside 0 to 9999 are `out of range`.
    #[must_use]
    pub fn of(ms: UnixMillis) -> Self {
        const MS_OF_DAY: i64 = 24 * 60 * 60 * 1000;
        let (year, month, day) = date(ms.div_euclid(MS_OF_DAY));
        if !(0..=9999).contains(&year) {
            return Self(*b"out of range            ");
        }
        let rest = ms.rem_euclid(MS_OF_DAY);
        let mut digits = *b"0000-00-00T00:00:00.000Z";
        let (seconds, ms) = ((rest / 1000) as u32, (rest % 1000) as u32);
        let fields = [
            (0, year as u32 / 100),
            (2, year as u32 % 100),
            (5, month as u32),
            (8, day as u32),
            (11, seconds / 3600),
            (14, seconds / 60 % 60),
            (17, seconds % 60),
            (20, ms / 10),
        ];
        for (at, value) in fields {
            digits[at] = b'0' + (value / 10) as u8;
            digits[at + 1] = b'0' + (value % 10) as u8;
        }
        digits[22] = b'0' + (ms % 10) as u8;
        Self(digits)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The text, which is ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.trim_ascii_end()
    }
}

thread_local! {
    static STAMPS: Cell<Stamps> = const { Cell::new(Stamps::new()) };
}

/// The stamp of the time `ms`, for a line of a log: a thread writes one in nearly every
/// millisecond.
#[must_use]
pub fn stamp(ms: UnixMillis) -> Stamp {
    let mut stamps = STAMPS.try_with(Cell::get).unwrap_or_default();
    let stamp = stamps.of(ms);
    let _ = STAMPS.try_with(|kept| kept.set(stamps));
    stamp
}

/// Makes stamps: the part down to the second is kept for the next one.
#[derive(Clone, Copy, Debug)]
struct Stamps {
    second: i64,
    /// The stamp of its first millisecond.
    first: Stamp,
}

impl Stamps {
    /// No second is known yet.
    #[must_use]
    const fn new() -> Self {
        // No time in milliseconds is in this second.
        Self { second: i64::MAX, first: Stamp([b' '; STAMP_BYTES]) }
    }

    /// The stamp of the time `ms`.
    #[must_use]
    fn of(&mut self, ms: UnixMillis) -> Stamp {
        let second = ms.div_euclid(1000);
        if second != self.second {
            *self = Self { second, first: Stamp::of(second.saturating_mul(1000)) };
        }
        let mut stamp = self.first;
        let ms = ms.rem_euclid(1000) as u16;
        if let [.., b'.', hundreds, tens, ones, b'Z'] = &mut stamp.0 {
            *hundreds = b'0' + (ms / 100) as u8;
            *tens = b'0' + (ms / 10 % 10) as u8;
            *ones = b'0' + (ms % 10) as u8;
        }
        stamp
    }
}

impl Default for Stamps {
    fn default() -> Self {
        Self::new()
    }
}

/// Year, month and day of a day since 1970, in the Gregorian calendar. Years are counted from March
/// in cycles of 400: the leap day is their last.
fn date(day: i64) -> (i64, i64, i64) {
    let from_march_0000 = day + 719_468;
    let cycle = from_march_0000.div_euclid(146_097);
    let day_of_cycle = from_march_0000.rem_euclid(146_097);
    let leaps = day_of_cycle / 1_460 - day_of_cycle / 36_524 + day_of_cycle / 146_096;
    let year_of_cycle = (day_of_cycle - leaps) / 365;
    let before = 365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100;
    let day_of_year = day_of_cycle - before;
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_cycle + 400 * cycle + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_three_decimals_even_when_they_are_zero() {
        assert_eq!(rfc3339(1_767_323_045_678), "2026-01-02T03:04:05.678Z");
        assert_eq!(rfc3339(1_767_323_045_000), "2026-01-02T03:04:05.000Z");
    }

    #[test]
    fn the_ends_of_what_can_be_written() {
        assert_eq!(rfc3339(-62_167_219_200_000), "0000-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(-62_167_219_200_001), "out of range");
        assert_eq!(rfc3339(i64::MAX), "out of range");
        assert_eq!(rfc3339(i64::MIN), "out of range");
    }

    #[test]
    fn a_time_between_is_never_negative_and_a_length_never_overflows() {
        assert_eq!(between(1000, 3500), Duration::from_millis(2500));
        assert_eq!(between(3500, 1000), Duration::ZERO);
        assert_eq!(between(i64::MIN, i64::MAX), Duration::from_millis(i64::MAX as u64));
        assert_eq!((millis(Duration::from_secs(2)), millis(Duration::MAX)), (2000, i64::MAX));
    }

    #[test]
    fn a_kept_second_makes_the_same_stamps() {
        let mut stamps = Stamps::new();
        let far = [i64::MIN, -62_167_219_200_001, i64::MAX, 253_402_300_799_999, -1, 0];
        let near = (0..3000).map(|ms| 1_767_323_045_678 + ms);
        for ms in far.into_iter().chain(near).chain(far) {
            assert_eq!(stamps.of(ms).as_str(), rfc3339(ms), "{ms}");
        }
    }

    proptest::proptest! {
        #[test]
        fn it_is_what_a_calendar_says(ms in -62_167_219_200_000..=253_402_207_200_999_i64) {
            let stamp = jiff::Timestamp::from_millisecond(ms).unwrap();
            proptest::prop_assert_eq!(rfc3339(ms), format!("{stamp:.3}"));
        }
    }
}
