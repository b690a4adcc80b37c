//! Replays by filter: given, watched, cancelled.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::clock::{now_ms, rfc3339};
use crate::delivery::{FoundReplay, ReplayFilter, ReplayMode};
use crate::ledger::{DeliveryState, EventId, LogQuery, ReplayId, TargetId};
use crate::manage::http::{Answered, ApiError, json, read_json, time};
use crate::operator::{ReplayError, View, cancel_replay, replay_all, source_id};
use crate::orders::{OrderState, Outcome};
use crate::registry::Actor;

/// The error of an order that was interrupted.
const INTERRUPTED: &str = "the gateway that ran this replay stopped before the end, or cannot reach the store; \
    give it again with its id, it delivers nothing twice";

/// Maximum wait for an order: the reply to one for a few events then has its result.
const WAIT: Duration = Duration::from_secs(1);

/// Events that an order may name one by one: what a body of 1 MiB holds.
const EVENTS_MAX: usize = 20_000;

/// An order. An omitted filter matches all.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    id: Option<String>,
    events: Vec<EventId>,
    source: Option<String>,
    transaction: Option<String>,
    user: Option<String>,
    destination: Option<String>,
    state: Option<String>,
    since: Option<String>,
    until: Option<String>,
    /// Required to mean every event.
    all: bool,
    /// Count, and deliver nothing.
    dry_run: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: String,
    state: &'static str,
    at: String,
    seen: u64,
    of: Option<u64>,
    events: u64,
    deliveries: u64,
    skipped: u64,
    dry_run: bool,
    error: Option<&'a str>,
    outcome: Option<ShownOutcome>,
}

/// The deliveries of an order by their present state.
#[derive(Serialize)]
pub(super) struct ShownOutcome {
    delivered: u64,
    dead: u64,
    pending: u64,
    expired_events: u64,
    further_events: u64,
}

impl From<Outcome> for ShownOutcome {
    fn from(outcome: Outcome) -> Self {
        let Outcome { counts, further } = outcome;
        Self {
            delivered: counts.done,
            dead: counts.dead,
            pending: counts.pending,
            expired_events: counts.gone,
            further_events: further,
        }
    }
}

impl Admin {
    pub(super) async fn begin_replay(&self, view: &View, body: &Bytes, who: &Actor) -> Answered {
        let order: Order = read_json(body)?;
        let id = match &order.id {
            None => ReplayId::new(now_ms()),
            Some(text) => replay_id(text)?,
        };
        let filter = filter(view, order)?;
        let ordered = replay_all(&self.registry, &self.replays, who, id, filter).await;
        ordered.map_err(|not| match not {
            ReplayError::Ledger(error) => ApiError::from(error),
            ReplayError::Refused(why) => ApiError::new(StatusCode::CONFLICT, why.to_string()),
        })?;
        self.replays.ended(id, WAIT).await.ok_or_else(unknown)?;
        let mut answer = shown(&self.seen_replay(view, id).await?);
        *answer.status_mut() = StatusCode::ACCEPTED;
        Ok(answer)
    }

    pub(super) async fn replay_progress(&self, view: &View, id: &str) -> Answered {
        Ok(shown(&self.seen_replay(view, replay_id(id)?).await?))
    }

    async fn seen_replay(&self, view: &View, id: ReplayId) -> Result<FoundReplay, ApiError> {
        let found = self.replays.find(id).await?;
        found.filter(|found| view.sees_replay(&found.progress)).ok_or_else(unknown)
    }

    pub(super) async fn cancel_replay(&self, view: &View, id: &str, who: &Actor) -> Answered {
        let id = replay_id(id)?;
        let found = self.seen_replay(view, id).await?;
        match cancel_replay(&self.registry, &self.replays, who, id).await? {
            Some(_) => Ok(shown(&self.seen_replay(view, id).await?)),
            None if found.progress.state == OrderState::Running => Err(elsewhere()),
            None => Ok(shown(&found)),
        }
    }
}

/// The events that are meant, of those that are seen.
fn filter(view: &View, order: Order) -> Result<ReplayFilter, ApiError> {
    let Order { events, source, transaction, user, destination, state, since, until, .. } = order;
    let state = match state.as_deref() {
        None => None,
        Some(name) => Some(DeliveryState::from_name(name).ok_or_else(|| {
            ApiError::bad(format!("state: expected pending, dead or done, found {name:?}"))
        })?),
    };
    let source = source.map(|name| source_id(view.config(), &name));
    let read = |name: &str, text: Option<String>| text.map(|text| time(name, &text)).transpose();
    let (since_ms, until_ms) = (read("since", since)?, read("until", until)?);
    let log = LogQuery { source, transaction, user, since_ms, until_ms, ..LogQuery::default() };
    let narrow = log != LogQuery::default();
    if events.len() > EVENTS_MAX {
        return Err(ApiError::bad(format!("events: {EVENTS_MAX} at most; use a filter")));
    }
    if !events.is_empty() && narrow {
        return Err(ApiError::bad("events and a filter of events: give one of the two"));
    }
    if let Some(name) = &destination
        && !view.config().destinations.contains_key(name)
    {
        return Err(ApiError::bad(format!(
            "destination: {name:?} is not configured, so nothing can be delivered to it; name one \
             that is, or configure it again first"
        )));
    }
    let target = destination.map(TargetId::from);
    let everything = events.is_empty() && !narrow && state.is_none() && target.is_none();
    if everything && !order.all {
        let detail = "this would deliver every event again; say which (\"state\": \"dead\" …), \
                      or \"all\": true";
        return Err(ApiError::bad(detail));
    }
    let mode = if order.dry_run { ReplayMode::DryRun } else { ReplayMode::Deliver };
    let log = LogQuery { among: view.among(), ..log };
    Ok(ReplayFilter { events, log, state, target, mode })
}

fn replay_id(text: &str) -> Result<ReplayId, ApiError> {
    text.parse().map_err(|error: crate::ledger::ReplayIdError| ApiError::bad(error.to_string()))
}

fn unknown() -> ApiError {
    ApiError::absent("there is no replay of that id (any more); given again it repeats nothing")
}

/// An order that runs is known by its account alone.
pub(super) fn elsewhere() -> ApiError {
    let detail =
        "this order does not run on this gateway; cancel it on the one that it was given to";
    ApiError::new(StatusCode::CONFLICT, detail)
}

fn shown(found: &FoundReplay) -> crate::wire::Response {
    let FoundReplay { progress, outcome, .. } = found;
    let error = match &progress.state {
        OrderState::Failed(error) => Some(error.to_string()),
        OrderState::Interrupted => Some(INTERRUPTED.to_owned()),
        OrderState::Running | OrderState::Done | OrderState::Cancelled => None,
    };
    json(&Shown {
        id: progress.id.to_string(),
        state: progress.state.as_str(),
        at: rfc3339(progress.at_ms),
        seen: progress.seen,
        of: progress.of,
        events: progress.events,
        deliveries: progress.deliveries,
        skipped: progress.skipped,
        dry_run: progress.mode == ReplayMode::DryRun,
        error: error.as_deref(),
        outcome: outcome.map(ShownOutcome::from),
    })
}
