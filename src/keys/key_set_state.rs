//! The keys of one set, as callbacks see them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore, watch};

use super::unknown_keys::{Never, Refetch, UnknownKeys};
use crate::clock;
use crate::sender::KeySet;

/// Callbacks that wait for one fetch: enough for a rotation in a busy hour, and few enough that
/// made-up keys delay no other callback. The others are decided at once.
const WAITING_MAX: usize = 64;

/// The time in which the first fetch should succeed: a few retries.
const FIRST_FETCH_TIME: Duration = Duration::from_secs(60);

/// The keys of one set.
#[derive(Debug)]
pub struct KeySetState {
    there: ArcSwapOption<FetchedKeys>,
    unknown_keys: Mutex<UnknownKeys>,
    /// The number of finished fetches.
    ended: watch::Sender<u64>,
    requested: Notify,
    waiting: Semaphore,
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
        let began = clock::instant();
        Self {
            there: ArcSwapOption::empty(),
            unknown_keys: Mutex::new(UnknownKeys::new(began)),
            ended: watch::Sender::new(0),
            requested: Notify::new(),
            waiting: Semaphore::new(WAITING_MAX),
            began,
            proven: Mutex::default(),
        }
    }

    /// A set of certificates: none, until a callback names one.
    pub(super) fn of_certificates() -> Self {
        let state = Self::new();
        state.store(KeySet::default(), Duration::MAX);
        state
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

    /// Waits, at most for `time`, for a fetch because of the unknown key `id`; returns at once
    /// where no fetch is allowed. [`Self::now`] has the result.
    pub async fn look_again(&self, id: &[u8], time: Duration) {
        let mut ended = self.ended.subscribe();
        let before = self.now();
        let never = if before.is_some() { Never::No } else { Never::Fetched };
        let refetch = self.unknown_keys().refetch(id, never, clock::instant());
        match refetch {
            Refetch::None => return,
            Refetch::Requested => self.requested.notify_one(),
            Refetch::InFlight => {}
        }
        let Ok(_place) = self.waiting.try_acquire() else { return };
        // After the timeout the current keys are used.
        let _ = tokio::time::timeout(time, ended.changed()).await;
        let Some(keys) = self.now() else { return };
        let is_new = before.is_none_or(|before| !Arc::ptr_eq(&before, &keys));
        if is_new && !keys.knows(id) {
            self.unknown_keys().remember(id, clock::instant());
        }
    }

    /// Waits until a callback requests a fetch.
    pub(super) async fn requested(&self) {
        self.requested.notified().await;
    }

    /// Requests a fetch, as a callback would.
    pub(super) fn request_fetch(&self) {
        self.requested.notify_one();
    }

    /// Records that a fetch begins.
    pub(super) fn begin(&self) {
        self.unknown_keys().begin();
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

    /// The URL of the certificate that the requested fetch is for.
    pub(super) fn take_wanted(&self) -> Option<Box<[u8]>> {
        self.unknown_keys().take_wanted()
    }

    /// Records that the certificate at `id` could not be fetched: it is not fetched for a while.
    pub(super) fn fail(&self, id: &[u8]) {
        self.unknown_keys().remember(id, clock::instant());
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
