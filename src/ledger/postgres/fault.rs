//! What a failed statement means: whether it may have taken effect, and whether to try it again.

use tokio_postgres::error::SqlState;

use crate::ledger::LedgerError;

/// Why a statement failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No connection could be had. Nothing took effect.
    Down(String),
    /// The connection ended before the answer came. It may have taken effect.
    Lost,
    /// The server undid it because of others who worked at the same time.
    Again,
    /// The server is no longer the one that takes writes, or has no room just now. Nothing took
    /// effect.
    Elsewhere(String),
    /// There is no partition for a row.
    NoPartition,
    /// Of two keys of an event one was taken by somebody else meanwhile, or the database is to be
    /// sealed with another key by now.
    Torn,
    /// The server refused it for what it says. Nothing took effect.
    Refused(String),
    /// What the caller asked for cannot be, whatever the server does.
    Said(LedgerError),
}

impl Fault {
    /// Whether it may have taken effect.
    pub(super) fn is_doubtful(&self) -> bool {
        matches!(self, Self::Lost)
    }

    /// Whether the same statement may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Said(_))
    }

    /// Whether its connection is of no more use.
    pub(super) fn ends_session(&self) -> bool {
        matches!(self, Self::Lost | Self::Elsewhere(_))
    }

    /// What the caller is told; `doubt`: an earlier try may have taken effect.
    pub(super) fn told(self, doubt: bool) -> LedgerError {
        match self {
            Self::Said(error) => error,
            _ if doubt || self.is_doubtful() => LedgerError::Unknown,
            Self::Down(why) | Self::Elsewhere(why) | Self::Refused(why) => {
                LedgerError::Unavailable(why)
            }
            Self::Again | Self::Torn => {
                LedgerError::Unavailable("others worked on the same rows".to_owned())
            }
            Self::NoPartition => LedgerError::Unavailable("a partition is missing".to_owned()),
            Self::Lost => LedgerError::Unknown,
        }
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        Self::Said(error)
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let local = std::error::Error::source(&error).is_some_and(|cause| {
                cause.downcast_ref::<tokio_postgres::types::WrongType>().is_some()
            });
            return if local { Self::Refused(explain(&error)) } else { Self::Lost };
        };
        match said.code() {
            &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => Self::Again,
            &SqlState::LOCK_NOT_AVAILABLE => Self::Again,
            &SqlState::CHECK_VIOLATION => Self::NoPartition,
            &SqlState::DIVISION_BY_ZERO => Self::Torn,
            // A server that is told to stop may have committed before it says so.
            &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN => Self::Lost,
            &SqlState::READ_ONLY_SQL_TRANSACTION | &SqlState::CANNOT_CONNECT_NOW => {
                Self::Elsewhere(explain(&error))
            }
            code if code.code().starts_with("53") || code.code().starts_with("58") => {
                Self::Elsewhere(explain(&error))
            }
            code if code.code().starts_with("08") => Self::Lost,
            _ => Self::Refused(explain(&error)),
        }
    }
}

/// An error with its causes, without a line end.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text.replace('\n', " ")
}
