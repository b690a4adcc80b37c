//! A request as people may see it: without its supplied signature.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use serde_json::value::RawValue;

use crate::clock::UnixMillis;
use crate::config::{Config, MASK, Source};
use crate::ledger::{RawRequest, Rejection};

/// Headers whose values reveal no secret. Any other may be a signature of an unknown sender, and
/// its value is masked.
const HARMLESS: [&str; 10] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "date",
    "forwarded",
    "host",
    "user-agent",
    "via",
    "x-forwarded-for",
];

/// A request to a source, its supplied signature masked.
#[derive(Debug)]
pub struct Masked<'r> {
    /// The method.
    pub method: &'r str,
    /// The path, without its query.
    pub path: String,
    /// The parameters as the source's sender reads them, as a JSON object. `None` when the source
    /// is gone: then it is unknown which of them is a signature.
    pub params: Option<Box<RawValue>>,
    /// The headers.
    pub headers: Vec<(&'r str, String)>,
    /// How long the body was.
    pub body_bytes: usize,
}

/// The source that a rejected callback came to, or the one whose name is nearest, if it is there
/// still: its id outlives its name.
#[must_use]
pub fn source_of<'c>(rejection: &Rejection, config: &'c Config) -> Option<&'c Arc<Source>> {
    let id = rejection.source_id.as_str();
    let of_id = || config.sources.values().find(|source| source.id == id);
    match &rejection.nearest {
        Some(name) => config.sources.get(name),
        None => config.sources.get(id).filter(|source| source.id == id).or_else(of_id),
    }
}

impl<'r> Masked<'r> {
    /// `request` to `source`, which came at `at_ms`.
    #[must_use]
    pub fn of(request: &'r RawRequest, source: Option<&Source>, at_ms: UnixMillis) -> Self {
        let path = request.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let read = |source: &Source| {
            let headers: HeaderMap = request.header_map();
            source.recipe.read(request.as_request("", &headers), at_ms).params()
        };
        let fields = request.headers.iter();
        Self {
            method: request.method.as_str(),
            path: String::from_utf8_lossy(path).into_owned(),
            params: source.map(read),
            headers: fields
                .map(|(name, value)| (name.as_str(), shown(name.as_str(), value)))
                .collect(),
            body_bytes: request.body.len(),
        }
    }
}

fn shown(name: &str, value: &HeaderValue) -> String {
    match HARMLESS.contains(&name) {
        true => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        false => String::from(MASK),
    }
}
