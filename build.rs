//! Lists the sender files, so that adding a sender is adding a file under `src/sender/catalog/`, and
//! notes the commit that a release is built from.
#![expect(clippy::expect_used, reason = "what goes wrong here stops the build, which is right")]

use std::fmt::Write as _;
use std::process::Command;
use std::{env, fs, path::Path};

fn main() {
    note_commit();
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

/// The commit, for `postern_build_info`: what the environment says, or git for a release. Other
/// builds do not ask, so that a commit does not compile everything again.
fn note_commit() {
    println!("cargo::rerun-if-env-changed=POSTERN_COMMIT");
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit =
        env::var("POSTERN_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(|| {
            let log =
                is_release.then(|| git(&["rev-parse", "--git-path", "logs/HEAD"])).flatten()?;
            println!("cargo::rerun-if-changed={log}");
            git(&["rev-parse", "--short=12", "HEAD"])
        });
    println!("cargo::rustc-env=POSTERN_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}
