//! When counts of callbacks are a problem: a larger share of rejections, or a longer silence, than
//! is usual for the source. Pure: counts in, facts out.

use std::time::Duration;

use crate::clock::UnixMillis;

/// Minutes of the short window. A mended source is quiet again after it.
const RECENT: usize = 10;
/// Rejections in the short window that count: a busy source is noticed within a minute or two.
const RECENT_REJECTED: u64 = 10;
/// Rejections in an hour that count: a source with few callbacks is noticed too.
const HOUR_REJECTED: u64 = 3;
/// The share of rejections that is always tolerated: scanners call everything on the Internet.
const SHARE_MIN: f64 = 0.2;
/// How many times the usual share is unusual.
const SHARE_TIMES: f64 = 3.0;
/// Callbacks before which no share is usual.
const USUAL_MIN: u64 = 20;

/// Verified callbacks before which no gap is usual.
const VERIFIED_MIN: u64 = 10;
/// The time that has to be known before a gap is unusual: a day and its night.
const KNOWN_HOURS: usize = 24;
/// A source without an empty hour is silent after this many times its average gap, within bounds.
const GAPS: u32 = 20;
const BUSY_MIN: Duration = Duration::from_secs(15 * 60);
const BUSY_MAX: Duration = Duration::from_secs(2 * 3600);

/// Counts of callbacks by period, the oldest first; the last period is now.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Rejected, by minute of the last hour.
    pub(super) rejected_minutes: Vec<u64>,
    /// All that were decided, likewise.
    pub(super) all_minutes: Vec<u64>,
    /// Rejected, by hour of the last three days.
    pub(super) rejected_hours: Vec<u64>,
    /// All that were decided, likewise.
    pub(super) all_hours: Vec<u64>,
}

/// Whether a problem is open already: it closes later than it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Already {
    Open,
    Closed,
}

/// An unusual share of rejections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) rejected: u64,
    pub(super) all: u64,
    pub(super) usual_percent: u64,
}

#[derive(Clone, Copy)]
struct Window {
    rejected: u64,
    all: u64,
}

impl Window {
    fn of(rejected: &[u64], all: &[u64]) -> Self {
        Self { rejected: rejected.iter().sum(), all: all.iter().sum() }
    }

    fn share(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.rejected as f64 / self.all as f64 }
    }
}

/// Whether a source rejects an unusual share of its callbacks.
pub(super) fn refused(counts: &Counts, already: Already) -> Option<Refused> {
    let hour = Window::of(&counts.rejected_minutes, &counts.all_minutes);
    let last = |all: &[u64]| all.len().saturating_sub(RECENT);
    let (rejected, all) = (&counts.rejected_minutes, &counts.all_minutes);
    let recent = Window::of(&rejected[last(rejected)..], &all[last(all)..]);
    let before = |all: &[u64]| all.len().saturating_sub(2);
    let (rejected, all) = (&counts.rejected_hours, &counts.all_hours);
    let usual = Window::of(&rejected[..before(rejected)], &all[..before(all)]);
    let usual = if usual.all < USUAL_MIN { 0.0 } else { usual.share() };
    let limit = (usual * SHARE_TIMES).max(SHARE_MIN).min((1.0 + usual) / 2.0);
    let found = match already {
        Already::Closed if recent.rejected >= RECENT_REJECTED && recent.share() >= limit => recent,
        Already::Closed => {
            let lasts = recent.all == 0 || recent.share() >= limit;
            Some(hour)
                .filter(|hour| lasts && hour.rejected >= HOUR_REJECTED && hour.share() >= limit)?
        }
        Already::Open if recent.all > 0 => Some(recent).filter(|it| it.share() >= limit / 2.0)?,
        Already::Open => Some(hour).filter(|it| it.share() >= limit / 2.0)?,
    };
    let usual_percent = (usual * 100.0).round() as u64;
    Some(Refused { rejected: found.rejected, all: found.all, usual_percent })
}

