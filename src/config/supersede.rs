//! Precedence between sources: a sender's file may say that it reports the same things as another
//! sender (`precedes` of `[routing]`), as IMUR does over IDIP and over HTTP.
//!
//! A source of the first sender names the things (`sids`) or the sources of the other sender
//! (`supersedes`) that it takes precedence over. Superseded callbacks get the reply of a success
//! and are not delivered.

use std::collections::BTreeSet;

use super::file::Section;
use super::source::Draft;
use super::{Source, Superseded, unit};
use crate::sender::{Catalog, Precedence};

/// Rejects `sids` and `supersedes` of senders that precede none, and names that are not sources of
/// the sender that is preceded.
pub(super) fn check(sections: &[Section<'_>], catalog: &Catalog) {
    for section in sections {
        let sender = section.peek("sender").and_then(|name| catalog.get(name));
        if let Some(precedes) = sender.and_then(|sender| sender.routing().precedes.as_ref()) {
            check_names(section, sections, precedes);
            continue;
        }
        for key in ["sids", "supersedes"].iter().filter(|key| section.has(key)) {
            let preceding = catalog.iter().filter(|sender| sender.routing().precedes.is_some());
            let names: Vec<&str> = preceding.map(|sender| sender.name()).collect();
            let what = format!("belongs to sources of the sender {}", names.join(" or "));
            section.fault(key, what, "omit it here");
        }
    }
}

fn check_names(section: &Section<'_>, all: &[Section<'_>], precedes: &Precedence) {
    let Some(item) = section.item("supersedes") else { return };
    for element in item.elements() {
        let Ok(name) = unit::name(&element) else { continue };
        let remedy = format!("name a source of the sender {}", precedes.sender);
        let other = all.iter().find(|other| other.peek("name") == Some(name.as_str()));
        match other.map(|other| other.peek("sender").unwrap_or_default()) {
            None => element.fault(format!("there is no source {name:?}"), remedy),
            Some(sender) if sender == precedes.sender => {}
            Some(sender) => element.fault(format!("{name} is a source of {sender:?}"), remedy),
        }
    }
}

/// Sets in every source which of its callbacks are superseded. A disabled source takes precedence
/// over none, so no event is lost between the two.
pub(super) fn settle(drafts: &mut [Draft]) {
    let preceding: Vec<(&Draft, &Precedence)> = drafts
        .iter()
        .filter(|draft| draft.source.enabled)
        .filter_map(|draft| Some((draft, precedence(draft)?)))
        .collect();
    let all: Vec<Superseded> =
        drafts.iter().map(|draft| superseded(&draft.source, &preceding)).collect();
    for (draft, superseded) in drafts.iter_mut().zip(all) {
        draft.source.superseded = superseded;
    }
}

fn precedence(draft: &Draft) -> Option<&Precedence> {
    draft.source.recipe.sender().routing().precedes.as_ref()
}

fn superseded(source: &Source, preceding: &[(&Draft, &Precedence)]) -> Superseded {
    let sender = source.recipe.sender().name();
    let (mut parameter, mut values) = (None, BTreeSet::new());
    for (other, precedes) in preceding.iter().filter(|(_, precedes)| precedes.sender == sender) {
        if other.supersedes.contains(&source.name) {
            return Superseded::Always;
        }
        values.extend(other.sids.iter().cloned());
        parameter = Some(precedes.parameter.clone());
    }
    match parameter.filter(|_| !values.is_empty()) {
        Some(parameter) => Superseded::Named { parameter, values: values.into_iter().collect() },
        None => Superseded::Never,
    }
}
