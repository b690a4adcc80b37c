//! Delivering: leases, results, replays.

use std::time::Duration;

use super::{Checked, accept, ask, event, lease, node, settle, settlement};
use crate::ledger::{
    DeliveryState, EventId, EventState, LeaseAsk, LeaseResult, Ledger, LogQuery, NodeId, ReplayId,
    ReplayOrder, ReplayWhat, Settled, StoreClock, TargetFilter, TargetId,
};

const RETRY: LeaseResult = LeaseResult::Retry { after: Duration::from_secs(5) };

pub(super) async fn each_target_gets_one_delivery_due_at_once<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let one = event(1, &["b", "a", "b"]);
    accept(ledger, &one).await?;
    accept(ledger, &event(2, &[])).await?;
    let leases = lease(ledger, 10).await?;
    let names: Vec<&str> = leases.iter().map(|lease| lease.target.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    for lease in &leases {
        assert_eq!((lease.event, lease.attempt), (one.id, 1));
        assert_eq!(lease.body, one.body);
        assert_eq!(lease.expires_in, Duration::from_secs(30));
    }
    Ok(())
}

pub(super) async fn a_lease_is_held_by_one_and_ends<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    accept(ledger, &event(1, &["a"])).await?;
    let first = lease(ledger, 10).await?.remove(0);
    let other = NodeId::from("node-2");
    assert_eq!(ledger.lease(&other, &ask(10)).await?.leases, []);
    clock.advance(29_999);
    let batch = ledger.lease(&other, &ask(10)).await?;
    assert_eq!((batch.leases.len(), batch.next_due), (0, Some(Duration::from_millis(1))));
    clock.advance(1);
    let second = ledger.lease(&other, &ask(10)).await?.leases.remove(0);
    assert_eq!(second.attempt, 2);
    assert!(second.token > first.token);
    // The node counts as much as the token.
    let foreign = ledger.settle(&node(), &[settlement(&second, LeaseResult::Done)]).await?;
    assert_eq!(foreign, [Settled::Stale]);
    Ok(())
}

pub(super) async fn an_old_token_changes_nothing<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    accept(ledger, &event(1, &["a"])).await?;
    let old = lease(ledger, 1).await?.remove(0);
    clock.advance(30_000);
    let new = lease(ledger, 1).await?.remove(0);
    assert_eq!(settle(ledger, &old, LeaseResult::Done).await?, Settled::Stale);
    assert_eq!(ledger.stats().await?.pending, 1);
    assert_eq!(settle(ledger, &new, LeaseResult::Done).await?, Settled::Applied);
    assert_eq!(settle(ledger, &new, LeaseResult::Done).await?, Settled::Stale);
    let detail = ledger.event(new.event).await?;
    assert_eq!(detail.map(|detail| detail.deliveries[0].attempts.len()), Some(1));
    // A lease that has expired and that no node took since still counts.
    accept(ledger, &event(2, &["a"])).await?;
    let late = lease(ledger, 1).await?.remove(0);
    clock.advance(60_000);
    assert_eq!(settle(ledger, &late, LeaseResult::Done).await?, Settled::Applied);
    Ok(())
}

pub(super) async fn verdicts_do_what_they_say<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let one = event(1, &["a", "b", "c"]);
    accept(ledger, &one).await?;
    let leases = lease(ledger, 10).await?;
    let results = [LeaseResult::Decided, RETRY, LeaseResult::Dead];
    let settlements: Vec<_> =
        leases.iter().zip(results).map(|(lease, result)| settlement(lease, result)).collect();
    assert_eq!(ledger.settle(&node(), &settlements).await?, [Settled::Applied; 3]);
    assert_eq!(lease(ledger, 10).await?, []);
    clock.advance(5000);
    let again = lease(ledger, 10).await?;
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].target.as_str(), again[0].attempt), ("b", 2));
    assert_eq!(again[0].body, one.body);
    settle(ledger, &again[0], LeaseResult::Done).await?;
    clock.advance(1_000_000);
    assert_eq!(lease(ledger, 10).await?, []);
    let Some(detail) = ledger.event(one.id).await? else { return Ok(()) };
    let states: Vec<_> = detail.deliveries.iter().map(|delivery| delivery.state).collect();
    assert_eq!(states, [DeliveryState::Done, DeliveryState::Done, DeliveryState::Dead]);
    let attempts: Vec<_> = detail.deliveries.iter().map(|one| one.attempts.len()).collect();
    assert_eq!(attempts, [1, 2, 1]);
    assert_eq!(detail.deliveries[2].attempt, 1);
    assert_eq!(detail.event.state, EventState::Dead);
    Ok(())
}

