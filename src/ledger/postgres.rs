//! The engine for many gateways: PostgreSQL.
//!
//! Gateways share only the server. There is no leader: unique keys decide which callback is first,
//! `skip locked` separates leases, and all gateways may try whatever has to be done once (a
//! partition, a migration, a sweep).
//!
//! ```text
//! accept ─▶ one statement: keys, events, deliveries ─▶ one commit   (accept.rs, retry.rs)
//! lease, settle, release                                            (deliveries.rs)
//! replay, log, documents, sweep                (replay.rs, log.rs, documents.rs, days.rs)
//! Pool ─▶ Session ─▶ Dialer: the server that takes writes  (link.rs, dialer.rs, hosts.rs, url.rs, tls.rs)
//! RowCipher: plain and sealed columns                                       (row_cipher.rs,
//! rekey.rs)
//! ServerWatch, probe: reachable, writable, durability                       (health.rs, probe.rs)
//! ```
//!
//! The server's settings determine the durability. They are read every second, and each statement
//! with a guarantee checks them for its own commit (durability.rs). A commit is never cancelled,
//! even if its caller is gone. A commit with a lost answer is retried under the same ids. Leases
//! and finished deliveries are written without waiting for the disk: after a crash they are
//! repeated.

mod accept;
mod days;
mod deliveries;
mod dialer;
mod documents;
mod durability;
mod erase;
mod expiry;
mod faults;
mod figures;
mod gateway;
mod health;
mod held;
mod hosts;
mod link;
mod log;
mod migrate;
mod options;
mod pooler;
mod probe;
mod query_error;
mod queue;
mod rekey;
mod replay;
mod retry;
mod row_cipher;
mod sql;
mod tls;
mod transfer;
mod url;
mod window;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use self::accept::{BODIES_MAX, uses};
use self::dialer::{Dialer, Role};
use self::durability::{Required, SETTINGS, ServerDurability};
use self::faults::Faults;
use self::health::{ServerClock, ServerWatch};
use self::link::Pool;
pub use self::options::{PostgresError, PostgresOptions};
use self::query_error::QueryError;
use self::queue::Queue;
use self::row_cipher::{RowCipher, Used};
use super::{
    Accepted, Cursor, Decided, DeliveryPage, DeliveryQuery, Document, DocumentChange, Documents,
    EarlyExpiry, Erased, Erasure, EventDetail, EventId, EventWindow, ExportPage, GatewayRecord,
    GatewayReport, Health, HeldId, HeldOne, HeldOrder, HeldPage, HeldQuery, HoldOutcome, Holding,
    Imported, Item, Kind, LeaseAsk, LeaseBatch, Ledger, LedgerError, LogPage, LogQuery, NewEvent,
    NodeId, Nonce, NonceUse, ReplayOrder, ReplayPage, Retention, Revision, ServerHealth, Settled,
    Settlement, SourceId, Stats, StoreClock, Swept,
};
use crate::clock::instant;
use crate::sender::Reason;

/// The time limit of an accept: longer than every sender's timeout, so a failover within that time
/// loses no callback.
const ACCEPT_PATIENCE: Duration = Duration::from_secs(30);
/// The time limit for retries of a change.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// The time limit of a change: after a longer silence its outcome is unknown.
const CHANGE_TIME: Duration = Duration::from_secs(15);
/// The time limit of a step of a sweep.
const SWEEP_TIME: Duration = Duration::from_secs(120);
/// The time limit of a forget: a source may have many keys, and an operator waits.
const FORGET_TIME: Duration = Duration::from_secs(3600);
/// The time limit for a query to get a connection; operators and scrapers wait for it.
const READ_PATIENCE: Duration = Duration::from_secs(2);
/// The time limit of statistics: a scraper waits 10 s.
const STATS_TIME: Duration = Duration::from_secs(6);
/// The time limit of an operator's change: the operator wants the reason.
const ORDER_PATIENCE: Duration = Duration::from_secs(2);
/// The pause before the first retry of a statement. It doubles up to the maximum.
const AGAIN: Duration = Duration::from_millis(5);
/// The longest pause between retries.
const AGAIN_MAX: Duration = Duration::from_millis(200);
/// Connections for changes of deliveries and documents, and as many for leases.
const WORKERS: usize = 2;
/// Separates the names of an event's destinations in a parameter.
const TARGETS_BETWEEN: &str = "\u{1f}";

