//! Crashes and failing disks: truncated data is cut, damaged data is rejected, and nothing is
//! acknowledged that is missing.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::ledger::Lease;
use crate::ledger::embedded::files::faulty::Faults;
use crate::ledger::embedded::segment::{FRAME_HEAD, HEADER};

fn open_faulty(dir: &TempDir) -> (Embedded, Faults) {
    open_faulty_at(dir, &StoreClock::manual(START_MS))
}

fn open_faulty_at(dir: &TempDir, clock: &StoreClock) -> (Embedded, Faults) {
    let faults = Faults::default();
    let files: Arc<dyn Files> = Arc::new(faults.clone());
    let options = options(dir, clock.clone());
    (Embedded::open_with(options, files).unwrap(), faults)
}

async fn offer(ledger: &Embedded, n: u64) -> Result<Vec<Accepted>, LedgerError> {
    ledger.accept(&[event(n, &["a"])]).await
}

/// Where the frames of a segment begin, and where they end.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![HEADER as usize];
    while let Some(start) = starts.last().copied() {
        // A closed segment ends with its last frame.
        let len = bytes[start..].first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
        if len == 0 {
            break;
        }
        starts.push((start + FRAME_HEAD + len).next_multiple_of(8));
    }
    starts
}

#[tokio::test]
async fn a_failed_sync_ends_the_ledger_and_nothing_more_is_acknowledged() {
    for syncs in [true, false] {
        let dir = TempDir::new().unwrap();
        let (ledger, faults) = open_faulty(&dir);
        let kept = fill(&ledger, 0..3, 100).await;
        let fault: &Arc<AtomicBool> = if syncs { &faults.sync } else { &faults.write };
        fault.store(true, Ordering::SeqCst);
        assert!(matches!(offer(&ledger, 3).await, Err(LedgerError::Fatal(_))));
        // The disk is well again; the ledger still does not trust it.
        fault.store(false, Ordering::SeqCst);
        for _ in 0..3 {
            assert!(matches!(offer(&ledger, 4).await, Err(LedgerError::Fatal(_))));
            assert!(matches!(offer(&ledger, 0).await, Err(LedgerError::Fatal(_))));
        }
        assert!(matches!(ledger.lease(&node(), &ask(1)).await, Err(LedgerError::Fatal(_))));
        let health = ledger.health().await.unwrap();
        assert!(health.stopped.unwrap().contains("injected"));
        assert!(ledger.event(kept[0].id).await.unwrap().is_some());
        drop(ledger);
        let ledger = open_in(&dir).unwrap();
        for event in &kept {
            assert!(ledger.event(event.id).await.unwrap().is_some());
        }
        // An event that was answered with an error may be stored or not; it can be offered again.
        assert_eq!(offer(&ledger, 4).await, Ok(vec![Accepted::New]));
    }
}

#[tokio::test]
async fn a_panic_of_the_committer_ends_the_ledger() {
    let dir = TempDir::new().unwrap();
    let (ledger, faults) = open_faulty(&dir);
    fill(&ledger, 0..3, 100).await;
    faults.panic.store(true, Ordering::SeqCst);
    assert!(matches!(offer(&ledger, 3).await, Err(LedgerError::Fatal(_))));
    faults.panic.store(false, Ordering::SeqCst);
    assert!(matches!(offer(&ledger, 4).await, Err(LedgerError::Fatal(_))));
    assert!(!ledger.health().await.unwrap().is_writable());
}

/// Offers events until five were refused, because there is no room for them; returns the others.
async fn fill_up(ledger: &Embedded, from: u64) -> Vec<NewEvent> {
    let mut kept = Vec::new();
    let mut refused = 0;
    for n in from..from + 400 {
        let mut event = event(n, &["a"]);
        event.body = vec![1; 1000].into();
        match ledger.accept(std::slice::from_ref(&event)).await {
            Ok(_) => kept.push(event),
            Err(error) => {
                assert!(matches!(error, LedgerError::Unavailable(_)), "{error}");
                refused += 1;
            }
        }
        if refused == 5 {
            return kept;
        }
    }
    panic!("{refused} were refused");
}

#[tokio::test]
async fn a_full_disk_is_no_end() {
    let dir = TempDir::new().unwrap();
    let clock = StoreClock::manual(START_MS);
    let (ledger, faults) = open_faulty_at(&dir, &clock);
    faults.create.store(true, Ordering::SeqCst);
    let mut kept = fill(&ledger, 0..40, 10).await;
    let leases = ledger.lease(&node(), &ask(40)).await.unwrap().leases;
    kept.extend(fill_up(&ledger, 100).await);
    // The results of attempts in flight cannot be recorded.
    let done = |lease: &Lease| conformance::settlement(lease, LeaseResult::Done);
    let settlements: Vec<_> = leases.iter().map(done).collect();
    let settled = ledger.settle(&node(), &settlements).await;
    assert!(matches!(settled, Err(LedgerError::Unavailable(_))), "{settled:?}");
    // Their leases expire, and they are not delivered all the time.
    clock.advance(60_000);
    let batch = ledger.lease(&node(), &ask(1000)).await.unwrap();
    assert_eq!((batch.leases, batch.next_due), (vec![], Some(Duration::from_secs(1))));
    faults.create.store(false, Ordering::SeqCst);
    clock.advance(1000);
    kept.extend(fill(&ledger, 900..901, 2000).await);
    assert_eq!(ledger.stats().await.unwrap().events, kept.len() as u64);
    assert_eq!(ledger.lease(&node(), &ask(1000)).await.unwrap().leases.len(), kept.len());
}

