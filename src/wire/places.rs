//! The open connections of a listener, and which of them makes room when all places are taken.
//!
//! A connection that does nothing useful can go: it owes a head, or idles. The address that has the
//! most of those gives way first, and of its connections those that have been so for longest. So
//! one address may have every place while no one else wants one. An address that has nearly all
//! places gives way between any two of its requests.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::activity::{ConnectionActivity, Leisure};
use crate::config::client_network;

/// How long a head may be owed while others wait for the place: three round trips around the world,
/// which is a TLS handshake and a head.
const HEAD_TIME_AT_LIMIT: Duration = Duration::from_millis(500);

/// How long a connection may idle while others wait for its place: longer than a sender's pause
/// within one burst.
const IDLE_TIME_AT_LIMIT: Duration = Duration::from_secs(1);

/// How long a connection that was asked to finish may take: a round trip for the answer of an
/// HTTP/2 peer, and a margin.
const FINISH_TIME_AT_LIMIT: Duration = Duration::from_secs(1);

/// The share of all places from which on an address crowds the others out, in quarters. Its connections
/// may then be asked to finish between any two of their requests, however often those come.
const CROWD_QUARTERS: usize = 3;

/// Of an address's connections that could go, one in so many goes at a time, at least one. A search
/// looks at every connection: with thousands of one address in the kernel's queue, it must not be
/// needed for each.
const ONE_IN: usize = 16;

/// Whether a connection belongs to a proxy of ours, which speaks for many callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PeerKind {
    /// Gives way last: its caller is not known before the head is.
    Proxy,
    Caller,
}

/// Every open connection.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    places: BTreeMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    network: u128,
    kind: PeerKind,
    activity: Arc<ConnectionActivity>,
    task: AbortHandle,
    asked: Option<Instant>,
}

/// The connections of one address that do nothing useful.
#[derive(Debug)]
struct Group {
    kind: PeerKind,
    count: usize,
    /// Connections that can go: for how long they have done nothing useful, and their ids.
    candidates: Vec<(Duration, u64)>,
}

/// How long a connection has done nothing useful.
#[derive(Clone, Copy, Debug)]
enum Useless {
    /// Too short a time to end it.
    Recently,
    Since(Duration),
}

/// Removes a connection from the list when it ends.
struct Leave {
    places: Arc<Places>,
    id: u64,
}

impl Places {
    /// Starts `connection`, of `peer`, which is listed until it ends.
    pub(super) fn spawn(
        self: &Arc<Self>,
        peer: IpAddr,
        kind: PeerKind,
        activity: Arc<ConnectionActivity>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut open = self.lock();
        let id = open.next;
        open.next += 1;
        let leave = Leave { places: Arc::clone(self), id };
        // It may end before this returns: it is then removed when the lock is free.
        let task = tokio::spawn(async move {
            let _leave = leave;
            connection.await;
        })
        .abort_handle();
        let network = client_network(peer);
        open.places.insert(id, Place { network, kind, activity, task, asked: None });
    }

