//! Load with an old snapshot held, as a dump or a long report holds it: how long from receipt to
//! delivery, minute by minute, beside the time before. Two gateways on one private cluster.
//!
//! `make bench-old-snapshot ARGS="--minutes 60 --rate 500"`; run as a test it does each thing for a
//! moment. Callbacks are repeated now and then. At the end nothing may be lost, and nothing
//! accepted or delivered twice: that is asserted. A statement whose answer is lost is repeated, as a
//! gateway does: a machine that stands still for a while must not end an hour's run.

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

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster::{Cluster, is_there, schema};
use postern::clock::{instant, now_ms};
use postern::ledger::{
    Attempt, BatchOptions, BatchedLedger, DedupResult, EventId, LeaseAsk, LeaseResult, LedgerError,
    NewEvent, NodeId, NoopObserver, Postgres, PostgresOptions, Settlement, SourceId, TargetFilter,
    TargetId,
};
use postern::sender::Secret;
use tokio_postgres::NoTls;

/// Bytes of an event's body.
const BODY: usize = 700;
/// One event of so many is offered twice.
const REPEATED: u64 = 20;
/// Gateways.
const GATEWAYS: usize = 2;
/// Lines of the table are so long, where it runs for minutes.
const LINE: Duration = Duration::from_secs(60);
/// How long a lease lasts.
const TTL: Duration = Duration::from_secs(30);
/// The pause before a statement is repeated.
const AGAIN: Duration = Duration::from_millis(100);
/// How long the last deliveries may take: leases whose answer was lost end first.
const END: Duration = Duration::from_secs(120);

/// Statistics of the events.
#[derive(Default)]
struct Seen {
    /// When each was answered, and how often delivered.
    events: Mutex<HashMap<EventId, (Instant, u32)>>,
    /// From the answer to the delivery, since the last line.
    took: Mutex<Vec<Duration>>,
    next: AtomicU64,
    fresh_twice: AtomicU64,
    stop_senders: AtomicBool,
    stop: AtomicBool,
}

impl Seen {
    /// Whether every event was delivered.
    fn is_delivered(&self) -> bool {
        self.events.lock().unwrap().values().all(|(_, delivered)| *delivered > 0)
    }
}

fn main() {
    if !is_there() {
        return;
    }
    let measured = std::env::args().any(|one| one == "--bench");
    let minutes: f64 = said("--minutes").unwrap_or(5.0);
    let time = Duration::from_secs_f64(if measured { minutes * 60.0 } else { 1.0 });
    let rate: u64 = said("--rate").unwrap_or(300);
    let cluster = Cluster::start(&[]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(&cluster, time, rate));
}

fn said<T: FromStr>(name: &str) -> Option<T> {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|one| one == name)?;
    Some(arguments.get(at + 1)?.parse().unwrap_or_else(|_| panic!("{name} takes a number")))
}

