//! Recorded events reach their destinations.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use postern::clock::now_ms;
use postern::ledger::{Embedded, EmbeddedOptions, LeaseResult, Memory, StoreClock};
use serde_json::Value;
use sha2::Sha256;

use super::backend::{Backend, Gate, Got, Say, ok, status};
use super::gateway::{Gateway, PLAIN, TAKU_SECRET, eventually, logged, taku};
use super::wire::{get, post, post_bytes};

pub const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
pub const OLD_KEY: &[u8] = b"fedcba9876543210fedcba9876543210";

pub fn whsec(key: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(key))
}

/// `level-end`, delivered to these.
pub fn with(destinations: &[(&str, String)]) -> String {
    let names: Vec<String> = destinations.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let mut text = format!("{PLAIN}destinations = [{}]\n", names.join(", "));
    for (name, rest) in destinations {
        text.push_str(&format!("[[destination]]\nname = \"{name}\"\n{rest}\n"));
    }
    text
}

/// A destination whose deliveries are retried within milliseconds.
pub fn game(at: SocketAddr) -> String {
    tries(at, 20)
}

pub fn tries(at: SocketAddr, attempts: u32) -> String {
    format!(
        "url = \"http://{at}/rewards?k=v\"\nsecret = \"{}\"\ntimeout = \"20s\"\n\
         retry = {{ first = \"20ms\", max = \"100ms\", attempts = {attempts} }}\n",
        whsec(KEY)
    )
}

pub fn outcomes(gateway: &Gateway, outcome: &str) -> f64 {
    gateway
        .metric(&format!("postern_deliveries_total{{destination=\"game\",outcome=\"{outcome}\"}}"))
}

pub fn call(gateway: &Gateway, transaction: &str) {
    assert_eq!(get(gateway.at.callbacks, &taku(transaction)).status, 200);
}

