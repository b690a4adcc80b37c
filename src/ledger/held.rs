//! Quarantine: callbacks that are recorded durably, acknowledged, and not delivered before an
//! operator decides.
//!
//! Such a callback disputes a recorded event (`conflict`, `ambiguous`), or was rejected and is kept
//! (`quarantine`). It writes no key and so blocks no other callback. Each variant is held once, and
//! a signed text or a key has few variants: repetitions do not fill the ledger. A release makes an
//! event of it, once; a drop leaves only a mark, by which repetitions are recognized.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::codec::{DecodeError, Put, Take};
use super::portable::{put_event, read_event};
use super::{Cursor, DedupeKey, EventBody, EventId, EventKeys, HeldId, NewEvent, SourceId};
use crate::clock::UnixMillis;
use crate::sender::Reason;

/// Variants of one signed text or key, waiting or decided. Honest senders make one or two; a replay
/// attack must not create unbounded work.
pub const VARIANTS_MAX: usize = 8;

/// Why a callback is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeldWhy {
    /// The callback was rejected, and its source quarantines such callbacks.
    Quarantine,
    /// The signed text is known under another identity, or is ambiguous.
    Ambiguous,
    /// The identity is known with another content.
    Conflict,
}

/// A callback to quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHeld {
    /// The id, created before the first try and kept over retries.
    pub id: HeldId,
    /// Why it is held.
    pub why: HeldWhy,
    /// The reason, if it was rejected.
    pub reason: Option<Reason>,
    /// The signed text or the key that it disputes.
    pub anchor: DedupeKey,
    /// A digest of anchor and content: the same variant is held once.
    pub variant: DedupeKey,
    /// The recorded event.
    pub first: Option<EventId>,
    /// The event that a release makes.
    pub event: NewEvent,
}

/// Limits on the waiting callbacks of a source, per reason.
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

/// The result of a request to quarantine a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldOutcome {
    /// Held, durably.
    Held(HeldId),
    /// The variant is already held or decided.
    Known(HeldId),
    /// A limit is reached; nothing was recorded.
    Full,
}

/// A filter for held callbacks. `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldQuery {
    /// Of this source.
    pub source: Option<SourceId>,
    /// For this reason.
    pub why: Option<HeldWhy>,
}

/// A page of waiting held callbacks, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldPage {
    /// The callbacks.
    pub held: Vec<NewHeld>,
    /// Where the next page begins; `None`: this is the last one.
    pub next: Option<Cursor>,
}

/// An operator's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Make an event of the callback.
    Release,
    /// Drop the callback.
    Drop,
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
    /// All values.
    pub const ALL: [Self; 3] = [Self::Quarantine, Self::Ambiguous, Self::Conflict];

    /// The name in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Ambiguous => "ambiguous",
            Self::Conflict => "conflict",
        }
    }

    /// The value of that name.
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
        }
    }

    pub(super) fn from_code(code: u8) -> Result<Self, DecodeError> {
        Self::ALL.into_iter().find(|why| why.code() == code).ok_or(DecodeError)
    }
}

impl Decision {
    /// The number on disk.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Release => 1,
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
            HeldWhy::Ambiguous | HeldWhy::Quarantine => signature.or(by_lookup).or(by_identity),
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

    /// The mark that a decision leaves.
    pub(super) fn mark(&self, order: &HeldOrder) -> HeldMark {
        HeldMark {
            id: self.id,
            source: self.event.source.clone(),
            why: self.why,
            anchor: self.anchor,
            variant: self.variant,
            decision: order.decision,
            at_ms: order.at_ms,
            event: (order.decision == Decision::Release).then_some(self.event.id),
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

// === In memory ===

/// Held callbacks and marks of an engine that has them in memory. `T` is the callback, or its
/// position.
#[derive(Debug)]
pub(super) struct Holdings<T> {
    waiting: BTreeMap<HeldId, Waiting<T>>,
    decided: BTreeMap<HeldId, HeldMark>,
    variants: HashMap<DedupeKey, HeldId>,
    anchors: HashMap<DedupeKey, usize>,
    sums: HashMap<(SourceId, HeldWhy), HeldBounds>,
}

#[derive(Debug)]
struct Waiting<T> {
    source: SourceId,
    why: HeldWhy,
    anchor: DedupeKey,
    variant: DedupeKey,
    bytes: u64,
    place: T,
}

impl<T> Default for Holdings<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            decided: BTreeMap::new(),
            variants: HashMap::new(),
            anchors: HashMap::new(),
            sums: HashMap::new(),
        }
    }
}

impl<T> Holdings<T> {
    /// Why a callback cannot be held.
    pub(super) fn judge(&self, held: &NewHeld, bounds: HeldBounds) -> Option<HoldOutcome> {
        if let Some(id) = self.variants.get(&held.variant) {
            return Some(match *id == held.id {
                true => HoldOutcome::Held(*id),
                false => HoldOutcome::Known(*id),
            });
        }
        let variants = self.anchors.get(&held.anchor).copied().unwrap_or(0);
        let sum = self.sums.get(&(held.event.source.clone(), held.why));
        let sum = sum.copied().unwrap_or(HeldBounds { count: 0, bytes: 0 });
        let full = variants >= VARIANTS_MAX
            || sum.count >= bounds.count
            || sum.bytes.saturating_add(held.size() as u64) > bounds.bytes;
        full.then_some(HoldOutcome::Full)
    }

