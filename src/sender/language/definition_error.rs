//! Errors in a sender file or in the terms of a source.

use std::fmt;

/// One mistake: where it is, what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionError {
    /// The key, dotted from the top of the file or source: `signature.of`, `params.user`.
    pub key: String,
    /// Column within the text of that key, from 1, where the mistake has one.
    pub column: Option<usize>,
    /// The error.
    pub what: String,
    /// The remedy.
    pub remedy: String,
}

impl DefinitionError {
    /// A mistake at `key`.
    pub fn new(key: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key: key.into(), column: None, what: what.into(), remedy: remedy.into() }
    }

    /// The same mistake, at `column` of the key's text.
    #[must_use]
    pub fn at(self, column: usize) -> Self {
        Self { column: Some(column), ..self }
    }

    /// The same mistake under `prefix`, for a key inside a table.
    #[must_use]
    pub fn under(self, prefix: &str) -> Self {
        let key =
            if self.key.is_empty() { prefix.to_owned() } else { format!("{prefix}.{}", self.key) };
        Self { key, ..self }
    }
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}; {}", self.what, self.remedy)
    }
}
