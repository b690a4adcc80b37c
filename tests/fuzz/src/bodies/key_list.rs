//! Any answer of a key server, or of one for certificates: nothing panics, the bounds hold, and a key that was made of bytes without a
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

/// A sender whose callbacks name certificates.
static CERTIFICATES: LazyLock<Recipe> = LazyLock::new(|| {
    let catalog = Catalog::embedded().expect("the embedded senders are right");
    let sns = catalog.get("sns").expect("it is one of them");
    Recipe::compile(sns, &Terms::default()).expect("it needs no secret")
});

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let certificates = CERTIFICATES.key_list().expect("its callbacks name certificates");
    if let Ok(found) = certificates.read_certificate(data, NOW_MS, &[]) {
        assert!(found.until_ms() >= NOW_MS, "it has ended");
    }
    if let Some(request) = CERTIFICATES.certificate_request(data) {
        let host = request.url.host().unwrap_or_default();
        assert!(host.starts_with("sns.") && host.contains(".amazonaws.com"), "{host}");
    }
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
