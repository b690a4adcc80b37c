//! Integrity: damaged parts of the store, and the scrub that finds them.

use std::fmt;
use std::path::PathBuf;

use super::Cursor;

/// A damaged part of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The first damaged byte.
    pub from: u64,
    /// The byte after the last one; `from` where only the start is known.
    pub until: u64,
    /// The error.
    pub what: String,
}

/// A step of a scrub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubPage {
    /// Bytes that this step read.
    pub read: u64,
    /// Bytes of the store before the reached position, and in all.
    pub done: u64,
    /// All bytes of a pass, as far as known.
    pub total: u64,
    /// Damaged places found in this step.
    pub damage: Vec<Damage>,
    /// Notes that are not damage, and their consequence.
    pub remarks: Vec<String>,
    /// Where the next step begins; `None`: the pass is complete.
    pub next: Option<Cursor>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.until > self.from {
            true => write!(f, "{path}, bytes {} to {}: {}", self.from, self.until, self.what),
            false => write!(f, "{path}, at {}: {}", self.from, self.what),
        }
    }
}
