//! Options of the ledger, and why it is unusable.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::dialer::Dialer;
use super::query_error::{Applied, QueryError};
use super::tls::Tls;
use super::url;
use crate::ledger::{Keyring, StoreClock};
use crate::sender::Secret;

/// Options of the ledger.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// `postgres://user:password@host,host/database`.
    pub url: Secret,
    /// The schema of the tables.
    pub schema: String,
    /// PEM file with the roots for the server's certificate; `None`: the roots of browsers.
    pub ca: Option<PathBuf>,
    /// Concurrent commits.
    pub writers: usize,
    /// Concurrent queries.
    pub readers: usize,
    /// The server's time limit for one query.
    pub read_timeout: Duration,
    /// Whether to reject records without synchronous replication.
    pub require_replicated: bool,
    /// The time limit for the server when opening.
    pub open_time: Duration,
    /// The current and former keys for sealing.
    pub keys: Keyring,
    /// The clock for leases and due times: the server's, unless a test sets one.
    pub clock: StoreClock,
}

impl PostgresOptions {
    /// The default options for the server at `url`.
    #[must_use]
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            schema: "postern".to_owned(),
            ca: None,
            writers: 4,
            readers: 2,
            read_timeout: Duration::from_secs(30),
            require_replicated: false,
            open_time: Duration::from_secs(10),
            keys: Keyring::default(),
            clock: StoreClock::process(),
        }
    }

    /// Checks a URL; the error does not contain it.
    ///
    /// # Errors
    /// If the URL is unusable.
    pub fn check_url(url: &str) -> Result<(), String> {
        url::parse(url).map(drop)
    }

    pub(super) fn dialer(&self) -> Result<Arc<Dialer>, PostgresError> {
        let text = std::str::from_utf8(self.url.expose()).unwrap_or_default();
        let wrong = |why| PostgresError::Options(format!("store.url: {why}"));
        let config = url::parse(text).map_err(wrong)?;
        let tls = Tls::new(self.ca.as_deref()).map_err(PostgresError::Options)?;
        let schema = self.schema.clone();
        Ok(Arc::new(Dialer::new(&config, tls, schema, self.read_timeout)))
    }
}

/// Why the ledger is unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The options are unusable.
    #[error("{0}")]
    Options(String),
    /// The server is unreachable, or cannot work now. It may later.
    #[error("{0}")]
    Unavailable(String),
    /// The server rejected something: the password, the database, a statement.
    #[error("{0}")]
    Server(String),
    /// The database has no tables.
    #[error("the database has no tables of Postern yet: run `postern migrate --config FILE`")]
    NotMigrated,
    /// The tables have an older version.
    #[error(
        "the tables are of version {found} and this gateway needs version {wanted}: run `postern \
         migrate --config FILE`"
    )]
    Older {
        /// The version of the tables.
        found: i64,
        /// The version of this gateway.
        wanted: i64,
    },
    /// The tables have a version that this gateway does not know.
    #[error(
        "the tables are of version {found} and this gateway knows version {wanted}: start a newer \
         one, as the last migration did"
    )]
    Newer {
        /// The version of the tables.
        found: i64,
        /// The version of this gateway.
        wanted: i64,
    },
    /// Gateways of an earlier version work with the tables.
    #[error(
        "the upgrade cannot be finished yet, gateways of an earlier version are at work: {count}. \
         Replace them, wait 30 seconds, and run the command again"
    )]
    OlderGateways {
        /// Their number.
        count: i64,
    },
    /// Gateways that work with the tables lack the new master key.
    #[error(
        "the master key cannot be changed yet, gateways without the new key are at work: {count}. \
         Restart each of them with both keys, and run the command again; one that was killed counts \
         for 30 seconds"
    )]
    GatewaysLackKey {
        /// Their number.
        count: usize,
    },
    /// Data is sealed with an unavailable master key.
    #[error("{0}")]
    Sealed(String),
    /// A pooler passes the statements of one connection to several sessions.
    #[error("{0}")]
    Pooler(&'static str),
    /// Replication is required and not active.
    #[error("{0}")]
    NotReplicated(String),
}

impl From<QueryError> for PostgresError {
    fn from(fault: QueryError) -> Self {
        let passes = fault.is_passing() && !fault.is_refusal();
        let text = fault.into_ledger_error(Applied::No).to_string();
        if passes { Self::Unavailable(text) } else { Self::Server(text) }
    }
}
