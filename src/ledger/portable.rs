//! Transfer between ledgers: for backups, for upgrades, and from one engine to the other.
//!
//! An engine exports its whole content as [`Item`]s, page by page and while it works
//! ([`super::Ledger::export`]). It imports such items, each once however often it is offered
//! ([`super::Ledger::import`]). [`ExportWriter`] and [`ExportReader`] are the file in between.
//!
//! Not transferred: leases, the record of replays, and the attempts of finished deliveries.

mod known;
mod stream;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use smallvec::SmallVec;

pub use self::known::KnownItems;
pub use self::stream::{ExportError, ExportId, ExportReader, ExportWriter};
use super::codec::{DecodeError, Put, Take};
use super::{
    Attempt, Cursor, DedupeKey, Delivery, DeliveryState, Document, EventId, EventKeys, Fingerprint,
    HeldMark, NewEvent, NewHeld, Nonce, Revision, SourceId, TargetId,
};
use crate::clock::UnixMillis;

/// An item of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A document in its newest version.
    Document {
        /// The name of its kind.
        kind: String,
        /// The document.
        document: Document,
    },
    /// An event with all its deliveries, past ones included.
    Event {
        /// The event.
        event: NewEvent,
        /// The state of its deliveries; attempts only of unfinished ones.
        deliveries: Vec<Delivery>,
    },
    /// Keys of an expired event, or keys that its duplicates brought.
    Past(PastEvent),
    /// A nonce that has not ended.
    Nonce(Nonce),
    /// A callback that waits for a decision.
    Held(Box<NewHeld>),
    /// The mark of a decided callback.
    Mark(HeldMark),
}

/// Facts about an event besides the event itself: its keys after it expired, and those that its
/// duplicates brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastEvent {
    /// The id.
    pub id: EventId,
    /// The source.
    pub source: SourceId,
    /// The keys.
    pub keys: SmallVec<[DedupeKey; 2]>,
    /// The content of the keys.
    pub fingerprint: Fingerprint,
    /// When it was received.
    pub received_ms: UnixMillis,
}

impl PastEvent {
    /// The same facts about `event`, which is there.
    pub(crate) fn of(event: &NewEvent) -> Self {
        Self {
            id: event.id,
            source: event.source.clone(),
            keys: event.keys.written().collect(),
            fingerprint: event.fingerprint,
            received_ms: event.received_ms,
        }
    }
}

/// A page of a ledger's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportPage {
    /// The items.
    pub items: Vec<Item>,
    /// Where the next page begins; `None`: this is the last one.
    pub next: Option<Cursor>,
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Imported, durably.
    pub taken: u64,
    /// Already known; the stored data is unchanged.
    pub known: u64,
    /// Known ones that are documents with another content than the stored one.
    pub differing: Vec<DifferingDocument>,
}

impl Imported {
    /// Adds the result of the next part.
    pub fn add(&mut self, next: Self) {
        self.taken += next.taken;
        self.known += next.known;
        self.differing.extend(next.differing);
    }
}

/// A document that was not imported, and that has another content than the stored one of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferingDocument {
    /// The name of its kind.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// The stored one.
    pub stored: StoredForm,
}

/// The stored form of a document, beside another one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredForm {
    /// Of the same version: versions never repeat, so the two are of different stores.
    SameVersion,
    /// Of a newer version, and last written before the other one.
    Older,
    /// Of a newer version, and last written later: it may have been changed since.
    Younger,
}

impl StoredForm {
    /// The word in the output of commands.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SameVersion => "same_version",
            Self::Older => "older",
            Self::Younger => "younger",
        }
    }
}

impl DifferingDocument {
    /// How the `stored` document differs from one of its name that is not imported.
    pub(super) fn between(kind: &str, stored: &Document, offered: &Document) -> Option<Self> {
        if stored.body == offered.body {
            return None;
        }
        let form = match stored.version == offered.version {
            true => StoredForm::SameVersion,
            false if stored.at_ms < offered.at_ms => StoredForm::Older,
            false => StoredForm::Younger,
        };
        Some(Self { kind: kind.to_owned(), id: offered.id.clone(), stored: form })
    }
}

/// The revisions that the documents of one import get. Documents that were changed together share a
/// revision, and still share one in this ledger. So a later import finds all of them newer, or none.
#[derive(Debug, Default)]
pub(super) struct ImportRevisions(HashMap<Revision, Revision>);

