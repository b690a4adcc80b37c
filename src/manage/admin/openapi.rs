//! The OpenAPI description of the admin API and the JSON Schema of an event: manually written, and
//! checked against the router, real answers and delivered events by tests.

use http::{HeaderValue, StatusCode};

use crate::manage::http::with_body;
use crate::wire::Response;

/// The document.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn document() -> Response {
    with_body(StatusCode::OK, HeaderValue::from_static("application/json"), DOCUMENT)
}

/// The JSON Schema of an event.
pub(super) const EVENT_SCHEMA: &str = include_str!("event.schema.json");

pub(super) fn event_schema() -> Response {
    let kind = HeaderValue::from_static("application/schema+json");
    with_body(StatusCode::OK, kind, EVENT_SCHEMA)
}
