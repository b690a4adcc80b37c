//! Callbacks that wait for a person: listed, released, dropped.

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Admin, query};
use crate::clock::rfc3339;
use crate::config::Config;
use crate::ledger::{Cursor, Decision, EventId, HeldId, HeldMark, HeldOne, HeldQuery, HeldWhy};
use crate::manage::http::{Answered, ApiError, Query, json, read_json_or_default};
use crate::operator::{
    DecideError, HeldDecision, HeldShown, View, decide_held, held_roles, show_held, source_id,
    source_name,
};
use crate::registry::Actor;

pub(super) const PARAMETERS: [&str; 8] =
    ["source", "why", "transaction", "user", "since", "until", "limit", "cursor"];

#[derive(Serialize)]
struct Page {
    held: Vec<Listed>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    id: String,
    why: &'static str,
    source: String,
    received_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<EventId>,
    /// The roles of the callback, and those of the existing event.
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_roles: Option<Map<String, Value>>,
}

/// The result of a decision.
#[derive(Serialize)]
struct Done {
    id: String,
    decision: &'static str,
    decided_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<EventId>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    reason: Option<String>,
}

impl Admin {
    pub(super) async fn held(&self, view: &View, head: &Parts) -> Answered {
        let query = Query::read(query(head), &PARAMETERS)?;
        let limit = query.limit()?;
        let cursor = query.cursor::<Cursor>()?;
        let why = query.read_as("why", "quarantine, ambiguous or conflict", HeldWhy::from_name)?;
        let config = view.config();
        let wanted = HeldQuery {
            source: query.text("source").map(|name| source_id(config, name)),
            why,
            transaction: query.text("transaction").map(str::to_owned),
            user: query.text("user").map(str::to_owned),
            since_ms: query.time("since")?,
            until_ms: query.time("until")?,
            ..HeldQuery::default()
        };
        let ledger = view.ledger(&self.ledger);
        let page = ledger.held(&wanted, cursor.as_ref(), limit).await?;
        let mut held = Vec::with_capacity(page.held.len());
        for one in page.held {
            held.push(Listed::of(show_held(&ledger, one).await?, config));
        }
        Ok(json(&Page { held, next_cursor: page.next.map(|cursor| cursor.to_string()) }))
    }

    /// One that waits, or the decision about it.
    pub(super) async fn held_one(&self, view: &View, id: &str) -> Answered {
        let unknown = || ApiError::absent(DecideError::Unknown.to_string());
        let id: HeldId = id.parse().map_err(|_| unknown())?;
        let ledger = view.ledger(&self.ledger);
        match ledger.held_one(id).await?.ok_or_else(unknown)? {
            HeldOne::Decided(mark) => Ok(json(&Done::of(&mark))),
            // A sample does not wait for a decision.
            HeldOne::Waiting(held) if held.why == HeldWhy::Rejected => Err(unknown()),
            HeldOne::Waiting(held) => {
                let shown = show_held(&ledger, *held).await?;
                Ok(json(&Listed::of(shown, view.config())))
            }
        }
    }

    pub(super) async fn decide_held(
        &self,
        view: &View,
        id: &str,
        decision: Decision,
        who: &Actor,
        body: &Bytes,
    ) -> Answered {
        let unknown = || ApiError::absent(DecideError::Unknown.to_string());
        let id = id.parse().map_err(|_| unknown())?;
        view.ledger(&self.ledger).held_one(id).await?.ok_or_else(unknown)?;
        let order: Order = read_json_or_default(body)?;
        let decision = HeldDecision { id, decision, reason: order.reason.as_deref() };
        let decided = decide_held(&self.registry, &self.callback_handler, who, decision).await;
        Ok(json(&Done::of(&decided.map_err(not_decided)?)))
    }
}

fn not_decided(error: DecideError) -> ApiError {
    let status = match error {
        DecideError::Ledger(error) => return error.into(),
        DecideError::Unknown => StatusCode::NOT_FOUND,
        DecideError::Already(_) | DecideError::Full => StatusCode::CONFLICT,
        DecideError::NoReason | DecideError::Unreadable(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    ApiError::new(status, error.to_string())
}

impl Listed {
    fn of(shown: HeldShown, config: &Config) -> Self {
        let HeldShown { held, event, first } = shown;
        let disputes = held.why != HeldWhy::Quarantine;
        let source = event.as_ref().map(|event| event.source.clone().into_owned());
        Self {
            id: held.id.to_string(),
            why: held.why.as_str(),
            source: source.unwrap_or_else(|| source_name(config, &held.event.source).to_owned()),
            received_at: rfc3339(held.event.received_ms),
            reason: held.reason.map(crate::sender::Reason::as_str),
            transaction: Some(held.event.transaction).filter(|text| !text.is_empty()),
            user: held.event.user,
            first: held.first,
            roles: event.as_ref().filter(|_| disputes).map(held_roles),
            first_roles: first.as_ref().map(held_roles),
        }
    }
}

impl Done {
    fn of(mark: &HeldMark) -> Self {
        Self {
            id: mark.id.to_string(),
            decision: match mark.decision {
                Decision::Release | Decision::Settle => "released",
                Decision::Drop => "dropped",
            },
            decided_at: rfc3339(mark.at_ms),
            event: mark.event,
        }
    }
}
