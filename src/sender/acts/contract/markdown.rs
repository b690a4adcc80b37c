//! A contract as a page of `docs/senders/`, and the index of them all.

use std::fmt::Write as _;
use std::sync::Arc;

use super::{Cell, Contract, Part};
use crate::sender::{Catalog, Sender};

/// What every page begins with.
const MADE: &str = "<!-- Made by `postern senders --pages docs/senders`: change the sender's file, \
                    not this page. -->\n";

impl Contract {
    /// The page.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut page = format!("{MADE}# {}: {}\n", self.name, escaped(&self.title));
        for part in &self.parts {
            let _ = write!(page, "\n## {}\n\n{}", part.title, rows(part));
        }
        let _ = write!(
            page,
            "\n## A source\n\n```toml\n{1}\n```\n\n\
             `postern url SOURCE` prints the address to paste, `postern sign SOURCE …` makes a \
             callback to try it with, `postern senders {0} --toml` shows the file itself.\n",
            self.name, self.example
        );
        page
    }
}

/// The page that lists the senders of `catalog`.
#[must_use]
pub fn index(catalog: &Catalog) -> String {
    let mut page = format!(
        "{MADE}# Senders\n\n\
         Each is one file of `src/sender/catalog/`, and each page here is made of that file. Where a \
         sender's own documentation has not been seen, its page says so; what nobody outside has \
         confirmed is listed on it, and wherever else the sender is shown. `custom` is a file of \
         your own: see [adding a sender](../adding-a-sender.md).\n\n\
         | name | sender | rests on | calls with | answer |\n|---|---|---|---|---|\n"
    );
    for sender in catalog.iter() {
        let _ = writeln!(page, "{}", line(sender));
    }
    page
}

fn line(sender: &Arc<Sender>) -> String {
    let contract = Contract::of(sender);
    let basis = match sender.basis() {
        Some(crate::sender::Basis::Documentation) => "documentation",
        Some(crate::sender::Basis::Implementations) => "implementations",
        None => "",
    };
    let methods: Vec<&str> = sender.methods().iter().map(http::Method::as_str).collect();
    let answers = contract.parts.iter().find(|part| part.title == "Answers");
    let accepted = answers.and_then(|part| {
        let row = part.rows.iter().find(|row| row[0].text() == "accepted")?;
        row.get(1)
    });
    format!(
        "| [{0}]({0}.md) | {1} | {basis} | {2} | {3} |",
        sender.name(),
        escaped(sender.title()),
        methods.join(", "),
        accepted.map(cell).unwrap_or_default()
    )
}

fn rows(part: &Part) -> String {
    let columns = part.rows.iter().map(Vec::len).max().unwrap_or_default();
    if columns < 2 && part.head.is_empty() {
        return match part.rows.as_slice() {
            [only] if matches!(only.as_slice(), [Cell::Code(_)]) => {
                format!("```text\n{}\n```\n", only[0].text())
            }
            many => many.iter().flatten().map(|one| format!("- {}\n", item(one))).collect(),
        };
    }
    let titles = (0..columns).map(|at| part.head.get(at).copied().unwrap_or_default());
    let mut table = row(titles.map(str::to_owned));
    table.push_str(&format!("|{}\n", "---|".repeat(columns)));
    for cells in &part.rows {
        table.push_str(&row(cells.iter().map(cell)));
    }
    table
}

fn row(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// An item of a list: a link stands as it is.
fn item(cell: &Cell) -> String {
    match cell {
        Cell::Words(text) if text.starts_with("https://") => format!("<{text}>"),
        other => self::cell(other),
    }
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Code(text) if text.is_empty() => String::new(),
        // A bar ends a cell, also inside of code.
        Cell::Code(text) => format!("`{}`", text.replace('|', "\\|")),
        Cell::Words(text) => escaped(text),
    }
}

/// Words in which nothing is markup but backticks.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut code = false;
    for character in text.chars() {
        code ^= character == '`';
        if character == '|' || (!code && matches!(character, '<' | '>' | '*' | '_' | '[' | ']')) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}
