//! Durability of commits: set for each session, and checked inside each statement with a guarantee.
//!
//! The settings at the start of a session are not enough: a pooler may pass the statement to
//! another session, and an operator may change the server. So the statement itself fails if its
//! commit would not be durable.

use super::link::Session;
use super::query_error::QueryError;
use crate::ledger::Durability;

/// The SQLSTATE of a failed [`Required::condition`]: invalid_argument_for_logarithm, which no
/// statement of the engine causes otherwise.
pub(super) const UNDURABLE: &str = "2201E";

/// Makes a session's commits wait at least for the disk. Stricter settings of the server stay.
pub(super) const WAIT: &str = "select set_config('synchronous_commit', \
    case current_setting('synchronous_commit') when 'off' then 'on' \
    else current_setting('synchronous_commit') end, false)";

/// Makes a session's commits not wait.
pub(super) const DO_NOT_WAIT: &str = "set synchronous_commit = off";

/// A column of a statement that hands out rows which others wrote: if it returns any, its commit
/// waits for the standbys, where the server has some, and so for those rows.
///
/// A commit that waits for standbys is not visible. But a backend that loses its postmaster gives up
/// the wait, and for some milliseconds the others see what no standby has. An event that
/// is delivered then can be recorded again, under another id, by the standby that takes over.
pub(super) const AS_DURABLE: &str = "set_config('synchronous_commit', \
    case btrim(current_setting('synchronous_standby_names')) \
    when '' then current_setting('synchronous_commit') else 'on' end, true)";

/// A query `waited` for a statement that acknowledges rows which others wrote, and writes none itself:
/// the server runs it when its result is read, and then the commit waits for the standbys, where the
/// server has some, by a record of some bytes in the log. See [`AS_DURABLE`].
pub(super) const WAITED: &str = "waited as materialized (\
    select pg_logical_emit_message(true, 'postern', '') \
    where btrim(current_setting('synchronous_standby_names')) <> '')";

/// Waits for the standbys, where the server has some: what was visible before is there then. See
/// [`WAITED`].
pub(super) async fn wait_for_standbys(session: &Session) -> Result<(), QueryError> {
    session.rows(&format!("with {WAITED} select count(*) from waited"), &[]).await.map(drop)
}

/// The durability that a commit needs before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Required {
    /// The server's disk.
    Synced,
    /// The server's disk, and that of a standby (`store.require_replicated`).
    Replicated,
}

impl Required {
    /// A condition that holds if the commit will be this durable, and otherwise fails the statement
    /// ([`QueryError::NotDurable`]).
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

    /// Whether a server with this durability is sufficient.
    pub(super) fn is_met(self, promise: &ServerDurability) -> bool {
        self == Self::Synced || promise.durability == Durability::Replicated
    }

    /// Checks the current transaction of the session.
    pub(super) async fn check(self, session: &Session) -> Result<(), QueryError> {
        session.rows(&format!("select 1 where {}", self.condition()), &[]).await.map(drop)
    }
}

/// The durability of a server, and the settings that it follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerDurability {
    pub(super) durability: Durability,
    pub(super) said: String,
}

/// Columns that [`ServerDurability::new`] reads. An unknown setting is empty.
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

/// The error of a server that is not sufficient for `require_replicated`.
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
