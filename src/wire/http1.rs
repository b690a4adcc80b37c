//! A connection of HTTP/1: its simple requests are answered here, and from the first other one on
//! hyper serves it.
//!
//! hyper keeps two buffers for each connection, and turns through several states for each request.
//! A simple request needs neither: it is read on the stack, and between two requests the connection
//! holds its socket and a small empty map for headers.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::connection::{CloseWithoutReply, Response, WireHandler};
use super::reply::{Reply, Then};
use super::requests::{HyperService, Requests};
use super::simple;
use super::stream::{FIRST_READ_BYTES, HeadSlot, Socket, Stream};
use super::target::Framing;

/// A connection of HTTP/1.
pub(super) struct Http1<H: WireHandler> {
    requests: Arc<Requests<H>>,
    serves: Serves<H>,
    /// The step after the current request.
    then: Then,
}

/// The code that serves the connection.
enum Serves<H: WireHandler> {
    Simple(Socket, Step),
    Hyper(Pin<Box<http1::Connection<TokioIo<Stream>, HyperService<H>>>>),
    /// The connection has ended.
    Ended,
}

/// How far a simple request is.
enum Step {
    /// Waits for a request. Holds the bytes that told the version, and room for headers.
    Read(Bytes, HeaderMap),
    Answer(Answer),
    Write(Reply),
    /// The connection is closed.
    ShutDown,
}

/// Boxed: between two requests there is no room for it.
type Answer = Pin<Box<dyn Future<Output = Result<Response, CloseWithoutReply>> + Send>>;

/// The end of a step of simple requests.
enum Found {
    /// The connection has ended.
    End,
    /// Bytes that are not a simple request.
    Other(Bytes),
}

impl<H: WireHandler> Http1<H> {
    /// `socket`, of which `first` was already read.
    pub(super) fn new(requests: Arc<Requests<H>>, socket: Socket, first: Bytes) -> Self {
        let serves = Serves::Simple(socket, Step::Read(first, HeaderMap::new()));
        Self { requests, serves, then: Then::Next }
    }

    /// Ends the connection after the request in progress, or now if there is none.
    pub(super) fn shut_down(self: Pin<&mut Self>) {
        let this = self.get_mut();
        this.then = Then::End;
        match &mut this.serves {
            Serves::Hyper(connection) => connection.as_mut().graceful_shutdown(),
            Serves::Simple(_, step @ Step::Read(..)) => *step = Step::ShutDown,
            Serves::Simple(_, Step::Write(reply)) => reply.then = Then::End,
            Serves::Simple(..) | Serves::Ended => {}
        }
    }

    /// Hands the connection over to hyper, together with the bytes that it has to read first.
    fn hand_over(&mut self, first: Bytes) {
        let Serves::Simple(socket, _) = std::mem::replace(&mut self.serves, Serves::Ended) else {
            return;
        };
        let slot = Arc::new(HeadSlot::default());
        let activity = Arc::clone(&self.requests.activity);
        let stream = Stream::http1(socket, first, activity, Arc::clone(&slot));
        let service = HyperService::new(Arc::clone(&self.requests), slot);
        let http1 = self.requests.service.http1();
        self.serves =
            Serves::Hyper(Box::pin(http1.serve_connection(TokioIo::new(stream), service)));
    }
}

impl<H: WireHandler> Future for Http1<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            match &mut this.serves {
                Serves::Simple(socket, step) => {
                    match ready!(step.poll(socket, &this.requests, this.then, cx)) {
                        Found::End => this.serves = Serves::Ended,
                        Found::Other(bytes) => this.hand_over(bytes),
                    }
                }
                Serves::Hyper(connection) => return connection.as_mut().poll(cx).map(drop),
                Serves::Ended => return Poll::Ready(()),
            }
        }
    }
}

