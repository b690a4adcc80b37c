//! The probe: an empty commit proves that the server can write, where no callback does.
//!
//! It extends a table by a page, which finds a full disk. It also writes a WAL record, so its
//! commit waits for the same as every commit. Nothing remains: the table is a temporary one that
//! the commit empties, and the record has no reader.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::Core;
use super::dialer::SessionRole;
use super::health::{BEAT, SILENT};
use super::link::Session;
use super::query_error::QueryError;
use crate::clock::instant;

/// A probe that hangs for this time, and not for a standby, may hang alone: another one is sent.
/// Two of them fit into the time after which commits count as stuck.
const ALONE: Duration = Duration::from_secs(4);
/// Concurrent hanging probes: none is ever cancelled, and each keeps a connection.
const HANG_MAX: usize = 3;

/// The parts of a probe: preparation, and the repeated statement.
const PARTS: [(&str, &str); 2] = [
    (
        "create temporary table postern_probe (filler bytea) on commit delete rows",
        "insert into pg_temp.postern_probe values ('x');",
    ),
    (
        "select pg_logical_emit_message(true, 'postern', '')",
        "select pg_logical_emit_message(true, 'postern', '');",
    ),
];

/// A session for probes; leaves no data.
struct Probe {
    session: Session,
    /// The [`PARTS`] that the server has; `None`: not asked yet.
    sql: Option<String>,
}

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbeResult {
    /// The server can write.
    Written,
    /// No result: the server has none of the parts.
    Nothing,
}

impl Probe {
    async fn write(&mut self) -> Result<ProbeResult, QueryError> {
        if self.sql.is_none() {
            self.sql = Some(self.prepare().await?);
        }
        match self.sql.as_deref() {
            Some("") | None => Ok(ProbeResult::Nothing),
            Some(sql) => self.session.batch(sql).await.map(|()| ProbeResult::Written),
        }
    }

    /// A server may lack a part, or the privilege for it.
    async fn prepare(&self) -> Result<String, QueryError> {
        let mut sql = String::new();
        for (make, part) in PARTS {
            match self.session.batch(make).await {
                Ok(()) => sql.push_str(part),
                Err(QueryError::Refused(cause)) => {
                    tracing::debug!(error = cause.text, "a part of the probe is not to be had");
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(sql)
    }
}

/// Probes until the engine is dropped.
pub(super) async fn probe(core: Weak<Core>) {
    let places = Arc::new(Semaphore::new(HANG_MAX));
    let mut idle = None;
    loop {
        tokio::time::sleep(BEAT).await;
        let Some(strong) = core.upgrade() else { return };
        // Callbacks prove it, or no server is reachable.
        let shown = strong.server_watch.has_ended_within(BEAT);
        if shown || strong.server_watch.down().is_some() {
            continue;
        }
        let own: Option<Probe> = idle.take();
        let own = match own.filter(|probe| !probe.session.is_over()) {
            Some(probe) => probe,
            None => match strong.dialer.dial(SessionRole::Probe).await {
                Ok(session) => Probe { session, sql: None },
                Err(fault) => {
                    strong.faults.count(&fault);
                    continue;
                }
            },
        };
        drop(strong);
        idle = send(&core, own, &places).await;
    }
}

/// Sends a probe and follows it; returns it if it is still usable.
async fn send(core: &Weak<Core>, mut probe: Probe, places: &Arc<Semaphore>) -> Option<Probe> {
    let place = Arc::clone(places).try_acquire_owned().ok()?;
    let (process, began) = (probe.session.process(), instant());
    let mut asks = None;
    // A separate task: it continues when it is no longer followed.
    let mut writing = tokio::spawn(async move {
        let written = probe.write().await;
        drop(place);
        (probe, written)
    });
    loop {
        let ended = tokio::time::timeout(SILENT, &mut writing).await;
        let strong = core.upgrade()?;
        match ended {
            Ok(Ok((probe, Ok(shown)))) => {
                if shown == ProbeResult::Written {
                    strong.server_watch.proven();
                }
                return Some(probe);
            }
            Ok(Ok((_, Err(fault)))) => {
                strong.faults.count(&fault);
                strong.server_watch.waits(None);
                // A part that the server rejects is prepared again.
                if let QueryError::Elsewhere(cause) = &fault {
                    strong.server_watch.unwritable(&cause.text);
                }
                return None;
            }
            Ok(Err(_)) => return None,
            Err(_) if !strong.hangs_on(&mut asks, process, began).await => return None,
            Err(_) => {}
        }
    }
}

impl Core {
    /// Whether a silent probe is still worth following; `asks` is the session for the check.
    async fn hangs_on(&self, asks: &mut Option<Session>, process: i32, began: Instant) -> bool {
        let asking = tokio::time::timeout(SILENT, self.waits_for_standby(asks, process)).await;
        let standby = matches!(asking, Ok(Ok(true)));
        self.server_watch.waits(Some(began).filter(|_| standby));
        standby || began.elapsed() < ALONE
    }

    async fn waits_for_standby(
        &self,
        asks: &mut Option<Session>,
        process: i32,
    ) -> Result<bool, QueryError> {
        // A separate session: those for queries may be busy. It is kept if it answers.
        let session = match asks.take().filter(|session| !session.is_over()) {
            Some(session) => session,
            None => self.dialer.dial(SessionRole::Watch).await?,
        };
        let sql = "select count(*) > 0 from pg_stat_activity
            where pid = $1 and wait_event = 'SyncRep'";
        let standby = session.row(sql, &[&process]).await?.get(0);
        *asks = Some(session);
        Ok(standby)
    }
}
