//! Errors of a ledger. Each one says whether the operation may have taken effect.

use super::Revision;

/// Why an operation failed. The most important fact is whether it may have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// No connection, a failover, a full disk. The operation did not take effect; retry later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The operation may have taken effect. Retry the **same** batch with the **same** ids, or have
    /// the sender retry.
    #[error("the store did not answer in time; the operation may have taken effect")]
    Unknown,
    /// The document is not in the state that the change expects; nothing changed.
    #[error("another writer changed the document; read it again")]
    Conflict {
        /// The current version; `None`: the document does not exist.
        current: Option<Revision>,
    },
    /// The queue is full, or the deadline passed before the work began. Nothing took effect.
    #[error("the store is overloaded")]
    Overloaded,
    /// More bytes than the engine stores in one piece; nothing took effect.
    #[error("{size} bytes are more than the {max} that the store takes in one piece")]
    TooLarge {
        /// The requested size.
        size: usize,
        /// The maximum.
        max: usize,
    },
    /// A cursor that does not belong to the query.
    #[error("the cursor does not belong to this query")]
    BadCursor,
    /// Stored data is damaged. The text names the file and the position.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// Another process uses the ledger, which belongs to one at a time.
    #[error("{0}")]
    InUse(String),
    /// Stored data is sealed with an unavailable master key. The text names the remedy.
    #[error("{0}")]
    Sealed(String),
    /// The ledger has stopped for good: a write or a sync failed, or a worker panicked. This
    /// process acknowledges nothing more; acknowledged data is safe.
    #[error("the store has stopped: {0}")]
    Fatal(String),
}

impl LedgerError {
    /// Whether the same call may succeed later: the sender should retry.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unknown | Self::Overloaded)
    }

    /// Whether only a restart or an operator helps.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_ledger_is_not_retried() {
        assert!(LedgerError::Overloaded.is_transient());
        assert!(!LedgerError::Fatal(String::new()).is_transient());
    }
}
