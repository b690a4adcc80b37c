use std::sync::Mutex;

use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::delivery::Deliveries;
use crate::delivery::breaker::BreakerState;
use crate::delivery::control::{Condition, Order as Asked};
use crate::ledger::{
    Attempt, BatchOptions, DeliveryQuery, LeaseAsk, LeaseResult, Ledger as _, Memory, NewEvent,
    NodeId, NoopObserver, Settlement, StoreClock, TargetFilter, conformance,
};
use crate::telemetry::HealthView;

/// Probes that were let through, in their order.
type Probes = Arc<Mutex<Vec<TargetId>>>;

/// A gateway that makes no attempts, over a ledger that outlives it.
struct Gateway {
    memory: Memory,
    ledger: BatchedLedger,
    replays: Replays,
    probes: Probes,
}

impl Gateway {
    /// One whose configuration has these destinations.
    fn new(memory: &Memory, configured: &'static [&'static str]) -> Self {
        let observer = Arc::new(NoopObserver);
        let ledger = BatchedLedger::new(memory.clone(), BatchOptions::default(), observer);
        let (control, asked) = Control::new(ledger.clone(), Deliveries::On);
        let probes = Probes::default();
        tokio::spawn(dispatch(asked, configured, Arc::clone(&probes)));
        let replays = Replays::new(ledger.clone(), control);
        Self { memory: memory.clone(), ledger, replays, probes }
    }

    /// Records events with these numbers, for `targets`.
    async fn record(&self, numbers: std::ops::Range<u64>, targets: &[&str]) {
        let events: Vec<NewEvent> = numbers.map(|n| conformance::event(n, targets)).collect();
        self.memory.accept(&events).await.unwrap();
    }

    /// Makes dead letters of all pending deliveries.
    async fn let_die(&self) {
        let who = NodeId::from("me");
        let targets = TargetFilter::All;
        let ask = LeaseAsk { targets, max: 10_000, ttl: Duration::from_secs(60) };
        let leases = self.ledger.lease(&who, &ask).await.unwrap().leases;
        let dead = leases.into_iter().map(|lease| Settlement {
            event: lease.event,
            target: lease.target,
            token: lease.token,
            result: LeaseResult::Dead,
            attempt: Attempt::default(),
        });
        let dead: Vec<Settlement> = dead.collect();
        self.ledger.settle(&who, &dead).await.unwrap();
    }

    /// The dead letters of a destination, 1,000 at most.
    async fn dead(&self, target: &str) -> usize {
        let target = Some(TargetId::from(target));
        let query = DeliveryQuery { target, ..DeliveryQuery::of(DeliveryState::Dead) };
        self.ledger.deliveries(&query, None, 1_000).await.unwrap().deliveries.len()
    }

    async fn replay(&self, id: ReplayId, filter: &ReplayFilter) -> ReplayProgress {
        self.replays.begin(id, filter.clone(), 7).unwrap();
        self.replays.ended(id, Duration::from_secs(60)).await.unwrap()
    }

    fn probed(&self) -> Vec<String> {
        std::mem::take(&mut *self.probes.lock().unwrap()).iter().map(TargetId::to_string).collect()
    }
}

/// Answers as a dispatcher does.
async fn dispatch(
    mut asked: UnboundedReceiver<Asked>,
    configured: &'static [&'static str],
    probes: Probes,
) {
    while let Some(order) = asked.recv().await {
        match order {
            Asked::Show(target, answer) if configured.contains(&target.as_str()) => {
                let (breaker, health) = (BreakerState::Open, HealthView::default());
                let _ = answer.send(Condition { breaker, paused: None, in_flight: 0, health });
            }
            Asked::Probe(targets) => probes.lock().unwrap().extend(targets.unwrap()),
            _ => {}
        }
    }
}

fn memory() -> Memory {
    Memory::new(StoreClock::manual(0))
}

fn to(target: &str) -> ReplayFilter {
    ReplayFilter { target: Some(TargetId::from(target)), ..ReplayFilter::default() }
}

fn in_state(state: DeliveryState) -> ReplayFilter {
    ReplayFilter { state: Some(state), ..ReplayFilter::default() }
}

fn numbers(progress: &ReplayProgress) -> [u64; 3] {
    [progress.seen, progress.events, progress.deliveries]
}

