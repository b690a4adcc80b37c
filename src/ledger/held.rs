//! Callbacks that are kept and are no events: recorded durably, and not delivered.
//!
//! Some wait for a person: one that disputes an event that is there (`conflict`, `ambiguous`), or
//! that was rejected and is in quarantine. It writes no key, so it is in no other callback's way.
//! Each variant is held once, and a signed text or a key has few variants: nothing that is sent
//! again and again fills the ledger. To release one makes an event of it, once; to drop one leaves
//! only a mark, so its repetition is known.
//!
//! The others are samples of what was rejected, for whoever asks why. They wait for nobody, and the
//! oldest of the caller with the most make room for new ones.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::codec::{DecodeError, Put, Take};
use super::portable::{put_event, read_event};
use super::{Cursor, DedupeKey, EventBody, EventId, EventKeys, HeldId, NewEvent, SourceId};
use crate::clock::UnixMillis;
use crate::sender::Reason;

/// Variants of one signed text or key, waiting or decided. Honest senders make one or two; one who
/// captured a call must not make work without end.
pub const VARIANTS_MAX: usize = 8;

/// Samples of the rejected callbacks of one source: ten pages of an operator's patience.
pub const REJECTED_MAX: HeldBounds = HeldBounds { count: 1000, bytes: 8 << 20 };

/// Why a callback is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeldWhy {
    /// It was rejected, and its source keeps such callbacks.
    Quarantine,
    /// What was signed is known under another identity, or has several readings.
    Ambiguous,
    /// Its identity is known with another content.
    Conflict,
    /// It was rejected, and is kept as a sample: it waits for nobody.
    Rejected,
}

/// A callback to be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHeld {
    /// Its id, made before the first try and kept over retries.
    pub id: HeldId,
    /// Why it is held.
    pub why: HeldWhy,
    /// Why it was rejected, where it was.
    pub reason: Option<Reason>,
    /// The signed text or the key that it disputes; of a rejected one, who called.
    pub anchor: DedupeKey,
    /// The anchor and the content: the same variant is held once.
    pub variant: DedupeKey,
    /// The event that stands.
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
    /// How many.
    pub count: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Default for HeldBounds {
    /// More than a person looks through, and a hundredth of a usual disk's reserve.
    fn default() -> Self {
        Self { count: 10_000, bytes: 64 << 20 }
    }
}

/// What became of a callback that was to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldOutcome {
    /// It is held, durably.
    Held(HeldId),
    /// The variant is held, or was decided.
    Known(HeldId),
    /// A bound is reached; nothing was recorded.
    Full,
}

/// Which of the two lists: a callback in quarantine is in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeldList {
    /// What waits for a person.
    #[default]
    Waiting,
    /// What was rejected.
    Rejected,
}

/// Which kept callbacks to list. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldQuery {
    /// The list.
    pub list: HeldList,
    /// Of this source.
    pub source: Option<SourceId>,
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

/// A page of held callbacks that wait, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldPage {
    /// The callbacks.
    pub held: Vec<NewHeld>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<Cursor>,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// To make an event of what is kept.
    Release,
    /// To leave it.
    Drop,
    /// It was verified again: what became of it is recorded already. The mark says released, as
    /// the event of [`HeldOrder::event`], if there is one.
    Settle,
}

/// An order about one held callback.
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

/// What is left of a held callback that is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldMark {
    /// Its id.
    pub id: HeldId,
    /// Its source.
    pub source: SourceId,
    /// Why it was held.
    pub why: HeldWhy,
    /// What it disputed.
    pub anchor: DedupeKey,
    /// Its variant.
    pub variant: DedupeKey,
    /// The decision.
    pub decision: Decision,
    /// When it was made.
    pub at_ms: UnixMillis,
    /// The event that it became.
    pub event: Option<EventId>,
}

/// One held callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldOne {
    /// It waits.
    Waiting(Box<NewHeld>),
    /// It is decided.
    Decided(HeldMark),
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// Done, now.
    Done(HeldMark),
    /// It was decided before; nothing changed.
    Already(HeldMark),
    /// There is no such callback.
    Unknown,
}

/// How many callbacks of a source wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldStats {
    /// The source.
    pub source: SourceId,
    /// How many.
    pub count: u64,
}

impl HeldWhy {
    /// All that wait for a person.
    pub const ALL: [Self; 3] = [Self::Quarantine, Self::Ambiguous, Self::Conflict];

    /// Its name in the admin API.
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

    /// Its number on disk.
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
    /// Its number on disk.
    pub(super) const fn code(self) -> u8 {
        match self {
            // What was settled is marked as released.
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
        let EventKeys { identity, signature, lookups } = &event.keys;
        let by_identity = identity.first().copied();
        let by_lookup = lookups.first().map(|lookup| lookup.key);
        let anchor = match why {
            HeldWhy::Conflict => by_identity.or(*signature),
            HeldWhy::Ambiguous | HeldWhy::Quarantine | HeldWhy::Rejected => {
                signature.or(by_lookup).or(by_identity)
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

    /// About how many bytes it takes on disk, at least.
    pub(super) fn size(&self) -> usize {
        128 + self.event.size()
    }

    /// Writes it.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.id.as_bytes());
        to.push(self.why.code());
        to.put_opt(self.reason.map(Reason::as_str));
        to.extend_from_slice(&self.anchor.0);
        to.extend_from_slice(&self.variant.0);
        put_id(to, self.first);
        put_event(to, &self.event);
    }

    /// Reads what [`NewHeld::put`] wrote.
    pub(super) fn take(from: &mut Take<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: HeldId::from_bytes(from.array()?),
            why: HeldWhy::from_code(from.u8()?)?,
            // A reason of a later version is none here.
            reason: from.opt()?.and_then(Reason::from_name),
            anchor: DedupeKey(from.array()?),
            variant: DedupeKey(from.array()?),
            first: take_id(from)?,
            event: read_event(from)?,
        })
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

    /// The event that a release makes, with those of its keys that belong to no other: `unknown`
    /// is asked about each.
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
        // A body that cannot be read is delivered as it is: nothing is lost for a mark.
        let body = EventBody::released(&self.event.body).unwrap_or(self.event.body);
        Ok(NewEvent { keys, body, ..self.event })
    }
}

impl HeldMark {
    /// Writes it.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.id.as_bytes());
        to.extend_from_slice(&[self.why.code(), self.decision.code()]);
        to.extend_from_slice(&self.anchor.0);
        to.extend_from_slice(&self.variant.0);
        to.extend_from_slice(&self.at_ms.to_le_bytes());
        put_id(to, self.event);
        to.put_bytes(self.source.as_str().as_bytes());
    }

    /// Reads what [`HeldMark::put`] wrote.
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

    /// Bytes that it takes on disk, at most.
    pub(super) fn size(&self) -> usize {
        96 + self.source.as_str().len()
    }
}

/// The anchor and what the callback says, in short.
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
    /// What it is made of.
    #[must_use]
    pub const fn whys(self) -> &'static [HeldWhy] {
        match self {
            Self::Waiting => &HeldWhy::ALL,
            Self::Rejected => &[HeldWhy::Quarantine, HeldWhy::Rejected],
        }
    }
}

impl HeldQuery {
    /// What a kept callback may be there for, to be found.
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

    /// What [`Cursor::behind_held`] holds.
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
    /// `Malformed` if it is of another form or a later version.
    pub fn released(body: &Bytes) -> Result<Bytes, DecodeError> {
        const MEMBER: &[u8] = br#","released":true"#;
        const LAST: &[u8] = br#","kind":""#;
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
