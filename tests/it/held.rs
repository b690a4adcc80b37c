//! Callbacks that dispute an event: held, acknowledged, decided by a person.

use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::json;

use super::backend::{Backend, body, ok};
use super::deliver::{game, with};
use super::gateway::{Gateway, PLAIN, await_lines, eventually, taku, taku_for};
use super::wire::{get, post};

fn held(gateway: &Gateway) -> Vec<serde_json::Value> {
    let page = get(gateway.at.admin, "/admin/v1/held").json();
    assert_eq!(page["next_cursor"], serde_json::Value::Null);
    page["held"].as_array().unwrap().clone()
}

fn decide(gateway: &Gateway, id: &str, what: &str, body: &str) -> (u16, serde_json::Value) {
    let answer = post(gateway.at.admin, &format!("/admin/v1/held/{id}/{what}"), body);
    (answer.status, answer.json())
}

fn waiting(gateway: &Gateway) -> f64 {
    gateway.metric("postern_held_callbacks{source=\"level-end\"}")
}

#[test]
fn a_conflict_is_acknowledged_and_delivered_once_a_person_releases_it() {
    let backend = Backend::saying([ok(), ok(), ok()]);
    let folder = tempfile::tempdir().unwrap();
    let text = with(&[("game", game(backend.at))]);
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let gateway = Gateway::over(&text, open());
    let to = gateway.at.callbacks;
    assert_eq!(get(to, &taku_for("u1", "held-1", "10")).status, 200);
    backend.await_count(1);
    // The provider signed another amount under the same transaction: twice, and it is held once.
    for _ in 0..2 {
        assert_eq!(get(to, &taku_for("u2", "held-1", "70")).status, 200);
    }
    let listed = held(&gateway);
    assert_eq!(listed.len(), 1);
    let one = &listed[0];
    assert_eq!((&one["why"], &one["source"]), (&"conflict".into(), &"level-end".into()));
    assert_eq!((&one["transaction"], &one["user"]), (&"held-1".into(), &"u2".into()));
    assert_eq!(
        (&one["roles"]["amount"], &one["first_roles"]["amount"]),
        (&"70".into(), &"10".into())
    );
    assert_eq!(one["first_roles"]["user"], "u1");
    let id = one["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("ref_") && id.len() == 36, "{id}");
    let events = get(gateway.at.admin, "/admin/v1/events").json();
    assert_eq!(events["events"].as_array().unwrap().len(), 1);
    assert_eq!(events["events"][0]["id"], one["first"]);
    assert_eq!((waiting(&gateway), gateway.outcomes("conflict")), (1.0, 2.0));
    let line = await_lines(&id, 1).remove(0);
    for said in ["u1", "u2", "10", "70"] {
        assert!(line.contains(said), "{line}");
    }
    // Neither a restart nor a guess changes anything.
    gateway.stop();
    let gateway = Gateway::over(&text, open());
    assert_eq!(decide(&gateway, "ref_0", "release", "").0, 404);
    assert_eq!(decide(&gateway, &id.replace("ref_0", "ref_1"), "drop", "").0, 404);
    assert_eq!(decide(&gateway, &id, "release", "{\"why\":1}").0, 400);
    let (status, done) = decide(&gateway, &id, "release", "{\"reason\":\"confirmed\"}");
    assert_eq!((status, &done["decision"]), (200, &"released".into()), "{done}");
    // Who missed the answer asks again; who decides otherwise is too late.
    assert_eq!(decide(&gateway, &id, "release", ""), (200, done.clone()));
    assert_eq!(decide(&gateway, &id, "drop", "").0, 409);
    let got = backend.await_count(2);
    let event = got[1].json();
    assert_eq!((&event["id"], &event["user"]), (&done["event"], &"u2".into()));
    assert_eq!((&event["amount"], &event["released"]), (&"70".into(), &true.into()));
    assert!(got[0].json().get("released").is_none());
    assert_eq!(event["received_at"], one["received_at"]);
    // The callback stays known, and nothing waits.
    let to = gateway.at.callbacks;
    assert_eq!(get(to, &taku_for("u2", "held-1", "70")).status, 200);
    assert_eq!((held(&gateway).len(), waiting(&gateway)), (0, 0.0));
    let audit = get(gateway.at.admin, "/admin/v1/audit").json();
    let entry = &audit["audit"][0];
    assert_eq!((&entry["action"], &entry["name"]), (&"released".into(), &id.clone().into()));
    assert_eq!(
        entry["changes"],
        json!({
            "reason": [null, "confirmed"], "why": [null, "conflict"],
            "source": [null, "level-end"], "transaction": [null, "held-1"], "user": [null, "u2"],
        })
    );
    assert_eq!(backend.got().len(), 2);
}

#[test]
fn more_variants_than_a_person_can_decide_are_not_acknowledged() {
    let text = PLAIN.replace("secrets =", "reply = { unavailable = { status = 503 } }\nsecrets =");
    let gateway = Gateway::start(&text);
    let to = gateway.at.callbacks;
    assert_eq!(get(to, &taku_for("u1", "many", "1")).status, 200);
    let statuses: Vec<u16> =
        (2..=11).map(|n| get(to, &taku_for("u1", "many", &n.to_string())).status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 200, 503, 503]);
    // Held callbacks stay acknowledged, and a decision makes no room for more.
    assert_eq!(get(to, &taku_for("u1", "many", "2")).status, 200);
    let id = held(&gateway)[0]["id"].as_str().unwrap().to_owned();
    let (status, done) = decide(&gateway, &id, "drop", "");
    assert_eq!((status, &done["decision"]), (200, &"dropped".into()));
    assert_eq!(get(to, &taku_for("u1", "many", "10")).status, 503);
    assert_eq!((held(&gateway).len(), gateway.outcomes("accepted")), (7, 1.0));
}

#[test]
fn who_waits_for_a_verdict_is_told_what_stands_for_a_late_one() {
    let backend = Backend::saying([body(r#"{"isValid":true}"#)]);
    let game = game(backend.at) + "mode = \"inline\"\nlate = \"rejected\"\n";
    let gateway = Gateway::start(&with(&[("game", game)]));
    let to = gateway.at.callbacks;
    assert_eq!(get(to, &taku_for("u1", "late", "1")).status, 200);
    assert_eq!(get(to, &taku_for("u1", "late", "2")).status, 602, "Taku's word for a refusal");
    assert_eq!((held(&gateway).len(), backend.got().len()), (1, 1));
}

#[test]
fn repetitions_use_up_neither_the_rate_nor_the_log() {
    let text = PLAIN.replace(
        "secrets =",
        "rate = \"5/m\"\nreply = { unavailable = { status = 503 } }\nsecrets =",
    );
    let gateway = Gateway::start(&text);
    let to = gateway.at.callbacks;
    for _ in 0..100 {
        assert_eq!(get(to, &taku("captured-once")).status, 200);
    }
    let new = |n: u32| get(to, &taku(&format!("rate-{n}"))).status;
    assert_eq!((0..5).map(new).collect::<Vec<_>>(), [200, 200, 200, 200, 503]);
    eventually("they are counted", || gateway.outcomes("duplicate") == 99.0);
    let lines = await_lines("captured-once", 1).len();
    assert!(lines <= 25, "{lines}");
}
