//! A sender that waits for a backend's verdict.

use std::thread;

use postern::ledger::{Embedded, EmbeddedOptions, Memory, StoreClock};

use super::backend::{Backend, Gate, Say, body, status};
use super::deliver::{game, with};
use super::gateway::{Gateway, eventually, logged, taku};
use super::wire::get;

const NO: &str = r#"{"isValid":false}"#;
const YES: &str = r#"{"isValid":true}"#;

/// `level-end` with one inline destination and this answer when it is late. The sender receives a
/// status if the verdict is late, where Taku would be held.
fn inline(backend: &Backend, late: &str) -> String {
    let game = game(backend.at) + "mode = \"inline\"\n" + late;
    let reply = "reply = { unavailable = { status = 503 } }\ndestinations";
    with(&[("game", game)]).replacen("destinations", reply, 1)
}

fn told(gateway: &Gateway, transaction: &str) -> u16 {
    get(gateway.at.callbacks, &taku(transaction)).status
}

fn verdicts(gateway: &Gateway, verdict: &str) -> f64 {
    gateway.metric(&format!("postern_verdicts_total{{destination=\"game\",verdict=\"{verdict}\"}}"))
}

#[test]
fn the_sender_is_told_what_the_backend_says_and_so_is_each_duplicate() {
    let marked = body(&format!("\u{feff}{NO}"));
    let backend = Backend::saying([body(NO), body(YES), marked]);
    let gateway = Gateway::start(&inline(&backend, ""));
    assert_eq!(told(&gateway, "no"), 602, "Taku's word for a refusal");
    assert_eq!(told(&gateway, "yes"), 200);
    assert_eq!(told(&gateway, "marked"), 602, "a byte order mark is skipped");
    for _ in 0..3 {
        assert_eq!(told(&gateway, "no"), 602);
        assert_eq!(told(&gateway, "yes"), 200);
    }
    assert_eq!(backend.got().len(), 3, "no backend is asked twice");
    assert_eq!((verdicts(&gateway, "valid"), verdicts(&gateway, "invalid")), (1.0, 2.0));
    assert_eq!((gateway.outcomes("accepted"), gateway.outcomes("duplicate")), (3.0, 6.0));
}

#[test]
fn a_duplicate_waits_for_the_verdict_that_the_first_one_waits_for() {
    let gate = Gate::default();
    let backend = Backend::saying([gate.before(body(NO))]);
    let gateway = Gateway::start(&inline(&backend, "late = \"accepted\"\n"));
    let at = gateway.at.callbacks;
    let ask = move || thread::spawn(move || get(at, &taku("both")).status);
    let first = ask();
    backend.await_count(1);
    let duplicates = [ask(), ask()];
    gate.open();
    assert_eq!(first.join().unwrap(), 602);
    for duplicate in duplicates {
        assert_eq!(duplicate.join().unwrap(), 602);
    }
    assert_eq!(backend.got().len(), 1);
}

#[test]
fn a_late_backend_changes_no_answer_that_was_given() {
    for (late, first, says, differs) in [
        ("late = \"accepted\"\n", 200, NO, "late_differs"),
        ("late = \"rejected\"\n", 602, NO, "late"),
    ] {
        let gate = Gate::default();
        let backend = Backend::saying([gate.before(body(says))]);
        let gateway = Gateway::start(&inline(&backend, late));
        assert_eq!(told(&gateway, "late"), first);
        assert_eq!(told(&gateway, "late"), first, "while the backend thinks");
        gate.open();
        eventually("a late verdict", || verdicts(&gateway, differs) == 1.0);
        assert_eq!(told(&gateway, "late"), first, "and when it has spoken");
        assert_eq!(backend.got().len(), 1);
    }
}

#[test]
fn who_is_told_to_come_again_gets_the_verdict_then() {
    let gate = Gate::default();
    let backend = Backend::saying([gate.before(body(NO))]);
    let gateway = Gateway::start(&inline(&backend, ""));
    assert_eq!(told(&gateway, "again"), 503);
    gate.open();
    eventually("the verdict", || told(&gateway, "again") == 602);
    assert_eq!(backend.got().len(), 1);
    assert_eq!(verdicts(&gateway, "late_differs"), 0.0);
}

#[test]
fn a_verdict_that_cannot_be_recorded_in_time_is_not_contradicted() {
    let ledger = Memory::new(StoreClock::process());
    ledger.fail_settlements(|_| true);
    let backend = Backend::saying([body(NO)]);
    let gateway = Gateway::over(&inline(&backend, "late = \"accepted\"\n"), ledger.clone());
    assert_eq!(told(&gateway, "slow"), 503, "neither the verdict nor the reply for a late one");
    ledger.fail_settlements(|_| false);
    eventually("the verdict", || told(&gateway, "slow") == 602);
    assert_eq!(backend.got().len(), 1);
    assert_eq!((verdicts(&gateway, "invalid"), verdicts(&gateway, "late_differs")), (1.0, 0.0));
}

