//! Callbacks that are kept and did not become events: recorded durably, and not delivered.
//!
//! Some wait for a person: one that disputes an existing event (`conflict`, `ambiguous`), or one
//! that was rejected and is in quarantine. These write no key and so block no other callback. Each
//! variant is held once, and a signed text or a key has few variants, so repeated sending cannot
//! fill the ledger. Releasing one makes an event of it, once. Dropping one leaves only a mark, so
//! its repetition is known.
//!
//! The others are samples of rejected callbacks, for diagnosis. They wait for no decision, and the
//! oldest of the caller with the most make room for new ones.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::codec::{DecodeError, Put, Take};
use super::portable::{put_event, read_event};
use super::{Cursor, DedupeKey, EventBody, EventId, EventKeys, HeldId, NewEvent, SourceId};
use crate::clock::UnixMillis;
use crate::sender::Reason;

/// Variants of one signed text or key, waiting or decided. Real senders make one or two; a replay
/// attack must not create unbounded work.
pub const VARIANTS_MAX: usize = 8;

/// Samples of the rejected callbacks of one source: ten pages of an operator's patience.
pub const REJECTED_MAX: HeldBounds = HeldBounds { count: 1000, bytes: 8 << 20 };

/// Why a callback is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeldWhy {
    /// The callback was rejected, and its source quarantines such callbacks.
    Quarantine,
    /// The signed text is known under another identity, or is ambiguous.
    Ambiguous,
    /// The identity is known with another content.
    Conflict,
    /// The callback was rejected, and is kept as a sample: it waits for no decision.
    Rejected,
}

/// A callback to keep that made no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHeld {
    /// The id, created before the first try and kept over retries.
    pub id: HeldId,
    /// Why it is held.
    pub why: HeldWhy,
    /// The reason, if it was rejected.
    pub reason: Option<Reason>,
    /// The signed text or the key that it disputes; of a rejected one, who called.
    pub anchor: DedupeKey,
    /// A digest of anchor and content: the same variant is held once.
    pub variant: DedupeKey,
    /// The recorded event.
    pub first: Option<EventId>,
    /// The event that a release makes. Of a rejected one nothing is verified: it has the request,
    /// and what that claims; see [`Rejection`](super::Rejection).
    pub event: NewEvent,
}

/// A callback to be kept, and the bounds for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The callback.
    pub held: NewHeld,
    /// How many of its source may wait for the same reason. Samples have [`REJECTED_MAX`].
    pub bounds: HeldBounds,
}

/// How many callbacks of a source may wait for one reason, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBounds {
    /// The maximum number.
    pub count: u64,
    /// The maximum of their bytes.
    pub bytes: u64,
}

impl Default for HeldBounds {
    /// More than an operator reviews, and 1 % of a usual disk's reserve.
    fn default() -> Self {
        Self { count: 10_000, bytes: 64 << 20 }
    }
}

/// The result of a request to keep a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldOutcome {
    /// Held, durably.
    Held(HeldId),
    /// The variant is already held or decided.
    Known(HeldId),
    /// A limit is reached; nothing was recorded.
    Full,
}

/// Which of the two lists: a callback in quarantine is in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeldList {
    /// Callbacks that wait for a person.
    #[default]
    Waiting,
    /// Callbacks that were rejected.
    Rejected,
}

/// The kept callbacks to list. A filter that is `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldQuery {
    /// The list.
    pub list: HeldList,
    /// Of this source.
    pub source: Option<SourceId>,
    /// Of one of these sources: those that the viewer may see.
    pub among: Option<Arc<[SourceId]>>,
    /// Kept for this.
    pub why: Option<HeldWhy>,
    /// Rejected for this reason.
    pub reason: Option<Reason>,
    /// Which claims to be this transaction.
    pub transaction: Option<String>,
    /// Which claims to be for this user.
    pub user: Option<String>,
    /// Which claims to be this transaction or to be for this user.
    pub claims: Option<String>,
    /// Received at this time or later.
    pub since_ms: Option<UnixMillis>,
    /// Received before this time.
    pub until_ms: Option<UnixMillis>,
}

/// A page of kept callbacks, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldPage {
    /// The callbacks.
    pub held: Vec<NewHeld>,
    /// Where the next page begins; `None`: this is the last one.
    pub next: Option<Cursor>,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// To make an event of what is kept.
    Release,
    /// Drop the callback.
    Drop,
    /// The callback was verified again, and its outcome is recorded already. The mark says
    /// released, as the event of [`HeldOrder::event`], if there is one.
    Settle,
}

/// A decision on one held callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldOrder {
    /// The callback.
    pub id: HeldId,
    /// The decision.
    pub decision: Decision,
    /// When it is made.
    pub at_ms: UnixMillis,
    /// The event that it became, of [`Decision::Settle`].
    pub event: Option<EventId>,
}

/// The mark of a decided callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldMark {
    /// The id.
    pub id: HeldId,
    /// The source.
    pub source: SourceId,
    /// Why it was held.
    pub why: HeldWhy,
    /// The signed text or key that it disputed.
    pub anchor: DedupeKey,
    /// The variant.
    pub variant: DedupeKey,
    /// The decision.
    pub decision: Decision,
    /// When it was decided.
    pub at_ms: UnixMillis,
    /// The event that it became.
    pub event: Option<EventId>,
}

