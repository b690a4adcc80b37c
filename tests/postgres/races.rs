//! One session between two statements of another.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern::clock::now_ms;
use postern::ledger::{
    EarlyExpiry, Erasure, EventId, HeldBounds, HeldRetention, HeldWhy, Item, LeaseAsk, LeaseResult,
    Ledger as _, Postgres, PostgresOptions, Retention, Settlement, SourceId, StoreClock,
    TargetFilter, conformance,
};
use postern::sender::Secret;
use tokio_postgres::NoTls;

use super::cluster::{Cluster, schema, shared};
use super::engine::{opened, options, runtime};
use super::process::eventually;

const DAY: Duration = Duration::from_secs(86_400);

/// A session beside those of the engine.
struct Guest<'c> {
    cluster: &'c Cluster,
    client: tokio_postgres::Client,
    process: i32,
}

impl<'c> Guest<'c> {
    async fn new(cluster: &'c Cluster, url: &str, schema: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("set search_path to {schema}")).await.unwrap();
        let process = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        Self { cluster, client, process }
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("select count(*) from {table}");
        self.client.query_one(&sql, &[]).await.unwrap().get(0)
    }

    /// Waits until another session waits for this one.
    fn await_waiting(&self) {
        let process = self.process;
        let waiting = format!("where {process} = any(pg_blocking_pids(pid))");
        let sql = format!("select count(*) > 0 from pg_stat_activity {waiting}");
        eventually("another session waits", || self.cluster.ask(&sql) == "t");
    }

    /// Begins a replay of an event: its delivery is made, and not committed yet.
    async fn begin_replay(&self, event: EventId, target: &str) {
        let id = uuid::Uuid::from_bytes(*event.as_bytes());
        self.run(&format!(
            "begin isolation level read committed;
             select 1 from event where id = '{id}' for key share;
             insert into delivery (event_id, target, due_ms, attempt, token) values ('{id}', '{target}',
                floor(extract(epoch from clock_timestamp()) * 1000)::bigint, 0, 99)"
        ))
        .await;
    }
}

/// A database of its own, whose transactions begin like that.
async fn database(cluster: &Cluster, isolation: &str) -> (String, PostgresOptions) {
    let name = schema();
    cluster.ask(&format!("create database {name}"));
    let set = format!("set default_transaction_isolation = '{isolation}'");
    cluster.ask(&format!("alter database {name} {set}"));
    let url = cluster.url().replace("/postgres", &format!("/{name}"));
    let own = PostgresOptions { url: Secret::new(url.clone()), ..options(cluster, "postern") };
    (url, own)
}

/// 1. An event is settled and old enough to go, and a replay of it is not committed yet.
/// 2. It does not expire: its replay is found.
/// 3. Another replay is not committed yet, and the event is erased: with both deliveries.
#[test]
fn a_replay_that_is_not_committed_is_neither_lost_nor_left_without_its_event() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        // The engine does not depend on what the database is set to.
        for isolation in ["read committed", "repeatable read"] {
            let (url, options) = database(cluster, isolation).await;
            let engine = opened(options).await;
            let guest = Guest::new(cluster, &url, "postern").await;
            let mut event = conformance::event(1, &["a"]);
            event.received_ms = now_ms() - 10_000;
            event.id = EventId::new(event.received_ms);
            engine.accept(std::slice::from_ref(&event)).await.unwrap();
            let ask =
                LeaseAsk { targets: TargetFilter::All, max: 10, ttl: Duration::from_secs(60) };
            let leases = engine.lease(&conformance::node(), &ask).await.unwrap().leases;
            let done: Vec<Settlement> =
                leases.iter().map(|one| conformance::settlement(one, LeaseResult::Done)).collect();
            engine.settle(&conformance::node(), &done).await.unwrap();
            assert_eq!(guest.count("delivery").await, 0);

            guest.begin_replay(event.id, "a").await;
            let (keep, now_ms) = (Duration::from_secs(1), now_ms());
            let early = EarlyExpiry { source: SourceId::from("s"), keep, now_ms };
            let own = engine.clone();
            let expiring = tokio::spawn(async move { own.expire_early(&early, 100).await });
            guest.await_waiting();
            guest.run("commit").await;
            let swept = expiring.await.unwrap().unwrap();
            assert_eq!((swept.events, swept.more), (0, false), "{isolation}");
            assert!(engine.event(event.id).await.unwrap().is_some(), "{isolation}");

            guest.begin_replay(event.id, "b").await;
            let erasure = Erasure { user: "u-1".to_owned(), source: None };
            let own = engine.clone();
            let erasing = tokio::spawn(async move { own.erase(&erasure).await });
            guest.await_waiting();
            guest.run("commit").await;
            let erased = erasing.await.unwrap().unwrap();
            assert_eq!((erased.events, erased.deliveries), (1, 2), "{isolation}");
            for table in ["event", "delivery", "attempt"] {
                assert_eq!(guest.count(table).await, 0, "{isolation}: {table}");
            }
        }
    });
}

