//! Accepting: fresh events, duplicates, and their first events.

use futures_join::join_all;

use super::{Checked, START_MS, accept, duplicate_of, event, key, lease, repeat};
use crate::ledger::{
    Accepted, EventKeys, Fingerprint, Ledger, LedgerError, LogQuery, LookupKey, NewEvent, Nonce,
    NonceUse, StoreClock,
};
use crate::sender::{KeyForm, KeyRole};

pub(super) async fn a_second_callback_is_a_duplicate_of_the_first<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let first = event(1, &["a"]);
    let second = repeat(&first, 2);
    assert_eq!(accept(ledger, &first).await?, Accepted::New);
    assert_eq!(accept(ledger, &second).await?, duplicate_of(&first));
    assert_eq!(accept(ledger, &second).await?, duplicate_of(&first));
    assert_eq!(accept(ledger, &event(3, &[])).await?, Accepted::New);
    // Only the first is stored and delivered.
    assert!(ledger.event(second.id).await?.is_none());
    assert_eq!(lease(ledger, 10).await?.len(), 1);
    Ok(())
}

pub(super) async fn either_identity_makes_a_duplicate<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let both = NewEvent { keys: EventKeys::from_iter([key(1), key(100)]), ..event(1, &[]) };
    assert_eq!(accept(ledger, &both).await?, Accepted::New);
    for known in [key(1), key(100)] {
        for (n, keys) in [(0, vec![known]), (1, vec![known, key(200)]), (2, vec![key(201), known])]
        {
            let other = NewEvent { keys: EventKeys::from_iter(keys), ..repeat(&both, 2 + n) };
            assert_eq!(accept(ledger, &other).await?, duplicate_of(&both));
        }
    }
    // Their unknown keys belong to the first event now.
    for added in [key(200), key(201)] {
        let third = NewEvent { keys: EventKeys::from_iter([added]), ..repeat(&both, 9) };
        assert_eq!(accept(ledger, &third).await?, duplicate_of(&both));
    }
    Ok(())
}

fn signed(n: u64, signature: u64) -> NewEvent {
    let mut event = event(n, &["a"]);
    event.keys.signatures = [key(signature)].into();
    event
}

fn conflict_with(first: &NewEvent) -> Accepted {
    Accepted::Conflict { first: first.id, first_seen_ms: first.received_ms }
}

fn ambiguous_with(first: &NewEvent) -> Accepted {
    Accepted::Ambiguous { first: first.id, first_seen_ms: first.received_ms }
}

/// Whether the keys of none of these events are known.
async fn assert_unknown<L: Ledger>(ledger: &L, keys: &[u64]) -> Checked {
    for (n, unknown) in (500..).zip(keys) {
        let event = NewEvent { keys: EventKeys::from_iter([key(*unknown)]), ..event(n, &[]) };
        assert_eq!(accept(ledger, &event).await?, Accepted::New, "{unknown}");
    }
    Ok(())
}

pub(super) async fn the_content_tells_a_duplicate_from_a_conflict<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let first = signed(1, 101);
    accept(ledger, &first).await?;
    let mut other = NewEvent { fingerprint: Fingerprint(77), ..repeat(&first, 2) };
    other.keys.identity.push(key(200));
    assert_eq!(accept(ledger, &other).await?, conflict_with(&first));
    // Also under another signature: the identity takes precedence.
    other.keys.signatures = [key(102)].into();
    assert_eq!(accept(ledger, &other).await?, conflict_with(&first));
    assert_eq!(accept(ledger, &repeat(&first, 3)).await?, duplicate_of(&first));
    assert_unknown(ledger, &[200, 102]).await
}