impl Step {
    /// Serves simple requests until one is not simple, or the connection ends.
    fn poll<H: WireHandler>(
        &mut self,
        socket: &mut Socket,
        requests: &Arc<Requests<H>>,
        then: Then,
        cx: &mut Context<'_>,
    ) -> Poll<Found> {
        loop {
            *self = match self {
                Self::Read(first, room) => {
                    let Ok(bytes) = ready!(poll_bytes(std::mem::take(first), socket, cx)) else {
                        return Poll::Ready(Found::End);
                    };
                    match simple::read(&bytes, requests.service.bounds().head_bytes, room) {
                        Some(request) => {
                            let requests = Arc::clone(requests);
                            Self::Answer(Box::pin(requests.answer(request, Framing::Clear)))
                        }
                        None if bytes.is_empty() => Self::ShutDown,
                        None if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) => {
                            // RFC 9112, section 2.2: empty lines before a request mean nothing.
                            Self::Read(Bytes::new(), std::mem::take(room))
                        }
                        None => return Poll::Ready(Found::Other(bytes)),
                    }
                }
                Self::Answer(answer) => match ready!(answer.as_mut().poll(cx)) {
                    Ok(response) => Self::Write(Reply::new(response, then)),
                    Err(CloseWithoutReply) => return Poll::Ready(Found::End),
                },
                Self::Write(reply) => match (ready!(reply.poll_write(socket, cx)), reply.then) {
                    (Ok(()), Then::Next) => Self::Read(Bytes::new(), reply.take_room()),
                    (Ok(()), Then::End) => Self::ShutDown,
                    (Err(_), _) => return Poll::Ready(Found::End),
                },
                Self::ShutDown => {
                    let _ = ready!(Pin::new(socket).poll_shutdown(cx));
                    return Poll::Ready(Found::End);
                }
            };
        }
    }
}

