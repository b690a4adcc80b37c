//! The engine, by itself: what every engine is held to, and races between two of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern::ledger::{
    Accepted, DocumentChange, EventId, Expect, Fingerprint, Kind, LeaseAsk, LeaseResult,
    Ledger as _, LedgerError, LogQuery, NewEvent, Postgres, PostgresOptions, Retention, Settlement,
    StoreClock, TargetFilter, conformance,
};
use postern::sender::Secret;

use super::cluster::{Cluster, is_there, schema, shared};
use super::process::PATIENCE;

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub fn options(cluster: &Cluster, schema: &str) -> PostgresOptions {
    let mut options = PostgresOptions::new(Secret::new(cluster.url()));
    schema.clone_into(&mut options.schema);
    options
}

pub async fn opened(options: PostgresOptions) -> Postgres {
    Postgres::migrate(&options, &mut |_| {}).await.unwrap();
    Postgres::open(options).await.unwrap()
}

#[test]
fn it_conforms() {
    let Some(cluster) = shared() else { return };
    let runtime = runtime();
    runtime.block_on(async {
        let handle = tokio::runtime::Handle::current();
        let schemas = Arc::new(Mutex::new(Vec::new()));
        let used = Arc::clone(&schemas);
        let suite = tokio::spawn(conformance::all(move |clock: StoreClock| {
            let schema = schema();
            used.lock().unwrap().push(schema.clone());
            let options = PostgresOptions { clock, ..options(cluster, &schema) };
            tokio::task::block_in_place(|| handle.block_on(opened(options)))
        }));
        suite.await.unwrap();
        let held: usize =
            schemas.lock().unwrap().iter().map(|one| sums_of_held(cluster, one)).sum();
        assert!(held > 0, "none of the suite's stores holds anything");
    });
}

/// Checks the sums of what is held against what is there; their number.
pub fn sums_of_held(cluster: &Cluster, schema: &str) -> usize {
    let counted = cluster.ask(&format!(
        "select k.anchor, source, why, count(*), count(*) filter (where decision is null),
            coalesce(sum(size) filter (where decision is null), 0)::bigint
         from {schema}.held h cross join lateral (values (h.anchor), ('{NIL}'::uuid)) as k(anchor)
         where why <> 3 group by 1, 2, 3 order by 1, 2, 3"
    ));
    let kept = cluster.ask(&format!(
        "select anchor, source, why, variants, waiting, bytes from {schema}.held_sum
         where variants <> 0 order by 1, 2, 3"
    ));
    assert_eq!(kept, counted, "{schema}");
    kept.lines().count()
}

/// The sums of a whole source are under this anchor.
const NIL: &str = "00000000-0000-0000-0000-000000000000";

#[test]
fn a_change_on_one_engine_is_seen_by_the_other() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let (one, other) =
            (opened(options(cluster, &schema)).await, opened(options(cluster, &schema)).await);
        let kind = Kind::new("rule");
        let mut seen = other.documents(kind).await.unwrap().revision;
        let mut expect = Expect::Absent;
        for number in 0..5 {
            let change = DocumentChange {
                kind,
                id: "1".into(),
                expect,
                body: Some(format!("body {number}").into()),
                who: "me".into(),
                at_ms: 7,
            };
            let written = one.change(&change).await.unwrap();
            expect = Expect::Version(written);
            while seen < written {
                seen = other.changed(seen, PATIENCE).await.unwrap();
            }
            let found = other.document(kind, "1").await.unwrap().unwrap();
            assert_eq!(found.body, format!("body {number}"));
        }
    });
}

#[test]
fn of_many_writers_of_one_document_one_wins() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let engines =
            [opened(options(cluster, &schema)).await, opened(options(cluster, &schema)).await];
        let writers = (0..20).map(|number: usize| {
            let engine = engines[number % 2].clone();
            tokio::spawn(async move {
                let change = DocumentChange {
                    kind: Kind::new("rule"),
                    id: "1".into(),
                    expect: Expect::Absent,
                    body: Some("x".into()),
                    who: format!("writer {number}"),
                    at_ms: 7,
                };
                engine.change(&change).await
            })
        });
        let (mut won, mut lost) = (0, 0);
        for writer in writers.collect::<Vec<_>>() {
            match writer.await.unwrap() {
                Ok(_) => won += 1,
                Err(LedgerError::Conflict { current: Some(_) }) => lost += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((won, lost), (1, 19));
    });
}

/// An event of the days that there are partitions for, with these keys.
fn event(keys: &[u64]) -> NewEvent {
    let mut event = conformance::event(keys[0], &["a"]);
    event.received_ms = postern::clock::now_ms();
    event.id = EventId::new(event.received_ms);
    event.keys = keys.iter().map(|key| conformance::key(*key)).collect();
    event
}

