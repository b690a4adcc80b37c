//! Request bodies: read completely, with limits on size and time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

/// The bytes that all unverified bodies may take together.
#[derive(Debug)]
pub struct BytePool {
    left: AtomicUsize,
}

/// Bytes reserved in a [`BytePool`], returned on drop.
#[derive(Debug)]
#[must_use = "dropping it returns the bytes"]
pub struct ReservedBytes<'a> {
    pool: &'a BytePool,
    bytes: usize,
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

impl BytePool {
    /// An empty reservation, for a request whose body is not read.
    pub fn empty(&self) -> ReservedBytes<'_> {
        ReservedBytes { pool: self, bytes: 0 }
    }

    /// A pool of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    /// Reads `body` completely: at most `limit` bytes, within `time`. It counts towards the pool
    /// until the returned reservation is dropped.
    ///
    /// # Errors
    /// The reason; then nothing of the body is kept.
    pub async fn read(
        &self,
        body: Incoming,
        limit: usize,
        time: Duration,
    ) -> Result<(Bytes, ReservedBytes<'_>), BodyError> {
        if body.is_end_stream() {
            return Ok((Bytes::new(), ReservedBytes { pool: self, bytes: 0 }));
        }
        // A body that is too long by its Content-Length is rejected before it arrives.
        if body.size_hint().lower() > limit as u64 {
            return Err(BodyError::TooLarge);
        }
        tokio::time::timeout(time, self.gather(body, limit)).await.unwrap_or(Err(BodyError::Late))
    }

    async fn gather(
        &self,
        mut body: Incoming,
        limit: usize,
    ) -> Result<(Bytes, ReservedBytes<'_>), BodyError> {
        let mut reserved = ReservedBytes { pool: self, bytes: 0 };
        let mut whole = Bytes::new();
        let mut pieces = BytesMut::new();
        while let Some(frame) = body.frame().await {
            // A connection error and a truncated body look the same: the body did not arrive.
            let Ok(data) = frame.map_err(|_| BodyError::Late)?.into_data() else { continue };
            if whole.len() + pieces.len() + data.len() > limit {
                return Err(BodyError::TooLarge);
            }
            reserved.reserve(data.len())?;
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

impl ReservedBytes<'_> {
    fn reserve(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.pool
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .map_err(|_| BodyError::Crowded)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for ReservedBytes<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.pool.left.fetch_add(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_given_back() {
        let pool = BytePool::new(10);
        let mut one = ReservedBytes { pool: &pool, bytes: 0 };
        one.reserve(6).unwrap();
        let mut two = ReservedBytes { pool: &pool, bytes: 0 };
        assert_eq!(two.reserve(6), Err(BodyError::Crowded));
        drop(one);
        two.reserve(10).unwrap();
        drop(two);
        assert_eq!(pool.left.load(Ordering::Relaxed), 10);
    }
}
