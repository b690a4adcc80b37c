//! The clock for leases and due times.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use crate::clock::{UnixMillis, instant, millis, now_ms};

/// The engine's own clock. It never jumps while the process lives: it starts at the wall clock and
/// continues with the monotonic one. A corrected wall clock delays no delivery.
#[derive(Clone, Debug)]
pub struct StoreClock(Source);

#[derive(Clone, Debug)]
enum Source {
    Process { start: Instant, start_ms: UnixMillis },
    Manual(Arc<AtomicI64>),
}

impl StoreClock {
    /// The clock of a program.
    #[must_use]
    pub fn process() -> Self {
        Self(Source::Process { start: instant(), start_ms: now_ms() })
    }

    /// A clock that does not advance until a test moves it.
    #[must_use]
    pub fn manual(ms: UnixMillis) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(ms))))
    }

    /// Moves a manual clock, and every clone of it, `ms` on; a clock of a program ignores it.
    pub fn advance(&self, ms: i64) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(ms, Ordering::SeqCst);
        }
    }

    /// A clock of a program that began when the wall clock was that far ahead.
    #[cfg(test)]
    pub(super) fn ahead_by(ms: i64) -> Self {
        Self(Source::Process { start: instant(), start_ms: now_ms().saturating_add(ms) })
    }

    /// The time of a manual clock; `None`: it is a process clock, and an engine whose server has a
    /// clock uses that one.
    pub(super) fn fixed(&self) -> Option<UnixMillis> {
        match &self.0 {
            Source::Process { .. } => None,
            Source::Manual(now) => Some(now.load(Ordering::SeqCst)),
        }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn ms(&self) -> UnixMillis {
        match &self.0 {
            Source::Process { start, start_ms } => {
                start_ms.saturating_add(millis(instant().saturating_duration_since(*start)))
            }
            Source::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// The earlier of this clock and the wall clock, for an end that the wall clock set: after a wall
    /// clock was set back, this one stays ahead of it, and the end would come too early.
    pub(super) fn earlier_ms(&self) -> UnixMillis {
        match &self.0 {
            Source::Process { .. } => self.ms().min(now_ms()),
            Source::Manual(_) => self.ms(),
        }
    }
}

impl Default for StoreClock {
    fn default() -> Self {
        Self::process()
    }
}
