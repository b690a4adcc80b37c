//! One connection: TLS, the HTTP version, its requests, and its end.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::coop;
use tokio::time::{Instant, Sleep};

use super::activity::{ConnectionActivity, IdleAction};
use super::client_certificate::PeerCertificates;
use super::head;
use super::http1::Http1;
use super::idle_reclaim::ReclaimWaiter;
use super::places::Places;
use super::proxy_protocol;
use super::request::WireRequest;
use super::request_body::RequestBody;
use super::requests::{HyperService, Requests};
use super::stream::{Socket, Stream, Version};
use super::tls::{Certificate, Settings};
use crate::config::ProxyProtocol;
use crate::file_descriptors::connections_that_fit;
use crate::lifecycle::{Lifecycle, Phase};

/// The minimum that hyper buffers per connection.
const HEAD_BYTES_MIN: usize = 8192;

/// Concurrent streams of one HTTP/2 connection: a sender's burst, not a proxy's whole traffic.
const STREAMS_MAX: u32 = 128;

/// Bytes that one HTTP/2 stream may send before they are read. The limits of bodies bound the rest.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// The interval of pings to a silent HTTP/2 peer, and the time for an answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(20);

/// Ends an HTTP/1 connection with the current reply.
pub(super) const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// A reply.
pub type Response = http::Response<Full<Bytes>>;

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open connections; fewer if the limit of open files is low.
    pub connections: usize,
    /// Bytes of a head.
    pub head_bytes: usize,
    /// The time from a head's first byte to its last; also for the TLS handshake and the first
    /// head.
    pub head_time: Duration,
    /// The time between two requests.
    pub idle_time: Duration,
}

/// The layers below HTTP.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    /// The certificate of a listener that speaks TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// Whether proxies of ours name their client with the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
}

/// The peer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address, or the one that a trusted proxy named for it.
    pub address: SocketAddr,
    /// Whether that is the caller's.
    pub named: PeerName,
}

/// Whether the address of a [`Peer`] is that of who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerName {
    /// The caller's, or that of a proxy which may name the caller in headers.
    Usual,
    /// The address of a proxy which passes TCP on and named no client: headers are the caller's own.
    Missing,
}

/// Closes the connection without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseWithoutReply;

impl fmt::Display for CloseWithoutReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed without a reply")
    }
}

impl std::error::Error for CloseWithoutReply {}

/// Answers requests as they came.
pub trait WireHandler: Send + Sync + 'static {
    /// Answers one request. The future is dropped when the connection ends; over HTTP/2, also
    /// when the caller takes the request back.
    fn answer_wire(
        &self,
        peer: Peer,
        request: Box<WireRequest>,
    ) -> impl Future<Output = Result<Response, CloseWithoutReply>> + Send;

    /// Whether `peer` is a proxy of ours, which speaks for many callers.
    fn is_proxy(&self, _peer: IpAddr) -> bool {
        false
    }
}

/// Answers requests in the types of `http`.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. The future is dropped when the connection ends; over HTTP/2, also
    /// when the caller takes the request back.
    fn handle(
        &self,
        peer: Peer,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response, CloseWithoutReply>> + Send;
}

impl<H: Handler> WireHandler for H {
    async fn answer_wire(
        &self,
        peer: Peer,
        request: Box<WireRequest>,
    ) -> Result<Response, CloseWithoutReply> {
        match request.into_http() {
            Some(request) => self.handle(peer, request).await,
            None => Ok(head::bad_request()),
        }
    }
}

