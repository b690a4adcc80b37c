//! Expired events go to the archive, once, before retention deletes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use postern::ledger::{DeliveryState, ExportReader, Item, Keyring};
use serde_json::json;

use super::backend::Backend;
use super::deliver::whsec;
use super::gateway::{PLAIN, after_retention, eventually, taku};
use super::kill::Process;
use super::restore::{ACCOUNT, Seaweed};
use super::store::{KEY, Place, file, transactions};
use super::wire::{Wire, get, get_bytes, post};

/// Events are kept for two seconds, and archived.
fn archived(url: &str) -> String {
    format!(
        "{PLAIN}\n[store]\nkeep_events = \"2s\"\nkeep_transactions = \"2m\"\n[archive]\nurl = \"{url}\"\n"
    )
}

/// The files of an archive, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut all: Vec<PathBuf> = entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path) } else { vec![path] }
        })
        .collect();
    all.sort();
    all
}

/// How often each transaction is in these files.
fn counted(files: &[PathBuf]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for path in files.iter().filter(|path| path.extension().unwrap() == "export") {
        let mut reader =
            ExportReader::begin(fs::File::open(path).unwrap(), &Keyring::default()).unwrap();
        while let Some(items) = reader.chunk().unwrap() {
            for item in items {
                let Item::Event { event, .. } = item else { panic!("{item:?}") };
                *found.entry(event.transaction).or_default() += 1;
            }
        }
    }
    found
}

/// Calls as Taku does: a call that is left unanswered, as on a slow machine, is repeated.
fn accept(process: &Process, name: &str) {
    let answer = || {
        let mut wire = Wire::open(process.callbacks);
        wire.send(get_bytes(&taku(name)));
        wire.answer()
    };
    assert_eq!(std::iter::repeat_with(answer).flatten().next().unwrap().status, 200);
}

#[test]
fn an_expired_event_is_archived_and_then_deleted_and_can_be_imported() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("kept");
    let place = Place::new(&archived(&format!("file://{}", archive.display())));
    let key = [("POSTERN_MASTER_KEY", KEY)];
    let process = Process::start_with(&place.config(), &key);
    accept(&process, "ar-1");
    // The segment of the event is closed by a restart.
    process.kill();
    let process = Process::start_with(&place.config(), &key);
    after_retention("the event is deleted", || transactions(&process).is_empty());
    let page = get(process.admin, "/metrics").body;
    assert!(page.contains("\npostern_archived_events_total "), "{page}");
    assert!(page.contains("\npostern_archive_overdue_seconds "), "{page}");
    process.stop();

    let all = files(&archive);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].starts_with(archive.join("events")), "{all:?}");
    let bytes = fs::read(&all[0]).unwrap();
    assert!(!bytes.windows(4).any(|four| four == b"ar-1"), "it is not sealed");

    let there = Place::new(PLAIN);
    let why = there.failed(&[], &["import", file(&all[0])]);
    assert!(why.contains("POSTERN_MASTER_KEY"), "{why}");
    let said = there.done(&key, &["import", file(&all[0])]);
    assert!(said.contains("1 imported"), "{said}");
    let process = Process::start_with(&there.config(), &key);
    assert_eq!(transactions(&process), ["ar-1"]);
    process.stop();
}

/// An event that the folder does not take stays in the store, and is archived when it does.
#[test]
fn nothing_is_deleted_that_could_not_be_archived() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("blocked");
    fs::write(&archive, "a file where a folder should be").unwrap();
    let place = Place::new(&archived(&format!("file://{}", archive.display())));
    let process = Process::start(&place.config());
    accept(&process, "ar-1");
    process.kill();
    let process = Process::start(&place.config());
    process.await_line("could not archive expired events");
    // Retention goes on meanwhile, and the event stays.
    eventually("the archive is overdue", || {
        let page = get(process.admin, "/metrics").body;
        let line =
            page.lines().find_map(|line| line.strip_prefix("postern_archive_overdue_seconds "));
        line.is_some_and(|seconds| seconds.parse::<f64>().unwrap() > 2.0)
    });
    assert_eq!(transactions(&process), ["ar-1"]);
    fs::remove_file(&archive).unwrap();
    after_retention("the event is deleted", || transactions(&process).is_empty());
    assert_eq!(counted(&files(&archive))["ar-1"], 1);
    process.stop();
}

