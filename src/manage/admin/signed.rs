//! URLs to paste into the consoles of senders, and signed callbacks, of every source.

use bytes::Bytes;
use http::request::Parts;
use serde::{Deserialize, Serialize};

use super::{Admin, query};
use crate::clock;
use crate::manage::http::{Answered, ApiError, Query, json, read_json};
use crate::operator::{PasteUrl, SignedCallback, View};
use crate::registry::{Action, Actor, AuditSubject};

pub(super) const PARAMETERS: [&str; 1] = ["source"];

#[derive(Serialize)]
struct Page {
    urls: Vec<PasteUrl>,
    next_cursor: Option<String>,
}

/// The callback to sign.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    source: String,
    /// `KEY=VALUE`, as `postern sign` takes them.
    #[serde(default)]
    parameters: Vec<String>,
    at_ms: Option<i64>,
}

impl Admin {
    pub(super) fn urls(&self, view: &View, head: &Parts) -> Answered {
        let query = Query::read(query(head), &PARAMETERS)?;
        let config = view.config();
        let is_wanted = |name: &str| query.text("source").is_none_or(|wanted| wanted == name);
        let sources = config.sources.values().filter(|source| is_wanted(&source.name));
        let at = config.server.callbacks;
        let urls = sources.map(|source| PasteUrl::of(config, at, source)).collect();
        Ok(json(&Page { urls, next_cursor: None }))
    }

    pub(super) async fn sign(&self, view: &View, body: &Bytes, who: &Actor) -> Answered {
        let wanted: Wanted = read_json(body)?;
        let config = view.config();
        let absent = || ApiError::absent(format!("there is no source {:?}", wanted.source));
        let source = config.sources.get(&wanted.source).ok_or_else(absent)?;
        let pair = |text: &String| {
            let (key, value) = text.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        let parameters: Option<Vec<_>> = wanted.parameters.iter().map(pair).collect();
        let parameters = parameters.ok_or_else(|| ApiError::bad("parameters: write KEY=VALUE"))?;
        let shown = source.recipe.signable_for_others();
        shown.map_err(|error| ApiError::bad(error.to_string()))?;
        let at_ms = wanted.at_ms.unwrap_or_else(clock::now_ms);
        let signed = SignedCallback::make(config, source, &parameters, at_ms);
        let signed = signed.map_err(|error| ApiError::bad(error.to_string()))?;
        // It can be sent as a real reward.
        let subject = AuditSubject::new("source", &source.name);
        self.registry.note(who, Action::Signed, subject).await?;
        Ok(json(&signed))
    }
}
