//! The circuit breaker of one destination.
//!
//! ```text
//! Closed ─ten failures in a row─▶ Open ─its time is over─▶ HalfOpen ─an answer─▶ Closed
//!                                   ▲                          │
//!                                   └───────── a failure ──────┘   (twice as long each time)
//! ```
//!
//! A replay by hand is a probe: it half-opens an open breaker at once. A destination that is found
//! again gets two attempts at one time, and one more for each that is answered: what came back is
//! not knocked over by what has waited for it.

use std::time::{Duration, Instant};

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 10;

/// The longest time that it stays open: a backend that is back is found within a minute.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Attempts at one time for a destination that was just found again.
const ROOM_FIRST: usize = 2;

/// What an attempt says about the health of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthSignal {
    /// It answered, whatever it said: a 4xx is about the event, not about the backend.
    Up,
    /// Time-out, no connection, no HTTP, or a 5xx.
    Down,
    /// Nothing: the attempt never left the gateway.
    Neutral,
}

/// A change that people want to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has opened, for this time.
    Opened(Duration),
    /// It has closed.
    Closed,
}

/// Counts failures, and says when to leave a destination alone.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// How long it stays open the first time.
    first: Duration,
}

/// Its state, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Attempts are made.
    Closed,
    /// None are made, for a while.
    Open,
    /// One is made, to see.
    HalfOpen,
}

impl BreakerState {
    /// Its name in the admin API.
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
    /// `room` is how many attempts at one time it lets through: no bound until it has been open.
    Closed {
        failures: u32,
        room: usize,
    },
    Open {
        until: Instant,
        time: Duration,
    },
    HalfOpen {
        time: Duration,
    },
}

impl Breaker {
    /// A closed one that stays open for `first` when it opens, and longer each time after that.
    pub(super) fn new(first: Duration) -> Self {
        Self { state: State::Closed { failures: 0, room: usize::MAX }, first }
    }

    /// Stays open for `first` from now on.
    pub(super) fn set_first(&mut self, first: Duration) {
        self.first = first;
    }

    /// Places for attempts, of `free` that there are while `in_flight` others are under way.
    pub(super) fn places(&mut self, free: usize, in_flight: usize, now: Instant) -> usize {
        if let State::Open { until, time } = self.state
            && until <= now
        {
            self.state = State::HalfOpen { time };
        }
        match self.state {
            State::Closed { room, .. } => free.min(room.saturating_sub(in_flight)),
            State::HalfOpen { .. } if in_flight == 0 => free.min(1),
            State::HalfOpen { .. } | State::Open { .. } => 0,
        }
    }

    /// When it lets a probe through; `None`: it is not open.
    pub(super) fn opens_up(&self) -> Option<Instant> {
        match self.state {
            State::Open { until, .. } => Some(until),
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Lets a probe through now, if it is open.
    pub(super) fn half_open(&mut self) {
        if let State::Open { time, .. } = self.state {
            self.state = State::HalfOpen { time };
        }
    }

    /// Its state, for people.
    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Hears how an attempt went.
    pub(super) fn hear(&mut self, sign: HealthSignal, now: Instant) -> Option<Change> {
        match (sign, self.state) {
            (HealthSignal::Neutral, _) | (HealthSignal::Down, State::Open { .. }) => None,
            (HealthSignal::Up, State::Closed { room, .. }) => {
                self.state = State::Closed { failures: 0, room: room.saturating_add(1) };
                None
            }
            (HealthSignal::Up, State::Open { .. } | State::HalfOpen { .. }) => {
                self.state = State::Closed { failures: 0, room: ROOM_FIRST };
                Some(Change::Closed)
            }
            (HealthSignal::Down, State::Closed { failures, room })
                if failures + 1 < FAILURES_MAX =>
            {
                self.state = State::Closed { failures: failures + 1, room };
                None
            }
            (HealthSignal::Down, State::Closed { .. }) => Some(self.open(self.first, now)),
            (HealthSignal::Down, State::HalfOpen { time }) => {
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
            assert_eq!(breaker.hear(HealthSignal::Down, now), None);
        }
        assert_eq!(breaker.hear(HealthSignal::Down, now), Some(Change::Opened(SECOND)));
        breaker
    }

    #[test]
    fn ten_failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let now = instant();
        let mut breaker = Breaker::new(SECOND);
        for _ in 0..5 {
            for _ in 1..FAILURES_MAX {
                breaker.hear(HealthSignal::Down, now);
            }
            assert_eq!(breaker.hear(HealthSignal::Up, now), None);
            assert_eq!(breaker.hear(HealthSignal::Neutral, now), None);
        }
        assert_eq!(breaker.places(16, 3, now), 16);
        assert_eq!(opened(now).places(16, 0, now), 0);
    }

    #[test]
    fn it_lets_one_probe_through_and_closes_on_any_answer() {
        let now = instant();
        let mut breaker = opened(now);
        assert_eq!(breaker.opens_up(), Some(now + SECOND));
        let later = now + SECOND;
        assert_eq!(breaker.places(16, 0, later), 1);
        assert_eq!(breaker.places(16, 1, later), 0, "one probe at a time");
        assert_eq!(breaker.hear(HealthSignal::Up, later), Some(Change::Closed));
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn what_was_found_again_gets_its_places_one_by_one() {
        let now = instant();
        let mut breaker = opened(now);
        breaker.half_open();
        assert_eq!((breaker.state(), breaker.places(16, 0, now)), (BreakerState::HalfOpen, 1));
        breaker.hear(HealthSignal::Up, now);
        assert_eq!(breaker.places(16, 0, now), 2);
        assert_eq!(breaker.places(14, 2, now), 0);
        breaker.hear(HealthSignal::Up, now);
        assert_eq!(breaker.places(14, 2, now), 1);
        (0..20).for_each(|_| assert_eq!(breaker.hear(HealthSignal::Up, now), None));
        assert_eq!(breaker.places(16, 0, now), 16);
    }

    #[test]
    fn only_an_open_one_is_half_opened_by_hand() {
        let mut breaker = Breaker::new(SECOND);
        breaker.half_open();
        assert_eq!(breaker.places(16, 0, instant()), 16);
    }

    #[test]
    fn a_failed_probe_doubles_the_time_up_to_a_minute() {
        let mut now = instant();
        let mut breaker = opened(now);
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            now += OPEN_MAX;
            assert_eq!(breaker.places(16, 0, now), 1);
            let time = Duration::from_secs(seconds);
            assert_eq!(breaker.hear(HealthSignal::Down, now), Some(Change::Opened(time)));
            assert_eq!(breaker.hear(HealthSignal::Down, now), None, "one that was still under way");
        }
    }
}
