//! Costs that must not grow with the time that a ledger is in use.
//!
//! Costs are counted in pages that the server touched, as `pg_stat_statements` counts them, not in
//! time: others work on the same machine.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use postern::clock::now_ms;
use postern::ledger::{
    Accepted, DeliveryQuery, DeliveryState, EventId, LeaseAsk, LeaseBatch, LeaseResult,
    Ledger as _, LedgerError, LogQuery, NewEvent, Postgres, PostgresOptions, ReplayId, ReplayOrder,
    ReplayWhat, Retention, Settlement, SourceId, StoreClock, TargetFilter, TargetId, conformance,
};
use tokio_postgres::NoTls;

use super::cluster::{Cluster, is_there, schema};
use super::engine::{opened, options, runtime};
use super::process::PATIENCE;

const DAY: Duration = Duration::from_secs(86_400);
const HUNDRED_DAYS_MS: i64 = 100 * 86_400_000;

/// A server that counts pages. Its autovacuum is off: counts must not depend on when it looks. Under
/// an old snapshot it removes no row, and yet it sets the statistics that plans depend on, to the few
/// live rows: a test about that vacuums by itself (snapshots.rs).
pub fn counting() -> Option<&'static Cluster> {
    static COUNTING: OnceLock<Cluster> = OnceLock::new();
    is_there().then(|| {
        COUNTING.get_or_init(|| {
            let counts = "shared_preload_libraries=pg_stat_statements";
            let cluster = Cluster::start(&[counts, "autovacuum=off"]);
            cluster.ask("create extension pg_stat_statements");
            cluster
        })
    })
}

/// A database of a test's own: the server counts statements by database.
pub async fn database(cluster: &Cluster) -> (String, PostgresOptions) {
    let name = schema();
    cluster.ask(&format!("create database {name}"));
    let mut own = options(cluster, "postern");
    own.url = postern::sender::Secret::new(url(cluster, &name));
    (name, own)
}

fn url(cluster: &Cluster, database: &str) -> String {
    cluster.url().replace("/postgres", &format!("/{database}"))
}

/// A connection beside those of the gateways.
pub struct Guest(tokio_postgres::Client);

