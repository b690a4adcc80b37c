//! Everything has a bound: heads, bodies, time, connections.

use std::time::Duration;

use postern::clock;

use super::gateway::{Gateway, PLAIN, eventually, taku};
use super::kill::{Process, recorded};
use super::wire::{Wire, ask, get, get_bytes, post_bytes};

const SHORT: &str = r#"
[server]
callbacks = "127.0.0.1:0"
admin = "127.0.0.1:0"
limits = { head_timeout = "300ms", body_timeout = "300ms", body = "1KiB" }

[[source]]
name = "level-end"
sender = "form"
secrets = "k"

[[source]]
name = "taku"
sender = "taku"
secrets = "0123456789abcdefghijklmnopqrstuv"
"#;

fn rejections(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("postern_rejections_total{{reason=\"{reason}\",source=\"level-end\"}}"))
}

#[test]
fn a_connection_whose_body_was_not_read_ends_and_says_so() {
    let gateway = Gateway::start(&with_form(SHORT));
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n"
        )
    };
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send(head("/callback/none"));
    let answer = wire.answer().unwrap();
    assert_eq!((answer.status, answer.field("connection").as_deref()), (404, Some("close")));
    assert!(wire.is_closed());
    // One that was read leaves the connection as it was.
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send(head("/callback/level-end"));
    std::thread::sleep(Duration::from_millis(50));
    wire.send("0123456789");
    let answer = wire.answer().unwrap();
    assert_eq!(answer.field("connection"), None, "{}", answer.head);
    wire.send(get_bytes("/callback/none"));
    assert_eq!(wire.answer().unwrap().status, 404);
}

#[test]
fn a_head_that_trickles_in_is_cut_off() {
    let gateway = Gateway::start(&with_form(SHORT));
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send("GET /callback/level-end HTTP/1.1\r\nX-Slow: ");
    // Half a minute of bytes, each in time: only the time of the whole head can end it.
    let cut_off = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(30));
        !wire.try_send("a")
    });
    assert!(cut_off);
}

#[test]
fn a_second_head_that_trickles_in_is_cut_off_too() {
    let gateway = Gateway::start(&with_form(SHORT));
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send(get_bytes("/nowhere"));
    assert_eq!(wire.answer().unwrap().status, 404);
    std::thread::sleep(Duration::from_millis(700));
    let began = clock::instant();
    wire.send("GET /nowhere HT");
    assert!(wire.is_closed());
    let took = began.elapsed();
    assert!(took > Duration::from_millis(200), "its time begins with its first byte: {took:?}");
}

#[test]
fn a_connection_that_says_nothing_is_closed_and_one_that_idles_is_kept() {
    let gateway = Gateway::start(&with_form(SHORT));
    let mut silent = Wire::open(gateway.at.callbacks);
    let mut idle = Wire::open(gateway.at.callbacks);
    idle.send(get_bytes("/nowhere"));
    assert_eq!(idle.answer().unwrap().status, 404);
    assert!(silent.is_closed());
    assert!(idle.stays_silent(Duration::from_millis(900)), "between requests it may idle");
    idle.send(get_bytes("/nowhere"));
    assert_eq!(idle.answer().unwrap().status, 404);
}

#[test]
fn a_connection_may_idle_after_a_body_that_came_in_pieces_too() {
    let gateway = Gateway::start(&with_form(SHORT));
    let mut wire = Wire::open(gateway.at.callbacks);
    for _ in 0..2 {
        let whole = post_bytes("/callback/level-end", "t=1&sign=0");
        let (head, body) = whole.split_at(whole.len() - 4);
        wire.send(head);
        std::thread::sleep(Duration::from_millis(50));
        wire.send(body);
        assert_eq!(wire.answer().unwrap().status, 400);
        assert!(wire.stays_silent(Duration::from_millis(900)), "it owes no head");
    }
}

#[test]
fn the_beginning_of_http2_that_trickles_in_is_cut_off() {
    let gateway = Gateway::start(&with_form(SHORT));
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send("PRI * HT");
    assert!(wire.is_closed());
}

#[test]
fn a_body_that_does_not_come_is_a_timeout() {
    let gateway = Gateway::start(&with_form(SHORT));
    let lying = "POST /callback/level-end HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nt=1";
    assert_eq!(ask(gateway.at.callbacks, lying).status, 400);
    eventually("counted", || rejections(&gateway, "timeout") == 1.0);

    let mut gone = Wire::open(gateway.at.callbacks);
    gone.send(lying);
    gone.close_half();
    drop(gone);
    eventually("counted", || rejections(&gateway, "timeout") == 2.0);
}

