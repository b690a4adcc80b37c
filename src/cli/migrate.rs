//! `postern migrate`: the tables of the ledger in PostgreSQL.

use std::io;

use clap::Args;
use tokio::sync::mpsc;

use super::{ConfigFile, Exit, Screen};
use crate::config::StoreEngine;
use crate::ledger::{Postgres, PostgresOptions};
use crate::server;

/// Create or upgrade the store's tables in PostgreSQL
#[derive(Args, Debug)]
#[command(
    long_about = "Create or upgrade the store's tables in PostgreSQL.\n\n\
        Each step is one transaction, and finished steps are skipped: the command may be repeated, \
        also concurrently. Gateways of the previous version keep running meanwhile, unless the \
        changelog says otherwise. The embedded engine needs no migration.",
    after_help = "Examples:\n  \
        postern migrate --config postern.toml\n  \
        postern migrate --config postern.toml --finish"
)]
pub(super) struct Migrate {
    #[command(flatten)]
    config: ConfigFile,
    /// End an upgrade, after the last gateway was replaced: older gateways are refused from now on
    #[arg(long)]
    finish: bool,
}

impl Migrate {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        screen.warn(&loaded.warnings)?;
        let store = &loaded.config.store;
        let StoreEngine::Postgres(server) = &store.engine else {
            writeln!(screen.out, "the embedded engine needs no migration")?;
            return Ok(Exit::Done);
        };
        let options = match server::postgres(store, server) {
            Ok(options) => options,
            Err(error) => return screen.fail(&error),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let step = if self.finish { Step::Finish } else { Step::Migrate };
        runtime.block_on(migrate(options, step, screen))
    }
}

/// The steps of the command.
#[derive(Clone, Copy)]
enum Step {
    Migrate,
    Finish,
}

async fn migrate(
    options: PostgresOptions,
    step: Step,
    screen: &mut Screen<'_>,
) -> io::Result<Exit> {
    let (said, mut heard) = mpsc::unbounded_channel();
    let migrating = tokio::spawn(async move {
        let mut say = move |line| {
            let _ = said.send(line);
        };
        match step {
            Step::Migrate => Postgres::migrate(&options, &mut say).await,
            Step::Finish => Postgres::finish_upgrade(&options, &mut say).await,
        }
    });
    while let Some(line) = heard.recv().await {
        writeln!(screen.out, "{line}")?;
        screen.out.flush()?;
    }
    match migrating.await.map_err(io::Error::other)? {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            writeln!(screen.err, "store: {error}")?;
            Ok(Exit::Failed)
        }
    }
}
