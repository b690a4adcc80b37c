//! Any bytes as a JSON body: what is taken is JSON to others too, and says the same there.

use std::sync::LazyLock;

use super::support::{Members, Parts, check_open, open_recipe};
use postern::sender::{Recipe, Role};

static JSON: LazyLock<Recipe> = LazyLock::new(|| open_recipe("json", None));

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let parts = Parts::made(b"", Some("application/json"), data);
    let Some(event) = check_open(&JSON, &parts) else { return };
    let text = parts.body().strip_prefix(b"\xef\xbb\xbf").unwrap_or(parts.body());
    let theirs: Members = serde_json::from_slice(text).expect("taken, and no JSON");
    if let Some(Ok(id)) = theirs.get("id").map(|id| serde_json::from_str::<String>(id.get())) {
        assert_eq!(event.role(Role::Transaction), Some(id.as_str()));
    }
}
