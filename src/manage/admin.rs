//! The admin listener's router, and what its handlers share.

mod audit;
mod deliveries;
mod destinations;
mod drain;
mod erase;
mod events;
mod explain;
mod export;
mod health;
mod held;
mod managed;
mod openapi;
mod rejections;
mod release;
mod replay;
mod resource;
mod senders;
mod signed;
mod signing_key;
mod starting;
mod verify;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, StatusCode, header};

pub(crate) use export::{KEY as EXPORT_KEY, NEXT as EXPORT_NEXT};

use self::export::NotedExports;
use self::resource::Resource;
pub use self::starting::Starting;
use super::failed_auth::{FailedAuthLimiter, Guess, TooManyAttempts};
use super::http::{Answered, ApiError};
use crate::clock::instant;
use crate::config::limits::ADMIN_CONNECTIONS;
use crate::config::{Config, Rate};
use crate::delivery::{Control, Replays};
use crate::intake::{CallbackHandler, Releases, caller_at};
use crate::keys::Keys;
use crate::ledger::{BatchedLedger, Scrubber};
use crate::lifecycle::Lifecycle;
use crate::operator::{
    AccessError, Admitted, Asked, LocalToken, Permission, Sight, View, check_name, check_site,
    check_token, conceal,
};
use crate::rate_limiter::AddressRateLimiter;
use crate::registry::{Actor, Managed, Registry};
use crate::telemetry::Metrics;
use crate::wire::{
    BodyBounds, BodyError, BytePool, CloseWithoutReply, Handler, Peer, RawTarget, RequestBody,
    Response,
};

/// Bytes of a request's body: a captured callback in JSON, escaped.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Wrong tokens of one address that are logged.
const WRONG_TOKENS: Rate = Rate { count: 5, per: Duration::from_secs(60) };

/// The target of guesses with wrong tokens.
const GUESSED: &str = "admin";

/// Bytes of all bodies being read together.
const BODIES_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// Time for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

const BODY_BOUNDS: BodyBounds = BodyBounds { bytes: BODY_BYTES_MAX, time: BODY_TIME };

/// The admin listener.
#[derive(Debug)]
pub struct Admin {
    /// Where it listens.
    address: IpAddr,
    registry: Registry,
    callback_handler: CallbackHandler,
    control: Control,
    replays: Replays,
    releases: Releases,
    keys: Keys,
    ledger: BatchedLedger,
    scrubber: Scrubber,
    metrics: Arc<Metrics>,
    life: Arc<Lifecycle>,
    bodies: Arc<BytePool>,
    /// Bounds the wrong tokens of an address that are logged.
    wrong_tokens: AddressRateLimiter,
    /// Slows guesses of tokens.
    guesses: FailedAuthLimiter,
    /// The token of this machine.
    local: Arc<LocalToken>,
    /// Exports that the audit log has.
    exports: NotedExports,
}

/// Parts of the gateway that the admin API shows and controls.
#[derive(Debug)]
pub struct AdminParts {
    /// Managed objects and the running configuration.
    pub registry: Registry,
    /// The receiving path, for rejected and held callbacks.
    pub callback_handler: CallbackHandler,
    /// Public keys of senders.
    pub keys: Keys,
    /// Deliveries.
    pub control: Control,
    /// Replays by filter.
    pub replays: Replays,
    /// Releases from quarantine.
    pub releases: Releases,
    /// Reads the whole store.
    pub scrubber: Scrubber,
    /// Counters and histories.
    pub metrics: Arc<Metrics>,
    /// Lifecycle of the gateway.
    pub life: Arc<Lifecycle>,
    /// The token of this machine.
    pub local: Arc<LocalToken>,
}

/// The caller, and the part of the gateway that it sees.
struct AdmittedCaller {
    who: Actor,
    view: View,
}

/// A body that is not read yet, and whose it is.
struct Unread {
    body: RequestBody,
    from: IpAddr,
}

