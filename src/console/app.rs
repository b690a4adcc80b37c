//! The console as a handler: authentication, authorization, and routing to the pages.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use maud::{Markup, html};

use super::area::Area;
use super::assets::Asset;
use super::components::notice::{Tone, notice};
use super::components::table;
use super::fields::{Fields, cookie, query};
use super::findings::Findings;
use super::lang::{self, Lang};
use super::layout;
use super::oidc::SignIns;
use super::page_error::PageError;
use super::pages;
use super::pulse::Pulses;
use super::reply::{self, PageResult, Reply};
pub(super) use super::seen::Console;
use super::session::{self, Activity, Openers, Sessions, SignIn, Viewer};
use super::visit::{Connection, Visit};
use crate::clock::instant;
use crate::config::limits::ADMIN_CONNECTIONS;
use crate::config::{AdminRight, Config, Rate};
use crate::delivery::{Control, Replays};
use crate::intake::{CallbackHandler, Releases, caller_at};
use crate::keys::Keys;
use crate::lifecycle::Lifecycle;
use crate::operator::{AccessError, LocalToken, check_name, check_site, conceal};
use crate::rate_limiter::AddressRateLimiter;
use crate::registry::{Actor, Registry};
use crate::telemetry::Metrics;
use crate::wire::{
    BodyBounds, BodyError, BytePool, CloseWithoutReply, Handler, Peer, RequestBody, Response,
};

/// Largest form, in bytes: a captured request with its body, escaped.
const FORM_BYTES_MAX: usize = 1024 * 1024;

/// Memory for all forms in flight, in bytes.
const FORMS_BYTES_MAX: usize = 8 * FORM_BYTES_MAX;

/// Largest sign-in form, in bytes: a token, and the page to return to.
const SIGN_IN_BYTES_MAX: usize = 8 * 1024;

/// Memory for all sign-in forms in flight, in bytes.
const SIGN_INS_BYTES_MAX: usize = 128 * SIGN_IN_BYTES_MAX;

/// Timeout for reading a form.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Sign-in attempts per client address, successful ones included: slows guessing and bounds the log
/// lines that it causes.
const SIGN_IN_RATE: Rate = Rate { count: 10, per: Duration::from_secs(60) };

/// Parts of the gateway that the console shows and controls. Clones share them.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Address of the callback listener.
    pub callbacks: SocketAddr,
    /// Managed objects and the running configuration.
    pub registry: Registry,
    /// The receiving path, for its recent callbacks.
    pub callback_handler: CallbackHandler,
    /// Public keys of senders.
    pub keys: Keys,
    /// Deliveries.
    pub control: Control,
    /// Replays by filter.
    pub replays: Replays,
    /// Releases from quarantine.
    pub releases: Releases,
    /// Counters and histories.
    pub metrics: Arc<Metrics>,
    /// Lifecycle of the gateway.
    pub life: Arc<Lifecycle>,
    /// The token of this machine.
    pub local: Arc<LocalToken>,
}

/// The console.
#[derive(Debug)]
pub struct ConsoleHandler(Arc<Shared>);

/// The parts that all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Address of the admin listener.
    address: IpAddr,
    pub(super) tools: Tools,
    pub(super) sessions: Sessions,
    sign_in_attempts: AddressRateLimiter,
    forms: Arc<BytePool>,
    pub(super) pulses: Pulses,
    pub(super) findings: Findings,
    pub(super) provider_sign_ins: SignIns,
    /// Memory for forms of unauthenticated clients.
    sign_ins: Arc<BytePool>,
}

impl ConsoleHandler {
    /// Creates the console at `address`. `None`: no randomness from the operating system, which
    /// sessions need.
    #[must_use]
    pub fn new(address: IpAddr, tools: Tools) -> Option<Self> {
        Some(Self(Arc::new(Shared {
            address,
            tools,
            sessions: Sessions::new()?,
            sign_in_attempts: AddressRateLimiter::new(SIGN_IN_RATE, instant()),
            pulses: Pulses::default(),
            findings: Findings::default(),
            provider_sign_ins: SignIns::default(),
            forms: BytePool::new(FORMS_BYTES_MAX, ADMIN_CONNECTIONS),
            sign_ins: BytePool::new(SIGN_INS_BYTES_MAX, ADMIN_CONNECTIONS),
        })))
    }

    /// Whether the console serves `path`. The root of the listener redirects to the console.
    #[must_use]
    pub fn serves(path: &str) -> bool {
        matches!(path, "/" | "/console") || path.starts_with("/console/")
    }

    /// The running configuration, all of it.
    fn config(&self) -> Arc<Config> {
        self.0.tools.registry.config()
    }

