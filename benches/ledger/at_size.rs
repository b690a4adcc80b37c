//! The embedded ledger with a given number of transactions in it: what `make bench-ledger` runs.
//!
//! `at_size fill DIR COUNT` fills a ledger, measures, prints one line of JSON and waits to be
//! killed. `at_size open DIR` opens what was left, measures, and ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot run says so")]
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postern::clock::{instant, now_ms};
use postern::ledger::{
    Accepted, Book, BookOptions, DedupeKey, Embedded, EmbeddedOptions, EventId, Fingerprint,
    Ledger, LogQuery, NewEvent, SourceId, Unobserved,
};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

const CALLERS: u64 = 64;
/// Bytes of a body: a callback with its headers and its JSON.
const BODY: usize = 700;
/// Events of one measured round, and how many rounds.
const ROUND: u64 = 50_000;
const ROUNDS: usize = 5;

struct Load {
    source: SourceId,
    body: Bytes,
}

impl Load {
    fn new() -> Self {
        Self { source: SourceId::from("level-end"), body: Bytes::from(vec![b'x'; BODY]) }
    }

    fn event(&self, n: u64) -> NewEvent {
        let received_ms = now_ms();
        NewEvent {
            id: EventId::new(received_ms),
            source: self.source.clone(),
            keys: [DedupeKey::new(&self.source, &n.to_le_bytes())].into_iter().collect(),
            fingerprint: Fingerprint(n),
            transaction: format!("transaction-{n:016}"),
            user: Some(format!("user-{}", n % 50_000)),
            received_ms,
            test: false,
            body: self.body.clone(),
            targets: [].into_iter().collect(),
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn book(dir: &Path) -> Book {
    let engine = Embedded::open(EmbeddedOptions::new(dir)).expect("a ledger");
    Book::new(engine, BookOptions::default(), Arc::new(Unobserved))
}

/// Records events `from..from + count` from [`CALLERS`] callers, each not faster than `pace`;
/// answers how long each took, in nanoseconds, and how long all took.
fn record(book: &Book, from: u64, count: u64, pace: Duration) -> (Vec<u64>, Duration) {
    let load = Arc::new(Load::new());
    let start = instant();
    let took = runtime().block_on(async {
        let mut callers = Vec::new();
        for caller in 0..CALLERS {
            let (book, load) = (book.clone(), Arc::clone(&load));
            callers.push(tokio::spawn(async move {
                let mut took = Vec::new();
                let mut next = instant();
                for n in (from + caller..from + count).step_by(CALLERS as usize) {
                    if !pace.is_zero() {
                        tokio::time::sleep_until(next.into()).await;
                        next = next.max(instant()) + pace;
                    }
                    let begun = instant();
                    book.record(load.event(n)).await.expect("recorded");
                    took.push(begun.elapsed().as_nanos() as u64);
                }
                took
            }));
        }
        let mut all = Vec::new();
        for caller in callers {
            all.extend(caller.await.expect("a caller"));
        }
        all
    });
    (took, start.elapsed())
}

/// Nanoseconds at a part of the sorted `times`.
fn quantile(times: &mut [u64], part: f64) -> f64 {
    times.sort_unstable();
    times.get((times.len() as f64 * part) as usize).copied().unwrap_or(0) as f64
}

/// The usual time of one write and sync of 4 kB on the disk that `dir` is on.
fn one_sync(dir: &Path) -> f64 {
    let path = dir.join("sync.tmp");
    let file = File::create(&path).expect("a file");
    file.write_all_at(&vec![0; 8 << 20], 0).expect("zeros");
    file.sync_all().expect("a sync");
    let mut times: Vec<u64> = (0..500_u64)
        .map(|n| {
            let begun = instant();
            file.write_all_at(&[7; 4096], n % 2000 * 4096).expect("a write");
            file.sync_data().expect("a sync");
            begun.elapsed().as_nanos() as u64
        })
        .collect();
    fs::remove_file(path).expect("removed");
    quantile(&mut times, 0.5)
}

/// Bytes that this process holds that no file is behind.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}

/// Bytes on disk under a directory; the file that is made ready for later does not count.
fn disk(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    entries
        .map(|entry| (entry.path(), entry.metadata().expect("metadata")))
        .map(|(path, found)| match found.is_dir() {
            true => disk(&path),
            false if path.extension().is_some_and(|name| name == "tmp") => 0,
            false => found.blocks() * 512,
        })
        .sum()
}

/// Fills the ledger from the last event on, in batches as large as they come.
fn fill(book: &Book, count: u64) {
    let load = Load::new();
    runtime().block_on(async {
        let mut n = 0;
        while n < count {
            let some = (count - n).min(1000);
            let batch: Vec<NewEvent> = (n..n + some).map(|n| load.event(n)).collect();
            let accepted = book.engine().accept(&batch).await.expect("accepted");
            assert!(accepted.iter().all(|one| *one == Accepted::Fresh));
            n += some;
        }
    });
}

/// Waits until what is closed is indexed, so that it is not measured beside something else.
fn settle(book: &Book) {
    let mut last = u64::MAX;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let bytes = runtime().block_on(book.health()).expect("health").bytes;
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
    let (full_book, empty_book) = (book(&full), book(&empty));
    let began = instant();
    fill(&full_book, count);
    let filling = began.elapsed();
    settle(&full_book);
    let held = memory().saturating_sub(before);
    let on_disk = disk(&full);
    // In turn, so that whatever else the machine does meets both.
    let mut ratios = Vec::new();
    let mut rates = Vec::new();
    for round in 0..ROUNDS as u64 {
        let (_, of_empty) = record(&empty_book, round * ROUND, ROUND, Duration::ZERO);
        let (_, of_full) = record(&full_book, count + round * ROUND, ROUND, Duration::ZERO);
        ratios.push((of_empty.as_secs_f64() / of_full.as_secs_f64() * 1e6) as u64);
        rates.push((ROUND as f64 / of_full.as_secs_f64()) as u64);
    }
    let rate = quantile(&mut rates, 0.5);
    let sync = one_sync(dir);
    let pace = Duration::from_secs_f64(CALLERS as f64 / (rate / 2.0));
    let from = count + ROUNDS as u64 * ROUND;
    let (mut took, _) = record(&full_book, from, ROUND, pace);
    let queries = query(&full_book, count);
    println!(
        "{}",
        json!({
            "count": count,
            "fill_per_second": count as f64 / filling.as_secs_f64().max(1e-9),
            "rate": rate,
            "over_empty": quantile(&mut ratios, 0.5) / 1e6,
            "memory": held,
            "disk": on_disk,
            "body": BODY,
            "sync_us": sync / 1e3,
            "p50_syncs": quantile(&mut took, 0.5) / sync,
            "p99_syncs": quantile(&mut took, 0.99) / sync,
            "queries_us": queries,
            "total": from + ROUND,
        })
    );
    // To be killed here.
    std::thread::sleep(Duration::from_secs(600));
}

/// Microseconds, at the median, of: the newest hundred; by transaction; by user.
fn query(book: &Book, count: u64) -> Vec<f64> {
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
                runtime.block_on(book.query(query, None, 100)).expect("a page");
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
    let book = book(&dir.join("full"));
    let opened = begun.elapsed();
    let stats = runtime().block_on(book.stats()).expect("stats");
    let held = memory().saturating_sub(before);
    println!(
        "{}",
        json!({ "seconds": opened.as_secs_f64(), "memory": held, "keys": stats.keys, "events": stats.events })
    );
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fill", dir, count] => fill_and_measure(Path::new(dir), count.parse().expect("a number")),
        ["open", dir] => open_and_measure(Path::new(dir)),
        _ => println!("at_size fill DIR COUNT | at_size open DIR"),
    }
}
