//! What a commit waits for: set for each session, and checked inside each statement that promises
//! something.
//!
//! What a session was told at its beginning is not enough: a pooler may hand the statement to
//! another one, and an operator may change the server. So the statement itself fails where its
//! commit would not be durable.

use super::link::Session;
use super::query_error::QueryError;
use crate::ledger::Durability;

/// The SQLSTATE that a [`Required::condition`] fails with: invalid_argument_for_logarithm, which no
/// statement of the engine causes otherwise.
pub(super) const UNDURABLE: &str = "2201E";

/// Has a session's commits wait for the disk at least. What the server is set to beyond that, or
/// short of a standby, stays.
pub(super) const WAIT: &str = "select set_config('synchronous_commit', \
    case current_setting('synchronous_commit') when 'off' then 'on' \
    else current_setting('synchronous_commit') end, false)";

/// Has a session's commits wait for nothing.
pub(super) const DO_NOT_WAIT: &str = "set synchronous_commit = off";

/// What a commit must wait for before anything is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Required {
    /// The server's disk.
    Synced,
    /// The server's disk, and that of a standby (`store.require_replicated`).
    Replicated,
}

impl Required {
    /// A condition that holds where the commit will be as durable as this, and fails the statement
    /// otherwise ([`Fault::NotDurable`]).
    pub(super) const fn condition(self) -> &'static str {
        match self {
            Self::Synced => {
                "ln((case when current_setting('synchronous_commit') <> 'off' then 1 else 0 \
                 end)::float8) = 0"
            }
            Self::Replicated => {
                "ln((case when current_setting('synchronous_commit') not in ('off', 'local')
                    and current_setting('fsync') <> 'off'
                    and btrim(current_setting('synchronous_standby_names')) <> ''
                    then 1 else 0 end)::float8) = 0"
            }
        }
    }

    /// Whether a server that promises this is good enough.
    pub(super) fn is_met(self, promise: &ServerDurability) -> bool {
        self == Self::Synced || promise.durability == Durability::Replicated
    }

    /// Checks the transaction that the session is in.
    pub(super) async fn check(self, session: &Session) -> Result<(), QueryError> {
        session.rows(&format!("select 1 where {}", self.condition()), &[]).await.map(drop)
    }
}

/// What an answer survives, and in which words the server said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerDurability {
    pub(super) durability: Durability,
    pub(super) said: String,
}

/// Columns that [`Promise::new`] reads. A setting that the server does not know is empty.
pub(super) const SETTINGS: &str = "coalesce(current_setting('fsync', true), ''),
    coalesce(current_setting('synchronous_commit', true), ''),
    coalesce(current_setting('synchronous_standby_names', true), '')";

impl ServerDurability {
    pub(super) fn new(fsync: &str, commit: &str, standbys: &str) -> Self {
        let durability = match (fsync, commit) {
            ("off", _) | (_, "off") => Durability::Unsynced,
            (_, "local") => Durability::Local,
            _ if standbys.trim().is_empty() => Durability::Local,
            _ => Durability::Replicated,
        };
        let said = format!(
            "fsync = {fsync}, synchronous_commit = {commit}, synchronous_standby_names = \
             '{standbys}'"
        );
        Self { durability, said }
    }
}

/// Why a server is not good enough for `require_replicated`.
pub(super) fn unreplicated(promise: &ServerDurability) -> String {
    format!(
        "store.require_replicated is set and PostgreSQL does not replicate synchronously: {}",
        promise.said
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_settings_promise() {
        let durability =
            |fsync, commit, standbys| ServerDurability::new(fsync, commit, standbys).durability;
        assert_eq!(durability("on", "on", "ANY 1 (a, b)"), Durability::Replicated);
        assert_eq!(durability("on", "remote_write", "*"), Durability::Replicated);
        assert_eq!(durability("on", "on", ""), Durability::Local);
        assert_eq!(durability("on", "local", "*"), Durability::Local);
        assert_eq!(durability("on", "off", "*"), Durability::Unsynced);
        assert_eq!(durability("off", "on", "*"), Durability::Unsynced);
    }
}
