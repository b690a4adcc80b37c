//! The payloads of the journal's records, written once and read back without copying.
//!
//! The first byte is the kind. Numbers are little-endian. A new kind, or a new form of one, gets a
//! new number; existing records stay readable.

#[cfg(any(test, debug_assertions))]
use bytes::Bytes;
use smallvec::SmallVec;

pub(super) use self::deliveries::{attempt_detail, put_attempt, put_replay, put_state};
use self::deliveries::{read_attempt, read_replay, read_state};
use super::documents::Written;
use crate::clock::UnixMillis;
use crate::ledger::accept::First;
use crate::ledger::codec::{DecodeError, Put, Take};
use crate::ledger::{
    DedupeKey, EventBody, EventId, Fingerprint, HeldId, HeldMark, NewEvent, NewHeld, Nonce,
    PastEvent, ReplayId, Revision, TargetId,
};
use crate::sender::Reason;

/// Events as in journals of version 1, with all texts in full.
const EVENT_1: u8 = 1;
const ATTEMPT: u8 = 2;
const REPLAY: u8 = 3;
const DOCUMENT: u8 = 4;
const NONCE: u8 = 5;
const KEYS: u8 = 6;
const STATE: u8 = 7;
const EVENT: u8 = 8;
const HELD: u8 = 9;
const MARK: u8 = 10;
const REASON: u8 = 11;

const TEST: usize = 1;
const USER: usize = 2;
/// The id was not created for the time of receipt, which is written separately.
const APART: usize = 4;
/// The number of flag bits, before the number of keys.
const FLAGS: u32 = 3;

const DONE: u8 = 0;
const RETRY: u8 = 1;
const DEAD: u8 = 2;

/// A decoded record.
#[derive(Debug)]
pub(super) enum Record<'a> {
    Event(EventRecord<'a>),
    Attempt(AttemptRecord<'a>),
    Replay(ReplayRecord<'a>),
    Document(DocumentRecord<'a>),
    Nonce(Nonce),
    Keys(KeysRecord<'a>),
    State(StateRecord<'a>),
    Held(Box<NewHeld>),
    Mark(HeldMark),
    /// The reason for which a kept callback would now be rejected.
    Reason(HeldId, Reason),
}

/// The keys of an event for as long as they are kept: all of its keys after the event expired, or
/// some that its duplicates brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeysRecord<'a> {
    pub(super) id: EventId,
    pub(super) received_ms: UnixMillis,
    pub(super) fingerprint: Fingerprint,
    keys: &'a [[u8; 16]],
    pub(super) source: &'a str,
}

/// A recorded event.
#[derive(Debug)]
pub(super) struct EventRecord<'a> {
    pub(super) head: KeysRecord<'a>,
    pub(super) test: bool,
    pub(super) targets: SmallVec<[&'a str; 4]>,
    pub(super) transaction: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// The state of a delivery after a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Retry { due_ms: UnixMillis },
    Dead,
}

/// A settled attempt.
#[derive(Debug)]
pub(super) struct AttemptRecord<'a> {
    pub(super) outcome: Outcome,
    /// The number of attempts begun.
    pub(super) attempt: u32,
    pub(super) event: EventId,
    pub(super) target: &'a str,
    detail: Take<'a>,
}

/// The state of a delivery in the ledger from which its event was imported.
#[derive(Debug)]
pub(super) struct StateRecord<'a> {
    pub(super) outcome: Outcome,
    pub(super) attempt: u32,
    pub(super) event: EventId,
    pub(super) target: &'a str,
}

/// Replayed deliveries.
#[derive(Debug)]
pub(super) struct ReplayRecord<'a> {
    pub(super) replay: ReplayId,
    pub(super) event: EventId,
    pub(super) at_ms: UnixMillis,
    pub(super) targets: SmallVec<[&'a str; 4]>,
}

/// A change to a document.
#[derive(Debug)]
pub(super) struct DocumentRecord<'a> {
    pub(super) revision: Revision,
    pub(super) at_ms: UnixMillis,
    pub(super) kind: &'a str,
    pub(super) id: &'a str,
    pub(super) who: &'a str,
    /// `None`: deleted.
    pub(super) body: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// Reads a payload.
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut from = Take(payload);
        Ok(match from.u8()? {
            EVENT => Self::Event(read_event(from)?),
            EVENT_1 => Self::Event(read_event_1(from)?),
            ATTEMPT => Self::Attempt(read_attempt(from)?),
            REPLAY => Self::Replay(read_replay(from)?),
            DOCUMENT => Self::Document(read_document(from)?),
            NONCE => {
                let key = DedupeKey(from.array()?);
                Self::Nonce(Nonce { key, expires_ms: from.i64()? })
            }
            STATE => Self::State(read_state(from)?),
            HELD => {
                let held = NewHeld::take(&mut from)?;
                from.end()?;
                Self::Held(Box::new(held))
            }
            MARK => {
                let mark = HeldMark::take(&mut from)?;
                from.end()?;
                Self::Mark(mark)
            }
            REASON => {
                let id = HeldId::from_bytes(from.array()?);
                let reason = Reason::from_name(from.text()?).ok_or(DecodeError)?;
                from.end()?;
                Self::Reason(id, reason)
            }
            KEYS => {
                let head = read_keys(&mut from)?;
                from.end()?;
                Self::Keys(head)
            }
            _ => return Err(DecodeError),
        })
    }

    /// The keys of an event, with or without its body.
    pub(super) fn keys(&self) -> Option<&KeysRecord<'a>> {
        match self {
            Self::Event(event) => Some(&event.head),
            Self::Keys(keys) => Some(keys),
            _ => None,
        }
    }
}

