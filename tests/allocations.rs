//! The verify path of digest and HMAC senders allocates nothing.

#![expect(clippy::expect_used, reason = "a test")]

use http::{HeaderMap, Method};
use postern::sender::{Catalog, Judgement, LiveSecret, Recipe, Request, Secret, Terms};

fn recipe(sender: &str, secret: &str) -> Recipe {
    let catalog = Catalog::embedded().expect("the catalog is sound");
    let value = Secret::new(secret.as_bytes());
    let secrets = vec![LiveSecret { id: "1".into(), value, until_ms: None }];
    let terms = Terms { secrets, ..Terms::default() };
    Recipe::compile(catalog.get(sender).expect("a known sender"), &terms).expect("good terms")
}

/// Heap allocations of reading and verifying one genuine request.
fn allocations(recipe: &Recipe, request: Request<'_>) -> u64 {
    let mut verified = false;
    let counted = allocation_counter::measure(|| {
        let mut callback = recipe.read(request, 1_700_000_000_000);
        verified = matches!(callback.verify(), Judgement::Verified(_));
    });
    assert!(verified);
    counted.count_total
}

fn get(recipe: &Recipe, query: &str) -> u64 {
    let target = format!("/callback/x?{query}");
    let headers = HeaderMap::new();
    let request = Request {
        method: &Method::GET,
        target: target.as_bytes(),
        base: "",
        headers: &headers,
        body: b"",
    };
    allocations(recipe, request)
}

#[test]
fn a_fixed_text() {
    let taku = recipe("taku", "0123456789abcdefghijklmnopqrstuv");
    let query = "user_id=u%201&trans_id=tr-0001&placement_id=b1e2f3a4b5c6d7&adsource_id=90001\
        &reward_amount=10&reward_name=coin&sign=a88acafa514d10c31a897037694fe8b4";
    assert_eq!(get(&taku, query), 0);
}

#[test]
fn sorted_parameters() {
    let unity = recipe("unity-ads", "xyzKEY");
    let query =
        "productid=1234&sid=1234567890&oid=0987654321&hmac=106ed4300f91145aff6378a355fced73";
    assert_eq!(get(&unity, query), 0);
    let imur = recipe("imur-http", "s3cr3t");
    let query = "sid=s1&timestamp=1700000003&uid=a+b&effective=false&aid=a5\
        &sign=57a5ed162bd94f9bea02faf034c0cfc4";
    assert_eq!(get(&imur, query), 0);
}

#[test]
fn sorted_values() {
    let wechat = recipe("wechat-push", "gatewaytoken");
    let query = "signature=be4d53cdd56d183a856b22073582ac8e79219493&timestamp=1700000000\
        &nonce=12345&echostr=4375120948345356249";
    assert_eq!(get(&wechat, query), 0);
}

#[test]
fn a_chain_of_digests() {
    let vungle = recipe("vungle", "k1");
    let query = "user=u1&txid=tx-1\
        &digest=f9437a7a63dde63c84b3b38f834d72e63fb4ed056cf9e06d0821c782c6041000";
    assert_eq!(get(&vungle, query), 0);
}

#[test]
fn an_hmac_over_a_body_with_a_list_in_a_header() {
    let webhooks = recipe("standard-webhooks", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", "v1,AAAA v9,xyz v1,pYjfw3d2PICjH6LR3QijjO0EGx7vXGA55FhtjVYQiMk="),
    ] {
        headers.insert(name, value.parse().expect("a header value"));
    }
    let request = Request {
        method: &Method::POST,
        target: b"/callback/x",
        base: "",
        headers: &headers,
        body: br#"{"type":"reward.granted","data":{"user":"u1"}}"#,
    };
    // The members of the body are read after the signature held, for the roles.
    assert_eq!(allocations(&webhooks, request), 0);
}
