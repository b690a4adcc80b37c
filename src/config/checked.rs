//! The checked configuration: only values that can be used as they are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::keep::Keep;
use super::quarantine::Quarantine;
use super::route::RouteRule;
use super::{Alert, ClientCa, SigningKey, SourceScope, secret_path};
use crate::ledger::ScrubShare;
use crate::partners::push_configuration::grant::PushGrant;
use crate::partners::settings::Manage;
use crate::sender::{Catalog, Outcome, Recipe, Secret};

/// The gateway's whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners and their limits.
    pub server: Server,
    /// The callers that may use the admin listener.
    pub admin: Admin,
    /// Where the ledger is.
    pub store: Store,
    /// The addresses that deliveries may reach, and the keys that sign them.
    pub egress: Egress,
    /// The senders: embedded and the user's own.
    pub catalog: Arc<Catalog>,
    /// The sources, by name.
    pub sources: BTreeMap<String, Arc<Source>>,
    /// The destinations, by name.
    pub destinations: BTreeMap<String, Arc<Destination>>,
    /// Where operators are notified of problems, in the order of the file.
    pub alerts: Vec<Arc<Alert>>,
    /// Where spans of traces go; `None`: none are made.
    pub traces: Option<TraceExport>,
    /// The share of callbacks that have a line in the log, for each outcome.
    pub callback_lines: LineShares,
    /// Where expired events go before they are deleted; `None`: nowhere.
    pub archive: Option<ArchivePlace>,
    /// The management APIs and who may use them.
    pub manage: Manage,
}

/// Where an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchivePlace {
    /// A folder.
    Folder(PathBuf),
    /// A store that speaks S3.
    S3 {
        /// The bucket.
        bucket: String,
        /// The beginning of its objects' keys, without a slash at either end; may be empty.
        prefix: String,
    },
}

/// The export of spans to a collector.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceExport {
    /// Scheme and authority of the collector, which speaks OTLP over HTTP.
    pub collector: String,
    /// The share of all traces, above 0 and up to 1.
    pub sample: f64,
}

/// The share of callbacks that have a line in the log, for each outcome: all, unless it is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineShares(BTreeMap<Outcome, f64>);

impl LineShares {
    /// Sets the share of an outcome, from 0 to 1.
    pub fn set(&mut self, outcome: Outcome, share: f64) {
        self.0.insert(outcome, share);
    }

    /// The share of an outcome, from 0 to 1.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> f64 {
        self.0.get(&outcome).copied().unwrap_or(1.0)
    }
}

/// Listeners and their limits.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where senders call.
    pub callbacks: SocketAddr,
    /// Where operators and scrapers call.
    pub admin: SocketAddr,
    /// Where the management APIs listen, if not on the admin listener.
    pub management: Option<SocketAddr>,
    /// Scheme and authority for links that the management APIs hand out.
    pub management_url: Option<String>,
    /// Scheme and authority as senders see them, without a path or a slash at the end.
    pub public_url: Option<String>,
    /// Proxies whose forwarded addresses are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long callbacks are accepted after readiness has said no, before the drain.
    pub lame_duck: Duration,
    /// How long the drain may take.
    pub drain: Duration,
    /// The conditions of readiness.
    pub readiness: Readiness,
    /// Where the callback listener says whether it is ready; `None`: nowhere.
    pub health_path: Option<String>,
    /// Certificate chain and key of the callback listener, PEM files.
    pub tls: Option<Tls>,
    /// Certificate chain and key of the admin listener, PEM files.
    pub admin_tls: Option<Tls>,
    /// Whether trusted proxies name the client of a connection with the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// Bounds, each with a default that says why in `limits`.
    pub limits: Limits,
}

/// The conditions of readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// On the store as well: a gateway that cannot record gets no callbacks.
    Store,
    /// On the gateway's own phase only. While a store that all gateways share fails, a load
    /// balancer keeps them, and they reply in the format the sender expects.
    Gateway,
}

/// Whether connections from trusted proxies begin with the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Connections begin with TLS or HTTP.
    #[default]
    Off,
    /// Version 1 or 2 of it precedes.
    On,
}

/// PEM files of a listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// Bounds of the callback listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections, callbacks listener.
    pub connections: usize,
    /// Bytes of all bodies being read before verification, together.
    pub unverified_body_bytes: usize,
    /// Bytes of one body, where a source does not say its own.
    pub body_bytes: usize,
    /// Bytes of a request's head: the request line and the headers.
    pub head_bytes: usize,
    /// Time for a request's head to arrive.
    pub head_timeout: Duration,
    /// Time for a body to arrive.
    pub body_timeout: Duration,
    /// Concurrent held requests.
    pub held: usize,
}

/// The callers that may use the admin listener.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// Bearer tokens. Empty only on loopback.
    pub tokens: Vec<AdminToken>,
    /// Where the token of this machine is kept, which counts where there is no other.
    pub token_file: PathBuf,
    /// Whether `/metrics` is served to callers without a token off loopback too.
    pub open_metrics: bool,
    /// Scheme and authority at which operators reach the console; `None`: the listener's address.
    pub public_url: Option<String>,
    /// Sign-in to the console with accounts of an OpenID provider.
    pub oidc: Option<Oidc>,
}

