//! `postern restore`: a store from an export and its increments, or a drill of that.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;

use clap::Args;
use serde_json::{Value, json};

use super::client::runtime;
use super::import::{ImportJob, Outcome};
use super::place::{Counted, Place};
use super::store::{Progress, open};
use super::{ConfigFile, Exit, Screen};
use crate::clock::{UnixMillis, rfc3339};
use crate::ledger::{
    DedupeKey, DeliveryState, ExportError, ExportId, ExportReader, HeldWhy, Imported, Item,
    Keyring, KnownItems,
};
use crate::operator::ErasedUsers;
use crate::server;

/// Restore a store from an export and the increments that follow it
#[derive(Args, Debug)]
#[command(
    long_about = "Restore a store from an export and the increments that follow it.\n\n\
        Every file is read first: its checksums, its seal, its end, and whether each increment \
        follows the one before. Nothing is written before all of that holds. With --check that is \
        all: a drill, which says what a restore would bring. Otherwise the items are imported, the \
        newest form of each, as `postern import` does it. Events whose delivery was made after the \
        last export are delivered again, under the same event id.",
    after_help = "Examples:\n  \
        postern restore --config postern.toml --check week.export monday.export tuesday.export\n  \
        postern restore --config postern.toml week.export monday.export tuesday.export"
)]
pub(super) struct Restore {
    #[command(flatten)]
    config: ConfigFile,
    /// Read and verify everything, and write nothing
    #[arg(long)]
    check: bool,
    /// Whole export, then its increments in order: files, or s3://BUCKET/KEY
    #[arg(required = true, value_name = "EXPORT")]
    exports: Vec<Place>,
}

/// Counts of items.
#[derive(Debug, Default)]
struct Contents {
    items: u64,
    documents: u64,
    events: u64,
    pending: u64,
    dead: u64,
    /// Keys whose event is gone, or that duplicates brought.
    keys: u64,
    held: u64,
    /// Samples of rejected callbacks.
    rejected: u64,
    newest_ms: Option<UnixMillis>,
}

impl Contents {
    fn count(&mut self, item: &Item) {
        self.items += 1;
        match item {
            Item::Document { .. } => self.documents += 1,
            Item::Past(past) => self.keys += past.keys.len() as u64,
            Item::Held(held) if held.why == HeldWhy::Rejected => self.rejected += 1,
            Item::Held(_) => self.held += 1,
            Item::Nonce(_) | Item::Mark(_) => {}
            Item::Event { event, deliveries } => {
                self.events += 1;
                self.newest_ms = self.newest_ms.max(Some(event.received_ms));
                let of = |state| deliveries.iter().filter(|one| one.state == state).count() as u64;
                self.pending += of(DeliveryState::Pending);
                self.dead += of(DeliveryState::Dead);
            }
        }
    }
}

/// The age of an export among those that are restored together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    Newest,
    Older,
}

impl Age {
    /// Whether an item of such an export is restored: documents are those of the newest one alone.
    fn has(self, item: &Item) -> bool {
        self == Self::Newest || !matches!(item, Item::Document { .. })
    }
}

/// The content of newer exports, as an import knows it.
#[derive(Default)]
struct Newer {
    items: KnownItems,
    /// Keys of events, also of those that are gone.
    keys: HashSet<DedupeKey>,
    /// Variants of kept callbacks, also of decided ones.
    variants: HashSet<DedupeKey>,
    erased: ErasedUsers,
}

impl Newer {
    fn note(&mut self, items: &[Item]) {
        self.items.note(items);
        for item in items {
            match item {
                Item::Event { event, .. } => self.keys.extend(event.keys.written()),
                Item::Past(past) => self.keys.extend(past.keys.iter().copied()),
                Item::Held(held) => self.variants.extend([held.variant]),
                Item::Mark(mark) => self.variants.extend([mark.variant]),
                Item::Document { .. } | Item::Nonce(_) => {}
            }
        }
    }

    /// Whether an older item is not restored, because a newer export has it.
    fn replaces(&self, item: &Item) -> bool {
        let is_known = match item {
            Item::Event { event, .. } => event.keys.written().any(|key| self.keys.contains(&key)),
            Item::Past(past) => past.keys.iter().any(|key| self.keys.contains(key)),
            Item::Held(held) => self.variants.contains(&held.variant),
            Item::Document { .. } | Item::Nonce(_) | Item::Mark(_) => false,
        };
        is_known || self.items.has(item)
    }
}

impl Contents {
    /// Counts what is restored beside newer exports, of one that has the erasures `known`.
    fn count_new(&mut self, items: &[Item], age: Age, newer: &Newer, known: &ErasedUsers) {
        let counts = |item: &&Item| match item {
            Item::Document { .. } => age.has(item),
            item => !newer.replaces(item),
        };
        for item in items.iter().filter(counts) {
            match newer.erased.covers(item, known) {
                true => ErasedUsers::remains_of(item).iter().for_each(|left| self.count(left)),
                false => self.count(item),
            }
        }
    }
}

impl Contents {
    fn as_json(&self) -> Value {
        let Self { items, documents, events, pending, dead, keys, held, rejected, newest_ms } =
            self;
        json!({
            "items": items, "documents": documents, "events": events, "pending": pending,
            "dead": dead, "keys": keys, "held": held, "rejected": rejected,
            "newest_event_at": newest_ms.map(rfc3339),
        })
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { items, documents, events, pending, dead, keys, held, rejected, newest_ms } =
            self;
        write!(
            f,
            "{items} items: {documents} documents, {events} events ({pending} deliveries pending, \
             {dead} dead), {keys} keys without an event, {held} held callbacks, {rejected} samples \
             of rejected ones"
        )?;
        match newest_ms {
            Some(ms) => write!(f, "; the newest event is of {}", rfc3339(*ms)),
            None => Ok(()),
        }
    }
}