/// A ledger in PostgreSQL. Clones share its connections.
#[derive(Clone)]
pub struct Postgres {
    core: Arc<Core>,
}

/// State shared by the clones.
struct Core {
    dialer: Arc<Dialer>,
    accept: Pool,
    durable: Pool,
    lazy: Pool,
    read: Pool,
    clock: StoreClock,
    pulse: ServerWatch,
    vault: RowCipher,
    /// Days with known partitions.
    days: RwLock<BTreeSet<i32>>,
    /// Past days that this gateway protects from being swept.
    late: Mutex<HashMap<i32, Instant>>,
    queue: Queue,
    faults: Faults,
    /// Concurrent commits of one thread.
    writers: usize,
    /// The time limit of a query, including the wait for a connection.
    read_time: Duration,
    beating: OnceLock<Vec<AbortHandle>>,
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(beating) = self.beating.get() {
            beating.iter().for_each(AbortHandle::abort);
        }
    }
}

impl Postgres {
    /// Connects, and checks tables and durability of the server. Must be called within the runtime
    /// of its connections.
    ///
    /// # Errors
    /// If the server is unusable; the text names the remedy.
    pub async fn open(options: PostgresOptions) -> Result<Self, PostgresError> {
        let open_time = options.open_time;
        let core = Arc::new(Self::connect(options).await?);
        if let Some(why) = core.pulse.barred() {
            return Err(PostgresError::NotReplicated(why));
        }
        {
            let mut session = core.durable.session(instant() + open_time).await?;
            let ready = core.begin_sealing(&mut session).await;
            let ready = match ready {
                Ok(()) => core.days_ahead(&mut session).await.map_err(PostgresError::from),
                Err(error) => Err(error),
            };
            session.heed(Ok(()))?;
            ready?;
        }
        let mut beating = hosts::watch(&core.dialer);
        let handle = &core.dialer.handle;
        beating.push(handle.spawn(health::beat(Arc::downgrade(&core))).abort_handle());
        beating.push(handle.spawn(probe::probe(Arc::downgrade(&core))).abort_handle());
        let _ = core.beating.set(beating);
        Ok(Self { core })
    }

    /// Connects to readable tables of this version.
    async fn connect(options: PostgresOptions) -> Result<Core, PostgresError> {
        let dialer = options.dialer()?;
        hosts::survey(&dialer).await;
        let required = match options.require_replicated {
            true => Required::Replicated,
            false => Required::Synced,
        };
        let pool = |role, size| Pool::new(Arc::clone(&dialer), role, size);
        let read = pool(Role::Read, options.readers);
        let (pulse, used) = {
            let session = read.session(instant() + options.open_time).await?;
            pooler::refuse(&dialer).await?;
            migrate::version(&session).await?.ok_or(PostgresError::NotMigrated)?.check()?;
            let asked = instant();
            let now = "floor(extract(epoch from clock_timestamp()) * 1000)::bigint";
            let sql = format!("select v, {now}, {SETTINGS} from meta where k = 'revision'");
            let row = session.row(&sql, &[]).await?;
            let clock = ServerClock::read(asked, row.get(1));
            let promise = ServerDurability::new(row.get(2), row.get(3), row.get(4));
            let revision = Revision(row.get::<_, i64>(0).cast_unsigned());
            let pulse = ServerWatch::new(promise, required, revision, clock);
            (pulse, Used::read(&session).await?)
        };
        if let Some(lacking) = used.lacking(&options.keys) {
            return Err(PostgresError::Sealed(lacking));
        }
        Ok(Core {
            accept: pool(Role::Accept, options.writers),
            durable: pool(Role::Durable, WORKERS),
            lazy: pool(Role::Lazy, WORKERS),
            read,
            clock: options.clock,
            pulse,
            vault: RowCipher::new(options.keys, used)?,
            days: RwLock::default(),
            writers: options.writers.div_ceil(threads()),
            read_time: options.read_timeout + READ_PATIENCE,
            late: Mutex::default(),
            queue: Queue::default(),
            faults: Faults::default(),
            beating: OnceLock::new(),
            dialer,
        })
    }

    /// Creates the tables, or upgrades them to this version; reports each step.
    ///
    /// # Errors
    /// If a step fails; earlier steps are complete, and the rest may be retried.
    pub async fn migrate(
        options: &PostgresOptions,
        say: &mut (dyn FnMut(String) + Send),
    ) -> Result<(), PostgresError> {
        let (dialer, pool) = Self::for_migration(options).await?;
        let session = pool.session(instant() + options.open_time).await?;
        migrate::migrate(&session, dialer.schema(), say).await
    }

