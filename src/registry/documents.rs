//! Managed objects as the ledger keeps them: one JSON document each.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::resolved::Resolution;
use crate::clock::UnixMillis;
use crate::config::Table;
use crate::ledger::{BatchedLedger, Document, DocumentQuery, Kind, LedgerError, Revision};
use crate::partners::callback_addresses::document::{Address, CALLBACK_ADDRESS};
use crate::partners::push_configuration::document::{PUSH_CONFIG, Push};
use crate::partners::reward_rules::document::{REWARD_RULE, Rule};

/// Sources of the admin API, by name.
pub const SOURCE: Kind = Kind::new("source");
/// Destinations of the admin API, by name.
pub const DESTINATION: Kind = Kind::new("destination");
/// Manual resolutions, by event or by rejected request.
pub(super) const RESOLVED: Kind = Kind::new("resolved");
/// Entries of the audit log, by number.
pub const AUDIT: Kind = Kind::new("audit");
/// The document that every change writes too.
pub const HEAD: Kind = Kind::new("registry");
/// Its id.
pub(super) const HEAD_ID: &str = "head";

/// A document that was read.
#[derive(Debug)]
pub struct StoredDocument<T> {
    /// Its content.
    pub value: Arc<T>,
    /// Its version.
    pub version: Revision,
    /// When it was last written.
    pub at_ms: UnixMillis,
    /// The actor who wrote it.
    pub who: String,
}

impl<T> Clone for StoredDocument<T> {
    fn clone(&self) -> Self {
        let (value, who) = (Arc::clone(&self.value), self.who.clone());
        Self { value, who, version: self.version, at_ms: self.at_ms }
    }
}

/// The document that every change writes too: the next numbers. A change that was planned on an
/// older state fails on the newer head and is planned again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The number of the next reward rule. Numbers are never used again.
    pub next_rule: u64,
    /// The number of the next entry of the audit log.
    pub next_audit: u64,
    /// The number of the oldest entry, for older versions: to them, entries have all numbers between
    /// the two.
    pub first_audit: u64,
    /// Entries of the audit log, about: an import may bring some below the next number. `None` in a
    /// head of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
}

impl Default for Head {
    fn default() -> Self {
        Self { next_rule: 1, next_audit: 1, first_audit: 1, entries: None }
    }
}

impl Head {
    /// How many entries the audit log has, about.
    pub(super) fn audit_entries(&self) -> u64 {
        self.entries.unwrap_or_else(|| self.next_audit.saturating_sub(self.first_audit))
    }

    /// The head with numbers beyond those in use: an import brings rules and entries, and keeps the
    /// newer of two heads, which need not have the larger numbers.
    fn beyond(
        self,
        rules: &BTreeMap<u64, StoredDocument<Rule>>,
        newest: Option<&Document>,
    ) -> Self {
        let rule = rules.last_key_value().map_or(0, |(number, _)| *number);
        let entry = newest.and_then(|entry| entry.id.parse().ok()).unwrap_or(0_u64);
        let next_audit = self.next_audit.max(entry.saturating_add(1));
        // A number that is not in use counts as an entry until they are counted again.
        let brought = next_audit - self.next_audit;
        Self {
            next_rule: self.next_rule.max(rule.saturating_add(1)),
            next_audit,
            entries: self.entries.map(|entries| entries.saturating_add(brought)),
            ..self
        }
    }
}

/// All managed objects, at one revision.
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
    /// Manual resolutions, by the id of their subject.
    pub resolved: BTreeMap<String, StoredDocument<Resolution>>,
    pub(super) head: Option<StoredDocument<Head>>,
    /// The numbers of the next change.
    pub(super) numbers: Head,
    /// The revision of the ledger. Later changes may be missing.
    pub(super) revision: Revision,
}

/// Shows their number only: their content may be secret.
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
    /// Reads all documents, as they were at one moment. Those that `before` has in the same version
    /// are not read again.
    pub(super) async fn read(ledger: &BatchedLedger, before: &Self) -> Result<Self, LedgerError> {
        loop {
            let head = head(ledger).await?;
            let sources = ledger.documents(SOURCE).await?;
            let rules = all(ledger, REWARD_RULE, &before.rules, |id| id.parse().ok()).await?;
            let entries = ledger.latest_documents(&DocumentQuery::of(AUDIT), 1).await?;
            let numbers = head.as_ref().map(|head| *head.value).unwrap_or_default();
            let new = Self {
                numbers: numbers.beyond(&rules, entries.first()),
                revision: sources.revision,
                sources: kept(SOURCE, sources.documents, &before.sources, text)?,
                destinations: all(ledger, DESTINATION, &before.destinations, text).await?,
                rules,
                addresses: all(ledger, CALLBACK_ADDRESS, &before.addresses, text).await?,
                pushes: all(ledger, PUSH_CONFIG, &before.pushes, text).await?,
                resolved: all(ledger, RESOLVED, &before.resolved, text).await?,
                head,
            };
            // Every change writes the head. If it did not change, all documents are of one moment.
            if version(self::head(ledger).await?.as_ref()) == version(new.head.as_ref()) {
                return Ok(new);
            }
        }
    }

    /// Whether both make the same configuration. A change of notes or resolutions only needs no new
    /// one.
    pub(super) fn make_the_same(&self, other: &Self) -> bool {
        same(&self.sources, &other.sources)
            && same(&self.destinations, &other.destinations)
            && same(&self.rules, &other.rules)
            && same(&self.addresses, &other.addresses)
            && same(&self.pushes, &other.pushes)
    }

    /// Whether something was changed since this was read.
    pub(super) async fn is_stale(&self, ledger: &BatchedLedger) -> Result<bool, LedgerError> {
        let now = ledger.document(HEAD, HEAD_ID).await?.map(|document| document.version);
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

async fn head(ledger: &BatchedLedger) -> Result<Option<StoredDocument<Head>>, LedgerError> {
    ledger.document(HEAD, HEAD_ID).await?.map(|document| read(HEAD, document)).transpose()
}

fn text(id: &str) -> Option<String> {
    Some(id.to_owned())
}

async fn all<K: Ord, T: DeserializeOwned>(
    ledger: &BatchedLedger,
    kind: Kind,
    before: &BTreeMap<K, StoredDocument<T>>,
    key: impl Fn(&str) -> Option<K>,
) -> Result<BTreeMap<K, StoredDocument<T>>, LedgerError> {
    kept(kind, ledger.documents(kind).await?.documents, before, key)
}

/// The content of `documents`. Those that `before` has in the same version are not read again.
fn kept<K: Ord, T: DeserializeOwned>(
    kind: Kind,
    documents: Vec<Document>,
    before: &BTreeMap<K, StoredDocument<T>>,
    key: impl Fn(&str) -> Option<K>,
) -> Result<BTreeMap<K, StoredDocument<T>>, LedgerError> {
    let mut found = BTreeMap::new();
    for document in documents {
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