impl ImportRevisions {
    /// The revision of documents that have `theirs` in the export. One that this ledger has passed is
    /// replaced by a new one, because none repeats: `newest` is the newest of this ledger.
    pub(super) fn of(&mut self, theirs: Revision, newest: Revision) -> Revision {
        *self.0.entry(theirs).or_insert_with(|| theirs.max(Revision(newest.0 + 1)))
    }
}

const DOCUMENT: u8 = 1;
const EVENT: u8 = 2;
const PAST: u8 = 3;
const NONCE: u8 = 4;
const HELD: u8 = 5;
const MARK: u8 = 6;

impl Item {
    /// The revision of a document, which it shares with those that were changed together with it;
    /// `None`: another item.
    pub(crate) fn revision(&self) -> Option<Revision> {
        match self {
            Self::Document { document, .. } => Some(document.version),
            _ => None,
        }
    }

    /// The maximum of bytes that it takes, in an export and in a ledger.
    #[must_use]
    pub fn size(&self) -> usize {
        let attempts = |delivery: &Delivery| {
            let name = 64 + delivery.target.as_str().len();
            let texts =
                |one: &Attempt| name + one.head.len() + one.error.as_ref().map_or(0, String::len);
            name + delivery.attempts.iter().map(texts).sum::<usize>()
        };
        match self {
            Self::Document { kind, document } => {
                64 + kind.len() + document.id.len() + document.who.len() + document.body.len()
            }
            Self::Event { event, deliveries } => {
                event.size() + deliveries.iter().map(attempts).sum::<usize>()
            }
            Self::Past(past) => 64 + 16 * past.keys.len() + past.source.as_str().len(),
            Self::Nonce(_) => 32,
            Self::Held(held) => held.size(),
            Self::Mark(mark) => mark.size(),
        }
    }

    /// The approximate number of bytes if each record is sealed separately.
    pub(super) fn stored_size(&self) -> usize {
        let records = match self {
            Self::Event { deliveries, .. } => {
                1 + deliveries.iter().map(|one| 1 + one.attempts.len()).sum::<usize>()
            }
            _ => 1,
        };
        self.size() + records * (16 + super::seal::OVERHEAD)
    }

    /// Writes the item.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        match self {
            Self::Document { kind, document } => {
                to.push(DOCUMENT);
                to.put_bytes(kind.as_bytes());
                to.put_bytes(document.id.as_bytes());
                to.extend_from_slice(&document.version.0.to_le_bytes());
                to.extend_from_slice(&document.at_ms.to_le_bytes());
                to.put_bytes(document.who.as_bytes());
                to.put_bytes(&document.body);
            }
            Self::Event { event, deliveries } => {
                to.push(EVENT);
                put_event(to, event);
                to.put_len(deliveries.len());
                deliveries.iter().for_each(|delivery| put_delivery(to, delivery));
            }
            Self::Past(past) => {
                to.push(PAST);
                put_keys(to, past.id, &past.source, past.keys.iter().copied());
                to.extend_from_slice(&past.fingerprint.0.to_le_bytes());
                to.extend_from_slice(&past.received_ms.to_le_bytes());
            }
            Self::Nonce(nonce) => {
                to.push(NONCE);
                to.extend_from_slice(&nonce.key.0);
                to.extend_from_slice(&nonce.expires_ms.to_le_bytes());
            }
            Self::Held(held) => {
                to.push(HELD);
                held.put(to);
            }
            Self::Mark(mark) => {
                to.push(MARK);
                mark.put(to);
            }
        }
    }

    /// Reads the output of [`Item::put`].
    pub(super) fn read(from: &mut Take<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            DOCUMENT => {
                let kind = from.text()?.to_owned();
                Self::Document { kind, document: read_document(from)? }
            }
            EVENT => {
                let event = read_event(from)?;
                let count = from.len()?;
                let deliveries =
                    (0..count).map(|_| read_delivery(from, event.id)).collect::<Result<_, _>>()?;
                Self::Event { event, deliveries }
            }
            PAST => {
                let (id, source, keys) = read_keys(from)?;
                let (fingerprint, received_ms) = (Fingerprint(from.u64()?), from.i64()?);
                Self::Past(PastEvent { id, source, keys, fingerprint, received_ms })
            }
            NONCE => {
                let key = DedupeKey(from.array()?);
                Self::Nonce(Nonce { key, expires_ms: from.i64()? })
            }
            HELD => Self::Held(Box::new(NewHeld::take(from)?)),
            MARK => Self::Mark(HeldMark::take(from)?),
            _ => return Err(DecodeError),
        })
    }

    /// Encodes items in sequence.
    #[must_use]
    pub fn encode(items: &[Self]) -> Vec<u8> {
        let mut to = Vec::with_capacity(items.iter().map(Self::size).sum());
        items.iter().for_each(|item| item.put(&mut to));
        to
    }

    /// Decodes the output of [`Item::encode`].
    ///
    /// # Errors
    /// If the bytes have another form.
    pub fn decode(bytes: &[u8]) -> Result<Vec<Self>, DecodeError> {
        let mut from = Take(bytes);
        let mut items = Vec::new();
        while !from.0.is_empty() {
            items.push(Self::read(&mut from)?);
        }
        Ok(items)
    }
}

