//! The program: listeners, the receiving path and the admin listener, from start to drain.
//!
//! `serve`, `demo` and every integration test call [`run_until`]. They differ only in the origin of
//! the configuration, the ledger and the sockets.

mod admin_router;
mod archive;
mod archive_marks;
mod archive_store;
mod certificates;
mod late;
mod listeners;
mod notify;
mod opening;
mod pending;
mod recorder;
mod serve_error;
#[cfg(feature = "otlp")]
mod span_export;
mod upkeep;

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::admin_router::AdminRouter;
use self::certificates::Certificates;
use self::late::Late;
pub use self::listeners::{Addresses, Listeners};
pub use self::opening::Store;
use self::pending::{Decision, Pending};
use self::recorder::Recorder;
pub use self::serve_error::ServeError;
use self::upkeep::Upkeep;
use crate::alert::Alerts;
use crate::clock::Occasional;
use crate::config::limits::ADMIN_CONNECTIONS;
use crate::config::{self, Config, Limits, ProxyProtocol};
use crate::console::{self, ConsoleHandler};
use crate::delivery::{Deliveries, Dispatcher, Replays, Tools};
use crate::intake::{CallbackHandler, Releases};
use crate::keys::Keys;
use crate::ledger::{
    BatchOptions, BatchedLedger, Embedded, EmbeddedOptions, Engine, Keyring, LedgerError,
    MasterKey, Observer, Postgres, PostgresOptions,
};
use crate::lifecycle::{Lifecycle, Stop, Stopping};
use crate::manage::{Admin, Starting};
use crate::operator::LocalToken;
use crate::partners::Partners;
use crate::plan::Plan;
use crate::registry::Registry;
use crate::sender::Secret;
use crate::telemetry::Metrics;
use crate::wire::{self, Bounds, Certificate, Handler, ListenerService, Transport, Worker};

/// Bytes of a head on the admin listener: a cursor and a token.
const ADMIN_HEAD_BYTES: usize = 32 * 1024;

/// Time for a head on the admin listener.
const ADMIN_HEAD_TIME: Duration = Duration::from_secs(10);

/// How long a connection may idle between two requests: longer than usual proxies keep one. The
/// proxy closes first, and no request is lost on a connection that is closing.
const IDLE_TIME: Duration = Duration::from_secs(75);

/// The minimum number of segments per retention time of events: an event is kept at most an eighth
/// of that time longer.
const SEGMENTS_OF_EVENTS: u32 = 8;

/// The interval of log lines about failed commits, each with the number of skipped ones.
/// `postern_callbacks_total` counts all of them.
const FAILURES_EVERY: Duration = Duration::from_secs(10);

/// Maximum number of accepting threads; above it two would share one queue of the ledger.
const WORKERS_MAX: usize = 16;

