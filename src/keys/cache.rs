//! All lists that the sources need, each once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::task::JoinHandle;

use super::fetch::fetch;
use super::key_set_state::KeySetState;
use super::refresher::{Label, keep};
use crate::config::{Config, Source};
use crate::sender::Recipe;
use crate::telemetry::Metrics;

/// The lists of public keys of all sources. Clones share them.
#[derive(Clone, Debug)]
pub struct Keys(Arc<KeySetCache>);

#[derive(Debug)]
struct KeySetCache {
    lists: Mutex<HashMap<[u8; 32], CachedKeySet>>,
    metrics: Arc<Metrics>,
}

/// One list, and the task that keeps it.
#[derive(Debug)]
struct CachedKeySet {
    sender: String,
    published: Arc<KeySetState>,
    asking: Arc<ArcSwap<KeySetUsers>>,
    task: JoinHandle<()>,
}

/// Who asks for a list, and what may be reached for it.
#[derive(Debug)]
struct KeySetUsers {
    sources: Vec<Arc<Source>>,
    allow: Vec<IpNet>,
}

impl Keys {
    /// Begins to fetch what the sources of `config` need; nothing where none needs any.
    ///
    /// Must be called within a tokio runtime with time and I/O enabled.
    #[must_use]
    pub fn start(config: &Config, metrics: Arc<Metrics>) -> Self {
        let keys = Self(Arc::new(KeySetCache { lists: Mutex::default(), metrics }));
        keys.apply(config);
        keys
    }

    /// Goes on under another configuration: lists that are still needed stay as they are.
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
            let asking = KeySetUsers { sources, allow: config.egress.allow.clone() };
            match lists.get(&identity) {
                Some(kept) => kept.go_on(asking),
                None => drop(lists.insert(identity, CachedKeySet::new(asking))),
            }
        }
        // Senders that are no longer needed have no age; the others get theirs when they are asked.
        self.0.metrics.key_set_age_seconds.reset();
    }

    /// The list that callbacks read by `recipe` are verified with, if their sender has one.
    #[must_use]
    pub fn of(&self, recipe: &Recipe) -> Option<Arc<KeySetState>> {
        let identity = recipe.key_list()?.identity();
        self.lists().get(&identity).map(|kept| Arc::clone(&kept.published))
    }

    /// Says how old the keys of each sender are: of several lists the oldest counts.
    pub fn observe(&self) {
        let mut ages: HashMap<String, Duration> = HashMap::new();
        for kept in self.lists().values() {
            let age = ages.entry(kept.sender.clone()).or_default();
            *age = kept.published.age().max(*age);
        }
        for (sender, age) in ages {
            let gauge = self.0.metrics.key_set_age_seconds.with_label_values(&[&sender]);
            gauge.set(age.as_secs_f64());
        }
    }

    fn lists(&self) -> MutexGuard<'_, HashMap<[u8; 32], CachedKeySet>> {
        // Nothing that holds it can panic half way.
        self.0.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CachedKeySet {
    fn new(asking: KeySetUsers) -> Self {
        let first = asking.sources.first();
        let sender = first.map_or("", |source| source.recipe.sender().name()).to_owned();
        let list = first.and_then(|source| source.recipe.key_list());
        let host = list.map_or("", |list| list.host()).to_owned();
        tracing::info!(sender, host, "fetching public keys; readiness does not wait for them");
        let published = Arc::new(KeySetState::new());
        let asking = Arc::new(ArcSwap::from_pointee(asking));
        let from = Arc::clone(&asking);
        let fetch = async move || {
            let asking = from.load_full();
            let sources: Vec<&Source> = asking.sources.iter().map(|one| &**one).collect();
            fetch(&sources, &asking.allow).await
        };
        let label = Label { sender: sender.clone(), host };
        let task = tokio::spawn(keep(Arc::clone(&published), label, fetch));
        Self { sender, published, asking, task }
    }

    fn go_on(&self, asking: KeySetUsers) {
        self.asking.store(Arc::new(asking));
        if self.published.now().is_none() {
            // What kept it from being fetched may be mended.
            self.published.ask();
        }
    }
}

impl Drop for CachedKeySet {
    fn drop(&mut self) {
        self.task.abort();
    }
}
