//! Connecting: the choice of the host, and the settings of a session.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, Config, SimpleQueryMessage, SimpleQueryRow};

use super::durability::{DO_NOT_WAIT, WAIT};
use super::hosts::{Hosts, State};
use super::link::Session;
use super::query_error::{Cause, QueryError, explain};
use super::tls::Tls;
use crate::ledger::FaultCode;

/// The pause after the first failed connection. It doubles up to the maximum.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest pause: a gateway reconnects within 1 s of its server's return.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The time limit of one try, all hosts together, including the session's first queries.
const DIAL_TIME: Duration = Duration::from_secs(8);
/// The time limit of one host; then the next one is tried.
const HOST_TIME: Duration = Duration::from_secs(4);

/// Whether a server accepts writes, and the session's process. In the simple protocol: a pooler
/// without prepared statements passes it on.
const STATE: &str = "select current_setting('transaction_read_only'), pg_is_in_recovery(), \
                     pg_backend_pid()";
/// The timeline of a primary, in hexadecimal digits. A standby has no current one.
const TIMELINE: &str = "select left(pg_walfile_name(pg_current_wal_lsn()), 8)";

/// The purpose of a session, which determines its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionRole {
    /// Accepts events. Its statements have no time limit.
    Accept,
    /// Changes deliveries and documents, durably.
    Durable,
    /// Leases, and settlements that may be repeated: a crash may lose them.
    Lazy,
    /// Reads.
    Read,
    /// Proves that the server can write.
    Probe,
    /// Queries the state of any host.
    Watch,
    /// Runs migrations.
    Migrate,
}

/// Whether a server accepts writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerMode {
    /// Accepts writes.
    Writable,
    /// A primary, set to refuse them.
    ReadOnly,
    /// Follows a primary.
    Standby,
}

/// Switches off the timeouts that only newer servers have. They would end a pooled session between two
/// statements, or a long one.
const NO_TIMEOUTS: &str = "select set_config(name, '0', false) from pg_settings \
    where name in ('idle_session_timeout', 'transaction_timeout')";

/// Makes connections.
pub(super) struct Dialer {
    pub(super) hosts: Hosts,
    tls: Tls,
    schema: String,
    read_time: Duration,
    /// The runtime of the connections, whatever runtime the caller is on.
    pub(super) handle: Handle,
    /// Notified when a document changes, where the server passes notifications on.
    pub(super) document_changes: Arc<Notify>,
    /// The number of failed tries since the last success.
    failed: AtomicU32,
}

impl ServerMode {
    /// Of a server whose transactions are read-only, and which is in recovery: a standby is both.
    pub(super) const fn of([read_only, in_recovery]: [bool; 2]) -> Self {
        match (in_recovery, read_only) {
            (true, _) => Self::Standby,
            (false, true) => Self::ReadOnly,
            (false, false) => Self::Writable,
        }
    }

    /// Why the server accepts no writes.
    pub(super) const fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Writable => None,
            Self::ReadOnly => Some("takes no writes: default_transaction_read_only is on"),
            Self::Standby => Some("is a standby, and takes no writes"),
        }
    }
}

impl SessionRole {
    fn beginning(self, schema: &str, read_time: Duration) -> String {
        // Queues and keys are read through indexes, even if the statistics say that a table is
        // empty.
        let own = match self {
            Self::Accept => "set enable_seqscan = off;".to_owned(),
            Self::Durable | Self::Lazy => "set enable_seqscan = off; set enable_hashjoin = off; \
                set enable_mergejoin = off; set enable_bitmapscan = off;"
                .to_owned(),
            Self::Read => format!("set statement_timeout = {};", read_time.as_millis()),
            // Extends the tables where new partitions are.
            Self::Probe => "select set_config('temp_tablespaces', \
                current_setting('default_tablespace'), false);"
                .to_owned(),
            Self::Watch | Self::Migrate => String::new(),
        };
        let wait = if self == Self::Lazy { DO_NOT_WAIT } else { WAIT };
        // JIT compilation pays for reports; it makes a lease of a long queue four times slower. A
        // transaction locks first and checks then: each of its statements has to see the newest state,
        // whatever role or database are set to.
        format!(
            "set search_path to \"{schema}\"; set jit = off; set statement_timeout = 0; set lock_timeout = 0; \
             set default_transaction_isolation = 'read committed'; set client_min_messages = warning; \
             set idle_in_transaction_session_timeout = '60s'; {NO_TIMEOUTS}; {wait}; {own}"
        )
    }
}

/// Whether the server gave up the wait for a standby because the statement was cancelled. It
/// reports success then, but the commit is on its own disk alone. The session has to end: its caller
/// must not take that for an answer. The name of the server's function is the same in every language.
fn is_cancelled_wait(notice: &DbError) -> bool {
    notice.routine() == Some("SyncRepWaitForLSN")
}

impl Dialer {
    pub(super) fn new(config: &Config, tls: Tls, schema: String, read_time: Duration) -> Self {
        Self {
            hosts: Hosts::new(config),
            tls,
            schema,
            read_time,
            handle: Handle::current(),
            document_changes: Arc::new(Notify::new()),
            failed: AtomicU32::new(0),
        }
    }

    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// The notification channel of document changes.
    pub(super) fn channel(&self) -> String {
        format!("{}_documents", self.schema)
    }

