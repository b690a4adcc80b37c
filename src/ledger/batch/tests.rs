//! The batched ledger over an embedded engine whose disk can be blocked: no test depends on timing.

#![expect(clippy::await_holding_lock, reason = "the lock is the disk, which is blocked on purpose")]

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard};

use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::ledger::conformance::{START_MS, event};
use crate::ledger::embedded::files::Files;
use crate::ledger::embedded::files::faulty::Faults;
use crate::ledger::{Embedded, EmbeddedOptions, StoreClock};

/// Counts the calls of an observer.
#[derive(Default)]
struct Counted {
    committed: Mutex<Vec<usize>>,
    failed: Mutex<Vec<usize>>,
}

impl Observer for Counted {
    fn committed(&self, _: Duration, events: usize) {
        self.committed.lock().unwrap().push(events);
    }

    fn failed(&self, _: &LedgerError, events: usize) {
        self.failed.lock().unwrap().push(events);
    }
}

struct Bench {
    ledger: BatchedLedger,
    faults: Faults,
    heard: Arc<Counted>,
    _dir: TempDir,
}

impl Bench {
    fn new(options: BatchOptions) -> Self {
        let dir = TempDir::new().unwrap();
        let faults = Faults::default();
        let files: Arc<dyn Files> = Arc::new(faults.clone());
        let mut embedded = EmbeddedOptions::new(dir.path());
        embedded.segment_bytes = 1 << 20;
        embedded.clock = StoreClock::manual(START_MS);
        let engine = Embedded::open_with(embedded, files).unwrap();
        let heard = Arc::new(Counted::default());
        let ledger = BatchedLedger::new(engine, options, Arc::clone(&heard) as Arc<dyn Observer>);
        Self { ledger, faults, heard, _dir: dir }
    }

    /// Blocks every sync until the returned guard is dropped.
    fn hold(&self) -> MutexGuard<'_, ()> {
        self.faults.hold.lock().unwrap()
    }

    fn spawn(&self, n: u64) -> tokio::task::JoinHandle<Result<Recorded, LedgerError>> {
        let ledger = self.ledger.clone();
        tokio::spawn(async move { ledger.record(event(n, &["a"])).await })
    }

    /// An event whose commit waits for the blocked disk: further events go into the next commit.
    async fn occupy(&self) -> tokio::task::JoinHandle<Result<Recorded, LedgerError>> {
        let before = self.begun();
        let first = self.spawn(0);
        self.at_the_disk(before).await;
        first
    }

    /// The number of commits that have reached the disk.
    fn begun(&self) -> u64 {
        self.faults.commits.load(Ordering::SeqCst)
    }

    async fn at_the_disk(&self, before: u64) {
        while self.begun() == before {
            tokio::task::yield_now().await;
        }
    }

    fn commits(&self) -> Vec<usize> {
        self.heard.committed.lock().unwrap().clone()
    }

    async fn exists(&self, id: EventId) -> bool {
        self.ledger.event(id).await.unwrap().is_some()
    }
}

/// Lets every other task run as far as it can.
async fn settle_down() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn patient() -> BatchOptions {
    BatchOptions { patience: Duration::from_secs(60), ..BatchOptions::default() }
}

#[tokio::test]
async fn those_who_come_during_a_commit_share_the_next() {
    let bench = Bench::new(patient());
    let hold = bench.hold();
    let first = bench.occupy().await;
    let others: Vec<_> = (1..=40).map(|n| bench.spawn(n)).collect();
    settle_down().await;
    assert_eq!(bench.commits(), [0; 0]);
    drop(hold);
    for waiter in others.into_iter().chain([first]) {
        assert_eq!(waiter.await.unwrap().unwrap().result(), DedupResult::New);
    }
    assert_eq!(bench.commits(), [1, 40]);
}

/// Events whose requests come one after the other, each while the thread handles the one before.
fn spawn_in_a_row(
    bench: &Bench,
    count: u64,
) -> Vec<tokio::task::JoinHandle<Result<Recorded, LedgerError>>> {
    let (mut client, mut request) = socket();
    client.write_all(&[0]).unwrap();
    let spawn = |n| {
        let (mut next, next_request) = socket();
        let (ledger, mut own) =
            (bench.ledger.clone(), std::mem::replace(&mut request, next_request));
        tokio::spawn(async move {
            own.read_u8().await.unwrap();
            // There is no request after the last one.
            let _ = next.write_all(&[0]);
            ledger.record(event(n, &["a"])).await
        })
    };
    (0..count).map(spawn).collect()
}