fn signature(got: &Got, key: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    let (id, stamp) = (got.header("webhook-id"), got.header("webhook-timestamp"));
    mac.update(format!("{id}.{stamp}.").as_bytes());
    mac.update(&got.body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[test]
fn an_event_comes_at_once_and_signed() {
    let backend = Backend::start();
    let gateway = Gateway::start(&with(&[("game", game(backend.at))]));
    call(&gateway, "warm");
    backend.await_count(1);
    call(&gateway, "d1");
    let got = &backend.await_count(2)[1];
    assert_eq!(got.line, "POST /rewards?k=v HTTP/1.1");
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.header("webhook-signature"), signature(got, KEY));
    let stamp: u64 = got.header("webhook-timestamp").parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(now.abs_diff(stamp) < 300);
    let event = got.json();
    assert_eq!(event["id"], got.header("webhook-id"));
    assert_eq!(event["transaction"], "d1");
    assert_eq!(event["params"]["placement_id"], "p1");
    let page = get(gateway.at.admin, &format!("/admin/v1/events/{}", got.header("webhook-id")));
    eventually("done", || outcomes(&gateway, "done") == 2.0);
    assert_eq!(gateway.metric("postern_delivery_attempt_seconds_count"), 2.0);
    gateway.await_metric("postern_delivery_backlog{destination=\"game\"}", 0.0);
    assert_eq!(page.status, 200);
    for n in 2..22 {
        call(&gateway, &format!("d{n}"));
        eventually("done", || outcomes(&gateway, "done") == f64::from(n + 1));
    }
    // One may be on its way back to the others when the next delivery begins.
    let last = backend.got().last().map(|got| got.connection).unwrap();
    assert!(last < 10, "connections are used again: {last}");
}

#[test]
fn several_secrets_make_several_signatures() {
    let backend = Backend::start();
    let both = format!("secret = [\"{}\", \"{}\"]", whsec(KEY), whsec(OLD_KEY));
    let one = format!("secret = \"{}\"", whsec(KEY));
    let game = game(backend.at).replace(&one, &both) + "headers = { X-Game = \"g1\" }\n";
    let gateway = Gateway::start(&with(&[("game", game)]));
    call(&gateway, "s1");
    let got = &backend.await_count(1)[0];
    let expected = format!("{} {}", signature(got, KEY), signature(got, OLD_KEY));
    assert_eq!(got.header("webhook-signature"), expected);
    assert_eq!(got.header("x-game"), "g1");
}

#[test]
fn what_fails_is_tried_again_under_the_same_id_until_it_is_taken() {
    let says = [
        status(500),
        status(404),
        Say::Nothing,
        Say::Bytes(b"220 mail.example.com ESMTP\r\n"),
        Say::Late(Duration::from_secs(1)),
        Say::Status(302, "Location: /elsewhere\r\n", String::new()),
    ];
    let count = says.len();
    let backend = Backend::saying(says);
    let impatient = game(backend.at).replace("20s", "300ms");
    let gateway = Gateway::start(&with(&[("game", impatient)]));
    call(&gateway, "r1");
    let got = backend.await_count(count + 1);
    let id = got[0].header("webhook-id");
    assert!(got.iter().all(|got| got.header("webhook-id") == id));
    assert!(got.iter().all(|got| got.line.starts_with("POST /rewards")), "no redirect is followed");
    assert!(got.iter().all(|got| got.header("webhook-signature") == signature(got, KEY)));
    eventually("done", || outcomes(&gateway, "done") == 1.0);
    assert_eq!(outcomes(&gateway, "retry"), count as f64);
    let page = get(gateway.at.admin, &format!("/admin/v1/events/{id}")).body;
    for told in ["\"status\":500", "\"status\":404", "no answer in time", "redirects are not"] {
        assert!(page.contains(told), "{told} in {page}");
    }
    gateway.await_metric("postern_delivery_backlog{destination=\"game\"}", 0.0);
    assert_eq!(backend.got().len(), count + 1, "what was taken is not delivered again");
}

#[test]
fn the_gaps_grow() {
    let backend = Backend::saying([status(500), status(500), status(500)]);
    let game = game(backend.at).replace("20ms", "50ms").replace("\"100ms\"", "\"10s\"");
    let gateway = Gateway::start(&with(&[("game", game)]));
    call(&gateway, "g1");
    let got = backend.await_count(4);
    for (pair, gap) in got.windows(2).zip([50, 100, 200]) {
        let took = pair[1].at - pair[0].at;
        let gap = Duration::from_millis(gap);
        assert!(took >= gap, "{took:?} for {gap:?}");
    }
}

#[test]
fn a_backend_says_when_to_come_again() {
    let backend = Backend::saying([Say::Status(503, "Retry-After: 1\r\n", String::new())]);
    let gateway = Gateway::start(&with(&[("game", game(backend.at))]));
    call(&gateway, "a1");
    let got = backend.await_count(2);
    assert!(got[1].at - got[0].at >= Duration::from_secs(1));
}

#[test]
fn what_is_never_taken_is_dead_after_its_attempts() {
    let backend = Backend::start();
    backend.says(Say::Status(500, "", "x".repeat(5000)));
    let gateway = Gateway::start(&with(&[("game", tries(backend.at, 3))]));
    call(&gateway, "x1");
    eventually("dead", || outcomes(&gateway, "dead") == 1.0);
    assert_eq!(backend.got().len(), 3);
    assert_eq!(outcomes(&gateway, "retry"), 2.0);
    let id = backend.got()[0].header("webhook-id").to_owned();
    let shown = || -> serde_json::Value {
        serde_json::from_str(&get(gateway.at.admin, &format!("/admin/v1/events/{id}")).body)
            .unwrap()
    };
    eventually("dead in the ledger", || shown()["deliveries"][0]["state"] == "dead");
    let attempts = shown()["deliveries"][0]["attempts"].clone();
    assert_eq!(attempts.as_array().unwrap().len(), 3);
    assert_eq!(attempts[0]["answer"].as_str().unwrap().len(), 1024);
    assert!(logged().lines().any(|line| line.contains("dead-lettered") && line.contains(&id)));
}

#[test]
fn a_destination_that_is_gone_gets_no_second_attempt() {
    let backend = Backend::saying([status(410)]);
    let gateway = Gateway::start(&with(&[("game", game(backend.at))]));
    call(&gateway, "z1");
    eventually("gone", || outcomes(&gateway, "gone") == 1.0);
    call(&gateway, "z2");
    let shown = condition(&gateway, "status");
    assert_eq!((&shown["state"], &shown["paused"]["why"]), (&"paused".into(), &"gone".into()));
    assert_eq!(shown["pending"], 1, "{shown}");
    assert_eq!(backend.got().len(), 1, "nothing more is sent");
    let resumed = condition(&gateway, "resume");
    assert_eq!((&resumed["state"], &resumed["paused"]), (&"active".into(), &Value::Null));
    assert_eq!(backend.await_count(2)[1].json()["transaction"], "z2");
}

/// Asks about the destination `game`, or changes it.
pub fn condition(gateway: &Gateway, what: &str) -> Value {
    let path = format!("/admin/v1/destinations/game/{what}");
    let answer = match what {
        "status" => get(gateway.at.admin, &path),
        _ => post(gateway.at.admin, &path, ""),
    };
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn neither_a_dead_nor_a_slow_destination_holds_up_another() {
    let (backend, slow) = (Backend::start(), Backend::start());
    slow.says(Say::Late(Duration::from_secs(60)));
    let dead = game(Backend::nowhere());
    let slow_one = game(slow.at).replace("20s", "1m") + "concurrency = 1\n";
    let text = with(&[("dead", dead), ("slow", slow_one), ("game", game(backend.at))]);
    let gateway = Gateway::start(&text);
    for n in 0..50 {
        call(&gateway, &format!("h{n}"));
    }
    backend.await_count(50);
    assert_eq!(slow.got().len(), 1, "one at a time");
    assert!(!gateway.has_ended());
}

/// A backend that answers each request with informational responses and never ends, until the
/// gateway closes the connection or this is dropped.
struct Flood {
    at: SocketAddr,
    counts: Arc<FloodCounts>,
}

#[derive(Default)]
struct FloodCounts {
    /// Writes, each of [`Flood::WRITE`] responses.
    writes: AtomicUsize,
    /// Connections that the gateway closed.
    closed: AtomicUsize,
}

impl Flood {
    /// Responses in one write.
    const WRITE: usize = 1024;

    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let flood = Self { at: listener.local_addr().unwrap(), counts: Arc::default() };
        let counts = Arc::downgrade(&flood.counts);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, counts) = (stream.unwrap(), Weak::clone(&counts));
                std::thread::spawn(move || Self::answer(stream, &counts));
            }
        });
        flood
    }

    fn answer(mut stream: TcpStream, counts: &Weak<FloodCounts>) {
        let responses = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(Self::WRITE);
        // An answer before the request would be an error.
        let Ok(1..) = stream.read(&mut [0; 4096]) else { return };
        while let Some(counts) = counts.upgrade() {
            if stream.write_all(&responses).is_err() {
                counts.closed.fetch_add(1, Ordering::SeqCst);
                return;
            }
            counts.writes.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn writes(&self) -> usize {
        self.counts.writes.load(Ordering::SeqCst)
    }

    /// Waits until it has written more.
    fn await_more(&self) {
        let before = self.writes();
        eventually("the flood goes on", || self.writes() > before);
    }
}

/// The attempts for `endless` last as long as the test. Those for `late` end by their timeout.
#[test]
fn informational_responses_without_an_end_hold_up_no_other_destination() {
    const FLOODS: usize = 4;
    let (backend, endless, late) = (Backend::start(), Flood::start(), Flood::start());
    let lasting = game(endless.at).replace("20s", "1m") + &format!("concurrency = {FLOODS}\n");
    let short = game(late.at).replace("20s", "2s") + "concurrency = 1\n";
    let text = with(&[("endless", lasting), ("late", short), ("game", game(backend.at))]);
    let gateway = Gateway::start(&text.replace("\"5s\"", "\"200ms\""));
    for n in 0..FLOODS {
        call(&gateway, &format!("flood-{n}"));
    }
    endless.await_more();
    call(&gateway, "flooded");
    let got = backend.await_count(FLOODS + 1);
    assert!(got.iter().any(|got| got.json()["transaction"] == "flooded"));
    endless.await_more();

    let event = got[0].header("webhook-id");
    eventually("an attempt ends by its timeout", || {
        let shown = get(gateway.at.admin, &format!("/admin/v1/events/{event}")).json();
        let all = shown["deliveries"].as_array().unwrap();
        let delivery = all.iter().find(|one| one["destination"] == "late").unwrap();
        let attempts = delivery["attempts"].as_array().unwrap();
        attempts.iter().any(|attempt| attempt["error"] == "no answer in time")
    });
    eventually("its connection is closed", || late.counts.closed.load(Ordering::SeqCst) > 0);
    endless.await_more();
}

#[test]
fn a_backlog_is_delivered_in_as_many_attempts_as_there_are_places() {
    let backend = Backend::start();
    let refused = Backend::nowhere();
    let mut gateway = Gateway::start(&with(&[("game", tries(refused, 1000))]));
    for n in 0..300 {
        call(&gateway, &format!("b{n}"));
    }
    let game = tries(backend.at, 1000) + "concurrency = 3\n";
    gateway.reload(&with(&[("game", game)]));
    let got = backend.await_count(300);
    let ids: std::collections::HashSet<&str> =
        got.iter().map(|got| got.header("webhook-id")).collect();
    assert_eq!(ids.len(), 300);
    assert!(got.iter().map(|got| got.connection).max().unwrap() < 4, "three connections");
    gateway.ask_to_stop();
}

#[test]
fn a_broken_destination_is_left_alone_and_found_again() {
    let backend = Backend::start();
    backend.says(status(503));
    let game = tries(backend.at, 1000).replace("100ms", "1s");
    let gateway = Gateway::start(&with(&[("game", game)]));
    for n in 0..30 {
        call(&gateway, &format!("k{n}"));
    }
    eventually("open", || logged().lines().any(|line| line.contains("circuit breaker opened")));
    backend.says(ok());
    eventually("all", || outcomes(&gateway, "done") == 30.0);
    assert_eq!(outcomes(&gateway, "dead"), 0.0);
}

#[test]
fn a_sender_is_passed_on_as_it_called() {
    let backend = Backend::start();
    let forward = format!("url = \"http://{}/old?k=v\"\nformat = \"forward\"\n", backend.at);
    let text = with(&[("game", forward)]);
    let gateway = Gateway::start(&text);
    let target = taku("f1");
    assert_eq!(get(gateway.at.callbacks, &target).status, 200);
    let got = &backend.await_count(1)[0];
    let query = target.split_once('?').unwrap().1;
    assert_eq!(got.line, format!("GET /old?k=v&{query} HTTP/1.1"));
    assert!(got.header("webhook-id").starts_with("evt_"));
    assert_eq!(got.header("host"), backend.at.to_string());
    assert!(got.body.is_empty());
}

#[test]
fn a_posted_callback_is_passed_on_with_its_body() {
    let backend = Backend::start();
    let forward = format!("url = \"http://{}\"\nformat = \"forward\"\n", backend.at);
    let text =
        super::bounds::with_form(&with(&[("game", forward)]).replace("\"taku\"", "\"form\""));
    let gateway = Gateway::start(&text);
    let sign = const_hex::encode(Md5::digest(format!("p1{TAKU_SECRET}")));
    let body = format!("t=p1&u=%7Ea+b&sign={sign}");
    let fields = "Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nX-Sign: 1";
    let bytes = post_bytes("/callback/level-end", &body).replace("Host: localhost", fields);
    assert_eq!(super::wire::ask(gateway.at.callbacks, bytes).status, 200);
    let got = &backend.await_count(1)[0];
    assert!(got.line.starts_with("POST /"), "{}", got.line);
    assert_eq!(got.body, body.as_bytes());
    assert_eq!(got.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(got.find("x-sign"), None, "the sender's file does not read it");
}

#[test]
fn a_classic_reward_url_gets_its_values() {
    let backend = Backend::start();
    let url = format!("http://{}/reward/{{user_id}}?t=[transaction]&id=[event_id]", backend.at);
    let template = format!("url = \"{url}\"\nformat = \"template\"\n");
    let text = with(&[("game", template)])
        .replace("destinations", "template = \"type=1&who={user_id}\"\ndestinations");
    let gateway = Gateway::start(&text);
    call(&gateway, "t1");
    let got = &backend.await_count(1)[0];
    let id = got.header("webhook-id");
    assert_eq!(got.line, format!("GET /reward/u1?t=t1&id={id}&type=1&who=u1 HTTP/1.1"));
}

#[test]
fn what_waits_for_a_destination_that_is_taken_away_is_kept() {
    let backend = Backend::start();
    let gateway = Gateway::start(&with(&[("game", game(Backend::nowhere()))]));
    call(&gateway, "w1");
    eventually("tried", || outcomes(&gateway, "retry") > 0.0);
    gateway.reload(PLAIN);
    let waits = || gateway.metric("postern_oldest_due_seconds") > 0.0;
    eventually("it is seen to wait", waits);
    gateway.reload(&with(&[("game", game(backend.at))]));
    assert_eq!(backend.await_count(1)[0].json()["transaction"], "w1");
}

#[test]
fn a_restart_delivers_what_was_pending() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path().join("ledger"))).unwrap();
    let late = Backend::start();
    late.says(Say::Late(Duration::from_secs(60)));
    let slow = game(late.at).replace("20s", "30s").replace("game", "slow");
    let first = with(&[("game", slow)]).replace("5s", "200ms");
    let gateway = Gateway::over(&first, open());
    call(&gateway, "q1");
    late.await_count(1);
    gateway.stop();

    let backend = Backend::start();
    let gateway = Gateway::over(&with(&[("game", game(backend.at))]), open());
    let got = &backend.await_count(1)[0];
    assert_eq!(got.json()["transaction"], "q1");
    assert_eq!(got.header("webhook-id"), late.got()[0].header("webhook-id"));
    gateway.stop();
}

