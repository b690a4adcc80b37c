//! Documents that are left out of the running configuration, and why.

use std::fmt;

use crate::config::ConfigIssue;
use crate::ledger::Kind;

/// A document that is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredObject {
    /// The kind of the document.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Why it is ignored.
    pub why: IgnoredWhy,
}

/// Why a document is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IgnoredWhy {
    /// The configuration file has an object of that name.
    InFile,
    /// The source of that name has its id.
    SameId(String),
    /// The document no longer passes the checks.
    Invalid(Vec<ConfigIssue>),
    /// Another reason, in a sentence.
    Other(String),
}

impl IgnoredObject {
    /// The kind in words: `reward rule`.
    #[must_use]
    pub fn kind_in_words(&self) -> String {
        self.kind.as_str().replace('_', " ")
    }
}

impl fmt::Display for IgnoredObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} {}", self.kind_in_words(), self.name)?;
        match &self.why {
            IgnoredWhy::InFile => f.write_str(" is in the file and was made over an API"),
            IgnoredWhy::SameId(other) => write!(f, " has the id of {other}"),
            IgnoredWhy::Other(why) => write!(f, ": {why}"),
            IgnoredWhy::Invalid(issues) => {
                for (at, issue) in issues.iter().enumerate() {
                    let before = if at == 0 { ": " } else { ", " };
                    write!(f, "{before}{}: {}", issue.key, issue.what)?;
                }
                Ok(())
            }
        }
    }
}