/// A connection: its client, and its end in the runtime.
fn socket() -> (std::os::unix::net::UnixStream, tokio::net::UnixStream) {
    let (client, request) = std::os::unix::net::UnixStream::pair().unwrap();
    request.set_nonblocking(true).unwrap();
    (client, tokio::net::UnixStream::from_std(request).unwrap())
}

#[tokio::test]
async fn those_who_come_while_their_thread_is_busy_share_a_commit() {
    let bench = Bench::new(patient());
    for waiter in spawn_in_a_row(&bench, 4) {
        assert_eq!(waiter.await.unwrap().unwrap().result(), DedupResult::New);
    }
    assert_eq!(bench.commits(), [4]);
}

#[tokio::test]
async fn a_batch_is_bounded_in_events_and_in_bytes() {
    let bench = Bench::new(BatchOptions { batch_events: 16, batch_bytes: 50, ..patient() });
    let hold = bench.hold();
    let mut waiters = vec![bench.occupy().await];
    // Bodies of 9 bytes: five to a batch.
    waiters.extend((1..8).map(|n| bench.spawn(n)));
    settle_down().await;
    drop(hold);
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!(bench.commits(), [1, 5, 2]);
}

#[tokio::test]
async fn a_full_queue_is_told_at_once() {
    let bench = Bench::new(BatchOptions { queue_events: 3, ..patient() });
    let hold = bench.hold();
    let waiters: Vec<_> = (0..3).map(|n| bench.spawn(n)).collect();
    settle_down().await;
    let refused = bench.ledger.record(event(9, &[])).await;
    assert_eq!(refused, Err(LedgerError::Overloaded));
    drop(hold);
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert!(bench.ledger.record(event(9, &[])).await.is_ok());
}

#[tokio::test]
async fn bytes_that_wait_are_bounded_too() {
    let bench = Bench::new(BatchOptions { queue_bytes: 20, ..patient() });
    let hold = bench.hold();
    // Bodies of 9 bytes.
    let waiters: Vec<_> = (0..2).map(|n| bench.spawn(n)).collect();
    settle_down().await;
    assert_eq!(bench.ledger.record(event(2, &[])).await, Err(LedgerError::Overloaded));
    drop(hold);
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    let mut large = event(3, &[]);
    large.body = vec![0; 100].into();
    assert!(bench.ledger.record(large).await.is_ok(), "alone it may be larger");
}

#[tokio::test]
async fn one_that_is_too_large_fails_alone() {
    let bench = Bench::new(BatchOptions { batch_bytes: 1 << 30, ..patient() });
    let hold = bench.hold();
    let mut waiters = vec![bench.occupy().await];
    let mut large = event(1, &[]);
    large.body = vec![0; 2 << 20].into();
    let (ledger, huge) = (bench.ledger.clone(), large);
    let huge = tokio::spawn(async move { ledger.record(huge).await });
    waiters.extend((2..5).map(|n| bench.spawn(n)));
    settle_down().await;
    drop(hold);
    assert!(matches!(huge.await.unwrap(), Err(LedgerError::TooLarge { .. })));
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap().result(), DedupResult::New);
    }
}

#[tokio::test]
async fn who_is_late_is_told_what_is_known() {
    let mut short = Duration::from_millis(20);
    loop {
        let bench = Bench::new(patient());
        let (begun, waiting) = (event(0, &[]), event(1, &[]));
        let (begun_id, waiting_id) = (begun.id, waiting.id);
        let hold = bench.hold();
        let before = bench.begun();
        let (in_commit, in_queue) = tokio::join!(bench.ledger.record_within(begun, short), async {
            tokio::select! {
                () = bench.at_the_disk(before) => {}
                () = tokio::time::sleep(2 * short) => {}
            }
            bench.ledger.record_within(waiting, short).await
        });
        if bench.begun() == before {
            // On a slow machine the deadline of the first may pass before its commit begins.
            short *= 2;
            continue;
        }
        // The first may have been recorded, and is; the second was not, and never will be.
        assert_eq!(in_commit, Err(LedgerError::Unknown));
        assert_eq!(in_queue, Err(LedgerError::Overloaded));
        drop(hold);
        bench.ledger.record(event(2, &[])).await.unwrap();
        assert!(bench.exists(begun_id).await);
        assert!(!bench.exists(waiting_id).await);
        return;
    }
}

