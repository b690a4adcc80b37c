//! Importing the export of another ledger.

use std::collections::HashSet;

use super::{Committer, Staged};
use crate::ledger::embedded::call::{EventImport, ImportCall, ImportItem};
use crate::ledger::embedded::deliveries::after;
use crate::ledger::embedded::documents::Written;
use crate::ledger::embedded::record::{self, StateRecord};
use crate::ledger::embedded::run::Finder;
use crate::ledger::embedded::segment::{IMPORTED, VERSION};
use crate::ledger::embedded::tables::{Note, half_id};
use crate::ledger::portable::ImportRevisions;
use crate::ledger::{DifferingDocument, Document, EventId, Imported, LedgerError, PastEvent};

/// Tells which events are recorded, those of the frame among them.
pub(super) struct RecordedEvents {
    finder: Finder,
    frame: HashSet<EventId>,
}

impl RecordedEvents {
    /// Whether the event is one of them.
    pub(super) fn has(&mut self, id: EventId) -> Result<bool, LedgerError> {
        Ok(self.frame.contains(&id) || self.finder.find(id)?.is_some())
    }
}

impl Committer {
    /// The events that are recorded now. It must not be kept while segments change.
    pub(super) fn recorded_events(&self) -> RecordedEvents {
        let frame = self.staged.rows.iter().map(|full| full.row.id).collect();
        RecordedEvents { finder: self.core.finder(), frame }
    }

    /// Imports unknown items. After an error some may have been imported; offered again, they are
    /// known. Keys of another ledger may have an older form.
    pub(super) fn import(&mut self, call: ImportCall) -> Result<Imported, LedgerError> {
        let version = if call.has_keys() { IMPORTED } else { VERSION };
        self.make_room_in(version, call.size, call.records)?;
        let (mut recorded, mut revisions) = (self.recorded_events(), ImportRevisions::default());
        let mut imported = Imported::default();
        for item in call.items {
            let taken = match item {
                ImportItem::Event(event) => self.import_event(*event, &mut recorded)?,
                ImportItem::Past(past) => self.import_past(&past)?,
                ImportItem::Document(written) => {
                    let stored = self.stored_as_new(&written);
                    let is_known = stored.is_some();
                    match stored {
                        Some(stored) => imported.differing.extend(differing(&stored, &written)),
                        None => self.import_document(written, &mut revisions),
                    }
                    !is_known
                }
                ImportItem::Held(held) => {
                    let taken = !self.core.held().knows(&held);
                    if taken {
                        self.add_held(&held);
                    }
                    taken
                }
                ImportItem::Mark(mark) => {
                    let taken = self.core.held().mark(mark.id).is_none();
                    if taken {
                        self.add_mark(mark);
                    }
                    taken
                }
                ImportItem::Nonce(nonce) => {
                    let known = self.nonces.get(&nonce.key.0);
                    let taken = known.is_none_or(|expires_ms| *expires_ms < nonce.expires_ms);
                    if taken {
                        self.nonces.insert(nonce.key.0, nonce.expires_ms);
                        self.journal.frame.append(|to| record::put_nonce(to, &nonce));
                    }
                    taken
                }
            };
            imported.taken += u64::from(taken);
            imported.known += u64::from(!taken);
        }
        Ok(imported)
    }

    /// Imports an event unless one of its keys is known, or it is recorded itself: a released conflict
    /// has no keys, and neither has an event of a source that was forgotten.
    fn import_event(
        &mut self,
        event: EventImport,
        recorded: &mut RecordedEvents,
    ) -> Result<bool, LedgerError> {
        let id = event.event.id;
        if self.knows(event.event.keys.written())? || recorded.has(id)? {
            return Ok(false);
        }
        recorded.frame.insert(id);
        // Separate records have the states of its deliveries.
        self.add(&event.event);
        for delivery in event.deliveries {
            for (number, detail) in (1..).zip(&delivery.attempts) {
                let outcome = record::Outcome::Done;
                let put = |to: &mut Vec<u8>| record::put_attempt(to, outcome, number, detail);
                let at = self.journal.frame.append(put);
                self.staged.notes.push(Note { event: half_id(id), offset: at.offset() });
            }
            let (outcome, attempt) = (delivery.outcome, delivery.attempt);
            let target = delivery.target.as_str();
            let state = StateRecord { outcome, attempt, event: id, target };
            let at = self.journal.frame.append(|to| record::put_state(to, &state));
            let Staged { notes, states, .. } = &mut self.staged;
            notes.push(Note { event: half_id(id), offset: at.offset() });
            states.push((id, delivery.target, after(outcome, attempt)));
        }
        Ok(true)
    }

    fn import_past(&mut self, past: &PastEvent) -> Result<bool, LedgerError> {
        let known = self.knows(past.keys.iter().copied())?;
        if !known {
            self.add_keys(past);
        }
        Ok(!known)
    }

    /// The stored document of that name, including unsynced changes, if it is as new as this one.
    fn stored_as_new(&self, offered: &Written) -> Option<Document> {
        let mut staged = self.staged.changes.iter().rev();
        let stored = match staged.find(|one| one.kind == offered.kind && one.id == offered.id) {
            Some(written) => written.document(),
            None => self.core.documents().get(&offered.kind, &offered.id),
        };
        stored.filter(|stored| stored.version >= offered.revision)
    }

    fn import_document(&mut self, mut written: Written, revisions: &mut ImportRevisions) {
        written.revision = revisions.of(written.revision, self.revision());
        self.write_document(written);
    }
}

/// How a document that is not imported differs from the stored one.
fn differing(stored: &Document, offered: &Written) -> Option<DifferingDocument> {
    DifferingDocument::between(&offered.kind, stored, &offered.document()?)
}
