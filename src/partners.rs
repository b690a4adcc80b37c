//! The management APIs: a client of a platform's own API finds the same paths, fields, signatures
//! and error codes here.
//!
//! Each API is one folder: `settings` (the configuration file), `document` (the ledger), `plan`
//! (what it adds to the running configuration), `edit` (changes, also by the console), `http` (its
//! handlers).
//!
//! The APIs have their own signatures and need no bearer token. They listen on `server.management`
//! if it is set, and on the admin listener otherwise.

pub mod background_checks;
pub mod callback_addresses;
pub mod push_configuration;
pub mod reward_rules;
pub mod settings;
mod used_signatures;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode};

use crate::clock::{UnixMillis, now_ms};
use crate::config::Config;
use crate::config::limits::ADMIN_CONNECTIONS;
use crate::intake::caller_at;
use crate::manage::http::ApiError;
use crate::partners::settings::Manage;
use crate::registry::Registry;
use crate::wire::{
    BodyBounds, BodyError, BytePool, CloseWithoutReply, Handler, Peer, RawTarget, RequestBody,
    Response,
};

use crate::manage::failed_auth::FailedAuthLimiter;

/// Bytes of a request's body: a hundred rules with URLs of 8 KiB.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of all bodies that are read concurrently.
const BODIES_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// The timeout of a body.
const BODY_TIME: Duration = Duration::from_secs(10);

const BODY_BOUNDS: BodyBounds = BodyBounds { bytes: BODY_BYTES_MAX, time: BODY_TIME };

/// The management APIs.
#[derive(Debug)]
pub struct Partners {
    registry: Registry,
    bodies: Arc<BytePool>,
    guesses: FailedAuthLimiter,
}

/// The resource of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    RewardRule,
    Address(callback_addresses::http::Action),
    Push(push_configuration::http::Action),
    Token,
    ReportOrder,
    Report,
}

/// A request to a management API.
pub(super) struct Call<'c> {
    pub config: &'c Config,
    pub registry: &'c Registry,
    pub head: &'c Parts,
    pub client: IpAddr,
    pub at_ms: UnixMillis,
    pub guesses: &'c FailedAuthLimiter,
}

/// Characters of an unknown parameter's name that a reply shows.
const NAME_MAX: usize = 64;

/// The reason that a query is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    #[error("the query cannot be read")]
    Unreadable,
    #[error("there is no parameter {0:?} here")]
    Unknown(String),
    #[error("{0} is there twice")]
    Repeated(String),
}

/// A body that is still to be read.
pub(super) type Came<'c> =
    Pin<Box<dyn Future<Output = Result<Bytes, RequestBodyError>> + Send + 'c>>;

/// The reason that a body could not be read.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct RequestBodyError(&'static str);

impl Resource {
    fn find(path: &str) -> Option<Self> {
        Some(match path {
            "/v3/advanced/reward_rule" => Self::RewardRule,
            "/api/backdoor/callback/get" => Self::Address(callback_addresses::http::Action::Get),
            "/api/backdoor/callback/set" => Self::Address(callback_addresses::http::Action::Set),
            "/tcb/getcallbackconfig" => Self::Push(push_configuration::http::Action::Get),
            "/tcb/setcallbackconfig" => Self::Push(push_configuration::http::Action::Set),
            "/cgi-bin/token" => Self::Token,
            "/open/company/record/generate-temp-report" | "/record/generate-temp-report" => {
                Self::ReportOrder
            }
            path if path.starts_with(background_checks::http::REPORTS) => Self::Report,
            _ => return None,
        })
    }
}