impl Admin {
    /// The admin API of a gateway, as served at `address`.
    #[must_use]
    pub fn new(address: IpAddr, parts: AdminParts) -> Self {
        Self {
            address,
            ledger: parts.registry.ledger().clone(),
            registry: parts.registry,
            callback_handler: parts.callback_handler,
            control: parts.control,
            replays: parts.replays,
            releases: parts.releases,
            keys: parts.keys,
            scrubber: parts.scrubber,
            metrics: parts.metrics,
            life: parts.life,
            bodies: BytePool::new(BODIES_BYTES_MAX, ADMIN_CONNECTIONS),
            wrong_tokens: AddressRateLimiter::new(WRONG_TOKENS, instant()),
            guesses: FailedAuthLimiter::new(),
            local: parts.local,
            exports: NotedExports::default(),
        }
    }

    /// The active configuration.
    fn config(&self) -> Arc<Config> {
        self.registry.config()
    }

    /// The actor of a request, and what it may see. Failed attempts with tokens are counted. Beyond
    /// a bound, an address waits for its turn, independently of its token.
    async fn admit(
        &self,
        head: &Parts,
        peer: Peer,
        need: Permission,
    ) -> Result<Admitted, ApiError> {
        let config = self.config();
        let asked = Asked { at: self.address, peer: peer.address.ip(), head, need };
        let check = || check_token(&config.admin.tokens, &self.local, asked);
        if need == Permission::Nothing || !head.headers.contains_key(header::AUTHORIZATION) {
            return Ok(check()?);
        }
        let from = self.client(peer, head);
        let guess = Guess { api: GUESSED, name: "", from };
        let too_many = || ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens");
        let turn = self.guesses.turn(guess).await.map_err(|TooManyAttempts| too_many())?;
        let checked = check();
        if checked != Err(AccessError::UnknownToken) {
            self.guesses.was_right(guess, turn);
            return Ok(checked?);
        }
        if self.wrong_tokens.take(from, instant()) {
            tracing::warn!(target: "postern::admin", client = %from, "a token that is not known");
        }
        match self.guesses.was_wrong(guess, turn) {
            true => Err(too_many()),
            false => Err(AccessError::UnknownToken.into()),
        }
    }

    /// The address of the caller, as far as it is known.
    fn client(&self, peer: Peer, head: &Parts) -> IpAddr {
        let trusted = &self.config().server.trusted_proxies;
        caller_at(peer, &head.headers, trusted).address()
    }

    async fn answer(&self, peer: Peer, request: Request<RequestBody>) -> Answered {
        let (head, body) = request.into_parts();
        check_site(&head)?;
        check_name(self.address, &head)?;
        let is_as_sent = RawTarget::is_path_as_sent(&head);
        let found = Resource::find(head.uri.path()).filter(|_| is_as_sent);
        let Some(resource) = found else {
            return Err(ApiError::absent("there is nothing at this path"));
        };
        let methods = resource.methods();
        let asked = if head.method == Method::HEAD { &Method::GET } else { &head.method };
        let need = resource.need_at(self.address, &self.config(), asked);
        let Admitted { who, sight, scope } = self.admit(&head, peer, need).await?;
        resource.check_scope(asked, &scope)?;
        let caller = AdmittedCaller { who, view: View::of(self.config(), &scope) };
        if !methods.contains(asked) {
            return Err(ApiError::method(methods));
        }
        let body = Unread { body, from: self.client(peer, &head) };
        let answered = self.serve(resource, asked, &caller, &head, body).await;
        match sight {
            Sight::Whole => answered,
            Sight::Concealed => {
                let answer = answered.unwrap_or_else(ApiError::response);
                Ok(conceal(&self.config(), answer).await)
            }
        }
    }