impl Restore {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        if let Err(sentence) = self.exports.iter().try_for_each(Place::check) {
            writeln!(screen.err, "{sentence}")?;
            return Ok(Exit::Usage);
        }
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let keys = server::keyring(&loaded.config.store);
        let mut progress = Progress::new(screen.err, screen.err_is);
        let drill = self.drill(&keys, &mut progress);
        progress.end();
        let drill = match drill {
            Ok(drill) => drill,
            Err(error) => return screen.fail(&error),
        };
        if self.check && self.config.json {
            writeln!(screen.out, "{}", drill.as_json())?;
            return Ok(Exit::Done);
        }
        if !self.config.json {
            self.tell(&drill, screen)?;
        }
        if self.check {
            return Ok(Exit::Done);
        }
        let runtime = runtime()?;
        let ledger = match open(&loaded.config.store, &runtime) {
            Ok(ledger) => ledger,
            Err(error) => return screen.fail(&error),
        };
        let mut outcome = Outcome::default();
        let mut progress = Progress::new(screen.err, screen.err_is);
        let mut restore = || -> Result<(), ExportError> {
            runtime.block_on(outcome.note_erasures(&ledger))?;
            for (at, place) in self.exports.iter().enumerate().rev() {
                let named = |error: ExportError| place.named(error);
                let (from, size) = place.read().map_err(|error| named(error.into()))?;
                let reader = ExportReader::begin(from, &keys).map_err(named)?;
                let age = self.age(at);
                let wanted = |item: &Item| age.has(item);
                let job = ImportJob { reader, size, wanted: &wanted };
                runtime.block_on(job.run(&ledger, &mut outcome, &mut progress)).map_err(named)?;
            }
            Ok(())
        };
        let restored = restore();
        progress.end();
        match restored {
            Ok(()) if self.config.json => {
                let (mut line, rest) = (drill.as_json(), outcome.as_json());
                if let (Some(line), Value::Object(rest)) = (line.as_object_mut(), rest) {
                    line.extend(rest);
                }
                writeln!(screen.out, "{line}")?;
                Ok(Exit::Done)
            }
            Ok(()) => {
                let Imported { taken, known, .. } = outcome.imported;
                writeln!(screen.out, "{taken} restored, {known} known already or replaced since")?;
                outcome.tell_rest(screen)?;
                Ok(Exit::Done)
            }
            Err(error) => screen.fail(&error),
        }
    }

    fn age(&self, at: usize) -> Age {
        if at + 1 == self.exports.len() { Age::Newest } else { Age::Older }
    }

    /// Says what the exports hold.
    fn tell(&self, drill: &Drill<'_>, screen: &mut Screen<'_>) -> io::Result<()> {
        for (place, contents) in drill.files.values() {
            writeln!(screen.out, "{place}: whole, {contents}")?;
        }
        if self.exports.len() > 1 {
            writeln!(screen.out, "together: {}", drill.together)?;
        }
        Ok(())
    }

    /// Reads everything, from the newest export to the oldest.
    fn drill(&self, keys: &Keyring, progress: &mut Progress<'_>) -> Result<Drill<'_>, ExportError> {
        let mut drill = Drill::default();
        let mut newer = Newer::default();
        let mut expected: Option<ExportId> = None;
        for (at, place) in self.exports.iter().enumerate().rev() {
            let named = |error: ExportError| place.named(error);
            let (from, _) = place.read().map_err(|error| named(error.into()))?;
            let mut reader = ExportReader::begin(from, keys).map_err(named)?;
            self.check_place(at, &reader, expected)?;
            expected = reader.follows();
            let mut known = ErasedUsers::default();
            let contents = drill.files.entry(at).or_insert_with(|| (place, Contents::default()));
            while let Some(items) = reader.chunk().map_err(named)? {
                items.iter().for_each(|item| contents.1.count(item));
                known.note_all(&items);
                drill.together.count_new(&items, self.age(at), &newer, &known);
                if self.exports.len() > 1 {
                    newer.note(&items);
                }
                progress.tell(&|| format!("{place}: {} items", reader.items()));
            }
            newer.erased.add(known);
        }
        Ok(drill)
    }

    /// Whether an export is in its place: the first is whole, each other one follows the one before.
    fn check_place(
        &self,
        at: usize,
        reader: &ExportReader<Counted>,
        expected: Option<ExportId>,
    ) -> Result<(), ExportError> {
        let place = &self.exports[at];
        let wrong = |what: String| Err(ExportError::Damaged(format!("{place}: {what}")));
        if at + 1 < self.exports.len() && expected != Some(reader.id()) {
            let next = &self.exports[at + 1];
            return wrong(format!("{next} does not follow this export; name them in their order"));
        }
        match (at, reader.follows()) {
            (0, Some(base)) => {
                wrong(format!("is an increment; name the export {base} that it follows before it"))
            }
            (1.., None) => wrong("is a whole export; name it first, and no other before".into()),
            _ => Ok(()),
        }
    }
}

/// The findings of a drill.
#[derive(Default)]
struct Drill<'r> {
    files: BTreeMap<usize, (&'r Place, Contents)>,
    together: Contents,
}

impl Drill<'_> {
    /// The findings, for programs.
    fn as_json(&self) -> Value {
        let export = |(place, contents): &(&Place, Contents)| {
            let mut line = contents.as_json();
            line["export"] = place.to_string().into();
            line
        };
        let exports: Vec<Value> = self.files.values().map(export).collect();
        let together = match exports.as_slice() {
            [one] => one.clone(),
            _ => self.together.as_json(),
        };
        json!({ "exports": exports, "together": together })
    }
}
