//! The binary: it reads the command line, runs one command and says how that went.

use std::process::ExitCode;

use postern::cli::{self, Screen};

fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let exit = cli::run(std::env::args_os(), &mut Screen::of_process(&mut out, &mut err));
    ExitCode::from(exit.code())
}