// === Pieces ===

fn put_keys(
    to: &mut Vec<u8>,
    id: EventId,
    source: &SourceId,
    keys: impl Iterator<Item = DedupeKey> + Clone,
) {
    to.extend_from_slice(id.as_bytes());
    to.put_bytes(source.as_str().as_bytes());
    to.put_len(keys.clone().count());
    keys.for_each(|key| to.extend_from_slice(&key.0));
}

type Named = (EventId, SourceId, SmallVec<[DedupeKey; 2]>);

fn read_keys(from: &mut Take<'_>) -> Result<Named, DecodeError> {
    let id = EventId::from_bytes(from.array()?);
    let source = SourceId::from(from.text()?);
    let count = from.len()?;
    let keys = (0..count).map(|_| from.array().map(DedupeKey)).collect::<Result<_, _>>()?;
    Ok((id, source, keys))
}

pub(super) fn put_event(to: &mut Vec<u8>, event: &NewEvent) {
    put_keys(to, event.id, &event.source, event.keys.written());
    to.extend_from_slice(&event.fingerprint.0.to_le_bytes());
    to.extend_from_slice(&event.received_ms.to_le_bytes());
    to.push(u8::from(event.test));
    to.put_bytes(event.transaction.as_bytes());
    to.put_opt(event.user.as_deref());
    to.put_len(event.targets.len());
    event.targets.iter().for_each(|target| to.put_bytes(target.as_str().as_bytes()));
    to.put_bytes(&event.body);
}

pub(super) fn read_event(from: &mut Take<'_>) -> Result<NewEvent, DecodeError> {
    let (id, source, mut keys) = read_keys(from)?;
    // A key that a file repeats counts once, as it would be written.
    let mut seen = HashSet::with_capacity(keys.len());
    keys.retain(|key| seen.insert(*key));
    Ok(NewEvent {
        id,
        source,
        keys: EventKeys::from_iter(keys),
        fingerprint: Fingerprint(from.u64()?),
        received_ms: from.i64()?,
        test: from.u8()? != 0,
        transaction: from.text()?.to_owned(),
        user: from.opt()?.map(str::to_owned),
        targets: {
            let count = from.len()?;
            (0..count).map(|_| from.text().map(TargetId::from)).collect::<Result<_, _>>()?
        },
        body: Bytes::copy_from_slice(from.bytes()?),
        seal: Default::default(),
    })
}

fn read_document(from: &mut Take<'_>) -> Result<Document, DecodeError> {
    Ok(Document {
        id: from.text()?.to_owned(),
        version: Revision(from.u64()?),
        at_ms: from.i64()?,
        who: from.text()?.to_owned(),
        body: Bytes::copy_from_slice(from.bytes()?),
    })
}

fn put_delivery(to: &mut Vec<u8>, delivery: &Delivery) {
    to.put_bytes(delivery.target.as_str().as_bytes());
    to.push(match delivery.state {
        DeliveryState::Pending => 0,
        DeliveryState::Dead => 1,
        DeliveryState::Done => 2,
    });
    to.put_len(delivery.attempt as usize);
    to.extend_from_slice(&delivery.due_ms.unwrap_or(0).to_le_bytes());
    to.put_len(delivery.attempts.len());
    delivery.attempts.iter().for_each(|attempt| attempt.put(to));
}