    /// Whether the sign-in attempts from `from` exceed their rate limit; counts this one.
    fn exceeds_sign_in_rate(&self, from: IpAddr) -> bool {
        !self.0.sign_in_attempts.take(from, instant())
    }

    async fn answer(&self, peer: Peer, request: Request<RequestBody>) -> Response {
        let (head, body) = request.into_parts();
        if head.uri.path() == "/" {
            return reply::redirect(Area::Overview.path());
        }
        if let Some(asset) = Asset::find(head.uri.path()) {
            return reply::asset(asset);
        }
        let mut visit = self.visit(&head);
        let is_language_chosen = Lang::chosen(&visit.query).is_some();
        let mut response = match self.serve(&mut visit, peer, &head, body).await {
            Ok(reply) => page_response(&visit, reply),
            Err(PageError::ReadOnly) if visit.viewer.entry == SignIn::Open => {
                error_response(&visit, &PageError::NotSignedIn)
            }
            Err(error) => error_response(&visit, &error),
        };
        if visit.viewer.entry == SignIn::Open {
            response = conceal(&self.config(), response).await;
        }
        if is_language_chosen {
            reply::add_header(&mut response, header::SET_COOKIE, &language_cookie(visit.lang));
        }
        response
    }

    /// The request as pages see it.
    fn visit(&self, head: &Parts) -> Visit {
        let fields = Fields::read(head.uri.query().unwrap_or_default().as_bytes());
        let path = head.uri.path().to_owned();
        let mut rest = Visit::segments(&path).unwrap_or_else(|| vec![String::new()]);
        let area = Area::find(rest.first().map(String::as_str));
        if !rest.is_empty() {
            rest.remove(0);
        }
        let area = area.unwrap_or(Area::Unknown);
        let mut viewer = self.viewer(head, &rest);
        if viewer.scope.is_bound() && area == Area::Sources {
            viewer.right = AdminRight::Read;
        }
        Visit {
            lang: Lang::of(head, &fields),
            viewer,
            area,
            path,
            rest,
            query: fields,
            connection: Connection::of(
                head.headers.get(header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default(),
            ),
        }
    }

    fn viewer(&self, head: &Parts, rest: &[String]) -> Viewer {
        let config = self.config();
        let configured = &config.admin.tokens;
        let (tokens, oidc) = (self.0.tools.local.or(configured), config.admin.oidc.as_ref());
        let openers = Openers { tokens: &tokens, oidc };
        let activity = match rest.last().map(String::as_str) {
            Some(pages::LIVE) => Activity::AutoRefresh,
            _ => Activity::User,
        };
        let name = cookie(&head.headers, session::COOKIE);
        let found = name.and_then(|name| self.0.sessions.find(name, openers, instant(), activity));
        match (found, configured.is_empty()) {
            // The token of this machine has no name.
            (Some(viewer), true) if !viewer.who.as_str().starts_with("oidc ") => {
                Viewer { who: Actor::local(), ..viewer }
            }
            (Some(viewer), _) => viewer,
            (None, true) if self.0.address.is_loopback() => self.0.sessions.local(),
            (None, _) => self.0.sessions.outside(),
        }
    }

    async fn serve(
        &self,
        visit: &mut Visit,
        peer: Peer,
        head: &Parts,
        body: RequestBody,
    ) -> Result<SessionReply, PageError> {
        check_name(self.0.address, head).map_err(PageError::Forbidden)?;
        if !is_navigation(head) {
            check_site(head).map_err(PageError::Forbidden)?;
        }
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        if visit.viewer.entry == SignIn::Outside && visit.area != Area::SignIn {
            return match is_read {
                true => Ok(SessionReply::Unchanged(Reply::Redirect(sign_in_url(head)))),
                false => Err(PageError::Stale),
            };
        }
        if !visit.viewer.may_see(visit.area) {
            return Err(PageError::Forbidden(AccessError::OnlyItsSources));
        }
        let console = &Console::of(&self.0, &visit.viewer.scope);
        let from = caller_at(peer, &head.headers, &self.config().server.trusted_proxies).address();
        if is_read && visit.area == Area::SignIn && !visit.rest.is_empty() {
            if self.exceeds_sign_in_rate(from) {
                return Err(PageError::TooMany);
            }
            return pages::sign_in_with::get(console, visit, head, from).await;
        }
        if is_read {
            return get(console, visit).await.map(SessionReply::Unchanged);
        }
        if head.method != Method::POST {
            return Err(PageError::Method);
        }
        // Sign-in forms have their own pool, so unauthenticated clients cannot block other forms.
        let bytes = match visit.area {
            Area::SignIn if self.exceeds_sign_in_rate(from) => return Err(PageError::TooMany),
            Area::SignIn => read(&self.0.sign_ins, body, SIGN_IN_BYTES_MAX, from).await?,
            _ => read(&self.0.forms, body, FORM_BYTES_MAX, from).await?,
        };
        let form = Fields::read(&bytes);
        visit.go_to_page_of(&form);
        if !form.verbatim("csrf").is_some_and(|csrf| visit.viewer.owns_form(csrf)) {
            return Err(PageError::Stale);
        }
        match visit.area {
            Area::SignIn => {
                // One session per browser: the previous one is closed.
                let before = cookie(&head.headers, session::COOKIE);
                Ok(pages::sign_in::post(console, visit, &form, from, before))
            }
            Area::SignOut => {
                if let Some(name) = cookie(&head.headers, session::COOKIE) {
                    self.0.sessions.close(name);
                }
                Ok(SessionReply::SignedOut)
            }
            // Explaining changes nothing; the page itself checks the right to send.
            Area::Debug | Area::Find => {
                post(console, visit, &form).await.map(SessionReply::Unchanged)
            }
            // Other acts of these pages are checked where they are.
            Area::Event | Area::Rejection | Area::DeadLetters | Area::Issues
                if visit.viewer.may_support() =>
            {
                post(console, visit, &form).await.map(SessionReply::Unchanged)
            }
            _ if visit.viewer.may_change() => {
                post(console, visit, &form).await.map(SessionReply::Unchanged)
            }
            _ => Err(PageError::ReadOnly),
        }
    }
}

async fn get(console: &Console, visit: &Visit) -> PageResult {
    match visit.area {
        Area::Overview => pages::overview::get(console, visit).await,
        Area::Callbacks => pages::callbacks::get(console, visit).await,
        Area::Find => pages::find::get(console, visit).await,
        Area::Issues => pages::issues::get(console, visit).await,
        Area::Event => pages::event::get(console, visit).await,
        Area::Rejection => pages::rejection::get(console, visit).await,
        Area::DeadLetters => pages::dead_letters::get(console, visit).await,
        Area::Held => pages::held::get(console, visit).await,
        Area::Debug => pages::debug::get(console, visit).await,
        Area::Sources => pages::sources::get(console, visit).await,
        Area::Destinations => pages::destinations::get(console, visit).await,
        Area::Rules => pages::rules::get(console, visit).await,
        Area::Addresses => pages::addresses::get(console, visit).await,
        Area::Senders => pages::senders::get(console, visit).await,
        Area::Audit => pages::audit::get(console, visit).await,
        Area::SignIn => pages::sign_in::get(console, visit),
        Area::SignOut => Err(PageError::Method),
        Area::Unknown => Err(PageError::Absent),
    }
}

/// Handles a form of a viewer with write access; the debug tool checks the right itself.
async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    match visit.area {
        Area::Find => pages::find::post(console, visit, form).await,
        Area::Issues => pages::issues::post(console, visit, form).await,
        Area::Event => pages::event::post(console, visit, form).await,
        Area::Rejection => pages::rejection::post(console, visit, form).await,
        Area::DeadLetters => pages::dead_letters::post(console, visit, form).await,
        Area::Held => pages::held::post(console, visit, form).await,
        Area::Debug => pages::debug::post(console, visit, form).await,
        Area::Sources => pages::sources::post(console, visit, form).await,
        Area::Destinations => pages::destinations::post(console, visit, form).await,
        Area::Rules => pages::rules::post(console, visit, form).await,
        Area::Addresses => pages::addresses::post(console, visit, form).await,
        _ => Err(PageError::Method),
    }
}

