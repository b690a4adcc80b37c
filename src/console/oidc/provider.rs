//! The provider: its metadata, its keys, and the exchange of a code for an ID token.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Deserialize;

use crate::config::Oidc;
use crate::egress::{Client, Guard, Trust, Trusted, error_text};
use crate::sender::{KeySet, TokenError};

/// The time for one response.
const FETCH_TIME: Duration = Duration::from_secs(10);

/// Bytes of a response.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;

/// How long metadata and keys are kept.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// The least time between two fetches for the sake of an unknown key: any account can name one.
const REFETCH_AFTER: Duration = Duration::from_secs(60);

/// The metadata and keys of the provider, as far as they are known.
#[derive(Default)]
pub(super) struct Provider(Mutex<Option<Known>>);

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
#[derive(Debug, thiserror::Error)]
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
        let kept = self.kept().clone();
        let is_fresh = |known: &Known| {
            known.metadata.issuer == oidc.issuer && now.saturating_duration_since(known.at) < age
        };
        if let Some(known) = kept.filter(is_fresh) {
            return Ok(known);
        }
        let path = "/.well-known/openid-configuration";
        let url = format!("{}{path}", oidc.issuer.trim_end_matches('/'));
        let metadata: Metadata = read(&url, &get(oidc, &url).await?)?;
        if metadata.issuer != oidc.issuer {
            return Err(ProviderError::Issuer(metadata.issuer));
        }
        let keys = get(oidc, &metadata.jwks_uri).await?;
        let keys = KeySet::of_jwks(&keys)
            .map_err(|why| unreached(&metadata.jwks_uri, &why.to_string()))?;
        let known = Known { metadata: Arc::new(metadata), keys: Arc::new(keys), at: now };
        *self.kept() = Some(known.clone());
        Ok(known)
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
        let (status, answer) = send(oidc, url, request).await?;
        if status != StatusCode::OK {
            let text: String = String::from_utf8_lossy(&answer).chars().take(300).collect();
            return Err(ProviderError::Code(format!("status {status}, {text}")));
        }
        Ok(read::<Tokens>(url, &answer)?.id_token)
    }

    fn kept(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    let late = || Err(fails("no complete response within 10 s"));
    tokio::time::timeout(FETCH_TIME, exchanged).await.unwrap_or_else(|_| late())
}

fn unreached(url: &str, why: &str) -> ProviderError {
    ProviderError::Unreached { url: url.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_authenticated_with_encoded_parts() {
        let value = basic("a b", "s:ü");
        let text = STANDARD.decode(value.to_str().unwrap().trim_start_matches("Basic ")).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "a+b:s%3A%C3%BC");
    }
}
