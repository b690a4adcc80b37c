//! Senders that only retry after a timeout are met with silence.
//!
//! Taku waits for two seconds. `patient`, a sender of the tests, waits for an hour: nothing that is
//! held ends while a test looks.

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
limits = { held = 3 }

[[source]]
name = "level-end"
sender = "taku"
secrets = "0123456789abcdefghijklmnopqrstuv"
"#;

const TAKU_KEY: &str = "0123456789abcdefghijklmnopqrstuv";

#[test]
fn silence_outlasts_the_sender_and_then_the_connection_is_closed() {
    let gateway = Gateway::without_room(SILENT);
    let mut wire = Wire::open(gateway.at.callbacks);
    let began = clock::instant();
    wire.send(get_bytes(&taku("s1")));
    assert!(wire.is_closed(), "closed without a byte");
    // Taku's two seconds, and one more.
    let took = began.elapsed();
    assert!(took > Duration::from_millis(2900), "{took:?}");
    gateway.await_metric(&series("unavailable"), 1.0);
}

/// The configuration with the sender that waits for an hour.
fn patient() -> String {
    let sender = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/patient.toml");
    let text = SILENT.replace("\"taku\"", "\"patient\"");
    format!("senders = [{:?}]\n{text}", sender.display().to_string())
}

const GENUINE: &str = "/callback/level-end?t=1&sign=bf3f3572d894a10195ea6724870e7c89";

/// Of three places one address has two: one is left for another.
#[test]
fn no_more_are_held_than_the_bound_says() {
    let gateway = Gateway::without_room(&patient().replace(TAKU_KEY, "k"));
    let held = || {
        let mut wire = Wire::open(gateway.at.callbacks);
        wire.send(get_bytes(GENUINE));
        wire
    };
    let (_first, _second) = (held(), held());
    gateway.await_metric(&series("unavailable"), 2.0);
    assert!(held().is_closed(), "at once");
}

#[test]
fn a_place_is_given_back_when_its_silence_ends() {
    let gateway = Gateway::without_room(SILENT);
    let held = |n: u32| {
        let mut wire = Wire::open(gateway.at.callbacks);
        wire.send(get_bytes(&taku(&format!("h{n}"))));
        wire
    };
    for mut wire in [held(1), held(2)] {
        assert!(wire.is_closed());
    }
    assert!(held(3).stays_silent(Duration::from_millis(50)));
}

#[test]
fn a_stop_does_not_wait_for_silence_beyond_the_drain() {
    let gateway = Gateway::without_room(&patient().replace(TAKU_KEY, "k"));
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send(get_bytes(GENUINE));
    gateway.await_metric(&series("unavailable"), 1.0);
    gateway.stop();
    assert!(wire.is_closed());
}

#[test]
fn others_are_told_at_once() {
    let gateway = Gateway::without_room(&with_form(&SILENT.replace("\"taku\"", "\"form\"")));
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send(post_bytes("/callback/level-end", "t=1&sign=00000000000000000000000000000000"));
    assert_eq!(wire.answer().unwrap().status, 400);
}
