//! The requests of one connection, read by hyper or without it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::service::Service;

use super::activity::ConnectionActivity;
use super::client_certificate::PeerCertificates;
use super::connection::{CLOSE, CloseWithoutReply, ListenerService, Peer, Response, WireHandler};
use super::head;
use super::request::{Mended, Target, WireRequest};
use super::request_body::RequestBody;
use super::stream::HeadSlot;
use super::target::Framing;
use crate::lifecycle::Phase;

/// The requests of one connection.
pub(super) struct Requests<H> {
    pub(super) service: Arc<ListenerService<H>>,
    pub(super) peer: Peer,
    pub(super) certificates: Option<Arc<PeerCertificates>>,
    pub(super) activity: Arc<ConnectionActivity>,
}

impl<H: WireHandler> Requests<H> {
    /// Answers one request, whose head says in one way or in two where the body ends.
    pub(super) fn answer(
        self: Arc<Self>,
        mut request: Box<WireRequest>,
        framing: Framing,
    ) -> impl Future<Output = Result<Response, CloseWithoutReply>> + Send {
        request.certificates.clone_from(&self.certificates);
        // Not an `async fn`, which has room for its arguments twice.
        async move {
            let _busy = self.activity.begin();
            let end = match &request.body {
                RequestBody::Arriving(body) => {
                    self.activity.saw_body(request.body.size_hint().exact());
                    Some(body.end())
                }
                RequestBody::Empty | RequestBody::Whole(_) => None,
            };
            let version = request.version;
            if head::check(&request, framing).is_err() {
                return Ok(head::bad_request());
            }
            let mut response = self.service.handler().answer_wire(self.peer, request).await?;
            // While it drains, hyper closes a connection as soon as its task has seen that: maybe
            // later.
            let is_ending =
                matches!(self.service.life().phase(), Phase::LameDuck | Phase::Draining);
            // A body that nothing read: the connection ends with the reply, and a proxy must not send
            // another sender's request on it.
            let is_unread = end.is_some_and(|end| !end.is_over());
            let is_last = is_ending || is_unread || self.is_last_of_a_proxy();
            if version < Version::HTTP_2 && is_last {
                response.headers_mut().insert(header::CONNECTION, CLOSE);
            }
            Ok(response)
        }
    }

    /// Whether a proxy has to send its next request on another connection. After a body in chunks
    /// only hyper knows where the next head begins, and hyper rejects targets that senders write:
    /// that of another sender may be next.
    fn is_last_of_a_proxy(&self) -> bool {
        self.activity.body_len().is_none()
            && self.service.handler().is_proxy(self.peer.address.ip().to_canonical())
    }
}

/// The requests that hyper reads.
pub(super) struct HyperService<H> {
    requests: Arc<Requests<H>>,
    slot: Arc<HeadSlot>,
}

impl<H> HyperService<H> {
    /// `requests`, on whose heads `slot` gets notes.
    pub(super) fn new(requests: Arc<Requests<H>>, slot: Arc<HeadSlot>) -> Self {
        Self { requests, slot }
    }
}

impl<H: WireHandler> Service<Request<Incoming>> for HyperService<H> {
    type Response = Response;
    type Error = CloseWithoutReply;
    type Future = Pin<Box<dyn Future<Output = Result<Response, CloseWithoutReply>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let note = self.slot.take();
        let target = match note.raw {
            Some(sent) => Target::Mended(Box::new(Mended { sent, parsed: parts.uri })),
            None => Target::Parsed(parts.uri),
        };
        let request = Box::new(WireRequest {
            method: parts.method,
            target,
            version: parts.version,
            headers: parts.headers,
            certificates: None,
            body: RequestBody::from(body),
        });
        Box::pin(Arc::clone(&self.requests).answer(request, note.framing))
    }
}
