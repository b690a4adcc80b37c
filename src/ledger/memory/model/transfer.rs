//! Export and import.

use std::collections::BTreeMap;

use super::{Known, Model, Row, Stored};
use crate::ledger::portable::ImportRevisions;
use crate::ledger::{
    Cursor, DedupeKey, Delivery, DeliveryState, DifferingDocument, Document, EventId, EventWindow,
    ExportPage, HeldList, HeldQuery, HeldWhy, Item, LedgerError, NewEvent, Nonce, PastEvent,
    Revision,
};

/// The parts of an export, in its order. What an item becomes while the export is read is in a later
/// part: of a held callback an event, of an event its keys.
const DOCUMENTS: u8 = 0;
const HELD: u8 = 1;
const EVENTS: u8 = 2;
const PAST: u8 = 3;
const NONCES: u8 = 4;

impl Model {
    pub(in crate::ledger::memory) fn revision(&self) -> Revision {
        self.revision
    }

    /// The export, at most `bytes` of it but at least one item.
    pub(in crate::ledger::memory) fn export(
        &self,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        page_of(self.items(), cursor, bytes)
    }

    /// The events of a window, paged in the same way.
    pub(in crate::ledger::memory) fn events_in(
        &self,
        window: EventWindow,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        let [from, end] = window.ids();
        let inside = |item: &Item| match item {
            Item::Event { event, .. } => (from..end).contains(&event.id),
            _ => false,
        };
        page_of(self.items().filter(inside), cursor, bytes)
    }

    /// All items, in no order.
    fn items(&self) -> impl Iterator<Item = Item> {
        let documents = self.documents.iter().map(|((kind, _), document)| {
            let (kind, document) = (kind.clone(), document.clone());
            Item::Document { kind, document }
        });
        let now = self.clock.ms();
        let nonces = self.nonces.iter().filter(move |(_, expires_ms)| **expires_ms > now);
        let nonces = nonces.map(|(key, expires_ms)| {
            let (key, expires_ms) = (*key, *expires_ms);
            Item::Nonce(Nonce { key, expires_ms })
        });
        let waiting = HeldQuery::default();
        let samples = HeldQuery {
            list: HeldList::Rejected,
            why: Some(HeldWhy::Rejected),
            ..HeldQuery::default()
        };
        let held: Vec<Item> = self
            .held
            .find(&waiting, None)
            .chain(self.held.find(&samples, None))
            .map(|(_, held)| Item::Held(Box::new(held.clone())))
            .collect();
        let marks = self.held.marks().map(|mark| Item::Mark(mark.clone()));
        documents.chain(self.past()).chain(self.whole()).chain(nonces).chain(held).chain(marks)
    }

    /// Keys without an event: their events expired, or they came with duplicates.
    fn past(&self) -> impl Iterator<Item = Item> {
        let shown = |key: &DedupeKey, id: EventId| {
            let event = self.events.get(&id).map(|stored| &stored.event);
            event.is_some_and(|event| event.keys.written().any(|one| one == *key))
        };
        let gone = self.keys.iter().filter(|(key, known)| !shown(key, known.0.id));
        let gone: BTreeMap<(EventId, Option<DedupeKey>), &Known> =
            gone.map(|(_, known)| ((known.0.id, known.0.keys.first().copied()), known)).collect();
        gone.into_values().map(|Known(past)| Item::Past(past.clone()))
    }

    fn whole(&self) -> impl Iterator<Item = Item> {
        self.events.iter().map(|(id, stored)| {
            let live = self.rows_of(*id).next().is_some();
            let deliveries = stored.attempts.iter().map(|(target, attempts)| Delivery {
                attempts: if live { attempts.clone() } else { Vec::new() },
                ..self.delivery(*id, target)
            });
            Item::Event { event: stored.event.clone(), deliveries: deliveries.collect() }
        })
    }

