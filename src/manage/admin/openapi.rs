//! The OpenAPI description of the admin API: manually written, and checked against the router and
//! real answers by tests.

use http::{HeaderValue, StatusCode};

use crate::manage::http::with_body;
use crate::wire::Response;

/// The document.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn document() -> Response {
    with_body(StatusCode::OK, HeaderValue::from_static("application/json"), DOCUMENT)
}
