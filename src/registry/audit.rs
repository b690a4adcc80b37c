//! The audit log: actor, change and time, with secrets masked.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::documents::AUDIT;
use super::write::AuditView;
use crate::clock::{UnixMillis, rfc3339};
use crate::ledger::{BatchedLedger, Document, DocumentChange, DocumentQuery, Expect, LedgerError};

/// Entries that are kept: a few megabytes of memory at up to 1 kB each, and six weeks at a hundred
/// changes a day.
pub const ENTRIES_MAX: u64 = 5_000;

/// Entries that a change removes beside as many as it adds, so that not each change has to read all
/// of them, and none removes all that an import brought.
pub(super) const REMOVED_MAX: usize = 50;

/// Entries that are read together: half a megabyte at most.
const PAGE: usize = 500;

/// Characters of a value that are kept: enough to recognize a URL.
const VALUE_CHARACTERS_MAX: usize = 200;

/// The reason that a person gives. It is kept whole: its bound is where it is read.
pub(super) const REASON: &str = "reason";

/// The actor of a change: an operator's token, a publisher, a manager, an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(String);

/// The actor of a change or an action, and its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp<'a> {
    /// The actor.
    pub who: &'a Actor,
    /// The time.
    pub at_ms: UnixMillis,
}

/// The subject of an entry in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditSubject<'a> {
    /// Its kind, as [`Entry::kind`].
    pub kind: &'a str,
    /// Its name among those of its kind, as [`Entry::name`].
    pub name: &'a str,
}

/// One change to one document, or one action on events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The time, RFC 3339 in UTC.
    pub at: String,
    /// The actor.
    pub who: String,
    /// The action.
    pub action: Action,
    /// The kind of the document; `event`, `replay`, `release`, `pause`, `held`, `keys`,
    /// `user`, `store` or `gateway`.
    pub kind: String,
    /// The name of the document, the id of the event or of the order, the paused destination, or a digest
    /// of the erased user.
    pub name: String,
    /// The keys that differ, each with its value before and after. Of an action on something other
    /// than a document: what is said about it, each without a value before.
    pub changes: Map<String, Value>,
}

/// An action on a document, or on events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The document is new.
    Created,
    /// The document was changed.
    Changed,
    /// The document was deleted.
    Deleted,
    /// An event is delivered again.
    Replayed,
    /// A replay order is cancelled.
    Cancelled,
    /// One attempt is made with an event that no sender sent.
    Tried,
    /// A held callback becomes an event.
    Released,
    /// A held callback is dismissed.
    Dropped,
    /// The deduplication keys of a source are deleted.
    Forgotten,
    /// The data of a user is erased.
    Erased,
    /// A callback of a source is signed as its sender would: it is accepted like the sender's own.
    Signed,
    /// The whole store is exported.
    Exported,
    /// The gateway is asked to stop.
    Drained,
    /// An action of a newer version.
    #[serde(other)]
    Other,
}

impl Actor {
    /// An actor in a role.
    #[must_use]
    pub fn new(role: &str, name: &str) -> Self {
        Self(format!("{role} {name}"))
    }

    /// The holder of the admin token of that name.
    #[must_use]
    pub fn of_token(name: &str) -> Self {
        Self::new("token", name)
    }

    /// A caller of a loopback listener that has no token.
    #[must_use]
    pub fn local() -> Self {
        Self(String::from("local"))
    }

    /// The gateway's own upkeep.
    #[must_use]
    pub(super) fn gateway() -> Self {
        Self(String::from("postern"))
    }

    /// The text that is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> AuditSubject<'a> {
    /// The subject called `name` of that kind.
    #[must_use]
    pub const fn new(kind: &'a str, name: &'a str) -> Self {
        Self { kind, name }
    }
}

impl Action {
    /// All actions of this version.
    pub const ALL: [Self; 13] = [
        Self::Created,
        Self::Changed,
        Self::Deleted,
        Self::Replayed,
        Self::Cancelled,
        Self::Tried,
        Self::Released,
        Self::Dropped,
        Self::Forgotten,
        Self::Erased,
        Self::Signed,
        Self::Exported,
        Self::Drained,
    ];

    /// The word for the log, as in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Replayed => "replayed",
            Self::Cancelled => "cancelled",
            Self::Tried => "tried",
            Self::Released => "released",
            Self::Dropped => "dropped",
            Self::Forgotten => "forgotten",
            Self::Erased => "erased",
            Self::Signed => "signed",
            Self::Exported => "exported",
            Self::Drained => "drained",
            Self::Other => "other",
        }
    }

    fn of(before: Option<&Value>, after: Option<&Value>) -> Self {
        match (before, after) {
            (None, _) => Self::Created,
            (Some(_), Some(_)) => Self::Changed,
            (Some(_), None) => Self::Deleted,
        }
    }
}

