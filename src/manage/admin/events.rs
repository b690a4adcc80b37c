//! Recorded events: a list, and one with its deliveries and attempts.

use bytes::Bytes;
use http::request::Parts;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Admin, query};
use crate::clock::rfc3339;
use crate::ledger::{Attempt, Cursor, Delivery, EventBody, EventId, LedgerError, LogQuery, Logged};
use crate::manage::http::{Answered, ApiError, Query, json};
use crate::operator::{View, source_id};
use crate::registry::{Resolution, StoredDocument, Subject};
use crate::sender::Outcome;

pub(super) const PARAMETERS: [&str; 8] =
    ["source", "transaction", "user", "outcome", "since", "until", "limit", "cursor"];

#[derive(Serialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct DeliveryView<'a> {
    destination: &'a str,
    state: &'static str,
    due_at: Option<String>,
    attempts: Vec<AttemptView<'a>>,
}

#[derive(Serialize)]
struct AttemptView<'a> {
    at: String,
    status: Option<u16>,
    millis: u32,
    answer: String,
    error: Option<&'a str>,
}

/// A manual resolution.
#[derive(Serialize)]
struct ResolutionView<'a> {
    at: String,
    who: &'a str,
    note: &'a str,
}

impl Admin {
    pub(super) async fn events(&self, view: &View, head: &Parts) -> Answered {
        let query = Query::read(query(head), &PARAMETERS)?;
        let limit = query.limit()?;
        let cursor = query.cursor::<Cursor>()?;
        let Some(wanted) = wanted(view, &query)? else {
            return Ok(json(&Page { events: Vec::new(), next_cursor: None }));
        };
        let page = view.ledger(&self.ledger).query(&wanted, cursor.as_ref(), limit).await?;
        let events = page.events.iter().filter_map(with_state).collect();
        let next_cursor = page.next.map(|cursor| cursor.to_string());
        Ok(json(&Page { events, next_cursor }))
    }

    pub(super) async fn event(&self, view: &View, id: &str) -> Answered {
        let id: EventId =
            id.parse().map_err(|_| ApiError::absent("that is not the id of an event"))?;
        let Some(detail) = view.ledger(&self.ledger).event(id).await? else {
            return Err(ApiError::absent("there is no event of that id (any more)"));
        };
        let deliveries: Vec<_> = detail.deliveries.iter().map(DeliveryView::of).collect();
        let resolution = self.registry.resolution(&Subject::Event(id));
        let resolution = resolution.as_ref().map(ResolutionView::of);
        match with_deliveries(&detail.event.body, &deliveries, resolution.as_ref()) {
            Some(shown) => Ok(json(&shown)),
            None => Err(LedgerError::Corrupt(id.to_string()).into()),
        }
    }
}

/// The query for the ledger; `None` if the outcome is of callbacks that it never has.
fn wanted(view: &View, query: &Query) -> Result<Option<LogQuery>, ApiError> {
    let outcome = query.read_as("outcome", "an outcome", Outcome::from_name)?;
    let test = match outcome {
        None | Some(Outcome::Accepted) => None,
        Some(Outcome::Test) => Some(true),
        Some(_) => return Ok(None),
    };
    let source = query.text("source").map(|name| source_id(view.config(), name));
    Ok(Some(LogQuery {
        source,
        transaction: query.text("transaction").map(str::to_owned),
        user: query.text("user").map(str::to_owned),
        test,
        since_ms: query.time("since")?,
        until_ms: query.time("until")?,
        ..LogQuery::default()
    }))
}

impl<'a> ResolutionView<'a> {
    fn of(kept: &'a StoredDocument<Resolution>) -> Self {
        Self { at: rfc3339(kept.at_ms), who: &kept.who, note: &kept.value.note }
    }
}

impl<'a> DeliveryView<'a> {
    fn of(delivery: &'a Delivery) -> Self {
        Self {
            destination: delivery.target.as_str(),
            state: delivery.state.as_str(),
            due_at: delivery.due_ms.map(rfc3339),
            attempts: delivery.attempts.iter().map(AttemptView::of).collect(),
        }
    }
}

impl<'a> AttemptView<'a> {
    fn of(attempt: &'a Attempt) -> Self {
        Self {
            at: rfc3339(attempt.at_ms),
            status: attempt.status,
            millis: attempt.latency_ms,
            answer: String::from_utf8_lossy(&attempt.head).into_owned(),
            error: attempt.error.as_deref(),
        }
    }
}

/// An event exactly as it is delivered, followed by the state of its deliveries.
fn with_deliveries(
    body: &Bytes,
    deliveries: &[DeliveryView<'_>],
    resolution: Option<&ResolutionView<'_>>,
) -> Option<Box<RawValue>> {
    let event = EventBody::json_of(body).ok()?;
    let members = std::str::from_utf8(&event).ok()?.trim_end().strip_suffix('}')?;
    let deliveries = serde_json::to_string(deliveries).ok()?;
    let resolved = match resolution {
        Some(view) => format!(",\"resolved_by_hand\":{}", serde_json::to_string(view).ok()?),
        None => String::new(),
    };
    RawValue::from_string(format!("{members},\"deliveries\":{deliveries}{resolved}}}")).ok()
}

/// An event exactly as it is delivered, followed by the state of its deliveries together.
fn with_state(logged: &Logged) -> Option<Box<RawValue>> {
    let event = EventBody::json_of(&logged.body).ok()?;
    let members = std::str::from_utf8(&event).ok()?.trim_end().strip_suffix('}')?;
    let state = logged.state.as_str();
    RawValue::from_string(format!("{members},\"delivery_state\":\"{state}\"}}")).ok()
}
