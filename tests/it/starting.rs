//! A start that takes long: the listeners answer from the first moment on.
//!
//! A named pipe in place of the store's file `clock` delays the start: opening it waits until the
//! test writes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use md5::{Digest as _, Md5};
use tempfile::TempDir;

use super::gateway::{PLAIN, eventually, taku};
use super::kill::{Process, recorded};
use super::wire::{Wire, get, get_bytes, post};

/// A configuration with a store that opens when it is let.
struct Slow {
    folder: TempDir,
}

impl Slow {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let patient = include_str!("patient.toml");
        let hasty = patient
            .replace("timeout = \"1h\"", "timeout = \"300ms\"")
            .replace("unavailable = \"silence\"", "unavailable = { body = \"come again\" }");
        std::fs::write(folder.path().join("patient.toml"), patient).unwrap();
        std::fs::write(folder.path().join("hasty.toml"), &hasty).unwrap();
        let steady = hasty.replace("300ms", "1h");
        std::fs::write(folder.path().join("steady.toml"), steady).unwrap();
        let sources = ["patient", "hasty", "steady"].map(|name| {
            format!(
                "[[source]]\nname = \"{name}\"\nsender = \"custom\"\nrecipe = \"{name}.toml\"\n\
                 replayable = true\nsecrets = \"k\"\n"
            )
        });
        let text = format!("{PLAIN}{}", sources.concat());
        let text = text.replace("drain", "health_path = \"/up\"\nlame_duck = \"0s\"\ndrain");
        let slow = Self { folder };
        std::fs::write(slow.config(), text).unwrap();
        let data = slow.folder.path().join("postern-data");
        std::fs::create_dir(&data).unwrap();
        let made = Command::new("mkfifo").arg(data.join("clock")).status().unwrap();
        assert!(made.success());
        slow
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("postern.toml")
    }

    /// Lets the store open.
    fn open(&self) {
        let clock: &Path = &self.folder.path().join("postern-data/clock");
        let mut pipe = std::fs::OpenOptions::new().write(true).open(clock).unwrap();
        // From here on it is a file like any other.
        std::fs::remove_file(clock).unwrap();
        pipe.write_all(b"1\n").unwrap();
    }
}

fn target(source: &str, transaction: &str) -> String {
    let sign = const_hex::encode(Md5::digest(format!("t={transaction}k")));
    format!("/callback/{source}?t={transaction}&sign={sign}")
}

#[test]
fn everything_answers_while_the_store_opens_and_who_waits_is_recorded() {
    let slow = Slow::new();
    let process = Process::begin(&slow.config());
    let (admin, callbacks) = (process.admin, process.callbacks);
    for path in ["/livez", "/healthz"] {
        assert_eq!(get(admin, path).status, 200, "{path}");
    }
    let ready = get(admin, "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "starting: opening the store\n"));
    let up = get(callbacks, "/up");
    assert_eq!((up.status, up.body.as_str()), (503, "not ready\n"));
    assert!(get(admin, "/metrics").body.contains("\npostern_ready 0\n"));
    let early = get(admin, "/admin/v1/events");
    assert_eq!((early.status, early.field("retry-after").as_deref()), (503, Some("1")));
    let page = get(admin, "/console/sources");
    assert!(page.status == 503 && page.body.contains("opening the store"), "{}", page.body);

    // Callbacks that are decided without the store are decided.
    assert_eq!(get(callbacks, &taku("s1").replace("coin", "gold")).status, 601);
    // A source that only the store may know is not denied.
    assert_eq!(get(callbacks, "/callback/managed").status, 503);
    // A sender that does not wait receives its own "try later", in the format it expects.
    let hasty = get(callbacks, &target("hasty", "1"));
    assert_eq!((hasty.status, hasty.body.as_str()), (200, "come again"));
    // Taku retries only when nothing answers.
    let mut silent = Wire::open(callbacks);
    silent.send(get_bytes(&taku("s2")));
    assert_eq!(silent.answer(), None);
    // A waiting callback is recorded when the store is open.
    let mut patient = Wire::open(callbacks);
    patient.send(get_bytes(&target("patient", "1")));

    slow.open();
    let answer = patient.answer().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    eventually("it is ready", || get(admin, "/readyz").status == 200);
    assert_eq!(get(callbacks, "/up").body, "ready\n");
    assert_eq!(get(callbacks, "/callback/managed").status, 404);
    assert_eq!(get(callbacks, &taku("s2")).status, 200);
    let found = recorded(admin);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("1".into(), 1), ("s2".into(), 1)]);
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0));
}

#[test]
fn a_start_that_is_called_off_leaves_nobody_without_an_answer() {
    for stop in ["a signal", "the API"] {
        let slow = Slow::new();
        let process = Process::begin(&slow.config());
        let mut waiting = Wire::open(process.callbacks);
        waiting.send(get_bytes(&target("steady", "1")));
        if stop == "a signal" {
            process.signal("TERM");
        } else {
            let asked = post(process.admin, "/admin/v1/drain", "");
            assert_eq!((asked.status, asked.json()["state"].as_str()), (202, Some("draining")));
        }
        assert_eq!(waiting.answer().unwrap().body, "come again", "{stop}");
        assert_eq!(process.ended(), Some(0), "{stop}");
    }
}

#[test]
fn a_store_that_cannot_be_opened_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    std::fs::write(&config, PLAIN).unwrap();
    let first = Process::start(&config);
    let second = Process::begin(&config);
    assert_eq!(second.ended(), Some(1));
    first.kill();
}