/// One listener's side of every connection.
pub struct ListenerService<H> {
    handler: H,
    life: Arc<Lifecycle>,
    bounds: Bounds,
    pub(super) connections: Arc<Semaphore>,
    pub(super) places: Arc<Places>,
    certificate: Option<Arc<Certificate>>,
    proxy_protocol: ProxyProtocol,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl<H> fmt::Debug for ListenerService<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerService").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl<H: WireHandler> ListenerService<H> {
    /// A listener that answers requests with `handler` until `life` drains.
    pub fn new(
        handler: H,
        life: Arc<Lifecycle>,
        bounds: Bounds,
        transport: Transport,
    ) -> Arc<Self> {
        let mut http1 = http1::Builder::new();
        // A sender that closes its half after the request still expects the reply.
        // `ConnectionActivity` bounds the time of a head; hyper's own limit, which needs its timer,
        // is off.
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
        let connections = connections_that_fit(bounds.connections).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            handler,
            life,
            bounds,
            connections: Arc::new(Semaphore::new(connections)),
            places: Arc::default(),
            certificate: transport.certificate,
            proxy_protocol: transport.proxy_protocol,
            http1,
            http2,
        })
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    pub(super) fn life(&self) -> &Lifecycle {
        &self.life
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    pub(super) fn http1(&self) -> &http1::Builder {
        &self.http1
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(
        self: Arc<Self>,
        socket: TcpStream,
        peer: SocketAddr,
        activity: Arc<ConnectionActivity>,
    ) {
        // Without it a reply could wait for the acknowledgement of the previous one.
        let _ = socket.set_nodelay(true);
        // Boxed, and gone before the first request: an idle connection pays for no handshake.
        let open = Box::pin(self.open(socket, peer));
        let opened = tokio::time::timeout(self.bounds.head_time, open).await;
        let Ok(Some(Opened { socket, peer, version, first, settings })) = opened else { return };
        let requests = Arc::new(Requests {
            service: Arc::clone(&self),
            peer,
            certificates: certificates(&socket),
            activity: Arc::clone(&activity),
        });
        match version {
            Version::Http1 => {
                let connection = Box::pin(Http1::new(requests, socket, first));
                self.drive(connection, version, Http1::shut_down, &activity, settings).await;
            }
            Version::Http2 => {
                let stream = Stream::http2(socket, first, Arc::clone(&activity));
                let service = HyperService::new(requests, Arc::default());
                let connection = self.http2.serve_connection(TokioIo::new(stream), service);
                let end = http2::Connection::graceful_shutdown;
                self.drive(Box::pin(connection), version, end, &activity, settings).await;
            }
        }
    }

    /// The connection up to its first request, and who called.
    async fn open(&self, mut socket: TcpStream, address: SocketAddr) -> Option<Opened> {
        let mut peer = Peer { address, named: PeerName::Usual };
        if self.proxy_protocol == ProxyProtocol::On
            && self.handler.is_proxy(address.ip().to_canonical())
        {
            peer = match proxy_protocol::read(&mut socket).await.ok()? {
                Some(address) => Peer { address, named: PeerName::Usual },
                None => Peer { address, named: PeerName::Missing },
            };
        }
        let settings = self.certificate.as_deref().map(Certificate::settings);
        let mut socket = match &settings {
            Some(tls) => Socket::Tls(Box::new(tls.acceptor().accept(socket).await.ok()?)),
            None => Socket::Plain(socket),
        };
        let (version, first) = socket.version().await.ok()?;
        Some(Opened { socket, peer, version, first, settings })
    }

    /// Whether callers would be asked for their certificates otherwise than on this connection.
    fn is_outdated(&self, settings: Option<&Arc<Settings>>) -> bool {
        match (&self.certificate, settings) {
            (Some(certificate), Some(settings)) => !certificate.is_current(settings),
            _ => false,
        }
    }

    /// Runs a connection until it ends. Closes it gracefully when the gateway drains, when it
    /// idles, and earlier when others wait for its place. A connection that does not end then is
    /// closed: its peer may have stopped reading.
    ///
    /// `connection` is boxed: a future has room for its arguments twice.
    ///
    /// HTTP/2 can announce its end while requests are in flight (GOAWAY), so there the lame duck
    /// begins it. Closing an idle HTTP/1 connection may hit a request: it stays open until the
    /// drain, and ends with its next reply. So does one with outdated TLS `settings`.
    async fn drive<C>(
        &self,
        connection: Pin<Box<C>>,
        version: Version,
        shut_down: fn(Pin<&mut C>),
        activity: &ConnectionActivity,
        settings: Option<Arc<Settings>>,
    ) where
        C: Future,
    {
        let phase = match version {
            Version::Http1 => Phase::Draining,
            Version::Http2 => Phase::LameDuck,
        };
        let reached = pin!(self.life.reached(phase));
        let mut notified = pin!(activity.reclaim().listen());
        let timer = pin!(tokio::time::sleep(self.bounds.head_time));
        let mut drive = Drive {
            service: self,
            activity,
            connection,
            shut_down,
            settings,
            drain: DrainWatch { life: &self.life, phase, reached, observed: Observed::No },
            reclaim: ReclaimWaiter::new(activity.reclaim(), notified.as_mut()),
            watch: TimerWatch::new(timer),
            begun: activity.begun(),
            is_closing: false,
        };
        poll_fn(|cx| drive.poll(cx)).await;
    }
}

/// A connection in use, and what may end it.
struct Drive<'c, 'p, H, C, R> {
    service: &'c ListenerService<H>,
    activity: &'c ConnectionActivity,
    connection: Pin<Box<C>>,
    shut_down: fn(Pin<&mut C>),
    /// The negotiation, over TLS.
    settings: Option<Arc<Settings>>,
    drain: DrainWatch<'p, R>,
    reclaim: ReclaimWaiter<'c, 'p>,
    watch: TimerWatch<'p>,
    /// How many requests had begun at the last poll.
    begun: u32,
    is_closing: bool,
}

/// How a connection ends that does nothing.
enum IdleEnd {
    /// With a notice to its peer, which has a time for its own end.
    Graceful,
    AtOnce,
}

impl<H, C, R> Drive<'_, '_, H, C, R>
where
    H: WireHandler,
    C: Future,
    R: Future<Output = ()>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !self.wants_end(cx) {
            match self.idle_end(cx) {
                None => return Poll::Pending,
                Some(IdleEnd::AtOnce) => return Poll::Ready(()),
                Some(IdleEnd::Graceful) => {}
            }
        }
        self.is_closing = true;
        self.watch.reset(Instant::now() + self.service.bounds.head_time);
        if self.watch.has_ended(cx) {
            cx.waker().wake_by_ref();
        }
        (self.shut_down)(self.connection.as_mut());
        self.connection.as_mut().poll(cx).map(drop)
    }

    /// Whether the connection has to close whatever it does: the gateway drains, others wait for
    /// its place, or its negotiation is outdated. All are polled: each registers the task.
    fn wants_end(&mut self, cx: &mut Context<'_>) -> bool {
        let mut wants = self.drain.poll(cx, self.activity);
        if self.reclaim.poll(cx) {
            wants |= !self.activity.is_busy();
        }
        let begun = self.activity.begun();
        if std::mem::replace(&mut self.begun, begun) != begun {
            wants |= !self.is_closing && self.service.is_outdated(self.settings.as_ref());
        }
        wants
    }

    /// How the connection ends now because it does nothing. If it does not, the timer looks again.
    fn idle_end(&mut self, cx: &mut Context<'_>) -> Option<IdleEnd> {
        let Bounds { head_time, idle_time, .. } = self.service.bounds;
        let idle_time = if self.is_closing { Duration::ZERO } else { idle_time };
        while self.watch.has_ended(cx) {
            let now = Instant::now();
            match self.activity.action(now, head_time, idle_time) {
                IdleAction::Wait(wait) => self.watch.reset(now + wait),
                IdleAction::Finish if !self.is_closing => return Some(IdleEnd::Graceful),
                IdleAction::Finish | IdleAction::Close => return Some(IdleEnd::AtOnce),
            }
        }
        None
    }
}

