//! Any JSON object as a source and as a destination over the admin API: it is taken, or its mistakes are named.

use std::path::Path;
use std::sync::LazyLock;

use postern::config::{self, Config, ConfigIssue, Machine, Table};

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = "[[destination]]\nname = \"game\"\nurl = \"https://game.example.com/in\"\n\
                [[source]]\nname = \"other\"\nsender = \"taku\"\nsecrets = \"q8Zr3vTn1XbW6kLs0fHd5mJy\"\n\
                destinations = [\"game\"]\n";
    let loaded = config::load_str(&Machine, Path::new("postern.toml"), text);
    loaded.expect("the configuration is right").config
});

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let Ok(table) = serde_json::from_slice::<Table>(data) else { return };
    match config::check_new_source(&CONFIG, "fuzz", "fuzz", &table) {
        Ok(source) => assert_eq!(source.name, "fuzz"),
        Err(issues) => named(&issues),
    }
    match config::check_destination(&CONFIG, "fuzz", &table) {
        Ok(destination) => assert_eq!(destination.name, "fuzz"),
        Err(issues) => named(&issues),
    }
}

/// Each mistake says what is wrong, and what to do.
fn named(issues: &[ConfigIssue]) {
    assert!(!issues.is_empty(), "refused without a reason");
    assert!(
        issues.iter().all(|issue| !issue.what.is_empty() && !issue.remedy.is_empty()),
        "{issues:?}"
    );
}
