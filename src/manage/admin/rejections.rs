//! Refused callbacks of this gateway, with their claims masked.

use http::HeaderMap;
use http::request::Parts;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Admin, query};
use crate::clock::rfc3339;
use crate::config::Config;
use crate::intake::{Rejection, RejectionQuery};
use crate::manage::http::{Answered, Query, json};
use crate::sender::Reason;

pub(super) const PARAMETERS: [&str; 6] = ["source", "reason", "since", "until", "limit", "cursor"];

/// Header fields whose values tell nobody a secret. Any other may be a signature of a sender that
/// nobody here knows, and its value is masked.
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

#[derive(Serialize)]
struct Page<'a> {
    rejections: Vec<View<'a>>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct View<'a> {
    id: u64,
    at: String,
    source: &'a str,
    reason: &'static str,
    parameter: Option<&'a str>,
    client: String,
    method: &'a str,
    path: String,
    params: Option<Box<RawValue>>,
    headers: Vec<(&'a str, String)>,
    body_bytes: usize,
}

impl Admin {
    pub(super) fn rejections(&self, head: &Parts) -> Answered {
        let query = Query::read(query(head), &PARAMETERS)?;
        let wanted = RejectionQuery {
            source: query.text("source").map(str::to_owned),
            reason: query.read_as("reason", "a reason", Reason::from_name)?,
            since_ms: query.time("since")?,
            until_ms: query.time("until")?,
            below: query
                .read_as("cursor", "the next_cursor of a page", |text| text.parse().ok())?,
        };
        let (page, more) = self.gate.rejections().list(&wanted, query.limit()?);
        let config = self.config();
        let next_cursor = page.last().filter(|_| more).map(|last| last.number.to_string());
        let rejections = page.iter().map(|one| View::of(one, &config)).collect();
        Ok(json(&Page { rejections, next_cursor }))
    }
}

impl<'a> View<'a> {
    fn of(rejection: &'a Rejection, config: &Config) -> Self {
        let request = &rejection.request;
        let path = request.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        Self {
            id: rejection.number,
            at: rfc3339(rejection.at_ms),
            source: &rejection.source,
            reason: rejection.reason.as_str(),
            parameter: rejection.parameter.as_deref(),
            client: rejection.client.to_string(),
            method: request.method.as_str(),
            path: String::from_utf8_lossy(path).into_owned(),
            params: params(rejection, config),
            headers: request
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), shown(name.as_str(), value)))
                .collect(),
            body_bytes: request.body.len(),
        }
    }
}

/// The parameters as the source's sender reads them, without what it claims. `None` when the
/// source is gone: nobody knows then which of them is a signature.
fn params(rejection: &Rejection, config: &Config) -> Option<Box<RawValue>> {
    let source = config.sources.get(&rejection.source)?;
    let headers: HeaderMap = rejection.request.header_map();
    let request = rejection.request.as_request("", &headers);
    Some(source.recipe.read(request, rejection.at_ms).params())
}

fn shown(name: &str, value: &http::HeaderValue) -> String {
    match HARMLESS.contains(&name) {
        true => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        false => String::from("***"),
    }
}