    /// Imports an item; `false`: it was known. One that is a document with another content than the
    /// stored one is added to `differing`.
    pub(in crate::ledger::memory) fn import(
        &mut self,
        item: Item,
        revisions: &mut ImportRevisions,
        differing: &mut Vec<DifferingDocument>,
    ) -> bool {
        match item {
            Item::Document { kind, document } => {
                let stored = self.documents.get(&(kind.clone(), document.id.clone()));
                let stored = stored.filter(|stored| stored.version >= document.version);
                if let Some(stored) = stored {
                    differing.extend(DifferingDocument::between(&kind, stored, &document));
                    return false;
                }
                self.import_document(kind, document, revisions);
                true
            }
            Item::Event { event, deliveries } => self.import_event(event, deliveries),
            Item::Past(past) => self.import_past(&past),
            Item::Nonce(nonce) => {
                let known = self.nonces.get(&nonce.key);
                let taken = known.is_none_or(|expires_ms| *expires_ms < nonce.expires_ms);
                if taken {
                    self.nonces.insert(nonce.key, nonce.expires_ms);
                }
                taken
            }
            Item::Held(held) => {
                let taken = !self.held.knows(&held.variant);
                if taken {
                    self.held.insert(&held, (*held).clone());
                }
                taken
            }
            Item::Mark(mark) => {
                let taken = self.held.mark(mark.id).is_none();
                if taken {
                    self.held.decide(mark);
                }
                taken
            }
        }
    }

    fn import_document(
        &mut self,
        kind: String,
        document: Document,
        revisions: &mut ImportRevisions,
    ) {
        let key = (kind, document.id.clone());
        let version = revisions.of(document.version, self.revision);
        self.revision = self.revision.max(version);
        self.documents.insert(key, Document { version, ..document });
    }

    fn import_past(&mut self, past: &PastEvent) -> bool {
        if past.keys.iter().any(|key| self.keys.contains_key(key)) {
            return false;
        }
        self.remember(past);
        true
    }

    fn import_event(&mut self, event: NewEvent, deliveries: Vec<Delivery>) -> bool {
        let past = PastEvent::of(&event);
        let id = event.id;
        // A released conflict has no keys, and neither has an event of a source that was forgotten.
        if self.events.contains_key(&id) || !self.import_past(&past) {
            return false;
        }
        let mut attempts = BTreeMap::new();
        for delivery in deliveries {
            if delivery.state != DeliveryState::Done {
                let due_ms = delivery.due_ms.unwrap_or(0);
                let row = Row {
                    dead: delivery.state == DeliveryState::Dead,
                    attempt: delivery.attempt,
                    written: (delivery.attempt, due_ms),
                    ..Row::new(due_ms)
                };
                self.rows.insert((id, delivery.target.clone()), row);
            }
            attempts.insert(delivery.target, delivery.attempts);
        }
        self.events.insert(id, Stored { event, attempts });
        true
    }
}

/// The place of an item in an export.
fn place(item: &Item) -> Vec<u8> {
    let (part, key) = match item {
        Item::Document { kind, document } => {
            let mut key = document.version.0.to_be_bytes().to_vec();
            key.extend_from_slice(kind.as_bytes());
            key.push(0);
            key.extend_from_slice(document.id.as_bytes());
            (DOCUMENTS, key)
        }
        Item::Held(held) => (HELD, held.id.as_bytes().to_vec()),
        Item::Mark(mark) => (HELD, mark.id.as_bytes().to_vec()),
        Item::Event { event, .. } => (EVENTS, event.id.as_bytes().to_vec()),
        Item::Past(past) => {
            let mut key = past.id.as_bytes().to_vec();
            key.extend(past.keys.first().into_iter().flat_map(|first| first.0));
            (PAST, key)
        }
        Item::Nonce(nonce) => (NONCES, nonce.key.0.to_vec()),
    };
    let mut place = vec![part];
    place.extend(key);
    place
}

/// A page of `items`; a cursor is the place of the last one before it.
fn page_of(
    items: impl Iterator<Item = Item>,
    cursor: Option<&Cursor>,
    bytes: usize,
) -> Result<ExportPage, LedgerError> {
    let after = match cursor {
        Some(Cursor(place)) if place.first().is_some_and(|part| *part <= NONCES) => place.clone(),
        Some(_) => return Err(LedgerError::BadCursor),
        None => Vec::new(),
    };
    let items = items.map(|item| (place(&item), item)).filter(|(place, _)| *place > after);
    let items: BTreeMap<Vec<u8>, Item> = items.collect();
    let mut page = ExportPage::default();
    let mut size = 0;
    let mut last = None;
    for (place, item) in items {
        if size >= bytes && last.is_some() {
            page.next = last.map(Cursor);
            return Ok(page);
        }
        size += item.size();
        page.items.push(item);
        last = Some(place);
    }
    Ok(page)
}
