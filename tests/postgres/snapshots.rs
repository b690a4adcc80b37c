//! Dead rows under an old snapshot, and statistics that count none of them: neither makes anything
//! slower.

use std::time::Duration;

use postern::ledger::{LeaseResult, Ledger as _, LogQuery, conformance};

use super::engine::{opened, runtime};
use super::growth::{Guest, batch, counter, counting, database, deliver, lease, pass_through};

/// Deliveries whose rows are dead.
const MANY: u64 = 20_000;
/// Pages of one settlement, at most. Entries of one index alone would be twice as many.
const SETTLEMENT_MAX: i64 = 100;
/// Pages of one statement about a hundred events, at most.
const PAGE_MAX: i64 = 3_000;

/// The statements: of finished deliveries, of those that return to the queue, of a page of the log,
/// and of the deliveries of its events.
const END: &str = "delete from delivery d using";
const BACK: &str = "from found f where";
const PAGE: &str = "ids as materialized";
const OPEN: &str = "from delivery where event_id = w.id";

/// 1. Many deliveries are made under an old snapshot, and a vacuum counts the live rows: none.
/// 2. The planner takes the queue for empty, or for a few rows, whatever it costs to walk over.
/// 3. Settlements and pages read a few pages each.
#[test]
fn settlements_and_pages_cost_the_same_whatever_the_statistics_say() {
    let Some(cluster) = counting() else { return };
    runtime().block_on(async {
        let (database, options) = database(cluster).await;
        let engine = opened(options).await;
        let guest = Guest::new(cluster, &database).await;
        let counter = counter(cluster).await;
        let touched = async |text: &str| counter.touched(&database, text).await.0;
        pass_through(&engine, 0, 500).await;
        let snapshot = Guest::holding_a_snapshot(cluster, &database).await;
        pass_through(&engine, 1_000, MANY).await;
        guest.run("vacuum (analyze) delivery").await;
        let rows =
            "select reltuples::bigint from pg_class where oid = 'postern.delivery'::regclass";
        assert_eq!(guest.ask(rows).await, 0, "the statistics count live rows alone");
        for (round, rows) in (1_u64..).zip([0, 1, 2, 5, 20]) {
            let set = format!(
                "update pg_class set reltuples = {rows} where oid = 'delivery'::regclass or oid in
                    (select indexrelid from pg_index where indrelid = 'delivery'::regclass)"
            );
            guest.run(&set).await;
            let before = touched(END).await;
            engine.accept(&batch(round * 1_000_000, 1)).await.unwrap();
            assert_eq!(deliver(&engine, 10).await, 1);
            let end = touched(END).await - before;

            let before = touched(BACK).await;
            engine.accept(&batch(round * 1_000_000 + 1, 1)).await.unwrap();
            let leases = lease(&engine, 10).await.unwrap().leases;
            let later = LeaseResult::Retry { after: Duration::from_secs(3_000) };
            let settled = [conformance::settlement(&leases[0], later)];
            engine.settle(&conformance::node(), &settled).await.unwrap();
            let back = touched(BACK).await - before;

            let (page, open) = (touched(PAGE).await, touched(OPEN).await);
            let events = engine.query(&LogQuery::default(), None, 100).await.unwrap().events;
            let ids: Vec<_> = events.iter().map(|event| event.id).collect();
            assert_eq!(engine.events(&ids).await.unwrap().len(), 100);
            let (page, open) = (touched(PAGE).await - page, touched(OPEN).await - open);
            println!("{rows} rows: {end} and {back} pages a settlement, {page} and {open} a page");
            assert!((1..SETTLEMENT_MAX).contains(&end), "{rows} rows: {end} pages");
            assert!((1..SETTLEMENT_MAX).contains(&back), "{rows} rows: {back} pages");
            assert!((1..PAGE_MAX).contains(&page), "{rows} rows: {page} pages");
            assert!((1..PAGE_MAX).contains(&open), "{rows} rows: {open} pages");
        }
        snapshot.run("rollback").await;
    });
}
