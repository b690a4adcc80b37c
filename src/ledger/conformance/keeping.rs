//! Keeping: documents, retention, health.

use std::time::Duration;

use bytes::Bytes;

use super::{Checked, START_MS, accept, duplicate_of, event, key, lease, repeat, settle};
use crate::ledger::{
    Accepted, DocumentChange, DocumentQuery, Expect, GatewayReport, GatewaySlot, Kind, LeaseResult,
    Ledger, LedgerError, LogQuery, NewEvent, NodeId, Retention, Revision, SourceId, StoreClock,
};

const RULE: Kind = Kind::new("rule");
const ADDRESS: Kind = Kind::new("address");

fn put(kind: Kind, id: &str, expect: Expect, body: &'static str) -> DocumentChange {
    DocumentChange {
        kind,
        id: id.to_owned(),
        expect,
        body: Some(Bytes::from_static(body.as_bytes())),
        who: "me".to_owned(),
        at_ms: START_MS,
    }
}

fn delete(kind: Kind, id: &str, version: Revision) -> DocumentChange {
    DocumentChange { body: None, ..put(kind, id, Expect::Version(version), "") }
}

pub(super) async fn documents_have_versions_that_never_come_back<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    assert_eq!(ledger.document(RULE, "1").await?, None);
    let first = ledger.change(&put(RULE, "1", Expect::Absent, "one")).await?;
    let again = ledger.change(&put(RULE, "1", Expect::Absent, "two")).await;
    assert_eq!(again, Err(LedgerError::Conflict { current: Some(first) }));
    let second = ledger.change(&put(RULE, "1", Expect::Version(first), "two")).await?;
    assert!(second > first);
    let late = ledger.change(&put(RULE, "1", Expect::Version(first), "three")).await;
    assert_eq!(late, Err(LedgerError::Conflict { current: Some(second) }));
    let Some(document) = ledger.document(RULE, "1").await? else {
        return Err(LedgerError::Corrupt("the document is missing".into()));
    };
    assert_eq!((document.version, document.body.as_ref()), (second, &b"two"[..]));
    assert_eq!((document.who.as_str(), document.at_ms), ("me", START_MS));
    let gone = ledger.change(&delete(RULE, "1", second)).await?;
    assert_eq!(ledger.document(RULE, "1").await?, None);
    let absent = ledger.change(&delete(RULE, "1", second)).await;
    assert_eq!(absent, Err(LedgerError::Conflict { current: None }));
    let back = ledger.change(&put(RULE, "1", Expect::Absent, "four")).await?;
    assert!(back > gone && gone > second);
    Ok(())
}

pub(super) async fn changes_happen_together_or_not_at_all<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let both = [put(RULE, "1", Expect::Absent, "one"), put(ADDRESS, "a", Expect::Absent, "a")];
    let first = ledger.change_all(&both).await?;
    for (kind, id) in [(RULE, "1"), (ADDRESS, "a")] {
        let document = ledger.document(kind, id).await?;
        assert_eq!(document.map(|document| document.version), Some(first));
    }
    let torn = [
        put(RULE, "1", Expect::Version(first), "two"),
        put(RULE, "2", Expect::Absent, "new"),
        put(ADDRESS, "a", Expect::Absent, "late"),
    ];
    let refused = ledger.change_all(&torn).await;
    assert_eq!(refused, Err(LedgerError::Conflict { current: Some(first) }));
    assert_eq!(ledger.document(RULE, "2").await?, None);
    let rule = ledger.document(RULE, "1").await?;
    assert_eq!(rule.map(|rule| rule.body), Some(Bytes::from_static(b"one")));
    assert_eq!(ledger.documents(RULE).await?.revision, first);
    let over = [delete(RULE, "1", first), put(ADDRESS, "a", Expect::Version(first), "b")];
    assert!(ledger.change_all(&over).await? > first);
    assert_eq!(ledger.document(RULE, "1").await?, None);
    Ok(())
}

pub(super) async fn a_change_wakes_who_waits_for_it<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let before = ledger.documents(RULE).await?.revision;
    assert_eq!(ledger.changed(before, Duration::ZERO).await?, before);
    let change = put(RULE, "1", Expect::Absent, "one");
    let (waited, changed) =
        tokio::join!(ledger.changed(before, Duration::from_secs(10)), ledger.change(&change));
    assert_eq!(waited?, changed?);
    assert!(ledger.changed(before, Duration::from_secs(10)).await? > before);
    Ok(())
}

