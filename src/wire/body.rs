//! Request bodies: read completely, with limits on size and time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::request_body::RequestBody;
use super::share::{CapacityError, CapacityPart, SharedCapacity};
use crate::file_descriptors::connections_that_fit;

/// The room for all unverified bodies together: bytes, and connections. One client address never
/// has more of either than three times the rest, unless it has one body only.
#[derive(Debug)]
pub struct BytePool {
    bytes: SharedCapacity,
    bodies: SharedCapacity,
}

/// The part of a [`BytePool`] that one body has, returned on drop.
#[derive(Debug)]
#[must_use = "dropping it returns the bytes"]
pub struct ReservedBytes<'a> {
    bytes: CapacityPart<'a>,
    _body: CapacityPart<'a>,
}

/// The limits of one body.
#[derive(Clone, Copy, Debug)]
pub struct BodyBounds {
    /// Its bytes.
    pub bytes: usize,
    /// The time until it is complete.
    pub time: Duration,
}

/// Why a body was not read completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The body is over its limit, by its length or by the received bytes.
    TooLarge,
    /// The body did not arrive in time, or the sender closed the connection.
    Late,
    /// All bodies together are over their limit: the sender may retry.
    Crowded,
}

impl From<CapacityError> for BodyError {
    fn from(_: CapacityError) -> Self {
        Self::Crowded
    }
}

impl BytePool {
    /// An empty reservation, for a request without a body.
    fn empty(&self) -> ReservedBytes<'_> {
        ReservedBytes { bytes: self.bytes.nothing(), _body: self.bodies.nothing() }
    }

    /// A pool of `bytes`, for the bodies of a listener of `connections`, as far as they fit under
    /// the limit of open files: a body of which nothing comes still holds a connection.
    #[must_use]
    pub fn new(bytes: usize, connections: usize) -> Arc<Self> {
        let bodies = SharedCapacity::new(connections_that_fit(connections));
        Arc::new(Self { bytes: SharedCapacity::new(bytes), bodies })
    }

    /// Reads the `body` of a request of `client` completely, within `bounds`. It counts towards the
    /// pool until the returned reservation is dropped.
    ///
    /// # Errors
    /// The reason; then nothing of the body is kept.
    pub async fn read(
        &self,
        body: RequestBody,
        bounds: BodyBounds,
        client: IpAddr,
    ) -> Result<(Bytes, ReservedBytes<'_>), BodyError> {
        if body.is_end_stream() {
            return Ok((Bytes::new(), self.empty()));
        }
        // A body that is too long by its Content-Length is rejected before it arrives.
        if body.size_hint().lower() > bounds.bytes as u64 {
            return Err(BodyError::TooLarge);
        }
        let gathered = self.gather(body, bounds.bytes, client);
        tokio::time::timeout(bounds.time, gathered).await.unwrap_or(Err(BodyError::Late))
    }

    async fn gather(
        &self,
        mut body: RequestBody,
        limit: usize,
        client: IpAddr,
    ) -> Result<(Bytes, ReservedBytes<'_>), BodyError> {
        let mut place = self.bodies.part(client);
        place.take(1)?;
        let mut reserved = ReservedBytes { bytes: self.bytes.part(client), _body: place };
        let mut whole = Bytes::new();
        let mut pieces = BytesMut::new();
        while let Some(frame) = body.frame().await {
            // A connection error and a truncated body look the same: the body did not arrive.
            let Ok(data) = frame.map_err(|_| BodyError::Late)?.into_data() else { continue };
            if whole.len() + pieces.len() + data.len() > limit {
                return Err(BodyError::TooLarge);
            }
            reserved.bytes.take(data.len())?;
            if whole.is_empty() && pieces.is_empty() {
                whole = data;
            } else {
                // A second piece: from here on the pieces are joined.
                pieces.extend_from_slice(&std::mem::take(&mut whole));
                pieces.extend_from_slice(&data);
            }
        }
        Ok((if pieces.is_empty() { whole } else { pieces.freeze() }, reserved))
    }
}
