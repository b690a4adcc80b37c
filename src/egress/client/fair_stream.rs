//! A connection that is read in turns, so that no server keeps the thread of its reader.
//!
//! hyper skips informational responses (1xx) in one poll, however many come. A server that sends
//! them without an end would keep the thread: other deliveries wait, and the timeout of its own
//! attempt, which is looked at between two polls, never ends it.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of a turn, after which other tasks run. hyper reads them in some milliseconds, even as
/// thousands of empty responses; and a large body hardly notices a turn for each.
const TURN_BYTES: usize = 64 * 1024;

/// A stream whose reads are pending after [`TURN_BYTES`], once for each turn.
#[derive(Debug)]
pub(in crate::egress) struct FairStream<S> {
    stream: S,
    /// Bytes since a read was pending.
    turn_bytes: usize,
}

impl<S> FairStream<S> {
    /// The first turn begins with the first read.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, turn_bytes: 0 }
    }
}

/// Has the task polled again, after other tasks and after the runtime looked at timers and sockets.
fn wake_in_turn(cx: &mut Context<'_>) {
    // A wake of the task itself would let it run again before a timer does. The first poll hands
    // the waker to the runtime; the rest of the future is not needed.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

impl<S: AsyncRead + Unpin> AsyncRead for FairStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.turn_bytes >= TURN_BYTES {
            this.turn_bytes = 0;
            wake_in_turn(cx);
            return Poll::Pending;
        }
        let before = into.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, into);
        this.turn_bytes = match &read {
            Poll::Ready(_) => this.turn_bytes + into.filled().len() - before,
            // hyper ends its poll when nothing can be read. So an idle connection is at the
            // beginning of a turn, and the next request sees at once that its server closed it.
            Poll::Pending => 0,
        };
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FairStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: Connection> Connection for FairStream<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// The bytes of one read.
    const READ_BYTES: usize = 4096;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads until the stream is pending, or two turns are read; returns the number of bytes.
    fn read_turn<S>(stream: &mut FairStream<S>, cx: &mut Context<'_>) -> usize
    where
        S: AsyncRead + Unpin,
    {
        let mut bytes = 0;
        while bytes < 2 * TURN_BYTES {
            let mut piece = [0; READ_BYTES];
            let mut into = ReadBuf::new(&mut piece);
            match Pin::new(&mut *stream).poll_read(cx, &mut into) {
                Poll::Ready(read) => read.unwrap(),
                Poll::Pending => break,
            }
            bytes += into.filled().len();
        }
        bytes
    }

    #[test]
    fn a_stream_without_an_end_is_pending_after_each_turn() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let mut stream = FairStream::new(tokio::io::repeat(b'x'));
        for turn in 1..=3 {
            assert_eq!(read_turn(&mut stream, &mut cx), TURN_BYTES);
            assert_eq!(wakes.0.load(Ordering::Relaxed), turn, "the reader is woken");
        }
    }

    #[tokio::test]
    async fn a_read_that_waits_for_its_server_ends_the_turn() {
        let (mut server, near) = tokio::io::duplex(TURN_BYTES);
        let mut stream = FairStream::new(near);
        let part = vec![0; TURN_BYTES / 2 + READ_BYTES];
        for _ in 0..3 {
            server.write_all(&part).await.unwrap();
            let bytes = poll_fn(|cx| Poll::Ready(read_turn(&mut stream, cx))).await;
            assert_eq!(bytes, part.len(), "two parts are more than a turn");
        }
    }
}