    /// Whether a variant is held or decided.
    pub(super) fn knows(&self, variant: &DedupeKey) -> bool {
        self.variants.contains_key(variant)
    }

    /// Adds a callback of an unknown variant. A decided one stays decided.
    pub(super) fn insert(&mut self, held: &NewHeld, place: T) {
        if self.decided.contains_key(&held.id) {
            return;
        }
        let bytes = held.size() as u64;
        let (source, why) = (held.event.source.clone(), held.why);
        let none = HeldBounds { count: 0, bytes: 0 };
        let sum = self.sums.entry((source.clone(), why)).or_insert(none);
        sum.count += 1;
        sum.bytes += bytes;
        self.note(held.variant, held.anchor, held.id);
        let (anchor, variant) = (held.anchor, held.variant);
        self.waiting.insert(held.id, Waiting { source, why, anchor, variant, bytes, place });
    }

    fn note(&mut self, variant: DedupeKey, anchor: DedupeKey, id: HeldId) {
        if self.variants.insert(variant, id).is_none() {
            *self.anchors.entry(anchor).or_default() += 1;
        }
    }

    /// Records a decision, on a waiting callback or from its mark alone.
    pub(super) fn decide(&mut self, mark: HeldMark) {
        if let Some(Waiting { source, why, bytes, .. }) = self.waiting.remove(&mark.id)
            && let Some(sum) = self.sums.get_mut(&(source, why))
        {
            sum.count -= 1;
            sum.bytes -= bytes;
        }
        self.note(mark.variant, mark.anchor, mark.id);
        self.decided.insert(mark.id, mark);
    }

    /// The position of a waiting one.
    pub(super) fn waiting(&self, id: HeldId) -> Option<&T> {
        self.waiting.get(&id).map(|waiting| &waiting.place)
    }

    pub(super) fn waiting_mut(&mut self, id: HeldId) -> Option<&mut T> {
        self.waiting.get_mut(&id).map(|waiting| &mut waiting.place)
    }

    /// The mark of a decided one.
    pub(super) fn mark(&self, id: HeldId) -> Option<&HeldMark> {
        self.decided.get(&id)
    }

    /// Every mark, by id.
    pub(super) fn marks(&self) -> impl Iterator<Item = &HeldMark> {
        self.decided.values()
    }

    /// The waiting ones that a query matches, newest first, after `before`.
    pub(super) fn find(
        &self,
        query: &HeldQuery,
        before: Option<HeldId>,
    ) -> impl Iterator<Item = (HeldId, &T)> {
        let upper = before.map_or(Bound::Unbounded, Bound::Excluded);
        let matches = move |one: &Waiting<T>| {
            query.source.as_ref().is_none_or(|source| *source == one.source)
                && query.why.is_none_or(|why| why == one.why)
        };
        let all = self.waiting.range((Bound::Unbounded, upper)).rev();
        all.filter(move |(_, one)| matches(one)).map(|(id, one)| (*id, &one.place))
    }

    /// The number of waiting ones, by source.
    pub(super) fn stats(&self) -> Vec<HeldStats> {
        let mut counts: BTreeMap<&SourceId, u64> = BTreeMap::new();
        for ((source, _), sum) in &self.sums {
            *counts.entry(source).or_default() += sum.count;
        }
        let some = counts.into_iter().filter(|(_, count)| *count > 0);
        some.map(|(source, count)| HeldStats { source: source.clone(), count }).collect()
    }

    /// Deletes everything of a source; returns the number.
    pub(super) fn forget(&mut self, source: &SourceId) -> u64 {
        let before = self.waiting.len() + self.decided.len();
        let (anchors, variants) = (&mut self.anchors, &mut self.variants);
        // An anchor is a key within one source.
        self.waiting.retain(|_, one| {
            let goes = one.source == *source;
            if goes {
                anchors.remove(&one.anchor);
                variants.remove(&one.variant);
            }
            !goes
        });
        self.decided.retain(|_, mark| {
            let goes = mark.source == *source;
            if goes {
                anchors.remove(&mark.anchor);
                variants.remove(&mark.variant);
            }
            !goes
        });
        self.sums.retain(|(of, _), _| of != source);
        (before - self.waiting.len() - self.decided.len()) as u64
    }
}

impl Cursor {
    /// After a held callback: smaller ids follow.
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
    /// The body of a released event: the last member of its JSON says so.
    ///
    /// # Errors
    /// If the bytes have another form or a later version.
    pub fn released(body: &Bytes) -> Result<Bytes, DecodeError> {
        const MEMBER: &[u8] = br#","released":true}"#;
        let json = Self::json_of(body)?;
        let (kept, rest) = (json.len().checked_sub(1).ok_or(DecodeError)?, 5 + json.len());
        if json.last() != Some(&b'}') || json.ends_with(MEMBER) {
            return Err(DecodeError);
        }
        let mut to = Vec::with_capacity(body.len() + MEMBER.len());
        to.extend_from_slice(body.get(..5 + kept).ok_or(DecodeError)?);
        to.extend_from_slice(MEMBER);
        let len = u32::try_from(kept + MEMBER.len()).or(Err(DecodeError))?;
        to.get_mut(1..5).ok_or(DecodeError)?.copy_from_slice(&len.to_le_bytes());
        to.extend_from_slice(body.get(rest..).ok_or(DecodeError)?);
        Ok(to.into())
    }
}
