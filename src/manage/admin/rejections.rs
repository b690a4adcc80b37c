//! Refused callbacks of this gateway, with their claims masked.

use http::request::Parts;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Admin, query};
use crate::clock::rfc3339;
use crate::config::Config;
use crate::intake::{Rejection, RejectionQuery};
use crate::manage::http::{Answered, Query, json};
use crate::operator::Masked;
use crate::sender::Reason;

pub(super) const PARAMETERS: [&str; 6] = ["source", "reason", "since", "until", "limit", "cursor"];

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
        let source = config.sources.get(&rejection.source).map(|source| &**source);
        let request = Masked::of(&rejection.request, source, rejection.at_ms);
        Self {
            id: rejection.number,
            at: rfc3339(rejection.at_ms),
            source: &rejection.source,
            reason: rejection.reason.as_str(),
            parameter: rejection.parameter.as_deref(),
            client: rejection.client.to_string(),
            method: request.method,
            path: request.path,
            params: request.params,
            headers: request.headers,
            body_bytes: request.body_bytes,
        }
    }
}
