//! The PostgreSQL engine under load, on a private cluster: accepts a second while what was accepted
//! is leased and settled, and a backlog drained.
//!
//! `make bench-postgres` measures; run as a test it does each thing for a moment. Server, load and
//! whatever else the machine does share its processors: what is printed is a lower bound, but for
//! the processor time and the WAL of an event, which others hardly change.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark"
)]

#[path = "../tests/postgres/cluster.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod cluster;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cluster::{Cluster, is_there, schema};
use postern::clock::{instant, now_ms};
use postern::ledger::{
    Attempt, BatchOptions, BatchedLedger, EventId, Keyring, LeaseAsk, LeaseResult, MasterKey,
    NewEvent, NodeId, Observer, Postgres, PostgresOptions, Settlement, SourceId, TargetFilter,
    TargetId,
};
use postern::sender::Secret;

/// Bytes of an event's body, unless said otherwise (`--body`): what a Taku callback of 257 bytes comes
/// to, which is stored once (`docs/benchmarks.md`).
const BODY: usize = 330;
/// How long a line is measured, unless said otherwise (`--seconds`).
const SECONDS: f64 = 6.0;

/// Settings that hold for all lines.
struct Bench {
    time: Duration,
    body: usize,
    /// Seals rows (`--sealed`).
    keys: Keyring,
    writers: Option<usize>,
}

/// One line of the table.
struct Run {
    name: &'static str,
    standbys: usize,
    callers: usize,
    workers: usize,
}

const RUNS: [Run; 5] = [
    Run { name: "single, accept only", standbys: 0, callers: 512, workers: 0 },
    Run { name: "single, whole cycle", standbys: 0, callers: 512, workers: 2 },
    Run { name: "single, whole cycle", standbys: 0, callers: 64, workers: 1 },
    Run { name: "two standbys, ANY 1, whole cycle", standbys: 2, callers: 512, workers: 2 },
    Run { name: "two standbys, ANY 1, whole cycle", standbys: 2, callers: 64, workers: 1 },
];
/// Workers that drain what was accepted while none were there.
const DRAINERS: usize = 4;

fn main() {
    if !is_there() {
        return;
    }
    let arguments: Vec<String> = std::env::args().collect();
    let said = |name: &str| {
        let at = arguments.iter().position(|one| one == name)?;
        arguments.get(at + 1).cloned()
    };
    let measured = arguments.iter().any(|one| one == "--bench");
    let seconds = said("--seconds").map_or(SECONDS, |text| text.parse().unwrap());
    let sealed = arguments.iter().any(|one| one == "--sealed");
    let bench = Bench {
        time: Duration::from_secs_f64(if measured { seconds } else { 0.1 }),
        body: said("--body").map_or(BODY, |text| text.parse().unwrap()),
        keys: Keyring::new(sealed.then(|| MasterKey::new(&[7; 32]))),
        writers: said("--writers").map(|text| text.parse().unwrap()),
    };
    let only = said("--only").unwrap_or_default();
    let runs = || RUNS.iter().filter(|run| run.name.contains(&only));
    println!("load before: {}", load());
    println!(
        "| set-up | callers | accepts/s | batch | p50 ms | p99 ms | deliveries/s | gateway µs | \
         server µs | WAL bytes |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let settings: Vec<String> = said("--set").into_iter().collect();
    let settings: Vec<&str> = settings.iter().flat_map(|text| text.split(';')).collect();
    let alone = Cluster::start(&settings);
    runs().filter(|run| run.standbys == 0).for_each(|run| run.on(&alone, &bench));
    drop(alone);
    if runs().any(|run| run.standbys > 0) {
        let replicated = "synchronous_standby_names=ANY 1 (one, two)";
        let primary = Cluster::start(&[&settings[..], &[replicated]].concat());
        let _standbys = [primary.standby("one"), primary.standby("two")];
        runs().filter(|run| run.standbys > 0).for_each(|run| run.on(&primary, &bench));
    }
    println!("load after: {}", load());
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Resources used so far.
struct Used {
    gateway: Duration,
    server: Duration,
    wal: f64,
}

impl Used {
    fn now(cluster: &Cluster) -> Self {
        let wal = cluster.ask("select pg_current_wal_lsn() - '0/0'").parse().unwrap();
        let (gateway, _) = processor_time(&std::process::id().to_string()).unwrap();
        let processes = cluster.processes();
        let server = processes.iter().filter_map(|process| processor_time(process));
        // A child that ended is counted by the first of them, whose child it was.
        let ended = processor_time(&processes[0]).map_or(Duration::ZERO, |(_, ended)| ended);
        Self { gateway, server: server.map(|(own, _)| own).sum::<Duration>() + ended, wal }
    }
}

/// Processor time of a process, and of its children that ended.
fn processor_time(process: &str) -> Option<(Duration, Duration)> {
    const TICK: Duration = Duration::from_millis(10);
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is a name in parentheses; times are the 14th to the 17th.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u32>().ok());
    Some((TICK * (ticks(11)? + ticks(12)?), TICK * (ticks(13)? + ticks(14)?)))
}

/// Counts commits.
#[derive(Default)]
struct Commits {
    commits: AtomicU64,
    events: AtomicU64,
}

impl Observer for Commits {
    fn committed(&self, _: Duration, events: usize) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(events as u64, Ordering::Relaxed);
    }
}