async fn read(
    pool: &Arc<BytePool>,
    body: RequestBody,
    max_bytes: usize,
    from: IpAddr,
) -> Result<bytes::Bytes, PageError> {
    let bounds = BodyBounds { bytes: max_bytes, time: FORM_TIMEOUT };
    match pool.read(body, bounds, from).await {
        Ok((bytes, _)) => Ok(bytes),
        Err(BodyError::TooLarge) => Err(PageError::TooLarge),
        Err(BodyError::Late) => Err(PageError::Late),
        Err(BodyError::Crowded) => Err(PageError::Busy),
    }
}

/// A reply, and its effect on the session of the browser.
#[derive(Debug)]
pub(super) enum SessionReply {
    /// No effect.
    Unchanged(Reply),
    /// A new session.
    SignedIn {
        /// The value of `Set-Cookie`.
        cookie: String,
        /// The path to redirect to.
        to: String,
    },
    /// A page, with cookies.
    WithCookies(Reply, Vec<String>),
    /// A new session, of a browser that comes from another site. The page leads to `to`: browsers
    /// keep the cookie from a redirect that began elsewhere.
    Arrived {
        /// The values of `Set-Cookie`.
        cookies: Vec<String>,
        /// The path that follows.
        to: String,
        /// The page until then.
        page: Reply,
    },
    /// The session has ended.
    SignedOut,
}