impl<'a> KeysRecord<'a> {
    pub(super) fn keys(&self) -> impl Iterator<Item = DedupeKey> + use<'a> {
        self.keys.iter().map(|key| DedupeKey(*key))
    }

    fn owner(&self) -> First {
        let Self { id, received_ms, fingerprint, .. } = *self;
        First { id, received_ms, fingerprint }
    }

    /// Writes the keys alone, when the event has expired and its keys have not.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        to.push(KEYS);
        put_head(to, self);
    }
}

// === Events ===

/// Writes keys of an expired event, or keys that one of its duplicates brought.
pub(super) fn put_past(to: &mut Vec<u8>, past: &PastEvent) {
    let keys: SmallVec<[[u8; 16]; 2]> = past.keys.iter().map(|key| key.0).collect();
    KeysRecord {
        id: past.id,
        received_ms: past.received_ms,
        fingerprint: past.fingerprint,
        keys: &keys,
        source: past.source.as_str(),
    }
    .put(to);
}

/// Writes an event. Texts that its body contains are written only as positions.
pub(super) fn put_event(to: &mut Vec<u8>, event: &NewEvent, gaps: &mut Gaps) {
    to.push(EVENT);
    to.extend_from_slice(event.id.as_bytes());
    to.extend_from_slice(&event.fingerprint.0.to_le_bytes());
    let keys: SmallVec<[DedupeKey; 4]> = event.keys.written().collect();
    let apart = event.received_ms != event.id.ms();
    let mut flags = keys.len() << FLAGS;
    for (flag, is_set) in [(TEST, event.test), (USER, event.user.is_some()), (APART, apart)] {
        flags |= if is_set { flag } else { 0 };
    }
    to.put_len(flags);
    if apart {
        to.extend_from_slice(&event.received_ms.to_le_bytes());
    }
    keys.iter().for_each(|key| to.extend_from_slice(&key.0));
    put_targets(to, &event.targets);
    let texts = [Some(event.source.as_str()), Some(&event.transaction), event.user.as_deref()];
    match EventBody::positions(&event.body) {
        Some(positions) => {
            for (text, at) in texts.into_iter().zip(positions) {
                let Some(text) = text else { continue };
                let there = event.body.get(at..).is_some_and(|at| at.starts_with(text.as_bytes()));
                put_part(to, Some(at).filter(|_| there), text);
            }
        }
        None => {
            let mut said = BodyTexts { body: &event.body, from: 0 };
            for (text, gap) in texts.into_iter().zip(&mut gaps.0) {
                if let Some(text) = text {
                    put_part(to, said.find(text.as_bytes(), gap), text);
                }
            }
        }
    }
    to.extend_from_slice(&event.body);
}

/// The distances of source, transaction and user in the previous event whose body has its JSON:
/// usually the same in the next one.
#[derive(Debug, Default)]
pub(super) struct Gaps([usize; 3]);

/// Finds texts in a body in which they follow each other, as in the JSON of an event.
struct BodyTexts<'b> {
    body: &'b [u8],
    from: usize,
}

