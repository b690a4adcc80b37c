//! Tests of the embedded engine as a whole.

mod crash;
mod damage;
mod erasing;
mod every_region;
mod faults;
mod fixtures;
mod indexing;
mod missing;
mod model;
mod soak;
mod sweep;
mod tools;

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex as StdMutex;

use tempfile::TempDir;

use super::sweep::ask as sweep_ask;
use super::*;
use crate::ledger::conformance::{self, START_MS, event, node};
use crate::ledger::{
    BatchOptions, BatchedLedger, Keyring, LeaseResult, MasterKey, NoopObserver, StoreClock,
    TargetFilter,
};

/// Small segments: a test then meets many.
fn options(dir: &TempDir, clock: StoreClock) -> EmbeddedOptions {
    let mut options = EmbeddedOptions::new(dir.path());
    options.segment_bytes = 64 << 10;
    options.clock = clock;
    options
}

fn open_in(dir: &TempDir) -> Result<Embedded, LedgerError> {
    Embedded::open(options(dir, StoreClock::manual(START_MS)))
}

/// The handle that the gateway uses, for a while.
fn batched(ledger: &Embedded) -> BatchedLedger {
    let options = BatchOptions { patience: Duration::from_secs(60), ..BatchOptions::default() };
    BatchedLedger::new(ledger.clone(), options, Arc::new(NoopObserver))
}

/// The segments in the order of their numbers.
fn segments(dir: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(core::journal_dir(dir.path())).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "journal"));
    paths.sort();
    paths
}

/// Ends a ledger without what an end in good order does: the manifest does not say where the
/// journal ends.
fn end_as_a_crash_does(dir: &TempDir, ledger: Embedded) {
    let path = manifest::path(dir.path());
    let before = fs::read(&path).unwrap();
    drop(ledger);
    fs::write(path, before).unwrap();
}

fn ask(max: usize) -> LeaseAsk {
    LeaseAsk { targets: TargetFilter::All, max, ttl: Duration::from_secs(30) }
}

/// Accepts events `from..to`, whose bodies are `size` bytes, one at a time.
async fn fill(ledger: &Embedded, numbers: std::ops::Range<u64>, size: usize) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for n in numbers {
        let mut event = event(n, &["a"]);
        event.body = vec![n as u8; size].into();
        assert_eq!(ledger.accept(std::slice::from_ref(&event)).await, Ok(vec![Accepted::New]));
        events.push(event);
    }
    events
}

/// Every event is stored, with its body, its delivery and its key, in every case.
async fn assert_kept(ledger: &Embedded, events: &[NewEvent]) {
    let leases = ledger.lease(&node(), &ask(events.len() + 1)).await.unwrap().leases;
    assert_eq!(leases.len(), events.len());
    for event in events {
        let detail = ledger.event(event.id).await.unwrap().expect("the event exists");
        assert_eq!(detail.event.body, event.body);
        assert!(leases.iter().any(|lease| lease.event == event.id && lease.body == event.body));
        let again = conformance::repeat(event, 1_000_000);
        let accepted = ledger.accept(&[again]).await.unwrap();
        assert!(matches!(accepted[0], Accepted::Duplicate { first, .. } if first == event.id));
    }
    assert_eq!(ledger.stats().await.unwrap().events, events.len() as u64);
}

#[tokio::test]
async fn the_embedded_engine_conforms() {
    let dirs = StdMutex::new(Vec::new());
    conformance::all(|clock| {
        let dir = TempDir::new().unwrap();
        let ledger = Embedded::open(options(&dir, clock)).unwrap();
        dirs.lock().unwrap().push(dir);
        ledger
    })
    .await;
}

#[tokio::test]
async fn many_segments_are_closed_indexed_and_read_again() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill(&ledger, 0..300, 1500).await;
    assert!(segments(&dir).len() > 5);
    assert_kept(&ledger, &events).await;
    drop(ledger);
    let ledger = open_in(&dir).unwrap();
    assert_eq!(ledger.health().await.unwrap().mended, [""; 0]);
    let indexed = ledger.core().all_runs();
    assert!(indexed.iter().filter(|run| matches!(run, run::Run::Indexed(_))).count() > 4);
    assert_kept(&ledger, &events).await;
}

#[tokio::test]
async fn a_start_closes_databases_and_reads_their_snapshots() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill(&ledger, 0..360, 15_000).await;
    ledger.wait_until_indexed().unwrap();
    assert!(segments(&dir).len() > 64 + 16);
    let has_snapshot = |period: &str| {
        let entries = fs::read_dir(core::index_dir(dir.path()).join(period)).unwrap();
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("snap."))
    };
    // No database was opened by a start yet.
    assert!(has_snapshot("period-0000000000-0") && has_snapshot("period-0000000001-0"));
    assert_kept(&ledger, &events).await;
    end_as_a_crash_does(&dir, ledger);
    let ledger = open_in(&dir).unwrap();
    assert_eq!(ledger.core().index.opened(), 1);
    assert_kept(&ledger, &events).await;
    assert_eq!(ledger.core().index.opened(), 2);
}

