//! Code shared by the commands that work on the store itself.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::{ConfigFile, Exit, Screen, Where};
use crate::clock::instant;
use crate::config::{self, Loaded, StoreEngine};
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
        match server::embedded(&loaded.config.store) {
            Ok(options) => match private::check_owner(&options.path) {
                Ok(()) => Ok(Ok((loaded, options))),
                Err(sentence) => screen.fail(&sentence).map(Err),
            },
            Err(error) => screen.fail(&error).map(Err),
        }
    }
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

/// The ledger of a configuration, in the runtime that it is to live in.
pub(super) fn open(store: &config::Store, runtime: &Runtime) -> Result<Engine, ServeError> {
    Ok(match &store.engine {
        StoreEngine::Embedded { path } => {
            private::check_owner(path).map_err(LedgerError::Fatal)?;
            Embedded::open(server::embedded(store)?)?.into()
        }
        StoreEngine::Postgres(server) => {
            runtime.block_on(Postgres::open(server::postgres(store, server)))?.into()
        }
    })
}

/// A ledger that is there already: no command but `serve` and `import` begins one.
pub(super) fn is_there(options: &EmbeddedOptions) -> Result<(), String> {
    private::check_owner(&options.path)?;
    match Embedded::is_in(&options.path) {
        true => Ok(()),
        false => Err(format!("there is no ledger in {}", options.path.display())),
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
