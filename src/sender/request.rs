//! One HTTP request as its sender made it: untouched slices.

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
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The body, whole.
    pub body: &'a [u8],
}
