//! The callback handler: a request to `/callback/<source>` through its phases, to its sender's
//! reply.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use super::address_check;
use super::callback_log::{CallbackLog, CallbackRecord};
use super::callback_trace::CallbackTrace;
use super::client::{self, Caller};
use super::held_requests::HeldRequests;
use super::quarantine::quarantine;
use super::received::{Head, Received};
use super::recent::Recent;
use super::record::VerifiedCallback;
use super::rejections::Rejections;
use super::route::{Route, View};
use super::several::{Readings, Several};
use super::test_calls::{TestCall, TestCalls};
use crate::clock::{self, UnixMillis};
use crate::keys::Keys;
use crate::ledger::{BatchedLedger, EventId, Release};
use crate::lifecycle::{Lifecycle, Phase, unready};
use crate::plan::Plan;
use crate::sender::{
    Answer, Callback, CallbackError, Judgement, KeySet, OlderKeys, Outcome, Reason, Reply,
    Resolution, Resolved,
};
use crate::telemetry::Metrics;
use crate::verdict::Verdicts;
use crate::wire::{
    BodyBounds, BodyError, BytePool, CloseWithoutReply, Handler, Peer, ReservedBytes, Response,
};

/// From one question whether the store has keys of earlier versions to the next: an import brings
/// some.
const OLDER_KEYS_EVERY: Duration = Duration::from_secs(60);

/// Where every callback's path begins.
const PREFIX: &[u8] = b"/callback/";

/// The receiving path, shared by all threads that serve it.
#[derive(Clone, Debug)]
pub struct CallbackHandler(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) view: ArcSwap<View>,
    pub(super) desk: Arc<CallbackLog>,
    /// Empty until the store is open and all configuration is known.
    pub(super) book: OnceLock<BatchedLedger>,
    life: Arc<Lifecycle>,
    keys: Keys,
    pool: Arc<BytePool>,
    held: HeldRequests,
    verdicts: Verdicts,
    test_calls: Arc<TestCalls>,
    /// The store is known to have no keys of earlier versions.
    pub(super) no_older_keys: AtomicBool,
}

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A callback that goes no further, and what becomes of it.
pub(super) enum EarlyReply {
    Is(Outcome),
    Refused(Outcome, CallbackError),
}

/// The decision about a callback before anything is recorded.
pub(super) enum Decision {
    Event(EventId, Box<Resolved>),
    /// Verified, but it may say several things.
    Ambiguous(EventId, Box<Resolved>),
    /// Verified, and several events, in parts with these bodies.
    Several(Vec<Bytes>),
    /// An address check, to be answered once.
    AddressCheck,
    Stop(EarlyReply),
}

/// The nature of a request that belongs to no source.
enum Elsewhere {
    /// A balancer's question.
    Health,
    Nothing(StatusCode),
}

/// The record of the callback in progress; removed if its sender hangs up while it is being
/// recorded.
pub(super) type Slot = Option<CallbackRecord>;

impl CallbackHandler {
    /// The receiving path for the sources of `plan`. The limits over all sources together stay
    /// those of this plan; everything else follows [`CallbackHandler::apply`]. Until `life` is
    /// ready, callbacks are verified, and then wait within their sender's patience.
    #[must_use]
    pub fn new(plan: &Plan, keys: Keys, metrics: Arc<Metrics>, life: Arc<Lifecycle>) -> Self {
        let desk = CallbackLog::new(metrics);
        let limits = &plan.config.server.limits;
        Self(Arc::new(Shared {
            view: ArcSwap::from_pointee(View::new(plan, None, &desk, &keys)),
            desk,
            book: OnceLock::new(),
            life,
            keys,
            pool: BytePool::new(limits.unverified_body_bytes, limits.connections),
            held: HeldRequests::new(limits.held),
            verdicts: Verdicts::default(),
            test_calls: Arc::default(),
            no_older_keys: AtomicBool::new(false),
        }))
    }

    /// Records in `book` from now on. All configuration must have been applied before.
    pub fn open(&self, book: BatchedLedger) {
        // Only the program's one start calls it.
        self.0.desk.rejections.open(book.clone());
        let _ = self.0.book.set(book);
    }

