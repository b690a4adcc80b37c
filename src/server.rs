//! The program: listeners, the receiving path and the admin listener, from start to drain.
//!
//! `serve`, `demo` and every integration test call [`run_until`]. They differ only in the origin of
//! the configuration, the ledger and the sockets.

mod admin_router;
mod certificates;
mod listeners;
mod notify;
mod open_listeners;
mod opening;
mod pending;
mod recorder;
mod serve_error;
#[cfg(feature = "otlp")]
mod span_export;
mod until_ready;
mod upkeep;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::admin_router::AdminRouter;
pub use self::listeners::{Addresses, Listeners};
use self::open_listeners::{OpenListeners, SideListener};
pub use self::opening::{Observed, Store, embedded, keyring, open_ledger, postgres};
use self::pending::{Pending, ReloadProgress};
use self::recorder::Recorder;
pub use self::serve_error::ServeError;
use self::upkeep::Upkeep;
use crate::alert::Alerts;
use crate::config::Config;
use crate::console;
use crate::delivery::{Deliveries, Dispatcher, Replays, Tools};
use crate::intake::{CallbackHandler, Releases};
use crate::lifecycle::{Lifecycle, Stop, Stopping};
use crate::operator::LocalToken;
use crate::partners::Partners;
use crate::plan::Plan;
use crate::registry::Registry;
use crate::telemetry::Metrics;
use crate::wire::Worker;

/// Maximum number of accepting threads; above it two would share one queue of the ledger.
const WORKERS_MAX: usize = 16;

/// The time to answer requests that wait for the store, after it could not be opened.
const FAILED_DRAIN: Duration = Duration::from_secs(1);

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

impl Running {
    fn start(
        registry: Registry,
        metrics: Arc<Metrics>,
        listeners: OpenListeners,
        deliveries: Deliveries,
    ) -> Result<Self, ServeError> {
        let OpenListeners { life, callback_handler, .. } = &listeners;
        let plan = registry.plan();
        let tools = Tools {
            ledger: registry.ledger().clone(),
            metrics: Arc::clone(&metrics),
            life: Arc::clone(life),
            verdicts: callback_handler.verdicts().clone(),
            deliveries,
        };
        let dispatcher = Dispatcher::start(&plan.config, tools)?;
        let upkeep =
            Upkeep::start(&plan.config, registry.clone(), Arc::clone(&metrics), Arc::clone(life));
        apply_and_open(&plan, &registry, &listeners);
        follow_changes(&registry, &listeners, &metrics, &dispatcher, &upkeep);
        let (alerts, recorder) = notify::start(&registry, &metrics, &listeners);
        let following = (registry.clone(), callback_handler.clone());
        let follower = tokio::spawn(async move {
            let (registry, callback_handler) = following;
            tokio::join!(registry.follow(), callback_handler.follow_older_keys());
        });
        serve_admin(&registry, &metrics, &listeners, &dispatcher, &upkeep)?;
        registry.warn_of_unconfigured();
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
            let progress = tokio::select! {
                biased;
                stopping = &mut drain => return stopping,
                progress = file.apply(&self.registry, &self.metrics) => progress,
            };
            if progress == ReloadProgress::Settled {
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

/// Accepts callbacks. The handler has the plan of the store first: a source that an API made would
/// be an unknown path without it.
fn apply_and_open(plan: &Plan, registry: &Registry, listeners: &OpenListeners) {
    listeners.keys.apply(&plan.config);
    listeners.callback_handler.apply(plan);
    listeners.callback_handler.open(registry.ledger().clone());
}

/// Sets the handlers of the admin listener and of the management APIs.
fn serve_admin(
    registry: &Registry,
    metrics: &Arc<Metrics>,
    listeners: &OpenListeners,
    dispatcher: &Dispatcher,
    upkeep: &Upkeep,
) -> io::Result<()> {
    let OpenListeners { addresses, life, keys, callback_handler, .. } = listeners;
    let control = dispatcher.control();
    let tools = console::Tools {
        callbacks: addresses.callbacks,
        registry: registry.clone(),
        callback_handler: callback_handler.clone(),
        keys: keys.clone(),
        control: control.clone(),
        replays: Replays::new(registry.ledger().clone(), control),
        releases: Releases::new(registry.ledger().clone(), callback_handler.clone()),
        metrics: Arc::clone(metrics),
        life: Arc::clone(life),
        // The listeners created it when they opened, so the caller that starts a gateway finds it.
        local: Arc::new(LocalToken::new(&registry.config().admin.token_file)),
    };
    let partners = Arc::new(Partners::new(registry.clone()));
    let partners = match &listeners.management {
        Some(management) => {
            management.set(partners);
            None
        }
        None => Some(partners),
    };
    let router = AdminRouter::new(addresses.admin.ip(), tools, upkeep.scrubber(), partners);
    listeners.admin.set(router.ok_or_else(no_random_bytes)?);
    Ok(())
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