    /// One try to connect to the server that accepts writes.
    pub(super) async fn dial(self: &Arc<Self>, role: SessionRole) -> Result<Session, QueryError> {
        let own = Arc::clone(self);
        let dialing = self.handle.spawn(async move {
            match tokio::time::timeout(DIAL_TIME, own.dial_best(role)).await {
                Ok(dialed) => dialed,
                Err(_) => Err(QueryError::down("PostgreSQL does not answer")),
            }
        });
        let dialed = dialing.await.unwrap_or(Err(QueryError::down("the gateway is stopping")));
        match dialed {
            Ok(_) => self.failed.store(0, Ordering::Relaxed),
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        dialed
    }

    async fn dial_best(&self, role: SessionRole) -> Result<Session, QueryError> {
        let mut causes: Vec<Cause> = Vec::new();
        let failed = self.failed.load(Ordering::Relaxed) as usize;
        for at in self.hosts.order(failed) {
            let silent =
                || Err(QueryError::down(format!("{} does not answer", self.hosts.name(at))));
            let dialed = tokio::time::timeout(HOST_TIME, self.dial_writable(at, role)).await;
            match dialed.unwrap_or_else(|_| silent()) {
                Ok(session) => return Ok(session),
                Err(fault) => causes.extend(fault.cause().cloned()),
            }
        }
        let code = match causes.iter().find(|cause| cause.code == FaultCode::ReadOnly) {
            Some(_) => FaultCode::ReadOnly,
            None => causes.first().map_or(FaultCode::Connection, |cause| cause.code),
        };
        let said: Vec<String> = causes.into_iter().map(|cause| cause.text).collect();
        let text = format!("no PostgreSQL server takes writes: {}", said.join("; "));
        Err(QueryError::Down(Cause::new(code, text)))
    }

    /// Connects to a host if it accepts writes, on the newest timeline.
    async fn dial_writable(&self, at: usize, role: SessionRole) -> Result<Session, QueryError> {
        let mut session = self.dial_host(at, role, TargetSessionAttrs::Any).await?;
        let mut state = self.state(&session).await?;
        if let Some(why) = state.refuses {
            // The name may resolve to several servers, one of which accepts writes.
            let Ok(other) = self.dial_host(at, role, TargetSessionAttrs::ReadWrite).await else {
                let text = format!("{} {why}", self.hosts.name(at));
                return Err(QueryError::Elsewhere(Cause::new(FaultCode::ReadOnly, text)));
            };
            state = self.state(&other).await?;
            session = other;
        }
        if let Some(why) = self.hosts.superseded(state.timeline) {
            let text = format!("{} {why}", self.hosts.name(at));
            return Err(QueryError::Elsewhere(Cause::new(FaultCode::Other, text)));
        }
        session.is(&state);
        if self.hosts.are_several() {
            self.hosts.saw(at, Some(state));
        }
        Ok(session)
    }

    /// Connects to a host of this kind.
    pub(super) async fn dial_host(
        &self,
        at: usize,
        role: SessionRole,
        kind: TargetSessionAttrs,
    ) -> Result<Session, QueryError> {
        let down = |error: tokio_postgres::Error| {
            let code =
                error.code().map_or(FaultCode::Connection, |code| FaultCode::of(code.code()));
            let text = format!("{} cannot be reached: {}", self.hosts.name(at), explain(&error));
            QueryError::Down(Cause::new(code, text))
        };
        let mut config = self.hosts.config(at).clone();
        config.target_session_attrs(kind);
        let (client, mut connection) = config.connect(self.tls.clone()).await.map_err(down)?;
        let document_changes = Arc::clone(&self.document_changes);
        self.handle.spawn(async move {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    Ok(AsyncMessage::Notification(_)) => document_changes.notify_one(),
                    Ok(AsyncMessage::Notice(notice)) if is_cancelled_wait(&notice) => {
                        tracing::warn!(
                            "a wait for a standby was cancelled on the server; what was committed \
                             there counts as unanswered: {}",
                            notice.message()
                        );
                        break;
                    }
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
        Ok(Session::new(client, self.hosts.newest()))
    }

    /// Queries the state of a server.
    pub(super) async fn state(&self, session: &Session) -> Result<State, QueryError> {
        let row = one_row(session.client(), STATE).await?;
        let row = row.ok_or_else(|| QueryError::lost("the server says nothing of itself"))?;
        let [read_only, in_recovery] = [row.get(0) == Some("on"), row.get(1) == Some("t")];
        let mode = ServerMode::of([read_only, in_recovery]);
        let refuses = mode.refusal();
        let process = row.get(2).and_then(|process| process.parse().ok()).unwrap_or(0);
        let timeline = match (refuses, self.hosts.are_several()) {
            // Some managed servers do not have the function.
            (None, true) => match one_row(session.client(), TIMELINE).await {
                Ok(row) => row.and_then(|row| u32::from_str_radix(row.get(0)?, 16).ok()),
                Err(fault) if fault.is_doubtful() => return Err(fault),
                Err(_) => None,
            },
            _ => None,
        };
        Ok(State { refuses, process, timeline: timeline.unwrap_or(0) })
    }

    /// The pause before the next try.
    pub(super) fn pause(&self) -> Duration {
        let failed = self.failed.load(Ordering::Relaxed).min(10);
        let pause = BACKOFF_FIRST.saturating_mul(1 << failed).min(BACKOFF_MAX);
        // Jitter: gateways and their connections do not reconnect together.
        let spread = crate::ledger::EventId::new(0).as_bytes()[15];
        pause.mul_f64(0.75 + f64::from(spread) / 1024.0)
    }
}

/// The last row of statements without parameters.
pub(super) async fn one_row(
    client: &Client,
    sql: &str,
) -> Result<Option<SimpleQueryRow>, QueryError> {
    let messages = client.simple_query(sql).await?;
    Ok(messages.into_iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }))
}
