//! Holding: quarantined callbacks, decisions on them, and their marks.

use std::time::Duration;

use super::{Checked, START_MS, accept, event, held, key, lease, settle};
use crate::ledger::{
    Accepted, Decided, Decision, DedupeKey, EventKeys, Fingerprint, HeldBounds, HeldId, HeldOne,
    HeldOrder, HeldQuery, HeldWhy, HoldOutcome, Item, LeaseResult, Ledger, LedgerError, Memory,
    NewEvent, NewHeld, Retention, SourceId, StoreClock, VARIANTS_MAX,
};

const DAY: Duration = Duration::from_secs(86_400);

async fn hold(ledger: &impl Ledger, held: &NewHeld) -> Result<HoldOutcome, LedgerError> {
    ledger.hold(held, HeldBounds::default()).await
}

async fn decide(
    ledger: &impl Ledger,
    id: HeldId,
    decision: Decision,
) -> Result<Decided, LedgerError> {
    ledger.decide(&HeldOrder { id, decision, at_ms: START_MS + 5, event: None }).await
}

async fn ids(ledger: &impl Ledger, query: &HeldQuery) -> Result<Vec<HeldId>, LedgerError> {
    let page = ledger.held(query, None, 100).await?;
    assert_eq!(page.next, None);
    Ok(page.held.iter().map(|held| held.id).collect())
}

/// The `n`th re-cut of a text that event 1 has the signature of.
fn recut(n: u64) -> NewHeld {
    let mut event = event(n, &["a", "b"]);
    event.keys.signatures = [key(101)].into();
    NewHeld::disputing(HeldWhy::Ambiguous, Some(super::event(1, &[]).id), event)
}

pub(super) async fn a_variant_is_held_once_and_few_of_one_anchor<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let first = recut(2);
    assert_eq!(hold(ledger, &first).await?, HoldOutcome::Held(first.id));
    // The same callback again, and the same variant of another callback.
    assert_eq!(hold(ledger, &first).await?, HoldOutcome::Held(first.id));
    let again = NewHeld { id: HeldId::new(START_MS + 9), ..first.clone() };
    assert_eq!(hold(ledger, &again).await?, HoldOutcome::Known(first.id));
    for n in 3..2 + VARIANTS_MAX as u64 {
        let other = recut(n);
        assert_eq!(hold(ledger, &other).await?, HoldOutcome::Held(other.id));
    }
    assert_eq!(hold(ledger, &recut(50)).await?, HoldOutcome::Full);
    // Decided ones stay known too.
    decide(ledger, first.id, Decision::Drop).await?;
    assert_eq!(hold(ledger, &again).await?, HoldOutcome::Known(first.id));
    assert_eq!(hold(ledger, &recut(50)).await?, HoldOutcome::Full);
    // Another anchor has its own limit.
    let elsewhere = held(60, HeldWhy::Conflict, None);
    assert_eq!(hold(ledger, &elsewhere).await?, HoldOutcome::Held(elsewhere.id));
    // The content also distinguishes two variants.
    let mut conflict = event(60, &["a"]);
    conflict.fingerprint = Fingerprint(1);
    let conflict = NewHeld::disputing(HeldWhy::Conflict, None, conflict);
    assert_eq!(hold(ledger, &conflict).await?, HoldOutcome::Held(conflict.id));
    let stats = ledger.stats().await?.held;
    assert_eq!((stats.len(), stats[0].count), (1, VARIANTS_MAX as u64 + 1));
    Ok(())
}

pub(super) async fn a_source_has_bounds<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    let bounds = HeldBounds { count: 3, bytes: 1 << 20 };
    for n in 1..=3 {
        let one = held(n, HeldWhy::Conflict, None);
        assert_eq!(ledger.hold(&one, bounds).await?, HoldOutcome::Held(one.id));
    }
    let fourth = held(4, HeldWhy::Conflict, None);
    assert_eq!(ledger.hold(&fourth, bounds).await?, HoldOutcome::Full);
    // Another reason, or another source, has its own limit.
    let other = held(5, HeldWhy::Ambiguous, None);
    assert_eq!(ledger.hold(&other, bounds).await?, HoldOutcome::Held(other.id));
    let event = NewEvent { source: SourceId::from("other"), ..event(6, &[]) };
    let other = NewHeld::disputing(HeldWhy::Conflict, None, event);
    assert_eq!(ledger.hold(&other, bounds).await?, HoldOutcome::Held(other.id));
    let mut large = super::event(7, &[]);
    large.body = vec![0; 1000].into();
    let large = NewHeld::disputing(HeldWhy::Quarantine, None, large);
    let few = HeldBounds { count: 9, bytes: 1000 };
    assert_eq!(ledger.hold(&large, few).await?, HoldOutcome::Full);
    // A decided callback frees its place.
    decide(ledger, held(1, HeldWhy::Conflict, None).id, Decision::Drop).await?;
    let first = ledger.held(&HeldQuery::default(), None, 100).await?.held;
    let oldest = first.last().map(|one| one.id);
    decide(ledger, oldest.unwrap_or(fourth.id), Decision::Drop).await?;
    assert_eq!(ledger.hold(&fourth, bounds).await?, HoldOutcome::Held(fourth.id));
    Ok(())
}

