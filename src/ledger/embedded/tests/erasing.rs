//! Erasing a user on a full disk, and after a power cut: what is not erased goes on as before.

use futures_util::FutureExt as _;

use super::*;
use crate::ledger::embedded::files::faulty::Faults;
use crate::ledger::embedded::files::sim::{Fault, Left, Sim};
use crate::ledger::window::ARCHIVE;
use crate::ledger::{
    BatchOptions, BatchedLedger, Expect, HeldBounds, HeldWhy, Lease, NoopObserver,
};

const EVENTS: u64 = 100;
/// Events of the user, each with one delivery.
const OWN: u64 = 33;

fn erasure() -> Erasure {
    Erasure { user: "u-1".to_owned(), source: None }
}

fn is_own(event: &NewEvent) -> bool {
    event.user.as_deref() == Some("u-1")
}

/// The step of an erasure for which space is missing.
#[derive(Clone, Copy, Debug)]
enum Lack {
    /// The next segment cannot be begun.
    Segment,
    /// No segment can be copied.
    Copy,
    /// The copy cannot be indexed.
    Index,
}

/// A ledger with events of three users in several segments. Some deliveries are in flight, and one
/// callback of the user is held.
struct Scene {
    dir: TempDir,
    clock: StoreClock,
    faults: Faults,
    ledger: Embedded,
    events: Vec<NewEvent>,
    leases: Vec<Lease>,
}

impl Scene {
    async fn new() -> Self {
        let (dir, clock) = (TempDir::new().unwrap(), StoreClock::manual(START_MS));
        let faults = Faults::default();
        let files: Arc<dyn Files> = Arc::new(faults.clone());
        let ledger = Embedded::open_with(options(&dir, clock.clone()), files).unwrap();
        let events = fill(&ledger, 0..EVENTS, 1500).await;
        let held = conformance::held(1000, HeldWhy::Conflict, None);
        assert!(is_own(&held.event));
        ledger.hold(&held, HeldBounds::default()).await.unwrap();
        let leases = ledger.lease(&node(), &ask(9)).await.unwrap().leases;
        ledger.wait_until_indexed().unwrap();
        while ledger.core().spare.is_empty() {
            tokio::task::yield_now().await;
        }
        Self { dir, clock, faults, ledger, events, leases }
    }

    /// The database of segments that were rewritten once.
    fn period(&self) -> PathBuf {
        core::index_dir(self.dir.path()).join("period-0000000000-1")
    }

    fn begin(&self, lack: Lack) {
        match lack {
            Lack::Segment => {
                self.faults.create.store(true, Ordering::SeqCst);
                drop(self.ledger.core().spare.take());
            }
            Lack::Copy => self.faults.create.store(true, Ordering::SeqCst),
            // No database can be made where a file is.
            Lack::Index => fs::write(self.period(), "").unwrap(),
        }
    }

    fn end(&self, lack: Lack) {
        match lack {
            Lack::Segment | Lack::Copy => self.faults.create.store(false, Ordering::SeqCst),
            Lack::Index => fs::remove_file(self.period()).unwrap(),
        }
    }

    /// Whether everything is there, and nothing has ended.
    async fn assert_whole(&self, lack: Lack) {
        assert_eq!(self.ledger.stats().await.unwrap().pending, EVENTS, "{lack:?}");
        for event in &self.events {
            assert!(self.ledger.event(event.id).await.unwrap().is_some(), "{lack:?}");
        }
        let held = self.ledger.held(&HeldQuery::default(), None, 10).await.unwrap().held;
        assert_eq!(held.len(), 1, "{lack:?}");
    }

    /// A delivery in flight, of one of these events.
    fn lease_of(&self, wanted: fn(&NewEvent) -> bool) -> &Lease {
        let is_wanted = |lease: &&Lease| {
            self.events.iter().any(|event| event.id == lease.event && wanted(event))
        };
        self.leases.iter().find(is_wanted).unwrap()
    }

    async fn settled(&self, lease: &Lease) -> Settled {
        let done = conformance::settlement(lease, LeaseResult::Done);
        self.ledger.settle(&node(), &[done]).await.unwrap()[0]
    }
}

