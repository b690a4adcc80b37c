//! The embedded engine does what the model does, also across restarts.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use crate::ledger::conformance::{key, settlement};
use crate::ledger::embedded::files::sim::{Left, Sim};
use crate::ledger::{
    Decision, DedupResult, DedupeKey, DeliveryState, EventKeys, Expect, Fingerprint, HeldBounds,
    HeldOrder, HeldQuery, HeldWhy, Lease, LookupKey, Memory, NewHeld, Recorded, ReplayId,
    ReplayWhat, SourceId, TargetId,
};
use crate::sender::{KeyForm, KeyRole};

/// One step of a story.
#[derive(Clone, Debug)]
enum Step {
    Accept(Vec<OfferedEvent>),
    /// The same, each event by a caller of its own, over the queues.
    Record(Vec<OfferedEvent>),
    /// The `n`th event of all that were offered is offered again under its own id.
    Retry(usize),
    Lease(usize),
    Settle(usize, u8),
    Release,
    Advance(u16),
    Replay(usize, Option<u8>),
    Change(u8, bool, bool),
    Nonces(Vec<(u8, u16)>),
    Hold(OfferedEvent, u8),
    /// The `n`th callback that was to be held is released or dropped.
    Decide(usize, bool),
    Restart,
    /// The power goes; some of what was not synced is left.
    Cut(u64),
}

#[derive(Clone, Debug)]
struct OfferedEvent {
    identity: Vec<u8>,
    signatures: Vec<u8>,
    lookups: Vec<(u8, bool, bool, u8)>,
    content: u8,
    targets: u8,
    size: u16,
    user: Option<u8>,
    test: bool,
}

