//! The keys of one set, as callbacks see them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::Interval;

use super::unknown_keys::{CallerNetwork, Content, FAILED, LACKING, Never, Refetch, UnknownKeys};
use super::waiting::WaitingPlaces;
use crate::clock;
use crate::sender::KeySet;

/// The time in which the first fetch should succeed: a few retries.
const FIRST_FETCH_TIME: Duration = Duration::from_secs(60);

/// The keys of one set.
#[derive(Debug)]
pub struct KeySetState {
    content: Content,
    there: ArcSwapOption<FetchedKeys>,
    unknown_keys: Mutex<UnknownKeys>,
    /// The number of finished fetches.
    ended: watch::Sender<u64>,
    requested: Notify,
    waiting: WaitingPlaces,
    began: Instant,
    /// Certificates that a callback verified with, by their URLs.
    proven: Mutex<Vec<Box<[u8]>>>,
}

/// Keys, and when they were fetched.
#[derive(Debug)]
struct FetchedKeys {
    keys: Arc<KeySet>,
    at: Instant,
    lifetime: Duration,
}

impl KeySetState {
    /// A key set that was not fetched yet.
    pub(super) fn new() -> Self {
        Self::of(Content::List)
    }

    /// A set of certificates: none, until a callback names one.
    pub(super) fn of_certificates() -> Self {
        let state = Self::of(Content::Certificates);
        state.store(KeySet::default(), Duration::MAX);
        state
    }

    fn of(content: Content) -> Self {
        Self {
            content,
            there: ArcSwapOption::empty(),
            unknown_keys: Mutex::new(UnknownKeys::new(content)),
            ended: watch::Sender::new(0),
            requested: Notify::new(),
            waiting: WaitingPlaces::default(),
            began: clock::instant(),
            proven: Mutex::default(),
        }
    }

    /// The current keys; `None`: never fetched.
    #[must_use]
    pub fn now(&self) -> Option<Arc<KeySet>> {
        self.there.load().as_ref().map(|there| Arc::clone(&there.keys))
    }

    /// The time since the last successful fetch, or since the start.
    #[must_use]
    pub fn age(&self) -> Duration {
        let since = self.there.load().as_ref().map_or(self.began, |there| there.at);
        clock::instant().saturating_duration_since(since)
    }

    /// Whether the keys are older than their server said they may be, or were never fetched.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let lifetime = self.there.load().as_ref().map_or(FIRST_FETCH_TIME, |there| there.lifetime);
        self.age() > lifetime
    }

    /// Waits, at most for `time`, for a fetch because of the unknown key `id`, which a callback of
    /// `client` names; returns at once where no fetch is allowed. [`Self::now`] has the result.
    pub async fn look_again(&self, id: &[u8], client: IpAddr, time: Duration) {
        // After the timeout the current keys are used, and a requested fetch still comes.
        let _ = tokio::time::timeout(time, self.wait_for(id, CallerNetwork::of(client))).await;
    }

    /// Waits for the fetch of the key `id`; of a certificate, also while the turn is another's.
    async fn wait_for(&self, id: &[u8], caller: CallerNetwork) {
        let mut ended = self.ended.subscribe();
        let place = self.waiting.take(caller);
        loop {
            let before = self.now();
            match self.refetch(id, caller) {
                Refetch::None => return,
                Refetch::Requested => self.requested.notify_one(),
                Refetch::InFlight => {}
            }
            if place.is_none() || ended.changed().await.is_err() {
                return;
            }
            if self.content == Content::Certificates {
                continue;
            }
            let Some(keys) = self.now() else { return };
            let is_new = before.is_none_or(|before| !Arc::ptr_eq(&before, &keys));
            if is_new && !keys.knows(id) {
                self.unknown_keys().remember(id, LACKING, clock::instant());
            }
            return;
        }
    }

    fn refetch(&self, id: &[u8], caller: CallerNetwork) -> Refetch {
        // In this order: the end of a fetch stores the keys before it takes the lock.
        let mut unknown_keys = self.unknown_keys();
        let never = match self.now() {
            Some(keys) if keys.knows(id) => return Refetch::None,
            Some(_) => Never::No,
            None => Never::Fetched,
        };
        unknown_keys.refetch(id, caller, never, clock::instant())
    }

    /// Waits until a fetch is wanted, and for the next tick of `pace`. Nothing is lost if the
    /// caller stops waiting.
    pub(super) async fn requested(&self, pace: &mut Interval) {
        while !self.is_requested() {
            self.requested.notified().await;
        }
        pace.tick().await;
    }

    fn is_requested(&self) -> bool {
        self.unknown_keys().is_wanted()
    }

    /// Requests a fetch that is for no key.
    pub(super) fn request_fetch(&self) {
        self.unknown_keys().want_refresh();
        self.requested.notify_one();
    }

    /// Records that a fetch begins, for the key `id`; that of a list is for all of them.
    pub(super) fn begin(&self, id: &[u8]) {
        self.unknown_keys().begin(id);
    }

    /// Records the end of a fetch, with keys and their lifetime or without.
    pub(super) fn end(&self, keys: Option<(KeySet, Duration)>) {
        if let Some((keys, lifetime)) = keys {
            self.store(keys, lifetime);
        }
        self.unknown_keys().end();
        self.ended.send_modify(|count| *count += 1);
    }

    /// Replaces the keys.
    pub(super) fn store(&self, keys: KeySet, lifetime: Duration) {
        let there = FetchedKeys { keys: Arc::new(keys), at: clock::instant(), lifetime };
        self.there.store(Some(Arc::new(there)));
    }

    /// The key whose turn it is, for a fetch that begins now.
    pub(super) fn take_wanted(&self) -> Option<Box<[u8]>> {
        self.unknown_keys().take_wanted(clock::instant())
    }

    /// Records that the certificate at `id` could not be fetched: it is not fetched for a while.
    pub(super) fn fail(&self, id: &[u8]) {
        self.unknown_keys().remember(id, FAILED, clock::instant());
    }

    /// Records that a callback verified with the certificate at `id`: no other one takes its place.
    pub fn note_proof(&self, id: &[u8]) {
        let is_kept = self.now().is_some_and(|keys| keys.knows(id));
        let mut proven = self.proven();
        if is_kept && !proven.iter().any(|one| **one == *id) {
            proven.push(id.into());
        }
    }

    pub(super) fn is_proven(&self, id: &[u8]) -> bool {
        self.proven().iter().any(|one| **one == *id)
    }

    pub(super) fn forget_proof(&self, id: &[u8]) {
        self.proven().retain(|one| **one != *id);
    }

    fn proven(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unknown_keys(&self) -> MutexGuard<'_, UnknownKeys> {
        // No holder of the lock can panic in between.
        self.unknown_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