/// 1. The disk is full, and a user is erased: that fails, and has changed nothing.
/// 2. An attempt that was in flight does not count, because the erasure had begun: it is repeated when
///    its lease has expired. Those of other users count.
/// 3. The disk has space, and the erasure is repeated.
#[tokio::test]
async fn an_erasure_without_space_ends_no_delivery_and_can_be_repeated() {
    for lack in [Lack::Segment, Lack::Copy, Lack::Index] {
        let scene = Scene::new().await;
        let ledger = &scene.ledger;
        scene.begin(lack);
        for _ in 0..2 {
            let failed = ledger.erase(&erasure()).await;
            assert!(matches!(failed, Err(LedgerError::Unavailable(_))), "{lack:?}: {failed:?}");
            scene.assert_whole(lack).await;
        }
        scene.end(lack);

        let (own, other) = (scene.lease_of(is_own), scene.lease_of(|event| !is_own(event)));
        assert_eq!(scene.settled(own).await, Settled::Stale, "{lack:?}");
        assert_eq!(scene.settled(other).await, Settled::Applied, "{lack:?}");
        scene.clock.advance(60_000);
        let leases = ledger.lease(&node(), &ask(1000)).await.unwrap().leases;
        assert_eq!(leases.len() as u64, EVENTS - 1, "{lack:?}");

        let erased = ledger.erase(&erasure()).await.unwrap();
        assert_eq!(erased, Erased { events: OWN, deliveries: OWN, held: 1 }, "{lack:?}");
        let late = leases.iter().find(|lease| lease.event == own.event).unwrap();
        assert_eq!(scene.settled(late).await, Settled::Stale, "{lack:?}");
        let Scene { dir, clock, ledger, events, .. } = scene;
        drop(ledger);
        let ledger = Embedded::open(options(&dir, clock)).unwrap();
        assert_eq!(ledger.stats().await.unwrap().pending, EVENTS - 1 - OWN, "{lack:?}");
        for event in &events {
            let found = ledger.event(event.id).await.unwrap();
            assert_eq!(found.is_none(), is_own(event), "{lack:?}");
        }
        assert_eq!(ledger.held(&HeldQuery::default(), None, 10).await.unwrap().held, []);
    }
}

/// A ledger in memory, but for its index, with events in three segments. Some were tried in vain, which
/// is written in the last one.
async fn in_memory(dir: &TempDir, sim: &Sim) -> (Embedded, Vec<NewEvent>) {
    let options = options(dir, StoreClock::manual(START_MS));
    let ledger = Embedded::open_with(options, Arc::new(sim.clone())).unwrap();
    let events = fill(&ledger, 0..30, 4500).await;
    for lease in ledger.lease(&node(), &ask(6)).await.unwrap().leases {
        let retry = LeaseResult::Retry { after: Duration::ZERO };
        ledger.settle(&node(), &[conformance::settlement(&lease, retry)]).await.unwrap();
    }
    ledger.wait_until_indexed().unwrap();
    (ledger, events)
}

fn memory_dir() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

#[tokio::test]
async fn a_power_cut_during_an_erasure_leaves_no_delivery_of_an_event_that_is_gone() {
    let (dir, sim) = (memory_dir(), Sim::default());
    let (ledger, _) = in_memory(&dir, &sim).await;
    let first = sim.steps();
    assert_eq!(ledger.erase(&erasure()).await.unwrap().deliveries, 10);
    let steps = first..sim.steps();
    drop(ledger);
    let mut partial = 0;
    for step in steps {
        let (dir, sim) = (memory_dir(), Sim::default());
        let (ledger, events) = in_memory(&dir, &sim).await;
        sim.fail_at(step, Fault::Cut);
        let _ = ledger.erase(&erasure()).await;
        drop(ledger);
        let left = if step % 2 == 0 { Left::Nothing } else { Left::Everything };
        let options = options(&dir, StoreClock::manual(START_MS));
        let ledger = Embedded::open_with(options, Arc::new(sim.after(left))).unwrap();
        let pending = ledger.stats().await.unwrap().pending;
        partial += u64::from((21..30).contains(&pending));
        // A delivery without its event is not leased.
        let leases = ledger.lease(&node(), &ask(1000)).await.unwrap().leases;
        assert_eq!(leases.len() as u64, pending, "step {step}, {left:?}");
        for event in events.iter().filter(|event| !is_own(event)) {
            assert!(leases.iter().any(|lease| lease.event == event.id), "step {step}, {left:?}");
        }
        // It may be repeated.
        ledger.erase(&erasure()).await.unwrap();
        assert_eq!(ledger.stats().await.unwrap().pending, 20, "step {step}, {left:?}");
    }
    assert!(partial > 0, "segments are erased one after the other");
}

/// 1. A user is erased while an archive writes, and the caller goes when that has begun.
/// 2. The user is erased nevertheless, and then the archive is interrupted.
#[tokio::test]
async fn an_erasure_goes_on_without_its_caller() {
    let dir = TempDir::new().unwrap();
    let engine = open_in(&dir).unwrap();
    fill(&engine, 0..30, 1500).await;
    let ledger = BatchedLedger::new(engine, BatchOptions::default(), Arc::new(NoopObserver));
    let archive = DocumentChange {
        kind: ARCHIVE,
        id: "a".into(),
        expect: Expect::Absent,
        body: Some("{}".into()),
        who: "me".into(),
        at_ms: START_MS,
    };
    let before = ledger.change(&archive).await.unwrap();
    assert!(ledger.erase(&erasure()).now_or_never().is_none());
    let interrupted = async {
        while ledger.document(ARCHIVE, "a").await.unwrap().unwrap().version == before {
            tokio::task::yield_now().await;
        }
    };
    // Only against a test that hangs.
    tokio::time::timeout(Duration::from_secs(60), interrupted).await.unwrap();
    assert_eq!(ledger.stats().await.unwrap().pending, 20);
}
