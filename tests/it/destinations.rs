//! Destinations while the gateway runs: paused, resumed, tried, left alone and found again.

use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::{Value, json};

use super::backend::{Backend, Say, ok, status};
use super::commands::Commands;
use super::deliver::{KEY, call, condition, game, outcomes, tries, whsec, with};
use super::gateway::{Gateway, PLAIN, eventually, logged};
use super::wire::{get, post};

#[test]
fn a_pause_holds_everything_back_and_outlasts_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path().join("ledger"))).unwrap();
    let backend = Backend::start();
    let text = with(&[("game", game(backend.at))]);
    let gateway = Gateway::over(&text, open());
    assert_eq!(condition(&gateway, "status")["state"], "active");
    let paused = condition(&gateway, "pause");
    assert_eq!(
        (&paused["state"], &paused["paused"]["why"]),
        (&"paused".into(), &"operator".into())
    );
    assert_eq!(paused["paused"]["who"], "local");
    call(&gateway, "p1");
    assert_eq!(condition(&gateway, "status")["pending"], 1);
    gateway.stop();

    let gateway = Gateway::over(&text, open());
    call(&gateway, "p2");
    assert_eq!(condition(&gateway, "status")["state"], "paused");
    assert!(backend.got().is_empty());
    condition(&gateway, "resume");
    let got = backend.await_count(2);
    let transactions: Vec<Value> =
        got.iter().map(|got| got.json()["transaction"].clone()).collect();
    assert!(transactions.contains(&json!("p1")) && transactions.contains(&json!("p2")));
    gateway.stop();
}

#[test]
fn only_what_there_is_can_be_paused() {
    let gateway = Gateway::start(PLAIN);
    for what in ["pause", "resume", "test"] {
        let answer = post(gateway.at.admin, &format!("/admin/v1/destinations/none/{what}"), "");
        assert_eq!(answer.status, 404, "{what}");
    }
    assert_eq!(get(gateway.at.admin, "/admin/v1/destinations/none/status").status, 404);
    assert_eq!(get(gateway.at.admin, "/admin/v1/destinations/none/pause").status, 405);
}

#[test]
fn a_backlog_is_delivered_in_the_order_in_which_it_came() {
    let backend = Backend::start();
    let game = game(backend.at) + "concurrency = 1\n";
    let gateway = Gateway::start(&with(&[("game", game)]));
    condition(&gateway, "pause");
    for n in 0..100 {
        call(&gateway, &format!("o{n:03}"));
    }
    condition(&gateway, "resume");
    // Within a millisecond the order is undefined.
    let came: Vec<String> = backend
        .await_count(100)
        .iter()
        .map(|got| got.json()["received_at"].as_str().unwrap().to_owned())
        .collect();
    assert!(came.is_sorted(), "{came:?}");
    assert_ne!(came.first(), came.last());
}

#[test]
fn a_backend_that_comes_back_is_not_run_over() {
    let backend = Backend::start();
    backend.says(status(503));
    let game = tries(backend.at, 1000).replace("20ms", "1h").replace("100ms", "1h");
    let gateway = Gateway::start(&with(&[("game", game)]));
    for n in 0..60 {
        call(&gateway, &format!("s{n}"));
    }
    eventually("open", || condition(&gateway, "status")["breaker"] == "open");
    eventually("nothing in flight", || condition(&gateway, "status")["in_flight"] == 0);
    let failed = backend.got().len();
    assert!((10..=16 + 10).contains(&failed), "{failed} of 60 were tried");
    assert_eq!(outcomes(&gateway, "retry"), failed as f64, "an open breaker uses up no attempts");

    // A manual replay is a probe: without it nothing would happen for an hour.
    backend.says(ok());
    let id = backend.got()[0].header("webhook-id").to_owned();
    assert_eq!(post(gateway.at.admin, &format!("/admin/v1/events/{id}/replay"), "").status, 202);
    let rest = 60 - failed + 1;
    let got = backend.await_count(failed + rest);
    eventually("closed", || condition(&gateway, "status")["breaker"] == "closed");
    let after: Vec<usize> = got[failed..].iter().map(|got| got.connection).collect();
    // The backend has answered the last before the gateway has counted that.
    eventually("all done", || outcomes(&gateway, "done") == rest as f64);
    assert!(after.len() == rest, "{after:?}");
}

