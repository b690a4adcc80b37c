//! Destinations while the gateway runs: how they are, paused, resumed, tried.

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Admin;
use crate::clock::rfc3339;
use crate::delivery::{BreakerState, Condition};
use crate::ledger::{EventId, TargetId};
use crate::manage::http::{Answered, ApiError, json, read_json_or_default};
use crate::operator::{REASON_BYTES_MAX, TestDeliveryError, TestEvent, pause, resume, try_out};
use crate::registry::{Actor, Managed};

#[derive(Serialize)]
struct Status<'a> {
    destination: &'a str,
    state: &'static str,
    breaker: &'static str,
    paused: Option<Paused<'a>>,
    in_flight: usize,
    pending: u64,
    dead: u64,
    oldest_due_seconds: Option<u64>,
    /// On this gateway, since its start.
    last_success_at: Option<String>,
    last_failure: Option<Failure<'a>>,
    /// Failed attempts in a row.
    failures: u32,
}

#[derive(Serialize)]
struct Failure<'a> {
    at: String,
    status: Option<u16>,
    error: Option<&'a str>,
}

/// The body of an order to pause.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PauseOrder {
    reason: Option<String>,
}

#[derive(Serialize)]
struct Paused<'a> {
    why: &'static str,
    at: String,
    who: &'a str,
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Attempted<'a> {
    event: EventId,
    destination: &'a str,
    delivered: bool,
    status: Option<u16>,
    millis: u32,
    answer: String,
    error: Option<&'a str>,
}

impl Admin {
    pub(super) async fn status(&self, name: &str) -> Answered {
        let target = TargetId::from(name);
        let Some(condition) = self.control.condition(&target).await else {
            return Err(self.no_destination(name));
        };
        let stats = self.ledger.stats().await?;
        let counts = stats.targets.iter().find(|stats| stats.target == target);
        let Condition { breaker, paused, in_flight, health } = condition;
        Ok(json(&Status {
            destination: name,
            state: if paused.is_some() { "paused" } else { "active" },
            breaker: breaker.as_str(),
            paused: paused.as_deref().map(|pause| Paused {
                why: pause.why.as_str(),
                at: rfc3339(pause.at_ms),
                who: &pause.who,
                reason: pause.note.as_deref(),
            }),
            in_flight,
            pending: counts.map_or(0, |counts| counts.pending),
            dead: counts.map_or(0, |counts| counts.dead),
            oldest_due_seconds: counts.and_then(|counts| Some(counts.oldest_due?.as_secs())),
            last_success_at: health.delivered_ms.map(rfc3339),
            last_failure: health.failed_ms.map(|failed_ms| Failure {
                at: rfc3339(failed_ms),
                status: health.status,
                error: health.error.as_deref(),
            }),
            failures: health.failures,
        }))
    }

    pub(super) async fn pause(&self, name: &str, who: &Actor, body: &Bytes) -> Answered {
        let order: PauseOrder = read_json_or_default(body)?;
        let reason = order.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
        if reason.is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
            return Err(ApiError::bad(format!("reason: {REASON_BYTES_MAX} bytes at most")));
        }
        let target = self.destination(name).await?;
        pause(&self.registry, &self.control, who, &target, reason).await?;
        self.status(name).await
    }

    pub(super) async fn resume(&self, name: &str, who: &Actor) -> Answered {
        let target = self.destination(name).await?;
        resume(&self.registry, &self.control, who, &target).await?;
        self.status(name).await
    }

    /// Makes one attempt with an event that is made up, and tells what came of it.
    pub(super) async fn test(&self, name: &str, who: &Actor, body: &Bytes) -> Answered {
        let wanted: TestEvent = read_json_or_default(body)?;
        let tried = try_out(&self.registry, &self.control, who, name, wanted).await;
        let tried = tried.map_err(|untried| match untried {
            TestDeliveryError::Absent => self.no_destination(name),
            TestDeliveryError::Off => {
                let detail = "the gateway runs with --no-deliveries: it sends nothing to any \
                              destination; start it without";
                ApiError::new(StatusCode::CONFLICT, detail)
            }
            TestDeliveryError::Forward => {
                let detail = "format = \"forward\" passes on a sender's request, and this event \
                              has none; make a callback with `postern sign`";
                ApiError::new(StatusCode::CONFLICT, detail)
            }
            TestDeliveryError::Unwritten => ApiError::bad("the event cannot be written"),
            TestDeliveryError::Unnoted(error) => ApiError::from(error),
        })?;
        let attempt = &tried.attempt;
        Ok(json(&Attempted {
            event: tried.event,
            destination: name,
            delivered: tried.is_delivered(),
            status: attempt.status,
            millis: attempt.latency_ms,
            answer: String::from_utf8_lossy(&attempt.head).into_owned(),
            error: attempt.error.as_deref(),
        }))
    }

    /// The destinations, each with its state.
    pub(super) async fn destinations(&self) -> Answered {
        let mut list = self.registry.running().list(Managed::Destination);
        for one in &mut list {
            let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
            let condition = self.control.condition(&TargetId::from(name)).await;
            let (Value::Object(table), Some(condition)) = (one, condition) else { continue };
            let state = match (condition.paused, condition.breaker) {
                (Some(_), _) => "paused",
                (None, BreakerState::Closed) => "active",
                (None, BreakerState::Open | BreakerState::HalfOpen) => "failing",
            };
            table.insert(String::from("state"), state.into());
        }
        Ok(json(&json!({ "destinations": list, "next_cursor": null })))
    }

    async fn destination(&self, name: &str) -> Result<TargetId, ApiError> {
        let target = TargetId::from(name);
        match self.control.condition(&target).await {
            Some(_) => Ok(target),
            None => Err(self.no_destination(name)),
        }
    }

    fn no_destination(&self, name: &str) -> ApiError {
        match self.life.is_draining() {
            true => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway drains"),
            false => ApiError::absent(format!("there is no destination {name:?}")),
        }
    }
}
