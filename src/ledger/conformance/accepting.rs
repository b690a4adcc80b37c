//! Accepting: what is fresh, what is a duplicate, and of whom.

use futures_join::join_all;

use super::{Checked, START_MS, accept, duplicate_of, event, key, lease};
use crate::ledger::{Accepted, Ledger, LedgerError, LogQuery, Nonce, NonceUse, StoreClock};

pub(super) async fn a_second_callback_is_a_duplicate_of_the_first<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let first = event(1, &["a"]);
    let mut second = event(2, &["a"]);
    second.keys.clone_from(&first.keys);
    assert_eq!(accept(ledger, &first).await?, Accepted::Fresh);
    assert_eq!(accept(ledger, &second).await?, duplicate_of(&first));
    assert_eq!(accept(ledger, &second).await?, duplicate_of(&first));
    assert_eq!(accept(ledger, &event(3, &[])).await?, Accepted::Fresh);
    // Only the first is stored and delivered.
    assert!(ledger.event(second.id).await?.is_none());
    assert_eq!(lease(ledger, 10).await?.len(), 1);
    Ok(())
}

pub(super) async fn either_key_makes_a_duplicate<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    let mut both = event(1, &[]);
    both.keys.push(key(100));
    assert_eq!(accept(ledger, &both).await?, Accepted::Fresh);
    for known in [key(1), key(100)] {
        for keys in [vec![known], vec![known, key(200)], vec![key(200), known]] {
            let mut other = event(2, &[]);
            other.keys = keys.into();
            assert_eq!(accept(ledger, &other).await?, duplicate_of(&both));
        }
    }
    // What was refused as a duplicate left none of its keys behind.
    let mut third = event(3, &[]);
    third.keys = vec![key(200)].into();
    assert_eq!(accept(ledger, &third).await?, Accepted::Fresh);
    Ok(())
}

pub(super) async fn a_batch_is_judged_in_its_order<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let old = event(1, &[]);
    accept(ledger, &old).await?;
    let (fresh, other) = (event(2, &[]), event(3, &[]));
    let mut of_old = event(4, &[]);
    of_old.keys.clone_from(&old.keys);
    let mut of_fresh = event(5, &[]);
    of_fresh.keys = vec![key(55), key(2)].into();
    let batch = [of_old, fresh.clone(), of_fresh, other, fresh.clone()];
    let accepted = ledger.accept(&batch).await?;
    let expected = [
        duplicate_of(&old),
        Accepted::Fresh,
        duplicate_of(&fresh),
        Accepted::Fresh,
        // The very same event: its own id is what is known.
        Accepted::Fresh,
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
        assert_eq!(accept(ledger, &first).await?, Accepted::Fresh);
    }
    // It is recorded once and delivered once.
    assert_eq!(ledger.query(&LogQuery::default(), None, 10).await?.events.len(), 1);
    assert_eq!(lease(ledger, 10).await?.len(), 1);
    Ok(())
}

pub(super) async fn of_many_at_once_one_is_fresh<L: Ledger>(ledger: &L, _: &StoreClock) -> Checked {
    let offers: Vec<_> = (0..200_u64)
        .map(|n| {
            let mut offer = event(n, &["a"]);
            offer.keys = vec![key(n % 20)].into();
            offer
        })
        .collect();
    let answers = join_all(offers.iter().map(|offer| ledger.accept(std::slice::from_ref(offer))));
    let answers: Vec<Accepted> =
        answers.await.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    for n in 0..20 {
        let group: Vec<_> = offers.iter().zip(&answers).skip(n).step_by(20).collect();
        let fresh: Vec<_> =
            group.iter().filter(|(_, answer)| **answer == Accepted::Fresh).collect();
        assert_eq!(fresh.len(), 1);
        let first = duplicate_of(fresh[0].0);
        assert!(group.iter().all(|(_, answer)| **answer == Accepted::Fresh || **answer == first));
    }
    assert_eq!(lease(ledger, 1000).await?.len(), 20);
    Ok(())
}

pub(super) async fn an_event_that_is_too_large_changes_nothing<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let mut huge = event(1, &["a"]);
    huge.body = vec![7; 1 << 30].into();
    match ledger.accept(&[event(2, &["a"]), huge]).await {
        // An engine may have no such bound.
        Ok(_) => return Ok(()),
        Err(error) => assert!(matches!(error, LedgerError::TooLarge { .. }), "{error}"),
    }
    assert_eq!(lease(ledger, 10).await?, []);
    assert_eq!(accept(ledger, &event(2, &["a"])).await?, Accepted::Fresh);
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
    // Nonces and transactions do not meet.
    assert_eq!(accept(ledger, &event(1, &[])).await?, Accepted::Fresh);
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
