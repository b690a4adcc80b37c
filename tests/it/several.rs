//! Several events in one callback: all of them or none, each once, one answer.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::{Value, json};
use sha2::Sha256;

use super::backend::{Backend, Got};
use super::deliver::game;
use super::gateway::{Gateway, eventually};
use super::wire::{Answer, get, post, send};

const SECRET: &str = "a channel secret of the tests";

/// Sources of LINE and Adyen, delivered to `game`.
fn text(backend: &Backend, rest: &str, line_secret: &str) -> String {
    let game = game(backend.at);
    format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [[source]]\nname = \"line\"\nsender = \"line\"\nsecrets = \"{line_secret}\"\n\
         destinations = [\"game\"]\n{rest}\
         [[source]]\nname = \"adyen\"\nsender = \"adyen\"\nsecrets = \"{KEY}\"\nmerchant_accounts = \"m\"\n\
         destinations = [\"game\"]\n\
         [[destination]]\nname = \"game\"\n{game}"
    )
}

fn event(id: &str) -> Value {
    json!({ "type": "message", "webhookEventId": id, "source": { "userId": format!("user of {id}") } })
}

fn line(gateway: &Gateway, events: &[Value]) -> Answer {
    let body = json!({ "destination": "U0", "events": events }).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let sign = STANDARD.encode(mac.finalize().into_bytes());
    let fields = [("content-type", "application/json"), ("x-line-signature", &*sign)];
    send(gateway.at.callbacks, "POST /callback/line", &fields, &body)
}

fn transactions(got: &[Got]) -> Vec<String> {
    got.iter().map(|got| got.json()["transaction"].as_str().unwrap().to_owned()).collect()
}

fn recorded(gateway: &Gateway) -> usize {
    let events = get(gateway.at.admin, "/admin/v1/events").json();
    events["events"].as_array().unwrap().len()
}

#[test]
fn each_element_is_an_event_and_what_is_known_of_a_list_is_a_duplicate() {
    let backend = Backend::start();
    let gateway = Gateway::start(&text(&backend, "", SECRET));
    assert_eq!(line(&gateway, &[event("a"), event("b")]).status, 200);
    let got = backend.await_count(2);
    assert_eq!(transactions(&got).into_iter().collect::<BTreeSet<_>>().len(), 2);
    let first = got.iter().find(|got| got.json()["transaction"] == "a").unwrap().json();
    assert_eq!(first["user"], "user of a");
    assert_eq!(first["authenticated"], json!(["transaction", "user", "item"]));
    assert_eq!(first["params"]["events"], json!([event("a")]), "it has its own element alone");

    // Repeated with one more, in another order and beside a repetition within the call.
    assert_eq!(line(&gateway, &[event("c"), event("b"), event("a"), event("c")]).status, 200);
    assert_eq!(transactions(&backend.await_count(3))[2], "c");
    assert_eq!(line(&gateway, &[event("c"), event("a")]).status, 200);
    assert_eq!(recorded(&gateway), 3);
    assert_eq!(backend.got().len(), 3);
    let outcomes = |outcome: &str| {
        gateway.metric(&format!("postern_callbacks_total{{outcome=\"{outcome}\",source=\"line\"}}"))
    };
    assert_eq!((outcomes("accepted"), outcomes("duplicate")), (3.0, 5.0));
    // One event, and a test of the console.
    assert_eq!(line(&gateway, &[event("d")]).status, 200);
    assert_eq!(line(&gateway, &[]).status, 200);
    assert_eq!(recorded(&gateway), 4);
}

#[test]
fn all_of_them_or_none() {
    let backend = Backend::start();
    let gateway = Gateway::start(&text(&backend, "", SECRET));
    // One lacks its id, one is not an object, and there are too many.
    let nameless = json!({ "type": "message", "source": { "userId": "u" } });
    assert_eq!(line(&gateway, &[event("a"), nameless]).status, 401);
    assert_eq!(line(&gateway, &[event("a"), json!(7)]).status, 401);
    let many: Vec<Value> = (0..101).map(|n| event(&n.to_string())).collect();
    assert_eq!(line(&gateway, &many).status, 413);
    assert_eq!(recorded(&gateway), 0);
    assert_eq!(line(&gateway, &many[..100]).status, 200);
    backend.await_count(100);
    // Another transaction under the same id disputes it, and the new one beside it is recorded.
    let mut other = event("1");
    other["source"]["userId"] = json!("another");
    assert_eq!(line(&gateway, &[event("new"), other]).status, 200);
    eventually("held", || {
        get(gateway.at.admin, "/admin/v1/held").json()["held"].as_array().unwrap().len() == 1
    });
    assert_eq!(transactions(&backend.await_count(101))[100], "new");
}

