//! `postern erase`: deletes what the store holds of a user.

use std::io;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::client::{AdminApi, runtime};
use super::names::{self, Named};
use super::store::open;
use super::{ConfigFile, Exit, Screen};
use crate::config::Config;
use crate::ledger::{BatchOptions, BatchedLedger, Engine, Erased, LedgerError, NoopObserver};
use crate::operator::erase_user;
use crate::registry::{Actor, Registry};
use crate::server::ServeError;

/// Erase a user's data from the store
#[derive(Args, Debug)]
#[command(
    long_about = "Erase a user's data from the store.\n\n\
        The content of the user's events, their attempts and responses, and kept callbacks (held, in \
        quarantine, rejected) are deleted, and are in no later export. Transactions stay known, so a \
        captured callback is not accepted again. Deliveries of these events that are not made yet \
        are dropped. A running gateway does it; otherwise the store is changed directly. The audit \
        log says who did it, with a digest of the user. Older exports and backups are not changed.",
    after_help = "Examples:\n  \
        postern erase --user player-7\n  \
        postern erase --user player-7 --source level-end --yes"
)]
pub(super) struct Erase {
    #[command(flatten)]
    config: ConfigFile,
    /// User, as events name it
    #[arg(long, value_name = "ID")]
    user: String,
    /// Only data of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

impl Erase {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        if self.user.is_empty() {
            writeln!(screen.err, "--user: is empty; name the user as events do")?;
            return Ok(Exit::Usage);
        }
        if !self.yes && !self.is_confirmed(screen)? {
            return Ok(Exit::Usage);
        }
        let runtime = runtime()?;
        let erased = match open(&loaded.config.store, &runtime) {
            Ok(ledger) => {
                let erasing = self.erase(ledger, Arc::new(loaded.config));
                runtime.block_on(erasing).map(shown).map_err(|error| error.to_string())
            }
            Err(ServeError::Ledger(LedgerError::InUse(_))) => {
                runtime.block_on(self.ask(&AdminApi::of(&loaded.config)))
            }
            Err(error) => Err(error.to_string()),
        };
        match erased {
            Ok(erased) => self.show(&erased, screen),
            Err(sentence) => screen.fail(&sentence),
        }
    }

    /// Asks for the user again: the data cannot be brought back.
    fn is_confirmed(&self, screen: &mut Screen<'_>) -> io::Result<bool> {
        writeln!(screen.err, "type {} again to erase this user's data:", self.user)?;
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        let same = line.trim_end_matches(['\r', '\n']) == self.user;
        if !same {
            writeln!(screen.err, "that is another user; nothing was erased")?;
        }
        Ok(same)
    }

    /// Changes the store itself: no gateway works on it, or it is in PostgreSQL.
    async fn erase(&self, ledger: Engine, config: Arc<Config>) -> Result<Erased, LedgerError> {
        let book = BatchedLedger::new(ledger, BatchOptions::default(), Arc::new(NoopObserver));
        let registry = Registry::open(book, config).await?;
        let who = Actor::new("command", "erase");
        erase_user(&registry, &who, &self.user, self.source.as_deref()).await
    }

    /// Has the running gateway do it.
    async fn ask(&self, api: &AdminApi) -> Result<Value, String> {
        if let Some(name) = &self.source {
            names::check(api, Named::Source, name).await?;
        }
        let order = json!({ "user": self.user, "source": self.source });
        api.post("/admin/v1/erase", &order).await
    }

    fn show(&self, erased: &Value, screen: &mut Screen<'_>) -> io::Result<Exit> {
        if self.config.json {
            writeln!(screen.out, "{erased}")?;
            return Ok(Exit::Done);
        }
        let count = |name: &str| erased[name].as_u64().unwrap_or(0);
        writeln!(
            screen.out,
            "erased: {} events, {} kept callbacks; {} unsettled deliveries dropped",
            count("events"),
            count("held"),
            count("deliveries")
        )?;
        Ok(Exit::Done)
    }
}

fn shown(erased: Erased) -> Value {
    let Erased { events, deliveries, held } = erased;
    json!({ "events": events, "deliveries": deliveries, "held": held })
}
