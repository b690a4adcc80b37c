//! Replays by filter, over the admin API and from the command line.

use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::{Value, json};

use super::backend::{Backend, ok, status};
use super::deliver::{call, condition, outcomes, tries, with};
use super::gateway::{Gateway, eventually};
use super::wire::{get, post, send};

fn order(gateway: &Gateway, order: &Value) -> Value {
    let answer = post(gateway.at.admin, "/admin/v1/replay", &order.to_string());
    assert_eq!(answer.status, 202, "{}", answer.body);
    let mut progress: Value = serde_json::from_str(&answer.body).unwrap();
    let path = format!("/admin/v1/replay/{}", progress["id"].as_str().unwrap());
    eventually("ended", || {
        progress = serde_json::from_str(&get(gateway.at.admin, &path).body).unwrap();
        progress["state"] != "running"
    });
    progress
}

/// A gateway with two destinations, `game` and `other`, of which the first has rejected `count`
/// events for good.
fn with_dead(count: usize) -> (Gateway, Backend, Backend) {
    let (game, other) = (Backend::start(), Backend::start());
    game.says(status(400));
    let text = with(&[("game", tries(game.at, 1)), ("other", tries(other.at, 1))]);
    let gateway = Gateway::start(&text);
    for n in 0..count {
        call(&gateway, &format!("d{n}"));
    }
    eventually("all dead", || outcomes(&gateway, "dead") == count as f64);
    eventually("settled", || condition(&gateway, "status")["dead"] == count);
    other.await_count(count);
    game.says(ok());
    (gateway, game, other)
}

#[test]
fn what_is_dead_is_delivered_again_and_nothing_else() {
    let (gateway, game, other) = with_dead(250);
    let done = order(&gateway, &json!({ "state": "dead" }));
    assert_eq!(
        (&done["state"], &done["seen"], &done["of"]),
        (&json!("done"), &json!(250), &json!(250))
    );
    assert_eq!((&done["events"], &done["deliveries"]), (&json!(250), &json!(250)));
    eventually("delivered", || outcomes(&gateway, "done") == 250.0);
    assert_eq!((game.got().len(), other.got().len()), (500, 250));
    let nothing = order(&gateway, &json!({ "state": "dead" }));
    assert_eq!(nothing["deliveries"], 0);
}

#[test]
fn an_order_that_is_given_again_repeats_nothing() {
    let (gateway, game, _) = with_dead(3);
    let id = "rpl_00000000000000000000000000000007";
    let same = json!({ "id": id, "source": "level-end", "destination": "game" });
    assert_eq!(order(&gateway, &same)["deliveries"], 3);
    eventually("delivered", || outcomes(&gateway, "done") == 3.0);
    assert_eq!(order(&gateway, &same)["deliveries"], 3, "what it did, not what it does");
    let other = json!({ "id": id, "state": "dead" }).to_string();
    assert_eq!(post(gateway.at.admin, "/admin/v1/replay", &other).status, 409);
    assert_eq!(game.got().len(), 6);
}

/// The outcome of an order: delivered, dead, pending.
fn outcome(gateway: &Gateway, id: &Value) -> [u64; 3] {
    let path = format!("/admin/v1/replay/{}", id.as_str().unwrap());
    let outcome = &get(gateway.at.admin, &path).json()["outcome"];
    ["delivered", "dead", "pending"].map(|key| outcome[key].as_u64().unwrap())
}

#[test]
fn the_outcome_of_an_order_is_counted_later_and_after_a_restart() {
    let game = Backend::start();
    game.says(status(400));
    let text = with(&[("game", tries(game.at, 1))]);
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let gateway = Gateway::over(&text, open());
    (0..3).for_each(|n| call(&gateway, &format!("o{n}")));
    eventually("all dead", || condition(&gateway, "status")["dead"] == 3);
    let first = game.got()[0].header("webhook-id").to_owned();
    condition(&gateway, "pause");
    let all = order(&gateway, &json!({ "state": "dead", "destination": "game" }))["id"].clone();
    assert_eq!(outcome(&gateway, &all), [0, 0, 3]);
    condition(&gateway, "resume");
    eventually("all dead again", || outcome(&gateway, &all) == [0, 3, 0]);
    game.says(ok());
    let one = order(&gateway, &json!({ "events": [first] }))["id"].clone();
    eventually("one is delivered", || outcome(&gateway, &one) == [1, 0, 0]);
    // The account is what is there now, not what was there first.
    assert_eq!(outcome(&gateway, &all), [1, 2, 0]);
    let dry = order(&gateway, &json!({ "state": "dead", "dry_run": true }));
    assert_eq!(dry["outcome"], Value::Null);
    gateway.stop();

    let gateway = Gateway::over(&text, open());
    assert_eq!((outcome(&gateway, &all), outcome(&gateway, &one)), ([1, 2, 0], [1, 0, 0]));
    let path = format!("/admin/v1/replay/{}", all.as_str().unwrap());
    let kept = get(gateway.at.admin, &path).json();
    assert_eq!((&kept["state"], &kept["deliveries"]), (&json!("done"), &json!(3)), "{kept}");
    let page = get(gateway.at.admin, "/console/dead-letters").body;
    assert!(page.contains(all.as_str().unwrap()) && page.contains(one.as_str().unwrap()));
    let path = format!("/console/dead-letters/replays/{}", all.as_str().unwrap());
    let page = get(gateway.at.admin, &path).body;
    for fact in ["<dt>Delivered</dt><dd><b>1<", "<dt>Dead letters again</dt><dd><b>2<"] {
        assert!(page.contains(fact), "{fact}: {page}");
    }
    // Given again it repeats nothing, and has the account that it had.
    let again = json!({ "id": all, "state": "dead", "destination": "game" });
    let counted = order(&gateway, &again);
    assert_eq!((&counted["seen"], &counted["deliveries"]), (&json!(3), &json!(3)), "{counted}");
    assert_eq!(outcome(&gateway, &all), [1, 2, 0]);
}

