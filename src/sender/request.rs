//! One HTTP request as its sender made it, and its reading: parameters, bodies, macros, kind.

pub(super) mod body;
pub(super) mod callback;
pub(super) mod content;
pub(super) mod encoding;
pub(super) mod headers;
pub(super) mod json;
pub(super) mod marks;
pub(super) mod names;
pub(super) mod parameters;
pub(super) mod recorded;
pub(super) mod unreplaced;
pub(super) mod xml;

use http::{HeaderMap, Method};

/// A request to one source. Everything is borrowed and nothing is decoded.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query exactly as on the wire.
    pub target: &'a [u8],
    /// Scheme and authority as the sender sees them, `https://callbacks.example.com`, for
    /// signatures over the whole URL. Empty when the gateway does not know.
    pub base: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, whole.
    pub body: &'a [u8],
}
