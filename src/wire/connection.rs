//! One connection: TLS, the version of HTTP, its requests, and its end.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::activity::{ConnectionActivity, IdleAction};
use super::head;
use super::idle_reclaim::{IdleReclaim, ReclaimWaiter};
use super::stream::{HeadSlot, Socket, Stream, Version};
use super::tls::{Certificate, TlsError};
use crate::lifecycle::{Lifecycle, Phase};

/// hyper buffers at least this much of a connection.
const HEAD_BYTES_MIN: usize = 8192;

/// Streams of one HTTP/2 connection at one time: a sender's burst, not a proxy's whole traffic.
const STREAMS_MAX: u32 = 128;

/// Bytes that one HTTP/2 stream may send ahead of being read; what is read is bounded elsewhere.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// How often a silent HTTP/2 peer is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(20);

/// How long a connection may idle while others wait for its place: longer than a sender's pause
/// within one burst.
const IDLE_TIME_IN_A_CROWD: Duration = Duration::from_secs(1);

/// Ends an HTTP/1 connection with the answer that it is on.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// An answer.
pub type Response = http::Response<Full<Bytes>>;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open connections.
    pub connections: usize,
    /// Bytes of a head.
    pub head_bytes: usize,
    /// From a head's first byte to its last; also for the TLS handshake and for the first head.
    pub head_time: Duration,
    /// Between two requests.
    pub idle_time: Duration,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The connection is closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseWithoutReply;

impl fmt::Display for CloseWithoutReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed without an answer")
    }
}

impl std::error::Error for CloseWithoutReply {}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. The future is dropped if its sender goes away.
    fn handle(
        &self,
        peer: Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response, CloseWithoutReply>> + Send;
}

/// One listener's side of every connection.
pub struct ListenerService<H> {
    handler: H,
    life: Arc<Lifecycle>,
    bounds: Bounds,
    pub(super) connections: Arc<Semaphore>,
    pub(super) crowd: IdleReclaim,
    tls: Option<TlsAcceptor>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl<H> fmt::Debug for ListenerService<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl<H: Handler> ListenerService<H> {
    /// A listener whose requests `handler` answers, until `life` drains.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        handler: H,
        life: Arc<Lifecycle>,
        bounds: Bounds,
        certificate: Option<&Arc<Certificate>>,
    ) -> Result<Arc<Self>, TlsError> {
        let mut http1 = http1::Builder::new();
        // A sender that closes its half after the request still wants the answer. The time a head
        // may take is this module's `Pulse`; hyper's, which wants the timer, is off.
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .half_close(true)
            .max_buf_size(bounds.head_bytes.max(HEAD_BYTES_MIN))
            .max_header_size(bounds.head_bytes);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WAIT)
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(bounds.head_bytes).unwrap_or(u32::MAX));
        Ok(Arc::new(Self {
            handler,
            life,
            bounds,
            connections: Arc::new(Semaphore::new(bounds.connections.min(Semaphore::MAX_PERMITS))),
            crowd: IdleReclaim::default(),
            tls: certificate.map(Certificate::acceptor).transpose()?,
            http1,
            http2,
        }))
    }

    /// What answers the requests.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    pub(super) fn life(&self) -> &Lifecycle {
        &self.life
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(self: Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        // Without it an answer could wait for the acknowledgement of the one before.
        let _ = socket.set_nodelay(true);
        let pulse = Arc::new(ConnectionActivity::new());
        let opened = tokio::time::timeout(self.bounds.head_time, self.open(socket)).await;
        let Ok(Some((socket, version, first))) = opened else { return };
        let slot = Arc::new(HeadSlot::default());
        let requests = Requests {
            front: Arc::clone(&self),
            peer: Peer(peer),
            pulse: Arc::clone(&pulse),
            slot: Arc::clone(&slot),
        };
        let requests = Arc::new(requests);
        let service = service_fn(move |request| Arc::clone(&requests).answer(request));
        match version {
            Version::Http1 => {
                let stream = Stream::http1(socket, first, Arc::clone(&pulse), slot);
                let connection = self.http1.serve_connection(TokioIo::new(stream), service);
                let end = http1::Connection::graceful_shutdown;
                self.drive(connection, (version, end), &pulse).await;
            }
            Version::Http2 => {
                let stream = Stream::http2(socket, first, Arc::clone(&pulse));
                let connection = self.http2.serve_connection(TokioIo::new(stream), service);
                let end = http2::Connection::graceful_shutdown;
                self.drive(connection, (version, end), &pulse).await;
            }
        }
    }

    async fn open(&self, socket: TcpStream) -> Option<(Socket, Version, Bytes)> {
        let mut socket = match &self.tls {
            Some(tls) => Socket::Tls(Box::new(tls.accept(socket).await.ok()?)),
            None => Socket::Plain(socket),
        };
        let (version, first) = socket.version().await.ok()?;
        Some((socket, version, first))
    }

    /// Runs a connection until it ends, winding it up when the gateway drains, when it idles, and
    /// when it idles while others wait for its place. One that is wound up and does not end is
    /// closed: its peer may have stopped to read.
    ///
    /// HTTP/2 can say that it ends while requests are on their way (GOAWAY), so there the lame
    /// duck begins it. An idle HTTP/1 connection that is closed may meet a request: it is left
    /// open until the drain, and ends with its next answer.
    async fn drive<C>(
        &self,
        connection: C,
        (version, wind_up): (Version, fn(Pin<&mut C>)),
        pulse: &ConnectionActivity,
    ) where
        C: Future<Output = hyper::Result<()>>,
    {
        let Bounds { head_time, idle_time, .. } = self.bounds;
        let mut connection = pin!(connection);
        let phase = match version {
            Version::Http1 => Phase::Draining,
            Version::Http2 => Phase::LameDuck,
        };
        let ring = pin!(self.life.reached(phase));
        let mut bell = DrainWatch { life: &self.life, phase, ring, heard: Heard::No };
        let mut ring = pin!(self.crowd.listen());
        let mut ear = ReclaimWaiter::new(&self.crowd, ring.as_mut());
        let mut watch = pin!(tokio::time::sleep(head_time));
        let mut wound_up = false;
        poll_fn(|cx| {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut finish = bell.poll(cx, pulse);
            if ear.poll(cx) {
                finish |= pulse.idle_for(Instant::now()) >= Some(IDLE_TIME_IN_A_CROWD);
            }
            while !finish && watch.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                let idle_time = if wound_up { Duration::ZERO } else { idle_time };
                match pulse.judge(now, head_time, idle_time) {
                    IdleAction::Wait(wait) => watch.as_mut().reset(now + wait),
                    IdleAction::Finish if !wound_up => finish = true,
                    IdleAction::Finish | IdleAction::Close => return Poll::Ready(()),
                }
            }
            if !finish {
                return Poll::Pending;
            }
            wound_up = true;
            watch.as_mut().reset(Instant::now() + head_time);
            if watch.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            wind_up(connection.as_mut());
            connection.as_mut().poll(cx).map(|_| ())
        })
        .await;
    }
}

