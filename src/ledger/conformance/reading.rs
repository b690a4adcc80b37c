//! Reading: the log, single events, lists, statistics.

use std::sync::Arc;
use std::time::Duration;

use super::{Checked, START_MS, accept, event, lease, settle};
use crate::ledger::{
    Cursor, DeliveryCounts, DeliveryQuery, DeliveryState, EventId, EventState, LeaseResult, Ledger,
    LedgerError, LogQuery, Logged, ReplayId, ReplayOrder, ReplayWhat, SourceId, StoreClock,
    TargetId,
};

/// Every page of a query, of `limit` each, through the text form of its cursors.
async fn pages<L: Ledger>(
    ledger: &L,
    query: &LogQuery,
    limit: usize,
) -> Result<Vec<Logged>, LedgerError> {
    let mut events = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let page = ledger.query(query, cursor.as_ref(), limit).await?;
        assert!(page.events.len() <= limit);
        events.extend(page.events);
        match page.next {
            Some(next) => cursor = next.to_string().parse().ok(),
            None => return Ok(events),
        }
        assert!(cursor.is_some() && events.len() < 10_000);
    }
}

pub(super) async fn the_log_is_newest_first_and_pages<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let mut events: Vec<_> = (0..25).map(|n| event(n, &[])).collect();
    // Events may arrive in another order than that of their ids.
    events.swap(3, 20);
    ledger.accept(&events).await?;
    events.sort_by_key(|event| std::cmp::Reverse(event.id));
    for limit in [1, 7, 25, 100] {
        let found = pages(ledger, &LogQuery::default(), limit).await?;
        assert_eq!(found.len(), 25);
        for (found, event) in found.iter().zip(&events) {
            assert_eq!((found.id, &found.source), (event.id, &event.source));
            assert_eq!((found.received_ms, found.test), (event.received_ms, event.test));
            assert_eq!((found.state, &found.body), (EventState::Done, &event.body));
        }
    }
    Ok(())
}

pub(super) async fn the_log_filters<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    let mut events: Vec<_> = (0..30_u64).map(|n| event(n, &["a"])).collect();
    for (n, event) in events.iter_mut().enumerate() {
        event.test = n % 5 == 0;
        event.source = SourceId::from(if n % 2 == 0 { "even" } else { "odd" });
        event.user = event.user.take().filter(|_| n % 7 != 0);
        event.transaction = format!("t-{}", n / 2);
    }
    ledger.accept(&events).await?;
    for (n, lease) in lease(ledger, 20).await?.iter().enumerate() {
        let retry = LeaseResult::Retry { after: Duration::from_secs(9) };
        settle(ledger, lease, [LeaseResult::Done, LeaseResult::Dead, retry][n % 3]).await?;
    }
    let all = LogQuery::default();
    let among = |names: &[&str]| Some(names.iter().map(|name| SourceId::from(*name)).collect());
    let queries = [
        LogQuery { source: Some("even".into()), ..all.clone() },
        LogQuery { source: Some("none".into()), ..all.clone() },
        LogQuery { among: among(&[]), ..all.clone() },
        LogQuery { among: among(&["odd", "none"]), ..all.clone() },
        LogQuery { among: among(&["odd"]), source: Some("even".into()), ..all.clone() },
        LogQuery { among: among(&["odd"]), user: Some("u-1".into()), ..all.clone() },
        LogQuery { transaction: Some("t-4".into()), ..all.clone() },
        LogQuery { transaction: Some("t-4".into()), source: Some("odd".into()), ..all.clone() },
        LogQuery { user: Some("u-1".into()), ..all.clone() },
        LogQuery { user: Some("u-1".into()), test: Some(true), ..all.clone() },
        LogQuery { test: Some(false), ..all.clone() },
        LogQuery { state: Some(EventState::Done), ..all.clone() },
        LogQuery { state: Some(EventState::Dead), ..all.clone() },
        LogQuery { state: Some(EventState::Pending), source: Some("odd".into()), ..all.clone() },
        LogQuery { since_ms: Some(START_MS + 10), ..all.clone() },
        LogQuery { until_ms: Some(START_MS + 10), ..all.clone() },
        LogQuery { since_ms: Some(START_MS + 5), until_ms: Some(START_MS + 6), ..all },
    ];
    let expected = [15, 0, 0, 15, 0, 4, 2, 1, 8, 2, 24, 7, 7, 8, 20, 10, 1];
    for (query, expected) in queries.iter().zip(expected) {
        for limit in [2, 100] {
            let found = pages(ledger, query, limit).await?;
            assert_eq!(found.len(), expected, "{query:?}");
            assert!(found.iter().rev().is_sorted_by_key(|event| event.id));
        }
    }
    Ok(())
}