impl Entry {
    /// The change of a document; `view` has the document before and after it.
    pub(super) fn new(stamp: Stamp<'_>, subject: AuditSubject<'_>, view: &AuditView<'_>) -> Self {
        let AuditView { before, after } = *view;
        Self {
            at: rfc3339(stamp.at_ms),
            who: stamp.who.0.clone(),
            action: Action::of(before, after),
            kind: subject.kind.to_owned(),
            name: subject.name.to_owned(),
            changes: differences(before, after),
        }
    }

    /// The action on something other than a document, with `facts` about it.
    pub(super) fn of(
        stamp: Stamp<'_>,
        action: Action,
        subject: AuditSubject<'_>,
        facts: &Map<String, Value>,
    ) -> Self {
        let pair = |(key, value): (&String, &Value)| {
            let kept = if key == REASON { value.clone() } else { short(value.clone()) };
            (key.clone(), Value::from(vec![Value::Null, kept]))
        };
        Self {
            at: rfc3339(stamp.at_ms),
            who: stamp.who.0.clone(),
            action,
            kind: subject.kind.to_owned(),
            name: subject.name.to_owned(),
            changes: facts.iter().map(pair).collect(),
        }
    }
}

fn differences(before: Option<&Value>, after: Option<&Value>) -> Map<String, Value> {
    let member = |of: Option<&Value>, key: &str| of.and_then(|value| value.get(key)).cloned();
    let keys = [before, after].into_iter().flatten().filter_map(Value::as_object);
    let mut found = Map::new();
    for key in keys.flat_map(Map::keys) {
        let (old, new) = (member(before, key), member(after, key));
        if old != new && !found.contains_key(key) {
            let pair = [old, new].map(|value| value.map_or(Value::Null, short));
            found.insert(key.clone(), Value::from(pair.to_vec()));
        }
    }
    found
}

fn short(value: Value) -> Value {
    let long = |text: &str| text.chars().nth(VALUE_CHARACTERS_MAX).is_some();
    let cut = |text: &str| text.chars().take(VALUE_CHARACTERS_MAX).chain(['…']).collect::<String>();
    match value {
        Value::String(text) if long(&text) => Value::from(cut(&text)),
        Value::Array(_) | Value::Object(_) => match value.to_string() {
            text if long(&text) => Value::from(cut(&text)),
            _ => value,
        },
        other => other,
    }
}

/// The id of the entry with that number. Ids sort by age.
pub(super) fn id(number: u64) -> String {
    format!("{number:020}")
}

/// The entries that make room for new ones, and what is left then.
pub(super) struct Removals {
    /// The changes that delete them.
    pub changes: Vec<DocumentChange>,
    /// How many entries are left.
    pub left: u64,
}

/// Returns the changes that delete entries, so that there is room for `added` ones and some more.
///
/// # Errors
/// As [`BatchedLedger::documents`].
pub(super) async fn removals(
    ledger: &BatchedLedger,
    added: u64,
    at_ms: UnixMillis,
) -> Result<Removals, LedgerError> {
    let mut documents = ledger.documents(AUDIT).await?.documents;
    documents.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let [most, added] = [ENTRIES_MAX, added].map(|one| usize::try_from(one).unwrap_or(usize::MAX));
    let beyond = documents.len().saturating_add(added).saturating_sub(most);
    let count = match beyond {
        0 => 0,
        // One change of many makes room for the next ones.
        _ => beyond.saturating_add(REMOVED_MAX - 1).min(added.saturating_add(REMOVED_MAX)),
    };
    let removed = surplus(&documents, count);
    let delete = |entry: &&Document| DocumentChange {
        kind: AUDIT,
        id: entry.id.clone(),
        expect: Expect::Version(entry.version),
        body: None,
        who: Actor::gateway().0,
        at_ms,
    };
    let changes: Vec<_> = removed.iter().map(delete).collect();
    let left = documents.len().saturating_sub(changes.len()) as u64;
    Ok(Removals { changes, left })
}

/// The part of an entry that decides with which others it competes for room.
#[derive(Deserialize)]
struct OfAction {
    action: Action,
}

/// Chooses `count` of the entries, which are sorted by age: each time the oldest of those that one
/// actor has of one action, where these are the most. So who does one thing often, or floods the log,
/// pushes out no others before there are more of them than of its own.
fn surplus(documents: &[Document], count: usize) -> Vec<&Document> {
    let mut groups: HashMap<(&str, &str), VecDeque<&Document>> = HashMap::new();
    for document in documents {
        let action = serde_json::from_slice(&document.body).map(|OfAction { action }| action);
        let group = (document.who.as_str(), action.unwrap_or(Action::Other).as_str());
        groups.entry(group).or_default().push_back(document);
    }
    let largest = |_| {
        let group = groups
            .values_mut()
            .max_by_key(|group| (group.len(), group.front().map(|oldest| Reverse(&oldest.id))))?;
        group.pop_front()
    };
    (0..count).map_while(largest).collect()
}

