//! Each condition of `[[alert]]` through a gateway and a receiver: it opens once, is repeated, and
//! closes once. `failing` and `refusals` over a restart are in `alerts`.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use postern::clock::{now_ms, rfc3339};
use postern::ledger::{GatewayReport, Ledger as _, Memory, NodeId, StoreClock};
use serde_json::{Value, json};

use super::backend::{Backend, ok, status};
use super::deliver::{call, condition, game, tries, whsec, with};
use super::gateway::{Gateway, PLAIN, eventually, taku};
use super::kill::Process;
use super::store::{Place, file};
use super::wire::{get, post};
use super::{http2, keys, tls};

const HOUR_MS: i64 = 3_600_000;
const KEY: &[u8; 32] = b"alerts-key-0123456789-0123456789";

/// A channel to `operators` that reminds in each round.
fn channel(operators: &Backend, on: &str) -> String {
    let at = operators.at;
    format!(
        "[[alert]]\nname = \"oncall\"\nurl = \"http://{at}/\"\nsecret = \"{}\"\non = {on}\n\
         remind = \"1s\"\n",
        whsec(KEY)
    )
}

/// The notices about `alert` so far.
fn notices(operators: &Backend, alert: &str) -> Vec<Value> {
    let all = operators.got();
    all.iter().map(super::backend::Got::json).filter(|one| one["alert"] == alert).collect()
}

fn text(notice: &Value) -> &str {
    notice["text"].as_str().unwrap()
}

fn is_reminder(notice: &Value) -> bool {
    notice["state"] == "open" && text(notice).starts_with("Still open: ")
}

fn is_closed(notice: &Value) -> bool {
    notice["state"] == "closed"
}

/// Follows an alert from its opening over a reminder to its end, which `mend` brings about.
/// Returns the first notice and the last.
fn follow(operators: &Backend, alert: &str, mend: impl FnOnce()) -> (Value, Value) {
    let heard = |what: fn(&Value) -> bool| notices(operators, alert).iter().any(what);
    eventually(&format!("{alert} opens"), || heard(|one| one["state"] == "open"));
    eventually(&format!("{alert} is repeated"), || heard(is_reminder));
    mend();
    eventually(&format!("{alert} closes"), || heard(is_closed));
    let all = notices(operators, alert);
    let (first, last) = (all.first().unwrap().clone(), all.last().unwrap().clone());
    once(&all);
    (first, last)
}

/// Opened once, then repeated, closed once, and all of it about one problem.
fn once(all: &[Value]) {
    let states: Vec<&str> = all
        .iter()
        .map(|one| match one {
            one if is_closed(one) => "closed",
            one if is_reminder(one) => "reminder",
            _ => "open",
        })
        .collect();
    let reminders = all.len() - 2;
    let expected = [vec!["open"], vec!["reminder"; reminders], vec!["closed"]].concat();
    assert_eq!(states, expected, "{all:#?}");
    assert!(all.iter().all(|one| one["since"] == all[0]["since"]), "{all:#?}");
}

#[test]
fn a_breaker_that_opens_and_closes() {
    let (backend, operators) = (Backend::start(), Backend::start());
    backend.says(status(503));
    let text_of =
        with(&[("game", tries(backend.at, 10_000))]) + &channel(&operators, "\"breaker\"");
    let gateway = Gateway::start(&text_of);
    call(&gateway, "breaker-1");
    let (first, last) = follow(&operators, "breaker", || {
        backend.says(ok());
        // A probe at once, whatever the breaker waits for.
        condition(&gateway, "resume");
    });
    assert_eq!(first["destination"], "game");
    assert!(text(&first).contains("circuit breaker is open"), "{first}");
    assert!(text(&last).contains("circuit breaker is closed"), "{last}");
}