impl Guest {
    pub async fn new(cluster: &Cluster, database: &str) -> Self {
        let (client, connection) =
            tokio_postgres::connect(&url(cluster, database), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("set search_path to postern").await.unwrap();
        Self(client)
    }

    /// Holds a snapshot of now, as a dump does.
    pub async fn holding_a_snapshot(cluster: &Cluster, database: &str) -> Self {
        let guest = Self::new(cluster, database).await;
        let sql = "begin isolation level repeatable read read only; select count(*) from delivery";
        guest.run(sql).await;
        guest
    }

    pub async fn run(&self, sql: &str) {
        self.0.batch_execute(sql).await.unwrap();
    }

    pub async fn ask(&self, sql: &str) -> i64 {
        self.0.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Pages that statements with this text in them have touched, and how often they ran.
    pub async fn touched(&self, database: &str, text: &str) -> (i64, i64) {
        let sql = "select coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint,
                coalesce(sum(calls), 0)::bigint
            from pg_stat_statements s join pg_database d on d.oid = s.dbid
            where d.datname = $1 and s.query like $2";
        let row = self.0.query_one(sql, &[&database, &format!("%{text}%")]).await.unwrap();
        (row.get(0), row.get(1))
    }
}

/// One who reads the counts: the view is in the database that has the extension.
pub async fn counter(cluster: &Cluster) -> Guest {
    let guest = Guest::new(cluster, "postgres").await;
    guest.run("set search_path to public").await;
    guest
}

/// A batch of new events for one destination, received now.
pub fn batch(from: u64, count: u64) -> Vec<NewEvent> {
    let event = |n| {
        let mut event = conformance::event(n, &["a"]);
        event.received_ms = now_ms();
        event.id = EventId::new(event.received_ms);
        event
    };
    (from..from + count).map(event).collect()
}

/// Leases that end as soon as they are made: what a crash leaves of them is due.
pub async fn lease(engine: &Postgres, max: usize) -> Result<LeaseBatch, LedgerError> {
    let ask = LeaseAsk { targets: TargetFilter::All, max, ttl: Duration::from_millis(1) };
    engine.lease(&conformance::node(), &ask).await
}

/// Delivers what is due, and answers how many that were.
pub async fn deliver(engine: &Postgres, max: usize) -> u64 {
    let leases = lease(engine, max).await.unwrap().leases;
    let settled: Vec<Settlement> =
        leases.iter().map(|lease| conformance::settlement(lease, LeaseResult::Done)).collect();
    if !settled.is_empty() {
        engine.settle(&conformance::node(), &settled).await.unwrap();
    }
    settled.len() as u64
}

/// Accepts and delivers so many events.
pub async fn pass_through(engine: &Postgres, from: u64, count: u64) {
    for begin in (from..from + count).step_by(500) {
        engine.accept(&batch(begin, 500.min(from + count - begin))).await.unwrap();
        while deliver(engine, 500).await > 0 {}
    }
}

#[test]
fn a_lease_costs_the_same_however_much_was_delivered_under_an_old_snapshot() {
    const MANY: u64 = 20_000;
    let Some(cluster) = counting() else { return };
    runtime().block_on(async {
        let (database, options) = database(cluster).await;
        let engine = opened(options).await;
        let counter = counter(cluster).await;
        pass_through(&engine, 0, 500).await;
        let snapshot = Guest::holding_a_snapshot(cluster, &database).await;
        // Both statements of a lease.
        let cost = async |from: u64| {
            let both = async || {
                let lease = counter.touched(&database, "for update skip locked").await.0;
                lease + counter.touched(&database, "pg_snapshot_xmin").await.0
            };
            let one = async |n| {
                engine.accept(&batch(n, 1)).await.unwrap();
                assert_eq!(deliver(&engine, 10).await, 1, "{n}");
            };
            // The first lease walks over a part of the last 500 deliveries: how many of
            // them are above the floor is up to luck.
            tokio::time::sleep(Duration::from_millis(300)).await;
            one(from).await;
            let before = both().await;
            for n in from + 1..from + 20 {
                one(n).await;
            }
            (both().await - before) / 19
        };
        let first = cost(1_000).await;
        pass_through(&engine, 2_000, MANY).await;
        let last = cost(1_000_000).await;
        println!("pages a lease: {first}, and {last} after {MANY} deliveries");
        // Deliveries above the floor are walked over too: how many is up to luck. All of them would be
        // thousands of pages.
        assert!(last <= first + 200, "{first} pages before, {last} after");
        assert_eq!(snapshot.ask("select count(*) from delivery").await, 0);
        snapshot.run("rollback").await;
        assert_eq!(snapshot.ask("select count(*) from delivery").await, 0);
        let events = snapshot.ask("select count(*) from event").await;
        assert_eq!(events, 500 + 40 + MANY.cast_signed());
    });
}

#[test]
fn another_gateway_begins_where_the_first_one_is() {
    let Some(cluster) = counting() else { return };
    runtime().block_on(async {
        let (database, options) = database(cluster).await;
        let first = opened(options.clone()).await;
        let guest = Guest::holding_a_snapshot(cluster, &database).await;
        pass_through(&first, 0, 5_000).await;
        let shared = async || guest.0.query_opt("select 1 from queue_floor", &[]).await.unwrap();
        guest.run("rollback; begin isolation level read committed").await;
        let mut waited = Duration::ZERO;
        while shared().await.is_none() {
            assert!(waited < PATIENCE, "the floor is never shared");
            tokio::time::sleep(Duration::from_millis(50)).await;
            waited += Duration::from_millis(50);
        }
        let counter = counter(cluster).await;
        let before = counter.touched(&database, "for update skip locked").await.0;
        let second = Postgres::open(options).await.unwrap();
        second.accept(&batch(10_000, 1)).await.unwrap();
        assert_eq!(deliver(&second, 10).await, 1);
        let cost = counter.touched(&database, "for update skip locked").await.0 - before;
        assert!(cost < 1_000, "{cost} pages");
    });
}

#[test]
fn a_delivery_below_the_floor_is_found() {
    let Some(cluster) = counting() else { return };
    runtime().block_on(async {
        let (database, options) = database(cluster).await;
        let engine = opened(options).await;
        pass_through(&engine, 0, 1_000).await;
        // As an import writes it, or a gateway of the version before whose commit took long.
        let guest = Guest::new(cluster, &database).await;
        guest
            .run(
                "insert into delivery (event_id, target, due_ms, attempt, token)
                select id, 'a', 1000, 0, 1 from event order by id limit 3",
            )
            .await;
        let mut found = 0;
        let mut waited = Duration::ZERO;
        while found < 3 {
            assert!(waited < PATIENCE, "{found} are found");
            found += deliver(&engine, 10).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            waited += Duration::from_millis(100);
        }
        assert_eq!(guest.ask("select count(*) from delivery").await, 0);
    });
}

#[test]
fn what_a_crash_takes_back_is_leased_again() {
    if !is_there() {
        return;
    }
    // Nothing that is not waited for comes to the disk by itself.
    let cluster = Cluster::start(&["wal_writer_delay=10000", "autovacuum=off"]);
    runtime().block_on(async {
        let engine = opened(options(&cluster, "postern")).await;
        pass_through(&engine, 0, 100).await;
        // A probe, or floors that are shared, may bring all to the disk before the crash.
        let mut left = 0;
        for n in 1..10 {
            assert_eq!(first_lease(&engine).await, 0);
            engine.accept(&batch(n * 1_000, 50)).await.unwrap();
            // The floor stays a little below what is certain: it shall be above all of them.
            tokio::time::sleep(Duration::from_millis(300)).await;
            for _ in 0..2 {
                assert_eq!(deliver(&engine, 25).await, 25);
            }
            cluster.kill();
            cluster.run();
            left = cluster.ask("select count(*) from postern.delivery").parse().unwrap();
            if left > 0 {
                break;
            }
        }
        assert!(left > 0, "crashes take nothing back");
        assert_eq!(first_lease(&engine).await, left, "the first lease after the crash finds them");
    });
}

/// How many deliveries the first lease finds that the server answers.
async fn first_lease(engine: &Postgres) -> usize {
    loop {
        match lease(engine, 100).await {
            Ok(batch) => return batch.leases.len(),
            Err(error) => assert!(!error.is_fatal(), "{error}"),
        }
    }
}

#[test]
fn a_search_reads_what_it_finds_without_statistics() {
    let Some(cluster) = counting() else { return };
    runtime().block_on(async {
        let (database, options) = database(cluster).await;
        let engine = opened(options).await;
        for begin in (0..20_000).step_by(500) {
            let mut events = batch(begin, 500);
            // Twenty events of each user: those of one are read.
            for (n, event) in events.iter_mut().enumerate() {
                event.user = Some(format!("u-{}", (begin as usize + n) % 1_000));
            }
            engine.accept(&events).await.unwrap();
        }
        let leases = lease(&engine, 500).await.unwrap().leases;
        let dead: Vec<Settlement> =
            leases.iter().map(|lease| conformance::settlement(lease, LeaseResult::Dead)).collect();
        engine.settle(&conformance::node(), &dead).await.unwrap();
        let counter = counter(cluster).await;
        let by_transaction =
            LogQuery { transaction: Some("t-7".to_owned()), ..LogQuery::default() };
        let by_user = LogQuery { user: Some("u-1".to_owned()), ..LogQuery::default() };
        let among: Option<Arc<[SourceId]>> = Some(Arc::new([SourceId::from("s")]));
        let of_source = LogQuery { among: among.clone(), ..LogQuery::default() };
        let of_one = LogQuery { source: Some(SourceId::from("s")), ..LogQuery::default() };
        let user_of_source = LogQuery { among: among.clone(), ..by_user.clone() };
        let all = [LogQuery::default(), by_transaction, by_user, of_source, of_one, user_of_source];
        for query in all {
            let pages = async || counter.touched(&database, "ids as materialized").await.0;
            let before = pages().await;
            let found = engine.query(&query, None, 10).await.unwrap().events.len();
            let cost = pages().await - before;
            println!("{cost} pages for {found} events of {query:?}");
            assert!(found > 0 && (1..400).contains(&cost), "{cost} pages: {query:?}");
        }
        let query = DeliveryQuery { among, ..DeliveryQuery::of(DeliveryState::Dead) };
        let before = counter.touched(&database, "w as materialized").await.0;
        let found = engine.deliveries(&query, None, 10).await.unwrap().deliveries.len();
        let cost = counter.touched(&database, "w as materialized").await.0 - before;
        println!("{cost} pages for {found} dead letters");
        assert!(found == 10 && (1..400).contains(&cost), "{cost} pages");
    });
}

/// Keys by the thousand, one of each at a time of its own from `seen_ms` on.
async fn fill(guest: &Guest, source: &str, count: i64, seen_ms: i64) {
    let sql = format!(
        "insert into dedupe (k, id, seen_ms, fingerprint, source)
         select gen_random_uuid(), gen_random_uuid(), {seen_ms} + n, n, '{source}'
         from generate_series(1, {count}) as n"
    );
    guest.run(&sql).await;
}

fn policy(sources: &[&str]) -> Retention {
    Retention {
        now_ms: now_ms(),
        keep_events: 30 * DAY,
        keep_keys: conformance::keep(sources, 90 * DAY),
        held: postern::ledger::HeldRetention::default(),
    }
}

#[test]
fn keys_that_are_kept_for_ever_cost_a_sweep_nothing_and_it_goes_on_where_it_was() {
    let Some(cluster) = counting() else { return };
    runtime().block_on(async {
        let (database, options) = database(cluster).await;
        let engines = [opened(options.clone()).await, Postgres::open(options).await.unwrap()];
        let guest = Guest::new(cluster, &database).await;
        let old = now_ms() - HUNDRED_DAYS_MS;
        for n in 0..10 {
            fill(&guest, "undated", 20_000, old + n * 20_000).await;
            fill(&guest, "dated", 2_000, old + n * 2_000).await;
            fill(&guest, "also-dated", 2_000, old + n * 2_000).await;
        }
        guest.run("analyze dedupe").await;
        let snapshot = Guest::holding_a_snapshot(cluster, &database).await;
        let policy = policy(&["dated", "also-dated"]);
        let (mut gone, mut at) = (0, 0);
        loop {
            let swept = engines[at % 2].sweep(&policy, 1_500).await.unwrap();
            at += 1;
            gone += swept.keys;
            if !swept.more {
                break;
            }
        }
        assert_eq!(gone, 40_000);
        let left = "select count(*) from dedupe where source = 'undated'";
        assert_eq!(guest.ask(left).await, 200_000);
        // Nothing of what is kept, and nothing of what is gone, is read again.
        let counter = counter(cluster).await;
        let before = counter.touched(&database, "dedupe").await.0;
        for engine in &engines {
            let swept = engine.sweep(&policy, 1_500).await.unwrap();
            assert_eq!((swept.keys, swept.more), (0, false));
        }
        let cost = counter.touched(&database, "dedupe").await.0 - before;
        println!("pages of two sweeps with nothing to do: {cost}");
        assert!(cost < 200, "{cost} pages");
        snapshot.run("rollback").await;
    });
}

#[test]
fn sweeps_at_one_time_share_the_work_and_lose_nothing() {
    let Some(cluster) = counting() else { return };
    runtime().block_on(async {
        let (database, options) = database(cluster).await;
        let engines = [opened(options.clone()).await, Postgres::open(options).await.unwrap()];
        let guest = Guest::new(cluster, &database).await;
        fill(&guest, "dated", 30_000, now_ms() - HUNDRED_DAYS_MS).await;
        fill(&guest, "dated", 1_000, now_ms() - 80 * 86_400_000).await;
        let sweeps = engines.map(|engine| {
            tokio::spawn(async move {
                let policy = policy(&["dated"]);
                let mut gone = 0;
                // Where the other one is at it there is nothing to do.
                while engine.stats().await.unwrap().keys > 1_000 {
                    gone += engine.sweep(&policy, 1_000).await.unwrap().keys;
                }
                gone
            })
        });
        let mut gone = 0;
        for sweep in sweeps {
            gone += sweep.await.unwrap();
        }
        assert_eq!(gone, 30_000);
        assert_eq!(guest.ask("select count(*) from dedupe").await, 1_000);
    });
}

#[test]
fn a_key_goes_after_its_event_though_sweeps_have_passed_it() {
    let Some(cluster) = counting() else { return };
    runtime().block_on(async {
        let (_, options) = database(cluster).await;
        let clock = StoreClock::manual(conformance::START_MS);
        let engine = opened(PostgresOptions { clock: clock.clone(), ..options }).await;
        let dead = conformance::event(1, &["d"]);
        let done: Vec<NewEvent> = (10..20).map(|n| conformance::event(n, &[])).collect();
        engine.accept(std::slice::from_ref(&dead)).await.unwrap();
        engine.accept(&done).await.unwrap();
        let settle = async |result| {
            for lease in lease(&engine, 10).await.unwrap().leases {
                let settled = [conformance::settlement(&lease, result)];
                engine.settle(&conformance::node(), &settled).await.unwrap();
            }
        };
        settle(LeaseResult::Dead).await;
        clock.advance(HUNDRED_DAYS_MS);
        let sweep = async || {
            let policy = Retention { now_ms: clock.ms(), ..policy(&["s"]) };
            let mut keys = 0;
            for _ in 0..5 {
                keys += engine.sweep(&policy, 1_000).await.unwrap().keys;
            }
            keys
        };
        assert_eq!(sweep().await, 10, "all but the key of the one that is dead");
        let again = conformance::repeat(&dead, 30);
        let answer = engine.accept(std::slice::from_ref(&again)).await.unwrap();
        assert!(matches!(answer[0], Accepted::Duplicate { .. }), "{answer:?}");
        let order = ReplayOrder {
            id: ReplayId::new(clock.ms()),
            what: ReplayWhat::Events(vec![dead.id]),
            targets: Some(vec![TargetId::from("d")]),
            only: None,
        };
        engine.replay(&order, None, 10).await.unwrap();
        settle(LeaseResult::Done).await;
        // That repetition came in for the event's day, which is kept for it.
        clock.advance(HUNDRED_DAYS_MS);
        assert_eq!(sweep().await, 1);
    });
}

#[test]
fn gateways_count_once_for_all_of_them() {
    let Some(cluster) = counting() else { return };
    runtime().block_on(async {
        let (database, options) = database(cluster).await;
        let mut engines = vec![opened(options.clone()).await];
        for _ in 0..3 {
            engines.push(Postgres::open(options.clone()).await.unwrap());
        }
        engines[0].accept(&batch(0, 40)).await.unwrap();
        deliver(&engines[1], 10).await;
        let began = now_ms();
        for _ in 0..25 {
            for engine in &engines {
                let stats = engine.stats().await.unwrap();
                assert_eq!((stats.events, stats.keys, stats.pending), (40, 40, 30));
                assert!(stats.oldest_due.is_some());
            }
        }
        let seconds = (now_ms() - began) / 1_000;
        let counter = counter(cluster).await;
        let (_, counted) = counter.touched(&database, "from delivery group by target").await;
        assert!(counted <= seconds + 2, "counted {counted} times in {seconds} s");
    });
}

#[test]
fn transactions_are_for_commits_and_not_for_events() {
    let Some(cluster) = counting() else { return };
    runtime().block_on(async {
        let (database, options) = database(cluster).await;
        let engine = opened(options).await;
        let guest = Guest::new(cluster, &database).await;
        let used = async || guest.ask("select pg_current_xact_id()::text::bigint").await;
        let before = used().await;
        pass_through(&engine, 0, 10_000).await;
        let used = used().await - before;
        // 20 batches, each accepted, leased and settled; what all tests on this server do beside it
        // is few commits too.
        println!("transactions for 10,000 events in 20 batches: {used}");
        assert!(used < 1_000, "{used}");
        // The tables are set to be frozen early, those of days to come too.
        let sql = "select count(*) from pg_class where relkind = 'r'
            and relnamespace = 'postern'::regnamespace
            and (relname = 'dedupe' or relname ~ '^(event|attempt|replayed)_')
            and not coalesce(reloptions::text like '%autovacuum_freeze_min_age=0%', false)";
        assert_eq!(guest.ask(sql).await, 0);
    });
}

/// Leases and settles as gateways of version 3 do, and answers how many that were.
async fn deliver_as_version_3(guest: &Guest) -> i64 {
    guest
        .ask(
            "with now as (select floor(extract(epoch from now()) * 1000)::bigint as ms), due as (
                select event_id, target from delivery
                where target = 'a' and due_ms <= (select ms from now)
                order by due_ms, event_id limit 100 for update skip locked
            ), held as (
                update delivery d set owner = 'old', token = d.token + 1, attempt = d.attempt + 1
                from due f where d.event_id = f.event_id and d.target = f.target
                returning d.event_id
            ) select count(*) from held",
        )
        .await;
    guest
        .ask(
            "with gone as (delete from delivery where owner = 'old' returning *), said as (
                insert into attempt (event_id, target, token, at_ms, latency_ms, status)
                select event_id, target, token, 0, 1, 200 from gone
            ) select count(*) from gone",
        )
        .await
}