/// One held callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldOne {
    /// Waiting.
    Waiting(Box<NewHeld>),
    /// Decided.
    Decided(HeldMark),
}

/// The result of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// Decided now.
    Done(HeldMark),
    /// Already decided; nothing changed.
    Already(HeldMark),
    /// The callback does not exist.
    Unknown,
}

/// The number of waiting callbacks of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldStats {
    /// The source.
    pub source: SourceId,
    /// The number.
    pub count: u64,
}

impl HeldWhy {
    /// All that wait for a person.
    pub const ALL: [Self; 3] = [Self::Quarantine, Self::Ambiguous, Self::Conflict];

    /// The name in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Ambiguous => "ambiguous",
            Self::Conflict => "conflict",
            Self::Rejected => "rejected",
        }
    }

    /// The one of that name, of those that wait for a person.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.as_str() == name)
    }

    /// The number on disk.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Quarantine => 0,
            Self::Ambiguous => 1,
            Self::Conflict => 2,
            Self::Rejected => 3,
        }
    }

    pub(super) fn from_code(code: u8) -> Result<Self, DecodeError> {
        let mut all = Self::ALL.into_iter().chain([Self::Rejected]);
        all.find(|why| why.code() == code).ok_or(DecodeError)
    }
}

impl Decision {
    /// The number on disk.
    pub(super) const fn code(self) -> u8 {
        match self {
            // A settled callback is marked as released.
            Self::Release | Self::Settle => 1,
            Self::Drop => 2,
        }
    }

    pub(super) fn from_code(code: u8) -> Result<Self, DecodeError> {
        [Self::Release, Self::Drop].into_iter().find(|one| one.code() == code).ok_or(DecodeError)
    }
}

impl NewHeld {
    /// A callback that disputes `first`: by its signature if it is ambiguous, else by its identity.
    #[must_use]
    pub fn disputing(why: HeldWhy, first: Option<EventId>, event: NewEvent) -> Self {
        let EventKeys { identity, signatures, lookups } = &event.keys;
        let (by_identity, by_signature) = (identity.first().copied(), signatures.first().copied());
        let by_lookup = lookups.first().map(|lookup| lookup.key);
        let anchor = match why {
            HeldWhy::Conflict => by_identity.or(by_signature),
            HeldWhy::Ambiguous | HeldWhy::Quarantine | HeldWhy::Rejected => {
                by_signature.or(by_lookup).or(by_identity)
            }
        };
        let anchor = anchor.unwrap_or(DedupeKey([0; 16]));
        let variant = variant(anchor, &event);
        Self {
            id: HeldId::new(event.received_ms),
            why,
            reason: None,
            anchor,
            variant,
            first,
            event,
        }
    }

    /// The minimum of bytes that it takes on disk, approximately.
    pub(super) fn size(&self) -> usize {
        128 + self.event.size()
    }

    /// Writes the callback.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.id.as_bytes());
        to.push(self.why.code());
        to.put_opt(self.reason.map(Reason::as_str));
        to.extend_from_slice(&self.anchor.0);
        to.extend_from_slice(&self.variant.0);
        put_id(to, self.first);
        put_event(to, &self.event);
    }

    /// Reads the output of [`NewHeld::put`].
    pub(super) fn take(from: &mut Take<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: HeldId::from_bytes(from.array()?),
            why: HeldWhy::from_code(from.u8()?)?,
            // A reason of a later version is read as none.
            reason: from.opt()?.and_then(Reason::from_name),
            anchor: DedupeKey(from.array()?),
            variant: DedupeKey(from.array()?),
            first: take_id(from)?,
            event: read_event(from)?,
        })
    }

    /// The callback with a body of version 1, for programs that read no other.
    pub(super) fn with_json(&self) -> Self {
        let mut older = self.clone();
        // An unreadable body stays as it is.
        if let Ok(body) = EventBody::with_json(&self.event.body) {
            older.event.body = body;
        }
        older
    }

    /// The mark that a decision leaves.
    pub(super) fn mark(&self, order: &HeldOrder) -> HeldMark {
        HeldMark {
            id: self.id,
            source: self.event.source.clone(),
            why: self.why,
            anchor: self.anchor,
            variant: self.variant,
            decision: match order.decision {
                Decision::Drop => Decision::Drop,
                Decision::Release | Decision::Settle => Decision::Release,
            },
            at_ms: order.at_ms,
            event: match order.decision {
                Decision::Drop => None,
                Decision::Release => Some(self.event.id),
                Decision::Settle => order.event,
            },
        }
    }

    /// The event of a release, with those of its keys that belong to no other event: `unknown` is
    /// asked about each.
    pub(super) fn released<E>(
        self,
        mut unknown: impl FnMut(&DedupeKey) -> Result<bool, E>,
    ) -> Result<NewEvent, E> {
        let mut keys = EventKeys::default();
        for key in self.event.keys.written() {
            if unknown(&key)? {
                keys.identity.push(key);
            }
        }
        // An unreadable body is delivered as it is: a missing mark loses nothing.
        let body = EventBody::released(&self.event.body).unwrap_or(self.event.body);
        Ok(NewEvent { keys, body, ..self.event })
    }
}

