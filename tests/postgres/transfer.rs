//! From the embedded engine to PostgreSQL and back, with the commands that people use.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use postern::ledger::{
    BatchOptions, BatchedLedger, DocumentChange, Embedded, EmbeddedOptions, Expect, Item, Kind,
    LeaseAsk, LeaseResult, Ledger as _, Nonce, NoopObserver, TargetFilter, conformance,
};
use sha2::{Digest, Sha256};

use super::cluster::{schema, shared};
use super::process::{Caller, Gateway, Setup, get};

const EVENTS: u64 = 3000;

/// Runs a command, which must end well.
pub fn postern(arguments: &[&str], config: &Path) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(&arguments[..1])
        .arg("--config")
        .arg(config)
        .args(&arguments[1..])
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

/// An embedded ledger with some of everything.
async fn fill(path: &Path) {
    let ledger = Embedded::open(EmbeddedOptions::new(path)).unwrap();
    let events: Vec<_> = (0..EVENTS)
        .map(|n| {
            let mut event = conformance::event(n, [&["a"][..], &["a", "b"], &[]][n as usize % 3]);
            if n % 7 == 0 {
                event.keys.identity.push(conformance::key(n + 1_000_000));
            }
            event.body = vec![n as u8; n as usize % 900].into();
            event
        })
        .collect();
    for some in events.chunks(200) {
        ledger.accept(some).await.unwrap();
    }
    let ask =
        LeaseAsk { targets: TargetFilter::All, max: 900, ttl: std::time::Duration::from_secs(60) };
    let node = conformance::node();
    let leases = ledger.lease(&node, &ask).await.unwrap().leases;
    let results = [
        LeaseResult::Done,
        LeaseResult::Dead,
        LeaseResult::Retry { after: std::time::Duration::from_secs(80_000) },
    ];
    let settled: Vec<_> = leases
        .iter()
        .enumerate()
        .map(|(n, lease)| conformance::settlement(lease, results[n % 3]))
        .collect();
    ledger.settle(&node, &settled).await.unwrap();
    for n in 0..20 {
        let change = DocumentChange {
            kind: Kind::new("rule"),
            id: format!("{n}"),
            expect: Expect::Absent,
            body: Some(vec![n; 300].into()),
            who: "me".into(),
            at_ms: 7,
        };
        ledger.change(&change).await.unwrap();
    }
    let expires_ms = postern::clock::now_ms() + 86_400_000;
    ledger.check_nonces(&[Nonce { key: conformance::key(9), expires_ms }]).await.unwrap();
    drop(BatchedLedger::new(ledger, BatchOptions::default(), std::sync::Arc::new(NoopObserver)));
}

/// How many items an embedded ledger holds, and a hash over all of them, in whatever order. Without the
/// audit log, in which each export has an entry.
async fn sum(path: &Path) -> (usize, String) {
    let ledger = Embedded::open(EmbeddedOptions::new(path)).unwrap();
    let (mut items, mut cursor) = (Vec::new(), None);
    loop {
        let page = ledger.export(cursor.as_ref(), 1 << 20).await.unwrap();
        let is_of_audit_log = |item: &Item| match item {
            Item::Document { kind, .. } => kind == "audit" || kind == "registry",
            _ => false,
        };
        let counted = page.items.into_iter().filter(|item| !is_of_audit_log(item));
        items.extend(counted.map(|item| Item::encode(&[item])));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    items.sort();
    let mut hash = Sha256::new();
    items.iter().for_each(|item| hash.update(item));
    (items.len(), const_hex::encode(hash.finalize()))
}

#[test]
fn everything_goes_to_postgres_and_back_and_is_the_same() {
    let Some(cluster) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let config = |name: &str, store: &str| {
        std::fs::write(at(name), format!("[store]\n{store}\n")).unwrap();
        at(name)
    };
    let from = config("from.toml", &format!("path = \"{}\"", at("from").display()));
    let back = config("back.toml", &format!("path = \"{}\"", at("back").display()));
    let server =
        format!("engine = \"postgres\"\nurl = \"{}\"\nschema = \"{}\"", cluster.url(), schema());
    let server = config("server.toml", &server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fill(&at("from")));

    let (one, two) = (at("one.export"), at("two.export"));
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    postern(&["export", "--output", one], &from);
    postern(&["migrate"], &server);
    let items = EVENTS + 20 + 1;
    let said = |output: Output| String::from_utf8(output.stdout).unwrap();
    // With the entries of one and two exports in the audit log, and the number of the next one.
    let (first, second) = (items + 2, items + 3);
    let taken = said(postern(&["import", one], &server));
    assert_eq!(taken, format!("{first} imported, 0 known already\n"));
    let taken = said(postern(&["import", one], &server));
    assert_eq!(taken, format!("0 imported, {first} known already\n"));
    postern(&["export", "--output", two], &server);
    let taken = said(postern(&["import", two], &back));
    assert_eq!(taken, format!("{second} imported, 0 known already\n"));
    let (first, last) =
        runtime.block_on(async { (sum(&at("from")).await, sum(&at("back")).await) });
    assert_eq!(first, last);
    assert_eq!(first.0 as u64, items);
}

/// An embedded ledger in which an operator has paused the destination `game`.
async fn pause(path: &Path) {
    let ledger = Embedded::open(EmbeddedOptions::new(path)).unwrap();
    let pause = DocumentChange {
        kind: Kind::new("pause"),
        id: "game".into(),
        expect: Expect::Absent,
        body: Some(br#"{"why":"operator"}"#.to_vec().into()),
        who: "me".into(),
        at_ms: postern::clock::now_ms(),
    };
    ledger.change(&pause).await.unwrap();
}

/// 1. An embedded store with a pause is moved to a server: the destination is paused there too.
/// 2. It is resumed, and the import is repeated while a gateway runs: it stays so at the next start.
#[test]
fn a_destination_stays_resumed_when_an_older_export_is_imported_again() {
    let Some(cluster) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from.toml");
    let store = folder.path().join("from");
    std::fs::write(&from, format!("[store]\npath = \"{}\"\n", store.display())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(pause(&store));
    let export = folder.path().join("paused.export");
    let export = export.to_str().unwrap();
    postern(&["export", "--output", export], &from);

    let backend = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
    let setup = Setup { url: cluster.url(), schema: schema(), backend, more: "" };
    setup.migrate();
    let state = |gateway: &Gateway| -> serde_json::Value {
        let (_, said) = get(gateway.admin, "/admin/v1/destinations/game/status");
        let status: serde_json::Value = serde_json::from_str(&said).unwrap();
        status["state"].clone()
    };
    let first = Gateway::start(&setup);
    let config = first.config();
    assert_eq!(state(&first), "active");
    postern(&["import", export], &config);
    let gateway = Gateway::start(&setup);
    assert_eq!(state(&gateway), "paused");
    let resumed = Caller::new(gateway.admin).post("/admin/v1/destinations/game/resume");
    assert_eq!(resumed.map(|(status, _)| status), Some(200));
    assert_eq!(state(&gateway), "active");
    for _ in 0..2 {
        postern(&["import", export], &config);
        assert_eq!(state(&Gateway::start(&setup)), "active");
    }
}