#[test]
fn a_verdict_outlasts_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path().join("ledger"))).unwrap();
    let backend = Backend::saying([body(NO)]);
    let text = inline(&backend, "late = \"accepted\"\n");
    let gateway = Gateway::over(&text, open());
    assert_eq!(told(&gateway, "kept"), 602);
    gateway.stop();
    let gateway = Gateway::over(&text, open());
    assert_eq!(told(&gateway, "kept"), 602);
    assert_eq!(backend.got().len(), 1);
    gateway.stop();
}

#[test]
fn a_replay_changes_no_verdict_and_is_counted_only_if_it_differs() {
    let backend = Backend::saying([body(YES), body(YES), body(NO)]);
    let gateway = Gateway::start(&inline(&backend, "late = \"rejected\"\n"));
    assert_eq!(told(&gateway, "replayed"), 200);
    let id = backend.got()[0].header("webhook-id").to_owned();
    let replay = || {
        let path = format!("/admin/v1/events/{id}/replay");
        assert_eq!(super::wire::post(gateway.at.admin, &path, "").status, 202);
    };
    replay();
    eventually("the same", || verdicts(&gateway, "late") == 1.0);
    assert_eq!(verdicts(&gateway, "late_differs"), 0.0);
    replay();
    eventually("the contrary", || verdicts(&gateway, "late_differs") == 1.0);
    eventually("settled", || {
        gateway.metric("postern_delivery_backlog{destination=\"game\"}") == 0.0
    });
    assert_eq!(told(&gateway, "replayed"), 200, "the first counts");
}

#[test]
fn an_answer_that_breaks_off_is_asked_for_again() {
    let torn = Say::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"isValid\":fa");
    let backend = Backend::saying([status(500), torn, body(NO)]);
    let gateway = Gateway::start(&inline(&backend, "late = \"accepted\"\n"));
    assert_eq!(told(&gateway, "torn"), 602);
    assert_eq!(backend.got().len(), 3);
}

/// Responses of backends that meant a no, and a body that is too long to be read.
fn unreadable() -> Vec<Say> {
    let long = body(&format!("{{\"isValid\":false,\"why\":\"{}\"}}", "x".repeat(2000)));
    let packed = Say::Bytes(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 36\r\n\r\n\
          \x1f\x8b\x08\0\0\0\0\0\0\x03\xabV\xca,\x0eK\xcc\xc9LQ\xb2JK\xcc)N\xad\x05\0\xb9\x9f\x8b\x1a\x11\0\0\0",
    );
    let texts =
        [r#"{"isvalid":false}"#, r#"{"data":{"isValid":false}}"#, "no", r#"{"isValid":"false"}"#];
    texts.map(body).into_iter().chain([status(204), packed, long]).collect()
}

#[test]
fn a_verdict_that_cannot_be_read_gets_the_answer_for_a_late_one_at_once() {
    for (late, answer) in [("late = \"accepted\"\n", 200), ("late = \"rejected\"\n", 602)] {
        let says = unreadable();
        let count = says.len();
        let backend = Backend::saying(says);
        let gateway = Gateway::start(&inline(&backend, late));
        for n in 0..count {
            assert_eq!(told(&gateway, &format!("u{n}")), answer, "{late} {n}");
            assert_eq!(told(&gateway, &format!("u{n}")), answer, "a duplicate, {late} {n}");
        }
        assert_eq!(backend.got().len(), count, "that answer is final: no backend is asked again");
        assert_eq!(verdicts(&gateway, "unreadable"), count as f64);
        assert_eq!((verdicts(&gateway, "valid"), verdicts(&gateway, "invalid")), (0.0, 0.0));
        let id = backend.got()[0].header("webhook-id").to_owned();
        let page = get(gateway.at.admin, &format!("/admin/v1/events/{id}")).body;
        assert!(page.contains("the verdict cannot be read"), "{page}");
        let warned = logged()
            .lines()
            .filter(|line| line.contains("could not read a verdict") && line.contains("WARN"))
            .filter(|line| backend.got().iter().any(|got| line.contains(got.header("webhook-id"))))
            .count();
        assert_eq!(warned, 1, "logged once, counted each time");
    }
}

#[test]
fn who_is_told_to_come_again_gets_the_verdict_once_it_can_be_read() {
    let backend = Backend::saying([body("no"), body(r#"{"IsValid":false}"#), body(NO)]);
    let gateway = Gateway::start(&inline(&backend, ""));
    eventually("the verdict", || told(&gateway, "again") == 602);
    assert_eq!(backend.got().len(), 3);
    assert_eq!((verdicts(&gateway, "unreadable"), verdicts(&gateway, "invalid")), (2.0, 1.0));
}