pub(super) async fn held_callbacks_are_listed_newest_first<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let mut all = Vec::new();
    for n in 1..=5 {
        let why = HeldWhy::ALL[n as usize % 3];
        let mut event = event(n, &["a"]);
        event.source = SourceId::from(if n == 5 { "other" } else { "s" });
        let one = NewHeld::disputing(why, None, event);
        hold(ledger, &one).await?;
        all.insert(0, one);
    }
    let of = |some: &dyn Fn(&NewHeld) -> bool| -> Vec<HeldId> {
        all.iter().filter(|one| some(one)).map(|one| one.id).collect()
    };
    assert_eq!(ids(ledger, &HeldQuery::default()).await?, of(&|_| true));
    let source = Some(SourceId::from("s"));
    let query = HeldQuery { source: source.clone(), ..HeldQuery::default() };
    assert_eq!(ids(ledger, &query).await?, of(&|one| one.event.source.as_str() == "s"));
    for (among, wanted) in [(&["other", "none"][..], 1), (&["s"], all.len() - 1), (&[], 0)] {
        let among = among.iter().map(|name| SourceId::from(*name)).collect();
        let query = HeldQuery { among: Some(among), ..HeldQuery::default() };
        assert_eq!(ids(ledger, &query).await?.len(), wanted);
        let query = HeldQuery { source: Some("other".into()), ..query };
        assert_eq!(ids(ledger, &query).await?.len(), usize::from(wanted == 1));
    }
    let query = HeldQuery { source, why: Some(HeldWhy::Ambiguous), ..HeldQuery::default() };
    let wanted = of(&|one| one.why == HeldWhy::Ambiguous && one.event.source.as_str() == "s");
    assert_eq!(ids(ledger, &query).await?, wanted);
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = ledger.held(&HeldQuery::default(), cursor.as_ref(), 2).await?;
        seen.extend(page.held);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    // The callback reads back as written; roles of keys are not kept.
    for (seen, held) in seen.iter().zip(&all) {
        let keys: EventKeys = held.event.keys.written().collect();
        let event = NewEvent { keys, ..held.event.clone() };
        assert_eq!(*seen, NewHeld { event, ..held.clone() });
    }
    assert_eq!(seen.len(), all.len());
    let one = ledger.held_one(all[0].id).await?;
    assert_eq!(one, Some(HeldOne::Waiting(Box::new(seen[0].clone()))));
    assert_eq!(ledger.held_one(HeldId::new(0)).await?, None);
    // None of their keys is known.
    for n in 1..=5 {
        let own = NewEvent { fingerprint: Fingerprint(900), ..event(n, &[]) };
        assert_eq!(accept(ledger, &own).await?, Accepted::New);
    }
    Ok(())
}