    /// Asks the store, now and once a minute, whether it may have keys of earlier versions. Until
    /// it says that it has none, they are looked up too.
    pub async fn follow_older_keys(&self) {
        loop {
            if let Some(book) = self.0.book.get()
                && let Ok(may_have) = book.may_hold_older_keys().await
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
        let view = View::new(plan, Some(&before), &self.0.desk, &self.0.keys);
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
        &self.0.desk.recent
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
        &self.0.desk.rejections
    }
}

impl Handler for CallbackHandler {
    async fn handle(
        &self,
        peer: Peer,
        request: Request<Incoming>,
    ) -> Result<Response, CloseWithoutReply> {
        let began = clock::instant();
        let (parts, body) = request.into_parts();
        let head = Head::new(parts);
        let (route, client) = match self.0.find(&head, peer) {
            Ok(found) => found,
            Err(Elsewhere::Health) => return Ok(self.0.health(&head.method).await),
            Err(Elsewhere::Nothing(status)) => return Ok(bare(status)),
        };
        if let Some(answer) = question(&route, &head.method) {
            return Ok(answer);
        }
        let reply = {
            let mut received = Received::new(&route, client, head, clock::now_ms());
            received.set_purpose(self.0.test_calls.purpose(peer.0));
            let mut record = CallbackRecord::new(Arc::clone(&route), client.address(), began);
            record.trace = CallbackTrace::begin(&self.0.desk.metrics.spans, &received);
            let mut slot = Some(record);
            self.0.pass(&mut slot, &mut received, body).await
        };
        match reply {
            Reply::Answer(answer) => Ok(respond(answer)),
            Reply::Silence => {
                Err(Box::pin(self.0.held.hold(client.address(), began + route.silence)).await)
            }
        }
    }

    fn is_proxy(&self, peer: IpAddr) -> bool {
        client::is_in(peer, &self.0.view.load().trusted)
    }
}

impl Shared {
    /// The source that a request is for, and who sent it.
    fn find(&self, head: &Head, peer: Peer) -> Result<(Arc<Route>, Caller), Elsewhere> {
        let target = head.target();
        if target.is_empty() {
            return Err(Elsewhere::Nothing(StatusCode::METHOD_NOT_ALLOWED));
        }
        let view = self.view.load();
        let name = source_name(target);
        let Some(route) = name.and_then(|name| view.route(name)) else {
            if view.is_health(target) {
                return Err(Elsewhere::Health);
            }
            // The name may be a source of the store, which is not read yet.
            if name.is_some() && self.is_starting() {
                return Err(Elsewhere::Nothing(StatusCode::SERVICE_UNAVAILABLE));
            }
            self.desk.stranger(peer.0.ip(), head, &view);
            return Err(Elsewhere::Nothing(StatusCode::NOT_FOUND));
        };
        let client = client::caller(peer.0.ip(), &head.headers, &view.trusted);
        Ok((Arc::clone(route), client))
    }

    /// All phases of one callback. Whatever happens, its entry says so when it is dropped.
    async fn pass(&self, slot: &mut Slot, received: &mut Received, body: Incoming) -> Reply {
        let route = Arc::clone(received.route());
        let recipe = &route.source.recipe;
        let taken = match self.receive(received, body).await {
            Ok(taken) => taken,
            Err(stop) => {
                let callback = recipe.read(received.request(), received.at_ms());
                return stopped(slot, &callback, received, stop);
            }
        };
        self.decide(slot, received, taken).await
    }