/// An OpenID provider whose accounts may sign in to the console.
#[derive(Clone, Debug)]
pub struct Oidc {
    /// Its issuer identifier: the beginning of its metadata's URL.
    pub issuer: String,
    /// The id that the provider gave to this gateway.
    pub client_id: String,
    /// The secret that it gave; `None`: a public client.
    pub client_secret: Option<Secret>,
    /// The scopes that are asked for, `openid` among them.
    pub scopes: String,
    /// The claim with the roles of an account.
    pub roles_claim: String,
    /// The claim that names an account in the audit log.
    pub name_claim: String,
    /// PEM file of the authorities for its certificate, instead of the public ones.
    pub ca: Option<PathBuf>,
    /// Rights by role. The first that an account has counts.
    pub roles: Vec<OidcRole>,
}

/// The right of a role.
#[derive(Clone, Debug)]
pub struct OidcRole {
    /// The value in the claim.
    pub value: String,
    /// The permission of accounts with that role.
    pub right: AdminRight,
    /// The sources that they see.
    pub scope: SourceScope,
}

/// A bearer token of the admin listener.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// Its name in the audit log.
    pub name: String,
    /// The token.
    pub value: Secret,
    /// The permission of the token.
    pub right: AdminRight,
    /// The sources that it is for.
    pub scope: SourceScope,
}

/// The permission of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminRight {
    /// Everything.
    Admin,
    /// Look, replay events and resolve callbacks; no settings, no secrets, no grants.
    Support,
    /// Look, change nothing.
    Read,
}

/// Where the ledger is, and how long it keeps things.
#[derive(Clone, Debug)]
pub struct Store {
    /// The engine and where it is.
    pub engine: StoreEngine,
    /// How long events with their bodies are kept.
    pub keep_events: Duration,
    /// How long transactions are remembered.
    pub keep_transactions: Duration,
    /// How much of the time may be spent on looking for damage; `None`: none. Only the embedded
    /// engine has files to look at.
    pub scrub: Option<ScrubShare>,
    /// The key that seals the ledger and its exports, from `POSTERN_MASTER_KEY`.
    pub master_key: Option<Secret>,
    /// The key that sealed them before, from `POSTERN_OLD_MASTER_KEY`.
    pub old_master_key: Option<Secret>,
}

/// The engine of the ledger.
#[derive(Clone, Debug)]
pub enum StoreEngine {
    /// Journal and sled, in a folder.
    Embedded {
        /// The folder.
        path: PathBuf,
    },
    /// PostgreSQL.
    Postgres(PostgresStore),
}

/// A PostgreSQL server, and how it is talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresStore {
    /// `postgres://…`. `None`: the variable or file that the configuration names is missing, and
    /// was optional: the command asks the gateway, which has it.
    pub url: Option<Secret>,
    /// The schema of the tables.
    pub schema: String,
    /// Roots of the server's certificate, a PEM file; none: those that browsers know.
    pub ca: Option<PathBuf>,
    /// Connections that record callbacks.
    pub writers: usize,
    /// Connections that serve reads.
    pub readers: usize,
    /// How long the server may work on one question.
    pub read_timeout: Duration,
    /// Refuse to record without synchronous replication.
    pub require_replicated: bool,
}

/// The addresses that deliveries may reach, and the keys that sign them.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// Private ranges that addresses set over the APIs may reach.
    pub allow: Vec<IpNet>,
    /// Keys of the gateway that deliveries can be signed with, the newest first.
    pub signing_keys: Vec<SigningKey>,
}

/// The origin of a source or a destination. Only what an API made can be changed over one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration file.
    File,
    /// The admin API.
    Admin,
    /// The reward-rule API.
    RewardRule,
    /// The callback-address API.
    CallbackAddress,
    /// The push-configuration API.
    PushConfig,
}

/// One inbound endpoint, `/callback/<name>`.
#[derive(Debug)]
pub struct Source {
    /// Its origin.
    pub origin: Origin,
    /// Its keys as written, secrets masked, for people.
    pub shown: Shown,
    /// The app that its callbacks are about, where the sender has apps.
    pub app_id: Option<String>,
    /// Its name in the path, the metrics and events.
    pub name: String,
    /// The scope of the deduplication keys: the name, unless the source was renamed and keeps its
    /// old `id`.
    pub id: String,
    /// Whether the source accepts callbacks.
    pub enabled: bool,
    /// The compiled sender.
    pub recipe: Recipe,
    /// Names of the destinations that its events are delivered to.
    pub destinations: Vec<String>,
    /// Addresses it takes calls from; empty: any.
    pub allow: Vec<IpNet>,
    /// The authorities of the client certificates that its callers have to present; none: they need
    /// no certificate.
    pub client_ca: Option<Arc<ClientCa>>,
    /// Callbacks a second it takes; none: no bound.
    pub rate: Option<Rate>,
    /// Bytes of one body.
    pub body_bytes: usize,
    /// The rejected callbacks that it quarantines; `None`: none.
    pub quarantine: Option<Quarantine>,
    /// Further destinations of some events.
    pub routes: Vec<RouteRule>,
    /// How long its data is kept, where it differs from the store's times.
    pub keep: Keep,
    /// The verified callbacks that another source takes precedence over.
    pub superseded: Superseded,
}

