//! The console as a handler: who asks, whether they may, and which page answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;

use super::area::Area;
use super::assets::Asset;
use super::components::notice::{Tone, notice};
use super::fields::{Fields, cookie, query};
use super::lang::{self, Lang};
use super::layout;
use super::page_error::PageError;
use super::pages;
use super::reply::{self, Reply, Shown};
use super::session::{self, Activity, Sessions, SignIn, Viewer};
use super::visit::Visit;
use crate::clock::instant;
use crate::config::{Config, Rate};
use crate::delivery::{Control, Replays};
use crate::intake::{CallbackHandler, Releases, caller};
use crate::keys::Keys;
use crate::ledger::BatchedLedger;
use crate::lifecycle::Lifecycle;
use crate::operator::{AccessError, LocalToken, check_name, check_site, conceal};
use crate::rate_limiter::AddressRateLimiter;
use crate::registry::{Actor, Registry};
use crate::telemetry::Metrics;
use crate::wire::{BodyError, BytePool, CloseWithoutReply, Handler, Peer, Response};

/// Bytes of a form: a captured request with its body, escaped.
const FORM_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of all forms being read together.
const FORMS_BYTES_MAX: usize = 8 * FORM_BYTES_MAX;

/// Bytes of the form that signs in: a token, and where to go then.
const SIGN_IN_BYTES_MAX: usize = 8 * 1024;

/// Bytes of all of these being read together.
const SIGN_INS_BYTES_MAX: usize = 128 * SIGN_IN_BYTES_MAX;

/// Time for a form to arrive.
const FORM_TIME: Duration = Duration::from_secs(10);

/// Tries to sign in from one address, right ones and wrong ones: whoever guesses has to be slow,
/// and makes few lines in the log.
const TRIES: Rate = Rate { count: 10, per: Duration::from_secs(60) };

/// What the console shows and works with.
#[derive(Debug)]
pub struct Tools {
    /// Where the callback listener is.
    pub callbacks: SocketAddr,
    /// What is managed.
    pub registry: Registry,
    /// The receiving path, for what it remembers.
    pub gate: CallbackHandler,
    /// Public keys of senders.
    pub keys: Keys,
    /// Deliveries.
    pub control: Control,
    /// Replays by filter.
    pub replays: Replays,
    /// Releases from quarantine.
    pub releases: Releases,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Whether the gateway serves.
    pub life: Arc<Lifecycle>,
    /// The token of this machine.
    pub local: Arc<LocalToken>,
}

/// The console.
#[derive(Debug)]
pub struct Console {
    /// Where it listens.
    address: IpAddr,
    pub(super) tools: Tools,
    sessions: Sessions,
    tries: AddressRateLimiter,
    forms: Arc<BytePool>,
    /// Those of strangers.
    sign_ins: Arc<BytePool>,
}

impl Console {
    /// The console at `address`; `None` where the system has no random bytes to keep strangers out
    /// with.
    #[must_use]
    pub fn new(address: IpAddr, tools: Tools) -> Option<Self> {
        Some(Self {
            address,
            tools,
            sessions: Sessions::new()?,
            tries: AddressRateLimiter::new(TRIES, instant()),
            forms: BytePool::new(FORMS_BYTES_MAX),
            sign_ins: BytePool::new(SIGN_INS_BYTES_MAX),
        })
    }