#[test]
fn an_id_belongs_to_one_filter_after_a_restart_too() {
    let game = Backend::start();
    game.says(status(400));
    let text = with(&[("game", tries(game.at, 1))]);
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let gateway = Gateway::over(&text, open());
    (0..3).for_each(|n| call(&gateway, &format!("i{n}")));
    eventually("all dead", || condition(&gateway, "status")["dead"] == 3);
    let first = game.got()[0].header("webhook-id").to_owned();
    let one = order(&gateway, &json!({ "events": [first] }))["id"].clone();
    eventually("dead again", || outcome(&gateway, &one) == [0, 1, 0]);
    gateway.stop();

    let gateway = Gateway::over(&text, open());
    let made = game.got().len();
    let other = json!({ "id": one, "state": "dead" }).to_string();
    let refused = post(gateway.at.admin, "/admin/v1/replay", &other);
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.body.contains("other events"), "{}", refused.body);
    assert_eq!((outcome(&gateway, &one), game.got().len()), ([0, 1, 0], made));
    let same = order(&gateway, &json!({ "id": one, "events": [first] }));
    assert_eq!((&same["state"], &same["deliveries"]), (&json!("done"), &json!(1)), "{same}");
}

#[test]
fn dead_letters_of_a_removed_destination_stay_until_it_is_back() {
    let (gateway, game, other) = with_dead(3);
    let is_there = || get(gateway.at.admin, "/admin/v1/destinations/game/status").status == 200;
    gateway.reload(&with(&[("other", tries(other.at, 1))]));
    eventually("removed", || !is_there());
    let skipped = order(&gateway, &json!({ "state": "dead" }));
    assert_eq!((&skipped["seen"], &skipped["deliveries"]), (&json!(3), &json!(0)), "{skipped}");
    assert_eq!(skipped["skipped"], 3, "{skipped}");
    gateway.reload(&with(&[("game", tries(game.at, 1)), ("other", tries(other.at, 1))]));
    eventually("back", is_there);
    assert_eq!(condition(&gateway, "status")["dead"], 3);
    assert_eq!(order(&gateway, &json!({ "state": "dead" }))["deliveries"], 3);
    eventually("delivered", || outcomes(&gateway, "done") == 3.0);
}

#[test]
fn no_delivery_is_made_for_a_removed_destination_neither_by_its_name_nor_by_an_event() {
    let (gateway, game, other) = with_dead(1);
    let id = game.got()[0].header("webhook-id").to_owned();
    let again = || post(gateway.at.admin, &format!("/admin/v1/events/{id}/replay"), "");
    let is_there = |name: &str| {
        let path = format!("/admin/v1/destinations/{name}/status");
        get(gateway.at.admin, &path).status == 200
    };
    gateway.reload(&with(&[("other", tries(other.at, 1))]));
    eventually("game is removed", || !is_there("game"));
    let named = json!({ "state": "dead", "destination": "game" }).to_string();
    let refused = post(gateway.at.admin, "/admin/v1/replay", &named);
    assert_eq!(refused.status, 400, "{}", refused.body);
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("destination: \"game\" is not configured"), "{detail}");
    let one = again();
    let counts = json!({ "events": 1, "deliveries": 1, "skipped": 1 });
    assert_eq!((one.status, one.json()), (202, counts));
    other.await_count(2);

    gateway.reload(&with(&[("third", tries(other.at, 1))]));
    eventually("other is removed", || !is_there("other"));
    let none = again();
    assert_eq!(none.status, 409, "{}", none.body);
    for part in ["none of this event's destinations is configured: ", "game", "other"] {
        assert!(none.body.contains(part), "{}", none.body);
    }
    assert_eq!((game.got().len(), other.got().len()), (1, 2));
    let audit = get(gateway.at.admin, "/admin/v1/audit").json();
    let noted = audit["audit"].as_array().unwrap().len();
    assert_eq!(noted, 1, "what is refused is not in it: {audit}");
}