impl Run {
    fn on(&self, cluster: &Cluster, bench: &Bench) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(self.measure(cluster, bench));
    }

    async fn measure(&self, cluster: &Cluster, bench: &Bench) {
        let mut options = PostgresOptions::new(Secret::new(cluster.url()));
        options.schema = schema();
        options.keys = bench.keys.clone();
        options.writers = bench.writers.unwrap_or(options.writers);
        Postgres::migrate(&options, &mut |_| {}).await.unwrap();
        let engine = Postgres::open(options).await.unwrap();
        let patient = BatchOptions { patience: Duration::from_secs(60), ..BatchOptions::default() };
        let commits = Arc::new(Commits::default());
        let ledger = BatchedLedger::new(engine, patient, Arc::clone(&commits) as Arc<dyn Observer>);
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let (began, before) = (instant(), Used::now(cluster));
        let callers: Vec<_> = (0..self.callers)
            .map(|_| {
                let (next, stop) = (Arc::clone(&next), Arc::clone(&stop));
                tokio::spawn(call(ledger.clone(), bench.body, next, stop))
            })
            .collect();
        let workers = deliverers(&ledger, self.workers, &stop);
        tokio::time::sleep(bench.time).await;
        stop.store(true, Ordering::Relaxed);
        let mut took = Vec::new();
        for caller in callers {
            took.extend(caller.await.unwrap());
        }
        let seconds = began.elapsed().as_secs_f64();
        let mut delivered = 0;
        for worker in workers {
            delivered += worker.await.unwrap();
        }
        let (drained, after) = (began.elapsed().as_secs_f64(), Used::now(cluster));
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 100).map_or(0.0, Duration::as_secs_f64);
        let accepted = took.len() as f64;
        let batch = commits.events.load(Ordering::Relaxed) as f64
            / commits.commits.load(Ordering::Relaxed).max(1) as f64;
        println!(
            "| {} | {} | {:.0} | {batch:.0} | {:.1} | {:.1} | {:.0} {}",
            self.name,
            self.callers,
            accepted / seconds,
            at(50) * 1000.0,
            at(99) * 1000.0,
            delivered as f64 / drained,
            costs(&before, &after, accepted),
        );
        if self.workers == 0 {
            drain(cluster, &ledger, took.len() as u64).await;
        }
    }
}

/// The last columns: what each event cost.
fn costs(before: &Used, after: &Used, events: f64) -> String {
    let events = events.max(1.0);
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / events;
    format!(
        "| {:.1} | {:.1} | {:.0} |",
        micros(after.gateway.saturating_sub(before.gateway)),
        micros(after.server.saturating_sub(before.server)),
        (after.wal - before.wal) / events
    )
}

/// Leases and settles everything that was accepted.
async fn drain(cluster: &Cluster, ledger: &BatchedLedger, events: u64) {
    let (began, before) = (instant(), Used::now(cluster));
    // Nothing more is accepted: a worker that finds nothing ends.
    let workers = deliverers(ledger, DRAINERS, &Arc::new(AtomicBool::new(true)));
    let mut delivered = 0;
    for worker in workers {
        delivered += worker.await.unwrap();
    }
    let (seconds, after) = (began.elapsed().as_secs_f64(), Used::now(cluster));
    assert_eq!(delivered, events);
    println!(
        "| its backlog, {DRAINERS} workers | - | - | - | - | - | {:.0} {}",
        delivered as f64 / seconds,
        costs(&before, &after, delivered as f64)
    );
}

fn deliverers(
    ledger: &BatchedLedger,
    count: usize,
    stop: &Arc<AtomicBool>,
) -> Vec<tokio::task::JoinHandle<u64>> {
    (0..count).map(|n| tokio::spawn(deliver(ledger.clone(), n, Arc::clone(stop)))).collect()
}

async fn call(
    ledger: BatchedLedger,
    body: usize,
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Vec<Duration> {
    let source = SourceId::from("level-end");
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let received_ms = now_ms();
        let mut event = NewEvent::sample(EventId::new(received_ms), &source, n);
        event.body = vec![n as u8; body].into();
        event.targets.push(TargetId::from("game"));
        let began = instant();
        ledger.record(event).await.unwrap();
        took.push(began.elapsed());
    }
    took
}

/// Leases and settles until it receives a stop and nothing is left.
async fn deliver(ledger: BatchedLedger, number: usize, stop: Arc<AtomicBool>) -> u64 {
    let node = NodeId::from(format!("node-{number}"));
    let ask = LeaseAsk { targets: TargetFilter::All, max: 500, ttl: Duration::from_secs(60) };
    let mut delivered = 0;
    loop {
        let leases = ledger.lease(&node, &ask).await.unwrap().leases;
        let settled: Vec<Settlement> = leases
            .into_iter()
            .map(|lease| Settlement {
                event: lease.event,
                target: lease.target,
                token: lease.token,
                result: LeaseResult::Done,
                attempt: Attempt { status: Some(200), latency_ms: 5, ..Attempt::default() },
            })
            .collect();
        if settled.is_empty() {
            if stop.load(Ordering::Relaxed) {
                return delivered;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        delivered += ledger.settle(&node, &settled).await.unwrap().len() as u64;
    }
}