impl BodyTexts<'_> {
    /// Bytes that are searched for each text: in the JSON of an event the next one is nearer.
    const WINDOW: usize = 128;
    /// Shorter texts take no more space than their position.
    const WORTH_IT: usize = 2;

    /// The position of the text: `gap` bytes further, or else after a quotation mark.
    fn find(&mut self, text: &[u8], gap: &mut usize) -> Option<usize> {
        let first = *text.first().filter(|_| text.len() > Self::WORTH_IT)?;
        let rest = self.body.get(self.from..)?;
        let is_at = |at: usize| rest.get(at..).is_some_and(|rest| rest.starts_with(text));
        if !is_at(*gap) {
            let window = rest.get(..Self::WINDOW).unwrap_or(rest);
            let mut pairs = window.windows(2).zip(1..);
            let found = pairs.find(|(pair, at)| **pair == [b'"', first] && is_at(*at));
            *gap = found?.1;
        }
        let at = self.from + *gap;
        self.from = at + text.len();
        Some(at)
    }
}

/// Writes the position of a text in the body, or the text if it is missing.
fn put_part(to: &mut Vec<u8>, at: Option<usize>, text: &str) {
    match at {
        Some(at) => {
            to.put_len(text.len() << 1 | 1);
            to.put_len(at);
        }
        None => {
            to.put_len(text.len() << 1);
            to.extend_from_slice(text.as_bytes());
        }
    }
}

/// A part as written by [`put_part`].
enum Part<'a> {
    Here(&'a [u8]),
    InBody(std::ops::Range<usize>),
}

impl<'a> Part<'a> {
    fn take(from: &mut Take<'a>) -> Result<Self, DecodeError> {
        let len = from.len()?;
        if len & 1 == 0 {
            return from.raw(len >> 1).map(Self::Here);
        }
        let at = from.len()?;
        Ok(Self::InBody(at..at + (len >> 1)))
    }

    fn text(self, body: &'a [u8]) -> Result<&'a str, DecodeError> {
        let bytes = match self {
            Self::Here(bytes) => Some(bytes),
            Self::InBody(range) => body.get(range),
        };
        bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(DecodeError)
    }
}

fn put_head(to: &mut Vec<u8>, head: &KeysRecord<'_>) {
    to.extend_from_slice(head.id.as_bytes());
    to.extend_from_slice(&head.received_ms.to_le_bytes());
    to.extend_from_slice(&head.fingerprint.0.to_le_bytes());
    to.put_len(head.keys.len());
    to.extend_from_slice(head.keys.as_flattened());
    to.put_bytes(head.source.as_bytes());
}

fn read_keys<'a>(from: &mut Take<'a>) -> Result<KeysRecord<'a>, DecodeError> {
    let id = EventId::from_bytes(from.array()?);
    let received_ms = from.i64()?;
    let fingerprint = Fingerprint(from.u64()?);
    let size = from.len()?.checked_mul(16).ok_or(DecodeError)?;
    let (keys, _) = from.raw(size)?.as_chunks();
    Ok(KeysRecord { id, received_ms, fingerprint, keys, source: from.text()? })
}

/// The result of [`check_record`].
#[doc(hidden)]
#[cfg(any(test, debug_assertions))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordCheck {
    Unreadable,
    /// A key that the record contains is not found.
    Inconsistent,
    Sound,
}

/// Reads a payload with everything that it contains. For the fuzz targets.
#[doc(hidden)]
#[cfg(any(test, debug_assertions))]
#[must_use]
pub fn check_record(payload: &[u8]) -> RecordCheck {
    let Ok(record) = Record::read(payload) else { return RecordCheck::Unreadable };
    if let Some(head) = record.keys() {
        let finds = |key: DedupeKey| owner_of(&key, payload) == Some(head.owner());
        if !head.keys().all(finds) {
            return RecordCheck::Inconsistent;
        }
    }
    let is_readable = match record {
        Record::Attempt(attempt) => attempt.attempt().is_ok(),
        Record::Event(event) => {
            let body = EventBody::decode(&Bytes::copy_from_slice(event.body));
            let has_reply =
                |body: &EventBody| body.reply.as_ref().is_none_or(|reply| reply.answer().is_ok());
            body.is_ok_and(|body| body.event().is_ok() && has_reply(&body))
        }
        _ => true,
    };
    match is_readable {
        true => RecordCheck::Sound,
        false => RecordCheck::Unreadable,
    }
}

/// The event that a payload assigns `key` to; `None` if it has no such key. Reads no further than
/// that, because every duplicate is looked up this way.
pub(super) fn owner_of(key: &DedupeKey, payload: &[u8]) -> Option<First> {
    let mut from = Take(payload);
    let (owner, keys) = match from.u8().ok()? {
        EVENT => read_head(&mut from).map(|head| (head.owner, head.keys)),
        EVENT_1 | KEYS => read_keys(&mut from).map(|head| (head.owner(), head.keys)),
        _ => return None,
    }
    .ok()?;
    keys.contains(&key.0).then_some(owner)
}

