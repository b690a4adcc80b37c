//! `postern senders`: the platforms whose callbacks can be verified.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::{ConfigFile, Exit, Screen, columns};
use crate::config::nearest;
use crate::sender::{Catalog, Cell, Contract, Part, Sender, index};

/// List the known senders, or show one of them
#[derive(Args, Debug)]
#[command(
    long_about = "List the known senders, or show one of them.\n\n\
        A sender is a platform and its contract: how it calls, signs, identifies a transaction, and \
        which replies it expects. With a NAME the whole contract is shown, with its unconfirmed \
        assumptions. `custom` is a file of your own, named by the source's `recipe`. Your own senders \
        are listed if --config names their configuration.",
    after_help = "Examples:\n  \
        postern senders\n  \
        postern senders taku\n  \
        postern senders taku --toml > my-sender.toml\n  \
        postern senders --pages docs/senders\n  \
        postern senders --config postern.toml my-sender"
)]
pub(super) struct Senders {
    #[command(flatten)]
    config: ConfigFile,
    /// Sender to show
    name: Option<String>,
    /// Print the sender's file, as a start for one of your own
    #[arg(long, requires = "name")]
    toml: bool,
    /// Write a page for each sender, and an index, into this directory
    #[arg(long, value_name = "FOLDER", conflicts_with = "name")]
    pages: Option<PathBuf>,
}

impl Senders {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let catalog = match self.catalog(screen)? {
            Ok(catalog) => catalog,
            Err(exit) => return Ok(exit),
        };
        if let Some(folder) = &self.pages {
            for (name, page) in pages(&catalog) {
                std::fs::write(folder.join(name), page)?;
            }
            return Ok(Exit::Done);
        }
        let Some(name) = &self.name else {
            let row = |s: &Arc<Sender>| vec![s.name().to_owned(), s.title().to_owned()];
            let rows: Vec<_> = catalog.iter().map(row).collect();
            if self.config.json {
                for [name, title] in rows.iter().filter_map(|row| row.first_chunk::<2>()) {
                    writeln!(screen.out, "{}", json!({ "name": name, "title": title }))?;
                }
                return Ok(Exit::Done);
            }
            write!(screen.out, "{}", columns(&rows))?;
            return Ok(Exit::Done);
        };
        let Some(sender) = catalog.get(name).or_else(|| catalog.also_called(name)) else {
            writeln!(screen.err, "there is no sender {name:?}; {}", instead(&catalog, name))?;
            return Ok(Exit::Usage);
        };
        if self.config.json && !self.toml {
            writeln!(screen.out, "{}", as_json(sender))?;
            return Ok(Exit::Done);
        }
        if sender.name() != name {
            writeln!(screen.err, "{name} is called {} here", sender.name())?;
        }
        match self.toml {
            true => write!(screen.out, "{}", sender.text())?,
            false => contract(sender, &self.config, screen)?,
        }
        Ok(Exit::Done)
    }

    fn catalog(&self, screen: &mut Screen<'_>) -> io::Result<Result<Arc<Catalog>, Exit>> {
        if self.config.is_named() {
            let loaded = self.config.load_partly(screen)?;
            return Ok(loaded.map(|loaded| loaded.config.catalog));
        }
        match Catalog::embedded() {
            Ok(catalog) => Ok(Ok(Arc::new(catalog))),
            Err(faults) => {
                for (file, fault) in faults {
                    writeln!(screen.err, "{file}: {fault}")?;
                }
                Ok(Err(Exit::Failed))
            }
        }
    }
}

/// The remedy where no sender is called `name`: those whose titles hold it, or a near name.
pub(super) fn instead(catalog: &Catalog, name: &str) -> String {
    let known: Vec<&str> = catalog.mentioning(name).map(|sender| sender.name()).collect();
    let names: Vec<&str> = catalog.iter().map(|sender| sender.name()).collect();
    match (known.as_slice(), nearest(name, &names)) {
        ([], Some(near)) => format!("did you mean {near}?"),
        ([], None) => String::from("`postern senders` lists them"),
        (known, _) => format!("did you mean {}?", known.join(", ")),
    }
}

/// The contract of one sender, for programs.
fn as_json(sender: &Arc<Sender>) -> Value {
    let Contract { name, title, parts, example, .. } = Contract::of(sender);
    let part = |part: &Part| {
        let texts = |row: &Vec<Cell>| row.iter().map(|cell| json!(cell.text())).collect();
        let rows: Vec<Value> = part.rows.iter().map(texts).collect();
        json!({ "title": part.title, "head": part.head, "rows": rows })
    };
    let parts: Vec<Value> = parts.iter().map(part).collect();
    json!({ "name": name, "title": title, "parts": parts, "example": example })
}

/// The contract of one sender, for people.
fn contract(sender: &Arc<Sender>, at: &ConfigFile, screen: &mut Screen<'_>) -> io::Result<()> {
    let paint = screen.out_paint;
    let contract = Contract::of(sender);
    writeln!(screen.out, "{}: {}", paint.bold(&contract.name), contract.title)?;
    for part in &contract.parts {
        let texts = |row: &Vec<Cell>| row.iter().map(|cell| cell.text().to_owned()).collect();
        let head: Vec<String> = part.head.iter().map(|title| (*title).to_owned()).collect();
        let head = if head.is_empty() { None } else { Some(head) };
        let rows: Vec<Vec<String>> = head.into_iter().chain(part.rows.iter().map(texts)).collect();
        write!(screen.out, "\n{}\n{}", paint.bold(part.title), columns(&rows))?;
    }
    let named = match at.is_named() {
        true => format!(" --config {}", at.path().display()),
        false => String::new(),
    };
    let hint = format!("postern senders {}{named} --toml shows the file itself", sender.name());
    writeln!(screen.out, "\n{}", paint.dim(&hint))
}

/// The pages of `docs/senders/` by the names of their files.
fn pages(catalog: &Catalog) -> Vec<(String, String)> {
    let page = |sender: &Arc<Sender>| {
        (format!("{}.md", sender.name()), Contract::of(sender).to_markdown())
    };
    let index = (String::from("README.md"), index(catalog));
    catalog.iter().map(page).chain([index]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_about_adding_one_shows_a_file_that_is_tested() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        let page = read("docs/adding-a-sender.md");
        assert!(page.contains(&read("fixtures/config/senders/my-sender.toml")));
    }

    #[test]
    fn the_pages_are_those_of_the_catalog() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/senders");
        let pages = pages(&Catalog::embedded().unwrap());
        for (name, page) in &pages {
            let written = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert_eq!(
                &written, page,
                "docs/senders/{name} has drifted: cargo run -- senders --pages docs/senders"
            );
        }
        let known: BTreeSet<String> = pages.into_iter().map(|(name, _)| name).collect();
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(known.contains(&name), "docs/senders/{name} has no sender: take it away");
        }
    }
}
