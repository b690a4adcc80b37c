//! The provider: its metadata, its keys, and the exchange of a code for an ID token.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Deserialize;
use tokio::sync::watch;

use crate::clock::instant;
use crate::config::Oidc;
use crate::egress::{Client, Guard, Trust, Trusted, error_text};
use crate::sender::{KeySet, TokenError};

/// The time for one response: an operator waits for it, and any caller can make the gateway wait.
const RESPONSE_TIME: Duration = Duration::from_secs(4);

/// How long a provider that does not respond is not asked again: sign-ins fail at once meanwhile.
const FAILURE_KEPT: Duration = Duration::from_secs(5);

/// Bytes of a response.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;

/// How long metadata and keys are kept.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// The least time between two fetches for the sake of an unknown key: any account can name one.
const REFETCH_AFTER: Duration = Duration::from_secs(60);

/// The metadata and keys of the provider, as far as they are known. One fetch at a time, whose
/// result all sign-ins share.
#[derive(Default)]
pub(super) struct Provider(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    known: Option<Known>,
    failed: Option<Failed>,
    fetch: Option<Fetch>,
}

/// A provider that did not respond.
struct Failed {
    issuer: String,
    error: ProviderError,
    at: Instant,
}

/// A fetch that runs.
struct Fetch {
    issuer: String,
    result: FetchResult,
}

/// The result of a fetch; `None` until it ends.
type FetchResult = watch::Receiver<Option<Result<Known, ProviderError>>>;

#[derive(Clone)]
struct Known {
    metadata: Arc<Metadata>,
    keys: Arc<KeySet>,
    at: Instant,
}

/// The metadata of a provider (OpenID Connect Discovery), as far as it is used.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    pub authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default = "usual_methods")]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// A code, to be exchanged.
#[derive(Clone, Copy)]
pub(super) struct Exchange<'e> {
    pub code: &'e str,
    pub redirect: &'e str,
    pub verifier: &'e str,
}

/// Why the provider cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub(in crate::console) enum ProviderError {
    /// No usable response from a URL.
    #[error("{url}: {why}")]
    Unreached {
        /// The URL.
        url: String,
        /// The reason.
        why: String,
    },
    /// The metadata is of another issuer.
    #[error("the metadata says issuer {0}; write that in admin.oidc")]
    Issuer(String),
    /// The code was refused.
    #[error("the token endpoint refused the code: {0}")]
    Code(String),
    /// The ID token is not believed.
    #[error("the ID token is rejected: {0}")]
    Token(#[from] TokenError),
}

/// Of a provider that names none.
fn usual_methods() -> Vec<String> {
    vec![String::from("client_secret_basic")]
}

impl Provider {
    pub(super) async fn metadata(
        &self,
        oidc: &Oidc,
        now: Instant,
    ) -> Result<Arc<Metadata>, ProviderError> {
        self.known(oidc, now, KEPT).await.map(|known| known.metadata)
    }

    /// The payload of an ID token whose signature verifies.
    pub(super) async fn open(
        &self,
        oidc: &Oidc,
        token: &str,
        now: Instant,
    ) -> Result<Vec<u8>, ProviderError> {
        let known = self.known(oidc, now, KEPT).await?;
        match known.keys.open_token(token.as_bytes()) {
            Err(TokenError::UnknownKey) => {
                let known = self.known(oidc, now, REFETCH_AFTER).await?;
                Ok(known.keys.open_token(token.as_bytes())?)
            }
            opened => Ok(opened?),
        }
    }

    /// Metadata and keys that are not older than `age`; fetched if necessary.
    async fn known(
        &self,
        oidc: &Oidc,
        now: Instant,
        age: Duration,
    ) -> Result<Known, ProviderError> {
        let mut fetched = {
            let mut state = locked(&self.0);
            if let Some(known) = state.fresh(oidc, now, age) {
                return Ok(known);
            }
            if let Some(error) = state.failure(oidc, now) {
                return Err(error);
            }
            match state.fetch.as_ref().filter(|fetch| fetch.issuer == oidc.issuer) {
                Some(fetch) => fetch.result.clone(),
                None => self.fetch(&mut state, oidc),
            }
        };
        let ended = fetched.wait_for(Option::is_some).await.map(|ended| ended.clone());
        ended
            .ok()
            .flatten()
            .unwrap_or_else(|| Err(unreached(&oidc.issuer, "the fetch was aborted")))
    }

