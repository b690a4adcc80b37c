//! Sealing, verifying, salvaging, rebuilding the index, changing the key.

use std::collections::HashSet;

use super::*;
use crate::ledger::{DeliveryState, Expect, Memory};

const SECRET: &str = "whisper it softly";

fn sealed(dir: &TempDir, keys: Keyring) -> EmbeddedOptions {
    EmbeddedOptions { keys, ..options(dir, StoreClock::manual(START_MS)) }
}

fn key(n: u8) -> MasterKey {
    MasterKey::new(&[n; 32])
}

fn keys(n: u8) -> Keyring {
    Keyring::new(Some(key(n)))
}

/// Events over several segments, one of them dead, one done, and a document.
async fn fill_all(ledger: &Embedded) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for n in 0..150 {
        let mut event = event(n, &["a"]);
        event.body = SECRET.repeat(90).into();
        event.transaction = format!("{SECRET} {n}");
        ledger.accept(std::slice::from_ref(&event)).await.unwrap();
        events.push(event);
    }
    let leases = ledger.lease(&node(), &ask(2)).await.unwrap().leases;
    for (lease, result) in leases.iter().zip([LeaseResult::Dead, LeaseResult::Done]) {
        ledger.settle(&node(), &[conformance::settlement(lease, result)]).await.unwrap();
    }
    let change = DocumentChange {
        kind: Kind::new("rule"),
        id: "1".into(),
        expect: Expect::Absent,
        body: Some(SECRET.into()),
        who: "me".into(),
        at_ms: START_MS,
    };
    ledger.change(&change).await.unwrap();
    ledger.wait_until_indexed().unwrap();
    events
}

async fn assert_all(ledger: &Embedded, events: &[NewEvent]) {
    assert_eq!(ledger.stats().await.unwrap().events, events.len() as u64);
    for event in events {
        assert_eq!(ledger.event(event.id).await.unwrap().unwrap().event.body, event.body);
    }
    let document = ledger.document(Kind::new("rule"), "1").await.unwrap().unwrap();
    assert_eq!(document.body, SECRET);
}

fn is_on_disk(dir: &Path, text: &str) -> bool {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().any(|path| match path.is_dir() {
        true => is_on_disk(&path, text),
        false => {
            let bytes = fs::read(&path).unwrap();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        }
    })
}

#[tokio::test]
async fn a_sealed_ledger_shows_nothing_and_wants_its_key() {
    let dir = TempDir::new().unwrap();
    let ledger = Embedded::open(sealed(&dir, keys(1))).unwrap();
    let events = fill_all(&ledger).await;
    drop(ledger);
    assert!(!is_on_disk(dir.path(), SECRET));
    for wrong in [Keyring::default(), keys(2)] {
        let refused = Embedded::open(sealed(&dir, wrong)).unwrap_err();
        assert!(matches!(refused, LedgerError::Sealed(_)));
        assert!(refused.to_string().contains("POSTERN_MASTER_KEY"), "{refused}");
    }
    let ledger = Embedded::open(sealed(&dir, keys(1))).unwrap();
    assert_eq!(ledger.health().await.unwrap().mended, [""; 0]);
    assert_all(&ledger, &events).await;
}

#[tokio::test]
async fn a_ledger_is_sealed_from_the_day_on_that_it_gets_a_key() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let first = fill(&ledger, 0..3, 100).await;
    drop(ledger);
    let ledger = Embedded::open(sealed(&dir, keys(1))).unwrap();
    let mut late = event(50, &["a"]);
    late.body = SECRET.into();
    ledger.accept(std::slice::from_ref(&late)).await.unwrap();
    drop(ledger);
    assert!(!is_on_disk(dir.path(), SECRET));
    let ledger = Embedded::open(sealed(&dir, keys(1))).unwrap();
    let all: Vec<NewEvent> = first.into_iter().chain([late]).collect();
    assert_kept(&ledger, &all).await;
}

/// Changes the key on a thread of its own, which may panic.
fn rekey(
    options: EmbeddedOptions,
    mut progress: impl FnMut(usize, usize) + Send + 'static,
) -> std::thread::Result<Result<u64, LedgerError>> {
    std::thread::spawn(move || Embedded::rekey(options, &mut progress)).join()
}

