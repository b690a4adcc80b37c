//! `postern forget`: deletes the deduplication keys of a source.

use std::io;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::client::runtime;
use super::store::{check, embedded, open};
use super::{ConfigFile, Exit, Screen};
use crate::config::{Config, StoreEngine};
use crate::ledger::{BatchOptions, BatchedLedger, Engine, LedgerError, NoopObserver};
use crate::operator::source_id;
use crate::registry::{Action, Actor, AuditSubject, Registry};

/// Forget the deduplication keys of a source
#[derive(Args, Debug)]
#[command(
    long_about = "Forget the deduplication keys of a source, and what is held of it.\n\n\
        The keys of a source that is removed from the configuration stay, so a captured callback is \
        not accepted again under a source of the same id. Forget them when the source does not come \
        back. Events and deliveries stay as long as `keep_events` says. No gateway may be working on \
        an embedded store; those on PostgreSQL may go on. The audit log says who did it and when.",
    after_help = "Examples:\n  \
        postern forget --config postern.toml level-end\n  \
        postern forget --config postern.toml --yes level-end"
)]
pub(super) struct Forget {
    #[command(flatten)]
    config: ConfigFile,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    /// Name or id of the source
    source: String,
}

impl Forget {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        if !self.yes && !self.is_confirmed(screen, &loaded.config)? {
            return Ok(Exit::Usage);
        }
        let runtime = runtime()?;
        if let StoreEngine::Embedded { .. } = &loaded.config.store.engine
            && let Err(error) = embedded(&loaded.config.store).and_then(|options| check(&options))
        {
            return screen.fail(&error);
        }
        let ledger = match open(&loaded.config.store, &runtime) {
            Ok(ledger) => ledger,
            Err(error) => return screen.fail(&error),
        };
        // A source whose secret is missing is configured as well.
        let of_source = format!("source[{}]", self.source);
        let is_configured = loaded.config.sources.contains_key(&self.source)
            || loaded.missing.iter().any(|issue| issue.key.starts_with(&of_source));
        match runtime.block_on(forget(ledger, Arc::new(loaded.config), &self.source)) {
            Ok(Forgotten { count: 0, is_known }) if !is_known && !is_configured => {
                writeln!(
                    screen.err,
                    "there is no source {:?}, and the store knows no transaction of one; name it as \
                     the configuration does, or did",
                    self.source
                )?;
                Ok(Exit::Usage)
            }
            Ok(Forgotten { count, .. }) if self.config.json => {
                let line = json!({ "source": self.source, "forgotten": count });
                writeln!(screen.out, "{line}")?;
                Ok(Exit::Done)
            }
            Ok(Forgotten { count, .. }) => {
                writeln!(
                    screen.out,
                    "{count} keys and held callbacks of {} forgotten",
                    self.source
                )?;
                Ok(Exit::Done)
            }
            Err(error) => screen.fail(&error),
        }
    }

    /// Asks for the name again: what is forgotten cannot be brought back.
    fn is_confirmed(&self, screen: &mut Screen<'_>, config: &Config) -> io::Result<bool> {
        let source = &self.source;
        if config.sources.contains_key(source) {
            writeln!(screen.err, "{source} is configured: its old callbacks are accepted again")?;
        }
        writeln!(screen.err, "type {source} to forget its keys:")?;
        let mut line = String::new();
        let is_ended = io::stdin().read_line(&mut line)? == 0;
        let same = !is_ended && line.trim() == source;
        if is_ended {
            writeln!(
                screen.err,
                "standard input has ended; nothing was forgotten; --yes does not ask"
            )?;
        } else if !same {
            writeln!(screen.err, "that is another name; nothing was forgotten")?;
        }
        Ok(same)
    }
}

/// The result of forgetting a source.
struct Forgotten {
    /// Keys and held callbacks.
    count: u64,
    /// Whether the file or an API has a source of that name or id.
    is_known: bool,
}

async fn forget(
    engine: Engine,
    config: Arc<Config>,
    source: &str,
) -> Result<Forgotten, LedgerError> {
    let ledger = BatchedLedger::new(engine, BatchOptions::default(), Arc::new(NoopObserver));
    let registry = Registry::open(ledger.clone(), config).await?;
    let config = registry.config();
    let id = source_id(&config, source);
    let mut all = config.sources.values();
    let is_known = all.any(|one| one.name == source || one.id == source);
    let (who, keys) = (Actor::new("command", "forget"), AuditSubject::new("keys", id.as_str()));
    if is_known {
        registry.note(&who, Action::Forgotten, keys).await?;
    }
    let count = ledger.forget(&id).await?;
    // A name that fits nothing leaves no entry.
    if !is_known && count > 0 {
        registry.note(&who, Action::Forgotten, keys).await?;
    }
    Ok(Forgotten { count, is_known })
}
