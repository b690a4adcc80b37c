//! Which callbacks have a line in the log, where an operator wants a share of them only.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::LineShares;
use crate::sender::Outcome;

/// Steps of a share: the lines of a million callbacks are as many as it says.
const ALL: u32 = 1 << 24;

/// Admits the share of each outcome's callbacks that has a line. It counts instead of drawing lots, so
/// of 100 callbacks a share of 0.01 admits exactly one.
#[derive(Debug)]
pub(super) struct LineSampler([Share; Outcome::ALL.len()]);

#[derive(Debug)]
struct Share {
    /// Of [`ALL`].
    steps: AtomicU32,
    /// The steps of all callbacks so far: a line is due when they pass a multiple of [`ALL`].
    sum: AtomicU32,
}

impl Default for LineSampler {
    fn default() -> Self {
        let all = |_| Share { steps: AtomicU32::new(ALL), sum: AtomicU32::new(0) };
        Self(std::array::from_fn(all))
    }
}

impl LineSampler {
    /// Sets the shares from now on.
    pub(super) fn set(&self, shares: &LineShares) {
        for outcome in Outcome::ALL {
            let steps = (shares.of(*outcome) * f64::from(ALL)).round() as u32;
            self.0[*outcome as usize].steps.store(steps, Ordering::Relaxed);
        }
    }

    /// Whether the next callback with that outcome has a line.
    pub(super) fn admits(&self, outcome: Outcome) -> bool {
        let Share { steps, sum } = &self.0[outcome as usize];
        let steps = steps.load(Ordering::Relaxed);
        if steps >= ALL {
            return true;
        }
        let before = sum.fetch_add(steps, Ordering::Relaxed);
        before % ALL + steps >= ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_and_each_outcome_has_its_own() {
        let sampler = LineSampler::default();
        let admitted = |outcome, of: usize| (0..of).filter(|_| sampler.admits(outcome)).count();
        assert_eq!(admitted(Outcome::Duplicate, 1000), 1000, "all, unless it is set");
        let mut shares = LineShares::default();
        for (outcome, share) in
            [(Outcome::Duplicate, 0.01), (Outcome::Accepted, 0.5), (Outcome::Test, 0.0)]
        {
            shares.set(outcome, share);
        }
        sampler.set(&shares);
        let lines = admitted(Outcome::Duplicate, 1_000_000);
        assert!((9999..=10_001).contains(&lines), "{lines}");
        assert_eq!(admitted(Outcome::Accepted, 1000), 500);
        assert_eq!(admitted(Outcome::Test, 1000), 0);
        assert_eq!(admitted(Outcome::Rejected, 1000), 1000);
        sampler.set(&LineShares::default());
        assert_eq!(admitted(Outcome::Test, 10), 10, "as soon as it is set again");
    }
}
