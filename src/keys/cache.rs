//! The key sets of all sources, each once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::certificates::keep_certificates;
use super::confirmation::CONFIRMING_MAX;
use super::fetch::{fetch, fetch_certificate};
use super::key_set_state::KeySetState;
use super::refresher::{Label, refresh};
use crate::config::{Config, Source};
use crate::sender::{KeyList, Recipe};
use crate::telemetry::Metrics;

/// The key sets of all sources. Clones share them.
#[derive(Clone, Debug)]
pub struct Keys(Arc<KeySetCache>);

#[derive(Debug)]
struct KeySetCache {
    lists: Mutex<HashMap<[u8; 32], CachedKeySet>>,
    metrics: Arc<Metrics>,
    /// Private ranges that may be reached.
    allow: ArcSwap<Vec<IpNet>>,
    confirming: Arc<Semaphore>,
}

/// One key set, and the task that refreshes it.
#[derive(Debug)]
struct CachedKeySet {
    sender: String,
    state: Arc<KeySetState>,
    users: Arc<ArcSwap<KeySetUsers>>,
    task: JoinHandle<()>,
    kind: Kind,
}

/// The content of a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A list, which has an age.
    List,
    /// Certificates, fetched when a callback names one.
    Certificates,
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
        let cache = KeySetCache {
            lists: Mutex::default(),
            metrics,
            allow: ArcSwap::default(),
            confirming: Arc::new(Semaphore::new(CONFIRMING_MAX)),
        };
        let keys = Self(Arc::new(cache));
        keys.apply(config);
        keys
    }

    /// Applies another configuration: key sets that are still needed stay.
    pub fn apply(&self, config: &Config) {
        self.0.allow.store(Arc::new(config.egress.allow.clone()));
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
        self.0.metrics.keys.key_set_age_seconds.reset();
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
        for cached in self.lists().values().filter(|cached| cached.kind == Kind::List) {
            let age = ages.entry(cached.sender.clone()).or_default();
            *age = cached.state.age().max(*age);
        }
        for (sender, age) in ages {
            let gauge = self.0.metrics.keys.key_set_age_seconds.with_label_values(&[&sender]);
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

    /// The parts that a confirmation needs.
    pub(super) fn confirming(&self) -> (Arc<Metrics>, Vec<IpNet>, Arc<Semaphore>) {
        let allow = self.0.allow.load().to_vec();
        (Arc::clone(&self.0.metrics), allow, Arc::clone(&self.0.confirming))
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
        let keep = list.map(KeyList::keep).unwrap_or_default();
        let is_of_certificates = list.is_some_and(KeyList::is_of_certificates);
        let users = Arc::new(ArcSwap::from_pointee(users));
        let from = Arc::clone(&users);
        let label = Label { sender: sender.clone(), host };
        if is_of_certificates {
            let state = Arc::new(KeySetState::of_certificates());
            let fetch = async move |id: Box<[u8]>| {
                let users = from.load_full();
                let sources: Vec<&Source> = users.sources.iter().map(|one| &**one).collect();
                fetch_certificate(&sources, &id, &users.allow).await
            };
            let task = tokio::spawn(keep_certificates(Arc::clone(&state), label, keep, fetch));
            return Self { sender, state, users, task, kind: Kind::Certificates };
        }
        let host = &label.host;
        tracing::info!(sender, host, "fetching public keys; readiness does not wait for them");
        let state = Arc::new(KeySetState::new());
        let fetch = async move || {
            let users = from.load_full();
            let sources: Vec<&Source> = users.sources.iter().map(|one| &**one).collect();
            fetch(&sources, &users.allow).await
        };
        let task = tokio::spawn(refresh(Arc::clone(&state), label, fetch));
        Self { sender, state, users, task, kind: Kind::List }
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
