//! Any text as a sender file: it is taken or its mistakes are named, and what is taken can be used.

use std::sync::Arc;

use super::support::{NOW_MS, Parts, replies};
use postern::sender::{LiveSecret, Recipe, Secret, Sender, Terms};

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let sender = match Sender::parse("fuzz", text) {
        Ok(sender) => Arc::new(sender),
        Err(faults) => return assert!(!faults.is_empty(), "refused without a reason"),
    };
    assert_eq!(sender.text(), text);
    let secret = LiveSecret { id: "fuzz".to_owned(), value: Secret::new("k"), until_ms: None };
    let settings = sender.settings().iter().map(|(name, _)| (name.clone(), Secret::new("k")));
    let terms = Terms { secrets: vec![secret], settings: settings.collect(), ..Terms::default() };
    let Ok(recipe) = Recipe::compile(&sender, &terms) else { return };
    let parts = Parts::parse(b"POST /?a=1&sign=00&timestamp=1700000000\n\n{\"a\":1}");
    let parts = parts.expect("a request");
    let mut callback = recipe.read(parts.request(), NOW_MS);
    let _ = callback.verify();
    replies(&recipe, &parts);
}
