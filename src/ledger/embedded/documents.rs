//! The documents, all of them in memory.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::record::DocumentRecord;
use crate::clock::UnixMillis;
use crate::ledger::{Document, DocumentChange, DocumentQuery, Documents, Kind, Revision};

/// The documents by kind and id.
#[derive(Default)]
pub(super) struct DocumentTable {
    documents: BTreeMap<(String, String), Document>,
    revision: Revision,
}

/// A change to a document, as written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) revision: Revision,
    pub(super) at_ms: UnixMillis,
    pub(super) who: String,
    /// `None`: deleted.
    pub(super) body: Option<Bytes>,
}

impl Written {
    pub(super) fn new(revision: Revision, change: DocumentChange) -> Self {
        let DocumentChange { kind, id, body, who, at_ms, expect: _ } = change;
        Self { kind: kind.as_str().to_owned(), id, revision, at_ms, who, body }
    }

    /// A document from another ledger.
    pub(super) fn imported(kind: String, document: Document) -> Self {
        let Document { id, version: revision, at_ms, who, body } = document;
        Self { kind, id, revision, at_ms, who, body: Some(body) }
    }

    /// The document; `None`: it is deleted.
    pub(super) fn document(&self) -> Option<Document> {
        let body = self.body.clone()?;
        let (id, who) = (self.id.clone(), self.who.clone());
        Some(Document { id, version: self.revision, at_ms: self.at_ms, who, body })
    }

    pub(super) fn read(record: &DocumentRecord<'_>) -> Self {
        Self {
            kind: record.kind.to_owned(),
            id: record.id.to_owned(),
            revision: record.revision,
            at_ms: record.at_ms,
            who: record.who.to_owned(),
            body: record.body.map(Bytes::copy_from_slice),
        }
    }

    /// The approximate size of its record in bytes.
    pub(super) fn size(&self) -> usize {
        let texts = self.kind.len() + self.id.len() + self.who.len();
        96 + texts + self.body.as_ref().map_or(0, Bytes::len)
    }
}

impl DocumentTable {
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn get(&self, kind: &str, id: &str) -> Option<Document> {
        self.documents.get(&(kind.to_owned(), id.to_owned())).cloned()
    }

    pub(super) fn all(&self, kind: Kind) -> Documents {
        let from = (kind.as_str().to_owned(), String::new());
        let documents = self.documents.range(from..).take_while(|((of, _), _)| of == kind.as_str());
        Documents {
            documents: documents.map(|(_, document)| document.clone()).collect(),
            revision: self.revision,
        }
    }

    /// The documents that `query` finds, the greatest id first.
    pub(super) fn latest(&self, query: &DocumentQuery, limit: usize) -> Vec<Document> {
        let from = (query.kind.as_str().to_owned(), String::new());
        let of_kind = self.documents.range(from..);
        let of_kind = of_kind.take_while(|((of, _), _)| of == query.kind.as_str());
        let mut found: Vec<&Document> =
            of_kind.map(|(_, document)| document).filter(|one| query.finds(one)).collect();
        found.reverse();
        found.into_iter().take(limit.max(1)).cloned().collect()
    }

    /// Whether the record is needed to rebuild the documents: the newest version of a document, or
    /// of its deletion.
    pub(super) fn needs(&self, record: &DocumentRecord<'_>) -> bool {
        let key = (record.kind.to_owned(), record.id.to_owned());
        let newest = self.documents.get(&key).map(|document| document.version);
        match record.body {
            Some(_) => newest == Some(record.revision),
            None => newest.is_none(),
        }
    }

    /// Applies a change.
    pub(super) fn apply(&mut self, written: Written) {
        self.revision = self.revision.max(written.revision);
        let Written { kind, id, revision: version, at_ms, who, body } = written;
        match body {
            Some(body) => {
                let document = Document { id: id.clone(), version, at_ms, who, body };
                self.documents.insert((kind, id), document)
            }
            None => self.documents.remove(&(kind, id)),
        };
    }

    /// The version of a document, if there is one.
    pub(super) fn version(&self, kind: &str, id: &str) -> Option<Revision> {
        let document = self.documents.get(&(kind.to_owned(), id.to_owned()));
        document.map(|document| document.version)
    }

    /// Every document with its kind, oldest version first.
    pub(super) fn everything(&self) -> Vec<(String, Document)> {
        let documents = self.documents.iter();
        let mut all: Vec<_> =
            documents.map(|((kind, _), document)| (kind.clone(), document.clone())).collect();
        all.sort_by_key(|(_, document)| document.version);
        all
    }
}