#[tokio::test]
async fn a_change_of_keys_goes_on_where_it_was_interrupted() {
    let dir = TempDir::new().unwrap();
    let ledger = Embedded::open(sealed(&dir, keys(1))).unwrap();
    let events = fill_all(&ledger).await;
    drop(ledger);
    let both = || sealed(&dir, keys(2).with_former(Some(key(1))));
    for stop in [0, 1, 2] {
        let interrupted = rekey(both(), move |done, _| assert!(done < stop, "interrupted"));
        assert!(interrupted.is_err());
        // Now some of it has the one key and some the other.
        for one in [keys(1), keys(2)] {
            assert!(matches!(Embedded::open(sealed(&dir, one)), Err(LedgerError::Sealed(_))));
        }
        assert_all(&Embedded::open(both()).unwrap(), &events).await;
    }
    assert!(rekey(both(), |done, all| assert!(done <= all)).unwrap().unwrap() > 0);
    assert_eq!(rekey(both(), |_, _| {}).unwrap(), Ok(0));
    assert!(matches!(Embedded::open(sealed(&dir, keys(1))), Err(LedgerError::Sealed(_))));
    let ledger = Embedded::open(sealed(&dir, keys(2))).unwrap();
    assert_all(&ledger, &events).await;
    assert_eq!(ledger.stats().await.unwrap().dead, 1);
    drop(ledger);
    // And back to none.
    let none = Keyring::default().with_former(Some(key(2)));
    assert!(rekey(sealed(&dir, none), |_, _| {}).unwrap().unwrap() > 1);
    assert!(is_on_disk(dir.path(), SECRET));
    assert_all(&open_in(&dir).unwrap(), &events).await;
}

/// The salvaged items in a ledger, and the damage.
async fn salvaged(options: &EmbeddedOptions) -> (Memory, Survey) {
    let mut all = Vec::new();
    let survey = Embedded::salvage(options, &mut |items: &[Item]| {
        all.extend(items.to_vec());
        Ok::<(), LedgerError>(())
    });
    let memory = Memory::new(StoreClock::manual(START_MS));
    memory.import(all).await.unwrap();
    (memory, survey.unwrap())
}

#[tokio::test]
async fn a_whole_ledger_is_verified_and_can_be_salvaged_too() {
    let dir = TempDir::new().unwrap();
    let options = sealed(&dir, keys(1));
    let ledger = Embedded::open(options.clone()).unwrap();
    let events = fill_all(&ledger).await;
    assert!(matches!(Embedded::verify(&options), Err(LedgerError::InUse(_))));
    drop(ledger);
    let survey = Embedded::verify(&options).unwrap();
    assert!(survey.is_whole() && survey.remarks.is_empty(), "{survey:?}");
    assert_eq!((survey.events, survey.segments), (150, segments(&dir).len() as u64));
    let (memory, survey) = salvaged(&options).await;
    assert!(survey.is_whole(), "{survey:?}");
    let stats = memory.stats().await.unwrap();
    assert_eq!((stats.events, stats.keys, stats.pending, stats.dead), (150, 150, 148, 1));
    let done = memory.event(events[1].id).await.unwrap().unwrap();
    assert_eq!(done.deliveries[0].state, DeliveryState::Done);
    assert_eq!(memory.documents(Kind::new("rule")).await.unwrap().documents.len(), 1);
}

#[tokio::test]
async fn salvaged_documents_come_page_by_page() {
    let dir = TempDir::new().unwrap();
    let options = EmbeddedOptions { segment_bytes: 8 << 20, ..sealed(&dir, Keyring::default()) };
    let ledger = Embedded::open(options.clone()).unwrap();
    for n in 0..5 {
        let change = DocumentChange {
            kind: Kind::new("rule"),
            id: n.to_string(),
            expect: Expect::Absent,
            body: Some(vec![b'x'; 700_000].into()),
            who: "me".into(),
            at_ms: START_MS,
        };
        ledger.change(&change).await.unwrap();
    }
    drop(ledger);
    let mut pages = Vec::new();
    let survey = Embedded::salvage(&options, &mut |items: &[Item]| {
        pages.push(items.len());
        Ok::<(), LedgerError>(())
    });
    assert!(survey.unwrap().is_whole());
    // A page is an export's chunk, which has a bound.
    assert_eq!(pages, [2, 2, 1]);
}