#[test]
fn a_replay_is_one_probe_of_an_open_breaker() {
    let backend = Backend::start();
    backend.says(status(503));
    let game = tries(backend.at, 1000).replace("20ms", "1h").replace("100ms", "1h");
    let gateway = Gateway::start(&with(&[("game", game)]));
    (0..60).for_each(|n| call(&gateway, &format!("p{n}")));
    let is_open = || condition(&gateway, "status")["breaker"] == "open";
    let is_idle = || condition(&gateway, "status")["in_flight"] == 0;
    eventually("open", is_open);
    eventually("nothing in flight", is_idle);
    let failed = backend.got().len();
    let done = order(&gateway, &json!({ "destination": "game", "since": "2020-01-01T00:00:00Z" }));
    assert_eq!(done["deliveries"], 60, "{done}");
    eventually("the probe has failed", || backend.got().len() > failed && is_open() && is_idle());
    // Further attempts would begin at once.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(backend.got().len(), failed + 1);
}

#[test]
fn a_filter_chooses() {
    let (gateway, game, other) = with_dead(5);
    let id = game.got()[0].header("webhook-id").to_owned();
    let cases = [
        (json!({ "events": [id] }), 2),
        (json!({ "transaction": "d3", "state": "done" }), 2),
        (json!({ "user": "u1", "state": "dead", "destination": "other" }), 0),
        (json!({ "source": "none", "state": "dead" }), 0),
        (json!({ "since": "2100-01-01T00:00:00Z", "state": "dead" }), 0),
        (json!({ "since": "2020-01-01T00:00:00Z", "destination": "game", "user": "u1" }), 5),
    ];
    let mut made = game.got().len() + other.got().len();
    for (filter, deliveries) in cases {
        // The second case finds what is done at `other` and, by the first, perhaps at `game`.
        let count = order(&gateway, &filter)["deliveries"].as_u64().unwrap();
        assert!(count == deliveries || (filter["transaction"] == "d3" && count == 1), "{filter}");
        made += usize::try_from(count).unwrap();
        eventually("delivered", || game.got().len() + other.got().len() == made);
        eventually("settled", || {
            gateway.metric("postern_delivery_backlog{destination=\"game\"}") == 0.0
        });
    }
}

#[test]
fn a_slip_does_not_deliver_everything() {
    let (gateway, ..) = with_dead(1);
    let refused = |body: &str, word: &str| {
        let answer = post(gateway.at.admin, "/admin/v1/replay", body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(answer.body.contains(word), "{}", answer.body);
    };
    refused("{}", "every event");
    refused("", "cannot be read");
    refused(r#"{"sorce":"a"}"#, "sorce");
    refused(r#"{"state":"deed"}"#, "deed");
    refused(r#"{"since":"yesterday"}"#, "since");
    refused(r#"{"id":"7","all":true}"#, "rpl_");
    refused(r#"{"events":["evt_00000000000000000000000000000000"],"user":"u"}"#, "one of the two");
    assert_eq!(order(&gateway, &json!({ "all": true }))["deliveries"], 2);
    let unknown = "/admin/v1/replay/rpl_00000000000000000000000000000001";
    assert_eq!(get(gateway.at.admin, unknown).status, 404);
}

#[test]
fn an_order_can_be_cancelled() {
    let (gateway, ..) = with_dead(3);
    let done = order(&gateway, &json!({ "state": "dead" }));
    let path = format!("/admin/v1/replay/{}", done["id"].as_str().unwrap());
    let answer = send(gateway.at.admin, &format!("DELETE {path}"), &[], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    // The replay had ended before.
    assert!(answer.body.contains("\"state\":\"done\""), "{}", answer.body);
}

#[test]
fn the_command_line_replays_and_says_what_it_did() {
    let (gateway, game, _) = with_dead(4);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    let text = super::gateway::PLAIN
        .replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", gateway.at.admin));
    std::fs::write(&config, text).unwrap();
    super::wire::give_token(gateway.at.admin, &folder.path().join("postern-data"));
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["replay", "--config"])
            .arg(&config)
            .args(args)
            .output()
            .unwrap();
        let text =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    let (code, said) = run(&["--state", "dead", "--destination", "game"]);
    assert_eq!(code, Some(0), "{said}");
    let (done, outcome) = said.split_once("; so far").unwrap();
    assert_eq!(done, "done: events looked at: 4 of 4, to be delivered again: 4, deliveries: 4");
    assert!(outcome.starts_with(" delivered: ") && outcome.contains(", waiting: "), "{said}");
    game.await_count(8);
    let (code, said) = run(&[]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("every event"), "{said}");
}
