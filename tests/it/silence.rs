//! Senders that only try again after a time-out are met with silence.

use std::time::Duration;

use postern::clock;

use super::bounds::with_form;
use super::gateway::{Gateway, series, taku};
use super::wire::{Wire, get_bytes, post_bytes};

const SILENT: &str = r#"
[server]
callbacks = "127.0.0.1:0"
admin = "127.0.0.1:0"
drain = "300ms"
limits = { held = 2 }

[[source]]
name = "level-end"
sender = "taku"
secrets = "0123456789abcdefghijklmnopqrstuv"
"#;

#[test]
fn silence_outlasts_the_sender_and_then_the_connection_is_closed() {
    let gateway = Gateway::without_room(SILENT);
    let mut wire = Wire::open(gateway.at.callbacks);
    let began = clock::instant();
    wire.send(get_bytes(&taku("s1")));
    assert!(wire.is_closed(), "closed without a byte");
    // Taku waits for two seconds.
    let took = began.elapsed();
    assert!(took > Duration::from_millis(2900) && took < Duration::from_secs(6), "{took:?}");
    gateway.await_metric(&series("unavailable"), 1.0);
}

#[test]
fn no_more_are_held_than_the_bound_says() {
    let gateway = Gateway::without_room(SILENT);
    let mut all: Vec<Wire> = (0..5)
        .map(|n| {
            let mut wire = Wire::open(gateway.at.callbacks);
            wire.send(get_bytes(&taku(&format!("h{n}"))));
            wire
        })
        .collect();
    gateway.await_metric(&series("unavailable"), 5.0);
    let held = all
        .iter_mut()
        .filter_map(|wire| wire.stays_silent(Duration::from_millis(50)).then_some(()));
    assert_eq!(held.count(), 2);
    drop(all);
    // Those who gave up make room.
    super::gateway::eventually("room", || {
        let mut wire = Wire::open(gateway.at.callbacks);
        wire.send(get_bytes(&taku("h9")));
        wire.stays_silent(Duration::from_millis(50))
    });
}

#[test]
fn a_stop_does_not_wait_for_silence_beyond_the_drain() {
    let gateway = Gateway::without_room(SILENT);
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send(get_bytes(&taku("d1")));
    gateway.await_metric(&series("unavailable"), 1.0);
    let began = clock::instant();
    gateway.stop();
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(wire.is_closed());
}

#[test]
fn others_are_told_at_once() {
    let gateway = Gateway::without_room(&with_form(&SILENT.replace("\"taku\"", "\"form\"")));
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send(post_bytes("/callback/level-end", "t=1&sign=00000000000000000000000000000000"));
    assert_eq!(wire.answer().unwrap().status, 400);
}
