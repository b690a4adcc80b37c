//! The PostgreSQL engine under load, on a private cluster: accepts a second while what was accepted
//! is leased and settled.
//!
//! `cargo bench --bench postgres` measures; run as a test it does each thing for a moment. Server,
//! load and whatever else the machine does share its processors: what is printed is a lower bound.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a benchmark")]

#[path = "../tests/postgres/cluster.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod cluster;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cluster::{Cluster, is_there, schema};
use postern::clock::{instant, now_ms};
use postern::ledger::{
    Attempt, Book, BookOptions, DedupeKey, EventId, Fingerprint, LeaseAsk, NewEvent, NodeId,
    Postgres, PostgresOptions, Settlement, SourceId, TargetFilter, TargetId, Unobserved, Verdict,
};
use postern::sender::Secret;

/// Bytes of an event's body: what a Taku callback comes to.
const BODY: usize = 700;

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

fn main() {
    if !is_there() {
        return;
    }
    let measured = std::env::args().any(|arg| arg == "--bench");
    let time = if measured { Duration::from_secs(6) } else { Duration::from_millis(100) };
    println!(
        "| set-up | callers | accepts/s | p50 ms | p99 ms | deliveries/s | WAL bytes an event |"
    );
    println!("|---|---|---|---|---|---|---|");
    let alone = Cluster::start(&[]);
    RUNS.iter().filter(|run| run.standbys == 0).for_each(|run| run.on(&alone, time));
    drop(alone);
    let primary = Cluster::start(&["synchronous_standby_names=ANY 1 (one, two)"]);
    let _standbys = [primary.standby("one"), primary.standby("two")];
    RUNS.iter().filter(|run| run.standbys > 0).for_each(|run| run.on(&primary, time));
}

impl Run {
    fn on(&self, cluster: &Cluster, time: Duration) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(self.measure(cluster, time));
    }

    async fn measure(&self, cluster: &Cluster, time: Duration) {
        let mut options = PostgresOptions::new(Secret::new(cluster.url()));
        options.schema = schema();
        Postgres::migrate(&options, &mut |_| {}).await.unwrap();
        let engine = Postgres::open(options).await.unwrap();
        let patient = BookOptions { patience: Duration::from_secs(60), ..BookOptions::default() };
        let book = Book::new(engine, patient, Arc::new(Unobserved));
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..self.callers)
            .map(|_| tokio::spawn(call(book.clone(), Arc::clone(&next), Arc::clone(&stop))))
            .collect();
        let workers: Vec<_> = (0..self.workers)
            .map(|n| tokio::spawn(deliver(book.clone(), n, Arc::clone(&stop))))
            .collect();
        let wal = || -> f64 { cluster.ask("select pg_current_wal_lsn() - '0/0'").parse().unwrap() };
        let (began, before) = (instant(), wal());
        tokio::time::sleep(time).await;
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
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 100).map_or(0.0, Duration::as_secs_f64);
        println!(
            "| {} | {} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} |",
            self.name,
            self.callers,
            took.len() as f64 / seconds,
            at(50) * 1000.0,
            at(99) * 1000.0,
            delivered as f64 / seconds,
            (wal() - before) / took.len().max(1) as f64
        );
    }
}

async fn call(book: Book, next: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let source = SourceId::from("level-end");
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let received_ms = now_ms();
        let event = NewEvent {
            id: EventId::new(received_ms),
            keys: [DedupeKey::new(&source, &n.to_le_bytes())].into_iter().collect(),
            source: source.clone(),
            fingerprint: Fingerprint(n),
            transaction: format!("transaction-{n:012}"),
            user: Some(format!("user-{}", n % 10_000)),
            received_ms,
            test: false,
            body: vec![n as u8; BODY].into(),
            targets: [TargetId::from("game")].into_iter().collect(),
        };
        let began = instant();
        book.record(event).await.unwrap();
        took.push(began.elapsed());
    }
    took
}

async fn deliver(book: Book, number: usize, stop: Arc<AtomicBool>) -> u64 {
    let node = NodeId::from(format!("node-{number}"));
    let ask = LeaseAsk { targets: TargetFilter::All, max: 500, ttl: Duration::from_secs(60) };
    let mut delivered = 0;
    while !stop.load(Ordering::Relaxed) {
        let leases = book.lease(&node, &ask).await.unwrap().leases;
        let settled: Vec<Settlement> = leases
            .into_iter()
            .map(|lease| Settlement {
                event: lease.event,
                target: lease.target,
                token: lease.token,
                verdict: Verdict::Done,
                attempt: Attempt { status: Some(200), latency_ms: 5, ..Attempt::default() },
            })
            .collect();
        if settled.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        delivered += book.settle(&node, &settled).await.unwrap().len() as u64;
    }
    delivered
}
