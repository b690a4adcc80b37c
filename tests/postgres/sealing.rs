//! Rows under a master key: what is legible without it, and how the key is changed while gateways
//! go on. And tables of the version before, with what was in them.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use postern::ledger::{
    Attempt, DocumentChange, Expect, GatewayReport, HeldBounds, HeldOne, HeldWhy, Item, Keyring,
    Kind, LeaseAsk, LeaseResult, Ledger as _, LogQuery, MasterKey, NewEvent, NodeId, Nonce,
    Postgres, PostgresError, PostgresOptions, Settlement, TargetFilter, conformance,
};

use super::cluster::{Cluster, schema, shared};
use super::engine::{opened, options, runtime};
use super::process::{Setup, eventually};

/// Stands in everything that a sender, a backend or an operator said.
const SECRET: &str = "whisper it softly";
const RULE: Kind = Kind::new("rule");

fn key(n: u8) -> MasterKey {
    MasterKey::new(&[n; 32])
}

fn keys(current: Option<u8>, former: Option<u8>) -> Keyring {
    Keyring::new(current.map(key)).with_former(former.map(key))
}

fn with(cluster: &Cluster, schema: &str, keys: Keyring) -> PostgresOptions {
    PostgresOptions { keys, ..options(cluster, schema) }
}

async fn refused(options: PostgresOptions) -> String {
    let error = Postgres::open(options).await.unwrap_err();
    assert!(matches!(error, PostgresError::Sealed(_)), "{error}");
    error.to_string()
}

fn event(n: u64) -> NewEvent {
    let mut event = conformance::event(n, &["a"]);
    event.transaction = format!("{SECRET} {n}");
    event.user = Some(format!("{SECRET} user {}", n % 7));
    event.body = SECRET.repeat(20).into();
    event
}

/// Events with a dead, a done and a waiting delivery, and a document.
async fn fill(engine: &Postgres, count: u64) -> Vec<NewEvent> {
    let events: Vec<NewEvent> = (0..count).map(event).collect();
    for some in events.chunks(100) {
        engine.accept(some).await.unwrap();
    }
    let node = conformance::node();
    let ask = LeaseAsk { targets: TargetFilter::All, max: 3, ttl: Duration::from_secs(60) };
    let later = LeaseResult::Retry { after: Duration::from_secs(3000) };
    let leases = engine.lease(&node, &ask).await.unwrap().leases;
    let attempt = Attempt {
        status: Some(503),
        head: SECRET.into(),
        error: Some(SECRET.to_owned()),
        ..Attempt::default()
    };
    let results = [LeaseResult::Dead, LeaseResult::Done, later];
    let settled: Vec<Settlement> = leases
        .iter()
        .zip(results)
        .map(|(lease, result)| Settlement {
            attempt: attempt.clone(),
            ..conformance::settlement(lease, result)
        })
        .collect();
    engine.settle(&node, &settled).await.unwrap();
    let change = DocumentChange {
        kind: RULE,
        id: "1".into(),
        expect: Expect::Absent,
        body: Some(SECRET.into()),
        who: SECRET.into(),
        at_ms: 7,
    };
    engine.change(&change).await.unwrap();
    events
}

async fn assert_all(engine: &Postgres, events: &[NewEvent]) {
    let mut attempts = 0;
    for event in events {
        let found = engine.event(event.id).await.unwrap().unwrap();
        assert_eq!(found.event.body, event.body);
        for one in found.deliveries.iter().flat_map(|delivery| &delivery.attempts) {
            assert_eq!((&one.head[..], one.error.as_deref()), (SECRET.as_bytes(), Some(SECRET)));
            attempts += 1;
        }
    }
    assert_eq!(attempts, 3);
    let document = engine.document(RULE, "1").await.unwrap().unwrap();
    assert_eq!((&document.body[..], document.who.as_str()), (SECRET.as_bytes(), SECRET));
    let last = &events[events.len() - 1];
    let query = LogQuery {
        transaction: Some(last.transaction.clone()),
        user: last.user.clone(),
        ..LogQuery::default()
    };
    let found = engine.query(&query, None, 10).await.unwrap().events;
    assert_eq!(found.iter().map(|one| one.id).collect::<Vec<_>>(), [last.id]);
}

