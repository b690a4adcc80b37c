//! One log line per callback, without a secret, a signature or a signed text in it.

use serde_json::{Value, json};

use super::gateway::{Gateway, PLAIN, TAKU_SECRET, await_lines, eventually, logged, taku};
use super::openapi::check;
use super::wire::{get, post};

#[test]
fn a_callback_is_one_line() {
    let gateway = Gateway::start(&PLAIN.replace("level-end", "log-one"));
    let to = gateway.at.callbacks;
    let target = taku("log-1").replace("level-end", "log-one");
    get(to, &target);
    get(to, &target);
    get(to, &target.replace("coin", "gold"));
    let lines = await_lines("\"source\":\"log-one\"", 3);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let values: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<&str> = values.iter().map(|v| v["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["accepted", "duplicate", "rejected"]);
    assert_eq!(values[0]["transaction"], "log-1");
    assert_eq!(values[0]["event"], values[1]["event"], "the event that is stored");
    assert_eq!(values[0]["status"], 200, "{}", lines[0]);
    assert_eq!(values[2]["reason"], "bad_signature");
    assert!(values[2]["micros"].is_number());
}

/// The published schema describes the lines that are written.
#[test]
fn the_line_is_as_its_schema_says() {
    let gateway = Gateway::start(&PLAIN.replace("level-end", "schema-line"));
    let to = gateway.at.callbacks;
    let target = taku("schema-1").replace("level-end", "schema-line");
    get(to, &target);
    get(to, &target);
    get(to, &target.replace("coin", "gold"));
    get(to, &target.replace("reward_amount=10", "reward_amount={reward_amount}"));
    get(to, &target.replace("&placement_id=p1", ""));
    let mut schema: Value =
        serde_json::from_str(include_str!("../../src/telemetry/callback_line.schema.json"))
            .unwrap();
    // A reader ignores members that it does not know; a new one belongs into the schema.
    schema["additionalProperties"] = json!(false);
    for line in await_lines("\"source\":\"schema-line\"", 5) {
        check(&schema, &schema, &serde_json::from_str(&line).unwrap(), "line");
    }
    let outcomes: Vec<&str> =
        postern::sender::Outcome::ALL.iter().map(|one| one.as_str()).collect();
    assert_eq!(schema["properties"]["outcome"]["enum"], json!(outcomes));
}

/// Half of the duplicates, and none after a reload.
#[test]
fn a_share_of_an_outcome_is_logged_and_all_of_it_counted() {
    let text = |share: &str| {
        let table = format!("\n[telemetry]\ncallback_lines = {{ duplicate = {share} }}\n");
        PLAIN.replace("level-end", "sampled") + &table
    };
    let gateway = Gateway::start(&text("0.5"));
    let call = |count: usize| {
        let target = taku("share-1").replace("level-end", "sampled");
        (0..count).for_each(|_| assert_eq!(get(gateway.at.callbacks, &target).status, 200));
    };
    let lines = |outcome: &str| {
        let of = format!("\"outcome\":\"{outcome}\"");
        logged().lines().filter(|line| line.contains("\"sampled\"") && line.contains(&of)).count()
    };
    call(11);
    let counted = |outcome: &str| {
        gateway
            .metric(&format!("postern_callbacks_total{{outcome=\"{outcome}\",source=\"sampled\"}}"))
    };
    assert_eq!((counted("accepted"), counted("duplicate")), (1.0, 10.0));
    assert_eq!((lines("accepted"), lines("duplicate")), (1, 5));
    gateway.reload(&text("0"));
    // Of two calls one has a line until the gateway has read it.
    eventually("lines end", || {
        let before = lines("duplicate");
        call(2);
        lines("duplicate") == before
    });
    let before = (lines("duplicate"), counted("duplicate"));
    call(4);
    assert_eq!((lines("duplicate"), counted("duplicate")), (before.0, before.1 + 4.0));
}

#[test]
fn no_secret_and_no_claim_is_ever_logged() {
    let gateway = Gateway::start(PLAIN);
    let to = gateway.at.callbacks;
    let good = taku("log-2");
    let claim = good.rsplit_once("sign=").unwrap().1.to_owned();
    get(to, &good);
    get(to, &good.replace("log-2", "log-3"));
    get(to, &format!("{good}&sign={claim}"));
    get(to, &good.replace("level-end", "absent"));
    post(to, &good, &format!("sign={claim}"));
    await_lines("no such source", 1);
    let everything = logged();
    assert!(!everything.contains(TAKU_SECRET), "the secret");
    assert!(!everything.contains(&claim), "a claim");
}

#[test]
fn a_flood_of_forged_callbacks_is_counted_but_not_all_of_it_logged() {
    let gateway = Gateway::start(&PLAIN.replace("level-end", "flooded"));
    let to = gateway.at.callbacks;
    let good = taku("flood-1").replace("level-end", "flooded");
    for n in 0..300 {
        assert_eq!(get(to, &format!("{good}{n}")).status, 601);
    }
    let series = "postern_rejections_total{reason=\"bad_signature\",source=\"flooded\"}";
    assert_eq!(gateway.metric(series), 300.0);
    let lines = logged().lines().filter(|line| line.contains("\"flooded\"")).count();
    assert!((1..200).contains(&lines), "{lines} lines");
    assert_eq!(get(to, &good).status, 200, "and a verified one gets through");
}

#[test]
fn nor_is_a_flood_of_probes() {
    let gateway = Gateway::start(&PLAIN.replace("level-end", "probed"));
    let probe = "/callback/probed?user_id={user_id}&trans_id={trans_id}&sign={sign}&is_test=1";
    for _ in 0..300 {
        assert_eq!(get(gateway.at.callbacks, probe).status, 200);
    }
    let series = "postern_callbacks_total{outcome=\"test\",source=\"probed\"}";
    assert_eq!(gateway.metric(series), 300.0);
    let lines = logged().lines().filter(|line| line.contains("\"probed\"")).count();
    assert!((1..200).contains(&lines), "{lines} lines");
}

#[test]
fn a_transaction_is_logged_up_to_a_length() {
    let gateway = Gateway::start(&PLAIN.replace("level-end", "lengthy"));
    let target = taku(&"t".repeat(20_000)).replace("level-end", "lengthy");
    assert_eq!(get(gateway.at.callbacks, &target).status, 200);
    let lines = await_lines("\"source\":\"lengthy\"", 1);
    assert!(lines[0].contains(&"t".repeat(256)) && lines[0].len() < 1000, "{}", lines[0].len());
}