#[test]
fn an_oversize_body_is_413_and_never_cut() {
    let gateway = Gateway::start(&with_form(SHORT));
    let to = gateway.at.callbacks;
    let fits = "x=".to_owned() + &"a".repeat(1022);
    assert_eq!(ask(to, post_bytes("/callback/level-end", &fits)).status, 400, "read and refused");
    let over = format!("{fits}a");
    assert_eq!(ask(to, post_bytes("/callback/level-end", &over)).status, 413);

    // An announced excess is rejected before it is sent.
    let mut wire = Wire::open(to);
    wire.send(
        "POST /callback/level-end HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\
         Expect: 100-continue\r\n\r\n",
    );
    assert_eq!(wire.answer().unwrap().status, 413);

    // A chunked body without an end stops at the bound.
    let mut wire = Wire::open(to);
    wire.send("POST /callback/level-end HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..1000 {
        if !wire.try_send("10\r\n0123456789abcdef\r\n") {
            break;
        }
    }
    assert_eq!(wire.answer().unwrap().status, 413);
    eventually("counted", || rejections(&gateway, "too_large") == 3.0);
}

#[test]
fn expect_continue_is_answered() {
    let gateway = Gateway::start(&with_form(SHORT));
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send(
        "POST /callback/level-end HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
         Expect: 100-continue\r\n\r\n",
    );
    assert_eq!(wire.answer().unwrap().status, 100);
    wire.send("t=1");
    assert_eq!(wire.answer().unwrap().status, 400);
}

#[test]
fn a_target_of_32_kib_is_taken_and_of_64_kib_is_not() {
    let gateway = Gateway::start(PLAIN);
    let to = gateway.at.callbacks;
    let long = format!("{}&extra_data={}", taku("long"), "a".repeat(40 * 1024));
    assert_eq!(get(to, &long).status, 200);
    let longer = format!("{}&extra_data={}", taku("longer"), "a".repeat(80 * 1024));
    let mut wire = Wire::open(to);
    wire.try_send(get_bytes(&longer));
    assert!(matches!(wire.answer().unwrap().status, 414 | 431));
    assert!(wire.is_closed());
    let fields: String = (0..200).map(|n| format!("X-{n}: a\r\n")).collect();
    let many = format!("GET {} HTTP/1.1\r\nHost: a\r\n{fields}\r\n", taku("many"));
    assert_eq!(ask(to, many).status, 431);
}

#[test]
fn bodies_that_are_not_verified_share_a_bound() {
    let text =
        with_form(SHORT).replace("body = \"1KiB\"", "body = \"4KiB\", unverified_body = \"4KiB\"");
    let gateway = Gateway::start(&text.replace("300ms", "5s"));
    let second = || ask(gateway.at.callbacks, post_bytes("/callback/level-end", &"b".repeat(2000)));
    let begun = || {
        let mut wire = Wire::open(gateway.at.callbacks);
        wire.send(format!(
            "POST /callback/level-end HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\nx={}",
            "a".repeat(3000)
        ));
        wire
    };
    let mut first = begun();
    eventually("the second receives its retry reply", || {
        // If the second was read earlier, the first got the 503: start it again.
        if !first.stays_silent(Duration::from_millis(20)) {
            first = begun();
        }
        second().status == 503
    });
    first.send("a".repeat(4000 - 3002));
    assert_eq!(first.answer().unwrap().status, 400, "the first goes on");
    assert_eq!(second().status, 400, "there is room again");
    assert!(gateway.outcomes("unavailable") >= 1.0);
}

#[test]
fn at_the_bound_a_connection_waits_for_another_to_close() {
    let text = SHORT.replace("body_timeout = \"300ms\"", "body_timeout = \"1h\", connections = 2");
    let gateway = Gateway::start(&with_form(&text));
    let busy = |own| {
        let mut wire = Wire::open_from(own, gateway.at.callbacks);
        wire.send("POST /callback/level-end HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(wire.answer().unwrap().status, 100);
        wire
    };
    let mut open = [busy("127.0.0.2"), busy("127.0.0.3")];
    let mut third = Wire::open(gateway.at.callbacks);
    third.send(get_bytes("/nowhere"));
    assert!(third.stays_silent(Duration::from_millis(300)));
    open[0].send("t=1");
    assert_eq!(open[0].answer().unwrap().status, 400);
    assert_eq!(third.answer().unwrap().status, 404, "one that idles makes room");
    open[1].send("t=1");
    assert_eq!(open[1].answer().unwrap().status, 400, "one that is busy does not");
}

/// A process whose shell set this limit of open files, and its folder.
fn limited(files: &str) -> (tempfile::TempDir, Process) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    std::fs::write(&config, PLAIN).unwrap();
    let process = Process::under(&format!("ulimit {files}"), &config);
    (folder, process)
}

#[test]
fn idle_connections_of_one_address_leave_files_for_others_and_for_the_store() {
    let (_folder, process) = limited("-n 256");
    let idle: Vec<Wire> = (0..300)
        .map(|_| {
            let mut wire = Wire::open_from("127.0.0.2", process.callbacks);
            wire.try_send(get_bytes("/nowhere"));
            wire
        })
        .collect();
    assert_eq!(get(process.callbacks, &taku("f1")).status, 200);
    assert_eq!(recorded(process.admin).get("f1"), Some(&1));
    drop(idle);
    process.kill();
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let (_folder, process) = limited("-Sn 256");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let files: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(files[0], files[1], "soft and hard");
    process.kill();
}

/// The configuration with a sender of our own that posts a form.
pub fn with_form(text: &str) -> String {
    let sender = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/form.toml");
    format!("senders = [{:?}]\n{text}", sender.display().to_string())
}