#[test]
fn ten_failures_of_the_backend_open_the_breaker_and_refusals_never_do() {
    let backend = Backend::start();
    backend.says(status(404));
    let one_by_one = tries(backend.at, 3) + "concurrency = 1\n";
    let gateway = Gateway::start(&with(&[("game", one_by_one.clone())]));
    for n in 0..10 {
        call(&gateway, &format!("c{n}"));
    }
    eventually("all dead", || outcomes(&gateway, "dead") == 10.0);
    assert_eq!(condition(&gateway, "status")["breaker"], "closed");
    gateway.stop();

    for says in [status(500), Say::Nothing, Say::Bytes(b"no HTTP\r\n\r\n")] {
        let backend = Backend::start();
        backend.says(says);
        let slow = one_by_one.replace("20ms", "1h").replace("100ms", "1h");
        let at = slow.split('"').nth(1).unwrap().to_owned();
        let slow = slow.replace(&at, &format!("http://{}/", backend.at));
        let gateway = Gateway::start(&with(&[("game", slow)]));
        for n in 0..12 {
            call(&gateway, &format!("f{n}"));
        }
        eventually("open", || condition(&gateway, "status")["breaker"] == "open");
        assert_eq!(backend.got().len(), 10, "the eleventh is not tried");
    }
}

#[test]
fn a_backend_that_wants_some_again_is_resumed_by_a_replay() {
    let backend = Backend::saying([status(410), status(410)]);
    let gateway = Gateway::start(&with(&[("game", game(backend.at))]));
    call(&gateway, "g1");
    let id = backend.await_count(1)[0].header("webhook-id").to_owned();
    let replay = || post(gateway.at.admin, &format!("/admin/v1/events/{id}/replay"), "").status;
    let is = |state: &str| condition(&gateway, "status")["state"] == state;
    eventually("paused", || is("paused"));
    assert_eq!(replay(), 202);
    eventually("gone again", || outcomes(&gateway, "gone") == 2.0);
    assert!(is("paused"));
    call(&gateway, "g2");
    assert_eq!(replay(), 202);
    eventually("resumed", || is("active"));
    eventually("both", || outcomes(&gateway, "done") == 2.0);
}

#[test]
fn a_rate_spreads_attempts() {
    let backend = Backend::start();
    let game = game(backend.at) + "rate = \"5/h\"\n";
    let gateway = Gateway::start(&with(&[("game", game)]));
    for n in 0..9 {
        call(&gateway, &format!("r{n}"));
    }
    backend.await_count(5);
    eventually("settled", || condition(&gateway, "status")["pending"] == 4);
    assert_eq!(backend.got().len(), 5);
}

