//! The listeners of a gateway, which answer before the store is open.

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::admin_router::AdminRouter;
use super::certificates::Certificates;
use super::until_ready::UntilReady;
use super::{Addresses, Listeners, ServeError};
use crate::config::limits::ADMIN_CONNECTIONS;
use crate::config::{Config, Limits, ProxyProtocol};
use crate::file_descriptors::side_connections_that_fit;
use crate::intake::CallbackHandler;
use crate::keys::Keys;
use crate::lifecycle::Lifecycle;
use crate::manage::Starting;
use crate::partners::Partners;
use crate::plan::Plan;
use crate::telemetry::Metrics;
use crate::wire::{self, Bounds, Certificate, Handler, ListenerService, Transport, Worker};

/// Bytes of a head on the admin listener: a cursor and a token.
const ADMIN_HEAD_BYTES: usize = 32 * 1024;

/// Time for a head on the admin listener.
const ADMIN_HEAD_TIME: Duration = Duration::from_secs(10);

/// How long a connection may idle between two requests: longer than usual proxies keep one. The
/// proxy closes first, and no request is lost on a connection that is closing.
const IDLE_TIME: Duration = Duration::from_secs(75);

/// The listeners, which answer from the beginning.
pub(super) struct OpenListeners {
    pub(super) addresses: Addresses,
    pub(super) life: Arc<Lifecycle>,
    pub(super) keys: Keys,
    pub(super) callback_handler: CallbackHandler,
    pub(super) certificates: Certificates,
    pub(super) admin: UntilReady<AdminRouter>,
    /// The listener of the management APIs, if they have their own.
    pub(super) management: Option<UntilReady<Arc<Partners>>>,
    pub(super) workers: Vec<Worker>,
    pub(super) sides: Vec<SideListener>,
}

/// A listener besides that of the callbacks. It answers until the last callback is answered.
pub(super) struct SideListener {
    life: Arc<Lifecycle>,
    tasks: tokio::task::JoinSet<()>,
}

impl OpenListeners {
    /// Answers on `listeners` from now on: asks senders to retry, and operators to wait for the
    /// start.
    pub(super) fn open(
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
        let transport = Transport { certificate, proxy_protocol: file.server.proxy_protocol };
        let bounds = bounds(&file.server.limits);
        let service =
            ListenerService::new(callback_handler.clone(), Arc::clone(&life), bounds, transport);
        let starting =
            Starting::new(addresses.admin.ip(), config, Arc::clone(metrics), Arc::clone(&life));
        let admin = UntilReady::new(starting.clone());
        let mut sides = vec![SideListener::start(listeners.admin, admin.clone(), of_admin)?];
        let management = match listeners.management {
            Some(listener) => {
                let partners = UntilReady::new(starting.at(listener.local_addr()?.ip()));
                sides.push(SideListener::start(listener, partners.clone(), None)?);
                Some(partners)
            }
            None => None,
        };
        let mut workers = Vec::with_capacity(listeners.callbacks.len());
        for (index, listener) in listeners.callbacks.into_iter().enumerate() {
            let name = format!("callbacks-{index}");
            workers.push(Worker::start(name, listener, Arc::clone(&service))?);
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
    pub(super) async fn end(self, time: Duration, now: impl Future<Output = ()>) {
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

impl SideListener {
    fn start<H: Handler>(
        listener: TcpListener,
        handler: H,
        certificate: Option<Arc<Certificate>>,
    ) -> Result<Self, ServeError> {
        let life = Arc::new(Lifecycle::new());
        let transport = Transport { certificate, proxy_protocol: ProxyProtocol::Off };
        let service = ListenerService::new(handler, Arc::clone(&life), side_bounds(), transport);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(wire::accept(tokio::net::TcpListener::from_std(listener)?, service));
        Ok(Self { life, tasks })
    }

    pub(super) async fn end(mut self) {
        self.life.stopped();
        while self.tasks.join_next().await.is_some() {}
    }
}

fn side_bounds() -> Bounds {
    Bounds {
        connections: side_connections_that_fit(ADMIN_CONNECTIONS),
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
