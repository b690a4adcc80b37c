//! The admin listener's router, and what its handlers share.

mod deliveries;
mod destinations;
mod events;
mod explain;
mod export;
mod health;
mod rejections;
mod replay;
mod senders;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

pub(crate) use explain::explained;
pub(crate) use export::{KEY as EXPORT_KEY, NEXT as EXPORT_NEXT};

use super::access::{self, Need};
use super::http::{Answered, Problem};
use crate::config::Config;
use crate::delivery::{Control, Replays};
use crate::intake::Gate;
use crate::keys::Keys;
use crate::ledger::Book;
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;
use crate::wire::{BodyFault, BytePool, Handler, Hangup, Peer, Response};

/// Bytes of a request's body: a captured callback in JSON, escaped.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of all bodies being read together.
const BODIES_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// Time for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The admin listener.
#[derive(Debug)]
pub struct Admin {
    /// Where it listens.
    address: IpAddr,
    config: ArcSwap<Config>,
    gate: Gate,
    control: Control,
    replays: Replays,
    keys: Keys,
    book: Book,
    metrics: Arc<Metrics>,
    life: Arc<Lifecycle>,
    bodies: Arc<BytePool>,
}

/// What a path stands for.
enum Resource<'p> {
    Metrics,
    Alive,
    Ready,
    Events,
    Event(&'p str),
    Replay(&'p str),
    BeginReplay,
    ReplayProgress(&'p str),
    CancelReplay(&'p str),
    Deliveries,
    Status(&'p str),
    Pause(&'p str),
    Resume(&'p str),
    Test(&'p str),
    Rejections,
    Senders,
    Explain,
    Export,
}

impl<'p> Resource<'p> {
    /// What `path` is; the method tells two apart that have one path.
    fn find(path: &'p str, method: &Method) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match segments.as_slice() {
            ["metrics"] => Self::Metrics,
            ["healthz"] => Self::Alive,
            ["readyz"] => Self::Ready,
            ["admin", "v1", rest @ ..] => match rest {
                ["events"] => Self::Events,
                ["events", id] => Self::Event(id),
                ["events", id, "replay"] => Self::Replay(id),
                ["replay"] => Self::BeginReplay,
                ["replay", id] if method == Method::DELETE => Self::CancelReplay(id),
                ["replay", id] => Self::ReplayProgress(id),
                ["deliveries"] => Self::Deliveries,
                ["destinations", name, "status"] => Self::Status(name),
                ["destinations", name, "pause"] => Self::Pause(name),
                ["destinations", name, "resume"] => Self::Resume(name),
                ["destinations", name, "test"] => Self::Test(name),
                ["rejections"] => Self::Rejections,
                ["senders"] => Self::Senders,
                ["explain"] => Self::Explain,
                ["export"] => Self::Export,
                _ => return None,
            },
            _ => return None,
        })
    }

    fn method(&self) -> Method {
        match self {
            Self::Explain
            | Self::Replay(_)
            | Self::BeginReplay
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Test(_) => Method::POST,
            Self::CancelReplay(_) => Method::DELETE,
            _ => Method::GET,
        }
    }

    fn need(&self) -> Need {
        match self {
            Self::Metrics | Self::Alive | Self::Ready => Need::Nothing,
            Self::Replay(_)
            | Self::BeginReplay
            | Self::CancelReplay(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Test(_)
            // An export holds what everybody else sees masked.
            | Self::Export => Need::Change,
            _ => Need::Look,
        }
    }
}

impl Admin {
    /// What is served at `address` about a gateway.
    #[must_use]
    pub fn new(
        address: IpAddr,
        config: Arc<Config>,
        (gate, keys, control): (Gate, Keys, Control),
        book: Book,
        (metrics, life): (Arc<Metrics>, Arc<Lifecycle>),
    ) -> Self {
        let bodies = BytePool::new(BODIES_BYTES_MAX);
        let replays = Replays::new(book.clone(), control.clone());
        let config = ArcSwap::new(config);
        Self { address, config, gate, keys, control, replays, book, metrics, life, bodies }
    }

    /// Goes on under another configuration.
    pub fn apply(&self, config: &Arc<Config>) {
        self.config.store(Arc::clone(config));
    }

    async fn answer(&self, request: Request<Incoming>) -> Answered {
        let (head, body) = request.into_parts();
        access::check_host(self.address, &head)?;
        let Some(resource) = Resource::find(head.uri.path(), &head.method) else {
            return Err(Problem::absent("there is nothing at this path"));
        };
        let who = access::check_token(&self.config.load().admin.tokens, &head, resource.need())?;
        let method = resource.method();
        let asked = if head.method == Method::HEAD { &Method::GET } else { &head.method };
        if *asked != method {
            return Err(Problem::method(&method));
        }
        match resource {
            Resource::Metrics => self.metrics().await,
            Resource::Alive => Ok(Self::alive()),
            Resource::Ready => Ok(self.ready().await),
            Resource::Events => self.events(&head).await,
            Resource::Event(id) => self.event(id).await,
            Resource::Replay(id) => self.replay(id).await,
            Resource::BeginReplay => self.begin_replay(&self.body(body).await?, &who).await,
            Resource::ReplayProgress(id) => self.replay_progress(id),
            Resource::CancelReplay(id) => self.cancel_replay(id, &who).await,
            Resource::Deliveries => self.deliveries(&head).await,
            Resource::Status(name) => self.status(name).await,
            Resource::Pause(name) => self.pause(name, &who).await,
            Resource::Resume(name) => self.resume(name, &who).await,
            Resource::Test(name) => self.test(name, &self.body(body).await?).await,
            Resource::Rejections => self.rejections(&head),
            Resource::Senders => self.senders(),
            Resource::Export => self.export(&head).await,
            Resource::Explain => self.explain(&self.body(body).await?),
        }
    }

    async fn body(&self, body: Incoming) -> Result<Bytes, Problem> {
        match self.bodies.read(body, BODY_BYTES_MAX, BODY_TIME).await {
            Ok((bytes, _)) => Ok(bytes),
            Err(BodyFault::TooLarge) => {
                Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "a body may have 1 MiB"))
            }
            Err(BodyFault::Late) => {
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))
            }
            Err(BodyFault::Crowded) => {
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too much at one time"))
            }
        }
    }
}

impl Handler for Admin {
    async fn handle(&self, _: Peer, request: Request<Incoming>) -> Result<Response, Hangup> {
        Ok(self.answer(request).await.unwrap_or_else(Problem::response))
    }
}

impl Handler for Arc<Admin> {
    async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Result<Response, Hangup> {
        Admin::handle(self, peer, request).await
    }
}

/// The query of a request.
fn query(head: &Parts) -> Option<&str> {
    head.uri.query()
}
