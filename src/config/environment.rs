//! The environment of this machine with files of variables, as systemd's `EnvironmentFile` and
//! `docker --env-file` read them.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{ConfigIssue, Contents, Input, Machine};
use crate::clock::UnixMillis;

/// This machine, whose environment is extended by files. A variable of the process takes precedence
/// over the files, and a file over those before it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    files: Vec<PathBuf>,
}

impl Environment {
    /// The environment of the process and the variables in `files`, which are read at each use: a
    /// reload sees what they hold then.
    #[must_use]
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { files }
    }
}

impl Input for Environment {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        let of_file = |path: &PathBuf| {
            let contents = Machine.read(path).ok()?;
            let text = String::from_utf8(contents.bytes).ok()?;
            let (mut variables, _) = parse(path, &text);
            let at = variables.iter().rposition(|(found, _)| found == name)?;
            Some(variables.swap_remove(at).1.into_bytes())
        };
        Machine.variable(name).or_else(|| self.files.iter().rev().find_map(of_file))
    }

    fn read(&self, path: &Path) -> io::Result<Contents> {
        Machine.read(path)
    }

    fn now_ms(&self) -> UnixMillis {
        Machine.now_ms()
    }

    fn env_files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// The variables in `text`, the content of `file`, and the lines that define none. No issue shows a
/// value.
pub(super) fn parse(file: &Path, text: &str) -> (Vec<(String, String)>, Vec<ConfigIssue>) {
    let (mut variables, mut issues) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        match line.split_once('=').filter(|(name, _)| is_name(name)) {
            Some((name, value)) => variables.push((name.to_owned(), unquoted(value.trim()))),
            None => issues.push(ConfigIssue {
                file: file.to_owned(),
                line: Some(at + 1),
                what: String::from("is not a variable"),
                remedy: String::from("write NAME=VALUE, or # before a comment"),
                ..ConfigIssue::default()
            }),
        }
    }
    (variables, issues)
}

/// The comment above a value that `postern init` made up; a digest of the value follows.
pub const PLACEHOLDER: &str = "# PLACEHOLDER ";

/// Hexadecimal digits of a placeholder's digest.
const DIGEST_DIGITS: usize = 8;

/// The digest of a placeholder, by which it is known until it is replaced.
#[must_use]
pub fn placeholder_digest(value: &str) -> String {
    let mut digits = const_hex::encode(Sha256::digest(value));
    digits.truncate(DIGEST_DIGITS);
    digits
}

/// The variables in `text`, the content of `file`, that still have the value that `postern init`
/// made up.
pub(super) fn placeholders(file: &Path, text: &str) -> Vec<ConfigIssue> {
    let mut issues = Vec::new();
    let mut digest = None;
    for (at, line) in text.lines().enumerate() {
        if let Some(comment) = line.strip_prefix(PLACEHOLDER) {
            digest = comment.split(':').next();
            continue;
        }
        let Some(expected) = digest.take() else { continue };
        let (variables, _) = parse(file, line);
        for (name, _) in variables.iter().filter(|(_, value)| placeholder_digest(value) == expected)
        {
            issues.push(ConfigIssue {
                file: file.to_owned(),
                line: Some(at + 1),
                key: name.clone(),
                what: String::from("is a placeholder that `postern init` made up"),
                remedy: String::from("replace it with the value that the sender's console shows"),
                ..ConfigIssue::default()
            });
        }
    }
    issues
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(fits) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// A value without the quotes around it; within double ones a backslash escapes.
fn unquoted(value: &str) -> String {
    let between = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(literal) = between('\'') {
        return literal.to_owned();
    }
    let Some(escaped) = between('"') else { return value.to_owned() };
    let mut text = String::with_capacity(escaped.len());
    let mut characters = escaped.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_variables_comments_or_errors() {
        let text = "# a comment\n\n; another\nA=1\n export B = \n C=' a b '\nD=\"q\\\"\\\\\"\nE=x=y\n\
                    oops\n2F=1\nA=2\n";
        let (variables, issues) = parse(Path::new("x.env"), text);
        let of = |name: &str| {
            let found = variables.iter().rfind(|(found, _)| found == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(
            [of("A"), of("C"), of("D"), of("E")].map(Option::unwrap),
            ["2", " a b ", "q\"\\", "x=y"]
        );
        let lines: Vec<_> = issues.iter().map(|issue| issue.line.unwrap()).collect();
        assert_eq!(lines, [5, 9, 10], "{issues:?}");
        assert!(!issues.iter().any(|issue| issue.to_string().contains("oops")));
    }

    #[test]
    fn a_placeholder_is_known_until_it_is_replaced() {
        let made = |value: &str| {
            let digest = placeholder_digest("made-up");
            format!("# about\n{PLACEHOLDER}{digest}: replace it\nA={value}\nB=made-up\n")
        };
        let found = placeholders(Path::new("x.env"), &made("made-up"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].line, found[0].key.as_str()), (Some(3), "A"));
        assert!(!found[0].to_string().contains("made-up"));
        assert!(placeholders(Path::new("x.env"), &made("real")).is_empty());
    }

    #[test]
    fn a_later_file_counts_and_the_process_counts_most() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = vec![
            file("a", "POSTERN_T_ONE=a\nPOSTERN_T_TWO=a\nPATH=none\n"),
            file("b", "POSTERN_T_TWO=b\n"),
        ];
        let environment = Environment::new(files);
        let text = |name: &str| environment.variable(name).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(text("POSTERN_T_ONE").as_deref(), Some("a"));
        assert_eq!(text("POSTERN_T_TWO").as_deref(), Some("b"));
        assert_ne!(text("PATH").as_deref(), Some("none"));
        assert_eq!(text("POSTERN_T_THREE"), None);
    }
}
