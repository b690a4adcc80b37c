//! The keys of one list as callbacks see them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore, watch};

use super::unknown_keys::{Never, Refetch, UnknownKeys};
use crate::clock;
use crate::sender::KeySet;

/// Callbacks that wait for one fetch: enough for a rotation in the middle of a busy hour, and few
/// enough that whoever makes up keys holds nothing up. The others are decided at once.
const WAITING_MAX: usize = 64;

/// The keys of one list.
#[derive(Debug)]
pub struct KeySetState {
    there: ArcSwapOption<FetchedKeys>,
    doubts: Mutex<UnknownKeys>,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
    asked: Notify,
    waiting: Semaphore,
    began: Instant,
}

/// Keys, and when they were fetched.
#[derive(Debug)]
struct FetchedKeys {
    keys: Arc<KeySet>,
    at: Instant,
}

impl KeySetState {
    /// A list that was not fetched yet.
    pub(super) fn new() -> Self {
        let began = clock::instant();
        Self {
            there: ArcSwapOption::empty(),
            doubts: Mutex::new(UnknownKeys::new(began)),
            ended: watch::Sender::new(0),
            asked: Notify::new(),
            waiting: Semaphore::new(WAITING_MAX),
            began,
        }
    }

    /// The keys that are there; `None`: the list was never fetched.
    #[must_use]
    pub fn now(&self) -> Option<Arc<KeySet>> {
        self.there.load().as_ref().map(|there| Arc::clone(&there.keys))
    }

    /// Since when nobody has fetched it: since the last time, or since the start.
    #[must_use]
    pub fn age(&self) -> Duration {
        let since = self.there.load().as_ref().map_or(self.began, |there| there.at);
        clock::instant().saturating_duration_since(since)
    }

    /// Waits, for `time` at most, until the list was looked at because of the key `id`, which it
    /// does not have; at once where there is nothing to wait for. [`Self::now`] then has what came.
    pub async fn look_again(&self, id: &[u8], time: Duration) {
        let mut ended = self.ended.subscribe();
        let before = self.now();
        let never = if before.is_some() { Never::No } else { Never::Fetched };
        let hope = self.doubts().hope(id, never, clock::instant());
        match hope {
            Refetch::None => return,
            Refetch::Requested => self.asked.notify_one(),
            Refetch::InFlight => {}
        }
        let Ok(_place) = self.waiting.try_acquire() else { return };
        // Who waited in vain goes on with what is there.
        let _ = tokio::time::timeout(time, ended.changed()).await;
        let Some(keys) = self.now() else { return };
        let is_new = before.is_none_or(|before| !Arc::ptr_eq(&before, &keys));
        if is_new && !keys.knows(id) {
            self.doubts().remember(id, clock::instant());
        }
    }

    /// Waits until a callback asks for the list.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Has it fetched at once, as if a callback had asked.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    /// A fetch begins.
    pub(super) fn begin(&self) {
        self.doubts().begin();
    }

    /// A fetch has ended, with keys or without.
    pub(super) fn end(&self, keys: Option<KeySet>) {
        if let Some(keys) = keys {
            let there = FetchedKeys { keys: Arc::new(keys), at: clock::instant() };
            self.there.store(Some(Arc::new(there)));
        }
        self.doubts().end();
        self.ended.send_modify(|count| *count += 1);
    }

    fn doubts(&self) -> MutexGuard<'_, UnknownKeys> {
        // Nothing that holds it can panic half way.
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
