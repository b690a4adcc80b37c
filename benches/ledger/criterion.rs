//! The ledger: accepting with 64 callers at once, and finding a duplicate.
//!
//! `accept/…` drives a [`BatchedLedger`] from one current-thread runtime, as a gateway worker does; each
//! element is one durable answer. `sync` is the bare cost of one write and sync of the same disk,
//! to read the others against.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::expect_used, reason = "a benchmark that cannot run has nothing to say")]

mod event;

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postern::ledger::{
    BatchOptions, BatchedLedger, DedupeKey, Embedded, EmbeddedOptions, Engine, Keyring, MasterKey,
    NewEvent, NoopObserver, TargetId,
};
use tokio::runtime::{Builder, Runtime};

const CALLERS: u64 = 64;
/// Events that each caller records in one iteration.
const EACH: u64 = 16;

struct Load {
    targets: Vec<TargetId>,
    keys: Keys,
    next: u64,
}

/// The deduplication keys of each event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// The key of its identity.
    One,
    /// The key of its signature as well, where the signature does not cover the identity.
    Two,
}

impl Load {
    fn new(targets: &[&str]) -> Self {
        let targets = targets.iter().map(|target| TargetId::from(*target)).collect();
        Self { targets, keys: Keys::One, next: 0 }
    }

    fn event(&self, n: u64) -> NewEvent {
        let mut event = event::new(n, &self.targets);
        if self.keys == Keys::Two {
            let signature = [b"signature".as_slice(), &n.to_le_bytes()].concat();
            event.keys.signatures = [DedupeKey::new(&event.source, &signature)].into();
        }
        event
    }

    /// One iteration: every caller records its events one after the other.
    fn run(&mut self, runtime: &Runtime, ledger: &BatchedLedger) {
        let first = self.next;
        self.next += CALLERS * EACH;
        runtime.block_on(async {
            let mut callers = Vec::new();
            for caller in 0..CALLERS {
                let ledger = ledger.clone();
                let from = first + caller * EACH;
                let events: Vec<NewEvent> = (from..from + EACH).map(|n| self.event(n)).collect();
                callers.push(tokio::spawn(async move {
                    for event in events {
                        black_box(ledger.record(event).await.expect("the ledger works"));
                    }
                }));
            }
            for caller in callers {
                caller.await.expect("no caller panics");
            }
        });
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn ledger(engine: impl Into<Engine>) -> BatchedLedger {
    BatchedLedger::new(engine, BatchOptions::default(), Arc::new(NoopObserver))
}

fn embedded(dir: &tempfile::TempDir) -> Embedded {
    Embedded::open(EmbeddedOptions::new(dir.path())).expect("an empty directory")
}

fn sealed(dir: &tempfile::TempDir) -> Embedded {
    let keys = Keyring::new(Some(MasterKey::new(&[7; 32])));
    let options = EmbeddedOptions { keys, ..EmbeddedOptions::new(dir.path()) };
    Embedded::open(options).expect("an empty directory")
}

/// Where the disk is that is measured: beside the build, not in memory.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a writable target directory")
}

fn accept(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("accept");
    group.throughput(Throughput::Elements(CALLERS * EACH)).sample_size(20);
    for (name, targets) in [("no-target", &[][..]), ("one-target", &["game"][..])] {
        let runtime = runtime();
        let dir = directory();
        let embedded = ledger(embedded(&dir));
        let mut load = Load::new(targets);
        group.bench_function(BenchmarkId::new("embedded", name), |bencher| {
            bencher.iter(|| load.run(&runtime, &embedded));
        });
        let dir = directory();
        let sealed = ledger(sealed(&dir));
        let mut load = Load::new(targets);
        group.bench_function(BenchmarkId::new("sealed", name), |bencher| {
            bencher.iter(|| load.run(&runtime, &sealed));
        });
    }
    // Beside `embedded/no-target`, in the same run: what the second key costs.
    let (runtime, dir) = (runtime(), directory());
    let embedded = ledger(embedded(&dir));
    let mut load = Load { keys: Keys::Two, ..Load::new(&[]) };
    group.bench_function(BenchmarkId::new("embedded", "two-keys"), |bencher| {
        bencher.iter(|| load.run(&runtime, &embedded));
    });
    group.finish();
}

fn duplicate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("duplicate");
    group.throughput(Throughput::Elements(CALLERS * EACH)).sample_size(20);
    let runtime = runtime();
    let dir = directory();
    let ledger = ledger(embedded(&dir));
    let mut load = Load::new(&[]);
    load.run(&runtime, &ledger);
    group.bench_function("embedded", |bencher| {
        bencher.iter(|| {
            load.next = 0;
            load.run(&runtime, &ledger);
        });
    });
    group.finish();
}

fn sync(criterion: &mut Criterion) {
    let dir = directory();
    let file = File::create(dir.path().join("file")).expect("a writable directory");
    file.write_all_at(&vec![0; 64 << 20], 0).expect("space");
    file.sync_all().expect("a sync");
    let mut group = criterion.benchmark_group("sync");
    group.measurement_time(Duration::from_secs(2));
    for size in [1 << 10, 50 << 10] {
        let bytes = vec![7; size];
        let mut at = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                file.write_all_at(&bytes, at).expect("a write");
                file.sync_data().expect("a sync");
                at = (at + size as u64) % (32 << 20);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sync, accept, duplicate);
criterion_main!(benches);