#[tokio::test]
async fn the_index_can_be_thrown_away() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill(&ledger, 0..200, 1500).await;
    drop(ledger);
    let index = core::index_dir(dir.path()).join("period-0000000000-0");
    // Gone; emptied, which looks healthy; and damaged, where sled may panic.
    fs::remove_dir_all(&index).unwrap();
    let ledger = open_in(&dir).unwrap();
    assert_kept(&ledger, &events).await;
    drop(ledger);
    fs::remove_dir_all(&index).unwrap();
    drop(sled::open(&index).unwrap());
    let ledger = open_in(&dir).unwrap();
    assert_kept(&ledger, &events).await;
    drop(ledger);
    let length = fs::metadata(index.join("db")).unwrap().len() as usize;
    fs::write(index.join("db"), vec![0xa5; length]).unwrap();
    let ledger = open_in(&dir).unwrap();
    let mended = ledger.health().await.unwrap().mended;
    assert!(mended.iter().any(|what| what.contains("read again")), "{mended:?}");
    assert_kept(&ledger, &events).await;
}

#[tokio::test]
async fn a_lost_block_of_the_index_is_read_from_the_journal() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill(&ledger, 0..200, 1500).await;
    drop(ledger);
    let db = sled::open(core::index_dir(dir.path()).join("period-0000000000-0")).unwrap();
    // The keys of segment 1, and the deliveries of segment 2.
    for (table, segment) in [(2, 1), (8, 2)] {
        let mut key = [0; 13];
        (key[3], key[8]) = (segment, table);
        assert!(db.remove(key).unwrap().is_some());
    }
    db.flush().unwrap();
    drop(db);
    for file in key_files(&dir) {
        fs::remove_file(file).unwrap();
    }
    let ledger = open_in(&dir).unwrap();
    assert_kept(&ledger, &events).await;
}

/// The files of keys in the index.
fn key_files(dir: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(core::index_dir(dir.path()).join("period-0000000000-0")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("keys-"));
    paths.sort();
    paths
}

#[tokio::test]
async fn a_start_reads_keys_from_files_and_from_the_database_where_one_is_missing_or_damaged() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill(&ledger, 0..200, 1500).await;
    ledger.wait_until_indexed().unwrap();
    drop(ledger);
    let files = key_files(&dir);
    assert_eq!(files.len(), segments(&dir).len() - 1);
    assert!(files.len() > 3);
    // Without their blocks in the database nothing else has the keys.
    let db = sled::open(core::index_dir(dir.path()).join("period-0000000000-0")).unwrap();
    let mut key = [0; 13];
    (key[3], key[8]) = (1, 2);
    let block = db.remove(key).unwrap().unwrap();
    db.flush().unwrap();
    drop(db);
    let ledger = open_in(&dir).unwrap();
    assert_eq!(ledger.health().await.unwrap().mended, [""; 0]);
    assert_kept(&ledger, &events).await;
    drop(ledger);
    let db = sled::open(core::index_dir(dir.path()).join("period-0000000000-0")).unwrap();
    db.insert(key, block).unwrap();
    drop(db);

    // As an earlier version left it, torn, and damaged where only a load finds it.
    let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    fs::remove_file(&files[0]).unwrap();
    fs::write(&files[1], &whole[1][..whole[1].len() / 2]).unwrap();
    fs::write(&files[2], [&whole[2][..whole[2].len() - 1], &[0x77]].concat()).unwrap();
    let ledger = open_in(&dir).unwrap();
    let mended = ledger.health().await.unwrap().mended;
    assert_eq!(mended.len(), 1, "{mended:?}");
    assert!(mended[0].contains("damaged files of keys"), "{mended:?}");
    assert_kept(&ledger, &events).await;
    drop(ledger);
    for (file, whole) in files.iter().zip(whole) {
        assert_eq!(fs::read(file).unwrap(), whole);
    }
    let ledger = open_in(&dir).unwrap();
    assert_eq!(ledger.health().await.unwrap().mended, [""; 0]);
    assert_kept(&ledger, &events).await;
}

#[tokio::test]
async fn a_second_owner_is_refused() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let refused = open_in(&dir).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("belongs to another process"), "{refused}");
    drop(ledger);
    assert!(open_in(&dir).is_ok());
}

