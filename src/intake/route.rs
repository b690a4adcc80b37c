//! Sources as they run: each with its counters, its rate and its times, found once and shared.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use smallvec::SmallVec;

use super::callback_log::CallbackLog;
use super::secret_uses::SecretUses;
use crate::clock;
use crate::config::{
    Config, Late, Mode, Rate, Readiness, Source, UrlFacts, concealed, nearest, without_name,
};
use crate::keys::{KeySetState, Keys};
use crate::ledger::{SourceId, TargetId};
use crate::plan::{Plan, Routing};
use crate::rate_limiter::RateLimiter;
use crate::sender::{SenderEffects, without_secrets};
use crate::telemetry::SourceMetrics;

/// Assumed patience of a sender whose patience is unknown: the shortest usual timeout.
const PATIENCE_UNKNOWN: Duration = Duration::from_secs(5);

/// Reserve of a sender's patience for the reply's transit: a tenth, within these bounds. The lower
/// bound is a slow round trip, the upper one is more than any.
const MARGIN_MIN: Duration = Duration::from_millis(100);
const MARGIN_MAX: Duration = Duration::from_millis(500);

/// Time beyond a sender's timeout for which silence lasts, so its clock surely ran out.
const SILENCE_MARGIN: Duration = Duration::from_secs(1);

/// Rejected callbacks of one source that are logged and kept: enough to see what is wrong, too few
/// for a forger to cause work. Counting goes on beyond it.
const FAILURES: Rate = Rate { count: 100, per: Duration::from_secs(10) };

/// Samples of rejected callbacks that a source keeps: as many as there is room for, and then enough
/// to have new ones. It bounds what a flood writes.
const SAMPLES: Rate = Rate { count: 2000, per: Duration::from_secs(86_400) };

/// Warnings that a quarantine has no room.
const FULL: Rate = Rate { count: 1, per: Duration::from_secs(600) };

/// Warnings that verified values contradict a sender's file: one is enough to point to the metric.
const MISFITS: Rate = Rate { count: 1, per: Duration::from_secs(600) };

/// A source as it runs.
#[derive(Debug)]
pub(super) struct Route {
    pub source: Arc<Source>,
    /// Its name as metrics and logs show it.
    pub label: Box<str>,
    pub id: SourceId,
    pub targets: SmallVec<[TargetId; 2]>,
    /// The destination whose verdict the sender waits for.
    pub inline: Option<Inline>,
    /// Where an event goes besides, or instead.
    pub routing: Option<Routing>,
    /// Destinations that are not sent every event.
    pub urls: Arc<UrlFactsTable>,
    /// The effects of its sender's events.
    pub effects: SenderEffects,
    /// Whether its sender's file reads the body of a request.
    pub reads_body: bool,
    pub counters: SourceMetrics,
    pub secrets: SecretUses,
    /// The public keys of its sender, where that has some.
    pub keys: Option<Arc<KeySetState>>,
    pub rate: Option<RateLimiter>,
    pub failures: RateLimiter,
    pub samples: RateLimiter,
    misfits: RateLimiter,
    full: RateLimiter,
    /// Scheme and authority as senders see them.
    pub base: Arc<str>,
    /// How old a callback in quarantine may be: what it repeats is still known then. `None`: as old
    /// as it is.
    pub releasable: Option<Duration>,
    /// From its arrival, when a callback has to be answered.
    pub patience: Duration,
    /// From its arrival, when silence ends.
    pub silence: Duration,
    pub body_time: Duration,
    pub callback_log: Arc<CallbackLog>,
}

/// The facts that URLs of destinations say of an event. Others are sent the event or the callback itself.
pub(super) type UrlFactsTable = BTreeMap<TargetId, UrlFacts>;

fn url_facts(config: &Config) -> UrlFactsTable {
    let all = config.destinations.iter();
    all.filter_map(|(name, to)| Some((TargetId::from(name.as_str()), UrlFacts::of(to)?))).collect()
}

/// A destination whose verdict a sender waits for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inline {
    pub target: TargetId,
    /// The answer to the sender if the verdict is late.
    pub late: Late,
}

impl Inline {
    /// Of the destinations of `source`; the configuration's check lets there be one.
    fn of(source: &Source, config: &Config) -> Option<Self> {
        source.destinations.iter().find_map(|name| match config.destinations.get(name)?.mode {
            Mode::Inline { late } => Some(Self { target: TargetId::from(name.as_str()), late }),
            Mode::Async => None,
        })
    }
}