pub(super) async fn kinds_are_kept_apart<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    for id in ["b", "a"] {
        ledger.change(&put(RULE, id, Expect::Absent, "rule")).await?;
    }
    let last = ledger.change(&put(ADDRESS, "a", Expect::Absent, "address")).await?;
    let rules = ledger.documents(RULE).await?;
    assert_eq!(rules.revision, last);
    let ids: Vec<&str> = rules.documents.iter().map(|document| document.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(ledger.documents(ADDRESS).await?.documents.len(), 1);
    assert_eq!(ledger.documents(Kind::new("rul")).await?.documents, []);
    Ok(())
}

pub(super) async fn the_latest_documents_are_listed_first<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    assert_eq!(ledger.latest_documents(&DocumentQuery::of(RULE), 5).await?, []);
    ledger.change(&put(ADDRESS, "9", Expect::Absent, "of another kind")).await?;
    let ids = ["01", "02", "03", "04", "10"];
    for (id, at_ms) in ids.into_iter().zip(START_MS..) {
        let change = DocumentChange { at_ms, ..put(RULE, id, Expect::Absent, "text") };
        ledger.change(&change).await?;
    }
    let all = DocumentQuery::of(RULE);
    let before = |id: &str| DocumentQuery { before: Some(id.to_owned()), ..all.clone() };
    let since = |ms| DocumentQuery { since_ms: Some(START_MS + ms), ..all.clone() };
    let until = |ms| DocumentQuery { until_ms: Some(START_MS + ms), ..all.clone() };
    let window = DocumentQuery { until_ms: Some(START_MS + 4), ..since(1) };
    let cases: [(DocumentQuery, usize, &[&str]); 9] = [
        (all.clone(), 100, &["10", "04", "03", "02", "01"]),
        (all.clone(), 2, &["10", "04"]),
        (all.clone(), 0, &["10"]),
        (before("04"), 2, &["03", "02"]),
        (before("01"), 2, &[]),
        (since(3), 5, &["10", "04"]),
        (until(2), 5, &["02", "01"]),
        (window.clone(), 2, &["04", "03"]),
        (DocumentQuery { before: Some("04".into()), ..window }, 5, &["03", "02"]),
    ];
    for (query, limit, expected) in cases {
        let found = ledger.latest_documents(&query, limit).await?;
        let ids: Vec<&str> = found.iter().map(|document| document.id.as_str()).collect();
        assert_eq!(ids, expected, "{query:?}");
        for document in &found {
            assert_eq!(ledger.document(RULE, &document.id).await?.as_ref(), Some(document));
        }
    }
    Ok(())
}

pub(super) async fn a_sweep_keeps_what_it_must<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let day = Duration::from_secs(86_400);
    let done = event(1, &["a"]);
    let (pending, dead) = (event(2, &["a", "p"]), event(3, &["d"]));
    for event in [&done, &pending, &dead] {
        accept(ledger, event).await?;
    }
    ledger.change(&put(RULE, "1", Expect::Absent, "one")).await?;
    for lease in lease(ledger, 10).await? {
        match lease.target.as_str() {
            "a" => settle(ledger, &lease, LeaseResult::Done).await?,
            "d" => settle(ledger, &lease, LeaseResult::Dead).await?,
            _ => continue,
        };
    }
    clock.advance(40 * 86_400_000);
    let fresh = event(40 * 86_400_000, &[]);
    accept(ledger, &fresh).await?;
    let policy = Retention {
        now_ms: clock.ms(),
        keep_events: 30 * day,
        keep_keys: super::keep(&["s"], 90 * day),
        held: crate::ledger::HeldRetention::default(),
    };
    for _ in 0..5 {
        ledger.sweep(&policy, 100).await?;
    }
    // Events that are pending, dead or young stay, and every key does.
    for kept in [&pending, &dead, &fresh] {
        let detail = ledger.event(kept.id).await?;
        assert_eq!(detail.map(|detail| detail.event.body), Some(kept.body.clone()));
    }
    for known in [&done, &pending, &dead, &fresh] {
        assert_eq!(accept(ledger, &repeat(known, 7)).await?, duplicate_of(known));
    }
    assert!(ledger.document(RULE, "1").await?.is_some());
    assert_eq!(lease(ledger, 10).await?.len(), 1);
    // The log still reads after every removal.
    let left = ledger.query(&LogQuery::default(), None, 10).await?.events.len();
    assert!((3..=4).contains(&left));
    Ok(())
}