#[tokio::test]
async fn who_stopped_waiting_before_the_commit_is_left_out() {
    let bench = Bench::new(patient());
    let hold = bench.hold();
    let first = bench.occupy().await;
    let gone = bench.spawn(1);
    let stays = bench.spawn(2);
    settle_down().await;
    gone.abort();
    settle_down().await;
    drop(hold);
    first.await.unwrap().unwrap();
    stays.await.unwrap().unwrap();
    assert_eq!(bench.commits(), [1, 1]);
}

#[test]
fn a_runtime_that_ends_leaves_the_others_working() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = Bench::new(patient());
    let hold = bench.hold();
    let dying = runtime();
    let (begun, queued) = dying.block_on(async {
        let begun = bench.occupy().await;
        let queued = bench.spawn(1);
        settle_down().await;
        (begun, queued)
    });
    drop(dying);
    drop((begun, queued));
    drop(hold);
    // The same thread has the same queue: nothing of the dead writer blocks it.
    runtime().block_on(async {
        for n in 2..5 {
            assert_eq!(
                bench.ledger.record(event(n, &[])).await.unwrap().result(),
                DedupResult::New
            );
        }
    });
}

#[test]
fn many_runtimes_record_at_once() {
    let bench = Bench::new(patient());
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let ledger = bench.ledger.clone();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    let tasks: Vec<_> = (0..50)
                        .map(|n| {
                            let ledger = ledger.clone();
                            tokio::spawn(
                                async move { ledger.record(event(thread * 50 + n, &[])).await },
                            )
                        })
                        .collect();
                    for task in tasks {
                        assert_eq!(task.await.unwrap().unwrap().result(), DedupResult::New);
                    }
                });
            });
        }
    });
    assert_eq!(bench.commits().iter().sum::<usize>(), 200);
}

#[tokio::test]
async fn a_failed_sync_fails_all_who_wait_for_it() {
    let bench = Bench::new(patient());
    let hold = bench.hold();
    let first = bench.occupy().await;
    let others: Vec<_> = (1..=5).map(|n| bench.spawn(n)).collect();
    settle_down().await;
    bench.faults.sync.store(true, Ordering::SeqCst);
    drop(hold);
    for waiter in others.into_iter().chain([first]) {
        assert!(matches!(waiter.await.unwrap(), Err(LedgerError::Fatal(_))));
    }
    assert_eq!(bench.commits(), [0; 0]);
    assert_eq!(*bench.heard.failed.lock().unwrap(), [1, 5]);
    assert!(!bench.ledger.health().await.unwrap().is_writable());
}

#[tokio::test]
async fn standings_and_what_came_first() {
    let bench = Bench::new(patient());
    let first = event(1, &["a"]);
    let mut same = event(2, &["a"]);
    same.keys.clone_from(&first.keys);
    same.fingerprint = first.fingerprint;
    let mut other = event(3, &["a"]);
    other.keys.clone_from(&first.keys);
    let mut recut = event(4, &["a"]);
    recut.keys.signatures = [first.keys.identity[0]].into();
    let expected =
        [DedupResult::New, DedupResult::Duplicate, DedupResult::Conflict, DedupResult::Ambiguous];
    for (offered, result) in [first.clone(), same, other, recut].into_iter().zip(expected) {
        let id = offered.id;
        let recorded = bench.ledger.record(offered).await.unwrap();
        assert_eq!((recorded.id(), recorded.result()), (id, result));
        assert_eq!(recorded.first(), first.id);
        assert_eq!(recorded.first_seen_ms(), first.received_ms);
    }
}

#[tokio::test]
async fn the_signal_tells_of_fresh_deliveries_and_of_nothing_else() {
    let bench = Bench::new(patient());
    let mut due = bench.ledger.due();
    let mut signalled = async || tokio::time::timeout(Duration::ZERO, due.wait()).await.is_ok();
    assert!(!signalled().await);
    bench.ledger.record(event(1, &[])).await.unwrap();
    assert!(!signalled().await);
    bench.ledger.record(event(2, &["a"])).await.unwrap();
    assert!(signalled().await);
    assert!(!signalled().await);
    bench.ledger.record(event(2, &["a"])).await.unwrap();
    assert!(!signalled().await);
}

