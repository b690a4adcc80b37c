//! Damage in closed segments: every operation that walks one is exact or fails, and keeps what it
//! cannot read.

use std::collections::HashSet;

use super::*;
use crate::ledger::{
    BatchOptions, BatchedLedger, Damage, KeepKeys, Memory, NoopObserver, SourceId,
};

pub(super) const DAY: Duration = Duration::from_secs(86_400);
const DAY_MS: i64 = 86_400_000;

/// A ledger with closed segments, and the events in it.
pub(super) struct Store {
    pub(super) dir: TempDir,
    pub(super) clock: StoreClock,
    pub(super) events: Vec<NewEvent>,
}

/// The first bit of a byte flips.
pub(super) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Every delivery is done.
pub(super) async fn settle_all(ledger: &Embedded) {
    let leases = ledger.lease(&node(), &ask(1000)).await.unwrap().leases;
    for lease in &leases {
        let settlement = conformance::settlement(lease, LeaseResult::Done);
        ledger.settle(&node(), &[settlement]).await.unwrap();
    }
}

impl Store {
    /// Events of the first day in several closed and indexed segments. Every delivery is done.
    pub(super) async fn new() -> Self {
        Self::with(150, 0).await
    }

    /// With so many events in closed segments, and so many in the one that is written on.
    pub(super) async fn with(closed: u64, open: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let clock = StoreClock::manual(START_MS + DAY_MS / 2);
        let store = Self { dir, clock, events: Vec::new() };
        let ledger = store.open().unwrap();
        let mut events = fill(&ledger, 0..closed, 1500).await;
        settle_all(&ledger).await;
        ask_committer(&ledger, Call::Roll);
        events.extend(fill(&ledger, closed..closed + open, 1500).await);
        settle_all(&ledger).await;
        ledger.wait_until_indexed().unwrap();
        drop(ledger);
        Self { events, ..store }
    }

    pub(super) fn options(&self) -> EmbeddedOptions {
        options(&self.dir, self.clock.clone())
    }

    pub(super) fn open(&self) -> Result<Embedded, LedgerError> {
        Embedded::open(self.options())
    }

    /// Flips a bit in the middle of segment 0.
    fn damage(&self) -> PathBuf {
        let path = segments(&self.dir).remove(0);
        let middle = fs::metadata(&path).unwrap().len() / 2;
        flip(&path, middle as usize);
        path
    }

    pub(super) fn policy(&self) -> Retention {
        Retention {
            now_ms: self.clock.ms(),
            keep_events: 30 * DAY,
            keep_keys: vec![KeepKeys { source: SourceId::from("s"), time: 90 * DAY }],
            held: crate::ledger::HeldRetention::default(),
        }
    }

    /// Three more events, so large that each fills a segment, and closes the one before.
    pub(super) async fn forty_days_later(&self, ledger: &Embedded) {
        self.clock.advance(40 * DAY_MS);
        for n in 0..3 {
            let mut late = event((40 * DAY_MS + n) as u64, &[]);
            late.body = vec![1; 60_000].into();
            ledger.accept(&[late]).await.unwrap();
        }
        ledger.wait_until_indexed().unwrap();
    }

    /// Events that a salvage finds.
    pub(super) async fn salvaged(&self) -> u64 {
        let mut all = Vec::new();
        let survey = Embedded::salvage(&self.options(), &mut |items: &[Item]| {
            all.extend(items.to_vec());
            Ok::<(), LedgerError>(())
        });
        assert!(!survey.unwrap().is_whole());
        let memory = Memory::new(StoreClock::manual(START_MS));
        memory.import(all).await.unwrap();
        memory.stats().await.unwrap().events
    }
}

/// Asks the committer from a thread that may block.
fn ask_committer(ledger: &Embedded, call: fn(Answer<()>) -> Call) {
    let calls = ledger.shared.calls.clone().unwrap();
    std::thread::spawn(move || super::sweep_ask(&calls, call)).join().unwrap().unwrap();
}

/// All pages of an export; the error that ends it.
pub(super) async fn export(
    ledger: &Embedded,
    bytes: usize,
) -> Result<HashSet<EventId>, LedgerError> {
    let (mut seen, mut cursor) = (HashSet::new(), None);
    loop {
        let page = ledger.export(cursor.as_ref(), bytes).await?;
        seen.extend(page.items.iter().filter_map(|item| match item {
            Item::Event { event, .. } => Some(event.id),
            _ => None,
        }));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(seen);
        }
    }
}

/// A whole pass: bytes that were read, damage, remarks.
pub(super) async fn scrub(ledger: &Embedded, bytes: usize) -> (u64, Vec<Damage>, Vec<String>) {
    let (mut read, mut damage, mut remarks, mut cursor) = (0, vec![], vec![], None);
    loop {
        let page = ledger.scrub(cursor.as_ref(), bytes).await.unwrap();
        assert!(page.done <= page.total);
        read += page.read;
        damage.extend(page.damage);
        remarks.extend(page.remarks);
        cursor = page.next;
        if cursor.is_none() {
            return (read, damage, remarks);
        }
    }
}