/// 1. Nothing can be settled: an event is delivered, and its lease expires.
/// 2. Another event has the gateway look for due deliveries: it leases none.
/// 3. Deliveries can be settled again: each event was delivered once.
#[test]
fn what_cannot_be_settled_is_not_delivered_again() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let (backend, clock) = (Backend::start(), StoreClock::manual(now_ms()));
    let ledger = Memory::new(clock.clone());
    let gateway = Gateway::over(&with(&[("game", game(backend.at))]), ledger.clone());
    ledger.fail_settlements(|_| {
        CALLS.fetch_add(1, Ordering::SeqCst);
        true
    });
    call(&gateway, "once-1");
    eventually("a call has failed", || CALLS.load(Ordering::SeqCst) > 1);
    clock.advance(120_000);
    call(&gateway, "once-2");
    // The dispatcher looks before each answer.
    for _ in 0..10 {
        condition(&gateway, "status");
    }
    assert_eq!(backend.got().len(), 1);
    ledger.fail_settlements(|_| false);
    assert_eq!(backend.await_count(2)[1].json()["transaction"], "once-2");
    gateway.await_metric("postern_delivery_backlog{destination=\"game\"}", 0.0);
    assert_eq!(backend.got().len(), 2);
}

/// A failed attempt has to be durable, and cannot be; a delivery that is done does not wait for it.
#[test]
fn a_delivery_is_done_while_the_result_of_another_cannot_be_durable() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let (gate, fails) = (Gate::default(), Backend::start());
    fails.says(status(503));
    let backend = Backend::saying([gate.before(ok())]);
    let ledger = Memory::new(StoreClock::process());
    let text = with(&[("game", game(backend.at)), ("other", game(fails.at))]);
    let gateway = Gateway::over(&text, ledger.clone());
    ledger.fail_settlements(|result| {
        let is_retry = matches!(result, LeaseResult::Retry { .. });
        CALLS.fetch_add(usize::from(is_retry), Ordering::SeqCst);
        is_retry
    });
    call(&gateway, "apart-1");
    let event = backend.await_count(1)[0].header("webhook-id").to_owned();
    eventually("a call has failed", || CALLS.load(Ordering::SeqCst) > 1);
    gate.open();
    eventually("the other one is done", || {
        let shown = get(gateway.at.admin, &format!("/admin/v1/events/{event}")).json();
        let all = shown["deliveries"].as_array().unwrap();
        all.iter().any(|one| one["destination"] == "game" && one["state"] == "done")
    });
}

