//! Metrics, liveness, readiness.

use http::{HeaderValue, StatusCode};

use super::Admin;
use crate::ledger::Stats;
use crate::lifecycle::Phase;
use crate::manage::http::{Answered, Problem, with_body};
use crate::wire::Response;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

/// A count as a gauge takes it.
fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Admin {
    /// The page that is scraped. What has to be asked for is asked for now: nothing polls.
    pub(super) async fn metrics(&self) -> Answered {
        self.metrics.ready.set(i64::from(self.not_ready().await.is_none()));
        self.keys.observe();
        if let Ok(health) = self.book.health().await {
            self.metrics.store.bytes.set(whole(health.bytes));
            if let Some(room) = health.room {
                self.metrics.store.free_bytes.set(whole(room.free));
                self.metrics.store.reserve_bytes.set(whole(room.reserve));
            }
            self.metrics.store.set_durability(health.durability);
        }
        if let Ok(stats) = self.book.stats().await {
            self.metrics.store.events.set(whole(stats.events));
            self.metrics.store.keys.set(whole(stats.keys));
            let oldest = stats.oldest_due.unwrap_or_default();
            self.metrics.oldest_due_seconds.set(oldest.as_secs_f64());
            for name in self.config().destinations.keys() {
                let target = stats.targets.iter().find(|target| target.target.as_str() == name);
                let pending = target.map_or(0, |target| target.pending);
                self.metrics.delivery_backlog.with_label_values(&[name]).set(whole(pending));
            }
            self.observe_held(&stats);
        }
        match self.metrics.page() {
            Ok(page) => Ok(with_body(StatusCode::OK, EXPOSITION, page)),
            Err(error) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        }
    }

    /// Sources under their names; one that is no longer configured under its id, while something of
    /// it waits.
    fn observe_held(&self, stats: &Stats) {
        let config = self.config();
        let count = |id: &str| {
            let held = stats.held.iter().find(|held| held.source.as_str() == id);
            held.map_or(0, |held| held.count)
        };
        let named = config.sources.iter().map(|(name, source)| (name.as_str(), count(&source.id)));
        let is_known = |id: &str| config.sources.values().any(|source| source.id == id);
        let gone = stats.held.iter().filter(|held| !is_known(held.source.as_str()));
        let gone = gone.map(|held| (held.source.as_str(), held.count));
        self.metrics.store.set_held(named.chain(gone));
    }

    /// The process answers.
    pub(super) fn alive() -> Response {
        with_body(StatusCode::OK, PLAIN, "ok\n")
    }

    /// Whether callbacks should be sent here.
    pub(super) async fn ready(&self) -> Response {
        match self.not_ready().await {
            None => with_body(StatusCode::OK, PLAIN, "ready\n"),
            Some(why) => with_body(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n")),
        }
    }

    async fn not_ready(&self) -> Option<String> {
        match self.life.phase() {
            Phase::Ready => {}
            phase => return Some(phase.as_str().to_owned()),
        }
        match self.book.health().await {
            Ok(health) => health.unready(),
            Err(error) => Some(error.to_string()),
        }
    }
}
