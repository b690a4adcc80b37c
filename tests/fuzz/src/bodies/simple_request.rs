//! Any bytes as the first read of a connection: what the gateway reads by itself is one request, and the same that
//! hyper reads.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use postern::wire::simple_request;
use tokio::io::AsyncWriteExt as _;

/// Most bytes of a head.
const HEAD_BYTES_MAX: usize = 8192;

/// A request, as it is compared.
type Shown = (Method, Uri, Version, HeaderMap, Bytes);

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let Some(simple) = simple_request(&Bytes::copy_from_slice(data), HEAD_BYTES_MAX) else {
        return;
    };
    let simple = simple.into_http().expect("its target is one of hyper's");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (simple, by_hyper) =
        runtime.block_on(async { (shown(simple).await, requests_by_hyper(data).await) });
    assert_eq!([simple], by_hyper[..]);
}

async fn shown<B: Body<Data = Bytes, Error: std::fmt::Debug>>(request: Request<B>) -> Shown {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    (parts.method, parts.uri, parts.version, parts.headers, body)
}

/// The requests that hyper finds in `data`.
async fn requests_by_hyper(data: &[u8]) -> Vec<Shown> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&found);
    let service = service_fn(move |request| {
        let all = Arc::clone(&all);
        async move {
            let request = shown(request).await;
            all.lock().expect("one thread").push(request);
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        }
    });
    // Room for all answers: they are not read.
    let (mut caller, socket) = tokio::io::duplex(data.len() + 64 * 1024);
    caller.write_all(data).await.expect("room for the request");
    caller.shutdown().await.expect("an end");
    // A connection that ends with an error has had its requests too.
    let _ = http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    let mut found = found.lock().expect("one thread");
    std::mem::take(&mut *found)
}
