//! What people manage, as it is kept in the ledger: a document each, in JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::resolved::Resolution;
use crate::clock::UnixMillis;
use crate::config::Table;
use crate::ledger::{BatchedLedger, Document, Kind, LedgerError, Revision};

/// Sources of the admin API, by name.
pub const SOURCE: Kind = Kind::new("source");
/// Destinations of the admin API, by name.
pub const DESTINATION: Kind = Kind::new("destination");
/// Reward rules, by number.
pub const REWARD_RULE: Kind = Kind::new("reward_rule");
/// Callback addresses, by `<company>/<prefix>`.
pub const CALLBACK_ADDRESS: Kind = Kind::new("callback_address");
/// Push configurations, by app.
pub const PUSH_CONFIG: Kind = Kind::new("push_config");
/// What was settled by hand, by event or by refused request.
pub(super) const RESOLVED: Kind = Kind::new("resolved");
/// What was done, by number.
pub(super) const AUDIT: Kind = Kind::new("audit");
/// The one document that every change writes too.
pub(super) const HEAD: Kind = Kind::new("registry");
/// Its id.
pub(super) const HEAD_ID: &str = "head";

/// A document that was read.
#[derive(Debug)]
pub struct StoredDocument<T> {
    /// What it says.
    pub value: Arc<T>,
    /// Its version.
    pub version: Revision,
    /// When it was last written.
    pub at_ms: UnixMillis,
    /// Who wrote it.
    pub who: String,
}

impl<T> Clone for StoredDocument<T> {
    fn clone(&self) -> Self {
        let (value, who) = (Arc::clone(&self.value), self.who.clone());
        Self { value, who, version: self.version, at_ms: self.at_ms }
    }
}

/// A reward rule (seed 001).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Whose it is.
    pub publisher: String,
    /// Its name.
    pub rule_name: String,
    /// What is given.
    pub reward_name: String,
    /// How much of it.
    pub reward_number: u64,
    /// Where the reward is told, as it came.
    pub reward_url: String,
    /// What its callbacks are signed with.
    pub reward_sec_key: String,
    /// For people.
    pub remark: String,
    /// Whether it runs.
    pub status: RuleStatus,
}

/// Whether a rule runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleStatus {
    /// Callbacks are refused.
    Stopped,
    /// Callbacks are taken.
    Running,
}

/// The address of a company for one assessment (seed 000).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Where callbacks are delivered, if anywhere.
    pub notify_url: Option<String>,
    /// How many codes are left, as it came.
    pub code_number: Option<String>,
    /// How many reports may still be seen, as it came.
    pub report_number: Option<String>,
}

/// The push configuration of an app (seed 002): what was set, as it came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Push {
    /// Cloud functions.
    pub function_config: FunctionConfig,
    /// Cloud hosting.
    pub container_config: ContainerConfig,
}

/// Which messages go to which function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionConfig {
    /// Whether any do.
    pub enable: bool,
    /// Each kind of message.
    pub callbacks: Vec<FunctionCallback>,
}

/// One kind of message, and its function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionCallback {
    /// `event`, `image`, …
    pub msg_type: String,
    /// The event, where the type is `event`.
    #[serde(default)]
    pub event: String,
    /// The environment of the function.
    #[serde(default)]
    pub env: String,
    /// The function: the name of a destination.
    #[serde(default)]
    pub function_name: String,
    /// Whether this kind is delivered.
    pub enable: bool,
}

/// The container that messages go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Whether they do.
    pub enable: bool,
    /// Its environment: the name of a destination.
    #[serde(default)]
    pub qbase_env: String,
    /// The path there.
    #[serde(default)]
    pub qbase_container_path: String,
    /// 1 JSON, 2 XML.
    #[serde(default = "json_mode")]
    pub text_mode: u8,
}

fn json_mode() -> u8 {
    1
}

impl Default for ContainerConfig {
    fn default() -> Self {
        Self {
            enable: false,
            qbase_env: String::new(),
            qbase_container_path: String::new(),
            text_mode: json_mode(),
        }
    }
}

/// What every change writes too: the numbers that are given next. Whoever changes anything on an
/// older state of things meets a newer head, and looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The number of the next reward rule. Numbers are never used again.
    pub next_rule: u64,
    /// The number of the next entry of the audit log, and of the oldest one.
    pub next_audit: u64,
    pub first_audit: u64,
}

impl Default for Head {
    fn default() -> Self {
        Self { next_rule: 1, next_audit: 1, first_audit: 1 }
    }
}

/// Without its key.
impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule")
            .field("publisher", &self.publisher)
            .field("rule_name", &self.rule_name)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Everything that people manage, at one revision.
