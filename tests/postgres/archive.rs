//! The archive of several gateways on one server.
//!
//! 1. Events of three days ago are imported; two gateways with an archive are started.
//! 2. Each event is archived once, whichever gateway does it, and its day is dropped afterwards.
//! 3. A callback of now is archived when its time is over. Retention goes by the server's clock, so it
//!    stays in the store for an hour longer.
//! 4. The files of the archive are imported elsewhere, with everything that was in the events.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use postern::clock::now_ms;
use postern::ledger::{
    Embedded, EmbeddedOptions, EventId, ExportReader, Item, Keyring, Ledger as _, NewEvent,
    conformance,
};

use super::cluster::{schema, shared};
use super::engine::runtime;
use super::process::{Caller, Gateway, Setup, eventually, target};
use super::transfer::postern;

const OLD: u64 = 500;
const THREE_DAYS_MS: i64 = 3 * 86_400_000;

/// Events of three days ago, without deliveries.
fn old_events() -> Vec<NewEvent> {
    let event = |n| {
        let mut event = conformance::event(n, &[]);
        event.received_ms = now_ms() - THREE_DAYS_MS;
        event.id = EventId::new(event.received_ms);
        event.body = format!("body of {n}").repeat(20).into();
        event
    };
    (0..OLD).map(event).collect()
}

/// The files of an archive.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join("events")) else { return Vec::new() };
    let mut all: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "export"));
    all.sort();
    all
}

/// How often each transaction is in these files.
fn counted(files: &[PathBuf]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for path in files {
        let file = fs::File::open(path).unwrap();
        let mut reader = ExportReader::begin(file, &Keyring::default()).unwrap();
        while let Some(items) = reader.chunk().unwrap() {
            for item in items {
                let Item::Event { event, .. } = item else { panic!("{item:?}") };
                *found.entry(event.transaction).or_default() += 1;
            }
        }
    }
    found
}

/// The body of each transaction in an embedded store.
async fn bodies(path: &Path) -> BTreeMap<String, Bytes> {
    let ledger = Embedded::open(EmbeddedOptions::new(path)).unwrap();
    let (mut bodies, mut cursor) = (BTreeMap::new(), None);
    loop {
        let page = ledger.export(cursor.as_ref(), 1 << 20).await.unwrap();
        for item in page.items {
            if let Item::Event { event, .. } = item {
                bodies.insert(event.transaction, event.body);
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            return bodies;
        }
    }
}

#[test]
fn expired_events_are_archived_once_by_two_gateways_and_can_be_imported() {
    let Some(cluster) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let config = |name: &str| {
        let path = at(&format!("{name}.toml"));
        fs::write(&path, format!("[store]\npath = \"{}\"\n", at(name).display())).unwrap();
        path
    };
    let more = "keep_events = \"2s\"\nkeep_transactions = \"10d\"";
    let setup = Setup { url: cluster.url(), schema: schema(), backend: None, more };
    setup.migrate();
    runtime().block_on(async {
        let old = Embedded::open(EmbeddedOptions::new(at("old"))).unwrap();
        old.accept(&old_events()).await.unwrap();
    });
    let export = at("old.export");
    postern(&["export", "--output", export.to_str().unwrap()], &config("old"));
    let server = at("server.toml");
    let store = format!(
        "[store]\nengine = \"postgres\"\nurl = \"{}\"\nschema = \"{}\"\n",
        setup.url, setup.schema
    );
    fs::write(&server, store).unwrap();
    postern(&["import", export.to_str().unwrap()], &server);
    let stored = || cluster.ask(&format!("select count(*) from {}.event", setup.schema));
    assert_eq!(stored(), OLD.to_string());

    let archive = at("archive");
    let edit = |text: &str| {
        let text = text.replace("drain", "lame_duck = \"0s\"\ndrain");
        format!("{text}\n[archive]\nurl = \"file://{}\"\n", archive.display())
    };
    let gateways = [(); 2].map(|()| Gateway::start_edited(&setup, &edit));
    eventually("the old events are archived and dropped", || stored() == "0");
    let all = counted(&files(&archive));
    assert_eq!(all.len() as u64, OLD);

    let answer = Caller::new(gateways[1].callbacks).call(&target("now"));
    assert_eq!(answer.map(|(status, _)| status), Some(200));
    eventually("the new one is archived", || counted(&files(&archive)).contains_key("now"));
    let archived = |gateway: &Gateway| gateway.metric("postern_archived_events_total");
    eventually("all are counted", || {
        gateways.iter().map(archived).sum::<f64>() == OLD as f64 + 1.0
    });
    assert_eq!(stored(), "1", "it stays for an hour");
    gateways.into_iter().for_each(Gateway::terminate);
    let twice: Vec<_> = counted(&files(&archive)).into_iter().filter(|(_, n)| *n > 1).collect();
    assert!(twice.is_empty(), "archived twice: {twice:?}");

    let elsewhere = config("elsewhere");
    let taken = |path: &PathBuf| {
        let said = postern(&["import", path.to_str().unwrap()], &elsewhere).stdout;
        let said = String::from_utf8(said).unwrap();
        let (taken, _) = said.split_once(" imported, ").unwrap_or_else(|| panic!("{said}"));
        taken.parse::<u64>().unwrap()
    };
    assert_eq!(files(&archive).iter().map(taken).sum::<u64>(), OLD + 1);
    assert_eq!(files(&archive).iter().map(taken).sum::<u64>(), 0, "all are known by then");
    let bodies = runtime().block_on(bodies(&at("elsewhere")));
    assert_eq!(bodies.len() as u64, OLD + 1);
    for event in old_events() {
        assert_eq!(bodies[&event.transaction], event.body, "{}", event.transaction);
    }
}
