//! Transferring: what one ledger exports, another takes, once.

use std::time::Duration;

use bytes::Bytes;

use super::{Checked, START_MS, accept, duplicate_of, event, key, lease, repeat, settle};
use crate::ledger::{
    Accepted, Attempt, DeliveryState, DocumentChange, EventDetail, EventKeys, Expect, Item, Kind,
    Ledger, LedgerError, Memory, NewEvent, Nonce, NonceUse, Retention, StoreClock, Verdict,
};

const RULE: Kind = Kind::new("rule");
const DAY: Duration = Duration::from_secs(86_400);

/// A ledger with one of everything, and the events that are still whole in it.
async fn fill(ledger: &impl Ledger, clock: &StoreClock) -> Result<Vec<NewEvent>, LedgerError> {
    let keys = EventKeys::from_iter([key(2), key(1002)]);
    let two_keys = NewEvent { keys, ..event(2, &["a", "b"]) };
    let events = vec![event(1, &[]), two_keys, event(3, &["a"]), event(4, &["a"])];
    for event in &events {
        accept(ledger, event).await?;
    }
    for (id, body) in [("1", "one"), ("2", "two"), ("1", "three")] {
        let current = ledger.document(RULE, id).await?;
        let expect = current.map_or(Expect::Absent, |found| Expect::Version(found.version));
        let body = Some(Bytes::from_static(body.as_bytes()));
        let (id, who) = (id.to_owned(), "me".to_owned());
        ledger.change(&DocumentChange { kind: RULE, id, expect, body, who, at_ms: 7 }).await?;
    }
    let expires_ms = clock.ms() + 1_000_000;
    ledger.check_nonces(&[Nonce { key: key(9), expires_ms }]).await?;
    for lease in lease(ledger, 9).await? {
        let verdict = match (lease.event == events[1].id, lease.event == events[2].id) {
            (true, _) if lease.target.as_str() == "a" => Verdict::Dead,
            (true, _) => Verdict::Retry { after: Duration::from_secs(60) },
            (_, true) => Verdict::Done,
            _ => continue,
        };
        settle(ledger, &lease, verdict).await?;
    }
    ledger.release(&super::node()).await?;
    Ok(events)
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

/// An event as an export shows it: attempts only where a delivery is not done.
fn shown(detail: Option<EventDetail>) -> Option<EventDetail> {
    let mut detail = detail?;
    if detail.deliveries.iter().all(|delivery| delivery.state == DeliveryState::Done) {
        detail.deliveries.iter_mut().for_each(|delivery| delivery.attempts = Vec::<Attempt>::new());
    }
    Some(detail)
}

async fn assert_same(one: &impl Ledger, other: &impl Ledger, events: &[NewEvent]) -> Checked {
    assert_eq!(one.stats().await?, other.stats().await?);
    assert_eq!(one.documents(RULE).await?, other.documents(RULE).await?);
    for event in events {
        assert_eq!(shown(one.event(event.id).await?), shown(other.event(event.id).await?));
    }
    Ok(())
}

pub(super) async fn an_export_is_taken_by_another_ledger_once<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let events = fill(ledger, clock).await?;
    for page in [1, 300, usize::MAX] {
        let items = everything(ledger, page).await?;
        assert_eq!(items.len(), 2 + events.len() + 1);
        let other = Memory::new(clock.clone());
        let first = other.import(items.clone()).await?;
        assert_eq!((first.taken, first.known), (7, 0));
        assert_same(ledger, &other, &events).await?;
        let again = other.import(items).await?;
        assert_eq!((again.taken, again.known), (0, 7));
        assert_same(ledger, &other, &events).await?;
    }
    Ok(())
}

pub(super) async fn what_another_ledger_exported_is_taken_once<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let other = Memory::new(clock.clone());
    let events = fill(&other, clock).await?;
    let items = everything(&other, usize::MAX).await?;
    for taken in [7, 0] {
        let imported = ledger.import(items.clone()).await?;
        assert_eq!((imported.taken, imported.known), (taken, 7 - taken));
        assert_same(ledger, &other, &events).await?;
    }
    for event in &events {
        for key in event.keys.written() {
            let again = NewEvent { keys: EventKeys::from_iter([key]), ..repeat(event, 50) };
            assert_eq!(accept(ledger, &again).await?, duplicate_of(event));
        }
    }
    let nonce = Nonce { key: key(9), expires_ms: START_MS };
    assert_eq!(ledger.check_nonces(&[nonce]).await?, [NonceUse::Repeated]);
    // What is due there is due here, and goes on being counted.
    let due = lease(ledger, 9).await?;
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].event, due[0].attempt), (events[3].id, 1));
    assert_eq!(due[0].body, events[3].body);
    clock.advance(60_000);
    let due = lease(ledger, 9).await?;
    let retried = due.iter().find(|lease| lease.event == events[1].id);
    assert_eq!(retried.map(|lease| (lease.target.as_str(), lease.attempt)), Some(("b", 2)));
    Ok(())
}

