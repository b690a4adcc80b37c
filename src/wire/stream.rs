//! The bytes of one connection: plain or TLS, with what was read to tell HTTP/1.1 from HTTP/2 put
//! back in front, and its heads watched.

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

/// Bytes made room for in the first read: a usual head, so that it is copied once.
const FIRST_READ_BYTES: usize = 4096;

/// Which HTTP a connection speaks.
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
    /// What was read before hyper was there.
    first: Bytes,
    pulse: Arc<ConnectionActivity>,
    heads: Option<Heads>,
}

/// Follows the heads of an HTTP/1 connection.
#[derive(Debug)]
struct Heads {
    scan: Scan,
    /// The requests that had begun when the head that is scanned began.
    begun: u32,
    /// Where the service finds what hyper does not say about the request it is called with.
    slot: Arc<HeadSlot>,
}

/// What hyper does not say about a head.
#[derive(Debug, Default)]
pub(super) struct HeadNote {
    /// The target as on the wire, if hyper was shown another.
    pub raw: Option<RawTarget>,
    pub framing: Framing,
}

/// Holds the note about the request that comes next.
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
    /// Which HTTP it speaks, by what TLS agreed on or by its first bytes, which are given back.
    pub(super) async fn version(&mut self) -> io::Result<(Version, Bytes)> {
        if let Self::Tls(stream) = self
            && let Some(agreed) = stream.get_ref().1.alpn_protocol()
        {
            let version = if agreed == b"h2" { Version::Http2 } else { Version::Http1 };
            return Ok((version, Bytes::new()));
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
    /// `socket`, of which `first` was read already, as HTTP/1: its heads are followed, and what
    /// hyper does not say about them is put into `slot`.
    pub(super) fn http1(
        socket: Socket,
        first: Bytes,
        pulse: Arc<ConnectionActivity>,
        slot: Arc<HeadSlot>,
    ) -> Self {
        let heads = Heads { scan: Scan::default(), begun: pulse.begun(), slot };
        Self { socket, first, pulse, heads: Some(heads) }
    }

    /// `socket`, of which `first` was read already, as HTTP/2.
    pub(super) fn http2(socket: Socket, first: Bytes, pulse: Arc<ConnectionActivity>) -> Self {
        Self { socket, first, pulse, heads: None }
    }

    /// Reads what comes next, from what was put back or from the socket.
    fn fill(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, into);
        }
        let len = self.first.len().min(into.remaining());
        into.put_slice(&self.first[..len]);
        self.first.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl Heads {
    /// Bytes of an HTTP/1 connection came.
    fn follow(&mut self, pulse: &ConnectionActivity, bytes: &mut [u8]) {
        if self.scan.is_at_end() {
            // These bytes begin a head if the one before has become a request, and that is over
            // and had no body. Else they may be anything.
            let begun = pulse.begun();
            if begun == self.begun || pulse.is_busy() || pulse.had_body() {
                self.scan.lose();
            } else {
                self.begun = begun;
                self.scan.begin();
            }
        }
        self.scan.bytes(bytes);
        let note = HeadNote { raw: self.scan.take_raw(), framing: self.scan.take_framing() };
        if note.raw.is_some() || note.framing == Framing::Conflicting {
            self.slot.put(note);
        }
        if !self.scan.is_at_end() {
            pulse.head();
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
                heads.follow(&this.pulse, bytes);
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
