//! The callback handler: a request to `/callback/<source>` through its phases, to its sender's
//! reply.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{Method, StatusCode};

use super::callback_log::{CallbackLog, CallbackRecord};
use super::callback_trace::CallbackTrace;
use super::client::{self, Caller};
use super::held_requests::HeldRequests;
use super::http_reply::{bare, emptied, plain, question, respond};
use super::judging::{EarlyReply, Slot, Taken, end_unrecorded};
use super::received::Received;
use super::recent::Recent;
use super::rejections::Rejections;
use super::reply::{Reply, Unacknowledged};
use super::route::{Route, View, path_of};
use super::test_calls::{TestCall, TestCalls};
use crate::clock::{self, UnixMillis};
use crate::keys::{Keys, Subscription};
use crate::ledger::BatchedLedger;
use crate::lifecycle::{Lifecycle, Phase, unready};
use crate::plan::Plan;
use crate::sender::{Callback, Reason};
use crate::telemetry::Metrics;
use crate::verdict::Verdicts;
use crate::wire::{
    BodyBounds, BodyError, BytePool, CloseWithoutReply, Peer, RequestBody, ReservedBytes, Response,
    WireHandler, WireRequest,
};

/// From one question whether the store has keys of earlier versions to the next: an import brings
/// some, and waits for a few of these. The engines know the answer without reading anything.
const OLDER_KEYS_EVERY: Duration = Duration::from_secs(1);

/// Where every callback's path begins.
const PREFIX: &[u8] = b"/callback/";

/// The receiving path, shared by all threads that serve it.
#[derive(Clone, Debug)]
pub struct CallbackHandler(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) view: ArcSwap<View>,
    pub(super) callback_log: Arc<CallbackLog>,
    /// Empty until the store is open and all configuration is known.
    pub(super) ledger: OnceLock<BatchedLedger>,
    life: Arc<Lifecycle>,
    keys: Keys,
    pool: Arc<BytePool>,
    held: HeldRequests,
    pub(super) verdicts: Verdicts,
    test_calls: Arc<TestCalls>,
    /// The store is known to have no keys of earlier versions.
    pub(super) no_older_keys: AtomicBool,
}

/// A callback in progress. It stays in one place, because the futures that handle it are moved.
struct Exchange {
    began: Instant,
    received: Received,
    /// Dropped last: it counts and logs the callback.
    slot: Slot,
}

/// A request whose head was read.
enum Begun {
    Callback(Box<Exchange>),
    /// A balancer's question.
    Health(Method),
    /// Anything else, with its answer.
    Elsewhere(Box<Response>),
}

/// The nature of a request that belongs to no source.
enum Elsewhere {
    /// A balancer's question.
    Health,
    Nothing(StatusCode),
}

impl CallbackHandler {
    /// The receiving path for the sources of `plan`. The limits over all sources together stay
    /// those of this plan; everything else follows [`CallbackHandler::apply`]. Until `life` is
    /// ready, callbacks are verified, and then wait within their sender's patience.
    #[must_use]
    pub fn new(plan: &Plan, keys: Keys, metrics: Arc<Metrics>, life: Arc<Lifecycle>) -> Self {
        let callback_log = CallbackLog::new(metrics);
        callback_log.sample_lines(&plan.config.callback_lines);
        let limits = &plan.config.server.limits;
        Self(Arc::new(Shared {
            view: ArcSwap::from_pointee(View::new(plan, None, &callback_log, &keys)),
            callback_log,
            ledger: OnceLock::new(),
            life,
            keys,
            pool: BytePool::new(limits.unverified_body_bytes, limits.connections),
            held: HeldRequests::new(limits.held),
            verdicts: Verdicts::default(),
            test_calls: Arc::default(),
            no_older_keys: AtomicBool::new(false),
        }))
    }

    /// Records in `ledger` from now on. All configuration must have been applied before.
    pub fn open(&self, ledger: BatchedLedger) {
        // Only the program's one start calls it.
        self.0.callback_log.rejections.open(ledger.clone());
        let _ = self.0.ledger.set(ledger);
    }

    /// Asks the store, now and once a second, whether it may have keys of earlier versions. Until
    /// it says that it has none, they are looked up too.
    pub async fn follow_older_keys(&self) {
        loop {
            if let Some(ledger) = self.0.ledger.get()
                && let Ok(may_have) = ledger.may_hold_older_keys().await
            {
                self.0.no_older_keys.store(!may_have, Ordering::Relaxed);
            }
            tokio::time::sleep(OLDER_KEYS_EVERY).await;
        }
    }

    /// The waiters for the verdicts of inline backends.
    #[must_use]
    pub fn verdicts(&self) -> &Verdicts {
        &self.0.verdicts
    }

    /// Switches to another configuration. The keys have to know it already. Requests in flight end
    /// under the old one.
    pub fn apply(&self, plan: &Plan) {
        let before = self.0.view.load_full();
        let view = View::new(plan, Some(&before), &self.0.callback_log, &self.0.keys);
        self.0.callback_log.sample_lines(&plan.config.callback_lines);
        self.0.view.store(Arc::new(view));
    }