#[test]
fn dead_letters_until_they_are_replayed() {
    let (backend, operators) = (Backend::start(), Backend::start());
    backend.says(status(401));
    let text_of = with(&[("game", tries(backend.at, 2))]) + &channel(&operators, "\"dead\"");
    let gateway = Gateway::start(&text_of);
    call(&gateway, "dead-1");
    let (first, _) = follow(&operators, "dead", || {
        backend.says(ok());
        let order = r#"{"state":"dead","destination":"game"}"#;
        assert_eq!(post(gateway.at.admin, "/admin/v1/replay", order).status, 202);
    });
    assert!(text(&first).contains("has 1 dead letter"), "{first}");
    assert!(first["url"].as_str().unwrap().ends_with("/console/dead-letters?destination=game"));
}

/// 1. Two destinations get one event. One is paused, the other one fails and waits for an hour.
/// 2. Three hours later both deliveries are overdue: the operators are notified of the one that is not paused.
/// 3. Another event has the gateway look again: everything is delivered.
#[test]
fn an_overdue_delivery_unless_an_operator_paused_its_destination() {
    let (paused, fails, operators) = (Backend::start(), Backend::start(), Backend::start());
    fails.says(status(503));
    let rarely = tries(fails.at, 100).replace("20ms", "1h").replace("100ms", "1h");
    let destinations = [("game", game(paused.at)), ("other", rarely)];
    let text_of = with(&destinations) + &channel(&operators, "[\"overdue\", \"failing\"]");
    let clock = StoreClock::manual(now_ms());
    let gateway = Gateway::over(&text_of, Memory::new(clock.clone()));
    condition(&gateway, "pause");
    call(&gateway, "overdue-1");
    fails.await_count(1);
    // An attempt is over before it is recorded; only then is the next one due in an hour.
    let event = fails.got()[0].header("webhook-id").to_owned();
    eventually("the next attempt is in an hour", || {
        let shown = get(gateway.at.admin, &format!("/admin/v1/events/{event}")).json();
        let all = shown["deliveries"].as_array().unwrap();
        let other = all.iter().find(|one| one["destination"] == "other").unwrap();
        other["attempts"].as_array().unwrap().len() == 1
    });
    clock.advance(3 * HOUR_MS);
    let (first, _) = follow(&operators, "overdue", || {
        fails.says(ok());
        call(&gateway, "overdue-2");
    });
    assert_eq!(first["destination"], "other");
    assert!(text(&first).contains("is overdue by"), "{first}");
    let about_game = |one: &super::backend::Got| one.json()["destination"] == "game";
    assert!(!operators.got().iter().any(about_game), "a pause is deliberate");
    assert!(paused.got().is_empty());
}

/// A destination that fails is paused while an operator mends it: the alert closes and says why.
#[test]
fn a_pause_ends_the_alerts_about_a_destination() {
    let (backend, operators) = (Backend::start(), Backend::start());
    backend.says(status(503));
    let text_of = with(&[("game", tries(backend.at, 10_000))])
        + &channel(&operators, "[\"failing\", \"breaker\"]");
    let gateway = Gateway::start(&text_of);
    call(&gateway, "pause-1");
    eventually("both open", || {
        ["failing", "breaker"].iter().all(|alert| !notices(&operators, alert).is_empty())
    });
    let (_, last) = follow(&operators, "failing", || drop(condition(&gateway, "pause")));
    assert!(text(&last).contains("was paused"), "{last}");
    eventually("both close", || notices(&operators, "breaker").iter().any(is_closed));
    gateway.await_metric("postern_alerts_open{alert=\"failing\"}", 0.0);
    let before = operators.got().len();
    // Resumed, it fails as before.
    condition(&gateway, "resume");
    let got = operators.await_count(before + 1);
    assert!(got[before..].iter().all(|one| one.json()["state"] == "open"), "{got:?}");
}

