//! `postern import`: takes what `postern export` wrote.

use std::str::FromStr as _;
use std::{fmt, io};

use clap::Args;
use serde_json::{Value, json};

use super::client::runtime;
use super::place::{Counted, Place};
use super::store::{Progress, open};
use super::{ConfigFile, Exit, Screen};
use crate::ledger::{
    DifferingDocument, Engine, ExportError, ExportReader, Imported, Item, Ledger as _, StoredForm,
};
use crate::registry::HEAD;
use crate::server;

/// Import an export into a store
#[derive(Args, Debug)]
#[command(
    long_about = "Import an export of `postern export` into an empty or a used store.\n\n\
        Known events stay unchanged, so an import may be repeated, and continues after an \
        interruption. Of several exports, import the newest first. A document is imported if it is \
        newer than the stored one. Stop the gateway of an embedded store first; gateways on \
        PostgreSQL keep running. A sealed export needs its key in POSTERN_MASTER_KEY or \
        POSTERN_OLD_MASTER_KEY.",
    after_help = "Examples:\n  \
        postern import --config postern.toml postern.export\n  \
        ssh old postern export --config /etc/postern/postern.toml | postern import -"
)]
pub(super) struct Import {
    #[command(flatten)]
    config: ConfigFile,
    /// Export to import, or - for standard input
    file: String,
}

impl Import {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let place = match self.place() {
            Ok(place) => place,
            Err(sentence) => {
                writeln!(screen.err, "{sentence}")?;
                return Ok(Exit::Usage);
            }
        };
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let store = &loaded.config.store;
        let input = || Ok((Counted::new(Box::new(io::stdin())), 0));
        let (from, size) = match place.as_ref().map_or_else(input, Place::read) {
            Ok(read) => read,
            Err(error) => return screen.fail(&format!("{}: {error}", self.file)),
        };
        let mut imported = Imported::default();
        let named = |error: ExportError| match &place {
            Some(place) => place.named(error),
            None => error,
        };
        let reader = match ExportReader::begin(from, &server::keyring(store)) {
            Ok(reader) => reader,
            Err(error) => return screen.fail(&named(error)),
        };
        if let Some(base) = reader.follows() {
            return screen.fail(&format!(
                "{}: is an increment to the export {base}; `postern restore` takes both",
                self.file
            ));
        }
        let runtime = runtime()?;
        let ledger = match open(store, &runtime) {
            Ok(ledger) => ledger,
            Err(error) => return screen.fail(&error),
        };
        let mut progress = Progress::new(screen.err, screen.err_is);
        let all = |_: &Item| true;
        let job = ImportJob { reader, size, wanted: &all };
        let taken = runtime.block_on(job.run(&ledger, &mut imported, &mut progress));
        progress.end();
        match taken {
            Ok(()) if self.config.json => {
                let differing: Vec<_> = imported.differing.iter().map(as_json).collect();
                let Imported { taken, known, .. } = imported;
                let line = json!({ "taken": taken, "known": known, "differing": differing });
                writeln!(screen.out, "{line}")?;
                Ok(Exit::Done)
            }
            Ok(()) => {
                writeln!(screen.out, "{}", Counts(&imported))?;
                warn_of_differing(&imported, screen)?;
                Ok(Exit::Done)
            }
            Err(error) => {
                if imported.taken + imported.known > 0 {
                    writeln!(screen.err, "{}, and then:", Counts(&imported))?;
                }
                screen.fail(&named(error))
            }
        }
    }

    /// Where the export is; `None`: on standard input. The error is a sentence.
    fn place(&self) -> Result<Option<Place>, String> {
        if self.file == "-" {
            return Ok(None);
        }
        let place = Place::from_str(&self.file);
        let place = place.map_err(|error| format!("{}: {error}", self.file))?;
        place.check()?;
        Ok(Some(place))
    }
}

/// The counts of an import, as a sentence without its end.
struct Counts<'i>(&'i Imported);

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Imported { taken, known, differing } = self.0;
        write!(f, "{taken} imported, {known} known already")?;
        match differing.iter().filter(|one| one.stored == StoredForm::Younger).count() {
            0 => Ok(()),
            later => write!(f, " (documents that were changed here later: {later})"),
        }
    }
}

/// Names of documents in a warning: enough to see whose they are.
const NAMED_MAX: usize = 5;

/// Warns of documents that were not imported because the store has others under their names.
pub(super) fn warn_of_differing(imported: &Imported, screen: &mut Screen<'_>) -> io::Result<()> {
    match warning(&imported.differing) {
        Some(warning) => writeln!(screen.err, "{warning}"),
        None => Ok(()),
    }
}