const KEY: &str = "DFB1EB5485895CFA84146406857104ABB4CBCABDC8AAF103A624C8F6A3EAAB00";

fn item(id: &str, amount: u64, signed_amount: u64) -> Value {
    let key = const_hex::decode(KEY).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}::m:o:{signed_amount}:EUR:AUTHORISATION:true").as_bytes());
    let sign = STANDARD.encode(mac.finalize().into_bytes());
    json!({ "NotificationRequestItem": {
        "pspReference": id, "merchantAccountCode": "m", "merchantReference": "o",
        "amount": { "value": amount, "currency": "EUR" }, "eventCode": "AUTHORISATION",
        "success": "true", "additionalData": { "hmacSignature": sign } } })
}

#[test]
fn where_each_element_is_signed_each_is_verified() {
    let backend = Backend::start();
    let gateway = Gateway::start(&text(&backend, "", SECRET));
    let call = |items: &[Value]| {
        let body = json!({ "live": "true", "notificationItems": items }).to_string();
        let fields = [("content-type", "application/json")];
        send(gateway.at.callbacks, "POST /callback/adyen", &fields, &body)
    };
    let forged = item("p2", 9_999, 1);
    assert_eq!(call(&[item("p1", 10, 10), forged.clone()]).status, 401);
    assert_eq!(call(&[forged, item("p1", 10, 10)]).status, 401);
    assert_eq!(recorded(&gateway), 0);
    assert_eq!(call(&[item("p0", 5, 5)]).status, 200);
    let alone = backend.await_count(1)[0].json()["authenticated"].clone();
    assert_eq!(call(&[item("p1", 10, 10), item("p2", 20, 20)]).status, 200);
    let mut amounts: Vec<Value> =
        backend.await_count(3)[1..].iter().map(|got| got.json()["amount"].clone()).collect();
    amounts.sort_by_key(ToString::to_string);
    assert_eq!(amounts, [json!("10"), json!("20")]);
    let all = backend.got();
    assert!(all.iter().all(|got| got.json()["authenticated"] == alone), "{alone}");
}

#[test]
fn an_operator_grants_a_list_whole() {
    let backend = Backend::start();
    let quarantine = "quarantine = { reasons = \"all\", max = \"1MiB\" }\n";
    let gateway = Gateway::start(&text(&backend, quarantine, "another secret"));
    let admin = gateway.at.admin;
    assert_eq!(line(&gateway, &[event("a"), event("b"), event("c")]).status, 401);
    let held = get(admin, "/admin/v1/held").json();
    let path = format!("/admin/v1/held/{}/release", held["held"][0]["id"].as_str().unwrap());
    let granted = post(admin, &path, r#"{"reason":"the platform confirms them"}"#);
    assert_eq!((granted.status, &granted.json()["decision"]), (200, &json!("released")));
    let got = backend.await_count(3);
    let all: BTreeSet<String> = transactions(&got).into_iter().collect();
    assert!(all.iter().eq(["a", "b", "c"]), "{all:?}");
    for got in &got {
        let event = got.json();
        assert_eq!((&event["released"], &event["authenticated"]), (&json!(true), &json!([])));
    }
    // Again: nothing of it is new.
    assert_eq!(post(admin, &path, r#"{"reason":"again"}"#).json(), granted.json());
    assert_eq!((recorded(&gateway), backend.got().len()), (3, 3));
}

#[test]
fn a_list_in_quarantine_is_released_whole() {
    let backend = Backend::start();
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let quarantine = "quarantine = { reasons = \"all\", max = \"1MiB\" }\n";
    let gateway = Gateway::over(&text(&backend, quarantine, "another secret"), open());
    assert_eq!(line(&gateway, &[event("a"), event("b")]).status, 401);
    gateway.stop();

    let gateway = Gateway::over(&text(&backend, quarantine, SECRET), open());
    assert_eq!(line(&gateway, &[event("b")]).status, 200);
    backend.await_count(1);
    let order = json!({ "source": "line" }).to_string();
    for (released, duplicates) in [(1, 0), (0, 0)] {
        let begun = post(gateway.at.admin, "/admin/v1/release", &order).json();
        let path = format!("/admin/v1/release/{}", begun["id"].as_str().unwrap());
        let mut now = begun;
        eventually("the release has ended", || {
            now = get(gateway.at.admin, &path).json();
            now["state"] == "done"
        });
        assert_eq!((&now["released"], &now["duplicates"]), (&json!(released), &json!(duplicates)));
    }
    assert_eq!(transactions(&backend.await_count(2)), ["b", "a"]);
    assert_eq!(backend.got()[1].json()["released"], json!(true));
    assert_eq!(recorded(&gateway), 2);
}
