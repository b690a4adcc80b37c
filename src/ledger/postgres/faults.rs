//! Counts failed statements, and logs them at a bounded rate.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::query_error::{Cause, QueryError};
use crate::clock::instant;
use crate::ledger::FaultCode;

/// The interval of log lines per code: a persistent fault is retried many times a second, and the
/// log may be on the full disk.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Faults by code.
#[derive(Default)]
pub(super) struct Faults {
    codes: Mutex<[Code; FaultCode::ALL.len()]>,
}

#[derive(Clone, Copy, Default)]
struct Code {
    count: u64,
    /// Faults that are not logged yet.
    unlogged: u64,
    told: Option<Instant>,
}

impl Faults {
    /// Counts a fault. The first of its code is logged at once, with the number of unlogged ones.
    pub(super) fn count(&self, fault: &QueryError) {
        let Some(Cause { code, text }) = fault.cause() else { return };
        let Some(unlogged) = self.note(*code, instant()) else { return };
        let code = code.as_str();
        match fault.is_ordinary() {
            true => tracing::debug!(code, error = text, unlogged, "PostgreSQL undid a statement"),
            false => tracing::warn!(code, error = text, unlogged, "PostgreSQL failed a statement"),
        }
    }

    /// Counts a fault; returns the number of unlogged ones before it, or `None` if it is not
    /// logged.
    fn note(&self, code: FaultCode, now: Instant) -> Option<u64> {
        let mut codes = self.codes();
        let code = codes.get_mut(code as usize)?;
        code.count += 1;
        if code.told.is_some_and(|told| now.saturating_duration_since(told) < LINE_EVERY) {
            code.unlogged += 1;
            return None;
        }
        code.told = Some(now);
        Some(std::mem::take(&mut code.unlogged))
    }

    /// The number of faults per code.
    pub(super) fn counts(&self) -> Vec<(FaultCode, u64)> {
        let codes = self.codes();
        FaultCode::ALL.into_iter().zip(codes.iter().map(|code| code.count)).collect()
    }

    fn codes(&self) -> MutexGuard<'_, [Code; FaultCode::ALL.len()]> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_at_a_bounded_rate() {
        let faults = Faults::default();
        let begin = instant();
        assert_eq!(faults.note(FaultCode::DiskFull, begin), Some(0));
        for ms in 1..1000 {
            let now = begin + Duration::from_millis(ms);
            assert_eq!(faults.note(FaultCode::DiskFull, now), None);
        }
        assert_eq!(faults.note(FaultCode::ReadOnly, begin), Some(0));
        assert_eq!(faults.note(FaultCode::DiskFull, begin + LINE_EVERY), Some(999));
        let counts = faults.counts();
        assert_eq!(counts[FaultCode::DiskFull as usize], (FaultCode::DiskFull, 1001));
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 1002);
    }
}
