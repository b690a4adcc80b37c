//! The embedded ledger with a given number of transactions in it: what `make bench-ledger` runs.
//!
//! `at_size fill DIR COUNT` fills a ledger, measures, prints one line of JSON and waits to be
//! killed. `at_size open DIR` opens what was left, measures, and ends. `at_size wait DIR` opens it
//! and measures only how long callers wait, for a disk that was made slower from outside.
//! `at_size cost DIR FRESH AGAIN` records new events and then known ones, to compare their costs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot run says so")]
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod event;
mod waits;

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern::clock::instant;
use postern::ledger::{
    Accepted, BatchOptions, BatchedLedger, Embedded, EmbeddedOptions, Ledger, LogQuery, NewEvent,
    NoopObserver,
};
use serde_json::json;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::{Builder, Runtime};

use self::event::BODY;

/// As in the gateway.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const CALLERS: u64 = 64;
/// Events of one measured round, and how many rounds. Single rounds differ by half on a shared
/// machine; the medians of 25 repeat within some hundredths.
const ROUND: u64 = 20_000;
const ROUNDS: usize = 25;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn ledger(dir: &Path) -> BatchedLedger {
    let engine = Embedded::open(EmbeddedOptions::new(dir)).expect("a ledger");
    BatchedLedger::new(engine, BatchOptions::default(), Arc::new(NoopObserver))
}

/// Records events `from..from + count` from [`CALLERS`] callers, each as fast as it is answered;
/// answers how long all took.
fn record(ledger: &BatchedLedger, from: u64, count: u64) -> Duration {
    let start = instant();
    runtime().block_on(async {
        let mut callers = Vec::new();
        for caller in 0..CALLERS {
            let ledger = ledger.clone();
            callers.push(tokio::spawn(async move {
                for n in (from + caller..from + count).step_by(CALLERS as usize) {
                    ledger.record(event::new(n, &[])).await.expect("recorded");
                }
            }));
        }
        for caller in callers {
            caller.await.expect("a caller");
        }
    });
    start.elapsed()
}

/// The cost of one round.
struct Cost {
    time: f64,
    processor: f64,
}

impl Cost {
    fn of(ledger: &BatchedLedger, from: u64) -> Self {
        let before = cpu_time();
        let time = record(ledger, from, ROUND).as_secs_f64();
        Self { time, processor: cpu_time().saturating_sub(before).as_secs_f64() }
    }
}

/// Rounds on a full ledger beside rounds on an empty one. Ratios are in millionths.
#[derive(Default)]
struct Compared {
    times: Vec<u64>,
    processor: Vec<u64>,
    /// Events a second on the full ledger.
    rates: Vec<u64>,
}

impl Compared {
    fn add(&mut self, empty: &Cost, full: &Cost) {
        self.times.push((empty.time / full.time * 1e6) as u64);
        self.processor.push((empty.processor / full.processor * 1e6) as u64);
        self.rates.push((ROUND as f64 / full.time) as u64);
    }
}

/// Nanoseconds at a part of the sorted `times`.
fn quantile(times: &mut [u64], part: f64) -> f64 {
    times.sort_unstable();
    times.get((times.len() as f64 * part) as usize).copied().unwrap_or(0) as f64
}

/// Bytes that this process holds that no file is behind.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}

/// Bytes on disk under a directory. Zeros that are written ahead do not count, neither in the file
/// that is made ready for later nor in the last segment: they are there whatever is recorded.
fn disk(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let files: Vec<_> =
        entries.map(|entry| (entry.path(), entry.metadata().expect("it"))).collect();
    let last = files.iter().map(|(path, _)| path).filter(|path| is(path, "journal")).max();
    let of_each = files.iter().map(|(path, found)| match found.is_dir() {
        true => disk(path),
        false if is(path, "tmp") => 0,
        false if Some(path) == last => {
            let bytes = fs::read(path).expect("the last segment");
            bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1)
        }
        false => found.blocks() * 512,
    });
    of_each.sum()
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|name| name == extension)
}

/// Fills the ledger from the last event on, in batches as large as they come.
fn fill(ledger: &BatchedLedger, count: u64) {
    runtime().block_on(async {
        let mut n = 0;
        while n < count {
            let some = (count - n).min(1000);
            let batch: Vec<NewEvent> = (n..n + some).map(|n| event::new(n, &[])).collect();
            let accepted = ledger.engine().accept(&batch).await.expect("accepted");
            assert!(accepted.iter().all(|one| *one == Accepted::New));
            n += some;
        }
    });
}

/// Waits until closed segments are indexed, to measure nothing else beside it.
fn settle(ledger: &BatchedLedger) {
    let mut last = None;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let bytes = runtime().block_on(ledger.health()).expect("health").bytes;
        if bytes == last {
            return;
        }
        last = bytes;
    }
}

