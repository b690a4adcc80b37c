//! A long life in a short time: days pass by a clock of the test's own, and disk and memory return
//! to a bound.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const DAY_MS: i64 = 86_400_000;
const DAYS: i64 = 60;

fn policy(clock: &StoreClock) -> Retention {
    Retention {
        now_ms: clock.ms(),
        keep_events: 5 * DAY,
        keep_keys: conformance::keep(&["s"], 12 * DAY),
        held: crate::ledger::HeldRetention::default(),
    }
}

/// Bytes under a directory.
fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            Ok(found) => found.len(),
            // Removed just now.
            Err(_) => 0,
        })
        .sum()
}

/// A day's events, each delivered, and what retention makes of it.
async fn one_day(ledger: &Embedded, clock: &StoreClock, events: i64) {
    for n in 0..events {
        let mut event = event((clock.ms() - START_MS + n) as u64, &["a"]);
        event.body = vec![n as u8; 1500].into();
        ledger.accept(&[event]).await.unwrap();
    }
    for lease in ledger.lease(&node(), &ask(10_000)).await.unwrap().leases {
        let done = conformance::settlement(&lease, LeaseResult::Done);
        ledger.settle(&node(), &[done]).await.unwrap();
    }
    clock.advance(DAY_MS);
    sweep_all(ledger, clock).await;
}

async fn sweep_all(ledger: &Embedded, clock: &StoreClock) {
    ledger.wait_until_indexed().unwrap();
    while ledger.sweep(&policy(clock), 200).await.unwrap().more {}
}

#[tokio::test]
async fn disk_and_memory_return_to_a_bound() {
    let dir = TempDir::new().unwrap();
    let clock = StoreClock::manual(START_MS);
    let ledger = Embedded::open(options(&dir, clock.clone())).unwrap();
    let mut seen = Vec::new();
    for day in 0..DAYS {
        // In the middle of it there is a rush, ten times as large.
        one_day(&ledger, &clock, if day == DAYS / 2 { 400 } else { 40 }).await;
        let stats = ledger.stats().await.unwrap();
        let journal = size(&core::journal_dir(dir.path()));
        let runs = ledger.core().all_runs().len() as u64;
        let sweeps = ledger.core().last_sweeps.lock().unwrap().len() as u64;
        seen.push([journal, size(dir.path()), stats.events, stats.keys, runs, sweeps]);
    }
    let most = |days: std::ops::Range<i64>| {
        let days = &seen[days.start as usize..days.end as usize];
        std::array::from_fn::<u64, 6, _>(|at| days.iter().map(|day| day[at]).max().unwrap())
    };
    let (before, rush, after) = (most(15..29), most(30..33), most(DAYS - 14..DAYS));
    println!("journal, all, events, keys, segments, notes: {before:?}; {rush:?}; {after:?}");
    // Four segments are being written, ready, or not yet closed; they do not count.
    assert!(rush[0] > before[0] + before[0] / 2);
    for at in [0, 2, 3, 4, 5] {
        assert!(after[at] <= before[at] + before[at] / 4, "{at}: {before:?} {after:?}");
    }
    // sled's smallest database is half a megabyte; a few are there at a time.
    assert!(after[1] <= before[1] + (4 << 20), "{before:?} {after:?}");
}

#[tokio::test]
async fn expiry_gives_the_disk_back() {
    let dir = TempDir::new().unwrap();
    let clock = StoreClock::manual(START_MS);
    let ledger = Embedded::open(options(&dir, clock.clone())).unwrap();
    for _ in 0..3 {
        one_day(&ledger, &clock, 1_500).await;
    }
    let full = size(dir.path());
    clock.advance(7 * DAY_MS);
    one_day(&ledger, &clock, 1).await;
    one_day(&ledger, &clock, 1).await;
    let keys_only = size(dir.path());
    clock.advance(20 * DAY_MS);
    one_day(&ledger, &clock, 1).await;
    one_day(&ledger, &clock, 1).await;
    let empty = size(dir.path());
    println!("4,500 events: {full} bytes; their keys: {keys_only}; nothing: {empty}");
    assert!(keys_only < full / 2, "{full} {keys_only}");
    assert!(empty <= keys_only);
    assert!(size(&core::journal_dir(dir.path())) <= 4 * (64 << 10));
    assert!(ledger.stats().await.unwrap().keys <= 4);
}
