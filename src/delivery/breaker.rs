//! The circuit breaker of one destination.
//!
//! ```text
//! Closed ─ten failures in a row─▶ Open ─timeout─▶ HalfOpen ─an answer─▶ Closed
//!                                   ▲               │
//!                                   └── a failure ──┘   (twice as long each time)
//! ```
//!
//! A manual replay is a probe: it half-opens an open breaker at once. If it fails before the timeout,
//! the breaker is open as before: the timeout neither grows nor begins again. A recovered
//! destination gets two concurrent attempts, and one more for each answered attempt. Its backlog
//! does not overload it.

use std::time::{Duration, Instant};

/// Consecutive failures that open the breaker.
const FAILURES_MAX: u32 = 10;

/// The longest time open: a recovered backend is found within a minute.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Concurrent attempts for a destination that has just recovered.
const CONCURRENCY_FIRST: usize = 2;

/// The effect of an attempt on the health of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthSignal {
    /// The backend answered. A 4xx counts as up: it is about the event, not about the backend.
    Up,
    /// Timeout, no connection, no HTTP, or a 5xx.
    Down,
    /// The attempt never left the gateway.
    Neutral,
}

/// A change of state that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Opened, for this time.
    Opened(Duration),
    /// Closed.
    Closed,
}

/// Counts failures and decides when attempts stop.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// The time open, the first time.
    first: Duration,
}

/// The state of a breaker, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Attempts are made.
    Closed,
    /// No attempts are made for a while.
    Open,
    /// One probe is made.
    HalfOpen,
}

impl BreakerState {
    /// The name in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `concurrency`: the number of concurrent attempts; unlimited until the breaker has been open.
    Closed {
        failures: u32,
        concurrency: usize,
    },
    Open {
        until: Instant,
        time: Duration,
    },
    /// `until`: the end of the time open, which a probe of an operator comes before.
    HalfOpen {
        until: Instant,
        time: Duration,
    },
}

impl Breaker {
    /// A closed breaker that opens for `first`, and longer each time after that.
    pub(super) fn new(first: Duration) -> Self {
        Self { state: State::Closed { failures: 0, concurrency: usize::MAX }, first }
    }

    /// Sets the first time open to `first`.
    pub(super) fn set_first(&mut self, first: Duration) {
        self.first = first;
    }

    /// The slots for attempts, out of `free` ones, while `in_flight` others are in flight.
    pub(super) fn slots(&mut self, free: usize, in_flight: usize, now: Instant) -> usize {
        if let State::Open { until, time } = self.state
            && until <= now
        {
            self.state = State::HalfOpen { until, time };
        }
        match self.state {
            State::Closed { concurrency, .. } => free.min(concurrency.saturating_sub(in_flight)),
            State::HalfOpen { .. } if in_flight == 0 => free.min(1),
            State::HalfOpen { .. } | State::Open { .. } => 0,
        }
    }

    /// When a probe is due; `None`: the breaker is not open.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        match self.state {
            State::Open { until, .. } => Some(until),
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Half-opens the breaker now, if it is open.
    pub(super) fn half_open(&mut self) {
        if let State::Open { until, time } = self.state {
            self.state = State::HalfOpen { until, time };
        }
    }

    /// The state, for operators.
    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Records the result of an attempt.
    pub(super) fn record(&mut self, signal: HealthSignal, now: Instant) -> Option<Change> {
        match (signal, self.state) {
            (HealthSignal::Neutral, _) | (HealthSignal::Down, State::Open { .. }) => None,
            (HealthSignal::Up, State::Closed { concurrency, .. }) => {
                self.state =
                    State::Closed { failures: 0, concurrency: concurrency.saturating_add(1) };
                None
            }
            (HealthSignal::Up, State::Open { .. } | State::HalfOpen { .. }) => {
                self.state = State::Closed { failures: 0, concurrency: CONCURRENCY_FIRST };
                Some(Change::Closed)
            }
            (HealthSignal::Down, State::Closed { failures, concurrency })
                if failures + 1 < FAILURES_MAX =>
            {
                self.state = State::Closed { failures: failures + 1, concurrency };
                None
            }
            (HealthSignal::Down, State::Closed { .. }) => Some(self.open(self.first, now)),
            // An operator asked for this probe: it says nothing about the schedule.
            (HealthSignal::Down, State::HalfOpen { until, time }) if now < until => {
                self.state = State::Open { until, time };
                None
            }
            (HealthSignal::Down, State::HalfOpen { time, .. }) => {
                Some(self.open(time.saturating_mul(2), now))
            }
        }
    }