#[test]
fn of_events_that_share_an_identity_one_is_recorded_and_gets_the_keys_of_the_others() {
    const ROUNDS: u64 = 150;
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let engines =
            [opened(options(cluster, &schema)).await, opened(options(cluster, &schema)).await];
        // Each round `a, b` races `b, c` and `c, a`: exactly one can be fresh, and it takes two
        // keys. Batches of several rounds meet with their keys in one order.
        let offer = |engine: usize, turn: u64| {
            let engine = engines[engine].clone();
            let batch: Vec<NewEvent> = (0..ROUNDS)
                .map(|round| {
                    let mut event = event(&[3 * round + turn, 3 * round + (turn + 1) % 3]);
                    event.fingerprint = Fingerprint(round);
                    event
                })
                .collect();
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for some in batch.chunks(10) {
                    answers.extend(engine.accept(some).await.unwrap());
                }
                (batch, answers)
            })
        };
        let offers = [offer(0, 0), offer(1, 1), offer(0, 2)];
        let mut fresh = HashMap::new();
        let mut duplicates = Vec::new();
        for offer in offers {
            let (batch, answers) = offer.await.unwrap();
            for (round, (event, answer)) in batch.into_iter().zip(answers).enumerate() {
                match answer {
                    Accepted::New => assert!(fresh.insert(round, event).is_none(), "{round}"),
                    Accepted::Duplicate { first, .. } => duplicates.push((round, first)),
                    other => panic!("{round}: {other:?}"),
                }
            }
        }
        assert_eq!((fresh.len(), duplicates.len()), (ROUNDS as usize, 2 * ROUNDS as usize));
        assert!(duplicates.iter().all(|(round, first)| fresh[round].id == *first));
        // The third key of each round belongs to the same event.
        for (round, first) in &fresh {
            for turn in 0..3 {
                let mut again = event(&[3 * *round as u64 + turn]);
                again.fingerprint = first.fingerprint;
                let answer = engines[0].accept(&[again]).await.unwrap();
                let same =
                    matches!(answer[0], Accepted::Duplicate { first: id, .. } if id == first.id);
                assert!(same, "{answer:?}");
            }
        }
    });
}

#[test]
fn of_events_that_share_a_signature_one_is_recorded_and_the_others_leave_nothing() {
    const ROUNDS: u64 = 150;
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let engines =
            [opened(options(cluster, &schema)).await, opened(options(cluster, &schema)).await];
        // Re-cuts of one text: other identities under one signature, three at once.
        let recut = |turn: u64, round: u64| {
            let mut event = event(&[3 * round + turn]);
            event.keys.signatures = [conformance::key(1_000_000 + round)].into();
            event
        };
        let offer = |engine: usize, turn: u64| {
            let engine = engines[engine].clone();
            let batch: Vec<NewEvent> = (0..ROUNDS).map(|round| recut(turn, round)).collect();
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for some in batch.chunks(10) {
                    answers.extend(engine.accept(some).await.unwrap());
                }
                (batch, answers)
            })
        };
        let mut fresh = HashMap::new();
        let mut held = Vec::new();
        for offer in [offer(0, 0), offer(1, 1), offer(0, 2)] {
            let (batch, answers) = offer.await.unwrap();
            for (round, (event, answer)) in batch.into_iter().zip(answers).enumerate() {
                match answer {
                    Accepted::New => assert!(fresh.insert(round, event).is_none(), "{round}"),
                    Accepted::Ambiguous { first, .. } => held.push((round, first, event)),
                    other => panic!("{round}: {other:?}"),
                }
            }
        }
        assert_eq!((fresh.len(), held.len()), (ROUNDS as usize, 2 * ROUNDS as usize));
        for (round, first, mut event) in held {
            assert_eq!(fresh[&round].id, first);
            // Its own identity belongs to no event.
            event.keys.signatures.clear();
            assert_eq!(engines[1].accept(&[event]).await.unwrap(), [Accepted::New]);
        }
        // A repetition under another signature, at both gateways, while a re-cut of that races it:
        // the repetition is a duplicate, and the re-cut is new or held, but nothing is lost.
        for (round, first) in &fresh {
            let signature = conformance::key(2_000_000 + *round as u64);
            let [mut one, mut two] = [first.clone(), first.clone()];
            let mut cut = event(&[5_000_000 + *round as u64]);
            for event in [&mut one, &mut two, &mut cut] {
                event.id = EventId::new(event.received_ms);
                event.keys.signatures = [signature].into();
            }
            let (one, two, cut) = tokio::join!(
                engines[0].accept(std::slice::from_ref(&one)),
                engines[1].accept(std::slice::from_ref(&two)),
                engines[1].accept(std::slice::from_ref(&cut)),
            );
            for answer in [one.unwrap(), two.unwrap()] {
                let same =
                    matches!(answer[0], Accepted::Duplicate { first: id, .. } if id == first.id);
                assert!(same, "{answer:?}");
            }
            let answer = cut.unwrap();
            let right = match answer[0] {
                Accepted::New => true,
                Accepted::Ambiguous { first: id, .. } => id == first.id,
                _ => false,
            };
            assert!(right, "{answer:?}");
        }
    });
}

