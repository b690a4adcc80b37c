//! Trying out an address that somebody set over an API: one call, through the guard.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use ipnet::IpNet;

use super::client::{Client, Trusted, told};
use super::guard::{Guard, Trust};

/// Calls addresses that came over an API. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Probe(Client);

/// Why an address did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It cannot be called at all.
    #[error("it is no URL that can be called")]
    NoUrl,
    /// It did not answer in time.
    #[error("it did not answer in time")]
    Late,
    /// It could not be reached, or may not be.
    #[error("it could not be reached: {0}")]
    Unreached(String),
}

impl Probe {
    /// One that reaches what is public, and the private ranges of `allow`.
    ///
    /// # Errors
    /// There can be no TLS, which this program's own settings do not cause.
    pub fn new(allow: Vec<IpNet>) -> Result<Self, String> {
        let client = Client::new(Trusted::default(), 0, Guard::new(Trust::Api, allow));
        client.map(Self).map_err(|fault| fault.to_string())
    }

    /// Calls `url` by GET, and answers with its status. Its body is not read, and no redirect is
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
            Ok(Err(error)) => Err(ProbeError::Unreached(told(&error))),
            Err(_) => Err(ProbeError::Late),
        }
    }
}
