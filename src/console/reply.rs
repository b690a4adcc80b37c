//! Responses of the console, with the security headers of each.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, StatusCode};
use http_body_util::Full;
use maud::Markup;

use super::assets::Asset;
use super::page_error::PageError;
use crate::wire::Response;

/// Content security policy: same origin only, nothing inline, no framing.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
);
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSV: HeaderValue = HeaderValue::from_static("text/csv; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// The content of a page, or a redirect.
#[derive(Debug)]
pub(super) enum Reply {
    /// A whole page: its title and its content.
    Page(String, Markup),
    /// A page with a rejected form, sent with status 422.
    Invalid(String, Markup),
    /// A page about another server that does not respond, sent with status 503.
    Unavailable(String, Markup),
    /// A part of a page, for the script.
    Fragment(Markup),
    /// A redirect to a path.
    Redirect(String),
    /// A CSV download: its file name and its content.
    Csv(&'static str, String),
}

impl Reply {
    /// Turns a page into one with a rejected form.
    pub(super) fn invalid(self) -> Self {
        match self {
            Self::Page(title, content) => Self::Invalid(title, content),
            other => other,
        }
    }
}

/// The result of a page handler.
pub(super) type PageResult = Result<Reply, PageError>;

/// An HTML response.
pub(super) fn html(status: StatusCode, body: String) -> Response {
    with(status, HTML, Bytes::from(body))
}

/// A CSV download.
pub(super) fn csv(name: &str, body: String) -> Response {
    let mut response = with(StatusCode::OK, CSV, Bytes::from(body));
    add_header(
        &mut response,
        header::CONTENT_DISPOSITION,
        &format!("attachment; filename=\"{name}\""),
    );
    response
}

/// Redirects the browser with status 303.
pub(super) fn redirect(to: &str) -> Response {
    let mut response = with(StatusCode::SEE_OTHER, HTML, Bytes::new());
    add_header(&mut response, header::LOCATION, to);
    response
}

/// An asset, cached forever.
pub(super) fn asset(asset: &'static Asset) -> Response {
    let content_type = HeaderValue::from_static(asset.content_type);
    let mut response =
        with(StatusCode::OK, content_type, Bytes::from_static(asset.body.as_bytes()));
    response.headers_mut().insert(header::CACHE_CONTROL, IMMUTABLE);
    response
}

/// Adds a header; an invalid value is omitted.
pub(super) fn add_header(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().append(name, value);
    }
}

fn with(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    response
}