    /// Ends an upgrade, after the last gateway was replaced: migrates the tables if that was not
    /// done, and lets gateways write what earlier versions do not read.
    ///
    /// # Errors
    /// [`PostgresError::OlderGateways`] while a gateway of an earlier version is known to work with
    /// the tables; otherwise as [`Postgres::migrate`].
    pub async fn finish_upgrade(
        options: &PostgresOptions,
        say: &mut (dyn FnMut(String) + Send),
    ) -> Result<(), PostgresError> {
        let (dialer, pool) = Self::for_migration(options).await?;
        let session = pool.session(instant() + options.open_time).await?;
        migrate::migrate(&session, dialer.schema(), say).await?;
        migrate::finish(&session, say).await
    }

    async fn for_migration(
        options: &PostgresOptions,
    ) -> Result<(Arc<Dialer>, Pool), PostgresError> {
        let dialer = options.dialer()?;
        let pool = Pool::new(Arc::clone(&dialer), Role::Migrate, 1);
        hosts::survey(&dialer).await;
        pooler::refuse_within(&dialer, options.open_time).await?;
        Ok((dialer, pool))
    }

    /// The number of concurrent commits of one thread that increases throughput: all threads share
    /// the connections.
    pub(super) fn writers(&self) -> usize {
        self.core.writers
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("schema", &self.core.dialer.schema())
            .finish_non_exhaustive()
    }
}

/// The number of threads that record. Read once, because the system reads files for it.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Whether a call may be repeated after its answer was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// The call is idempotent.
    Harmless,
    /// The caller has to check the outcome.
    No,
}

impl Repeat {
    fn allows(self, fault: &QueryError) -> bool {
        fault.is_passing() && (self == Self::Harmless || !fault.is_doubtful())
    }
}

/// Runs a call on a session of a pool until it succeeds, cannot succeed, or times out.
macro_rules! run {
    ($core:expr, $pool:ident for $patience:expr, $repeat:expr, $held:ident => $call:expr) => {{
        let until = instant() + $patience;
        let mut pause = AGAIN;
        loop {
            let outcome = match $core.$pool.session(until).await {
                Ok(mut $held) => {
                    let outcome = $call.await;
                    $held.heed(outcome)
                }
                Err(fault) => Err(fault),
            };
            match outcome {
                Ok(done) => break Ok(done),
                Err(fault) => {
                    $core.faults.count(&fault);
                    if !$repeat.allows(&fault) || instant() >= until {
                        break Err(fault.told(false));
                    }
                    $core.mend(&fault).await;
                    rest(&mut pause).await;
                }
            }
        }
    }};
}

/// Runs a change.
macro_rules! change {
    ($core:ident, $pool:ident within $time:expr, $repeat:expr, $held:ident => $call:expr) => {
        within($time, LedgerError::Unknown, async {
            run!($core, $pool for CHANGE_PATIENCE, $repeat, $held => $call)
        })
        .await
    };
}

/// Runs a change of an operator, unless the server is known to accept none.
macro_rules! order {
    ($core:ident, $held:ident => $call:expr) => {
        match $core.pulse.unchangeable() {
            Some(why) => Err(LedgerError::Unavailable(why)),
            None => {
                within(CHANGE_TIME, LedgerError::Unknown, async {
                    run!($core, durable for ORDER_PATIENCE, Repeat::No, $held => $call)
                })
                .await
            }
        }
    };
}

/// Runs a query, unless the server is known to be unreachable.
macro_rules! ask {
    ($core:ident within $time:expr, $held:ident => $call:expr) => {
        match $core.pulse.down() {
            Some(why) => Err(LedgerError::Unavailable(why)),
            None => {
                let silent = LedgerError::Unavailable("PostgreSQL does not answer".to_owned());
                within($time, silent, async {
                    run!($core, read for READ_PATIENCE, Repeat::Harmless, $held => $call)
                })
                .await
            }
        }
    };
    ($core:ident, $held:ident => $call:expr) => {
        ask!($core within $core.read_time, $held => $call)
    };
}

/// Waits before a retry, longer each time.
async fn rest(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause = pause.saturating_mul(2).min(AGAIN_MAX);
}