/// Whether a dump tells the secret.
fn tells(cluster: &Cluster, schema: &str) -> bool {
    let dump = cluster.dump(schema);
    dump.contains(SECRET) || dump.contains(&const_hex::encode(SECRET))
}

/// How many rows are in clear, or under a key that is not `n`.
fn not_under(cluster: &Cluster, schema: &str, n: u8) -> u64 {
    let prefix = format!("'\\x01{}'::bytea", key(n).id());
    let of = |table: &str, column: &str| {
        format!("select count(*) from {schema}.{table} where substring({column} for 9) <> {prefix}")
    };
    let pieces = [("event", "body"), ("attempt", "said"), ("document", "body"), ("held", "body")];
    pieces
        .iter()
        .map(|(table, column)| -> u64 { cluster.ask(&of(table, column)).parse().unwrap() })
        .sum()
}

async fn items(engine: &Postgres) -> Vec<Item> {
    let (mut items, mut cursor) = (Vec::new(), None);
    loop {
        let page = engine.export(cursor.as_ref(), 1 << 20).await.unwrap();
        items.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return items;
        }
    }
}

#[test]
fn a_dump_of_sealed_tables_tells_nothing() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        for (ring, told) in [(keys(None, None), true), (keys(Some(1), None), false)] {
            let schema = schema();
            let engine = opened(with(cluster, &schema, ring)).await;
            let events = fill(&engine, 20).await;
            assert_eq!(tells(cluster, &schema), told);
            assert_all(&engine, &events).await;
        }
    });
}

#[test]
fn sealed_tables_open_with_their_key_alone() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        // One that has no key was there before, and can't go on.
        let before = opened(with(cluster, &schema, keys(None, None))).await;
        let mut early = event(900);
        early.targets.clear();
        before.accept(&[early]).await.unwrap();
        let engine = opened(with(cluster, &schema, keys(Some(1), None))).await;
        let events = fill(&engine, 20).await;
        let why = loop {
            if let Some(why) = before.health().await.unwrap().stopped {
                break why;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(why.contains("set POSTERN_MASTER_KEY to that key"), "{why}");
        let late = event(901);
        before.accept(std::slice::from_ref(&late)).await.unwrap_err();
        assert!(engine.event(late.id).await.unwrap().is_none());

        let said = refused(with(cluster, &schema, keys(None, None))).await;
        let id = key(1).id();
        let sentence =
            format!("the database is sealed (key {id}); set POSTERN_MASTER_KEY to that key");
        assert_eq!(said, sentence);
        let said = refused(with(cluster, &schema, keys(Some(2), None))).await;
        assert!(said.contains(&format!("sealed with key {id}, which is not at hand")), "{said}");
        // The command says the same.
        let setup = Setup { url: cluster.url(), schema: schema.clone(), backend: None, more: "" };
        let serve = setup.run("serve");
        let said = String::from_utf8(serve.stderr).unwrap();
        assert!(serve.status.code() == Some(1) && said.contains(&sentence), "{said}");

        let again = opened(with(cluster, &schema, keys(Some(1), None))).await;
        assert_all(&again, &events).await;
    });
}

#[test]
fn of_two_keys_at_one_new_database_one_wins() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        Postgres::migrate(&options(cluster, &schema), &mut |_| {}).await.unwrap();
        let open = |n| Postgres::open(with(cluster, &schema, keys(Some(n), None)));
        let (one, two) = tokio::join!(open(1), open(2));
        assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1);
        let lost = one.err().or(two.err()).unwrap();
        assert!(matches!(lost, PostgresError::Sealed(_)), "{lost}");
    });
}