/// The connection's timer. While it runs, a poll costs one load: the task is already registered.
struct TimerWatch<'s> {
    sleep: Pin<&'s mut Sleep>,
    registered: Registered,
}

/// Whether a timer wakes its task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Registered {
    No,
    Yes,
}

impl<'s> TimerWatch<'s> {
    fn new(sleep: Pin<&'s mut Sleep>) -> Self {
        Self { sleep, registered: Registered::No }
    }

    /// Whether its time has come. If not, it wakes the task of `cx`, which is always the same.
    fn has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        if self.registered == Registered::Yes && !self.sleep.is_elapsed() {
            return false;
        }
        // Without budget the timer is not even looked at, and the task is polled again at once.
        self.registered = match coop::has_budget_remaining() {
            true => Registered::Yes,
            false => Registered::No,
        };
        self.sleep.as_mut().poll(cx).is_ready()
    }

    fn reset(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(deadline);
        self.registered = Registered::No;
    }
}

/// Reports once that a phase has begun in which the connection ends. Costs one load between its
/// first poll and that phase.
struct DrainWatch<'a, R> {
    life: &'a Lifecycle,
    phase: Phase,
    reached: Pin<&'a mut R>,
    observed: Observed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Observed {
    No,
    Listening,
    /// The phase has begun, and the connection has had no request yet.
    Reached,
    Yes,
}

impl<R: Future<Output = ()>> DrainWatch<'_, R> {
    /// Whether the connection has to close now: once, after the phase began. A lame duck answers
    /// one request per connection: a client that reconnects is not rejected forever.
    fn poll(&mut self, cx: &mut Context<'_>, activity: &ConnectionActivity) -> bool {
        let is_due = match self.observed {
            Observed::No => true,
            Observed::Listening => self.life.phase() >= self.phase,
            Observed::Reached | Observed::Yes => false,
        };
        if is_due {
            let is_reached = self.reached.as_mut().poll(cx).is_ready();
            self.observed = if is_reached { Observed::Reached } else { Observed::Listening };
        }
        let may = || activity.begun() > 0 || self.life.is_draining();
        let now = self.observed == Observed::Reached && may();
        if now {
            self.observed = Observed::Yes;
        }
        now
    }
}

/// A connection up to its first request.
struct Opened {
    socket: Socket,
    peer: Peer,
    version: Version,
    /// The bytes that were read already.
    first: Bytes,
    /// The negotiation, over TLS.
    settings: Option<Arc<Settings>>,
}

/// The certificates that the caller has presented.
fn certificates(socket: &Socket) -> Option<Arc<PeerCertificates>> {
    let Socket::Tls(stream) = socket else { return None };
    let chain = stream.get_ref().1.peer_certificates()?;
    let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
    Some(Arc::new(PeerCertificates::new(chain)))
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
            _: Request<RequestBody>,
        ) -> Result<Response, CloseWithoutReply> {
            Ok(Response::new(Full::new(Bytes::from(vec![b'a'; 16 << 20]))))
        }
    }

    #[tokio::test]
    async fn a_peer_that_stops_to_read_is_closed() {
        let short = Duration::from_millis(50);
        let bounds =
            Bounds { connections: 1, head_bytes: 8192, head_time: short, idle_time: short };
        let service =
            ListenerService::new(Much, Arc::new(Lifecycle::new()), bounds, Transport::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(accept(listener, service));
        let ask = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            stream
        };
        let silent = ask().await;
        // There is only one place: it is free although `silent` has not closed.
        let next = ask().await;
        drop((silent, next));
        served.abort();
    }
}