pub(super) async fn a_signature_alone_is_ambiguous<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let first = signed(1, 101);
    assert_eq!(accept(ledger, &first).await?, Accepted::New);
    for fingerprint in [first.fingerprint, Fingerprint(7)] {
        let recut = NewEvent { fingerprint, ..signed(2, 101) };
        assert_eq!(accept(ledger, &recut).await?, ambiguous_with(&first));
    }
    assert_eq!(accept(ledger, &repeat(&first, 3)).await?, duplicate_of(&first));
    assert!(ledger.event(signed(2, 101).id).await?.is_none());
    assert_unknown(ledger, &[2]).await
}

pub(super) async fn each_signature_of_an_event_is_known<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let mut first = signed(1, 101);
    first.keys.signatures.push(key(102));
    assert_eq!(accept(ledger, &first).await?, Accepted::New);
    // Another event under one of them, alone or beside a new one.
    for signature in [101, 102] {
        let mut recut = signed(2, signature);
        assert_eq!(accept(ledger, &recut).await?, ambiguous_with(&first));
        recut.keys.signatures = [key(103)].into();
        recut.keys.signatures.push(key(signature));
        assert_eq!(accept(ledger, &recut).await?, ambiguous_with(&first));
    }
    // A repetition adds those that are unknown.
    let mut again = repeat(&first, 3);
    again.keys.signatures = [key(104)].into();
    again.keys.signatures.extend([key(102), key(105)]);
    for _ in 0..2 {
        assert_eq!(accept(ledger, &again).await?, duplicate_of(&first));
    }
    for signature in [104, 105] {
        assert_eq!(accept(ledger, &signed(4, signature)).await?, ambiguous_with(&first));
    }
    assert_eq!(ledger.stats().await?.keys, 5);
    assert_unknown(ledger, &[2, 4, 103]).await
}

pub(super) async fn a_duplicate_adds_its_keys_to_the_first_event<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let first = signed(1, 101);
    accept(ledger, &first).await?;
    // The same content under another signature, and then a re-cut of that one.
    let mut again = repeat(&first, 2);
    again.keys.signatures = [key(102)].into();
    for _ in 0..2 {
        assert_eq!(accept(ledger, &again).await?, duplicate_of(&first));
    }
    assert_eq!(accept(ledger, &signed(3, 102)).await?, ambiguous_with(&first));
    // A key of another event stays with it.
    let other = signed(4, 104);
    accept(ledger, &other).await?;
    again.keys.signatures = [key(104)].into();
    assert_eq!(accept(ledger, &again).await?, duplicate_of(&first));
    assert_eq!(accept(ledger, &signed(5, 104)).await?, ambiguous_with(&other));
    assert_eq!(ledger.stats().await?.keys, 5);
    Ok(())
}

fn looked_up(n: u64, role: KeyRole, form: KeyForm, fingerprint: Fingerprint) -> LookupKey {
    LookupKey { key: key(n), role, form, fingerprint }
}

pub(super) async fn an_older_key_is_looked_up_and_not_written<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    // As an older version wrote them: other keys, another fingerprint of the same content.
    let (old, cut) = (event(1, &[]), event(2, &[]));
    accept(ledger, &old).await?;
    accept(ledger, &cut).await?;
    let with = |n: u64, lookups: &[LookupKey]| {
        let mut event = signed(n, 1000 + n);
        event.keys.lookups = lookups.to_vec();
        event
    };
    let (identity, signature) = (KeyRole::Identity, KeyRole::Signature);
    let same = looked_up(1, identity, KeyForm::Older, old.fingerprint);
    let other = looked_up(1, identity, KeyForm::Older, Fingerprint(9));
    let recut = looked_up(2, signature, KeyForm::Older, Fingerprint(9));
    let unknown = looked_up(99, identity, KeyForm::Older, old.fingerprint);
    assert_eq!(accept(ledger, &with(3, &[other])).await?, conflict_with(&old));
    assert_eq!(accept(ledger, &with(4, std::slice::from_ref(&recut))).await?, ambiguous_with(&cut));
    // An identity takes precedence, and from then on today's keys are known as well.
    let again = with(5, &[recut, unknown.clone(), same]);
    assert_eq!(accept(ledger, &again).await?, duplicate_of(&old));
    assert_eq!(accept(ledger, &again).await?, duplicate_of(&old));
    let mut today = signed(5, 1005);
    today.id = event(6, &[]).id;
    assert_eq!(accept(ledger, &today).await?, duplicate_of(&old));
    assert_eq!(accept(ledger, &signed(7, 1005)).await?, ambiguous_with(&old));
    // An unknown callback is new, and the looked-up key stays unknown.
    assert_eq!(accept(ledger, &with(8, &[unknown])).await?, Accepted::New);
    assert_unknown(ledger, &[99, 3, 4, 1003, 1004]).await
}