    async fn serve(
        &self,
        resource: Resource<'_>,
        asked: &Method,
        AdmittedCaller { who, view }: &AdmittedCaller,
        head: &Parts,
        body: Unread,
    ) -> Answered {
        match resource {
            Resource::Metrics => self.metrics().await,
            Resource::Live | Resource::Alive => Ok(health::alive()),
            Resource::Ready => Ok(self.ready().await),
            Resource::Events => self.events(view, head).await,
            Resource::Event(id) => self.event(view, id).await,
            Resource::Replay(id) => {
                deliveries::no_choice(head, &self.body(body).await?)?;
                self.replay(view, id, who).await
            }
            Resource::BeginReplay => self.begin_replay(view, &self.body(body).await?, who).await,
            Resource::Order(id) if asked == Method::DELETE => {
                self.cancel_replay(view, id, who).await
            }
            Resource::Order(id) => self.replay_progress(view, id).await,
            Resource::BeginRelease => self.begin_release(view, &self.body(body).await?, who).await,
            Resource::Release(id) if asked == Method::DELETE => {
                self.cancel_release(view, id, who).await
            }
            Resource::Release(id) => self.release_progress(view, id).await,
            Resource::Deliveries => self.deliveries(view, head).await,
            Resource::Held => self.held(view, head).await,
            Resource::HeldOne(id) => self.held_one(view, id).await,
            Resource::Decide(id, decision) => {
                self.decide_held(view, id, decision, who, &self.body(body).await?).await
            }
            Resource::Status(name) => self.status(name).await,
            Resource::Pause(name) => self.pause(name, who, &self.body(body).await?).await,
            Resource::Resume(name) => self.resume(name, who).await,
            Resource::Test(name) => self.test(name, who, &self.body(body).await?).await,
            Resource::Rejections => self.rejections(view, head).await,
            Resource::Senders => self.senders(view),
            Resource::SigningKey => self.signing_key(view, head),
            Resource::Export => self.export(head, who).await,
            Resource::Verify if asked == Method::POST => self.begin_verify(),
            Resource::Verify => self.verify_progress(),
            Resource::Urls => self.urls(view, head),
            Resource::Sign => self.sign(view, &self.body(body).await?, who).await,
            Resource::Erase => self.erase(view, &self.body(body).await?, who).await,
            Resource::Explain => self.explain(view, &self.body(body).await?).await,
            Resource::All(Managed::Destination) => self.destinations().await,
            Resource::All(managed) => self.list(view, managed),
            Resource::One(managed, name) => match asked.as_str() {
                "PUT" => self.put(who, managed, name, head, &self.body(body).await?).await,
                "DELETE" => self.remove(who, managed, name, head).await,
                _ => self.show(view, managed, name),
            },
            Resource::Drain => {
                drain::note(&self.registry, &self.life, who).await;
                Ok(drain::begin(&self.life, &self.config().server, who))
            }
            Resource::Audit => self.audit(view, head).await,
            Resource::OpenApi => Ok(openapi::document()),
            Resource::EventSchema => Ok(openapi::event_schema()),
        }
    }

    async fn body(&self, Unread { body, from }: Unread) -> Result<Bytes, ApiError> {
        match self.bodies.read(body, BODY_BOUNDS, from).await {
            Ok((bytes, _)) => Ok(bytes),
            Err(BodyError::TooLarge) => {
                Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "a body may have 1 MiB"))
            }
            Err(BodyError::Late) => {
                Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))
            }
            Err(BodyError::Crowded) => {
                Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server busy, retry later"))
            }
        }
    }
}

impl Handler for Admin {
    async fn handle(
        &self,
        peer: Peer,
        request: Request<RequestBody>,
    ) -> Result<Response, CloseWithoutReply> {
        Ok(self.answer(peer, request).await.unwrap_or_else(ApiError::response))
    }
}

