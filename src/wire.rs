//! Sockets and HTTP, shared by every listener: binding, accepting, TLS, HTTP/1.1 and HTTP/2, and
//! the time a connection may take over a request's head or do nothing.
//!
//! A listener is a [`Front`] and a [`Handler`]. What a request means is the handler's business;
//! that there are never more than so many connections, that none is held open by sending a byte a
//! minute, and that all of them wind up when the gateway drains, is decided here.

mod accept;
mod activity;
mod bind;
mod body;
mod connection;
mod head;
mod idle_reclaim;
mod stream;
mod target;
mod tls;

pub use accept::{Worker, accept};
pub use bind::{Inherited, bind, bind_shared};
pub use body::{BodyError, BytePool, Taken};
pub use connection::{Bounds, CloseWithoutReply, Handler, ListenerService, Peer, Response};
pub use target::RawTarget;
pub use tls::{Certificate, TlsError};
