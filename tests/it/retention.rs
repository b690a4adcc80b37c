//! Events of a source that keeps them for a time of its own.
//!
//! 1. Two sources get callbacks; one keeps events for a second, the other as long as the store.
//! 2. The gateway is started again: the file that they are in is old enough to be closed.
//! 3. The first one's events are gone, their transactions are known, and the others stay.

use std::fs;

use postern::clock::now_ms;

use super::backend::Backend;
use super::gateway::{PLAIN, after_retention, eventually, taku};
use super::kill::Process;
use super::store::{Place, file, transactions};
use super::wire::get;

/// An eighth of the store's `keep_events`: the age at which a file of the journal is closed. On a slow
/// machine a round of retention may come late: the other source's events must not be old by then.
const CLOSED_AFTER_MS: i64 = 160_000 / 8;

/// A source that keeps its events for a second, beside `level-end`; with these lines.
fn quick(lines: &str) -> String {
    let source = PLAIN.split("[[source]]").nth(1).unwrap().replace("level-end", "quick");
    let own = "keep_events = \"1s\"\nkeep_transactions = \"1h\"";
    let text =
        format!("{PLAIN}\n[[source]]{source}{own}\n{lines}\n[store]\nkeep_events = \"160s\"\n");
    text.replace("drain", "lame_duck = \"0s\"\ndrain")
}

fn call(process: &Process, source: &str, transaction: &str) {
    let target = taku(transaction).replace("level-end", source);
    assert_eq!(get(process.callbacks, &target).status, 200);
}

/// The gateway started again, after the time of the events, when their file is closed.
fn restarted(process: Process, place: &Place) -> Process {
    let (received, files) = (now_ms(), place.segments().len());
    process.stop();
    eventually("the end of their time", || now_ms() > received + CLOSED_AFTER_MS);
    let process = Process::start(&place.config());
    eventually("the file is closed", || place.segments().len() > files);
    // A stop waits for the index: only what is in it is deleted.
    process.stop();
    Process::start(&place.config())
}

#[test]
fn a_source_keeps_its_events_for_its_own_time_and_its_transactions_for_longer() {
    let place = Place::new(&quick(""));
    let process = Process::start(&place.config());
    for n in 0..20 {
        call(&process, "quick", &format!("q-{n}"));
        call(&process, "level-end", &format!("l-{n}"));
    }
    assert_eq!(transactions(&process).len(), 40);
    let process = restarted(process, &place);
    after_retention("the events are deleted", || transactions(&process).len() == 20);
    let left = transactions(&process);
    assert!(left.iter().all(|transaction| transaction.starts_with("l-")), "{left:?}");
    let page = get(process.admin, "/metrics").body;
    assert!(page.contains("\npostern_store_swept_total{what=\"events\"} 20\n"), "{page}");

    // A callback that is repeated after its event is gone is a duplicate.
    call(&process, "quick", "q-7");
    let page = get(process.admin, "/metrics").body;
    let duplicates = "postern_callbacks_total{outcome=\"duplicate\",source=\"quick\"} 1\n";
    assert!(page.contains(duplicates), "{page}");
    assert_eq!(transactions(&process), left);
    process.stop();
    assert!(place.done(&[], &["verify"]).contains("20 events: whole"));
}

#[test]
fn an_event_whose_delivery_is_pending_outlives_its_time() {
    let nowhere = Backend::nowhere();
    let destination = format!(
        "destinations = [\"game\"]\n[[destination]]\nname = \"game\"\nurl = \"http://{nowhere}/\"\n"
    );
    let place = Place::new(&quick(&destination));
    let process = Process::start(&place.config());
    call(&process, "quick", "waits");
    // The same source without a destination: nothing is pending.
    process.stop();
    fs::write(place.config(), quick("")).unwrap();
    let process = Process::start(&place.config());
    call(&process, "quick", "goes");
    process.stop();
    fs::write(place.config(), quick(&destination)).unwrap();
    let process = restarted(Process::start(&place.config()), &place);
    after_retention("the other one is deleted", || transactions(&process) == ["waits"]);
    process.stop();
}

/// The archive has a folder for each source with a time of its own.
#[test]
fn its_events_are_archived_apart_before_they_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let archive = format!("[archive]\nurl = \"file://{}\"\n", folder.path().display());
    let place = Place::new(&quick(&archive));
    let process = Process::start(&place.config());
    call(&process, "quick", "q-1");
    call(&process, "level-end", "l-1");
    let process = restarted(process, &place);
    after_retention("the event is deleted", || transactions(&process) == ["l-1"]);
    process.stop();
    assert!(!folder.path().join("events").exists(), "the other one has not expired");
    let files: Vec<_> = fs::read_dir(folder.path().join("sources/quick")).unwrap().collect();
    let [one] = &files[..] else { panic!("{files:?}") };
    let there = Place::new(PLAIN);
    let said = there.done(&[], &["import", file(&one.as_ref().unwrap().path())]);
    assert!(said.contains("1 imported"), "{said}");
    let process = Process::start(&there.config());
    assert_eq!(transactions(&process), ["q-1"]);
    process.stop();
}
