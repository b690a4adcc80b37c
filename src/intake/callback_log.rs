//! The exit that every callback passes: counted and logged once and, if it was rejected, kept for
//! later diagnosis.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::callback_trace::{CallbackTrace, Ending};
use super::line_sampler::LineSampler;
use super::received::Received;
use super::recent::{Recent, UnrecordedCallback};
use super::rejections::{Rejections, SAMPLE_BODY_BYTES};
use super::route::{Route, View, path_of};
use crate::clock::{self, UnixMillis};
use crate::config::{LineShares, Rate, concealed};
use crate::ledger::{EventId, HeldId, HeldWhy, NewRejection, Rejection, RejectionNote, SourceId};
use crate::rate_limiter::{AddressRateLimiter, RateLimiter};
use crate::sender::{Callback, CallbackError, Outcome, Reason, Request, Resolved, Role};
use crate::telemetry::{CallbackLevel, CallbackLine, LineOutput, Metrics};
use crate::wire::WireRequest;

/// Rejected callbacks of one address that are logged and kept.
const FAILURES_BY_ADDRESS: Rate = Rate { count: 20, per: Duration::from_secs(10) };

/// Samples of one caller that a source keeps. The first ones come at once, then one each seven
/// minutes: a caller that never stops has a tenth of what its source keeps.
const SAMPLES_BY_CALLER: Rate = Rate { count: 200, per: Duration::from_secs(86_400) };

/// Samples of calls to unknown paths: scanners make most of them.
const SAMPLES_OF_UNKNOWN_PATHS: Rate = Rate { count: 1000, per: Duration::from_secs(86_400) };

/// Bytes of a parameter's name that are logged: it may come from the request.
const PARAMETER_BYTES_MAX: usize = 64;

/// Bytes of a transaction that are logged: longer than any real one.
const TRANSACTION_BYTES_MAX: usize = 256;

/// Bytes of a user's name that are kept: longer than any real one.
const USER_BYTES_MAX: usize = 256;

/// Bytes of a path that belongs to no source that are logged. Its query never is: it may hold a
/// signature.
const PATH_BYTES_MAX: usize = 128;

/// Bytes of such a path in which secrets are looked for: one that begins in what is logged ends in
/// them, unless it is longer than any that people paste.
const PATH_BYTES_SEARCHED: usize = 1024;

/// The first words of a callback's log line: a constant text, because a format would cost as much
/// as the rest.
const MESSAGE: &str = "callback";

/// State that all callbacks share on their way out.
#[derive(Debug)]
pub(super) struct CallbackLog {
    pub metrics: Arc<Metrics>,
    pub rejections: Rejections,
    pub recent: Recent,
    lines: LineSampler,
    by_address: AddressRateLimiter,
    samples: AddressRateLimiter,
    unknown_paths: RateLimiter,
}