#[tokio::test]
async fn leases_die_with_the_process_and_what_was_settled_does_not() {
    let dir = TempDir::new().unwrap();
    let clock = StoreClock::manual(START_MS);
    let ledger = Embedded::open(options(&dir, clock.clone())).unwrap();
    fill(&ledger, 0..4, 10).await;
    let leases = ledger.lease(&node(), &ask(4)).await.unwrap().leases;
    let retry = LeaseResult::Retry { after: Duration::from_secs(60) };
    let settlements: Vec<_> = leases
        .iter()
        .zip([LeaseResult::Done, LeaseResult::Dead, retry])
        .map(|(lease, result)| conformance::settlement(lease, result))
        .collect();
    ledger.settle(&node(), &settlements).await.unwrap();
    drop(ledger);
    let ledger = Embedded::open(options(&dir, clock.clone())).unwrap();
    let stats = ledger.stats().await.unwrap();
    assert_eq!((stats.pending, stats.dead), (2, 1));
    let due = ledger.lease(&node(), &ask(9)).await.unwrap();
    assert_eq!(due.next_due, Some(Duration::from_secs(30)));
    assert_eq!((due.leases.len(), due.leases[0].event), (1, leases[3].event));
    assert_eq!(due.leases[0].attempt, 1);
    clock.advance(60_000);
    assert_eq!(ledger.lease(&node(), &ask(9)).await.unwrap().leases.len(), 2);
}

#[tokio::test]
async fn a_start_sets_right_what_a_clock_ahead_made_late() {
    const HOUR_MS: u64 = 3_600_000;
    // How far the clock is ahead, when it says that the event was received, the time of the retry
    // in s, and the same after a start under the right clock.
    let cases = [
        (3 * HOUR_MS, 3 * HOUR_MS, 60, 60),
        // Received before: no later than after the longest gap.
        (9000 * HOUR_MS, 0, 60, 103_680),
        // Right from the start: not too early.
        (0, 0, 86_400, 86_400),
    ];
    for (ahead_ms, received, after, expected) in cases {
        let dir = TempDir::new().unwrap();
        let clock = StoreClock::manual(START_MS + ahead_ms as i64);
        let ledger = Embedded::open(options(&dir, clock)).unwrap();
        ledger.accept(&[event(received, &["a"])]).await.unwrap();
        let lease = ledger.lease(&node(), &ask(1)).await.unwrap().leases.remove(0);
        let retry = LeaseResult::Retry { after: Duration::from_secs(after) };
        ledger.settle(&node(), &[conformance::settlement(&lease, retry)]).await.unwrap();
        drop(ledger);
        let ledger = open_in(&dir).unwrap();
        let due = ledger.lease(&node(), &ask(1)).await.unwrap().next_due;
        assert_eq!(due, Some(Duration::from_secs(expected)), "{ahead_ms} ms ahead");
    }
}

#[tokio::test]
async fn a_start_under_a_clock_that_is_behind_makes_no_retry_early() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    ledger.accept(&[event(0, &["a"])]).await.unwrap();
    let lease = ledger.lease(&node(), &ask(1)).await.unwrap().leases.remove(0);
    let retry = LeaseResult::Retry { after: Duration::from_secs(600) };
    ledger.settle(&node(), &[conformance::settlement(&lease, retry)]).await.unwrap();
    drop(ledger);
    // In 1970. The clock of a ledger goes on from there when the system's clock is set.
    let clock = StoreClock::manual(0);
    let ledger = Embedded::open(options(&dir, clock.clone())).unwrap();
    clock.advance(599_999);
    assert_eq!(ledger.lease(&node(), &ask(1)).await.unwrap().leases, []);
    clock.advance(1);
    assert_eq!(ledger.lease(&node(), &ask(1)).await.unwrap().leases.len(), 1);
}

/// All pages of an export that begins after `cursor`.
async fn exported(ledger: &Embedded, mut cursor: Option<Cursor>) -> Vec<Item> {
    let mut items = Vec::new();
    loop {
        let page = ledger.export(cursor.as_ref(), 1 << 20).await.unwrap();
        items.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return items;
        }
    }
}

