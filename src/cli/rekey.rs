//! `postern rekey`: seals the store with another master key.

use std::io;

use clap::Args;

use super::store::{Progress, is_there};
use super::{ConfigFile, Exit, Screen};
use crate::config::MASTER_KEY;
use crate::ledger::Embedded;

/// Seal the store with another master key
#[derive(Args, Debug)]
#[command(
    long_about = "Seal the store with another master key.\n\n\
        Set POSTERN_MASTER_KEY to the new key and POSTERN_OLD_MASTER_KEY to the one of before (a \
        store that was not sealed needs none). Everything is written anew, segment by segment. \
        When it is interrupted, begin it again: it goes on. A gateway that has both keys can serve \
        meanwhile, but not at the same time: stop it for this. Exports keep the key that they were \
        sealed with.",
    after_help = "Examples:\n  \
        POSTERN_MASTER_KEY=$NEW POSTERN_OLD_MASTER_KEY=$OLD postern rekey --config postern.toml\n  \
        POSTERN_OLD_MASTER_KEY=$OLD postern rekey --config postern.toml --unseal"
)]
pub(super) struct Rekey {
    #[command(flatten)]
    config: ConfigFile,
    /// Seal nothing any more. POSTERN_MASTER_KEY must not be set
    #[arg(long)]
    unseal: bool,
}

impl Rekey {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let (loaded, options) = match self.config.store(screen)? {
            Ok(store) => store,
            Err(exit) => return Ok(exit),
        };
        let sealed = loaded.config.store.master_key.is_some();
        if sealed == self.unseal {
            let sentence = match sealed {
                true => "--unseal and a key to seal with: take POSTERN_MASTER_KEY away",
                false => "no key to seal with: set POSTERN_MASTER_KEY, or say --unseal",
            };
            writeln!(screen.err, "{sentence}")?;
            return Ok(Exit::Usage);
        }
        if let Err(sentence) = is_there(&options) {
            return screen.fail(&sentence);
        }
        let mut progress = Progress::new(screen.err, screen.err_is);
        let done = Embedded::rekey(options, &mut |done, all| {
            progress.tell(&|| format!("segment {done} of {all}"));
        });
        progress.end();
        match done {
            Ok(0) => writeln!(screen.out, "everything was so already")?,
            Ok(segments) if sealed => {
                writeln!(screen.out, "{segments} segments are sealed with {MASTER_KEY}")?;
            }
            Ok(segments) => writeln!(screen.out, "{segments} segments are not sealed any more")?,
            Err(error) => return screen.fail(&error),
        }
        Ok(Exit::Done)
    }
}