#[test]
fn a_test_event_is_tried_once_and_told_about() {
    let backend = Backend::saying([status(500), Say::Status(202, "", String::from("thanks"))]);
    let raw = format!("url = \"http://{}/\"\nformat = \"forward\"\n", backend.at);
    let gateway = Gateway::start(&with(&[("game", game(backend.at)), ("raw", raw)]));
    let test = |body: &str| -> Value {
        let answer = post(gateway.at.admin, "/admin/v1/destinations/game/test", body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    };
    let failed = test("");
    assert_eq!((&failed["delivered"], &failed["status"]), (&json!(false), &json!(500)));
    condition(&gateway, "pause");
    let good = test(r#"{"user":"u7","params":{"a":"1"}}"#);
    assert_eq!((&good["delivered"], &good["answer"]), (&json!(true), &json!("thanks")));
    let got = &backend.got()[1];
    let event = got.json();
    assert_eq!((&event["test"], &event["user"]), (&json!(true), &json!("u7")));
    assert_eq!((&event["source"], &event["params"]["a"]), (&json!("level-end"), &json!("1")));
    assert_eq!(got.header("webhook-id"), good["event"].as_str().unwrap());
    assert!(got.header("webhook-signature").starts_with("v1,"));
    let list = get(gateway.at.admin, "/admin/v1/events").body;
    assert!(list.contains("\"events\":[]"), "nothing is recorded: {list}");
    let bad = post(gateway.at.admin, "/admin/v1/destinations/game/test", "{\"usr\":1}");
    assert_eq!(bad.status, 400);
    for (name, status) in [("none", 404), ("raw", 409)] {
        let answer = post(gateway.at.admin, &format!("/admin/v1/destinations/{name}/test"), "");
        assert_eq!(answer.status, status, "{name}: {}", answer.body);
    }
    let log = get(gateway.at.admin, "/admin/v1/audit").json();
    let told = |entry: &Value| [&entry["action"], &entry["kind"], &entry["name"]].map(Value::clone);
    let log: Vec<_> = log["audit"].as_array().unwrap().iter().map(told).collect();
    let tried = ["tried", "destination", "game"].map(Value::from);
    let paused = ["created", "pause", "game"].map(Value::from);
    assert_eq!(log, [tried.clone(), paused, tried], "what could not be tried is not in it");
}

#[test]
fn a_classic_reward_url_takes_a_form() {
    let backend = Backend::start();
    let url = format!("http://{}/reward/{{user_id}}?k=v", backend.at);
    let form = format!(
        "url = \"{url}\"\nformat = \"template\"\nmethod = \"POST\"\nsecret = \"{}\"\n",
        whsec(KEY)
    );
    let text = with(&[("game", form)]).replacen(
        "destinations",
        "template = \"type=1&who={user_id}&what={reward_name}\"\ndestinations",
        1,
    );
    let gateway = Gateway::start(&text);
    call(&gateway, "t1");
    let got = &backend.await_count(1)[0];
    assert_eq!(got.line, "POST /reward/u1?k=v HTTP/1.1");
    assert_eq!(got.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(got.body, b"type=1&who=u1&what=coin");
}

#[test]
fn a_backend_that_goes_away_and_comes_back_gets_everything() {
    let at = Backend::nowhere();
    let gateway = Gateway::start(&with(&[("game", tries(at, 1000))]));
    for n in 0..20 {
        call(&gateway, &format!("v{n}"));
    }
    eventually("some failed", || outcomes(&gateway, "retry") >= 10.0);
    let backend = Backend::again(at);
    let ids: std::collections::HashSet<String> =
        backend.await_count(20).iter().map(|got| got.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 20);
    eventually("all", || outcomes(&gateway, "done") == 20.0);
}

/// Pauses a destination.
fn pause(gateway: &Gateway, name: &str) {
    let path = format!("/admin/v1/destinations/{name}/pause");
    assert_eq!(post(gateway.at.admin, &path, "").status, 200);
}

fn is_configured(gateway: &Gateway, name: &str) -> bool {
    get(gateway.at.admin, &format!("/admin/v1/destinations/{name}/status")).status == 200
}

/// The warnings that a destination has deliveries and is not configured.
fn warned_of(name: &str) -> Vec<Value> {
    let lines = logged();
    let of = format!("\"destination\":\"{name}\"");
    let lines = lines.lines().filter(|line| line.contains(&of));
    let warnings = lines.filter(|line| line.contains("configure the name again"));
    warnings.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn deliveries_to_a_removed_destination_stay_in_sight_until_they_are_delivered() {
    let (old, new) = (Backend::start(), Backend::start());
    let renamed = ("moved-on", game(new.at));
    let gateway = Gateway::start(&with(&[("left-behind", game(old.at))]));
    pause(&gateway, "left-behind");
    for transaction in ["l1", "l2"] {
        call(&gateway, transaction);
    }
    let series = "postern_delivery_backlog{destination=\"left-behind\"}";
    gateway.await_metric(series, 2.0);
    gateway.reload(&with(std::slice::from_ref(&renamed)));
    eventually("warned", || !warned_of("left-behind").is_empty());
    eventually("removed", || !is_configured(&gateway, "left-behind"));
    assert_eq!(gateway.metric(series), 2.0);
    let warned = warned_of("left-behind");
    assert_eq!((&warned[0]["pending"], &warned[0]["dead"]), (&json!(2), &json!(0)));
    assert_eq!(gateway.metric("postern_delivery_backlog{destination=\"moved-on\"}"), 0.0);

    gateway.reload(&with(&[renamed.clone(), ("left-behind", game(old.at))]));
    eventually("configured again", || is_configured(&gateway, "left-behind"));
    let resume = "/admin/v1/destinations/left-behind/resume";
    assert_eq!(post(gateway.at.admin, resume, "").status, 200);
    old.await_count(2);
    gateway.await_metric(series, 0.0);
    gateway.reload(&with(&[renamed]));
    eventually("gone", || !get(gateway.at.admin, "/metrics").body.contains("left-behind"));
    assert_eq!(warned_of("left-behind").len(), 1);
}

#[test]
fn a_start_warns_of_deliveries_to_a_destination_that_is_not_configured() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path().join("ledger"))).unwrap();
    let backend = Backend::start();
    let gateway = Gateway::over(&with(&[("left-before", game(backend.at))]), open());
    pause(&gateway, "left-before");
    call(&gateway, "b1");
    gateway.stop();
    assert!(warned_of("left-before").is_empty());

    let gateway = Gateway::over(&with(&[("game", game(backend.at))]), open());
    eventually("warned", || warned_of("left-before").len() == 1);
    gateway.await_metric("postern_delivery_backlog{destination=\"left-before\"}", 1.0);
    gateway.stop();
}

#[test]
fn a_replay_of_one_event_names_the_paused_destinations_of_this_event() {
    let backend = Backend::start();
    let aside = format!("[[destination]]\nname = \"aside\"\n{}\n", game(backend.at));
    let gateway = Gateway::start(&(with(&[("game", game(backend.at))]) + &aside));
    call(&gateway, "o1");
    let id = backend.await_count(1)[0].header("webhook-id").to_owned();
    gateway.await_metric("postern_delivery_backlog{destination=\"game\"}", 0.0);
    for name in ["aside", "game"] {
        pause(&gateway, name);
    }
    let ran = Commands::beside(&gateway).run(&["replay", &id]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.starts_with("game is paused ("), "{}", ran.err);
    assert!(!ran.err.contains("aside"), "{}", ran.err);
}