#[tokio::test]
async fn an_export_leaves_no_frame_out_when_a_segment_begins_during_a_page() {
    let dir = TempDir::new().unwrap();
    let faults = files::faulty::Faults::default();
    let options = options(&dir, StoreClock::manual(START_MS));
    let ledger = Embedded::open_with(options, Arc::new(faults.clone())).unwrap();
    let mut events = fill(&ledger, 0..3, 10).await;
    // The page of the documents comes first.
    let first = ledger.export(None, 1 << 20).await.unwrap().next;
    faults.hold_reads.store(true, Ordering::SeqCst);
    let exporting = tokio::spawn({
        let ledger = ledger.clone();
        async move { exported(&ledger, first).await }
    });
    while !faults.holds_a_read.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    events.extend(fill(&ledger, 3..4, 10).await);
    ledger.call(Call::Roll).await.unwrap();
    events.extend(fill(&ledger, 4..5, 10).await);
    faults.hold_reads.store(false, Ordering::SeqCst);
    let items = exporting.await.unwrap();
    let ids: Vec<EventId> = items
        .iter()
        .filter_map(|item| match item {
            Item::Event { event, .. } => Some(event.id),
            _ => None,
        })
        .collect();
    let all: Vec<EventId> = events.iter().map(|event| event.id).collect();
    assert!(ids.len() >= 3 && ids == all[..ids.len()], "{ids:?}");
}

#[tokio::test]
async fn a_nonce_is_used_once_after_the_clock_was_set_back() {
    const MINUTE_MS: i64 = 60_000;
    let dir = TempDir::new().unwrap();
    // The clock of a ledger goes on from there when the system's clock is set.
    let ledger = Embedded::open(options(&dir, StoreClock::ahead_by(60 * MINUTE_MS))).unwrap();
    let expires_ms = crate::clock::now_ms() + 25 * MINUTE_MS;
    let nonce = Nonce { key: conformance::key(1), expires_ms };
    let nonces = std::slice::from_ref(&nonce);
    assert_eq!(ledger.check_nonces(nonces).await, Ok(vec![NonceUse::First]));
    assert_eq!(ledger.check_nonces(nonces).await, Ok(vec![NonceUse::Repeated]));
    // A new segment drops those that have ended, and an export has the others.
    ledger.call(Call::Roll).await.unwrap();
    assert_eq!(ledger.check_nonces(nonces).await, Ok(vec![NonceUse::Repeated]));
    let items = exported(&ledger, None).await;
    assert!(items.iter().any(|item| matches!(item, Item::Nonce(one) if *one == nonce)));
    // Nor does a start under the clock that was ahead forget it.
    drop(ledger);
    let ledger = Embedded::open(options(&dir, StoreClock::ahead_by(60 * MINUTE_MS))).unwrap();
    assert_eq!(ledger.check_nonces(nonces).await, Ok(vec![NonceUse::Repeated]));
}

#[tokio::test]
async fn a_nonce_that_has_ended_is_looked_up_and_not_stored() {
    let dir = TempDir::new().unwrap();
    let ledger = Embedded::open(options(&dir, StoreClock::process())).unwrap();
    let segments = || (0..9).filter(|number| ledger.core().segment(*number).is_some()).count();
    let nonce = |expires_ms| Nonce { key: conformance::key(1), expires_ms };
    ledger.call(Call::Roll).await.unwrap();
    let before = segments();
    for (expires_ms, written) in [(0, 0), (0, 0), (i64::MAX, 1)] {
        assert_eq!(ledger.check_nonces(&[nonce(expires_ms)]).await, Ok(vec![NonceUse::First]));
        // A segment that has nothing stays the newest one.
        ledger.call(Call::Roll).await.unwrap();
        assert_eq!(segments(), before + written);
    }
    assert_eq!(ledger.check_nonces(&[nonce(0)]).await, Ok(vec![NonceUse::Repeated]));
}

#[tokio::test]
async fn a_result_behind_a_replay_in_one_commit_does_not_undo_it() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill(&ledger, 0..1, 10).await;
    let lease = ledger.lease(&node(), &ask(1)).await.unwrap().leases.remove(0);
    // Both calls wait in the channel together, the replay in front.
    let replay = ReplayCall {
        id: crate::ledger::ReplayId::new(1),
        chosen: vec![(events[0].id, vec![lease.target.clone()])],
        only: None,
        next: None,
    };
    let settle = SettleCall::new(&node(), &[conformance::settlement(&lease, LeaseResult::Done)]);
    let calls = ledger.shared.calls.as_ref().unwrap();
    let ((to_replay, replayed), (to_settle, settled)) = (oneshot::channel(), oneshot::channel());
    calls.send(Call::Replay(replay, to_replay)).unwrap();
    calls.send(Call::Settle(settle, to_settle)).unwrap();
    replayed.await.unwrap().unwrap();
    assert_eq!(settled.await.unwrap().unwrap(), [Settled::Stale]);
    assert_eq!(ledger.stats().await.unwrap().pending, 1);
    drop(ledger);
    let ledger = open_in(&dir).unwrap();
    assert_eq!(ledger.stats().await.unwrap().pending, 1);
}
