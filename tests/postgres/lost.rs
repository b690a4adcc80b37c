//! Connections that are lost around a commit: whether it took effect is unknown then, and what is
//! retried under the same ids takes effect once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use postern::ledger::{
    Accepted, Decided, Decision, HeldBounds, HeldOrder, HeldWhy, HoldOutcome, LeaseAsk,
    LeaseResult, Ledger as _, Postgres, PostgresOptions, Settled, TargetFilter, conformance,
};
use postern::sender::Secret;

use super::cluster::{Cluster, schema, shared};
use super::engine::{opened, options, runtime};
use super::gateways::check;
use super::process::{Backend, Gateway, Load, Setup};
use super::proxy::{Cut, Proxy};

const RECORD: &str = "insert into dedupe";
const SETTLE: &str = "delete from delivery d using found";

fn url(proxy: &Proxy) -> String {
    format!("postgres://postern@{}/postgres?sslmode=disable", proxy.at)
}

async fn through(proxy: &Proxy, cluster: &Cluster, schema: &str) -> Postgres {
    opened(PostgresOptions { url: Secret::new(url(proxy)), ..options(cluster, schema) }).await
}

#[test]
fn a_commit_whose_answer_was_lost_is_fresh_once() {
    let Some(cluster) = shared() else { return };
    let proxy = Proxy::start(&cluster.host());
    runtime().block_on(async {
        let schema = schema();
        let engine = through(&proxy, cluster, &schema).await;
        let other = opened(options(cluster, &schema)).await;
        for (round, cut) in [Cut::Before, Cut::After].into_iter().enumerate() {
            let first = 100 * round as u64;
            let batch: Vec<_> =
                (first..first + 20).map(|n| conformance::event(n, &["a"])).collect();
            proxy.cut_once(RECORD, cut);
            assert_eq!(engine.accept(&batch).await.unwrap(), vec![Accepted::New; 20], "{cut:?}");
            assert_eq!(proxy.cuts.load(Ordering::Relaxed), round + 1);
            // A later callback with the same keys, on any gateway, is a duplicate of these.
            let again = conformance::repeat(&batch[7], first + 50);
            let answer = other.accept(std::slice::from_ref(&again)).await.unwrap();
            assert!(matches!(answer[0], Accepted::Duplicate { first, .. } if first == batch[7].id));
            for table in ["event", "dedupe", "delivery"] {
                let rows = cluster.ask(&format!("select count(*) from {schema}.{table}"));
                assert_eq!(rows, (20 * (round + 1)).to_string(), "{table} {cut:?}");
            }
        }
    });
    assert_eq!(proxy.cancels.load(Ordering::Relaxed), 0);
}

#[test]
fn a_settlement_whose_answer_was_lost_is_applied_once() {
    let Some(cluster) = shared() else { return };
    let proxy = Proxy::start(&cluster.host());
    runtime().block_on(async {
        let schema = schema();
        let engine = through(&proxy, cluster, &schema).await;
        let node = conformance::node();
        for (round, cut) in [Cut::Before, Cut::After].into_iter().enumerate() {
            engine.accept(&[conformance::event(round as u64, &["a"])]).await.unwrap();
            let ask = LeaseAsk { targets: TargetFilter::All, max: 9, ttl: Duration::from_secs(60) };
            let leases = engine.lease(&node, &ask).await.unwrap().leases;
            assert_eq!(leases.len(), 1);
            proxy.cut_once(SETTLE, cut);
            let settled = engine
                .settle(&node, &[conformance::settlement(&leases[0], LeaseResult::Done)])
                .await;
            assert_eq!(settled.unwrap(), [Settled::Applied], "{cut:?}");
            assert_eq!(proxy.cuts.load(Ordering::Relaxed), round + 1);
            let attempts = cluster.ask(&format!("select count(*) from {schema}.attempt"));
            assert_eq!(attempts, (round + 1).to_string());
        }
    });
    assert_eq!(proxy.cancels.load(Ordering::Relaxed), 0);
}

#[test]
fn a_callback_is_held_and_decided_once_when_answers_are_lost() {
    const PLACES: [(&str, Cut); 4] = [
        ("insert into held (", Cut::Before),
        ("insert into held (", Cut::After),
        ("commit", Cut::Before),
        ("commit", Cut::After),
    ];
    let Some(cluster) = shared() else { return };
    let proxy = Proxy::start(&cluster.host());
    runtime().block_on(async {
        let schema = schema();
        let engine = through(&proxy, cluster, &schema).await;
        for (n, (text, cut)) in (0..).zip(PLACES) {
            let held = conformance::held(n, HeldWhy::Conflict, None);
            proxy.cut_once(text, cut);
            let outcome = engine.hold(&held, HeldBounds::default()).await.unwrap();
            assert_eq!(outcome, HoldOutcome::Held(held.id), "{text} {cut:?}");
            let order = HeldOrder {
                id: held.id,
                decision: Decision::Release,
                at_ms: conformance::START_MS,
                event: None,
            };
            proxy.cut_once(text, cut);
            let decided = engine.decide(&order).await.unwrap();
            // What was committed and whose answer was lost is found decided by the second try.
            let (Decided::Done(mark) | Decided::Already(mark)) = &decided else {
                panic!("{text} {cut:?}: {decided:?}")
            };
            assert_eq!(mark.event, Some(held.event.id));
            let rows = (n + 1).to_string();
            for table in ["held", "event", "delivery", "dedupe"] {
                let found = cluster.ask(&format!("select count(*) from {schema}.{table}"));
                assert_eq!(found, rows, "{table}: {text} {cut:?}");
            }
        }
    });
    assert_eq!(proxy.cancels.load(Ordering::Relaxed), 0);
}

#[test]
fn a_gateway_whose_commits_are_cut_loses_nothing_and_accepts_nothing_twice() {
    let Some(cluster) = shared() else { return };
    let proxy = Proxy::start(&cluster.host());
    let backend = Backend::start();
    let setup = Setup { url: url(&proxy), schema: schema(), backend: Some(backend.at), more: "" };
    setup.migrate();
    let gateway = Gateway::start(&setup);
    let mut records = 0;
    proxy.plan(move |sql| {
        records += usize::from(sql.contains(RECORD));
        match records % 14 {
            _ if !sql.contains(RECORD) => None,
            6 => Some(Cut::Before),
            13 => Some(Cut::After),
            _ => None,
        }
    });
    let load = Load::start(&[gateway.callbacks]);
    load.go_on(300);
    let answered = load.end();
    proxy.plan(|_| None);
    assert!(proxy.cuts.load(Ordering::Relaxed) > 4);
    backend.await_once_each(&answered);
    check(&cluster.url(), &setup.schema, &answered);
    // If the sender timed out before the second try, no reply says that the callback is accepted.
    let recorded = cluster.ask(&format!("select count(*) from {}.event", setup.schema));
    let accepted = gateway.outcomes("accepted");
    assert!(accepted <= recorded.parse().unwrap(), "{accepted} of {recorded}");
    assert_eq!(proxy.cancels.load(Ordering::Relaxed), 0);
}
