//! Keys that a list does not have: which ones were looked for, and when one may be again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sender::KEY_ID_MAX;

/// Fetches that unknown keys may cause at once: a rotation seldom brings more than two keys.
const BURST: u32 = 3;

/// Then there is one in this time. It is what a new key waits for while somebody makes up others,
/// and six fetches a minute are no load for whoever publishes the list.
const EACH: Duration = Duration::from_secs(10);

/// Unknown keys that are remembered: 32 KiB a list.
const REMEMBERED_MAX: usize = 256;

/// How long they are: a callback may name a new key before every cache on the way has the new list.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What is known of keys that a list does not have.
#[derive(Debug)]
pub(super) struct UnknownKeys {
    stage: Stage,
    /// With the time at which each was looked for.
    unknown: VecDeque<(Box<[u8]>, Instant)>,
    left: u32,
    counted: Instant,
}

/// What is being done about the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing.
    Idle,
    /// It is to be fetched.
    Asked,
    /// It is being fetched.
    Fetching,
}

/// What a callback that names an unknown key can hope for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refetch {
    /// Nothing.
    None,
    /// A fetch that is under way.
    InFlight,
    /// A fetch that has to be asked for.
    Requested,
}

impl UnknownKeys {
    pub(super) fn new(now: Instant) -> Self {
        Self { stage: Stage::Idle, unknown: VecDeque::new(), left: BURST, counted: now }
    }

    /// What there is to hope for the key `id` at `now`. A list that was `never` fetched is fetched
    /// whatever anybody names, and so is not asked for.
    pub(super) fn hope(&mut self, id: &[u8], never: Never, now: Instant) -> Refetch {
        if id.len() > KEY_ID_MAX || self.is_unknown(id, now) {
            return Refetch::None;
        }
        if self.stage != Stage::Idle {
            return Refetch::InFlight;
        }
        if never == Never::Fetched || !self.take(now) {
            return Refetch::None;
        }
        self.stage = Stage::Asked;
        Refetch::Requested
    }

    fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.counted).as_secs() / EACH.as_secs();
        if gained > 0 {
            let gained = u32::try_from(gained).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(gained).min(BURST);
            self.counted = now;
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }

    /// A fetch begins.
    pub(super) fn begin(&mut self) {
        self.stage = Stage::Fetching;
    }

    /// A fetch has ended, well or not.
    pub(super) fn end(&mut self) {
        self.stage = Stage::Idle;
    }

    /// The list was fetched, and does not have the key `id`.
    pub(super) fn remember(&mut self, id: &[u8], now: Instant) {
        if self.is_unknown(id, now) {
            return;
        }
        if self.unknown.len() >= REMEMBERED_MAX {
            self.unknown.pop_front();
        }
        self.unknown.push_back((id.into(), now));
    }

    fn is_unknown(&self, id: &[u8], now: Instant) -> bool {
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < REMEMBERED;
        self.unknown.iter().any(|(known, at)| **known == *id && fresh(at))
    }
}

/// Whether a list was ever fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Never {
    /// Never.
    Fetched,
    /// It was.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// Fetches that `count` made-up keys cause within `time`, one key a millisecond or less.
    fn fetches(doubts: &mut UnknownKeys, from: Instant, count: u32, time: Duration) -> usize {
        let mut fetches = 0;
        for n in 0..count {
            let now = from + time * n / count;
            let id = n.to_string();
            if doubts.hope(id.as_bytes(), Never::No, now) == Refetch::Requested {
                fetches += 1;
                doubts.begin();
                doubts.end();
                doubts.remember(id.as_bytes(), now);
            }
        }
        fetches
    }

    #[test]
    fn made_up_keys_cause_few_fetches_and_take_little_room() {
        let now = clock::instant();
        let mut doubts = UnknownKeys::new(now);
        assert_eq!(fetches(&mut doubts, now, 100_000, Duration::from_secs(60)), 3 + 5);
        assert!(doubts.unknown.len() <= REMEMBERED_MAX);
        for n in 0..100_000 {
            doubts.remember(format!("x{n}").as_bytes(), now);
        }
        assert_eq!(doubts.unknown.len(), REMEMBERED_MAX);
    }

    #[test]
    fn a_key_that_was_looked_for_is_not_looked_for_again_for_a_while() {
        let now = clock::instant();
        let mut doubts = UnknownKeys::new(now);
        assert_eq!(doubts.hope(b"k", Never::No, now), Refetch::Requested);
        assert_eq!(doubts.hope(b"other", Never::No, now), Refetch::InFlight, "one at a time");
        doubts.begin();
        assert_eq!(doubts.hope(b"k", Never::No, now), Refetch::InFlight);
        doubts.end();
        doubts.remember(b"k", now);
        let almost = now + REMEMBERED - Duration::from_millis(1);
        assert_eq!(doubts.hope(b"k", Never::No, almost), Refetch::None);
        assert_eq!(doubts.hope(b"k", Never::No, now + REMEMBERED), Refetch::Requested);
    }

    #[test]
    fn no_list_has_a_key_of_that_length() {
        let now = clock::instant();
        let mut doubts = UnknownKeys::new(now);
        assert_eq!(doubts.hope(&[b'1'; KEY_ID_MAX + 1], Never::No, now), Refetch::None);
        assert_eq!(doubts.hope(&[b'1'; KEY_ID_MAX], Never::No, now), Refetch::Requested);
    }

    #[test]
    fn a_list_that_was_never_there_is_not_asked_for() {
        let now = clock::instant();
        let mut doubts = UnknownKeys::new(now);
        assert_eq!(doubts.hope(b"k", Never::Fetched, now), Refetch::None);
        doubts.begin();
        assert_eq!(doubts.hope(b"k", Never::Fetched, now), Refetch::InFlight);
    }
}