#[test]
fn a_callback_in_quarantine_until_it_is_decided() {
    let operators = Backend::start();
    let rules = "quarantine = { reasons = [\"bad_signature\"], keep = \"14d\" }\nsecrets =";
    let text_of = PLAIN.replace("secrets =", rules) + &channel(&operators, "\"quarantine\"");
    let gateway = Gateway::start(&text_of);
    get(gateway.at.callbacks, &taku("quarantine-1").replace("sign=", "sign=0"));
    let (first, _) = follow(&operators, "quarantine", || {
        let held = get(gateway.at.admin, "/admin/v1/held").json();
        let id = held["held"][0]["id"].as_str().unwrap().to_owned();
        let dropped = post(gateway.at.admin, &format!("/admin/v1/held/{id}/drop"), "");
        assert_eq!(dropped.status, 200, "{}", dropped.body);
    });
    assert_eq!(first["source"], "level-end");
    assert!(text(&first).contains("has 1 "), "{first}");
    assert!(first["url"].as_str().unwrap().ends_with("/console/held?source=level-end"));
}

/// A byte of the journal flips, and flips back.
#[test]
fn a_damaged_store_until_it_is_whole() {
    let operators = Backend::start();
    let text_of = PLAIN.to_owned() + &channel(&operators, "\"store\"");
    let here = Place::new(&text_of);
    let process = Process::start(&here.config());
    let at = text_of.replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", process.admin));
    fs::write(here.config(), at).unwrap();
    for n in 0..10 {
        assert_eq!(get(process.callbacks, &taku(&format!("store-{n}"))).status, 200);
    }
    let path = here.segments().remove(0);
    let journal = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    journal.read_exact_at(&mut byte, 200).unwrap();
    journal.write_all_at(&[byte[0] ^ 1], 200).unwrap();
    assert!(here.failed(&[], &["verify"]).contains(file(&path)));
    let (first, last) = follow(&operators, "store", || {
        journal.write_all_at(&byte, 200).unwrap();
        here.done(&[], &["verify"]);
    });
    assert!(text(&first).contains("damaged in 1 place"), "{first}");
    assert!(text(&last).contains("not damaged any more"), "{last}");
    process.stop();
    once(&notices(&operators, "store"));
}

/// A key set that cannot be fetched for a minute, and then can.
#[test]
fn a_key_set_that_cannot_be_fetched() {
    let (server, operators) = (Backend::start(), Backend::start());
    server.says(status(500));
    let key = keys::Key::new("7");
    let gateway = Gateway::start(&(keys::text(&server) + &channel(&operators, "\"keys\"")));
    // After 1, 2, 4, 8 and 16 s: half of the minute.
    server.await_count(6);
    let (first, last) = follow(&operators, "keys", || {
        server.says(keys::list(&[&key]));
        // A callback with an unknown key has it fetched before the next try is due.
        let probe = key.admob("keys-1");
        eventually("the key set is fetched", || get(gateway.at.callbacks, &probe).status == 200);
    });
    assert!(text(&first).starts_with("Sender admob: its public keys"), "{first}");
    assert!(text(&last).contains("up to date"), "{last}");
}

