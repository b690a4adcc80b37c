//! Transferring: a ledger imports another one's export, once.

use std::time::Duration;

use bytes::Bytes;

use super::{Checked, START_MS, accept, duplicate_of, event, key, lease, repeat, settle};
use crate::ledger::{
    Accepted, Attempt, Decided, Decision, DeliveryState, Document, DocumentChange, Erasure,
    EventDetail, EventKeys, Expect, ExportPage, HeldBounds, HeldId, HeldOrder, HeldWhy, Item, Kind,
    LeaseResult, Ledger, LedgerError, Memory, NewEvent, NewHeld, Nonce, NonceUse, Retention,
    Revision, SourceId, StoreClock, StoredForm,
};

const RULE: Kind = Kind::new("rule");
const RULE_END: Kind = Kind::new("rule_end");
const DAY: Duration = Duration::from_secs(86_400);

/// A ledger with one item of each kind, and its complete events.
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
        let result = match (lease.event == events[1].id, lease.event == events[2].id) {
            (true, _) if lease.target.as_str() == "a" => LeaseResult::Dead,
            (true, _) => LeaseResult::Retry { after: Duration::from_secs(60) },
            (_, true) => LeaseResult::Done,
            _ => continue,
        };
        settle(ledger, &lease, result).await?;
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

/// An event as an export shows it: attempts only of unfinished deliveries.
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
    // Due deliveries stay due, and their attempts continue.
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
    // In this ledger the second event has another id, and the third is done already.
    let keys = EventKeys::from_iter([events[1].keys.identity[1]]);
    let mine = NewEvent { keys, ..event(8, &["a"]) };
    accept(ledger, &mine).await?;
    accept(ledger, &events[3]).await?;
    for lease in lease(ledger, 9).await? {
        settle(ledger, &lease, LeaseResult::Done).await?;
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
    // Documents were imported, under versions that this ledger has not used yet.
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

/// An event with a signature, and keys of two of its duplicates.
async fn fill_keys(ledger: &impl Ledger) -> Result<(NewEvent, Vec<NewEvent>), LedgerError> {
    let mut first = event(1, &[]);
    first.keys.signatures = [key(101)].into();
    accept(ledger, &first).await?;
    let again = [102, 103].map(|signature| {
        let mut again = repeat(&first, signature);
        again.keys.identity.push(key(signature + 100));
        again.keys.signatures = [key(signature)].into();
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
    // The same after the event itself expired.
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
    // And in the other direction.
    let other = Memory::new(clock.clone());
    let mut far = event(900, &[]);
    far.keys.signatures = [key(901)].into();
    accept(&other, &far).await?;
    let mut restamped = repeat(&far, 901);
    restamped.keys.signatures = [key(902)].into();
    accept(&other, &restamped).await?;
    assert!(!ledger.may_hold_older_keys().await?);
    let items = everything(&other, usize::MAX).await?;
    assert_eq!(ledger.import(items.clone()).await?.taken, 2);
    assert_eq!(ledger.import(items).await?.taken, 0);
    assert!(ledger.may_hold_older_keys().await?);
    restamped.id = event(903, &[]).id;
    assert_eq!(accept(ledger, &restamped).await?, duplicate_of(&far));
    let mut recut = event(904, &[]);
    recut.keys.signatures = [key(902)].into();
    let ambiguous = Accepted::Ambiguous { first: far.id, first_seen_ms: far.received_ms };
    assert_eq!(accept(ledger, &recut).await?, ambiguous);
    Ok(())
}

// === While it is read ===

/// The rest of an export, after a page.
async fn rest(ledger: &impl Ledger, page: ExportPage) -> Result<Vec<Item>, LedgerError> {
    let (mut items, mut cursor) = (page.items, page.next);
    while let Some(from) = cursor {
        let page = ledger.export(Some(&from), 1).await?;
        items.extend(page.items);
        cursor = page.next;
    }
    Ok(items)
}

/// The export of a ledger whose second event is erased after the first page, and whose others expire
/// after the second page.
async fn shrinking(
    ledger: &impl Ledger,
    clock: &StoreClock,
    events: &[NewEvent],
) -> Result<Vec<Item>, LedgerError> {
    for event in events {
        accept(ledger, event).await?;
    }
    let first = ledger.export(None, 1).await?;
    let user = events[1].user.clone().unwrap_or_default();
    assert_eq!(ledger.erase(&Erasure { user, source: None }).await?.events, 1);
    let second = ledger.export(first.next.as_ref(), 1).await?;
    clock.advance(40 * 86_400_000);
    accept(ledger, &event(40 * 86_400_000, &[])).await?;
    let policy = Retention {
        now_ms: clock.ms(),
        keep_events: 30 * DAY,
        keep_keys: super::keep(&["s"], 90 * DAY),
        held: crate::ledger::HeldRetention::default(),
    };
    for _ in 0..3 {
        ledger.sweep(&policy, 100).await?;
    }
    Ok([first.items, rest(ledger, second).await?].concat())
}

pub(super) async fn no_key_is_lost_while_an_export_is_read<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let events: Vec<NewEvent> =
        (1..5).map(|n| NewEvent { user: Some(format!("user {n}")), ..event(n, &[]) }).collect();
    let other = Memory::new(clock.clone());
    other.import(shrinking(ledger, clock, &events).await?).await?;
    for known in &events {
        assert_eq!(accept(&other, &repeat(known, 60)).await?, duplicate_of(known));
    }
    Ok(())
}

pub(super) async fn a_key_that_an_export_has_twice_is_taken_once<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let other = Memory::new(clock.clone());
    let first = event(1, &[]);
    accept(&other, &first).await?;
    accept(&other, &event(2, &[])).await?;
    let page = other.export(None, 1).await?;
    let user = first.user.clone().unwrap_or_default();
    other.erase(&Erasure { user, source: None }).await?;
    let items = rest(&other, page).await?;
    assert_eq!(items.len(), 3);
    let imported = ledger.import(items.clone()).await?;
    assert_eq!((imported.taken, imported.known), (2, 1));
    assert_eq!(ledger.import(items).await?.taken, 0);
    assert_eq!(accept(ledger, &repeat(&first, 60)).await?, duplicate_of(&first));
    Ok(())
}

/// Holds the `n`th event as a conflict with `first`.
async fn conflict(ledger: &impl Ledger, first: &NewEvent, n: u64) -> Result<NewHeld, LedgerError> {
    let other = NewEvent { keys: first.keys.clone(), ..event(n, &["a"]) };
    let held = NewHeld::disputing(HeldWhy::Conflict, Some(first.id), other);
    ledger.hold(&held, HeldBounds::default()).await?;
    Ok(held)
}

async fn release(ledger: &impl Ledger, id: HeldId) -> Checked {
    let order = HeldOrder { id, decision: Decision::Release, at_ms: START_MS + 5, event: None };
    assert!(matches!(ledger.decide(&order).await?, Decided::Done(_)));
    Ok(())
}

pub(super) async fn a_release_while_an_export_is_read_is_not_lost<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let other = Memory::new(clock.clone());
    // Of an export of each engine, and in an import by each.
    let first = event(5, &["a"]);
    accept(ledger, &first).await?;
    let held = conflict(ledger, &first, 1).await?;
    let page = ledger.export(None, 1).await?;
    release(ledger, held.id).await?;
    other.import(rest(ledger, page).await?).await?;
    assert!(other.event(held.event.id).await?.is_some());

    let source = Memory::new(clock.clone());
    let first = event(905, &["a"]);
    accept(&source, &first).await?;
    let held = conflict(&source, &first, 901).await?;
    let page = source.export(None, 1).await?;
    release(&source, held.id).await?;
    let items = rest(&source, page).await?;
    assert!(items.iter().any(|item| matches!(item, Item::Held(_))));
    ledger.import(items).await?;
    let leases = lease(ledger, 9).await?;
    assert_eq!(leases.iter().filter(|one| one.event == held.event.id).count(), 1);
    // The callback waits there as well, and its release makes no second event.
    let before = ledger.stats().await?;
    release(ledger, held.id).await?;
    assert_eq!(ledger.stats().await?.events, before.events);
    assert_eq!(ledger.stats().await?.targets, before.targets);
    assert!(lease(ledger, 9).await?.is_empty());
    Ok(())
}