/// The usual gap of a source that has been silent for longer; `None`: it is not silent, or nothing
/// is usual yet. `hours` are its verified callbacks, `last_ms` is the last one.
pub(super) fn silent(hours: &[u64], last_ms: UnixMillis, now_ms: UnixMillis) -> Option<Duration> {
    let first = hours.iter().position(|count| *count > 0)?;
    let last = hours.iter().rposition(|count| *count > 0)?;
    if last - first < KNOWN_HOURS || hours.iter().sum::<u64>() < VERIFIED_MIN {
        return None;
    }
    let known = hours.get(first..=last)?;
    let longest = known.split(|count| *count > 0).map(<[u64]>::len).max().unwrap_or(0);
    let (usual, limit) = match longest {
        0 => {
            // The first and the last hour may be cut.
            let fewest = known.get(1..known.len() - 1)?.iter().min().copied().unwrap_or(1);
            let gap = Duration::from_secs(3600) / u32::try_from(fewest.max(1)).unwrap_or(u32::MAX);
            (gap, (gap * GAPS).clamp(BUSY_MIN, BUSY_MAX))
        }
        empty => {
            // A gap of n empty hours lasts up to n + 2 hours.
            let gap = Duration::from_secs(3600) * (u32::try_from(empty).unwrap_or(u32::MAX) + 2);
            (gap, gap + gap / 2)
        }
    };
    let age = u64::try_from(now_ms.saturating_sub(last_ms)).unwrap_or(0);
    (Duration::from_millis(age) > limit).then_some(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn hours(count: i64) -> i64 {
        count * 3_600_000
    }

    fn counts(rejected: &[(usize, u64)], all: &[(usize, u64)], usual: (u64, u64)) -> Counts {
        let minutes = |some: &[(usize, u64)]| {
            let mut minutes = vec![0; 60];
            some.iter().for_each(|(ago, count)| minutes[59 - ago] = *count);
            minutes
        };
        let (mut rejected_hours, mut all_hours) = (vec![0; 72], vec![0; 72]);
        (rejected_hours[30], all_hours[30]) = usual;
        Counts {
            rejected_minutes: minutes(rejected),
            all_minutes: minutes(all),
            rejected_hours,
            all_hours,
        }
    }

    #[test]
    fn a_wrong_secret_is_noticed_at_a_busy_source_and_at_a_quiet_one() {
        let busy = counts(&[(0, 60), (1, 40)], &[(0, 60), (1, 60), (20, 5000)], (5, 50_000));
        let found = refused(&busy, Already::Closed).unwrap();
        assert_eq!(found, Refused { rejected: 100, all: 120, usual_percent: 0 });
        let quiet = counts(&[(0, 1), (25, 1), (50, 1)], &[(0, 1), (25, 1), (50, 1)], (0, 3));
        assert!(refused(&quiet, Already::Closed).is_some());
        let two = counts(&[(0, 1), (25, 1)], &[(0, 1), (25, 1)], (0, 3));
        assert_eq!(refused(&two, Already::Closed), None);
    }

    #[test]
    fn what_is_usual_is_no_problem() {
        let strangers = counts(&[(0, 15)], &[(0, 100)], (0, 50_000));
        assert_eq!(refused(&strangers, Already::Closed), None);
        let often = counts(&[(0, 40)], &[(0, 100)], (400, 1000));
        assert_eq!(refused(&often, Already::Closed), None);
        let all = counts(&[(0, 90)], &[(0, 100)], (400, 1000));
        assert!(refused(&all, Already::Closed).is_some());
    }

    #[test]
    fn a_mended_source_closes_when_its_callbacks_verify_again() {
        let mended = counts(&[(15, 500)], &[(15, 500), (0, 50)], (0, 50_000));
        assert_eq!(refused(&mended, Already::Open), None);
        assert_eq!(refused(&mended, Already::Closed), None, "and does not open again");
        let better = counts(&[(0, 15)], &[(0, 100)], (0, 50_000));
        assert!(refused(&better, Already::Open).is_some(), "not before it is well below");
        let waits = counts(&[(15, 500)], &[(15, 500)], (0, 50_000));
        assert!(refused(&waits, Already::Open).is_some(), "no callback says otherwise");
    }

    #[test]
    fn a_silence_is_measured_by_the_usual_gap() {
        let now = hours(500_000);
        // By day only: fourteen empty hours each night.
        let daily = |hour: usize| if hour % 24 < 10 { 30 } else { 0 };
        let by_day: Vec<u64> = (0..72).map(|at| if at < 58 { daily(at) } else { 0 }).collect();
        assert_eq!(by_day.iter().rposition(|count| *count > 0), Some(57));
        assert_eq!(silent(&by_day, now - hours(14), now), None, "the night");
        let found = silent(&by_day, now - hours(25), now);
        assert_eq!(found, Some(Duration::from_secs(16 * 3600)));
        // Each minute: silent after a quarter of an hour.
        let busy = vec![60; 72];
        assert_eq!(silent(&busy, now - 14 * 60_000, now), None);
        assert_eq!(silent(&busy, now - 21 * 60_000, now), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_new_source_and_a_rare_one_are_never_silent() {
        let now = hours(500_000);
        let mut new = vec![0; 72];
        new[60..70].fill(100);
        assert_eq!(silent(&new, now - hours(3), now), None);
        let mut rare = vec![0; 72];
        (rare[0], rare[70]) = (1, 1);
        assert_eq!(silent(&rare, now - hours(60), now), None);
        assert_eq!(silent(&[0; 72], 0, now), None);
        assert_eq!(silent(&[], 0, now), None);
    }
}