#[tokio::test]
async fn whatever_byte_is_damaged_the_rest_is_salvaged_and_the_place_is_named() {
    for keys in [Keyring::default(), keys(1)] {
        let dir = TempDir::new().unwrap();
        let options = sealed(&dir, keys);
        let ledger = Embedded::open(options.clone()).unwrap();
        let events = fill_all(&ledger).await;
        drop(ledger);
        let path = segments(&dir).remove(1);
        let whole = fs::read(&path).unwrap();
        // Every byte of the header, its salt among them, of the first frame's heads, and some of
        // its payload; and bytes all over the file.
        let near =
            (0..130).step_by(3).chain([20, 21, 22, 23]).chain((130..whole.len()).step_by(6733));
        let mut least = events.len();
        for at in near {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x20;
            fs::write(&path, &damaged).unwrap();
            let survey = Embedded::verify(&options).unwrap();
            let named = survey.damage.iter().any(|damage| {
                damage.path == path && damage.from <= at as u64 && (at as u64) < damage.until
            });
            // The padding of a frame and the zeros of a header are covered by nothing.
            let padding = survey.is_whole();
            assert!(named || padding, "byte {at}: {survey:?}");
            assert_eq!(survey.remarks, [""; 0], "no start makes that index again");
            let (memory, survey) = salvaged(&options).await;
            let found = memory.stats().await.unwrap().events as usize;
            assert!(found >= events.len() - 1, "byte {at}: {found} events, {survey:?}");
            least = least.min(found);
        }
        assert_eq!(least, events.len() - 1);
    }
}

#[tokio::test]
async fn holes_and_missing_files_cost_what_was_in_them() {
    let dir = TempDir::new().unwrap();
    let options = sealed(&dir, Keyring::default());
    let ledger = Embedded::open(options.clone()).unwrap();
    fill_all(&ledger).await;
    drop(ledger);
    let paths = segments(&dir);
    let mut holed = fs::read(&paths[1]).unwrap();
    holed[10_000..20_000].fill(0);
    fs::write(&paths[1], holed).unwrap();
    let lost = fs::metadata(&paths[2]).unwrap().len() / 1700;
    fs::remove_file(&paths[2]).unwrap();
    assert!(matches!(Embedded::open(options.clone()), Err(LedgerError::Corrupt(_))));
    let survey = Embedded::verify(&options).unwrap();
    assert!(survey.damage.iter().any(|damage| damage.what.contains("segment 2 is missing")));
    assert!(survey.damage.iter().any(|damage| damage.path == paths[1] && damage.from < 10_000));
    let (memory, _) = salvaged(&options).await;
    let found = memory.stats().await.unwrap().events;
    assert!(found + lost + 10 >= 150 && found < 150 - lost, "{found}, {lost}");
}

#[tokio::test]
async fn a_torn_end_is_no_damage() {
    let dir = TempDir::new().unwrap();
    let options = sealed(&dir, Keyring::default());
    let ledger = Embedded::open(options.clone()).unwrap();
    fill(&ledger, 0..5, 300).await;
    end_as_a_crash_does(&dir, ledger);
    let path = segments(&dir).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 20..].fill(0);
    fs::write(&path, bytes).unwrap();
    let survey = Embedded::verify(&options).unwrap();
    assert_eq!(survey.damage.len(), 1, "the records of the torn frame: {survey:?}");
    assert!(Embedded::open(options).is_ok());
}

#[tokio::test]
async fn an_index_is_made_anew_by_command() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill_all(&ledger).await;
    drop(ledger);
    let options = sealed(&dir, Keyring::default());
    fs::remove_dir_all(core::index_dir(dir.path())).unwrap();
    let survey = Embedded::verify(&options).unwrap();
    assert!(survey.is_whole() && survey.remarks.len() == 1, "{survey:?}");
    let segments = Embedded::rebuild(options.clone(), Missing::Refuse).unwrap();
    assert!(segments > 3);
    assert_eq!(Embedded::verify(&options).unwrap().remarks, [""; 0]);
    let ledger = open_in(&dir).unwrap();
    assert_eq!(ledger.health().await.unwrap().mended, [""; 0]);
    assert_all(&ledger, &events).await;
}

#[tokio::test]
async fn an_export_goes_on_while_the_ledger_is_written_and_swept() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill_all(&ledger).await;
    let (mut seen, mut cursor, mut late) = (HashSet::new(), None, 1000);
    loop {
        let page = ledger.export(cursor.as_ref(), 5_000).await.unwrap();
        for item in page.items {
            if let Item::Event { event, deliveries } = item {
                assert_eq!(deliveries.len(), 1);
                assert!(seen.insert(event.id), "twice");
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        if late < 1020 {
            fill(&ledger, late..late + 1, 300).await;
            late += 1;
        }
    }
    assert!(events.iter().all(|event| seen.contains(&event.id)));
    assert!(ledger.export(Some(&Cursor(vec![9])), 1).await == Err(LedgerError::BadCursor));
}
