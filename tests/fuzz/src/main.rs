//! Every fuzz target in one program: `FUZZ_TARGET` names the one that runs. The body of each is a
//! function of [`bodies`], which `tests/it/fuzz.rs` runs over their inputs with every `cargo test`.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::LazyLock;

mod bodies;

static BODY: LazyLock<bodies::Body> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = bodies::ALL.iter().find(|(name, _)| *name == wanted);
    found.expect("FUZZ_TARGET names a folder of tests/fuzz/seeds").1
});

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { BODY(data) });

/// Without libFuzzer the targets are checked, and run once on nothing: `make fuzz-check` then compiles
/// no dependency of libFuzzer, whose features would make it compile the C libraries a second time.
#[cfg(not(feature = "libfuzzer"))]
fn main() {
    BODY(b"");
}
