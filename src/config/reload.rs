//! Reading the configuration again: on SIGHUP, and when its inputs have changed. The comparison is
//! by content: of the configuration, the secrets' files, the sender files and the certificates. So
//! an atomic rename and the changed links of a mounted secret are seen, where watching file events
//! misses them. A configuration that has errors changes nothing: the old one stays active, and the
//! errors are logged and counted.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::restart::{HeldBack, hold_back};
use super::{
    Config, ConfigErrors, Files, Input, Limits, Loaded, MASTER_KEY, OLD_MASTER_KEY, StoreEngine,
    load_from,
};
use crate::ledger::MasterKey;
use crate::sender::Secret;

/// How often the files are checked. A change is active after two checks, so within 2 s; a check
/// reads a few small files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A configuration that was read and is active.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its keys whose changes wait for a restart.
    pub waiting: Vec<String>,
    /// Proxies that it withdraws, and that are trusted until the restart.
    pub still_trusted: Vec<IpNet>,
}

/// Reads the configuration again when it has changed.
#[derive(Debug)]
pub struct Watcher {
    input: Arc<dyn Input>,
    path: PathBuf,
    /// The configuration that the program started with: its listeners and store stay as they are.
    started: Arc<Config>,
    changes: watch::Sender<Arc<Config>>,
    /// How many configurations were read without an error, the first one included.
    generation: u64,
    /// How many configurations had errors.
    refusals: watch::Sender<u64>,
    /// The files of the last reading.
    files: Files,
    /// A change that was seen once. A file that is being written is not read half done.
    unsettled: Option<Files>,
}

impl Watcher {
    /// A watcher of the configuration at `path`, which was `loaded` through `input`.
    pub fn new(input: Arc<dyn Input>, path: impl Into<PathBuf>, loaded: Loaded) -> Self {
        let started = Arc::new(loaded.config);
        Self {
            path: path.into(),
            changes: watch::Sender::new(Arc::clone(&started)),
            started,
            refusals: watch::Sender::new(0),
            generation: 1,
            files: loaded.files,
            unsettled: None,
            input,
        }
    }