type BuildNameHasher = BuildHasherDefault<NameHasher>;

/// FNV-1a: names are short, and only operators choose those that are in the map.
struct NameHasher(u64);

impl Default for NameHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x0100_0000_01b3);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One state of the configuration, as the hot path reads it.
#[derive(Debug)]
pub(super) struct View {
    /// By name, as written in a target.
    routes: HashMap<Box<[u8]>, Arc<Route>, BuildNameHasher>,
    urls: Arc<UrlFactsTable>,
    pub trusted: Vec<IpNet>,
    pub readiness: Readiness,
    health_path: Option<String>,
}

impl View {
    /// The sources of `plan`. A source that `before` had too keeps its counters and, if it did not
    /// change, its rate.
    pub(super) fn new(
        plan: &Plan,
        before: Option<&Self>,
        callback_log: &Arc<CallbackLog>,
        keys: &Keys,
    ) -> Self {
        let config = &*plan.config;
        let now = clock::instant();
        let base: Arc<str> = config.server.public_url.as_deref().unwrap_or_default().into();
        let urls = url_facts(config);
        let urls = match before.filter(|before| *before.urls == urls) {
            Some(before) => Arc::clone(&before.urls),
            None => Arc::new(urls),
        };
        let routes = config.sources.iter().map(|(name, source)| {
            let old = before.and_then(|view| view.route(name));
            let key = Box::from(name.as_bytes());
            let routing = plan.routing.get(name);
            let inline = Inline::of(source, config);
            let body_time = config.server.limits.body_timeout;
            if let Some(same) = old.filter(|old| old.is_same(source, &base, body_time))
                && routing.is_none()
                && same.inline == inline
                && Arc::ptr_eq(&same.urls, &urls)
            {
                return (key, Arc::clone(same));
            }
            let mut route = Route::new(source, Arc::clone(&base), callback_log, now);
            route.body_time = body_time;
            route.inline = inline;
            route.urls = Arc::clone(&urls);
            let keep = source.keep.transactions.unwrap_or(config.store.keep_transactions);
            route.releasable = releasable(source, keep);
            route.routing = routing.cloned();
            route.keys = keys.of(&source.recipe);
            if let Some(old) = old {
                let ids = source.recipe.secret_ids();
                route.secrets = SecretUses::new(ids, Some(&old.secrets));
                route.samples = old.samples.snapshot();
            }
            if let Some(old) = old.filter(|old| old.source.rate == source.rate) {
                route.rate = old.rate.as_ref().map(RateLimiter::snapshot);
            }
            (key, Arc::new(route))
        });
        let view = Self {
            routes: routes.collect(),
            urls: Arc::clone(&urls),
            trusted: config.server.trusted_proxies.clone(),
            readiness: config.server.readiness,
            health_path: config.server.health_path.clone(),
        };
        if let Some(before) = before {
            view.forget_series(before, callback_log);
        }
        view
    }

    /// Whether a target is where balancers ask.
    pub(super) fn is_health(&self, target: &[u8]) -> bool {
        self.health_path.as_ref().is_some_and(|path| path.as_bytes() == path_of(target))
    }

    /// The source called `name`.
    pub(super) fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.route_of(name.as_bytes())
    }

    /// The source of that name, as written in a target.
    pub(super) fn route_of(&self, name: &[u8]) -> Option<&Arc<Route>> {
        self.routes.get(name)
    }

    /// The source of that id.
    pub(super) fn of_id(&self, id: &SourceId) -> Option<&Arc<Route>> {
        let named = self.route(id.as_str()).filter(|route| route.id == *id);
        named.or_else(|| self.routes.values().find(|route| route.id == *id))
    }

    /// The source that the caller of `path` probably meant.
    pub(super) fn nearest(&self, path: &str) -> Option<&Arc<Route>> {
        let word = path.rsplit('/').find(|part| !part.is_empty())?;
        let names: Vec<&str> = self.routes.values().map(|route| &*route.source.name).collect();
        self.route(nearest(word, &names)?)
    }

    /// `path` without secrets, without names that are a protection, and without what is nearly such a
    /// name.
    pub(super) fn concealed(&self, path: &str) -> String {
        let path = without_secrets(path, self.routes.values().map(|route| &route.source.recipe));
        let mut shown = concealed(&path);
        for route in self.routes.values() {
            let name = &route.source.name;
            if *route.source.label() != **name
                && let Some(without) = without_name(shown.as_bytes(), name)
            {
                shown = String::from_utf8_lossy(&without).into_owned();
            }
        }
        shown
    }

    /// Takes the series away of sources and secrets that are no more.
    fn forget_series(&self, before: &Self, callback_log: &CallbackLog) {
        for (name, old) in &before.routes {
            let new = self.routes.get(name).filter(|new| new.label == old.label);
            let name = &*old.label;
            let Some(new) = new else {
                callback_log.metrics.forget_source(name, &old.counters);
                continue;
            };
            for id in old.counters.secrets() {
                if !new.counters.secrets().any(|kept| kept == id) {
                    callback_log.metrics.forget_secret(name, id);
                }
            }
            for parameter in old.counters.shaped() {
                if !new.counters.shaped().any(|kept| kept == parameter) {
                    callback_log.metrics.forget_shaped(name, parameter);
                }
            }
        }
    }
}

