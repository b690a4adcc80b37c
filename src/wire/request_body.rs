//! The body of a request, wherever it is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// The body of a request.
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    Empty,
    /// Bytes that came together with the head.
    Whole(Bytes),
    /// hyper reads it from the connection.
    Arriving(ArrivingBody),
}

/// A body that hyper reads from the connection.
#[derive(Debug)]
pub struct ArrivingBody {
    body: Incoming,
    /// Whether all of it was read.
    is_over: Arc<AtomicBool>,
}

impl ArrivingBody {
    /// Tells whether all of the body was read, also when it is gone. If not, the connection ends with
    /// the reply.
    pub(super) fn end(&self) -> BodyEnd {
        BodyEnd(Arc::clone(&self.is_over))
    }
}

/// Whether all of a body was read.
#[derive(Debug)]
pub(super) struct BodyEnd(Arc<AtomicBool>);

impl BodyEnd {
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Whole(bytes) }
    }
}

impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        let is_over = Arc::new(AtomicBool::new(body.is_end_stream()));
        Self::Arriving(ArrivingBody { body, is_over })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        match this {
            Self::Arriving(arriving) => {
                let frame = Pin::new(&mut arriving.body).poll_frame(cx);
                if matches!(frame, Poll::Ready(None)) || arriving.body.is_end_stream() {
                    arriving.is_over.store(true, Ordering::Relaxed);
                }
                frame
            }
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(_) => false,
            Self::Arriving(arriving) => arriving.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Arriving(arriving) => arriving.body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_that_is_here_is_one_frame() {
        let mut body = RequestBody::from(Bytes::from_static(b"a=1"));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "a=1");
        assert!(body.is_end_stream() && body.frame().await.is_none());
        assert!(RequestBody::from(Bytes::new()).is_end_stream());
    }
}
