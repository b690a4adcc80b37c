//! The first phase: one whole request to one source.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::client::Caller;
use super::route::Route;
use super::test_calls::CallbackPurpose;
use crate::clock::UnixMillis;
use crate::sender::Request;
use crate::wire::{RequestBody, WireRequest};

/// A request to one source, with its caller and time. Only the intake makes one. Its body is empty
/// until it has been read.
#[derive(Debug)]
pub struct Received {
    route: Arc<Route>,
    client: Caller,
    /// As it came; its body is read into `body`.
    request: Box<WireRequest>,
    body: Bytes,
    at_ms: UnixMillis,
    purpose: CallbackPurpose,
}

impl Received {
    pub(super) fn new(
        route: Arc<Route>,
        client: Caller,
        request: Box<WireRequest>,
        at_ms: UnixMillis,
    ) -> Self {
        Self {
            route,
            client,
            request,
            body: Bytes::new(),
            at_ms,
            purpose: CallbackPurpose::default(),
        }
    }

    /// Says what the callback is for.
    pub(super) fn set_purpose(&mut self, purpose: CallbackPurpose) {
        self.purpose = purpose;
    }

    pub(super) fn is_test_call(&self) -> bool {
        self.purpose == CallbackPurpose::Test
    }

    /// Continues under the current configuration of the same source.
    pub(super) fn take_route(&mut self, route: &Arc<Route>) {
        self.route = Arc::clone(route);
    }

    /// The body that is to be read, given away.
    pub(super) fn take_body(&mut self) -> RequestBody {
        std::mem::replace(&mut self.request.body, RequestBody::Empty)
    }

    pub(super) fn set_body(&mut self, body: Bytes) {
        self.body = body;
    }

    /// The headers, given away: none are left.
    pub(super) fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.request.headers)
    }

    /// The request as a recipe reads it.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request {
            method: &self.request.method,
            target: self.request.target.bytes(),
            base: &self.route.base,
            headers: &self.request.headers,
            body: &self.body,
        }
    }

    /// The known address nearest to the caller.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.client.address()
    }

    /// Whether the caller has presented a certificate that the source wants, or it wants none.
    pub(super) fn has_wanted_certificate(&self) -> bool {
        let Some(ca) = &self.route.source.client_ca else { return true };
        let presented = self.request.certificates.as_ref();
        presented.is_some_and(|presented| presented.lead_to(ca, self.at_ms))
    }

    pub(super) fn caller(&self) -> Caller {
        self.client
    }

    /// When it came.
    #[must_use]
    pub fn at_ms(&self) -> UnixMillis {
        self.at_ms
    }

    pub(super) fn route(&self) -> &Arc<Route> {
        &self.route
    }
}
