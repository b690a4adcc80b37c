//! The program: listeners, the receiving path and the admin listener, from the first connection to
//! the last answer.
//!
//! `serve`, `demo` and every integration test call [`run_until`] and nothing else; they differ in
//! where the configuration, the ledger and the sockets come from.

mod admin_router;
mod late;
mod opening;
mod upkeep;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::admin_router::AdminRouter;
use self::late::Late;
pub use self::opening::Store;
use self::upkeep::Upkeep;
use crate::clock::Occasional;
use crate::config::{self, Config, Limits};
use crate::console::{self, Console};
use crate::delivery::{Dispatcher, Replays, Tools};
use crate::intake::{CallbackHandler, Releases};
use crate::keys::Keys;
use crate::ledger::{
    BatchOptions, BatchedLedger, Embedded, EmbeddedOptions, Engine, Keyring, LedgerError,
    MasterKey, Observer, Postgres, PostgresError, PostgresOptions,
};
use crate::lifecycle::{Lifecycle, Stop, Stopping};
use crate::manage::{Admin, Starting};
use crate::operator::LocalToken;
use crate::partners::Partners;
use crate::plan::Plan;
use crate::registry::{Registry, ReloadError};
use crate::sender::Secret;
use crate::telemetry::Metrics;
use crate::wire::{
    self, Bounds, Certificate, Handler, Inherited, ListenerService, TlsError, Worker,
};

/// Open connections of the admin listener: people, scrapers and probes.
const ADMIN_CONNECTIONS: usize = 256;

/// Bytes of a head on the admin listener: a cursor and a token.
const ADMIN_HEAD_BYTES: usize = 32 * 1024;

/// Time for a head on the admin listener.
const ADMIN_HEAD_TIME: Duration = Duration::from_secs(10);

/// How long a connection may idle between two requests: longer than the usual proxy keeps one, so
/// that it is the proxy who closes, and no request is lost on a connection that just closed.
const IDLE_TIME: Duration = Duration::from_secs(75);

/// Segments over the time that events are kept, at least: an event is kept for an eighth of that
/// time longer at most.
const SEGMENTS_OF_EVENTS: u32 = 8;

/// A line about a failed commit follows the one before after this time, with the number of those
/// in between. `postern_callbacks_total` counts all of them.
const FAILURES_EVERY: Duration = Duration::from_secs(10);

/// Accepting threads at most; beyond it one lane of the ledger would be shared by two.
const WORKERS_MAX: usize = 16;

/// What a gateway is made of.
#[derive(Debug)]
pub struct Parts {
    /// The configuration, now and whenever it changes.
    pub config: watch::Receiver<Arc<Config>>,
    /// The ledger, or where it comes from.
    pub store: Store,
    /// The metrics, which [`Observed`] feeds from the ledger.
    pub metrics: Arc<Metrics>,
    /// Bound sockets.
    pub listeners: Listeners,
}

/// Bound sockets, not yet accepting.
#[derive(Debug)]
pub struct Listeners {
    callbacks: Vec<TcpListener>,
    admin: TcpListener,
    management: Option<TcpListener>,
}