impl HeldMark {
    /// Writes the mark.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.id.as_bytes());
        to.extend_from_slice(&[self.why.code(), self.decision.code()]);
        to.extend_from_slice(&self.anchor.0);
        to.extend_from_slice(&self.variant.0);
        to.extend_from_slice(&self.at_ms.to_le_bytes());
        put_id(to, self.event);
        to.put_bytes(self.source.as_str().as_bytes());
    }

    /// Reads the output of [`HeldMark::put`].
    pub(super) fn take(from: &mut Take<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: HeldId::from_bytes(from.array()?),
            why: HeldWhy::from_code(from.u8()?)?,
            decision: Decision::from_code(from.u8()?)?,
            anchor: DedupeKey(from.array()?),
            variant: DedupeKey(from.array()?),
            at_ms: from.i64()?,
            event: take_id(from)?,
            source: SourceId::from(from.text()?),
        })
    }

    /// The maximum of bytes that it takes on disk.
    pub(super) fn size(&self) -> usize {
        96 + self.source.as_str().len()
    }
}

/// A digest of the anchor and the callback's content.
fn variant(anchor: DedupeKey, event: &NewEvent) -> DedupeKey {
    let mut hash = Sha256::new();
    hash.update(b"held variant");
    hash.update(anchor.0);
    hash.update(event.fingerprint.0.to_le_bytes());
    hash.update([u8::from(event.test)]);
    event.keys.written().for_each(|key| hash.update(key.0));
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize()[..16]);
    DedupeKey(short)
}

fn put_id(to: &mut Vec<u8>, id: Option<EventId>) {
    to.push(u8::from(id.is_some()));
    if let Some(id) = id {
        to.extend_from_slice(id.as_bytes());
    }
}

fn take_id(from: &mut Take<'_>) -> Result<Option<EventId>, DecodeError> {
    match from.u8()? {
        0 => Ok(None),
        1 => from.array().map(|id| Some(EventId::from_bytes(id))),
        _ => Err(DecodeError),
    }
}

impl HeldList {
    /// The reasons that the list includes.
    #[must_use]
    pub const fn whys(self) -> &'static [HeldWhy] {
        match self {
            Self::Waiting => &HeldWhy::ALL,
            Self::Rejected => &[HeldWhy::Quarantine, HeldWhy::Rejected],
        }
    }
}

impl HeldQuery {
    /// Whether callbacks to `source` match the query.
    pub(super) fn is_of(&self, source: &SourceId) -> bool {
        self.source.as_ref().is_none_or(|wanted| wanted == source)
            && self.among.as_ref().is_none_or(|all| all.contains(source))
    }

    /// The reasons for which a kept callback matches the query.
    pub(super) fn whys(&self) -> impl Iterator<Item = HeldWhy> {
        let wanted = self.why;
        self.list.whys().iter().copied().filter(move |why| wanted.is_none_or(|one| one == *why))
    }
}

impl Cursor {
    /// The place behind a kept callback, for lists that are merged of several.
    #[must_use]
    pub fn after_held(id: HeldId) -> Self {
        Self::behind_held(id)
    }

    /// Behind a held callback: smaller ids follow.
    pub(super) fn behind_held(id: HeldId) -> Self {
        Self(id.as_bytes().to_vec())
    }

    /// The id in a cursor of [`Cursor::behind_held`].
    pub(super) fn held(&self) -> Result<HeldId, super::LedgerError> {
        let bytes = self.0.as_slice().try_into().or(Err(super::LedgerError::BadCursor))?;
        Ok(HeldId::from_bytes(bytes))
    }
}

impl EventBody {
    /// The body of an event that was held and is released: its JSON says so, before its last two
    /// members.
    ///
    /// # Errors
    /// If the bytes have another form or a later version.
    pub fn released(body: &Bytes) -> Result<Bytes, DecodeError> {
        const MEMBER: &[u8] = br#","released":true"#;
        const LAST: &[u8] = br#","kind":""#;
        if let Some(marked) = Self::compact_released(body) {
            return marked;
        }
        let json = Self::json_of(body)?;
        // Behind it are only a name and a word, which hold no quotation marks.
        let at = memchr::memmem::rfind(&json, LAST).ok_or(DecodeError)?;
        if json.get(..at).is_some_and(|before| before.ends_with(MEMBER)) {
            return Err(DecodeError);
        }
        let mut to = Vec::with_capacity(body.len() + MEMBER.len());
        to.extend_from_slice(body.get(..5 + at).ok_or(DecodeError)?);
        to.extend_from_slice(MEMBER);
        let len = u32::try_from(json.len() + MEMBER.len()).or(Err(DecodeError))?;
        to.get_mut(1..5).ok_or(DecodeError)?.copy_from_slice(&len.to_le_bytes());
        to.extend_from_slice(body.get(5 + at..).ok_or(DecodeError)?);
        Ok(to.into())
    }
}