pub(super) async fn a_postponed_delivery_uses_up_no_attempt<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    accept(ledger, &event(1, &["a"])).await?;
    let first = lease(ledger, 1).await?.remove(0);
    let postpone = LeaseResult::Postpone { after: Duration::from_secs(1) };
    assert_eq!(settle(ledger, &first, postpone).await?, Settled::Applied);
    assert_eq!(lease(ledger, 1).await?, []);
    clock.advance(1000);
    let second = lease(ledger, 1).await?.remove(0);
    assert_eq!(second.attempt, 1);
    assert!(second.token > first.token);
    let detail = ledger.event(first.event).await?;
    assert_eq!(detail.map(|detail| detail.deliveries[0].attempts.len()), Some(0));
    Ok(())
}

pub(super) async fn release_gives_back_what_is_held<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    for n in 0..3 {
        accept(ledger, &event(n, &["a"])).await?;
    }
    let mine = lease(ledger, 2).await?;
    let other = NodeId::from("node-2");
    assert_eq!(ledger.lease(&other, &ask(10)).await?.leases.len(), 1);
    assert_eq!(ledger.release(&node()).await?, 2);
    assert_eq!(ledger.release(&node()).await?, 0);
    assert_eq!(settle(ledger, &mine[0], LeaseResult::Done).await?, Settled::Stale);
    let again = lease(ledger, 10).await?;
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|lease| lease.attempt == 1));
    Ok(())
}

pub(super) async fn filters_choose_destinations<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    accept(ledger, &event(1, &["a", "b", "c"])).await?;
    let (a, b) = (TargetId::from("a"), TargetId::from("b"));
    let filters = [
        (TargetFilter::Only(vec![b, TargetId::from("unknown")]), vec!["b"]),
        (TargetFilter::Except(vec![a]), vec!["c"]),
        (TargetFilter::Only(vec![]), vec![]),
        (TargetFilter::All, vec!["a"]),
    ];
    for (targets, expected) in filters {
        let ask = LeaseAsk { targets, max: 10, ttl: Duration::from_secs(30) };
        let batch = ledger.lease(&node(), &ask).await?;
        let names: Vec<&str> = batch.leases.iter().map(|lease| lease.target.as_str()).collect();
        assert_eq!(names, expected);
    }
    let none = LeaseAsk { targets: TargetFilter::Only(vec![]), ..ask(1) };
    assert_eq!(ledger.lease(&node(), &none).await?.next_due, None);
    Ok(())
}

pub(super) async fn the_earliest_comes_first_and_the_next_is_announced<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    assert_eq!(ledger.lease(&node(), &ask(1)).await?.next_due, None);
    let events: Vec<_> = (0..4).map(|n| event(n, &["a"])).collect();
    for event in events.iter().rev() {
        accept(ledger, event).await?;
        clock.advance(10);
    }
    let batch = ledger.lease(&node(), &ask(3)).await?;
    let order: Vec<EventId> = batch.leases.iter().map(|lease| lease.event).collect();
    assert_eq!(order, [events[3].id, events[2].id, events[1].id]);
    assert_eq!(batch.next_due, Some(Duration::ZERO));
    settle(ledger, &batch.leases[0], RETRY).await?;
    let batch = ledger.lease(&node(), &ask(3)).await?;
    assert_eq!((batch.leases.len(), batch.next_due), (1, Some(Duration::from_secs(5))));
    Ok(())
}

