//! Lists of the admin API as tables for people, or as one JSON object per line.

use std::collections::BTreeMap;
use std::io;

use clap::builder::RangedI64ValueParser;
use serde_json::value::RawValue;

use super::{Exit, Screen, columns};
use crate::manage::LIMIT_MAX;
use crate::telemetry::is_unprintable;
pub(super) use crate::telemetry::printable_json;

/// A row as it came, and its members.
pub(super) type Row<'a> = (&'a str, BTreeMap<String, &'a RawValue>);

/// Whether there are further rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    More,
    End,
}

/// How many rows may be asked for: the admin API gives no more in one page, and would leave the rest out.
pub(super) fn rows_of_a_page() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::try_from(LIMIT_MAX).unwrap_or(i64::MAX))
}

/// A page of a list. Rows are read member by member: one with a number that no reader can hold must
/// not hide the others.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) rows: Vec<Row<'a>>,
    pub(super) next: Next,
}

impl<'a> Page<'a> {
    /// The rows of `answer`, a page of the list called `list`; nothing if it is none.
    pub(super) fn read(answer: &'a [u8], list: &str) -> Option<Self> {
        let page: BTreeMap<String, &RawValue> = serde_json::from_slice(answer).ok()?;
        let rows: Vec<&RawValue> = serde_json::from_str(page.get(list)?.get()).ok()?;
        let row = |row: &'a RawValue| Some((row.get(), serde_json::from_str(row.get()).ok()?));
        let is_more = page.get("next_cursor").is_some_and(|cursor| cursor.get().starts_with('"'));
        let next = if is_more { Next::More } else { Next::End };
        Some(Self { rows: rows.into_iter().map(row).collect::<Option<_>>()?, next })
    }

    /// The page as JSON lines, or as a table of `shown`.
    pub(super) fn print(&self, shown: &Columns<'_>, screen: &mut Screen<'_>) -> io::Result<Exit> {
        if shown.as_json {
            for (row, _) in &self.rows {
                writeln!(screen.out, "{}", printable_json(row))?;
            }
            return Ok(Exit::Done);
        }
        if self.rows.is_empty() {
            writeln!(screen.err, "{}", shown.nothing)?;
            return Ok(Exit::Done);
        }
        let has = |row: &Row<'_>, key: &str| row.1.get(key).is_some_and(|one| one.get() != "null");
        let is_shown =
            |key: &&str| !shown.seldom.contains(key) || self.rows.iter().any(|row| has(row, key));
        let keys: Vec<&str> = shown.keys.iter().copied().filter(is_shown).collect();
        let mut table = vec![keys.iter().map(|key| screen.out_paint.bold(key)).collect()];
        let cells = |row: &Row<'_>| keys.iter().map(|key| cell(row.1.get(*key))).collect();
        table.extend(self.rows.iter().map(cells));
        write!(screen.out, "{}", columns(&table))?;
        if self.next == Next::More {
            writeln!(screen.out, "  … more: {}", shown.narrow)?;
        }
        Ok(Exit::Done)
    }
}

/// The columns of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns<'a> {
    /// Members of a row.
    pub(super) keys: &'a [&'a str],
    /// Members that are omitted where no row has them.
    pub(super) seldom: &'a [&'a str],
    /// The text where there are no rows.
    pub(super) nothing: &'a str,
    /// The way to see the others where there are more.
    pub(super) narrow: &'a str,
    /// JSON instead.
    pub(super) as_json: bool,
}

/// A value as a cell: text as it is, a list with commas, other JSON as written. Control characters
/// would write over other rows.
pub(super) fn cell(value: Option<&&RawValue>) -> String {
    let text = match value.map(|value| value.get()) {
        None | Some("null" | "[]") => String::from("-"),
        Some(text) => serde_json::from_str(text)
            .or_else(|_| serde_json::from_str(text).map(|all: Vec<String>| all.join(", ")))
            .unwrap_or_else(|_| text.to_owned()),
    };
    printable(&text)
}

/// `text` without characters that a terminal obeys in place of showing them.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unprintable(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_control_the_terminal() {
        let odd = "a\u{1b}]52;c;eA==\u{7}\u{9b}31m\u{202e}b\u{2066}\u{200f}\u{61c}\u{7f}\n人";
        let shown = printable(odd);
        assert!(!shown.chars().any(is_unprintable), "{shown:?}");
        assert!(shown.starts_with("a\u{fffd}]52;c;eA==\u{fffd}") && shown.ends_with('人'));
    }
}
