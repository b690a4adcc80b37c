//! Deliveries that come to this machine.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Listen;
use super::show::{Filter, Forward, Forwarded, Received, ended};
use crate::cli::webhook::{self, WebhookError, WebhookKey};
use crate::cli::{Exit, Screen};
use crate::clock::now_ms;

/// Bytes of a delivery that are read: the parameters of a callback and what the event adds.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Deliveries that wait to be printed.
const WAITING_MAX: usize = 64;

/// A backend.
#[derive(Debug)]
pub(super) struct Direct {
    pub(super) keys: Vec<WebhookKey>,
    pub(super) forward: Option<Forward>,
    pub(super) filter: Filter,
}

/// The result of one delivery: an event to show, or why there is none.
type Handled = Result<Received, String>;

impl Direct {
    /// Answers deliveries until Ctrl-C, or until enough events came.
    pub(super) async fn serve(self, asked: &Listen, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let listener = match TcpListener::bind(asked.at).await {
            Ok(listener) => listener,
            Err(error) => {
                let sentence = format!(
                    "could not listen on {}: {error}; stop what listens there, or name another \
                     address with --at",
                    asked.at
                );
                return screen.fail(&sentence);
            }
        };
        let at = listener.local_addr()?;
        writeln!(screen.err, "listening on http://{at}/")?;
        if self.keys.is_empty() {
            writeln!(screen.err, "nothing is verified: name --secret or --destination")?;
        }
        let (said, mut heard) = mpsc::channel::<Handled>(WAITING_MAX);
        let accepting = tokio::spawn(accept(listener, Arc::new(self), said));
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut seen = 0;
        while asked.count.is_none_or(|count| seen < count) {
            let one = tokio::select! {
                one = heard.recv() => one,
                _ = interrupt.recv() => None,
            };
            match one {
                Some(Ok(received)) => {
                    seen += 1;
                    received.print(asked, screen)?;
                }
                Some(Err(why)) => writeln!(screen.err, "rejected: {why}")?,
                None => break,
            }
        }
        accepting.abort();
        ended(seen, screen)
    }

    /// The response to a request, and what to print of it.
    async fn answer(&self, request: Request<Incoming>) -> (StatusCode, Option<Handled>) {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            let why = format!("{} {}: deliveries are POST", head.method, head.uri.path());
            return (StatusCode::METHOD_NOT_ALLOWED, Some(Err(why)));
        }
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            let why = String::from("the body is larger than 4 MiB, or broke off");
            return (StatusCode::PAYLOAD_TOO_LARGE, Some(Err(why)));
        };
        let body = body.to_bytes();
        let proof = match self.verify(&head.headers, &body) {
            Ok(proof) => proof,
            Err(error) => return (StatusCode::UNAUTHORIZED, Some(Err(error.to_string()))),
        };
        let Ok(event) = serde_json::from_slice::<Value>(&body) else {
            let why = String::from("the body is not JSON: listen takes format = \"event\"");
            return (StatusCode::BAD_REQUEST, Some(Err(why)));
        };
        if !self.filter.fits(&event) {
            return (StatusCode::NO_CONTENT, None);
        }
        let forwarded = self.pass_on(head, body).await;
        let status = match &forwarded {
            None => StatusCode::NO_CONTENT,
            Some(Forwarded::Response { status, .. }) => *status,
            Some(Forwarded::Failed(_)) => StatusCode::BAD_GATEWAY,
        };
        (status, Some(Ok(Received { event, proof, forwarded })))
    }

    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<String, WebhookError> {
        if self.keys.is_empty() {
            return Ok(String::from("not verified"));
        }
        webhook::verify(&self.keys, headers, body, now_ms().div_euclid(1000))?;
        Ok(String::from("verified"))
    }

    async fn pass_on(&self, head: Parts, body: Bytes) -> Option<Forwarded> {
        let forward = self.forward.as_ref()?;
        let kept = head.headers.iter().filter(|(name, _)| {
            let name = name.as_str();
            name.starts_with("webhook-") || matches!(name, "content-type" | "user-agent")
        });
        let headers = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(forward.send(headers, body).await)
    }
}

async fn accept(listener: TcpListener, direct: Arc<Direct>, said: mpsc::Sender<Handled>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (direct, said) = (Arc::clone(&direct), said.clone());
        let service = service_fn(move |request| {
            let (direct, said) = (Arc::clone(&direct), said.clone());
            async move {
                let (status, one) = direct.answer(request).await;
                if let Some(one) = one {
                    // The command is ending if the receiver is gone.
                    let _ = said.send(one).await;
                }
                let mut response = Response::new(Full::new(Bytes::new()));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        let mut server = http1::Builder::new();
        let connection =
            server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}
