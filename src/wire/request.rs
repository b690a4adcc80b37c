//! A request as it came, read by hyper or without it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version};

use super::client_certificate::PeerCertificates;
use super::request_body::RequestBody;
use super::target::RawTarget;

/// A request as it came.
#[derive(Debug)]
pub struct WireRequest {
    /// GET, POST, …
    pub method: Method,
    /// Its target.
    pub target: Target,
    /// The version of HTTP.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// The certificates that the caller has presented.
    pub certificates: Option<Arc<PeerCertificates>>,
    /// Its body.
    pub body: RequestBody,
}

/// The target of a request.
#[derive(Debug)]
pub enum Target {
    /// As it was sent, not parsed.
    Sent(RawTarget),
    /// As hyper parsed it, which is as it was sent.
    Parsed(Uri),
    /// As it was sent, and what hyper could parse of that.
    Mended(Box<Mended>),
}

/// A target with bytes that hyper rejects.
#[derive(Debug)]
pub struct Mended {
    /// The bytes on the wire.
    pub sent: RawTarget,
    /// With other bytes in place of the rejected ones.
    pub parsed: Uri,
}

impl Target {
    /// Path and query, as they were sent. Empty if there is no path.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Sent(sent) => sent.origin_form(),
            Self::Mended(both) => both.sent.origin_form(),
            Self::Parsed(uri) => {
                uri.path_and_query().map_or(&[], |target| target.as_str().as_bytes())
            }
        }
    }

    /// The URI, as far as it is parsed.
    pub(super) fn parsed(&self) -> Option<&Uri> {
        match self {
            Self::Sent(_) => None,
            Self::Parsed(uri) => Some(uri),
            Self::Mended(both) => Some(&both.parsed),
        }
    }
}

impl WireRequest {
    /// The same in the types of `http`, with what these have no place for as extensions:
    /// [`RawTarget`], if the URI is another, and the certificates. `None` if the target is not a
    /// URI.
    #[must_use]
    pub fn into_http(self: Box<Self>) -> Option<http::Request<RequestBody>> {
        let (uri, sent) = match self.target {
            Target::Sent(RawTarget(bytes)) => (uri_of(bytes)?, None),
            Target::Parsed(uri) => (uri, None),
            Target::Mended(both) => (both.parsed, Some(both.sent)),
        };
        let mut request = http::Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        if let Some(sent) = sent {
            request.extensions_mut().insert(sent);
        }
        if let Some(certificates) = self.certificates {
            request.extensions_mut().insert(certificates);
        }
        Some(request)
    }
}

fn uri_of(bytes: Bytes) -> Option<Uri> {
    Uri::from_maybe_shared(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: Target) -> Box<WireRequest> {
        Box::new(WireRequest {
            method: Method::POST,
            target,
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            certificates: None,
            body: RequestBody::Empty,
        })
    }

    fn sent(bytes: &'static [u8]) -> RawTarget {
        RawTarget(Bytes::from_static(bytes))
    }

    #[test]
    fn the_types_of_http_have_all_of_it() {
        let as_sent = request(Target::Sent(sent(b"/a?b=c")));
        assert_eq!((as_sent.target.bytes(), as_sent.target.parsed()), (&b"/a?b=c"[..], None));
        let http = as_sent.into_http().unwrap();
        assert_eq!((http.method(), http.uri().query()), (&Method::POST, Some("b=c")));
        assert_eq!(http.extensions().get::<RawTarget>(), None);
        let parsed = Uri::from_static("/a?b=_");
        let both = Mended { sent: sent(b"/a?b=\""), parsed };
        let mended = request(Target::Mended(Box::new(both)));
        assert_eq!(mended.target.bytes(), b"/a?b=\"");
        let http = mended.into_http().unwrap();
        assert_eq!(http.uri(), "/a?b=_");
        assert_eq!(http.extensions().get::<RawTarget>(), Some(&sent(b"/a?b=\"")));
        assert!(request(Target::Sent(sent(b"/a b"))).into_http().is_none());
    }
}
