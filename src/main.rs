//! The binary: it reads the command line, runs one command and says how that went.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use postern::cli::{self, Screen};

/// What one thread allocates for a callback, another gives back: of that, glibc's allocator keeps
/// holes that grow for as long as the gateway lives.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let exit = cli::run(std::env::args_os(), &mut Screen::of_process(&mut out, &mut err));
    ExitCode::from(exit.code())
}
