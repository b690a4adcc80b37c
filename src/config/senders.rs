//! The catalog of one configuration: the embedded senders and the user's own.

use super::file::{Item, Problem, Read, Section, line_of};
use super::secret::unreadable;
use super::{Finding, unit};
use crate::sender::{Catalog, Fault, prove};

/// The embedded senders and those that `senders = ["my-sender.toml"]` adds.
pub(super) fn check(top: &Section<'_>) -> Option<Catalog> {
    let embedded = Catalog::embedded().map_err(|faults| {
        for (file, fault) in faults {
            top.pass.fault(Finding { file: file.into(), ..of_sender(fault) });
        }
    });
    let mut catalog = embedded.ok()?;
    for item in top.item("senders").map(Item::elements).unwrap_or_default() {
        item.note(add(&item, &mut catalog));
    }
    Some(catalog)
}

fn add(item: &Item<'_>, catalog: &mut Catalog) -> Read<()> {
    const WANTED: &str = "the path of a sender file such as \"my-sender.toml\"";
    let path = item.pass.beside(item.text(WANTED)?);
    let stem = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".toml"));
    let stem = stem.filter(|stem| unit::is_name(stem));
    let name = stem.ok_or_else(|| {
        Problem::new("has no name that a sender could have", format!("write {WANTED}"))
    })?;
    let contents = item.pass.contents(&path).map_err(|error| unreadable(&path, &error))?;
    let text = String::from_utf8(contents.bytes).map_err(|_| {
        Problem::new(format!("{} is not UTF-8", path.display()), "save it as UTF-8")
    })?;
    if catalog.get(name).is_some() {
        item.warning(format!("takes the place of the sender {name}"), "rename it to keep both");
    }
    let added = catalog.add(name, &text);
    let proven = || catalog.get(name).map(prove).unwrap_or_default();
    for fault in added.map_or_else(|faults| faults, |()| proven()) {
        let (file, line) = (path.clone(), line_of(&text, &fault.key));
        item.pass.fault(Finding { file, line, ..of_sender(fault) });
    }
    Ok(())
}

fn of_sender(fault: Fault) -> Finding {
    let Fault { key, column, what, remedy } = fault;
    Finding { key, column, what, remedy, ..Finding::default() }
}
