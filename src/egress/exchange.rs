//! Requests over HTTP/1.1 connections that have no task: the caller that waits for a response drives
//! its connection.
//!
//! With a task for each connection, a request and its response cost two changes of task, and a
//! third task that takes the connection back. Here one task writes the request, reads the response
//! and keeps the connection. An idle connection is not read: that its server has closed it is
//! noticed with the next request, which then takes another one, and it is closed after
//! [`IDLE_TIME`].
//!
//! A server that chooses HTTP/2 in the TLS handshake is served by the pooled client instead, which
//! shares one connection among all requests.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, HeaderValue, InvalidHeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, response};
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::Connection as _;
use tower_service::Service;

use super::client::{BUFFER_BYTES, BoxError, Connection, Guarded, IDLE_TIME};
use crate::clock::instant;

type Driver = http1::Connection<MaybeHttpsStream<Connection>, Full<Bytes>>;

/// The connections to one server, and how new ones are made.
#[derive(Clone, Debug)]
pub(super) struct Exchanges(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: HttpsConnector<Guarded>,
    /// The maximum number of idle connections.
    idle_max: usize,
    idle: Mutex<Idle>,
    /// Whether the server has chosen HTTP/2.
    is_multiplexed: AtomicBool,
}

/// Idle connections, the longest idle first.
#[derive(Debug, Default)]
struct Idle {
    #[expect(clippy::vec_box, reason = "a connection moves to its user and back, as a pointer")]
    connections: Vec<Box<Driven>>,
    /// Whether a task closes those that were idle for too long.
    has_closer: bool,
}

/// A connection that its user drives.
struct Driven {
    sender: SendRequest<Full<Bytes>>,
    /// `None`: the connection has ended.
    driver: Option<Driver>,
    /// Scheme, host and port of its server.
    server: Uri,
    /// The header `Host` of its requests.
    host: HeaderValue,
    idle_since: Instant,
}

/// A response whose body is not read yet.
#[derive(Debug)]
pub struct UnreadResponse {
    /// Status and headers.
    pub head: response::Parts,
    body: Incoming,
    /// The connection, unless a task of its own drives it.
    own: Option<(Box<Driven>, Exchanges)>,
}

/// Why there is no response. Reads as the errors of the pooled client do.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExchangeError {
    /// No connection.
    Connect(BoxError),
    /// The connection was closed before the request was sent.
    Canceled(hyper::Error),
    /// The connection broke, or the response is not HTTP.
    SendRequest(hyper::Error),
    /// The pooled client failed.
    Pooled(legacy::Error),
}

/// A connection to a server, or the news that it speaks HTTP/2.
enum Connected {
    Own(Box<Driven>),
    Multiplexed,
}

/// The result of a request on one connection.
enum Sent {
    Response(Response<Incoming>),
    /// Nothing was sent, and it can be sent on another connection.
    Unsent(Request<Full<Bytes>>, hyper::Error),
    Failed(hyper::Error),
}

impl Exchanges {
    /// At most `idle_max` connections are kept.
    pub(super) fn new(connector: HttpsConnector<Guarded>, idle_max: usize) -> Self {
        let is_multiplexed = AtomicBool::new(false);
        Self(Arc::new(Shared { connector, idle_max, idle: Mutex::default(), is_multiplexed }))
    }

    /// Whether requests are for the pooled client.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.0.is_multiplexed.load(Ordering::Relaxed)
    }

    /// Sends `request`; gives it back if it is for the pooled client.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Result<UnreadResponse, Request<Full<Bytes>>>, ExchangeError> {
        if request.uri().scheme().is_none() || request.uri().authority().is_none() {
            return Ok(Err(request));
        }
        let to = request.uri().clone();
        *request.uri_mut() = path_only(&to);
        loop {
            let (mut connection, is_fresh) = match self.take(&to) {
                Some(idle) => (idle, false),
                None => match Box::pin(self.connect(&to)).await? {
                    Connected::Own(fresh) => (fresh, true),
                    Connected::Multiplexed => {
                        self.0.is_multiplexed.store(true, Ordering::Relaxed);
                        *request.uri_mut() = to;
                        return Ok(Err(request));
                    }
                },
            };
            let host = &connection.host;
            request.headers_mut().entry(HOST).or_insert_with(|| host.clone());
            request = match connection.send(request).await {
                Sent::Response(response) => {
                    let (head, body) = response.into_parts();
                    return Ok(Ok(UnreadResponse {
                        head,
                        body,
                        own: Some((connection, self.clone())),
                    }));
                }
                Sent::Failed(error) => return Err(ExchangeError::SendRequest(error)),
                Sent::Unsent(_, error) if is_fresh => return Err(ExchangeError::Canceled(error)),
                // The server closed it while it was idle.
                Sent::Unsent(mut unsent, _) => {
                    // HTTP/2 has no such header, and the next connection may speak it.
                    if unsent.headers().get(HOST) == Some(&connection.host) {
                        unsent.headers_mut().remove(HOST);
                    }
                    unsent
                }
            };
        }
    }

    async fn connect(&self, to: &Uri) -> Result<Connected, ExchangeError> {
        let server = server(to).map_err(|error| ExchangeError::Connect(error.into()))?;
        let mut connector = self.0.connector.clone();
        let stream = connector.call(server.clone()).await.map_err(ExchangeError::Connect)?;
        if stream.connected().is_negotiated_h2() {
            return Ok(Connected::Multiplexed);
        }
        let mut settings = http1::Builder::new();
        settings.max_buf_size(BUFFER_BYTES);
        let begun = settings.handshake(stream).await;
        let (sender, driver) = begun.map_err(|error| ExchangeError::Connect(error.into()))?;
        let host = host(to).map_err(|error| ExchangeError::Connect(error.into()))?;
        Ok(Connected::Own(Box::new(Driven {
            sender,
            driver: Some(driver),
            server,
            host,
            idle_since: instant(),
        })))
    }
}

