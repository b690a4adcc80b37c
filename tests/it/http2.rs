//! HTTP/2 in clear text, by prior knowledge.

use std::future::Future;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::gateway::{Gateway, PLAIN, series, taku};

/// Runs a client.
pub fn run<T>(client: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(client)
}

/// An HTTP/2 connection.
pub struct Client(http2::SendRequest<Empty<Bytes>>);

impl Client {
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (requests, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self(requests)
    }

    /// One GET; 0 where the stream was reset instead.
    pub async fn get(&mut self, target: &str) -> u16 {
        let uri = format!("http://localhost{target}");
        let request = Request::builder().uri(uri).body(Empty::new()).unwrap();
        match self.0.send_request(request).await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                answer.into_body().collect().await.unwrap();
                status
            }
            Err(_) => 0,
        }
    }
}

impl Client {
    /// Waits until the other side has ended the connection.
    pub async fn closed(mut self) {
        while self.0.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

#[test]
fn many_streams_of_one_connection() {
    let gateway = Gateway::start(PLAIN);
    run(async {
        let stream = TcpStream::connect(gateway.at.callbacks).await.unwrap();
        let client = Client::over(stream).await;
        let all = (0..50).map(|n| {
            let mut client = Client(client.0.clone());
            tokio::spawn(async move { client.get(&taku(&format!("h{n}"))).await })
        });
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), 200);
        }
        let mut client = client;
        assert_eq!(client.get("/callback/absent").await, 404);
    });
    gateway.await_metric(&series("accepted"), 50.0);
}

#[test]
fn silence_resets_the_stream_and_leaves_the_connection() {
    let text = PLAIN.replace("drain", "limits = { held = 0 }\ndrain");
    let gateway = Gateway::without_room(&text);
    run(async {
        let stream = TcpStream::connect(gateway.at.callbacks).await.unwrap();
        let mut client = Client::over(stream).await;
        assert_eq!(client.get(&taku("r1")).await, 0);
        assert_eq!(client.get("/callback/absent").await, 404);
    });
}

#[test]
fn a_drain_lets_streams_end() {
    let mut gateway = Gateway::start(PLAIN);
    run(async {
        let stream = TcpStream::connect(gateway.at.callbacks).await.unwrap();
        let mut client = Client::over(stream).await;
        assert_eq!(client.get(&taku("d1")).await, 200);
        gateway.ask_to_stop();
        client.0.ready().await.ok();
    });
    super::gateway::eventually("the end", || gateway.has_ended());
}

/// A rejection before the body has come: the client gets it, although it has much left to send, and
/// goes on with its connection.
#[test]
fn a_rejection_reaches_a_client_that_still_sends() {
    let text = PLAIN.replace("drain", "limits = { body = \"4KiB\" }\ndrain");
    let gateway = Gateway::start(&text);
    run(async {
        let stream = TcpStream::connect(gateway.at.callbacks).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut requests, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        // More than the windows of a stream and of the connection.
        let body = Bytes::from(vec![b'a'; 8 << 20]);
        let own = taku("b1");
        let path = own.split('?').next().unwrap();
        for round in 0..20 {
            for target in ["/callback/unknown", path, "/elsewhere"] {
                requests.ready().await.unwrap_or_else(|error| panic!("{round} {target}: {error}"));
                let uri = format!("http://localhost{target}");
                let request = Request::builder().method("POST").uri(uri);
                let request = request.body(Full::new(body.clone())).unwrap();
                let answer = requests.send_request(request).await;
                let answer = answer.unwrap_or_else(|error| panic!("{round} {target}: {error:?}"));
                assert!(answer.status().is_client_error() || answer.status().as_u16() > 600);
                answer.into_body().collect().await.unwrap();
            }
        }
        let request = Request::builder().uri(format!("http://localhost{own}"));
        let request = request.body(Full::new(Bytes::new())).unwrap();
        assert_eq!(requests.send_request(request).await.unwrap().status(), 200);
    });
    gateway.await_metric(&series("accepted"), 1.0);
}
