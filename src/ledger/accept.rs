//! Accepting callbacks: the input of the ledger and its result.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::{EventId, Incoming, SourceId, TargetId};
use crate::clock::UnixMillis;
use crate::sender::{KeyForm, KeyLookup, KeyRole, Resolved, Role};

/// Identifies a transaction of one source: 16 bytes of SHA-256 over the source's id and the key,
/// each after its length, so no two pairs collide by concatenation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DedupeKey(pub [u8; 16]);

/// A digest of a callback's content: 8 bytes of SHA-256 over user, item, amount and currency. A
/// known identity with another fingerprint is a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

/// The keys of an event: those that are written with it, and those that are only looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventKeys {
    /// The identity: the sender's own ids. Written with the event. A known one makes a duplicate if
    /// the content is equal, and a conflict if not. An event that is read back has all its written
    /// keys here: the stored form has no roles.
    pub identity: SmallVec<[DedupeKey; 2]>,
    /// The signed texts: one for each signature that does not cover the identity alone. Written
    /// with the event; a duplicate adds them to the first event. A known one without a known
    /// identity is ambiguous, also if other signatures cover the identity: without those it has
    /// made another event.
    pub signatures: SmallVec<[DedupeKey; 1]>,
    /// Older forms: looked up like the others and never written. Usually empty, and then free.
    pub lookups: Vec<LookupKey>,
}

/// A key that is looked up and never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupKey {
    /// The key.
    pub key: DedupeKey,
    /// Its meaning if it is known.
    pub role: KeyRole,
    /// The reason for the lookup.
    pub form: KeyForm,
    /// The fingerprint of an equal content in the event that the key belongs to.
    pub fingerprint: Fingerprint,
}

/// The identity of an event: what makes it new, a duplicate, or a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventIdentity {
    /// The source that received it.
    pub source: SourceId,
    /// Its deduplication keys.
    pub keys: EventKeys,
    /// Its content.
    pub fingerprint: Fingerprint,
}

/// An event to be recorded. Outside the ledger [`NewEvent::new`] is the way to make one: it takes
/// what was resolved.
///
/// ```compile_fail,E0451
/// use postern::ledger::{EventId, NewEvent, SourceId};
/// let sample = NewEvent::sample(EventId::new(0), &SourceId::from("level-end"), 1);
/// let forged = NewEvent { transaction: String::from("another"), ..sample };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The id, created before the first try and kept over retries.
    pub id: EventId,
    /// The source that received it.
    pub source: SourceId,
    /// Its deduplication keys.
    pub keys: EventKeys,
    /// Its content.
    pub fingerprint: Fingerprint,
    /// The transaction: the sender's own id.
    pub transaction: String,
    /// The user that is rewarded, if the callback names one.
    pub user: Option<String>,
    /// When it was received.
    pub received_ms: UnixMillis,
    /// Whether the sender marks it as a test.
    pub test: bool,
    /// An encoded [`super::EventBody`]. Engines store it and do not read it.
    pub body: Bytes,
    /// The destinations; one delivery is made for each.
    pub targets: SmallVec<[TargetId; 2]>,
    pub(super) seal: Seal,
}

/// Makes a literal of [`NewEvent`] impossible outside the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seal;

/// The result for an event. The facts about a first event are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// A new event, durable now.
    New,
    /// A duplicate: identity and content are known. Unknown keys of it now belong to the first
    /// event, durably.
    Duplicate {
        /// The event that came first.
        first: EventId,
        /// When the first event was received.
        first_seen_ms: UnixMillis,
    },
    /// A conflict: the identity is known with another content. Nothing was written.
    Conflict {
        /// The event that came first.
        first: EventId,
        /// When the first event was received.
        first_seen_ms: UnixMillis,
    },
    /// Ambiguous: a signed text is known under another identity. Nothing was written.
    Ambiguous {
        /// The event that came first.
        first: EventId,
        /// When the first event was received.
        first_seen_ms: UnixMillis,
    },
}

/// The event that has a key, and the content that the key identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) id: EventId,
    pub(super) received_ms: UnixMillis,
    pub(super) fingerprint: Fingerprint,
}