    /// Begins a fetch, which goes on without the request that needs it first.
    fn fetch(&self, state: &mut State, oidc: &Oidc) -> FetchResult {
        let (sender, result) = watch::channel(None);
        let issuer = oidc.issuer.clone();
        state.fetch = Some(Fetch { issuer, result: result.clone() });
        let (shared, oidc) = (Arc::clone(&self.0), oidc.clone());
        tokio::spawn(async move {
            let fetched = fetched(&oidc).await;
            locked(&shared).note(&oidc, &fetched);
            sender.send_replace(Some(fetched));
        });
        result
    }

    /// Exchanges a code for the ID token.
    pub(super) async fn exchange(
        &self,
        oidc: &Oidc,
        exchange: Exchange<'_>,
        now: Instant,
    ) -> Result<String, ProviderError> {
        #[derive(Deserialize)]
        struct Tokens {
            id_token: String,
        }
        let metadata = self.metadata(oidc, now).await?;
        if let Some(error) = locked(&self.0).failure(oidc, now) {
            return Err(error);
        }
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", exchange.code),
            ("redirect_uri", exchange.redirect),
            ("code_verifier", exchange.verifier),
        ];
        let secret = oidc.client_secret.as_ref();
        let secret = secret.map(|secret| String::from_utf8_lossy(secret.expose()).into_owned());
        let methods = &metadata.token_endpoint_auth_methods_supported;
        let takes_basic = methods.iter().any(|method| method == "client_secret_basic");
        let mut request = Request::new(Full::<Bytes>::default());
        match &secret {
            Some(secret) if takes_basic => {
                let mut value = basic(&oidc.client_id, secret);
                value.set_sensitive(true);
                request.headers_mut().insert(header::AUTHORIZATION, value);
            }
            Some(secret) => {
                fields.extend([("client_id", &*oidc.client_id), ("client_secret", secret)]);
            }
            None => fields.push(("client_id", &oidc.client_id)),
        }
        let url = &metadata.token_endpoint;
        let body = serde_urlencoded::to_string(&fields).unwrap_or_default();
        *request.body_mut() = Full::new(Bytes::from(body));
        *request.method_mut() = Method::POST;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form);
        let sent = send(oidc, url, request).await;
        let (status, answer) = sent.inspect_err(|error| locked(&self.0).fail(oidc, error))?;
        if status != StatusCode::OK {
            let text: String = String::from_utf8_lossy(&answer).chars().take(300).collect();
            return Err(ProviderError::Code(format!("status {status}, {text}")));
        }
        Ok(read::<Tokens>(url, &answer)?.id_token)
    }
}

impl State {
    /// Metadata and keys, if they are not older than `age`.
    fn fresh(&self, oidc: &Oidc, now: Instant, age: Duration) -> Option<Known> {
        let known = self.known.as_ref().filter(|known| known.metadata.issuer == oidc.issuer)?;
        (now.saturating_duration_since(known.at) < age).then(|| known.clone())
    }

    /// Why the provider did not respond a moment ago.
    fn failure(&self, oidc: &Oidc, now: Instant) -> Option<ProviderError> {
        let failed = self.failed.as_ref().filter(|failed| failed.issuer == oidc.issuer)?;
        (now.saturating_duration_since(failed.at) < FAILURE_KEPT).then(|| failed.error.clone())
    }

    fn fail(&mut self, oidc: &Oidc, error: &ProviderError) {
        let (issuer, error) = (oidc.issuer.clone(), error.clone());
        self.failed = Some(Failed { issuer, error, at: instant() });
    }

