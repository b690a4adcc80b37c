//! Rejected callbacks: samples that make room, and a quarantine that loses nothing.

use std::time::Duration;

use super::{Checked, START_MS, accept, event, rejected};
use crate::ledger::{
    Accepted, Decided, Decision, HeldBounds, HeldId, HeldList, HeldMark, HeldOne, HeldOrder,
    HeldQuery, HeldRetention, HeldWhy, HoldOutcome, Holding, KeepKeys, Ledger, LedgerError,
    NewEvent, NewHeld, REJECTED_MAX, Rejection, Retention, SourceId, StoreClock,
};
use crate::sender::Reason;

const DAY: Duration = Duration::from_secs(86_400);

/// The id of one that is held.
fn rejected_id(outcome: HoldOutcome) -> HeldId {
    match outcome {
        HoldOutcome::Held(id) | HoldOutcome::Known(id) => id,
        HoldOutcome::Full => HeldId::new(0),
    }
}

fn rejections() -> HeldQuery {
    HeldQuery { list: HeldList::Rejected, ..HeldQuery::default() }
}

async fn hold_all(ledger: &impl Ledger, all: &[NewHeld]) -> Result<Vec<HoldOutcome>, LedgerError> {
    let bounds = HeldBounds::default();
    let batch: Vec<Holding> =
        all.iter().map(|held| Holding { held: held.clone(), bounds }).collect();
    ledger.hold_all(&batch).await
}

async fn ids(ledger: &impl Ledger, query: &HeldQuery) -> Result<Vec<HeldId>, LedgerError> {
    let page = ledger.held(query, None, 2000).await?;
    assert_eq!(page.next, None);
    Ok(page.held.iter().map(|held| held.id).collect())
}

pub(super) async fn samples_make_room_and_a_flood_only_for_itself<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let few: Vec<NewHeld> = (0..5).map(|n| rejected(n, HeldWhy::Rejected, 1)).collect();
    hold_all(ledger, &few).await?;
    let most = u32::try_from(REJECTED_MAX.count).unwrap_or(u32::MAX);
    let flood: Vec<NewHeld> = (10..most + 60).map(|n| rejected(n, HeldWhy::Rejected, 2)).collect();
    let outcomes = hold_all(ledger, &flood).await?;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, HoldOutcome::Held(_))));
    let found = ids(ledger, &rejections()).await?;
    assert_eq!(found.len() as u64, REJECTED_MAX.count);
    assert!(few.iter().all(|one| found.contains(&one.id)));
    let newest: Vec<HeldId> = flood.iter().rev().map(|one| one.id).take(900).collect();
    assert_eq!(found[..900], newest);
    assert_eq!(ledger.held_one(flood[0].id).await?, None);
    // Samples are not in the list of waiting callbacks.
    assert_eq!(ids(ledger, &HeldQuery::default()).await?, []);
    assert_eq!(ledger.stats().await?.held, []);
    let read = ledger.held_one(few[3].id).await?;
    assert_eq!(read, Some(HeldOne::Waiting(Box::new(few[3].clone()))));
    assert!(Rejection::read(&few[3]).is_ok_and(|one| one.id == few[3].id && !one.held));
    Ok(())
}

pub(super) async fn a_quarantine_is_full_and_leaves_room_for_other_callers<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let bounds = HeldBounds { count: 40, bytes: 1 << 20 };
    let of = |range: std::ops::Range<u32>, client| -> Vec<Holding> {
        let held = range.map(|n| rejected(n, HeldWhy::Quarantine, client));
        held.map(|held| Holding { held, bounds }).collect()
    };
    let is_held = |outcome: &&HoldOutcome| matches!(outcome, HoldOutcome::Held(_));
    let outcomes = ledger.hold_all(&of(0..60, 1)).await?;
    assert_eq!(outcomes.iter().filter(is_held).count(), 30);
    assert_eq!(outcomes.last(), Some(&HoldOutcome::Full));
    let others = ledger.hold_all(&of(100..110, 2)).await?;
    let room = others.iter().filter(is_held).count();
    assert!((7..10).contains(&room), "{room}");
    // A held callback stays, and a repetition of it is known.
    let mut again = of(0..1, 1);
    let first = outcomes[0];
    again[0].held.id = HeldId::new(START_MS + 999);
    let id = rejected_id(first);
    assert_eq!(ledger.hold_all(&again).await?, [HoldOutcome::Known(id)]);
    assert_eq!(ids(ledger, &HeldQuery::default()).await?.len(), 30 + room);
    assert_eq!(ids(ledger, &rejections()).await?.len(), 30 + room);
    Ok(())
}