    /// Makes tests of the callbacks that come over the connection whose local address is `from`,
    /// until the value is dropped: they grant nothing, and repeat only other tests.
    #[must_use]
    pub fn begin_test_call(&self, from: SocketAddr) -> TestCall {
        self.0.test_calls.begin(from)
    }

    /// The latest callbacks that were neither recorded nor rejected.
    #[must_use]
    pub fn recent(&self) -> &Recent {
        &self.0.callback_log.recent
    }

    /// The id of each secret of a source with its last use on this gateway, since its start.
    #[must_use]
    pub fn secret_uses(&self, source: &str) -> Vec<(String, Option<UnixMillis>)> {
        let view = self.0.view.load();
        view.route(source).map(|route| route.secrets.all()).unwrap_or_default()
    }

    /// The rejected callbacks.
    #[must_use]
    pub fn rejections(&self) -> &Rejections {
        &self.0.callback_log.rejections
    }
}

impl WireHandler for CallbackHandler {
    fn answer_wire(
        &self,
        peer: Peer,
        request: Box<WireRequest>,
    ) -> impl Future<Output = Result<Response, CloseWithoutReply>> + Send {
        // Outside of the future, which would otherwise have room for every step of this.
        let begun = self.0.begin(peer, request);
        async move {
            match begun {
                Begun::Callback(exchange) => self.0.answer(exchange).await,
                Begun::Health(method) => Ok(Box::pin(self.0.health(&method)).await),
                Begun::Elsewhere(response) => Ok(*response),
            }
        }
    }

    fn is_proxy(&self, peer: IpAddr) -> bool {
        client::is_in(peer, &self.0.view.load().trusted)
    }
}

impl Shared {
    /// Finds the source that a request is for, and begins its record.
    fn begin(&self, peer: Peer, request: Box<WireRequest>) -> Begun {
        let began = clock::instant();
        let elsewhere = |response| Begun::Elsewhere(Box::new(response));
        let (route, client) = match self.find(&request, peer) {
            Ok(found) => found,
            Err(Elsewhere::Health) => return Begun::Health(request.method),
            Err(Elsewhere::Nothing(status)) => return elsewhere(bare(status)),
        };
        if let Some(answer) = question(&route, &request.method) {
            return elsewhere(answer);
        }
        let at_ms = clock::now_ms();
        let record = CallbackRecord::new(Arc::clone(&route), client.address(), began, at_ms);
        let received = Received::new(route, client, request, at_ms);
        let mut exchange = Box::new(Exchange { began, received, slot: Some(record) });
        let Exchange { received, slot, .. } = &mut *exchange;
        received.set_purpose(self.test_calls.purpose(peer.address));
        if let Some(record) = slot {
            record.trace = CallbackTrace::begin(&self.callback_log.metrics.spans, received);
        }
        Begun::Callback(exchange)
    }

    /// The answer to a callback.
    async fn answer(&self, mut exchange: Box<Exchange>) -> Result<Response, CloseWithoutReply> {
        let Exchange { began, received, slot } = &mut *exchange;
        let body = received.take_body();
        let reply = self.pass(slot, received, body).await;
        // The callback is counted and logged before it is answered.
        drop(slot.take());
        match reply.into_answer() {
            Some(answer) => Ok(respond(answer, emptied(received.take_headers()))),
            None => {
                let (client, until) = (received.client(), *began + received.route().silence);
                drop(exchange);
                Err(Box::pin(self.held.hold(client, until)).await)
            }
        }
    }

    /// The source that a request is for, and who sent it.
    fn find(&self, request: &WireRequest, peer: Peer) -> Result<(Arc<Route>, Caller), Elsewhere> {
        let target = request.target.bytes();
        if target.is_empty() {
            return Err(Elsewhere::Nothing(StatusCode::METHOD_NOT_ALLOWED));
        }
        let view = self.view.load();
        let client = client::caller_at(peer, &request.headers, &view.trusted);
        let name = source_name(target);
        let Some(route) = name.and_then(|name| view.route_of(name)) else {
            if view.is_health(target) {
                return Err(Elsewhere::Health);
            }
            // The name may be a source of the store, which is not read yet.
            if name.is_some() && self.is_starting() {
                return Err(Elsewhere::Nothing(StatusCode::SERVICE_UNAVAILABLE));
            }
            self.callback_log.note_unknown_path(client.address(), request, &view);
            return Err(Elsewhere::Nothing(StatusCode::NOT_FOUND));
        };
        Ok((Arc::clone(route), client))
    }

    /// All phases of one callback. Whatever happens, its record says so when it is dropped.
    async fn pass(&self, slot: &mut Slot, received: &mut Received, body: RequestBody) -> Reply {
        let taken = match self.check_head(received) {
            Ok(ReadsBody::No) => {
                drop(body);
                Ok(None)
            }
            Ok(ReadsBody::Yes) => Box::pin(self.receive(received, body)).await.map(Some),
            Err(early) => Err(early),
        };
        match taken {
            Ok(taken) => self.decide(slot, received, taken).await,
            Err(early) => end_unverified(slot, received, early),
        }
    }

