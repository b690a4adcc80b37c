//! Opens the store while the listeners already answer.
//!
//! A database that is down at the start, or an index that takes minutes to rebuild, must not leave
//! senders and health checks without an answer. Temporary causes are waited for. A cause that needs
//! an operator ends the start.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::ServeError;
use crate::clock::Occasional;
use crate::config::{self, Config, StoreEngine};
use crate::ledger::{
    BatchOptions, BatchedLedger, Embedded, EmbeddedOptions, Engine, Keyring, LedgerError,
    MasterKey, Observer, OpenStep, Postgres, PostgresError, PostgresOptions,
};
use crate::lifecycle::Lifecycle;
use crate::registry::Registry;
use crate::sender::Secret;
use crate::telemetry::Metrics;

/// The interval of tries: a database that recovers is noticed within about 1 s.
const AGAIN: Duration = Duration::from_secs(1);

/// The time limit of one try: `/readyz` names the reason soon.
const TRY_TIME: Duration = Duration::from_secs(1);

/// The interval of log lines about a database that is waited for.
const WAITS_EVERY: Duration = Duration::from_secs(10);

/// The minimum number of segments per retention time of events: an event is kept at most an eighth
/// of that time longer.
const SEGMENTS_OF_EVENTS: u32 = 8;

/// The interval of log lines about failed commits, each with the number of skipped ones.
/// `postern_callbacks_total` counts all of them.
const FAILURES_EVERY: Duration = Duration::from_secs(10);

/// The origin of the ledger.
#[derive(Debug)]
pub enum Store {
    /// Already open.
    Open(BatchedLedger),
    /// To be opened according to the configuration, while the listeners answer.
    Configured,
}

impl From<BatchedLedger> for Store {
    fn from(ledger: BatchedLedger) -> Self {
        Self::Open(ledger)
    }
}

/// Opens the ledger that `store` names. Blocks while it reads the disk or waits for the server.
/// Call it on a thread that may block, within the runtime of the ledger.
///
/// # Errors
/// If it cannot be opened: another process uses it, the disk fails, data is damaged, or the server
/// is unreachable or has no tables.
pub fn open_ledger(
    store: &config::Store,
    metrics: &Arc<Metrics>,
) -> Result<BatchedLedger, ServeError> {
    let engine = match &store.engine {
        StoreEngine::Embedded { .. } => Engine::from(Embedded::open(embedded(store)?)?),
        StoreEngine::Postgres(server) => {
            let opening = Postgres::open(postgres(store, server)?);
            tokio::runtime::Handle::current().block_on(opening)?.into()
        }
    };
    Ok(batched(engine, metrics))
}

/// Opens the store of `config`, and reads the managed objects from it. Waits for a database without
/// a time limit.
///
/// # Errors
/// If it cannot be opened, and waiting would not help.
pub(super) async fn open(
    store: Store,
    config: Arc<Config>,
    metrics: &Arc<Metrics>,
    life: &Arc<Lifecycle>,
) -> Result<Registry, ServeError> {
    let ledger = match store {
        Store::Open(ledger) => ledger,
        Store::Configured => open_configured(&config.store, metrics, life).await?,
    };
    let waits = Occasional::new(WAITS_EVERY);
    loop {
        match Registry::open(ledger.clone(), Arc::clone(&config)).await {
            Err(error @ (LedgerError::Unavailable(_) | LedgerError::Unknown)) => {
                wait(life, &waits, &error.to_string()).await;
            }
            opened => return Ok(opened?),
        }
    }
}

async fn open_configured(
    store: &config::Store,
    metrics: &Arc<Metrics>,
    life: &Arc<Lifecycle>,
) -> Result<BatchedLedger, ServeError> {
    life.step("opening the store");
    let engine = match &store.engine {
        StoreEngine::Embedded { .. } => {
            let mut options = embedded(store)?;
            options.progress = OpenStep::told(reading(life));
            let opening = tokio::task::spawn_blocking(|| Embedded::open(options));
            Engine::from(opening.await.map_err(io::Error::other)??)
        }
        StoreEngine::Postgres(server) => Engine::from(database(store, server, life).await?),
    };
    Ok(batched(engine, metrics))
}