#[test]
fn the_key_is_changed_while_gateways_go_on() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let mut events = {
            let engine = opened(with(cluster, &schema, keys(Some(1), None))).await;
            fill(&engine, 700).await
        };
        let stop = Arc::new(AtomicBool::new(false));
        let mut gateways = Vec::new();
        for number in 1..=2 {
            let engine = opened(with(cluster, &schema, keys(Some(2), Some(1)))).await;
            let stop = Arc::clone(&stop);
            gateways.push(tokio::spawn(async move {
                let mut accepted = Vec::new();
                for n in 0.. {
                    let one = event(number * 1_000_000 + n);
                    engine.accept(std::slice::from_ref(&one)).await.unwrap();
                    accepted.push(one);
                    // A few behind the end of it, too.
                    if stop.load(Ordering::Relaxed) && n > 20 {
                        break;
                    }
                }
                accepted
            }));
        }
        let mut told = 0;
        let both = with(cluster, &schema, keys(Some(2), Some(1)));
        let done = Postgres::rekey(both, &mut |rows| told = rows).await.unwrap();
        assert!(done >= 700 && told == done, "{done} {told}");
        stop.store(true, Ordering::Relaxed);
        for gateway in gateways {
            events.extend(gateway.await.unwrap());
        }
        assert_eq!(not_under(cluster, &schema, 2), 0);
        assert!(refused(with(cluster, &schema, keys(Some(1), None))).await.contains("not at hand"));
        let engine = opened(with(cluster, &schema, keys(Some(2), None))).await;
        assert_all(&engine, &events).await;
        let again = with(cluster, &schema, keys(Some(2), None));
        assert_eq!(Postgres::rekey(again, &mut |_| {}).await.unwrap(), 0);
        drop(engine);
        // And away with it.
        let unsealed = with(cluster, &schema, keys(None, Some(2)));
        assert!(Postgres::rekey(unsealed, &mut |_| {}).await.unwrap() > 700);
        assert!(tells(cluster, &schema));
        let engine = opened(with(cluster, &schema, keys(None, None))).await;
        assert_all(&engine, &events).await;
    });
}

/// 1. A gateway without the new key is at work: the key is not changed.
/// 2. It is started again with both keys: the key is changed.
#[test]
fn the_key_is_not_changed_while_a_gateway_lacks_the_new_one() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let (who, ttl) = (NodeId::from("one"), Duration::from_secs(60));
        let engine = opened(with(cluster, &schema, keys(Some(1), None))).await;
        engine.accept(&[event(1)]).await.unwrap();
        let slot = engine.join(&who, ttl).await.unwrap().slot;
        let both = || with(cluster, &schema, keys(Some(2), Some(1)));
        let refused = Postgres::rekey(both(), &mut |_| {}).await.unwrap_err();
        assert!(matches!(refused, PostgresError::GatewaysLackKey { count: 1 }), "{refused}");
        assert_eq!(not_under(cluster, &schema, 1), 0);
        engine.accept(&[event(2)]).await.unwrap();
        let end = GatewayReport { slot, who: who.clone(), ttl: Duration::ZERO, body: Bytes::new() };
        engine.report(&end).await.unwrap().unwrap();
        drop(engine);
        let engine = opened(both()).await;
        engine.join(&who, ttl).await.unwrap();
        assert_eq!(Postgres::rekey(both(), &mut |_| {}).await.unwrap(), 2);
        assert_eq!(not_under(cluster, &schema, 2), 0);
    });
}

/// 1. A callback is held: it is sealed under the old key, and waits for a row before its commit.
/// 2. The key is changed meanwhile: the change waits for that callback.
#[test]
fn a_callback_that_is_held_while_the_key_changes_is_not_missed() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        drop(opened(with(cluster, &schema, keys(Some(1), None))).await);
        let both = with(cluster, &schema, keys(Some(2), Some(1)));
        let engine = opened(both.clone()).await;
        let held = [1, 2].map(|n| conformance::held(n, HeldWhy::Conflict, None));
        engine.hold(&held[0], HeldBounds::default()).await.unwrap();
        let (client, connection) =
            tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let row = client.query_one("select pg_backend_pid()", &[]).await.unwrap();
        let process: i32 = row.get(0);
        let keep = format!("begin; select 1 from {schema}.held_sum for update");
        client.batch_execute(&keep).await.unwrap();
        let (own, second) = (engine.clone(), held[1].clone());
        let holding = tokio::spawn(async move { own.hold(&second, HeldBounds::default()).await });
        eventually("it waits", || {
            let waiting = format!("where {process} = any(pg_blocking_pids(pid))");
            cluster.ask(&format!("select count(*) from pg_stat_activity {waiting}")) == "1"
        });
        let mut tell = |_| {};
        let (rekeyed, ()) = tokio::join!(Postgres::rekey(both, &mut tell), async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            client.batch_execute("rollback").await.unwrap();
        });
        rekeyed.unwrap();
        holding.await.unwrap().unwrap();
        assert_eq!(not_under(cluster, &schema, 2), 0);
        let engine = opened(with(cluster, &schema, keys(Some(2), None))).await;
        for one in &held {
            let found = engine.held_one(one.id).await.unwrap();
            assert!(matches!(found, Some(HeldOne::Waiting(_))), "{found:?}");
        }
    });
}