    /// Judges a whole request, and records it if it is verified.
    async fn decide(
        &self,
        slot: &mut Slot,
        received: &mut Received,
        taken: ReservedBytes<'_>,
    ) -> Reply {
        let route = Arc::clone(received.route());
        let recipe = &route.source.recipe;
        // Rare branches are boxed here and below: a future is as large as the largest that it may
        // wait for, and is moved as a whole.
        let keys = match &route.keys {
            Some(_) => Box::pin(public_keys(received, slot.as_ref())).await,
            None => None,
        };
        let mut callback = recipe.read(received.request(), received.at_ms());
        callback.use_keys(keys.as_deref());
        if !self.no_older_keys.load(Ordering::Relaxed) {
            callback.look_up(OlderKeys::Wanted);
        }
        let began = clock::instant();
        let ruling = judge(&mut callback, || EventId::new(received.at_ms()));
        let judged = clock::instant();
        self.desk.metrics.verify_seconds.observe((judged - began).as_secs_f64());
        if let Some(trace) = slot.as_mut().and_then(|record| record.trace.as_mut()) {
            trace.verified(began, judged);
        }
        let Some(book) = self.book.get().filter(|_| !self.is_starting()) else {
            match ruling {
                // A callback that is to be held has to be recorded.
                Decision::Stop(stop) if !stop.is_held_by(&route) => {
                    return stopped(slot, &callback, received, stop);
                }
                ruling => drop(ruling),
            }
            drop(callback);
            return Box::pin(self.when_open(slot, received, taken)).await;
        };
        drop(taken);
        let ruling = match ruling {
            // Rare: senders that check addresses and sign no message.
            Decision::Event(id, resolved) if callback.message_proof().is_some() => {
                let readings = address_check::readings(&callback, &resolved, received, book);
                match Box::pin(readings).await {
                    Ok(Readings::One) => Decision::Event(id, resolved),
                    Ok(Readings::Many) => Decision::Ambiguous(id, resolved),
                    Err(stop) => Decision::Stop(stop),
                }
            }
            ruling => ruling,
        };
        match ruling {
            Decision::Stop(stop) => ended(slot, &callback, received, stop).await,
            Decision::AddressCheck => {
                let stop = Box::pin(address_check::answer(&callback, received, book)).await;
                stopped(slot, &callback, received, stop)
            }
            Decision::Event(id, mut resolved) => {
                if received.is_test_call() {
                    resolved.make_test();
                }
                route.note_misfits(resolved.misfits());
                let genuine = VerifiedCallback {
                    id,
                    callback: &callback,
                    received,
                    resolved,
                    judged,
                    release: Release::None,
                };
                genuine.record(slot, book, &self.verdicts).await
            }
            Decision::Several(bodies) => match Several::judge(&callback, received, &bodies) {
                Ok(several) => Box::pin(several.record(slot, book, judged)).await,
                Err(stop) => ended(slot, &callback, received, stop).await,
            },
            Decision::Ambiguous(id, mut resolved) => {
                if received.is_test_call() {
                    resolved.make_test();
                }
                route.note_misfits(resolved.misfits());
                let genuine = VerifiedCallback {
                    id,
                    callback: &callback,
                    received,
                    resolved,
                    judged,
                    release: Release::None,
                };
                Box::pin(genuine.record_ambiguous(slot, book)).await
            }
        }
    }

    fn is_starting(&self) -> bool {
        self.life.phase() == Phase::Starting
    }

    /// Handles a verified callback from before the store was open. It waits within its sender's
    /// patience, and is then judged again: documents of the store may say where it goes.
    async fn when_open(
        &self,
        slot: &mut Slot,
        received: &mut Received,
        taken: ReservedBytes<'_>,
    ) -> Reply {
        let spent = slot.as_ref().map_or(Duration::ZERO, |entry| entry.began.elapsed());
        let patience = received.route().patience.saturating_sub(spent);
        let opened = tokio::time::timeout(patience, self.life.reached(Phase::Ready)).await;
        if opened.is_err() || self.book.get().is_none() {
            let recipe = &received.route().source.recipe;
            let callback = recipe.read(received.request(), received.at_ms());
            return stopped(slot, &callback, received, EarlyReply::Is(Outcome::Unavailable));
        }
        if let Some(route) = self.view.load().route(&received.route().source.name) {
            received.take_route(route);
            slot.iter_mut().for_each(|entry| entry.route = Arc::clone(route));
        }
        self.decide(slot, received, taken).await
    }