    /// The active configuration, now and later.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<Config>> {
        self.changes.subscribe()
    }

    /// Notifies of each configuration that was read and had errors.
    #[must_use]
    pub fn refusals(&self) -> watch::Receiver<u64> {
        self.refusals.subscribe()
    }

    /// Looks at the files, and reads the configuration again if they have changed and are the same
    /// as at the last look.
    ///
    /// # Errors
    /// Every error in the new configuration. The old one stays active.
    pub fn poll(&mut self) -> Option<Result<Applied, ConfigErrors>> {
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
    /// Every error in the new configuration. The old one stays active.
    pub fn reload(&mut self) -> Result<Applied, ConfigErrors> {
        self.unsettled = None;
        match load_from(&*self.input, &self.path) {
            Ok(loaded) => Ok(self.activate(loaded)),
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

    fn activate(&mut self, loaded: Loaded) -> Applied {
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let mut config = loaded.config;
        let mut waiting = waiting_for_restart(&self.started, &config);
        let active = Arc::clone(&self.changes.borrow());
        let HeldBack { keys, still_trusted } = hold_back(&self.started, &active, &mut config);
        waiting.extend(keys);
        if !waiting.is_empty() {
            tracing::warn!(keys = ?waiting, "these changes wait for a restart");
        }
        if !still_trusted.is_empty() {
            tracing::warn!(
                proxies = ?still_trusted,
                "withdrawn proxies are still trusted until a restart"
            );
        }
        let config = Arc::new(config);
        self.files = loaded.files;
        self.generation += 1;
        // Before its reader says that it is applied.
        tracing::info!(generation = self.generation, "read the configuration");
        self.changes.send_replace(Arc::clone(&config));
        Applied { config, waiting, still_trusted }
    }

    fn refuse(&self, faults: &ConfigErrors) {
        for fault in &faults.faults {
            tracing::error!("{fault}");
        }
        tracing::error!(
            mistakes = faults.faults.len(),
            "could not apply the new configuration; the old one stays active"
        );
        self.refusals.send_modify(|count| *count += 1);
    }
}

/// The keys whose change cannot be applied while the program runs.
fn waiting_for_restart(started: &Config, new: &Config) -> Vec<String> {
    let bound = [
        ("server.callbacks", started.server.callbacks != new.server.callbacks),
        ("server.admin", started.server.admin != new.server.admin),
        ("server.management", started.server.management != new.server.management),
        ("server.limits", fixed(&started.server.limits) != fixed(&new.server.limits)),
        ("server.tls", started.server.tls.is_some() != new.server.tls.is_some()),
        ("server.admin_tls", started.server.admin_tls.is_some() != new.server.admin_tls.is_some()),
        ("server.proxy_protocol", started.server.proxy_protocol != new.server.proxy_protocol),
        ("telemetry", started.traces != new.traces),
        ("store", !same_store(&started.store.engine, &new.store.engine)),
        (MASTER_KEY, !same_key(&started.store.master_key, &new.store.master_key)),
        (OLD_MASTER_KEY, !same_key(&started.store.old_master_key, &new.store.old_master_key)),
    ];
    bound.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key.to_owned()).collect()
}

/// Whether two master keys, if there are any, are the same one.
fn same_key(one: &Option<Secret>, other: &Option<Secret>) -> bool {
    let id = |key: &Option<Secret>| key.as_ref().and_then(MasterKey::of).map(|key| key.id());
    id(one) == id(other)
}

/// The limits that are built into what is running: those over all sources and connections.
fn fixed(limits: &Limits) -> ([usize; 4], Duration) {
    let Limits { connections, unverified_body_bytes, head_bytes, held, .. } = *limits;
    ([connections, unverified_body_bytes, head_bytes, held], limits.head_timeout)
}

fn same_store(one: &StoreEngine, other: &StoreEngine) -> bool {
    match (one, other) {
        (StoreEngine::Embedded { path: a }, StoreEngine::Embedded { path: b }) => a == b,
        (StoreEngine::Postgres(a), StoreEngine::Postgres(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::config::Machine;

    const GOOD: &str = "[server]\ndrain = \"1s\"\n";

    fn started(folder: &Path, text: &str) -> Watcher {
        let path = folder.join("postern.toml");
        fs::write(&path, text).unwrap();
        let loaded = load_from(&Machine, &path).unwrap();
        Watcher::new(Arc::new(Machine), path, loaded)
    }

    /// Looks until nothing is unsettled: what two ticks of the clock do.
    fn settled(watcher: &mut Watcher) -> Option<Result<Applied, ConfigErrors>> {
        assert!(watcher.poll().is_none(), "a change is not read before it has settled");
        watcher.poll()
    }

    fn drain(watcher: &Watcher) -> Duration {
        watcher.changes.borrow().server.drain
    }

    #[test]
    fn a_change_is_in_force_when_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let mut watcher = started(folder.path(), GOOD);
        assert!(settled(&mut watcher).is_none());
        fs::write(&watcher.path, "[server]\ndrain = \"2s\"\n").unwrap();
        settled(&mut watcher).unwrap().unwrap();
        assert_eq!(drain(&watcher), Duration::from_secs(2));
        assert_eq!(watcher.generation, 2);
        assert!(settled(&mut watcher).is_none(), "it is read once");
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut watcher = started(folder.path(), GOOD);
        for part in ["[server]\ndra", "[server]\ndrain = \"3", "[server]\ndrain = \"3s\""] {
            fs::write(&watcher.path, part).unwrap();
            assert!(watcher.poll().is_none(), "{part}");
        }
        assert!(watcher.poll().unwrap().is_ok());
        assert_eq!(drain(&watcher), Duration::from_secs(3));
    }

    #[test]
    fn a_bad_file_keeps_the_old_one_in_force_and_is_told_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut watcher = started(folder.path(), GOOD);
        fs::write(&watcher.path, "[server]\ndrain = 1\n").unwrap();
        let faults = settled(&mut watcher).unwrap().unwrap_err();
        assert_eq!(faults.faults[0].key, "server.drain");
        assert_eq!(drain(&watcher), Duration::from_secs(1));
        assert_eq!(*watcher.refusals.borrow(), 1);
        assert!(settled(&mut watcher).is_none(), "it is reported once");
        fs::write(&watcher.path, GOOD).unwrap();
        settled(&mut watcher).unwrap().unwrap();
    }

    #[test]
    fn a_file_that_is_gone_keeps_the_old_one_in_force_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut watcher = started(folder.path(), GOOD);
        fs::remove_file(&watcher.path).unwrap();
        assert!(settled(&mut watcher).unwrap().is_err());
        fs::write(&watcher.path, GOOD).unwrap();
        assert!(settled(&mut watcher).unwrap().is_ok());
    }

    #[test]
    fn a_new_secret_in_its_file_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "old").unwrap();
        let mut watcher = started(folder.path(), "[admin]\ntoken = \"file:token\"\n");
        fs::write(folder.path().join("token.new"), "new").unwrap();
        fs::rename(folder.path().join("token.new"), folder.path().join("token")).unwrap();
        let config = settled(&mut watcher).unwrap().unwrap().config;
        assert_eq!(config.admin.tokens[0].value.expose(), b"new");
    }

    /// 1. A secret is mounted as Kubernetes does it: `token` links to `data/token`, and `data`
    ///    links to a folder of that version.
    /// 2. A new version comes: a new folder is made, and `data` is turned to it by a rename.
    /// 3. Neither `token` nor the old file was touched, and the new secret is active.
    #[test]
    fn links_that_are_turned_to_another_folder_are_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("token"), version).unwrap();
        }
        symlink("v1", at("data")).unwrap();
        symlink("data/token", at("token")).unwrap();
        let mut watcher = started(folder.path(), "[admin]\ntoken = \"file:token\"\n");
        symlink("v2", at("data.new")).unwrap();
        fs::rename(at("data.new"), at("data")).unwrap();
        let config = settled(&mut watcher).unwrap().unwrap().config;
        assert_eq!(config.admin.tokens[0].value.expose(), b"v2");
    }

    #[test]
    fn what_waits_for_a_restart_is_said_until_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut watcher = started(folder.path(), GOOD);
        let moved = "[server]\ncallbacks = \"127.0.0.1:1\"\n[store]\npath = \"other\"\n";
        for text in [moved, &format!("{moved}keep_events = \"1d\"\n")] {
            fs::write(&watcher.path, text).unwrap();
            let applied = settled(&mut watcher).unwrap().unwrap();
            assert_eq!(applied.waiting, ["server.callbacks", "store"]);
        }
        fs::write(&watcher.path, GOOD).unwrap();
        assert!(settled(&mut watcher).unwrap().unwrap().waiting.is_empty());
    }

    #[test]
    fn asked_for_it_reads_again_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut watcher = started(folder.path(), GOOD);
        fs::write(&watcher.path, "[server]\ndrain = \"4s\"\n").unwrap();
        watcher.reload().unwrap();
        assert_eq!(drain(&watcher), Duration::from_secs(4));
        assert!(settled(&mut watcher).is_none());
    }

    #[tokio::test]
    async fn it_watches_until_it_is_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let watcher = started(folder.path(), GOOD);
        watcher.run(std::future::ready(())).await.unwrap();
    }

    /// 1. The watcher runs, and its files do not change.
    /// 2. SIGHUP comes.
    /// 3. They are read again all the same, which a look at the files alone would not do.
    #[tokio::test]
    async fn it_reads_again_on_sighup() {
        let folder = tempfile::tempdir().unwrap();
        let watcher = started(folder.path(), GOOD);
        let (mut changes, (stop, stopped)) =
            (watcher.changes(), tokio::sync::oneshot::channel::<()>());
        let running = tokio::spawn(watcher.run(async move { drop(stopped.await) }));
        tokio::task::yield_now().await;
        // Whatever the order of tasks: from here on SIGHUP does not end the test.
        let _caught = signal(SignalKind::hangup()).unwrap();
        let hangup = format!("kill -HUP {}", std::process::id());
        let sent = std::process::Command::new("sh").args(["-c", &hangup]).status().unwrap();
        assert!(sent.success());
        let read_again = tokio::time::timeout(Duration::from_secs(10), changes.changed());
        read_again.await.unwrap().unwrap();
        drop(stop);
        running.await.unwrap().unwrap();
    }
}
