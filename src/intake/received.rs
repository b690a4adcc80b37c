//! The first phase: one whole request to one source.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use super::client::Caller;
use super::route::Route;
use super::test_calls::Purpose;
use crate::clock::UnixMillis;
use crate::sender::Request;
use crate::wire::{PeerCertificates, RawTarget};

/// A whole request to one source, with its caller and time. Only the intake makes one, after the
/// checks of address and rate and after the body is read.
#[derive(Debug)]
pub struct Received {
    route: Arc<Route>,
    client: Caller,
    head: Head,
    body: Bytes,
    at_ms: UnixMillis,
    purpose: Purpose,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub method: Method,
    pub uri: Uri,
    /// The target as on the wire, where `uri` is not.
    pub raw: Option<RawTarget>,
    pub headers: HeaderMap,
    /// The certificates that the caller has presented.
    pub certificates: Option<Arc<PeerCertificates>>,
}

impl Head {
    pub(super) fn new(mut parts: http::request::Parts) -> Self {
        let raw = parts.extensions.remove::<RawTarget>();
        let certificates = parts.extensions.remove();
        Self { method: parts.method, uri: parts.uri, raw, headers: parts.headers, certificates }
    }

    /// Path and query as on the wire.
    pub(super) fn target(&self) -> &[u8] {
        match &self.raw {
            Some(raw) => raw.origin_form(),
            None => self.uri.path_and_query().map_or(&[], |target| target.as_str().as_bytes()),
        }
    }
}

impl Received {
    pub(super) fn new(route: Arc<Route>, client: Caller, head: Head, at_ms: UnixMillis) -> Self {
        Self { route, client, head, body: Bytes::new(), at_ms, purpose: Purpose::default() }
    }

    /// Says what the callback is for.
    pub(super) fn set_purpose(&mut self, purpose: Purpose) {
        self.purpose = purpose;
    }

    pub(super) fn is_test_call(&self) -> bool {
        self.purpose == Purpose::Test
    }

    /// Continues under the current configuration of the same source.
    pub(super) fn take_route(&mut self, route: &Arc<Route>) {
        self.route = Arc::clone(route);
    }

    pub(super) fn set_body(&mut self, body: Bytes) {
        self.body = body;
    }

    /// The headers, given away: none are left.
    pub(super) fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.head.headers)
    }

    /// The request as a recipe reads it.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request {
            method: &self.head.method,
            target: self.head.target(),
            base: &self.route.base,
            headers: &self.head.headers,
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
        let presented = self.head.certificates.as_ref();
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
