//! Bodies: read whole, never past a bound, never for longer than allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

/// Bytes that bodies may take together while nobody knows whether they are genuine.
#[derive(Debug)]
pub struct BytePool {
    left: AtomicUsize,
}

/// Bytes taken from a [`BytePool`], given back when dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the bytes back"]
pub struct Taken<'a> {
    pool: &'a BytePool,
    bytes: usize,
}

/// Why a body was not read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is over its bound, by its length or by what came.
    TooLarge,
    /// It did not come in time, or its sender went away in the middle.
    Late,
    /// All bodies together are over theirs: the sender may come again.
    Crowded,
}

impl BytePool {
    /// Nothing taken, for a request whose body nobody reads.
    pub fn nothing(&self) -> Taken<'_> {
        Taken { pool: self, bytes: 0 }
    }

    /// A pool of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    /// Reads `body` whole: at most `limit` bytes, within `time`. It counts as part of the pool
    /// until what comes with it is dropped.
    ///
    /// # Errors
    /// Why it could not be; nothing of it is kept then.
    pub async fn read(
        &self,
        body: Incoming,
        limit: usize,
        time: Duration,
    ) -> Result<(Bytes, Taken<'_>), BodyError> {
        if body.is_end_stream() {
            return Ok((Bytes::new(), Taken { pool: self, bytes: 0 }));
        }
        // What a sender announces is refused before it is sent.
        if body.size_hint().lower() > limit as u64 {
            return Err(BodyError::TooLarge);
        }
        tokio::time::timeout(time, self.gather(body, limit)).await.unwrap_or(Err(BodyError::Late))
    }

    async fn gather(
        &self,
        mut body: Incoming,
        limit: usize,
    ) -> Result<(Bytes, Taken<'_>), BodyError> {
        let mut taken = Taken { pool: self, bytes: 0 };
        let mut whole = Bytes::new();
        let mut pieces = BytesMut::new();
        while let Some(frame) = body.frame().await {
            // An error of the connection and a body cut short look alike: it did not come.
            let Ok(data) = frame.map_err(|_| BodyError::Late)?.into_data() else { continue };
            if whole.len() + pieces.len() + data.len() > limit {
                return Err(BodyError::TooLarge);
            }
            taken.more(data.len())?;
            if whole.is_empty() && pieces.is_empty() {
                whole = data;
            } else {
                // A second piece: from here on they are joined.
                pieces.extend_from_slice(&std::mem::take(&mut whole));
                pieces.extend_from_slice(&data);
            }
        }
        Ok((if pieces.is_empty() { whole } else { pieces.freeze() }, taken))
    }
}

impl Taken<'_> {
    fn more(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.pool
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .map_err(|_| BodyError::Crowded)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Taken<'_> {
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
        let mut one = Taken { pool: &pool, bytes: 0 };
        one.more(6).unwrap();
        let mut two = Taken { pool: &pool, bytes: 0 };
        assert_eq!(two.more(6), Err(BodyError::Crowded));
        drop(one);
        two.more(10).unwrap();
        drop(two);
        assert_eq!(pool.left.load(Ordering::Relaxed), 10);
    }
}
