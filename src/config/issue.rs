//! The errors and warnings of a configuration: what is wrong, where, and the remedy.
//!
//! No issue ever holds a value that could be a secret: an issue names the key, the variable or the
//! file.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use super::Files;

/// One error or warning: where it is, what is wrong and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigIssue {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// The column, from 1: within the text of `key`, or within the line where there is no key.
    pub column: Option<usize>,
    /// The key, dotted from the top of the file: `source[level-end].secrets[1]`.
    pub key: String,
    /// The error or the warning.
    pub what: String,
    /// The remedy.
    pub remedy: String,
}

/// Why a configuration cannot be used: its errors, all at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The errors, in the order of the file.
    pub faults: Vec<ConfigIssue>,
    /// The warnings, which the configuration would get without the errors as well.
    pub warnings: Vec<ConfigIssue>,
    /// The files that were read before it failed.
    pub files: Files,
}

/// Whether a text is for a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Only the text.
    Plain,
    /// With ANSI colours.
    Coloured,
}

impl ConfigIssue {
    /// The issue on one line: `postern.toml:12: source[level-end].secrets: what; remedy`.
    #[must_use]
    pub fn line_of_text(&self, paint: Paint) -> String {
        let mut place = self.file.display().to_string();
        let mut key = self.key.clone();
        if let Some(line) = self.line {
            let _ = write!(place, ":{line}");
        }
        match self.column {
            Some(column) if self.key.is_empty() => {
                let _ = write!(place, ":{column}");
            }
            Some(column) => {
                let _ = write!(key, ", column {column}");
            }
            None => {}
        }
        let mut text = paint.dim(&format!("{place}:"));
        if !key.is_empty() {
            let _ = write!(text, " {}", paint.bold(&format!("{key}:")));
        }
        let _ = write!(text, " {}", self.what);
        if !self.remedy.is_empty() {
            let _ = write!(text, "; {}", self.remedy);
        }
        text
    }
}

impl fmt::Display for ConfigIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line_of_text(Paint::Plain))
    }
}

impl ConfigErrors {
    /// Each error on a line of its own, and the number of errors.
    #[must_use]
    pub fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        for fault in &self.faults {
            let _ = writeln!(text, "{}", fault.line_of_text(paint));
        }
        text.push_str(&self.count(paint));
        text
    }

    /// The number of errors.
    #[must_use]
    pub fn count(&self, paint: Paint) -> String {
        let count = match self.faults.len() {
            1 => String::from("1 error"),
            many => format!("{many} errors"),
        };
        paint.red(&count)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Paint::Plain))
    }
}

impl std::error::Error for ConfigErrors {}

impl Paint {
    /// `text` as what matters most in its line.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// `text` as what matters least in its line.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// `text` as bad news.
    #[must_use]
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// `text` as a word of warning.
    #[must_use]
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> ConfigIssue {
        ConfigIssue {
            file: "postern.toml".into(),
            line: Some(12),
            column: None,
            key: String::from("source[level-end].secrets"),
            what: String::from("the variable TAKU is not set"),
            remedy: String::from("set it"),
        }
    }

    #[test]
    fn a_finding_reads_as_place_key_mistake_and_remedy() {
        assert_eq!(
            finding().to_string(),
            "postern.toml:12: source[level-end].secrets: the variable TAKU is not set; set it"
        );
    }

    #[test]
    fn a_column_belongs_to_the_key_or_to_the_line() {
        let of_key = ConfigIssue { column: Some(7), ..finding() };
        assert!(of_key.to_string().contains("source[level-end].secrets, column 7: "));
        let of_line = ConfigIssue { key: String::new(), ..of_key };
        assert!(of_line.to_string().starts_with("postern.toml:12:7: the variable"));
    }

    #[test]
    fn colours_are_only_for_terminals() {
        assert!(!finding().line_of_text(Paint::Plain).contains('\u{1b}'));
        assert!(finding().line_of_text(Paint::Coloured).contains("\u{1b}[1m"));
    }
}
