//! Sources and destinations over the admin API: active at once, versioned, audited, kept.

use std::net::SocketAddr;

use postern::ledger::{Embedded, EmbeddedOptions, Memory, StoreClock};
use serde_json::{Value, json};

use super::backend::{Backend, status};
use super::gateway::{
    Gateway, PLAIN, TAKU_SECRET, await_lines, eventually, logged, taku, taku_for,
};
use super::wire::{Answer, get, send};

const ALLOW: &str = "\n[egress]\nallow = [\"127.0.0.0/8\"]\n";

fn put(to: SocketAddr, what: &str, body: &Value) -> Answer {
    send(to, &format!("PUT /admin/v1/{what}"), &[], &body.to_string())
}

fn put_if(to: SocketAddr, what: &str, tag: &str, body: &Value) -> Answer {
    send(to, &format!("PUT /admin/v1/{what}"), &[("If-Match", tag)], &body.to_string())
}

fn delete(to: SocketAddr, what: &str) -> Answer {
    send(to, &format!("DELETE /admin/v1/{what}"), &[], "")
}

fn show(to: SocketAddr, what: &str) -> Answer {
    get(to, &format!("/admin/v1/{what}"))
}

fn source() -> Value {
    json!({ "sender": "taku", "secrets": [TAKU_SECRET], "replayable": true, "destinations": ["shop"] })
}

/// A correctly signed Taku callback to another source than `level-end`.
fn taku_to(source: &str, transaction: &str) -> String {
    taku(transaction).replace("/callback/level-end", &format!("/callback/{source}"))
}

fn with_shop(backend: &Backend) -> Gateway {
    let gateway = Gateway::start(&format!("{PLAIN}{ALLOW}"));
    let url = format!("http://{}/rewards", backend.at);
    assert_eq!(put(gateway.at.admin, "destinations/shop", &json!({ "url": url })).status, 201);
    gateway
}

#[test]
fn what_is_made_over_the_api_is_in_force_when_it_is_answered() {
    let backend = Backend::start();
    let gateway = with_shop(&backend);
    let admin = gateway.at.admin;
    assert_eq!(get(gateway.at.callbacks, &taku_to("bonus", "t1")).status, 404);
    let made = put(admin, "sources/bonus", &source());
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.field("location").as_deref(), Some("/admin/v1/sources/bonus"));
    assert_eq!(get(gateway.at.callbacks, &taku_to("bonus", "t1")).status, 200);
    assert_eq!(backend.await_count(1)[0].json()["source"], "bonus");

    let shown = show(admin, "sources/bonus").json();
    assert_eq!(shown["sender"], "taku");
    assert_eq!(shown["origin"], "api");
    assert_eq!(shown["path"], "/callback/bonus");
    assert_eq!(shown["secrets"], json!([{ "id": "1", "value": "***" }]));
    assert_eq!(shown["changed_by"], "local");
    let all = show(admin, "sources").json();
    let names: Vec<&str> =
        all["sources"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["bonus", "level-end"]);

    // Disabled and enabled again: shown, changed, sent back, its secret staying what it was.
    let mut off = shown;
    off["enabled"] = json!(false);
    assert_eq!(put(admin, "sources/bonus", &off).status, 200);
    assert_eq!(get(gateway.at.callbacks, &taku_to("bonus", "t2")).status, 602);
    off["enabled"] = json!(true);
    assert_eq!(put(admin, "sources/bonus", &off).status, 200);
    assert_eq!(get(gateway.at.callbacks, &taku_to("bonus", "t2")).status, 200);
    assert_eq!(delete(admin, "sources/bonus").status, 204);
    assert_eq!(get(gateway.at.callbacks, &taku_to("bonus", "t3")).status, 404);
    assert_eq!(show(admin, "sources/bonus").status, 404);
    assert_eq!(delete(admin, "sources/bonus").status, 404);
}

