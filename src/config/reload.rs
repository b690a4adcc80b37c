//! Reading the configuration again: on SIGHUP, and when what it was made of has changed.
//!
//! What is compared is content: of the configuration, the secrets' files, the sender files and the
//! certificates. So an atomic rename and the turned links of a mounted secret are seen, where
//! watching file events misses them. A configuration with mistakes changes nothing: the old one
//! stays in force, and the mistakes are logged and kept in [`State`] for others to show.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::{Config, Faults, Files, Input, Loaded, StoreEngine, load_from};
use crate::clock::UnixMillis;

/// How often the files are looked at. A change is in force after two looks, so within two seconds;
/// a look reads a few small files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The configuration in force. Whoever needs one for longer than a moment loads it once and keeps
/// what it loaded.
pub type Snapshots = Arc<ArcSwap<Config>>;

/// What became of the last reading.
#[derive(Clone, Debug)]
pub struct State {
    /// How many configurations have been in force, this one included.
    pub generation: u64,
    /// When it was last read.
    pub at_ms: UnixMillis,
    /// What came of it.
    pub last: Reloaded,
}

/// What came of reading a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// It is in force, but for these keys, which wait for a restart.
    InForce(Vec<&'static str>),
    /// It has mistakes, and the one before it stays in force.
    Refused(Faults),
}

/// Reads the configuration again when it has changed.
#[derive(Debug)]
pub struct Watcher {
    input: Arc<dyn Input>,
    path: PathBuf,
    /// What the program started with: listeners and store stay as they are there.
    started: Arc<Config>,
    current: Snapshots,
    state: Arc<ArcSwap<State>>,
    /// What the last reading read.
    files: Files,
    /// A change that was seen once. A file that is being written is not read half done.
    unsettled: Option<Files>,
}

impl Watcher {
    /// A watcher of the configuration at `path`, which was `loaded` through `input`.
    pub fn new(input: Arc<dyn Input>, path: impl Into<PathBuf>, loaded: Loaded) -> Self {
        let started = Arc::new(loaded.config);
        let last = Reloaded::InForce(Vec::new());
        let state = State { generation: 1, at_ms: input.now_ms(), last };
        Self {
            path: path.into(),
            current: Arc::new(ArcSwap::new(Arc::clone(&started))),
            started,
            state: Arc::new(ArcSwap::from_pointee(state)),
            files: loaded.files,
            unsettled: None,
            input,
        }
    }

    /// The configuration in force, now and later.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        Arc::clone(&self.current)
    }

    /// What became of the last reading, now and later.
    #[must_use]
    pub fn state(&self) -> Arc<ArcSwap<State>> {
        Arc::clone(&self.state)
    }

    /// Looks at the files, and reads the configuration again if they have changed and are the same
    /// as at the last look.
    ///
    /// # Errors
    /// Every mistake in the new configuration. The old one stays in force.
    pub fn poll(&mut self) -> Option<Result<Arc<Config>, Faults>> {
        let now = self.files.now(&*self.input);
        if now == self.files {
            self.unsettled = None;
            return None;
        }
        if self.unsettled.as_ref() == Some(&now) {
            return Some(self.reload());
        }
        self.unsettled = Some(now);
        None
    }

    /// Reads the configuration again, whether or not it has changed.
    ///
    /// # Errors
    /// Every mistake in the new configuration. The old one stays in force.
    pub fn reload(&mut self) -> Result<Arc<Config>, Faults> {
        self.unsettled = None;
        match load_from(&*self.input, &self.path) {
            Ok(loaded) => Ok(self.put_in_force(loaded)),
            Err(faults) => {
                self.files = faults.files.clone();
                self.refuse(&faults);
                Err(faults)
            }
        }
    }

    /// Watches until `stop`, on a thread that may wait for a disk.
    ///
    /// # Errors
    /// SIGHUP cannot be caught, or a reading panicked.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(stop);
        loop {
            let look: fn(&mut Self) = tokio::select! {
                () = &mut stop => return Ok(()),
                _ = hangup.recv() => |watcher| drop(watcher.reload()),
                _ = looks.tick() => |watcher| drop(watcher.poll()),
            };
            let looked = tokio::task::spawn_blocking(move || {
                look(&mut self);
                self
            });
            self = looked.await?;
        }
    }

    fn put_in_force(&mut self, loaded: Loaded) -> Arc<Config> {
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let config = Arc::new(loaded.config);
        let waiting = waiting_for_restart(&self.started, &config);
        if !waiting.is_empty() {
            tracing::warn!(keys = ?waiting, "these changes wait for a restart");
        }
        self.files = loaded.files;
        self.current.store(Arc::clone(&config));
        let generation = self.state.load().generation + 1;
        tracing::info!(generation, "configuration read again and in force");
        self.note(generation, Reloaded::InForce(waiting));
        config
    }

    fn refuse(&self, faults: &Faults) {
        for fault in &faults.faults {
            tracing::error!("{fault}");
        }
        tracing::error!(
            mistakes = faults.faults.len(),
            "the new configuration has mistakes; the old one stays in force"
        );
        self.note(self.state.load().generation, Reloaded::Refused(faults.clone()));
    }

    fn note(&self, generation: u64, last: Reloaded) {
        let at_ms = self.input.now_ms();
        self.state.store(Arc::new(State { generation, at_ms, last }));
    }
}

/// The keys whose change cannot be put in force while the program runs.
fn waiting_for_restart(started: &Config, new: &Config) -> Vec<&'static str> {
    let bound = [
        ("server.callbacks", started.server.callbacks != new.server.callbacks),
        ("server.admin", started.server.admin != new.server.admin),
        ("server.management", started.server.management != new.server.management),
        ("store", !same_store(&started.store.engine, &new.store.engine)),
    ];
    bound.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}

fn same_store(one: &StoreEngine, other: &StoreEngine) -> bool {
    match (one, other) {
        (StoreEngine::Embedded { path: a }, StoreEngine::Embedded { path: b }) => a == b,
        (
            StoreEngine::Postgres { url: a, require_replicated: c },
            StoreEngine::Postgres { url: b, require_replicated: d },
        ) => a == b && c == d,
        _ => false,
    }
}