/// Hears once that a phase has begun in which the connection ends. Between its first poll and the
/// ring it costs one load.
struct DrainWatch<'a, R> {
    life: &'a Lifecycle,
    phase: Phase,
    ring: Pin<&'a mut R>,
    heard: Heard,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    No,
    Listening,
    /// It rang, and the connection has had no request yet.
    Rung,
    Yes,
}

impl<R: Future<Output = ()>> DrainWatch<'_, R> {
    /// Whether the connection is to be wound up now: once, after the ring. A lame duck answers one
    /// request of each connection, so that a client that comes anew is not sent away for ever.
    fn poll(&mut self, cx: &mut Context<'_>, pulse: &ConnectionActivity) -> bool {
        let look = match self.heard {
            Heard::No => true,
            Heard::Listening => self.life.phase() >= self.phase,
            Heard::Rung | Heard::Yes => false,
        };
        if look {
            let rings = self.ring.as_mut().poll(cx).is_ready();
            self.heard = if rings { Heard::Rung } else { Heard::Listening };
        }
        let may = || pulse.begun() > 0 || self.life.is_draining();
        let now = self.heard == Heard::Rung && may();
        if now {
            self.heard = Heard::Yes;
        }
        now
    }
}

/// The requests of one connection.
struct Requests<H> {
    front: Arc<ListenerService<H>>,
    peer: Peer,
    pulse: Arc<ConnectionActivity>,
    slot: Arc<HeadSlot>,
}

impl<H: Handler> Requests<H> {
    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
    ) -> Result<Response, CloseWithoutReply> {
        let _busy = self.pulse.begin();
        if !request.body().is_end_stream() {
            self.pulse.saw_body();
        }
        let note = self.slot.take();
        if head::check(&request, note.framing).is_err() {
            return Ok(head::bad_request());
        }
        if let Some(target) = note.raw {
            request.extensions_mut().insert(target);
        }
        let version = request.version();
        let mut response = self.front.handler.handle(self.peer, request).await?;
        if self.front.life.phase() == Phase::LameDuck && version < http::Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, CLOSE);
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::wire::accept;

    /// Answers everything with more than a socket's buffers hold.
    struct Much;

    impl Handler for Much {
        async fn handle(
            &self,
            _: Peer,
            _: Request<Incoming>,
        ) -> Result<Response, CloseWithoutReply> {
            Ok(Response::new(Full::new(Bytes::from(vec![b'a'; 16 << 20]))))
        }
    }

    #[tokio::test]
    async fn a_peer_that_stops_to_read_is_closed() {
        let short = Duration::from_millis(50);
        let bounds =
            Bounds { connections: 1, head_bytes: 8192, head_time: short, idle_time: short };
        let front = ListenerService::new(Much, Arc::new(Lifecycle::new()), bounds, None).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(accept(listener, front));
        let ask = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            stream
        };
        let deaf = ask().await;
        // There is but one place: it is free although `deaf` has not closed.
        let next = ask().await;
        drop((deaf, next));
        served.abort();
    }
}
