//! The registry: the objects that are managed over APIs and pages, merged with the configuration
//! file.
//!
//! ```text
//! configuration file ─┐
//!                     ├─▶ merge ─▶ active Config ─▶ callback handler, dispatcher, admin listener
//! documents (ledger) ─┘                ▲
//!      ▲                               └ on this gateway before a change gets its response,
//!      └ write: all or nothing, audited    on the others when the ledger says that there is one
//! ```
//!
//! Every change writes one document besides its own, the head. A change that was planned on an
//! older state fails on the newer head and is planned again. So no update is lost, and checks
//! across documents (names, ids, references) hold on any number of gateways.

mod audit;
mod documents;
mod entries;
mod ignored;
pub(crate) mod merge;
mod resolved;
mod unconfigured;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Mutex, MutexGuard};

use self::merge::{Compiled, merge};
use crate::clock::Occasional;
use crate::config::{self, Config, ConfusedSources};
use crate::ledger::{BatchedLedger, Kind, LedgerError, Revision};
use crate::partners::push_configuration::plan::OutOfReach;
use crate::plan::{Plan, RoutingTable};

pub use audit::{Action, Actor, AuditQuery, AuditSubject, ENTRIES_MAX, Entry, list as audit_log};
pub use documents::{AUDIT, DESTINATION, Documents, HEAD, SOURCE, StoredDocument};
pub use entries::{DocumentError, Managed, Precondition, Written, check_reach};
pub use ignored::{IgnoredObject, IgnoredWhy};
pub use resolved::{NOTE_CHARACTERS_MAX, NoteError, RESOLVED_MAX, Resolution, Subject};
pub(crate) use unconfigured::unconfigured;
pub use write::{AuditView, ChangeError, Draft};

/// The longest wait for a change of other gateways.
const WAIT: Duration = Duration::from_secs(30);

/// The pause after the ledger could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// The managed objects. Clones share them.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    ledger: BatchedLedger,
    state: ArcSwap<RunningConfig>,
    /// Held by the one change that plans, writes, reads again and applies.
    write_lock: Mutex<()>,
    apply: OnceLock<Apply>,
}

/// Applies every new plan.
type Apply = Box<dyn Fn(&Plan) + Send + Sync>;

/// The running configuration, and its parts.
#[derive(Clone, Debug)]
pub struct RunningConfig {
    /// The configuration file.
    pub file: Arc<Config>,
    /// The documents.
    pub documents: Documents,
    /// Both, merged.
    pub config: Arc<Config>,
    /// The routes that depend on parameters.
    pub routing: Arc<RoutingTable>,
    /// The documents that are ignored.
    pub ignored: Vec<IgnoredObject>,
    /// Push configurations that name destinations of others. Their messages wait.
    pub out_of_reach: Vec<OutOfReach>,
    compiled: Arc<Compiled>,
}

/// A configuration file that is not applied.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file takes a name in use, removes what is used, or shares a secret.
    #[error("{}", .0.join("; "))]
    Clash(Vec<String>),
    /// The documents cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The right to plan and write.
struct WriteLock<'r>(#[expect(dead_code, reason = "held, not read")] MutexGuard<'r, ()>);

