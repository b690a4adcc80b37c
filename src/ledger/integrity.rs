//! Integrity: what of the store cannot be read, and the scrub that looks for it.

use std::fmt;
use std::path::PathBuf;

use super::Cursor;

/// A part of the store that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// From this byte on.
    pub from: u64,
    /// Up to this one; `from` where the place is a point, or the length is unknown.
    pub until: u64,
    /// What is wrong.
    pub what: String,
}

/// A step of a scrub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubPage {
    /// Bytes that this step read.
    pub read: u64,
    /// Bytes of the store before the place that was reached, and of all of it.
    pub done: u64,
    /// All bytes that a pass reads, as far as that is known now.
    pub total: u64,
    /// Damaged places that this step found.
    pub damage: Vec<Damage>,
    /// What is no damage to what was recorded, and what becomes of it.
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
