//! Opens the store while the listeners already answer.
//!
//! A database that is down at the start, or an index that takes minutes to rebuild, must not leave
//! senders and health checks without an answer. Temporary causes are waited for. A cause that needs
//! an operator ends the start.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Observed, ServeError, embedded, postgres};
use crate::clock::Occasional;
use crate::config::{self, Config, StoreEngine};
use crate::ledger::{
    BatchOptions, BatchedLedger, Embedded, Engine, LedgerError, OpenStep, Postgres, PostgresError,
};
use crate::lifecycle::Lifecycle;
use crate::registry::Registry;
use crate::telemetry::Metrics;

/// The interval of tries: a database that recovers is noticed within about 1 s.
const AGAIN: Duration = Duration::from_secs(1);

/// The time limit of one try: `/readyz` names the reason soon.
const TRY_TIME: Duration = Duration::from_secs(1);

/// The interval of log lines about a database that is waited for.
const WAITS_EVERY: Duration = Duration::from_secs(10);

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
        Store::Configured => open_ledger(&config.store, metrics, life).await?,
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

async fn open_ledger(
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
    let observer = Arc::new(Observed::new(metrics));
    Ok(BatchedLedger::new(engine, BatchOptions::default(), observer))
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
    let options =
        crate::ledger::PostgresOptions { open_time: TRY_TIME, ..postgres(store, server)? };
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
