//! Deliveries by state, and doing them again.

use http::StatusCode;
use http::request::Parts;
use serde::Serialize;

use super::{Admin, query};
use crate::clock::rfc3339;
use crate::ledger::{Cursor, Delivery, DeliveryQuery, DeliveryState, EventId, TargetId};
use crate::manage::http::{Answered, ApiError, Query, json};
use crate::operator::{View, replay_event};
use crate::registry::Actor;

pub(super) const PARAMETERS: [&str; 4] = ["state", "destination", "limit", "cursor"];

#[derive(Serialize)]
struct Page<'a> {
    deliveries: Vec<Listed<'a>>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct Listed<'a> {
    event: EventId,
    destination: &'a str,
    state: &'static str,
    attempt: u32,
    due_at: Option<String>,
}

/// The counts that a replay began with.
#[derive(Serialize)]
struct Replayed {
    events: u64,
    deliveries: u64,
}

impl Admin {
    pub(super) async fn deliveries(&self, view: &View, head: &Parts) -> Answered {
        let query = Query::read(query(head), &PARAMETERS)?;
        let limit = query.limit()?;
        let cursor = query
            .read_as("cursor", "the next_cursor of a page", |text| text.parse::<Cursor>().ok())?;
        let state = query.read_as("state", "pending, dead or done", DeliveryState::from_name)?;
        let state =
            state.ok_or_else(|| ApiError::bad("state is missing: pending, dead or done"))?;
        let target = query.text("destination").map(TargetId::from);
        let wanted = DeliveryQuery { target, ..DeliveryQuery::of(state) };
        let page = view.ledger(&self.book).deliveries(&wanted, cursor.as_ref(), limit).await;
        let page = page.map_err(|error| ApiError::ledger(&error))?;
        Ok(json(&Page {
            deliveries: page.deliveries.iter().map(Listed::of).collect(),
            next_cursor: page.next.map(|cursor| cursor.to_string()),
        }))
    }

    /// Delivers one event again, to every destination that it has.
    pub(super) async fn replay(&self, view: &View, id: &str, who: &Actor) -> Answered {
        let absent = || ApiError::absent("there is no event of that id (any more)");
        let id: EventId = id.parse().map_err(|_| absent())?;
        let known = view.ledger(&self.book).event(id).await;
        known.map_err(|error| ApiError::ledger(&error))?.ok_or_else(absent)?;
        let replayed = replay_event(&self.registry, &self.control, who, id).await;
        let page = replayed.map_err(|error| ApiError::ledger(&error))?.ok_or_else(absent)?;
        let mut answer = json(&Replayed { events: page.events, deliveries: page.deliveries });
        *answer.status_mut() = StatusCode::ACCEPTED;
        Ok(answer)
    }
}

impl<'a> Listed<'a> {
    fn of(delivery: &'a Delivery) -> Self {
        Self {
            event: delivery.event,
            destination: delivery.target.as_str(),
            state: delivery.state.as_str(),
            attempt: delivery.attempt,
            due_at: delivery.due_ms.map(rfc3339),
        }
    }
}
