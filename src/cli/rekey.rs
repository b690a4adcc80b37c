//! `postern rekey`: seals the store with another master key.

use std::io;

use clap::Args;

use super::client::runtime;
use super::store::{Progress, check};
use super::{ConfigFile, Exit, Screen};
use crate::config::{self, MASTER_KEY, StoreEngine};
use crate::ledger::{Embedded, Postgres};
use crate::server;

/// Change the master key of the store
#[derive(Args, Debug)]
#[command(
    long_about = "Change the master key of the store: re-seal (encrypt) all data.\n\n\
        Set POSTERN_MASTER_KEY to the new key and POSTERN_OLD_MASTER_KEY to the old one (none for a \
        store that was not sealed). All data is rewritten step by step; after an interruption, repeat \
        the command, and it continues. Stop the gateway of an embedded store first; in between it can \
        serve with both keys. Gateways on PostgreSQL keep running: give both keys to all of them \
        first. Exports keep their key.",
    after_help = "Examples:\n  \
        POSTERN_MASTER_KEY=$NEW POSTERN_OLD_MASTER_KEY=$OLD postern rekey --config postern.toml\n  \
        POSTERN_OLD_MASTER_KEY=$OLD postern rekey --config postern.toml --unseal"
)]
pub(super) struct Rekey {
    #[command(flatten)]
    config: ConfigFile,
    /// Unseal (decrypt) all data; POSTERN_MASTER_KEY must not be set
    #[arg(long)]
    unseal: bool,
}

impl Rekey {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let store = &loaded.config.store;
        let sealed = store.master_key.is_some();
        if sealed == self.unseal {
            let sentence = match sealed {
                true => "--unseal and a key to seal with: take POSTERN_MASTER_KEY away",
                false => "no key to seal with: set POSTERN_MASTER_KEY, or say --unseal",
            };
            writeln!(screen.err, "{sentence}")?;
            return Ok(Exit::Usage);
        }
        let mut progress = Progress::new(screen.err, screen.err_is);
        let (done, what) = match &store.engine {
            StoreEngine::Embedded { .. } => (embedded(store, &mut progress), "segments"),
            StoreEngine::Postgres(server) => {
                let mut tell = |rows| progress.tell(&|| format!("{rows} rows"));
                let done = match server::postgres(store, server) {
                    Ok(options) => {
                        let done = runtime()?.block_on(Postgres::rekey(options, &mut tell));
                        done.map_err(|error| error.to_string())
                    }
                    Err(error) => Err(error.to_string()),
                };
                (done, "rows")
            }
        };
        progress.end();
        match done {
            Ok(0) => writeln!(screen.out, "everything was so already")?,
            Ok(done) if sealed => {
                writeln!(screen.out, "{done} {what} are sealed with {MASTER_KEY}")?;
            }
            Ok(done) => writeln!(screen.out, "{done} {what} are not sealed any more")?,
            Err(error) => return screen.fail(&error),
        }
        Ok(Exit::Done)
    }
}

fn embedded(store: &config::Store, progress: &mut Progress<'_>) -> Result<u64, String> {
    let options = server::embedded(store).map_err(|error| error.to_string())?;
    check(&options).map_err(|error| error.to_string())?;
    let mut tell = |done, all| progress.tell(&|| format!("segment {done} of {all}"));
    Embedded::rekey(options, &mut tell).map_err(|error| error.to_string())
}
