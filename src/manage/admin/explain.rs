//! Why a captured callback verifies or does not.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;

use super::Admin;
use crate::clock;
use crate::manage::http::{Answered, ApiError, json};
use crate::operator::{View, explained, source_at, source_of};
use crate::sender::{Recipe, Request};

/// The question: a URL alone, or a whole request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// The source's name; the one that the path names unless given.
    source: Option<String>,
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
    pub(super) async fn explain(&self, view: &View, body: &Bytes) -> Answered {
        let question: Question = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad(format!("the body cannot be read: {error}")))?;
        let config = view.config();
        let named = match &question.source {
            None => None,
            Some(name) => {
                let absent = || ApiError::absent(format!("there is no source {name:?}"));
                Some(config.sources.get(name).ok_or_else(absent)?)
            }
        };
        let keys = |recipe: &Recipe| self.keys.of(recipe)?.now();
        if let Some(id) = &question.rejection {
            let gone = || ApiError::absent("there is no such rejection of that source (any more)");
            let id = id.parse().map_err(|_| gone())?;
            let kept = view.rejections(self.gate.rejections()).get(id).await;
            let kept = kept.map_err(|error| ApiError::ledger(&error))?.ok_or_else(gone)?;
            let source = source_of(&kept, config).ok_or_else(gone)?;
            if named.is_some_and(|named| named.name != source.name) {
                return Err(gone());
            }
            let headers = kept.request.header_map();
            let request = kept.request.as_request("", &headers);
            return Ok(json(&explained(config, source, &request, kept.at_ms, &keys)));
        }
        let (base, target) = question.target()?;
        let method = question.method()?;
        let headers = question.headers()?;
        let request = Request {
            method: &method,
            target: target.as_bytes(),
            base,
            headers: &headers,
            body: question.body.as_bytes(),
        };
        let source = match named {
            Some(source) => source,
            None => source_at(config, request.target).map_err(ApiError::absent)?,
        };
        Ok(json(&explained(config, source, &request, clock::now_ms(), &keys)))
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