#[tokio::test]
async fn a_slow_disk_makes_writers_linger_for_those_who_come_back() {
    let bench = Bench::new(BatchOptions { linger_max: Duration::from_secs(60), ..patient() });
    let hold = bench.hold();
    let waiters: Vec<_> = (0..8).map(|n| bench.spawn(n)).collect();
    settle_down().await;
    drop(hold);
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    let Engine::Embedded(engine) = bench.ledger.engine() else { panic!() };
    engine.pretend_sync(Duration::from_secs(240));
    let before = bench.commits().len();
    let mut back = vec![bench.spawn(8)];
    settle_down().await;
    // Calls return one by one; the last one ends the linger, long before its time.
    for n in 9..16 {
        back.push(bench.spawn(n));
        settle_down().await;
        assert!(n == 15 || bench.commits().len() == before);
    }
    for waiter in back {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!(bench.commits()[before..], [8]);
}

#[tokio::test]
async fn a_lone_callback_waits_for_nobody() {
    let bench = Bench::new(BatchOptions { linger_max: Duration::from_secs(60), ..patient() });
    let Engine::Embedded(engine) = bench.ledger.engine() else { panic!() };
    for n in 0..5 {
        engine.pretend_sync(Duration::from_secs(240));
        bench.ledger.record(event(n, &[])).await.unwrap();
    }
    assert_eq!(bench.commits(), [1; 5]);
}

#[tokio::test]
async fn all_that_a_thread_has_to_record_is_one_batch() {
    let bench = Bench::new(patient());
    let waiters: Vec<_> = (0..20).map(|n| bench.spawn(n)).collect();
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!(bench.commits(), [20]);
}

#[tokio::test]
async fn a_full_batch_does_not_wait_for_the_thread_to_rest() {
    let bench = Bench::new(BatchOptions { batch_events: 8, ..patient() });
    let before = bench.begun();
    let mut all: Vec<_> = (0..8).map(|n| Box::pin(bench.ledger.record(event(n, &["a"])))).collect();
    std::future::poll_fn(|cx| {
        for one in &mut all {
            assert!(one.as_mut().poll(cx).is_pending());
        }
        // Nothing else runs on this thread meanwhile.
        while bench.begun() == before {
            std::thread::yield_now();
        }
        std::task::Poll::Ready(())
    })
    .await;
    for one in all {
        assert_eq!(one.await.unwrap().result(), DedupResult::New);
    }
    assert_eq!(bench.commits(), [8]);
}

#[tokio::test]
async fn who_leaves_with_an_answer_waiting_makes_room_for_others() {
    let bench = Bench::new(patient());
    let events: Vec<_> = (0..12).map(|n| event(n, &["a"])).collect();
    for (round, some) in events.chunks(4).enumerate() {
        let mut gone: Vec<_> =
            some.iter().map(|event| Box::pin(bench.ledger.record(event.clone()))).collect();
        std::future::poll_fn(|cx| {
            gone.iter_mut().for_each(|one| assert!(one.as_mut().poll(cx).is_pending()));
            std::task::Poll::Ready(())
        })
        .await;
        // Answered, and never looked at.
        while bench.commits().len() == round {
            tokio::task::yield_now().await;
        }
        drop(gone);
    }
    assert_eq!(bench.commits(), [4; 3]);
    for event in &events {
        assert!(bench.exists(event.id).await);
    }
    bench.ledger.record(event(50, &[])).await.unwrap();
}

#[test]
fn a_driver_that_ends_with_its_runtime_is_replaced() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = Bench::new(patient());
    let hold = bench.hold();
    let (dying, living) = (runtime(), runtime());
    // Both runtimes have this thread, and so one queue. Its driver is in the one that ends.
    let first = dying.block_on(bench.occupy());
    let [second] = living.block_on(async {
        let second = bench.spawn(1);
        settle_down().await;
        [second]
    });
    drop((dying, first));
    drop(hold);
    let recorded = living.block_on(second).unwrap().unwrap();
    assert_eq!(recorded.result(), DedupResult::New);
}