// === Idle connections ===

impl Exchanges {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to the server of `to` that was used last.
    fn take(&self, to: &Uri) -> Option<Box<Driven>> {
        let connections = &mut self.idle().connections;
        let at = connections.iter().rposition(|idle| is_same_server(&idle.server, to))?;
        Some(connections.remove(at))
    }

    fn keep(&self, mut connection: Box<Driven>) {
        connection.idle_since = instant();
        let mut idle = self.idle();
        if idle.connections.len() >= self.0.idle_max {
            return;
        }
        idle.connections.push(connection);
        if !idle.has_closer {
            idle.has_closer = true;
            drop(tokio::spawn(close_idle(Arc::downgrade(&self.0))));
        }
    }

    /// Closes connections that were idle for too long; returns when the next one will have been.
    fn close_old(&self) -> Option<Duration> {
        let now = instant();
        let mut idle = self.idle();
        let age = |one: &Driven| now.saturating_duration_since(one.idle_since);
        let old = idle.connections.iter().take_while(|one| age(one) >= IDLE_TIME).count();
        let closed: Vec<_> = idle.connections.drain(..old).collect();
        let next = idle.connections.first().map(|one| IDLE_TIME.saturating_sub(age(one)));
        idle.has_closer = next.is_some();
        // Sockets are closed outside of the lock.
        drop(idle);
        drop(closed);
        next
    }
}

/// Closes connections that were idle for too long, until none is left.
async fn close_idle(shared: Weak<Shared>) {
    let mut next = Some(IDLE_TIME);
    while let Some(wait) = next {
        tokio::time::sleep(wait).await;
        next = shared.upgrade().and_then(|shared| Exchanges(shared).close_old());
    }
}

// === One connection ===

impl Driven {
    /// Reads and writes as far as possible.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            // An error is that of the response or of its body.
            self.driver = None;
        }
    }

    /// Whether another request can be sent.
    fn is_ready(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Sent {
        let mut sending = pin!(self.sender.try_send_request(request));
        let answered = poll_fn(|cx| {
            self.drive(cx);
            sending.as_mut().poll(cx)
        });
        match answered.await {
            Ok(response) => Sent::Response(response),
            Err(error) => Self::unsent(error),
        }
    }

    fn unsent(mut error: TrySendError<Request<Full<Bytes>>>) -> Sent {
        match error.take_message() {
            Some(request) => Sent::Unsent(request, error.into_error()),
            None => Sent::Failed(error.into_error()),
        }
    }
}

impl fmt::Debug for Driven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driven").finish_non_exhaustive()
    }
}

/// The URL without path and query.
fn server(to: &Uri) -> Result<Uri, http::Error> {
    let mut parts = to.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    Ok(Uri::from_parts(parts)?)
}

/// Whether scheme, host and port are the same. Another spelling of a host is another server.
fn is_same_server(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme()
        && a.authority().map(Authority::as_str) == b.authority().map(Authority::as_str)
}

/// The value of `Host`: without the port of the scheme.
fn host(to: &Uri) -> Result<HeaderValue, InvalidHeaderValue> {
    let usual = if to.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let name = to.host().unwrap_or_default();
    match to.port_u16().filter(|port| *port != usual) {
        Some(port) => HeaderValue::try_from(format!("{name}:{port}")),
        None => HeaderValue::from_str(name),
    }
}

/// Path and query of `to`, as they stand in the request line.
fn path_only(to: &Uri) -> Uri {
    to.path_and_query().cloned().map_or_else(Uri::default, |path: PathAndQuery| Uri::from(path))
}

// === The response ===

