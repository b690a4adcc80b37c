//! Calls over HTTP: the admin listener of a gateway that runs, and the demo's own callbacks.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client as Pool, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::{ConfigFile, Exit, Screen};
use crate::config::{AdminRight, AdminToken, Config};
use crate::egress::{self, Guard, Trust, Trusted, error_text};
use crate::operator::{local_token, reachable};
use crate::private;
use crate::sender::Secret;

/// Bytes of a response that are read: a page of a thousand events with their parameters fits.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long to wait for a response. A held request (Taku, 2 s) is longer than any page.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallTime {
    /// [`PATIENCE`].
    Usual,
    /// As long as the connection is there: the gateway reads its whole store.
    Unlimited,
}

/// A client for gateways and backends.
#[derive(Clone, Debug)]
pub(super) enum Client {
    /// Plain HTTP on this machine or in this network.
    Plain(Pool<HttpConnector, Full<Bytes>>),
    /// HTTP and HTTPS, wherever an operator's URL leads.
    Secure(egress::Client),
}

impl Client {
    async fn response(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> io::Result<http::Response<Incoming>> {
        match self {
            Self::Plain(pool) => pool.request(request).await.map_err(io::Error::other),
            Self::Secure(client) => {
                let sent = client.send(request).await;
                sent.map_err(|error| io::Error::other(error_text(&error)))
            }
        }
    }
}

/// A response of the gateway.
#[derive(Debug)]
pub(super) struct AdminResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    /// A client for plain HTTP.
    pub(super) fn new() -> Self {
        Self::Plain(Pool::builder(TokioExecutor::new()).build_http())
    }

    /// A client that also speaks HTTPS, and trusts the authorities in the PEM file `ca` in place of
    /// the public ones.
    ///
    /// # Errors
    /// A sentence: the file cannot be used.
    pub(super) fn secure(ca: Option<&Path>) -> Result<Self, String> {
        Self::trusting(Trusted { ca, ..Trusted::default() })
    }

    fn trusting(trusted: Trusted<'_>) -> Result<Self, String> {
        let guard = Guard::new(Trust::File, Vec::new());
        let client = egress::Client::new(trusted, 1, guard).map_err(|error| error.to_string())?;
        Ok(Self::Secure(client))
    }

    /// A client for the admin listener of `config`, and the scheme that it speaks. Its own
    /// certificate is known from the file, so it is called under its address.
    fn of_admin(config: &Config) -> (Self, &'static str) {
        let Some(tls) = &config.server.admin_tls else { return (Self::new(), "http") };
        let trusted = Trusted { pinned: Some(&tls.cert), ..Trusted::default() };
        match Self::trusting(trusted) {
            Ok(client) => (client, "https"),
            // The call fails, and says so.
            Err(_) => (Self::new(), "https"),
        }
    }

