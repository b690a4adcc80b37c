//! Code shared by the commands that work on the store itself.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::client::AdminApi;
use super::{ConfigFile, Exit, Screen, Where};
use crate::clock::instant;
use crate::config::{self, Config, Loaded, StoreEngine};
use crate::ledger::{Embedded, EmbeddedOptions, Engine, LedgerError, Postgres, Survey};
use crate::private;
use crate::server::{self, ServeError};

/// The interval between progress messages on a terminal.
const TELL: Duration = Duration::from_millis(200);

impl ConfigFile {
    /// The configuration and its embedded store, which no gateway may be working on; or how the
    /// command ends, which the screen says.
    pub(super) fn store(
        &self,
        screen: &mut Screen<'_>,
    ) -> io::Result<Result<(Loaded, EmbeddedOptions), Exit>> {
        let loaded = match self.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(Err(exit)),
        };
        match embedded(&loaded.config.store).and_then(|options| {
            check(&options)?;
            Ok(options)
        }) {
            Ok(options) => Ok(Ok((loaded, options))),
            Err(error) => screen.fail(&error).map(Err),
        }
    }
}

/// Why a command cannot work on a store itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// The folder is another account's, whose gateway can be asked.
    #[error("{0}")]
    Foreign(String),
    /// A store is missing, or is not one of files.
    #[error("{0}")]
    Absent(String),
}

/// The way to a store.
pub(super) enum Keeper {
    /// The store itself: no gateway works on it, or it is in PostgreSQL.
    Ledger(Engine),
    /// The gateway that works on it.
    Gateway(Box<AdminApi>),
}

/// The ledger of `config`, which is there already, or the gateway that works on it.
///
/// # Errors
/// A sentence: there is no ledger, or neither it nor its gateway can be reached.
pub(super) fn keeper(config: &Config, runtime: &Runtime) -> Result<Keeper, String> {
    if let StoreEngine::Embedded { .. } = &config.store.engine {
        let options = embedded(&config.store).map_err(|error| error.to_string())?;
        if let Err(error) = check(&options) {
            return gateway_instead(config, runtime, &error).map(Box::new).map(Keeper::Gateway);
        }
    }
    match open(&config.store, runtime) {
        Ok(ledger) => Ok(Keeper::Ledger(ledger)),
        Err(OpenError::Ledger(ServeError::Ledger(LedgerError::InUse(_)))) => {
            Ok(Keeper::Gateway(Box::new(AdminApi::of(config))))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The gateway of `config`, which works on a store that this account must not touch.
///
/// # Errors
/// `error` as a sentence, if the gateway would not help, or none answers.
pub(super) fn gateway_instead(
    config: &Config,
    runtime: &Runtime,
    error: &StoreError,
) -> Result<AdminApi, String> {
    let api = AdminApi::of(config);
    let is_foreign = matches!(error, StoreError::Foreign(_));
    match is_foreign && runtime.block_on(api.answers()) {
        true => Ok(api),
        false => Err(error.to_string()),
    }
}

/// The embedded store of a configuration.
///
/// # Errors
/// The store is in PostgreSQL.
pub(super) fn embedded(store: &config::Store) -> Result<EmbeddedOptions, StoreError> {
    let sentence = "store.engine is postgres: this command is for the embedded engine, and \
                    PostgreSQL has tools of its own (pg_amcheck, REINDEX, its checksums)";
    server::embedded(store).map_err(|_| StoreError::Absent(sentence.to_owned()))
}

impl Screen<'_> {
    /// Says why a command could not do what it was asked to.
    pub(super) fn fail(&mut self, error: &dyn std::fmt::Display) -> io::Result<Exit> {
        writeln!(self.err, "{error}")?;
        Ok(Exit::Failed)
    }

    /// Says what a survey found; damage ends in a failure.
    pub(super) fn survey(&mut self, survey: &Survey) -> io::Result<Exit> {
        for remark in &survey.remarks {
            writeln!(self.err, "remark: {remark}")?;
        }
        for damage in &survey.damage {
            writeln!(self.err, "damaged: {damage}")?;
        }
        Ok(if survey.is_whole() { Exit::Done } else { Exit::Failed })
    }
}

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The folder is another account's.
    #[error("{0}")]
    Foreign(String),
    /// The ledger itself.
    #[error(transparent)]
    Ledger(#[from] ServeError),
}

/// The ledger of a configuration, in the runtime that it is to live in. It begins one where there is
/// none.
pub(super) fn open(store: &config::Store, runtime: &Runtime) -> Result<Engine, OpenError> {
    let opened: Result<Engine, ServeError> = match &store.engine {
        StoreEngine::Embedded { path } => {
            private::check_owner(path).map_err(OpenError::Foreign)?;
            let opened = server::embedded(store).and_then(Embedded::open);
            opened.map(Into::into).map_err(Into::into)
        }
        StoreEngine::Postgres(server) => {
            let options = server::postgres(store, server).map_err(ServeError::from)?;
            let opened = runtime.block_on(Postgres::open(options));
            opened.map(Into::into).map_err(Into::into)
        }
    };
    Ok(opened?)
}

/// Whether there is a ledger already that this account may work on: no command but `serve`, `import`
/// and `restore` begins one.
///
/// # Errors
/// See [`StoreError`].
pub(super) fn check(options: &EmbeddedOptions) -> Result<(), StoreError> {
    private::check_owner(&options.path).map_err(StoreError::Foreign)?;
    match Embedded::is_in(&options.path) {
        true => Ok(()),
        false => {
            let sentence = format!("there is no ledger in {}", options.path.display());
            Err(StoreError::Absent(sentence))
        }
    }
}

/// Shows a command's progress on a terminal, on one line.
pub(super) struct Progress<'s> {
    to: &'s mut dyn Write,
    is: Where,
    told: Option<Instant>,
}

impl<'s> Progress<'s> {
    pub(super) fn new(to: &'s mut dyn Write, is: Where) -> Self {
        Self { to, is, told: None }
    }

    /// Shows `text` if an update is due.
    pub(super) fn tell(&mut self, text: &dyn Fn() -> String) {
        let now = instant();
        let due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL);
        if self.is == Where::Terminal && due {
            // A failed write is ignored: it loses nothing but the progress message.
            let _ = write!(self.to, "\r\x1b[K{}", text());
            let _ = self.to.flush();
            self.told = Some(now);
        }
    }

    /// Clears the line.
    pub(super) fn end(self) {
        if self.told.is_some() {
            let _ = write!(self.to, "\r\x1b[K");
        }
    }
}
