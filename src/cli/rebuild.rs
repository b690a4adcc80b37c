//! `postern rebuild`: makes the index anew from the journal.

use std::io;

use clap::Args;

use super::store::is_there;
use super::{ConfigFile, Exit, Screen};
use crate::ledger::Embedded;

/// Make the index of the store anew from its journal
#[derive(Args, Debug)]
#[command(
    long_about = "Make the index of the store anew from its journal.\n\n\
        The gateway does so by itself where the index is missing, damaged or short; this is for \
        whoever does not want to wait for that at a start. No gateway may be working on the store.",
    after_help = "Example:\n  postern rebuild --config postern.toml"
)]
pub(super) struct Rebuild {
    #[command(flatten)]
    config: ConfigFile,
}

impl Rebuild {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let (_, options) = match self.config.store(screen)? {
            Ok(store) => store,
            Err(exit) => return Ok(exit),
        };
        if let Err(sentence) = is_there(&options) {
            return screen.fail(&sentence);
        }
        match Embedded::rebuild(options) {
            Ok(segments) => {
                writeln!(screen.out, "the index of {segments} segments was made anew")?;
                Ok(Exit::Done)
            }
            Err(error) => screen.fail(&error),
        }
    }
}