impl UnreadResponse {
    /// A response of the pooled client.
    pub(super) fn pooled(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body, own: None }
    }

    /// The next part of the body; `None`: it is complete, and the connection is kept for the next
    /// request.
    pub async fn frame(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        let frame = poll_fn(|cx| self.poll_frame(cx)).await;
        if frame.is_none()
            && let Some((mut connection, exchanges)) = self.own.take()
        {
            poll_fn(|cx| {
                if !connection.is_ready() {
                    connection.drive(cx);
                }
                Poll::Ready(())
            })
            .await;
            if connection.is_ready() {
                exchanges.keep(connection);
            }
        }
        frame
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.body.is_end_stream() {
            return Poll::Ready(None);
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let Some((connection, _)) = self.own.as_mut().filter(|_| frame.is_pending()) else {
            return frame;
        };
        connection.drive(cx);
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

// === Errors ===

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(_) => f.write_str("client error (Connect)"),
            Self::Canceled(_) => f.write_str("client error (Canceled)"),
            Self::SendRequest(_) => f.write_str("client error (SendRequest)"),
            Self::Pooled(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl Error for ExchangeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect(error) => Some(&**error),
            Self::Canceled(error) | Self::SendRequest(error) => Some(error),
            Self::Pooled(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc::UnboundedReceiver;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::egress::{Client, Guard, Trust, Trusted};

    const SHORT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 201 Made\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    const UNREAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\npart";

    /// A server, which answers on each connection as its list says and closes it.
    struct TestServer {
        url: String,
        heads: JoinHandle<Vec<String>>,
        closed: UnboundedReceiver<()>,
    }

    async fn server(connections: Vec<Vec<&'static [u8]>>) -> TestServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/path?q=1", listener.local_addr().unwrap());
        let (tell, closed) = tokio::sync::mpsc::unbounded_channel();
        let heads = tokio::spawn(async move {
            let mut heads = Vec::new();
            for answers in connections {
                let (mut stream, _) = listener.accept().await.unwrap();
                for answer in answers {
                    heads.push(head(&mut stream).await);
                    stream.write_all(answer).await.unwrap();
                }
                drop(stream);
                let _ = tell.send(());
            }
            heads
        });
        TestServer { url, heads, closed }
    }

    async fn head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\nbody") {
            assert!(stream.read_buf(&mut head).await.unwrap() > 0, "a request is missing");
        }
        String::from_utf8(head).unwrap()
    }

    fn client() -> Client {
        Client::new(Trusted::default(), 4, Guard::new(Trust::File, vec![])).unwrap()
    }

    /// Status and body of one request.
    async fn post(client: &Client, url: &str) -> Result<(u16, String), ExchangeError> {
        let request = Request::post(url).body(Full::from("body")).unwrap();
        let mut reply = client.exchange(request).await?;
        let mut body = Vec::new();
        while let Some(frame) = reply.frame().await {
            body.extend_from_slice(frame.unwrap().data_ref().unwrap());
        }
        Ok((reply.head.status.as_u16(), String::from_utf8(body).unwrap()))
    }

    #[tokio::test]
    async fn one_connection_serves_requests_in_turn() {
        let TestServer { url, heads, .. } = server(vec![vec![SHORT, CHUNKED, SHORT]]).await;
        let client = client();
        assert_eq!(post(&client, &url).await.unwrap(), (200, "ok".to_owned()));
        assert_eq!(post(&client, &url).await.unwrap(), (201, "abcde".to_owned()));
        assert_eq!(post(&client, &url).await.unwrap(), (200, "ok".to_owned()));
        let heads = heads.await.unwrap();
        let host = url.trim_start_matches("http://").trim_end_matches("/path?q=1");
        for head in heads {
            assert!(head.starts_with("POST /path?q=1 HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("host: {host}\r\n")), "{head}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_idle_is_replaced() {
        let mut server = server(vec![vec![SHORT], vec![SHORT], vec![SHORT]]).await;
        let client = client();
        for _ in 0..3 {
            assert_eq!(post(&client, &server.url).await.unwrap().0, 200);
            server.closed.recv().await.unwrap();
            // The runtime learns of it.
            tokio::task::yield_now().await;
        }
        assert_eq!(server.heads.await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_body_that_is_not_read_costs_its_connection() {
        let TestServer { url, heads, .. } = server(vec![vec![UNREAD], vec![SHORT]]).await;
        let client = client();
        let request = Request::post(&url).body(Full::from("body")).unwrap();
        let mut reply = client.exchange(request).await.unwrap();
        assert_eq!(reply.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
        drop(reply);
        assert_eq!(post(&client, &url).await.unwrap().0, 200);
        assert_eq!(heads.await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_server_that_closes_in_the_middle_gets_no_second_request() {
        let TestServer { url, heads, .. } = server(vec![vec![SHORT, b""], vec![SHORT]]).await;
        let client = client();
        assert_eq!(post(&client, &url).await.unwrap().0, 200);
        let error = post(&client, &url).await.unwrap_err();
        assert!(matches!(error, ExchangeError::SendRequest(_)), "{error:?}");
        assert_eq!(error.to_string(), "client error (SendRequest)");
        assert_eq!(post(&client, &url).await.unwrap().0, 200);
        assert_eq!(heads.await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn idle_connections_are_closed_after_their_time() {
        let TestServer { url, .. } = server(vec![vec![SHORT, SHORT]]).await;
        let client = client();
        assert_eq!(post(&client, &url).await.unwrap().0, 200);
        let exchanges = client.exchanges();
        assert!(exchanges.close_old().is_some(), "one is idle, and young");
        for idle in &mut exchanges.idle().connections {
            idle.idle_since = idle.idle_since.checked_sub(IDLE_TIME).unwrap();
        }
        assert_eq!(exchanges.close_old(), None);
        assert!(exchanges.idle().connections.is_empty());
    }
}
