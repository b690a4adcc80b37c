//! `postern completions`: completion scripts for shells.

use std::io;

use clap::Args;
use clap_complete::Shell;

use super::{Exit, Screen};

/// Print a completion script for a shell
#[derive(Args, Debug)]
#[command(
    long_about = "Print a completion script for bash, elvish, fish, powershell or zsh.",
    after_help = "Examples:\n  \
        postern completions bash > /etc/bash_completion.d/postern\n  \
        postern completions zsh > \"${fpath[1]}/_postern\"\n  \
        postern completions fish > ~/.config/fish/completions/postern.fish"
)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "postern", &mut script);
        screen.out.write_all(&script)?;
        Ok(Exit::Done)
    }
}
