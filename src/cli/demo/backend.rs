//! The demo's backend: a game that takes events, checks their signature and counts them once.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use md5::{Digest as _, Md5};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The bytes behind the `whsec_` of `fixtures/demo/postern.toml`.
const SECRET: &[u8] = b"demo-secret-of-the-game-backend";

/// Bytes of an event that are read.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// A backend that runs until the process ends.
pub(super) struct Backend {
    at: SocketAddr,
    seen: watch::Receiver<BTreeSet<String>>,
    rule: Arc<OnceLock<String>>,
}

impl Backend {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?;
        let (sender, seen) = watch::channel(BTreeSet::new());
        let (sender, rule) = (Arc::new(sender), Arc::new(OnceLock::new()));
        let key = Arc::clone(&rule);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, key) = (Arc::clone(&sender), Arc::clone(&key));
                let service =
                    service_fn(move |request| take(request, Arc::clone(&sender), Arc::clone(&key)));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Ok(Self { at, seen, rule })
    }

    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    /// From now on it takes rewards of the rule with that key.
    pub(super) fn expect(&self, key: &str) {
        // There is one rule.
        let _ = self.rule.set(key.to_owned());
    }

    /// Waits until `wanted` events came, or the time is over; how many did.
    pub(super) async fn wait_for(&self, wanted: usize, time: Duration) -> usize {
        let mut seen = self.seen.clone();
        let enough = seen.wait_for(|seen| seen.len() >= wanted);
        let _ = tokio::time::timeout(time, enough).await;
        self.seen.borrow().len()
    }
}

async fn take(
    request: Request<Incoming>,
    seen: Arc<watch::Sender<BTreeSet<String>>>,
    rule: Arc<OnceLock<String>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/rule" {
        return Ok(answer(take_reward(head.uri.query().unwrap_or_default(), &seen, rule.get())));
    }
    let field = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let (id, stamp) = (field("webhook-id"), field("webhook-timestamp"));
    let claims = field("webhook-signature").unwrap_or_default();
    let body = Limited::new(body, EVENT_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let status = match (id, stamp) {
        (Some(id), Some(stamp)) if is_genuine(id, stamp, claims, &body) => {
            seen.send_modify(|seen| {
                seen.insert(id.to_owned());
            });
            StatusCode::OK
        }
        _ => StatusCode::UNAUTHORIZED,
    };
    Ok(answer(status))
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// A call to the address of the demo's rule: probed when the rule is made, and then with a
/// reward under Taku's own signature.
fn take_reward(
    query: &str,
    seen: &watch::Sender<BTreeSet<String>>,
    key: Option<&String>,
) -> StatusCode {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value).unwrap_or_default()
    };
    if value("is_test") == "1" {
        return StatusCode::OK;
    }
    let Some(key) = key else { return StatusCode::FORBIDDEN };
    let signed = ["trans_id", "placement_id", "adsource_id", "reward_amount", "reward_name"]
        .map(|name| format!("{name}={}", value(name)))
        .join("&");
    let sign = const_hex::encode(Md5::digest(format!("{signed}&sec_key={key}")));
    if sign != value("sign") {
        return StatusCode::FORBIDDEN;
    }
    seen.send_modify(|seen| {
        seen.insert(value("trans_id").to_owned());
    });
    StatusCode::OK
}

/// Whether one of the signatures is that of Standard Webhooks under our secret.
fn is_genuine(id: &str, stamp: &str, claims: &str, body: &[u8]) -> bool {
    claims.split(' ').filter_map(|claim| claim.strip_prefix("v1,")).any(|claim| {
        let Ok(claim) = STANDARD.decode(claim) else { return false };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(SECRET) else { return false };
        mac.update(format!("{id}.{stamp}.").as_bytes());
        mac.update(body);
        mac.verify_slice(&claim).is_ok()
    })
}