/// The part of a target before its query.
#[inline]
pub(super) fn path_of(target: &[u8]) -> &[u8] {
    &target[..memchr::memchr(b'?', target).unwrap_or(target.len())]
}

/// How long before now a callback may have come, to be released: its keys and those of what it
/// repeats are kept for as long as it is in quarantine, or for what is left of the usual time.
fn releasable(source: &Source, keep: Duration) -> Option<Duration> {
    let needed = source.recipe.acceptable_for()?;
    let beyond = keep.max(needed) - needed;
    Some(beyond + source.quarantine.as_ref().map_or(Duration::ZERO, |held| held.keep))
}

impl Route {
    /// Counts the values of a verified callback that contradict the sender's file, and warns
    /// occasionally: the file is wrong, or the provider has changed its values.
    pub(super) fn note_misfits(&self, parameters: &[String]) {
        if parameters.is_empty() {
            return;
        }
        self.counters.count_misfits(parameters);
        if self.misfits.take(clock::instant()) {
            let (source, parameters) = (&*self.label, parameters.join(" "));
            tracing::warn!(
                target: "postern::callback",
                source,
                parameters,
                "a verified callback contradicts the sender's file"
            );
        }
    }

    /// Warns occasionally that rejected callbacks are not held any more.
    pub(super) fn say_quarantine_is_full(&self) {
        if self.full.take(clock::instant()) {
            let source = &*self.label;
            tracing::warn!(
                target: "postern::callback",
                source,
                "the quarantine has no room for this caller: release or drop what is held, or raise \
                 quarantine.max"
            );
        }
    }

    /// Whether another one would be just like it: of thousands of sources one has changed.
    fn is_same(&self, source: &Arc<Source>, base: &Arc<str>, body_time: Duration) -> bool {
        Arc::ptr_eq(&self.source, source)
            && self.base == *base
            && self.body_time == body_time
            && self.routing.is_none()
            && self.keys.is_none()
    }

    fn new(
        source: &Arc<Source>,
        base: Arc<str>,
        callback_log: &Arc<CallbackLog>,
        now: Instant,
    ) -> Self {
        let recipe = &source.recipe;
        let patience = recipe.sender().retries().timeout.unwrap_or(PATIENCE_UNKNOWN);
        let margin = (patience / 10).clamp(MARGIN_MIN, MARGIN_MAX);
        Self {
            id: SourceId::from(source.id.as_str()),
            targets: source.destinations.iter().map(|name| TargetId::from(name.as_str())).collect(),
            routing: None,
            urls: Arc::default(),
            effects: recipe.sender().effects(),
            reads_body: recipe.reads_body(),
            keys: None,
            label: source.label().into(),
            counters: callback_log.metrics.source(
                &source.label(),
                recipe.secret_ids(),
                recipe.shaped().iter().map(String::as_str),
            ),
            secrets: SecretUses::new(recipe.secret_ids(), None),
            rate: source.rate.map(|rate| RateLimiter::new(rate, now)),
            failures: RateLimiter::new(FAILURES, now),
            samples: RateLimiter::new(SAMPLES, now),
            misfits: RateLimiter::new(MISFITS, now),
            full: RateLimiter::new(FULL, now),
            base,
            releasable: None,
            patience: patience.saturating_sub(margin).max(MARGIN_MIN),
            silence: patience + SILENCE_MARGIN,
            body_time: patience,
            inline: None,
            callback_log: Arc::clone(callback_log),
            source: Arc::clone(source),
        }
    }
}
