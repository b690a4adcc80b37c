//! Fills a ledger for `make bench-console`: `console_fill STORE COUNT` records that many Taku
//! callbacks of the last twenty days. For 5 % of them the delivery is dead-lettered. The store is a
//! folder, or a schema of a PostgreSQL server: `postgres://…#SCHEMA`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot run says so")]
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

#[path = "../../tests/console/recorded.rs"]
mod recorded;

use std::env;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use postern::clock::{UnixMillis, now_ms};
use postern::ledger::{
    Attempt, Embedded, EmbeddedOptions, LeaseAsk, LeaseResult, Ledger, NewEvent, NodeId, Postgres,
    PostgresOptions, Settlement, TargetFilter, TargetId,
};
use postern::sender::Secret;
use recorded::Recorded;

const BATCH: u64 = 1000;
const SPAN_MS: i64 = 20 * 86_400_000;
const USERS: u64 = 50_000;
/// One event in so many is of the source `rare`; one in so many has a destination.
const RARE: u64 = 100;
const DELIVERED: u64 = 20;
const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let [store, count] = args.as_slice() else {
        println!("console_fill STORE COUNT");
        return;
    };
    let count: u64 = count.parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match store.split_once('#') {
            Some((url, schema)) => {
                let mut options = PostgresOptions::new(Secret::new(url.to_owned()));
                options.schema = schema.to_owned();
                Postgres::migrate(&options, &mut |_| {}).await.expect("tables");
                fill(&Postgres::open(options).await.expect("a ledger"), count).await;
            }
            None => {
                let options = EmbeddedOptions::new(Path::new(store));
                fill(&Embedded::open(options).expect("a ledger"), count).await;
            }
        }
    });
}

async fn fill(ledger: &impl Ledger, count: u64) {
    let from_ms = now_ms() - SPAN_MS;
    for first in (0..count).step_by(BATCH as usize) {
        let last = (first + BATCH).min(count);
        let at = |n: u64| from_ms + (SPAN_MS as f64 * (n as f64 / count as f64)) as i64;
        let batch: Vec<NewEvent> = (first..last).map(|n| event(n, at(n))).collect();
        ledger.accept(&batch).await.expect("accepted");
    }
    println!("{count} events, {} dead", give_up(ledger).await);
}

fn event(n: u64, received_ms: UnixMillis) -> NewEvent {
    let source = if n.is_multiple_of(RARE) { "rare" } else { "level-end" };
    let (user, transaction) = (format!("user-{}", n % USERS), format!("tr-{n}"));
    let recorded =
        Recorded { source, secret: SECRET, user: &user, transaction: &transaction, received_ms };
    let mut event = recorded.event(n);
    event.targets.extend(n.is_multiple_of(DELIVERED).then(|| TargetId::from("game")));
    event
}

/// Dead-letters every delivery after one attempt. Returns their number.
async fn give_up(ledger: &impl Ledger) -> u64 {
    let who = NodeId::from("fill");
    let ask =
        LeaseAsk { targets: TargetFilter::All, max: BATCH as usize, ttl: Duration::from_secs(60) };
    let mut dead = 0;
    loop {
        let leases = ledger.lease(&who, &ask).await.expect("leases").leases;
        if leases.is_empty() {
            return dead;
        }
        dead += leases.len() as u64;
        let settled = leases.into_iter().map(|lease| Settlement {
            event: lease.event,
            target: lease.target,
            token: lease.token,
            result: LeaseResult::Dead,
            attempt: Attempt {
                at_ms: now_ms(),
                latency_ms: 12,
                status: Some(422),
                head: Bytes::from_static(b"{\"error\":\"no such player\"}"),
                error: None,
            },
        });
        ledger.settle(&who, &settled.collect::<Vec<_>>()).await.expect("settled");
    }
}
