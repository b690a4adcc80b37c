//! Metrics, liveness, readiness.

use std::collections::HashMap;
use std::iter;

use http::{HeaderValue, StatusCode};

use super::Admin;
use crate::clock::now_ms;
use crate::config::concealed;
use crate::ledger::{Health, Stats};
use crate::lifecycle::{Unready, unready};
use crate::manage::http::{Answered, ApiError, with_body};
use crate::registry::unconfigured;
use crate::telemetry::Metrics;
use crate::wire::Response;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

/// Destinations with a series that the configuration does not have: earlier configurations leave a
/// few, and a store that was imported must not make series without end.
const UNCONFIGURED_MAX: usize = 100;

impl Admin {
    /// The page that is scraped. Values that need a query are fetched on request: nothing polls.
    pub(super) async fn metrics(&self) -> Answered {
        self.metrics.ready.set(i64::from(self.unready().await.is_none()));
        self.keys.observe();
        self.metrics.observe_callbacks(now_ms());
        self.observe_health(self.ledger.health().await.as_ref().ok());
        self.observe_stats(self.ledger.stats().await.as_ref().ok());
        let scrubbed = self.scrubber.complete_ms().map(|ms| ms as f64 / 1000.0);
        self.metrics.store.scrub_complete_seconds.set(scrubbed);
        page(&self.metrics)
    }

    /// Unknown values are absent: a zero would look like good news.
    fn observe_health(&self, health: Option<&Health>) {
        let store = &self.metrics.store;
        let room = health.and_then(|health| health.room);
        store.free_bytes.set(room.map(|room| room.free as f64));
        store.reserve_bytes.set(room.map(|room| room.reserve as f64));
        store.bytes.set(health.and_then(|health| health.bytes).map(|bytes| bytes as f64));
        let server = health.and_then(|health| health.server.as_ref());
        let ahead_ms = server.and_then(|server| server.clock_ahead_ms);
        store.clock_offset_seconds.set(ahead_ms.map(|ms| ms as f64 / 1000.0));
        let snapshot = server.and_then(|server| server.oldest_snapshot);
        store.oldest_snapshot_seconds.set(snapshot.map(|age| age.as_secs_f64()));
        let age = server.and_then(|server| server.transaction_age);
        store.transaction_age.set(age.map(|age| age as f64));
        for (code, count) in server.into_iter().flat_map(|server| &server.faults) {
            store.set_faults(*code, *count);
        }
        if let Some(health) = health {
            store.set_durability(health.durability);
            store.damaged.set(i64::from(!health.damage.is_empty()));
        }
    }

    fn observe_stats(&self, known: Option<&Stats>) {
        let metrics = &self.metrics;
        metrics.store.events.set(known.map(|stats| stats.events as f64));
        metrics.store.keys.set(known.map(|stats| stats.keys as f64));
        let oldest = known.map(|stats| stats.oldest_due.unwrap_or_default());
        metrics.oldest_due_seconds.set(oldest.map(|due| due.as_secs_f64()));
        let Some(stats) = known else { return metrics.set_backlog(iter::empty()) };
        self.observe_backlog(stats);
        self.observe_held(stats);
    }

    /// Destinations of the configuration; besides, those that it does not have, while something of
    /// them is not settled.
    fn observe_backlog(&self, stats: &Stats) {
        let config = self.config();
        let targets = stats.targets.iter().map(|target| (target.target.as_str(), target.pending));
        let pending: HashMap<&str, u64> = targets.collect();
        let count = |name: &str| pending.get(name).copied().unwrap_or(0);
        let named = config.destinations.keys().map(|name| (name.as_str(), count(name)));
        let gone = unconfigured(&config, stats).into_iter().take(UNCONFIGURED_MAX);
        let gone = gone.map(|target| (target.target.as_str(), target.pending));
        self.metrics.set_backlog(named.chain(gone));
    }

    /// Sources under their names; one that is no longer configured under its id, while something of
    /// it waits.
    fn observe_held(&self, stats: &Stats) {
        let config = self.config();
        let count = |id: &str| {
            let held = stats.held.iter().find(|held| held.source.as_str() == id);
            held.map_or(0, |held| held.count)
        };
        let named = config.sources.values().map(|source| (source.label(), count(&source.id)));
        let is_known = |id: &str| config.sources.values().any(|source| source.id == id);
        let gone = stats.held.iter().filter(|held| !is_known(held.source.as_str()));
        let gone = gone.map(|held| (concealed(held.source.as_str()).into(), held.count));
        self.metrics.store.set_held(named.chain(gone));
    }

    /// Whether callbacks should be sent here, as `server.readiness` says.
    pub(super) async fn ready(&self) -> Response {
        match self.unready().await {
            None => with_body(StatusCode::OK, PLAIN, "ready\n"),
            Some(unready) if unready.counts(self.config().server.readiness) => {
                not_ready(unready.why())
            }
            Some(unready) => {
                with_body(StatusCode::OK, PLAIN, format!("ready, but {}\n", unready.why()))
            }
        }
    }

    async fn unready(&self) -> Option<Unready> {
        unready(&self.life, &self.ledger).await
    }
}

/// The process answers.
pub(super) fn alive() -> Response {
    with_body(StatusCode::OK, PLAIN, "ok\n")
}

/// Callbacks should not be sent here.
pub(super) fn not_ready(why: &str) -> Response {
    with_body(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n"))
}

/// The page of the metrics as they are.
pub(super) fn page(metrics: &Metrics) -> Answered {
    metrics.program.observe();
    match metrics.page() {
        Ok(page) => Ok(with_body(StatusCode::OK, EXPOSITION, page)),
        Err(error) => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
