//! The binary: it reads the command line, runs one command and says how that went.

use std::process::ExitCode;

use postern::cli::{self, Screen};
use tikv_jemallocator::Jemalloc;

/// One thread allocates for a callback, and another frees. With this allocator, memory stays within
/// a bound under a steady load; with glibc's it kept growing: docs/benchmarks.md.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let exit = cli::run(std::env::args_os(), &mut Screen::of_process(&mut out, &mut err));
    ExitCode::from(exit.code())
}