pub(super) async fn an_import_changes_nothing_that_is_known<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let other = Memory::new(clock.clone());
    let events = fill(&other, clock).await?;
    let items = everything(&other, usize::MAX).await?;
    // Here the second event came under another id, and the third is done already.
    let keys = EventKeys::from_iter([events[1].keys.identity[1]]);
    let mine = NewEvent { keys, ..event(8, &["a"]) };
    accept(ledger, &mine).await?;
    accept(ledger, &events[3]).await?;
    for lease in lease(ledger, 9).await? {
        settle(ledger, &lease, Verdict::Done).await?;
    }
    let change = DocumentChange {
        kind: RULE,
        id: "3".to_owned(),
        expect: Expect::Absent,
        body: Some(Bytes::from_static(b"mine")),
        who: "me".to_owned(),
        at_ms: 7,
    };
    let before = ledger.change(&change).await?;
    let imported = ledger.import(items.clone()).await?;
    assert_eq!((imported.taken, imported.known), (5, 2));
    assert_eq!(ledger.event(events[1].id).await?, None);
    assert!(lease(ledger, 9).await?.is_empty());
    // Documents came, under versions that this ledger has not used yet.
    let documents = ledger.documents(RULE).await?.documents;
    let bodies: Vec<&[u8]> = documents.iter().map(|found| found.body.as_ref()).collect();
    assert_eq!(bodies, [&b"three"[..], b"two", b"mine"]);
    assert!(documents[..2].iter().all(|found| found.version > before));
    assert_eq!(ledger.import(items).await?.taken, 0);
    Ok(())
}

pub(super) async fn keys_outlive_their_events_in_an_export<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let other = Memory::new(clock.clone());
    let events = fill(&other, clock).await?;
    clock.advance(40 * 86_400_000);
    let policy = Retention {
        now_ms: clock.ms(),
        keep_events: 30 * DAY,
        keep_keys: super::keep(&["s"], 90 * DAY),
        held: crate::ledger::HeldRetention::default(),
    };
    other.sweep(&policy, 100).await?;
    let items = everything(&other, usize::MAX).await?;
    let past = |item: &&Item| matches!(item, Item::Past(_));
    assert_eq!(items.iter().filter(past).count(), 2);
    ledger.import(items).await?;
    assert_eq!(ledger.event(events[0].id).await?, None);
    for known in &events {
        assert_eq!(accept(ledger, &repeat(known, 60)).await?, duplicate_of(known));
    }
    Ok(())
}

/// An event with a signature, and keys that two of its duplicates brought.
async fn fill_keys(ledger: &impl Ledger) -> Result<(NewEvent, Vec<NewEvent>), LedgerError> {
    let mut first = event(1, &[]);
    first.keys.signature = Some(key(101));
    accept(ledger, &first).await?;
    let again = [102, 103].map(|signature| {
        let mut again = repeat(&first, signature);
        again.keys.identity.push(key(signature + 100));
        again.keys.signature = Some(key(signature));
        again
    });
    for again in &again {
        assert_eq!(accept(ledger, again).await?, duplicate_of(&first));
    }
    Ok((first, again.into()))
}

pub(super) async fn keys_that_duplicates_brought_are_carried_over<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let (first, again) = fill_keys(ledger).await?;
    let mut old = vec![everything(ledger, usize::MAX).await?];
    // The same when the event itself is gone.
    clock.advance(40 * 86_400_000);
    let policy = Retention {
        now_ms: clock.ms(),
        keep_events: 30 * DAY,
        keep_keys: super::keep(&["s"], 90 * DAY),
        held: crate::ledger::HeldRetention::default(),
    };
    accept(ledger, &event(40 * 86_400_000, &[])).await?;
    for _ in 0..3 {
        ledger.sweep(&policy, 100).await?;
    }
    old.push(everything(ledger, 1).await?);
    for items in old {
        let other = Memory::new(clock.clone());
        assert!(!other.may_hold_older_keys().await?);
        other.import(items.clone()).await?;
        assert_eq!(other.import(items).await?.taken, 0);
        assert!(other.may_hold_older_keys().await?);
        for known in again.iter().chain([&first]) {
            let own = NewEvent { id: event(77, &[]).id, ..known.clone() };
            assert_eq!(accept(&other, &own).await?, duplicate_of(&first));
        }
    }
    // And the other way round.
    let other = Memory::new(clock.clone());
    let mut far = event(900, &[]);
    far.keys.signature = Some(key(901));
    accept(&other, &far).await?;
    let mut restamped = repeat(&far, 901);
    restamped.keys.signature = Some(key(902));
    accept(&other, &restamped).await?;
    assert!(!ledger.may_hold_older_keys().await?);
    let items = everything(&other, usize::MAX).await?;
    assert_eq!(ledger.import(items.clone()).await?.taken, 2);
    assert_eq!(ledger.import(items).await?.taken, 0);
    assert!(ledger.may_hold_older_keys().await?);
    restamped.id = event(903, &[]).id;
    assert_eq!(accept(ledger, &restamped).await?, duplicate_of(&far));
    let mut recut = event(904, &[]);
    recut.keys.signature = Some(key(902));
    let ambiguous = Accepted::Ambiguous { first: far.id, first_seen_ms: far.received_ms };
    assert_eq!(accept(ledger, &recut).await?, ambiguous);
    Ok(())
}