pub(super) async fn a_mark_takes_no_place_and_adds_nothing<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let marked = |n: u64, marked: u64, plain: u64, fingerprint| {
        let mut event = NewEvent { fingerprint, ..signed(marked, marked + 1) };
        event.id = self::event(n, &[]).id;
        let lookup = |n, role| looked_up(n, role, KeyForm::Unmarked, fingerprint);
        let (identity, signature) = (KeyRole::Identity, KeyRole::Signature);
        event.keys.lookups = vec![lookup(plain, identity), lookup(plain + 1, signature)];
        event
    };
    // The marked one first: the unmarked one is an event of its own.
    let early = marked(1, 101, 11, Fingerprint(11));
    assert_eq!(accept(ledger, &early).await?, Accepted::New);
    let plain = signed(11, 12);
    assert_eq!(accept(ledger, &plain).await?, Accepted::New);
    // The unmarked one first: a marked one is a duplicate, a conflict, or ambiguous.
    let late = signed(21, 22);
    accept(ledger, &late).await?;
    let same = marked(2, 201, 21, late.fingerprint);
    assert_eq!(accept(ledger, &same).await?, duplicate_of(&late));
    let other = marked(3, 301, 21, Fingerprint(5));
    assert_eq!(accept(ledger, &other).await?, conflict_with(&late));
    let mut recut = marked(4, 401, 21, late.fingerprint);
    recut.keys.lookups[0].key = key(31);
    assert_eq!(accept(ledger, &recut).await?, ambiguous_with(&late));
    // Another reading of a marked event's signature is held, also once the unmarked one of that
    // reading is an event.
    let first = marked(5, 501, 51, Fingerprint(51));
    assert_eq!(accept(ledger, &first).await?, Accepted::New);
    let mut recut = marked(6, 601, 61, Fingerprint(61));
    recut.keys.signatures.clone_from(&first.keys.signatures);
    assert_eq!(accept(ledger, &recut).await?, ambiguous_with(&first));
    assert_eq!(accept(ledger, &signed(61, 62)).await?, Accepted::New);
    assert_eq!(accept(ledger, &recut).await?, ambiguous_with(&first));
    assert_unknown(ledger, &[201, 202, 301, 302, 401, 402, 31, 601, 602]).await
}

pub(super) async fn added_keys_are_judged_in_the_order_of_a_batch<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let first = signed(1, 101);
    let mut again = repeat(&first, 2);
    again.keys.signatures = [key(102)].into();
    let (recut, unlike) = (signed(3, 102), signed(4, 104));
    let conflict = NewEvent { fingerprint: Fingerprint(9), ..repeat(&unlike, 5) };
    let batch = [first.clone(), again.clone(), recut, unlike.clone(), conflict, again];
    let expected = [
        Accepted::New,
        duplicate_of(&first),
        ambiguous_with(&first),
        Accepted::New,
        conflict_with(&unlike),
        duplicate_of(&first),
    ];
    assert_eq!(ledger.accept(&batch).await?, expected);
    assert_eq!(ledger.stats().await?.keys, 5);
    assert_unknown(ledger, &[3]).await
}

