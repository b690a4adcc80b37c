//! The registry: what people manage over APIs and pages, and the configuration file, as one.
//!
//! ```text
//! configuration file ─┐
//!                     ├─▶ merge ─▶ Config in force ─▶ gate, courier, admin listener
//! documents (ledger) ─┘                ▲
//!      ▲                               └ on this gateway before a change is answered,
//!      └ write: all or nothing, audited    on the others when the ledger says that there is one
//! ```
//!
//! Every change writes one document besides its own, the head. So whoever planned a change on an
//! older state of things meets a newer head and plans again: no update is lost, and what is checked
//! across documents (names, ids, who uses what) holds on any number of gateways.

mod audit;
mod documents;
mod entries;
mod merge;
mod push;
mod resolved;
mod write;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Mutex, MutexGuard};

use self::merge::{Compiled, merge};
use crate::config::Config;
use crate::ledger::{BatchedLedger, LedgerError, Revision};

pub use audit::{
    Action, Actor, ENTRIES_MAX, Entry, list as audit_log, list_where as audit_log_where,
};
pub use documents::{
    Address, CALLBACK_ADDRESS, ContainerConfig, DESTINATION, Documents, FunctionCallback,
    FunctionConfig, PUSH_CONFIG, Push, REWARD_RULE, Rule, RuleStatus, SOURCE, StoredDocument,
};
pub use entries::{DocumentError, Managed, Precondition, Written, check_reach};
pub use merge::rule_name;
pub use push::{OutOfReach, PushBarrier, push_barrier};
pub use resolved::{NOTE_CHARACTERS_MAX, NoteError, RESOLVED_MAX, Resolution, Subject};
pub use write::{AuditView, ChangeError, Draft};

/// How long one wait for a change of others may take.
const WAIT: Duration = Duration::from_secs(30);

/// The pause after the ledger could not be asked.
const PAUSE: Duration = Duration::from_secs(1);

/// What people manage. Clones share it.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    book: BatchedLedger,
    state: ArcSwap<RunningConfig>,
    /// One at a time plans, writes, reads again and puts in force.
    turns: Mutex<()>,
    apply: OnceLock<Apply>,
}

/// What is told of every new configuration.
type Apply = Box<dyn Fn(&Arc<Config>) + Send + Sync>;

/// What is in force, and what it was made of.
#[derive(Clone, Debug)]
pub struct RunningConfig {
    /// The configuration file.
    pub file: Arc<Config>,
    /// The documents.
    pub documents: Documents,
    /// Both as one.
    pub config: Arc<Config>,
    /// What is left out of it, and why.
    pub problems: Vec<String>,
    /// Push configurations that name destinations which are not theirs. Their messages wait.
    pub out_of_reach: Vec<OutOfReach>,
    compiled: Arc<Compiled>,
}

/// A configuration file that is not put in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It takes a name in use, or takes away what is used.
    #[error("{}", .0.join("; "))]
    Clash(Vec<String>),
    /// The documents cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The right to plan and write.
struct WriteLock<'r>(#[expect(dead_code, reason = "held, not read")] MutexGuard<'r, ()>);

impl Registry {
    /// The registry of `book` under that file. Documents that cannot be used under it are left
    /// out, and logged.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn open(book: BatchedLedger, file: Arc<Config>) -> Result<Self, LedgerError> {
        let documents = Documents::read(&book, &Documents::default()).await?;
        let state = RunningConfig::new(file, documents, &Compiled::new());
        for problem in &state.problems {
            tracing::error!(problem, "left out of what runs; the file's own stays");
        }
        state.out_of_reach.iter().for_each(OutOfReach::log);
        let state = ArcSwap::from_pointee(state);
        Ok(Self(Arc::new(Shared { book, state, turns: Mutex::new(()), apply: OnceLock::new() })))
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.state.load().config)
    }

    /// What is in force.
    #[must_use]
    pub fn in_force(&self) -> Guard<Arc<RunningConfig>> {
        self.0.state.load()
    }

    /// The ledger.
    #[must_use]
    pub fn book(&self) -> &BatchedLedger {
        &self.0.book
    }

    /// Says once what to do with every new configuration. It is called in order, and before a
    /// change is answered.
    pub fn on_change(&self, apply: impl Fn(&Arc<Config>) + Send + Sync + 'static) {
        // Only the program's one start calls it.
        let _ = self.0.apply.set(Box::new(apply));
    }

    /// Goes on under another configuration file.
    ///
    /// # Errors
    /// It takes the name of something made over an API, or takes away what that uses. Nothing
    /// changes then.
    pub async fn reload(&self, file: Arc<Config>) -> Result<(), ReloadError> {
        let _turn = self.turn().await;
        let before = self.0.state.load_full();
        let documents = Documents::read(self.book(), &before.documents).await?;
        let state = RunningConfig::new(file, documents, &Compiled::new());
        let new = |problem: &&String| !before.problems.contains(problem);
        let clashes: Vec<String> = state.problems.iter().filter(new).cloned().collect();
        if !clashes.is_empty() {
            return Err(ReloadError::Clash(clashes));
        }
        self.put_in_force(state);
        Ok(())
    }

    /// Puts in force what others change, for as long as it is polled and the ledger works.
    pub async fn follow(&self) {
        let mut seen = Revision(0);
        loop {
            let followed = async {
                let newest = self.book().changed(seen, WAIT).await?;
                let turn = self.turn().await;
                self.catch_up(&turn).await?;
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

    async fn turn(&self) -> WriteLock<'_> {
        WriteLock(self.0.turns.lock().await)
    }

    /// Reads what was changed, here or by others, and puts it in force.
    async fn catch_up(&self, _: &WriteLock<'_>) -> Result<(), LedgerError> {
        let before = self.0.state.load_full();
        if !before.documents.is_stale(self.book()).await? {
            return Ok(());
        }
        let documents = Documents::read(self.book(), &before.documents).await?;
        if documents.make_the_same(&before.documents) {
            self.0
                .state
                .store(Arc::new(RunningConfig { documents, ..RunningConfig::clone(&before) }));
        } else {
            let state = RunningConfig::new(Arc::clone(&before.file), documents, &before.compiled);
            self.put_in_force(state);
        }
        Ok(())
    }

    fn put_in_force(&self, state: RunningConfig) {
        let config = Arc::clone(&state.config);
        let before = self.0.state.load();
        let new = state.out_of_reach.iter().filter(|one| !before.out_of_reach.contains(one));
        new.for_each(OutOfReach::log);
        drop(before);
        self.0.state.store(Arc::new(state));
        if let Some(apply) = self.0.apply.get() {
            apply(&config);
        }
    }
}

impl RunningConfig {
    fn new(file: Arc<Config>, documents: Documents, compiled: &Compiled) -> Self {
        let merged = merge(&file, &documents, compiled);
        Self {
            file,
            documents,
            config: Arc::new(merged.config),
            problems: merged.problems,
            out_of_reach: merged.out_of_reach,
            compiled: Arc::new(merged.compiled),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("state", &self.0.state.load()).finish_non_exhaustive()
    }
}