/// The relation of an event to those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// None of its keys is known.
    New,
    /// Already recorded: its own id is known.
    Own,
    /// `missing` are its unknown keys, to be added to the first event, each with the fingerprint of
    /// the duplicate.
    Duplicate { first: First, missing: SmallVec<[DedupeKey; 2]> },
    /// The identity is known with another content.
    Conflict(First),
    /// Only what was signed is known.
    Ambiguous(First),
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
    /// Used for the first time.
    First,
    /// Used before, and not ended.
    Repeated,
}

impl EventIdentity {
    /// The identity of a callback of `source`.
    #[must_use]
    pub fn of(source: &SourceId, resolved: &Resolved) -> Self {
        Self::among(source, source, resolved)
    }

    /// The identity of a callback of `source` among those of `owner`, which are deduplicated apart.
    #[must_use]
    pub fn among(owner: &SourceId, source: &SourceId, resolved: &Resolved) -> Self {
        Self {
            source: source.clone(),
            keys: EventKeys::of(owner, resolved),
            fingerprint: Fingerprint::of(resolved),
        }
    }
}

impl NewEvent {
    /// The event of a resolved callback, with its encoded body.
    #[must_use]
    pub fn new(
        incoming: &Incoming<'_>,
        identity: EventIdentity,
        body: Bytes,
        targets: SmallVec<[TargetId; 2]>,
    ) -> Self {
        let Incoming { id, received_ms, resolved, .. } = *incoming;
        let EventIdentity { source, keys, fingerprint } = identity;
        Self {
            id,
            source,
            keys,
            fingerprint,
            transaction: resolved.role(Role::Transaction).unwrap_or_default().to_owned(),
            user: resolved.role(Role::User).map(str::to_owned),
            received_ms,
            test: resolved.is_test(),
            body,
            targets,
            seal: Seal,
        }
    }

    /// The `n`th event of `source`, made without a callback: for tests and benchmarks. Its fields
    /// can be changed.
    #[must_use]
    pub fn sample(id: EventId, source: &SourceId, n: u64) -> Self {
        Self {
            id,
            source: source.clone(),
            keys: EventKeys::from_iter([DedupeKey::new(source, &n.to_le_bytes())]),
            fingerprint: Fingerprint(n),
            transaction: format!("transaction-{n:012}"),
            user: Some(format!("user-{}", n % 10_000)),
            received_ms: id.ms(),
            test: false,
            body: Bytes::new(),
            targets: SmallVec::new(),
            seal: Seal,
        }
    }

    /// About how many bytes it takes on disk, at least.
    pub(super) fn size(&self) -> usize {
        let texts = self.source.as_str().len()
            + self.transaction.len()
            + self.user.as_ref().map_or(0, String::len)
            + self.targets.iter().map(|target| target.as_str().len() + 5).sum::<usize>();
        64 + 16 * self.keys.len() + texts + self.body.len()
    }

    /// Judges it by what `find` says of its keys.
    pub(super) fn judge<E>(
        &self,
        find: impl FnMut(&DedupeKey) -> Result<Option<First>, E>,
    ) -> Result<Judged, E> {
        self.keys.judge(self.id, self.fingerprint, find)
    }
}

impl EventKeys {
    /// Judges the event `id` with these keys and this content by what `find` says of the keys. An
    /// identity takes precedence over a signature, and what is written over what is only looked up.
    pub(super) fn judge<E>(
        &self,
        id: EventId,
        fingerprint: Fingerprint,
        mut find: impl FnMut(&DedupeKey) -> Result<Option<First>, E>,
    ) -> Result<Judged, E> {
        let mut missing = SmallVec::new();
        let mut known = None;
        for key in &self.identity {
            match find(key)? {
                Some(first) if first.id == id => return Ok(Judged::Own),
                Some(first) => known = known.or(Some((first, fingerprint))),
                None if missing.contains(key) => {}
                None => missing.push(*key),
            }
        }
        let mut signed = None;
        for key in &self.signatures {
            match find(key)? {
                Some(first) if first.id == id => return Ok(Judged::Own),
                Some(first) => signed = signed.or(Some(first)),
                None if missing.contains(key) => {}
                None => missing.push(*key),
            }
        }
        if known.is_none() {
            for lookup in self.looked_up(KeyRole::Identity) {
                let Some(first) = find(&lookup.key)? else { continue };
                known = Some((first, lookup.fingerprint));
                if lookup.form == KeyForm::Unmarked {
                    return Ok(marked(signed, first, lookup.fingerprint));
                }
                break;
            }
        }
        match (known, signed) {
            (Some((first, content)), _) => Ok(same_or_not(first, content, missing)),
            (None, Some(first)) => Ok(Judged::Ambiguous(first)),
            (None, None) => {
                for lookup in self.looked_up(KeyRole::Signature) {
                    if let Some(first) = find(&lookup.key)? {
                        return Ok(Judged::Ambiguous(first));
                    }
                }
                Ok(Judged::New)
            }
        }
    }
}