#[test]
fn all_masked_keys_that_stand_for_nothing_are_named_at_once() {
    let gateway = Gateway::start(&format!("{PLAIN}{ALLOW}"));
    let masked =
        json!({ "url": "https://a.example/", "secret": "***", "headers": { "X-A": "***" } });
    let refused = put(gateway.at.admin, "destinations/copied", &masked);
    assert_eq!(refused.status, 422, "{}", refused.body);
    let refused = refused.json();
    let errors = refused["errors"].as_array().unwrap().iter();
    let mut keys: Vec<&str> = errors.map(|error| error["key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["headers", "secret"], "{refused}");
}

#[test]
fn a_removed_destination_that_has_deliveries_left_is_in_the_log_once() {
    let backend = Backend::start();
    backend.says(status(503));
    let gateway = Gateway::start(&format!("{PLAIN}{ALLOW}"));
    let admin = gateway.at.admin;
    let url = format!("http://{}/rewards", backend.at);
    for name in ["left-over", "unused"] {
        let made = put(admin, &format!("destinations/{name}"), &json!({ "url": url }));
        assert_eq!(made.status, 201, "{}", made.body);
    }
    let mut bonus = source();
    bonus["destinations"] = json!(["left-over"]);
    assert_eq!(put(admin, "sources/bonus", &bonus).status, 201);
    assert_eq!(get(gateway.at.callbacks, &taku_to("bonus", "l1")).status, 200);
    backend.await_count(1);
    bonus["destinations"] = json!([]);
    assert_eq!(put(admin, "sources/bonus", &bonus).status, 200);
    assert_eq!(delete(admin, "destinations/left-over").status, 204);
    let warnings = |name: &str| -> Vec<Value> {
        let name = format!("\"destination\":\"{name}\"");
        let is_one = |line: &&str| line.contains(&name) && line.contains("and none is sent");
        logged().lines().filter(is_one).map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    eventually("the warning", || !warnings("left-over").is_empty());
    assert_eq!(warnings("left-over")[0]["pending"], 1);
    // Another change does not repeat it, and a destination without deliveries has none.
    assert_eq!(delete(admin, "destinations/unused").status, 204);
    assert_eq!(delete(admin, "sources/bonus").status, 204);
    assert_eq!((warnings("left-over").len(), warnings("unused").len()), (1, 0));
}

#[test]
fn a_version_that_is_not_the_newest_changes_nothing() {
    let gateway = with_shop(&Backend::start());
    let admin = gateway.at.admin;
    let first = put(admin, "sources/bonus", &source()).field("etag").unwrap();
    let mut other = source();
    other["rate"] = json!("5/s");
    let second = put_if(admin, "sources/bonus", &first, &other);
    assert_eq!(second.status, 200, "{}", second.body);
    let late = put_if(admin, "sources/bonus", &first, &source());
    assert_eq!(late.status, 412);
    assert!(late.head.contains("application/problem+json"));
    assert_eq!(show(admin, "sources/bonus").json()["rate"], "5/s");
    let anew = send(
        admin,
        "PUT /admin/v1/sources/bonus",
        &[("If-None-Match", "*")],
        &source().to_string(),
    );
    assert_eq!(anew.status, 412);
    let gone = send(admin, "DELETE /admin/v1/sources/bonus", &[("If-Match", &first)], "");
    assert_eq!(gone.status, 412);
    assert_eq!(put_if(admin, "sources/none", "*", &source()).status, 412);
}

#[test]
fn of_many_writers_with_one_version_one_gets_through_each_time() {
    let gateway = with_shop(&Backend::start());
    let admin = gateway.at.admin;
    put(admin, "sources/bonus", &source());
    let threads: Vec<_> = (0..4)
        .map(|writer| {
            std::thread::spawn(move || {
                let mut done = 0;
                while done < 5 {
                    let shown = show(admin, "sources/bonus");
                    let mut next = shown.json();
                    let count =
                        next["rewards"]["n"].as_str().unwrap_or("0").parse::<u32>().unwrap();
                    next["rewards"] =
                        json!({ "n": (count + 1).to_string(), "by": writer.to_string() });
                    let put = put_if(admin, "sources/bonus", &shown.field("etag").unwrap(), &next);
                    match put.status {
                        200 => done += 1,
                        412 => {}
                        status => panic!("{status}: {}", put.body),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(show(admin, "sources/bonus").json()["rewards"]["n"], "20");
}

#[test]
fn what_the_file_says_is_shown_and_stays() {
    let gateway = Gateway::start(PLAIN);
    let admin = gateway.at.admin;
    let shown = show(admin, "sources/level-end").json();
    assert_eq!((&shown["origin"], &shown["version"]), (&json!("file"), &Value::Null));
    assert_eq!(shown["secrets"], "***");
    assert_eq!(put(admin, "sources/level-end", &source()).status, 409);
    assert_eq!(delete(admin, "sources/level-end").status, 409);
}

#[test]
fn every_mistake_is_told_at_once_and_nothing_is_read_for_whoever_is_elsewhere() {
    let gateway = Gateway::start(PLAIN);
    let admin = gateway.at.admin;
    let wrong = put(
        admin,
        "sources/bonus",
        &json!({ "sender": "taku", "secrets": "env:HOME", "destinations": ["absent"], "rat": "5/s", "sids": ["1"] }),
    );
    assert_eq!(wrong.status, 422);
    let errors = wrong.json()["errors"].clone();
    let keys: Vec<&str> =
        errors.as_array().unwrap().iter().map(|e| e["key"].as_str().unwrap()).collect();
    for key in ["secrets[0].value", "destinations[0]", "rat", "sids"] {
        assert!(keys.contains(&key), "{key} in {errors}");
    }
    let home = std::env::var("HOME").unwrap();
    assert!(!wrong.body.contains(&home));
    for (what, body) in [
        ("destinations/x", json!({ "url": "http://169.254.169.254/" })),
        ("destinations/x", json!({ "url": "http://127.0.0.1:1/" })),
        ("destinations/x", json!({ "url": "http://a.example/" })),
        (
            "destinations/x",
            json!({ "url": "https://a.example/", "headers": { "X-A": "file:/etc/passwd" } }),
        ),
        ("destinations/x", json!({ "url": "https://a.example/", "ca": "/etc/ssl/cert.pem" })),
        ("destinations/x", json!({ "url": 5 })),
        ("destinations/reward%2F1", json!({ "url": "https://a.example/" })),
        ("sources/reward/1", source()),
        ("sources/..", source()),
        ("sources/x", json!({ "sender": "taku", "secrets": [{ "id": "1", "value": "***" }] })),
        ("sources/x", json!({ "name": "y", "sender": "taku", "secrets": "s" })),
        ("sources/x", json!({ "sender": "taku", "secrets": "s", "id": "level-end" })),
        ("sources/x", json!({})),
    ] {
        let answer = put(admin, what, &body);
        assert_eq!(answer.status, 422, "{what} {body}: {}", answer.body);
    }
    for body in ["", "[]", "{", "\u{0}"] {
        assert_eq!(send(admin, "PUT /admin/v1/sources/x", &[], body).status, 400, "{body:?}");
    }
    assert_eq!(send(admin, "PATCH /admin/v1/sources/x", &[], "{}").status, 405);
}

#[test]
fn a_destination_in_use_stays_and_is_changed_in_place() {
    let (first, second) = (Backend::start(), Backend::start());
    let gateway = with_shop(&first);
    let admin = gateway.at.admin;
    put(admin, "sources/bonus", &source());
    let used = delete(admin, "destinations/shop");
    assert_eq!(used.status, 409);
    assert!(used.body.contains("bonus"), "{}", used.body);
    get(gateway.at.callbacks, &taku_to("bonus", "a1"));
    first.await_count(1);
    let moved =
        put(admin, "destinations/shop", &json!({ "url": format!("http://{}/new", second.at) }));
    assert_eq!(moved.status, 200);
    get(gateway.at.callbacks, &taku_to("bonus", "a2"));
    assert_eq!(second.await_count(1)[0].line, "POST /new HTTP/1.1");
    assert_eq!(
        put(admin, "destinations/shop", &json!({ "name": "b", "url": "https://b.example/" }))
            .status,
        422
    );
    delete(admin, "sources/bonus");
    assert_eq!(delete(admin, "destinations/shop").status, 204);
}

#[test]
fn a_source_that_is_renamed_forgets_nothing() {
    let backend = Backend::start();
    let gateway = with_shop(&backend);
    let admin = gateway.at.admin;
    put(admin, "sources/bonus", &source());
    get(gateway.at.callbacks, &taku_to("bonus", "r1"));
    backend.await_count(1);
    let mut renamed = show(admin, "sources/bonus").json();
    renamed["name"] = json!("gift");
    let answer = put(admin, "sources/bonus", &renamed);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.field("location").as_deref(), Some("/admin/v1/sources/gift"));
    assert_eq!(get(gateway.at.callbacks, &taku_to("bonus", "r1")).status, 404);
    assert_eq!(get(gateway.at.callbacks, &taku_to("gift", "r1")).status, 200);
    gateway.await_metric("postern_callbacks_total{outcome=\"duplicate\",source=\"gift\"}", 1.0);
    renamed["name"] = json!("level-end");
    assert_eq!(put(admin, "sources/gift", &renamed).status, 409);
}

#[test]
fn a_reload_that_takes_a_name_in_use_is_refused() {
    let gateway = with_shop(&Backend::start());
    let admin = gateway.at.admin;
    put(admin, "sources/bonus-refused", &source());
    let taken = PLAIN.replace("level-end", "bonus-refused");
    gateway.reload(&format!("{taken}{ALLOW}"));
    await_lines("bonus-refused is in the file and was made over an API", 1);
    assert_eq!(show(admin, "sources/bonus-refused").json()["origin"], "api");
    assert_eq!(get(gateway.at.callbacks, &taku("kept")).status, 200, "the old file stays active");
    // Another file is applied, and objects made over the API still exist.
    gateway.reload(&format!("{PLAIN}{ALLOW}").replace("level-end", "level-up"));
    eventually("the new file is applied", || {
        get(gateway.at.callbacks, &taku("gone")).status == 404
    });
    assert_eq!(show(admin, "sources/bonus-refused").status, 200);
}

#[test]
fn changes_are_audited_under_the_name_of_the_token() {
    let tokens = "[admin]\ntoken = [{ name = \"ops\", value = \"ops-token-0123456789\" }, \
                  { name = \"wall\", value = \"wall-token-0123456789\", right = \"read\" }]\n";
    let gateway = Gateway::start(&format!("{PLAIN}{tokens}"));
    let admin = gateway.at.admin;
    let with = |token: &str, line: &str, body: &str| {
        send(admin, line, &[("Authorization", &format!("Bearer {token}-token-0123456789"))], body)
    };
    let mut secret = source();
    secret["destinations"] = json!([]);
    assert_eq!(with("wall", "PUT /admin/v1/sources/bonus", &secret.to_string()).status, 403);
    assert_eq!(with("wall", "GET /admin/v1/sources/bonus", "").status, 404);
    assert_eq!(with("ops", "PUT /admin/v1/sources/bonus", &secret.to_string()).status, 201);
    secret["secrets"] = json!(["another-secret-value"]);
    assert_eq!(with("ops", "PUT /admin/v1/sources/bonus", &secret.to_string()).status, 200);
    assert_eq!(with("ops", "DELETE /admin/v1/sources/bonus", "").status, 204);
    let page = with("wall", "GET /admin/v1/audit?limit=2", "");
    assert!(!page.body.contains(TAKU_SECRET) && !page.body.contains("another-secret"));
    let page = page.json();
    let entries = page["audit"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(
        (&entries[0]["action"], &entries[1]["action"]),
        (&json!("deleted"), &json!("changed"))
    );
    assert_eq!((&entries[0]["who"], &entries[0]["name"]), (&json!("token ops"), &json!("bonus")));
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = with("wall", &format!("GET /admin/v1/audit?cursor={cursor}"), "").json();
    assert_eq!(rest["audit"][0]["action"], "created");
    assert_eq!(rest["audit"][0]["changes"]["sender"], json!([null, "taku"]));
    assert_eq!(rest["next_cursor"], Value::Null);
}

#[test]
fn what_was_made_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let gateway = Gateway::over(PLAIN, open());
    let mut secret = source();
    secret["destinations"] = json!([]);
    let made = put(gateway.at.admin, "sources/bonus", &secret).field("etag");
    gateway.stop();
    let gateway = Gateway::over(PLAIN, open());
    assert_eq!(show(gateway.at.admin, "sources/bonus").field("etag"), made);
    assert_eq!(get(gateway.at.callbacks, &taku_to("bonus", "k1")).status, 200);
    gateway.stop();
    // A file that takes the name meanwhile has it; what was made over the API is left out.
    let taken = PLAIN.replace("level-end", "bonus");
    let gateway = Gateway::over(&taken, open());
    assert_eq!(show(gateway.at.admin, "sources/bonus").json()["origin"], "file");
}

#[test]
fn another_gateway_on_the_same_ledger_hears_of_it() {
    let ledger = Memory::new(StoreClock::process());
    let (one, other) = (Gateway::over(PLAIN, ledger.clone()), Gateway::over(PLAIN, ledger));
    let mut made = source();
    made["destinations"] = json!([]);
    assert_eq!(put(one.at.admin, "sources/bonus", &made).status, 201);
    eventually("the other gateway takes its callbacks", || {
        get(other.at.callbacks, &taku_to("bonus", "g1")).status == 200
    });
    // Changes on both: neither is lost, and each sees the other's.
    assert_eq!(put(other.at.admin, "sources/gift", &made).status, 201);
    assert_eq!(put(one.at.admin, "sources/gift", &made).status, 200);
    assert_eq!(delete(one.at.admin, "sources/bonus").status, 204);
    eventually("the source is gone", || {
        get(other.at.callbacks, &taku_for("u", "g2", "1").replace("level-end", "bonus")).status
            == 404
    });
}
