//! The commands that work on the store, and retention, with the program itself.
//!
//! 1. Callbacks are recorded by a gateway in a process of its own, which is exported meanwhile.
//! 2. It is killed; the store is verified, exported, imported elsewhere, and both are compared.
//! 3. A byte is damaged; the rest is salvaged.
//! 4. The same under a gateway that runs: it says so, goes on, and its exports fail.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use postern::clock::now_ms;

use super::gateway::{PLAIN, taku};
use super::kill::Process;
use super::wire::{Wire, get, get_bytes};

pub const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER_KEY: &str = "ffffffff89abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A folder with a configuration in it.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("postern.toml"), text).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("postern.toml")
    }

    /// Runs a command with these variables.
    pub fn run(&self, variables: &[(&str, &str)], args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.arg(args[0]).arg("--config").arg(self.config()).args(&args[1..]);
        command.env_remove("POSTERN_MASTER_KEY").env_remove("POSTERN_OLD_MASTER_KEY");
        command.envs(variables.iter().copied()).output().unwrap()
    }

    /// Runs a command that must end well, and answers what it said.
    pub fn done(&self, variables: &[(&str, &str)], args: &[&str]) -> String {
        let output = self.run(variables, args);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {err}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command that must fail, and answers why it did.
    pub fn failed(&self, variables: &[(&str, &str)], args: &[&str]) -> String {
        let output = self.run(variables, args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("postern-data/journal")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "journal"));
        paths.sort();
        paths
    }
}

