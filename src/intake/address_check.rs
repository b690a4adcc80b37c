//! Address checks: each is answered once. One who captured a check, or a message under the same
//! signature, learns nothing more with it, and makes no event of a check.

use std::time::Duration;

use super::judging::{EarlyReply, Readings};
use super::received::Received;
use super::reply::Unacknowledged;
use crate::ledger::{
    BatchedLedger, DedupeKey, EventId, EventIdentity, LedgerError, Nonce, NonceUse, SourceId,
};
use crate::sender::{Callback, IdentityProof, Reason, Resolved};

/// How long a check is remembered where its sender's callbacks never grow too old: a year.
const REMEMBERED: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// How far the clocks of two gateways, or of a gateway and its ledger, may be apart.
const SKEW: Duration = Duration::from_secs(10 * 60);

/// Signatures that were used, for a check or for a message. Stored: never to be changed.
const USED: &str = "check/";

/// The messages that a signature was used for. Stored: never to be changed.
const MESSAGES: &str = "message/";

/// Uses the signature of an address check, durably, on all gateways that share the ledger. A check
/// that proves nothing is answered without the ledger: no unauthenticated caller loads it.
pub(super) async fn answer(
    callback: &Callback<'_>,
    received: &Received,
    ledger: &BatchedLedger,
) -> EarlyReply {
    let Some(proof) = callback.check_proof() else {
        return EarlyReply::Unacknowledged(Unacknowledged::Challenge);
    };
    match note(nonce(USED, &proof, received), received, ledger).await {
        Ok(NonceUse::First) => EarlyReply::Unacknowledged(Unacknowledged::Challenge),
        Ok(NonceUse::Repeated) => EarlyReply::rejected(Reason::UsedSignature),
        Err(_) => EarlyReply::Unacknowledged(Unacknowledged::Unavailable),
    }
}

/// Whether a message is what its signature was made for. A signature that covers neither the
/// message nor its identity may be that of an address check, or of another message: then it was
/// used before, and not for this one.
///
/// A signature is used for the first message that comes under it. That message is noted beside it,
/// because its recording may fail, and its sender then repeats it. A gateway that ends between the
/// two notes holds the repetition, and never refuses it.
pub(super) async fn readings(
    callback: &Callback<'_>,
    resolved: &Resolved,
    received: &Received,
    ledger: &BatchedLedger,
) -> Result<Readings, EarlyReply> {
    let by_kind = resolved.identity_proof() == IdentityProof::OfKind;
    let is_open = by_kind || resolved.signature_keys().next().is_some();
    let Some(proof) = callback.message_proof().filter(|_| is_open) else {
        return Ok(Readings::One);
    };
    let unavailable = |_| EarlyReply::Unacknowledged(Unacknowledged::Unavailable);
    let used = nonce(USED, &proof, received);
    if by_kind {
        // The second signature says what it is, whatever the first one was used for.
        note(used, received, ledger).await.map_err(unavailable)?;
        return Ok(Readings::One);
    }
    let identity = resolved.unmarked_identity().unwrap_or_default();
    let message = nonce(MESSAGES, &[proof.as_slice(), identity].concat(), received);
    // A caller that hangs up must not leave one of the two notes without the other.
    let noting = tokio::spawn(note_message(used, message, ledger.clone()));
    let noted = noting.await.unwrap_or(Err(LedgerError::Unknown));
    let readings = noted.inspect_err(|error| warn(error, received)).map_err(unavailable)?;
    // An earlier version of the gateway noted no messages.
    Ok(match readings {
        Readings::Many if is_known(resolved, received, ledger) => Readings::One,
        other => other,
    })
}

/// Notes a signature that comes with a message, and the message if it is the first one.
async fn note_message(
    used: Nonce,
    message: Nonce,
    ledger: BatchedLedger,
) -> Result<Readings, LedgerError> {
    // A nonce that has ended is looked up and not remembered.
    let looked_up = Nonce { expires_ms: 0, ..message.clone() };
    Ok(match ledger.check_nonces(&[used, looked_up]).await?.as_slice() {
        [NonceUse::First, _] => {
            ledger.check_nonces(&[message]).await?;
            Readings::One
        }
        [_, NonceUse::Repeated] => Readings::One,
        _ => Readings::Many,
    })
}

/// Whether the message is a duplicate of an event, as far as that can be known without a commit.
fn is_known(resolved: &Resolved, received: &Received, ledger: &BatchedLedger) -> bool {
    if received.is_test_call() {
        return false;
    }
    let EventIdentity { keys, fingerprint, .. } = EventIdentity::of(&received.route().id, resolved);
    ledger.known(EventId::new(received.at_ms()), &keys, fingerprint).is_some()
}

/// A note of `proof`, for as long as its callback may be accepted.
fn nonce(scope: &str, proof: &[u8], received: &Received) -> Nonce {
    let route = received.route();
    let scope = SourceId::from(format!("{scope}{}", route.id.as_str()).as_str());
    let time = route.source.recipe.acceptable_for().unwrap_or(REMEMBERED).saturating_add(SKEW);
    let time_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let expires_ms = received.at_ms().saturating_add(time_ms);
    Nonce { key: DedupeKey::new(&scope, proof), expires_ms }
}

async fn note(
    nonce: Nonce,
    received: &Received,
    ledger: &BatchedLedger,
) -> Result<NonceUse, LedgerError> {
    match ledger.check_nonces(&[nonce]).await {
        Ok(uses) => Ok(uses.first().copied().unwrap_or(NonceUse::Repeated)),
        Err(error) => {
            warn(&error, received);
            Err(error)
        }
    }
}

fn warn(error: &LedgerError, received: &Received) {
    tracing::warn!(%error, source = &*received.route().label, "could not note a signature");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::{BatchOptions, Memory, NoopObserver, StoreClock};

    #[tokio::test]
    async fn a_signature_is_used_for_the_first_message_under_it() {
        let memory = Memory::new(StoreClock::process());
        let ledger = BatchedLedger::new(memory, BatchOptions::default(), Arc::new(NoopObserver));
        let expires_ms = crate::clock::now_ms() + 60_000;
        let nonce = |text: &str| {
            let key = DedupeKey::new(&SourceId::from("s"), text.as_bytes());
            Nonce { key, expires_ms }
        };
        let came = |used: &str, message: &str| {
            note_message(nonce(used), nonce(&format!("{used}/{message}")), ledger.clone())
        };
        ledger.check_nonces(&[nonce("of a check")]).await.unwrap();
        for (used, message, expected) in [
            ("1", "a", Readings::One),
            ("1", "a", Readings::One),
            ("1", "b", Readings::Many),
            ("1", "b", Readings::Many),
            ("1", "a", Readings::One),
            ("of a check", "c", Readings::Many),
            ("of a check", "c", Readings::Many),
            ("2", "b", Readings::One),
        ] {
            assert_eq!(came(used, message).await.unwrap(), expected, "{used}, {message}");
        }
    }
}