#[tokio::test]
async fn deliveries_go_on_by_themselves_when_a_full_disk_has_room() {
    let dir = TempDir::new().unwrap();
    let (ledger, faults) = open_faulty(&dir);
    faults.create.store(true, Ordering::SeqCst);
    let kept = fill_up(&ledger, 0).await;
    assert_eq!(ledger.lease(&node(), &ask(1000)).await.unwrap().leases, []);
    faults.create.store(false, Ordering::SeqCst);
    // Nothing else is recorded, and the ledger's clock stands still.
    let leases = loop {
        let leases = ledger.lease(&node(), &ask(1000)).await.unwrap().leases;
        if !leases.is_empty() {
            break leases;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(leases.len(), kept.len());
    let done = |lease: &Lease| conformance::settlement(lease, LeaseResult::Done);
    let settlements: Vec<_> = leases.iter().map(done).collect();
    assert!(ledger.settle(&node(), &settlements).await.is_ok());
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_is_cut_and_reported() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    let kept = fill(&ledger, 0..5, 20).await;
    end_as_a_crash_does(&dir, ledger);
    let path = segments(&dir).remove(0);
    let whole = fs::read(&path).unwrap();
    let starts = frames(&whole);
    let (last, end) = (starts[4], starts[5]);
    for cut in last..end {
        let mut torn = whole.clone();
        torn[cut..end].fill(0);
        fs::write(&path, &torn).unwrap();
        let files = Arc::new(Disk) as Arc<dyn Files>;
        let segment = segment::Segment::open(&files, &Keyring::default(), &path).unwrap();
        let (tables, scan) = tables::Tables::read(&segment).unwrap();
        // Padding may be lost without harm; everything else ends before the frame.
        if tables.events.len() == 5 {
            assert!(torn == whole || cut >= end - 8);
            continue;
        }
        assert_eq!((tables.events.len(), scan.end as usize), (4, last));
        if torn[last..].iter().all(|byte| *byte == 0) {
            assert_eq!(segment.rest(scan), Ok(segment::Rest::Clean));
        } else {
            assert!(matches!(segment.rest(scan), Ok(segment::Rest::Torn { .. })));
        }
    }
    // And the whole way, once: cut, reported, and usable.
    let mut torn = whole.clone();
    torn[end - 30..end].fill(0);
    fs::write(&path, &torn).unwrap();
    let ledger = open_in(&dir).unwrap();
    let mended = ledger.health().await.unwrap().mended;
    assert!(mended[0].contains("torn") && mended[0].contains(&format!("offset {last}")));
    assert_kept(&ledger, &kept[..4]).await;
    assert_eq!(offer(&ledger, 4).await, Ok(vec![Accepted::New]));
    drop(ledger);
    assert_eq!(open_in(&dir).unwrap().health().await.unwrap().mended, [""; 0]);
}

/// 1. A segment is scanned.
/// 2. Its frames from any one on are read again: they are the same.
/// 3. The last frame is on the disk no more, or another one: they are not.
#[tokio::test]
async fn frames_that_are_not_those_of_the_scan_are_seen() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    fill(&ledger, 0..5, 20).await;
    end_as_a_crash_does(&dir, ledger);
    let path = segments(&dir).remove(0);
    let whole = fs::read(&path).unwrap();
    let starts = frames(&whole);
    let files = Arc::new(Disk) as Arc<dyn Files>;
    let segment = segment::Segment::open(&files, &Keyring::default(), &path).unwrap();
    let (_, scan) = tables::Tables::read(&segment).unwrap();
    let same = |from: usize| segment.is_as_scanned(from as u32, scan).unwrap();
    assert!(starts.iter().all(|start| same(*start)));
    let (last, end) = (starts[4], starts[5]);
    for (at, byte) in [(last, 0xff), (last + FRAME_HEAD + 10, 0xff), (end - 40, 0)] {
        let mut other = whole.clone();
        other[at..at + 8].fill(byte);
        fs::write(&path, &other).unwrap();
        assert!(starts[..5].iter().all(|start| !same(*start)), "offset {at}");
    }
}

#[tokio::test]
async fn pages_of_a_torn_commit_may_arrive_in_any_order() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    fill(&ledger, 0..2, 3000).await;
    end_as_a_crash_does(&dir, ledger);
    let path = segments(&dir).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let starts = frames(&bytes);
    // The head of the last frame did not reach the disk, its end did.
    bytes[starts[1]..starts[1] + 512].fill(0);
    fs::write(&path, &bytes).unwrap();
    let ledger = open_in(&dir).unwrap();
    assert_eq!(ledger.stats().await.unwrap().events, 1);
    assert!(ledger.health().await.unwrap().mended[0].contains("torn"));
    drop(ledger);
    let bytes = fs::read(&path).unwrap();
    assert!(bytes[starts[1]..].iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn damage_in_the_middle_is_refused_with_file_and_offset() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    fill(&ledger, 0..5, 20).await;
    drop(ledger);
    let path = segments(&dir).remove(0);
    let whole = fs::read(&path).unwrap();
    let starts = frames(&whole);
    for at in [starts[1] + 3, starts[2] + 60, starts[3] - 20] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(&path, &damaged).unwrap();
        let error = open_in(&dir).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("damaged") && error.contains("journal"), "{error}");
        let start = starts.iter().rev().find(|start| **start <= at).unwrap();
        assert!(error.contains(&format!("offset {start}")), "{error} for {at}");
    }
    // The ledger did not touch the files that it rejected.
    fs::write(&path, &whole).unwrap();
    assert!(open_in(&dir).is_ok());
}