impl Registry {
    /// The registry of `ledger` under that file. Documents that conflict with the file are ignored
    /// and logged.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn open(ledger: BatchedLedger, file: Arc<Config>) -> Result<Self, LedgerError> {
        let documents = Documents::read(&ledger, &Documents::default()).await?;
        let state = RunningConfig::new(file, documents, &Compiled::new());
        for problem in &state.ignored {
            tracing::error!(
                %problem,
                "managed object ignored: it conflicts with the configuration file"
            );
        }
        // A start loses no source for it.
        config::confused_sources(&state.config).iter().for_each(log_confused);
        state.out_of_reach.iter().for_each(OutOfReach::log);
        let state = ArcSwap::from_pointee(state);
        Ok(Self(Arc::new(Shared {
            ledger,
            state,
            write_lock: Mutex::new(()),
            apply: OnceLock::new(),
        })))
    }

    /// The running configuration.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.state.load().config)
    }

    /// The running plan.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.0.state.load().plan()
    }

    /// The running configuration with its parts.
    #[must_use]
    pub fn running(&self) -> Guard<Arc<RunningConfig>> {
        self.0.state.load()
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> &BatchedLedger {
        &self.0.ledger
    }

    /// Sets, once, the function that applies every new plan. Calls are in order, and before a
    /// change is acknowledged.
    pub fn on_change(&self, apply: impl Fn(&Plan) + Send + Sync + 'static) {
        // Only the program's one start calls it.
        let _ = self.0.apply.set(Box::new(apply));
    }

    /// Applies another configuration file.
    ///
    /// # Errors
    /// The file takes the name of an object that an API made, removes what that uses, or shares a
    /// secret with it. Nothing changes then.
    pub async fn reload(&self, file: Arc<Config>) -> Result<(), ReloadError> {
        let lock = self.lock_writes().await;
        // What an import brought clashes with the file of before as well.
        self.read_again(&lock).await?;
        let before = self.0.state.load_full();
        let state = RunningConfig::new(file, before.documents.clone(), &Compiled::new());
        let new = |one: &&IgnoredObject| !before.ignored.contains(one);
        let mut clashes: Vec<String> =
            state.ignored.iter().filter(new).map(ToString::to_string).collect();
        let known = config::confused_sources(&before.config);
        let confused = config::confused_sources(&state.config);
        let confused = confused.iter().filter(|sources| !known.contains(sources));
        clashes.extend(confused.map(ToString::to_string));
        if !clashes.is_empty() {
            return Err(ReloadError::Clash(clashes));
        }
        self.activate(state);
        Ok(())
    }

    /// Applies the changes of other gateways, as long as it is polled and the ledger works.
    pub async fn follow(&self) {
        let mut seen = Revision(0);
        // Most changes without the head are of other parts: pauses, orders, alerts.
        let whole = Occasional::new(WAIT);
        loop {
            let followed = async {
                let newest = self.ledger().changed(seen, WAIT).await?;
                let lock = self.lock_writes().await;
                self.catch_up(&lock).await?;
                // An import writes documents, and not always the head.
                let read = self.0.state.load().documents.revision;
                if newest > read && whole.admit().is_some() {
                    self.read_again(&lock).await?;
                }
                Ok::<_, LedgerError>(newest)
            };
            match followed.await {
                Ok(newest) => seen = newest,
                Err(error) if error.is_fatal() => return,
                Err(error) => {
                    tracing::warn!(%error, "changes of others cannot be looked for");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn lock_writes(&self) -> WriteLock<'_> {
        WriteLock(self.0.write_lock.lock().await)
    }

    /// Reads changes, of this gateway or others, and applies them.
    async fn catch_up(&self, lock: &WriteLock<'_>) -> Result<(), LedgerError> {
        let before = self.0.state.load_full();
        match before.documents.is_stale(self.ledger()).await? {
            true => self.read_again(lock).await,
            false => Ok(()),
        }
    }

    /// Reads all documents, and applies what changed.
    async fn read_again(&self, _: &WriteLock<'_>) -> Result<(), LedgerError> {
        let before = self.0.state.load_full();
        let documents = Documents::read(self.ledger(), &before.documents).await?;
        if documents.make_the_same(&before.documents) {
            self.0
                .state
                .store(Arc::new(RunningConfig { documents, ..RunningConfig::clone(&before) }));
        } else {
            let state = RunningConfig::new(Arc::clone(&before.file), documents, &before.compiled);
            self.activate(state);
        }
        Ok(())
    }

    fn activate(&self, state: RunningConfig) {
        let plan = state.plan();
        let before = self.0.state.load();
        let new = state.out_of_reach.iter().filter(|one| !before.out_of_reach.contains(one));
        new.for_each(OutOfReach::log);
        // An import brought one of them, or a gateway with another file.
        let known = config::confused_sources(&before.config);
        let confused = config::confused_sources(&state.config);
        confused.iter().filter(|sources| !known.contains(sources)).for_each(log_confused);
        drop(before);
        self.0.state.store(Arc::new(state));
        if let Some(apply) = self.0.apply.get() {
            apply(&plan);
        }
    }
}

/// Says that two sources accept each other's callbacks.
fn log_confused(sources: &ConfusedSources) {
    tracing::error!(%sources, "one callback can become two events");
}

impl RunningConfig {
    fn new(file: Arc<Config>, documents: Documents, compiled: &Compiled) -> Self {
        let merged = merge(&file, &documents, compiled);
        Self {
            file,
            documents,
            config: Arc::new(merged.config),
            routing: Arc::new(merged.routing),
            ignored: merged.ignored,
            out_of_reach: merged.out_of_reach,
            compiled: Arc::new(merged.compiled),
        }
    }
}

impl RunningConfig {
    /// The document of that kind and name, if it is ignored.
    #[must_use]
    pub fn ignored(&self, kind: Kind, name: &str) -> Option<&IgnoredObject> {
        self.ignored.iter().find(|one| one.kind == kind && one.name == name)
    }

    /// The part that the running parts of the gateway follow.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan { config: Arc::clone(&self.config), routing: Arc::clone(&self.routing) }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("state", &self.0.state.load()).finish_non_exhaustive()
    }
}
