//! The documents, all of them in memory.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::record::DocumentRecord;
use crate::ledger::{Document, DocumentChange, Documents, Kind, Revision};

/// The documents by kind and id.
#[derive(Default)]
pub(super) struct Shelf {
    documents: BTreeMap<(String, String), Document>,
    revision: Revision,
}

impl Shelf {
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn get(&self, kind: Kind, id: &str) -> Option<Document> {
        self.documents.get(&(kind.as_str().to_owned(), id.to_owned())).cloned()
    }

    pub(super) fn all(&self, kind: Kind) -> Documents {
        let from = (kind.as_str().to_owned(), String::new());
        let documents = self.documents.range(from..).take_while(|((of, _), _)| of == kind.as_str());
        Documents {
            documents: documents.map(|(_, document)| document.clone()).collect(),
            revision: self.revision,
        }
    }

    /// Whether the record is needed to read the shelf again: the newest version of a document, or
    /// the word that there is none.
    pub(super) fn needs(&self, record: &DocumentRecord<'_>) -> bool {
        let key = (record.kind.to_owned(), record.id.to_owned());
        let newest = self.documents.get(&key).map(|document| document.version);
        match record.body {
            Some(_) => newest == Some(record.revision),
            None => newest.is_none(),
        }
    }

    /// What a change makes of the shelf at its `revision`.
    pub(super) fn apply(&mut self, revision: Revision, change: &DocumentChange) {
        self.revision = self.revision.max(revision);
        let key = (change.kind.as_str().to_owned(), change.id.clone());
        self.set(
            key,
            change.body.clone().map(|body| Document {
                id: change.id.clone(),
                version: revision,
                at_ms: change.at_ms,
                who: change.who.clone(),
                body,
            }),
        );
    }

    /// The same, read from the journal.
    pub(super) fn replay(&mut self, record: &DocumentRecord<'_>) {
        self.revision = self.revision.max(record.revision);
        let key = (record.kind.to_owned(), record.id.to_owned());
        self.set(
            key,
            record.body.map(|body| Document {
                id: record.id.to_owned(),
                version: record.revision,
                at_ms: record.at_ms,
                who: record.who.to_owned(),
                body: Bytes::copy_from_slice(body),
            }),
        );
    }

    fn set(&mut self, key: (String, String), document: Option<Document>) {
        match document {
            Some(document) => self.documents.insert(key, document),
            None => self.documents.remove(&key),
        };
    }
}
