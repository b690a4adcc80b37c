//! The request that delivers an event, shown and not sent.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method};
use http_body_util::BodyExt as _;

use super::forward::ReadFields;
use super::outbound_request::{PayloadError, PayloadFormat, RequestParts};
use crate::clock::now_ms;
use crate::config::{Destination, Format, MASK, Withheld};
use crate::ledger::EventId;
use crate::sender::Catalog;

/// Headers whose values reveal nothing. Any other may be a signature, with which the request could
/// be sent, or a secret of the backend.
const HARMLESS: [&str; 6] =
    ["content-length", "content-type", "host", "user-agent", "webhook-id", "webhook-timestamp"];

/// A request to a destination, its signatures and configured headers masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The method.
    pub method: Method,
    /// The URL, its placeholders replaced.
    pub url: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body; empty if there is none.
    pub body: Bytes,
}

/// Why a request is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPreview {
    /// The format passes on values of the original request, its signature among them.
    PassesOn,
    /// The event is not sent to this URL.
    Withheld(Withheld),
    /// The event makes no valid request; the text is English.
    Invalid(String),
}

impl Preview {
    /// The request that would deliver the event `id`, which is `stored`, to `destination` now.
    ///
    /// # Errors
    /// Why it is not shown.
    pub async fn of(
        destination: &Destination,
        catalog: &Catalog,
        id: EventId,
        stored: &Bytes,
    ) -> Result<Self, NoPreview> {
        if matches!(destination.format, Format::Forward | Format::Macros) {
            return Err(NoPreview::PassesOn);
        }
        let fields = Arc::new(ReadFields::of(catalog));
        let format = PayloadFormat::of(destination, &fields);
        let parts = RequestParts::of(destination);
        let made = format.request(&parts, id, stored, now_ms()).map_err(|why| match why {
            PayloadError::Withheld(why) => NoPreview::Withheld(why),
            other => NoPreview::Invalid(other.to_string()),
        })?;
        let (head, body) = made.into_parts();
        let headers = head.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), shown(name.as_str(), value)));
        let Ok(body) = body.collect().await;
        Ok(Self {
            method: head.method,
            url: head.uri.to_string(),
            headers: headers.collect(),
            body: body.to_bytes(),
        })
    }
}

fn shown(name: &str, value: &HeaderValue) -> String {
    match HARMLESS.contains(&name) && !value.is_sensitive() {
        true => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        false => String::from(MASK),
    }
}
