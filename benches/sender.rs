//! The pure half of a callback: parse, verify, resolve, reply. Each recipe kind is measured beside
//! the bare digest of the same bytes: read the ratio, it is independent of the machine.

#![expect(unreachable_pub, clippy::unwrap_used, reason = "a benchmark")]

#[path = "sender/cases.rs"]
mod cases;

use std::hint::black_box;

use cases::{Case, cases};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use postern::sender::{Judgement, Outcome, Resolution};

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for case in cases() {
        group.throughput(Throughput::Bytes(case.target.len() as u64));
        group.bench_function(case.name, |bench| {
            bench.iter(|| {
                black_box(case.read());
            });
        });
    }
}

fn verify(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verify");
    for case in cases() {
        beside_bare(&mut group, &case);
    }
}

fn beside_bare(group: &mut BenchmarkGroup<'_, criterion::measurement::WallTime>, case: &Case) {
    group.throughput(Throughput::Bytes(case.signed.len() as u64));
    group.bench_function(format!("{}/bare digest", case.name), |bench| {
        bench.iter(|| case.bare());
    });
    group.bench_function(format!("{}/parse and verify", case.name), |bench| {
        bench.iter(|| case.verify());
    });
}

fn resolve(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resolve");
    for case in cases() {
        let mut callback = case.read();
        let Judgement::Verified(mut verified) = callback.verify() else { continue };
        if !matches!(verified.resolve("evt_0"), Resolution::Event(_)) {
            continue;
        }
        group.bench_function(case.name, |bench| bench.iter(|| verified.resolve("evt_0")));
    }
}

fn reply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reply");
    for case in cases() {
        let mut callback = case.read();
        let verified = matches!(callback.verify(), Judgement::Verified(_));
        assert!(verified);
        group.bench_function(case.name, |bench| {
            bench.iter(|| callback.draft_reply(Outcome::Accepted, None, &|| [7; 16]));
        });
    }
}

criterion_group!(benches, parse, verify, resolve, reply);
criterion_main!(benches);