pub(super) async fn an_event_tells_its_whole_story<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let one = event(1, &["b", "a"]);
    accept(ledger, &one).await?;
    assert!(ledger.event(event(1, &[]).id).await?.is_none());
    let first = lease(ledger, 1).await?.remove(0);
    settle(ledger, &first, LeaseResult::Retry { after: Duration::from_secs(5) }).await?;
    let Some(detail) = ledger.event(one.id).await? else {
        return Err(LedgerError::Corrupt("the event is missing".into()));
    };
    assert_eq!(detail.event.body, one.body);
    assert_eq!(detail.event.state, EventState::Pending);
    let [a, b] = &detail.deliveries[..] else {
        return Err(LedgerError::Corrupt("not two deliveries".into()));
    };
    assert_eq!((a.target.as_str(), a.state, a.attempt), ("a", DeliveryState::Pending, 1));
    assert_eq!((b.target.as_str(), b.state, b.attempt), ("b", DeliveryState::Pending, 0));
    assert_eq!((a.due_ms, b.due_ms), (Some(START_MS + 5000), Some(START_MS)));
    assert_eq!(a.attempts.len(), 1);
    assert_eq!((a.attempts[0].status, a.attempts[0].latency_ms), (Some(200), 12));
    assert_eq!(a.attempts[0].head.as_ref(), b"{}");
    Ok(())
}

pub(super) async fn deliveries_are_listed_by_state<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let events: Vec<_> = (0..6).map(|n| event(n, &["a", "b", "c"])).collect();
    ledger.accept(&events).await?;
    for lease in lease(ledger, 100).await? {
        match lease.target.as_str() {
            "a" => settle(ledger, &lease, LeaseResult::Done).await?,
            "b" => settle(ledger, &lease, LeaseResult::Dead).await?,
            _ => continue,
        };
    }
    let order = ReplayOrder {
        id: ReplayId::new(1),
        what: ReplayWhat::Events(vec![events[0].id]),
        targets: Some(vec![TargetId::from("z")]),
        only: None,
    };
    ledger.replay(&order, None, 10).await?;
    let expected =
        [(DeliveryState::Done, 6), (DeliveryState::Dead, 6), (DeliveryState::Pending, 7)];
    for (state, expected) in expected {
        for limit in [1, 2, 5, 100] {
            let query = DeliveryQuery::of(state);
            let (mut found, mut cursor) = (Vec::new(), None);
            loop {
                let page = ledger.deliveries(&query, cursor.as_ref(), limit).await?;
                assert!(page.deliveries.len() <= limit);
                found.extend(page.deliveries);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
                assert!(found.len() < 100);
            }
            assert_eq!(found.len(), expected, "{state:?} by {limit}");
            assert!(found.iter().all(|delivery| delivery.state == state));
            let order =
                |one: &crate::ledger::Delivery| (std::cmp::Reverse(one.event), one.target.clone());
            assert!(found.is_sorted_by_key(order));
        }
    }
    let of_a = Some(TargetId::from("a"));
    let query = DeliveryQuery { target: of_a, ..DeliveryQuery::of(DeliveryState::Dead) };
    assert_eq!(ledger.deliveries(&query, None, 10).await?.deliveries, []);
    let own: Arc<[SourceId]> = [events[0].source.clone()].into();
    let other: Arc<[SourceId]> = [SourceId::from("another")].into();
    for (state, expected) in expected {
        for (among, expected) in [(&own, expected), (&other, 0)] {
            let query =
                DeliveryQuery { among: Some(Arc::clone(among)), ..DeliveryQuery::of(state) };
            let (mut found, mut cursor) = (0, None);
            loop {
                let page = ledger.deliveries(&query, cursor.as_ref(), 2).await?;
                found += page.deliveries.len();
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
                assert!(found < 100);
            }
            assert_eq!(found, expected, "{state:?} of {among:?}");
        }
    }
    Ok(())
}

