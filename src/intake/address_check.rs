//! Address checks: each is answered once. One who captured a check, or a message under the same
//! signature, learns nothing more with it, and makes no event of a check.

use std::time::Duration;

use super::judging::EarlyReply;
use super::received::Received;
use super::reply::Unacknowledged;
use super::several::Readings;
use crate::ledger::{BatchedLedger, DedupeKey, LedgerError, LogQuery, Nonce, NonceUse, SourceId};
use crate::sender::{Callback, Reason, Resolved, Role};

/// How long a check is remembered where its sender's callbacks never grow too old: a year.
const REMEMBERED: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// How far the clocks of two gateways, or of a gateway and its ledger, may be apart.
const SKEW: Duration = Duration::from_secs(10 * 60);

/// Keeps checks apart from the keys of callbacks. Stored: never to be changed.
const SCOPE: &str = "check/";

/// Uses the signature of an address check, durably, on all gateways that share the ledger. A check
/// that proves nothing is answered without the ledger: no unauthenticated caller loads it.
pub(super) async fn answer(
    callback: &Callback<'_>,
    received: &Received,
    book: &BatchedLedger,
) -> EarlyReply {
    let Some(proof) = callback.check_proof() else {
        return EarlyReply::Is(Unacknowledged::Challenge);
    };
    match used(&proof, received, book).await {
        Ok(NonceUse::First) => EarlyReply::Is(Unacknowledged::Challenge),
        Ok(NonceUse::Repeated) => EarlyReply::refused(Reason::UsedSignature),
        Err(_) => EarlyReply::Is(Unacknowledged::Unavailable),
    }
}

/// Whether a message is what its signature was made for. A signature that covers neither the
/// message nor its identity may be that of an address check: then it was used before, and no event
/// of it is known.
///
/// A message whose recording failed after this looks the same when it is repeated; so it is held,
/// and never refused.
pub(super) async fn readings(
    callback: &Callback<'_>,
    resolved: &Resolved,
    received: &Received,
    book: &BatchedLedger,
) -> Result<Readings, EarlyReply> {
    let proof = resolved.signature_key().and_then(|_| callback.message_proof());
    let Some(proof) = proof else { return Ok(Readings::One) };
    let unavailable = |_| EarlyReply::Is(Unacknowledged::Unavailable);
    if used(&proof, received, book).await.map_err(unavailable)? == NonceUse::First {
        return Ok(Readings::One);
    }
    let query = LogQuery {
        source: Some(received.route().id.clone()),
        transaction: resolved.role(Role::Transaction).map(str::to_owned),
        ..LogQuery::default()
    };
    let known = book.query(&query, None, 1).await.map_err(unavailable)?;
    Ok(if known.events.is_empty() { Readings::Many } else { Readings::One })
}

async fn used(
    proof: &[u8; 32],
    received: &Received,
    book: &BatchedLedger,
) -> Result<NonceUse, LedgerError> {
    let route = received.route();
    let scope = SourceId::from(format!("{SCOPE}{}", route.id.as_str()).as_str());
    let time = route.source.recipe.acceptable_for().unwrap_or(REMEMBERED).saturating_add(SKEW);
    let time_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let expires_ms = received.at_ms().saturating_add(time_ms);
    let nonce = Nonce { key: DedupeKey::new(&scope, proof), expires_ms };
    match book.check_nonces(&[nonce]).await {
        Ok(uses) => Ok(uses.first().copied().unwrap_or(NonceUse::Repeated)),
        Err(error) => {
            tracing::warn!(%error, source = &*route.label, "could not note a signature");
            Err(error)
        }
    }
}
