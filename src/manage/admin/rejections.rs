//! Rejected callbacks, with their signatures masked.

use http::request::Parts;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Admin, query};
use crate::clock::rfc3339;
use crate::config::Config;
use crate::ledger::{Cursor, HeldQuery, HeldWhy, Rejected, Rejection, SourceId};
use crate::manage::http::{Answered, ApiError, Query, json};
use crate::operator::{Masked, View, source_id, source_of};

pub(super) const PARAMETERS: [&str; 9] =
    ["source", "reason", "user", "transaction", "held", "since", "until", "limit", "cursor"];

#[derive(Serialize)]
struct Page<'a> {
    rejections: Vec<RejectionView<'a>>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct RejectionView<'a> {
    id: String,
    at: String,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<&'a str>,
    reason: &'static str,
    parameter: Option<&'a str>,
    held: bool,
    unverified: Claims<'a>,
    client: String,
    status: Option<u16>,
    method: &'a str,
    path: String,
    params: Option<Box<RawValue>>,
    headers: Vec<(&'a str, String)>,
    body_bytes: usize,
}

/// The callback's claims: nothing has verified them.
#[derive(Serialize)]
struct Claims<'a> {
    transaction: Option<&'a str>,
    user: Option<&'a str>,
}

impl Admin {
    pub(super) async fn rejections(&self, view: &View, head: &Parts) -> Answered {
        let query = Query::read(query(head), &PARAMETERS)?;
        let limit = query.limit()?;
        let cursor = query.cursor::<Cursor>()?;
        let config = view.config();
        let wanted = wanted(&query, config)?;
        let found = view
            .rejections(self.callback_handler.rejections())
            .list(&wanted, cursor.as_ref(), limit)
            .await;
        let (page, next) = found?;
        let rejections = page.iter().map(|one| RejectionView::of(one, config)).collect();
        Ok(json(&Page { rejections, next_cursor: next.map(|next| next.to_string()) }))
    }
}

fn wanted(query: &Query, config: &Config) -> Result<HeldQuery, ApiError> {
    let reason = query.read_as("reason", "a reason, or unknown_path", Rejected::from_name)?;
    let why = query.read_as("held", "true or false", |text| match text {
        "true" => Some(HeldWhy::Quarantine),
        "false" => Some(HeldWhy::Rejected),
        _ => None,
    })?;
    let source = query.text("source").map(|name| source_id(config, name));
    let source = match reason {
        Some(Rejected::UnknownPath) => Some(SourceId::from(Rejection::UNKNOWN_PATHS)),
        Some(Rejected::For(_)) | None => source,
    };
    Ok(HeldQuery {
        source,
        why,
        reason: reason.and_then(Rejected::reason),
        transaction: query.text("transaction").map(str::to_owned),
        user: query.text("user").map(str::to_owned),
        since_ms: query.time("since")?,
        until_ms: query.time("until")?,
        ..HeldQuery::default()
    })
}

impl<'a> RejectionView<'a> {
    fn of(rejection: &'a Rejection, config: &Config) -> Self {
        let source = source_of(rejection, config);
        let request =
            Masked::of(&rejection.request, config, source.map(|source| &**source), rejection.at_ms);
        Self {
            id: rejection.id.to_string(),
            at: rfc3339(rejection.at_ms),
            source: &rejection.source,
            nearest: rejection.nearest.as_deref(),
            reason: rejection.reason.as_str(),
            parameter: rejection.parameter.as_deref(),
            held: rejection.held,
            unverified: Claims {
                transaction: rejection.transaction.as_deref(),
                user: rejection.user.as_deref(),
            },
            client: rejection.client.to_string(),
            status: rejection.status,
            method: request.method,
            path: request.path,
            params: request.params,
            headers: request.headers,
            body_bytes: rejection.body_bytes,
        }
    }
}