impl CallbackLog {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let now = clock::instant();
        Arc::new(Self {
            metrics,
            rejections: Rejections::default(),
            recent: Recent::default(),
            lines: LineSampler::default(),
            by_address: AddressRateLimiter::new(FAILURES_BY_ADDRESS, now),
            samples: AddressRateLimiter::new(SAMPLES_BY_CALLER, now),
            unknown_paths: RateLimiter::new(SAMPLES_OF_UNKNOWN_PATHS, now),
        })
    }

    /// Sets the share of callbacks that have a line, from now on.
    pub(super) fn sample_lines(&self, shares: &LineShares) {
        self.lines.set(shares);
    }

    /// A request that belongs to no source: perhaps a typing error in a sender's console.
    pub(super) fn note_unknown_path(&self, caller: IpAddr, request: &WireRequest, view: &View) {
        self.metrics.unknown_paths().inc();
        let now = clock::instant();
        if !self.by_address.take(caller, now) {
            return;
        }
        let path = path_of(request.target.bytes());
        let whole = String::from_utf8_lossy(&path[..path.len().min(PATH_BYTES_SEARCHED)]);
        let nearest = view.nearest(cut(&whole, PATH_BYTES_MAX));
        let shown = nearest.map(|route| concealed(&route.source.name));
        // The caller may have mistyped the rest of a name that is secret to others, or have written
        // a secret behind the name. Cut last: a part of a secret would not be found.
        let whole = view.concealed(&whole);
        let path = cut(&whole, PATH_BYTES_MAX);
        tracing::info!(
            target: "postern::callback",
            path, nearest = shown.as_deref(), "no such source"
        );
        if self.samples.take_as(Rejection::UNKNOWN_PATHS, caller, now)
            && self.unknown_paths.take(now)
        {
            self.sample_unknown_path(caller, request, path, nearest);
        }
    }

    /// Keeps a request that belongs to no source, under its path without secrets. Its claims are
    /// the values that the nearest source would read.
    fn sample_unknown_path(
        &self,
        caller: IpAddr,
        request: &WireRequest,
        path: &str,
        nearest: Option<&Arc<Route>>,
    ) {
        let request = Request {
            method: &request.method,
            target: request.target.bytes(),
            base: "",
            headers: &request.headers,
            body: b"",
        };
        let callback = nearest.map(|route| route.source.recipe.read(request, clock::now_ms()));
        let says = |role, most| callback.as_ref().and_then(|callback| says(callback, role, most));
        let new = NewRejection {
            at_ms: clock::now_ms(),
            why: HeldWhy::Rejected,
            reason: None,
            source_id: SourceId::from(Rejection::UNKNOWN_PATHS),
            transaction: says(Role::Transaction, TRANSACTION_BYTES_MAX),
            user: says(Role::User, USER_BYTES_MAX),
            note: RejectionNote {
                source: path.to_owned(),
                nearest: nearest.map(|route| route.source.name.clone()),
                parameter: None,
                client: caller,
                took_us: 0,
                status: Some(StatusCode::NOT_FOUND.as_u16()),
                body_bytes: 0,
            },
            request,
        };
        if let Ok(held) = new.held() {
            self.rejections.sample(held);
        }
    }
}

/// A callback in progress, counted and logged in any case when this is dropped: by default as one
/// that was not decided.
#[derive(Debug)]
pub(super) struct CallbackRecord {
    pub route: Arc<Route>,
    pub client: IpAddr,
    pub began: Instant,
    /// The same on the wall clock.
    pub at_ms: UnixMillis,
    outcome: Outcome,
    error: Option<CallbackError>,
    event: Option<EventId>,
    transaction: Option<String>,
    user: Option<String>,
    secret: Option<usize>,
    status: Option<StatusCode>,
    held: Option<HeldId>,
    /// Where spans are made.
    pub trace: Option<Box<CallbackTrace>>,
    logged: bool,
    /// Whether the rate of its address lets it be kept, independently of the source's rate.
    listed: bool,
}

impl CallbackRecord {
    pub(super) fn new(
        route: Arc<Route>,
        client: IpAddr,
        began: Instant,
        at_ms: UnixMillis,
    ) -> Self {
        Self {
            route,
            client,
            began,
            at_ms,
            outcome: Outcome::Unavailable,
            error: None,
            event: None,
            transaction: None,
            user: None,
            secret: None,
            status: None,
            held: None,
            trace: None,
            logged: true,
            listed: true,
        }
    }

    /// Notes the callback's outcome.
    pub(super) fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Notes why the callback is rejected.
    pub(super) fn set_error(&mut self, error: CallbackError) {
        self.error = Some(error);
    }

    /// Notes that the callback was verified, and is the event with that id and transaction.
    pub(super) fn note_verified(
        &mut self,
        event: EventId,
        transaction: &str,
        secret: Option<usize>,
    ) {
        self.event = Some(event);
        self.transaction = Some(cut(transaction, TRANSACTION_BYTES_MAX).to_owned());
        self.secret = secret;
    }