#[tokio::test]
async fn an_order_lets_one_probe_through_to_each_destination() {
    let gateway = Gateway::new(&memory(), &["seq", "other"]);
    gateway.record(0..450, &["seq", "other"]).await;
    let done = gateway.replay(ReplayId::new(1), &to("seq")).await;
    assert_eq!((numbers(&done), done.state), ([450, 450, 450], OrderState::Done));
    // The dispatcher gets the probe before it is asked about anything else.
    gateway.replays.control.has(&TargetId::from("seq")).await;
    assert_eq!(gateway.probed(), ["seq"]);
    for filter in [ReplayFilter::default(), in_state(DeliveryState::Pending)] {
        gateway.replay(ReplayId::new(2), &filter).await;
        gateway.replays.control.has(&TargetId::from("seq")).await;
        let mut probed = gateway.probed();
        probed.sort();
        assert_eq!(probed, ["other", "seq"], "{filter:?}");
    }
}

#[tokio::test]
async fn a_dry_run_makes_no_probe_and_counts_what_would_be_made() {
    let gateway = Gateway::new(&memory(), &["seq", "other"]);
    gateway.record(0..3, &["seq", "other"]).await;
    let mode = ReplayMode::DryRun;
    let dry = gateway.replay(ReplayId::new(1), &ReplayFilter { mode, ..to("seq") }).await;
    assert_eq!(numbers(&dry), [3, 3, 3]);
    let all = ReplayFilter { mode, ..ReplayFilter::default() };
    assert_eq!(numbers(&gateway.replay(ReplayId::new(2), &all).await), [3, 3, 6]);
    gateway.replays.control.has(&TargetId::from("seq")).await;
    assert!(gateway.probed().is_empty());
}

#[tokio::test]
async fn dead_letters_of_a_destination_that_is_not_configured_stay() {
    let gateway = Gateway::new(&memory(), &["game"]);
    gateway.record(0..3, &["game", "removed"]).await;
    gateway.let_die().await;
    let dead = in_state(DeliveryState::Dead);
    let mode = ReplayMode::DryRun;
    let dry = gateway.replay(ReplayId::new(1), &ReplayFilter { mode, ..dead.clone() }).await;
    assert_eq!(numbers(&dry), [6, 3, 3]);
    let done = gateway.replay(ReplayId::new(2), &dead).await;
    assert_eq!((numbers(&done), done.state), ([6, 3, 3], OrderState::Done));
    assert_eq!((dry.skipped, done.skipped), (3, 3));
    assert_eq!((gateway.dead("game").await, gateway.dead("removed").await), (0, 3));
    for (filter, skipped) in [(ReplayFilter::default(), 3), (to("game"), 0), (to("removed"), 3)] {
        let done = gateway.replay(ReplayId::new(3), &filter).await;
        assert_eq!((gateway.dead("removed").await, done.skipped), (3, skipped), "{filter:?}");
    }
}

#[tokio::test]
async fn what_an_order_skips_is_counted_again_when_it_is_given_again() {
    let memory = memory();
    let (id, dead) = (ReplayId::new(1), in_state(DeliveryState::Dead));
    let first = Gateway::new(&memory, &["game"]);
    first.record(0..3, &["game", "removed"]).await;
    first.let_die().await;
    assert_eq!(first.replay(id, &dead).await.skipped, 3);
    let second = Gateway::new(&memory, &["game"]);
    let kept = second.replays.find(id).await.unwrap().unwrap().progress;
    assert_eq!((kept.deliveries, kept.skipped), (3, 3), "its account has it");
    let again = second.replay(id, &dead).await;
    assert_eq!((again.deliveries, again.skipped), (3, 3));
    let third = Gateway::new(&memory, &["game", "removed"]);
    let complete = third.replay(id, &dead).await;
    assert_eq!((complete.deliveries, complete.skipped), (6, 0));
}

#[tokio::test]
async fn an_order_for_the_pending_leaves_what_is_in_flight() {
    let gateway = Gateway::new(&memory(), &["game"]);
    gateway.record(0..3, &["game"]).await;
    let ask = LeaseAsk { targets: TargetFilter::All, max: 1, ttl: Duration::from_secs(60) };
    let leases = gateway.ledger.lease(&NodeId::from("me"), &ask).await.unwrap().leases;
    assert_eq!(leases.len(), 1);
    let pending = in_state(DeliveryState::Pending);
    let named = ReplayFilter { events: vec![leases[0].event], ..pending.clone() };
    for (filter, counted) in [(pending, [3, 2, 2]), (named, [1, 0, 0])] {
        let done = gateway.replay(ReplayId::new(1), &filter).await;
        assert_eq!((numbers(&done), done.state), (counted, OrderState::Done));
    }
}