/// Runs a call with a time limit, and returns the timeout's error after it. Nothing is cancelled:
/// the connection is closed, and the server finishes its statement.
async fn within<T>(
    time: Duration,
    late: LedgerError,
    call: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    tokio::time::timeout(time, call).await.unwrap_or(Err(late))
}

impl Core {
    async fn check_nonces(&self, batch: &[Nonce]) -> Result<Vec<NonceUse>, LedgerError> {
        let mut seen = HashSet::new();
        let unique: Vec<&Nonce> = batch.iter().filter(|nonce| seen.insert(nonce.key)).collect();
        let first = within(CHANGE_TIME, LedgerError::Unknown, async {
            run!(self, durable for CHANGE_PATIENCE, Repeat::No, held => {
                self.note_nonces(&held, &unique)
            })
        })
        .await?;
        Ok(uses(batch, first))
    }
}

/// Rejects what is too large for one message of PostgreSQL.
fn check_size(batch: &[NewEvent]) -> Result<(), LedgerError> {
    let size = batch.iter().map(|event| event.body.len()).sum();
    if size > BODIES_MAX { Err(LedgerError::TooLarge { size, max: BODIES_MAX }) } else { Ok(()) }
}

impl Ledger for Postgres {
    /// A commit continues when its caller is gone: it is a separate task.
    async fn accept(&self, batch: &[NewEvent]) -> Result<Vec<Accepted>, LedgerError> {
        check_size(batch)?;
        let (core, batch) = (Arc::clone(&self.core), batch.to_vec());
        let accepting = self.core.dialer.handle.spawn(async move { core.accept(&batch).await });
        accepting.await.unwrap_or(Err(LedgerError::Unknown))
    }

    async fn may_hold_older_keys(&self) -> Result<bool, LedgerError> {
        let core = &self.core;
        ask!(core, held => migrate::may_hold_older_keys(&held))
    }

    async fn check_nonces(&self, batch: &[Nonce]) -> Result<Vec<NonceUse>, LedgerError> {
        self.core.check_nonces(batch).await
    }

    async fn lease(&self, who: &NodeId, ask: &LeaseAsk) -> Result<LeaseBatch, LedgerError> {
        let core = &self.core;
        change!(core, lazy within CHANGE_TIME, Repeat::No, held => core.lease_on(&held, who, ask))
    }