pub(super) async fn keys_that_duplicates_brought_are_kept_as_long<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let day = Duration::from_secs(86_400);
    // One is done, one has a dead delivery, and one is of a source without expiry.
    let mut firsts = [event(1, &["a"]), event(2, &["d"]), event(3, &["a"])];
    firsts[2].source = SourceId::from("other");
    let mut again = Vec::new();
    for (n, first) in (10..).zip(&firsts) {
        accept(ledger, first).await?;
        let mut repeated = NewEvent { source: first.source.clone(), ..repeat(first, n) };
        repeated.keys.signatures = [key(100 + n)].into();
        assert_eq!(accept(ledger, &repeated).await?, duplicate_of(first));
        again.push(repeated);
    }
    for lease in lease(ledger, 10).await? {
        let dead = lease.target.as_str() == "d";
        settle(ledger, &lease, if dead { LeaseResult::Dead } else { LeaseResult::Done }).await?;
    }
    clock.advance(100 * 86_400_000);
    accept(ledger, &event(100 * 86_400_000, &[])).await?;
    let policy = Retention {
        now_ms: clock.ms(),
        keep_events: 30 * day,
        keep_keys: super::keep(&["s"], 90 * day),
        held: crate::ledger::HeldRetention::default(),
    };
    for _ in 0..5 {
        ledger.sweep(&policy, 100).await?;
    }
    let recut = |n: u64, of: &NewEvent| {
        let mut recut = event(n, &[]);
        recut.keys.signatures.clone_from(&of.keys.signatures);
        recut
    };
    let ambiguous = |first: &NewEvent| Accepted::Ambiguous {
        first: first.id,
        first_seen_ms: first.received_ms,
    };
    assert_eq!(accept(ledger, &recut(21, &again[1])).await?, ambiguous(&firsts[1]));
    assert_eq!(accept(ledger, &recut(22, &again[2])).await?, ambiguous(&firsts[2]));
    assert_eq!(accept(ledger, &repeat(&firsts[1], 24)).await?, duplicate_of(&firsts[1]));
    Ok(())
}

pub(super) async fn a_healthy_ledger_says_so<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    let health = ledger.health().await?;
    assert!(health.is_writable());
    assert_eq!(health.mended, [""; 0]);
    Ok(())
}

pub(super) async fn a_record_is_one_gateways_and_outlives_it<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let ttl = Duration::from_secs(30);
    let report = |slot, who: &str, ttl, body: &'static str| GatewayReport {
        slot,
        who: NodeId::from(who),
        ttl,
        body: Bytes::from_static(body.as_bytes()),
    };
    let one = ledger.join(&NodeId::from("one"), ttl).await?;
    assert_eq!((one.slot, one.is_live, one.body.len()), (GatewaySlot(0), false, 0));
    assert_eq!(ledger.report(&report(one.slot, "one", ttl, "1")).await?, Some(vec![]));
    let two = ledger.join(&NodeId::from("two"), ttl).await?;
    if two.slot == one.slot {
        // An engine of one process: the next one takes over.
        assert_eq!(two.body, "1");
        return Ok(());
    }
    let Some(others) = ledger.report(&report(two.slot, "two", ttl, "2")).await? else {
        return Err(LedgerError::Corrupt("the slot is taken".into()));
    };
    let seen: Vec<_> = others.iter().map(|other| (other.is_live, &other.body[..])).collect();
    assert_eq!(seen, [(true, &b"1"[..])]);
    // The first one ends at once, the second one is not heard of any more.
    ledger.report(&report(one.slot, "one", Duration::ZERO, "1 at the end")).await?;
    let three = ledger.join(&NodeId::from("three"), ttl).await?;
    assert_eq!((three.slot, &three.body[..]), (one.slot, &b"1 at the end"[..]));
    assert_eq!(ledger.report(&report(one.slot, "one", ttl, "late")).await?, None);
    clock.advance(30_000);
    let four = ledger.join(&NodeId::from("four"), ttl).await?;
    assert_eq!(four.slot, three.slot);
    let five = ledger.join(&NodeId::from("five"), ttl).await?;
    assert_eq!((five.slot, &five.body[..]), (two.slot, &b"2"[..]));
    Ok(())
}
