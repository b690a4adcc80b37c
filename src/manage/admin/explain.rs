//! Why a captured callback verifies or does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use super::Admin;
use crate::clock;
use crate::manage::http::{Answered, ApiError, json, read_json};
use crate::operator::{Asker, Overloaded, ToExplain, View, source_at, source_of};
use crate::sender::{OwnedRequest, Recipe};

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
        let question: Question = read_json(body)?;
        let config = view.config();
        let named = match &question.source {
            None => None,
            Some(name) => {
                let absent = || ApiError::absent(format!("there is no source {name:?}"));
                Some(config.sources.get(name).ok_or_else(absent)?)
            }
        };
        if let Some(id) = &question.rejection {
            let gone = || ApiError::absent("there is no such rejection of that source (any more)");
            let id = id.parse().map_err(|_| gone())?;
            let kept = view.rejections(self.callback_handler.rejections()).get(id).await?;
            let kept = kept.ok_or_else(gone)?;
            let source = source_of(&kept, config).ok_or_else(gone)?;
            if named.is_some_and(|named| named.name != source.name) {
                return Err(gone());
            }
            let request = OwnedRequest {
                method: kept.request.method.clone(),
                base: String::new(),
                target: kept.request.target.to_vec(),
                headers: kept.request.header_map(),
                body: kept.request.body.to_vec(),
            };
            let (config, source) = (Arc::clone(config), Arc::clone(source));
            let at_ms = kept.at_ms;
            return self.explained(ToExplain { config, source, request, at_ms }).await;
        }
        let (base, target) = question.target()?;
        let request = OwnedRequest {
            method: question.method()?,
            base: base.to_owned(),
            target: target.as_bytes().to_vec(),
            headers: question.headers()?,
            body: question.body.clone().into_bytes(),
        };
        let source = match named {
            Some(source) => source,
            None => source_at(config, &request.target).map_err(ApiError::absent)?,
        };
        let (config, source) = (Arc::clone(config), Arc::clone(source));
        let at_ms = clock::now_ms();
        self.explained(ToExplain { config, source, request, at_ms }).await
    }

    async fn explained(&self, asked: ToExplain) -> Answered {
        let keys = self.keys.clone();
        let keys = move |recipe: &Recipe| keys.of(recipe)?.now();
        let busy =
            |Overloaded| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server busy, retry later");
        Ok(json(&asked.explained(Asker::Api, keys).await.map_err(busy)?))
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