#[test]
fn a_change_of_the_key_that_was_killed_goes_on() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let events = {
            let engine = opened(with(cluster, &schema, keys(Some(1), None))).await;
            fill(&engine, 1200).await
        };
        // Another session locks a row of the second step.
        let (client, connection) =
            tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let held = uuid::Uuid::from_bytes(*events[700].id.as_bytes());
        let hold = format!("begin; select 1 from {schema}.event where id = '{held}' for update");
        client.batch_execute(&hold).await.unwrap();

        let setup = Setup { url: cluster.url(), schema: schema.clone(), backend: None, more: "" };
        let rekey = || {
            let (folder, mut program) = setup.command("rekey");
            program
                .env("POSTERN_MASTER_KEY", "02".repeat(32))
                .env("POSTERN_OLD_MASTER_KEY", "01".repeat(32));
            (folder, program)
        };
        let (_folder, mut program) = rekey();
        let mut child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("a step is done", || not_under(cluster, &schema, 2) < 1200);
        child.kill().unwrap();
        child.wait().unwrap();
        client.batch_execute("rollback").await.unwrap();
        assert!(not_under(cluster, &schema, 2) >= 200);

        for ring in [keys(Some(1), None), keys(Some(2), None)] {
            refused(with(cluster, &schema, ring)).await;
        }
        let engine = opened(with(cluster, &schema, keys(Some(2), Some(1)))).await;
        assert_all(&engine, &events).await;
        drop(engine);
        let (_folder, mut program) = rekey();
        let output = program.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.ends_with("rows are sealed with POSTERN_MASTER_KEY\n"), "{said}");
        assert_eq!(not_under(cluster, &schema, 2), 0);
        let (_folder, mut program) = rekey();
        let output = program.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "everything was so already\n");
        let engine = opened(with(cluster, &schema, keys(Some(2), None))).await;
        assert_all(&engine, &events).await;
    });
}

#[test]
fn items_go_between_sealed_and_unsealed_tables_and_stay_the_same() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let from = opened(with(cluster, &schema(), keys(Some(1), None))).await;
        let events = fill(&from, 300).await;
        let mut all = items(&from).await;
        for ring in [keys(None, None), keys(Some(2), None), keys(None, None)] {
            let schema = schema();
            let sealed = ring.current().is_some();
            let to = opened(with(cluster, &schema, ring)).await;
            let imported = to.import(all.clone()).await.unwrap();
            assert_eq!((imported.taken, imported.known), (all.len() as u64, 0));
            assert_eq!(tells(cluster, &schema), !sealed);
            let copied = items(&to).await;
            assert_eq!(copied.len(), all.len());
            for (one, copy) in all.iter().zip(&copied) {
                assert_eq!(format!("{one:?}"), format!("{copy:?}"));
            }
            all = copied;
        }
        assert_eq!(events.len() + 1, all.len());
    });
}