/// A table as written, secrets masked.
pub type Shown = Arc<serde_json::Map<String, serde_json::Value>>;

/// A bound on callbacks over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Callbacks …
    pub count: u32,
    /// … in this time.
    pub per: Duration,
}

/// Which of a source's verified callbacks get the reply of a success, and are not delivered,
/// because another source takes precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Superseded {
    /// None.
    Never,
    /// All: another source names this one in `supersedes`.
    Always,
    /// Callbacks whose `parameter` has one of `values`: another source names them in `sids`.
    Named {
        /// The parameter that the file of the other source's sender names.
        parameter: String,
        /// The values, sorted.
        values: Vec<String>,
    },
}

/// A backend that events are delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its origin.
    pub origin: Origin,
    /// Its keys as written, secrets masked, for people.
    pub shown: Shown,
    /// The addresses that its URL may reach.
    pub reach: Reach,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// In which form it wants events.
    pub format: Format,
    /// How the source's template goes to a destination of `format = "template"`.
    pub method: TemplateMethod,
    /// The names that are replaced in its URL, where its form is [`Format::Macros`].
    pub macros: Arc<[String]>,
    /// The secrets that sign deliveries to it: the bytes after `whsec_`, the newest first.
    pub secrets: Vec<Secret>,
    /// Keys of the gateway that deliveries to it are signed with besides, the newest first.
    pub signing_keys: Vec<SigningKey>,
    /// Additional headers.
    pub headers: Vec<(http::HeaderName, Secret)>,
    /// The retry schedule.
    pub retry: Retry,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Concurrent attempts.
    pub concurrency: usize,
    /// Attempts over time; none: no bound.
    pub rate: Option<Rate>,
    /// Whether a sender waits for its verdict.
    pub mode: Mode,
    /// PEM file of the authorities that its certificate is checked against, in place of the
    /// public ones.
    pub ca: Option<PathBuf>,
    /// The client certificate that deliveries present.
    pub identity: Option<ClientIdentity>,
    /// Which push configurations may name it, and what of it.
    pub push: PushGrant,
}

/// The addresses that a URL may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The machine's own backends and plain http: the URL is in the configuration file.
    Private,
    /// Public addresses and these private ranges: the URL came over an API.
    Public(Vec<IpNet>),
}

/// Whether a sender waits for a destination's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The sender gets its reply when the event is recorded.
    Async,
    /// The sender's reply depends on the backend's verdict.
    Inline {
        /// The reply to the sender when the backend is late.
        late: Late,
    },
}

/// The reply to a sender when an inline backend is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// The callback is accepted.
    Accepted,
    /// The callback is rejected.
    Rejected,
    /// The sender is to retry: the same callback then gets the verdict.
    Unavailable,
}

/// PEM files of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// In which form a destination wants events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The event's JSON under a Standard Webhooks signature.
    Event,
    /// Method, query and body as the sender sent them.
    Forward,
    /// The URL and the source's template, resolved.
    Template,
    /// The URL with its sender's own macros replaced, and nothing else: that of a reward rule.
    Macros,
    /// The message that a push brought, posted in one notation: to the container of a push
    /// configuration.
    Message(Notation),
}

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// JSON.
    Json,
    /// XML.
    Xml,
}

impl Origin {
    /// The word that people see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Admin => "api",
            Self::RewardRule => "reward_rule",
            Self::CallbackAddress => "callback_address",
            Self::PushConfig => "push_config",
        }
    }
}

/// How the source's template goes to a destination of that format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateMethod {
    /// Behind the URL's own query.
    Get,
    /// As a form, posted.
    Post,
}

impl Format {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Forward => "forward",
            Self::Template => "template",
            Self::Macros => "macros",
            Self::Message(_) => "message",
        }
    }
}

/// The retry schedule of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The first gap.
    pub first: Duration,
    /// The longest gap.
    pub max: Duration,
    /// Attempts in all.
    pub attempts: u32,
}

impl Source {
    /// The path of its URL.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/callback/{}", self.name)
    }

    /// Its name as metrics, logs and callers without a token see it: a digest where nothing is
    /// signed and the name is what protects it.
    #[must_use]
    pub fn label(&self) -> Cow<'_, str> {
        match !self.recipe.is_signed() && secret_path::is_secret_path(&self.name) {
            true => Cow::Owned(secret_path::digest_of(&self.name)),
            false => Cow::Borrowed(&self.name),
        }
    }
}
