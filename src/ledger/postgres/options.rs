//! Where the ledger is, how it is talked to, and why it cannot be used.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::dialer::Dialer;
use super::query_error::QueryError;
use super::tls::Tls;
use super::url;
use crate::ledger::{Keyring, StoreClock};
use crate::sender::Secret;

/// Where the ledger is, and how it is talked to.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// `postgres://user:password@host,host/database`.
    pub url: Secret,
    /// The schema that the tables are in.
    pub schema: String,
    /// PEM file with the roots that the server's certificate is verified against; `None`: those
    /// that browsers know.
    pub ca: Option<PathBuf>,
    /// Commits at one time.
    pub writers: usize,
    /// Questions at one time.
    pub readers: usize,
    /// How long the server may work on one question.
    pub read_timeout: Duration,
    /// Refuse to record anything that is not replicated synchronously.
    pub require_replicated: bool,
    /// How long opening waits for the server.
    pub open_time: Duration,
    /// What is sealed with, and was.
    pub keys: Keyring,
    /// What leases and due times go by: the server's clock, unless a test holds one.
    pub clock: StoreClock,
}

impl PostgresOptions {
    /// The usual options for the server at `url`.
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

    /// What is wrong with a URL; the answer does not hold it.
    ///
    /// # Errors
    /// When it cannot be used.
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

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The options cannot be used.
    #[error("{0}")]
    Options(String),
    /// The server cannot be reached, or cannot work just now. It may later.
    #[error("{0}")]
    Unavailable(String),
    /// The server refused something: the password, the database, a statement.
    #[error("{0}")]
    Server(String),
    /// There are no tables.
    #[error("the database has no tables of Postern yet: run `postern migrate --config FILE`")]
    NotMigrated,
    /// The tables are of an older version.
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
    /// The tables are of a version that this gateway does not know.
    #[error(
        "the tables are of version {found} and this gateway knows version {wanted}: start a newer \
         one, as whoever migrated them did"
    )]
    Newer {
        /// The version of the tables.
        found: i64,
        /// The version of this gateway.
        wanted: i64,
    },
    /// Something is sealed with a master key that is not at hand.
    #[error("{0}")]
    Sealed(String),
    /// A pooler hands the statements of one connection to several sessions.
    #[error("{0}")]
    Pooler(&'static str),
    /// Replication is required, and is not there.
    #[error("{0}")]
    NotReplicated(String),
}

impl From<QueryError> for PostgresError {
    fn from(fault: QueryError) -> Self {
        let passes = fault.is_passing() && !fault.is_refusal();
        let text = fault.told(false).to_string();
        if passes { Self::Unavailable(text) } else { Self::Server(text) }
    }
}
