//! Unknown keys: which ones were looked for, which ones are wanted, and whose turn it is.
//!
//! Any caller can make up keys. So each network has an allowance of fetches and one place in the
//! queue, and the network that has waited longest since its last fetch goes first: a flood from
//! a few networks delays another caller by a fetch, and not by the flood.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior};

use crate::sender::KEY_ID_MAX;

/// Fetches for unknown keys that one network causes within [`ALLOWANCE_TIME`]: a rotation rarely
/// brings more than two keys. Six a minute in the long run do not burden the publisher.
const ALLOWANCE: usize = 3;

/// The time that [`ALLOWANCE`] counts for. A sender's next try usually comes within it.
const ALLOWANCE_TIME: Duration = Duration::from_secs(30);

/// From one fetch for an unknown key to the next, of all networks together: the bound of a flood
/// from many. Short enough that a callback can wait for its turn within its sender's patience.
const PACE: Duration = Duration::from_secs(1);

/// Networks that wait for their turn: a minute of fetches, after which senders give up.
const WANTED_MAX: usize = 64;

/// Remembered fetches, with the network of each: 17 minutes of a flood, and 32 KiB per set.
const BEGUN_MAX: usize = 1024;

/// Remembered unknown keys: 32 KiB per set.
const REMEMBERED_MAX: usize = 256;

/// How long a key is remembered that a fetched list lacks: a callback may name a new key before
/// every cache has the new list.
pub(super) const LACKING: Duration = Duration::from_secs(60);

/// How long a certificate is remembered that could not be fetched: less than from one try of
/// a sender to the next (20 s for SNS), so one failure does not lose the next try.
pub(super) const FAILED: Duration = Duration::from_secs(10);

/// The content of a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A list: one fetch brings all keys.
    List,
    /// Certificates: each fetch brings the one at the URL that is its id.
    Certificates,
}

/// The network that counts as one caller: the /24 of an IPv4 address, the /48 of an IPv6 address.
/// Both are what one customer of a provider gets, and what a sender calls from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallerNetwork(u128);

impl CallerNetwork {
    /// The network of `address`.
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().to_bits() >> 8 << 8),
            IpAddr::V6(address) => Self(address.to_bits() >> 80 << 80),
        }
    }
}

/// The pace of fetches for unknown keys: each fetch waits for a tick. Needs a tokio runtime.
pub(super) fn pace() -> Interval {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// The state of keys that a set does not have.
#[derive(Debug)]
pub(super) struct UnknownKeys {
    content: Content,
    /// The key that a fetch is in flight for; empty for a list, which has all of them.
    fetching: Option<Box<[u8]>>,
    /// With the time until which each one is remembered.
    unknown: VecDeque<(Box<[u8]>, Instant)>,
    /// In the order of their turns: at most one of each network.
    wanted: Vec<WantedKey>,
    /// The latest fetches for unknown keys: for which network, and when.
    begun: VecDeque<(CallerNetwork, Instant)>,
    /// Whether a fetch is wanted that is for no key.
    refresh: Refresh,
}

/// A key that a callback cannot be verified without.
#[derive(Debug)]
struct WantedKey {
    id: Box<[u8]>,
    caller: CallerNetwork,
    /// The last fetch for a key of this network, as far as it is remembered.
    last: Option<Instant>,
}

/// A fetch that is for no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refresh {
    None,
    Wanted,
}

/// The fetch that a callback with an unknown key waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refetch {
    /// Nothing.
    None,
    /// A fetch in flight, or the turn of another callback of its network.
    InFlight,
    /// A fetch that this callback has put into the queue.
    Requested,
}

impl UnknownKeys {
    pub(super) fn new(content: Content) -> Self {
        Self {
            content,
            fetching: None,
            unknown: VecDeque::new(),
            wanted: Vec::new(),
            begun: VecDeque::new(),
            refresh: Refresh::None,
        }
    }

    /// The fetch that a callback of `caller` with the key `id` waits for at `now`. A set that was
    /// `never` fetched is fetched anyway, so no fetch is requested.
    pub(super) fn refetch(
        &mut self,
        id: &[u8],
        caller: CallerNetwork,
        never: Never,
        now: Instant,
    ) -> Refetch {
        if id.len() > KEY_ID_MAX || self.is_unknown(id, now) {
            return Refetch::None;
        }
        let comes = match self.content {
            Content::List => self.fetching.is_some() || !self.wanted.is_empty(),
            Content::Certificates => {
                self.fetching.as_deref() == Some(id)
                    || self.wanted.iter().any(|one| one.caller == caller)
            }
        };
        if comes {
            return Refetch::InFlight;
        }
        if never == Never::Fetched || !self.may_request(caller, now) {
            return Refetch::None;
        }
        self.queue(id, caller)
    }

    fn may_request(&self, caller: CallerNetwork, now: Instant) -> bool {
        let latest = self.begun.iter().rev();
        let latest =
            latest.take_while(|(_, at)| now.saturating_duration_since(*at) < ALLOWANCE_TIME);
        latest.filter(|(network, _)| *network == caller).count() < ALLOWANCE
    }

