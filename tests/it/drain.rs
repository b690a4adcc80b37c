//! A stop in good order.

use std::sync::Arc;
use std::time::Duration;

use postern::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::bounds::with_form;
use super::gateway::{Gateway, PLAIN, eventually, taku};
use super::http2;
use super::tls;
use super::wire::{Wire, get, get_bytes};

/// Begins a request, and waits until the gateway reads its body.
fn begin(wire: &mut Wire) {
    wire.send(
        "POST /callback/level-end HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
         Expect: 100-continue\r\n\r\n",
    );
    assert_eq!(wire.answer().unwrap().status, 100);
    wire.send("t");
}

#[test]
fn what_is_in_flight_is_answered_and_idle_connections_are_closed() {
    let mut gateway = Gateway::start(&with_form(&PLAIN.replace("\"taku\"", "\"form\"")));
    let mut idle = Wire::open(gateway.at.callbacks);
    idle.send(get_bytes("/nowhere"));
    assert_eq!(idle.answer().unwrap().status, 404);
    let mut busy = Wire::open(gateway.at.callbacks);
    begin(&mut busy);

    gateway.ask_to_stop();
    assert!(idle.is_closed());
    let ready = || get(gateway.at.admin, "/readyz");
    eventually("not ready", || ready().status == 503);
    assert_eq!(ready().body, "draining\n");
    assert_eq!(gateway.metric("postern_ready"), 0.0);
    assert!(!gateway.has_ended(), "one is in flight");

    busy.send("=1");
    let answer = busy.answer().unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.head.to_ascii_lowercase().contains("connection: close"), "{}", answer.head);
    assert!(busy.is_closed());
    eventually("the end", || gateway.has_ended());
}

#[test]
fn a_drain_takes_no_longer_than_it_may() {
    let text = with_form(&PLAIN.replace("\"taku\"", "\"form\"").replace("5s", "300ms"));
    let gateway = Gateway::start(&text);
    let mut busy = Wire::open(gateway.at.callbacks);
    begin(&mut busy);
    let began = clock::instant();
    gateway.stop();
    let took = began.elapsed();
    assert!(took > Duration::from_millis(250), "{took:?}");
    assert!(busy.is_closed());
}

#[test]
fn an_empty_gateway_does_not_wait_for_the_drain_to_be_over() {
    // Longer than any test may take.
    let gateway = Gateway::start(&PLAIN.replace("drain = \"5s\"", "drain = \"1h\""));
    assert_eq!(get(gateway.at.callbacks, &taku("e1")).status, 200);
    gateway.stop();
}

#[test]
fn connections_in_the_queue_are_served_not_reset() {
    for _ in 0..5 {
        let mut gateway = Gateway::start(PLAIN);
        let mut all: Vec<Wire> = (0..20).map(|_| Wire::open(gateway.at.callbacks)).collect();
        for (n, wire) in all.iter_mut().enumerate() {
            wire.send(get_bytes(&taku(&format!("q{n}"))));
        }
        gateway.ask_to_stop();
        for wire in &mut all {
            assert_eq!(wire.answer().map(|answer| answer.status), Some(200));
        }
    }
}

#[test]
fn a_tls_connection_that_has_had_no_request_yet_is_served_not_closed() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = tls::certificate(folder.path());
    let text = tls::text(folder.path()).replace("\"500ms\"", "\"10s\"");
    let offers: [&[&[u8]]; 2] = [&[], &[b"http/1.1"]];
    for protocols in offers {
        let mut gateway = Gateway::start(&text);
        let client = tls::trusting(&certificate, protocols);
        http2::run(async {
            let mut all = Vec::new();
            for _ in 0..20 {
                all.push(tls::connect(&gateway, Arc::clone(&client)).await.unwrap());
            }
            gateway.ask_to_stop();
            let is_draining = || get(gateway.at.admin, "/readyz").body == "draining\n";
            eventually("the drain", is_draining);
            for (n, stream) in all.iter_mut().enumerate() {
                stream.write_all(get_bytes(&taku(&format!("s{n}"))).as_bytes()).await.unwrap();
                let mut head = [0; 12];
                stream.read_exact(&mut head).await.unwrap();
                assert_eq!(&head, b"HTTP/1.1 200");
            }
        });
    }
}
