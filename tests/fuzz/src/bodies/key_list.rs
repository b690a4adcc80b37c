//! Any answer of a key server: nothing panics, the bounds hold, and a key that was made of bytes without a
//! private key verifies nothing.

use std::sync::LazyLock;

use super::support::NOW_MS;
use http::{HeaderMap, Method};
use postern::sender::{Catalog, Judgement, KEYS_MAX, Recipe, Request, Terms};

static RECIPE: LazyLock<Recipe> = LazyLock::new(|| {
    let catalog = Catalog::embedded().expect("the embedded senders are right");
    let admob = catalog.get("admob").expect("it is one of them");
    Recipe::compile(admob, &Terms::default()).expect("it needs no secret")
});

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let list = RECIPE.key_list().expect("its keys are published");
    let Ok(keys) = list.read(data) else { return };
    assert!(!keys.is_empty() && keys.len() <= KEYS_MAX);
    let headers = HeaderMap::new();
    let request = Request {
        method: &Method::GET,
        target: b"/?transaction_id=t&signature=MAYCAQECAQE&key_id=1",
        base: "",
        headers: &headers,
        body: b"",
    };
    let mut callback = RECIPE.read(request, NOW_MS);
    callback.use_keys(Some(&keys));
    assert!(matches!(callback.verify(), Judgement::Rejected(_)), "it is not signed");
}
