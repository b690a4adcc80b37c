//! The ledger after a fault at any step: acknowledged data exists, nothing is accepted twice, and
//! it starts.
//!
//! The journal is on a disk in memory (`files::sim`) that forgets what was not synced; the index is
//! on a real one, and is lost, emptied, stale or damaged.

use std::collections::BTreeMap;

use super::*;
use crate::ledger::embedded::files::sim::{Fault, Left, Sim};
use crate::ledger::{
    Decided, Decision, DedupResult, DeliveryState, Expect, HeldBounds, HeldId, HeldOne, HeldOrder,
    HoldOutcome, NewHeld,
};

const RULE: Kind = Kind::new("rule");
const DAY_MS: i64 = 86_400_000;

/// The requests to a ledger, and its answers.
#[derive(Default)]
struct Story {
    /// Events that were offered, and whether they were acknowledged.
    offered: Vec<(NewEvent, bool)>,
    /// The version of the document that was acknowledged last, and what it said.
    document: Option<(Revision, String)>,
    /// Deliveries whose end was acknowledged.
    dead: Vec<EventId>,
    nonce: bool,
    held: Vec<Fate>,
    /// From here on old events and their keys may be gone.
    swept: bool,
}

/// A callback that was held, and what was decided about it.
struct Fate {
    held: NewHeld,
    acknowledged: bool,
    decision: Option<Decision>,
    decided: bool,
}

/// A directory for lock and index, and the disk for the journal.
struct Machine {
    dir: TempDir,
    sim: Sim,
    clock: StoreClock,
}

impl Machine {
    fn new() -> Self {
        let clock = StoreClock::manual(START_MS);
        // The index is synced often, and thrown away often; what it is on does not matter.
        let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        Self { dir, sim: Sim::default(), clock }
    }

    fn open(&self, sim: &Sim) -> Result<Embedded, LedgerError> {
        let mut options = options(&self.dir, self.clock.clone());
        options.keys = Keyring::new(Some(MasterKey::new(&[7; 32])));
        Embedded::open_with(options, Arc::new(sim.clone()))
    }

    /// Lets the story happen, as far as it comes.
    fn run(&self) -> Story {
        let mut story = Story::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            if let Ok(ledger) = self.open(&self.sim) {
                story.happen(&ledger, &self.clock).await;
            }
        });
        story
    }
}

impl Story {
    /// Errors are not the end: a disk that is full may have room again.
    async fn happen(&mut self, ledger: &Embedded, clock: &StoreClock) {
        // Each fills a good part of a segment: segments change.
        for n in 0..3 {
            self.offer(ledger, n, 300).await;
        }
        self.write_document(ledger).await;
        let nonce = Nonce { key: conformance::key(99), expires_ms: i64::MAX };
        self.nonce |= ledger.check_nonces(&[nonce]).await.is_ok();
        self.settle(ledger).await;
        self.hold(ledger).await;
        for n in 10..13 {
            self.offer(ledger, n, 40_000).await;
        }
        self.write_document(ledger).await;
        clock.advance(40 * DAY_MS);
        for n in 20..23 {
            let ms = u64::try_from(40 * DAY_MS).unwrap();
            self.offer(ledger, ms + n, 40_000).await;
        }
        self.sweep(ledger, clock).await;
        self.offer(ledger, u64::try_from(40 * DAY_MS).unwrap() + 30, 300).await;
    }

    async fn offer(&mut self, ledger: &Embedded, n: u64, size: usize) {
        let mut event = event(n, &["a"]);
        event.body = vec![n as u8; size].into();
        // Both ways to the committer.
        let accepted = match n % 2 {
            0 => ledger.accept(std::slice::from_ref(&event)).await.map(|accepted| {
                assert_eq!(accepted, [Accepted::New]);
            }),
            _ => batched(ledger).record(event.clone()).await.map(|recorded| {
                assert_eq!(recorded.result(), DedupResult::New);
            }),
        };
        self.offered.push((event, accepted.is_ok()));
    }

    async fn write_document(&mut self, ledger: &Embedded) {
        let body = format!("after {} events", self.offered.len());
        let expect = match ledger.document(RULE, "1").await {
            Ok(Some(found)) => Expect::Version(found.version),
            _ => Expect::Absent,
        };
        let change = DocumentChange {
            kind: RULE,
            id: "1".into(),
            expect,
            body: Some(body.clone().into()),
            who: "me".into(),
            at_ms: START_MS,
        };
        if let Ok(version) = ledger.change(&change).await {
            self.document = Some((version, body));
        }
    }

    /// The first delivery is dead-lettered, the second is done, the third stays.
    async fn settle(&mut self, ledger: &Embedded) {
        let Ok(batch) = ledger.lease(&node(), &ask(9)).await else { return };
        for (lease, result) in batch.leases.iter().zip([LeaseResult::Dead, LeaseResult::Done]) {
            let settled = ledger.settle(&node(), &[conformance::settlement(lease, result)]).await;
            if settled == Ok(vec![Settled::Applied]) && result == LeaseResult::Dead {
                self.dead.push(lease.event);
            }
        }
    }

