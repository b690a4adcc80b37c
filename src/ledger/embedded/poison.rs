//! The reason why nothing more is acknowledged, once there is one.
//!
//! A sync that failed once may lie when it is tried again: the system may have dropped the pages.
//! So a failed write or sync ends the ledger for this process, and a worker that panics does too,
//! so that a dead one cannot be mistaken for an idle one.

use std::sync::OnceLock;

use crate::ledger::LedgerError;

/// Set once, never taken back.
#[derive(Debug, Default)]
pub(super) struct Poison(OnceLock<String>);

impl Poison {
    /// Ends the ledger.
    pub(super) fn set(&self, why: String) -> LedgerError {
        tracing::error!(why, "the ledger has stopped; nothing more is acknowledged");
        LedgerError::Fatal(self.0.get_or_init(|| why).clone())
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// Whether work may go on.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        match self.reason() {
            None => Ok(()),
            Some(why) => Err(LedgerError::Fatal(why.to_owned())),
        }
    }
}
