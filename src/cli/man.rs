//! `postern man`: manual pages.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;

use super::{Exit, Screen};

/// Write a manual page for each command
#[derive(Args, Debug)]
#[command(
    long_about = "Write a manual page for each command into a folder: postern.1, postern-serve.1 …",
    after_help = "Examples:\n  \
        postern man /usr/local/share/man/man1\n  \
        postern man . && man ./postern-listen.1"
)]
pub(super) struct Man {
    /// Folder that the pages are written to; created if it is missing
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let written = fs::create_dir_all(&self.folder)
            .and_then(|()| clap_mangen::generate_to(super::command(), &self.folder));
        match written {
            Ok(()) => Ok(Exit::Done),
            Err(error) => screen.fail(&format!("{}: {error}", self.folder.display())),
        }
    }
}
