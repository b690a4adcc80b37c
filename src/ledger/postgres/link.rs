//! Connections: who holds them, and what becomes of them.
//!
//! Nothing here ever sends a cancel: a commit that waits for a standby and is cancelled is kept by
//! the primary alone. A statement of a caller that went away ends by itself.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::dialer::{Dialer, Role};
use super::hosts::State;
use super::query_error::{Cause, QueryError};
use crate::clock::instant;
use crate::ledger::FaultCode;

/// Statements that a session remembers; there are fewer texts.
const STATEMENTS_MAX: usize = 200;

/// A connection, and the statements that it has prepared.
pub(super) struct Session {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
    /// The process that serves it, as the server numbers them.
    process: i32,
    /// The timeline that its server is on; 0: it is not known.
    timeline: u32,
    newest: watch::Receiver<u32>,
    /// No lease has been made on it: the server may have crashed since the last one.
    is_new: AtomicBool,
}

/// Sessions of one role, made when they are needed.
pub(super) struct Pool {
    dialer: Arc<Dialer>,
    role: Role,
    places: Semaphore,
    idle: Mutex<Vec<Session>>,
}

/// A session that is held by one caller.
pub(super) struct HeldSession<'p> {
    pool: &'p Pool,
    session: Option<Session>,
    /// Within a transaction.
    open: bool,
    /// It may be handed on: its last call was waited for to its end, and did not break it.
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

    /// What a lease has to know of its server is known.
    pub(super) fn is_new_no_more(&self) {
        self.is_new.store(false, Ordering::Relaxed);
    }

    /// Takes note of what the server says that it is.
    pub(super) fn is(&mut self, state: &State) {
        (self.process, self.timeline) = (state.process, state.timeline);
    }

    pub(super) fn process(&self) -> i32 {
        self.process
    }

    /// Whether it is of no more use: closed, or to a server that another one has taken the place of.
    pub(super) fn is_over(&self) -> bool {
        self.client.is_closed() || self.is_superseded(*self.newest.borrow())
    }

    /// Waits until another server has taken the place of this one; for ever, if none does.
    pub(super) async fn superseded(&self) {
        let mut newest = self.newest.clone();
        if newest.wait_for(|newest| self.is_superseded(*newest)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn is_superseded(&self, newest: u32) -> bool {
        self.timeline > 0 && self.timeline < newest
    }

    /// Runs a statement that is prepared once.
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

    /// Runs a statement, and answers how many rows it changed.
    pub(super) async fn run(
        &self,
        sql: &str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, QueryError> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.execute(&statement, with).await?)
    }

    /// Runs statements that have no parameters.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), QueryError> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Prepares a statement that is about to be run together with others.
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

impl Pool {
    pub(super) fn new(dialer: Arc<Dialer>, role: Role, size: usize) -> Self {
        Self { dialer, role, places: Semaphore::new(size), idle: Mutex::default() }
    }

    /// A session; waits for one, and for the server, until `until`.
    pub(super) async fn session(&self, until: Instant) -> Result<HeldSession<'_>, QueryError> {
        let busy = || QueryError::down("every connection to PostgreSQL is busy");
        let place = tokio::time::timeout_at(until.into(), self.places.acquire());
        let place = place.await.or(Err(busy()))?.or(Err(busy()))?;
        let idle = self.idle().pop().filter(|session| !session.is_over());
        let session = match idle {
            Some(session) => session,
            None => self.dial(until).await?,
        };
        Ok(HeldSession {
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

impl HeldSession<'_> {
    /// Begins a transaction. Until [`Held::commit`] is through, the session is not handed on.
    pub(super) async fn begin(&mut self) -> Result<(), QueryError> {
        self.open = true;
        self.batch("begin").await
    }

    /// Ends a transaction well.
    pub(super) async fn commit(&mut self) -> Result<(), QueryError> {
        self.batch("commit").await?;
        self.open = false;
        Ok(())
    }

    /// Undoes a transaction.
    pub(super) async fn undo(&mut self) -> Result<(), QueryError> {
        self.batch("rollback").await?;
        self.open = false;
        Ok(())
    }

    /// Passes the result of a call on. Only after that the session may be handed on: a caller that
    /// goes away in the middle leaves a statement behind that nobody else shall wait for.
    pub(super) fn heed<T>(&mut self, result: Result<T, QueryError>) -> Result<T, QueryError> {
        self.fit = !self.open && !result.as_ref().is_err_and(QueryError::ends_session);
        result
    }
}

impl Deref for HeldSession<'_> {
    type Target = Session;

    #[expect(clippy::expect_used, reason = "it is taken out by the drop alone")]
    fn deref(&self) -> &Session {
        self.session.as_ref().expect("a session is held until it is dropped")
    }
}

impl Drop for HeldSession<'_> {
    fn drop(&mut self) {
        let session = self.session.take().filter(|session| !session.is_over());
        if let Some(session) = session.filter(|_| self.fit) {
            self.pool.idle().push(session);
        }
    }
}
