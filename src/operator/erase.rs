//! Erasure of a user's data, its entry in the audit log, and what that entry keeps out of a store.

use std::collections::HashMap;

use serde_json::Map;
use sha2::{Digest as _, Sha256};

use super::{source_id, source_name};
use crate::clock::{UnixMillis, now_ms, rfc3339};
use crate::ledger::{Document, Erased, Erasure, Item, LedgerError, NewEvent, PastEvent};
use crate::registry::{AUDIT, Action, Actor, AuditSubject, Entry, Registry};

/// The kind of such entries.
const KIND: &str = "user";

/// The name of the source in an entry, and its id where that is another.
const SOURCE: &str = "source";
const SOURCE_ID: &str = "source_id";

/// The time that an erasure was ordered at, in the entry about its end: it removed what was received
/// by then.
const UNTIL: &str = "received_until";

/// Bytes of the user's digest in an entry: enough to find it again from the user's name.
const DIGEST_BYTES: usize = 12;

/// Erases what the store holds of `user`, of one source or of all. The audit log says who ordered it,
/// and, in a second entry, that it was done and what was erased. It holds a digest of the user, because
/// it outlives the erasure.
///
/// # Errors
/// If the store fails. The order may be repeated.
pub async fn erase_user(
    registry: &Registry,
    who: &Actor,
    user: &str,
    source: Option<&str>,
) -> Result<Erased, LedgerError> {
    let config = registry.config();
    let source = source.map(|name| source_id(&config, name));
    let mut facts = Map::new();
    if let Some(id) = &source {
        let name = source_name(&config, id);
        facts.insert(SOURCE.to_owned(), name.into());
        if name != id.as_str() {
            facts.insert(SOURCE_ID.to_owned(), id.as_str().into());
        }
    }
    let (digest, ordered_ms) = (digest_of_user(user), now_ms());
    let subject = AuditSubject::new(KIND, &digest);
    registry.note_with(who, Action::Erased, subject, facts.clone()).await?;
    let erasure = Erasure { user: user.to_owned(), source };
    let erased = registry.ledger().erase(&erasure).await?;
    let Erased { events, deliveries, held } = erased;
    for (name, count) in [("events", events), ("deliveries", deliveries), ("held", held)] {
        facts.insert(name.to_owned(), count.into());
    }
    facts.insert(UNTIL.to_owned(), rfc3339(ordered_ms).into());
    registry.note_with(who, Action::Erased, subject, facts).await?;
    tracing::info!(who = who.as_str(), events, deliveries, held, "erased a user's data");
    Ok(erased)
}

/// The name of a user in the audit log: a part of its SHA-256.
#[must_use]
pub fn digest_of_user(user: &str) -> String {
    let digest = Sha256::digest(user);
    format!("sha256-{}", const_hex::encode(&digest[..DIGEST_BYTES]))
}

/// Users whose data was erased, as the entries of audit logs about finished erasures say. What was
/// received before its erasure is not imported again: an older export still has it. Entries of earlier
/// versions do not say that an erasure was finished.
#[derive(Debug, Default)]
pub struct ErasedUsers(HashMap<String, HashMap<Option<String>, UnixMillis>>);

impl ErasedUsers {
    /// Notes a document, if it is an entry about an erasure.
    pub fn note(&mut self, kind: &str, document: &Document) {
        if kind != AUDIT.as_str() {
            return;
        }
        let Ok(entry) = serde_json::from_slice::<Entry>(&document.body) else { return };
        if entry.action != Action::Erased || entry.kind != KIND {
            return;
        }
        let fact = |name: &str| entry.changes.get(name).and_then(|pair| pair[1].as_str());
        let until = fact(UNTIL).and_then(|until| until.parse::<jiff::Timestamp>().ok());
        let Some(until) = until.map(jiff::Timestamp::as_millisecond) else { return };
        let source = fact(SOURCE_ID).or_else(|| fact(SOURCE)).map(str::to_owned);
        let until_ms = self.0.entry(entry.name).or_default().entry(source).or_default();
        *until_ms = until.max(*until_ms);
    }

    /// Adds those of `other`.
    pub fn add(&mut self, other: Self) {
        for (user, erasures) in other.0 {
            let own = self.0.entry(user).or_default();
            for (source, until_ms) in erasures {
                let own = own.entry(source).or_default();
                *own = until_ms.max(*own);
            }
        }
    }

