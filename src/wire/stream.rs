//! The bytes of one connection, plain or TLS. Bytes that were read to tell HTTP/1.1 from HTTP/2 are
//! put back in front, and heads are scanned.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::activity::ConnectionActivity;
use super::target::{Framing, RawTarget, Scan};

/// How an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of the first read: a usual head, copied once.
pub(super) const FIRST_READ_BYTES: usize = 4096;

/// The HTTP version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A socket, with or without TLS.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A [`Socket`] as hyper reads it.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    /// Bytes that were read before hyper started.
    first: Bytes,
    activity: Arc<ConnectionActivity>,
    heads: Option<Heads>,
}

/// The bytes that come after a complete head.
enum Next {
    /// The body of its request.
    Body,
    /// Another head, from its first byte on.
    Head,
    /// Anything.
    Unknown,
}

/// Scans the heads of an HTTP/1 connection.
#[derive(Debug)]
struct Heads {
    scan: Scan,
    /// The number of requests at the start of the scanned head.
    begun: u32,
    /// The slot where the service finds the note on its request.
    slot: Arc<HeadSlot>,
}

/// Facts about a head that hyper does not report.
#[derive(Debug, Default)]
pub(super) struct HeadNote {
    /// The target on the wire, if hyper saw another.
    pub raw: Option<RawTarget>,
    pub framing: Framing,
}

/// Holds the note on the next request.
#[derive(Debug, Default)]
pub(super) struct HeadSlot(Mutex<HeadNote>);

impl HeadSlot {
    fn put(&self, note: HeadNote) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = note;
    }

    pub(super) fn take(&self) -> HeadNote {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Socket {
    /// The HTTP version, by ALPN or by the first bytes, which are returned.
    ///
    /// Without an agreement on HTTP/2 it waits for the first bytes, also after one on HTTP/1.1: a
    /// drain closes a connection that idles, and not one that has had no request yet.
    pub(super) async fn version(&mut self) -> io::Result<(Version, Bytes)> {
        if let Self::Tls(stream) = self
            && stream.get_ref().1.alpn_protocol() == Some(&b"h2"[..])
        {
            return Ok((Version::Http2, Bytes::new()));
        }
        // A connection that sends nothing has no buffer.
        if let Self::Plain(stream) = self {
            stream.readable().await?;
        }
        let mut first = BytesMut::with_capacity(FIRST_READ_BYTES);
        loop {
            let ended = self.read_buf(&mut first).await? == 0;
            let known = first.len().min(PREFACE.len());
            if first[..known] != PREFACE[..known] || ended {
                return Ok((Version::Http1, first.freeze()));
            }
            if known == PREFACE.len() {
                return Ok((Version::Http2, first.freeze()));
            }
        }
    }
}

impl Stream {
    /// `socket`, of which `first` was already read, as HTTP/1: its heads are scanned, and the notes
    /// on them go into `slot`.
    pub(super) fn http1(
        socket: Socket,
        first: Bytes,
        activity: Arc<ConnectionActivity>,
        slot: Arc<HeadSlot>,
    ) -> Self {
        let heads = Heads { scan: Scan::default(), begun: activity.begun(), slot };
        Self { socket, first, activity, heads: Some(heads) }
    }

    /// `socket`, of which `first` was already read, as HTTP/2.
    pub(super) fn http2(socket: Socket, first: Bytes, activity: Arc<ConnectionActivity>) -> Self {
        Self { socket, first, activity, heads: None }
    }

    /// Reads from the bytes that were put back or from the socket.
    fn fill(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, into);
        }
        let len = self.first.len().min(into.remaining());
        into.put_slice(&self.first[..len]);
        self.first.advance(len);
        if self.first.is_empty() {
            // An empty rest would keep its buffer.
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl Heads {
    /// The bytes that come now, after a complete head. They begin a head only if that one has
    /// become a request that is complete, and exactly its body has come since, of the length by
    /// which hyper reads it.
    fn next(&self, activity: &ConnectionActivity) -> Next {
        let since = self.scan.after_end();
        match (activity.begun().wrapping_sub(self.begun), activity.body_len()) {
            // hyper may read from a body before the request begins.
            (0, _) => Next::Body,
            (1, Some(len)) if since < len => Next::Body,
            (1, Some(len)) if since == len && !activity.is_busy() => Next::Head,
            _ => Next::Unknown,
        }
    }

    /// Scans new bytes of an HTTP/1 connection.
    fn follow(&mut self, activity: &ConnectionActivity, bytes: &mut [u8]) {
        if self.scan.is_at_end() {
            match self.next(activity) {
                Next::Body => {}
                Next::Head => {
                    self.begun = activity.begun();
                    self.scan.begin();
                }
                Next::Unknown => self.scan.stop(),
            }
        }
        self.scan.bytes(bytes);
        let note = HeadNote { raw: self.scan.take_raw(), framing: self.scan.take_framing() };
        if note.raw.is_some() || note.framing == Framing::Conflicting {
            self.slot.put(note);
        }
        // While a request is in progress these are bytes of its body.
        if !self.scan.is_at_end() && !activity.is_busy() {
            activity.head();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let read = this.fill(cx, into);
        if let (Poll::Ready(Ok(())), Some(heads)) = (&read, &mut this.heads) {
            let bytes = &mut into.filled_mut()[before..];
            if !bytes.is_empty() {
                heads.follow(&this.activity, bytes);
            }
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, from),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, from),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, from),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
