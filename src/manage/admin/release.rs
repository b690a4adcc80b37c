//! Releases from quarantine: ordered, watched, cancelled.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::replay::{ShownOutcome, elsewhere};
use crate::clock::{now_ms, rfc3339};
use crate::intake::{FoundRelease, ReleaseFilter, ReleaseMode};
use crate::ledger::{HeldId, ReleaseId, ReleaseIdError, SourceId};
use crate::manage::http::{Answered, ApiError, json, read_json, time};
use crate::operator::{ReleaseError, View, cancel_release, release_all};
use crate::orders::OrderState;
use crate::registry::Actor;
use crate::sender::Reason;

/// The error of an order that was interrupted.
const INTERRUPTED: &str = "the gateway that ran this release stopped before the end, or cannot reach the store; \
    order it again, callbacks that became events have left the quarantine";

/// Maximum wait for an order: the reply to one for a few callbacks then has its result.
const WAIT: Duration = Duration::from_secs(1);

/// Callbacks that an order may name one by one: what a body of 1 MiB holds.
const IDS_MAX: usize = 20_000;

/// An order. An omitted filter matches all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    source: String,
    #[serde(default)]
    reasons: Vec<String>,
    since: Option<String>,
    until: Option<String>,
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: String,
    state: &'static str,
    at: String,
    dry_run: bool,
    of: Option<u64>,
    seen: u64,
    released: u64,
    duplicates: u64,
    disputed: u64,
    refused: u64,
    error: Option<&'a str>,
    outcome: Option<ShownOutcome>,
}

impl Admin {
    pub(super) async fn begin_release(&self, view: &View, body: &Bytes, who: &Actor) -> Answered {
        let order: Order = read_json(body)?;
        let filter = filter(view, &order)?;
        let id = ReleaseId::new(now_ms());
        let ordered = release_all(&self.registry, &self.releases, who, id, filter).await;
        ordered.map_err(|error| match error {
            ReleaseError::Ledger(error) => ApiError::from(error),
            ReleaseError::Busy(why) => ApiError::new(StatusCode::CONFLICT, why.to_string()),
        })?;
        self.releases.ended(id, WAIT).await.ok_or_else(unknown)?;
        let mut answer = self.release_progress(view, &id.to_string()).await?;
        *answer.status_mut() = StatusCode::ACCEPTED;
        Ok(answer)
    }

    pub(super) async fn release_progress(&self, view: &View, id: &str) -> Answered {
        Ok(shown(&self.seen_release(view, release_id(id)?).await?))
    }

    async fn seen_release(&self, view: &View, id: ReleaseId) -> Result<FoundRelease, ApiError> {
        let found = self.releases.find(id).await?;
        found.filter(|found| view.sees_release(&found.progress)).ok_or_else(unknown)
    }

    pub(super) async fn cancel_release(&self, view: &View, id: &str, who: &Actor) -> Answered {
        let id = release_id(id)?;
        let found = self.seen_release(view, id).await?;
        match cancel_release(&self.registry, &self.releases, who, id).await? {
            Some(_) => Ok(shown(&self.seen_release(view, id).await?)),
            None if found.progress.state == OrderState::Running => Err(elsewhere()),
            None => Ok(shown(&found)),
        }
    }
}

/// The callbacks that are meant, of a source that is seen.
fn filter(view: &View, order: &Order) -> Result<ReleaseFilter, ApiError> {
    let config = view.config();
    let Some(source) = config.sources.get(&order.source) else {
        return Err(ApiError::absent(format!("there is no source {:?}", order.source)));
    };
    let reason = |name: &String| {
        let reason = Reason::from_name(name).filter(|reason| reason.can_be_held());
        reason.ok_or_else(|| ApiError::bad(format!("reasons: none is held for {name:?}")))
    };
    let read = |name: &str, text: &Option<String>| {
        text.as_deref().map(|text| time(name, text)).transpose()
    };
    if order.ids.len() > IDS_MAX {
        return Err(ApiError::bad(format!("ids: {IDS_MAX} at most; use a filter")));
    }
    let id = |text: &String| {
        text.parse::<HeldId>().map_err(|error| ApiError::bad(format!("ids: {error}")))
    };
    Ok(ReleaseFilter {
        source: SourceId::from(source.id.as_str()),
        reasons: order.reasons.iter().map(reason).collect::<Result<_, _>>()?,
        since_ms: read("since", &order.since)?,
        until_ms: read("until", &order.until)?,
        ids: order.ids.iter().map(id).collect::<Result<_, _>>()?,
        mode: if order.dry_run { ReleaseMode::DryRun } else { ReleaseMode::Real },
    })
}

fn release_id(text: &str) -> Result<ReleaseId, ApiError> {
    text.parse().map_err(|error: ReleaseIdError| ApiError::bad(error.to_string()))
}

fn unknown() -> ApiError {
    ApiError::absent("there is no release of that id (any more); given again it repeats nothing")
}

fn shown(found: &FoundRelease) -> crate::wire::Response {
    let FoundRelease { progress, outcome } = found;
    let error = match &progress.state {
        OrderState::Failed(error) => Some(error.to_string()),
        OrderState::Interrupted => Some(INTERRUPTED.to_owned()),
        OrderState::Running | OrderState::Done | OrderState::Cancelled => None,
    };
    json(&Shown {
        id: progress.id.to_string(),
        state: progress.state.as_str(),
        at: rfc3339(progress.at_ms),
        dry_run: progress.mode == ReleaseMode::DryRun,
        of: progress.of,
        seen: progress.seen,
        released: progress.released,
        duplicates: progress.duplicates,
        disputed: progress.disputed,
        refused: progress.still_held,
        error: error.as_deref(),
        outcome: outcome.map(ShownOutcome::from),
    })
}
