//! Deliveries by state, and doing them again.

use std::collections::HashMap;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;

use super::{Admin, query};
use crate::clock::rfc3339;
use crate::ledger::{
    Attempt, Cursor, Delivery, DeliveryQuery, DeliveryState, EventBody, EventDetail, EventId,
    LedgerError, TargetId,
};
use crate::manage::http::{Answered, ApiError, Query, json};
use crate::operator::{ReplayEventError, ReplayedEvent, SeenLedger, View, replay_event};
use crate::registry::Actor;

/// Events that are read together for a page: with bodies of 256 KiB, the usual maximum, 25 MiB.
const EVENTS_TOGETHER: usize = 100;

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
    /// `None`: the event is no longer kept, or cannot be read.
    source: Option<String>,
    transaction: Option<String>,
    user: Option<String>,
    /// The result of the last attempt.
    last_status: Option<u16>,
    last_error: Option<String>,
}

/// Details of a delivery in a list: its event and its last attempt.
#[derive(Default)]
struct DeliveryFacts {
    source: Option<String>,
    transaction: Option<String>,
    user: Option<String>,
    last: Option<Attempt>,
}

/// The counts that a replay began with.
#[derive(Serialize)]
struct Replayed {
    events: u64,
    deliveries: u64,
    skipped: u64,
}

impl Admin {
    pub(super) async fn deliveries(&self, view: &View, head: &Parts) -> Answered {
        let query = Query::read(query(head), &PARAMETERS)?;
        let limit = query.limit()?;
        let cursor = query.cursor::<Cursor>()?;
        let state = query.read_as("state", "pending, dead or done", DeliveryState::from_name)?;
        let state =
            state.ok_or_else(|| ApiError::bad("state is missing: pending, dead or done"))?;
        let target = query.text("destination").map(TargetId::from);
        let wanted = DeliveryQuery { target, ..DeliveryQuery::of(state) };
        let ledger = view.ledger(&self.ledger);
        let page = ledger.deliveries(&wanted, cursor.as_ref(), limit).await?;
        let facts = facts(&ledger, &page.deliveries).await?;
        let rows = page.deliveries.iter().zip(facts);
        Ok(json(&Page {
            deliveries: rows.map(|(delivery, facts)| Listed::of(delivery, facts)).collect(),
            next_cursor: page.next.map(|cursor| cursor.to_string()),
        }))
    }

    /// Delivers one event again, to every destination that it has and that is configured: see
    /// [`no_choice`].
    pub(super) async fn replay(&self, view: &View, id: &str, who: &Actor) -> Answered {
        let absent = || ApiError::absent("there is no event of that id (any more)");
        let id: EventId = id.parse().map_err(|_| absent())?;
        view.ledger(&self.ledger).event(id).await?.ok_or_else(absent)?;
        let replayed = replay_event(&self.registry, &self.control, who, id).await;
        let replayed = replayed.map_err(|not| match not {
            ReplayEventError::Ledger(error) => ApiError::from(error),
            none @ ReplayEventError::Unconfigured(_) => {
                ApiError::new(StatusCode::CONFLICT, none.to_string())
            }
        })?;
        let ReplayedEvent { events, deliveries, skipped } = replayed.ok_or_else(absent)?;
        let mut answer = json(&Replayed { events, deliveries, skipped });
        *answer.status_mut() = StatusCode::ACCEPTED;
        Ok(answer)
    }
}

/// Refuses a replay of one event that names a destination or anything else: it would not be heeded, and
/// the event would go to all of its destinations.
pub(super) fn no_choice(head: &Parts, body: &Bytes) -> Result<(), ApiError> {
    let is_empty = matches!(body.trim_ascii(), b"" | b"{}");
    if is_empty && query(head).is_none_or(str::is_empty) {
        return Ok(());
    }
    Err(ApiError::bad(
        "this delivers the event to all of its destinations, and takes no query and no body; send \
         \"events\", \"destination\" and \"dry_run\" to POST /admin/v1/replay",
    ))
}

/// Returns the details of `deliveries`, in their order. Each event is read once.
async fn facts(
    ledger: &SeenLedger,
    deliveries: &[Delivery],
) -> Result<Vec<DeliveryFacts>, LedgerError> {
    let mut ids: Vec<EventId> = deliveries.iter().map(|delivery| delivery.event).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut all: HashMap<(EventId, TargetId), DeliveryFacts> =
        HashMap::with_capacity(deliveries.len());
    for ids in ids.chunks(EVENTS_TOGETHER) {
        match ledger.events(ids).await {
            Ok(details) => all.extend(details.into_iter().flatten().flat_map(DeliveryFacts::of)),
            // A damaged event must not hide the list that it is in.
            Err(LedgerError::Corrupt(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let one = |delivery: &Delivery| all.remove(&(delivery.event, delivery.target.clone()));
    Ok(deliveries.iter().map(one).map(Option::unwrap_or_default).collect())
}

impl DeliveryFacts {
    /// The deliveries of an event, each with its key.
    fn of(detail: EventDetail) -> impl Iterator<Item = ((EventId, TargetId), Self)> {
        let EventDetail { event, deliveries } = detail;
        let read = EventBody::decode(&event.body).and_then(|body| body.event()).ok();
        deliveries.into_iter().map(move |mut delivery| {
            let event_of = read.as_ref();
            let facts = Self {
                source: event_of.map(|event| event.source.clone().into_owned()),
                transaction: event_of.map(|event| event.transaction.clone().into_owned()),
                user: event_of.and_then(|event| event.user.as_deref().map(str::to_owned)),
                last: delivery.attempts.pop(),
            };
            ((event.id, delivery.target), facts)
        })
    }
}

impl<'a> Listed<'a> {
    fn of(delivery: &'a Delivery, facts: DeliveryFacts) -> Self {
        let DeliveryFacts { source, transaction, user, last } = facts;
        Self {
            event: delivery.event,
            destination: delivery.target.as_str(),
            state: delivery.state.as_str(),
            attempt: delivery.attempt,
            due_at: delivery.due_ms.map(rfc3339),
            source,
            transaction,
            user,
            last_status: last.as_ref().and_then(|last| last.status),
            last_error: last.and_then(|last| last.error),
        }
    }
}