    /// Three callbacks are held: one stays, one is released, one is dropped.
    async fn hold(&mut self, ledger: &Embedded) {
        let why = crate::ledger::HeldWhy::Conflict;
        let decisions = [None, Some(Decision::Release), Some(Decision::Drop)];
        for (n, decision) in (5..8).zip(decisions) {
            let held = conformance::held(n, why, None);
            let id = held.id;
            let outcome = ledger.hold(&held, HeldBounds::default()).await;
            let mut fate = Fate { held, acknowledged: outcome.is_ok(), decision, decided: false };
            assert!(outcome.is_err() || outcome == Ok(HoldOutcome::Held(id)));
            if let Some(decision) = decision {
                let order = HeldOrder { id, decision, at_ms: START_MS, event: None };
                let decided = ledger.decide(&order).await;
                fate.decided = matches!(decided, Ok(Decided::Done(_)));
            }
            self.held.push(fate);
        }
    }

    /// Whether each that was acknowledged is held, or is what it was decided to be, whole.
    async fn check_held(&self, ledger: &Embedded) {
        for fate in &self.held {
            let (id, event) = (fate.held.id, fate.held.event.id);
            let found = ledger.held_one(id).await.unwrap();
            let recorded = ledger.event(event).await.unwrap();
            match (&found, fate.decision) {
                (None, _) => assert!(!fate.acknowledged, "{id} is missing"),
                (Some(HeldOne::Waiting(_)), _) => {
                    assert!(!fate.decided, "{id} was decided and waits");
                    assert!(recorded.is_none(), "{id} waits and is an event");
                }
                (Some(HeldOne::Decided(mark)), decision) => {
                    assert_eq!(Some(mark.decision), decision);
                    let released = mark.decision == Decision::Release;
                    // Its delivery is due, so no sweep takes it.
                    assert_eq!(recorded.is_some(), released, "{id}");
                    if let Some(detail) = recorded {
                        assert_eq!(detail.deliveries.len(), 1);
                    }
                }
            }
            if found.is_some() {
                let again = NewHeld { id: HeldId::new(START_MS), ..fate.held.clone() };
                let outcome = ledger.hold(&again, HeldBounds::default()).await;
                assert_eq!(outcome, Ok(HoldOutcome::Known(id)));
            }
        }
    }

    async fn sweep(&mut self, ledger: &Embedded, clock: &StoreClock) {
        let day = Duration::from_secs(86_400);
        let policy = Retention {
            now_ms: clock.ms(),
            keep_events: 30 * day,
            keep_keys: Vec::new(),
            held: crate::ledger::HeldRetention::default(),
        };
        self.swept = true;
        // A segment that is not indexed yet ends the sweep; how far it comes does not matter here,
        // only that it comes to something when nothing is wrong.
        let _ = ledger.wait_until_indexed();
        let _ = ledger.sweep(&policy, usize::MAX).await;
    }

    /// Offers each event that the ledger has again; returns those that are acknowledged. Nothing is
    /// written for them.
    async fn repeat_what_is_there(&self, ledger: &Embedded) -> Vec<EventId> {
        let mut duplicates = Vec::new();
        for (event, _) in &self.offered {
            if ledger.event(event.id).await.unwrap().is_none() {
                continue;
            }
            let again = conformance::repeat(event, 5_000);
            let recorded = batched(ledger).record(again).await.unwrap();
            assert_eq!(recorded.result(), DedupResult::Duplicate);
            assert_eq!(recorded.first(), event.id);
            duplicates.push(event.id);
        }
        duplicates
    }

