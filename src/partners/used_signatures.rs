//! Used signatures. A call that changes something needs an unused signature, and uses it before
//! anything else. A call that reads uses it too, and may be repeated. A signature that changed
//! something is not accepted again.
//!
//! # Why callbacks are not among them
//!
//! The sender `renaren` signs callbacks and these calls by one rule, under one key, over the query
//! alone. A signed text is closed: it has one set of parameters. A callback is accepted if its
//! number (`report_number` or `code_number`) is among them. A call is accepted if it has only
//! `company_id`, `time_stamp` and `prefix`. So no text is valid for both, and a callback needs no
//! record here, which would cost it a write. The one exception is `replayable = true` of a source,
//! which accepts a number outside the query: such a source is rejected under the key of a manager.
//!
//! The sender `yibeidiao` signs callbacks, orders and our replies by one rule over `key`, `ts` and
//! `seq`. There the ledger itself separates them: an order is recorded in the sources that would
//! accept its signature, under the identity of a callback with that `key` and `seq`.
//!
//! Taku's open API signs the method and the path, and rules have their own keys. Push
//! configurations are not signed: the call contains a token.

use crate::clock::UnixMillis;
use crate::ledger::{BatchedLedger, DedupeKey, LedgerError, Nonce, NonceUse, SourceId};

/// The largest difference between the clocks of two gateways, or of a gateway and its ledger.
pub(super) const SKEW_MS: i64 = 5 * 60 * 1000;

/// The rule of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The rule of Taku's open API, over everything but the query.
    RewardRule,
    /// The rule of the sender `renaren`, over the query.
    CallbackAddress,
}

/// A signature that verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature<'s> {
    /// The rule that it was made by.
    pub rule: Rule,
    /// The bytes that identify it under its rule.
    pub bytes: &'s [u8],
    /// The end of its validity, by a correct clock.
    pub good_until_ms: UnixMillis,
}

/// A mark on a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// Used.
    Used,
    /// Used, or tried, to change something.
    Wrote,
}

impl Mark {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Used => "",
            Self::Wrote => "/wrote",
        }
    }
}

impl Rule {
    /// The scope that separates the signatures of one rule from those of another. It is stored and
    /// must not change.
    const fn scope(self) -> &'static str {
        match self {
            Self::RewardRule => "manage/reward_rule",
            Self::CallbackAddress => "manage/callback_address",
        }
    }
}

impl Signature<'_> {
    /// Uses the signature to change something, durably, on all gateways that share the ledger.
    /// Returns whether it was unused.
    pub(super) async fn use_to_write(
        &self,
        ledger: &BatchedLedger,
    ) -> Result<NonceUse, LedgerError> {
        // Both in one batch: no call sees one without the other.
        let used = ledger.check_nonces(&[self.nonce(Mark::Used), self.nonce(Mark::Wrote)]).await?;
        Ok(used.first().copied().unwrap_or(NonceUse::Repeated))
    }

    /// Uses the signature to read, durably: from then on it changes nothing. Returns
    /// [`NonceUse::First`] unless it was used to change something, however often it was used to
    /// read.
    pub(super) async fn use_to_read(
        &self,
        ledger: &BatchedLedger,
    ) -> Result<NonceUse, LedgerError> {
        // A nonce that expires at once is looked up and not stored.
        let wrote = Nonce { expires_ms: 0, ..self.nonce(Mark::Wrote) };
        let used = ledger.check_nonces(&[self.nonce(Mark::Used), wrote]).await?;
        Ok(used.last().copied().unwrap_or(NonceUse::Repeated))
    }

    fn nonce(&self, mark: Mark) -> Nonce {
        let scope = format!("{}{}", self.rule.scope(), mark.suffix());
        let key = DedupeKey::new(&SourceId::from(scope.as_str()), self.bytes);
        // One gateway's clock may be behind, and the ledger's ahead.
        Nonce { key, expires_ms: self.good_until_ms.saturating_add(2 * SKEW_MS) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::{BatchOptions, Memory, NoopObserver, StoreClock};

    #[tokio::test]
    async fn a_signature_is_unused_once_under_its_rule() {
        let memory = Memory::new(StoreClock::process());
        let ledger = BatchedLedger::new(memory, BatchOptions::default(), Arc::new(NoopObserver));
        let good_until_ms = crate::clock::now_ms() + 1000;
        let of = |rule, bytes| Signature { rule, bytes, good_until_ms };
        for (rule, bytes, used) in [
            (Rule::CallbackAddress, b"a", NonceUse::First),
            (Rule::CallbackAddress, b"a", NonceUse::Repeated),
            (Rule::CallbackAddress, b"b", NonceUse::First),
            (Rule::RewardRule, b"a", NonceUse::First),
        ] {
            let found = of(rule, bytes).use_to_write(&ledger).await.unwrap();
            assert_eq!(found, used, "{rule:?} {bytes:?}");
        }
    }

    #[tokio::test]
    async fn what_looked_may_look_again_and_changes_nothing() {
        let memory = Memory::new(StoreClock::process());
        let ledger = BatchedLedger::new(memory, BatchOptions::default(), Arc::new(NoopObserver));
        let good_until_ms = crate::clock::now_ms() + 1000;
        let of = |bytes| Signature { rule: Rule::CallbackAddress, bytes, good_until_ms };
        for _ in 0..3 {
            assert_eq!(of(b"look").use_to_read(&ledger).await.unwrap(), NonceUse::First);
        }
        assert_eq!(of(b"look").use_to_write(&ledger).await.unwrap(), NonceUse::Repeated);
        assert_eq!(of(b"change").use_to_write(&ledger).await.unwrap(), NonceUse::First);
        for _ in 0..3 {
            assert_eq!(of(b"change").use_to_read(&ledger).await.unwrap(), NonceUse::Repeated);
        }
    }
}