#[test]
fn texts_that_the_server_could_not_store_or_index_are_kept_to_the_byte() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let engine = opened(options(cluster, &schema())).await;
        let mut odd = event(&[1]);
        odd.transaction = format!("nul\0{}", "x".repeat(20_000));
        odd.user = Some("\0".to_owned());
        let mut empty = event(&[2]);
        (empty.transaction, empty.user) = (String::new(), Some(String::new()));
        let answers = engine.accept(&[odd.clone(), empty.clone(), event(&[3])]).await.unwrap();
        assert_eq!(answers, [Accepted::New, Accepted::New, Accepted::New]);
        for one in [odd, empty] {
            let by_both = LogQuery {
                transaction: Some(one.transaction),
                user: one.user,
                ..LogQuery::default()
            };
            let found = engine.query(&by_both, None, 10).await.unwrap().events;
            assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [one.id]);
        }
    });
}

#[test]
fn a_day_that_is_over_is_dropped_and_its_keys_stay() {
    const DAY: Duration = Duration::from_secs(86_400);
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let (schema, clock) = (schema(), StoreClock::manual(conformance::START_MS));
        let own = PostgresOptions { clock: clock.clone(), ..options(cluster, &schema) };
        let (one, other) = (opened(own.clone()).await, opened(own).await);
        let done: Vec<NewEvent> = (0..50).map(|n| conformance::event(n, &["a"])).collect();
        one.accept(&done).await.unwrap();
        let ask = LeaseAsk { targets: TargetFilter::All, max: 50, ttl: Duration::from_secs(30) };
        let node = conformance::node();
        let leases = one.lease(&node, &ask).await.unwrap().leases;
        let settled: Vec<Settlement> =
            leases.iter().map(|lease| conformance::settlement(lease, LeaseResult::Done)).collect();
        one.settle(&node, &settled).await.unwrap();
        let tables = format!(
            "select count(*) from pg_class where relnamespace = '{schema}'::regnamespace
                and relname in ('event_20260102', 'attempt_20260102', 'replayed_20260102')"
        );
        assert_eq!(cluster.ask(&tables), "3");
        clock.advance(32 * 86_400_000);
        let policy = Retention {
            now_ms: clock.ms(),
            keep_events: 30 * DAY,
            keep_keys: conformance::keep(&["s"], 90 * DAY),
            held: postern::ledger::HeldRetention::default(),
        };
        // Both sweep at once, as gateways do.
        let (swept, too) = tokio::join!(one.sweep(&policy, 1000), other.sweep(&policy, 1000));
        let (swept, too) = (swept.unwrap(), too.unwrap());
        assert_eq!((swept.events + too.events, swept.keys + too.keys), (50, 0));
        assert_eq!(cluster.ask(&tables), "0");
        assert!(one.event(done[0].id).await.unwrap().is_none());
        let again = conformance::repeat(&done[7], 60);
        let answer = other.accept(std::slice::from_ref(&again)).await.unwrap();
        assert!(matches!(answer[0], Accepted::Duplicate { first, .. } if first == done[7].id));
        // A late event of a dropped day creates that day again.
        let late = conformance::event(70, &["a"]);
        assert_eq!(other.accept(&[late]).await.unwrap(), [Accepted::New]);
        assert_eq!(one.accept(&[conformance::event(71, &[])]).await.unwrap(), [Accepted::New]);
        // And in the end the keys go too.
        clock.advance(60 * 86_400_000);
        let policy = Retention { now_ms: clock.ms(), ..policy };
        assert!(one.sweep(&policy, 1000).await.unwrap().keys >= 50);
    });
}

#[test]
fn a_server_with_a_certificate_is_verified() {
    if !is_there() {
        return;
    }
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let cluster = Cluster::start_with_tls(&cert, &key);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, cert).unwrap();
    runtime().block_on(async {
        let url = cluster.url().replace("127.0.0.1", "localhost") + "?sslmode=verify-full";
        let options = PostgresOptions::new(Secret::new(url));
        let refused = Postgres::migrate(&options, &mut |_| {}).await.unwrap_err().to_string();
        assert!(refused.contains("certificate"), "{refused}");
        let engine = opened(PostgresOptions { ca: Some(ca), ..options }).await;
        let answer = engine.accept(&[event(&[1])]).await.unwrap();
        assert_eq!(answer, [Accepted::New]);
        let sql = "select count(*) > 0 from pg_stat_ssl s join pg_stat_activity a using (pid)
            where s.ssl and a.application_name = 'postern'";
        assert_eq!(cluster.ask(sql), "t");
    });
}
