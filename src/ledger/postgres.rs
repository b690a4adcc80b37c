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
mod counts;
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
mod operations;
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

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use self::dialer::{Dialer, SessionRole};
use self::durability::{Required, SETTINGS, ServerDurability};
use self::faults::Faults;
use self::health::{ServerClock, ServerWatch};
use self::link::Pool;
pub use self::options::{PostgresError, PostgresOptions};
use self::queue::FloorTable;
use self::row_cipher::{RowCipher, Used};
use super::{Revision, StoreClock};
use crate::clock::instant;

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
    server_watch: ServerWatch,
    row_cipher: RowCipher,
    /// Days with known partitions.
    days: RwLock<BTreeSet<i32>>,
    /// Past days that this gateway protects from being swept.
    late: Mutex<HashMap<i32, Instant>>,
    floors: FloorTable,
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
        if let Some(why) = core.server_watch.barred() {
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
        let read = pool(SessionRole::Read, options.readers);
        let (server_watch, used) = {
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
            let server_watch = ServerWatch::new(promise, required, revision, clock);
            (server_watch, Used::read(&session).await?)
        };
        if let Some(lacking) = used.lacking(&options.keys) {
            return Err(PostgresError::Sealed(lacking));
        }
        Ok(Core {
            accept: pool(SessionRole::Accept, options.writers),
            durable: pool(SessionRole::Durable, WORKERS),
            lazy: pool(SessionRole::Lazy, WORKERS),
            read,
            clock: options.clock,
            server_watch,
            row_cipher: RowCipher::new(options.keys, used)?,
            days: RwLock::default(),
            writers: options.writers.div_ceil(threads()),
            read_time: options.read_timeout + READ_PATIENCE,
            late: Mutex::default(),
            floors: FloorTable::default(),
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
        let pool = Pool::new(Arc::clone(&dialer), SessionRole::Migrate, 1);
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
