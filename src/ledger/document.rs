//! Versioned documents: sources, destinations, rules, addresses and whatever else people manage.

use std::fmt;

use bytes::Bytes;

use crate::clock::UnixMillis;

/// What a document is. Each part of the program that keeps documents names its own kinds; the
/// ledger only keeps them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(&'static str);

/// How many changes there have been. It only grows; the version of a document is the revision at
/// which it was last written, so that no version ever comes back, not even after a deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its id within its kind.
    pub id: String,
    /// Its version.
    pub version: Revision,
    /// When it was last written.
    pub at_ms: UnixMillis,
    /// Who wrote it.
    pub who: String,
    /// What it says. Sealed by the caller where it holds secrets.
    pub body: Bytes,
}

/// The documents of one kind at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// The documents, by id.
    pub documents: Vec<Document>,
    /// The revision of the whole ledger that they show.
    pub revision: Revision,
}

/// What the writer of a change believes to be there.
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
    /// What is there now.
    pub expect: Expect,
    /// What it shall say; `None` deletes it.
    pub body: Option<Bytes>,
    /// Who changes it.
    pub who: String,
    /// When.
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

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl Expect {
    /// Whether a document with this version, or none, is what is expected.
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
