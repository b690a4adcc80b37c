//! A backend that verifies deliveries: Standard Webhooks signatures, a bounded age, each event once.
//!
//! ```sh
//! cargo run --example backend            # listens on 127.0.0.1:7000; examples/postern.toml delivers to it
//! ```
//!
//! It uses nothing of Postern: a backend in any language needs these four steps, in this order.
//! 1. Recompute the signature over `id.timestamp.body` and compare it in constant time.
//! 2. Reject an old or a future `webhook-timestamp`: a captured delivery is worthless after that.
//! 3. Deduplicate by `webhook-id`: Postern delivers at least once, always under the same id.
//! 4. Respond with 2xx only after the event is stored. Any other response is retried; 410 pauses the destination.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "an example prints, and has no clock module"
)]

use std::collections::HashSet;
use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::Sha256;
use tokio::net::TcpListener;

/// The `secret` of the destination in `examples/postern.toml`. Read it from the environment in a real backend.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// The greatest difference between `webhook-timestamp` and this clock, in seconds, in both directions.
const AGE_MAX_SECONDS: u64 = 300;
/// The longest body, in bytes. Postern's events are a few kilobytes beyond the callback's own parameters.
const BODY_MAX: usize = 1024 * 1024;

/// The ids of known events. A real backend has them in its database, written in one transaction with the reward.
type Known = Arc<Mutex<HashSet<String>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_"))?;
    let (key, known) = (Arc::<[u8]>::from(key), Known::default());
    let listener = TcpListener::bind("127.0.0.1:7000").await?;
    println!("listening on http://{}/", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let (key, known) = (key.clone(), known.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (key, known) = (key.clone(), known.clone());
                async move { Ok::<_, Infallible>(receive(request, &key, &known).await) }
            });
            let mut server = http1::Builder::new();
            let served =
                server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                eprintln!("connection closed: {error}");
            }
        });
    }
}

/// The response to one delivery.
async fn receive(request: Request<Incoming>, key: &[u8], known: &Known) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        return respond(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let body = body.to_bytes();
    match verify(&head.headers, &body, key) {
        Ok(id) => {
            let is_new = known.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
            let shown = String::from_utf8_lossy(&body);
            println!("{} {id}: {shown}", if is_new { "new event" } else { "duplicate" });
            respond(StatusCode::NO_CONTENT)
        }
        Err(error) => {
            println!("rejected: {error}");
            respond(StatusCode::UNAUTHORIZED)
        }
    }
}

/// Returns the event's id if one of the signatures matches and the timestamp is fresh.
fn verify<'h>(headers: &'h HeaderMap, body: &[u8], key: &[u8]) -> Result<&'h str, &'static str> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let id = header("webhook-id").ok_or("webhook-id is missing")?;
    let timestamp = header("webhook-timestamp").ok_or("webhook-timestamp is missing")?;
    let signatures = header("webhook-signature").ok_or("webhook-signature is missing")?;

    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| "the key is invalid")?;
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    // Several during a rotation of the secret. `verify_slice` compares in constant time.
    let mut supplied = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
    let matches = |text: &str| {
        STANDARD.decode(text).is_ok_and(|bytes| mac.clone().verify_slice(&bytes).is_ok())
    };
    if !supplied.any(matches) {
        return Err("no signature matches");
    }

    let sent: u64 = timestamp.parse().map_err(|_| "webhook-timestamp is not a number")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_err(|_| "the clock is before 1970")?.as_secs();
    if now.abs_diff(sent) > AGE_MAX_SECONDS {
        return Err("webhook-timestamp is too old, or in the future");
    }
    Ok(id)
}

fn respond(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
