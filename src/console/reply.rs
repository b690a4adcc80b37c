//! What the console answers, and what every answer of it says about itself.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, StatusCode};
use http_body_util::Full;
use maud::Markup;

use super::assets::Asset;
use super::page_error::PageError;
use crate::wire::Response;

/// Nothing from elsewhere, nothing inline, nobody's frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
);
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSV: HeaderValue = HeaderValue::from_static("text/csv; charset=utf-8");
const NEVER_KEPT: HeaderValue = HeaderValue::from_static("no-store");
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// What a page says.
#[derive(Debug)]
pub(super) enum Reply {
    /// A whole page: its title and what stands in its middle.
    Page(String, Markup),
    /// The same under another status: a form with mistakes.
    Mistaken(String, Markup),
    /// A part of a page, for the script.
    Fragment(Markup),
    /// Go there.
    Go(String),
    /// A table to keep, under that name.
    Csv(&'static str, String),
}

impl Reply {
    /// The same, where a form with mistakes is on the page.
    pub fn mistaken(self) -> Self {
        match self {
            Self::Page(title, middle) => Self::Mistaken(title, middle),
            other => other,
        }
    }
}

/// What a page's handler answers.
pub(super) type Shown = Result<Reply, PageError>;

/// A response with that body.
pub(super) fn html(status: StatusCode, body: String) -> Response {
    with(status, HTML, Bytes::from(body))
}

/// A table as a file.
pub(super) fn csv(name: &str, body: String) -> Response {
    let mut response = with(StatusCode::OK, CSV, Bytes::from(body));
    put(&mut response, header::CONTENT_DISPOSITION, &format!("attachment; filename=\"{name}\""));
    response
}

/// Sends the browser elsewhere, with a GET.
pub(super) fn go(to: &str) -> Response {
    let mut response = with(StatusCode::SEE_OTHER, HTML, Bytes::new());
    put(&mut response, header::LOCATION, to);
    response
}

/// A file for browsers.
pub(super) fn asset(asset: &'static Asset) -> Response {
    let content_type = HeaderValue::from_static(asset.content_type);
    let mut response =
        with(StatusCode::OK, content_type, Bytes::from_static(asset.body.as_bytes()));
    response.headers_mut().insert(header::CACHE_CONTROL, KEPT);
    response
}

/// Adds a header field; a value that is none is left out.
pub(super) fn put(response: &mut Response, name: HeaderName, value: &str) {
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
    headers.insert(header::CACHE_CONTROL, NEVER_KEPT);
    response
}