/// Accepts one event as gateways of version 3 do: due when the statement began.
async fn accept_as_version_3(guest: &Guest, n: u64) {
    let event = &batch(n, 1)[0];
    let id = uuid::Uuid::from_bytes(*event.id.as_bytes());
    let key = uuid::Uuid::from_bytes(event.keys.identity[0].0);
    let sql = format!(
        "with fresh as (
            insert into dedupe (k, id, seen_ms, fingerprint, source)
            values ('{key}', '{id}', {ms}, {n}, 's') on conflict do nothing returning id
        ), recorded as (
            insert into event (id, source, tx, transaction, received_ms, test, fingerprint, keys, targets,
                body)
            select id, 's', 1, 't', {ms}, false, {n}, decode(replace('{key}', '-', ''), 'hex'), '{{a}}',
                'body' from fresh
        )
        insert into delivery (event_id, target, due_ms, attempt, token)
        select id, 'a', floor(extract(epoch from now()) * 1000)::bigint, 0, 1 from fresh",
        ms = event.received_ms
    );
    guest.run(&sql).await;
}

#[test]
fn tables_of_version_3_are_upgraded_beside_its_gateways_and_the_way_back_is_open() {
    let Some(cluster) = counting() else { return };
    runtime().block_on(async {
        let (database, options) = database(cluster).await;
        let guest = Guest::new(cluster, &database).await;
        let made = format!(
            "create schema postern;
             create table meta (k text primary key, v bigint not null);
             {} {} {} insert into meta values ('version', 3), ('oldest', 2)",
            include_str!("../../src/ledger/postgres/migrations/0001_ledger.sql"),
            include_str!("../../src/ledger/postgres/migrations/0002_sealing.sql"),
            include_str!("../../src/ledger/postgres/migrations/0003_keys.sql"),
        );
        guest.run(&made).await;
        fill(&guest, "s", 1_000, now_ms() - HUNDRED_DAYS_MS).await;
        let refused = Postgres::open(options.clone()).await.unwrap_err().to_string();
        assert!(refused.contains("run `postern migrate --config FILE`"), "{refused}");
        // An index that was begun and broke off is made again.
        guest.run("create index dedupe_expiry on dedupe (source, seen_ms)").await;
        guest
            .run(
                "update pg_index set indisvalid = false
                where indexrelid = 'dedupe_expiry'::regclass",
            )
            .await;
        let engine = opened(options).await;
        let valid = "select count(*) from pg_index where indisvalid
            and indexrelid in ('dedupe_expiry'::regclass, 'delivery_queue'::regclass)";
        assert_eq!(guest.ask(valid).await, 2);
        let replaced = "select count(*) from pg_class where relname = 'delivery_due'";
        assert_eq!(guest.ask(replaced).await, 0);
        // Both versions at work: each delivers what the other accepted.
        engine.accept(&batch(1, 1)).await.unwrap();
        assert_eq!(deliver_as_version_3(&guest).await, 1);
        pass_through(&engine, 10, 500).await;
        accept_as_version_3(&guest, 5_000).await;
        assert_eq!(deliver(&engine, 10).await, 1);
        let answer = engine.accept(&batch(5_000, 1)).await.unwrap();
        assert!(!matches!(answer[0], Accepted::New), "{answer:?}");
        // Back: the new one stops, and the old one goes on alone, as the tables say it may.
        assert_eq!(guest.ask("select v from meta where k = 'oldest'").await, 3);
        engine.accept(&batch(6_000, 5)).await.unwrap();
        drop(engine);
        assert_eq!(deliver_as_version_3(&guest).await, 5);
    });
}