pub(super) async fn a_batch_is_judged_in_its_order<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let old = event(1, &[]);
    accept(ledger, &old).await?;
    let (fresh, other) = (event(2, &[]), event(3, &[]));
    let of_old = repeat(&old, 4);
    let keys = EventKeys::from_iter([key(55), key(2)]);
    let of_fresh = NewEvent { keys, ..repeat(&fresh, 5) };
    let batch = [of_old, fresh.clone(), of_fresh, other, fresh.clone()];
    let accepted = ledger.accept(&batch).await?;
    let expected = [
        duplicate_of(&old),
        Accepted::New,
        duplicate_of(&fresh),
        Accepted::New,
        // The same event: its own id is known.
        Accepted::New,
    ];
    assert_eq!(accepted, expected);
    assert_eq!(ledger.query(&LogQuery::default(), None, 10).await?.events.len(), 3);
    assert_eq!(ledger.accept(&[]).await?, []);
    Ok(())
}

pub(super) async fn the_same_id_again_is_fresh_again<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let first = event(1, &["a"]);
    for _ in 0..3 {
        assert_eq!(accept(ledger, &first).await?, Accepted::New);
    }
    // Each event is recorded once and delivered once.
    assert_eq!(ledger.query(&LogQuery::default(), None, 10).await?.events.len(), 1);
    assert_eq!(lease(ledger, 10).await?.len(), 1);
    Ok(())
}

pub(super) async fn of_many_at_once_one_is_fresh<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    let offers: Vec<_> = (0..200_u64)
        .map(|n| {
            let keys = EventKeys::from_iter([key(n % 20)]);
            NewEvent { keys, fingerprint: Fingerprint(n % 20), ..event(n, &["a"]) }
        })
        .collect();
    let answers = join_all(offers.iter().map(|offer| ledger.accept(std::slice::from_ref(offer))));
    let answers: Vec<Accepted> =
        answers.await.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    for n in 0..20 {
        let group: Vec<_> = offers.iter().zip(&answers).skip(n).step_by(20).collect();
        let fresh: Vec<_> = group.iter().filter(|(_, answer)| **answer == Accepted::New).collect();
        assert_eq!(fresh.len(), 1);
        let first = duplicate_of(fresh[0].0);
        assert!(group.iter().all(|(_, answer)| **answer == Accepted::New || **answer == first));
    }
    assert_eq!(lease(ledger, 1000).await?.len(), 20);
    Ok(())
}