pub(super) async fn a_release_makes_one_event<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let mut first = event(1, &[]);
    first.keys.signatures = [key(101)].into();
    accept(ledger, &first).await?;
    let ambiguous = recut(2);
    hold(ledger, &ambiguous).await?;
    clock.advance(60_000);
    let decided = decide(ledger, ambiguous.id, Decision::Release).await?;
    let Decided::Done(mark) = decided else {
        return Err(LedgerError::Corrupt(format!("{decided:?}")));
    };
    assert_eq!((mark.id, mark.event), (ambiguous.id, Some(ambiguous.event.id)));
    assert_eq!((mark.decision, mark.at_ms), (Decision::Release, START_MS + 5));
    for decision in [Decision::Release, Decision::Drop] {
        let again = decide(ledger, ambiguous.id, decision).await?;
        assert_eq!(again, Decided::Already(mark.clone()));
    }
    assert_eq!(decide(ledger, HeldId::new(0), Decision::Drop).await?, Decided::Unknown);
    assert_eq!(ledger.held_one(ambiguous.id).await?, Some(HeldOne::Decided(mark)));
    assert_eq!(ids(ledger, &HeldQuery::default()).await?, []);
    // The event has its original time, and its deliveries are due.
    let logged = ledger.event(ambiguous.event.id).await?.map(|detail| detail.event);
    assert_eq!(logged.map(|event| event.received_ms), Some(ambiguous.event.received_ms));
    let leases = lease(ledger, 10).await?;
    assert_eq!(leases.len(), 2);
    assert!(leases.iter().all(|lease| lease.event == ambiguous.event.id));
    // Its own key belongs to it, and the first event keeps its keys.
    let own = NewEvent { id: event(70, &[]).id, ..ambiguous.event.clone() };
    let known = |first: &NewEvent| Accepted::Duplicate {
        first: first.id,
        first_seen_ms: first.received_ms,
    };
    assert_eq!(accept(ledger, &own).await?, known(&ambiguous.event));
    let again = super::repeat(&first, 71);
    assert_eq!(accept(ledger, &again).await?, known(&first));
    let mut cut = event(72, &[]);
    cut.keys.signatures = [key(101)].into();
    let ambiguous = Accepted::Ambiguous { first: first.id, first_seen_ms: first.received_ms };
    assert_eq!(accept(ledger, &cut).await?, ambiguous);
    Ok(())
}

pub(super) async fn a_released_conflict_takes_no_key<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let first = event(1, &[]);
    accept(ledger, &first).await?;
    let second = NewEvent { fingerprint: Fingerprint(77), ..super::repeat(&first, 2) };
    let conflict = NewHeld::disputing(HeldWhy::Conflict, Some(first.id), second.clone());
    hold(ledger, &conflict).await?;
    decide(ledger, conflict.id, Decision::Release).await?;
    assert!(ledger.event(second.id).await?.is_some());
    assert_eq!(lease(ledger, 10).await?.len(), 1);
    assert_eq!(ledger.stats().await?.keys, 1);
    // A repetition is a conflict as before, and its variant is known.
    let again = NewEvent { id: event(3, &[]).id, ..second };
    let answer = Accepted::Conflict { first: first.id, first_seen_ms: first.received_ms };
    assert_eq!(accept(ledger, &again).await?, answer);
    let again = NewHeld::disputing(HeldWhy::Conflict, Some(first.id), again);
    assert_eq!(hold(ledger, &again).await?, HoldOutcome::Known(conflict.id));
    Ok(())
}

pub(super) async fn of_many_who_decide_one_does<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    for n in 1..=10 {
        let one = held(n, HeldWhy::Conflict, None);
        hold(ledger, &one).await?;
        let order = |decision| HeldOrder { id: one.id, decision, at_ms: START_MS, event: None };
        let (release, drop) = (order(Decision::Release), order(Decision::Drop));
        let (a, b, c, d) = tokio::join!(
            ledger.decide(&release),
            ledger.decide(&drop),
            ledger.decide(&release),
            ledger.decide(&drop),
        );
        let all = [a?, b?, c?, d?];
        let done: Vec<_> = all
            .iter()
            .filter_map(|one| if let Decided::Done(mark) = one { Some(mark) } else { None })
            .collect();
        assert_eq!(done.len(), 1, "{all:?}");
        let same = |one: &Decided| matches!(one, Decided::Done(mark) | Decided::Already(mark) if mark == done[0]);
        assert!(all.iter().all(same), "{all:?}");
        let released = usize::from(done[0].decision == Decision::Release);
        let leases = lease(ledger, 10).await?;
        assert_eq!(leases.len(), released);
        for lease in leases {
            settle(ledger, &lease, LeaseResult::Done).await?;
        }
        assert_eq!(ledger.event(one.event.id).await?.is_some(), released == 1);
    }
    Ok(())
}

pub(super) async fn held_callbacks_outlive_every_sweep<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let (waits, dropped, released) =
        (recut(2), held(3, HeldWhy::Conflict, None), held(4, HeldWhy::Quarantine, None));
    for one in [&waits, &dropped, &released] {
        hold(ledger, one).await?;
    }
    decide(ledger, dropped.id, Decision::Drop).await?;
    clock.advance(400 * 86_400_000);
    accept(ledger, &event(400 * 86_400_000, &[])).await?;
    let policy = Retention {
        now_ms: clock.ms(),
        keep_events: 30 * DAY,
        keep_keys: super::keep(&["s"], 90 * DAY),
        held: crate::ledger::HeldRetention::default(),
    };
    for _ in 0..5 {
        ledger.sweep(&policy, 100).await?;
    }
    let waiting = ledger.held(&HeldQuery::default(), None, 10).await?.held;
    assert_eq!(waiting.iter().map(|one| one.id).collect::<Vec<_>>(), [released.id, waits.id]);
    assert_eq!(waiting[1].event.body, waits.event.body);
    // A callback whose day was dropped can still be released.
    assert!(matches!(decide(ledger, released.id, Decision::Release).await?, Decided::Done(_)));
    let leases = lease(ledger, 10).await?;
    assert_eq!(leases.iter().map(|one| one.event).collect::<Vec<_>>(), [released.event.id]);
    for _ in 0..3 {
        ledger.sweep(&policy, 100).await?;
    }
    for decided in [&dropped, &released] {
        let again = NewHeld { id: HeldId::new(clock.ms()), ..(*decided).clone() };
        assert_eq!(hold(ledger, &again).await?, HoldOutcome::Known(decided.id));
    }
    Ok(())
}