    /// Notes the entries about erasures among some items.
    pub fn note_all(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Document { kind, document } = item {
                self.note(kind, document);
            }
        }
    }

    /// Whether an item of an export is data that was erased after it was received. `known` are the
    /// erasures that the export itself has: it was made after them, so what it has was not erased by
    /// them. That may be of a callback that was received before, and whose user was found later.
    #[must_use]
    pub fn covers(&self, item: &Item, known: &Self) -> bool {
        match item {
            Item::Event { event, .. } => self.covers_event(event, known),
            Item::Held(held) => self.covers_event(&held.event, known),
            Item::Document { .. } | Item::Past(_) | Item::Nonce(_) | Item::Mark(_) => false,
        }
    }

    fn covers_event(&self, event: &NewEvent, known: &Self) -> bool {
        let Some(user) = event.user.as_ref().filter(|_| !self.0.is_empty()) else { return false };
        let user = digest_of_user(user);
        let Some(erasures) = self.0.get(&user) else { return false };
        let known = known.0.get(&user);
        let of_source = Some(event.source.as_str().to_owned());
        [None, of_source].iter().any(|source| {
            let known_ms = known.and_then(|known| known.get(source));
            erasures.get(source).is_some_and(|until_ms| {
                event.received_ms <= *until_ms && known_ms.is_none_or(|known| known < until_ms)
            })
        })
    }

    /// The remains of an erased item: an event leaves its keys, so its transaction stays known.
    #[must_use]
    pub fn remains_of(item: &Item) -> Option<Item> {
        let Item::Event { event, .. } = item else { return None };
        let past = PastEvent::of(event);
        (!past.keys.is_empty()).then_some(Item::Past(past))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::ledger::{HeldWhy, Revision, conformance};

    /// An entry about an erasure of what was received by that time.
    fn entry(user: &str, facts: &Value, until_ms: UnixMillis) -> Item {
        let mut changes = facts.clone();
        changes[UNTIL] = json!([null, rfc3339(until_ms)]);
        let at_ms = until_ms + 1_000;
        let body = json!({
            "at": "", "who": "", "action": "erased", "kind": KIND, "name": digest_of_user(user),
            "changes": changes,
        });
        let (id, who, body) = (String::from("1"), String::new(), Bytes::from(body.to_string()));
        let document = Document { id, version: Revision(1), at_ms, who, body };
        Item::Document { kind: AUDIT.as_str().to_owned(), document }
    }

    fn item(event: &NewEvent) -> Item {
        Item::Event { event: event.clone(), deliveries: Vec::new() }
    }

    #[test]
    fn data_from_before_an_erasure_is_covered_and_its_keys_remain() {
        let mut event = conformance::event(1, &["a"]);
        event.user = Some("gone".to_owned());
        let mut held = conformance::held(9, HeldWhy::Conflict, None);
        held.event = event.clone();
        let both = [item(&event), Item::Held(Box::new(held))];
        let covered = |entry: Item| {
            let mut erased = ErasedUsers::default();
            erased.note_all(&[entry]);
            let none = ErasedUsers::default();
            let [one, other] = [0, 1].map(|at: usize| erased.covers(&both[at], &none));
            assert_eq!(one, other);
            assert!(!erased.covers(&both[0], &erased), "of an export that is younger");
            one
        };
        let (at, source, none) = (event.received_ms, event.source.as_str(), json!({}));
        assert!(covered(entry("gone", &none, at)));
        assert!(!covered(entry("gone", &none, at - 1)), "received since");
        assert!(!covered(entry("other", &none, at)));
        let ordered = json!({ "action": "erased", "kind": KIND, "name": digest_of_user("gone"),
            "at": "", "who": "", "changes": {} });
        let Item::Document { kind, mut document } = entry("gone", &none, at) else { panic!() };
        document.body = Bytes::from(ordered.to_string());
        assert!(!covered(Item::Document { kind, document }), "perhaps not finished");
        assert!(covered(entry("gone", &json!({ "source": [null, source] }), at)));
        let renamed = json!({ "source": [null, "new name"], "source_id": [null, source] });
        assert!(covered(entry("gone", &renamed, at)));
        assert!(!covered(entry("gone", &json!({ "source": [null, "other"] }), at)));

        let keys: Vec<_> = event.keys.written().collect();
        let left = ErasedUsers::remains_of(&item(&event));
        assert!(matches!(left, Some(Item::Past(past)) if past.keys.to_vec() == keys));
        event.keys = std::iter::empty().collect();
        assert_eq!(ErasedUsers::remains_of(&item(&event)), None);
    }
}