    /// Ends connections of one address that owe a head, and asks its idle ones to finish. Returns
    /// how many connections it ended.
    pub(super) fn make_room(&self, now: Instant) -> usize {
        let mut open = self.lock();
        let Some(mut group) = open.largest(now) else { return 0 };
        group.candidates.sort_unstable_by_key(|(since, id)| (Reverse(*since), *id));
        let count = group.candidates.len().div_ceil(ONE_IN);
        let mut ended = 0;
        for (_, id) in group.candidates.into_iter().take(count) {
            let Some(place) = open.places.get_mut(&id) else { continue };
            let is_idle = matches!(place.activity.leisure(now), Some(Leisure::Idle(_)));
            if is_idle && place.asked.is_none() {
                place.asked = Some(now);
                place.activity.reclaim().notify();
            } else {
                // What it held is free when its task has been dropped.
                place.task.abort();
                open.places.remove(&id);
                ended += 1;
            }
        }
        ended
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The address that has the most connections that do nothing useful; proxies come last. Heads
    /// that are owed for a short time count too: one that is owed for longer by another address
    /// does not go for them. They complete soon, or can go soon.
    fn largest(&self, now: Instant) -> Option<Group> {
        let mut groups: HashMap<u128, Group> = HashMap::new();
        let crowd = self.crowd();
        for (id, place) in &self.places {
            let idle_time = match crowd == Some(place.network) {
                true => Duration::ZERO,
                false => IDLE_TIME_AT_LIMIT,
            };
            let Some(useless) = place.useless(now, idle_time) else { continue };
            let empty = || Group { kind: place.kind, count: 0, candidates: Vec::new() };
            let group = groups.entry(place.network).or_insert_with(empty);
            group.count += 1;
            if let Useless::Since(since) = useless {
                group.candidates.push((since, *id));
            }
        }
        groups
            .into_values()
            .max_by_key(|group| (group.kind, group.count, group.candidates.iter().max().copied()))
    }

    /// The address that has [`CROWD_QUARTERS`] of all places, unless that is a proxy's.
    fn crowd(&self) -> Option<u128> {
        let mut counts: HashMap<u128, usize> = HashMap::new();
        for place in self.places.values().filter(|place| place.kind == PeerKind::Caller) {
            *counts.entry(place.network).or_default() += 1;
        }
        let (network, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        (count * 4 >= self.places.len() * CROWD_QUARTERS).then_some(network)
    }
}

impl Place {
    /// How long the connection has done nothing useful, if it does nothing useful. `idle_time` is how
    /// long it may idle.
    fn useless(&self, now: Instant, idle_time: Duration) -> Option<Useless> {
        match self.activity.leisure(now)? {
            Leisure::OwesHead(since) if since < HEAD_TIME_AT_LIMIT => Some(Useless::Recently),
            Leisure::OwesHead(since) => Some(Useless::Since(since)),
            Leisure::Idle(since) => {
                let is_asked = |asked| now.saturating_duration_since(asked) < FINISH_TIME_AT_LIMIT;
                let is_due = since >= idle_time && !self.asked.is_some_and(is_asked);
                is_due.then_some(Useless::Since(since))
            }
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.places.lock().places.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(places: &Arc<Places>, peer: &str, kind: PeerKind) -> Arc<ConnectionActivity> {
        let activity = Arc::new(ConnectionActivity::new());
        let never = std::future::pending();
        places.spawn(peer.parse().unwrap(), kind, Arc::clone(&activity), never);
        activity
    }

    fn count(places: &Places, peer: &str) -> usize {
        let network = client_network(peer.parse().unwrap());
        places.lock().places.values().filter(|place| place.network == network).count()
    }

    const LOUD: &str = "203.0.113.1";
    const QUIET: &str = "198.51.100.1";

    #[tokio::test(start_paused = true)]
    async fn the_address_with_the_most_half_heads_gives_way() {
        let places = Arc::new(Places::default());
        open(&places, QUIET, PeerKind::Caller);
        tokio::time::advance(HEAD_TIME_AT_LIMIT).await;
        (0..32).for_each(|_| drop(open(&places, LOUD, PeerKind::Caller)));
        assert_eq!(places.make_room(Instant::now()), 0, "the loudest ones are too young");
        tokio::time::advance(HEAD_TIME_AT_LIMIT).await;
        assert_eq!(places.make_room(Instant::now()), 2, "one in sixteen");
        assert_eq!((count(&places, QUIET), count(&places, LOUD)), (1, 30));
        let left: Vec<u64> = places.lock().places.keys().copied().collect();
        assert_eq!(left, [&[0][..], &(3..33).collect::<Vec<_>>()].concat(), "the oldest went");
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_never_goes_and_a_proxy_last() {
        let places = Arc::new(Places::default());
        let busy = open(&places, LOUD, PeerKind::Caller);
        let request = busy.begin();
        (0..3).for_each(|_| drop(open(&places, "10.0.0.1", PeerKind::Proxy)));
        open(&places, QUIET, PeerKind::Caller);
        tokio::time::advance(HEAD_TIME_AT_LIMIT).await;
        assert_eq!((places.make_room(Instant::now()), count(&places, QUIET)), (1, 0));
        assert_eq!((places.make_room(Instant::now()), count(&places, "10.0.0.1")), (1, 2));
        assert_eq!(count(&places, LOUD), 1);
        drop(request);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_asked_first_and_ended_if_it_stays() {
        let places = Arc::new(Places::default());
        let idle = open(&places, LOUD, PeerKind::Caller);
        drop(idle.begin());
        tokio::time::advance(IDLE_TIME_AT_LIMIT).await;
        assert_eq!((places.make_room(Instant::now()), count(&places, LOUD)), (0, 1));
        assert_eq!((places.make_room(Instant::now()), count(&places, LOUD)), (0, 1));
        tokio::time::advance(FINISH_TIME_AT_LIMIT).await;
        assert_eq!((places.make_room(Instant::now()), count(&places, LOUD)), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_has_nearly_all_places_gives_way_between_its_requests() {
        let places = Arc::new(Places::default());
        open(&places, QUIET, PeerKind::Caller);
        let all: Vec<_> = (0..31).map(|_| open(&places, LOUD, PeerKind::Caller)).collect();
        let requests: Vec<_> = all.iter().map(|one| one.begin()).collect();
        let asked = |places: &Places| {
            places.lock().places.values().filter(|place| place.asked.is_some()).count()
        };
        assert_eq!((places.make_room(Instant::now()), asked(&places)), (0, 0), "all are busy");
        drop(requests);
        places.make_room(Instant::now());
        assert_eq!(asked(&places), 2, "one in sixteen");
        let places = Arc::new(Places::default());
        for at in 0..8 {
            let peer = if at % 2 == 0 { LOUD } else { QUIET };
            drop(open(&places, peer, PeerKind::Caller).begin());
        }
        places.make_room(Instant::now());
        assert_eq!(asked(&places), 0, "neither has most of the places");
    }

    #[tokio::test]
    async fn what_ends_is_no_longer_listed() {
        let places = Arc::new(Places::default());
        let activity = Arc::new(ConnectionActivity::new());
        places.spawn([203, 0, 113, 1].into(), PeerKind::Caller, activity, async {});
        while count(&places, LOUD) > 0 {
            tokio::task::yield_now().await;
        }
    }
}