fn offer() -> impl Strategy<Value = OfferedEvent> {
    let lookup = (0_u8..80, any::<bool>(), any::<bool>(), 0_u8..2);
    let keys = (
        prop::collection::vec(0_u8..40, 1..=3),
        prop::collection::vec(40_u8..80, 0..=2),
        prop::collection::vec(lookup, 0..=2),
        0_u8..2,
    );
    (keys, 0_u8..8, 0_u16..4000, prop::option::of(0_u8..4), any::<bool>()).prop_map(
        |((identity, signatures, lookups, content), targets, size, user, test)| OfferedEvent {
            identity,
            signatures,
            lookups,
            content,
            targets,
            size,
            user,
            test,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(offer(), 1..8).prop_map(Step::Accept),
        6 => prop::collection::vec(offer(), 1..8).prop_map(Step::Record),
        1 => any::<usize>().prop_map(Step::Retry),
        4 => (1_usize..6).prop_map(Step::Lease),
        6 => (any::<usize>(), 0_u8..4).prop_map(|(at, result)| Step::Settle(at, result)),
        1 => Just(Step::Release),
        2 => (0_u16..40_000).prop_map(Step::Advance),
        1 => (any::<usize>(), prop::option::of(0_u8..8)).prop_map(|(at, to)| Step::Replay(at, to)),
        2 => (0_u8..4, any::<bool>(), any::<bool>()).prop_map(|(id, right, delete)| {
            Step::Change(id, right, delete)
        }),
        1 => prop::collection::vec((0_u8..6, 0_u16..30_000), 1..4).prop_map(Step::Nonces),
        2 => (offer(), 0_u8..3).prop_map(|(offer, why)| Step::Hold(offer, why)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(at, drop)| Step::Decide(at, drop)),
        1 => Just(Step::Restart),
        1 => any::<u64>().prop_map(Step::Cut),
    ]
}

fn lookup_key((key, identity, older, content): &(u8, bool, bool, u8)) -> LookupKey {
    LookupKey {
        key: DedupeKey([*key; 16]),
        role: if *identity { KeyRole::Identity } else { KeyRole::Signature },
        form: if *older { KeyForm::Older } else { KeyForm::Unmarked },
        fingerprint: Fingerprint(u64::from(*content)),
    }
}

fn targets(bits: u8) -> Vec<TargetId> {
    let names = ["a", "b", "c"];
    let chosen = (0..3).filter(|bit| bits >> bit & 1 == 1);
    chosen.map(|bit| TargetId::from(names[bit])).collect()
}

fn result(code: u8) -> LeaseResult {
    let after = Duration::from_secs(7);
    [
        LeaseResult::Done,
        LeaseResult::Retry { after },
        LeaseResult::Dead,
        LeaseResult::Postpone { after },
    ][usize::from(code)]
}

/// The answer of an engine that a record stands for.
fn accepted(event: &NewEvent, recorded: Recorded) -> Accepted {
    let (first, first_seen_ms) = (recorded.first(), recorded.first_seen_ms());
    assert_eq!(recorded.id(), event.id);
    match recorded.result() {
        DedupResult::New => Accepted::New,
        DedupResult::Duplicate => Accepted::Duplicate { first, first_seen_ms },
        DedupResult::Conflict => Accepted::Conflict { first, first_seen_ms },
        DedupResult::Ambiguous => Accepted::Ambiguous { first, first_seen_ms },
    }
}

/// Both ledgers, and what was done to them.
struct Pair {
    dir: TempDir,
    clock: StoreClock,
    model: Memory,
    embedded: Option<Embedded>,
    disk: Sim,
    offered: Vec<NewEvent>,
    /// Callbacks to hold; a released one is an event.
    holding: Vec<NewHeld>,
    /// The same lease of both.
    held: Vec<(Lease, Lease)>,
}

impl Pair {
    fn new() -> Self {
        let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let clock = StoreClock::manual(START_MS);
        let model = Memory::new(clock.clone());
        let disk = Sim::default();
        let mut pair = Self {
            dir,
            clock,
            model,
            embedded: None,
            disk,
            offered: vec![],
            holding: vec![],
            held: vec![],
        };
        pair.open();
        pair
    }

    fn open(&mut self) {
        let options = options(&self.dir, self.clock.clone());
        let files = Arc::new(self.disk.clone());
        self.embedded = Some(Embedded::open_with(options, files).unwrap());
    }

    fn embedded(&self) -> &Embedded {
        self.embedded.as_ref().unwrap()
    }

    fn event(&self, offer: &OfferedEvent) -> NewEvent {
        let n = (self.offered.len() + self.holding.len()) as u64;
        NewEvent {
            id: EventId::new(self.clock.ms()),
            source: SourceId::from(["one", "two"][usize::from(offer.test)]),
            keys: EventKeys {
                identity: offer.identity.iter().map(|key| DedupeKey([*key; 16])).collect(),
                signatures: offer.signatures.iter().map(|key| DedupeKey([*key; 16])).collect(),
                lookups: offer.lookups.iter().map(lookup_key).collect(),
            },
            fingerprint: Fingerprint(u64::from(offer.content)),
            transaction: format!("t-{}", n % 10),
            user: offer.user.map(|user| format!("u-{user}")),
            received_ms: self.clock.ms(),
            test: offer.test,
            body: vec![n as u8; usize::from(offer.size)].into(),
            targets: targets(offer.targets).into(),
            seal: Default::default(),
        }
    }

    async fn accept(&mut self, events: Vec<NewEvent>) {
        let expected = self.model.accept(&events).await.unwrap();
        assert_eq!(self.embedded().accept(&events).await.unwrap(), expected);
        self.offered.extend(events);
    }

    /// Callers that come together are answered as one batch is.
    async fn record(&mut self, events: Vec<NewEvent>) {
        let batched = batched(self.embedded());
        let known: Vec<Option<Recorded>> = events
            .iter()
            .map(|event| batched.known(event.id, &event.keys, event.fingerprint))
            .collect();
        let expected = self.model.accept(&events).await.unwrap();
        // What is known at once is what the committer says too.
        for ((event, known), expected) in events.iter().zip(known).zip(&expected) {
            match known {
                Some(known) => assert_eq!(accepted(event, known), *expected),
                // Whether an older key is known takes a look at its record.
                None => assert!(!self.must_be_known(event, expected)),
            }
        }
        let callers: Vec<_> = events
            .iter()
            .cloned()
            .map(|event| {
                let batched = batched.clone();
                tokio::spawn(async move { batched.record(event).await })
            })
            .collect();
        for (caller, (event, expected)) in callers.into_iter().zip(events.iter().zip(expected)) {
            assert_eq!(accepted(event, caller.await.unwrap().unwrap()), expected);
        }
        self.offered.extend(events);
    }

    /// Whether a duplicate brings no key that its first event lacks, and was offered before.
    fn must_be_known(&self, event: &NewEvent, expected: &Accepted) -> bool {
        let Accepted::Duplicate { first, .. } = expected else { return false };
        let first = self.offered.iter().find(|offered| offered.id == *first);
        first.is_some_and(|first| {
            let own: Vec<DedupeKey> = first.keys.written().collect();
            event.keys.written().all(|key| own.contains(&key))
        })
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Accept(offers) => {
                let events = offers.iter().map(|offer| self.event(offer)).collect();
                self.accept(events).await;
            }
            Step::Record(offers) => {
                let events = offers.iter().map(|offer| self.event(offer)).collect();
                self.record(events).await;
            }
            Step::Retry(at) if !self.offered.is_empty() => {
                let again = self.offered[at % self.offered.len()].clone();
                self.accept(vec![again]).await;
            }
            Step::Lease(max) => self.lease(max).await,
            Step::Settle(at, code) if !self.held.is_empty() => {
                let (ours, theirs) = &self.held[at % self.held.len()];
                let expected = self.model.settle(&node(), &[settlement(ours, result(code))]).await;
                let theirs = settlement(theirs, result(code));
                assert_eq!(self.embedded().settle(&node(), &[theirs]).await, expected);
            }
            Step::Release => {
                let expected = self.model.release(&node()).await;
                assert_eq!(self.embedded().release(&node()).await, expected);
            }
            Step::Advance(ms) => self.clock.advance(i64::from(ms)),
            Step::Replay(at, to) if !self.offered.is_empty() => self.replay(at, to).await,
            Step::Change(id, right, delete) => self.change(id, right, delete).await,
            Step::Nonces(nonces) => {
                let nonces: Vec<Nonce> = nonces
                    .iter()
                    .map(|(n, ms)| Nonce {
                        key: key(u64::from(*n)),
                        expires_ms: self.clock.ms() + i64::from(*ms),
                    })
                    .collect();
                let expected = self.model.check_nonces(&nonces).await;
                assert_eq!(self.embedded().check_nonces(&nonces).await, expected);
            }
            Step::Hold(offer, why) => self.hold(&offer, why).await,
            Step::Decide(at, drop) if !self.holding.is_empty() => {
                let id = self.holding[at % self.holding.len()].id;
                let decision = if drop { Decision::Drop } else { Decision::Release };
                let order = HeldOrder { id, decision, at_ms: self.clock.ms(), event: None };
                let expected = self.model.decide(&order).await;
                assert_eq!(self.embedded().decide(&order).await, expected);
            }
            Step::Restart => {
                self.embedded = None;
                self.model.restart();
                self.held.clear();
                self.open();
            }
            Step::Cut(seed) => {
                // Finished deliveries may be lost in a cut. This read prevents that, so both agree.
                let _ = self.embedded().event(EventId::new(0)).await;
                self.disk.cut();
                self.embedded = None;
                self.disk =
                    self.disk.after(if seed % 4 == 0 { Left::Nothing } else { Left::Some(seed) });
                if seed % 7 == 0 {
                    // The list may still be empty.
                    let _ = fs::remove_dir_all(core::index_dir(self.dir.path()));
                }
                self.model.restart();
                self.held.clear();
                self.open();
            }
            Step::Retry(_) | Step::Settle(..) | Step::Replay(..) | Step::Decide(..) => {}
        }
    }

    async fn hold(&mut self, offer: &OfferedEvent, why: u8) {
        let event = self.event(offer);
        let held = NewHeld::disputing(HeldWhy::ALL[usize::from(why)], None, event);
        let bounds = HeldBounds { count: 6, bytes: 20_000 };
        let expected = self.model.hold(&held, bounds).await;
        assert_eq!(self.embedded().hold(&held, bounds).await, expected);
        self.holding.push(held);
    }

    async fn lease(&mut self, max: usize) {
        let ours = self.model.lease(&node(), &ask(max)).await.unwrap();
        let theirs = self.embedded().lease(&node(), &ask(max)).await.unwrap();
        assert_eq!(ours.next_due, theirs.next_due);
        assert_eq!(ours.leases.len(), theirs.leases.len());
        for (ours, theirs) in ours.leases.into_iter().zip(theirs.leases) {
            assert_eq!(Lease { token: 0, ..ours.clone() }, Lease { token: 0, ..theirs.clone() });
            self.held.push((ours, theirs));
        }
    }

    async fn replay(&mut self, at: usize, to: Option<u8>) {
        let event = self.offered[at % self.offered.len()].id;
        let states = [DeliveryState::Dead, DeliveryState::Pending, DeliveryState::Done];
        let order = ReplayOrder {
            // Some orders are repeated.
            id: ReplayId::from_bytes([(at % 5) as u8; 16]),
            what: ReplayWhat::Events(vec![event]),
            targets: to.map(targets),
            only: states.get(at / 5 % 4).copied(),
        };
        let expected = self.model.replay(&order, None, 5).await;
        assert_eq!(self.embedded().replay(&order, None, 5).await, expected);
    }

    async fn change(&mut self, id: u8, right: bool, delete: bool) {
        let kind = Kind::new("rule");
        let id = format!("doc-{id}");
        let current = self.model.document(kind, &id).await.unwrap().map(|found| found.version);
        let expect = match current {
            Some(version) if right => Expect::Version(version),
            None if !right => Expect::Version(Revision(1)),
            _ => Expect::Absent,
        };
        let body = (!delete).then(|| bytes::Bytes::from(format!("{id} at {current:?}")));
        let at_ms = self.clock.ms();
        let change = DocumentChange { kind, id, expect, body, who: "me".into(), at_ms };
        let expected = self.model.change(&change).await;
        assert_eq!(self.embedded().change(&change).await, expected);
    }

    /// Everything that can be read is the same.
    async fn compare(&self) {
        let (model, embedded) = (&self.model, self.embedded());
        assert_eq!(embedded.stats().await, model.stats().await);
        let kind = Kind::new("rule");
        assert_eq!(embedded.documents(kind).await, model.documents(kind).await);
        let all = HeldQuery::default();
        let expected = model.held(&all, None, 10_000).await.unwrap().held;
        let found = embedded.held(&all, None, 10_000).await.unwrap().held;
        let stored = |mut held: NewHeld| {
            held.event.keys = held.event.keys.written().collect();
            held
        };
        let expected: Vec<NewHeld> = expected.into_iter().map(stored).collect();
        assert_eq!(found, expected);
        let released = self.holding.iter().map(|held| &held.event);
        for event in self.offered.iter().chain(released) {
            assert_eq!(embedded.event(event.id).await, model.event(event.id).await);
        }
        let text = |text: &str| Some(text.to_owned());
        let queries = [
            LogQuery::default(),
            LogQuery { source: Some("one".into()), ..LogQuery::default() },
            LogQuery { transaction: text("t-3"), ..LogQuery::default() },
            LogQuery { user: text("u-1"), test: Some(true), ..LogQuery::default() },
            LogQuery { state: Some(crate::ledger::EventState::Pending), ..LogQuery::default() },
            LogQuery { state: Some(crate::ledger::EventState::Dead), ..LogQuery::default() },
            LogQuery { since_ms: Some(START_MS + 30_000), ..LogQuery::default() },
        ];
        for query in &queries {
            let expected = model.query(query, None, 10_000).await.unwrap().events;
            assert_eq!(embedded.query(query, None, 10_000).await.unwrap().events, expected);
        }
        for state in [DeliveryState::Pending, DeliveryState::Dead, DeliveryState::Done] {
            let query = DeliveryQuery::of(state);
            let expected = model.deliveries(&query, None, 10_000).await.unwrap().deliveries;
            let found = embedded.deliveries(&query, None, 10_000).await.unwrap().deliveries;
            assert_eq!(found, expected);
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 48, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_embedded_engine_does_what_the_model_does(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for step in steps {
                pair.step(step).await;
            }
            pair.compare().await;
            pair.step(Step::Restart).await;
            pair.compare().await;
        });
    }
}
