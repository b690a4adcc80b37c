//! Answers of the admin and management listeners until the store is open: health, metrics, a stop.
//! Every other request is too early.

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use tokio::sync::watch;

use super::{Resource, drain, health};
use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::manage::http::{Answered, ApiError};
use crate::operator::{Admitted, Asked, LocalToken, check_name, check_site, check_token};
use crate::telemetry::Metrics;
use crate::wire::{CloseWithoutReply, Handler, Peer, RequestBody, Response};

/// When to ask again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A listener of a gateway that is starting.
#[derive(Clone, Debug)]
pub struct Starting {
    address: IpAddr,
    config: watch::Receiver<Arc<Config>>,
    metrics: Arc<Metrics>,
    life: Arc<Lifecycle>,
    /// The token of this machine.
    local: Arc<LocalToken>,
}

impl Starting {
    /// The listener at `address` of the gateway of `life`.
    #[must_use]
    pub fn new(
        address: IpAddr,
        config: watch::Receiver<Arc<Config>>,
        metrics: Arc<Metrics>,
        life: Arc<Lifecycle>,
    ) -> Self {
        let local = {
            let config = config.borrow();
            let local = LocalToken::new(&config.admin.token_file);
            // Created now: the command line may ask for a drain before the store is open.
            local.ensure(&config.admin.tokens);
            Arc::new(local)
        };
        Self { address, config, metrics, life, local }
    }

    /// The same gateway's listener at another address.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// Why it is too early.
    #[must_use]
    pub fn why(&self) -> String {
        self.life.unready().unwrap_or_default()
    }

    fn answer(&self, peer: Peer, head: &Parts) -> Answered {
        check_site(head)?;
        check_name(self.address, head)?;
        let Some(resource) = Resource::find(head.uri.path()) else { return Err(self.early()) };
        let asked = if head.method == Method::HEAD { &Method::GET } else { &head.method };
        let config = Arc::clone(&self.config.borrow());
        let need = resource.need_at(self.address, &config, asked);
        let asker = Asked { at: self.address, peer: peer.address.ip(), head, need };
        let Admitted { who, scope, .. } = check_token(&config.admin.tokens, &self.local, asker)?;
        resource.check_scope(asked, &scope)?;
        if !resource.methods().contains(asked) {
            return Err(ApiError::method(resource.methods()));
        }
        match resource {
            Resource::Live | Resource::Alive => Ok(health::alive()),
            Resource::Ready => Ok(health::not_ready(&self.why())),
            Resource::Metrics => {
                self.metrics.ready.set(0);
                health::page(&self.metrics)
            }
            Resource::Drain => Ok(drain::begin(&self.life, &config.server, &who)),
            _ => Err(self.early()),
        }
    }

    fn early(&self) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, self.why())
            .with(header::RETRY_AFTER, RETRY_AFTER)
    }
}

impl Handler for Starting {
    async fn handle(
        &self,
        peer: Peer,
        request: Request<RequestBody>,
    ) -> Result<Response, CloseWithoutReply> {
        let (head, _) = request.into_parts();
        Ok(self.answer(peer, &head).unwrap_or_else(ApiError::response))
    }
}