    /// Puts a key into the queue: behind those of networks that have waited longer.
    fn queue(&mut self, id: &[u8], caller: CallerNetwork) -> Refetch {
        let last = self.begun.iter().rev().find(|(network, _)| *network == caller);
        let last = last.map(|(_, at)| *at);
        let turn = self.wanted.partition_point(|one| one.last <= last);
        if turn >= WANTED_MAX {
            return Refetch::None;
        }
        self.wanted.truncate(WANTED_MAX - 1);
        self.wanted.insert(turn, WantedKey { id: id.into(), caller, last });
        Refetch::Requested
    }

    /// Requests a fetch that is for no key.
    pub(super) fn want_refresh(&mut self) {
        self.refresh = Refresh::Wanted;
    }

    /// Whether a fetch is wanted.
    pub(super) fn is_wanted(&self) -> bool {
        self.refresh == Refresh::Wanted || !self.wanted.is_empty()
    }

    /// The key whose turn it is: its fetch begins at `now`. `None`: the fetch is for no key.
    pub(super) fn take_wanted(&mut self, now: Instant) -> Option<Box<[u8]>> {
        self.refresh = Refresh::None;
        if self.wanted.is_empty() {
            return None;
        }
        let WantedKey { id, caller, .. } = self.wanted.remove(0);
        if self.begun.len() >= BEGUN_MAX {
            self.begun.pop_front();
        }
        self.begun.push_back((caller, now));
        self.begin(&id);
        Some(id)
    }

    /// Records that a fetch begins, for the key `id` or a whole list.
    pub(super) fn begin(&mut self, id: &[u8]) {
        self.fetching = Some(id.into());
        match self.content {
            Content::List => {
                self.wanted.clear();
                self.refresh = Refresh::None;
            }
            Content::Certificates => self.wanted.retain(|one| *one.id != *id),
        }
    }

    /// Records the end of a fetch, successful or not.
    pub(super) fn end(&mut self) {
        self.fetching = None;
    }

    /// Records that there is no key `id`, for `time` from `now` on.
    pub(super) fn remember(&mut self, id: &[u8], time: Duration, now: Instant) {
        if self.is_unknown(id, now) {
            return;
        }
        if self.unknown.len() >= REMEMBERED_MAX {
            self.unknown.pop_front();
        }
        self.unknown.push_back((id.into(), now + time));
    }

