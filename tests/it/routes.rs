//! `[[source.route]]`: further destinations of some events, and `postern route`, which says why.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::backend::Backend;
use super::deliver::tries;
use super::gateway::{Gateway, PLAIN, taku_for};
use super::wire::{get, give_token, send};

#[test]
fn a_url_that_cannot_tell_an_event_from_a_grant_is_not_called() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!("{PLAIN}destinations = [\"url\", \"told\"]\n");
    for (name, query) in [("url", ""), ("told", "&e={effect}")] {
        text += &format!(
            "[[destination]]\nname = \"{name}\"\nformat = \"template\"\n\
             url = \"http://127.0.0.1:1/?u={{user}}{query}\"\n"
        );
    }
    fs::write(folder.path().join("postern.toml"), text).unwrap();
    let delivered = |event: &Value| {
        fs::write(folder.path().join("event.json"), event.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        let args = ["route", "--event", "event.json", "--json"];
        let output = command.current_dir(folder.path()).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let rows: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows[1]["delivered"], true, "{text}");
        (rows[0]["delivered"] == true, rows[0]["why"].as_str().unwrap().to_owned())
    };
    let grant = json!({ "source": "level-end", "kind": "event", "effect": "grant", "test": false });
    assert!(delivered(&grant).0);
    let mut test = grant.clone();
    (test["test"], test["effect"]) = (json!(true), json!("none"));
    let mut reversal = grant.clone();
    (reversal["effect"], reversal["reverses"]) = (json!("revoke"), json!("t1"));
    for (event, word) in [(&test, "{test}"), (&reversal, "{reverses}")] {
        let (goes, why) = delivered(event);
        assert!(!goes && why.contains(word), "{why}");
    }
}

#[test]
fn events_that_meet_a_condition_go_to_further_destinations() {
    let (all, some) = (Backend::start(), Backend::start());
    let mut text = format!("{PLAIN}destinations = [\"all\"]\n");
    text += "[[source.route]]\nwhen = \"{user} is vip\"\nto = [\"some\", \"all\"]\n";
    text += "[[source.route]]\nwhen = [\"[effect] is grant\", \"not {user}\"]\nto = \"some\"\n";
    for (name, backend) in [("all", &all), ("some", &some)] {
        text += &format!("[[destination]]\nname = \"{name}\"\n{}\n", tries(backend.at, 3));
    }
    let gateway = Gateway::start(&text);
    for (user, transaction) in [("vip", "v1"), ("u1", "p1"), ("vip", "v2")] {
        let target = taku_for(user, transaction, "10");
        assert_eq!(get(gateway.at.callbacks, &target).status, 200);
    }
    all.await_count(3);
    let mut got: Vec<Value> =
        some.await_count(2).iter().map(|got| got.json()["transaction"].clone()).collect();
    got.sort_by_key(ToString::to_string);
    assert_eq!(got, ["v1", "v2"], "and each once");

    let events = get(gateway.at.admin, "/admin/v1/events").json();
    let of = |transaction: &str| {
        let mut all = events["events"].as_array().unwrap().iter();
        all.find(|event| event["transaction"] == transaction).unwrap().clone()
    };
    let folder = tempfile::tempdir().unwrap();
    let admin = format!("admin = \"{}\"", gateway.at.admin);
    let config = text.replace("admin = \"127.0.0.1:0\"", &admin);
    fs::write(folder.path().join("postern.toml"), config).unwrap();
    give_token(gateway.at.admin, &folder.path().join("postern-data"));
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        let output = command.current_dir(folder.path()).arg("route").args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let vip = run(&[of("v1")["id"].as_str().unwrap()]);
    assert!(vip.contains("  some  yes  route 1: {user} is vip\n"), "{vip}");
    assert!(vip.contains("  some  no   route 2: `not {user}` does not hold\n"), "{vip}");
    assert!(vip.contains("  all   yes  a destination of the source\n"), "{vip}");
    fs::write(folder.path().join("event.json"), of("p1").to_string()).unwrap();
    let plain = run(&["--event", "event.json", "--json"]);
    let rows: Vec<Value> = plain.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&rows[0]["delivered"], &rows[1]["delivered"]), (&json!(true), &json!(false)));

    // A destination that a route names is in use, and a missing one is an error.
    let delete = send(gateway.at.admin, "DELETE /admin/v1/destinations/some", &[], "");
    assert_eq!(delete.status, 409, "{}", delete.body);
    let table = json!({ "sender": "taku", "secrets": "x", "replayable": true,
        "route": [{ "when": "{userr", "to": ["somme"] }] });
    let put = send(gateway.at.admin, "PUT /admin/v1/sources/other", &[], &table.to_string());
    assert_eq!(put.status, 422, "{}", put.body);
    assert!(put.body.contains("did you mean some?"), "{}", put.body);
}
