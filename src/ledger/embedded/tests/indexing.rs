//! Closed segments whose index fails: they wait, and need no restart.

use super::damage::{Store, flip, scrub, settle_all};
use super::*;

const DAY_MS: i64 = 86_400_000;

/// The database of the first segments.
fn period(dir: &TempDir) -> PathBuf {
    core::index_dir(dir.path()).join("period-0000000000-0")
}

async fn unindexed(ledger: &Embedded) -> Option<String> {
    ledger.health().await.unwrap().unindexed
}

#[tokio::test]
async fn a_segment_whose_index_fails_waits_and_retention_goes_on_without_a_restart() {
    let dir = TempDir::new().unwrap();
    let clock = StoreClock::manual(START_MS + DAY_MS / 2);
    let store = Store { dir, clock, events: Vec::new() };
    let ledger = store.open().unwrap();
    // No database can be made where a file is.
    fs::create_dir_all(core::index_dir(store.dir.path())).unwrap();
    fs::write(period(&store.dir), "").unwrap();
    fill(&ledger, 0..100, 1500).await;
    settle_all(&ledger).await;
    store.clock.advance(40 * DAY_MS);
    for n in 0..3 {
        let mut late = event((40 * DAY_MS + n) as u64, &[]);
        late.body = vec![1; 60_000].into();
        ledger.accept(&[late]).await.unwrap();
    }
    let why = loop {
        match unindexed(&ledger).await {
            Some(why) => break why,
            None => tokio::task::yield_now().await,
        }
    };
    assert!(why.contains("period-0000000000-0") && !why.contains("damaged"), "{why}");
    assert!(ledger.wait_until_indexed().is_err());
    let health = ledger.health().await.unwrap();
    assert!(health.damage.is_empty() && health.stopped.is_none(), "{health:?}");
    assert!(health.mended.iter().any(|what| what.contains("waits for its index")), "{health:?}");
    // Nothing is left to do until the index is there.
    assert_eq!(ledger.sweep(&store.policy(), usize::MAX).await, Ok(Swept::default()));

    fs::remove_file(period(&store.dir)).unwrap();
    while unindexed(&ledger).await.is_some() {
        tokio::task::yield_now().await;
    }
    ledger.wait_until_indexed().unwrap();
    assert_eq!(ledger.sweep(&store.policy(), usize::MAX).await.unwrap().events, 100);
    drop(ledger);
    let survey = Embedded::verify(&store.options()).unwrap();
    assert!(survey.is_whole() && survey.remarks.is_empty(), "{survey:?}");
}

/// The content of the database on the disk after a failed write.
#[derive(Clone, Copy, Debug)]
enum Left {
    Everything,
    Nothing,
    Garbage,
}

#[tokio::test]
async fn a_database_in_which_a_write_failed_is_opened_again_and_has_every_segment() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let mut events = fill(&ledger, 0..150, 1500).await;
    ledger.wait_until_indexed().unwrap();
    for (round, left) in (1..).zip([Left::Everything, Left::Nothing, Left::Garbage]) {
        let first = Arc::clone(ledger.core().all_runs()[0].segment());
        ledger.core().index.fail(&first);
        if !matches!(left, Left::Everything) {
            fs::remove_dir_all(period(&dir)).unwrap();
        }
        if let Left::Garbage = left {
            fs::create_dir(period(&dir)).unwrap();
            fs::write(period(&dir).join("db"), vec![0xa5; 1 << 20]).unwrap();
        }
        // Closes one more segment at least.
        events.extend(fill(&ledger, round * 1000..round * 1000 + 50, 1500).await);
        ledger.wait_until_indexed().unwrap();
        assert!(!ledger.core().index.has_failed(&first), "{left:?}");
        for run in ledger.core().all_runs() {
            if let run::Run::Indexed(run) = run {
                assert!(run.verify().is_ok(), "{left:?}: segment {}", run.segment.header.number);
            }
        }
        assert_eq!(key_files(&dir).len(), segments(&dir).len() - 1, "{left:?}");
    }
    assert_kept(&ledger, &events).await;
    drop(ledger);
    let survey = Embedded::verify(&options(&dir, StoreClock::manual(START_MS))).unwrap();
    assert!(survey.is_whole() && survey.remarks.is_empty(), "{survey:?}");
}