/// A callback, its repetitions, re-cuts of it, other content under its identity, and another state of
/// it, all at once: whatever comes first, each signature makes one event at most, and every other
/// answer names an event that exists.
pub(super) async fn variants_at_once_make_one_event_for_each_signature<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    const GROUPS: u64 = 12;
    const COPIES: u64 = 4;
    let mut offers = Vec::new();
    for n in 0..GROUPS * COPIES * 5 {
        let (group, form) = (n / 5 % GROUPS, n % 5);
        let of = |place: u64| group * 10 + place;
        // Identity, signature, content.
        let (identity, signature, content) = match form {
            0 => (of(1), of(2), of(3)), // the callback itself
            1 => (of(1), of(4), of(3)), // signed again
            2 => (of(5), of(2), of(6)), // re-cut
            3 => (of(1), of(2), of(7)), // other content
            _ => (of(8), of(9), of(3)), // a state with keys of its own
        };
        let mut keys = EventKeys::from_iter([key(identity)]);
        keys.signatures = [key(signature)].into();
        let offer = NewEvent { keys, fingerprint: Fingerprint(content), ..event(n, &["a"]) };
        // Spread, so that no form is always first.
        let at = usize::try_from(n * 7).unwrap_or(0) % (offers.len() + 1);
        offers.insert(at, offer);
    }
    let answers = join_all(offers.iter().map(|offer| ledger.accept(std::slice::from_ref(offer))));
    let answers: Vec<Accepted> =
        answers.await.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    assert_eq!(answers.len(), offers.len());
    let is_fresh = |answer: &Accepted| *answer == Accepted::New;
    let pairs = || offers.iter().zip(&answers);
    let fresh: Vec<&NewEvent> =
        pairs().filter(|(_, answer)| is_fresh(answer)).map(|(offer, _)| offer).collect();
    for (at, one) in fresh.iter().enumerate() {
        let twin = fresh[..at].iter().find(|other| other.keys.signatures == one.keys.signatures);
        assert_eq!(twin, None, "one signature, two events");
        let twin = fresh[..at].iter().find(|other| other.keys.identity == one.keys.identity);
        assert_eq!(twin, None, "one identity, two events");
    }
    for (offer, answer) in pairs().filter(|(_, answer)| !is_fresh(answer)) {
        let named = |first| fresh.iter().find(|event| event.id == first);
        match answer {
            Accepted::Duplicate { first, .. } => {
                let own = Some((&offer.keys.identity, offer.fingerprint));
                let first = named(*first).map(|event| (&event.keys.identity, event.fingerprint));
                assert_eq!(first, own);
            }
            Accepted::Conflict { first, .. } | Accepted::Ambiguous { first, .. } => {
                assert!(named(*first).is_some(), "{answer:?} of an event that is missing");
            }
            Accepted::New => {}
        }
    }
    // Both states of each group have an event, and only events are delivered.
    assert!(fresh.len() as u64 >= 2 * GROUPS, "{}", fresh.len());
    assert_eq!(lease(ledger, 1000).await?.len(), fresh.len());
    // Again: what was an event is a duplicate of itself.
    for event in &fresh {
        let again = NewEvent { id: repeat(event, 9999).id, ..(*event).clone() };
        assert_eq!(accept(ledger, &again).await?, duplicate_of(event));
    }
    Ok(())
}

pub(super) async fn an_event_that_is_too_large_changes_nothing<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let mut huge = event(1, &["a"]);
    huge.body = vec![7; 1 << 30].into();
    match ledger.accept(&[event(2, &["a"]), huge]).await {
        // An engine may have no such limit.
        Ok(_) => return Ok(()),
        Err(error) => assert!(matches!(error, LedgerError::TooLarge { .. }), "{error}"),
    }
    assert_eq!(lease(ledger, 10).await?, []);
    assert_eq!(accept(ledger, &event(2, &["a"])).await?, Accepted::New);
    Ok(())
}

pub(super) async fn a_nonce_is_first_once_until_it_ends<L: Ledger>(
    ledger: &L,
    clock: &StoreClock,
) -> Checked {
    let nonce = |n, after_ms| Nonce { key: key(n), expires_ms: START_MS + after_ms };
    let uses = ledger.check_nonces(&[nonce(1, 1000), nonce(1, 1000), nonce(2, 5000)]).await?;
    assert_eq!(uses, [NonceUse::First, NonceUse::Repeated, NonceUse::First]);
    clock.advance(999);
    assert_eq!(ledger.check_nonces(&[nonce(1, 9000)]).await?, [NonceUse::Repeated]);
    clock.advance(1);
    let uses = ledger.check_nonces(&[nonce(1, 9000), nonce(2, 9000)]).await?;
    assert_eq!(uses, [NonceUse::First, NonceUse::Repeated]);
    // Nonces and transactions are independent.
    assert_eq!(accept(ledger, &event(1, &[])).await?, Accepted::New);
    Ok(())
}

/// Waits for many futures of one kind together, in one task.
mod futures_join {
    use std::future::{Future, poll_fn};
    use std::pin::Pin;
    use std::task::Poll;

    pub(super) async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
        let mut waiting: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
        let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
        poll_fn(|context| {
            for (future, slot) in
                waiting.iter_mut().zip(&mut done).filter(|(_, slot)| slot.is_none())
            {
                if let Poll::Ready(output) = future.as_mut().poll(context) {
                    *slot = Some(output);
                }
            }
            if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        done.into_iter().flatten().collect()
    }
}