pub(super) async fn deliveries_are_counted_by_state<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let events: Vec<_> = (0..6).map(|n| event(n, &["a", "b"])).collect();
    ledger.accept(&events).await?;
    for lease in lease(ledger, 100).await? {
        let is_first = lease.event == events[0].id;
        match lease.target.as_str() {
            "a" => settle(ledger, &lease, LeaseResult::Done).await?,
            _ if is_first => continue,
            _ => settle(ledger, &lease, LeaseResult::Dead).await?,
        };
    }
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    let (a, b, missing) = ([TargetId::from("a")], [TargetId::from("b")], EventId::new(7));
    let none = DeliveryCounts::default();
    assert_eq!(ledger.count_deliveries(&[], None).await?, none);
    let all = DeliveryCounts { done: 6, dead: 5, pending: 1, gone: 0 };
    assert_eq!(ledger.count_deliveries(&ids, None).await?, all);
    assert_eq!(ledger.count_deliveries(&ids, Some(&a)).await?, DeliveryCounts { done: 6, ..none });
    assert_eq!(
        ledger.count_deliveries(&ids, Some(&b)).await?,
        DeliveryCounts { dead: 5, pending: 1, ..none }
    );
    let some = [ids[0], missing, ids[1]];
    let expected = DeliveryCounts { dead: 1, pending: 1, gone: 1, ..none };
    assert_eq!(ledger.count_deliveries(&some, Some(&b)).await?, expected);
    assert_eq!(ledger.count_deliveries(&some, None).await?, DeliveryCounts { done: 2, ..expected });
    // What a replay makes is pending again, also to another destination.
    let order = ReplayOrder {
        id: ReplayId::new(1),
        what: ReplayWhat::Events(vec![ids[5]]),
        targets: Some(vec![TargetId::from("b"), TargetId::from("c")]),
        only: None,
    };
    ledger.replay(&order, None, 10).await?;
    let again = DeliveryCounts { done: 6, dead: 4, pending: 3, gone: 0 };
    assert_eq!(ledger.count_deliveries(&ids, None).await?, again);
    assert_eq!(ledger.count_deliveries(&ids[5..], order.targets.as_deref()).await?.pending, 2);
    Ok(())
}

pub(super) async fn events_are_read_together<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    let events: Vec<_> = (0..4).map(|n| event(n, &["a", "b"])).collect();
    ledger.accept(&events).await?;
    let leases = lease(ledger, 3).await?;
    let retry = LeaseResult::Retry { after: Duration::from_secs(60) };
    for (lease, result) in leases.iter().zip([LeaseResult::Dead, LeaseResult::Done, retry]) {
        settle(ledger, lease, result).await?;
    }
    // In any order, twice, and one that is missing.
    let mut ids: Vec<_> = events.iter().rev().map(|event| event.id).collect();
    ids.extend([events[1].id, EventId::new(1)]);
    let all = ledger.events(&ids).await?;
    assert_eq!(all.len(), ids.len());
    assert!(all[..5].iter().all(Option::is_some) && all[5].is_none());
    for (id, found) in ids.iter().zip(&all) {
        assert_eq!(*found, ledger.event(*id).await?);
    }
    let attempts = all[..4].iter().flatten().flat_map(|one| &one.deliveries);
    assert_eq!(attempts.map(|delivery| delivery.attempts.len()).sum::<usize>(), 3);
    assert_eq!(ledger.events(&[]).await?, []);
    Ok(())
}

pub(super) async fn foreign_cursors_are_refused<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    let Ok(cursor) = "00".parse::<Cursor>() else {
        return Err(LedgerError::BadCursor);
    };
    let query = LogQuery::default();
    assert_eq!(ledger.query(&query, Some(&cursor), 1).await, Err(LedgerError::BadCursor));
    let query = DeliveryQuery::of(DeliveryState::Done);
    assert_eq!(ledger.deliveries(&query, Some(&cursor), 1).await, Err(LedgerError::BadCursor));
    Ok(())
}

pub(super) async fn stats_count_what_is_there<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    ledger.accept(&[event(1, &["a", "b"]), event(2, &["a"]), event(3, &[])]).await?;
    clock.advance(2000);
    let leases = lease(ledger, 2).await?;
    settle(ledger, &leases[1], LeaseResult::Dead).await?;
    let stats = ledger.stats().await?;
    assert_eq!((stats.events, stats.keys), (3, 3));
    assert_eq!((stats.pending, stats.dead), (2, 1));
    assert_eq!(stats.oldest_due, Some(Duration::from_secs(2)));
    let counts: Vec<_> =
        stats.targets.iter().map(|one| (one.target.as_str(), one.pending, one.dead)).collect();
    assert_eq!(counts, [("a", 2, 0), ("b", 0, 1)]);
    assert_eq!(stats.targets[1].oldest_due, None);
    Ok(())
}
