//! One address cannot take it all: bodies, half heads, held requests, log lines, a source's rate.
//!
//! Nothing here waits for a timeout: those that would end an attacker's connections are an hour.

use std::time::Duration;

use super::bounds::with_form;
use super::gateway::{Gateway, PLAIN, await_lines, eventually, logged, series, taku};
use super::wire::{Answer, Wire, get, get_bytes, post_bytes};

const LOUD: &str = "127.0.0.3";
const HONEST: &str = "127.0.0.5";

/// A source for forms, `level-end`, under these limits and without a timeout.
fn gateway(limits: &str) -> Gateway {
    Gateway::start(&with_form(&format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndrain = \"100ms\"\n\
         limits = {{ head_timeout = \"1h\", body_timeout = \"1h\", {limits} }}\n\
         [[source]]\nname = \"level-end\"\nsender = \"form\"\nsecrets = \"k\"\n"
    )))
}

/// The answer to `bytes` from `own`.
fn ask_from(own: &str, gateway: &Gateway, bytes: impl AsRef<[u8]>) -> Answer {
    let mut wire = Wire::open_from(own, gateway.at.callbacks);
    wire.send(bytes);
    wire.answer().unwrap()
}

/// The head of a form, and as much of the form as is sent.
fn begun(gateway: &Gateway, length: usize, sent: usize) -> Wire {
    let mut wire = Wire::open_from(LOUD, gateway.at.callbacks);
    let head =
        format!("POST /callback/level-end HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    wire.try_send(format!("{head}{}", "a".repeat(sent)));
    wire
}

#[test]
fn one_address_cannot_have_all_of_the_body_pool() {
    let gateway = gateway("body = \"16KiB\", unverified_body = \"64KiB\"");
    let whole = 16 * 1024;
    let half_sent: Vec<Wire> = (0..16).map(|_| begun(&gateway, whole, whole - 1)).collect();
    // Three fit, and perhaps a part of a fourth.
    eventually("its own have no room", || gateway.outcomes("unavailable") >= 12.0);
    let form = format!("t=1&sign={}", "0".repeat(whole - 9));
    let answer = ask_from(HONEST, &gateway, post_bytes("/callback/level-end", &form));
    assert_eq!(answer.status, 400, "read and rejected: {}", answer.body);
    let form = post_bytes("/callback/level-end", &"a".repeat(whole));
    assert_eq!(ask_from(LOUD, &gateway, &form).status, 503);
    drop(half_sent);
    eventually("what it had is free", || ask_from(LOUD, &gateway, &form).status == 400);
}

#[test]
fn nor_all_connections_with_bodies_that_do_not_come() {
    let gateway = gateway("connections = 40");
    let slow: Vec<Wire> = (0..60).map(|_| begun(&gateway, 3, 1)).collect();
    eventually("its own have no room", || gateway.outcomes("unavailable") >= 10.0);
    let answer = ask_from(HONEST, &gateway, post_bytes("/callback/level-end", "t=1"));
    assert_eq!(answer.status, 400, "{}", answer.body);
    drop(slow);
}

#[test]
fn half_sent_heads_make_room_and_those_of_the_loudest_address_first() {
    let gateway = gateway("connections = 40");
    let mut slow = Wire::open_from(HONEST, gateway.at.callbacks);
    slow.send("GET /nowhere HTTP/1.1\r\nHost: ");
    let mut half_sent: Vec<Wire> = (0..100)
        .map(|_| {
            let mut wire = Wire::open_from(LOUD, gateway.at.callbacks);
            wire.try_send("GET /callback/level-end HTTP/1.1\r\nX-Slow: ");
            wire
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(ask_from(HONEST, &gateway, get_bytes("/nowhere")).status, 404);
    }
    slow.send("a\r\n\r\n");
    assert_eq!(
        slow.answer().unwrap().status,
        404,
        "the oldest of all, but the only one of its address"
    );
    assert!(half_sent[0].is_closed(), "the oldest of the loudest");
}

#[test]
fn silent_connections_make_room_too() {
    let gateway = gateway("connections = 10");
    let mut silent: Vec<Wire> =
        (0..20).map(|_| Wire::open_from(LOUD, gateway.at.callbacks)).collect();
    assert_eq!(ask_from(HONEST, &gateway, get_bytes("/nowhere")).status, 404);
    // Which of them depends on the order in which the gateway's threads accept them. One more makes
    // room for the other caller, if that one was accepted after ten.
    eventually("half of them are closed", || {
        let open = silent.iter_mut().map(|wire| wire.stays_silent(Duration::from_millis(1)));
        let closed = open.filter(|open| !open).count();
        closed == 10 || closed == 11
    });
}

#[test]
fn behind_a_trusted_proxy_the_callers_have_shares_of_their_own() {
    let text = "trusted_proxies = \"127.0.0.0/24\"\n";
    let gateway = Gateway::start(&with_form(&format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndrain = \"100ms\"\n{text}\
         limits = {{ body = \"16KiB\", unverified_body = \"64KiB\", body_timeout = \"1h\" }}\n\
         [[source]]\nname = \"level-end\"\nsender = \"form\"\nsecrets = \"k\"\n"
    )));
    let whole = 16 * 1024;
    let begin = |client: &str, sent: usize| {
        let mut wire = Wire::open(gateway.at.callbacks);
        wire.try_send(format!(
            "POST /callback/level-end HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\
             Content-Length: {whole}\r\n\r\n{}",
            "a".repeat(sent)
        ));
        wire
    };
    // One by one: many at once may each get a part of their body's room, and then all be refused.
    let mut half_sent: Vec<Wire> = Vec::new();
    eventually("its own have no room", || {
        half_sent.push(begin(&format!("2001:db8::{:x}", half_sent.len()), whole - 1));
        gateway.outcomes("unavailable") >= 12.0
    });
    assert_eq!(begin("203.0.113.7", whole).answer().unwrap().status, 400);
    assert_eq!(begin("2001:db8::ffff", whole).answer().unwrap().status, 503, "the same network");
    drop(half_sent);
}

#[test]
fn replays_of_a_captured_callback_use_up_neither_the_rate_nor_the_log() {
    let text = PLAIN.replace("level-end", "replayed-often") + "rate = \"5/h\"\n";
    let gateway = Gateway::start(&text);
    let at = |transaction: &str| {
        let target = taku(transaction).replace("level-end", "replayed-often");
        get(gateway.at.callbacks, &target).status
    };
    for _ in 0..300 {
        assert_eq!(at("captured"), 200);
    }
    for n in 0..4 {
        assert_eq!(at(&format!("genuine-{n}")), 200, "the rate is that of new callbacks");
    }
    await_lines("genuine-3", 1);
    let lines = logged().lines().filter(|line| line.contains("\"captured\"")).count();
    assert!((1..200).contains(&lines), "{lines} lines");
    let duplicates = series("duplicate").replace("level-end", "replayed-often");
    assert_eq!(gateway.metric(&duplicates), 300.0 - 1.0);
}