#[tokio::test]
async fn a_failed_database_stays_while_the_disk_has_no_room_for_another() {
    let dir = TempDir::new().unwrap();
    let faults = crate::ledger::embedded::files::faulty::Faults::default();
    let ledger =
        Embedded::open_with(options(&dir, StoreClock::manual(START_MS)), Arc::new(faults.clone()))
            .unwrap();
    let mut events = fill(&ledger, 0..150, 1500).await;
    ledger.wait_until_indexed().unwrap();
    let first = Arc::clone(ledger.core().all_runs()[0].segment());
    ledger.core().index.fail(&first);
    // The file of the next segment is there already.
    while ledger.core().spare.is_empty() {
        tokio::task::yield_now().await;
    }
    faults.free.store(1, Ordering::SeqCst);
    ledger.call(Call::Roll).await.unwrap();
    events.extend(fill(&ledger, 1000..1001, 1500).await);
    while unindexed(&ledger).await.is_none() {
        tokio::task::yield_now().await;
    }
    assert!(unindexed(&ledger).await.unwrap().contains("MiB free"));
    // It can still be read.
    for event in &events {
        assert!(ledger.event(event.id).await.unwrap().is_some());
    }
    faults.free.store(0, Ordering::SeqCst);
    while unindexed(&ledger).await.is_some() {
        tokio::task::yield_now().await;
    }
    ledger.wait_until_indexed().unwrap();
    assert_kept(&ledger, &events).await;
}

#[tokio::test]
async fn a_snapshot_that_was_not_written_to_its_end_does_not_count() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill(&ledger, 0..150, 1500).await;
    ledger.wait_until_indexed().unwrap();
    drop(ledger);
    fs::write(period(&dir).join("snap.7FFFFFFFFFFFFFFF.generating"), "torn").unwrap();
    let ledger = open_in(&dir).unwrap();
    assert_eq!(ledger.health().await.unwrap().mended, [""; 0]);
    assert_kept(&ledger, &events).await;
}

#[tokio::test]
async fn a_start_has_few_files_open_however_many_segments_there_are() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill(&ledger, 0..200, 15_000).await;
    ledger.wait_until_indexed().unwrap();
    drop(ledger);
    assert!(segments(&dir).len() > 45);
    // With the index, and without it.
    for _ in 0..2 {
        let faults = crate::ledger::embedded::files::faulty::Faults::default();
        let options = options(&dir, StoreClock::manual(START_MS));
        let ledger = Embedded::open_with(options, Arc::new(faults.clone())).unwrap();
        ledger.wait_until_indexed().unwrap();
        assert_kept(&ledger, &events).await;
        let most = faults.most_handles.load(Ordering::SeqCst);
        assert!(most < 30, "{most} files were open");
        drop(ledger);
        fs::remove_dir_all(core::index_dir(dir.path())).unwrap();
    }
}

/// Has every try to open the database fail, and nothing in it is damaged.
fn shut(dir: &TempDir) {
    let database = period(dir).join("db");
    fs::rename(&database, period(dir).join("aside")).unwrap();
    fs::create_dir(database).unwrap();
}

fn unshut(dir: &TempDir) {
    let database = period(dir).join("db");
    fs::remove_dir(&database).unwrap();
    fs::rename(period(dir).join("aside"), database).unwrap();
}

async fn why_unindexed(ledger: &Embedded) -> String {
    loop {
        match unindexed(ledger).await {
            Some(why) => break why,
            None => tokio::task::yield_now().await,
        }
    }
}

async fn until_indexed(ledger: &Embedded) {
    while unindexed(ledger).await.is_some() {
        tokio::task::yield_now().await;
    }
    ledger.wait_until_indexed().unwrap();
}

fn indexed_runs(ledger: &Embedded) -> Vec<Arc<index::IndexedRun>> {
    let runs = ledger.core().all_runs().into_iter();
    runs.filter_map(|run| match run {
        run::Run::Indexed(run) => Some(run),
        run::Run::Open(_) => None,
    })
    .collect()
}

#[tokio::test]
async fn a_failed_database_that_cannot_be_opened_yet_stays_as_it_is() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let mut events = fill(&ledger, 0..150, 1500).await;
    ledger.wait_until_indexed().unwrap();
    let files = key_files(&dir);
    let first = Arc::clone(ledger.core().all_runs()[0].segment());
    ledger.core().index.fail(&first);
    shut(&dir);
    events.extend(fill(&ledger, 1000..1050, 1500).await);
    let why = why_unindexed(&ledger).await;
    assert!(why.contains("could not be opened"), "{why}");
    // What is in it is not lost: a read says to try again, and the scrub does so.
    let read = ledger.event(events[0].id).await;
    assert!(matches!(read, Err(LedgerError::Unavailable(_))), "{read:?}");
    let (_, damage, remarks) = scrub(&ledger, usize::MAX).await;
    assert_eq!((damage, remarks), (vec![], vec![]));
    let again = conformance::repeat(&events[0], 1_000_000);
    let accepted = ledger.accept(&[again]).await.unwrap();
    assert!(matches!(accepted[0], Accepted::Duplicate { first, .. } if first == events[0].id));
    assert!(period(&dir).join("aside").is_file());
    assert_eq!(key_files(&dir)[..files.len()], files);

    unshut(&dir);
    until_indexed(&ledger).await;
    assert!(indexed_runs(&ledger).iter().all(|run| run.verify().is_ok()));
    assert_kept(&ledger, &events).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_at_a_start_stays_as_it_is() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill(&ledger, 0..150, 1500).await;
    ledger.wait_until_indexed().unwrap();
    drop(ledger);
    let files = key_files(&dir);
    shut(&dir);
    let ledger = open_in(&dir).unwrap();
    why_unindexed(&ledger).await;
    assert!(period(&dir).join("aside").is_file());
    assert_eq!(key_files(&dir), files);
    unshut(&dir);
    until_indexed(&ledger).await;
    assert_kept(&ledger, &events).await;
}