/// The parts of a gateway.
#[derive(Debug)]
pub struct Parts {
    /// The configuration and its changes.
    pub config: watch::Receiver<Arc<Config>>,
    /// The ledger, or where to open it.
    pub store: Store,
    /// The metrics, which [`Observed`] feeds from the ledger.
    pub metrics: Arc<Metrics>,
    /// Bound sockets.
    pub listeners: Listeners,
    /// Whether events are delivered.
    pub deliveries: Deliveries,
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
        config::StoreEngine::Embedded { .. } => Engine::from(Embedded::open(embedded(store)?)?),
        config::StoreEngine::Postgres(server) => {
            let opening = Postgres::open(postgres(store, server)?);
            tokio::runtime::Handle::current().block_on(opening)?.into()
        }
    };
    let observer = Arc::new(Observed::new(metrics));
    Ok(BatchedLedger::new(engine, BatchOptions::default(), observer))
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
    let config::StoreEngine::Embedded { path } = &store.engine else {
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

/// The time to answer requests that wait for the store, after it could not be opened.
const FAILED_DRAIN: Duration = Duration::from_secs(1);

/// Serves until `stop.drain` or a request to drain. Then the gateway is a lame duck for the
/// configured time, and answers the requests in flight, at most for the drain time. Neither
/// continues beyond `stop.now`. The listeners answer while the store opens.
///
/// # Errors
/// If it cannot start. Once it is ready, it returns `Ok`.
pub async fn run_until<D, N>(parts: Parts, stop: Stop<D, N>) -> Result<(), ServeError>
where
    D: Future<Output = Stopping>,
    N: Future<Output = ()>,
{
    let Parts { mut config, store, metrics, listeners, deliveries } = parts;
    let addresses = listeners.addresses()?;
    let file = config.borrow_and_update().clone();
    let listeners = OpenListeners::open(config.clone(), &metrics, listeners)?;
    tracing::info!(callbacks = %addresses.callbacks, admin = %addresses.admin, "starting");
    let life = Arc::clone(&listeners.life);
    #[cfg(feature = "otlp")]
    let spans = span_export::start(file.traces.as_ref(), &metrics, &life);
    let mut drain = std::pin::pin!(async {
        tokio::select! {
            stopping = stop.drain => stopping,
            () = life.asked_to_stop() => Stopping::LameDuckFirst,
        }
    });
    let opened = tokio::select! {
        biased;
        _ = &mut drain => None,
        opened = opening::open(store, file, &metrics, &life) => Some(opened),
    };
    let running = match opened {
        Some(Ok(registry)) => Running::start(registry, metrics, listeners, deliveries)?,
        Some(Err(error)) => {
            listeners.end(FAILED_DRAIN, stop.now).await;
            return Err(error);
        }
        None => {
            let time = config.borrow().server.drain;
            listeners.end(time, stop.now).await;
            return Ok(());
        }
    };
    tracing::info!(callbacks = %addresses.callbacks, admin = %addresses.admin, "ready");
    let stopping = running.follow(&mut config, drain).await;
    let server = config.borrow().server.clone();
    let mut now = std::pin::pin!(stop.now);
    let lame_duck = match stopping {
        Stopping::LameDuckFirst => server.lame_duck,
        Stopping::DrainNow => Duration::ZERO,
    };
    tokio::select! {
        biased;
        () = be_lame_duck(&life, lame_duck) => running.end(server.drain, now).await,
        () = now.as_mut() => running.end(Duration::ZERO, std::future::pending()).await,
    }
    #[cfg(feature = "otlp")]
    spans.end().await;
    Ok(())
}

/// Is a lame duck for `time`: readiness says no, and callbacks are accepted.
async fn be_lame_duck(life: &Lifecycle, time: Duration) {
    if !time.is_zero() {
        life.lame_duck();
        let seconds = time.as_secs_f64();
        tracing::info!(seconds, "lame duck: balancers are asked to send no more");
        tokio::time::sleep(time).await;
    }
}

/// The listeners, which answer from the beginning.
struct OpenListeners {
    addresses: Addresses,
    life: Arc<Lifecycle>,
    keys: Keys,
    callback_handler: CallbackHandler,
    certificates: Certificates,
    admin: Late<AdminRouter>,
    /// The listener of the management APIs, if they have their own.
    management: Option<Late<Arc<Partners>>>,
    workers: Vec<Worker>,
    sides: Vec<SideListener>,
}

impl OpenListeners {
    fn open(
        config: watch::Receiver<Arc<Config>>,
        metrics: &Arc<Metrics>,
        listeners: Listeners,
    ) -> Result<Self, ServeError> {
        let life = Arc::new(Lifecycle::new());
        let file = Arc::clone(&config.borrow());
        let addresses = listeners.addresses()?;
        let keys = Keys::start(&file, Arc::clone(metrics));
        let callback_handler = CallbackHandler::new(
            &Plan::new(Arc::clone(&file)),
            keys.clone(),
            Arc::clone(metrics),
            Arc::clone(&life),
        );
        let certificates = Certificates::read(&file)?;
        let Certificates { callbacks: certificate, admin: of_admin } = certificates.clone();
        certificates.note_expiry(metrics);
        let proxies = match file.server.proxy_protocol {
            ProxyProtocol::On => file.server.trusted_proxies.clone(),
            ProxyProtocol::Off => Vec::new(),
        };
        let transport = Transport { certificate, proxies };
        let bounds = bounds(&file.server.limits);
        let front =
            ListenerService::new(callback_handler.clone(), Arc::clone(&life), bounds, transport);
        let starting =
            Starting::new(addresses.admin.ip(), config, Arc::clone(metrics), Arc::clone(&life));
        let admin = Late::new(starting.clone());
        let mut sides = vec![SideListener::start(listeners.admin, admin.clone(), of_admin)?];
        let management = match listeners.management {
            Some(listener) => {
                let late = Late::new(starting.at(listener.local_addr()?.ip()));
                sides.push(SideListener::start(listener, late.clone(), None)?);
                Some(late)
            }
            None => None,
        };
        let mut workers = Vec::with_capacity(listeners.callbacks.len());
        for (index, listener) in listeners.callbacks.into_iter().enumerate() {
            let name = format!("callbacks-{index}");
            workers.push(Worker::start(name, listener, Arc::clone(&front))?);
        }
        Ok(Self {
            addresses,
            life,
            keys,
            callback_handler,
            certificates,
            admin,
            management,
            workers,
            sides,
        })
    }

    /// Ends a failed start: waiting senders are asked to retry.
    async fn end(self, time: Duration, now: impl Future<Output = ()>) {
        self.life.drain();
        let workers = self.workers;
        let mut joined = tokio::task::spawn_blocking(|| workers.into_iter().for_each(Worker::join));
        tokio::select! {
            _ = &mut joined => {}
            () = tokio::time::sleep(time) => {}
            () = now => {}
        }
        self.life.stopped();
        for side in self.sides {
            side.end().await;
        }
    }
}

/// A running gateway.
struct Running {
    life: Arc<Lifecycle>,
    callback_handler: CallbackHandler,
    metrics: Arc<Metrics>,
    registry: Registry,
    dispatcher: Dispatcher,
    upkeep: Upkeep,
    alerts: Alerts,
    recorder: Recorder,
    workers: Vec<Worker>,
    sides: Vec<SideListener>,
    follower: tokio::task::JoinHandle<()>,
}

/// A listener besides that of the callbacks. It answers until the last callback is answered.
struct SideListener {
    life: Arc<Lifecycle>,
    tasks: tokio::task::JoinSet<()>,
}

impl Running {
    fn start(
        registry: Registry,
        metrics: Arc<Metrics>,
        listeners: OpenListeners,
        deliveries: Deliveries,
    ) -> Result<Self, ServeError> {
        let OpenListeners { addresses, life, keys, callback_handler, .. } = &listeners;
        let (plan, ledger) = (registry.plan(), registry.ledger().clone());
        let config = Arc::clone(&plan.config);
        // The listeners created it when they opened, so the caller that starts a gateway finds it.
        let local = Arc::new(LocalToken::new(&config.admin.token_file));
        let tools = Tools {
            ledger: ledger.clone(),
            metrics: Arc::clone(&metrics),
            life: Arc::clone(life),
            verdicts: callback_handler.verdicts().clone(),
            deliveries,
        };
        let dispatcher = Dispatcher::start(&config, tools)?;
        let upkeep =
            Upkeep::start(&config, registry.clone(), Arc::clone(&metrics), Arc::clone(life));
        let scrubber = upkeep.scrubber();
        let control = dispatcher.control();
        let replays = Replays::new(registry.ledger().clone(), control.clone());
        let releases = Releases::new(registry.ledger().clone(), callback_handler.clone());
        let tools = console::Tools {
            callbacks: addresses.callbacks,
            registry: registry.clone(),
            callback_handler: callback_handler.clone(),
            keys: keys.clone(),
            control: control.clone(),
            replays: replays.clone(),
            releases: releases.clone(),
            metrics: Arc::clone(&metrics),
            life: Arc::clone(life),
            local: Arc::clone(&local),
        };
        let inside =
            (callback_handler.clone(), keys.clone(), control, (replays, releases), scrubber);
        let following = (registry.clone(), callback_handler.clone());
        keys.apply(&config);
        callback_handler.apply(&plan);
        callback_handler.open(ledger);
        follow_changes(&registry, &listeners, &metrics, &dispatcher, &upkeep);
        let (alerts, recorder) = notify::start(&registry, &metrics, &listeners);
        let follower = tokio::spawn(async move {
            let (registry, callback_handler) = following;
            tokio::join!(registry.follow(), callback_handler.follow_older_keys());
        });

        let partners = Arc::new(Partners::new(registry.clone()));
        let shared = (Arc::clone(&metrics), Arc::clone(life), local);
        let address = addresses.admin.ip();
        let partners = match &listeners.management {
            Some(management) => {
                management.set(partners);
                None
            }
            None => Some(partners),
        };
        let admin = Admin::new(address, registry.clone(), inside, shared);
        let console = ConsoleHandler::new(address, tools).ok_or_else(no_random_bytes)?;
        listeners.admin.set(AdminRouter { admin, console, partners });
        life.ready();
        let OpenListeners { life, callback_handler, workers, sides, .. } = listeners;
        Ok(Self {
            life,
            callback_handler,
            metrics,
            registry,
            dispatcher,
            upkeep,
            alerts,
            recorder,
            workers,
            sides,
            follower,
        })
    }

    /// Applies every new configuration until the gateway has to stop. If the ledger fails
    /// meanwhile, the newest one is retried.
    async fn follow(
        &self,
        config: &mut watch::Receiver<Arc<Config>>,
        mut drain: std::pin::Pin<&mut impl Future<Output = Stopping>>,
    ) -> Stopping {
        let (mut pending, mut is_watched) = (None::<Pending>, true);
        loop {
            tokio::select! {
                biased;
                stopping = &mut drain => return stopping,
                changed = config.changed(), if is_watched => match changed {
                    Ok(()) => {
                        self.metrics.program.configuration_read();
                        pending = Some(Pending::new(config.borrow_and_update().clone()));
                    }
                    // The watcher of the file is gone; the configuration stays.
                    Err(_) => is_watched = false,
                },
                () = tokio::time::sleep(pending::AGAIN), if pending.is_some() => {}
            }
            let Some(file) = &pending else { continue };
            let decision = tokio::select! {
                biased;
                stopping = &mut drain => return stopping,
                decision = file.apply(&self.registry, &self.metrics) => decision,
            };
            if decision == Decision::Made {
                pending = None;
            }
        }
    }

    async fn end(self, time: Duration, now: impl Future<Output = ()>) {
        tracing::info!(seconds = time.as_secs(), "draining");
        self.life.drain();
        let workers = self.workers;
        let joined = tokio::task::spawn_blocking(|| workers.into_iter().for_each(Worker::join));
        let mut ended = std::pin::pin!(async {
            let _ = tokio::join!(
                joined,
                self.dispatcher.ended(),
                self.upkeep.ended(),
                self.alerts.ended()
            );
        });
        let drained = tokio::select! {
            () = &mut ended => true,
            () = tokio::time::sleep(time) => false,
            () = now => false,
        };
        self.life.stopped();
        if !drained {
            tracing::warn!("drain time exceeded, closing the requests in flight");
            ended.await;
        }
        // No callback comes any more: what the last ones left is written.
        self.callback_handler.rejections().flush().await;
        self.recorder.end().await;
        self.follower.abort();
        for side in self.sides {
            side.end().await;
        }
        tracing::info!("stopped");
    }
}

fn no_random_bytes() -> io::Error {
    io::Error::other("no randomness from the operating system")
}

/// Applies every new configuration to the running parts.
fn follow_changes(
    registry: &Registry,
    listeners: &OpenListeners,
    metrics: &Arc<Metrics>,
    dispatcher: &Dispatcher,
    upkeep: &Upkeep,
) {
    let OpenListeners { callback_handler, keys, certificates, .. } = listeners;
    let (callback_handler, keys, certificates) =
        (callback_handler.clone(), keys.clone(), certificates.clone());
    let metrics = Arc::clone(metrics);
    let (deliver, sweep) = (dispatcher.applier(), upkeep.applier());
    registry.on_change(move |plan| {
        let config = &plan.config;
        keys.apply(config);
        callback_handler.apply(plan);
        deliver(config);
        sweep(config);
        certificates.reload(config);
        certificates.note_expiry(&metrics);
    });
}

impl SideListener {
    fn start<H: Handler>(
        listener: TcpListener,
        handler: H,
        certificate: Option<Arc<Certificate>>,
    ) -> Result<Self, ServeError> {
        let life = Arc::new(Lifecycle::new());
        let transport = Transport { certificate, proxies: Vec::new() };
        let front = ListenerService::new(handler, Arc::clone(&life), side_bounds(), transport);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(wire::accept(tokio::net::TcpListener::from_std(listener)?, front));
        Ok(Self { life, tasks })
    }

    async fn end(mut self) {
        self.life.stopped();
        while self.tasks.join_next().await.is_some() {}
    }
}

fn side_bounds() -> Bounds {
    Bounds {
        connections: wire::side_connections_that_fit(ADMIN_CONNECTIONS),
        head_bytes: ADMIN_HEAD_BYTES,
        head_time: ADMIN_HEAD_TIME,
        idle_time: IDLE_TIME,
    }
}

fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        connections: limits.connections,
        head_bytes: limits.head_bytes,
        head_time: limits.head_timeout,
        idle_time: IDLE_TIME,
    }
}