/// The bytes of one read, or `first`, if it has any. None at all is the end of the connection.
fn poll_bytes(first: Bytes, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    if !first.is_empty() {
        return Poll::Ready(Ok(first));
    }
    let mut room = [const { MaybeUninit::uninit() }; FIRST_READ_BYTES];
    let mut read = ReadBuf::uninit(&mut room);
    ready!(Pin::new(socket).poll_read(cx, &mut read))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(read.filled())))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use http::{HeaderValue, Request, StatusCode, header};
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Body;
    use hyper::service::service_fn;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::lifecycle::Lifecycle;
    use crate::wire::{Bounds, Handler, ListenerService, Peer, RequestBody, Transport, accept};

    /// Tells in its reply what it was asked. The status and a header of the reply are in the path.
    async fn told<B: Body<Error: std::fmt::Debug>>(request: Request<B>) -> Response {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let told = format!("{} {} {:?} {body:?}", parts.method, parts.uri, parts.headers);
        let path = parts.uri.path();
        let size = if path.contains("large") { 4 * 1024 } else { 1 };
        let mut response = Response::new(Full::new(Bytes::from(told.repeat(size))));
        let status = path.get(1..4).and_then(|status| status.parse().ok());
        *response.status_mut() = status.unwrap_or(StatusCode::OK);
        let headers = response.headers_mut();
        headers.insert("x-a", HeaderValue::from_static("b"));
        if path.contains("close") {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Close"));
        }
        response
    }

    struct Teller;

    impl Handler for Teller {
        async fn handle(
            &self,
            _: Peer,
            request: Request<RequestBody>,
        ) -> Result<Response, CloseWithoutReply> {
            if request.uri().path().contains("slow") {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            if request.uri().path().contains("silent") {
                return Err(CloseWithoutReply);
            }
            Ok(told(request).await)
        }
    }

    const BOUNDS: Bounds = Bounds {
        connections: 100,
        head_bytes: 8192,
        head_time: Duration::from_secs(30),
        idle_time: Duration::from_secs(30),
    };

    /// A listener of ours.
    async fn ours(life: &Arc<Lifecycle>) -> SocketAddr {
        let service = ListenerService::new(Teller, Arc::clone(life), BOUNDS, Transport::default());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, service));
        address
    }

    /// The same reply, by hyper alone.
    async fn bare_hyper() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service_fn(async |request| Ok::<_, Infallible>(told(request).await));
                let mut http1 = http1::Builder::new();
                let connection =
                    http1.half_close(true).serve_connection(TokioIo::new(socket), service);
                tokio::spawn(connection);
            }
        });
        address
    }

    /// All replies to these requests on one connection, each sent when the one before is
    /// answered, up to its end. Dates are left out.
    async fn answers(to: SocketAddr, requests: &[Vec<u8>]) -> String {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let mut all = Vec::new();
        for request in requests {
            if stream.write_all(request).await.is_err() {
                break;
            }
            let before = all.len();
            while !is_whole(&all[before..]) {
                match stream.read_buf(&mut all).await {
                    Ok(0) | Err(_) => return without_dates(&all),
                    Ok(_) => {}
                }
            }
        }
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut all).await;
        without_dates(&all)
    }

    fn is_whole(answer: &[u8]) -> bool {
        let text = String::from_utf8_lossy(answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let mut lines = head.lines();
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        length.is_none_or(|length| body.len() >= length.parse().unwrap())
    }

    fn without_dates(answers: &[u8]) -> String {
        let text = String::from_utf8_lossy(answers);
        let lines = text.split_inclusive("\r\n");
        lines.map(|line| if line.starts_with("date: ") { "date\r\n" } else { line }).collect()
    }

    /// Requests, most of them simple.
    fn any_request() -> impl Strategy<Value = Vec<u8>> {
        let target = "/(200|204|304|400|503|601|)(large|close|)(\\?[a-z=&%20]{0,9})?";
        let header = prop_oneof![
            4 => "X-[A-Za-z]{1,5}: ?[a-z\"<>, ]{0,6}",
            1 => "Connection: (keep-alive|Keep-Alive|close|x)",
            1 => "Content-Length: 0",
        ];
        let body = prop_oneof![2 => Just(None), 1 => "[a-z=&\"]{0,9}".prop_map(Some)];
        (
            prop_oneof![3 => "GET", 3 => "POST", 1 => "(PUT|get)"],
            target,
            prop_oneof![9 => Just("1.1"), 1 => Just("1.0")],
            proptest::collection::vec(header, 0..5),
            body,
        )
            .prop_map(|(method, target, version, headers, body)| {
                let mut text = format!("{method} {target} HTTP/{version}\r\nHost: a\r\n");
                headers.iter().for_each(|header| text.push_str(&format!("{header}\r\n")));
                if let Some(body) = &body {
                    text.push_str(&format!("Content-Length: {}\r\n", body.len()));
                }
                text.push_str("\r\n");
                text.push_str(&body.unwrap_or_default());
                text.into_bytes()
            })
    }

    #[test]
    fn every_request_is_answered_as_by_hyper_alone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let life = Arc::new(Lifecycle::new());
        let (ours, hyper) = runtime.block_on(async { (ours(&life).await, bare_hyper().await) });
        proptest!(|(requests in proptest::collection::vec(any_request(), 1..5))| {
            let (own, others) = runtime.block_on(async {
                (answers(ours, &requests).await, answers(hyper, &requests).await)
            });
            prop_assert_eq!(own, others);
        });
    }

    /// A connection, and what it answers to one request.
    async fn ask(stream: &mut TcpStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !is_whole(&answer) && stream.read_buf(&mut answer).await.unwrap() > 0 {}
        String::from_utf8(answer).unwrap()
    }

    const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

    #[tokio::test]
    async fn a_connection_is_handed_over_in_the_middle() {
        let mut stream = TcpStream::connect(ours(&Arc::new(Lifecycle::new())).await).await.unwrap();
        let usual = ask(&mut stream, GET).await;
        assert!(usual.starts_with("HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: "), "{usual}");
        let chunked = "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                       3\r\na=1\r\n0\r\n\r\n";
        let answer = ask(&mut stream, chunked).await;
        assert!(answer.ends_with("b\"a=1\""), "{answer}");
        assert_eq!(
            without_dates(ask(&mut stream, GET).await.as_bytes()),
            without_dates(usual.as_bytes())
        );
        stream.write_all(b"GET /a HTT").await.unwrap();
        assert!(ask(&mut stream, "P/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn empty_lines_between_requests_mean_nothing() {
        let life = Arc::new(Lifecycle::new());
        let mut stream = TcpStream::connect(ours(&life).await).await.unwrap();
        ask(&mut stream, GET).await;
        stream.write_all(b"\r\n").await.unwrap();
        assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200"));
        stream.write_all(b"\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        life.drain();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it is idle");
    }

    #[tokio::test]
    async fn a_request_that_gets_no_reply_ends_the_connection() {
        let mut stream = TcpStream::connect(ours(&Arc::new(Lifecycle::new())).await).await.unwrap();
        assert_eq!(ask(&mut stream, "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n").await, "");
    }

    #[tokio::test]
    async fn a_drain_ends_idle_connections_and_those_that_answer_after_it() {
        let life = Arc::new(Lifecycle::new());
        let address = ours(&life).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        ask(&mut idle, GET).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        life.drain();
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}