/// Where the listeners are; with port 0 configured, what was given instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where senders call.
    pub callbacks: SocketAddr,
    /// Where operators call.
    pub admin: SocketAddr,
    /// Where the management APIs listen, if not on the admin listener.
    pub management: Option<SocketAddr>,
}

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A socket cannot be had.
    #[error("server.{which} = {address}: {cause}")]
    Bind {
        /// The key of the configuration.
        which: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
    /// An inherited socket cannot be used.
    #[error("inherited listeners: {0}")]
    Inherited(io::Error),
    /// The certificate cannot be used.
    #[error("server.tls: {0}")]
    Tls(#[from] TlsError),
    /// The system gives no thread, no event queue or no signal handler.
    #[error("the system does not let it run: {0}")]
    System(#[from] io::Error),
    /// The ledger cannot be opened.
    #[error("store: {0}")]
    Ledger(#[from] LedgerError),
    /// The ledger's server cannot be used.
    #[error("store: {0}")]
    Postgres(#[from] PostgresError),
    /// The metrics cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Listeners {
    /// Takes what was `inherited` and binds the rest.
    ///
    /// # Errors
    /// When an address cannot be had.
    pub fn bind(server: &config::Server, mut inherited: Inherited) -> Result<Self, ServeError> {
        let count = workers();
        let callbacks = match inherited.remove("callbacks") {
            Some(listener) => share(listener, count).map_err(ServeError::Inherited)?,
            None => wire::bind_shared(server.callbacks, count)
                .map_err(refused("callbacks", server.callbacks))?,
        };
        let admin = match inherited.remove("admin") {
            Some(listener) => listener,
            None => wire::bind(server.admin).map_err(refused("admin", server.admin))?,
        };
        let management = match (inherited.remove("management"), server.management) {
            (Some(listener), _) => Some(listener),
            (None, Some(address)) => {
                Some(wire::bind(address).map_err(refused("management", address))?)
            }
            (None, None) => None,
        };
        for name in inherited.left_over() {
            tracing::warn!(name, "an inherited listener that nothing here is called by");
        }
        Ok(Self { callbacks, admin, management })
    }

    /// Where they are.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn addresses(&self) -> io::Result<Addresses> {
        let callbacks = self.callbacks.first().unwrap_or(&self.admin);
        Ok(Addresses {
            callbacks: callbacks.local_addr()?,
            admin: self.admin.local_addr()?,
            management: self.management.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }
}

fn refused(which: &'static str, address: SocketAddr) -> impl FnOnce(io::Error) -> ServeError {
    move |cause| ServeError::Bind { which, address, cause }
}

/// One inherited socket for several threads: they share its queue.
fn share(listener: TcpListener, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut all = Vec::with_capacity(count);
    for _ in 1..count {
        all.push(listener.try_clone()?);
    }
    all.push(listener);
    Ok(all)
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX)
}

/// Opens the ledger that `store` names. Reads the disk or waits for the server, and blocks: it
/// belongs on a thread that may, of the runtime that the ledger is to live in.
///
/// # Errors
/// When it cannot be opened: another process has it, the disk fails, data is damaged, the server
/// is out of reach or has no tables.
pub fn open_book(
    store: &config::Store,
    metrics: &Arc<Metrics>,
) -> Result<BatchedLedger, ServeError> {
    let engine = match &store.engine {
        config::StoreEngine::Embedded { .. } => Engine::from(Embedded::open(embedded(store)?)?),
        config::StoreEngine::Postgres(server) => {
            let opening = Postgres::open(postgres(store, server));
            tokio::runtime::Handle::current().block_on(opening)?.into()
        }
    };
    let observer = Arc::new(Observed::new(metrics));
    Ok(BatchedLedger::new(engine, BatchOptions::default(), observer))
}

/// How `server`, the PostgreSQL server of `store`, is talked to.
#[must_use]
pub fn postgres(store: &config::Store, server: &config::PostgresStore) -> PostgresOptions {
    PostgresOptions {
        schema: server.schema.clone(),
        ca: server.ca.clone(),
        writers: server.writers,
        readers: server.readers,
        read_timeout: server.read_timeout,
        require_replicated: server.require_replicated,
        keys: keyring(store),
        ..PostgresOptions::new(server.url.clone())
    }
}

/// Where and how the embedded ledger of `store` keeps its data.
///
/// # Errors
/// When `store` names another engine.
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

/// Feeds the metrics of the ledger, and logs what fails.
#[derive(Debug)]
pub struct Observed {
    metrics: Arc<Metrics>,
    /// Each commit of a ledger that has stopped fails, and its disk may be the log's.
    failures: Occasional,
}

impl Observed {
    /// Feeds `metrics`.
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
            tracing::error!(%error, events, others, "a commit failed");
        }
    }
}

/// How long what waits for the store is answered when it turns out that it cannot be opened.
const FAILED_DRAIN: Duration = Duration::from_secs(1);

/// Serves until `stop.drain` or a request to drain. Then it is a lame duck for the time of the
/// configuration, and answers what is in flight, for the drain time at most; neither goes on beyond
/// `stop.now`. While the store opens, its listeners answer already.
///
/// # Errors
/// When it cannot start. Once it is ready, it ends well.
pub async fn run_until<D, N>(parts: Parts, stop: Stop<D, N>) -> Result<(), ServeError>
where
    D: Future<Output = Stopping>,
    N: Future<Output = ()>,
{
    let Parts { mut config, store, metrics, listeners } = parts;
    let addresses = listeners.addresses()?;
    let file = config.borrow_and_update().clone();
    let doors = Doors::open(config.clone(), &metrics, listeners)?;
    tracing::info!(callbacks = %addresses.callbacks, admin = %addresses.admin, "starting");
    let life = Arc::clone(&doors.life);
    let mut drain = std::pin::pin!(async {
        tokio::select! {
            stopping = stop.drain => stopping,
            () = life.asked_to_stop() => Stopping::LameDuckFirst,
        }
    });
    let opened = tokio::select! {
        biased;
        _ = &mut drain => None,
        opened = opening::open(store, file, (&metrics, &life)) => Some(opened),
    };
    let running = match opened {
        Some(Ok(registry)) => Running::start(registry, metrics, doors)?,
        Some(Err(error)) => {
            doors.end(FAILED_DRAIN, stop.now).await;
            return Err(error);
        }
        None => {
            let time = config.borrow().server.drain;
            doors.end(time, stop.now).await;
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
    Ok(())
}

/// Readiness says no, and callbacks are accepted, until `time` is over.
async fn be_lame_duck(life: &Lifecycle, time: Duration) {
    if !time.is_zero() {
        life.lame_duck();
        let seconds = time.as_secs_f64();
        tracing::info!(seconds, "lame duck: balancers are told to send no more");
        tokio::time::sleep(time).await;
    }
}

/// The listeners, which answer from the first moment on.
struct Doors {
    addresses: Addresses,
    life: Arc<Lifecycle>,
    keys: Keys,
    gate: CallbackHandler,
    certificate: Option<Arc<Certificate>>,
    admin: Late<AdminRouter>,
    /// The listener of the management APIs, if they have one of their own.
    management: Option<Late<Arc<Partners>>>,
    workers: Vec<Worker>,
    sides: Vec<Side>,
}

impl Doors {
    fn open(
        config: watch::Receiver<Arc<Config>>,
        metrics: &Arc<Metrics>,
        listeners: Listeners,
    ) -> Result<Self, ServeError> {
        let life = Arc::new(Lifecycle::new());
        let file = Arc::clone(&config.borrow());
        let addresses = listeners.addresses()?;
        let keys = Keys::start(&file, Arc::clone(metrics));
        let shared = (Arc::clone(metrics), Arc::clone(&life));
        let gate =
            CallbackHandler::new(&Plan::new(Arc::clone(&file)), keys.clone(), shared.clone());
        let certificate =
            file.server.tls.as_ref().map(Certificate::read).transpose()?.map(Arc::new);
        certificate.iter().for_each(|certificate| note_expiry(certificate, metrics));
        let bounds = bounds(&file.server.limits);
        let front =
            ListenerService::new(gate.clone(), Arc::clone(&life), bounds, certificate.as_ref())?;
        let starting = Starting::new(addresses.admin.ip(), config, shared);
        let admin = Late::new(starting.clone());
        let mut sides = vec![Side::start(listeners.admin, admin.clone())?];
        let management = match listeners.management {
            Some(listener) => {
                let late = Late::new(starting.at(listener.local_addr()?.ip()));
                sides.push(Side::start(listener, late.clone())?);
                Some(late)
            }
            None => None,
        };
        let mut workers = Vec::with_capacity(listeners.callbacks.len());
        for (index, listener) in listeners.callbacks.into_iter().enumerate() {
            let name = format!("callbacks-{index}");
            workers.push(Worker::start(name, listener, Arc::clone(&front))?);
        }
        Ok(Self { addresses, life, keys, gate, certificate, admin, management, workers, sides })
    }

    /// Ends a start that comes to nothing: who waits is told to come again.
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

/// A gateway that serves.
struct Running {
    life: Arc<Lifecycle>,
    metrics: Arc<Metrics>,
    registry: Registry,
    courier: Dispatcher,
    upkeep: Upkeep,
    workers: Vec<Worker>,
    sides: Vec<Side>,
    follower: tokio::task::JoinHandle<()>,
}

/// A listener beside that of the callbacks, which answers until the last callback is answered.
struct Side {
    life: Arc<Lifecycle>,
    tasks: tokio::task::JoinSet<()>,
}

impl Running {
    fn start(registry: Registry, metrics: Arc<Metrics>, doors: Doors) -> Result<Self, ServeError> {
        let Doors { addresses, life, keys, gate, certificate, .. } = &doors;
        let (plan, book) = (registry.plan(), registry.book().clone());
        let config = Arc::clone(&plan.config);
        let local = Arc::new(LocalToken::new(&config.admin.token_file));
        // Created before the first request, so that whoever starts a gateway finds it.
        local.or(&config.admin.tokens);
        let tools = Tools {
            book: book.clone(),
            metrics: Arc::clone(&metrics),
            life: Arc::clone(life),
            verdicts: gate.verdicts().clone(),
        };
        let courier = Dispatcher::start(&config, tools);
        let upkeep =
            Upkeep::start(&config, registry.clone(), Arc::clone(&metrics), Arc::clone(life));
        let scrubber = upkeep.scrubber();
        let control = courier.control();
        let replays = Replays::new(registry.book().clone(), control.clone());
        let releases = Releases::new(registry.book().clone(), gate.clone());
        let tools = console::Tools {
            callbacks: addresses.callbacks,
            registry: registry.clone(),
            gate: gate.clone(),
            keys: keys.clone(),
            control: control.clone(),
            replays: replays.clone(),
            releases: releases.clone(),
            metrics: Arc::clone(&metrics),
            life: Arc::clone(life),
            local: Arc::clone(&local),
        };
        let inside = (gate.clone(), keys.clone(), control, (replays, releases), scrubber);
        let following = (registry.clone(), gate.clone());
        keys.apply(&config);
        gate.apply(&plan);
        gate.open(book);
        let receiving = (gate.clone(), keys.clone());
        let shown = (certificate.clone(), Arc::clone(&metrics));
        put_in_force(&registry, receiving, (&courier, &upkeep), shown);
        let follower = tokio::spawn(async move {
            let (registry, gate) = following;
            tokio::join!(registry.follow(), gate.follow_older_keys());
        });

        let partners = Arc::new(Partners::new(registry.clone()));
        let shared = (Arc::clone(&metrics), Arc::clone(life), local);
        let address = addresses.admin.ip();
        let partners = match &doors.management {
            Some(management) => {
                management.set(partners);
                None
            }
            None => Some(partners),
        };
        let admin = Admin::new(address, registry.clone(), inside, shared);
        let console = Console::new(address, tools).ok_or_else(no_random_bytes)?;
        doors.admin.set(AdminRouter { admin, console, partners });
        life.ready();
        let Doors { life, workers, sides, .. } = doors;
        Ok(Self { life, metrics, registry, courier, upkeep, workers, sides, follower })
    }

    /// Serves under every new configuration, until it is to stop.
    async fn follow(
        &self,
        config: &mut watch::Receiver<Arc<Config>>,
        mut drain: std::pin::Pin<&mut impl Future<Output = Stopping>>,
    ) -> Stopping {
        loop {
            tokio::select! {
                biased;
                stopping = &mut drain => return stopping,
                changed = config.changed() => match changed {
                    Ok(()) => {
                        let file = config.borrow_and_update().clone();
                        self.reload(file).await;
                    }
                    // Whoever watched the file is gone; the configuration stays as it is.
                    Err(_) => return drain.await,
                },
            }
        }
    }

    /// Goes on under another configuration file. What is bound stays as it was.
    async fn reload(&self, file: Arc<Config>) {
        match self.registry.reload(file).await {
            Ok(()) => return self.metrics.program.reloaded(),
            Err(ReloadError::Clash(clashes)) => {
                for clash in clashes {
                    tracing::error!(clash, "what was made over an API would not work any more");
                }
                tracing::error!("the new configuration is not put in force; the old one stays");
            }
            Err(ReloadError::Ledger(error)) => {
                tracing::error!(%error, "the new configuration could not be put in force");
            }
        }
        self.metrics.program.reload_failed();
    }

    async fn end(self, time: Duration, now: impl Future<Output = ()>) {
        tracing::info!(seconds = time.as_secs(), "draining");
        self.life.drain();
        let workers = self.workers;
        let joined = tokio::task::spawn_blocking(|| workers.into_iter().for_each(Worker::join));
        let mut ended = std::pin::pin!(async {
            let _ = tokio::join!(joined, self.courier.ended(), self.upkeep.ended());
        });
        let drained = tokio::select! {
            () = &mut ended => true,
            () = tokio::time::sleep(time) => false,
            () = now => false,
        };
        self.life.stopped();
        if !drained {
            tracing::warn!("the drain was cut short; what was in flight is closed");
            ended.await;
        }
        self.follower.abort();
        for side in self.sides {
            side.end().await;
        }
        tracing::info!("stopped");
    }
}

fn no_random_bytes() -> io::Error {
    io::Error::other("it has no random bytes")
}

/// Has the running parts go on under every new configuration.
fn put_in_force(
    registry: &Registry,
    (gate, keys): (CallbackHandler, Keys),
    (courier, upkeep): (&Dispatcher, &Upkeep),
    (certificate, metrics): (Option<Arc<Certificate>>, Arc<Metrics>),
) {
    let (deliver, sweep) = (courier.applier(), upkeep.applier());
    registry.on_change(move |plan| {
        let config = &plan.config;
        keys.apply(config);
        gate.apply(plan);
        deliver(config);
        sweep(config);
        if let (Some(certificate), Some(files)) = (&certificate, &config.server.tls) {
            if let Err(error) = certificate.reload(files) {
                tracing::error!(%error, "the certificate could not be read again; the old one stays");
            }
            note_expiry(certificate, &metrics);
        }
    });
}

/// Notes when the certificate of the callback listener expires.
fn note_expiry(certificate: &Certificate, metrics: &Metrics) {
    if let Some(expires_ms) = certificate.expires_ms() {
        metrics.program.set_certificate("callbacks", expires_ms);
    }
}

impl Side {
    fn start<H: Handler>(listener: TcpListener, handler: H) -> Result<Self, ServeError> {
        let life = Arc::new(Lifecycle::new());
        let front = ListenerService::new(handler, Arc::clone(&life), ADMIN, None)?;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(wire::accept(tokio::net::TcpListener::from_std(listener)?, front));
        Ok(Self { life, tasks })
    }

    async fn end(mut self) {
        self.life.stopped();
        while self.tasks.join_next().await.is_some() {}
    }
}

const ADMIN: Bounds = Bounds {
    connections: ADMIN_CONNECTIONS,
    head_bytes: ADMIN_HEAD_BYTES,
    head_time: ADMIN_HEAD_TIME,
    idle_time: IDLE_TIME,
};

fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        connections: limits.connections,
        head_bytes: limits.head_bytes,
        head_time: limits.head_timeout,
        idle_time: IDLE_TIME,
    }
}
