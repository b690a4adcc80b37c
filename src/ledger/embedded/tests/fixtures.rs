//! Files that older programs wrote: each format that was ever released stays readable.
//!
//! `POSTERN_WRITE=1` writes them; a new format gets new files, and the old ones stay. Journals of
//! version 3 and exports of versions 2 and 3 were written later, by the program of version 4 and with
//! its version replaced: for bodies that are not derived it writes the same bytes as those did.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::*;
use crate::ledger::event::tests::{SECRET, resolved, signed};
use crate::ledger::{
    EventBody, Expect, ExportId, ExportReader, ExportWriter, HeldBounds, HeldQuery, HeldWhy,
    Incoming, Memory, NewEvent, Release,
};
use crate::sender::{Answer, Request};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/ledger");
const JOURNALS: [&str; 8] =
    ["1-plain", "1-sealed", "2-plain", "2-sealed", "3-plain", "3-sealed", "4-plain", "4-sealed"];
/// Version 3 is that of increments.
const EXPORTS: [&str; 8] =
    ["1-plain", "1-sealed", "2-plain", "2-sealed", "3-plain", "3-sealed", "4-plain", "4-sealed"];

/// The export that the increment called `name` follows: that of version 2.
fn followed(name: &str) -> ExportId {
    let whole = name.replace('3', "2");
    let file = fs::File::open(Path::new(ROOT).join(format!("{whole}.export"))).unwrap();
    ExportReader::begin(file, &keyring(&whole)).unwrap().id()
}

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

/// Whether a callback of the `form` waits for a decision: exports have them from version 2 on,
/// journals of the fixtures from version 3 on.
fn has_held(name: &str, form: Form) -> bool {
    match form {
        Form::Export => name.starts_with(['2', '3']),
        Form::Journal => name.starts_with('3'),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Export,
    Journal,
}

/// Whether the bodies of a fixture are of callbacks, stored once.
fn is_compact(name: &str) -> bool {
    name.starts_with('4')
}

/// A long value: several segments are filled.
fn data() -> String {
    "x".repeat(12_000)
}

/// The body of a callback with the transaction and the user of `event`.
fn compact_body(event: &NewEvent, n: u64) -> Bytes {
    let (transaction, user) = (&event.transaction, format!("u-{}", n % 3));
    let target = signed(
        &format!(
            "user_id={user}&trans_id={transaction}&placement_id=p&adsource_id=5&reward_amount=10\
             &reward_name=c%6Fin+{n}&extra_data={}",
            data()
        ),
        SECRET,
    );
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("gateway.example"));
    headers.insert("x-request-id", HeaderValue::from_static("17"));
    let request = Request {
        method: &Method::GET,
        target: target.as_bytes(),
        base: "",
        headers: &headers,
        body: b"",
    };
    let answer = Answer {
        status: StatusCode::OK,
        content_type: Some(HeaderValue::from_static("text/plain")),
        headers: Box::default(),
        body: Bytes::from(format!("ok {n}")),
    };
    let (resolved, params) = &resolved(&request, SECRET);
    let incoming = Incoming {
        id: event.id,
        source: "level-end",
        sender: "taku",
        received_ms: event.received_ms,
        resolved,
        params,
        release: if n == 3 { Release::ByOperator } else { Release::None },
    };
    EventBody::store(&incoming, &request, Some(&answer)).unwrap()
}

