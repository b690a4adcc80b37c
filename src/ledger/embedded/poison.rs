//! The reason why nothing more is acknowledged, once there is one.
//!
//! A sync after a failed one may succeed wrongly: the system may have dropped the pages. So a
//! failed write or sync stops the ledger for this process. A panic of a worker does too: a dead
//! worker must not be mistaken for an idle one.

use std::sync::OnceLock;

use crate::ledger::LedgerError;

/// Set once, never cleared.
#[derive(Debug, Default)]
pub(super) struct Poison(OnceLock<String>);

impl Poison {
    /// Stops the ledger.
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