fn fill_and_measure(dir: &Path, count: u64) {
    let empty = dir.join("empty");
    let full = dir.join("full");
    let before = memory();
    let (full_ledger, empty_ledger) = (ledger(&full), ledger(&empty));
    let began = instant();
    fill(&full_ledger, count);
    let filling = began.elapsed();
    settle(&full_ledger);
    let held = memory().saturating_sub(before);
    let on_disk = disk(&full);
    let mut compared = Compared::default();
    for round in 0..ROUNDS as u64 {
        let on_empty = || Cost::of(&empty_ledger, round * ROUND);
        let on_full = || Cost::of(&full_ledger, count + round * ROUND);
        // In turn, and each first in half of the rounds: other load on the machine then meets both.
        if round % 2 == 0 {
            let empty = on_empty();
            compared.add(&empty, &on_full());
        } else {
            let full = on_full();
            compared.add(&on_empty(), &full);
        }
    }
    let rate = quantile(&mut compared.rates, 0.5);
    let from = count + ROUNDS as u64 * ROUND;
    let waits = waits::measure(dir, &full_ledger, from, rate / 2.0);
    let queries = query(&full_ledger, count);
    println!(
        "{}",
        json!({
            "count": count,
            "fill_per_second": count as f64 / filling.as_secs_f64().max(1e-9),
            "rate": rate,
            "over_empty": quantile(&mut compared.times, 0.5) / 1e6,
            "processor_over_empty": quantile(&mut compared.processor, 0.5) / 1e6,
            "memory": held,
            "disk": on_disk,
            "body": BODY,
            "waits": waits,
            "queries_us": queries,
            "total": from + waits::RECORDED,
        })
    );
    // To be killed here.
    std::thread::sleep(Duration::from_secs(600));
}

/// Records events, and then the first of them again: for a profiler, or to see what each costs.
fn cost(dir: &Path, fresh: u64, again: u64) {
    let ledger = ledger(dir);
    let cpu = |count: u64, before: Duration| {
        let micros = cpu_time().saturating_sub(before).as_secs_f64() * 1e6;
        micros / count.max(1) as f64
    };
    let before = cpu_time();
    record(&ledger, 0, fresh);
    let of_fresh = cpu(fresh, before);
    let before = cpu_time();
    for from in (0..again).step_by(fresh.max(1) as usize) {
        record(&ledger, 0, fresh.min(again - from));
    }
    let of_again = cpu(again, before);
    println!("{}", json!({ "cpu_us_fresh": of_fresh, "cpu_us_again": of_again }));
}

/// Processor time of all threads of this process.
fn cpu_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").expect("threads").flatten();
    let nanos = threads.map(|thread| {
        let stat = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}

/// Microseconds, at the median, of: the newest hundred; by transaction; by user.
fn query(ledger: &BatchedLedger, count: u64) -> Vec<f64> {
    let runtime = runtime();
    let middle = (count / 2).to_string();
    let queries = [
        LogQuery::default(),
        LogQuery { transaction: Some(format!("transaction-{middle:0>16}")), ..LogQuery::default() },
        LogQuery { user: Some("user-77".into()), ..LogQuery::default() },
    ];
    let timed = |query: &LogQuery| {
        let mut times: Vec<u64> = (0..20)
            .map(|_| {
                let begun = instant();
                runtime.block_on(ledger.query(query, None, 100)).expect("a page");
                begun.elapsed().as_nanos() as u64
            })
            .collect();
        quantile(&mut times, 0.5) / 1e3
    };
    queries.iter().map(timed).collect()
}

fn open_and_measure(dir: &Path) {
    let begun: Instant = instant();
    let before = memory();
    let ledger = ledger(&dir.join("full"));
    let opened = begun.elapsed();
    let stats = runtime().block_on(ledger.stats()).expect("stats");
    let held = memory().saturating_sub(before);
    println!(
        "{}",
        json!({ "seconds": opened.as_secs_f64(), "memory": held, "keys": stats.keys, "events": stats.events })
    );
}

/// Only the waiting, at half of the rate that the disk of now allows.
fn wait_and_measure(dir: &Path) {
    let ledger = ledger(&dir.join("full"));
    let from = runtime().block_on(ledger.stats()).expect("stats").keys;
    let rate = ROUND as f64 / record(&ledger, from, ROUND).as_secs_f64();
    let waits = waits::measure(dir, &ledger, from + ROUND, rate / 2.0);
    println!("{}", json!({ "rate": rate, "waits": waits }));
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fill", dir, count] => fill_and_measure(Path::new(dir), count.parse().expect("a number")),
        ["open", dir] => open_and_measure(Path::new(dir)),
        ["wait", dir] => wait_and_measure(Path::new(dir)),
        ["cost", dir, fresh, again] => {
            let [fresh, again] = [fresh, again].map(|count| count.parse().expect("a number"));
            cost(Path::new(dir), fresh, again);
        }
        _ => println!(
            "at_size fill DIR COUNT | at_size open DIR | at_size wait DIR | at_size cost DIR FRESH AGAIN"
        ),
    }
}