/// A certificate that expires within two weeks, renewed.
#[test]
fn a_certificate_that_expires_soon() {
    let (folder, operators) = (tempfile::tempdir().unwrap(), Backend::start());
    let soon = rfc3339(now_ms() + 5 * 24 * HOUR_MS);
    let mut day = soon[..10].split('-').map(|part| part.parse::<i32>().unwrap());
    let (year, month, day) = (day.next().unwrap(), day.next().unwrap(), day.next().unwrap());
    let mut params = rcgen::CertificateParams::new(vec![String::from("localhost")]).unwrap();
    params.not_after =
        rcgen::date_time_ymd(year, u8::try_from(month).unwrap(), u8::try_from(day).unwrap());
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    fs::write(folder.path().join("cert.pem"), made.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    let text_of = tls::text(folder.path()) + &channel(&operators, "\"certificate\"");
    let gateway = Gateway::start(&text_of);
    let (first, last) = follow(&operators, "certificate", || {
        tls::certificate(folder.path());
        gateway.reload(&text_of);
    });
    let expected = format!("Listener callbacks: its certificate is valid until {}", &soon[..10]);
    assert!(text(&first).starts_with(&expected), "{first}");
    assert!(text(&last).contains("no certificate of it expires soon"), "{last}");
}

#[test]
fn a_changed_configuration_that_is_not_applied() {
    let operators = Backend::start();
    let text_of = PLAIN.to_owned() + &channel(&operators, "\"reload\"");
    let here = Place::new(&text_of);
    let process = Process::start(&here.config());
    fs::write(here.config(), "[server]\ncallbacks = 1\n").unwrap();
    let (first, _) = follow(&operators, "reload", || {
        fs::write(here.config(), text_of.replace("drain = \"5s\"", "drain = \"6s\"")).unwrap();
    });
    assert!(text(&first).contains("did not apply the changed configuration"), "{first}");
    process.stop();
    once(&notices(&operators, "reload"));
}

/// A wrong secret is reported with its reason, and closes when verified callbacks come again.
#[test]
fn a_share_of_rejections_with_its_main_reason() {
    let operators = Backend::start();
    let gateway = Gateway::start(&(PLAIN.to_owned() + &channel(&operators, "\"refusals\"")));
    for n in 0..10 {
        get(gateway.at.callbacks, &taku(&format!("share-{n}")).replace("sign=", "sign=0"));
    }
    get(gateway.at.callbacks, "/callback/level-end?trans_id=t");
    let (first, last) = follow(&operators, "refusals", || {
        for n in 0..110 {
            assert_eq!(get(gateway.at.callbacks, &taku(&format!("share-{n}"))).status, 200);
        }
    });
    let expected = "Source level-end rejected 11 of 11 callbacks, mostly for bad_signature; usual \
                    are 0 %. Check its secrets";
    assert!(text(&first).starts_with(expected), "{first}");
    assert!(text(&last).contains("rejects no more callbacks than usual"), "{last}");
}

// === A source that was called each minute of a day ===

/// A record of a gateway that ended: sixty callbacks an hour, the last of them three hours ago.
fn record_of_a_day(now_ms: i64) -> Vec<u8> {
    let number = |to: &mut Vec<u8>, mut n: u64| {
        while n >= 0x80 {
            to.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        to.push(n as u8);
    };
    let last_ms = u64::try_from(now_ms - 3 * HOUR_MS).unwrap();
    let mut source = Vec::new();
    number(&mut source, 9);
    source.extend(b"level-end");
    // The last one, the last that verified; no totals, no reasons; one outcome.
    [last_ms, last_ms, 0, 0, 1, 8].iter().for_each(|n| number(&mut source, *n));
    source.extend(b"accepted");
    number(&mut source, 0); // no minutes
    number(&mut source, 27);
    (3..30).for_each(|age| [age, 60].iter().for_each(|n| number(&mut source, *n)));
    number(&mut source, 0); // no latencies
    let (mut record, now) = (Vec::new(), u64::try_from(now_ms).unwrap());
    // The version, the time, since when; no problems, no destinations.
    [1, now, now - 30 * 3_600_000, 0, 0].iter().for_each(|n| number(&mut record, *n));
    number(&mut record, source.len() as u64);
    [record, source].concat()
}

#[test]
fn a_source_that_is_silent_for_longer_than_usual() {
    let (ledger, operators) = (Memory::new(StoreClock::process()), Backend::start());
    http2::run(async {
        let who = NodeId::from(String::from("before"));
        let slot = ledger.join(&who, Duration::ZERO).await.unwrap().slot;
        let body = record_of_a_day(now_ms()).into();
        let report = GatewayReport { slot, who, ttl: Duration::ZERO, body };
        assert!(ledger.report(&report).await.unwrap().is_some());
    });
    let gateway = Gateway::over(&(PLAIN.to_owned() + &channel(&operators, "\"silent\"")), ledger);
    let (first, _) = follow(&operators, "silent", || {
        assert_eq!(get(gateway.at.callbacks, &taku("silent-1")).status, 200);
    });
    assert_eq!((&first["source"], &first["state"]), (&json!("level-end"), &json!("open")));
    assert!(text(&first).contains("its usual gap is 1m"), "{first}");
}