// === Once, and the newest ===

pub(super) async fn an_event_without_keys_is_taken_once<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let other = Memory::new(clock.clone());
    let first = event(1, &["a"]);
    accept(&other, &first).await?;
    let held = conflict(&other, &first, 2).await?;
    release(&other, held.id).await?;
    let base = everything(&other, usize::MAX).await?;
    for lease in lease(&other, 9).await? {
        settle(&other, &lease, LeaseResult::Done).await?;
    }
    let newer = everything(&other, usize::MAX).await?;
    other.forget(&SourceId::from("s")).await?;
    let newest = everything(&other, usize::MAX).await?;
    // As a restore does it: the newest first. And one of them twice in one go.
    let twice = [newest.clone(), newest].concat();
    for (items, taken) in [(twice, 2), (newer.clone(), 1), (base.clone(), 0), (newer, 0), (base, 0)]
    {
        assert_eq!(ledger.import(items).await?.taken, taken);
        assert_eq!(ledger.stats().await?.events, 2);
        assert!(lease(ledger, 9).await?.is_empty(), "an older state is not delivered");
    }
    assert_eq!(accept(ledger, &repeat(&first, 60)).await?, Accepted::New);
    Ok(())
}

/// A change of a rule that is in this version.
fn rule(id: &str, version: Option<Revision>) -> DocumentChange {
    DocumentChange {
        kind: RULE,
        id: id.to_owned(),
        expect: version.map_or(Expect::Absent, Expect::Version),
        body: Some(Bytes::from_static(b"{}")),
        who: "me".to_owned(),
        at_ms: 7,
    }
}

