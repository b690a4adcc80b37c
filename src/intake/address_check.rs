//! Address checks: each is answered once. One who captured a check, or a message under the same
//! signature, learns nothing more with it.

use std::time::Duration;

use super::handler::EarlyReply;
use super::received::Received;
use crate::ledger::{BatchedLedger, DedupeKey, Nonce, NonceUse, SourceId};
use crate::sender::{Callback, Outcome, Reason};

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
    let Some(proof) = callback.check_proof() else { return EarlyReply::Is(Outcome::Challenge) };
    let route = received.route();
    let scope = SourceId::from(format!("{SCOPE}{}", route.id.as_str()).as_str());
    let time = route.source.recipe.acceptable_for().unwrap_or(REMEMBERED).saturating_add(SKEW);
    let time_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let expires_ms = received.at_ms().saturating_add(time_ms);
    let nonce = Nonce { key: DedupeKey::new(&scope, &proof), expires_ms };
    match book.check_nonces(&[nonce]).await.as_deref() {
        Ok([NonceUse::First]) => EarlyReply::Is(Outcome::Challenge),
        Ok(_) => EarlyReply::refused(Outcome::Rejected, Reason::UsedSignature),
        Err(error) => {
            tracing::warn!(%error, source = &*route.label, "could not note an address check");
            EarlyReply::Is(Outcome::Unavailable)
        }
    }
}