/// The warning about stored documents that are no later forms of those that were not imported:
/// two stores are mixed. `None`: there are none.
fn warning(differing: &[DifferingDocument]) -> Option<String> {
    let is_other = |one: &&DifferingDocument| one.stored != StoredForm::Younger;
    let mut names = differing.iter().filter(is_other).map(|one| format!("{} {}", one.kind, one.id));
    let shown: Vec<String> = names.by_ref().take(NAMED_MAX).collect();
    if shown.is_empty() {
        return None;
    }
    let more = match names.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "warning: not imported: {}{more}; the store has others under these names, so the export is \
         probably of another store: compare them, and make those that are missing again under new names",
        shown.join(", ")
    ))
}

/// A document that was not imported, for programs.
pub(super) fn as_json(one: &DifferingDocument) -> Value {
    json!({ "kind": one.kind, "id": one.id, "stored": one.stored.as_str() })
}

/// The import of one export.
pub(super) struct ImportJob<'j> {
    pub reader: ExportReader<Counted>,
    /// Bytes of the export; 0 if they are unknown.
    pub size: u64,
    /// Whether to import an item.
    pub wanted: &'j dyn Fn(&Item) -> bool,
}

impl ImportJob<'_> {
    /// Imports the items that are wanted, and adds them to `imported`.
    pub(super) async fn run(
        self,
        ledger: &Engine,
        imported: &mut Imported,
        progress: &mut Progress<'_>,
    ) -> Result<(), ExportError> {
        let Self { mut reader, size, wanted } = self;
        let mut rest = Vec::new();
        loop {
            let chunk = reader.chunk()?;
            let is_last = chunk.is_none();
            let mut items = rest;
            items.extend(chunk.into_iter().flatten().filter(|item| wanted(item)));
            rest = if is_last { Vec::new() } else { last_change(&mut items) };
            if !items.is_empty() {
                let some = ledger.import(items).await?;
                imported.add(some);
                // Every change writes it, so it says nothing about a store.
                imported.differing.retain(|one| one.kind != HEAD.as_str());
                progress.tell(&|| {
                    let count = imported.taken + imported.known;
                    match (reader.source().count() * 100).checked_div(size) {
                        Some(percent) => format!("{count} items, {percent} %"),
                        None => format!("{count} items"),
                    }
                });
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Removes the documents of the last change from the end of a chunk, and returns them. The next chunk
/// may have more of them, and documents that were changed together are imported together.
fn last_change(items: &mut Vec<Item>) -> Vec<Item> {
    let Some(revision) = items.last().and_then(Item::revision) else { return Vec::new() };
    let before = items.iter().rposition(|item| item.revision() != Some(revision));
    items.split_off(before.map_or(0, |at| at + 1))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ledger::{Document, Revision};

    fn document(id: &str, version: u64) -> Item {
        let (id, version) = (id.to_owned(), Revision(version));
        let document = Document { id, version, at_ms: 0, who: String::new(), body: Bytes::new() };
        Item::Document { kind: "rule".into(), document }
    }

    #[test]
    fn a_warning_names_documents_of_another_store_and_no_later_forms() {
        let one = |id: u64, stored| {
            let (kind, id) = ("reward_rule".to_owned(), id.to_string());
            DifferingDocument { kind, id, stored }
        };
        assert_eq!(warning(&[one(1, StoredForm::Younger)]), None);
        let both = [one(1, StoredForm::Younger), one(2, StoredForm::SameVersion)];
        let text = warning(&both).unwrap();
        assert!(text.starts_with("warning: not imported: reward_rule 2; the store has"), "{text}");
        let many: Vec<_> = (1..8).map(|id| one(id, StoredForm::Older)).collect();
        let text = warning(&many).unwrap();
        assert!(text.contains("reward_rule 5 and 2 more;") && !text.contains("rule 6"), "{text}");
        let imported = Imported { taken: 1, known: 2, differing: both.to_vec() };
        let line = "1 imported, 2 known already (documents that were changed here later: 1)";
        assert_eq!(Counts(&imported).to_string(), line);
    }

    #[test]
    fn documents_of_a_change_wait_for_those_of_the_next_chunk() {
        let all = [document("a", 1), document("b", 2), document("c", 2)];
        let split = |items: &[Item]| {
            let mut items = items.to_vec();
            let rest = last_change(&mut items);
            (items.len(), rest.len())
        };
        assert_eq!(split(&all), (1, 2));
        assert_eq!(split(&all[1..]), (0, 2));
        let nonce = crate::ledger::Nonce { key: crate::ledger::conformance::key(1), expires_ms: 9 };
        let last = [&all[..], &[Item::Nonce(nonce)]].concat();
        assert_eq!(split(&last), (4, 0));
        assert_eq!(split(&[]), (0, 0));
    }
}
