//! Advice: nothing stops for it, and who checks a configuration wants to know it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::file::Section;
use super::{ConfigIssue, Destination, Format, Source, UrlFacts, Withheld};

/// Notes everything that the tables say about one another.
pub(super) fn give(
    top: &Section<'_>,
    sources: &BTreeMap<String, Arc<Source>>,
    destinations: &BTreeMap<String, Destination>,
) {
    secrets_in_clear(top);
    if !top.has("source") {
        let what = "is missing: nothing is received, unless a source was created over the API";
        top.advice("source", what, "write [[source]] with name and sender");
    }
    for section in named(top, "source") {
        let Some(source) = section.peek("name").and_then(|name| sources.get(name)) else {
            continue;
        };
        let to: Vec<&Destination> =
            source.destinations.iter().filter_map(|name| destinations.get(name)).collect();
        undelivered_template(&section, &to);
    }
    for section in named(top, "destination") {
        let to = section.peek("name").and_then(|name| destinations.get(name));
        if let Some(to) = to {
            withheld_events(&section, to, sources);
        }
        if let Some(to) = to.filter(|to| !is_authenticated(to)) {
            unsigned_url(&section, to, sources);
        }
    }
}

/// The tables of the list `key`. A single table was reported where it was read.
fn named<'a>(top: &Section<'a>, key: &str) -> Vec<Section<'a>> {
    let is_list = top.item(key).is_some_and(|item| item.value.is_array());
    if is_list { top.sections(key) } else { Vec::new() }
}

/// Says once which secrets the file itself holds.
fn secrets_in_clear(top: &Section<'_>) {
    let mut found = top.pass.in_clear().into_iter();
    let Some(first) = found.next() else { return };
    let others: Vec<String> = found.map(|one| one.key).collect();
    let what = match others.as_slice() {
        [] => String::from("is a secret in clear"),
        others => format!("is a secret in clear, and so are {}", others.join(", ")),
    };
    let remedy =
        String::from("write \"env:NAME\" or \"file:PATH\", and keep this file free of them");
    top.pass.advice(ConfigIssue { what, remedy, ..first });
}

/// A template whose pairs reach no backend.
fn undelivered_template(section: &Section<'_>, to: &[&Destination]) {
    if !section.has("template") || to.iter().any(|to| to.format != Format::Forward) {
        return;
    }
    let what = match to {
        [] => "is resolved and recorded, and delivered nowhere: the source has no destinations",
        _ => {
            "is resolved and recorded, and not delivered: format = \"forward\" passes on the \
              callback as it came"
        }
    };
    section.advice("template", what, "name a destination of format event or template, or omit it");
}

/// Whether a backend can tell deliveries of `to` from anybody's requests.
fn is_authenticated(to: &Destination) -> bool {
    !to.secrets.is_empty()
        || !to.signing_keys.is_empty()
        || !to.headers.is_empty()
        || to.identity.is_some()
}

/// Events that a URL does not get, because a backend would take them for grants.
fn withheld_events(
    section: &Section<'_>,
    to: &Destination,
    sources: &BTreeMap<String, Arc<Source>>,
) {
    let Some(facts) = UrlFacts::of(to) else { return };
    let uses = |source: &&Arc<Source>| {
        let routed = source.routes.iter().flat_map(|route| &route.to);
        source.destinations.iter().chain(routed).any(|name| *name == to.name)
    };
    for source in sources.values().filter(uses) {
        let words: Vec<&str> = facts.withheld_of(source).into_iter().map(word).collect();
        if words.is_empty() {
            continue;
        }
        let what = format!(
            "does not say what it is called for: {} of {} are not sent to it",
            words.join(", "),
            source.name
        );
        let remedy = "write {effect} into the URL, and let the backend obey it \
                      (docs/configuration.md#templates)";
        section.advice("url", what, remedy);
    }
}

const fn word(withheld: Withheld) -> &'static str {
    match withheld {
        Withheld::Test => "test events",
        Withheld::Revoke => "reversals",
        Withheld::NoEffect => "events without effect",
    }
}

/// Deliveries that carry their data in the URL, and nothing that a backend can verify.
fn unsigned_url(section: &Section<'_>, to: &Destination, sources: &BTreeMap<String, Arc<Source>>) {
    let remedy = "write secret = \"env:…\": then each request is signed, its URL included \
                  (docs/configuration.md#signatures)";
    let mut using = sources.values().filter(|source| source.destinations.contains(&to.name));
    let what = match to.format {
        Format::Event | Format::Macros | Format::Message(_) => return,
        Format::Template => {
            String::from("is missing: nothing signs the URL, and any client can call it")
        }
        Format::Forward => {
            let unverifiable =
                |source: &&Arc<Source>| source.recipe.signs_url() || !source.recipe.is_signed();
            let Some(source) = using.find(unverifiable) else { return };
            let why = match source.recipe.is_signed() {
                true => "its sender signs the URL that it calls, which is not this one",
                false => "nothing signs its callbacks",
            };
            format!("is missing: a backend cannot verify what {} sends, for {why}", source.name)
        }
    };
    section.advice("secret", what, remedy);
}
