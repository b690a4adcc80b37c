//! The ledger from outside: data of a killed process.
//!
//! A child process (this test executable, started again with [`CHILD`] set) records events, prints
//! every acknowledgement, and is killed with SIGKILL at random moments. Everything that it printed
//! must exist afterwards, and must never be fresh again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::collections::{HashMap, HashSet};
use std::env;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postern::ledger::{
    Accepted, Attempt, BatchOptions, BatchedLedger, DedupResult, DeliveryState, Embedded,
    EmbeddedOptions, EventId, LeaseAsk, LeaseResult, Ledger, LedgerError, LogQuery, NewEvent,
    NodeId, NoopObserver, Settlement, SourceId, TargetFilter, TargetId,
};

/// Where the child works; it is a child if this is set.
const CHILD: &str = "POSTERN_TEST_LEDGER_CHILD";
/// The first key that the child uses.
const FROM: &str = "POSTERN_TEST_LEDGER_FROM";
const CYCLES: u32 = 12;
const SEGMENT: u64 = 256 << 10;

fn options(path: &Path) -> EmbeddedOptions {
    let mut options = EmbeddedOptions::new(path);
    options.segment_bytes = SEGMENT;
    options
}

fn event(n: u64) -> NewEvent {
    let received_ms = postern::clock::now_ms();
    let source = SourceId::from("s");
    let mut event = NewEvent::sample(EventId::new(received_ms), &source, n);
    event.transaction = format!("t-{n}");
    event.user = Some(format!("u-{}", n % 50));
    event.body = vec![n as u8; 300].into();
    event.targets.push(TargetId::from("game"));
    event
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

// === The child ===

/// Records events from many tasks, prints each that was acknowledged, and settles deliveries,
/// until it is killed. Does nothing unless it is started as a child.
#[test]
fn child() {
    let Some(path) = env::var_os(CHILD) else { return };
    let from = env::var(FROM).unwrap().parse().unwrap();
    runtime().block_on(async {
        let embedded = Embedded::open(options(&PathBuf::from(path))).unwrap();
        let ledger = BatchedLedger::new(embedded, BatchOptions::default(), Arc::new(NoopObserver));
        say("ready");
        let next = Arc::new(AtomicU64::new(from));
        let settling = tokio::spawn(settle_some(ledger.clone()));
        let tasks: Vec<_> = (0..16)
            .map(|_| tokio::spawn(record_for_ever(ledger.clone(), Arc::clone(&next))))
            .collect();
        for task in tasks.into_iter().chain([settling]) {
            task.await.unwrap();
        }
    });
}

/// Prints a line in one write: a kill leaves no half line.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

async fn record_for_ever(ledger: BatchedLedger, next: Arc<AtomicU64>) {
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let event = event(n);
        let id = event.id;
        let recorded = ledger.record(event).await.unwrap();
        assert_eq!(recorded.result(), DedupResult::New);
        say(&format!("fresh {n} {id}"));
    }
}

async fn settle_some(ledger: BatchedLedger) {
    let node = NodeId::from("child");
    loop {
        let ask = LeaseAsk { targets: TargetFilter::All, max: 20, ttl: Duration::from_secs(600) };
        let leases = ledger.lease(&node, &ask).await.unwrap().leases;
        let result = |n: usize| match n % 10 {
            0 => LeaseResult::Dead,
            1..=5 => LeaseResult::Done,
            _ => LeaseResult::Retry { after: Duration::from_secs(3600) },
        };
        let settle = |(n, lease): (usize, &postern::ledger::Lease)| Settlement {
            event: lease.event,
            target: lease.target.clone(),
            token: lease.token,
            result: result(n),
            attempt: Attempt::default(),
        };
        let settlements: Vec<Settlement> = leases.iter().enumerate().map(settle).collect();
        ledger.settle(&node, &settlements).await.unwrap();
        for settlement in settlements.iter().filter(|one| one.result == LeaseResult::Dead) {
            say(&format!("dead {}", settlement.event));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

// === The parent ===

/// A child that is ready, and the lines that it prints.
fn spawn_child(path: &Path, from: u64) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while lines.next().expect("the child opens its ledger").unwrap() != "ready" {}
    (child, lines)
}

/// Answers to all children.
#[derive(Default)]
struct Answers {
    fresh: HashMap<u64, EventId>,
    dead: HashSet<EventId>,
}

impl Answers {
    /// Lets a child work for a while, kills it, and records its answers.
    fn one_life(&mut self, path: &Path, from: u64, life: Duration) {
        let (mut child, lines) = spawn_child(path, from);
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(life);
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["fresh", n, id] => {
                    let before = self.fresh.insert(n.parse().unwrap(), id.parse().unwrap());
                    assert_eq!(before, None, "fresh twice");
                }
                ["dead", id] => {
                    self.dead.insert(id.parse().unwrap());
                }
                _ => {}
            }
        }
    }

    /// Checks that every answer holds.
    async fn check(&self, path: &Path) {
        let ledger = Embedded::open(options(path)).unwrap();
        let answers: Vec<(&u64, &EventId)> = self.fresh.iter().collect();
        for (n, id) in &answers {
            let detail = ledger.event(**id).await.unwrap();
            let detail = detail.unwrap_or_else(|| panic!("{n} was acknowledged and is missing"));
            assert_eq!(detail.event.body, vec![**n as u8; 300]);
            assert_eq!(detail.deliveries.len(), 1, "an event without its delivery");
        }
        for chunk in answers.chunks(100) {
            let again: Vec<NewEvent> = chunk.iter().map(|(n, _)| event(**n)).collect();
            for (accepted, (n, id)) in ledger.accept(&again).await.unwrap().iter().zip(chunk) {
                let same = matches!(accepted, Accepted::Duplicate { first, .. } if first == *id);
                assert!(same, "{n} was fresh twice");
            }
        }
        self.check_deliveries(&ledger).await;
    }

    async fn check_deliveries(&self, ledger: &Embedded) {
        for id in &self.dead {
            let detail = ledger.event(*id).await.unwrap().unwrap();
            assert_eq!(detail.deliveries[0].state, DeliveryState::Dead, "dead is durable");
        }
        // Every event is accounted for: pending, dead, or done with its attempt.
        let mut cursor = None;
        loop {
            let page = ledger.query(&LogQuery::default(), cursor.as_ref(), 1000).await.unwrap();
            for event in &page.events {
                let detail = ledger.event(event.id).await.unwrap().unwrap();
                let delivery = &detail.deliveries[0];
                assert!(delivery.state != DeliveryState::Done || delivery.attempts.len() == 1);
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut answers = Answers::default();
    for cycle in 0..CYCLES {
        // Between 5 and 250 ms, to kill in every phase: the start, the middle of a segment, a
        // change of segments, the work on the index.
        let life = Duration::from_millis(5 + u64::from(cycle * 7919 % 13) * 20);
        answers.one_life(dir.path(), u64::from(cycle) * 10_000_000, life);
        if cycle % 4 == 3 {
            runtime().block_on(answers.check(dir.path()));
        }
    }
    assert!(answers.fresh.len() > 1000, "only {} events in {CYCLES} lives", answers.fresh.len());
    assert!(!answers.dead.is_empty());
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, _lines) = spawn_child(dir.path(), 0);
    let refused = Embedded::open(options(dir.path()));
    child.kill().unwrap();
    child.wait().unwrap();
    match refused {
        Err(LedgerError::InUse(why)) => {
            assert!(why.contains(&format!("process {}", child.id())), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(Embedded::open(options(dir.path())).is_ok());
}
