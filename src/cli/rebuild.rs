//! `postern rebuild`: rebuilds the index from the journal.

use std::io;

use clap::Args;

use serde_json::json;

use super::{ConfigFile, Exit, Screen};
use crate::ledger::{Embedded, Missing};

/// Rebuild the index of the store from its journal
#[derive(Args, Debug)]
#[command(
    long_about = "Rebuild the index of the store from its journal.\n\n\
        The gateway does so at a start where the index is missing, damaged or short; this command \
        does it beforehand. The journal is read first. Where a part of it cannot be read, the \
        command fails and the index stays. No gateway may be working on the store.\n\n\
        A store of which the first or the last segments are missing does not start. Restore them \
        from a backup. Where there is none, --accept-missing goes on without them: their events \
        are lost, and their transactions are accepted again if they repeat.",
    after_help = "Examples:\n  \
        postern rebuild --config postern.toml\n  \
        postern rebuild --config postern.toml --accept-missing"
)]
pub(super) struct Rebuild {
    #[command(flatten)]
    config: ConfigFile,
    /// Continue without segments that are missing at the start or the end of the journal
    #[arg(long)]
    accept_missing: bool,
}

impl Rebuild {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let (_, options) = match self.config.store(screen)? {
            Ok(store) => store,
            Err(exit) => return Ok(exit),
        };
        let missing = if self.accept_missing { Missing::Accept } else { Missing::Refuse };
        match Embedded::rebuild(options, missing) {
            Ok(segments) if self.config.json => {
                writeln!(screen.out, "{}", json!({ "segments": segments }))?;
                Ok(Exit::Done)
            }
            Ok(segments) => {
                writeln!(screen.out, "the index of {segments} segments was rebuilt")?;
                Ok(Exit::Done)
            }
            Err(error) => screen.fail(&error),
        }
    }
}
