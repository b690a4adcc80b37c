//! One fetch of a key set: bounded in time and size. Redirects are not followed.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use ipnet::IpNet;

use super::lifetime::lifetime;
use crate::clock;
use crate::config::{Origin, Source};
use crate::egress::{Client, ClientError, Guard, Trust, Trusted, authorities, error_text};
use crate::sender::{
    CertificateError, FetchedCertificate, KeyList, KeyRequest, KeySet, KeySetError, UrlOrigin,
};

/// The time for one response, from the DNS lookup to the last byte.
const FETCH_TIME: Duration = Duration::from_secs(10);

/// Bytes of a response: Google's list has 1 kB, and 64 RSA keys of 4096 bits in PEM and base64 fit.
const ANSWER_MAX: usize = 256 * 1024;

/// The time for one certificate: a callback waits for it.
const CERTIFICATE_TIME: Duration = Duration::from_secs(2);

/// Bytes of a certificate with those that lead to its root, in PEM.
const CERTIFICATE_MAX: usize = 16 * 1024;

/// Requests that one fetch may try: a source has up to four secrets, and two sources may
/// authenticate in different ways.
const TRIES_MAX: usize = 8;

/// A fetched key set, and how long it may be kept.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    pub(super) lifetime: Duration,
}

/// Why a key set could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No client could be built.
    #[error("TLS: {0}")]
    Client(#[from] ClientError),
    /// No response.
    #[error("{0}")]
    Unreached(String),
    /// The response took too long.
    #[error("no complete response in time: 10 s, or 2 s for a certificate")]
    Late,
    /// The status is not a success. Redirects are not followed.
    #[error("the response has status {0}")]
    Status(StatusCode),
    /// The body is over the limit or truncated.
    #[error("the response is over {0} KiB or truncated")]
    Torn(usize),
    /// The body is compressed, which was not asked for.
    #[error("the response is compressed ({0}), which was not asked for")]
    Compressed(String),
    /// The body is not a key set.
    #[error("{0}")]
    NoList(#[from] KeySetError),
    /// The body is not a certificate that counts.
    #[error("{0}")]
    NoCertificate(#[from] CertificateError),
    /// No request is possible: the source has no live secret to authenticate with.
    #[error("the source has no live secret to authenticate with; add one")]
    Mute,
}

/// Fetches the key set that `sources` share. The first response with a key set counts.
pub(super) async fn fetch(sources: &[&Source], allow: &[IpNet]) -> Result<Fetched, FetchError> {
    let mut fault = FetchError::Mute;
    let mut tried: Vec<KeyRequest> = Vec::new();
    for source in sources {
        let Some(list) = source.recipe.key_list() else { continue };
        for request in source.recipe.key_requests(clock::now_ms()) {
            if tried.len() >= TRIES_MAX || tried.contains(&request) {
                continue;
            }
            tried.push(request.clone());
            let client = Client::new(Trusted::default(), 0, guard(list, source.origin, allow))?;
            match send(&client, request, list).await {
                Ok(fetched) => return Ok(fetched),
                Err(why) => fault = why,
            }
        }
    }
    Err(fault)
}

/// Fetches the key set of one source, for a command that runs once. Its sender must have one.
///
/// # Errors
/// Why there is no key set.
pub async fn fetch_once(source: &Source, allow: &[IpNet]) -> Result<KeySet, FetchError> {
    fetch(&[source], allow).await.map(|fetched| fetched.keys)
}

/// Fetches the certificate that the callback names with the URL `id`, for a command that runs once.
///
/// # Errors
/// Why there is no certificate.
pub async fn fetch_certificate_once(
    source: &Source,
    id: &[u8],
    allow: &[IpNet],
) -> Result<KeySet, FetchError> {
    let certificate = fetch_certificate(&[source], id, allow).await?;
    Ok(KeySet::default().with_certificate(id, &certificate))
}

/// The guard of a fetch: a URL in the configuration file may point anywhere.
fn guard(list: &KeyList, written: Origin, allow: &[IpNet]) -> Guard {
    match (list.origin(), written) {
        (UrlOrigin::Source, Origin::File) => Guard::new(Trust::File, Vec::new()),
        (UrlOrigin::Source | UrlOrigin::Sender, _) => Guard::new(Trust::Api, allow.to_vec()),
    }
}

async fn send(client: &Client, request: KeyRequest, list: &KeyList) -> Result<Fetched, FetchError> {
    let answered = tokio::time::timeout(FETCH_TIME, answer(client, request, list));
    answered.await.unwrap_or(Err(FetchError::Late))
}

/// Fetches the certificate at the URL `id`, which a callback named, for the sources of one sender.
pub(super) async fn fetch_certificate(
    sources: &[&Source],
    id: &[u8],
    allow: &[IpNet],
) -> Result<FetchedCertificate, FetchError> {
    for source in sources {
        let recipe = &source.recipe;
        let Some((list, mut request)) = recipe.key_list().zip(recipe.certificate_request(id))
        else {
            continue;
        };
        request.headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let client = Client::new(Trusted::default(), 0, guard(list, source.origin, allow))?;
        let response = body(&client, request, CERTIFICATE_MAX);
        let response = tokio::time::timeout(CERTIFICATE_TIME, response).await;
        let (_, body) = response.unwrap_or(Err(FetchError::Late))?;
        let web = authorities();
        return Ok(list.read_certificate(&body, clock::now_ms(), &web.roots)?);
    }
    Err(FetchError::Mute)
}

async fn answer(
    client: &Client,
    wanted: KeyRequest,
    list: &KeyList,
) -> Result<Fetched, FetchError> {
    let (headers, body) = body(client, wanted, ANSWER_MAX).await?;
    Ok(Fetched { keys: list.read(&body)?, lifetime: lifetime(&headers, list.keep()) })
}

/// Headers and body of the response to `wanted`, of at most `max` bytes.
async fn body(
    client: &Client,
    wanted: KeyRequest,
    max: usize,
) -> Result<(HeaderMap, Bytes), FetchError> {
    let mut request = Request::new(Full::<Bytes>::default());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = wanted.url;
    *request.headers_mut() = wanted.headers;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().entry(header::ACCEPT).or_insert(json);
    let answer = client.send(request).await;
    let answer = answer.map_err(|error| FetchError::Unreached(error_text(&error)))?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    if let Some(coding) = compression(answer.headers()) {
        return Err(FetchError::Compressed(coding));
    }
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, max).collect().await;
    let body = body.map_err(|_| FetchError::Torn(max / 1024))?.to_bytes();
    Ok((head.headers, body))
}

/// The coding of a body that is not written as it is.
fn compression(headers: &HeaderMap) -> Option<String> {
    let coding = headers.get(header::CONTENT_ENCODING)?;
    let coding = coding.to_str().unwrap_or("unreadable").trim();
    (!coding.eq_ignore_ascii_case("identity") && !coding.is_empty()).then(|| coding.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::egress::Scheme;
    use crate::sender::{Catalog, Recipe, Secret, Terms, Weak};

    #[test]
    fn a_compressed_answer_is_named() {
        let of = |coding: &'static str| {
            let headers = [(header::CONTENT_ENCODING, HeaderValue::from_static(coding))];
            compression(&HeaderMap::from_iter(headers))
        };
        assert_eq!(of("gzip").as_deref(), Some("gzip"));
        assert_eq!((of("identity"), compression(&HeaderMap::new())), (None, None));
    }

    #[test]
    fn certificates_of_sns_come_from_its_regions_alone() {
        let catalog = Catalog::embedded().unwrap();
        let weak = Terms { weak: Weak::Accepted, ..Terms::default() };
        for (name, terms) in [("sns", Terms::default()), ("amazon-appstore", weak)] {
            let recipe = Recipe::compile(catalog.get(name).unwrap(), &terms).unwrap();
            let may = |url: &str| recipe.certificate_request(url.as_bytes()).is_some();
            let file = "SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem";
            for host in ["sns.us-east-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn"] {
                assert!(may(&format!("https://{host}/{file}")), "{name}: {host}");
                assert!(!may(&format!("https://{host}/b1.pem")), "{name}: {host}");
            }
            for bucket in ["s3-us-west-2", "s3-website-us-east-1"] {
                let url = format!("https://sns.{bucket}.amazonaws.com/{file}");
                assert!(!may(&url), "{name}: {url}");
            }
        }
    }

    #[test]
    fn only_the_configuration_file_may_name_private_addresses_for_keys() {
        let catalog = Catalog::embedded().unwrap();
        let url = (Terms::KEY_SET_URL.to_owned(), Secret::new(b"http://127.0.0.1:9/keys"));
        let ad_units = ("ad_units".to_owned(), Secret::new(b"1"));
        let settings = BTreeMap::from([url, ad_units]);
        let terms = Terms { settings, ..Terms::default() };
        let recipe = Recipe::compile(catalog.get("admob").unwrap(), &terms).unwrap();
        let list = recipe.key_list().unwrap();
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let may = |origin, allow: &[IpNet]| {
            guard(list, origin, allow).check(loopback, Scheme::Http).is_ok()
        };
        assert!(may(Origin::File, &[]));
        assert!(!may(Origin::Admin, &[]));
        assert!(may(Origin::Admin, &["127.0.0.0/8".parse().unwrap()]));
    }
}
