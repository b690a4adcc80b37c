//! The control of `make load`: a hyper server that does nothing.
//!
//! Built as Postern's intake is: HTTP/1, one single-threaded runtime per core with its own listener
//! on the shared port. No parameter is read, and every request gets the same 27 bytes. Postern's
//! callbacks in one second of processor time are reported as a share of this server's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::{env, io, thread};

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime;

const REPLY: Bytes = Bytes::from_static(br#"{"code":0,"message":"done"}"#);
/// Connections that may wait to be accepted: more than any load here opens at once.
const BACKLOG: u32 = 1024;

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:18080".to_owned());
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let cores = thread::available_parallelism()?.get(); // the affinity mask counts, too
    let workers: Vec<_> = (0..cores).map(|_| thread::spawn(move || work(address))).collect();
    workers.into_iter().try_for_each(|worker| {
        worker.join().unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))
    })
}

fn work(address: SocketAddr) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = listen(address)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(serve(stream));
        }
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn serve(stream: TcpStream) {
    let answer =
        |_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Full::new(REPLY))) };
    let mut server = http1::Builder::new();
    // A client that hangs up early is not an error for a control.
    let _ = server
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
}
