//! Lists the sender files, so that adding a sender is adding a file under `src/sender/catalog/`.
#![expect(clippy::expect_used, reason = "what goes wrong here stops the build, which is right")]

use std::fmt::Write as _;
use std::{env, fs, path::Path};

fn main() {
    let catalog = Path::new("src/sender/catalog");
    println!("cargo::rerun-if-changed={}", catalog.display());
    let mut names: Vec<String> = fs::read_dir(catalog)
        .expect("src/sender/catalog is part of the source")
        .map(|entry| entry.expect("a readable folder").file_name().into_string().expect("UTF-8"))
        .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
        .collect();
    names.sort_unstable();
    let root = env::current_dir().expect("cargo sets the current folder");
    let mut list = String::from("[\n");
    for name in &names {
        let file = root.join(catalog).join(format!("{name}.toml"));
        println!("cargo::rerun-if-changed={}", file.display());
        writeln!(list, "    ({name:?}, include_str!({file:?})),").expect("a String takes all");
    }
    list.push_str("]\n");
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("catalog.rs");
    fs::write(out, list).expect("OUT_DIR is writable");
}
