//! Connections: who makes them, who holds them, and what becomes of them.
//!
//! Nothing here ever sends a cancel: a commit that waits for a standby and is cancelled is kept by
//! the primary alone. A statement of a caller that went away ends by itself.

use std::collections::HashMap;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_postgres::config::LoadBalanceHosts;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Row, Statement};

use super::fault::{Fault, explain};
use super::tls::Tls;
use crate::clock::instant;

/// The pause after the first connection that failed; it doubles …
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// … up to this, so that a gateway is back within a second of its server.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// One try to connect, all hosts together, with the questions that a session begins with.
const DIAL_TIME: Duration = Duration::from_secs(8);
/// Statements that a session remembers; there are fewer texts.
const STATEMENTS_MAX: usize = 200;

/// What a session is for, and so what it is told at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Accepts events. Nothing ends a statement of it.
    Accept,
    /// Changes deliveries and documents, durably.
    Durable,
    /// Leases, and settles what may be done twice: what a crash may take back.
    Lazy,
    /// Reads.
    Read,
    /// Whatever a migration does.
    Migrate,
}

/// Makes connections.
pub(super) struct Dialer {
    config: Config,
    tls: Tls,
    schema: String,
    read_time: Duration,
    /// Connections are driven here, whatever runtime the caller is on.
    pub(super) handle: Handle,
    /// Rung by whoever changed a document, where the server passes that on.
    pub(super) bell: Arc<Notify>,
    /// How many tries have failed since the last that did not.
    failed: AtomicU32,
}

/// A connection, and the statements that it has prepared.
pub(super) struct Session {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
}

/// Sessions of one role, made when they are needed.
pub(super) struct Pool {
    dialer: Arc<Dialer>,
    role: Role,
    places: Semaphore,
    idle: Mutex<Vec<Session>>,
}

/// A session that is held by one caller.
pub(super) struct Held<'p> {
    pool: &'p Pool,
    session: Option<Session>,
    /// Within a transaction.
    open: bool,
    /// It may be handed on: its last call was waited for to its end, and did not break it.
    fit: bool,
    _place: SemaphorePermit<'p>,
}

impl Role {
    fn beginning(self, schema: &str, read_time: Duration) -> String {
        // Names of queues and keys go through indexes whatever the statistics of a table say that
        // was empty when they were taken.
        let own = match self {
            Self::Accept => "set enable_seqscan = off;".to_owned(),
            Self::Durable => "set enable_seqscan = off; set enable_hashjoin = off; \
                set enable_mergejoin = off;"
                .to_owned(),
            Self::Lazy => "set enable_seqscan = off; set enable_hashjoin = off; \
                set enable_mergejoin = off; set synchronous_commit = off;"
                .to_owned(),
            Self::Read => format!("set statement_timeout = {};", read_time.as_millis()),
            Self::Migrate => String::new(),
        };
        // Compiling a statement pays for reports; a lease of a long queue would be slower four times.
        format!(
            "set search_path to \"{schema}\"; set jit = off; set statement_timeout = 0; set lock_timeout = 0; \
             set idle_in_transaction_session_timeout = '60s'; {own}"
        )
    }
}

impl Dialer {
    pub(super) fn new(config: Config, tls: Tls, schema: String, read_time: Duration) -> Self {
        Self {
            config,
            tls,
            schema,
            read_time,
            handle: Handle::current(),
            bell: Arc::new(Notify::new()),
            failed: AtomicU32::new(0),
        }
    }

    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// What is notified when a document changes.
    pub(super) fn channel(&self) -> String {
        format!("{}_documents", self.schema)
    }

