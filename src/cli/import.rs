//! `postern import`: takes what `postern export` wrote.

use std::fmt;
use std::io;
use std::str::FromStr as _;

use clap::Args;
use serde_json::{Value, json};

use super::client::runtime;
use super::place::{Counted, Place, named};
use super::store::{Progress, open};
use super::{ConfigFile, Exit, Screen};
use crate::ledger::{
    DifferingDocument, Engine, ExportError, ExportReader, Imported, Item, Ledger as _, StoredForm,
};
use crate::operator::ErasedUsers;
use crate::registry::{AUDIT, HEAD};
use crate::server;

/// Import an export into a store
#[derive(Args, Debug)]
#[command(
    long_about = "Import an export of `postern export` into an empty or a used store.\n\n\
        Known events stay unchanged, so an import may be repeated, and continues after an \
        interruption. Of several exports, import the newest first. A document is imported if it is \
        newer than the stored one. Data of users who were erased since, as the audit logs of the \
        store and of the export say, is left out. Stop the gateway of an embedded store first; \
        gateways on PostgreSQL keep running. A sealed export needs its key in POSTERN_MASTER_KEY or \
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
        let name = if place.is_some() { self.file.as_str() } else { "standard input" };
        let input = || Ok((Counted::new(Box::new(io::stdin())), 0));
        let (from, size) = match place.as_ref().map_or_else(input, Place::read) {
            Ok(read) => read,
            Err(error) => return screen.fail(&named(&name, error.into())),
        };
        let reader = match ExportReader::begin(from, &server::keyring(store)) {
            Ok(reader) => reader,
            Err(error) => return screen.fail(&named(&name, error)),
        };
        if let Some(base) = reader.follows() {
            return screen.fail(&format!(
                "{name}: is an increment to the export {base}; `postern restore` takes both"
            ));
        }
        let runtime = runtime()?;
        let ledger = match open(store, &runtime) {
            Ok(ledger) => ledger,
            Err(error) => return screen.fail(&error),
        };
        let mut progress = Progress::new(screen.err, screen.err_is);
        let mut outcome = Outcome::default();
        let all = |_: &Item| true;
        let job = ImportJob { reader, size, wanted: &all };
        let ended = runtime.block_on(async {
            outcome.note_erasures(&ledger).await?;
            job.run(&ledger, &mut outcome, &mut progress).await
        });
        progress.end();
        match ended {
            Ok(()) if self.config.json => {
                writeln!(screen.out, "{}", outcome.as_json())?;
                Ok(Exit::Done)
            }
            Ok(()) => {
                writeln!(screen.out, "{outcome}")?;
                outcome.tell_rest(screen)?;
                Ok(Exit::Done)
            }
            Err(error) => {
                if outcome.imported.taken + outcome.imported.known > 0 {
                    writeln!(screen.err, "{outcome}, and then:")?;
                }
                screen.fail(&named(&name, error))
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

/// Names of documents in a warning: enough to see whose they are.
const NAMED_MAX: usize = 5;

/// The results of an import of one export, or of several.
#[derive(Default)]
pub(super) struct Outcome {
    pub imported: Imported,
    /// Events and kept callbacks that were erased after they were exported.
    erased: u64,
    users: ErasedUsers,
}

impl Outcome {
    /// Notes the users whose data was erased in the store itself.
    pub(super) async fn note_erasures(&mut self, ledger: &Engine) -> Result<(), ExportError> {
        for document in ledger.documents(AUDIT).await?.documents {
            self.users.note(AUDIT.as_str(), &document);
        }
        Ok(())
    }

    /// An item as it is imported from an export that has the erasures `known`.
    fn admit(&mut self, item: Item, known: &ErasedUsers) -> Option<Item> {
        if !self.users.covers(&item, known) {
            return Some(item);
        }
        self.erased += 1;
        ErasedUsers::remains_of(&item)
    }

    /// Documents that were not imported because the store has others under their names, which are no
    /// later forms of them. Entries of an audit log never change and no version repeats, so where one
    /// of these differs the export is of another store, and nothing here is a later form.
    fn conflicts(&self) -> Vec<&DifferingDocument> {
        let all = &self.imported.differing;
        let is_foreign =
            all.iter().any(|one| is_entry(one) || one.stored == StoredForm::SameVersion);
        let is_other = |one: &&DifferingDocument| is_foreign || one.stored == StoredForm::Older;
        let mut conflicts: Vec<_> = all.iter().filter(is_other).collect();
        conflicts.sort_by_key(|one| is_entry(one));
        conflicts
    }

    /// For programs: all documents that differ.
    pub(super) fn as_json(&self) -> Value {
        let Imported { taken, known, differing } = &self.imported;
        let shown = |one: &DifferingDocument| {
            let stored = one.stored.as_str();
            json!({ "kind": one.kind, "id": one.id, "stored": stored })
        };
        let differing: Vec<_> = differing.iter().map(shown).collect();
        json!({ "taken": taken, "known": known, "erased": self.erased, "differing": differing })
    }

    /// The warning about stored documents that are no later forms of those that were not imported:
    /// two stores are mixed. `None`: there are none.
    fn warning(&self) -> Option<String> {
        let conflicts = self.conflicts();
        let names = conflicts.iter().take(NAMED_MAX).map(|one| format!("{} {}", one.kind, one.id));
        let names: Vec<_> = names.collect();
        if names.is_empty() {
            return None;
        }
        let more = match conflicts.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "warning: not imported: {}{more}; the store has others under these names, so the export \
             is probably of another store: compare them, and create those that are missing again \
             under new names",
            names.join(", ")
        ))
    }

    /// Says what was left out, and warns of conflicts.
    pub(super) fn tell_rest(&self, screen: &mut Screen<'_>) -> io::Result<()> {
        if self.erased > 0 {
            let erased = self.erased;
            writeln!(screen.out, "{erased} left out: events and kept callbacks of erased users")?;
        }
        match self.warning() {
            Some(warning) => writeln!(screen.err, "{warning}"),
            None => Ok(()),
        }
    }
}