pub(super) async fn a_replay_makes_deliveries_anew_once<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let one = event(1, &["a", "b"]);
    accept(ledger, &one).await?;
    for lease in lease(ledger, 10).await? {
        let dead = lease.target.as_str() == "b";
        settle(ledger, &lease, if dead { LeaseResult::Dead } else { LeaseResult::Done }).await?;
    }
    let unknown = event(9, &[]).id;
    let what = ReplayWhat::Events(vec![one.id, unknown, one.id]);
    let order = ReplayOrder { id: ReplayId::new(5), what: what.clone(), targets: None, only: None };
    let page = ledger.replay(&order, None, 10).await?;
    assert_eq!((page.events, page.deliveries, page.next), (1, 2, None));
    let leases = lease(ledger, 10).await?;
    assert!(leases.len() == 2 && leases.iter().all(|lease| lease.attempt == 1));
    assert!(leases.iter().all(|lease| lease.event == one.id && lease.body == one.body));
    // The same order again makes no deliveries, neither while they are leased nor when they are
    // done.
    let repeated = ledger.replay(&order, None, 10).await?;
    assert_eq!((repeated.events, repeated.deliveries), (0, 0));
    for lease in &leases {
        assert_eq!(settle(ledger, lease, LeaseResult::Done).await?, Settled::Applied);
    }
    assert_eq!(ledger.replay(&order, None, 10).await?.deliveries, 0);
    // Another order may name other destinations, and revokes leases.
    let c = TargetId::from("c");
    let order =
        ReplayOrder { id: ReplayId::new(6), what, targets: Some(vec![c.clone()]), only: None };
    assert_eq!(ledger.replay(&order, None, 10).await?.deliveries, 1);
    let held = lease(ledger, 10).await?;
    assert_eq!(held.iter().map(|lease| &lease.target).collect::<Vec<_>>(), [&c]);
    let order = ReplayOrder { id: ReplayId::new(7), ..order };
    assert_eq!(ledger.replay(&order, None, 10).await?.deliveries, 1);
    assert_eq!(settle(ledger, &held[0], LeaseResult::Done).await?, Settled::Stale);
    let detail = ledger.event(one.id).await?;
    let attempts = |at: usize| detail.as_ref().map(|detail| detail.deliveries[at].attempts.len());
    assert_eq!((attempts(0), attempts(1), attempts(2)), (Some(2), Some(2), Some(0)));
    assert_eq!(ledger.query(&LogQuery::default(), None, 10).await?.events.len(), 1);
    Ok(())
}

pub(super) async fn a_replay_goes_page_by_page<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    for n in 0..10 {
        accept(ledger, &event(n, &["a"])).await?;
    }
    for lease in lease(ledger, 100).await? {
        settle(ledger, &lease, LeaseResult::Dead).await?;
    }
    let dead = LogQuery { state: Some(EventState::Dead), ..LogQuery::default() };
    let what = ReplayWhat::Matching(dead);
    let order = ReplayOrder { id: ReplayId::new(1), what, targets: None, only: None };
    let (mut cursor, mut made, mut pages) = (None, 0, 0);
    loop {
        let page = ledger.replay(&order, cursor.as_ref(), 3).await?;
        assert!(page.events <= 3);
        made += page.deliveries;
        pages += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        assert!(pages < 10);
    }
    assert_eq!(made, 10);
    assert_eq!(lease(ledger, 100).await?.len(), 10);
    Ok(())
}