/// Which entries to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Entries before this number.
    pub before: Option<u64>,
    /// Written at this time or later.
    pub since_ms: Option<UnixMillis>,
    /// Written before this time.
    pub until_ms: Option<UnixMillis>,
}

/// Returns the entries of `query` that are `wanted`, newest first, and the number to continue with.
///
/// The ledger finds number and time. It cannot see the rest: entries may be sealed. So they are
/// read page by page until there are enough.
///
/// # Errors
/// As [`BatchedLedger::latest_documents`].
pub async fn list(
    ledger: &BatchedLedger,
    query: AuditQuery,
    limit: usize,
    wanted: impl Fn(&Entry) -> bool,
) -> Result<(Vec<Entry>, Option<u64>), LedgerError> {
    let AuditQuery { before, since_ms, until_ms } = query;
    let mut documents = DocumentQuery { since_ms, until_ms, ..DocumentQuery::of(AUDIT) };
    documents.before = before.map(id);
    let mut entries = Vec::new();
    let mut last = None;
    // One more than is shown says whether there is a next page.
    let mut size = limit.saturating_add(1).min(PAGE);
    loop {
        let page = ledger.latest_documents(&documents, size).await?;
        let is_last = page.len() < size;
        for document in page {
            let entry: Entry = serde_json::from_slice(&document.body).map_err(|_| {
                LedgerError::Corrupt(format!("the document {AUDIT} {}", document.id))
            })?;
            let number = document.id.parse().unwrap_or(0);
            documents.before = Some(document.id);
            if !wanted(&entry) {
                continue;
            }
            if entries.len() >= limit {
                return Ok((entries, last));
            }
            entries.push(entry);
            last = Some(number);
        }
        if is_last {
            return Ok((entries, None));
        }
        size = PAGE;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ledger::Revision;

    #[test]
    fn the_largest_group_of_entries_loses_its_oldest() {
        let entry = |(number, group): (usize, &&str)| Document {
            id: id(number as u64),
            version: Revision(1),
            at_ms: 0,
            who: group.chars().take(1).collect(),
            body: json!({ "action": &group[2..], "name": "x" }).to_string().into(),
        };
        let groups = [
            "a erased",
            "b replayed",
            "b replayed",
            "a erased",
            "b replayed",
            "b replayed",
            "a replayed",
            "a changed",
        ];
        let documents: Vec<_> = groups.iter().enumerate().map(entry).collect();
        let numbers = |count| {
            let removed = surplus(&documents, count).into_iter();
            removed.map(|one| one.id.parse().unwrap()).collect::<Vec<usize>>()
        };
        assert_eq!(numbers(0), [] as [usize; 0]);
        // Of those who have as many, the older.
        assert_eq!(numbers(4), [1, 2, 0, 4]);
        assert_eq!(numbers(99).len(), documents.len());
    }

    #[test]
    fn what_a_newer_version_did_can_be_read() {
        let read = |word: &str| serde_json::from_value::<Action>(word.into()).unwrap();
        assert_eq!(read("frozen"), Action::Other);
        assert!(Action::ALL.iter().all(|action| read(action.as_str()) == *action));
    }

    #[test]
    fn facts_about_an_action_are_cut_and_its_reason_is_not() {
        let long = "x".repeat(400);
        let facts = json!({ "reason": long, "user": long, "state": "dead" });
        let facts = facts.as_object().unwrap();
        let (who, subject) = (Actor::local(), AuditSubject::new("held", "ref_1"));
        let entry = Entry::of(Stamp { who: &who, at_ms: 0 }, Action::Dropped, subject, facts);
        let count = |key: &str| entry.changes[key][1].as_str().unwrap().chars().count();
        assert_eq!((count("reason"), count("user")), (400, 201));
        assert_eq!(entry.changes["state"], json!([null, "dead"]));
    }

    #[test]
    fn only_what_differs_is_kept_and_no_more_of_it_than_is_needed() {
        let long = "x".repeat(500);
        let before = json!({ "a": 1, "b": "same", "gone": [1] });
        let after = json!({ "a": 2, "b": "same", "url": long });
        let changes = differences(Some(&before), Some(&after));
        assert_eq!(changes["a"], json!([1, 2]));
        assert_eq!(changes["gone"], json!([[1], null]));
        assert!(!changes.contains_key("b"));
        assert_eq!(changes["url"][1].as_str().unwrap().chars().count(), 201);
        assert_eq!(Action::of(Some(&before), None), Action::Deleted);
    }
}