/// Whether a browser follows a link to this page. Links from other sites are allowed: a GET changes
/// nothing, and the other site cannot read the response.
fn is_navigation(head: &Parts) -> bool {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    head.method == Method::GET
        && header("sec-fetch-mode") == Some("navigate")
        && header("sec-fetch-dest") == Some("document")
}

fn sign_in_url(head: &Parts) -> String {
    let wanted = head.uri.path_and_query().map_or("", |target| target.as_str());
    let wanted = if wanted.ends_with(pages::LIVE) { Area::Overview.path() } else { wanted };
    format!("{}{}", Area::SignIn.path(), query(&[("next", wanted)]))
}

fn language_cookie(lang: Lang) -> String {
    const A_YEAR_S: u32 = 365 * 24 * 60 * 60;
    let (name, tag) = (lang::COOKIE, lang.tag());
    format!("{name}={tag}; Path=/console; Max-Age={A_YEAR_S}; HttpOnly; SameSite=Strict")
}

fn page_response(visit: &Visit, out: SessionReply) -> Response {
    let reply = match out {
        SessionReply::Unchanged(reply) => reply,
        SessionReply::WithCookies(reply, cookies) => {
            let mut response = page_response(visit, SessionReply::Unchanged(reply));
            add_cookies(&mut response, &cookies);
            return response;
        }
        SessionReply::Arrived { cookies, to, page } => {
            let mut response = page_response(visit, SessionReply::Unchanged(page));
            add_cookies(&mut response, &cookies);
            reply::add_header(&mut response, header::REFRESH, &format!("0; url={to}"));
            return response;
        }
        SessionReply::SignedIn { cookie, to } => {
            let mut response = reply::redirect(&to);
            reply::add_header(&mut response, header::SET_COOKIE, &cookie);
            return response;
        }
        SessionReply::SignedOut => {
            let mut response = reply::redirect(Area::SignIn.path());
            let gone = format!(
                "{}=; Path=/console; Max-Age=0; HttpOnly; SameSite=Strict",
                session::COOKIE
            );
            reply::add_header(&mut response, header::SET_COOKIE, &gone);
            return response;
        }
    };
    match reply {
        Reply::Page(title, content) => whole_page(StatusCode::OK, visit, &title, &content),
        Reply::Invalid(title, content) => {
            whole_page(StatusCode::UNPROCESSABLE_ENTITY, visit, &title, &content)
        }
        Reply::Unavailable(title, content) => {
            whole_page(StatusCode::SERVICE_UNAVAILABLE, visit, &title, &content)
        }
        Reply::Fragment(part) => reply::html(StatusCode::OK, part.into_string()),
        Reply::Redirect(to) => reply::redirect(&to),
        Reply::Csv(name, body) => reply::csv(name, body),
    }
}

fn whole_page(status: StatusCode, visit: &Visit, title: &str, content: &Markup) -> Response {
    reply::html(status, layout::page(visit, title, content).into_string())
}

fn add_cookies(response: &mut Response, cookies: &[String]) {
    for cookie in cookies {
        reply::add_header(response, header::SET_COOKIE, cookie);
    }
}

fn error_response(visit: &Visit, error: &PageError) -> Response {
    let lang = visit.lang;
    let content = html! {
        (notice(Tone::Bad, &error.why(lang)))
        @if matches!(error, PageError::Expired) {
            p { a href=(visit.with("cursor", None)) { (table::FIRST.of(lang)) } }
        }
        @if let Some(list) = error.list() { p { a href=(list.path()) { (list.title().of(lang)) } } }
    };
    // Requests with a wrong host or from another site see the error alone.
    let title = error.title(lang);
    let page = match error {
        PageError::Forbidden(AccessError::AnotherName | AccessError::AnotherSite) => {
            content.into_string()
        }
        _ => layout::page(visit, title, &content).into_string(),
    };
    reply::html(error.status(), page)
}

impl Handler for ConsoleHandler {
    async fn handle(
        &self,
        peer: Peer,
        request: Request<RequestBody>,
    ) -> Result<Response, CloseWithoutReply> {
        Ok(self.answer(peer, request).await)
    }
}
