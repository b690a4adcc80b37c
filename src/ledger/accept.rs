//! What goes into the ledger on the way of a callback, and what comes back.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::{EventId, SourceId, TargetId};
use crate::clock::UnixMillis;
use crate::sender::{Resolved, Role};

/// What makes two callbacks of one source the same: 16 bytes of SHA-256 over the source's id and
/// the key, each with its length before it, so that no two pairs run together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DedupeKey(pub [u8; 16]);

/// What a callback grants, in short: 8 bytes of SHA-256 over user, item, amount and currency. A
/// known transaction with another fingerprint is a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

/// An event to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Its id, made before the first try and kept over retries.
    pub id: EventId,
    /// The source that it came to.
    pub source: SourceId,
    /// One or two keys: it is a duplicate if either is known.
    pub keys: SmallVec<[DedupeKey; 2]>,
    /// What it grants.
    pub fingerprint: Fingerprint,
    /// The sender's own id of what happened.
    pub transaction: String,
    /// Who is rewarded, where the callback says so.
    pub user: Option<String>,
    /// When it was received.
    pub received_ms: UnixMillis,
    /// Whether the sender marks it as a test.
    pub test: bool,
    /// An encoded [`super::EventBody`]. Engines store it and do not read it.
    pub body: Bytes,
    /// The destinations; one delivery is made for each.
    pub targets: SmallVec<[TargetId; 2]>,
}

/// Events that are taken when the engine can commit them, not before: until then more may come.
pub type Offer = Box<dyn FnOnce() -> Arc<Vec<NewEvent>> + Send>;

/// What became of an event that was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It was unknown, and it is durable now.
    Fresh,
    /// One of its keys was known, durably.
    Duplicate {
        /// The event that came first.
        first: EventId,
        /// When that was received.
        first_seen_ms: UnixMillis,
        /// What that grants; another one than that of the event offered is a conflict.
        fingerprint: Fingerprint,
    },
}

/// A sender's nonce, to be used once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// The nonce, within its source.
    pub key: DedupeKey,
    /// From when on it may be forgotten.
    pub expires_ms: UnixMillis,
}

/// Whether a nonce is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceUse {
    /// It is used for the first time.
    First,
    /// It was used before and has not ended.
    Repeated,
}

impl NewEvent {
    /// About how many bytes it takes on disk, at least.
    pub(super) fn size(&self) -> usize {
        let texts = self.source.as_str().len()
            + self.transaction.len()
            + self.user.as_ref().map_or(0, String::len)
            + self.targets.iter().map(|target| target.as_str().len() + 5).sum::<usize>();
        64 + 16 * self.keys.len() + texts + self.body.len()
    }
}

impl DedupeKey {
    /// The key for `key` within `source`.
    #[must_use]
    pub fn new(source: &SourceId, key: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [source.as_str().as_bytes(), key] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut short = [0; 16];
        short.copy_from_slice(&hash.finalize()[..16]);
        Self(short)
    }

    /// The keys of a callback.
    #[must_use]
    pub fn all(source: &SourceId, resolved: &Resolved) -> SmallVec<[Self; 2]> {
        resolved.keys().map(|key| Self::new(source, key)).collect()
    }
}

impl Fingerprint {
    /// What a callback grants.
    #[must_use]
    pub fn of(resolved: &Resolved) -> Self {
        let role = |role| resolved.role(role);
        Self::new([role(Role::User), role(Role::Item), role(Role::Amount), role(Role::Currency)])
    }

    /// The fingerprint of user, item, amount and currency, in that order. An absent one differs
    /// from an empty one.
    #[must_use]
    pub fn new(roles: [Option<&str>; 4]) -> Self {
        let mut hash = Sha256::new();
        for value in roles {
            let len = value.map_or(u64::MAX, |text| text.len() as u64);
            hash.update(len.to_le_bytes());
            hash.update(value.unwrap_or_default());
        }
        let mut short = [0; 8];
        short.copy_from_slice(&hash.finalize()[..8]);
        Self(u64::from_le_bytes(short))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_source_and_by_where_the_parts_end() {
        let key = |source: &str, key: &[u8]| DedupeKey::new(&SourceId::from(source), key);
        assert_eq!(key("a", b"1"), key("a", b"1"));
        assert_ne!(key("a", b"1"), key("b", b"1"));
        assert_ne!(key("a", b"bc"), key("ab", b"c"));
    }

    #[test]
    fn a_fingerprint_changes_with_every_role_and_tells_absent_from_empty() {
        let full = [Some("u"), Some("i"), Some("1"), Some("c")];
        let first = Fingerprint::new(full);
        assert_eq!(first, Fingerprint::new(full));
        for at in 0..4 {
            for other in [None, Some(""), Some("x")] {
                let mut roles = full;
                roles[at] = other;
                assert_ne!(first, Fingerprint::new(roles));
            }
        }
        assert_ne!(Fingerprint::new([None; 4]), Fingerprint::new([Some(""); 4]));
        assert_ne!(
            Fingerprint::new([Some("ab"), Some("c"), None, None]),
            Fingerprint::new([Some("a"), Some("bc"), None, None])
        );
    }
}