#[tokio::test]
async fn an_export_of_a_damaged_store_fails() {
    let store = Store::new().await;
    let whole = export(&store.open().unwrap(), 10_000).await.unwrap();
    assert_eq!(whole.len(), store.events.len());
    let path = store.damage();
    let ledger = store.open().unwrap();
    for bytes in [1, 10_000, usize::MAX] {
        let error = export(&ledger, bytes).await.unwrap_err();
        assert!(matches!(error, LedgerError::Corrupt(_)), "{error}");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
}

#[tokio::test]
async fn retention_keeps_a_segment_that_it_cannot_read() {
    let store = Store::new().await;
    let path = store.damage();
    let original = fs::read(&path).unwrap();
    let ledger = store.open().unwrap();
    store.forty_days_later(&ledger).await;
    for _ in 0..2 {
        let swept = ledger.sweep(&store.policy(), usize::MAX).await;
        assert!(matches!(swept, Err(LedgerError::Corrupt(_))), "{swept:?}");
        let error = swept.unwrap_err().to_string();
        assert!(error.contains(&*path.to_string_lossy()) && error.contains("backup"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), original);
    }
    let damage = ledger.health().await.unwrap().damage;
    assert!(damage.len() == 1 && damage[0].path == path, "{damage:?}");
    let all = store.events.len() as u64 + 3;
    drop(ledger);
    assert_eq!(store.salvaged().await, all - 1);
    assert_eq!(store.open().unwrap().stats().await.unwrap().events, all);
    // Repaired, it is read again, and retention goes on.
    flip(&path, original.len() / 2);
    let ledger = store.open().unwrap();
    let swept = ledger.sweep(&store.policy(), usize::MAX).await.unwrap();
    assert_eq!(swept.events, store.events.len() as u64);
}

#[tokio::test]
async fn what_is_removed_before_the_damage_is_reported_first() {
    let store = Store::new().await;
    let path = segments(&store.dir).remove(1);
    flip(&path, fs::metadata(&path).unwrap().len() as usize / 2);
    let ledger = store.open().unwrap();
    store.forty_days_later(&ledger).await;
    let swept = ledger.sweep(&store.policy(), usize::MAX).await.unwrap();
    assert!(swept.events > 20 && swept.more, "{swept:?}");
    let again = ledger.sweep(&store.policy(), usize::MAX).await;
    assert!(matches!(again, Err(LedgerError::Corrupt(_))), "{again:?}");
}

#[tokio::test]
async fn a_transaction_whose_record_cannot_be_read_is_neither_accepted_nor_a_duplicate() {
    let store = Store::new().await;
    let path = store.damage();
    for _ in 0..2 {
        let ledger = store.open().unwrap();
        let mut refused = 0;
        for event in &store.events {
            let mut again = conformance::event(1_000_000, &["a"]);
            again.keys.clone_from(&event.keys);
            again.fingerprint = event.fingerprint;
            match ledger.accept(&[again]).await {
                Ok(accepted) => assert!(
                    matches!(accepted[0], Accepted::Duplicate { first, .. } if first == event.id)
                ),
                Err(error) => {
                    assert!(matches!(error, LedgerError::Corrupt(_)), "{error}");
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 1);
        let damage = ledger.health().await.unwrap().damage;
        assert!(damage.len() == 1 && damage[0].path == path, "{damage:?}");
        // The gateway goes on, and new events beside the rejected one are accepted.
        let new = event(2_000_000, &["a"]);
        assert!(ledger.accept(&[new]).await.is_ok());
    }
}

/// Through the handle that the gateway uses, where many callbacks share a commit.
#[tokio::test]
async fn one_record_that_cannot_be_read_refuses_one_callback_of_a_batch() {
    let store = Store::new().await;
    store.damage();
    let ledger = store.open().unwrap();
    let batched = BatchedLedger::new(ledger, BatchOptions::default(), Arc::new(NoopObserver));
    let again = |(at, of): (u64, &NewEvent)| {
        let mut again = conformance::event(1_000_000 + at, &["a"]);
        again.keys.clone_from(&of.keys);
        again.fingerprint = of.fingerprint;
        [again, event(2_000_000 + at, &["a"])]
    };
    // All of them wait before the first commit begins, and then are one or two batches.
    let record = |event| {
        let batched = batched.clone();
        tokio::spawn(async move { batched.record(event).await })
    };
    let all: Vec<_> = (0..).zip(&store.events).flat_map(again).map(record).collect();
    let mut refused = 0;
    for one in all {
        if let Err(error) = one.await.unwrap() {
            assert!(matches!(error, LedgerError::Corrupt(_)), "{error}");
            refused += 1;
        }
    }
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn a_scrub_finds_the_place_and_forgets_it_when_it_is_repaired() {
    let store = Store::new().await;
    let ledger = store.open().unwrap();
    for bytes in [1, 10_000, usize::MAX] {
        let (read, damage, remarks) = scrub(&ledger, bytes).await;
        let size: u64 = segments(&store.dir).iter().map(|p| fs::metadata(p).unwrap().len()).sum();
        // All of it but for the zeros that the last segment is not written into yet.
        assert!(read + (64 << 10) > size, "{read} of {size}");
        assert_eq!((damage, remarks), (vec![], vec![]));
    }
    let path = store.damage();
    let middle = fs::metadata(&path).unwrap().len() / 2;
    for bytes in [1, 10_000, usize::MAX] {
        let (_, damage, _) = scrub(&ledger, bytes).await;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!(damage[0].path, path);
        assert!(damage[0].from <= middle && middle < damage[0].until, "{damage:?}");
        assert_eq!(ledger.health().await.unwrap().damage, damage);
    }
    flip(&path, middle as usize);
    assert_eq!(scrub(&ledger, 10_000).await.1, []);
    assert_eq!(ledger.health().await.unwrap().damage, []);
    // A file that is gone, and one that is cut.
    let second = segments(&store.dir).remove(1);
    let whole = fs::read(&second).unwrap();
    fs::write(&second, &whole[..whole.len() - 100]).unwrap();
    assert_eq!(scrub(&ledger, 10_000).await.1[0].path, second);
    fs::remove_file(&second).unwrap();
    ledger.core().open_files.close_all();
    assert_eq!(scrub(&ledger, 10_000).await.1[0].path, second);
    fs::write(&second, whole).unwrap();
    ledger.core().open_files.close_all();
    assert_eq!(scrub(&ledger, 10_000).await.1, []);
    let cursor = Cursor(vec![9]);
    assert_eq!(ledger.scrub(Some(&cursor), 1).await, Err(LedgerError::BadCursor));
}

#[tokio::test]
async fn a_scrub_writes_a_broken_copy_of_the_manifest_again() {
    let store = Store::new().await;
    let ledger = store.open().unwrap();
    let path = manifest::path(store.dir.path());
    for at in [20, 4096 + 20] {
        flip(&path, at);
        let (_, damage, remarks) = scrub(&ledger, 10_000).await;
        assert_eq!((damage.len(), remarks.len()), (0, 1), "{remarks:?}");
        assert_eq!(scrub(&ledger, 10_000).await.2, [""; 0]);
    }
}

#[tokio::test]
async fn a_scrub_goes_on_while_segments_are_written_and_swept() {
    let store = Store::new().await;
    let ledger = store.open().unwrap();
    let (mut cursor, mut steps) = (None, 0);
    store.forty_days_later(&ledger).await;
    loop {
        let page = ledger.scrub(cursor.as_ref(), 1).await.unwrap();
        assert_eq!((page.damage, page.remarks), (vec![], vec![]));
        cursor = page.next;
        steps += 1;
        if steps == 20 {
            let swept = ledger.sweep(&store.policy(), usize::MAX).await.unwrap();
            assert!(swept.events > 0);
        }
        fill(&ledger, 5_000_000 + steps..5_000_001 + steps, 500).await;
        if cursor.is_none() {
            break;
        }
    }
    assert!(steps > 30, "{steps}");
}

#[tokio::test]
async fn a_change_of_keys_keeps_a_segment_that_it_cannot_read() {
    let store = Store::new().await;
    let path = store.damage();
    let original = fs::read(&path).unwrap();
    let mut sealed = store.options();
    sealed.keys = Keyring::new(Some(MasterKey::new(&[1; 32])));
    let keys = sealed.keys.clone();
    let rekeyed =
        std::thread::spawn(move || Embedded::rekey(sealed, &mut |_, _| {})).join().unwrap();
    assert!(matches!(rekeyed, Err(LedgerError::Corrupt(_))), "{rekeyed:?}");
    assert_eq!(fs::read(&path).unwrap(), original);
    let ledger = Embedded::open(EmbeddedOptions { keys, ..store.options() }).unwrap();
    assert_eq!(ledger.stats().await.unwrap().events, store.events.len() as u64);
}

#[tokio::test]
async fn an_index_is_not_thrown_away_for_a_journal_that_cannot_be_read() {
    let store = Store::new().await;
    store.damage();
    let options = store.options();
    let rebuilt =
        std::thread::spawn(move || Embedded::rebuild(options, Missing::Refuse)).join().unwrap();
    assert!(matches!(rebuilt, Err(LedgerError::Corrupt(_))), "{rebuilt:?}");
    assert_eq!(store.open().unwrap().stats().await.unwrap().events, store.events.len() as u64);
}
