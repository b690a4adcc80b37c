//! Any bytes as an XML body: nothing panics, and no entity is expanded.

use std::sync::LazyLock;

use super::support::{Parts, check_open, open_recipe};
use postern::sender::{Recipe, Role};

static XML: LazyLock<Recipe> = LazyLock::new(|| open_recipe("xml", None));

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let Some(event) = check_open(&XML, &Parts::made(b"", Some("text/xml"), data)) else { return };
    let longest = Role::ALL.iter().filter_map(|role| event.role(*role)).map(str::len).max();
    assert!(longest <= Some(data.len()), "a value is longer than the message");
}