    /// The id that it is logged under: its own, or that of the first with its transaction.
    pub(super) fn set_event(&mut self, event: EventId) {
        self.event = Some(event);
    }

    /// Notes the roles of a callback that is not recorded as an event, if they are going to be told.
    pub(super) fn note_roles(&mut self, resolved: &Resolved) {
        if !self.logged {
            return;
        }
        let role = |role, most| resolved.role(role).map(|text| cut(text, most).to_owned());
        self.transaction = role(Role::Transaction, TRANSACTION_BYTES_MAX);
        self.user = role(Role::User, USER_BYTES_MAX);
    }

    /// Notes the status of the reply to the sender; not called in silence.
    pub(super) fn set_status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// The outcome so far, and its reason.
    fn outcome(&self) -> (Outcome, Option<Reason>) {
        (self.outcome, self.error.as_ref().map(|error| error.reason))
    }

    /// Notes that the callback did not verify, or is known. Such callbacks are logged only as far
    /// as their rates allow: an attacker can send a captured one without end. The rates bound this
    /// work only. No callback is ever rejected because of earlier ones.
    pub(super) fn limit_logging(&mut self) {
        let now = clock::instant();
        let callback_log = &self.route.callback_log;
        self.listed = callback_log.by_address.take(self.client, now);
        self.logged = self.listed && self.route.failures.take(now);
    }

    /// Whether the rates for that let it be logged.
    pub(super) fn is_logged(&self) -> bool {
        self.logged
    }

    /// Keeps a rejected callback, if it is logged and the rates for samples allow it.
    pub(super) fn keep_sample(&self, received: &Received, callback: &Callback<'_>) {
        let (callback_log, now) = (&self.route.callback_log, clock::instant());
        if !self.listed
            || !callback_log.samples.take_as(self.route.id.as_str(), self.client, now)
            || !self.route.samples.take(now)
        {
            return;
        }
        if let Some(Ok(held)) =
            self.rejection(HeldWhy::Rejected, received, callback).map(NewRejection::held)
        {
            callback_log.rejections.sample(held);
        }
    }

