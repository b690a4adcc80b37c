//! Versioned documents: sources, destinations, rules, addresses and other managed objects.

use std::fmt;

use bytes::Bytes;

use crate::clock::UnixMillis;

/// The type of a document. Each part of the program names its own kinds; the ledger only separates
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(&'static str);

/// The number of changes so far. Only increases. The version of a document is the revision at which
/// it was last written: no version ever repeats, not even after a deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The id within its kind.
    pub id: String,
    /// Its version.
    pub version: Revision,
    /// When it was last written.
    pub at_ms: UnixMillis,
    /// The actor of the last write.
    pub who: String,
    /// The content. Sealed by the caller if it contains secrets.
    pub body: Bytes,
}

/// The documents of one kind at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// The documents, by id.
    pub documents: Vec<Document>,
    /// The revision of the whole ledger at which they were read.
    pub revision: Revision,
}

/// Which documents to list, the greatest id first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentQuery {
    /// Of this kind.
    pub kind: Kind,
    /// With smaller ids than this one.
    pub before: Option<String>,
    /// Last written at this time or later.
    pub since_ms: Option<UnixMillis>,
    /// Last written before this time.
    pub until_ms: Option<UnixMillis>,
}

/// The state that a change expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No such document.
    Absent,
    /// The document in this version.
    Version(Revision),
}

/// A change to one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentChange {
    /// The document's kind.
    pub kind: Kind,
    /// The document's id.
    pub id: String,
    /// The expected state.
    pub expect: Expect,
    /// The new content; `None` deletes the document.
    pub body: Option<Bytes>,
    /// The actor.
    pub who: String,
    /// The time of the change.
    pub at_ms: UnixMillis,
}

impl Kind {
    /// The kind called `name`, which is stored with its documents and must never change.
    ///
    /// # Panics
    /// At compile time, where it belongs in a constant, if `name` is empty or longer than 64 bytes.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() <= 64, "a kind has a short name");
        Self(name)
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl DocumentQuery {
    /// All documents of `kind`.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        Self { kind, before: None, since_ms: None, until_ms: None }
    }

    /// Whether the query finds a document of its kind.
    #[must_use]
    pub fn finds(&self, document: &Document) -> bool {
        self.before.as_ref().is_none_or(|before| document.id < *before)
            && self.since_ms.is_none_or(|since| document.at_ms >= since)
            && self.until_ms.is_none_or(|until| document.at_ms < until)
    }
}

impl Expect {
    /// Whether a document with this version, or none, is in the expected state.
    #[must_use]
    pub fn holds(self, current: Option<Revision>) -> bool {
        match self {
            Self::Absent => current.is_none(),
            Self::Version(version) => current == Some(version),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
