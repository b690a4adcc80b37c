//! The meaning of a failed statement: whether it may have taken effect, and whether to retry.

use tokio_postgres::error::{Severity, SqlState};

use super::durability::UNDURABLE;
use crate::ledger::{FaultCode, LedgerError};

/// Why a statement failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QueryError {
    /// No connection was available. Nothing took effect.
    Down(Cause),
    /// The connection ended before the answer. The statement may have taken effect.
    Lost(Cause),
    /// The server rolled it back because of concurrent transactions.
    Again(Cause),
    /// The server no longer accepts writes, or has no space now. Nothing took effect.
    Elsewhere(Cause),
    /// The commit would not have had the required durability. Nothing took effect.
    NotDurable(Cause),
    /// A row has no partition.
    NoPartition(Cause),
    /// One of two keys of an event was taken concurrently, or the sealing key has changed.
    Torn(Cause),
    /// The server rejected the statement itself. Nothing took effect.
    Refused(Cause),
    /// The caller's request is impossible, whatever the server does.
    Ledger(LedgerError),
}

/// Whether a call may have taken effect: by a failed try, or by a recorded part of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// Nothing took effect, or the call may be repeated whether it did or not.
    No,
    /// Something may have taken effect.
    Maybe,
}

/// The code of a fault, and the server's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) code: FaultCode,
    pub(super) text: String,
}

impl Cause {
    pub(super) fn new(code: FaultCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl Applied {
    /// Adds a failed try.
    pub(super) fn add(&mut self, fault: &QueryError) {
        if fault.is_doubtful() {
            *self = Self::Maybe;
        }
    }
}

impl QueryError {
    /// No connection was available.
    pub(super) fn down(text: impl Into<String>) -> Self {
        Self::Down(Cause::new(FaultCode::Connection, text))
    }

    /// The connection ended before an answer.
    pub(super) fn lost(text: impl Into<String>) -> Self {
        Self::Lost(Cause::new(FaultCode::Connection, text))
    }

    /// Whether it may have taken effect.
    pub(super) fn is_doubtful(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// Whether the same statement may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Ledger(_))
    }

    /// Whether the server responded and rejected the login: a wrong password, no such database.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Down(Cause { code: FaultCode::Other | FaultCode::NoPrivilege, .. }))
    }

    /// Whether its connection is unusable.
    pub(super) fn ends_session(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Elsewhere(_) | Self::NotDurable(_))
    }

    /// Whether the server cannot record anything now.
    pub(super) fn stops_writes(&self) -> bool {
        matches!(self, Self::Down(_) | Self::Elsewhere(_) | Self::NotDurable(_) | Self::Refused(_))
    }

    /// The server's text; `None`: the caller's own error.
    pub(super) fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Down(cause)
            | Self::Lost(cause)
            | Self::Again(cause)
            | Self::Elsewhere(cause)
            | Self::NotDurable(cause)
            | Self::NoPartition(cause)
            | Self::Torn(cause)
            | Self::Refused(cause) => Some(cause),
            Self::Ledger(_) => None,
        }
    }

    /// Whether concurrent gateways cause it in normal operation.
    pub(super) fn is_ordinary(&self) -> bool {
        matches!(self, Self::Again(_) | Self::Torn(_) | Self::NoPartition(_) | Self::Ledger(_))
    }

    /// The error for the caller.
    pub(super) fn into_ledger_error(self, applied: Applied) -> LedgerError {
        match self {
            Self::Ledger(error) => error,
            _ if applied == Applied::Maybe => LedgerError::Unknown,
            Self::Down(cause)
            | Self::Elsewhere(cause)
            | Self::NotDurable(cause)
            | Self::Refused(cause) => LedgerError::Unavailable(cause.text),
            Self::Again(_) | Self::Torn(_) => {
                LedgerError::Unavailable("others worked on the same rows".to_owned())
            }
            Self::NoPartition(_) => LedgerError::Unavailable("a partition is missing".to_owned()),
            Self::Lost(_) => LedgerError::Unknown,
        }
    }
}

impl From<LedgerError> for QueryError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<tokio_postgres::Error> for QueryError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let local = std::error::Error::source(&error).is_some_and(|cause| {
                cause.downcast_ref::<tokio_postgres::types::WrongType>().is_some()
            });
            return match local {
                true => Self::Refused(Cause::new(FaultCode::Other, explain(&error))),
                false => Self::lost(explain(&error)),
            };
        };
        let state = said.code();
        let cause = Cause::new(FaultCode::of(state.code()), explain(&error));
        match state {
            &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => {
                Self::Again(cause)
            }
            &SqlState::LOCK_NOT_AVAILABLE => Self::Again(cause),
            &SqlState::CHECK_VIOLATION => Self::NoPartition(cause),
            // Events of one day name their partition.
            &SqlState::UNDEFINED_TABLE if said.message().contains("event_") => {
                Self::NoPartition(cause)
            }
            &SqlState::DIVISION_BY_ZERO => Self::Torn(cause),
            state if state.code() == UNDURABLE => Self::NotDurable(Cause::new(
                FaultCode::NotDurable,
                "the commit would not survive a crash as store.require_replicated, or any \
                 acknowledgement, asks for: look at synchronous_commit and \
                 synchronous_standby_names, and for a connection pooler",
            )),
            // A server that is shutting down may have committed before it says so.
            &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN => Self::Lost(cause),
            &SqlState::READ_ONLY_SQL_TRANSACTION | &SqlState::CANNOT_CONNECT_NOW => {
                Self::Elsewhere(cause)
            }
            state if state.code().starts_with("53") || state.code().starts_with("58") => {
                Self::Elsewhere(cause)
            }
            state if state.code().starts_with("08") => Self::Lost(cause),
            // The server ended the session: a timeout of its own, or an administrator.
            _ if matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) => {
                Self::Lost(cause)
            }
            _ => Self::Refused(cause),
        }
    }
}

/// An error with its causes and its SQLSTATE, on one line.
pub(super) fn explain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    if let Some(state) = error.code() {
        text.push_str(&format!(" (SQLSTATE {})", state.code()));
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_happened_is_doubtful_and_nothing_else() {
        let cause = || Cause::new(FaultCode::Other, "x");
        let lost = QueryError::Lost(cause()).into_ledger_error(Applied::No);
        assert_eq!(lost, LedgerError::Unknown);
        let refused = QueryError::NotDurable(cause());
        let late = refused.into_ledger_error(Applied::Maybe);
        assert_eq!(late, LedgerError::Unknown);
        let passing = [
            (QueryError::NotDurable(cause()), true),
            (QueryError::Elsewhere(cause()), true),
            (QueryError::Refused(cause()), false),
        ];
        for (fault, passes) in passing {
            assert_eq!((fault.is_passing(), fault.is_doubtful()), (passes, false));
            let error = fault.into_ledger_error(Applied::No);
            assert_eq!(error, LedgerError::Unavailable("x".into()));
        }
    }
}
