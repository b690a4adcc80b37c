//! Health of the server: the known state, and the task that checks it every second. It checks
//! reachability, writability, durability, and the revision of the documents.
//!
//! Successful commits prove that the server can write: those of callbacks, or else those of the
//! probe (probe.rs).

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Core;
use super::dialer::{ServerMode, SessionRole};
use super::durability::{Required, SETTINGS, ServerDurability, unreplicated};
use super::figures::Figures;
use super::link::Session;
use super::pooler;
use super::query_error::{Cause, QueryError};
use super::row_cipher::Used;
use crate::clock::{UnixMillis, instant, millis, now_ms};
use crate::ledger::{FaultCode, Health, Revision, ServerHealth};

/// The check interval. Documents changed on another gateway are seen within this time.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// The time without an answer or a finished commit after which the server is unreachable. With the
/// interval before it, readiness reports it within 2 s.
pub(super) const SILENT: Duration = Duration::from_millis(900);
/// A session that does not answer one query in this time is closed.
const ANSWER_TIME: Duration = Duration::from_secs(4);
/// Checks between two reads of its size.
const SIZE_BEATS: u64 = 60;
/// Checks of reachability between two checks of the coming days' partitions.
const DAYS_BEATS: u64 = 900;
/// Checks between two reads of the floors of other gateways.
const FLOOR_BEATS: u64 = 5;
/// The time limit of each of these.
const ASIDE_TIME: Duration = Duration::from_secs(30);
/// The time without a finished commit, while some are in flight, after which nothing can be
/// recorded: senders have timed out. A single hanging commit beside others that finish does not
/// count.
const STUCK: Duration = Duration::from_secs(10);
/// A larger difference of the clocks is logged: senders' time limits are often a minute.
const CLOCK_BOUND_MS: i64 = 5_000;
/// The interval of these log lines.
const CLOCK_EVERY: Duration = Duration::from_secs(3600);

/// The known state of the server.
pub(super) struct ServerWatch {
    seen: Mutex<Seen>,
    revision: watch::Sender<Revision>,
    required: Required,
}

struct Seen {
    /// Why it is unreachable, or a standby.
    down: Option<String>,
    /// Why it accepts no writes, though it can be read.
    read_only: Option<String>,
    /// Why the probe could not write.
    unwritable: Option<String>,
    /// Since when the probe has been waiting for a standby.
    waiting: Option<Instant>,
    /// Since when callbacks could not be recorded, and why.
    failing: Option<(Instant, String)>,
    promise: ServerDurability,
    figures: Option<Figures>,
    clock: ServerClock,
    /// When the last commit succeeded.
    ended: Instant,
    /// Commits in flight, by number, with their start.
    commits: BTreeMap<u64, Instant>,
    last: u64,
}

/// The server's clock at the last read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    read: Instant,
    ms: UnixMillis,
    /// How far it is ahead of this gateway's; `None`: the server does not respond.
    ahead_ms: Option<i64>,
    /// When a difference was last logged.
    told: Option<Instant>,
}

/// A commit in flight, until it is dropped.
pub(super) struct Commit<'p> {
    server_watch: &'p ServerWatch,
    number: u64,
}

impl Commit<'_> {
    /// Records success.
    pub(super) fn ended(&self) {
        let mut seen = self.server_watch.seen();
        seen.failing = None;
        seen.proven();
    }

    /// Records a failed try.
    pub(super) fn failed(&self, fault: &QueryError) {
        let Some(cause) = fault.cause().filter(|_| fault.stops_writes()) else { return };
        let mut seen = self.server_watch.seen();
        let since = seen.failing.take().map_or_else(instant, |(since, _)| since);
        seen.failing = Some((since, cause.text.clone()));
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        let mut seen = self.server_watch.seen();
        seen.commits.remove(&self.number);
        if seen.commits.is_empty() {
            // The cause of these failures says nothing about the next callbacks.
            seen.failing = None;
        }
    }
}

impl ServerClock {
    /// Sets the clock from the answer `ms` to a query sent at `asked`.
    pub(super) fn read(asked: Instant, ms: UnixMillis) -> Self {
        let (now, own) = (instant(), now_ms());
        let ms = ms.saturating_add(millis(now - asked) / 2);
        Self { read: now, ms, ahead_ms: Some(ms.saturating_sub(own)), told: None }
    }

    /// The current time. Jumps of this process's clock have no effect.
    fn now_ms(&self) -> UnixMillis {
        self.ms.saturating_add(millis(instant().saturating_duration_since(self.read)))
    }

