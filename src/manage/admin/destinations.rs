//! Destinations while the gateway runs: how they are, paused, resumed, tried.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Admin;
use crate::clock::{now_ms, rfc3339};
use crate::config::Format;
use crate::delivery::Condition;
use crate::ledger::{Event, EventBody, EventId, TargetId};
use crate::manage::http::{Answered, Problem, json};
use crate::sender::Request;

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
}

#[derive(Serialize)]
struct Paused<'a> {
    why: &'static str,
    at: String,
    who: &'a str,
}

/// A test event. What is left out is made up.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    source: Option<String>,
    user: Option<String>,
    item: Option<String>,
    amount: Option<String>,
    params: BTreeMap<String, String>,
    resolved: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Tried<'a> {
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
        let stats = self.book.stats().await.map_err(|error| Problem::ledger(&error))?;
        let counts = stats.targets.iter().find(|stats| stats.target == target);
        let Condition { breaker, paused, in_flight } = condition;
        Ok(json(&Status {
            destination: name,
            state: if paused.is_some() { "paused" } else { "active" },
            breaker: breaker.as_str(),
            paused: paused.as_deref().map(|pause| Paused {
                why: pause.why.as_str(),
                at: rfc3339(pause.at_ms),
                who: &pause.who,
            }),
            in_flight,
            pending: counts.map_or(0, |counts| counts.pending),
            dead: counts.map_or(0, |counts| counts.dead),
            oldest_due_seconds: counts.and_then(|counts| Some(counts.oldest_due?.as_secs())),
        }))
    }

    pub(super) async fn pause(&self, name: &str, who: &str) -> Answered {
        let target = self.destination(name).await?;
        self.control.pause(&target, who).await.map_err(|error| Problem::ledger(&error))?;
        tracing::info!(destination = name, who, "paused");
        self.status(name).await
    }

    pub(super) async fn resume(&self, name: &str, who: &str) -> Answered {
        let target = self.destination(name).await?;
        self.control.resume(&target, who).await.map_err(|error| Problem::ledger(&error))?;
        tracing::info!(destination = name, who, "resumed");
        self.status(name).await
    }

    /// Makes one attempt with an event that is made up, and tells what came of it.
    pub(super) async fn test(&self, name: &str, body: &Bytes) -> Answered {
        let target = self.destination(name).await?;
        let wanted = match body.is_empty() {
            true => Wanted::default(),
            false => serde_json::from_slice(body)
                .map_err(|error| Problem::bad(format!("the body cannot be read: {error}")))?,
        };
        let config = self.config.load();
        let format = config.destinations.get(name).map(|destination| destination.format);
        if format == Some(Format::Forward) {
            let detail = "format = \"forward\" passes on what a sender sent, and nobody sent this; \
                          make a genuine callback with `postern sign`";
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        let uses = |source: &&std::sync::Arc<crate::config::Source>| {
            source.destinations.iter().any(|used| used == name)
        };
        let first = || config.sources.values().find(uses).map(|source| source.name.clone());
        let source = wanted.source.clone().or_else(first).unwrap_or_else(|| String::from("test"));
        let id = EventId::new(now_ms());
        let stored = made_up(id, &source, wanted)
            .ok_or_else(|| Problem::bad("the event cannot be written"))?;
        let attempt = self.control.attempt(&target, id, &stored).await;
        let attempt = attempt.ok_or_else(|| self.no_destination(name))?;
        Ok(json(&Tried {
            event: id,
            destination: name,
            delivered: attempt.status.is_some_and(|status| (200..300).contains(&status)),
            status: attempt.status,
            millis: attempt.latency_ms,
            answer: String::from_utf8_lossy(&attempt.head).into_owned(),
            error: attempt.error.as_deref(),
        }))
    }

    async fn destination(&self, name: &str) -> Result<TargetId, Problem> {
        let target = TargetId::from(name);
        match self.control.condition(&target).await {
            Some(_) => Ok(target),
            None => Err(self.no_destination(name)),
        }
    }

    fn no_destination(&self, name: &str) -> Problem {
        match self.life.is_draining() {
            true => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway drains"),
            false => Problem::absent(format!("there is no destination {name:?}")),
        }
    }
}

/// An event that nobody sent and nobody records.
fn made_up(id: EventId, source: &str, wanted: Wanted) -> Option<Bytes> {
    let Wanted { user, item, amount, params, resolved, .. } = wanted;
    let made = |value: Option<String>, other: &str| {
        Some(std::borrow::Cow::Owned(value.unwrap_or_else(|| other.to_owned())))
    };
    let raw = |map: &BTreeMap<String, String>| {
        let text = serde_json::to_string(map).ok()?;
        Some(std::borrow::Cow::Owned(RawValue::from_string(text).ok()?))
    };
    let event = Event {
        id,
        source: source.into(),
        sender: "postern".into(),
        transaction: format!("test-{}", id.to_string().trim_start_matches("evt_")).into(),
        received_at: rfc3339(now_ms()),
        user: made(user, "test-user"),
        item: made(item, "test-item"),
        amount: made(amount, "1"),
        test: true,
        unresolved: vec![],
        authenticated: vec![],
        params: raw(&params)?,
        resolved: raw(&resolved)?,
        currency: None,
        custom: None,
        kind: None,
        reverses: None,
        recut: vec![],
    };
    let headers = HeaderMap::new();
    let request =
        Request { method: &Method::GET, target: b"/", base: "", headers: &headers, body: b"" };
    EventBody::encode(&event, &request, None).ok()
}