#[test]
fn a_stop_lets_an_attempt_end() {
    let backend = Backend::saying([Say::Late(Duration::from_millis(400))]);
    let gateway = Gateway::start(&with(&[("game", game(backend.at).replace("20s", "200ms"))]));
    call(&gateway, "e1");
    backend.await_count(1);
    gateway.stop();
    assert_eq!(backend.got().len(), 1, "no new attempt begins in a drain");
}

#[test]
fn what_is_dead_is_listed_and_delivered_again_by_hand() {
    let backend = Backend::saying([status(410)]);
    let gateway = Gateway::start(&with(&[("game", game(backend.at))]));
    call(&gateway, "l1");
    let id = backend.await_count(1)[0].header("webhook-id").to_owned();
    let list = |state: &str| -> serde_json::Value {
        let page = get(gateway.at.admin, &format!("/admin/v1/deliveries?state={state}"));
        assert_eq!(page.status, 200, "{}", page.body);
        serde_json::from_str(&page.body).unwrap()
    };
    eventually("dead", || list("dead")["deliveries"].as_array().unwrap().len() == 1);
    assert_eq!(list("dead")["deliveries"][0]["event"], id.as_str());
    assert_eq!(list("dead")["deliveries"][0]["destination"], "game");
    assert_eq!(get(gateway.at.admin, "/admin/v1/deliveries").status, 400);

    let replay = |id: &str| post(gateway.at.admin, &format!("/admin/v1/events/{id}/replay"), "");
    let answer = replay(&id);
    let counts = "{\"events\":1,\"deliveries\":1,\"skipped\":0}";
    assert_eq!((answer.status, answer.body.trim()), (202, counts));
    assert_eq!(backend.await_count(2)[1].header("webhook-id"), id);
    eventually("done", || list("done")["deliveries"].as_array().unwrap().len() == 1);
    assert!(list("dead")["deliveries"].as_array().unwrap().is_empty());
    assert_eq!(replay("evt_00000000000000000000000000000000").status, 404);
    assert_eq!(get(gateway.at.admin, &format!("/admin/v1/events/{id}/replay")).status, 405);
}
