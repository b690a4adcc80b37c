//! Connections, their pools and their holders.
//!
//! No cancel request is ever sent: a commit that waits for a standby and is cancelled exists only
//! on the primary. A statement whose caller has gone ends by itself.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::dialer::{Dialer, SessionRole};
use super::hosts::State;
use super::query_error::{Cause, QueryError};
use crate::clock::instant;
use crate::ledger::FaultCode;

/// Prepared statements that a session remembers; there are fewer texts.
const STATEMENTS_MAX: usize = 200;

/// A connection and its prepared statements.
pub(super) struct Session {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
    /// The server's process.
    process: i32,
    /// The server's timeline; 0: unknown.
    timeline: u32,
    newest: watch::Receiver<u32>,
    /// Whether no lease has been made on it: the server may have crashed since the last one.
    is_new: AtomicBool,
}

/// Sessions of one role, connected on demand.
pub(super) struct Pool {
    dialer: Arc<Dialer>,
    role: SessionRole,
    places: Semaphore,
    idle: Mutex<Vec<Session>>,
}

/// A session held by one caller.
pub(super) struct PooledSession<'p> {
    pool: &'p Pool,
    session: Option<Session>,
    /// Whether it is in a transaction.
    open: bool,
    /// Whether it may be reused: its last call was awaited to its end, and did not break it.
    fit: bool,
    _place: SemaphorePermit<'p>,
}

impl Session {
    pub(super) fn new(client: Client, newest: watch::Receiver<u32>) -> Self {
        let (statements, is_new) = (Mutex::default(), AtomicBool::new(true));
        Self { client, statements, process: 0, timeline: 0, newest, is_new }
    }

    /// Whether [`Session::is_new_no_more`] has yet to be called.
    pub(super) fn is_new(&self) -> bool {
        self.is_new.load(Ordering::Relaxed)
    }

    /// Records that the lease's checks of its server are done.
    pub(super) fn is_new_no_more(&self) {
        self.is_new.store(false, Ordering::Relaxed);
    }

    /// Records the server's state.
    pub(super) fn is(&mut self, state: &State) {
        (self.process, self.timeline) = (state.process, state.timeline);
    }

    pub(super) fn process(&self) -> i32 {
        self.process
    }

    /// Whether it is unusable: closed, or connected to a superseded server.
    pub(super) fn is_over(&self) -> bool {
        self.client.is_closed() || is_superseded(self.timeline, *self.newest.borrow())
    }

    /// Waits until another server supersedes this one; forever, if none does. Does not borrow the
    /// session: it is used meanwhile.
    pub(super) fn superseded(&self) -> impl Future<Output = ()> + Send + use<> {
        let (mut newest, timeline) = (self.newest.clone(), self.timeline);
        async move {
            if newest.wait_for(|newest| is_superseded(timeline, *newest)).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Runs a prepared statement.
    pub(super) async fn rows(
        &self,
        sql: &str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, QueryError> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.query(&statement, with).await?)
    }

    /// The one row of such a statement.
    pub(super) async fn row(
        &self,
        sql: &str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, QueryError> {
        let mut rows = self.rows(sql, with).await?;
        rows.pop()
            .ok_or_else(|| QueryError::Refused(Cause::new(FaultCode::Other, "a row is missing")))
    }

    /// Runs a statement, and returns the number of changed rows.
    pub(super) async fn run(
        &self,
        sql: &str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, QueryError> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.execute(&statement, with).await?)
    }

    /// Runs statements without parameters.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), QueryError> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Prepares a statement that will run together with others.
    pub(super) async fn prepared(&self, sql: &str) -> Result<Statement, QueryError> {
        if let Some(statement) = self.statements().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        let mut statements = self.statements();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    fn statements(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a server on `timeline` is superseded by one on the `newest`; 0 is unknown.
fn is_superseded(timeline: u32, newest: u32) -> bool {
    timeline > 0 && timeline < newest
}

impl Pool {
    pub(super) fn new(dialer: Arc<Dialer>, role: SessionRole, size: usize) -> Self {
        Self { dialer, role, places: Semaphore::new(size), idle: Mutex::default() }
    }

    /// A session; waits for one, and for the server, until `until`.
    pub(super) async fn session(&self, until: Instant) -> Result<PooledSession<'_>, QueryError> {
        let busy = || QueryError::down("every connection to PostgreSQL is busy");
        let place = tokio::time::timeout_at(until.into(), self.places.acquire());
        let place = place.await.or(Err(busy()))?.or(Err(busy()))?;
        let idle = self.idle().pop().filter(|session| !session.is_over());
        let session = match idle {
            Some(session) => session,
            None => self.dial(until).await?,
        };
        Ok(PooledSession {
            pool: self,
            session: Some(session),
            open: false,
            fit: false,
            _place: place,
        })
    }

    async fn dial(&self, until: Instant) -> Result<Session, QueryError> {
        loop {
            match self.dialer.dial(self.role).await {
                Ok(session) => return Ok(session),
                Err(fault) if instant() >= until => return Err(fault),
                Err(_) => tokio::time::sleep(self.dialer.pause()).await,
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PooledSession<'_> {
    /// Begins a transaction. The session is not reused before [`PooledSession::commit`] succeeded.
    pub(super) async fn begin(&mut self) -> Result<(), QueryError> {
        self.open = true;
        self.batch("begin").await
    }

    /// Commits a transaction.
    pub(super) async fn commit(&mut self) -> Result<(), QueryError> {
        self.batch("commit").await?;
        self.open = false;
        Ok(())
    }

    /// Rolls back a transaction.
    pub(super) async fn undo(&mut self) -> Result<(), QueryError> {
        self.batch("rollback").await?;
        self.open = false;
        Ok(())
    }

    /// Passes on the result of a call. Only then may the session be reused: a caller that goes away
    /// early leaves a running statement behind.
    pub(super) fn heed<T>(&mut self, result: Result<T, QueryError>) -> Result<T, QueryError> {
        self.fit = !self.open && !result.as_ref().is_err_and(QueryError::ends_session);
        result
    }
}

impl Deref for PooledSession<'_> {
    type Target = Session;

    #[expect(clippy::expect_used, reason = "only the drop removes it")]
    fn deref(&self) -> &Session {
        self.session.as_ref().expect("a session is held until it is dropped")
    }
}

impl Drop for PooledSession<'_> {
    fn drop(&mut self) {
        let session = self.session.take().filter(|session| !session.is_over());
        if let Some(session) = session.filter(|_| self.fit) {
            self.pool.idle().push(session);
        }
    }
}