    /// Confirms the subscription that a recorded callback asks for, in the background.
    pub(super) fn confirm(&self, callback: &Callback<'_>, received: &Received) {
        let Some(request) = callback.confirmation() else { return };
        let route = received.route();
        let source = &route.source;
        self.keys.confirm(Subscription {
            source: route.label.to_string(),
            sender: source.recipe.sender().name().to_owned(),
            request,
            host_from: source.recipe.confirmation_origin(),
            source_from: source.origin,
        });
    }

    pub(super) fn is_starting(&self) -> bool {
        self.life.phase() == Phase::Starting
    }

    /// Handles a verified callback from before the store was open. It waits within its sender's
    /// patience, and is then judged again: documents of the store may say where it goes.
    pub(super) async fn when_open(
        &self,
        slot: &mut Slot,
        received: &mut Received,
        taken: Taken<'_>,
    ) -> Reply {
        let spent = slot.as_ref().map_or(Duration::ZERO, |record| record.began.elapsed());
        let patience = received.route().patience.saturating_sub(spent);
        let opened = tokio::time::timeout(patience, self.life.reached(Phase::Ready)).await;
        if opened.is_err() || self.ledger.get().is_none() {
            return end_unverified(
                slot,
                received,
                EarlyReply::Unacknowledged(Unacknowledged::Unavailable),
            );
        }
        if let Some(route) = self.view.load().route(&received.route().source.name) {
            received.take_route(route);
            slot.iter_mut().for_each(|record| record.route = Arc::clone(route));
        }
        self.decide(slot, received, taken).await
    }

    /// Tells a balancer whether to send callbacks here, and nothing else.
    async fn health(&self, method: &Method) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return bare(StatusCode::METHOD_NOT_ALLOWED);
        }
        let unready = match self.ledger.get() {
            Some(ledger) => unready(&self.life, ledger)
                .await
                .is_some_and(|unready| unready.counts(self.view.load().readiness)),
            None => true,
        };
        match unready {
            false => plain(StatusCode::OK, "ready\n"),
            true => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        }
    }

    /// Checks everything that does not need the body; whether the body has to be read.
    fn check_head(&self, received: &Received) -> Result<ReadsBody, EarlyReply> {
        let route = received.route();
        let source = &route.source;
        if !source.enabled {
            return Err(EarlyReply::rejected(Reason::Disabled));
        }
        if !source.allow.is_empty() && !received.caller().is_in(&source.allow) {
            return Err(EarlyReply::rejected(Reason::ForbiddenAddress));
        }
        if !received.has_wanted_certificate() {
            return Err(EarlyReply::rejected(Reason::ClientCertificate));
        }
        if !source.recipe.sender().methods().contains(received.request().method) {
            return Err(EarlyReply::rejected(Reason::WrongMethod));
        }
        Ok(if route.reads_body { ReadsBody::Yes } else { ReadsBody::No })
    }

    /// Reads the body. Its part of the pool is returned when the callback is verified.
    async fn receive(
        &self,
        received: &mut Received,
        body: RequestBody,
    ) -> Result<Box<ReservedBytes<'_>>, EarlyReply> {
        let route = received.route();
        let bounds = BodyBounds { bytes: route.source.body_bytes, time: route.body_time };
        let whole = self.pool.read(body, bounds, received.client()).await;
        let (body, taken) = whole.map_err(faulty)?;
        received.set_body(body);
        Ok(Box::new(taken))
    }
}

/// Whether a source's sender reads the body of a request.
enum ReadsBody {
    Yes,
    No,
}

/// Ends a callback that is not verified.
#[cold]
fn end_unverified(slot: &mut Slot, received: &Received, early: EarlyReply) -> Reply {
    let recipe = &received.route().source.recipe;
    let callback = recipe.read(received.request(), received.at_ms());
    end_unrecorded(slot, &callback, received, early)
}

/// The part of the path after `/callback/`, up to the query.
fn source_name(target: &[u8]) -> Option<&[u8]> {
    target.strip_prefix(PREFIX).map(path_of)
}

fn faulty(fault: BodyError) -> EarlyReply {
    match fault {
        BodyError::TooLarge => EarlyReply::rejected(Reason::TooLarge),
        BodyError::Late => EarlyReply::rejected(Reason::Timeout),
        BodyError::Crowded => EarlyReply::Unacknowledged(Unacknowledged::Unavailable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_stands_before_the_query() {
        let name = |target| source_name(target).map(|name| String::from_utf8_lossy(name));
        assert_eq!(name(b"/callback/level-end?a=/callback/b").as_deref(), Some("level-end"));
        assert_eq!(name(b"/callback/reward/17").as_deref(), Some("reward/17"));
        assert_eq!(name(b"/callback/").as_deref(), Some(""));
        assert_eq!(name(b"/callback"), None);
        assert_eq!(name(b"/Callback/a"), None);
    }
}