fn read_delivery(from: &mut Take<'_>, event: EventId) -> Result<Delivery, DecodeError> {
    let target = TargetId::from(from.text()?);
    let state = match from.u8()? {
        0 => DeliveryState::Pending,
        1 => DeliveryState::Dead,
        2 => DeliveryState::Done,
        _ => return Err(DecodeError),
    };
    let attempt = u32::try_from(from.len()?).or(Err(DecodeError))?;
    let due_ms = Some(from.i64()?).filter(|_| state == DeliveryState::Pending);
    let count = from.len()?;
    let attempts = (0..count).map(|_| Attempt::take(from)).collect::<Result<_, _>>()?;
    Ok(Delivery { event, target, state, attempt, due_ms, attempts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Decision, HeldId, HeldWhy, conformance};

    pub(super) fn items() -> Vec<Item> {
        let event = conformance::event(7, &["a", "b"]);
        let event_id = event.id;
        let attempt = Attempt {
            at_ms: 5,
            latency_ms: 300,
            status: Some(503),
            head: Bytes::from_static(b"no"),
            error: Some("closed".into()),
        };
        let delivery = |target: &str, state, due_ms, attempts: &[Attempt]| Delivery {
            event: event.id,
            target: TargetId::from(target),
            state,
            attempt: attempts.len() as u32,
            due_ms,
            attempts: attempts.to_vec(),
        };
        let document = Document {
            id: "7".into(),
            version: Revision(3),
            at_ms: 9,
            who: "me".into(),
            body: Bytes::from_static(b"{}"),
        };
        let past = PastEvent {
            id: EventId::new(1),
            source: "s".into(),
            keys: [conformance::key(1), conformance::key(2)].into_iter().collect(),
            fingerprint: Fingerprint(4),
            received_ms: 1,
        };
        vec![
            Item::Document { kind: "rule".into(), document },
            Item::Event {
                deliveries: vec![
                    delivery("a", DeliveryState::Pending, Some(77), std::slice::from_ref(&attempt)),
                    delivery("b", DeliveryState::Dead, None, &[attempt.clone(), attempt.clone()]),
                    delivery("c", DeliveryState::Done, None, &[]),
                ],
                event: event.clone(),
            },
            Item::Past(past),
            Item::Nonce(Nonce { key: conformance::key(3), expires_ms: 11 }),
            Item::Held(Box::new(conformance::held(8, HeldWhy::Conflict, Some(event_id)))),
            Item::Mark(HeldMark {
                id: HeldId::new(5),
                source: "s".into(),
                why: HeldWhy::Ambiguous,
                anchor: conformance::key(6),
                variant: conformance::key(7),
                decision: Decision::Release,
                at_ms: 9,
                event: Some(event_id),
            }),
        ]
    }

    #[test]
    fn items_come_back_and_nonsense_is_refused() {
        let items = items();
        let bytes = Item::encode(&items);
        assert!(bytes.len() <= items.iter().map(Item::size).sum());
        assert_eq!(Item::decode(&bytes).unwrap(), items);
        let ends: Vec<usize> =
            (0..=items.len()).map(|count| Item::encode(&items[..count]).len()).collect();
        for cut in (0..bytes.len()).filter(|cut| !ends.contains(cut)) {
            assert!(Item::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(Item::decode(&[9]).is_err());
    }

    #[test]
    fn documents_of_one_change_share_a_revision_after_an_import_too() {
        let mut revisions = ImportRevisions::default();
        let mut newest = Revision(0);
        let mut of = |theirs| {
            let own = revisions.of(Revision(theirs), newest);
            newest = newest.max(own);
            own.0
        };
        // An empty ledger keeps them.
        assert_eq!([1, 4, 4, 5].map(&mut of), [1, 4, 4, 5]);
        // One that was used gives new ones, in whatever order they come.
        assert_eq!([2, 9, 2, 9, 3].map(&mut of), [6, 9, 6, 9, 10]);
    }

    #[test]
    fn a_key_that_a_file_repeats_is_read_once() {
        let mut event = conformance::event(7, &[]);
        let mut bytes = vec![EVENT];
        let keys = [event.keys.identity[0]; 3];
        put_keys(&mut bytes, event.id, &event.source, keys.into_iter());
        event.keys = EventKeys::from_iter([keys[0]]);
        let whole = Item::encode(&[Item::Event { event, deliveries: Vec::new() }]);
        // What follows the keys: one of them is written, after a byte for their number.
        let keys_start = bytes.len() - 3 * 16;
        bytes.extend_from_slice(&whole[keys_start + 16..]);
        let read = Item::decode(&bytes).unwrap();
        assert_eq!(Item::encode(&read), whole);
    }
}