/// Checks what a stored callback says, to the byte: every later version has to show the same.
fn assert_shows_the_same(body: &Bytes, id: EventId, n: u64) {
    let body = EventBody::decode(body).unwrap();
    let user = n % 3;
    let released = if n == 3 { r#","released":true"# } else { "" };
    let expected = format!(
        concat!(
            r#"{{"id":"{id}","source":"level-end","sender":"taku","transaction":"t-{n}","#,
            r#""received_at":"{at}","user":"u-{user}","item":"coin {n}","amount":"10","#,
            r#""test":false,"unresolved":["more"],"#,
            r#""authenticated":["transaction","item","amount"],"#,
            r#""params":{{"user_id":"u-{user}","trans_id":"t-{n}","placement_id":"p","#,
            r#""adsource_id":"5","reward_amount":"10","reward_name":"coin {n}","#,
            r#""extra_data":"{data}","sign":"***"}},"#,
            r#""resolved":{{"who":"u-{user}","more":""}},"custom":"{data}"{released},"#,
            r#""kind":"event","effect":"grant"}}"#,
        ),
        id = id,
        n = n,
        at = crate::clock::rfc3339(START_MS + n as i64),
        user = user,
        data = data(),
        released = released,
    );
    assert_eq!(std::str::from_utf8(&body.json).unwrap(), expected);
    let headers = body.request.header_map();
    assert_eq!(headers.get("host").unwrap(), "gateway.example");
    assert_eq!(headers.get("x-request-id").unwrap(), "17");
    assert!(body.request.target.starts_with(b"/callback/a?user_id=u-"));
    assert_eq!(body.reply.unwrap().body, format!("ok {n}"));
}

/// Checks the content of the fixtures, however it was read.
async fn assert_is_all_there(ledger: &impl Ledger, name: &str, form: Form) {
    let held = ledger.held(&HeldQuery::default(), None, 10).await.unwrap().held;
    assert_eq!(held.len(), usize::from(has_held(name, form)), "{name}");
    assert!(held.iter().all(|one| one.why == HeldWhy::Conflict && one.first.is_some()));
    let stats = ledger.stats().await.unwrap();
    assert_eq!((stats.events, stats.keys, stats.pending, stats.dead), (6, 7, 4, 1));
    let page = ledger.query(&LogQuery::default(), None, 10).await.unwrap();
    for logged in &page.events {
        let n = (logged.received_ms - START_MS) as u64;
        match is_compact(name) {
            true => assert_shows_the_same(&logged.body, logged.id, n),
            false => assert_eq!(logged.body, body(name, n)),
        }
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
        assert_is_all_there(&ledger, name, Form::Journal).await;
        // Their keys may have an older form, also when retention has written them again.
        let older = name.starts_with(['1', '2']);
        assert_eq!(ledger.may_hold_older_keys().await.unwrap(), older);
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
        assert_eq!(ledger.may_hold_older_keys().await.unwrap(), older);
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
        let follows = reader.follows();
        assert_eq!(follows, name.starts_with('3').then(|| followed(name)), "{name}");
        let memory = Memory::new(StoreClock::manual(START_MS));
        while let Some(items) = reader.chunk().unwrap() {
            memory.import(items).await.unwrap();
        }
        assert_is_all_there(&memory, name, Form::Export).await;
    }
}

/// A store, its export, another store: what a callback says stays the same.
#[tokio::test]
async fn a_callback_says_the_same_after_export_and_import() {
    let (_dir, options) = copy("4-plain");
    let ledger = Embedded::open(options).unwrap();
    let bytes = exported(&ledger, Vec::new(), None).await;
    let mut reader = ExportReader::begin(&bytes[..], &Keyring::new(None)).unwrap();
    let dir = TempDir::new().unwrap();
    let other = open_in(&dir).unwrap();
    while let Some(items) = reader.chunk().unwrap() {
        other.import(items).await.unwrap();
    }
    assert_is_all_there(&other, "4-plain", Form::Export).await;
    drop(other);
    assert_is_all_there(&open_in(&dir).unwrap(), "4-plain", Form::Journal).await;
    assert!(open_in(&dir).unwrap().may_hold_older_keys().await.unwrap());
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

/// `POSTERN_WRITE=1` writes what is missing, in the form of this version. What is there stays as it is.
#[tokio::test]
async fn every_form_has_its_fixtures() {
    for name in JOURNALS {
        let journal = Path::new(ROOT).join(name);
        let export = Path::new(ROOT).join(format!("{name}.export"));
        if journal.exists() && export.exists() {
            continue;
        }
        assert!(std::env::var_os("POSTERN_WRITE").is_some(), "{name}: POSTERN_WRITE=1 writes it");
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
            event.body = match is_compact(name) {
                true => compact_body(&event, n),
                false => body(name, n).into(),
            };
            if n == 0 {
                event.keys.identity.push(conformance::key(1000));
            }
            ledger.accept(&[event]).await.unwrap();
        }
        let leases = ledger.lease(&node(), &ask(3)).await.unwrap().leases;
        let retry = LeaseResult::Retry { after: Duration::from_secs(60) };
        for (lease, result) in leases.iter().zip([LeaseResult::Done, LeaseResult::Dead, retry]) {
            ledger.settle(&node(), &[conformance::settlement(lease, result)]).await.unwrap();
        }
        ledger.release(&node()).await.unwrap();
        let nonce = Nonce { key: conformance::key(99), expires_ms: i64::MAX };
        ledger.check_nonces(&[nonce]).await.unwrap();
        if has_held(name, Form::Export) {
            let first = Some(event(1, &[]).id);
            let held = conformance::held(50, HeldWhy::Conflict, first);
            ledger.hold(&held, HeldBounds::default()).await.unwrap();
        }
        if !export.exists() {
            let follows = name.starts_with('3').then(|| followed(name));
            let bytes = exported_after(&ledger, Vec::new(), options.keys.current(), follows).await;
            fs::write(export, in_version(name, bytes, EXPORT_CRC)).unwrap();
        }
        ledger.wait_until_indexed().unwrap();
        drop(ledger);
        if !journal.exists() {
            fs::create_dir_all(&journal).unwrap();
            for path in segments(&dir) {
                let bytes = in_version(name, fs::read(&path).unwrap(), JOURNAL_CRC);
                fs::write(journal.join(path.file_name().unwrap()), bytes).unwrap();
            }
        }
    }
}

/// Where the checksum of a head is, over everything before it.
const JOURNAL_CRC: usize = 60;
const EXPORT_CRC: usize = 40;

/// A file with the version that its name begins with in its head.
fn in_version(name: &str, mut bytes: Vec<u8>, crc_at: usize) -> Vec<u8> {
    let version: u16 = name[..1].parse().unwrap();
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..crc_at]).to_le_bytes();
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc);
    bytes
}

/// The writer with the export of a ledger.
async fn exported<W: std::io::Write>(ledger: &Embedded, to: W, key: Option<&MasterKey>) -> W {
    exported_after(ledger, to, key, None).await
}

/// The same, as an increment to another one.
async fn exported_after<W: std::io::Write>(
    ledger: &Embedded,
    to: W,
    key: Option<&MasterKey>,
    follows: Option<ExportId>,
) -> W {
    let mut writer = ExportWriter::begin(to, key, follows).unwrap();
    let mut cursor = None;
    loop {
        let page = ledger.export(cursor.as_ref(), 20_000).await.unwrap();
        writer.write(&page.items).unwrap();
        cursor = page.next;
        if cursor.is_none() {
            return writer.end().unwrap();
        }
    }
}
