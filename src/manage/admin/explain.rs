//! Why a captured callback verifies or does not.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;

use super::Admin;
use crate::clock;
use crate::ledger::Rejection;
use crate::manage::http::{Answered, ApiError, json};
use crate::operator::{explained, source_of};
use crate::sender::{Recipe, Request};

/// The question: a URL alone, or a whole request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    source: String,
    /// The id of a rejected callback, in place of the request.
    rejection: Option<String>,
    url: Option<String>,
    method: Option<String>,
    target: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

impl Admin {
    pub(super) async fn explain(&self, body: &Bytes) -> Answered {
        let question: Question = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad(format!("the body cannot be read: {error}")))?;
        let config = self.config();
        let Some(source) = config.sources.get(&question.source) else {
            return Err(ApiError::absent(format!("there is no source {:?}", question.source)));
        };
        let keys = |recipe: &Recipe| self.keys.of(recipe)?.now();
        let own = config.server.public_url.as_deref().unwrap_or_default();
        if let Some(id) = &question.rejection {
            let gone = || ApiError::absent("there is no such rejection of that source (any more)");
            let id = id.parse().map_err(|_| gone())?;
            let kept = self.gate.rejections().get(id).await;
            let kept = kept.map_err(|error| ApiError::ledger(&error))?;
            let is_of = |kept: &Rejection| {
                source_of(kept, &config).is_some_and(|of| of.name == source.name)
            };
            let kept = kept.filter(is_of).ok_or_else(gone)?;
            let headers = kept.request.header_map();
            let request = kept.request.as_request(own, &headers);
            return Ok(json(&explained(&config, source, &request, kept.at_ms, &keys)));
        }
        let (base, target) = question.target()?;
        let method = question.method()?;
        let headers = question.headers()?;
        let request = Request {
            method: &method,
            target: target.as_bytes(),
            base: if base.is_empty() { own } else { base },
            headers: &headers,
            body: question.body.as_bytes(),
        };
        Ok(json(&explained(&config, source, &request, clock::now_ms(), &keys)))
    }
}

impl Question {
    /// Scheme and authority, if they were given, and path with query.
    fn target(&self) -> Result<(&str, &str), ApiError> {
        let text = match (&self.url, &self.target) {
            (Some(text), None) | (None, Some(text)) => text.as_str(),
            _ => return Err(ApiError::bad("say either url or target")),
        };
        let authority = text.find("://").map_or(0, |at| at + 3);
        if authority == 0 && text.starts_with('/') {
            return Ok(("", text));
        }
        match text[authority..].find('/').filter(|_| authority > 0) {
            Some(path) => Ok(text.split_at(authority + path)),
            None => Err(ApiError::bad("url: expected a path with its query, or a whole URL")),
        }
    }

    fn method(&self) -> Result<Method, ApiError> {
        let usual = if self.body.is_empty() { "GET" } else { "POST" };
        let name = self.method.as_deref().unwrap_or(usual);
        Method::from_bytes(name.as_bytes()).map_err(|_| ApiError::bad("method: no HTTP method"))
    }

    fn headers(&self) -> Result<HeaderMap, ApiError> {
        let pair = |(name, value): (&String, &String)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
        };
        let all: Option<HeaderMap> = self.headers.iter().map(pair).collect();
        all.ok_or_else(|| ApiError::bad("headers: a name or a value that no header can have"))
    }
}