    /// Keeps the result of a fetch.
    fn note(&mut self, oidc: &Oidc, fetched: &Result<Known, ProviderError>) {
        self.fetch.take_if(|fetch| fetch.issuer == oidc.issuer);
        match fetched {
            Ok(known) => (self.known, self.failed) = (Some(known.clone()), None),
            Err(error) => self.fail(oidc, error),
        }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fetches metadata and keys.
async fn fetched(oidc: &Oidc) -> Result<Known, ProviderError> {
    let path = "/.well-known/openid-configuration";
    let url = format!("{}{path}", oidc.issuer.trim_end_matches('/'));
    let metadata: Metadata = read(&url, &get(oidc, &url).await?)?;
    if metadata.issuer != oidc.issuer {
        return Err(ProviderError::Issuer(metadata.issuer));
    }
    let keys = get(oidc, &metadata.jwks_uri).await?;
    let keys =
        KeySet::of_jwks(&keys).map_err(|why| unreached(&metadata.jwks_uri, &why.to_string()))?;
    Ok(Known { metadata: Arc::new(metadata), keys: Arc::new(keys), at: instant() })
}

/// Client authentication with a secret (RFC 6749, 2.3.1): both parts are form-encoded first.
fn basic(id: &str, secret: &str) -> HeaderValue {
    let encoded = |text: &str| serde_urlencoded::to_string([("", text)]).unwrap_or_default();
    let [id, secret] = [id, secret].map(encoded);
    let pair = format!("{}:{}", id.trim_start_matches('='), secret.trim_start_matches('='));
    let value = format!("Basic {}", STANDARD.encode(pair));
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}

fn read<T: for<'d> Deserialize<'d>>(url: &str, answer: &[u8]) -> Result<T, ProviderError> {
    serde_json::from_slice(answer).map_err(|error| unreached(url, &error.to_string()))
}

async fn get(oidc: &Oidc, url: &str) -> Result<Bytes, ProviderError> {
    match send(oidc, url, Request::new(Full::default())).await? {
        (StatusCode::OK, answer) => Ok(answer),
        (status, _) => Err(unreached(url, &format!("the response has status {status}"))),
    }
}

/// Sends a request. The configuration file names the provider, which may be anywhere, and the
/// provider its endpoints. Redirects are not followed.
async fn send(
    oidc: &Oidc,
    url: &str,
    mut request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), ProviderError> {
    let fails = |why: &str| unreached(url, why);
    // Plain http is for a provider on this machine; metadata cannot lead from TLS to it.
    if oidc.issuer.starts_with("https://") && !url.starts_with("https://") {
        return Err(fails("is not https, and the issuer is"));
    }
    *request.uri_mut() = url.parse().map_err(|_| fails("is not a URL"))?;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::ACCEPT, json);
    let trusted = Trusted { ca: oidc.ca.as_deref(), ..Trusted::default() };
    let client = Client::new(trusted, 0, Guard::new(Trust::File, Vec::new()));
    let client = client.map_err(|error| fails(&error.to_string()))?;
    let exchanged = async {
        let answer = client.send(request).await.map_err(|error| fails(&error_text(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), RESPONSE_BYTES_MAX).collect().await;
        let body = body.map_err(|_| fails("the response is over 256 KiB or truncated"))?;
        Ok((status, body.to_bytes()))
    };
    let late = || Err(fails("no complete response within 4 s"));
    tokio::time::timeout(RESPONSE_TIME, exchanged).await.unwrap_or_else(|_| late())
}

fn unreached(url: &str, why: &str) -> ProviderError {
    ProviderError::Unreached { url: url.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn oidc(issuer: String) -> Oidc {
        Oidc {
            issuer,
            client_id: String::from("postern"),
            client_secret: None,
            scopes: String::from("openid"),
            roles_claim: String::from("groups"),
            name_claim: String::from("email"),
            ca: None,
            roles: Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_does_not_respond_is_asked_once_for_all_sign_ins() {
        // Connections are accepted by the system, and nothing is ever sent.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        silent.set_nonblocking(true).unwrap();
        let oidc = oidc(format!("http://{}", silent.local_addr().unwrap()));
        let (provider, now) = (Provider::default(), instant());
        let one = || provider.metadata(&oidc, now);
        let (first, second, third) = tokio::join!(one(), one(), one());
        for result in [first, second, third, one().await] {
            assert!(matches!(result, Err(ProviderError::Unreached { .. })), "{result:?}");
        }
        assert!(silent.accept().is_ok());
        assert!(silent.accept().is_err(), "one connection");
        // Who comes later makes another attempt.
        let later = instant() + FAILURE_KEPT;
        assert!(provider.metadata(&oidc, later).await.is_err());
        assert!(silent.accept().is_ok());
        // Another provider is none of that.
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        other.set_nonblocking(true).unwrap();
        let issuer = format!("http://{}", other.local_addr().unwrap());
        assert!(provider.metadata(&Oidc { issuer, ..oidc }, instant()).await.is_err());
        assert!(other.accept().is_ok());
    }

    #[test]
    fn a_client_is_authenticated_with_encoded_parts() {
        let value = basic("a b", "s:ü");
        let text = STANDARD.decode(value.to_str().unwrap().trim_start_matches("Basic ")).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "a+b:s%3A%C3%BC");
    }
}