/// The beginning of an event.
struct Head<'a> {
    owner: First,
    flags: usize,
    keys: &'a [[u8; 16]],
}

fn read_head<'a>(from: &mut Take<'a>) -> Result<Head<'a>, DecodeError> {
    let id = EventId::from_bytes(from.array()?);
    let fingerprint = Fingerprint(from.u64()?);
    let flags = from.len()?;
    let received_ms = if flags & APART != 0 { from.i64()? } else { id.ms() };
    let (keys, _) = from.raw((flags >> FLAGS).checked_mul(16).ok_or(DecodeError)?)?.as_chunks();
    Ok(Head { owner: First { id, received_ms, fingerprint }, flags, keys })
}

fn read_event(mut from: Take<'_>) -> Result<EventRecord<'_>, DecodeError> {
    let Head { owner, flags, keys } = read_head(&mut from)?;
    let First { id, received_ms, fingerprint } = owner;
    let targets = read_targets(&mut from)?;
    let source = Part::take(&mut from)?;
    let transaction = Part::take(&mut from)?;
    let user = if flags & USER != 0 { Some(Part::take(&mut from)?) } else { None };
    let body = from.0;
    let source = source.text(body)?;
    Ok(EventRecord {
        head: KeysRecord { id, received_ms, fingerprint, keys, source },
        test: flags & TEST != 0,
        targets,
        transaction: transaction.text(body)?,
        user: user.map(|user| user.text(body)).transpose()?,
        body,
    })
}

fn read_event_1(mut from: Take<'_>) -> Result<EventRecord<'_>, DecodeError> {
    Ok(EventRecord {
        head: read_keys(&mut from)?,
        test: from.u8()? & TEST as u8 != 0,
        targets: read_targets(&mut from)?,
        transaction: from.text()?,
        user: from.opt()?,
        body: from.0,
    })
}

fn put_targets(to: &mut Vec<u8>, targets: &[TargetId]) {
    to.put_len(targets.len());
    for target in targets {
        to.put_bytes(target.as_str().as_bytes());
    }
}

fn read_targets<'a>(from: &mut Take<'a>) -> Result<SmallVec<[&'a str; 4]>, DecodeError> {
    let count = from.len()?;
    (0..count).map(|_| from.text()).collect()
}

/// Writes a callback that is held.
pub(super) fn put_held(to: &mut Vec<u8>, held: &NewHeld) {
    to.push(HELD);
    held.put(to);
}

/// Writes the mark of one that is decided.
pub(super) fn put_mark(to: &mut Vec<u8>, mark: &HeldMark) {
    to.push(MARK);
    mark.put(to);
}

/// Writes why a kept callback would now be rejected.
pub(super) fn put_reason(to: &mut Vec<u8>, id: HeldId, reason: Reason) {
    to.push(REASON);
    to.extend_from_slice(id.as_bytes());
    to.put_bytes(reason.as_str().as_bytes());
}

// === Documents and nonces ===

/// Writes a change to a document.
pub(super) fn put_document(to: &mut Vec<u8>, written: &Written) {
    to.push(DOCUMENT);
    to.extend_from_slice(&written.revision.0.to_le_bytes());
    to.extend_from_slice(&written.at_ms.to_le_bytes());
    to.put_bytes(written.kind.as_bytes());
    to.put_bytes(written.id.as_bytes());
    to.put_bytes(written.who.as_bytes());
    to.push(u8::from(written.body.is_some()));
    to.extend_from_slice(written.body.as_deref().unwrap_or_default());
}

fn read_document(mut from: Take<'_>) -> Result<DocumentRecord<'_>, DecodeError> {
    Ok(DocumentRecord {
        revision: Revision(from.u64()?),
        at_ms: from.i64()?,
        kind: from.text()?,
        id: from.text()?,
        who: from.text()?,
        body: (from.u8()? != 0).then_some(from.0),
    })
}

/// Writes a nonce.
pub(super) fn put_nonce(to: &mut Vec<u8>, nonce: &Nonce) {
    to.push(NONCE);
    to.extend_from_slice(&nonce.key.0);
    to.extend_from_slice(&nonce.expires_ms.to_le_bytes());
}

mod deliveries;
#[cfg(test)]
mod tests;