    /// Continues from `before`, and logs a difference.
    fn after(mut self, before: &Self) -> Self {
        let Some(ahead_ms) = self.ahead_ms else { return self };
        self.told = before.told;
        let far = ahead_ms.abs() > CLOCK_BOUND_MS;
        let due = self.told.is_none_or(|told| self.read - told >= CLOCK_EVERY);
        if far && due {
            tracing::warn!(
                server_ahead_ms = ahead_ms,
                bound_ms = CLOCK_BOUND_MS,
                "the clocks of PostgreSQL and of this gateway differ"
            );
            self.told = Some(self.read);
        }
        if !far && self.told.take().is_some() {
            tracing::info!(server_ahead_ms = ahead_ms, "the clocks agree again");
        }
        self
    }
}

impl ServerWatch {
    pub(super) fn new(
        promise: ServerDurability,
        required: Required,
        revision: Revision,
        clock: ServerClock,
    ) -> Self {
        let seen = Seen {
            down: None,
            read_only: None,
            unwritable: None,
            waiting: None,
            failing: None,
            promise,
            figures: None,
            clock,
            ended: instant(),
            commits: BTreeMap::new(),
            last: 0,
        };
        Self { seen: Mutex::new(seen), revision: watch::Sender::new(revision), required }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a commit.
    pub(super) fn commit(&self) -> Commit<'_> {
        let mut seen = self.seen();
        seen.last += 1;
        let number = seen.last;
        seen.commits.insert(number, instant());
        Commit { server_watch: self, number }
    }

    /// The durability that each commit has to check.
    pub(super) fn required(&self) -> Required {
        self.required
    }

    /// Why the server cannot be changed now.
    pub(super) fn unchangeable(&self) -> Option<String> {
        let seen = self.seen();
        let why = || seen.read_only.clone().or_else(|| seen.unwritable.clone());
        seen.down.clone().or_else(why)
    }

    /// Why the server is unreachable, or a standby.
    pub(super) fn down(&self) -> Option<String> {
        self.seen().down.clone()
    }

    /// Why nothing may be acknowledged, although the server accepts it.
    pub(super) fn barred(&self) -> Option<String> {
        self.seen().barred(self.required)
    }

    /// The server's time.
    pub(super) fn server_ms(&self) -> UnixMillis {
        self.seen().clock.now_ms()
    }

    /// How far the server's clock is ahead of this gateway's.
    pub(super) fn behind_ms(&self) -> i64 {
        self.server_ms().saturating_sub(now_ms()).max(0)
    }

    /// Whether a commit has ended since `then`.
    fn has_ended_since(&self, then: Instant) -> bool {
        self.seen().ended >= then
    }

    /// Whether a commit has ended in the last `time`.
    pub(super) fn has_ended_within(&self, time: Duration) -> bool {
        instant().saturating_duration_since(self.seen().ended) < time
    }

    /// Records that the server can write.
    pub(super) fn proven(&self) {
        self.seen().proven();
    }

    /// Records that the probe could not write.
    pub(super) fn unwritable(&self, why: &str) {
        let mut seen = self.seen();
        if seen.unwritable.is_none() {
            tracing::error!(why, "PostgreSQL cannot write");
        }
        seen.unwritable = Some(why.to_owned());
    }

    /// Records that the probe waits for a standby since `began`, or does not.
    pub(super) fn waits(&self, began: Option<Instant>) {
        let mut seen = self.seen();
        let began = began.filter(|began| seen.ended < *began);
        if began.is_some() && seen.waiting.is_none() {
            tracing::error!("PostgreSQL waits for a synchronous standby");
        }
        seen.waiting = began;
    }

    /// Records that documents are at least at `revision`.
    pub(super) fn saw(&self, revision: Revision) {
        self.revision.send_if_modified(|newest| {
            let newer = revision > *newest;
            *newest = revision.max(*newest);
            newer
        });
    }

