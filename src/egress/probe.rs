//! Tests a URL that was set over an API: one call, through the guard.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use ipnet::IpNet;

use super::client::{Client, Trusted, error_text};
use super::guard::{Guard, Trust};

/// Calls URLs that came over an API. Clones share connections.
#[derive(Clone, Debug)]
pub struct Probe(Client);

/// Why a URL did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The URL cannot be called at all.
    #[error("the URL cannot be called")]
    NoUrl,
    /// No response in time.
    #[error("no answer in time")]
    Late,
    /// The server is unreachable, or the guard rejects its address.
    #[error("not reachable: {0}")]
    Unreached(String),
}

impl Probe {
    /// A probe that reaches public addresses, and the private ranges of `allow`.
    ///
    /// # Errors
    /// If there is no TLS, which this program's own settings do not cause.
    pub fn new(allow: Vec<IpNet>) -> Result<Self, String> {
        let client = Client::new(Trusted::default(), 0, Guard::new(Trust::Api, allow));
        client.map(Self).map_err(|fault| fault.to_string())
    }

    /// Calls `url` with GET and returns its status. The body is not read, and no redirect is
    /// followed.
    ///
    /// # Errors
    /// Why there is no status.
    pub async fn get(&self, url: &str, time: Duration) -> Result<StatusCode, ProbeError> {
        let uri: Uri = url.parse().map_err(|_| ProbeError::NoUrl)?;
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        match tokio::time::timeout(time, self.0.send(request)).await {
            Ok(Ok(answer)) => Ok(answer.status()),
            Ok(Err(error)) => Err(ProbeError::Unreached(error_text(&error))),
            Err(_) => Err(ProbeError::Late),
        }
    }
}