    /// Whether a path is the console's. The root of the listener leads to it.
    #[must_use]
    pub fn serves(path: &str) -> bool {
        matches!(path, "/" | "/console") || path.starts_with("/console/")
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Config> {
        self.tools.registry.config()
    }

    /// The ledger.
    pub(super) fn book(&self) -> &BatchedLedger {
        self.tools.registry.book()
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Whether one more try to sign in from that address is one too many.
    fn is_one_too_many(&self, from: IpAddr) -> bool {
        !self.tries.take(from, instant())
    }

    async fn answer(&self, peer: Peer, request: Request<Incoming>) -> Response {
        let (head, body) = request.into_parts();
        if head.uri.path() == "/" {
            return reply::go(Area::Overview.path());
        }
        if let Some(asset) = Asset::find(head.uri.path()) {
            return reply::asset(asset);
        }
        let visit = self.visit(&head);
        let mut response = match self.serve(&visit, peer, &head, body).await {
            Ok(shown) => written(&visit, shown),
            Err(PageError::OnlyLooks) if visit.viewer.entry == SignIn::Open => {
                told(&visit, &PageError::NotSignedIn)
            }
            Err(trouble) => told(&visit, &trouble),
        };
        if visit.viewer.entry == SignIn::Open {
            response = conceal(&self.config(), response).await;
        }
        if Lang::chosen(&visit.query).is_some() {
            reply::put(&mut response, header::SET_COOKIE, &remembered(visit.lang));
        }
        response
    }

    /// What is asked, and by whom.
    fn visit(&self, head: &Parts) -> Visit {
        let fields = Fields::read(head.uri.query().unwrap_or_default().as_bytes());
        let path = head.uri.path().to_owned();
        let mut rest = Visit::segments(&path).unwrap_or_else(|| vec![String::new()]);
        let area = Area::find(rest.first().map(String::as_str));
        if !rest.is_empty() {
            rest.remove(0);
        }
        Visit {
            lang: Lang::of(head, &fields),
            viewer: self.viewer(head, &rest),
            // A path of no area has nothing behind it either.
            area: area.unwrap_or(Area::Nowhere),
            path,
            rest,
            query: fields,
            came_by_tls: head
                .headers
                .get(header::ORIGIN)
                .is_some_and(|origin| origin.as_bytes().starts_with(b"https://")),
        }
    }

    fn viewer(&self, head: &Parts, rest: &[String]) -> Viewer {
        let config = self.config();
        let configured = &config.admin.tokens;
        let tokens = self.tools.local.or(configured);
        let sign = match rest.last().map(String::as_str) {
            Some(pages::LIVE) => Activity::AutoRefresh,
            _ => Activity::User,
        };
        let name = cookie(&head.headers, session::COOKIE);
        let found = name.and_then(|name| self.sessions.find(name, tokens, instant(), sign));
        match (found, configured.is_empty()) {
            (Some(viewer), true) => Viewer { who: Actor::local(), ..viewer },
            (Some(viewer), false) => viewer,
            (None, true) if self.address.is_loopback() => self.sessions.local(),
            (None, _) => self.sessions.outside(),
        }
    }

    async fn serve(
        &self,
        visit: &Visit,
        peer: Peer,
        head: &Parts,
        body: Incoming,
    ) -> Result<Given, PageError> {
        check_name(self.address, head).map_err(PageError::Denied)?;
        if !follows_a_link(head) {
            check_site(head).map_err(PageError::Denied)?;
        }
        let looks = matches!(head.method, Method::GET | Method::HEAD);
        if visit.viewer.entry == SignIn::Outside && visit.area != Area::SignIn {
            return match looks {
                true => Ok(Given::Plain(Reply::Go(to_sign_in(head)))),
                false => Err(PageError::Stale),
            };
        }
        if looks {
            return self.get(visit).await.map(Given::Plain);
        }
        if head.method != Method::POST {
            return Err(PageError::Method);
        }
        let from =
            caller(peer.0.ip(), &head.headers, &self.config().server.trusted_proxies).address();
        // Before a stranger's form is read: forms of those inside must not wait for it.
        let bytes = match visit.area {
            Area::SignIn if self.is_one_too_many(from) => return Err(PageError::TooMany),
            Area::SignIn => read(&self.sign_ins, body, SIGN_IN_BYTES_MAX).await?,
            _ => read(&self.forms, body, FORM_BYTES_MAX).await?,
        };
        let form = Fields::read(&bytes);
        if !form.verbatim("csrf").is_some_and(|csrf| visit.viewer.sent(csrf)) {
            return Err(PageError::Stale);
        }
        match visit.area {
            Area::SignIn => {
                // One browser, one session: the one before is not left behind.
                let before = cookie(&head.headers, session::COOKIE);
                Ok(pages::sign_in::post(self, visit, &form, from, before))
            }
            Area::SignOut => {
                if let Some(name) = cookie(&head.headers, session::COOKIE) {
                    self.sessions.close(name);
                }
                Ok(Given::SignedOut)
            }
            // Explaining changes nothing; the page looks itself before it sends.
            Area::Debug => self.post(visit, &form).await.map(Given::Plain),
            _ if visit.viewer.may_change() => self.post(visit, &form).await.map(Given::Plain),
            _ => Err(PageError::OnlyLooks),
        }
    }

    async fn get(&self, visit: &Visit) -> Shown {
        match visit.area {
            Area::Overview => pages::overview::get(self, visit).await,
            Area::Callbacks => pages::callbacks::get(self, visit).await,
            Area::Event => pages::event::get(self, visit).await,
            Area::Refusal => pages::refusal::get(self, visit).await,
            Area::DeadLetters => pages::dead_letters::get(self, visit).await,
            Area::Held => pages::held::get(self, visit).await,
            Area::Debug => pages::debug::get(self, visit).await,
            Area::Sources => pages::sources::get(self, visit).await,
            Area::Destinations => pages::destinations::get(self, visit).await,
            Area::Rules => pages::rules::get(self, visit).await,
            Area::Addresses => pages::addresses::get(self, visit).await,
            Area::Senders => pages::senders::get(self, visit).await,
            Area::Audit => pages::audit::get(self, visit).await,
            Area::SignIn => pages::sign_in::get(visit),
            Area::SignOut => Err(PageError::Method),
            Area::Nowhere => Err(PageError::Absent),
        }
    }

    /// What a form asks for. Whoever sent it may change things; the debug tool looks itself.
    async fn post(&self, visit: &Visit, form: &Fields) -> Shown {
        match visit.area {
            Area::Event => pages::event::post(self, visit, form).await,
            Area::Refusal => pages::refusal::post(self, visit, form).await,
            Area::DeadLetters => pages::dead_letters::post(self, visit, form).await,
            Area::Held => pages::held::post(self, visit, form).await,
            Area::Debug => pages::debug::post(self, visit, form).await,
            Area::Sources => pages::sources::post(self, visit, form).await,
            Area::Destinations => pages::destinations::post(self, visit, form).await,
            Area::Rules => pages::rules::post(self, visit, form).await,
            Area::Addresses => pages::addresses::post(self, visit, form).await,
            _ => Err(PageError::Method),
        }
    }
}

async fn read(
    pool: &Arc<BytePool>,
    body: Incoming,
    most: usize,
) -> Result<bytes::Bytes, PageError> {
    match pool.read(body, most, FORM_TIME).await {
        Ok((bytes, _)) => Ok(bytes),
        Err(BodyError::TooLarge) => Err(PageError::TooLarge),
        Err(BodyError::Late) => Err(PageError::Late),
        Err(BodyError::Crowded) => Err(PageError::Busy),
    }
}

/// What is answered, and what the browser is to do with its session.
#[derive(Debug)]
pub(super) enum Given {
    /// Nothing.
    Plain(Reply),
    /// It has one from now on, under this name; where to go.
    SignedIn(String, String),
    /// It has none any more.
    SignedOut,
}

/// Whether a browser follows a link, which changes nothing here, whoever's page the link is on. No
/// page of another site can look into the answer.
fn follows_a_link(head: &Parts) -> bool {
    let field = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    head.method == Method::GET
        && field("sec-fetch-mode") == Some("navigate")
        && field("sec-fetch-dest") == Some("document")
}

fn to_sign_in(head: &Parts) -> String {
    let wanted = head.uri.path_and_query().map_or("", |target| target.as_str());
    let wanted = if wanted.ends_with(pages::LIVE) { Area::Overview.path() } else { wanted };
    format!("{}{}", Area::SignIn.path(), query(&[("next", wanted)]))
}

fn remembered(lang: Lang) -> String {
    const A_YEAR_S: u32 = 365 * 24 * 60 * 60;
    let (name, tag) = (lang::COOKIE, lang.tag());
    format!("{name}={tag}; Path=/console; Max-Age={A_YEAR_S}; HttpOnly; SameSite=Strict")
}

fn written(visit: &Visit, out: Given) -> Response {
    let reply = match out {
        Given::Plain(reply) => reply,
        Given::SignedIn(cookie, to) => {
            let mut response = reply::go(&to);
            reply::put(&mut response, header::SET_COOKIE, &cookie);
            return response;
        }
        Given::SignedOut => {
            let mut response = reply::go(Area::SignIn.path());
            let gone = format!(
                "{}=; Path=/console; Max-Age=0; HttpOnly; SameSite=Strict",
                session::COOKIE
            );
            reply::put(&mut response, header::SET_COOKIE, &gone);
            return response;
        }
    };
    match reply {
        Reply::Page(title, middle) => {
            reply::html(StatusCode::OK, layout::page(visit, &title, &middle).into_string())
        }
        Reply::Mistaken(title, middle) => {
            let page = layout::page(visit, &title, &middle).into_string();
            reply::html(StatusCode::UNPROCESSABLE_ENTITY, page)
        }
        Reply::Fragment(part) => reply::html(StatusCode::OK, part.into_string()),
        Reply::Go(to) => reply::go(&to),
        Reply::Csv(name, body) => reply::csv(name, body),
    }
}

fn told(visit: &Visit, trouble: &PageError) -> Response {
    let middle = notice(Tone::Bad, &trouble.why(visit.lang));
    // To whoever came under a wrong name or from another site nothing is shown but that.
    let title = trouble.title(visit.lang);
    let page = match trouble {
        PageError::Denied(AccessError::AnotherName | AccessError::AnotherSite) => {
            middle.into_string()
        }
        _ => layout::page(visit, title, &middle).into_string(),
    };
    reply::html(trouble.status(), page)
}

impl Handler for Console {
    async fn handle(
        &self,
        peer: Peer,
        request: Request<Incoming>,
    ) -> Result<Response, CloseWithoutReply> {
        Ok(self.answer(peer, request).await)
    }
}