    async fn settle(
        &self,
        who: &NodeId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, LedgerError> {
        within(CHANGE_TIME, LedgerError::Unknown, self.core.settle(who, settlements)).await
    }

    async fn release(&self, who: &NodeId) -> Result<u64, LedgerError> {
        let core = &self.core;
        change!(core, lazy within CHANGE_TIME, Repeat::Harmless, held => {
            core.release_on(&held, who)
        })
    }

    async fn replay(
        &self,
        order: &ReplayOrder,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<ReplayPage, LedgerError> {
        let core = &self.core;
        order!(core, held => {
            core.replay_on(&held, order, cursor, limit)
        })
    }

    async fn query(
        &self,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<LogPage, LedgerError> {
        let core = &self.core;
        ask!(core, held => {
            core.query_on(&held, query, cursor, limit)
        })
    }

    async fn event(&self, id: EventId) -> Result<Option<EventDetail>, LedgerError> {
        let core = &self.core;
        ask!(core, held => core.event_on(&held, id))
    }

    async fn deliveries(
        &self,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, LedgerError> {
        let core = &self.core;
        ask!(core, held => {
            core.deliveries_on(&held, query, cursor, limit)
        })
    }

    async fn hold_all(&self, batch: &[Holding]) -> Result<Vec<HoldOutcome>, LedgerError> {
        let size = batch.iter().map(|one| one.held.size()).sum();
        if size > BODIES_MAX {
            return Err(LedgerError::TooLarge { size, max: BODIES_MAX });
        }
        let core = &self.core;
        change!(core, durable within CHANGE_TIME, Repeat::Harmless, session => {
            core.hold_on(&mut session, batch)
        })
    }

    async fn note_reason(&self, id: HeldId, reason: Reason) -> Result<(), LedgerError> {
        let core = &self.core;
        change!(core, durable within CHANGE_TIME, Repeat::Harmless, session => {
            held::note_reason(&session, id, reason)
        })
    }

    async fn held(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<HeldPage, LedgerError> {
        let core = &self.core;
        ask!(core, held => core.held_on(&held, query, cursor, limit))
    }

    async fn held_one(&self, id: HeldId) -> Result<Option<HeldOne>, LedgerError> {
        let core = &self.core;
        ask!(core, held => core.held_one_on(&held, id))
    }

    /// When the answer of a commit was lost, the retry finds it decided.
    async fn decide(&self, order: &HeldOrder) -> Result<Decided, LedgerError> {
        let core = &self.core;
        change!(core, durable within CHANGE_TIME, Repeat::Harmless, held => {
            core.decide_on(&mut held, order)
        })
    }

    async fn forget(&self, source: &SourceId) -> Result<u64, LedgerError> {
        let core = &self.core;
        change!(core, durable within FORGET_TIME, Repeat::Harmless, held => {
            core.forget_on(&held, source)
        })
    }

    async fn erase(&self, erasure: &Erasure) -> Result<Erased, LedgerError> {
        let core = &self.core;
        change!(core, durable within FORGET_TIME, Repeat::Harmless, held => {
            core.erase_on(&mut held, erasure)
        })
    }

    async fn expire_early(&self, early: &EarlyExpiry, budget: usize) -> Result<Swept, LedgerError> {
        let core = &self.core;
        change!(core, durable within SWEEP_TIME, Repeat::Harmless, held => {
            core.expire_early_on(&mut held, early, budget)
        })
    }

    async fn stats(&self) -> Result<Stats, LedgerError> {
        let core = &self.core;
        ask!(core within STATS_TIME, held => core.stats_on(&held))
    }

    async fn document(&self, kind: Kind, id: &str) -> Result<Option<Document>, LedgerError> {
        let core = &self.core;
        ask!(core, held => {
            core.document_on(&held, kind, id)
        })
    }

    async fn documents(&self, kind: Kind) -> Result<Documents, LedgerError> {
        let core = &self.core;
        ask!(core, held => core.documents_on(&held, kind))
    }

    async fn change_all(&self, changes: &[DocumentChange]) -> Result<Revision, LedgerError> {
        let core = &self.core;
        order!(core, held => {
            core.change_on(&mut held, changes)
        })
    }

    async fn changed(&self, after: Revision, wait: Duration) -> Result<Revision, LedgerError> {
        let mut revisions = self.core.pulse.revisions();
        let newer = tokio::time::timeout(wait, revisions.wait_for(|one| *one > after)).await;
        // A timeout is not an error: the caller gets the current revision.
        drop(newer);
        let revision = *revisions.borrow();
        Ok(revision)
    }

    async fn join(&self, who: &NodeId, ttl: Duration) -> Result<GatewayRecord, LedgerError> {
        let core = &self.core;
        change!(core, lazy within CHANGE_TIME, Repeat::No, held => core.join_on(&held, who, ttl))
    }

    async fn report(
        &self,
        report: &GatewayReport,
    ) -> Result<Option<Vec<GatewayRecord>>, LedgerError> {
        let core = &self.core;
        change!(core, lazy within CHANGE_TIME, Repeat::Harmless, held => {
            core.report_on(&held, report)
        })
    }

    async fn sweep(&self, policy: &Retention, budget: usize) -> Result<Swept, LedgerError> {
        let core = &self.core;
        change!(core, durable within SWEEP_TIME, Repeat::Harmless, held => {
            core.sweep_on(&mut held, policy, budget)
        })
    }

    async fn export(
        &self,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        let core = &self.core;
        ask!(core, held => core.export_on(&held, cursor, bytes))
    }

    async fn events_in(
        &self,
        window: EventWindow,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        let core = &self.core;
        ask!(core, held => core.events_in_on(&held, window, cursor, bytes))
    }

    async fn import(&self, items: Vec<Item>) -> Result<Imported, LedgerError> {
        let core = &self.core;
        let mut imported = Imported::default();
        for items in transfer::pieces(items)? {
            let some = change!(core, durable within SWEEP_TIME, Repeat::No, held => {
                core.import_on(&mut held, &items)
            })?;
            imported.taken += some.taken;
            imported.known += some.known;
        }
        Ok(imported)
    }

    async fn health(&self) -> Result<Health, LedgerError> {
        let (mut health, server) = self.core.pulse.health();
        health.stopped = health.stopped.or_else(|| self.core.vault.lacking());
        health.server = Some(ServerHealth { faults: self.core.faults.counts(), ..server });
        Ok(health)
    }
}
