//! Detects a pooler that passes statements of one connection to several sessions of the server.
//!
//! Through such a pooler no setting of a session holds: not the schema, not the timeouts, not the
//! durability of its commits. A mark is set on two connections, and read again in separate
//! transactions, some of which overlap: a dedicated connection always finds its mark and its
//! process.

use std::sync::Arc;
use std::time::Duration;

use super::PostgresError;
use super::dialer::{Dialer, SessionRole, one_row};
use super::link::Session;
use super::query_error::QueryError;
use crate::clock::instant;
use crate::ledger::EventId;

/// Transactions of each connection in sequence, and as many overlapping ones.
const ROUNDS: usize = 4;
/// The duration of an overlapping transaction: the other connection cannot get its session.
const OVERLAP: &str = "0.02";
/// The error about such a pooler.
pub(super) const REFUSED: &str = "store.url leads to a connection pooler in transaction or statement mode, which hands \
     statements to other sessions and so loses what they were set to: set it to session mode \
     (PgBouncer: pool_mode = session), or connect to PostgreSQL directly";

/// A connection with a unique mark.
struct Marked {
    session: Session,
    mark: String,
    process: Option<String>,
}

/// Rejects a pooler in transaction mode, and waits for the server until then.
pub(super) async fn refuse_within(
    dialer: &Arc<Dialer>,
    patience: Duration,
) -> Result<(), PostgresError> {
    let until = instant() + patience;
    while let Err(fault) = dialer.dial(SessionRole::Read).await {
        if instant() >= until {
            return Err(fault.into());
        }
        tokio::time::sleep(dialer.pause()).await;
    }
    refuse(dialer).await
}

/// Rejects a pooler in transaction mode.
pub(super) async fn refuse(dialer: &Arc<Dialer>) -> Result<(), PostgresError> {
    match is_shared(dialer).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(PostgresError::Pooler(REFUSED)),
        Err(fault) => Err(fault.into()),
    }
}

async fn is_shared(dialer: &Arc<Dialer>) -> Result<bool, QueryError> {
    let (one, two) =
        tokio::try_join!(dialer.dial(SessionRole::Read), dialer.dial(SessionRole::Read))?;
    let (mut one, mut two) = (Marked::new(one), Marked::new(two));
    one.set().await?;
    two.set().await?;
    for _ in 0..ROUNDS {
        if !(one.is_kept("").await? && two.is_kept("").await?) {
            return Ok(true);
        }
    }
    let overlap = format!(", pg_sleep({OVERLAP})");
    for _ in 0..ROUNDS {
        let (one, two) = tokio::try_join!(one.is_kept(&overlap), two.is_kept(&overlap))?;
        if !(one && two) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Marked {
    fn new(session: Session) -> Self {
        Self { session, mark: EventId::new(0).to_string(), process: None }
    }

    async fn set(&mut self) -> Result<(), QueryError> {
        let sql = format!("select set_config('postern.mark', '{}', false)", self.mark);
        one_row(self.session.client(), &sql).await.map(drop)
    }

    /// Whether mark and process are unchanged.
    async fn is_kept(&mut self, more: &str) -> Result<bool, QueryError> {
        let sql = format!(
            "select coalesce(current_setting('postern.mark', true), ''), pg_backend_pid(){more}"
        );
        let Some(row) = one_row(self.session.client(), &sql).await? else { return Ok(false) };
        let process = row.get(1).map(str::to_owned);
        let known = self.process.get_or_insert_with(|| process.clone().unwrap_or_default());
        Ok(row.get(0) == Some(&self.mark) && process.as_ref() == Some(known))
    }
}
