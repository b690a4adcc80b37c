//! The key sets of all sources, each once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::task::JoinHandle;

use super::fetch::fetch;
use super::key_set_state::KeySetState;
use super::refresher::{Label, refresh};
use crate::config::{Config, Source};
use crate::sender::Recipe;
use crate::telemetry::Metrics;

/// The key sets of all sources. Clones share them.
#[derive(Clone, Debug)]
pub struct Keys(Arc<KeySetCache>);

#[derive(Debug)]
struct KeySetCache {
    lists: Mutex<HashMap<[u8; 32], CachedKeySet>>,
    metrics: Arc<Metrics>,
}

/// One key set, and the task that refreshes it.
#[derive(Debug)]
struct CachedKeySet {
    sender: String,
    state: Arc<KeySetState>,
    users: Arc<ArcSwap<KeySetUsers>>,
    task: JoinHandle<()>,
}

/// The sources that use a key set, and the addresses that may be reached for it.
#[derive(Debug)]
struct KeySetUsers {
    sources: Vec<Arc<Source>>,
    allow: Vec<IpNet>,
}

impl Keys {
    /// Begins to fetch the key sets of the sources of `config`, if they need any.
    ///
    /// Must be called within a tokio runtime with time and I/O enabled.
    #[must_use]
    pub fn start(config: &Config, metrics: Arc<Metrics>) -> Self {
        let keys = Self(Arc::new(KeySetCache { lists: Mutex::default(), metrics }));
        keys.apply(config);
        keys
    }

    /// Applies another configuration: key sets that are still needed stay.
    pub fn apply(&self, config: &Config) {
        let mut needed: HashMap<[u8; 32], Vec<Arc<Source>>> = HashMap::new();
        for source in config.sources.values().filter(|source| source.enabled) {
            if let Some(list) = source.recipe.key_list() {
                needed.entry(list.identity()).or_default().push(Arc::clone(source));
            }
        }
        let mut lists = self.lists();
        lists.retain(|identity, _| needed.contains_key(identity));
        for (identity, sources) in needed {
            let users = KeySetUsers { sources, allow: config.egress.allow.clone() };
            match lists.get(&identity) {
                Some(cached) => cached.resume(users),
                None => drop(lists.insert(identity, CachedKeySet::new(users))),
            }
        }
        // Senders that are no longer needed have no age; the others get theirs at the next scrape.
        self.0.metrics.key_set_age_seconds.reset();
    }

    /// The key set that verifies callbacks with `recipe`, if their sender has one.
    #[must_use]
    pub fn of(&self, recipe: &Recipe) -> Option<Arc<KeySetState>> {
        let identity = recipe.key_list()?.identity();
        self.lists().get(&identity).map(|cached| Arc::clone(&cached.state))
    }

    /// Updates the age of each sender's keys: the oldest of several key sets counts.
    pub fn observe(&self) {
        let mut ages: HashMap<String, Duration> = HashMap::new();
        for cached in self.lists().values() {
            let age = ages.entry(cached.sender.clone()).or_default();
            *age = cached.state.age().max(*age);
        }
        for (sender, age) in ages {
            let gauge = self.0.metrics.key_set_age_seconds.with_label_values(&[&sender]);
            gauge.set(age.as_secs_f64());
        }
    }

    /// The senders with a stale key set, and its age.
    #[must_use]
    pub fn stale(&self) -> Vec<(String, Duration)> {
        let lists = self.lists();
        let stale = lists.values().filter(|cached| cached.state.is_stale());
        stale.map(|cached| (cached.sender.clone(), cached.state.age())).collect()
    }

    fn lists(&self) -> MutexGuard<'_, HashMap<[u8; 32], CachedKeySet>> {
        // No holder of the lock can panic in between.
        self.0.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CachedKeySet {
    fn new(users: KeySetUsers) -> Self {
        let first = users.sources.first();
        let sender = first.map_or("", |source| source.recipe.sender().name()).to_owned();
        let list = first.and_then(|source| source.recipe.key_list());
        let host = list.map_or("", |list| list.host()).to_owned();
        tracing::info!(sender, host, "fetching public keys; readiness does not wait for them");
        let state = Arc::new(KeySetState::new());
        let users = Arc::new(ArcSwap::from_pointee(users));
        let from = Arc::clone(&users);
        let fetch = async move || {
            let users = from.load_full();
            let sources: Vec<&Source> = users.sources.iter().map(|one| &**one).collect();
            fetch(&sources, &users.allow).await
        };
        let label = Label { sender: sender.clone(), host };
        let task = tokio::spawn(refresh(Arc::clone(&state), label, fetch));
        Self { sender, state, users, task }
    }

    fn resume(&self, users: KeySetUsers) {
        self.users.store(Arc::new(users));
        if self.state.now().is_none() {
            // The cause of failed fetches may be fixed.
            self.state.request_fetch();
        }
    }
}

impl Drop for CachedKeySet {
    fn drop(&mut self) {
        self.task.abort();
    }
}
