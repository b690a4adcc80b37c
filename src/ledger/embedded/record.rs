//! The payloads of the journal's records, written once and read back without copying.
//!
//! The first byte is the kind. Numbers are little-endian. A new kind, or a new form of one, gets a
//! new number; existing records stay readable.

use bytes::Bytes;
use smallvec::SmallVec;

use super::documents::Written;
use crate::clock::UnixMillis;
use crate::ledger::accept::First;
use crate::ledger::codec::{DecodeError, Put, Take};
use crate::ledger::{
    Attempt, DedupeKey, EventBody, EventId, Fingerprint, HeldId, HeldMark, NewEvent, NewHeld,
    Nonce, PastEvent, ReplayId, Revision, TargetId,
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

// === Deliveries ===

/// Writes the committer's part of a settled attempt; the rest is [`attempt_detail`].
pub(super) fn put_attempt(to: &mut Vec<u8>, outcome: Outcome, attempt: u32, detail: &[u8]) {
    to.push(ATTEMPT);
    put_outcome(to, outcome, attempt);
    to.extend_from_slice(detail);
}

fn put_outcome(to: &mut Vec<u8>, outcome: Outcome, attempt: u32) {
    let (code, due_ms) = match outcome {
        Outcome::Done => (DONE, 0),
        Outcome::Retry { due_ms } => (RETRY, due_ms),
        Outcome::Dead => (DEAD, 0),
    };
    to.push(code);
    to.put_len(attempt as usize);
    if code == RETRY {
        to.extend_from_slice(&due_ms.to_le_bytes());
    }
}

fn read_outcome(from: &mut Take<'_>) -> Result<(Outcome, u32), DecodeError> {
    let code = from.u8()?;
    let attempt = u32::try_from(from.len()?).or(Err(DecodeError))?;
    let outcome = match code {
        DONE => Outcome::Done,
        RETRY => Outcome::Retry { due_ms: from.i64()? },
        DEAD => Outcome::Dead,
        _ => return Err(DecodeError),
    };
    Ok((outcome, attempt))
}

/// Writes the state of a delivery in another ledger.
pub(super) fn put_state(to: &mut Vec<u8>, state: &StateRecord<'_>) {
    to.push(STATE);
    put_outcome(to, state.outcome, state.attempt);
    to.extend_from_slice(state.event.as_bytes());
    to.put_bytes(state.target.as_bytes());
}

fn read_state(mut from: Take<'_>) -> Result<StateRecord<'_>, DecodeError> {
    let (outcome, attempt) = read_outcome(&mut from)?;
    let event = EventId::from_bytes(from.array()?);
    Ok(StateRecord { outcome, attempt, event, target: from.text()? })
}

/// The caller's part of an attempt.
pub(super) fn attempt_detail(event: EventId, target: &TargetId, attempt: &Attempt) -> Vec<u8> {
    let attempt = attempt.clone().trimmed();
    let mut to = Vec::with_capacity(64 + attempt.head.len());
    to.extend_from_slice(event.as_bytes());
    to.put_bytes(target.as_str().as_bytes());
    to.extend_from_slice(&attempt.at_ms.to_le_bytes());
    to.put_len(attempt.latency_ms as usize);
    to.extend_from_slice(&attempt.status.unwrap_or(0).to_le_bytes());
    to.put_bytes(&attempt.head);
    to.put_opt(attempt.error.as_deref());
    to
}

fn read_attempt(mut from: Take<'_>) -> Result<AttemptRecord<'_>, DecodeError> {
    let (outcome, attempt) = read_outcome(&mut from)?;
    let event = EventId::from_bytes(from.array()?);
    Ok(AttemptRecord { outcome, attempt, event, target: from.text()?, detail: from })
}

impl AttemptRecord<'_> {
    /// The attempt itself, which only the log shows.
    pub(super) fn attempt(mut self) -> Result<Attempt, DecodeError> {
        let from = &mut self.detail;
        Ok(Attempt {
            at_ms: from.i64()?,
            latency_ms: u32::try_from(from.len()?).or(Err(DecodeError))?,
            status: Some(u16::from_le_bytes(from.array()?)).filter(|status| *status != 0),
            head: Bytes::copy_from_slice(from.bytes()?),
            error: from.opt()?.map(str::to_owned),
        })
    }
}

/// Writes replayed deliveries.
pub(super) fn put_replay(
    to: &mut Vec<u8>,
    replay: ReplayId,
    event: EventId,
    at_ms: UnixMillis,
    targets: &[TargetId],
) {
    to.push(REPLAY);
    to.extend_from_slice(replay.as_bytes());
    to.extend_from_slice(event.as_bytes());
    to.extend_from_slice(&at_ms.to_le_bytes());
    put_targets(to, targets);
}

fn read_replay(mut from: Take<'_>) -> Result<ReplayRecord<'_>, DecodeError> {
    Ok(ReplayRecord {
        replay: ReplayId::from_bytes(from.array()?),
        event: EventId::from_bytes(from.array()?),
        at_ms: from.i64()?,
        targets: read_targets(&mut from)?,
    })
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

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::ledger::{DocumentChange, EventKeys, Expect, Kind, Settlement, SourceId, Verdict};

    fn event() -> NewEvent {
        NewEvent {
            id: EventId::new(5),
            source: SourceId::from("s"),
            keys: EventKeys::from_iter([DedupeKey([1; 16]), DedupeKey([2; 16])]),
            fingerprint: Fingerprint(9),
            transaction: "t:1".into(),
            user: Some("ü".into()),
            received_ms: 5,
            test: true,
            body: Bytes::from_static(b"body"),
            targets: smallvec![TargetId::from("a"), TargetId::from("b")],
            seal: Default::default(),
        }
    }

    #[test]
    fn an_event_comes_back_and_so_do_its_keys_alone() {
        let event = event();
        let mut payload = Vec::new();
        put_event(&mut payload, &event, &mut Gaps::default());
        assert!(payload.len() <= event.size());
        let Ok(Record::Event(read)) = Record::read(&payload) else { panic!() };
        assert_eq!((read.head.id, read.head.received_ms), (event.id, 5));
        for key in &event.keys.identity {
            assert_eq!(owner_of(key, &payload), Some(read.head.owner()));
        }
        assert_eq!(owner_of(&DedupeKey([9; 16]), &payload), None);
        assert!(read.head.keys().eq(event.keys.written()));
        assert_eq!((read.test, read.transaction, read.user), (true, "t:1", Some("ü")));
        assert_eq!((read.targets.as_slice(), read.body), (&["a", "b"][..], &b"body"[..]));
        let mut alone = Vec::new();
        read.head.put(&mut alone);
        let Ok(Record::Keys(keys)) = Record::read(&alone) else { panic!() };
        assert_eq!(keys, read.head);
        assert_eq!(owner_of(&event.keys.identity[1], &alone), Some(read.head.owner()));
    }

    #[test]
    fn what_the_body_says_is_written_once() {
        let far = "x".repeat(128);
        let bodies = [
            r#"{"id":"1","source":"source-1","transaction":"transaction-0001","user":"user-0001"}"#,
            r#"{"source":"source-1","transaction":"transaction-0001","user":"user-0001"#,
            r#""user-0001" "transaction-0001" "source-1""#,
            "source-1 transaction-0001 user-0001",
            &format!("{far}\"source-1\""),
            "\"",
            "",
        ];
        let mut gaps = Gaps::default();
        for (body, room) in bodies.into_iter().zip([50, 50, 72, 80, 80, 80, 80]) {
            let event = NewEvent {
                source: SourceId::from("source-1"),
                keys: EventKeys::from_iter([DedupeKey([1; 16])]),
                transaction: "transaction-0001".into(),
                user: Some("user-0001".into()),
                targets: smallvec![],
                body: Bytes::copy_from_slice(body.as_bytes()),
                ..event()
            };
            let mut payload = Vec::new();
            put_event(&mut payload, &event, &mut gaps);
            assert!(payload.len() <= event.size());
            let beyond = payload.len() - event.body.len();
            assert!(beyond <= room, "{beyond}");
            let Ok(Record::Event(read)) = Record::read(&payload) else { panic!() };
            assert_eq!((read.head.source, read.transaction), ("source-1", "transaction-0001"));
            assert_eq!((read.user, read.body), (Some("user-0001"), &event.body[..]));
        }
    }

    #[test]
    fn a_time_that_is_not_the_ids_comes_back() {
        for received_ms in [UnixMillis::MIN, -1, 4, UnixMillis::MAX] {
            let mut payload = Vec::new();
            put_event(&mut payload, &NewEvent { received_ms, ..event() }, &mut Gaps::default());
            let Ok(Record::Event(read)) = Record::read(&payload) else { panic!() };
            assert_eq!(read.head.received_ms, received_ms);
        }
    }

    #[test]
    fn a_part_behind_the_body_is_refused() {
        let body = Bytes::from_static(b"\"transaction");
        let event = NewEvent { transaction: "transaction".into(), body, ..event() };
        let mut payload = Vec::new();
        put_event(&mut payload, &event, &mut Gaps::default());
        assert!(Record::read(&payload).is_ok());
        payload.pop();
        assert!(Record::read(&payload).is_err());
    }

    #[test]
    fn an_attempt_comes_back() {
        let settlement = Settlement {
            event: EventId::new(1),
            target: TargetId::from("game"),
            token: 3,
            verdict: Verdict::Dead,
            attempt: Attempt {
                at_ms: 77,
                latency_ms: 300,
                status: Some(503),
                head: Bytes::from_static(b"no"),
                error: Some("closed".into()),
            },
        };
        for outcome in [Outcome::Done, Outcome::Retry { due_ms: -1 }, Outcome::Dead] {
            let mut payload = Vec::new();
            let Settlement { event, target, attempt, .. } = &settlement;
            put_attempt(&mut payload, outcome, 300, &attempt_detail(*event, target, attempt));
            let Ok(Record::Attempt(read)) = Record::read(&payload) else { panic!() };
            assert_eq!((read.outcome, read.attempt), (outcome, 300));
            assert_eq!((read.event, read.target), (settlement.event, "game"));
            assert_eq!(read.attempt().unwrap(), settlement.attempt);
        }
    }

    #[test]
    fn a_state_comes_back() {
        for outcome in [Outcome::Done, Outcome::Retry { due_ms: -1 }, Outcome::Dead] {
            let state = StateRecord { outcome, attempt: 3, event: EventId::new(1), target: "game" };
            let mut payload = Vec::new();
            put_state(&mut payload, &state);
            let Ok(Record::State(read)) = Record::read(&payload) else { panic!() };
            assert_eq!((read.outcome, read.attempt), (outcome, 3));
            assert_eq!((read.event, read.target), (state.event, "game"));
        }
    }

    #[test]
    fn documents_nonces_and_replays_come_back() {
        let change = DocumentChange {
            kind: Kind::new("rule"),
            id: "7".into(),
            expect: Expect::Absent,
            body: Some(Bytes::from_static(b"{}")),
            who: "me".into(),
            at_ms: 3,
        };
        for body in [None, Some(Bytes::new()), Some(Bytes::from_static(b"{}"))] {
            let change = DocumentChange { body: body.clone(), ..change.clone() };
            let mut payload = Vec::new();
            put_document(&mut payload, &Written::new(Revision(4), change));
            let Ok(Record::Document(read)) = Record::read(&payload) else { panic!() };
            assert_eq!((read.revision, read.kind, read.id), (Revision(4), "rule", "7"));
            assert_eq!((read.who, read.at_ms, read.body), ("me", 3, body.as_deref()));
        }
        let mut payload = Vec::new();
        let (replay, event) = (ReplayId::new(1), EventId::new(2));
        put_replay(&mut payload, replay, event, 9, &[TargetId::from("a")]);
        let Ok(Record::Replay(read)) = Record::read(&payload) else { panic!() };
        assert_eq!((read.replay, read.event, read.at_ms), (replay, event, 9));
        let nonce = Nonce { key: DedupeKey([4; 16]), expires_ms: 11 };
        let mut payload = Vec::new();
        put_nonce(&mut payload, &nonce);
        assert!(matches!(Record::read(&payload), Ok(Record::Nonce(read)) if read == nonce));
    }

    #[test]
    fn nonsense_is_refused_and_never_panics() {
        let mut payload = Vec::new();
        put_event(&mut payload, &event(), &mut Gaps::default());
        for cut in 0..payload.len() - 4 {
            assert!(Record::read(&payload[..cut]).is_err());
        }
        assert!(Record::read(&[99]).is_err());
        assert!(Record::read(&[]).is_err());
    }
}