    /// Tells a balancer whether to send callbacks here, and nothing else.
    async fn health(&self, method: &Method) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return bare(StatusCode::METHOD_NOT_ALLOWED);
        }
        let unready = match self.book.get() {
            Some(book) => unready(&self.life, book)
                .await
                .is_some_and(|unready| unready.counts(self.view.load().readiness)),
            None => true,
        };
        match unready {
            false => plain(StatusCode::OK, "ready\n"),
            true => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        }
    }

    /// Checks everything that does not need the body, then reads it. Its part of the pool is
    /// returned when the callback is verified.
    async fn receive(
        &self,
        received: &mut Received,
        body: Incoming,
    ) -> Result<ReservedBytes<'_>, EarlyReply> {
        let route = received.route();
        let source = &route.source;
        if !source.enabled {
            return Err(EarlyReply::refused(Outcome::Disabled, Reason::Disabled));
        }
        if !source.allow.is_empty() && !received.caller().is_in(&source.allow) {
            return Err(EarlyReply::refused(Outcome::Rejected, Reason::ForbiddenAddress));
        }
        if !received.has_wanted_certificate() {
            return Err(EarlyReply::refused(Outcome::Rejected, Reason::ClientCertificate));
        }
        if !source.recipe.sender().methods().contains(received.request().method) {
            return Err(EarlyReply::refused(Outcome::Rejected, Reason::WrongMethod));
        }
        if !source.recipe.reads_body() {
            return Ok(self.pool.empty());
        }
        let bounds = BodyBounds { bytes: source.body_bytes, time: route.body_time };
        let whole = Box::pin(self.pool.read(body, bounds, received.client())).await;
        let (body, taken) = whole.map_err(faulty)?;
        received.set_body(body);
        Ok(taken)
    }
}

/// Verifies and resolves.
pub(super) fn judge(callback: &mut Callback<'_>, id: impl FnOnce() -> EventId) -> Decision {
    match callback.verify() {
        Judgement::Probe => Decision::Stop(EarlyReply::Is(Outcome::Test)),
        Judgement::Undecided => Decision::Stop(EarlyReply::Is(Outcome::Unavailable)),
        Judgement::Challenge => Decision::AddressCheck,
        Judgement::Rejected(refusal) => Decision::Stop(by_sender(refusal)),
        Judgement::Verified(mut verified) => {
            let id = id();
            match verified.resolve(id) {
                Resolution::Event(resolved) => Decision::Event(id, resolved),
                Resolution::Ambiguous(resolved) => Decision::Ambiguous(id, resolved),
                Resolution::Several(bodies) => Decision::Several(bodies),
                Resolution::Challenge => Decision::AddressCheck,
                Resolution::Test => Decision::Stop(EarlyReply::Is(Outcome::Test)),
                Resolution::Rejected(refusal) => Decision::Stop(by_sender(refusal)),
            }
        }
    }
}

/// The public keys to verify a callback with, if its sender has some. If the callback names a key
/// that is missing, the list is checked again, within the sender's patience.
pub(super) async fn public_keys(
    received: &Received,
    entry: Option<&CallbackRecord>,
) -> Option<Arc<KeySet>> {
    let route = received.route();
    let published = route.keys.as_ref()?;
    let keys = published.now();
    let Some(id) = wanted_key(received, keys.as_deref()) else { return keys };
    let spent = entry.map_or(Duration::ZERO, |entry| entry.began.elapsed());
    published.look_again(&id, route.patience.saturating_sub(spent)).await;
    published.now()
}

/// The id of the key that a callback cannot be verified without, if nothing else is wrong with it.
fn wanted_key(received: &Received, keys: Option<&KeySet>) -> Option<Vec<u8>> {
    let recipe = &received.route().source.recipe;
    let mut callback = recipe.read(received.request(), received.at_ms());
    callback.use_keys(keys);
    let id = callback.key_id()?.into_owned();
    if keys.is_some_and(|keys| keys.knows(&id)) {
        return None;
    }
    let lacks_key = match callback.verify() {
        Judgement::Undecided => true,
        Judgement::Rejected(refusal) => refusal.reason == Reason::UnknownKey,
        _ => false,
    };
    lacks_key.then_some(id)
}

/// The answer to a console or a monitor that asks whether the address is there, before anything is
/// sent to it. It is no callback, and not counted as one.
fn question(route: &Route, method: &Method) -> Option<Response> {
    let methods = route.source.recipe.sender().methods();
    if methods.contains(method) {
        return None;
    }
    match *method {
        Method::HEAD => Some(bare(StatusCode::OK)),
        Method::OPTIONS => {
            let mut response = bare(StatusCode::NO_CONTENT);
            let names = methods.iter().map(Method::as_str).chain(["HEAD", "OPTIONS"]);
            let allow = names.collect::<Vec<_>>().join(", ");
            response.headers_mut().insert(header::ALLOW, allow.parse().ok()?);
            Some(response)
        }
        _ => None,
    }
}

