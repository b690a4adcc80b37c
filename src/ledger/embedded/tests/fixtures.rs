//! Files that older programs wrote: each format that was ever released stays readable.
//!
//! `write_the_fixtures` wrote them; a new format gets new files, and the old ones stay.

use super::*;
use crate::ledger::{Expect, ExportReader, ExportWriter, Memory};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/ledger");
const JOURNALS: [&str; 4] = ["1-plain", "1-sealed", "2-plain", "2-sealed"];
const EXPORTS: [&str; 2] = ["1-plain", "1-sealed"];

fn keyring(name: &str) -> Keyring {
    Keyring::new(
        name.ends_with("sealed").then(|| MasterKey::new(b"fixtures are no secret to any-  ")),
    )
}

/// A copy of a journal, to be opened.
fn copy(name: &str) -> (TempDir, EmbeddedOptions) {
    let dir = TempDir::new().unwrap();
    let journal = core::journal_dir(dir.path());
    fs::create_dir(&journal).unwrap();
    for entry in fs::read_dir(Path::new(ROOT).join(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, journal.join(path.file_name().unwrap())).unwrap();
    }
    let clock = StoreClock::manual(START_MS);
    let options = EmbeddedOptions { keys: keyring(name), ..options(&dir, clock) };
    (dir, options)
}