    /// Whether a ledger that was opened again has everything that was acknowledged.
    async fn check(&self, ledger: &Embedded) {
        let mut found = BTreeMap::new();
        for (event, acknowledged) in &self.offered {
            let old = self.swept && event.received_ms < START_MS + DAY_MS;
            let detail = ledger.event(event.id).await.unwrap();
            if let Some(detail) = &detail {
                assert_eq!(detail.event.body, event.body);
                assert_eq!(detail.deliveries.len(), 1, "an event without its delivery");
                found.insert(event.id, detail.deliveries[0].state);
            }
            assert!(detail.is_some() || !acknowledged || old, "{} is missing", event.id);
            // Offered again under another id it is a duplicate of itself, or fresh if it was
            // never acknowledged.
            let received_ms = event.received_ms;
            let again = NewEvent { received_ms, ..conformance::repeat(event, 5_000) };
            match ledger.accept(&[again]).await.unwrap().remove(0) {
                Accepted::Duplicate { first, .. } => assert_eq!(first, event.id),
                Accepted::New => assert!(!acknowledged, "{} was taken twice", event.id),
                other => panic!("{}: {other:?}", event.id),
            }
        }
        self.check_held(ledger).await;
        for event in &self.dead {
            assert_eq!(found.get(event), Some(&DeliveryState::Dead), "dead is durable");
        }
        if let Some((version, body)) = &self.document {
            let document = ledger.document(RULE, "1").await.unwrap().expect("the document");
            assert!(document.version >= *version);
            assert!(document.version > *version || document.body == body.as_bytes());
        }
        if self.nonce {
            let nonce = Nonce { key: conformance::key(99), expires_ms: i64::MAX };
            let uses = ledger.check_nonces(&[nonce]).await.unwrap();
            assert_eq!(uses, [crate::ledger::NonceUse::Repeated]);
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// How many steps the whole story takes. Two threads share them, so it differs a little.
fn steps() -> u64 {
    let machine = Machine::new();
    let story = machine.run();
    assert!(story.offered.iter().all(|(_, acknowledged)| *acknowledged));
    assert_eq!(story.dead.len(), 1);
    machine.sim.steps()
}

/// Runs the story with `fault` at every step of it that `part` chooses, and opens what each of
/// `lefts` leaves; answers how many faults and how many starts that were.
fn every_step(fault: Fault, lefts: &[Left], part: fn(u64) -> bool) -> (u64, u64) {
    let (mut faults, mut starts) = (0, 0);
    for step in (0..steps()).filter(|step| part(*step)) {
        let machine = Machine::new();
        machine.sim.fail_at(step, fault);
        let story = machine.run();
        faults += 1;
        for left in lefts {
            let left = match left {
                Left::Some(seed) => Left::Some(seed.wrapping_mul(step + 1)),
                other => *other,
            };
            let sim = machine.sim.after(left);
            let ledger = machine.open(&sim).unwrap_or_else(|error| {
                panic!("{fault:?} at step {step}, {left:?}: {error}");
            });
            block_on(story.check(&ledger));
            drop(ledger);
            starts += 1;
        }
    }
    (faults, starts)
}

/// Each step is met by one of these tests, which run side by side.
const EVEN: fn(u64) -> bool = |step| step % 2 == 0;
const ODD: fn(u64) -> bool = |step| step % 2 == 1;

const LEFTS: [Left; 4] =
    [Left::Everything, Left::Nothing, Left::Some(0x5eed), Left::Some(0xfeed_f00d)];

#[test]
fn a_power_cut_at_every_even_step_loses_nothing() {
    let (faults, starts) = every_step(Fault::Cut, &LEFTS, EVEN);
    println!("power cuts: {faults}, starts after them: {starts}");
    assert!(faults > 30);
}

#[test]
fn a_power_cut_at_every_odd_step_loses_nothing() {
    let (faults, starts) = every_step(Fault::Cut, &LEFTS, ODD);
    println!("power cuts: {faults}, starts after them: {starts}");
    assert!(faults > 30);
}

/// Runs the story with `fault` at every step of it that `part` chooses, opens what a killed process
/// left, and then cuts the power. Everything that was said to be known until then is still known;
/// returns how much that was.
fn known_before_a_power_cut(fault: Fault, part: fn(u64) -> bool) -> usize {
    let mut acknowledged = 0;
    for step in (0..steps()).filter(|step| part(*step)) {
        let machine = Machine::new();
        machine.sim.fail_at(step, fault);
        let story = machine.run();
        let killed = machine.sim.killed();
        let ledger = machine.open(&killed).unwrap();
        let duplicates = block_on(story.repeat_what_is_there(&ledger));
        killed.cut();
        drop(ledger);
        let ledger = machine.open(&killed.after(Left::Nothing)).unwrap();
        for id in &duplicates {
            let found = block_on(ledger.event(*id)).unwrap();
            let said = format!("{fault:?} at step {step}");
            assert!(found.is_some(), "{said}: {id} was acknowledged after it, and is missing");
        }
        acknowledged += duplicates.len();
    }
    acknowledged
}

#[test]
fn what_is_known_after_a_kill_survives_a_power_cut() {
    assert!(known_before_a_power_cut(Fault::Cut, |step| step % 3 == 0) > 30);
}

#[test]
fn what_a_failed_sync_did_not_write_is_written_by_the_next_start() {
    assert!(known_before_a_power_cut(Fault::LostSync, |_| true) > 30);
}

#[test]
fn a_full_disk_at_every_step_loses_nothing() {
    let (faults, starts) = every_step(Fault::NoSpace, &[Left::Nothing], |_| true);
    println!("full disks: {faults}, starts after them: {starts}");
}

#[test]
fn an_io_error_at_every_step_loses_nothing() {
    let (faults, starts) = every_step(Fault::Io, &[Left::Some(0xabcd)], |_| true);
    println!("I/O errors: {faults}, starts after them: {starts}");
}

#[test]
fn a_short_write_at_every_step_loses_nothing() {
    let (faults, starts) = every_step(Fault::Short, &[Left::Everything], |_| true);
    println!("short writes: {faults}, starts after them: {starts}");
}

#[test]
fn a_slow_sync_changes_nothing() {
    let (faults, starts) = every_step(Fault::Slow, &[Left::Nothing], |step| step % 5 == 0);
    println!("slow steps: {faults}, starts after them: {starts}");
}