    pub(super) fn revisions(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// The known state; the server's faults are counted elsewhere.
    pub(super) fn health(&self) -> (Health, ServerHealth) {
        let seen = self.seen();
        let health = Health {
            stopped: seen.stopped(self.required, instant()),
            durability: seen.promise.durability,
            bytes: seen.figures.map(|figures| figures.bytes),
            room: None,
            mended: Vec::new(),
            server: None,
            damage: Vec::new(),
            unindexed: None,
        };
        let server = ServerHealth {
            clock_ahead_ms: seen.clock.ahead_ms,
            faults: Vec::new(),
            oldest_snapshot: seen.figures.map(|figures| figures.oldest_snapshot),
            transaction_age: seen.figures.map(|figures| figures.transaction_age),
        };
        (health, server)
    }

    fn heard(&self, beat: Result<HealthSample, QueryError>) {
        match beat {
            Ok(beat) => {
                let mut seen = self.seen();
                if seen.down.take().is_some() {
                    tracing::info!("PostgreSQL is back");
                }
                if beat.promise != seen.promise {
                    let said = &beat.promise.said;
                    tracing::warn!(said, "PostgreSQL durability has changed");
                    seen.promise = beat.promise;
                }
                if let Some(why) = beat.read_only.as_ref().filter(|_| seen.read_only.is_none()) {
                    tracing::error!(why, "PostgreSQL takes no writes");
                }
                if beat.read_only.is_none() && seen.read_only.is_some() {
                    tracing::info!("PostgreSQL takes writes again");
                }
                seen.read_only = beat.read_only;
                seen.clock = beat.clock.after(&seen.clock);
                drop(seen);
                self.saw(beat.revision);
            }
            Err(fault) => {
                let why = match fault.cause() {
                    Some(cause) if !fault.is_doubtful() => cause.text.clone(),
                    _ => "the connection to PostgreSQL was lost".to_owned(),
                };
                self.lost(why);
            }
        }
    }

    /// Records that the server is unreachable.
    fn lost(&self, why: String) {
        let mut seen = self.seen();
        if seen.down.is_none() {
            tracing::error!(why, "PostgreSQL is out of reach");
        }
        seen.clock.ahead_ms = None;
        seen.figures = None;
        seen.down = Some(why);
    }

    /// Handles a query sent at `asked` without an answer; if commits finish meanwhile, only its
    /// session is affected.
    fn silent(&self, asked: Instant) {
        if !self.has_ended_since(asked) {
            self.lost("PostgreSQL does not answer".to_owned());
        }
    }
}

impl Seen {
    fn barred(&self, required: Required) -> Option<String> {
        (!required.is_met(&self.promise)).then(|| unreplicated(&self.promise))
    }

    fn proven(&mut self) {
        self.ended = instant();
        if self.unwritable.take().is_some() | self.waiting.take().is_some() {
            tracing::info!("PostgreSQL writes again");
        }
    }

    /// Why nothing can be recorded.
    fn stopped(&self, required: Required, now: Instant) -> Option<String> {
        let down = || self.down.clone();
        let read_only = || self.read_only.clone();
        let barred = || self.barred(required);
        let unwritable = || self.unwritable.clone();
        let waiting = || {
            let seconds = now.saturating_duration_since(self.waiting?).as_secs();
            Some(format!("PostgreSQL waits for a synchronous standby, for {seconds} s by now"))
        };
        down()
            .or_else(read_only)
            .or_else(barred)
            .or_else(unwritable)
            .or_else(waiting)
            .or_else(|| self.failing(now))
            .or_else(|| self.stuck(now))
    }

    /// Why waiting callbacks cannot be recorded.
    fn failing(&self, now: Instant) -> Option<String> {
        let (since, why) = self.failing.as_ref()?;
        (now.saturating_duration_since(*since) > SILENT).then(|| why.clone())
    }