    /// The callback as it is kept, if it was rejected.
    pub(super) fn rejection<'r>(
        &self,
        why: HeldWhy,
        received: &'r Received,
        callback: &Callback<'_>,
    ) -> Option<NewRejection<'r>> {
        let error = self.error.as_ref()?;
        let mut request = received.request();
        let body_bytes = request.body.len();
        if why == HeldWhy::Rejected && body_bytes > SAMPLE_BODY_BYTES {
            request.body = b"";
        }
        Some(NewRejection {
            at_ms: received.at_ms(),
            why,
            reason: Some(error.reason),
            source_id: self.route.id.clone(),
            transaction: says(callback, Role::Transaction, TRANSACTION_BYTES_MAX),
            user: says(callback, Role::User, USER_BYTES_MAX),
            note: RejectionNote {
                source: self.route.source.name.clone(),
                nearest: None,
                parameter: self.parameter(error),
                client: self.client,
                took_us: u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
                status: self.status.map(|status| status.as_u16()),
                body_bytes,
            },
            request,
        })
    }

    /// The parameter that an error is about. Its name may come from the request.
    fn parameter(&self, error: &CallbackError) -> Option<String> {
        let name = error.parameter.as_deref()?;
        let shown = self.route.source.recipe.without_secrets(name);
        Some(cut(&shown, PARAMETER_BYTES_MAX).to_owned())
    }

    /// Notes that the callback is in quarantine, under that id.
    pub(super) fn set_held(&mut self, id: HeldId) {
        self.held = Some(id);
    }

    /// Keeps a callback that is recorded nowhere else: accepted ones are in the ledger, and
    /// rejected ones are kept with their request.
    fn keep_recent(&mut self, took: Duration) {
        if self.outcome == Outcome::Accepted || self.error.is_some() || !self.logged {
            return;
        }
        let callback_log = &self.route.callback_log;
        callback_log.recent.keep(UnrecordedCallback {
            number: 0,
            at_ms: self.at_ms,
            source: self.route.source.name.clone(),
            outcome: self.outcome,
            event: self.event,
            transaction: self.transaction.take(),
            user: self.user.take(),
            took,
        });
    }

    fn log(&self, took: Duration) {
        match &self.error {
            None => self.log_outcome(took),
            Some(error) => self.log_rejection(error, took),
        }
    }

    fn log_outcome(&self, took: Duration) {
        let source = &*self.route.label;
        let outcome = self.outcome.as_str();
        let transaction = self.transaction.as_deref();
        let status = self.status.map(|status| status.as_u16());
        let micros = micros(took);
        match CallbackLine::begin(CallbackLevel::Info, self.end_ms(took), source) {
            LineOutput::Off => {}
            LineOutput::Line(mut line) => {
                line.word(r#","outcome":"#, outcome.as_bytes());
                line.text_if(r#","transaction":"#, transaction);
                if let Some(event) = self.event {
                    let mut id = [0; EventId::TEXT_BYTES];
                    event.put(&mut id);
                    line.word(r#","event":"#, &id);
                }
                line.end_with(status, micros);
            }
            LineOutput::Traced => {
                let mut id = [0; EventId::TEXT_BYTES];
                let event = self.event.map(|event| event.encode(&mut id));
                tracing::info!(
                    target: "postern::callback",
                    message = MESSAGE, source, outcome, transaction, event, status, micros
                );
            }
        }
    }

    fn log_rejection(&self, error: &CallbackError, took: Duration) {
        let source = &*self.route.label;
        let outcome = self.outcome.as_str();
        let reason = error.reason.as_str();
        let parameter = self.parameter(error);
        let parameter = parameter.as_deref();
        let client = self.client;
        let status = self.status.map(|status| status.as_u16());
        let micros = micros(took);
        match CallbackLine::begin(CallbackLevel::Warn, self.end_ms(took), source) {
            LineOutput::Off => {}
            LineOutput::Line(mut line) => {
                line.word(r#","outcome":"#, outcome.as_bytes());
                line.word(r#","reason":"#, reason.as_bytes());
                line.text_if(r#","parameter":"#, parameter);
                line.text(r#","client":"#, &client.to_string());
                line.text_if(r#","held":"#, self.held.map(|held| held.to_string()).as_deref());
                line.end_with(status, micros);
            }
            LineOutput::Traced => {
                let client = tracing::field::display(client);
                let held = self.held.map(tracing::field::display);
                tracing::warn!(
                    target: "postern::callback",
                    message = MESSAGE, source, outcome, reason, parameter, client, held, status, micros
                );
            }
        }
    }

    /// When it ended, on the wall clock: no further reading.
    fn end_ms(&self, took: Duration) -> UnixMillis {
        self.at_ms.saturating_add(i64::try_from(took.as_millis()).unwrap_or(i64::MAX))
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

impl Drop for CallbackRecord {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let (outcome, reason) = self.outcome();
        self.route.counters.count(outcome, reason, self.began, took);
        if let Some(index) = self.secret {
            self.route.counters.count_secret(index);
            self.route.secrets.note(index, self.at_ms);
        }
        self.route.callback_log.metrics.callback_seconds.observe(took.as_secs_f64());
        if self.logged && self.route.callback_log.lines.admits(self.outcome) {
            self.log(took);
        }
        if let Some(trace) = self.trace.take() {
            let (reason, event, held) = (reason.map(Reason::as_str), self.event, self.held);
            let (held, status) = (held.map(|id| id.event()), self.status.map(|one| one.as_u16()));
            trace.end(self, &Ending { outcome, reason, event, held, status, took });
        }
        self.keep_recent(took);
    }
}

/// The unverified value of a role in a callback.
fn says(callback: &Callback<'_>, role: Role, most: usize) -> Option<String> {
    callback.says(role).map(|text| cut(&text, most).to_owned())
}

/// The part of a text that is logged.
pub(super) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