pub(super) async fn rejections_are_found_by_what_they_claim<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let mut all = vec![
        rejected(1, HeldWhy::Rejected, 1),
        rejected(2, HeldWhy::Quarantine, 1),
        rejected(4, HeldWhy::Rejected, 2),
    ];
    all[2].reason = Some(Reason::Stale);
    hold_all(ledger, &all).await?;
    let find = async |query: HeldQuery| ids(ledger, &query).await;
    let some = |at: &[usize]| -> Vec<HeldId> { at.iter().map(|at| all[*at].id).collect() };
    assert_eq!(find(rejections()).await?, some(&[2, 1, 0]));
    let user = Some("u-1".to_owned());
    assert_eq!(find(HeldQuery { user, ..rejections() }).await?, some(&[2, 0]));
    let transaction = Some("t-2".to_owned());
    assert_eq!(find(HeldQuery { transaction, ..rejections() }).await?, some(&[1]));
    let claims = |text: &str| HeldQuery { claims: Some(text.to_owned()), ..rejections() };
    assert_eq!(find(claims("u-1")).await?, some(&[2, 0]));
    assert_eq!(find(claims("t-4")).await?, some(&[2]));
    let reason = Some(Reason::Stale);
    assert_eq!(find(HeldQuery { reason, ..rejections() }).await?, some(&[2]));
    let held = HeldQuery { why: Some(HeldWhy::Quarantine), ..rejections() };
    assert_eq!(find(held).await?, some(&[1]));
    let since_ms = Some(START_MS + 2);
    let time = HeldQuery { since_ms, until_ms: Some(START_MS + 4), ..rejections() };
    assert_eq!(find(time).await?, some(&[1]));
    let source = Some(SourceId::from("other"));
    assert_eq!(find(HeldQuery { source, ..rejections() }).await?, []);
    // Another reason since then.
    ledger.note_reason(all[1].id, Reason::NotOurs).await?;
    ledger.note_reason(HeldId::new(1), Reason::NotOurs).await?;
    let reason = Some(Reason::NotOurs);
    assert_eq!(find(HeldQuery { reason, ..rejections() }).await?, some(&[1]));
    let one = ledger.held_one(all[1].id).await?;
    assert!(matches!(one, Some(HeldOne::Waiting(held)) if held.reason == reason));
    Ok(())
}

pub(super) async fn what_is_settled_is_settled_once<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let held = rejected(3, HeldWhy::Quarantine, 1);
    hold_all(ledger, std::slice::from_ref(&held)).await?;
    // A callback that now verifies is recorded as every event is, however often.
    let recorded = NewEvent { id: held.id.event(), ..event(3, &["a"]) };
    for _ in 0..2 {
        assert_eq!(accept(ledger, &recorded).await?, Accepted::New);
    }
    let settle = HeldOrder {
        id: held.id,
        decision: Decision::Settle,
        at_ms: START_MS + 9,
        event: Some(recorded.id),
    };
    let mark = HeldMark {
        id: held.id,
        source: held.event.source.clone(),
        why: HeldWhy::Quarantine,
        anchor: held.anchor,
        variant: held.variant,
        decision: Decision::Release,
        at_ms: START_MS + 9,
        event: Some(recorded.id),
    };
    assert_eq!(ledger.decide(&settle).await?, Decided::Done(mark.clone()));
    assert_eq!(ledger.decide(&settle).await?, Decided::Already(mark));
    assert_eq!(ids(ledger, &HeldQuery::default()).await?, []);
    assert_eq!(super::lease(ledger, 10).await?.len(), 1);
    Ok(())
}

pub(super) async fn what_is_rejected_has_its_time<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let all = [
        rejected(1, HeldWhy::Rejected, 1),
        rejected(2, HeldWhy::Quarantine, 1),
        rejected(3, HeldWhy::Quarantine, 1),
    ];
    hold_all(ledger, &all).await?;
    let drop = HeldOrder { id: all[2].id, decision: Decision::Drop, at_ms: START_MS, event: None };
    ledger.decide(&drop).await?;
    let policy = |clock: &StoreClock| Retention {
        now_ms: clock.ms(),
        keep_events: 30 * DAY,
        keep_keys: Vec::new(),
        held: HeldRetention {
            samples: Some(7 * DAY),
            quarantined: vec![KeepKeys { source: SourceId::from("s"), time: 14 * DAY }],
        },
    };
    clock.advance(8 * 86_400_000);
    accept(ledger, &event(8 * 86_400_000, &[])).await?;
    ledger.sweep(&policy(clock), 100).await?;
    assert_eq!(ids(ledger, &rejections()).await?, [all[1].id]);
    let again = NewHeld { id: HeldId::new(clock.ms()), ..all[2].clone() };
    let known = HoldOutcome::Known(all[2].id);
    assert_eq!(ledger.hold(&again, HeldBounds::default()).await?, known);
    clock.advance(7 * 86_400_000);
    accept(ledger, &event(15 * 86_400_000, &[])).await?;
    for _ in 0..3 {
        ledger.sweep(&policy(clock), 100).await?;
    }
    assert_eq!(ids(ledger, &rejections()).await?, []);
    // Nothing is left of the one that was dropped.
    let held = HoldOutcome::Held(again.id);
    assert_eq!(ledger.hold(&again, HeldBounds::default()).await?, held);
    Ok(())
}