    fn is_unknown(&self, id: &[u8], now: Instant) -> bool {
        self.unknown.iter().any(|(known, until)| **known == *id && now < *until)
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

    fn network(address: &str) -> CallerNetwork {
        CallerNetwork::of(address.parse().unwrap())
    }

    /// One of 65,536 networks.
    fn numbered(number: u16) -> CallerNetwork {
        let [high, low] = number.to_be_bytes();
        CallerNetwork::of(IpAddr::from([10, high, low, 1]))
    }

    fn wants(keys: &mut UnknownKeys, id: &str, caller: CallerNetwork, now: Instant) -> Refetch {
        keys.refetch(id.as_bytes(), caller, Never::No, now)
    }

    /// Begins and ends the next fetch. Returns its key.
    fn fetch(keys: &mut UnknownKeys, now: Instant) -> String {
        let id = keys.take_wanted(now).unwrap();
        keys.end();
        String::from_utf8(id.into_vec()).unwrap()
    }

    #[test]
    fn one_network_causes_few_fetches_and_takes_little_room() {
        for content in [Content::List, Content::Certificates] {
            let start = clock::instant();
            let (mut keys, caller) = (UnknownKeys::new(content), network("203.0.113.1"));
            let mut fetches = 0;
            for n in 0..60_000_u32 {
                let now = start + Duration::from_millis(n.into());
                if wants(&mut keys, &n.to_string(), caller, now) == Refetch::Requested {
                    fetches += 1;
                    fetch(&mut keys, now);
                    keys.remember(n.to_string().as_bytes(), LACKING, now);
                }
            }
            assert_eq!(fetches, 3 + 3, "{content:?}");
            for n in 0..100_000 {
                keys.remember(format!("x{n}").as_bytes(), LACKING, start);
            }
            assert_eq!(keys.unknown.len(), REMEMBERED_MAX);
        }
    }

    #[test]
    fn the_callers_of_one_network_are_one_caller() {
        for (one, other) in [("203.0.113.1", "203.0.113.254"), ("2001:db8:1::1", "2001:db8:1:2::9")]
        {
            assert_eq!(network(one), network(other));
        }
        assert_eq!(network("::ffff:203.0.113.1"), network("203.0.113.1"));
        assert_ne!(network("203.0.113.1"), network("203.0.114.1"));
        assert_ne!(network("2001:db8:1::1"), network("2001:db8:2::1"));
    }

    #[test]
    fn another_network_goes_before_one_that_had_its_turn() {
        let now = clock::instant();
        let mut keys = UnknownKeys::new(Content::Certificates);
        let (loud, other) = (network("203.0.113.1"), network("198.51.100.1"));
        assert_eq!(wants(&mut keys, "x0", loud, now), Refetch::Requested);
        assert_eq!(fetch(&mut keys, now), "x0");
        assert_eq!(wants(&mut keys, "x1", loud, now), Refetch::Requested);
        assert_eq!(wants(&mut keys, "x2", loud, now), Refetch::InFlight, "one place for a network");
        assert_eq!(wants(&mut keys, "right", other, now), Refetch::Requested);
        assert_eq!((fetch(&mut keys, now), fetch(&mut keys, now)), ("right".into(), "x1".into()));
        assert_eq!(wants(&mut keys, "x3", loud, now), Refetch::Requested);
        fetch(&mut keys, now);
        assert_eq!(wants(&mut keys, "x4", loud, now), Refetch::None, "its allowance is spent");
        assert_eq!(wants(&mut keys, "right too", other, now), Refetch::Requested);
        assert_eq!(wants(&mut keys, "x4", loud, now + ALLOWANCE_TIME), Refetch::Requested);
    }

    #[test]
    fn many_networks_that_had_their_turns_delay_a_new_one_by_nothing() {
        let start = clock::instant();
        let mut keys = UnknownKeys::new(Content::Certificates);
        for n in 0..1000 {
            let now = start + PACE * u32::from(n);
            assert_eq!(wants(&mut keys, "x", numbered(n), now), Refetch::Requested);
            assert_eq!(fetch(&mut keys, now), "x");
        }
        let now = start + PACE * 1000;
        for n in (0..1000).rev() {
            wants(&mut keys, &format!("y{n}"), numbered(n), now);
        }
        assert_eq!(keys.wanted.len(), WANTED_MAX);
        assert_eq!(wants(&mut keys, "right", network("198.51.100.1"), now), Refetch::Requested);
        assert_eq!(keys.wanted.len(), WANTED_MAX);
        assert_eq!(fetch(&mut keys, now), "right");
        assert_eq!(fetch(&mut keys, now), "y0", "the one that has waited longest");
    }

    #[test]
    fn one_fetch_of_a_list_answers_all_and_one_of_a_certificate_answers_its_own() {
        let now = clock::instant();
        let (one, other) = (network("203.0.113.1"), network("198.51.100.1"));
        let mut list = UnknownKeys::new(Content::List);
        assert_eq!(wants(&mut list, "a", one, now), Refetch::Requested);
        assert_eq!(wants(&mut list, "b", other, now), Refetch::InFlight);
        list.begin(b"");
        assert!(!list.is_wanted());
        assert_eq!(wants(&mut list, "c", other, now), Refetch::InFlight);
        let mut certificates = UnknownKeys::new(Content::Certificates);
        assert_eq!(wants(&mut certificates, "a", one, now), Refetch::Requested);
        assert_eq!(wants(&mut certificates, "a", other, now), Refetch::Requested);
        assert_eq!(certificates.take_wanted(now).as_deref(), Some(b"a".as_slice()));
        assert!(!certificates.is_wanted(), "the same fetch");
        assert_eq!(wants(&mut certificates, "a", other, now), Refetch::InFlight);
        assert_eq!(wants(&mut certificates, "b", other, now), Refetch::Requested);
    }

    #[test]
    fn a_key_that_was_looked_for_is_not_looked_for_again_for_a_while() {
        let now = clock::instant();
        let (mut keys, caller) = (UnknownKeys::new(Content::List), network("203.0.113.1"));
        assert_eq!(wants(&mut keys, "k", caller, now), Refetch::Requested);
        fetch(&mut keys, now);
        keys.remember(b"k", LACKING, now);
        let almost = now + LACKING - Duration::from_millis(1);
        assert_eq!(wants(&mut keys, "k", caller, almost), Refetch::None);
        assert_eq!(wants(&mut keys, "k", caller, now + LACKING), Refetch::Requested);
    }

    #[test]
    fn no_list_has_a_key_of_that_length() {
        let now = clock::instant();
        let (mut keys, caller) = (UnknownKeys::new(Content::List), network("203.0.113.1"));
        let long = "1".repeat(KEY_ID_MAX + 1);
        assert_eq!(wants(&mut keys, &long, caller, now), Refetch::None);
        assert_eq!(wants(&mut keys, &long[1..], caller, now), Refetch::Requested);
    }

    #[test]
    fn a_list_that_was_never_there_is_not_asked_for() {
        let now = clock::instant();
        let (mut keys, caller) = (UnknownKeys::new(Content::List), network("203.0.113.1"));
        assert_eq!(keys.refetch(b"k", caller, Never::Fetched, now), Refetch::None);
        keys.begin(b"");
        assert_eq!(keys.refetch(b"k", caller, Never::Fetched, now), Refetch::InFlight);
    }
}
