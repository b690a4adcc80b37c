//! Any bytes as a JSON body: what is taken is JSON to others too, and says the same there.

use std::sync::LazyLock;

use super::support::{Parts, check_open, open_recipe};
use postern::sender::{Recipe, Role};
use serde_json::Value;

static JSON: LazyLock<Recipe> = LazyLock::new(|| open_recipe("json", None));

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let parts = Parts::made(b"", Some("application/json"), data);
    let Some(event) = check_open(&JSON, &parts) else { return };
    let theirs: Value = serde_json::from_slice(parts.body()).expect("taken, and no JSON");
    if let Some(Value::String(id)) = theirs.get("id") {
        assert_eq!(event.role(Role::Transaction), Some(id.as_str()));
    }
}