/// Reports the progress of reading the journal: for `/readyz`, and occasionally in the log.
fn reading(life: &Arc<Lifecycle>) -> impl Fn(OpenStep) + Send + Sync + 'static {
    let (life, lines) = (Arc::clone(life), Occasional::new(WAITS_EVERY));
    // A quick start reports nothing.
    let _ = lines.admit();
    move |step| {
        life.step(step.to_string());
        if lines.admit().is_some() {
            let OpenStep { segment, segments } = step;
            tracing::info!(segment, segments, "reading the journal");
        }
    }
}

/// Connects to the database as soon as it is available.
async fn database(
    store: &config::Store,
    server: &config::PostgresStore,
    life: &Lifecycle,
) -> Result<Postgres, ServeError> {
    let options = PostgresOptions { open_time: TRY_TIME, ..postgres(store, server)? };
    let waits = Occasional::new(WAITS_EVERY);
    loop {
        match Postgres::open(options.clone()).await {
            Err(PostgresError::Unavailable(why) | PostgresError::NotReplicated(why)) => {
                wait(life, &waits, &why).await;
            }
            opened => return Ok(opened?),
        }
    }
}

async fn wait(life: &Lifecycle, waits: &Occasional, why: &str) {
    life.step(format!("waiting for the store: {why}"));
    if let Some(others) = waits.admit() {
        tracing::warn!(why, others, "waiting for the store");
    }
    tokio::time::sleep(AGAIN).await;
}

fn batched(engine: Engine, metrics: &Arc<Metrics>) -> BatchedLedger {
    BatchedLedger::new(engine, BatchOptions::default(), Arc::new(Observed::new(metrics)))
}

/// The options for `server`, the PostgreSQL server of `store`.
///
/// # Errors
/// If the configuration was read without its address.
pub fn postgres(
    store: &config::Store,
    server: &config::PostgresStore,
) -> Result<PostgresOptions, LedgerError> {
    let Some(url) = &server.url else {
        let sentence = "the variable or the file that store.url names is missing; set it, or name a \
                        file that has it with --env-file FILE";
        return Err(LedgerError::Fatal(sentence.to_owned()));
    };
    Ok(PostgresOptions {
        schema: server.schema.clone(),
        ca: server.ca.clone(),
        writers: server.writers,
        readers: server.readers,
        read_timeout: server.read_timeout,
        require_replicated: server.require_replicated,
        keys: keyring(store),
        ..PostgresOptions::new(url.clone())
    })
}

/// The options of the embedded ledger of `store`.
///
/// # Errors
/// If `store` names another engine.
pub fn embedded(store: &config::Store) -> Result<EmbeddedOptions, LedgerError> {
    let StoreEngine::Embedded { path } = &store.engine else {
        let sentence = "this is for the embedded engine; PostgreSQL has tools of its own";
        return Err(LedgerError::Fatal(sentence.to_owned()));
    };
    let usual = EmbeddedOptions::new(path);
    let segment_age = usual.segment_age.min(store.keep_events / SEGMENTS_OF_EVENTS);
    Ok(EmbeddedOptions { segment_age, keys: keyring(store), ..usual })
}

/// The master keys of `store`.
#[must_use]
pub fn keyring(store: &config::Store) -> Keyring {
    let key = |secret: &Option<Secret>| secret.as_ref().and_then(MasterKey::of);
    Keyring::new(key(&store.master_key)).with_former(key(&store.old_master_key))
}

/// Feeds the metrics of the ledger and logs its failures.
#[derive(Debug)]
pub struct Observed {
    metrics: Arc<Metrics>,
    /// Every commit of a stopped ledger fails, and its disk may also hold the log.
    failures: Occasional,
}

impl Observed {
    /// An observer that feeds `metrics`.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics), failures: Occasional::new(FAILURES_EVERY) }
    }
}

impl Observer for Observed {
    fn committed(&self, took: Duration, events: usize) {
        self.metrics.commit_seconds.observe(took.as_secs_f64());
        self.metrics.commit_batch_size.observe(events as f64);
    }

    fn failed(&self, error: &LedgerError, events: usize) {
        if let Some(others) = self.failures.admit() {
            tracing::error!(%error, events, others, "commit failed");
        }
    }
}