#[tokio::test]
async fn an_order_fails_where_the_dispatcher_has_ended() {
    let gateway = Gateway::new(&memory(), &["game"]);
    gateway.record(0..3, &["game"]).await;
    let (control, asked) = Control::new(gateway.ledger.clone(), Deliveries::On);
    drop(asked);
    let replays = Replays::new(gateway.ledger.clone(), control);
    let id = ReplayId::new(1);
    replays.begin(id, ReplayFilter::default(), 7).unwrap();
    let failed = replays.ended(id, Duration::from_secs(60)).await.unwrap();
    assert!(matches!(failed.state, OrderState::Failed(_)), "{failed:?}");
    // The same order is complete elsewhere.
    let done = gateway.replay(id, &ReplayFilter::default()).await;
    assert_eq!(numbers(&done), [3, 3, 3]);
}

/// The numbers of an order before a restart, and after it with ten more events.
async fn given_again(filter: &ReplayFilter) -> [[u64; 3]; 2] {
    let memory = memory();
    let id = ReplayId::new(1);
    let first = Gateway::new(&memory, &["game"]);
    first.record(0..250, &["game"]).await;
    first.let_die().await;
    let before = numbers(&first.replay(id, filter).await);
    let second = Gateway::new(&memory, &["game"]);
    second.record(250..260, &["game"]).await;
    // What was replayed is dead again, and is not replayed again.
    second.let_die().await;
    let after = numbers(&second.replay(id, filter).await);
    assert_eq!(second.dead("game").await, 250);
    [before, after]
}

#[tokio::test]
async fn an_order_that_is_given_again_after_a_restart_counts_on() {
    let counted = [[250; 3], [260; 3]];
    assert_eq!(given_again(&in_state(DeliveryState::Dead)).await, counted);
    assert_eq!(given_again(&to("game")).await, counted);
    assert_eq!(given_again(&ReplayFilter::default()).await, counted);
}

#[tokio::test]
async fn an_id_belongs_to_one_filter_after_a_restart_too() {
    let memory = memory();
    let id = ReplayId::new(1);
    let first = Gateway::new(&memory, &["game"]);
    first.record(0..3, &["game"]).await;
    assert_eq!(first.replays.check(id, &to("game")).await, Ok(Ok(())), "it is a new one");
    first.replay(id, &to("game")).await;
    let second = Gateway::new(&memory, &["game"]);
    assert_eq!(second.replays.check(id, &to("game")).await, Ok(Ok(())));
    let other = ReplayFilter::default();
    assert_eq!(second.replays.check(id, &other).await, Ok(Err(ReplayOrderError::Other)));
    // Another gateway may begin it between the check and the start.
    let refused = second.replay(id, &other).await;
    assert!(matches!(refused.state, OrderState::Failed(LedgerError::Conflict { .. })));
    let found = second.replays.find(id).await.unwrap().unwrap();
    assert_eq!((numbers(&found.progress), found.progress.state), ([3; 3], OrderState::Done));
}

#[test]
fn a_digest_tells_filters_apart() {
    let log = |log: LogQuery| ReplayFilter { log, ..ReplayFilter::default() };
    let source = |name: &str| Some(SourceId::from(name));
    let among = |names: &[&str]| {
        let among = names.iter().map(|name| SourceId::from(*name)).collect();
        log(LogQuery { among: Some(among), ..LogQuery::default() })
    };
    let events = |ids: &[i64]| {
        let events = ids.iter().map(|n| EventId::floor(*n)).collect();
        ReplayFilter { events, ..ReplayFilter::default() }
    };
    let text = Some("a".to_owned());
    let all = [
        ReplayFilter::default(),
        to("a"),
        in_state(DeliveryState::Dead),
        in_state(DeliveryState::Pending),
        log(LogQuery { source: source("a"), ..LogQuery::default() }),
        log(LogQuery { transaction: text.clone(), ..LogQuery::default() }),
        log(LogQuery { user: text, ..LogQuery::default() }),
        log(LogQuery { test: Some(true), ..LogQuery::default() }),
        log(LogQuery { since_ms: Some(1), ..LogQuery::default() }),
        log(LogQuery { until_ms: Some(1), ..LogQuery::default() }),
        among(&[]),
        among(&["a"]),
        among(&["a", "b"]),
        events(&[1]),
        events(&[1, 2]),
    ];
    let digests: std::collections::BTreeSet<String> =
        all.iter().map(ReplayFilter::digest).collect();
    assert_eq!(digests.len(), all.len());
    // Accounts of earlier versions have it.
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(ReplayFilter::default().digest(), nothing);
}