/// A marked callback whose unmarked one is known as `unmarked`. If its signature has a marked event
/// already, it is another reading of that one: it was held before the unmarked callback came, and
/// is held after. Its keys are never added to the unmarked event.
fn marked(signed: Option<First>, unmarked: First, content: Fingerprint) -> Judged {
    match signed {
        Some(first) => Judged::Ambiguous(first),
        None => same_or_not(unmarked, content, SmallVec::new()),
    }
}

/// A known identity: a duplicate if the content of the first event is this one.
fn same_or_not(first: First, content: Fingerprint, missing: SmallVec<[DedupeKey; 2]>) -> Judged {
    match first.fingerprint == content {
        true => Judged::Duplicate { first, missing },
        false => Judged::Conflict(first),
    }
}

impl Judged {
    /// The result for the caller.
    pub(super) fn accepted(&self) -> Accepted {
        match *self {
            Self::New | Self::Own => Accepted::New,
            Self::Duplicate { first: First { id: first, received_ms, .. }, .. } => {
                Accepted::Duplicate { first, first_seen_ms: received_ms }
            }
            Self::Conflict(First { id: first, received_ms, .. }) => {
                Accepted::Conflict { first, first_seen_ms: received_ms }
            }
            Self::Ambiguous(First { id: first, received_ms, .. }) => {
                Accepted::Ambiguous { first, first_seen_ms: received_ms }
            }
        }
    }
}

impl EventKeys {
    /// The keys of a callback of `source`.
    #[must_use]
    pub fn of(source: &SourceId, resolved: &Resolved) -> Self {
        let key = |bytes| DedupeKey::new(source, bytes);
        let lookups = resolved.lookups().map(|KeyLookup { role, form, key: bytes }| LookupKey {
            key: key(bytes),
            role,
            form,
            fingerprint: match form {
                KeyForm::Older => Fingerprint::older(resolved),
                KeyForm::Unmarked => Fingerprint::of(resolved),
            },
        });
        Self {
            identity: resolved.identities().map(key).collect(),
            signatures: resolved.signature_keys().map(key).collect(),
            lookups: lookups.collect(),
        }
    }

    /// The keys that are written with the event, each once, the identity first.
    pub fn written(&self) -> impl Iterator<Item = DedupeKey> + Clone {
        let all = move || self.identity.iter().chain(&self.signatures);
        let is_new = move |(at, key): &(usize, &DedupeKey)| !all().take(*at).any(|one| one == *key);
        all().enumerate().filter(is_new).map(|(_, key)| *key)
    }

    /// Every key, those that are only looked up among them.
    pub(super) fn all(&self) -> impl Iterator<Item = &DedupeKey> {
        let lookups = self.lookups.iter().map(|lookup| &lookup.key);
        self.identity.iter().chain(&self.signatures).chain(lookups)
    }

    /// How many keys are written, at most.
    #[must_use]
    pub fn len(&self) -> usize {
        self.identity.len() + self.signatures.len()
    }

    /// Whether it has none: such an event would be accepted again and again.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn looked_up(&self, role: KeyRole) -> impl Iterator<Item = &LookupKey> {
        self.lookups.iter().filter(move |lookup| lookup.role == role)
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
}

/// Keys as they are read back.
impl FromIterator<DedupeKey> for EventKeys {
    fn from_iter<I: IntoIterator<Item = DedupeKey>>(keys: I) -> Self {
        let identity = keys.into_iter().collect();
        Self { identity, signatures: SmallVec::new(), lookups: Vec::new() }
    }
}

impl Fingerprint {
    /// The content of a callback.
    #[must_use]
    pub fn of(resolved: &Resolved) -> Self {
        Self(resolved.content())
    }

    /// The content as versions before the keys of today saw it, for [`KeyForm::Older`]: user,
    /// item, amount and currency.
    #[must_use]
    pub fn older(resolved: &Resolved) -> Self {
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
