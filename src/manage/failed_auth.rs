//! Guesses at secrets: wrong signatures, keys and secrets, by whom they are for and where they come
//! from. Beyond the bound an address waits for its turn before anything is computed for it.

use std::net::IpAddr;
use std::time::Duration;

use crate::clock::instant;
use crate::config::Rate;
use crate::rate_limiter::AddressRateLimiter;

/// Guesses for one name from one address. Ten hexadecimal digits are all that a manager signs with:
/// guesses have to be slow.
const GUESSES: Rate = Rate { count: 10, per: Duration::from_secs(60) };

/// Maximum wait of a call for its turn: longer than the six seconds between two guesses. So one
/// call waits, and the next does not.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Lines about one name and address.
const LINES: Rate = Rate { count: 1, per: Duration::from_secs(60) };

/// Counts guesses.
#[derive(Debug)]
pub(crate) struct FailedAuthLimiter {
    rate: AddressRateLimiter,
    lines: AddressRateLimiter,
}

/// The target of a guess, and its caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guess<'g> {
    /// Where: the path of the call.
    pub api: &'static str,
    /// For whom, where a call says so and there is such a one; else empty. It is logged.
    pub name: &'g str,
    /// From where.
    pub from: IpAddr,
}

/// A call whose credentials may be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Turn {
    /// At once: there were few failures.
    AtOnce,
    /// After a wait: there were many failures.
    Waited,
}

/// Too many guesses wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyAttempts;

impl FailedAuthLimiter {
    pub(crate) fn new() -> Self {
        Self {
            rate: AddressRateLimiter::new(GUESSES, instant()),
            lines: AddressRateLimiter::new(LINES, instant()),
        }
    }

    /// Waits until a call's credentials may be checked. A correct call passes too, only later,
    /// unless too many wait.
    pub(crate) async fn turn(&self, guess: Guess<'_>) -> Result<Turn, TooManyAttempts> {
        let name = guess.key();
        if self.rate.has_as(&name, guess.from, instant()) {
            return Ok(Turn::AtOnce);
        }
        if self.lines.take_as(&name, guess.from, instant()) {
            let Guess { api, name, from } = guess;
            tracing::warn!(api, name, client = %from, "wrong signatures or secrets: calls are slowed");
        }
        let wait = self.rate.reserve_as(&name, guess.from, instant(), WAIT_MAX);
        tokio::time::sleep(wait.ok_or(TooManyAttempts)?).await;
        Ok(Turn::Waited)
    }

    /// Notes what a call turned out to be: whether it was one guess too many.
    pub(crate) fn was_wrong(&self, guess: Guess<'_>, turn: Turn) -> bool {
        match turn {
            Turn::AtOnce => self.rate.charge_as(&guess.key(), guess.from, instant()),
            // The call was counted when it began to wait.
            Turn::Waited => {}
        }
        turn == Turn::Waited
    }

    /// Notes that a call was none.
    pub(crate) fn was_right(&self, guess: Guess<'_>, turn: Turn) {
        if turn == Turn::Waited {
            self.rate.give_back_as(&guess.key(), guess.from);
        }
    }
}

impl Guess<'_> {
    fn key(&self) -> String {
        format!("{} {}", self.api, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn guesses_are_slow_after_ten_and_a_right_one_costs_nothing() {
        let guesses = FailedAuthLimiter::new();
        let guess = |name| Guess { api: "/a", name, from: [203, 0, 113, 1].into() };
        let (m1, m2) = (guess("m1"), guess("m2"));
        let began = tokio::time::Instant::now();
        for _ in 0..10 {
            let turn = guesses.turn(m1).await.unwrap();
            assert!(!guesses.was_wrong(m1, turn));
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "ten are looked at at once");
        let turn = guesses.turn(m1).await.unwrap();
        assert!(guesses.was_wrong(m1, turn));
        assert!(began.elapsed() >= Duration::from_secs(5));
        assert_eq!(guesses.turn(m1).await, Err(TooManyAttempts), "one waits, and no more");
        assert_eq!(guesses.turn(m2).await, Ok(Turn::AtOnce), "another name");
        let elsewhere = Guess { from: [203, 0, 113, 2].into(), ..m1 };
        assert_eq!(guesses.turn(elsewhere).await, Ok(Turn::AtOnce), "another address");
        guesses.was_right(m1, Turn::Waited);
        assert_eq!(guesses.turn(m1).await, Ok(Turn::Waited), "it was given back");
    }
}