pub fn file(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Transactions that a gateway has, newest first.
pub fn transactions(process: &Process) -> Vec<String> {
    let answer = get(process.admin, "/admin/v1/events?limit=1000");
    let page: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let events = page["events"].as_array().unwrap();
    events.iter().map(|event| event["transaction"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_store_is_exported_verified_carried_elsewhere_and_salvaged() {
    let key = [("POSTERN_MASTER_KEY", KEY)];
    let here = Place::new(PLAIN);
    let process = Process::start_with(&here.config(), &key);
    for n in 0..40 {
        assert_eq!(get(process.callbacks, &taku(&format!("tr-{n}"))).status, 200);
    }
    // The command asks where the configuration says that the gateway listens.
    let at = PLAIN.replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", process.admin));
    fs::write(here.config(), at).unwrap();
    let online = here.path("online.export");
    here.done(&key, &["export", "--output", file(&online)]);
    assert!(!fs::read(&online).unwrap().windows(5).any(|window| window == b"tr-17"));
    let why = here.failed(&[], &["export", "--output", file(&here.path("plain.export"))]);
    assert!(why.contains("POSTERN_MASTER_KEY"), "{why}");
    assert!(!here.path("plain.export").exists());
    assert!(here.done(&key, &["verify"]).contains(" bytes: whole"));
    let before = transactions(&process);
    assert_eq!(before.len(), 40);
    process.kill();

    let said = here.done(&key, &["verify"]);
    assert!(said.contains("40 events: whole"), "{said}");
    let why = here.failed(&[], &["verify"]);
    assert!(why.contains("sealed") && why.contains("POSTERN_MASTER_KEY"), "{why}");
    let offline = here.path("offline.export");
    here.done(&key, &["export", "--output", file(&offline)]);

    // Elsewhere, under another key: twice, and the older backup again.
    let there = Place::new(PLAIN);
    let keys = [("POSTERN_MASTER_KEY", OTHER_KEY), ("POSTERN_OLD_MASTER_KEY", KEY)];
    let imports =
        [(&offline, "44 imported, 0 known already"), (&offline, "0 imported, 44 known already")];
    // Besides the events: the entries of three exports in the audit log, and the number of the next one.
    for (file_of, said) in imports {
        assert_eq!(there.done(&keys, &["import", file(file_of)]), format!("{said}\n"));
    }
    let said = there.done(&keys, &["import", file(&online)]);
    assert!(said.starts_with("0 imported, "), "{said}");
    let process = Process::start_with(&there.config(), &keys[..1]);
    assert_eq!(transactions(&process), before);
    let audit = get(process.admin, "/admin/v1/audit").body;
    assert!(audit.contains(r#""who":"command export","action":"exported""#), "{audit}");
    assert_eq!(get(process.callbacks, &taku("tr-7")).status, 200);
    assert_eq!(transactions(&process).len(), 40, "a known transaction was taken again");
    process.kill();

    // A change of the key, and a new index.
    let change = [("POSTERN_MASTER_KEY", OTHER_KEY), ("POSTERN_OLD_MASTER_KEY", KEY)];
    assert!(here.done(&change, &["rekey"]).contains("segments are sealed"));
    assert!(here.failed(&key, &["verify"]).contains("sealed with key"));
    let key = [("POSTERN_MASTER_KEY", OTHER_KEY)];
    assert!(here.done(&key, &["rebuild"]).contains("rebuilt"));
    assert!(here.done(&key, &["verify"]).contains("40 events: whole"));

    // A byte of the first segment is damaged.
    let path = here.segments().remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let why = here.failed(&key, &["verify"]);
    assert!(why.contains("damaged: ") && why.contains(file(&path)), "{why}");
    let rescued = here.path("rescued.export");
    let why = here.failed(&key, &["export", "--salvage", "--output", file(&rescued)]);
    assert!(why.contains("damaged: "), "{why}");
    let fresh = Place::new(PLAIN);
    assert_eq!(fresh.done(&key, &["import", file(&rescued)]), "43 imported, 0 known already\n");
    assert!(fresh.done(&key, &["verify"]).contains("39 events: whole"));
}

#[test]
fn a_gateway_finds_damage_while_it_runs_and_goes_on() {
    let here = Place::new(PLAIN);
    let process = Process::start(&here.config());
    let at = PLAIN.replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", process.admin));
    fs::write(here.config(), at).unwrap();
    for n in 0..40 {
        assert_eq!(get(process.callbacks, &taku(&format!("tr-{n}"))).status, 200);
    }
    let metric = |line: &str| get(process.admin, "/metrics").body.lines().any(|one| one == line);
    assert_eq!(get(process.admin, "/admin/v1/verify").status, 404);
    assert!(here.done(&[], &["verify"]).contains(" bytes: whole"));
    assert!(metric("postern_store_damaged 0") && !metric("postern_store_scrubbed_bytes_total 0"));
    assert!(!metric("postern_store_scrub_complete_timestamp_seconds 0"));
    let told: serde_json::Value =
        serde_json::from_str(&get(process.admin, "/admin/v1/verify").body).unwrap();
    assert_eq!((&told["pass"], &told["state"]), (&1.into(), &"done".into()));
    assert_eq!(told["done_bytes"], told["total_bytes"]);

    // In the record of the first callback.
    let path = here.segments().remove(0);
    let journal = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    journal.read_exact_at(&mut byte, 200).unwrap();
    journal.write_all_at(&[byte[0] ^ 1], 200).unwrap();
    let why = here.failed(&[], &["verify"]);
    assert!(why.contains("damaged: ") && why.contains(file(&path)), "{why}");
    assert!(metric("postern_store_damaged 1"));
    let part = here.path("part.export");
    let why = here.failed(&[], &["export", "--output", file(&part)]);
    assert!(why.contains("damaged") && why.contains("--salvage"), "{why}");
    assert!(!part.exists());
    // The repeat of the unreadable one is not accepted; a new one is.
    let mut repeat = Wire::open(process.callbacks);
    repeat.send(get_bytes(&taku("tr-0")));
    assert!(repeat.is_closed(), "Taku retries if it gets no answer at all");
    assert_eq!(get(process.callbacks, &taku("tr-1")).status, 200);
    assert_eq!(get(process.callbacks, &taku("tr-new")).status, 200);

    // The byte is put back: another pass finds nothing.
    journal.write_all_at(&byte, 200).unwrap();
    assert!(here.done(&[], &["verify"]).contains(" bytes: whole"));
    assert!(metric("postern_store_damaged 0"));
    assert_eq!(transactions(&process).len(), 41);

    // Without its file the lock holds still.
    fs::remove_file(here.path("postern-data/lock")).unwrap();
    for command in ["rebuild", "serve"] {
        let second = Place::new(&here_and(&here, PLAIN));
        let why = second.failed(&[], &[command]);
        assert!(why.contains("belongs to another process"), "{command}: {why}");
    }
    process.kill();

    // A missing journal is rejected.
    fs::rename(here.path("postern-data/journal"), here.path("journal")).unwrap();
    let why = here.failed(&[], &["serve"]);
    assert!(why.contains("segments are missing: 0; mount the volume"), "{why}");
}

/// A configuration of another folder with the store of this one.
fn here_and(here: &Place, text: &str) -> String {
    format!("{text}\n[store]\npath = {:?}\n", here.path("postern-data"))
}

#[test]
fn commands_on_a_store_that_is_not_there_or_a_file_that_is_none_say_so() {
    let place = Place::new(PLAIN);
    for command in ["export", "verify", "rebuild"] {
        let why = place.failed(&[], &[command]);
        assert!(why.contains("there is no ledger in"), "{why}");
    }
    assert!(!place.path("postern-data").exists());
    let why = place.failed(&[], &["import", file(&place.config())]);
    assert!(why.contains("postern.toml: not an export of Postern"), "{why}");
    let unset = place.run(&[], &["rekey"]);
    assert_eq!(unset.status.code(), Some(64));
    let bad = place.run(&[("POSTERN_MASTER_KEY", "password")], &["verify"]);
    let err = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert_eq!(bad.status.code(), Some(64));
    assert!(err.contains("POSTERN_MASTER_KEY: is not 32 bytes") && !err.contains("password"));
}

#[test]
fn the_server_removes_what_is_no_longer_kept() {
    let text = format!("{PLAIN}\n[store]\nkeep_events = \"1s\"\nkeep_transactions = \"2m\"\n");
    let place = Place::new(&text);
    let process = Process::start(&place.config());
    assert_eq!(get(process.callbacks, &taku("tr-1")).status, 200);
    let taken = now_ms();
    process.kill();
    patiently("more than a second has passed", || now_ms() > taken + 1_500);
    let process = Process::start(&place.config());
    patiently("the event is gone", || transactions(&process).is_empty());
    // The data is gone a moment before it is counted.
    patiently("it is counted", || {
        let page = get(process.admin, "/metrics").body;
        page.contains("postern_store_swept_total{what=\"events\"} 1")
    });
    // Taku's callbacks carry no time, so the transaction is known as long as the source is there.
    assert_eq!(get(process.callbacks, &taku("tr-1")).status, 200);
    assert!(transactions(&process).is_empty());
    let why = place.failed(&[], &["forget", "--yes", "level-end"]);
    assert!(why.contains("belongs to another process"), "{why}");
    process.kill();
    // Nothing is forgotten in error, and once it is, the transaction is new.
    assert_eq!(place.run(&[], &["forget", "level-end"]).status.code(), Some(64));
    let said = place.done(&[], &["forget", "--yes", "level-end"]);
    assert!(said.starts_with("1 keys and held callbacks of level-end forgotten"), "{said}");
    let process = Process::start(&place.config());
    assert_eq!(get(process.callbacks, &taku("tr-1")).status, 200);
    assert_eq!(transactions(&process), ["tr-1"]);
    let audit = get(process.admin, "/admin/v1/audit").body;
    assert!(audit.contains(r#""action":"forgotten","kind":"keys","name":"level-end""#), "{audit}");
    process.kill();
}

/// Waits until something holds, as long as a slow machine may need.
fn patiently(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never: {what}");
}