pub(super) async fn a_replay_of_the_dead_makes_each_due_once<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let one = event(1, &["a", "b", "c"]);
    accept(ledger, &one).await?;
    let results = [LeaseResult::Dead, LeaseResult::Done, RETRY];
    for (lease, result) in lease(ledger, 10).await?.iter().zip(results) {
        settle(ledger, lease, result).await?;
    }
    let what = ReplayWhat::Events(vec![one.id]);
    let only = Some(DeliveryState::Dead);
    let first = ReplayOrder { id: ReplayId::new(1), what, targets: None, only };
    let second = ReplayOrder { id: ReplayId::new(2), ..first.clone() };
    let page = ledger.replay(&first, None, 10).await?;
    assert_eq!((page.events, page.deliveries), (1, 1));
    // The second order finds it due, in flight and done.
    let none = (0, 0);
    let page = ledger.replay(&second, None, 10).await?;
    assert_eq!((page.events, page.deliveries), none);
    let held = lease(ledger, 10).await?;
    assert_eq!(held.iter().map(|lease| lease.target.as_str()).collect::<Vec<_>>(), ["a"]);
    let page = ledger.replay(&second, None, 10).await?;
    assert_eq!((page.events, page.deliveries), none);
    assert_eq!(settle(ledger, &held[0], LeaseResult::Done).await?, Settled::Applied);
    let page = ledger.replay(&second, None, 10).await?;
    assert_eq!((page.events, page.deliveries), none);
    assert_eq!(lease(ledger, 10).await?, []);
    // It has not made that one: an order for all of them makes it under the same id.
    let all = ReplayOrder { only: None, ..second };
    assert_eq!(ledger.replay(&all, None, 10).await?.deliveries, 3);
    Ok(())
}

pub(super) async fn a_replay_of_the_pending_leaves_what_is_in_flight<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let one = event(1, &["a", "b", "c", "d"]);
    accept(ledger, &one).await?;
    let leases = lease(ledger, 10).await?;
    let postpone = LeaseResult::Postpone { after: Duration::from_secs(60) };
    for (lease, result) in leases.iter().zip([LeaseResult::Done, postpone, RETRY]) {
        settle(ledger, lease, result).await?;
    }
    let what = ReplayWhat::Events(vec![one.id]);
    let only = Some(DeliveryState::Pending);
    let order = ReplayOrder { id: ReplayId::new(1), what, targets: None, only };
    let page = ledger.replay(&order, None, 10).await?;
    assert_eq!((page.events, page.deliveries), (1, 2));
    let again = lease(ledger, 10).await?;
    let made: Vec<_> = again.iter().map(|lease| (lease.target.as_str(), lease.attempt)).collect();
    assert_eq!(made, [("b", 1), ("c", 1)]);
    assert!(again.iter().zip(&leases[1..]).all(|(new, old)| new.token > old.token));
    for lease in again.iter().chain(&leases[3..]) {
        assert_eq!(settle(ledger, lease, RETRY).await?, Settled::Applied);
    }
    // The one that was in flight waits now, and the order has not made it yet.
    let page = ledger.replay(&order, None, 10).await?;
    assert_eq!((page.events, page.deliveries), (1, 1));
    assert_eq!(lease(ledger, 10).await?[0].target.as_str(), "d");
    Ok(())
}

pub(super) async fn a_replay_of_the_done_leaves_the_others<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let one = event(1, &["a", "b", "c"]);
    accept(ledger, &one).await?;
    let leases = lease(ledger, 10).await?;
    for (lease, result) in leases.iter().zip([LeaseResult::Done, LeaseResult::Dead]) {
        settle(ledger, lease, result).await?;
    }
    let what = ReplayWhat::Events(vec![one.id]);
    let only = Some(DeliveryState::Done);
    let order = ReplayOrder { id: ReplayId::new(1), what, targets: None, only };
    let second = ReplayOrder { id: ReplayId::new(2), ..order.clone() };
    assert_eq!(ledger.replay(&order, None, 10).await?.deliveries, 1);
    assert_eq!(ledger.replay(&second, None, 10).await?.deliveries, 0);
    let again = lease(ledger, 10).await?;
    assert_eq!(again.iter().map(|lease| lease.target.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(settle(ledger, &leases[2], LeaseResult::Done).await?, Settled::Applied);
    Ok(())
}