async fn everything(ledger: &impl Ledger, page: usize) -> Result<Vec<Item>, LedgerError> {
    let (mut items, mut cursor) = (Vec::new(), None);
    loop {
        let page = ledger.export(cursor.as_ref(), page).await?;
        items.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(items);
        }
    }
}

async fn fill(ledger: &impl Ledger) -> Result<[NewHeld; 3], LedgerError> {
    let all = [recut(2), held(3, HeldWhy::Conflict, None), held(4, HeldWhy::Quarantine, None)];
    for one in &all {
        hold(ledger, one).await?;
    }
    decide(ledger, all[1].id, Decision::Drop).await?;
    decide(ledger, all[2].id, Decision::Release).await?;
    Ok(all)
}

async fn assert_carried(ledger: &impl Ledger, all: &[NewHeld; 3]) -> Checked {
    let waiting = ledger.held(&HeldQuery::default(), None, 10).await?.held;
    assert_eq!(waiting.iter().map(|one| one.id).collect::<Vec<_>>(), [all[0].id]);
    for one in all {
        let again = NewHeld { id: HeldId::new(START_MS + 99), ..one.clone() };
        assert_eq!(hold(ledger, &again).await?, HoldOutcome::Known(one.id));
    }
    assert!(matches!(decide(ledger, all[0].id, Decision::Release).await?, Decided::Done(_)));
    assert!(ledger.event(all[0].event.id).await?.is_some());
    assert!(ledger.event(all[2].event.id).await?.is_some());
    Ok(())
}

pub(super) async fn held_callbacks_are_carried_over<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let other = Memory::new(clock.clone());
    let all = fill(&other).await?;
    let items = everything(&other, usize::MAX).await?;
    assert_eq!(ledger.import(items.clone()).await?.taken, 4);
    assert_eq!(ledger.import(items).await?.taken, 0);
    let back = everything(ledger, 1).await?;
    let third = Memory::new(clock.clone());
    assert_eq!(third.import(back).await?.taken, 4);
    assert_carried(&third, &all).await?;
    assert_carried(ledger, &all).await
}

pub(super) async fn a_forgotten_source_is_new_again<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let mut first = event(1, &["a"]);
    first.keys.signatures = [key(101)].into();
    accept(ledger, &first).await?;
    let mut again = super::repeat(&first, 9);
    again.keys.signatures = [key(102)].into();
    accept(ledger, &again).await?;
    let other = NewEvent { source: SourceId::from("other"), ..event(5, &["a"]) };
    accept(ledger, &other).await?;
    let all = fill(ledger).await?;
    // Three keys, one that a release wrote, and three held callbacks and marks.
    assert_eq!(ledger.forget(&SourceId::from("s")).await?, 7);
    assert_eq!(ledger.forget(&SourceId::from("s")).await?, 0);
    assert_eq!(ids(ledger, &HeldQuery::default()).await?, []);
    assert_eq!(ledger.stats().await?.held, []);
    for one in &all {
        let again = NewHeld { id: HeldId::new(START_MS + 99), ..one.clone() };
        assert_eq!(hold(ledger, &again).await?, HoldOutcome::Held(again.id));
    }
    // Events stay, with their due deliveries.
    assert!(ledger.event(first.id).await?.is_some());
    assert_eq!(lease(ledger, 10).await?.len(), 3);
    let mut fresh = super::repeat(&first, 12);
    fresh.keys.signatures = [DedupeKey([7; 16])].into();
    assert_eq!(accept(ledger, &fresh).await?, Accepted::New);
    let known = Accepted::Duplicate { first: other.id, first_seen_ms: other.received_ms };
    assert_eq!(accept(ledger, &super::repeat(&other, 13)).await?, known);
    Ok(())
}