async fn measure(cluster: &Cluster, time: Duration, rate: u64) {
    let mut options = PostgresOptions::new(Secret::new(cluster.url()));
    options.schema = schema();
    Postgres::migrate(&options, &mut |_| {}).await.unwrap();
    let seen = Arc::new(Seen::default());
    let (mut senders, mut deliverers) = (Vec::new(), Vec::new());
    for number in 0..GATEWAYS {
        let engine = Postgres::open(options.clone()).await.unwrap();
        let patient = BatchOptions { patience: Duration::from_secs(60), ..BatchOptions::default() };
        let ledger = BatchedLedger::new(engine, patient, Arc::new(NoopObserver));
        let pause = Duration::from_secs_f64(GATEWAYS as f64 / rate as f64);
        senders.push(tokio::spawn(send(ledger.clone(), Arc::clone(&seen), pause)));
        deliverers.push(tokio::spawn(deliver(ledger, number, Arc::clone(&seen))));
    }
    println!("{rate} events a second, {GATEWAYS} gateways");
    println!("| snapshot | after | deliveries | p50 ms | p99 ms | over calm | dead rows |");
    println!("|---|---|---|---|---|---|---|");
    let line = LINE.min(time / 2);
    tokio::time::sleep(line / 4).await;
    take(&seen);
    tokio::time::sleep(line).await;
    let calm = report(cluster, &options.schema, ("none", line, take(&seen)), None);
    let (client, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("begin isolation level repeatable read; select 1").await.unwrap();
    let began = instant();
    let mut ratios = Vec::new();
    while began.elapsed() < time {
        tokio::time::sleep(line).await;
        let row = ("held", began.elapsed(), take(&seen));
        let p50 = report(cluster, &options.schema, row, Some(calm));
        ratios.push(p50 / calm);
    }
    client.batch_execute("rollback").await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    seen.stop_senders.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    seen.stop.store(true, Ordering::Relaxed);
    for deliverer in deliverers {
        deliverer.await.unwrap();
    }
    end(&seen, &mut ratios);
}

fn take(seen: &Seen) -> Vec<Duration> {
    let mut took = std::mem::take(&mut *seen.took.lock().unwrap());
    took.sort_unstable();
    took
}

/// Prints a line, and answers its median in milliseconds.
fn report(
    cluster: &Cluster,
    schema: &str,
    (snapshot, after, took): (&str, Duration, Vec<Duration>),
    calm: Option<f64>,
) -> f64 {
    let at =
        |part: usize| took.get(took.len() * part / 100).map_or(f64::NAN, Duration::as_secs_f64);
    let (p50, p99) = (at(50) * 1000.0, at(99) * 1000.0);
    let dead = cluster.ask(&format!(
        "select n_dead_tup from pg_stat_all_tables where schemaname = '{schema}' and relname = 'delivery'"
    ));
    let ratio = calm.map_or("1".to_owned(), |calm| format!("{:.2}", p50 / calm));
    let (seconds, count) = (after.as_secs(), took.len());
    println!("| {snapshot} | {seconds} s | {count} | {p50:.1} | {p99:.1} | {ratio} | {dead} |");
    p50
}

fn end(seen: &Seen, ratios: &mut [f64]) {
    let events = seen.events.lock().unwrap();
    let lost = events.values().filter(|(_, delivered)| *delivered == 0).count();
    let doubled = events.values().filter(|(_, delivered)| *delivered > 1).count();
    let fresh_twice = seen.fresh_twice.load(Ordering::Relaxed);
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
    println!(
        "{} events: {lost} lost, {fresh_twice} accepted twice, {doubled} delivered twice; the \
         median with the snapshot held over the calm one: {median:.2}",
        events.len()
    );
    assert_eq!((lost, fresh_twice, doubled), (0, 0, 0));
}

fn event(n: u64) -> NewEvent {
    let (source, received_ms) = (SourceId::from("level-end"), now_ms());
    let mut event = NewEvent::sample(EventId::new(received_ms), &source, n);
    event.body = vec![n as u8; BODY].into();
    event.targets.push(TargetId::from("game"));
    event
}

/// Offers events at even times, whether or not those before are answered.
async fn send(ledger: BatchedLedger, seen: Arc<Seen>, pause: Duration) {
    let mut ticks = tokio::time::interval(pause);
    let mut offers = tokio::task::JoinSet::new();
    while !seen.stop_senders.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (ledger, seen) = (ledger.clone(), Arc::clone(&seen));
        offers.spawn(async move {
            let n = seen.next.fetch_add(1, Ordering::Relaxed);
            let first = event(n);
            // Delivered perhaps before it is answered here: it counts from its receipt.
            seen.events.lock().unwrap().insert(first.id, (instant(), 0));
            told(|| ledger.record(first.clone())).await;
            if n.is_multiple_of(REPEATED) {
                let second = event(n);
                let again = told(|| ledger.record(second.clone())).await;
                if again.result() == DedupResult::New {
                    seen.fresh_twice.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        while offers.try_join_next().is_some() {}
    }
    while offers.join_next().await.is_some() {}
}

/// Leases as a gateway does, and settles at once, until nothing is left after the stop.
async fn deliver(ledger: BatchedLedger, number: usize, seen: Arc<Seen>) {
    let node = NodeId::from(format!("node-{number}"));
    let ask = LeaseAsk { targets: TargetFilter::All, max: 256, ttl: TTL };
    let mut until = None;
    loop {
        let stopping = seen.stop.load(Ordering::Relaxed);
        let leases = told(|| ledger.lease(&node, &ask)).await.leases;
        if leases.is_empty() {
            let until = stopping.then(|| *until.get_or_insert_with(|| instant() + END));
            if until.is_some_and(|until| seen.is_delivered() || until < instant()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        {
            let (mut events, mut took) = (seen.events.lock().unwrap(), seen.took.lock().unwrap());
            for lease in &leases {
                let (answered, delivered) = events.get_mut(&lease.event).unwrap();
                *delivered += 1;
                took.push(answered.elapsed());
            }
        }
        let settled = leases.into_iter().map(|lease| Settlement {
            event: lease.event,
            target: lease.target,
            token: lease.token,
            result: LeaseResult::Done,
            attempt: Attempt { status: Some(200), latency_ms: 5, ..Attempt::default() },
        });
        let settled = settled.collect::<Vec<_>>();
        told(|| ledger.settle(&node, &settled)).await;
    }
}

/// The answer of a statement, which is repeated while its answer is lost.
async fn told<T, F>(ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, LedgerError>>,
{
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(LedgerError::Unknown | LedgerError::Unavailable(_) | LedgerError::Overloaded) => {
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}
