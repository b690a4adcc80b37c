//! Erasing what is held of one user.

use std::time::Duration;

use super::{Checked, accept, duplicate_of, event, lease, node, rejected, settle};
use crate::ledger::{
    Cursor, EarlyExpiry, Erased, Erasure, EventId, HeldBounds, HeldList, HeldQuery, HeldWhy,
    Holding, Item, LeaseResult, Ledger, LedgerError, LogQuery, NewEvent, SourceId, StoreClock,
};

fn of_user(n: u64, user: &str, targets: &[&str]) -> NewEvent {
    NewEvent { user: Some(user.to_owned()), ..event(n, targets) }
}

fn all_of(user: &str) -> Erasure {
    Erasure { user: user.to_owned(), source: None }
}

async fn found(ledger: &impl Ledger, user: &str) -> Result<usize, LedgerError> {
    let query = LogQuery { user: Some(user.to_owned()), ..LogQuery::default() };
    Ok(ledger.query(&query, None, 100).await?.events.len())
}

/// Every item of an export.
async fn exported(ledger: &impl Ledger) -> Result<Vec<Item>, LedgerError> {
    let (mut items, mut cursor): (Vec<Item>, Option<Cursor>) = (Vec::new(), None);
    loop {
        let page = ledger.export(cursor.as_ref(), usize::MAX).await?;
        items.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(items);
        }
    }
}

pub(super) async fn an_erased_user_is_gone_and_the_transactions_stay_known<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let mine = [of_user(1, "gone", &["a", "b"]), of_user(2, "gone", &["a"])];
    let other = of_user(3, "stays", &["a"]);
    for one in mine.iter().chain([&other]) {
        accept(ledger, one).await?;
    }
    // One delivery is done, one is dead, two are pending.
    let leases = lease(ledger, 10).await?;
    assert_eq!(leases.len(), 4);
    let at = |event: &NewEvent, target: &str| {
        let mut all = leases.iter();
        all.find(|one| one.event == event.id && one.target.as_str() == target).cloned()
    };
    for (lease, result) in
        [(at(&mine[0], "a"), LeaseResult::Done), (at(&mine[0], "b"), LeaseResult::Dead)]
    {
        let Some(lease) = lease else { return Err(LedgerError::Corrupt("no lease".into())) };
        settle(ledger, &lease, result).await?;
    }
    let erased = ledger.erase(&all_of("gone")).await?;
    assert_eq!(erased, Erased { events: 2, deliveries: 2, held: 0 });
    assert_eq!(ledger.erase(&all_of("gone")).await?, Erased::default());
    assert_eq!((found(ledger, "gone").await?, found(ledger, "stays").await?), (0, 1));
    for one in &mine {
        assert_eq!(ledger.event(one.id).await?, None);
        let again = super::repeat(one, one.id.ms().unsigned_abs() % 100 + 20);
        assert_eq!(accept(ledger, &again).await?, duplicate_of(one), "the transaction is known");
    }
    // An attempt in flight is not counted, and the other event is delivered as before.
    if let Some(late) = at(&mine[1], "a") {
        settle(ledger, &late, LeaseResult::Done).await?;
    }
    ledger.release(&node()).await?;
    let left = lease(ledger, 10).await?;
    assert_eq!(left.iter().map(|one| one.event).collect::<Vec<_>>(), [other.id]);
    let bodies = exported(ledger).await?.into_iter().filter_map(|item| match item {
        Item::Event { event, .. } => event.user,
        _ => None,
    });
    assert_eq!(bodies.collect::<Vec<_>>(), ["stays"]);
    Ok(())
}

pub(super) async fn an_erasure_of_one_source_leaves_the_others<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let here = of_user(1, "u", &[]);
    let there = NewEvent { source: SourceId::from("other"), ..of_user(5, "u", &[]) };
    accept(ledger, &here).await?;
    accept(ledger, &there).await?;
    let erasure = Erasure { source: Some(SourceId::from("other")), ..all_of("u") };
    assert_eq!(ledger.erase(&erasure).await?.events, 1);
    assert!(ledger.event(here.id).await?.is_some());
    assert_eq!(ledger.event(there.id).await?, None);
    assert_eq!(accept(ledger, &super::repeat(&there, 9)).await?, duplicate_of(&there));
    Ok(())
}

pub(super) async fn a_source_may_keep_its_events_for_a_shorter_time<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let (old, open) = (of_user(1, "u", &[]), of_user(2, "u", &["a"]));
    let other = NewEvent { source: SourceId::from("other"), ..of_user(3, "u", &[]) };
    for one in [&old, &open, &other] {
        accept(ledger, one).await?;
    }
    clock.advance(7_200_000);
    let young =
        NewEvent { received_ms: clock.ms(), id: EventId::new(clock.ms()), ..of_user(4, "u", &[]) };
    accept(ledger, &young).await?;
    // Retention works on closed segments.
    ledger.forget(&SourceId::from("none")).await?;
    let early = EarlyExpiry {
        source: SourceId::from("s"),
        keep: Duration::from_secs(3600),
        now_ms: clock.ms(),
    };
    assert_eq!(ledger.expire_early(&early, 100).await?.events, 1);
    assert_eq!(ledger.expire_early(&early, 100).await?.events, 0);
    assert_eq!(ledger.event(old.id).await?, None);
    for one in [&open, &other, &young] {
        assert!(ledger.event(one.id).await?.is_some(), "unsettled, of another source, or young");
    }
    assert_eq!(accept(ledger, &super::repeat(&old, 9)).await?, duplicate_of(&old));
    Ok(())
}

pub(super) async fn kept_callbacks_of_an_erased_user_are_gone<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let mut batch = Vec::new();
    for (n, why, user) in [
        (1, HeldWhy::Rejected, "gone"),
        (2, HeldWhy::Quarantine, "gone"),
        (3, HeldWhy::Rejected, "stays"),
    ] {
        let mut held = rejected(n, why, 1);
        held.event.user = Some(user.to_owned());
        batch.push(Holding { held, bounds: HeldBounds::default() });
    }
    ledger.hold_all(&batch).await?;
    assert_eq!(ledger.erase(&all_of("gone")).await?, Erased { held: 2, ..Erased::default() });
    let query = HeldQuery { list: HeldList::Rejected, ..HeldQuery::default() };
    let left = ledger.held(&query, None, 10).await?.held;
    assert_eq!(left.iter().map(|one| one.id).collect::<Vec<_>>(), [batch[2].held.id]);
    assert_eq!(ledger.held(&HeldQuery::default(), None, 10).await?.held, []);
    Ok(())
}