    /// Sends one request and reads its response whole.
    pub(super) async fn send(
        &self,
        method: &Method,
        url: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> io::Result<AdminResponse> {
        let answered = self.send_and_wait(method, url, headers, body);
        tokio::time::timeout(PATIENCE, answered)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
    }

    /// [`Self::send`] without a limit.
    async fn send_and_wait(
        &self,
        method: &Method,
        url: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> io::Result<AdminResponse> {
        let mut request = http::Request::builder()
            .method(method.clone())
            .uri(url)
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        request.headers_mut().extend(headers.clone());
        let (head, body) = self.response(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(io::Error::other)?.to_bytes();
        Ok(AdminResponse { status: head.status, headers: head.headers, body })
    }
}

/// The admin API of the gateway that a configuration describes.
#[derive(Debug)]
pub(super) struct AdminApi {
    client: Client,
    base: String,
    /// The header with the token.
    headers: Mutex<HeaderMap>,
    /// The file with the token of this machine, where that one is used: a start of the gateway may
    /// write a new one, and a command may run for longer.
    token_file: Option<PathBuf>,
}

/// Why a call failed: a sentence for people.
#[derive(Debug)]
pub(super) enum CallError {
    /// The gateway does not accept the token, which asking again does not mend.
    Token(String),
    /// Anything else.
    Other(String),
}

impl From<CallError> for String {
    fn from(fault: CallError) -> Self {
        match fault {
            CallError::Token(sentence) | CallError::Other(sentence) => sentence,
        }
    }
}

/// The token that the gateway created for this machine.
fn local_token(file: &Path) -> Result<AdminToken, String> {
    local_token::read(file).map_err(|error| {
        let owner = file.parent().map(private::check_owner).and_then(Result::err);
        owner.unwrap_or_else(|| format!("{}: {error}", file.display()))
    })
}

impl ConfigFile {
    /// The gateway of the configuration, or how the command ends. Its secrets are not needed.
    pub(super) fn api(&self, screen: &mut Screen<'_>) -> io::Result<Result<AdminApi, Exit>> {
        Ok(self.load_partly(screen)?.map(|loaded| AdminApi::of(&loaded.config)))
    }
}

impl AdminApi {
    /// The gateway whose admin listener is at `base`, such as `https://postern.example.com`, called
    /// with `token`.
    ///
    /// # Errors
    /// A sentence: the file `ca` cannot be used.
    pub(super) fn at(base: &str, token: &Secret, ca: Option<&Path>) -> Result<Self, String> {
        let (base, client) = (base.trim_end_matches('/').to_owned(), Client::secure(ca)?);
        Ok(Self { client, base, headers: Mutex::new(bearer(token)), token_file: None })
    }

    /// The gateway of `config`, called with its admin token or the token of this machine.
    pub(super) fn of(config: &Config) -> Self {
        let configured = &config.admin.tokens;
        let may_change =
            |token: &&AdminToken| token.right == AdminRight::Admin && !token.scope.is_bound();
        let (token, token_file) = match configured.iter().find(may_change) {
            Some(token) => (Some(token.clone()), None),
            None => {
                let file = &config.admin.token_file;
                let token = local_token(file).ok().or_else(|| configured.first().cloned());
                (token, Some(file.clone()))
            }
        };
        let (client, scheme) = Client::of_admin(config);
        Self {
            client,
            base: format!("{scheme}://{}", reachable(config.server.admin)),
            headers: Mutex::new(token.map(|token| bearer(&token.value)).unwrap_or_default()),
            token_file,
        }
    }

    /// Where the admin listener is.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Whether a gateway is there.
    pub(super) async fn answers(&self) -> bool {
        let url = format!("{}/livez", self.base);
        self.client.send(&Method::GET, &url, &HeaderMap::new(), Bytes::new()).await.is_ok()
    }

    /// The JSON at `path`.
    ///
    /// # Errors
    /// A sentence for people: no gateway listens, or the gateway's objection.
    pub(super) async fn get(&self, path: &str) -> Result<Value, String> {
        Ok(self.ask(path).await?)
    }

    /// The JSON at `path`, for a command that asks again and again.
    ///
    /// # Errors
    /// As [`Self::get`], with whether asking again may help.
    pub(super) async fn ask(&self, path: &str) -> Result<Value, CallError> {
        self.call(&Method::GET, path, Bytes::new(), CallTime::Usual).await
    }

    /// The response to `question`, put to `path`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn post(&self, path: &str, question: &Value) -> Result<Value, String> {
        Ok(self.call(&Method::POST, path, question.to_string().into(), CallTime::Usual).await?)
    }

    /// [`Self::post`] for work that takes as long as the store is large.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn post_long(&self, path: &str, question: &Value) -> Result<Value, String> {
        Ok(self.call(&Method::POST, path, question.to_string().into(), CallTime::Unlimited).await?)
    }

    /// Whatever is at `path`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn fetch(&self, path: &str) -> Result<AdminResponse, String> {
        Ok(self.send(&Method::GET, path, Bytes::new(), CallTime::Usual).await?)
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn delete(&self, path: &str) -> Result<Value, String> {
        Ok(self.call(&Method::DELETE, path, Bytes::new(), CallTime::Usual).await?)
    }

    async fn call(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
        time: CallTime,
    ) -> Result<Value, CallError> {
        let came = self.send(method, path, body, time).await?;
        serde_json::from_slice(&came.body).map_err(|_| {
            let base = &self.base;
            CallError::Other(format!("the gateway at {base} returned a non-JSON response"))
        })
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
        time: CallTime,
    ) -> Result<AdminResponse, CallError> {
        let used = self.headers();
        let mut came = self.try_send(method, path, &used, body.clone(), time).await?;
        if came.status == StatusCode::UNAUTHORIZED
            && let Some(fresh) = self.reread()?
            // The same token again would only count as one more wrong one.
            && fresh != used
        {
            came = self.try_send(method, path, &fresh, body, time).await?;
        }
        if came.status.is_success() {
            return Ok(came);
        }
        let json = serde_json::from_slice::<Value>(&came.body).ok();
        let detail = json.and_then(|json| Some(json["detail"].as_str()?.to_owned()));
        let detail = detail.unwrap_or_else(|| came.status.to_string());
        let sentence = format!("the gateway at {} says: {detail}", self.base);
        Err(match (came.status, &self.token_file) {
            (StatusCode::UNAUTHORIZED, None) => CallError::Token(sentence),
            (StatusCode::UNAUTHORIZED, Some(file)) => CallError::Token(format!(
                "{sentence}; the token is the one in {}: use the configuration of the gateway that \
                 runs there, or give the variable of admin.token with --env-file FILE",
                file.display()
            )),
            _ => CallError::Other(sentence),
        })
    }

    async fn try_send(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
        time: CallTime,
    ) -> Result<AdminResponse, CallError> {
        let (base, url) = (&self.base, format!("{}{path}", self.base));
        let sent = match time {
            CallTime::Usual => self.client.send(method, &url, headers, body).await,
            CallTime::Unlimited => self.client.send_and_wait(method, &url, headers, body).await,
        };
        sent.map_err(|error| {
            CallError::Other(match error.kind() {
                io::ErrorKind::TimedOut => format!(
                    "the gateway at {base} has not answered within {} s; it may still be working \
                     on this: look at its log before you repeat it",
                    PATIENCE.as_secs()
                ),
                _ => {
                    format!("no gateway answers at {base} ({error}); start it with `postern serve`")
                }
            })
        })
    }

    fn headers(&self) -> HeaderMap {
        // No holder of the lock can panic in between.
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the token of this machine again, for this call and the next ones. `None`: another one
    /// is used.
    fn reread(&self) -> Result<Option<HeaderMap>, CallError> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let token = local_token(file).map_err(|lacking| {
            CallError::Token(format!(
                "the gateway at {} requires a token: {lacking}; run this as the gateway's account, \
                 or give the variable of admin.token with --env-file FILE",
                self.base
            ))
        })?;
        let fresh = bearer(&token.value);
        *self.headers.lock().unwrap_or_else(PoisonError::into_inner) = fresh.clone();
        Ok(Some(fresh))
    }
}

/// The header with a token.
fn bearer(token: &Secret) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let text = [b"Bearer ", token.expose()].concat();
    if let Ok(mut value) = http::HeaderValue::from_bytes(&text) {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    headers
}

/// A runtime for a command that makes a few calls.
pub(super) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
