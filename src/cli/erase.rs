//! `postern erase`: deletes what the store holds of a user.

use std::io;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::client::{AdminApi, runtime};
use super::names;
use super::store::{Keeper, keeper};
use super::{ConfigFile, Exit, Screen};
use crate::config::{Config, Loaded};
use crate::ledger::{BatchOptions, BatchedLedger, Engine, Erased, LedgerError, NoopObserver};
use crate::operator::erase_user;
use crate::registry::{Actor, Registry};

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
        let is_known = self.is_known(&loaded);
        let erased = match keeper(&loaded.config, &runtime) {
            Ok(Keeper::Ledger(ledger)) => {
                let erasing = self.erase(ledger, Arc::new(loaded.config));
                runtime.block_on(erasing).map(shown).map_err(|error| error.to_string())
            }
            Ok(Keeper::Gateway(api)) => {
                if let Some(name) = &self.source
                    && let Err(error) = runtime.block_on(names::check_past(&api, name))
                {
                    return error.tell(screen);
                }
                runtime.block_on(self.ask(&api))
            }
            Err(sentence) => Err(sentence),
        };
        match erased {
            Ok(erased) if is_nothing(&erased) && !is_known => {
                let name = self.source.as_deref().unwrap_or_default();
                writeln!(
                    screen.err,
                    "there is no source {name:?}, and the store has no event of one; nothing was \
                     erased"
                )?;
                Ok(Exit::Usage)
            }
            Ok(erased) => self.show(&erased, screen),
            Err(sentence) => screen.fail(&sentence),
        }
    }

    /// Whether the file has the source that was named, also where its secret is missing.
    fn is_known(&self, loaded: &Loaded) -> bool {
        self.source.as_ref().is_none_or(|name| {
            let of_source = format!("source[{name}]");
            loaded.config.sources.contains_key(name)
                || loaded.missing.iter().any(|issue| issue.key.starts_with(&of_source))
        })
    }

    /// Asks for the user again: the data cannot be brought back.
    fn is_confirmed(&self, screen: &mut Screen<'_>) -> io::Result<bool> {
        writeln!(screen.err, "type {} again to erase this user's data:", self.user)?;
        let mut line = String::new();
        let is_ended = io::stdin().read_line(&mut line)? == 0;
        let same = !is_ended && line.trim_end_matches(['\r', '\n']) == self.user;
        if is_ended {
            writeln!(
                screen.err,
                "standard input has ended; nothing was erased; --yes does not ask"
            )?;
        } else if !same {
            writeln!(screen.err, "that is another user; nothing was erased")?;
        }
        Ok(same)
    }

    /// Changes the store itself: no gateway works on it, or it is in PostgreSQL.
    async fn erase(&self, engine: Engine, config: Arc<Config>) -> Result<Erased, LedgerError> {
        let ledger = BatchedLedger::new(engine, BatchOptions::default(), Arc::new(NoopObserver));
        let registry = Registry::open(ledger, config).await?;
        let who = Actor::new("command", "erase");
        erase_user(&registry, &who, &self.user, self.source.as_deref()).await
    }

    /// Has the running gateway do it.
    async fn ask(&self, api: &AdminApi) -> Result<Value, String> {
        let order = json!({ "user": self.user, "source": self.source });
        api.post_long("/admin/v1/erase", &order).await
    }

    fn show(&self, erased: &Value, screen: &mut Screen<'_>) -> io::Result<Exit> {
        if self.config.json {
            writeln!(screen.out, "{erased}")?;
            return Ok(Exit::Done);
        }
        let count = |name: &str, one: &str, many: &str| match erased[name].as_u64().unwrap_or(0) {
            1 => format!("1 {one}"),
            count => format!("{count} {many}"),
        };
        writeln!(
            screen.out,
            "erased: {}, {}; {} dropped",
            count("events", "event", "events"),
            count("held", "kept callback", "kept callbacks"),
            count("deliveries", "unsettled delivery", "unsettled deliveries")
        )?;
        Ok(Exit::Done)
    }
}

/// Whether the store had nothing.
fn is_nothing(erased: &Value) -> bool {
    ["events", "held", "deliveries"].iter().all(|name| erased[name] == 0)
}

fn shown(erased: Erased) -> Value {
    let Erased { events, deliveries, held } = erased;
    json!({ "events": events, "deliveries": deliveries, "held": held })
}