async fn rules(ledger: &impl Ledger) -> Result<Vec<Document>, LedgerError> {
    Ok(ledger.documents(RULE).await?.documents)
}

pub(super) async fn documents_of_one_change_stay_of_one_revision<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let other = Memory::new(clock.clone());
    let first = other.change_all(&[rule("a", None), rule("b", None)]).await?;
    other.change(&rule("c", None)).await?;
    assert_eq!(ledger.import(everything(&other, usize::MAX).await?).await?.taken, 3);
    assert_eq!(ledger.documents(RULE).await?, other.documents(RULE).await?);
    // Nor does a page end between them.
    assert_eq!(everything(ledger, 1).await?.len(), 3);
    // Both are newer in the next export.
    let second = other.change_all(&[rule("a", Some(first)), rule("b", Some(first))]).await?;
    assert_eq!(ledger.import(everything(&other, 1).await?).await?.taken, 2);
    assert_eq!(ledger.documents(RULE).await?, other.documents(RULE).await?);
    // And in a ledger that has passed that revision.
    for n in 0..5 {
        ledger.change(&rule(&format!("own {n}"), None)).await?;
    }
    let before = ledger.change(&rule("own", None)).await?;
    other.change_all(&[rule("a", Some(second)), rule("b", Some(second))]).await?;
    let items = everything(&other, usize::MAX).await?;
    assert_eq!(ledger.import(items.clone()).await?.taken, 2);
    let there = rules(ledger).await?;
    assert!(there[0].version == there[1].version && there[0].version > before);
    assert_eq!(ledger.documents(RULE).await?.revision, there[0].version);
    assert_eq!(ledger.import(items).await?.taken, 0);
    Ok(())
}

/// 1. A document is deleted, and in the same change one of another kind says so.
/// 2. An older export is imported, twice: the deleted one is back, with its own time, and the other one
///    stays as it is. So the two tell that what is back has ended: pauses depend on that.
pub(super) async fn a_deleted_document_is_imported_with_its_time<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let other = Memory::new(clock.clone());
    other.change(&rule("a", None)).await?;
    let items = everything(&other, usize::MAX).await?;
    assert_eq!(ledger.import(items.clone()).await?.taken, 1);
    for end_ms in [8, 9] {
        let end = ledger.document(RULE_END, "a").await?.map(|end| end.version);
        let there = rules(ledger).await?;
        let deleted = DocumentChange { body: None, ..rule("a", Some(there[0].version)) };
        let ended = DocumentChange { kind: RULE_END, at_ms: end_ms, ..rule("a", end) };
        ledger.change_all(&[deleted, ended]).await?;
        assert_eq!(rules(ledger).await?, []);
        for taken in [1, 0] {
            assert_eq!(ledger.import(items.clone()).await?.taken, taken);
            let there = rules(ledger).await?;
            assert_eq!(there.iter().map(|one| one.at_ms).collect::<Vec<_>>(), [7]);
            let end = ledger.document(RULE_END, "a").await?;
            assert_eq!(end.map(|end| end.at_ms), Some(end_ms));
        }
    }
    Ok(())
}

pub(super) async fn a_document_that_differs_from_the_stored_one_is_named<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let offered = |version: u64, at_ms, body: &'static str| {
        let (id, who) = ("a".to_owned(), "them".to_owned());
        let (version, body) = (Revision(version), Bytes::from_static(body.as_bytes()));
        let document = Document { id, version, at_ms, who, body };
        Item::Document { kind: RULE.as_str().to_owned(), document }
    };
    ledger.change(&rule("b", None)).await?;
    let Revision(version) = ledger.change(&rule("a", None)).await?;
    for (item, found) in [
        (offered(version, 9, "{}"), None),
        (offered(version, 9, "theirs"), Some(StoredForm::SameVersion)),
        (offered(version - 1, 8, "theirs"), Some(StoredForm::Older)),
        (offered(version - 1, 6, "theirs"), Some(StoredForm::Younger)),
    ] {
        let imported = ledger.import(vec![item]).await?;
        assert_eq!((imported.taken, imported.known), (0, 1));
        let named: Vec<_> = imported.differing.iter().map(|one| (&*one.kind, &*one.id)).collect();
        assert_eq!(named, found.map(|_| ("rule", "a")).into_iter().collect::<Vec<_>>());
        assert_eq!(imported.differing.first().map(|one| one.stored), found);
        assert_eq!(rules(ledger).await?[0].body.as_ref(), b"{}", "the stored one stays");
    }
    let imported = ledger.import(vec![offered(version + 1, 9, "theirs")]).await?;
    assert_eq!((imported.taken, imported.differing.len()), (1, 0), "a newer one replaces it");
    Ok(())
}
