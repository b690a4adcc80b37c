//! Unknown keys: which ones were looked for, and when the next fetch is allowed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sender::KEY_ID_MAX;

/// Fetches in a row for unknown keys: a rotation rarely brings more than two keys.
const BURST: u32 = 3;

/// The interval of further fetches: what a new key waits for while a caller makes up others. Six
/// fetches a minute do not burden the publisher.
const EACH: Duration = Duration::from_secs(10);

/// Remembered unknown keys: 32 KiB per set.
const REMEMBERED_MAX: usize = 256;

/// How long they are remembered: a callback may name a new key before every cache has the new set.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The state of keys that a set does not have.
#[derive(Debug)]
pub(super) struct UnknownKeys {
    stage: Stage,
    /// With the time of each lookup.
    unknown: VecDeque<(Box<[u8]>, Instant)>,
    left: u32,
    counted: Instant,
    /// The key that a fetch was requested for.
    wanted: Option<Box<[u8]>>,
}

/// The state of the fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Idle.
    Idle,
    /// Requested.
    Requested,
    /// In flight.
    Fetching,
}

/// The fetch that a callback with an unknown key waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refetch {
    /// Nothing.
    None,
    /// The fetch in flight.
    InFlight,
    /// A fetch that this callback has to request.
    Requested,
}

impl UnknownKeys {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            stage: Stage::Idle,
            unknown: VecDeque::new(),
            left: BURST,
            counted: now,
            wanted: None,
        }
    }

    /// The fetch that a callback with the key `id` waits for at `now`. A set that was `never` fetched is
    /// fetched anyway, so no fetch is requested.
    pub(super) fn refetch(&mut self, id: &[u8], never: Never, now: Instant) -> Refetch {
        if id.len() > KEY_ID_MAX || self.is_unknown(id, now) {
            return Refetch::None;
        }
        if self.stage != Stage::Idle {
            return Refetch::InFlight;
        }
        if never == Never::Fetched || !self.take(now) {
            return Refetch::None;
        }
        self.stage = Stage::Requested;
        self.wanted = Some(id.into());
        Refetch::Requested
    }

    /// The key that the requested fetch is for, once.
    pub(super) fn take_wanted(&mut self) -> Option<Box<[u8]>> {
        self.wanted.take()
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

    /// Records that a fetch begins.
    pub(super) fn begin(&mut self) {
        self.stage = Stage::Fetching;
    }

    /// Records the end of a fetch, successful or not.
    pub(super) fn end(&mut self) {
        self.stage = Stage::Idle;
    }

    /// Records that the fetched set does not have the key `id`.
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

/// Whether a set was ever fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Never {
    /// Never fetched.
    Fetched,
    /// Fetched.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// Fetches that `count` made-up keys cause within `time`, one key per millisecond or less.
    fn fetches(unknown_keys: &mut UnknownKeys, from: Instant, count: u32, time: Duration) -> usize {
        let mut fetches = 0;
        for n in 0..count {
            let now = from + time * n / count;
            let id = n.to_string();
            if unknown_keys.refetch(id.as_bytes(), Never::No, now) == Refetch::Requested {
                fetches += 1;
                unknown_keys.begin();
                unknown_keys.end();
                unknown_keys.remember(id.as_bytes(), now);
            }
        }
        fetches
    }

    #[test]
    fn made_up_keys_cause_few_fetches_and_take_little_room() {
        let now = clock::instant();
        let mut unknown_keys = UnknownKeys::new(now);
        assert_eq!(fetches(&mut unknown_keys, now, 100_000, Duration::from_secs(60)), 3 + 5);
        assert!(unknown_keys.unknown.len() <= REMEMBERED_MAX);
        for n in 0..100_000 {
            unknown_keys.remember(format!("x{n}").as_bytes(), now);
        }
        assert_eq!(unknown_keys.unknown.len(), REMEMBERED_MAX);
    }

    #[test]
    fn a_key_that_was_looked_for_is_not_looked_for_again_for_a_while() {
        let now = clock::instant();
        let mut unknown_keys = UnknownKeys::new(now);
        assert_eq!(unknown_keys.refetch(b"k", Never::No, now), Refetch::Requested);
        assert_eq!(
            unknown_keys.refetch(b"other", Never::No, now),
            Refetch::InFlight,
            "one at a time"
        );
        unknown_keys.begin();
        assert_eq!(unknown_keys.refetch(b"k", Never::No, now), Refetch::InFlight);
        unknown_keys.end();
        unknown_keys.remember(b"k", now);
        let almost = now + REMEMBERED - Duration::from_millis(1);
        assert_eq!(unknown_keys.refetch(b"k", Never::No, almost), Refetch::None);
        assert_eq!(unknown_keys.refetch(b"k", Never::No, now + REMEMBERED), Refetch::Requested);
    }

    #[test]
    fn no_list_has_a_key_of_that_length() {
        let now = clock::instant();
        let mut unknown_keys = UnknownKeys::new(now);
        assert_eq!(unknown_keys.refetch(&[b'1'; KEY_ID_MAX + 1], Never::No, now), Refetch::None);
        assert_eq!(unknown_keys.refetch(&[b'1'; KEY_ID_MAX], Never::No, now), Refetch::Requested);
    }

    #[test]
    fn a_list_that_was_never_there_is_not_asked_for() {
        let now = clock::instant();
        let mut unknown_keys = UnknownKeys::new(now);
        assert_eq!(unknown_keys.refetch(b"k", Never::Fetched, now), Refetch::None);
        unknown_keys.begin();
        assert_eq!(unknown_keys.refetch(b"k", Never::Fetched, now), Refetch::InFlight);
    }
}