#[tokio::test]
async fn a_damaged_database_stays_while_a_segment_in_it_cannot_be_read() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let mut events = fill(&ledger, 0..150, 1500).await;
    ledger.wait_until_indexed().unwrap();
    let files = key_files(&dir);
    let first = Arc::clone(ledger.core().all_runs()[0].segment());
    let middle = first.size as usize / 2;
    flip(&first.path, middle);
    ledger.core().index.fail(&first);
    // A database of another form, beside the files of keys.
    for entry in fs::read_dir(period(&dir)).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            fs::remove_dir_all(entry).unwrap();
        } else if !files.contains(&entry) {
            fs::remove_file(entry).unwrap();
        }
    }
    let other = sled::open(period(&dir)).unwrap();
    other.insert("other", "form").unwrap();
    drop(other);
    events.extend(fill(&ledger, 1000..1050, 1500).await);
    let why = why_unindexed(&ledger).await;
    assert!(why.contains(&*first.path.to_string_lossy()) && why.contains("--salvage"), "{why}");
    assert_eq!(key_files(&dir)[..files.len()], files);
    let read = ledger.event(events[100].id).await;
    assert!(matches!(read, Err(LedgerError::Unavailable(_))), "{read:?}");

    // Repaired, which a scrub notices.
    flip(&first.path, middle);
    scrub(&ledger, usize::MAX).await;
    until_indexed(&ledger).await;
    assert_kept(&ledger, &events).await;
}

#[tokio::test]
async fn a_damaged_segment_that_has_lost_its_index_is_told_and_the_others_have_theirs() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let events = fill(&ledger, 0..150, 1500).await;
    ledger.wait_until_indexed().unwrap();
    let first = Arc::clone(ledger.core().all_runs()[0].segment());
    flip(&first.path, first.size as usize / 2);
    ledger.core().index.fail(&first);
    fs::remove_dir_all(period(&dir)).unwrap();
    fill(&ledger, 1000..1050, 1500).await;
    ledger.wait_until_indexed().unwrap();
    let why = unindexed(&ledger).await.unwrap();
    assert!(why.contains(&*first.path.to_string_lossy()), "{why}");
    assert!(!ledger.core().index.has_failed(&first));
    let runs = indexed_runs(&ledger);
    assert!(runs[1..].iter().all(|run| run.verify().is_ok()) && runs[0].verify().is_err());
    let read = ledger.event(events[0].id).await;
    assert!(matches!(read, Err(LedgerError::Corrupt(_))), "{read:?}");
    assert!(ledger.event(events[149].id).await.unwrap().is_some());
}

#[tokio::test]
async fn what_a_failed_rewrite_has_left_in_the_index_does_not_count() {
    let store = Store::new().await;
    let ledger = store.open().unwrap();
    store.forty_days_later(&ledger).await;
    let rewritten = core::index_dir(store.dir.path()).join("period-0000000000-1");
    let database = sled::open(&rewritten).unwrap();
    database.insert(b"\xff\xff\xff\xff\xff\xff\xff\xff\xffformat", b"postern index 2").unwrap();
    // Deliveries of the new form of segment 0, behind a gap.
    let mut key = [0; 13];
    (key[7], key[8], key[12]) = (1, 8, 5);
    database.insert(key, b"left").unwrap();
    database.flush().unwrap();
    drop(database);
    let swept = ledger.sweep(&store.policy(), usize::MAX).await.unwrap();
    assert_eq!(swept.events, store.events.len() as u64);
    drop(ledger);
    let ledger = store.open().unwrap();
    assert_eq!(ledger.health().await.unwrap().mended, [""; 0]);
}

/// 1. The index cannot be written, and the tries become rarer.
/// 2. The reason is gone, and a user is erased: that waits for no try.
#[tokio::test]
async fn an_erasure_retries_what_waits_for_its_index_at_once() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    fs::create_dir_all(core::index_dir(dir.path())).unwrap();
    fs::write(period(&dir), "").unwrap();
    fill(&ledger, 0..100, 1500).await;
    why_unindexed(&ledger).await;
    let erasure = Erasure { user: "u-1".to_owned(), source: None };
    for _ in 0..3 {
        let failed = ledger.erase(&erasure).await;
        assert!(matches!(failed, Err(LedgerError::Unavailable(_))), "{failed:?}");
    }
    fs::remove_file(period(&dir)).unwrap();
    let erased = ledger.erase(&erasure).await.unwrap();
    assert_eq!(erased, Erased { events: 33, deliveries: 33, held: 0 });
    assert_eq!(unindexed(&ledger).await, None);
    assert_eq!(ledger.stats().await.unwrap().pending, 67);
}