#[tokio::test]
async fn a_panic_of_the_committer_is_told_at_once_to_all_who_wait() {
    let bench = Bench::new(patient());
    let hold = bench.hold();
    let first = bench.occupy().await;
    let others: Vec<_> = (1..=3).map(|n| bench.spawn(n)).collect();
    settle_down().await;
    bench.faults.panic.store(true, Ordering::SeqCst);
    drop(hold);
    // The first is synced; the write of the next commit panics.
    assert_eq!(first.await.unwrap().unwrap().result(), DedupResult::New);
    for waiter in others {
        assert!(matches!(waiter.await.unwrap(), Err(LedgerError::Fatal(_))));
    }
    assert!(matches!(bench.ledger.record(event(9, &[])).await, Err(LedgerError::Fatal(_))));
}

#[tokio::test]
async fn the_last_handle_frees_the_directory_while_a_driver_sleeps() {
    let Bench { ledger, _dir: dir, .. } = Bench::new(patient());
    let gone = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.record(event(0, &[])).await }
    });
    ledger.record(event(1, &[])).await.unwrap();
    gone.abort();
    let _ = gone.await;
    drop(ledger);
    assert!(Embedded::open(EmbeddedOptions::new(dir.path())).is_ok());
}

/// The queue of the engines that take batches from a writer.
fn over_memory(options: BatchOptions) -> (BatchedLedger, Arc<Counted>) {
    let heard = Arc::new(Counted::default());
    let engine = crate::ledger::Memory::new(StoreClock::manual(START_MS));
    let ledger = BatchedLedger::new(engine, options, Arc::clone(&heard) as Arc<dyn Observer>);
    (ledger, heard)
}

#[tokio::test]
async fn a_writer_commits_what_waits_in_bounded_batches() {
    let (ledger, heard) = over_memory(BatchOptions { batch_events: 16, ..patient() });
    let all: Vec<_> = (0..40)
        .map(|n| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.record(event(n % 20, &["a"])).await })
        })
        .collect();
    let mut new = 0;
    for one in all {
        new += usize::from(one.await.unwrap().unwrap().result() == DedupResult::New);
    }
    assert_eq!((new, heard.committed.lock().unwrap().clone()), (20, vec![16, 16, 8]));
}

#[tokio::test]
async fn only_what_is_on_the_disk_is_known_at_once() {
    let bench = Bench::new(patient());
    let again = event(0, &["a"]);
    let known = || bench.ledger.known(again.id, &again.keys, again.fingerprint);
    assert_eq!(known(), None);
    let hold = bench.hold();
    let recording = bench.occupy().await;
    // Written, and not synced.
    assert_eq!(known(), None);
    drop(hold);
    let first = recording.await.unwrap().unwrap();
    let duplicate = known().unwrap();
    assert_eq!(duplicate.result(), DedupResult::Duplicate);
    assert_eq!((duplicate.id(), duplicate.first()), (again.id, first.id()));
    assert_eq!(duplicate.first_seen_ms(), again.received_ms);
    assert_eq!(bench.commits(), [1]);
}

#[tokio::test]
async fn what_the_committer_has_to_see_is_not_known_at_once() {
    let bench = Bench::new(patient());
    let first = event(1, &["a"]);
    bench.ledger.record(first.clone()).await.unwrap();
    let known = |event: &NewEvent| bench.ledger.known(event.id, &event.keys, event.fingerprint);
    // A try of the same event again is the event itself.
    assert_eq!(known(&first), None);
    let repeat = crate::ledger::conformance::repeat(&first, 2);
    assert!(known(&repeat).is_some());
    // Another content is a conflict.
    let mut conflict = repeat.clone();
    conflict.fingerprint = event(9, &[]).fingerprint;
    assert_eq!(known(&conflict), None);
    // A key that the first event has not is added to it.
    let mut longer = repeat.clone();
    longer.keys.signatures = [event(9, &[]).keys.identity[0]].into();
    assert_eq!(known(&longer), None);
    assert_eq!(bench.ledger.record(longer.clone()).await.unwrap().result(), DedupResult::Duplicate);
    assert!(known(&longer).is_some());
    // After a failed sync nothing is acknowledged.
    bench.faults.sync.store(true, Ordering::SeqCst);
    bench.ledger.record(event(3, &[])).await.unwrap_err();
    assert_eq!(known(&repeat), None);
}