/// The query of a request.
fn query(head: &Parts) -> Option<&str> {
    head.uri.query()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::ledger::Decision;
    use crate::registry::Managed;

    /// Every path of the document, and its resource in the router: a new resource does not compile
    /// before it has its row.
    fn path_of(resource: &Resource<'_>) -> &'static str {
        match resource {
            Resource::Metrics => "/metrics",
            Resource::Live => "/livez",
            Resource::Alive => "/healthz",
            Resource::Ready => "/readyz",
            Resource::Events => "/admin/v1/events",
            Resource::Event(_) => "/admin/v1/events/{id}",
            Resource::Replay(_) => "/admin/v1/events/{id}/replay",
            Resource::BeginReplay => "/admin/v1/replay",
            Resource::Order(_) => "/admin/v1/replay/{id}",
            Resource::BeginRelease => "/admin/v1/release",
            Resource::Release(_) => "/admin/v1/release/{id}",
            Resource::Deliveries => "/admin/v1/deliveries",
            Resource::Held => "/admin/v1/held",
            Resource::HeldOne(_) => "/admin/v1/held/{id}",
            Resource::Decide(_, Decision::Release | Decision::Settle) => {
                "/admin/v1/held/{id}/release"
            }
            Resource::Decide(_, Decision::Drop) => "/admin/v1/held/{id}/drop",
            Resource::Status(_) => "/admin/v1/destinations/{name}/status",
            Resource::Pause(_) => "/admin/v1/destinations/{name}/pause",
            Resource::Resume(_) => "/admin/v1/destinations/{name}/resume",
            Resource::Test(_) => "/admin/v1/destinations/{name}/test",
            Resource::Export => "/admin/v1/export",
            Resource::Verify => "/admin/v1/verify",
            Resource::Rejections => "/admin/v1/rejections",
            Resource::Senders => "/admin/v1/senders",
            Resource::SigningKey => "/admin/v1/signing-key",
            Resource::Explain => "/admin/v1/explain",
            Resource::Urls => "/admin/v1/urls",
            Resource::Sign => "/admin/v1/sign",
            Resource::Erase => "/admin/v1/erase",
            Resource::All(Managed::Source) => "/admin/v1/sources",
            Resource::One(Managed::Source, _) => "/admin/v1/sources/{name}",
            Resource::All(Managed::Destination) => "/admin/v1/destinations",
            Resource::One(Managed::Destination, _) => "/admin/v1/destinations/{name}",
            Resource::Drain => "/admin/v1/drain",
            Resource::Audit => "/admin/v1/audit",
            Resource::OpenApi => "/admin/v1/openapi.json",
            Resource::EventSchema => "/admin/v1/event.schema.json",
        }
    }

    /// How many rows that function has.
    const ROWS: usize = 37;

    fn document() -> Value {
        serde_json::from_str(openapi::DOCUMENT).unwrap()
    }

    #[test]
    fn the_document_has_the_paths_and_methods_that_are_served() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        for (path, item) in paths {
            let example = path.replace("{id}", "evt_1").replace("{name}", "x");
            let resource =
                Resource::find(&example).unwrap_or_else(|| panic!("{path} is not served"));
            assert_eq!(path_of(&resource), path);
            let served: BTreeSet<String> =
                resource.methods().iter().map(|method| method.as_str().to_lowercase()).collect();
            let told = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
            assert_eq!(told.cloned().collect::<BTreeSet<_>>(), served, "{path}");
            let open = resource.need(&Method::GET) == Permission::Nothing;
            let told_open = item["get"]["security"] == serde_json::json!([]);
            assert_eq!(told_open, open, "{path}");
        }
        assert_eq!(paths.len(), ROWS, "a path is missing in the document, or in this test");
    }

    #[test]
    fn the_document_and_the_schema_describe_the_same_event() {
        let schema: Value = serde_json::from_str(openapi::EVENT_SCHEMA).unwrap();
        let described = &document()["components"]["schemas"]["Event"];
        assert_eq!(described["properties"], schema["properties"]);
    }

    #[test]
    fn the_document_has_the_parameters_that_are_read() {
        let document = document();
        for (path, read) in [
            ("events", &events::PARAMETERS[..]),
            ("deliveries", &deliveries::PARAMETERS),
            ("held", &held::PARAMETERS),
            ("rejections", &rejections::PARAMETERS),
            ("audit", &audit::PARAMETERS),
            ("urls", &signed::PARAMETERS),
        ] {
            let told = &document["paths"][format!("/admin/v1/{path}")]["get"]["parameters"];
            let told = told.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap());
            let read: BTreeSet<&str> = read.iter().copied().collect();
            assert_eq!(told.collect::<BTreeSet<_>>(), read, "{path}");
        }
    }
}