/// The part of the path after `/callback/`, up to the query.
fn source_name(target: &[u8]) -> Option<&str> {
    let name = target.strip_prefix(PREFIX)?;
    let end = memchr::memchr(b'?', name).unwrap_or(name.len());
    std::str::from_utf8(&name[..end]).ok()
}

/// Ends a callback that does not become an event: in quarantine, where its source says so.
async fn ended(
    slot: &mut Slot,
    callback: &Callback<'_>,
    received: &Received,
    stop: EarlyReply,
) -> Reply {
    if stop.is_held_by(received.route()) && !received.is_test_call() {
        return Box::pin(quarantine(slot, callback, received, stop)).await;
    }
    stopped(slot, callback, received, stop)
}

/// Ends a callback that is not recorded: noted, kept if it is rejected, and answered.
pub(super) fn stopped(
    slot: &mut Slot,
    callback: &Callback<'_>,
    received: &Received,
    stop: EarlyReply,
) -> Reply {
    let (outcome, reason) = match stop {
        EarlyReply::Is(outcome) => (outcome, None),
        EarlyReply::Refused(outcome, ref refusal) => (outcome, Some(refusal.reason)),
    };
    let reply = match reason {
        // A bound has the same reply for every sender.
        Some(Reason::TooLarge) => Reply::Answer(Answer {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            content_type: None,
            body: Bytes::new(),
        }),
        _ => callback.reply(outcome, reason, &salt),
    };
    let reply = told(slot, reply);
    if let Some(entry) = slot {
        entry.is(outcome);
        if !matches!(outcome, Outcome::Challenge | Outcome::Superseded) {
            entry.spare();
        }
        if let EarlyReply::Refused(_, refusal) = stop {
            entry.refused(refusal);
            entry.keep(received, callback);
        }
    }
    reply
}

pub(super) fn told(slot: &mut Slot, reply: Reply) -> Reply {
    if let (Some(entry), Reply::Answer(answer)) = (slot, &reply) {
        entry.answered(answer.status);
    }
    reply
}

fn faulty(fault: BodyError) -> EarlyReply {
    match fault {
        BodyError::TooLarge => EarlyReply::refused(Outcome::Rejected, Reason::TooLarge),
        BodyError::Late => EarlyReply::refused(Outcome::Rejected, Reason::Timeout),
        BodyError::Crowded => EarlyReply::Is(Outcome::Unavailable),
    }
}

fn by_sender(refusal: CallbackError) -> EarlyReply {
    let outcome = match refusal.reason {
        Reason::Disabled => Outcome::Disabled,
        _ => Outcome::Rejected,
    };
    EarlyReply::Refused(outcome, refusal)
}

impl EarlyReply {
    pub(super) fn refused(outcome: Outcome, reason: Reason) -> Self {
        Self::Refused(outcome, CallbackError { reason, parameter: None })
    }
}

fn respond(answer: Answer) -> Response {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    // An answer may hold what the callback said: nothing is to be made of it but what it is.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if let Some(content_type) = answer.content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

/// An answer in words, for a balancer.
fn plain(status: StatusCode, text: &'static str) -> Response {
    let content_type = Some(HeaderValue::from_static("text/plain; charset=utf-8"));
    respond(Answer { status, content_type, body: Bytes::from_static(text.as_bytes()) })
}

/// An answer for a request that belongs to no source.
fn bare(status: StatusCode) -> Response {
    respond(Answer { status, content_type: None, body: Bytes::new() })
}

/// Random bytes for a sealed answer. The operating system never runs out of them.
pub(super) fn salt() -> [u8; 16] {
    let mut bytes = [0; 16];
    let _ = getrandom::fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_stands_before_the_query() {
        assert_eq!(source_name(b"/callback/level-end?a=/callback/b"), Some("level-end"));
        assert_eq!(source_name(b"/callback/reward/17"), Some("reward/17"));
        assert_eq!(source_name(b"/callback/"), Some(""));
        assert_eq!(source_name(b"/callback"), None);
        assert_eq!(source_name(b"/Callback/a"), None);
        assert_eq!(source_name(b"/callback/\xff"), None);
    }
}
