//! The sources that a token of the admin listener is for.

use std::sync::Arc;

use super::file::{Item, Read, ValueError};
use super::limits::NAME_BYTES_MAX;

/// The end of a pattern that stands for any more characters.
const ANY: char = '*';

/// The sources that a token is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceScope {
    /// All of them, and everything besides.
    #[default]
    All,
    /// The sources that one of these fits, and nothing besides.
    Bound(Arc<[SourcePattern]>),
}

/// The name of a source, or the beginning of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourcePattern {
    /// This one.
    Name(String),
    /// All names that begin like this.
    Beginning(String),
}

impl SourceScope {
    /// Whether there are sources that it leaves out.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        matches!(self, Self::Bound(_))
    }

    /// Whether the source `name` is one of them.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Bound(patterns) => patterns.iter().any(|pattern| pattern.fits(name)),
        }
    }
}

impl SourcePattern {
    /// Whether a source of that name is one of them.
    pub(super) fn fits(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Beginning(start) => name.starts_with(start.as_str()),
        }
    }

    /// Reads `acme-*`, or the name of a source. A beginning of nothing would be no bound.
    pub(super) fn read(item: &Item<'_>) -> Read<Self> {
        const WANTED: &str = "the name of a source, or a beginning such as \"acme-*\"";
        let text = item.text(WANTED)?;
        let start = text.strip_suffix(ANY);
        let name = start.unwrap_or(text);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(ANY) {
            return Err(ValueError::new(
                format!("{text:?} cannot be read"),
                format!("write {WANTED}"),
            ));
        }
        Ok(match start {
            Some(start) => Self::Beginning(start.to_owned()),
            None => Self::Name(name.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reach_covers_names_and_beginnings() {
        let bound = SourceScope::Bound(Arc::from([
            SourcePattern::Name(String::from("demo")),
            SourcePattern::Beginning(String::from("acme-")),
        ]));
        for own in ["demo", "acme-", "acme-taku"] {
            assert!(bound.covers(own), "{own}");
        }
        for other in ["demo2", "acme", "Acme-taku", "globex-acme-", ""] {
            assert!(!bound.covers(other), "{other}");
        }
        assert!(
            SourceScope::All.covers("anything") && !SourceScope::All.is_bound() && bound.is_bound()
        );
        assert!(!SourceScope::Bound(Arc::from([])).covers(""), "no pattern covers nothing");
    }
}
