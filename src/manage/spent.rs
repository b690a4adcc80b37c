//! Signatures that were used. A call that changes something needs one that is unused, and uses it
//! before it does anything else; a call that looks uses it too, and may come again. One that changed
//! something is good for nothing more.
//!
//! # Why callbacks are not among them
//!
//! The sender `renaren` signs callbacks and these calls by one rule, under one key, over the query
//! alone. A signed text of it is closed: it has one set of parameters. A callback is taken if its
//! number (`report_number` or `code_number`) is among them; a call is taken if nothing is among them
//! but `company_id`, `time_stamp` and `prefix`. So no text is good for both, and a callback has
//! nothing to note here, which would cost it a write. The one way out of this is `replayable = true`
//! of a source, which takes a number outside the query: such a source is refused under the key of a
//! manager.
//!
//! The sender `yibeidiao` signs callbacks, orders and our answers by one rule over `key`, `ts` and
//! `seq`. There the ledger itself keeps them apart: an order is recorded in the sources that would
//! take its signature, under the identity that a callback with that `key` and `seq` has.
//!
//! Taku's open API signs the method and the path, and rules have keys of their own. Push
//! configurations are not signed at all: a token is sent along.

use crate::clock::UnixMillis;
use crate::ledger::{BatchedLedger, DedupeKey, LedgerError, Nonce, NonceUse, SourceId};

/// How far the clocks of two gateways, or of a gateway and its ledger, may be apart.
pub(super) const SKEW_MS: i64 = 5 * 60 * 1000;

/// Which rule a signature was made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// That of Taku's open API, over everything but the query.
    RewardRule,
    /// That of the sender `renaren`, over the query.
    CallbackAddress,
}

/// A signature that verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature<'s> {
    /// How it was made.
    pub rule: Rule,
    /// What tells it from all others under its rule.
    pub bytes: &'s [u8],
    /// Until when a gateway with a right clock takes it.
    pub good_until_ms: UnixMillis,
}

/// What is noted of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// It was used.
    Used,
    /// It was used, or tried, to change something.
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
    /// What keeps the signatures of one rule apart from those of another. Stored: never to be
    /// changed.
    const fn scope(self) -> &'static str {
        match self {
            Self::RewardRule => "manage/reward_rule",
            Self::CallbackAddress => "manage/callback_address",
        }
    }
}

impl Signature<'_> {
    /// Uses it to change something, durably, on all gateways that share the ledger. Answers whether
    /// it was unused.
    pub async fn use_to_write(&self, book: &BatchedLedger) -> Result<NonceUse, LedgerError> {
        // Both in one batch, so that no call sees the one without the other.
        let used = book.check_nonces(&[self.nonce(Mark::Used), self.nonce(Mark::Wrote)]).await?;
        Ok(used.first().copied().unwrap_or(NonceUse::Repeated))
    }

    /// Uses it to look, durably: from then on it changes nothing. Answers [`NonceUse::First`] unless
    /// it was used to change something, however often it was used to look.
    pub async fn use_to_read(&self, book: &BatchedLedger) -> Result<NonceUse, LedgerError> {
        // What ends at once is looked up, and not noted.
        let wrote = Nonce { expires_ms: 0, ..self.nonce(Mark::Wrote) };
        let used = book.check_nonces(&[self.nonce(Mark::Used), wrote]).await?;
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
        let book = BatchedLedger::new(memory, BatchOptions::default(), Arc::new(NoopObserver));
        let good_until_ms = crate::clock::now_ms() + 1000;
        let of = |rule, bytes| Signature { rule, bytes, good_until_ms };
        for (rule, bytes, used) in [
            (Rule::CallbackAddress, b"a", NonceUse::First),
            (Rule::CallbackAddress, b"a", NonceUse::Repeated),
            (Rule::CallbackAddress, b"b", NonceUse::First),
            (Rule::RewardRule, b"a", NonceUse::First),
        ] {
            let found = of(rule, bytes).use_to_write(&book).await.unwrap();
            assert_eq!(found, used, "{rule:?} {bytes:?}");
        }
    }

    #[tokio::test]
    async fn what_looked_may_look_again_and_changes_nothing() {
        let memory = Memory::new(StoreClock::process());
        let book = BatchedLedger::new(memory, BatchOptions::default(), Arc::new(NoopObserver));
        let good_until_ms = crate::clock::now_ms() + 1000;
        let of = |bytes| Signature { rule: Rule::CallbackAddress, bytes, good_until_ms };
        for _ in 0..3 {
            assert_eq!(of(b"look").use_to_read(&book).await.unwrap(), NonceUse::First);
        }
        assert_eq!(of(b"look").use_to_write(&book).await.unwrap(), NonceUse::Repeated);
        assert_eq!(of(b"change").use_to_write(&book).await.unwrap(), NonceUse::First);
        for _ in 0..3 {
            assert_eq!(of(b"change").use_to_read(&book).await.unwrap(), NonceUse::Repeated);
        }
    }
}