/// Operators hear of events that wait, and of the end of it.
#[test]
fn an_archive_that_cannot_be_written_is_an_alert() {
    let (folder, operators) = (tempfile::tempdir().unwrap(), Backend::start());
    let archive = folder.path().join("blocked");
    fs::write(&archive, "a file where a folder should be").unwrap();
    let channel = format!(
        "[[alert]]\nname = \"oncall\"\nurl = \"http://{}/\"\nsecret = \"{}\"\non = \"archive\"\n",
        operators.at,
        whsec(&[7; 32])
    );
    let url = format!("file://{}", archive.display());
    let place = Place::new(&(archived(&url) + &channel));
    let process = Process::start(&place.config());
    accept(&process, "ar-1");
    process.kill();
    let process = Process::start(&place.config());
    let open = operators.await_count(1)[0].json();
    assert_eq!((&open["alert"], &open["state"]), (&json!("archive"), &json!("open")), "{open}");
    let text = open["text"].as_str().unwrap();
    assert!(text.contains("; after 7 days they are deleted unarchived. The log has"), "{text}");
    fs::remove_file(&archive).unwrap();
    let closed = operators.await_count(2)[1].json();
    assert_eq!(closed["state"], "closed", "{closed}");
    let text = closed["text"].as_str().unwrap();
    assert!(text.starts_with("Resolved: Postern: expired events are archived again"), "{text}");
    assert_eq!(counted(&files(&archive))["ar-1"], 1);
    process.stop();
}

/// 1. Events come, and are archived within milliseconds.
/// 2. The process is killed as soon as a new file is there, again and again: in the middle of a
///    window, or before it is noted that the window is complete.
/// 3. In the end every event is in the archive once.
#[test]
fn a_process_that_is_killed_neither_loses_nor_doubles() {
    const CYCLES: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(&archived(&format!("file://{}", folder.path().display())));
    let mut expected = Vec::new();
    for cycle in 0..CYCLES {
        let process = Process::start(&place.config());
        let before = files(folder.path());
        for n in 0..20 {
            expected.push(format!("k{cycle}-{n}"));
            accept(&process, &expected[expected.len() - 1]);
        }
        after_retention("a new file", || files(folder.path()).len() > before.len());
        process.kill();
    }
    let process = Process::start(&place.config());
    let all = || counted(&files(folder.path()));
    after_retention("everything is archived", || all().len() == expected.len());
    process.stop();
    for (transaction, times) in all() {
        assert_eq!(times, 1, "{transaction}");
    }
}

#[test]
fn an_erased_user_is_in_no_later_archive() {
    let folder = tempfile::tempdir().unwrap();
    let text = archived(&format!("file://{}", folder.path().display()));
    let place = Place::new(&text.replace("\"2s\"", "\"1h\"").replace("\"2m\"", "\"2h\""));
    let process = Process::start(&place.config());
    accept(&process, "ar-1");
    let target = super::gateway::taku_for("stays", "ar-2", "10");
    assert_eq!(get(process.callbacks, &target).status, 200);
    let said = post(process.admin, "/admin/v1/erase", r#"{"user": "u1"}"#);
    assert_eq!(said.status, 200, "{}", said.body);
    process.kill();
    fs::write(place.config(), &text).unwrap();
    let process = Process::start(&place.config());
    after_retention("the other one is archived", || !files(folder.path()).is_empty());
    process.stop();
    let found = counted(&files(folder.path()));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["ar-2"]);
}

/// An import delivers nothing by itself: an open delivery is a dead letter in the archive.
#[test]
fn an_archive_has_no_pending_deliveries() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = Backend::nowhere();
    let text = archived(&format!("file://{}", folder.path().display()));
    let destination = format!(
        "destinations = [\"game\"]\n[[destination]]\nname = \"game\"\nurl = \"http://{nowhere}/\"\n"
    );
    let place = Place::new(&text.replace("\n[store]", &format!("{destination}[store]")));
    let process = Process::start(&place.config());
    accept(&process, "ar-1");
    after_retention("it is archived", || !files(folder.path()).is_empty());
    assert_eq!(transactions(&process), ["ar-1"], "with a pending delivery it stays");
    process.stop();
    let path = &files(folder.path())[0];
    let from = fs::File::open(path).unwrap();
    let mut reader = ExportReader::begin(from, &Keyring::default()).unwrap();
    let items = reader.chunk().unwrap().unwrap();
    let [Item::Event { deliveries, .. }] = &items[..] else { panic!("{items:?}") };
    assert_eq!(deliveries[0].state, DeliveryState::Dead);
}

#[test]
fn an_archive_may_be_in_a_store_that_speaks_s3() {
    let Some(seaweed) = Seaweed::if_there() else { return };
    let place = Place::new(&archived("s3://backups/postern/archive"));
    let key = ("POSTERN_MASTER_KEY", KEY);
    let account = [ACCOUNT[0], ACCOUNT[1], ("AWS_ENDPOINT_URL", &*seaweed.url), key];
    // Without an account the event stays.
    let process = Process::start_with(&place.config(), &[key]);
    accept(&process, "ar-1");
    process.await_line("AWS_ACCESS_KEY_ID");
    process.kill();
    let process = Process::start_with(&place.config(), &account);
    after_retention("the event is deleted", || transactions(&process).is_empty());
    process.stop();
    let keys = seaweed.keys("backups/postern/archive/events/");
    let [name] = &keys[..] else { panic!("{keys:?}") };
    let there = Place::new(PLAIN);
    let said =
        there.done(&account, &["import", &format!("s3://backups/postern/archive/events/{name}")]);
    assert!(said.contains("1 imported"), "{said}");
}