/// Data of a gateway of version 1: an event whose delivery is dead, one that waits, a
/// document, a nonce, and a key whose event is gone.
fn version_1(cluster: &Cluster, schema: &str, event: &NewEvent, waits: &NewEvent) {
    let hex = |bytes: &[u8]| format!("'\\x{}'::bytea", const_hex::encode(bytes));
    let mut sql = format!(
        "begin; create schema {schema}; set search_path to {schema};
         create table meta (k text primary key, v bigint not null);
         {} insert into meta (k, v) values ('version', 1), ('oldest', 1);
         insert into day values (20455);
         create table event_20260102 partition of event default;
         create table attempt_20260102 partition of attempt default;
         create table replayed_20260102 partition of replayed default;",
        include_str!("../../src/ledger/postgres/migrations/0001_ledger.sql")
    );
    for one in [event, waits] {
        let id = uuid::Uuid::from_bytes(*one.id.as_bytes());
        let hash8 = |text: &str| {
            use sha2::{Digest as _, Sha256};
            let digest = Sha256::digest(text.as_bytes());
            i64::from_le_bytes(digest[..8].try_into().unwrap())
        };
        let user = one.user.as_deref().unwrap();
        sql += &format!(
            "insert into dedupe values ({k}, '{id}', {ms}, {print}, '{source}', null);
             insert into event values ('{id}', '{source}', {tx}, {transaction}, {usr}, {player},
                {ms}, false, {print}, {k}, '{{a}}', {body});",
            k = hex(&one.keys.identity[0].0),
            ms = one.received_ms,
            print = one.fingerprint.0.cast_signed(),
            source = one.source.as_str(),
            tx = hash8(&one.transaction),
            transaction = hex(one.transaction.as_bytes()),
            usr = hash8(user),
            player = hex(user.as_bytes()),
            body = hex(&one.body),
        );
    }
    let (dead, waits) = [event, waits].map(|one| uuid::Uuid::from_bytes(*one.id.as_bytes())).into();
    sql += &format!(
        "insert into attempt values ('{dead}', 'a', 5, 77, 3, 503, {said}, {said});
         insert into dead values ('{dead}', 'a', 1, 78);
         insert into delivery values ('{waits}', 'a', 0, 0, 1024, null);
         insert into document values ('rule', 'rule-1', 1, 7, {said}, {said});
         update meta set v = 1 where k = 'revision';
         insert into nonce values ({nonce}, 9000000000000);
         insert into dedupe values ({past}, '{past_id}', 1, 1, 'level-end', null);
         commit",
        said = hex(SECRET.as_bytes()),
        nonce = hex(&conformance::key(50).0),
        past = hex(&conformance::key(60).0),
        past_id = uuid::Uuid::from_bytes(*conformance::event(60, &[]).id.as_bytes()),
    );
    cluster.ask(&sql);
}

#[test]
fn tables_of_the_version_before_are_migrated_with_what_is_in_them() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let (dead, waits) = (event(1), event(2));
        version_1(cluster, &schema, &dead, &waits);
        let options = with(cluster, &schema, keys(None, None));
        let old = Postgres::open(options.clone()).await.unwrap_err().to_string();
        assert!(old.contains("run `postern migrate --config FILE`"), "{old}");
        let engine = opened(options.clone()).await;
        let check = async |engine: &Postgres| {
            for one in [&dead, &waits] {
                let found = engine.event(one.id).await.unwrap().unwrap();
                assert_eq!(found.event.body, one.body);
                let query = LogQuery {
                    transaction: Some(one.transaction.clone()),
                    user: one.user.clone(),
                    ..LogQuery::default()
                };
                let found = engine.query(&query, None, 10).await.unwrap().events;
                assert_eq!(found.iter().map(|one| one.id).collect::<Vec<_>>(), [one.id]);
            }
            let attempt = &engine.event(dead.id).await.unwrap().unwrap().deliveries[0].attempts[0];
            assert_eq!(
                (&attempt.head[..], attempt.error.as_deref()),
                (SECRET.as_bytes(), Some(SECRET))
            );
            let document = engine.document(RULE, "rule-1").await.unwrap().unwrap();
            assert_eq!((&document.body[..], document.who.as_str()), (SECRET.as_bytes(), SECRET));
        };
        check(&engine).await;
        assert!(engine.may_hold_older_keys().await.unwrap());
        // Known keys are known, and nonces used.
        let again = [1, 2, 60].map(|n| {
            let mut event = event(n);
            event.id = self::event(n + 100).id;
            event
        });
        let answers = engine.accept(&again).await.unwrap();
        assert!(answers.iter().all(|one| *one != postern::ledger::Accepted::New), "{answers:?}");
        let nonce = Nonce { key: conformance::key(50), expires_ms: 9_000_000_000_001 };
        let used = engine.check_nonces(&[nonce]).await.unwrap();
        assert_eq!(used, [postern::ledger::NonceUse::Repeated]);
        let items = items(&engine).await;
        assert_eq!(items.len(), 5, "{items:?}");
        let ask = LeaseAsk { targets: TargetFilter::All, max: 3, ttl: Duration::ZERO };
        let leases = engine.lease(&conformance::node(), &ask).await.unwrap().leases;
        assert_eq!(leases.iter().map(|one| &one.body).collect::<Vec<_>>(), [&waits.body]);
        drop(engine);
        // And sealed, all of it.
        let sealed = with(cluster, &schema, keys(Some(1), None));
        assert_eq!(Postgres::rekey(sealed.clone(), &mut |_| {}).await.unwrap(), 4);
        assert!(!tells(cluster, &schema));
        check(&opened(sealed).await).await;
    });
}
