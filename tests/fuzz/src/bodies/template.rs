//! Any text as a source's template: it is taken or its mistakes are named, and whatever is put into
//! it, the names that it makes stay the same.

use std::sync::{Arc, LazyLock};

use super::support::{Parts, open_recipe, resolve};
use postern::sender::{Recipe, Sender, Terms};

static SENDER: LazyLock<Arc<Sender>> =
    LazyLock::new(|| Arc::clone(open_recipe("query", None).sender()));

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let terms = Terms { unsigned: true, template: Some(text.to_owned()), ..Terms::default() };
    let recipe = match Recipe::compile(&SENDER, &terms) {
        Ok(recipe) => recipe,
        Err(faults) => return assert!(!faults.is_empty(), "refused without a reason"),
    };
    let names = |query: &[u8]| {
        let event = resolve(&recipe, &Parts::made(query, None, b"")).expect("an event");
        let made: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(event.template()).expect("a JSON object");
        made.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(
        names(b"id=1&user=u&data=d"),
        names(b"id=2&user=u%26admin%3D1&data=%22%7D%2C%26x%3Dy%23%0d%0a&extra=%7Bid%7D"),
    );
}
