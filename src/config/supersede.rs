//! Which sources stand before which: a survey that calls over IDIP and over HTTP is one survey.
//!
//! An `imur-idip` source names the surveys (`sids`) or the `imur-http` sources (`supersedes`) that
//! it stands before. What those then hear by HTTP is answered as a success and not delivered.

use std::collections::BTreeSet;

use super::file::Section;
use super::source::Draft;
use super::{Superseded, unit};

const BEFORE: &str = "imur-idip";
const BEHIND: &str = "imur-http";

/// Refuses `sids` and `supersedes` where they mean nothing.
pub(super) fn check(sections: &[Section<'_>]) {
    for section in sections {
        if section.peek("sender") == Some(BEFORE) {
            refuse_dangling(section, sections);
            continue;
        }
        for key in ["sids", "supersedes"].iter().filter(|key| section.has(key)) {
            let what = format!("belongs to sources of the sender {BEFORE}");
            section.fault(key, what, "leave it out here");
        }
    }
}

fn refuse_dangling(section: &Section<'_>, all: &[Section<'_>]) {
    let Some(item) = section.item("supersedes") else { return };
    for element in item.elements() {
        let Ok(name) = unit::name(&element) else { continue };
        let remedy = format!("name a source of the sender {BEHIND}");
        let other = all.iter().find(|other| other.peek("name") == Some(name.as_str()));
        match other.map(|other| other.peek("sender").unwrap_or_default()) {
            None => element.fault(format!("there is no source {name:?}"), remedy),
            Some(BEHIND) => {}
            Some(sender) => element.fault(format!("{name} is a source of {sender:?}"), remedy),
        }
    }
}

/// Tells every `imur-http` source what is superseded. A source that is switched off stands before
/// nobody, so that no event is lost between the two.
pub(super) fn settle(drafts: &mut [Draft]) {
    let before = || drafts.iter().filter(|draft| draft.source.enabled);
    let sids: BTreeSet<String> = before().flat_map(|draft| draft.sids.clone()).collect();
    let always: BTreeSet<String> = before().flat_map(|draft| draft.supersedes.clone()).collect();
    let sids: Vec<String> = sids.into_iter().collect();
    for source in drafts.iter_mut().map(|draft| &mut draft.source) {
        if source.recipe.sender().name() != BEHIND {
            continue;
        }
        source.superseded = match (always.contains(&source.name), sids.is_empty()) {
            (true, _) => Superseded::Always,
            (false, false) => Superseded::Surveys(sids.clone()),
            (false, true) => Superseded::Never,
        };
    }
}
