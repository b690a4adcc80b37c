//! Callbacks without an event, from the command line: held ones are shown and decided, and a search
//! that finds no event names them.

use serde_json::{Value, json};

use super::backend::{Backend, ok, status};
use super::commands::{Commands, Ran};
use super::deliver::{call, condition, game, outcomes, tries, with};
use super::gateway::{Gateway, PLAIN, eventually, taku_for};
use super::openapi::check;
use super::wire::{get, post};

/// The lines of a list in JSON.
fn listed(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_held_callback_is_found_shown_and_decided() {
    let backend = Backend::saying([ok(), ok()]);
    let gateway = Gateway::start(&with(&[("game", game(backend.at))]));
    let commands = Commands::beside(&gateway);
    let to = gateway.at.callbacks;
    assert_eq!(get(to, &taku_for("u1", "h1", "10")).status, 200);
    backend.await_count(1);
    for amount in ["70", "80"] {
        assert_eq!(get(to, &taku_for("u2", "h1", amount)).status, 200);
    }

    let lost = commands.run(&["events", "--user", "u2"]);
    assert_eq!((lost.code, lost.out.as_str()), (Some(0), ""));
    assert_eq!(
        lost.err,
        "nothing matches\n2 held callbacks claim this user: postern held --user u2\n"
    );
    let rejected = commands.run(&["events", "--rejected", "--transaction", "h1"]).err;
    assert!(rejected.ends_with("postern held --transaction h1\n"), "{rejected}");

    let rows = listed(&commands.done(&["held", "--transaction", "h1", "--json"]));
    let by = |amount: &str| rows.iter().find(|row| row["roles"]["amount"] == amount).unwrap();
    let (first, second) = (by("70"), by("80"));
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    let table = commands.done(&["held", "--why", "conflict", "--since", "1h"]);
    assert!(table.contains(&id(first)) && table.contains("received_at"), "{table}");
    for none in [&["--user", "u1"][..], &["--why", "quarantine"], &["--until", "2020-01-02"]] {
        let Ran { code, out, err } = commands.run(&[&["held"][..], none].concat());
        let expected = (Some(0), "", "no held callback matches\n");
        assert_eq!((code, out.as_str(), err.as_str()), expected, "{none:?}");
    }
    let shown = commands.done(&["held", &id(second)]);
    let line = |words: [&str; 3]| shown.lines().any(|line| line.split_whitespace().eq(words));
    assert!(line(["amount", "80", "10"]) && line(["user", "u2", "u1"]), "{shown}");

    let released = commands.done(&["held", "release", &id(second), "--reason", "confirmed"]);
    assert!(released.starts_with(&format!("released: {}, event evt_", id(second))), "{released}");
    assert_eq!(backend.await_count(2)[1].json()["amount"], "80");
    let dropped = commands.done(&["held", "drop", &id(first)]);
    assert_eq!(dropped, format!("dropped: {}\n", id(first)));
    let late = commands.run(&["held", "drop", &id(second)]);
    assert_eq!(late.code, Some(1));
    assert!(late.err.contains("decided already: it was released"), "{}", late.err);
    let decided = commands.done(&["held", &id(first), "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&decided).unwrap()["decision"], "dropped");
    // What was dropped can be traced.
    let entry = &listed(&commands.done(&["audit", "--json", "--limit", "1"]))[0];
    assert_eq!((&entry["action"], &entry["name"]), (&json!("dropped"), &first["id"]));
    assert_eq!(entry["changes"]["transaction"], json!([null, "h1"]));
}

#[test]
fn a_held_callback_is_as_the_document_says() {
    let gateway = Gateway::start(PLAIN);
    let (to, admin) = (gateway.at.callbacks, gateway.at.admin);
    for amount in ["10", "70"] {
        assert_eq!(get(to, &taku_for("u1", "d1", amount)).status, 200);
    }
    let document = get(admin, "/admin/v1/openapi.json").json();
    let row = get(admin, "/admin/v1/held?transaction=d1&user=u1").json()["held"][0].clone();
    let path = format!("/admin/v1/held/{}", row["id"].as_str().unwrap());
    let one = get(admin, &path);
    assert_eq!((one.status, one.json()), (200, row));
    check(&document, &document["components"]["schemas"]["Held"], &one.json(), "held");
    assert_eq!(post(admin, &format!("{path}/drop"), "").status, 200);
    let decided = get(admin, &path).json();
    check(&document, &document["components"]["schemas"]["HeldDecision"], &decided, "decided");
    assert_eq!(get(admin, "/admin/v1/held/ref_1").status, 404);
    assert_eq!(get(admin, "/admin/v1/held?since=yesterday").status, 400);
}

#[test]
fn a_rejected_callback_is_named_where_no_event_has_its_user() {
    let gateway = Gateway::start(&with(&[("game", tries(Backend::start().at, 1))]));
    let commands = Commands::beside(&gateway);
    let forged = taku_for("u77", "f1", "10").replace("coin", "gold");
    assert_eq!(get(gateway.at.callbacks, &forged).status, 601);
    let found = commands.run(&["events", "--user", "u77"]);
    assert_eq!(found.code, Some(0), "{}", found.err);
    assert_eq!(
        found.err,
        "nothing matches\n1 rejected callback claims this user: postern events --rejected --user \
         u77\n"
    );
    let row = &listed(&commands.done(&["events", "--rejected", "--user", "u77", "--json"]))[0];
    let id = row["id"].as_str().unwrap();
    assert_eq!(get(gateway.at.admin, &format!("/admin/v1/held/{id}")).status, 404, "a sample");
    let elsewhere = commands.run(&["events", id]);
    assert_eq!(elsewhere.code, Some(64));
    assert!(elsewhere.err.contains(&format!("postern explain --rejection {id}")));
    assert_eq!(commands.run(&["events", "--user", "u78"]).err, "nothing matches\n");
}

#[test]
fn a_replay_to_a_paused_destination_says_so_and_its_filter_is_in_the_audit_log() {
    let backend = Backend::start();
    backend.says(status(400));
    let gateway = Gateway::start(&with(&[("game", tries(backend.at, 1))]));
    call(&gateway, "p1");
    eventually("dead", || outcomes(&gateway, "dead") == 1.0);
    eventually("settled", || condition(&gateway, "status")["dead"] == 1);
    let commands = Commands::beside(&gateway);
    commands.done(&["destinations", "pause", "game", "--reason", "migration"]);
    let ran = commands.run(&["replay", "--state", "dead", "--user", "u1"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.ends_with("waiting: 1\n"), "{}", ran.out);
    let example = "paused destinations, such as game (operator, by local at ";
    assert!(ran.err.starts_with(example), "{}", ran.err);
    let remedy = ": migration), keep theirs waiting until postern destinations resume game\n";
    assert!(ran.err.ends_with(remedy), "{}", ran.err);
    let entry = &listed(&commands.done(&["audit", "--json", "--limit", "1"]))[0];
    assert_eq!((&entry["action"], &entry["kind"]), (&json!("replayed"), &json!("replay")));
    assert_eq!(entry["changes"], json!({ "state": [null, "dead"], "user": [null, "u1"] }));
}