#[test]
fn a_day_that_is_read_is_left_for_the_next_sweep() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let (schema, clock) = (schema(), StoreClock::manual(conformance::START_MS));
        let own = PostgresOptions { clock: clock.clone(), ..options(cluster, &schema) };
        let engine = opened(own).await;
        let events: Vec<_> = (0..5).map(|n| conformance::event(n, &[])).collect();
        engine.accept(&events).await.unwrap();
        clock.advance(32 * 86_400_000);
        let policy = Retention {
            now_ms: clock.ms(),
            keep_events: 30 * DAY,
            keep_keys: conformance::keep(&["s"], 90 * DAY),
            held: HeldRetention::default(),
        };
        let reader = Guest::new(cluster, &cluster.url(), &schema).await;
        reader.run("begin; select count(*) from event_20260102").await;
        // Another try at once would only make others wait again.
        let swept = engine.sweep(&policy, 1_000).await.unwrap();
        assert_eq!((swept.events, swept.more), (0, false));
        reader.run("rollback").await;
        assert_eq!(engine.sweep(&policy, 1_000).await.unwrap().events, 5);
    });
}

#[test]
fn callbacks_that_an_older_version_held_are_erased_too() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let engine = opened(options(cluster, &schema)).await;
        for n in [1, 2] {
            let held = conformance::held(n, HeldWhy::Conflict, None);
            engine.hold(&held, HeldBounds::default()).await.unwrap();
        }
        // As they were before version 5 of the tables: without hashes.
        let guest = Guest::new(cluster, &cluster.url(), &schema).await;
        guest.run("update held set tx = null, usr = null").await;
        let erasure = Erasure { user: "u-1".to_owned(), source: None };
        assert_eq!(engine.erase(&erasure).await.unwrap().held, 1);
        assert_eq!(guest.count("held").await, 1);
    });
}

/// 1. A gateway is at work; something is imported into its tables, whose keys have an older form.
/// 2. The gateway looks for such keys before the first of them is there.
#[test]
fn an_import_waits_until_gateways_look_for_its_keys() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let gateway = opened(options(cluster, &schema)).await;
        gateway.join(&conformance::node(), Duration::from_secs(60)).await.unwrap();
        assert!(!gateway.may_hold_older_keys().await.unwrap());
        let importer = opened(options(cluster, &schema)).await;
        let item = Item::Event { event: conformance::event(1, &[]), deliveries: Vec::new() };
        let importing = tokio::spawn(async move { importer.import(vec![item]).await });
        while !gateway.may_hold_older_keys().await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let guest = Guest::new(cluster, &cluster.url(), &schema).await;
        assert_eq!(guest.count("dedupe").await, 0);
        assert_eq!(importing.await.unwrap().unwrap().taken, 1);
        assert_eq!(guest.count("dedupe").await, 1);
    });
}

/// 1. Tables of version 3, and a dump that reads those with held callbacks.
/// 2. The migration says that it waits, and no other session has to wait for it.
/// 3. The dump ends: the migration goes on.
#[test]
fn a_migration_that_waits_for_a_dump_says_so_and_blocks_nothing() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let dump = Guest::new(cluster, &cluster.url(), &schema).await;
        dump.run(&format!(
            "create schema {schema};
             create table meta (k text primary key, v bigint not null);
             {} {} {} insert into meta values ('version', 3), ('oldest', 2)",
            include_str!("../../src/ledger/postgres/migrations/0001_ledger.sql"),
            include_str!("../../src/ledger/postgres/migrations/0002_sealing.sql"),
            include_str!("../../src/ledger/postgres/migrations/0003_keys.sql"),
        ))
        .await;
        dump.run("begin; select count(*) from held").await;
        let said = Arc::new(Mutex::new(Vec::new()));
        let (own, options) = (Arc::clone(&said), options(cluster, &schema));
        let to = options.clone();
        let migrating = tokio::spawn(async move {
            Postgres::migrate(&to, &mut |line| own.lock().unwrap().push(line)).await
        });
        let waits = |line: &String| line.starts_with("waiting for the end of a transaction");
        eventually("it says that it waits", || said.lock().unwrap().iter().any(waits));
        let other = Guest::new(cluster, &cluster.url(), &schema).await;
        other.run("set lock_timeout = '10s'; select count(*) from held").await;
        assert!(!migrating.is_finished());
        dump.run("rollback").await;
        migrating.await.unwrap().unwrap();
        drop(Postgres::open(options).await.unwrap());
    });
}
