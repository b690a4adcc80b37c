//! Uses of one captured call: variants under its signature, other kinds and marks of it, in both
//! orders, through the gateway and its ledger.

use serde_json::{Value, json};

use super::gateway::Gateway;
use super::wire::get;

/// A gateway with the source `s` of `sender`.
fn gateway(sender: &str, rest: &str) -> Gateway {
    Gateway::start(&format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         public_url = \"https://cb.example.com\"\n\
         [[source]]\nname = \"s\"\nsender = {sender:?}\n{rest}\n"
    ))
}

/// Sends `query` to it; the body of the answer, which has to be a success.
fn send(gateway: &Gateway, query: &str) -> String {
    let answer = get(gateway.at.callbacks, &format!("/callback/s?{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    answer.body
}

/// Its events, oldest first.
fn events(gateway: &Gateway) -> Vec<Value> {
    let answer = get(gateway.at.admin, "/admin/v1/events?source=s&limit=100");
    let mut page: Value = serde_json::from_str(&answer.body).unwrap();
    let Value::Array(mut events) = page["events"].take() else { panic!("{}", answer.body) };
    events.reverse();
    events
}

/// The event of `transaction` and `kind`.
fn event(gateway: &Gateway, transaction: &str, kind: &str) -> Value {
    let events = events(gateway);
    let is_it = |event: &&Value| event["transaction"] == transaction && event["kind"] == kind;
    events.iter().find(is_it).unwrap_or_else(|| panic!("{transaction} {kind}: {events:?}")).clone()
}

fn outcomes(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric(&format!("postern_callbacks_total{{outcome=\"{outcome}\",source=\"s\"}}"))
}

/// Sends both in both orders, and checks the outcome of each.
fn in_both_orders(start: impl Fn() -> Gateway, one: &str, other: &str, check: impl Fn(&Gateway)) {
    for order in [[one, other], [other, one]] {
        let gateway = start();
        order.iter().for_each(|query| drop(send(&gateway, query)));
        check(&gateway);
    }
}

const CREDIT: &str =
    "subId=u1&transId=XX-1&reward=500.00&status=1&signature=21c251ac060a04fd83a0a2633e139e8c";
const REVERSAL: &str =
    "subId=u1&transId=XX-1&reward=500.00&status=2&signature=21c251ac060a04fd83a0a2633e139e8c";
const RECUT: &str =
    "subId=u1X&transId=X-1&reward=500.00&status=1&signature=21c251ac060a04fd83a0a2633e139e8c";

fn revtoo() -> Gateway {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/revtoo.toml");
    gateway("custom", &format!("recipe = {recipe:?}\nsecrets = \"revtoo-secret\""))
}

#[test]
fn a_reversal_under_the_signature_of_its_credit_is_an_event_of_its_own() {
    in_both_orders(revtoo, CREDIT, REVERSAL, |gateway| {
        assert_eq!(events(gateway).len(), 2);
        let taken_back = event(gateway, "reversal:XX-1", "reversal");
        assert_eq!(
            (&taken_back["reverses"], &taken_back["effect"]),
            (&json!("XX-1"), &json!("revoke"))
        );
        assert_eq!(taken_back["authenticated"], json!([]));
        assert_eq!(event(gateway, "XX-1", "event")["effect"], "grant");
    });
}

#[test]
fn values_that_touch_make_one_event_for_one_signature() {
    in_both_orders(revtoo, CREDIT, RECUT, |gateway| {
        let events = events(gateway);
        assert_eq!((events.len(), outcomes(gateway, "ambiguous")), (1, 1.0));
        assert_eq!(events[0]["authenticated"], json!([]));
    });
}

#[test]
fn adiscope_keeps_the_first_of_two_readings() {
    let start = || gateway("adiscope", "secrets = \"adiscope-secret\"");
    let sign = "SIGNATURE=5486ba1e071a18eb71bed77827c886c0";
    let original =
        format!("TRANSACTION_ID=7tx-9&{sign}&USER_ID=u1&REWARD_UNIT=gold&REWARD_AMOUNT=10");
    let recut = format!("TRANSACTION_ID=tx-9&{sign}&USER_ID=u1&REWARD_UNIT=gold&REWARD_AMOUNT=107");
    in_both_orders(start, &original, &recut, |gateway| {
        let events = events(gateway);
        assert_eq!((events.len(), outcomes(gateway, "ambiguous")), (1, 1.0));
        assert_eq!(events[0]["authenticated"], json!([]));
    });
}

#[test]
fn cpx_a_captured_call_takes_nothing_back_as_authenticated() {
    let start = || gateway("cpx", "secrets = \"cpx-security-hash\"");
    let hash = "hash=c793dc9e467958e95c54e4ae7d275c13";
    let original = format!("status=1&trans_id=t-1&user_id=u1&amount_local=1&{hash}");
    let forged = format!("status=2&trans_id=t-1&user_id=victim&amount_local=99999&{hash}");
    in_both_orders(start, &original, &forged, |gateway| {
        assert_eq!(events(gateway).len(), 2);
        assert_eq!(event(gateway, "t-1", "event")["authenticated"], json!(["transaction"]));
        assert_eq!(event(gateway, "reversal:t-1", "reversal")["authenticated"], json!([]));
    });
}

#[test]
fn levelplay_a_reversal_does_not_swallow_the_reward() {
    let start = || gateway("levelplay", "secrets = \"supersecret\"");
    let original = "userId=u1&eventId=e3&rewards=10&timestamp=202401010000&signature=dff549cf81fb7cfe661d6d4beb74eedf";
    let forged = format!("{original}&negativeCallback=true");
    in_both_orders(start, original, &forged, |gateway| {
        assert_eq!(events(gateway).len(), 2);
        assert_eq!(event(gateway, "e3", "event")["effect"], "grant");
        assert_eq!(event(gateway, "negative:e3", "reversal")["authenticated"], json!([]));
    });
}

#[test]
fn taku_a_mark_never_takes_the_place_of_the_reward() {
    let start = || gateway("taku", "secrets = \"0123456789abcdefghijklmnopqrstuv\"");
    let original = "trans_id=tr-0001&placement_id=b1e2f3a4b5c6d7&adsource_id=90001&reward_amount=10&reward_name=coin&sign=a88acafa514d10c31a897037694fe8b4";
    let marked = format!("{original}&is_test=1");
    let gateway = start();
    send(&gateway, &marked);
    send(&gateway, original);
    let both = events(&gateway);
    let tests: Vec<bool> = both.iter().map(|event| event["test"] == true).collect();
    assert_eq!(tests.iter().filter(|test| **test).count(), 1, "{both:?}");
    assert_eq!(both.len(), 2);
    let gateway = start();
    send(&gateway, original);
    send(&gateway, &marked);
    assert_eq!((events(&gateway).len(), outcomes(&gateway, "duplicate")), (1, 1.0));
}

#[test]
fn lootably_a_chargeback_is_an_event_whatever_its_numbers() {
    let start = || gateway("lootably", "secrets = \"lootably-secret\"\nallow = [\"127.0.0.0/8\"]");
    let credit = "userID=u1&transactionID=lt-1&ip=1.1.1.1&revenue=0.50&currencyReward=50&status=1&hash=ee65c2e74665d62ea12647267cc02021e19e1774f98ff63ac98150356c34a457";
    let negative = "userID=u1&transactionID=lt-1&ip=1.1.1.1&revenue=-0.50&currencyReward=-50&status=0&hash=e36d9c922e3d14eb759e23a63d2ab5060ad01fb28e569ff0a00bfc1f9757eaea";
    let positive = credit.replace("status=1", "status=0");
    for chargeback in [negative, &positive] {
        in_both_orders(start, credit, chargeback, |gateway| {
            assert_eq!(events(gateway).len(), 2);
            let taken_back = event(gateway, "reversal:lt-1", "reversal");
            assert_eq!(taken_back["reverses"], "lt-1");
            assert_eq!(taken_back["effect"], "revoke");
        });
    }
}

#[test]
fn bitlabs_pays_a_stateful_offer_once_when_it_is_completed() {
    // The name of the source is in the signed URL.
    let gateway = Gateway::start(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         public_url = \"https://cb.example.com\"\n\
         [[source]]\nname = \"bitlabs\"\nsender = \"bitlabs\"\nsecrets = \"bitlabs-app-secret\"\n",
    );
    for state in [
        "PENDING&hash=54ccb2bc5cacb63cef3792415aea03660bc0509a",
        "COMPLETED&hash=6312f68f082784485b069d48a768a7f83ff03dcf",
    ] {
        let query = format!("uid=u1&val=100&tx=o88&type=COMPLETE&ref=&offer_state={state}");
        assert_eq!(get(gateway.at.callbacks, &format!("/callback/bitlabs?{query}")).status, 200);
    }
    let answer = get(gateway.at.admin, "/admin/v1/events?source=bitlabs");
    let page: Value = serde_json::from_str(&answer.body).unwrap();
    let mut effects: Vec<&str> =
        page["events"].as_array().unwrap().iter().map(|e| e["effect"].as_str().unwrap()).collect();
    effects.sort_unstable();
    assert_eq!(effects, ["grant", "none"]);
}

#[test]
fn tapjoy_a_variant_is_held_and_the_genuine_call_is_delivered() {
    let start = || gateway("tapjoy", "secrets = \"SECRETKEY\"");
    let verifier = "verifier=a1c1fb18ba62c83c72834a40594c3ba2";
    let original = format!("id=T&snuid=victim:9999&currency=5&{verifier}");
    let variant = format!("id=T:victim&snuid=9999&currency=5&{verifier}");
    in_both_orders(start, &original, &variant, |gateway| {
        let events = events(gateway);
        assert_eq!((events.len(), outcomes(gateway, "ambiguous")), (1, 1.0));
        assert_eq!(
            (&events[0]["transaction"], &events[0]["user"]),
            (&json!("T"), &json!("victim:9999"))
        );
        assert_eq!(
            gateway.metric("postern_shape_misfits_total{parameter=\"id\",source=\"s\"}"),
            1.0
        );
    });
}