    fn stuck(&self, now: Instant) -> Option<String> {
        let since = self.ended.max(*self.commits.values().next()?);
        let age = now.saturating_duration_since(since);
        (age > STUCK).then(|| {
            let seconds = age.as_secs();
            format!("commits are in flight, and none has ended for {seconds} s")
        })
    }
}

/// The result of one check.
struct HealthSample {
    revision: Revision,
    used: Used,
    promise: ServerDurability,
    clock: ServerClock,
    read_only: Option<String>,
}

/// Checks until the engine is dropped.
pub(super) async fn beat(core: Weak<Core>) {
    let mut session = None;
    for count in 0_u64.. {
        let Some(core) = core.upgrade() else { return };
        let looked = watched(&core.server_watch, look(&core, &mut session)).await;
        if !matches!(looked, Some(Ok(_))) {
            session = None;
        }
        if let Some(Err(fault)) = &looked {
            core.faults.count(fault);
        }
        if let Some(Ok(beat)) = &looked {
            core.row_cipher.heard(beat.used.clone());
        }
        if let Some(looked) = looked {
            core.server_watch.heard(looked);
        }
        aside(&core, count);
        let document_changes = Arc::clone(&core.dialer.document_changes);
        drop(core);
        tokio::select! {
            () = document_changes.notified() => {}
            () = tokio::time::sleep(BEAT) => {}
        }
    }
}

/// Slower checks, which run separately.
fn aside(core: &Arc<Core>, count: u64) {
    if count.is_multiple_of(FLOOR_BEATS) && core.server_watch.down().is_none() {
        let own = Arc::clone(core);
        core.dialer.handle.spawn(async move {
            let shared = tokio::time::timeout(ASIDE_TIME, own.share_floors()).await;
            if let Ok(Err(fault)) = shared {
                own.faults.count(&fault);
            }
            own.search_queue().await;
        });
    }
    let size = count.is_multiple_of(SIZE_BEATS);
    let days = count % DAYS_BEATS == DAYS_BEATS - 1;
    if !size && !days {
        return;
    }
    let own = Arc::clone(core);
    let work = async move {
        if size && let Some(figures) = own.figures().await {
            own.server_watch.seen().figures = Some(figures);
        }
        if days {
            own.prepare_days().await;
        }
    };
    core.dialer.handle.spawn(tokio::time::timeout(ASIDE_TIME, work));
}

/// A check that records silence at once; `None`: no result.
async fn watched(
    server_watch: &ServerWatch,
    look: impl Future<Output = Result<HealthSample, QueryError>>,
) -> Option<Result<HealthSample, QueryError>> {
    let asked = instant();
    let mut look = pin!(tokio::time::timeout(ANSWER_TIME, look));
    tokio::select! {
        looked = &mut look => return looked.ok(),
        () = tokio::time::sleep(SILENT) => server_watch.silent(asked),
    }
    let looked = look.await.ok();
    if looked.is_none() {
        server_watch.silent(asked);
    }
    looked
}

async fn look(core: &Arc<Core>, session: &mut Option<Session>) -> Result<HealthSample, QueryError> {
    if let Some(known) = session.take().filter(|session| !session.is_over()) {
        match ask(&known).await {
            // This connection alone may have failed.
            Err(fault) if fault.is_doubtful() => core.faults.count(&fault),
            Ok(beat) if beat.read_only.is_some() => {
                // Another server may accept writes under the same name now.
                let dialing = tokio::time::timeout(SILENT / 2, listening(core));
                let Ok(Ok(new)) = dialing.await else {
                    core.faults.count(&read_only(&beat));
                    *session = Some(known);
                    return Ok(beat);
                };
                return ask(session.insert(new)).await;
            }
            asked => {
                *session = Some(known);
                return asked;
            }
        }
    }
    let new = listening(core).await?;
    ask(session.insert(new)).await
}

/// A new session that is notified of changes: for an early wake-up, as the interval suffices
/// without notifications.
async fn listening(core: &Core) -> Result<Session, QueryError> {
    let new = core.dialer.dial(SessionRole::Read).await?;
    if let Err(fault) = new.batch(&format!("listen \"{}\"", core.dialer.channel())).await {
        tracing::debug!(?fault, "no notifications");
    }
    Ok(new)
}

fn read_only(beat: &HealthSample) -> QueryError {
    let why = beat.read_only.as_deref().unwrap_or_default();
    QueryError::Elsewhere(Cause::new(FaultCode::ReadOnly, why))
}

async fn ask(session: &Session) -> Result<HealthSample, QueryError> {
    let sql = format!(
        "select v, current_setting('transaction_read_only') = 'on', pg_is_in_recovery(),
            pg_backend_pid(), floor(extract(epoch from clock_timestamp()) * 1000)::bigint, {SETTINGS}
         from meta where k = 'revision'"
    );
    session.prepared(&sql).await?;
    let asked = instant();
    let row = session.row(&sql, &[]).await?;
    let clock = ServerClock::read(asked, row.get(4));
    let mode = ServerMode::of([row.get(1), row.get(2)]);
    let refusal = mode.refusal().map(|why| format!("PostgreSQL {why}"));
    // The data of a standby may be old.
    if let (ServerMode::Standby, Some(why)) = (mode, &refusal) {
        return Err(QueryError::Elsewhere(Cause::new(FaultCode::ReadOnly, why)));
    }
    if row.get::<_, i32>(3) != session.process() {
        return Err(QueryError::Refused(Cause::new(FaultCode::NotDurable, pooler::REFUSED)));
    }
    let used = Used::read(session).await?;
    Ok(HealthSample {
        revision: Revision(row.get::<_, i64>(0).cast_unsigned()),
        used,
        promise: ServerDurability::new(row.get(5), row.get(6), row.get(7)),
        clock,
        read_only: refusal,
    })
}

#[cfg(test)]
mod tests;
