//! Sockets and HTTP, shared by every listener: binding, accepting, TLS, HTTP/1.1 and HTTP/2, and
//! the time a connection may take over a request's head or do nothing.
//!
//! A listener is a [`ListenerService`] and a [`Handler`]. The handler decides what a request means.
//! This module bounds the number of connections, closes connections that send a byte a minute, and
//! closes all of them when the gateway drains.

mod accept;
mod activity;
mod bind;
mod body;
mod client_certificate;
mod connection;
mod head;
mod http1;
mod idle_reclaim;
mod places;
mod proxy_protocol;
mod reply;
mod request;
mod request_body;
mod requests;
mod share;
mod simple;
mod stream;
mod target;
mod tls;

pub use accept::{Worker, accept};
pub use bind::{Inherited, bind, bind_shared};
pub use body::{BodyBounds, BodyError, BytePool, ReservedBytes};
pub use client_certificate::{ClientCertificates, PeerCertificates};
pub use connection::{
    Bounds, CloseWithoutReply, Handler, ListenerService, Peer, PeerName, Response, Transport,
    WireHandler,
};
pub use request::{Target, WireRequest};
pub use request_body::RequestBody;
pub use share::{CapacityError, CapacityPart, SharedCapacity};
pub use simple::simple_request;
pub use target::{RawTarget, rewrite_head};
pub use tls::{Certificate, TlsError};
