//! The ratios of the performance budget: parse and verify over the bare digest of the same bytes,
//! and resolve. All are timed in turn within one run: noise affects them alike;
//! the fastest round and the median round are printed.
//!
//! `cargo bench --bench sender_ratios` prints the table. `-- CASE WORK TIMES` only repeats one work
//! of one case, for `perf stat -e instructions:u`.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program that prints a table"
)]

#[path = "sender/cases.rs"]
mod cases;

use std::hint::black_box;

use cases::{Case, cases};
use postern::clock;
use postern::sender::{Judgement, Resolution};

const ROUNDS: usize = 300;
const TIMES: u32 = 400;
const WORKS: [&str; 4] = ["bare", "parse", "verify", "resolve"];

/// Does `work` for `times` and gives nanoseconds for each.
fn nanoseconds(case: &Case, work: &str, times: u32) -> f64 {
    let mut callback = case.read();
    let Judgement::Verified(mut verified) = callback.verify() else { return f64::NAN };
    let has_event = matches!(verified.resolve("evt_0"), Resolution::Event(_));
    let start = clock::instant();
    match work {
        "bare" => (0..times).for_each(|_| case.bare()),
        "parse" => (0..times).for_each(|_| drop(black_box(case.read()))),
        "verify" => (0..times).for_each(|_| case.verify()),
        "resolve" if has_event => {
            (0..times).for_each(|_| drop(black_box(verified.resolve("evt_0"))));
        }
        _ => return f64::NAN,
    }
    start.elapsed().as_nanos() as f64 / f64::from(times)
}

/// The smallest and the middle of `figures`.
fn summary(mut figures: Vec<f64>) -> (f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[0], figures[figures.len() / 2])
}

fn row(case: &Case) {
    // `cargo test` runs every benchmark once, to see that it runs.
    let count = if std::env::args().any(|arg| arg == "--bench") { ROUNDS } else { 1 };
    let rounds: Vec<[f64; 4]> =
        (0..count).map(|_| WORKS.map(|work| nanoseconds(case, work, TIMES))).collect();
    let of = |column: usize| summary(rounds.iter().map(|round| round[column]).collect());
    let [bare, parse, verify, resolve] = [of(0), of(1), of(2), of(3)];
    let (_, ratio) = summary(rounds.iter().map(|round| round[2] / round[0]).collect());
    println!(
        "{:26} {:5.0} {:5.0} | {:5.0} {:5.0} | {:5.0} {:5.0} | {:5.2} {:6.2} | {:5.0} {:5.0}",
        case.name,
        bare.0,
        bare.1,
        parse.0,
        parse.1,
        verify.0,
        verify.1,
        verify.0 / bare.0,
        ratio,
        resolve.0,
        resolve.1,
    );
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [name, work, times] = words.as_slice() {
        for case in cases().iter().filter(|case| case.name == name) {
            nanoseconds(case, work, times.parse().unwrap_or(TIMES));
        }
        return;
    }
    println!(
        "ns: fastest and median   |  bare digest |    parse    | parse+verify | ratio       | resolve"
    );
    cases().iter().for_each(row);
}