    fn open(&mut self, time: Duration, now: Instant) -> Change {
        let time = time.min(OPEN_MAX);
        self.state = State::Open { until: now + time, time };
        Change::Opened(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::instant;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(SECOND);
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.record(HealthSignal::Down, now), None);
        }
        assert_eq!(breaker.record(HealthSignal::Down, now), Some(Change::Opened(SECOND)));
        breaker
    }

    #[test]
    fn ten_failures_in_a_row_open_the_breaker_and_an_answer_between_them_prevents_it() {
        let now = instant();
        let mut breaker = Breaker::new(SECOND);
        for _ in 0..5 {
            for _ in 1..FAILURES_MAX {
                breaker.record(HealthSignal::Down, now);
            }
            assert_eq!(breaker.record(HealthSignal::Up, now), None);
            assert_eq!(breaker.record(HealthSignal::Neutral, now), None);
        }
        assert_eq!(breaker.slots(16, 3, now), 16);
        assert_eq!(opened(now).slots(16, 0, now), 0);
    }

    #[test]
    fn an_open_breaker_lets_one_probe_through_and_closes_on_any_answer() {
        let now = instant();
        let mut breaker = opened(now);
        assert_eq!(breaker.opens_at(), Some(now + SECOND));
        let later = now + SECOND;
        assert_eq!(breaker.slots(16, 0, later), 1);
        assert_eq!(breaker.slots(16, 1, later), 0, "one probe at a time");
        assert_eq!(breaker.record(HealthSignal::Up, later), Some(Change::Closed));
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_recovered_destination_gets_its_slots_one_by_one() {
        let now = instant();
        let mut breaker = opened(now);
        breaker.half_open();
        assert_eq!((breaker.state(), breaker.slots(16, 0, now)), (BreakerState::HalfOpen, 1));
        breaker.record(HealthSignal::Up, now);
        assert_eq!(breaker.slots(16, 0, now), 2);
        assert_eq!(breaker.slots(14, 2, now), 0);
        breaker.record(HealthSignal::Up, now);
        assert_eq!(breaker.slots(14, 2, now), 1);
        (0..20).for_each(|_| assert_eq!(breaker.record(HealthSignal::Up, now), None));
        assert_eq!(breaker.slots(16, 0, now), 16);
    }

    #[test]
    fn only_an_open_breaker_is_half_opened_manually() {
        let mut breaker = Breaker::new(SECOND);
        breaker.half_open();
        assert_eq!(breaker.slots(16, 0, instant()), 16);
    }

    #[test]
    fn a_manual_probe_that_fails_early_changes_nothing() {
        let now = instant();
        let mut breaker = opened(now);
        for _ in 0..10 {
            breaker.half_open();
            assert_eq!(breaker.slots(16, 0, now), 1);
            assert_eq!(breaker.record(HealthSignal::Down, now), None);
            assert_eq!((breaker.state(), breaker.slots(16, 0, now)), (BreakerState::Open, 0));
            assert_eq!(breaker.opens_at(), Some(now + SECOND));
        }
        // The scheduled probe, and a manual one that ends after its time.
        let later = now + SECOND;
        assert_eq!(breaker.slots(16, 0, later), 1);
        let twice = Some(Change::Opened(2 * SECOND));
        assert_eq!(breaker.record(HealthSignal::Down, later), twice);
        breaker.half_open();
        let late = Some(Change::Opened(4 * SECOND));
        assert_eq!(breaker.record(HealthSignal::Down, later + 2 * SECOND), late);
    }

    #[test]
    fn a_failed_probe_doubles_the_time_up_to_a_minute() {
        let mut now = instant();
        let mut breaker = opened(now);
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            now += OPEN_MAX;
            assert_eq!(breaker.slots(16, 0, now), 1);
            let time = Duration::from_secs(seconds);
            assert_eq!(breaker.record(HealthSignal::Down, now), Some(Change::Opened(time)));
            assert_eq!(
                breaker.record(HealthSignal::Down, now),
                None,
                "one that was still in flight"
            );
        }
    }
}
