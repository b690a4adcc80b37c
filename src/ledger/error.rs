//! What can go wrong in a ledger, said so that the caller knows whether to try again.

use super::Revision;

/// Why an operation failed. What matters most is whether it may have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Known not to have taken effect: no connection, a fail-over, a full disk. Try again later.
    #[error("the ledger is not available: {0}")]
    Unavailable(String),
    /// It may have taken effect. Try the **same** batch with the **same** ids, or tell the sender
    /// to come again.
    #[error("the ledger did not answer in time; the operation may have taken effect")]
    Unknown,
    /// The document is not in the state that the change expects; nothing changed.
    #[error("the document was changed by somebody else")]
    Conflict {
        /// The version that it has now; `None`: there is no such document.
        current: Option<Revision>,
    },
    /// The queue is full or the deadline passed before the work began. Known not to have taken
    /// effect.
    #[error("the ledger is overloaded")]
    Overloaded,
    /// More bytes than the engine stores in one piece; nothing took effect.
    #[error("{size} bytes are more than the {max} that the ledger stores in one piece")]
    TooLarge {
        /// What was asked for.
        size: usize,
        /// What is stored at most.
        max: usize,
    },
    /// A cursor that does not belong to the query.
    #[error("the cursor does not belong to this query")]
    BadCursor,
    /// Stored data cannot be read. The text says which file and where.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// Another process works on the ledger, which belongs to one at a time.
    #[error("{0}")]
    InUse(String),
    /// Stored data is sealed with a master key that is not at hand. The text says what helps.
    #[error("{0}")]
    Sealed(String),
    /// The ledger has stopped for good: a write or a sync failed, or a worker panicked. Nothing
    /// more is acknowledged by this process; what was acknowledged is safe.
    #[error("the ledger has stopped: {0}")]
    Fatal(String),
}

impl LedgerError {
    /// Whether the operation is known to have changed nothing.
    #[must_use]
    pub fn is_not_applied(&self) -> bool {
        !matches!(self, Self::Unknown | Self::Fatal(_))
    }

    /// Whether the same call may succeed later, so that a sender should come again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unknown | Self::Overloaded)
    }

    /// Whether only a restart, or a person, helps.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_happened_is_never_called_not_applied() {
        assert!(!LedgerError::Unknown.is_not_applied());
        assert!(!LedgerError::Fatal(String::new()).is_not_applied());
        assert!(LedgerError::Overloaded.is_not_applied());
        assert!(LedgerError::Overloaded.is_transient());
        assert!(!LedgerError::Fatal(String::new()).is_transient());
    }
}