#[tokio::test]
async fn a_missing_segment_and_a_foreign_file_are_refused() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    fill(&ledger, 0..200, 1500).await;
    drop(ledger);
    let paths = segments(&dir);
    let hidden = dir.path().join("hidden");
    fs::rename(&paths[2], &hidden).unwrap();
    let error = open_in(&dir).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("segments are missing: 2;"), "{error}");
    fs::copy(&paths[1], &paths[2]).unwrap();
    let error = open_in(&dir).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("another segment's name"), "{error}");
    let mut later = fs::read(&hidden).unwrap();
    later[8] = 9;
    fs::write(&paths[2], later).unwrap();
    let error = open_in(&dir).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("written in version 9"), "{error}");
    fs::rename(&hidden, &paths[2]).unwrap();
    assert!(open_in(&dir).is_ok());
}

#[tokio::test]
async fn a_broken_frame_of_a_closed_segment_is_damage_even_at_its_end() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    fill(&ledger, 0..100, 1500).await;
    drop(ledger);
    fs::remove_dir_all(core::index_dir(dir.path())).unwrap();
    let path = segments(&dir).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let starts = frames(&bytes);
    let last = starts[starts.len() - 2];
    bytes[last + 100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = open_in(&dir).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains(&format!("offset {last}")), "{error}");
    // Even if the whole frame is gone, the next segment knows that it was there.
    bytes[last..].fill(0);
    fs::write(&path, &bytes).unwrap();
    let error = open_in(&dir).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("is the next"), "{error}");
}

#[tokio::test]
async fn what_an_interrupted_step_left_behind_is_removed() {
    let dir = TempDir::new().unwrap();
    drop(open_in(&dir).unwrap());
    let left = core::journal_dir(dir.path()).join("spare.tmp");
    fs::write(&left, b"half a file").unwrap();
    let ledger = open_in(&dir).unwrap();
    drop(ledger);
    assert_eq!(segments(&dir).len(), 1);
}

#[tokio::test]
async fn a_disk_short_of_room_is_said_in_time_and_taken_back_by_itself() {
    let dir = TempDir::new().unwrap();
    let (ledger, faults) = open_faulty(&dir);
    let reserve = ledger.health().await.unwrap().room.unwrap().reserve;
    assert_eq!(reserve, 4 * (64 << 10));
    let enough = reserve + reserve / 4;
    for (n, (free, short)) in [
        (reserve, false),
        (reserve - 1, true),
        (enough - 1, true),
        (enough, false),
        (reserve, false),
    ]
    .into_iter()
    .enumerate()
    {
        faults.free.store(free, Ordering::SeqCst);
        let health = ledger.health().await.unwrap();
        assert_eq!(health.room.unwrap().short, short, "{free}");
        assert_eq!(health.unready().is_some(), short);
        // Events that arrive all the same are recorded as long as there is room for them.
        assert!(health.is_writable());
        assert_eq!(offer(&ledger, n as u64).await, Ok(vec![Accepted::New]));
    }
}

#[tokio::test]
async fn what_was_decided_is_on_the_disk_before_it_is_answered() {
    let dir = TempDir::new().unwrap();
    let (ledger, faults) = open_faulty(&dir);
    fill(&ledger, 0..2, 100).await;
    let leases = ledger.lease(&node(), &ask(2)).await.unwrap().leases;
    let decided = |at: usize| [conformance::settlement(&leases[at], LeaseResult::Decided)];
    assert_eq!(ledger.settle(&node(), &decided(0)).await, Ok(vec![Settled::Applied]));
    faults.sync.store(true, Ordering::SeqCst);
    assert!(matches!(ledger.settle(&node(), &decided(1)).await, Err(LedgerError::Fatal(_))));
}
