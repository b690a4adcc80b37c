//! The pulse of each source: when its last event came, and the usual time between two. Read from the
//! store, so a restart does not forget it, and cached, because pages refresh themselves.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::{UnixMillis, instant};
use crate::ledger::{LedgerError, LogQuery, SourceId};
use crate::operator::SeenLedger;

/// Events whose distances are compared: enough for a median, few enough for one index lookup.
const EVENTS: usize = 20;

/// How long a pulse is kept before it is read again.
const KEPT: Duration = Duration::from_secs(30);

/// Pulses that are kept: more than sources are configured.
const KEPT_MAX: usize = 2000;

/// The least silence that is worth a word.
const SILENCE_MIN: Duration = Duration::from_secs(10 * 60);

/// A source is silent after this many of its usual gaps.
const GAPS: u32 = 20;

/// The pulse of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pulse {
    /// The time of its last event; `None`: there is none.
    pub last_ms: Option<UnixMillis>,
    /// The median of the time between two of its latest events; `None`: too few are known.
    pub gap: Option<Duration>,
}

impl Pulse {
    fn of(times: &[UnixMillis]) -> Self {
        let mut gaps: Vec<u64> =
            times.windows(2).filter_map(|pair| u64::try_from(pair[0] - pair[1]).ok()).collect();
        gaps.sort_unstable();
        let gap = (gaps.len() >= 3).then(|| Duration::from_millis(gaps[gaps.len() / 2]));
        Self { last_ms: times.first().copied(), gap }
    }

    /// The silence at `now_ms`, if it is longer than usual.
    pub(super) fn silence(&self, now_ms: UnixMillis) -> Option<Duration> {
        let since = Duration::from_millis(u64::try_from(now_ms - self.last_ms?).ok()?);
        let usual = (self.gap? * GAPS).max(SILENCE_MIN);
        (since > usual).then_some(since)
    }
}

/// The cached pulses.
#[derive(Debug, Default)]
pub(super) struct Pulses(Mutex<HashMap<SourceId, (Instant, Pulse)>>);

impl Pulses {
    /// The pulse of `source`, at most [`KEPT`] old.
    pub(super) async fn of(
        &self,
        ledger: &SeenLedger,
        source: &SourceId,
    ) -> Result<Pulse, LedgerError> {
        let now = instant();
        if let Some((at, pulse)) = self.lock().get(source)
            && now.saturating_duration_since(*at) < KEPT
        {
            return Ok(*pulse);
        }
        let query = LogQuery { source: Some(source.clone()), ..LogQuery::default() };
        let page = ledger.query(&query, None, EVENTS).await?;
        let times: Vec<UnixMillis> = page.events.iter().map(|event| event.received_ms).collect();
        let pulse = Pulse::of(&times);
        let mut kept = self.lock();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(source.clone(), (now, pulse));
        Ok(pulse)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SourceId, (Instant, Pulse)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_silent_after_many_of_its_usual_gaps() {
        let times: Vec<UnixMillis> = (0..10).map(|n| 1_000_000 - n * 60_000).collect();
        let pulse = Pulse::of(&times);
        assert_eq!(pulse.gap, Some(Duration::from_secs(60)));
        assert_eq!(pulse.silence(1_000_000 + 19 * 60_000), None);
        let silence = pulse.silence(1_000_000 + 21 * 60_000);
        assert_eq!(silence, Some(Duration::from_secs(21 * 60)));
        // A busy source is not silent at once, and an unknown rhythm says nothing.
        let busy = Pulse::of(&[3000, 2000, 1000, 0]);
        assert_eq!(busy.silence(3000 + 599_000), None);
        assert_eq!(Pulse::of(&[2000, 1000]).silence(i64::MAX / 2), None);
        assert_eq!(Pulse::of(&[]), Pulse::default());
    }
}