impl Call<'_> {
    pub(crate) fn method(&self) -> &Method {
        &self.head.method
    }

    pub(crate) fn path(&self) -> &str {
        self.head.uri.path()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The query as on the wire.
    pub(crate) fn query(&self) -> &[u8] {
        match self.head.extensions.get::<RawTarget>() {
            Some(raw) => raw.query(),
            None => self.head.uri.query().unwrap_or_default().as_bytes(),
        }
    }

    /// Returns the parameters of the query. Each must be one of `known` and occur once: no
    /// parameter that another interface would read is ignored.
    pub(crate) fn parameters(&self, known: &[&str]) -> Result<Vec<(String, String)>, QueryError> {
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_bytes(self.query()).map_err(|_| QueryError::Unreadable)?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(QueryError::Unknown(name.chars().take(NAME_MAX).collect()));
            }
            if pairs[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(QueryError::Repeated(name.clone()));
            }
        }
        Ok(pairs)
    }

    /// The value of a header; `None` if it is missing, repeated or not a text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.head.headers.get_all(name).iter();
        let first = all.next()?;
        if all.next().is_some() { None } else { first.to_str().ok() }
    }
}

impl Partners {
    /// The management APIs of the objects in `registry`.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        let bodies = BytePool::new(BODIES_BYTES_MAX, ADMIN_CONNECTIONS);
        Self { registry, bodies, guesses: FailedAuthLimiter::new() }
    }

    /// Whether a path belongs to a management API.
    #[must_use]
    pub fn serves(path: &str) -> bool {
        Resource::find(path).is_some()
    }

    async fn answer(&self, peer: Peer, request: Request<RequestBody>) -> Response {
        let (head, body) = request.into_parts();
        let is_as_sent = RawTarget::is_path_as_sent(&head);
        let found = Resource::find(head.uri.path()).filter(|_| is_as_sent);
        let Some(resource) = found else { return absent() };
        let config = self.registry.config();
        let trusted = &config.server.trusted_proxies;
        let client = caller_at(peer, &head.headers, trusted).address();
        let call = Call {
            config: &config,
            registry: &self.registry,
            head: &head,
            client,
            at_ms: now_ms(),
            guesses: &self.guesses,
        };
        let body = self.body(body, client);
        let manage = &config.manage;
        match (resource, manage) {
            (Resource::RewardRule, Manage { reward_rule: Some(api), .. }) => {
                reward_rules::http::answer(&call, api, body).await
            }
            (Resource::Address(action), Manage { callback_address: Some(api), .. }) => {
                callback_addresses::http::answer(&call, api, action, body).await
            }
            (Resource::Push(action), Manage { push_config: Some(api), .. }) => {
                push_configuration::http::answer(&call, api, action, body).await
            }
            (Resource::Token, Manage { push_config: Some(api), .. }) => {
                push_configuration::http::answer_token(&call, api).await
            }
            (Resource::ReportOrder, Manage { background_check: Some(api), .. }) => {
                background_checks::http::order(&call, api).await
            }
            (Resource::Report, Manage { background_check: Some(api), .. }) => {
                background_checks::http::fetch(&call, api).await
            }
            // An API that is not configured does not exist.
            _ => absent(),
        }
    }

    /// The whole body. It is read when the future is polled.
    fn body(&self, body: RequestBody, client: IpAddr) -> Came<'_> {
        Box::pin(async move {
            match self.bodies.read(body, BODY_BOUNDS, client).await {
                Ok((bytes, _)) => Ok(bytes),
                Err(BodyError::TooLarge) => Err(RequestBodyError("a body may have 1 MiB")),
                Err(BodyError::Late) => Err(RequestBodyError("the body did not come in time")),
                Err(BodyError::Crowded) => Err(RequestBodyError("server busy, retry later")),
            }
        })
    }
}

/// The fields of a body of that type, if it can be read. For the fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn form_fields(content_type: &str, body: &[u8]) -> Option<Vec<(String, String)>> {
    callback_addresses::http::form_fields(content_type, body)
}

fn absent() -> Response {
    ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this path").response()
}

impl Handler for Partners {
    async fn handle(
        &self,
        peer: Peer,
        request: Request<RequestBody>,
    ) -> Result<Response, CloseWithoutReply> {
        Ok(self.answer(peer, request).await)
    }
}

impl Handler for Arc<Partners> {
    async fn handle(
        &self,
        peer: Peer,
        request: Request<RequestBody>,
    ) -> Result<Response, CloseWithoutReply> {
        Partners::handle(self, peer, request).await
    }
}