/// The body of the `n`th event. From version 2 on the journal does not repeat what a body says.
fn body(name: &str, n: u64) -> String {
    let said =
        if name.starts_with('1') { String::new() } else { format!(r#""t-{n}" "u-{}""#, n % 3) };
    said + &format!("event {n} ").repeat(2000)
}

/// What the fixtures hold, whichever way they were read.
async fn assert_is_all_there(ledger: &impl Ledger, name: &str) {
    let stats = ledger.stats().await.unwrap();
    assert_eq!((stats.events, stats.keys, stats.pending, stats.dead), (6, 7, 4, 1));
    let page = ledger.query(&LogQuery::default(), None, 10).await.unwrap();
    for logged in &page.events {
        let n = (logged.received_ms - START_MS) as u64;
        assert_eq!(logged.body, body(name, n));
        for query in [
            LogQuery { transaction: Some(format!("t-{n}")), ..LogQuery::default() },
            LogQuery { user: Some(format!("u-{}", n % 3)), ..LogQuery::default() },
        ] {
            let found = ledger.query(&query, None, 10).await.unwrap().events;
            assert!(found.iter().any(|found| found.id == logged.id));
        }
        assert_eq!(ledger.event(logged.id).await.unwrap().unwrap().deliveries.len(), 1);
    }
    let document = ledger.document(Kind::new("rule"), "1").await.unwrap().unwrap();
    assert_eq!((document.version, document.body.as_ref()), (Revision(2), &b"second"[..]));
    let nonce = Nonce { key: conformance::key(99), expires_ms: i64::MAX };
    let uses = ledger.check_nonces(&[nonce]).await.unwrap();
    assert_eq!(uses, [crate::ledger::NonceUse::Repeated]);
    for n in 0..6 {
        let again = ledger.accept(&[event(n, &[])]).await.unwrap();
        assert!(matches!(again[0], Accepted::Duplicate { .. }));
    }
}

#[tokio::test]
async fn journals_of_every_format_are_read() {
    for name in JOURNALS {
        let (_dir, options) = copy(name);
        assert!(Embedded::verify(&options).unwrap().is_whole());
        let ledger = Embedded::open(options.clone()).unwrap();
        assert_is_all_there(&ledger, name).await;
        // Their keys may have an older form, also when retention has written them again.
        assert!(ledger.may_hold_older_keys().await.unwrap());
        let keep = Duration::from_secs(60);
        let policy = crate::ledger::Retention {
            now_ms: START_MS + 3_600_000,
            keep_events: keep,
            keep_keys: conformance::keep(&["s"], Duration::from_secs(1 << 40)),
            held: crate::ledger::HeldRetention::default(),
        };
        options.clock.advance(3_600_000);
        ledger.wait_until_indexed().unwrap();
        ledger.sweep(&policy, 100).await.unwrap();
        drop(ledger);
        let ledger = Embedded::open(options).unwrap();
        assert!(ledger.may_hold_older_keys().await.unwrap());
        for n in 0..6 {
            let again = ledger.accept(&[event(n, &[])]).await.unwrap();
            assert!(matches!(again[0], Accepted::Duplicate { .. }));
        }
    }
}

#[tokio::test]
async fn exports_of_every_format_are_taken() {
    for name in EXPORTS {
        let file = fs::File::open(Path::new(ROOT).join(format!("{name}.export"))).unwrap();
        let mut reader = ExportReader::begin(file, &keyring(name)).unwrap();
        let memory = Memory::new(StoreClock::manual(START_MS));
        while let Some(items) = reader.chunk().unwrap() {
            memory.import(items).await.unwrap();
        }
        assert_is_all_there(&memory, name).await;
    }
}

#[tokio::test]
async fn a_journal_that_is_cut_anywhere_is_mended_or_refused() {
    let (dir, options) = copy("2-plain");
    let path = segments(&dir).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    for len in (0..whole.len()).step_by(997) {
        fs::write(&path, &whole[..len]).unwrap();
        let _ = fs::remove_dir_all(core::index_dir(dir.path()));
        match Embedded::open(options.clone()) {
            Ok(ledger) => assert!(ledger.stats().await.unwrap().events <= 6),
            Err(error) => assert!(error.to_string().contains("journal"), "{error}"),
        }
    }
}

/// Not a test: wrote what the tests read.
#[tokio::test]
#[ignore = "writes fixtures/ledger, which stay as they are"]
async fn write_the_fixtures() {
    for name in JOURNALS.into_iter().filter(|name| !Path::new(ROOT).join(name).exists()) {
        let dir = TempDir::new().unwrap();
        let clock = StoreClock::manual(START_MS);
        let options = EmbeddedOptions { keys: keyring(name), ..options(&dir, clock) };
        let ledger = Embedded::open(options.clone()).unwrap();
        for (body, expect) in [("first", Expect::Absent), ("second", Expect::Version(Revision(1)))]
        {
            let change = DocumentChange {
                kind: Kind::new("rule"),
                id: "1".into(),
                expect,
                body: Some(body.into()),
                who: "me".into(),
                at_ms: START_MS,
            };
            ledger.change(&change).await.unwrap();
        }
        for n in 0..6 {
            let mut event = event(n, &["a"]);
            event.body = body(name, n).into();
            if n == 0 {
                event.keys.identity.push(conformance::key(1000));
            }
            ledger.accept(&[event]).await.unwrap();
        }
        let leases = ledger.lease(&node(), &ask(3)).await.unwrap().leases;
        let retry = Verdict::Retry { after: Duration::from_secs(60) };
        for (lease, verdict) in leases.iter().zip([Verdict::Done, Verdict::Dead, retry]) {
            ledger.settle(&node(), &[conformance::settlement(lease, verdict)]).await.unwrap();
        }
        ledger.release(&node()).await.unwrap();
        let nonce = Nonce { key: conformance::key(99), expires_ms: i64::MAX };
        ledger.check_nonces(&[nonce]).await.unwrap();
        if EXPORTS.contains(&name) {
            write_export(&ledger, name, &options.keys).await;
        }
        ledger.wait_until_indexed().unwrap();
        drop(ledger);
        let to = Path::new(ROOT).join(name);
        fs::create_dir_all(&to).unwrap();
        for path in segments(&dir) {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

async fn write_export(ledger: &Embedded, name: &str, keys: &Keyring) {
    let file = fs::File::create(Path::new(ROOT).join(format!("{name}.export"))).unwrap();
    let mut writer = ExportWriter::begin(file, keys.current(), None).unwrap();
    let mut cursor = None;
    loop {
        let page = ledger.export(cursor.as_ref(), 20_000).await.unwrap();
        writer.write(&page.items).unwrap();
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    writer.end().unwrap();
}