    /// One try to connect.
    pub(super) async fn dial(self: &Arc<Self>, role: Role) -> Result<Session, Fault> {
        let own = Arc::clone(self);
        let dialing = self.handle.spawn(async move {
            match tokio::time::timeout(DIAL_TIME, own.dial_here(role)).await {
                Ok(dialed) => dialed,
                Err(_) => Err(Fault::Down("PostgreSQL does not answer".to_owned())),
            }
        });
        let dialed = dialing.await.unwrap_or(Err(Fault::Down("the gateway is stopping".into())));
        match dialed {
            Ok(_) => self.failed.store(0, Ordering::Relaxed),
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        dialed
    }

    async fn dial_here(&self, role: Role) -> Result<Session, Fault> {
        let mut config = self.config.clone();
        // A host that takes connections and then says nothing must not stand before the others
        // for ever.
        if self.failed.load(Ordering::Relaxed) > 1 {
            config.load_balance_hosts(LoadBalanceHosts::Random);
        }
        let down = |error: tokio_postgres::Error| {
            Fault::Down(format!("PostgreSQL cannot be reached: {}", explain(&error)))
        };
        let (client, mut connection) = config.connect(self.tls.clone()).await.map_err(down)?;
        let bell = Arc::clone(&self.bell);
        self.handle.spawn(async move {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    Ok(AsyncMessage::Notification(_)) => bell.notify_one(),
                    Ok(AsyncMessage::Notice(notice)) => {
                        tracing::debug!(severity = notice.severity(), "{}", notice.message());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(error = explain(&error), "a connection ended");
                        break;
                    }
                }
            }
        });
        client.batch_execute(&role.beginning(&self.schema, self.read_time)).await.map_err(down)?;
        Ok(Session { client, statements: Mutex::default() })
    }

    /// How long to wait before the next try.
    pub(super) fn pause(&self) -> Duration {
        let failed = self.failed.load(Ordering::Relaxed).min(10);
        let pause = BACKOFF_FIRST.saturating_mul(1 << failed).min(BACKOFF_MAX);
        // Gateways and their connections do not come all at once.
        let spread = crate::ledger::EventId::new(0).as_bytes()[15];
        pause.mul_f64(0.75 + f64::from(spread) / 1024.0)
    }
}

impl Session {
    /// Runs a statement that is prepared once.
    pub(super) async fn rows(
        &self,
        sql: &str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Fault> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.query(&statement, with).await?)
    }

    /// The one row of such a statement.
    pub(super) async fn row(&self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<Row, Fault> {
        let mut rows = self.rows(sql, with).await?;
        rows.pop().ok_or_else(|| Fault::Refused("a row is missing".to_owned()))
    }

    /// Runs a statement, and answers how many rows it changed.
    pub(super) async fn run(&self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<u64, Fault> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.execute(&statement, with).await?)
    }

    /// Runs statements that have no parameters.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Fault> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Prepares a statement that is about to be run together with others.
    pub(super) async fn prepared(&self, sql: &str) -> Result<Statement, Fault> {
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
    pub(super) async fn session(&self, until: Instant) -> Result<Held<'_>, Fault> {
        let busy = || Fault::Down("every connection to PostgreSQL is busy".to_owned());
        let place = tokio::time::timeout_at(until.into(), self.places.acquire());
        let place = place.await.or(Err(busy()))?.or(Err(busy()))?;
        let idle = self.idle().pop().filter(|session| !session.client.is_closed());
        let session = match idle {
            Some(session) => session,
            None => self.dial(until).await?,
        };
        Ok(Held { pool: self, session: Some(session), open: false, fit: false, _place: place })
    }

    async fn dial(&self, until: Instant) -> Result<Session, Fault> {
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

impl Held<'_> {
    /// Begins a transaction. Until [`Held::commit`] is through, the session is not handed on.
    pub(super) async fn begin(&mut self) -> Result<(), Fault> {
        self.open = true;
        self.batch("begin").await
    }

    /// Ends a transaction well.
    pub(super) async fn commit(&mut self) -> Result<(), Fault> {
        self.batch("commit").await?;
        self.open = false;
        Ok(())
    }

    /// Undoes a transaction.
    pub(super) async fn undo(&mut self) -> Result<(), Fault> {
        self.batch("rollback").await?;
        self.open = false;
        Ok(())
    }

    /// Passes the result of a call on. Only after that the session may be handed on: a caller that
    /// goes away in the middle leaves a statement behind that nobody else shall wait for.
    pub(super) fn heed<T>(&mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        self.fit = !self.open && !result.as_ref().is_err_and(Fault::ends_session);
        result
    }
}

impl Deref for Held<'_> {
    type Target = Session;

    #[expect(clippy::expect_used, reason = "it is taken out by the drop alone")]
    fn deref(&self) -> &Session {
        self.session.as_ref().expect("a session is held until it is dropped")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let session = self.session.take().filter(|session| !session.client.is_closed());
        if let Some(session) = session.filter(|_| self.fit) {
            self.pool.idle().push(session);
        }
    }
}