#[derive(Clone, Default)]
pub struct Documents {
    /// Sources by name, as written.
    pub sources: BTreeMap<String, StoredDocument<Table>>,
    /// Destinations by name, as written.
    pub destinations: BTreeMap<String, StoredDocument<Table>>,
    /// Reward rules by number.
    pub rules: BTreeMap<u64, StoredDocument<Rule>>,
    /// Callback addresses by company and prefix.
    pub addresses: BTreeMap<String, StoredDocument<Address>>,
    /// Push configurations by app.
    pub pushes: BTreeMap<String, StoredDocument<Push>>,
    /// What was settled by hand, by the id of its subject.
    pub resolved: BTreeMap<String, StoredDocument<Resolution>>,
    pub(super) head: Option<StoredDocument<Head>>,
}

/// How many: what is in them may be secret.
impl std::fmt::Debug for Documents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Documents")
            .field("sources", &self.sources.len())
            .field("destinations", &self.destinations.len())
            .field("rules", &self.rules.len())
            .field("addresses", &self.addresses.len())
            .field("pushes", &self.pushes.len())
            .field("resolved", &self.resolved.len())
            .finish_non_exhaustive()
    }
}

impl Documents {
    /// All of them, as they were at one moment. What `before` has in the same version is not read
    /// again.
    pub(super) async fn read(book: &BatchedLedger, before: &Self) -> Result<Self, LedgerError> {
        loop {
            let head = head(book).await?;
            let new = Self {
                sources: all(book, SOURCE, &before.sources, text).await?,
                destinations: all(book, DESTINATION, &before.destinations, text).await?,
                rules: all(book, REWARD_RULE, &before.rules, |id| id.parse().ok()).await?,
                addresses: all(book, CALLBACK_ADDRESS, &before.addresses, text).await?,
                pushes: all(book, PUSH_CONFIG, &before.pushes, text).await?,
                resolved: all(book, RESOLVED, &before.resolved, text).await?,
                head,
            };
            // Whoever changes anything changes the head: as long as that is the same, all of it
            // is of one piece.
            if version(self::head(book).await?.as_ref()) == version(new.head.as_ref()) {
                return Ok(new);
            }
        }
    }

    /// Whether the same configuration is made of both: where only something was noted or settled by
    /// hand, nothing is to be put in force.
    pub(super) fn make_the_same(&self, other: &Self) -> bool {
        same(&self.sources, &other.sources)
            && same(&self.destinations, &other.destinations)
            && same(&self.rules, &other.rules)
            && same(&self.addresses, &other.addresses)
            && same(&self.pushes, &other.pushes)
    }

    /// Whether something was changed since this was read.
    pub(super) async fn is_stale(&self, book: &BatchedLedger) -> Result<bool, LedgerError> {
        let now = book.document(HEAD, HEAD_ID).await?.map(|document| document.version);
        Ok(now != version(self.head.as_ref()))
    }
}

fn same<K: PartialEq, T>(
    one: &BTreeMap<K, StoredDocument<T>>,
    other: &BTreeMap<K, StoredDocument<T>>,
) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len()
        && pairs.all(|((key, one), (name, other))| key == name && one.version == other.version)
}

fn version(head: Option<&StoredDocument<Head>>) -> Option<Revision> {
    head.map(|head| head.version)
}

async fn head(book: &BatchedLedger) -> Result<Option<StoredDocument<Head>>, LedgerError> {
    book.document(HEAD, HEAD_ID).await?.map(|document| read(HEAD, document)).transpose()
}

fn text(id: &str) -> Option<String> {
    Some(id.to_owned())
}

async fn all<K: Ord, T: DeserializeOwned>(
    book: &BatchedLedger,
    kind: Kind,
    before: &BTreeMap<K, StoredDocument<T>>,
    key: impl Fn(&str) -> Option<K>,
) -> Result<BTreeMap<K, StoredDocument<T>>, LedgerError> {
    let mut found = BTreeMap::new();
    for document in book.documents(kind).await?.documents {
        let key = key(&document.id).ok_or_else(|| unreadable(kind, &document.id))?;
        let known = before.get(&key).filter(|known| known.version == document.version);
        let kept = match known {
            Some(known) => known.clone(),
            None => read(kind, document)?,
        };
        found.insert(key, kept);
    }
    Ok(found)
}

fn read<T: DeserializeOwned>(
    kind: Kind,
    document: Document,
) -> Result<StoredDocument<T>, LedgerError> {
    let value = serde_json::from_slice(&document.body);
    let value = value.map_err(|_| unreadable(kind, &document.id))?;
    let Document { version, at_ms, who, .. } = document;
    Ok(StoredDocument { value: Arc::new(value), version, at_ms, who })
}

fn unreadable(kind: Kind, id: &str) -> LedgerError {
    LedgerError::Corrupt(format!("the document {kind} {id}"))
}
