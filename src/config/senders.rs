//! The catalog of one configuration: the embedded senders and the user's own.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::file::{Item, Read, Section, ValueError, line_of};
use super::secret::unreadable;
use super::{ConfigIssue, unit};
use crate::sender::{Catalog, DefinitionError, Sender, prove, try_out};

/// The `sender` of a source whose sender is the file that `recipe` names.
pub(super) const CUSTOM: &str = "custom";

/// The embedded senders, those that `senders = ["my-sender.toml"]` adds, and those that a source of
/// `sender = "custom"` brings in `recipe`.
pub(super) fn check(top: &Section<'_>) -> Option<Catalog> {
    let embedded = Catalog::embedded().map_err(|faults| {
        for (file, fault) in faults {
            top.pass.fault(ConfigIssue { file: file.into(), ..of_sender(fault) });
        }
    });
    let mut catalog = embedded.ok()?;
    let mut added = BTreeSet::new();
    for item in top.item("senders").map(Item::elements).unwrap_or_default() {
        item.note(add(&item, &mut catalog, &mut added));
    }
    for item in top.item("source").map(Item::elements).unwrap_or_default() {
        // The check of the sources reports each source that is not a table.
        let Ok(source) = item.section("") else { continue };
        let recipe = source.item("recipe").filter(|_| source.peek("sender") == Some(CUSTOM));
        if let Some(recipe) = recipe {
            recipe.note(add(&recipe, &mut catalog, &mut added));
        }
    }
    Some(catalog)
}

/// The name of the sender in the file at `path`.
pub(super) fn name_of(path: &str) -> Option<&str> {
    let name = path.rsplit(['/', '\\']).next()?.strip_suffix(".toml")?;
    Some(name).filter(|name| unit::is_name(name))
}

fn add(item: &Item<'_>, catalog: &mut Catalog, added: &mut BTreeSet<PathBuf>) -> Read<()> {
    const WANTED: &str = "the path of a sender file such as \"my-sender.toml\"";
    let written = item.text(WANTED)?;
    let name = name_of(written).ok_or_else(|| {
        ValueError::new("has no name that a sender could have", format!("write {WANTED}"))
    })?;
    let path = item.pass.beside(written);
    if !added.insert(path.clone()) {
        return Ok(());
    }
    let contents = item.pass.contents(&path).map_err(|error| unreadable(&path, &error))?;
    let text = String::from_utf8(contents.bytes).map_err(|_| {
        ValueError::new(format!("{} is not UTF-8", path.display()), "save it as UTF-8")
    })?;
    if catalog.get(name).is_some() {
        item.warning(format!("takes the place of the sender {name}"), "rename it to keep both");
    }
    let added = catalog.add(name, &text);
    let proven = || catalog.get(name).map(proven).unwrap_or_default();
    for fault in added.map_or_else(|faults| faults, |()| proven()) {
        let (file, line) = (path.clone(), line_of(&text, &fault.key));
        item.pass.fault(ConfigIssue { file, line, ..of_sender(fault) });
    }
    let unpasted = catalog.get(name).map(|sender| sender.unpasted()).unwrap_or_default();
    if !unpasted.is_empty() {
        let what = format!("lacks {}, without which a callback is rejected", unpasted.join(", "));
        let remedy = "write name=MACRO for each, or name it in `appends` if the sender adds it \
                      to the URL by itself";
        let (file, line) = (path, line_of(&text, "paste"));
        let issue = of_sender(DefinitionError::new("paste", what, remedy));
        item.pass.warning(ConfigIssue { file, line, ..issue });
    }
    Ok(())
}

/// The errors that the file's own vectors show, or else those of a few rounds over it.
fn proven(sender: &Arc<Sender>) -> Vec<DefinitionError> {
    let faults = prove(sender);
    if faults.is_empty() { try_out(sender) } else { faults }
}

fn of_sender(fault: DefinitionError) -> ConfigIssue {
    let DefinitionError { key, column, what, remedy } = fault;
    ConfigIssue { key, column, what, remedy, ..ConfigIssue::default() }
}