/// The counts of an import, as a sentence without its end.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Imported { taken, known, differing } = &self.imported;
        write!(f, "{taken} imported, {known} known already")?;
        match differing.len() - self.conflicts().len() {
            0 => Ok(()),
            later => write!(f, " (documents that were changed here later: {later})"),
        }
    }
}

/// Whether it is an entry of an audit log.
fn is_entry(document: &DifferingDocument) -> bool {
    document.kind == AUDIT.as_str()
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
    /// Imports the items that are wanted and were not erased since, and adds them to `outcome`.
    pub(super) async fn run(
        self,
        ledger: &Engine,
        outcome: &mut Outcome,
        progress: &mut Progress<'_>,
    ) -> Result<(), ExportError> {
        let Self { mut reader, size, wanted } = self;
        let (mut rest, mut known) = (Vec::new(), ErasedUsers::default());
        loop {
            let chunk = reader.chunk()?;
            let is_last = chunk.is_none();
            let mut items = rest;
            let chunk = chunk.unwrap_or_default();
            // Documents come first in an export.
            known.note_all(&chunk);
            let chunk = chunk.into_iter().filter(|item| wanted(item));
            items.extend(chunk.filter_map(|item| outcome.admit(item, &known)));
            rest = if is_last { Vec::new() } else { last_change(&mut items) };
            if !items.is_empty() {
                let some = ledger.import(items).await?;
                outcome.imported.add(some);
                // Every change writes it, so it says nothing about a store.
                outcome.imported.differing.retain(|one| one.kind != HEAD.as_str());
                progress.tell(&|| {
                    let count = outcome.imported.taken + outcome.imported.known;
                    match (reader.source().count() * 100).checked_div(size) {
                        Some(percent) => format!("{count} items, {percent} %"),
                        None => format!("{count} items"),
                    }
                });
            }
            if is_last {
                outcome.users.add(known);
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
        let of = |kind: &str, id: u64, stored| DifferingDocument {
            kind: kind.to_owned(),
            id: id.to_string(),
            stored,
        };
        let one = |id, stored| of("reward_rule", id, stored);
        let after = |differing: &[DifferingDocument]| {
            let imported = Imported { taken: 1, known: 2, differing: differing.to_vec() };
            let outcome = Outcome { imported, ..Outcome::default() };
            (outcome.warning().unwrap_or_default(), outcome.to_string())
        };
        let later = after(&[one(1, StoredForm::Younger)]);
        let line = "1 imported, 2 known already (documents that were changed here later: 1)";
        assert_eq!(later, (String::new(), line.to_owned()));
        let (text, line) = after(&[one(1, StoredForm::Younger), one(2, StoredForm::Older)]);
        assert!(text.starts_with("warning: not imported: reward_rule 2; the store has"), "{text}");
        assert!(line.contains("later: 1"), "{line}");
        // The rule has the number of another store's.
        let (text, _) = after(&[of("audit", 1, StoredForm::Younger), one(1, StoredForm::Younger)]);
        assert!(text.contains(": reward_rule 1, audit 1;"), "{text}");
        let many: Vec<_> = (1..8).map(|id| one(id, StoredForm::SameVersion)).collect();
        let (text, _) = after(&many);
        assert!(text.contains("reward_rule 5 and 2 more;") && !text.contains("rule 6"), "{text}");
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
