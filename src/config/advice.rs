//! Advice: nothing stops for it, and who checks a configuration wants to know it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::file::{Item, Section, nearest};
use super::{ConfigIssue, Destination, Format, Source, SourcePattern, UrlFacts, Withheld};
use crate::partners::settings::Manage;
use crate::sender::{
    Bracket, EVENT_MEMBERS, EventCondition, Operand, Placeholder, Role, Secret, UrlTemplate,
    Written,
};

/// Notes everything that the tables say about one another.
pub(super) fn give(
    top: &Section<'_>,
    sources: &BTreeMap<String, Arc<Source>>,
    destinations: &BTreeMap<String, Destination>,
) {
    secrets_in_clear(top);
    if top.has("source") {
        patterns_without_sources(top, sources);
    } else {
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
        rewards_by_text(&section, source);
        misspelled_template(&section, source);
        misspelled_conditions(&section, source);
    }
    for section in named(top, "destination") {
        let to = section.peek("name").and_then(|name| destinations.get(name));
        if let Some(to) = to {
            withheld_events(&section, to, sources);
            shared_secret(&section, to, sources);
            if top.has("source") {
                unused_destination(&section, to, sources);
            }
        }
        if let Some(to) = to.filter(|to| to.format == Format::Template) {
            let using = sources.values().filter(|one| one.destinations.contains(&to.name));
            misspelled_url(&section, to, &using.collect::<Vec<_>>());
        }
        if let Some(to) = to.filter(|to| !is_authenticated(to)) {
            unsigned_url(&section, to, sources);
        }
    }
}

/// Sources that callback addresses follow and that lack the key of any manager: they deliver the
/// callbacks of every company. That is right for a source with a secret of its own, and wrong while
/// a manager's key is replaced.
pub(super) fn companies_of_any_manager(
    top: &Section<'_>,
    sources: &BTreeMap<String, Arc<Source>>,
    manage: &Manage,
) {
    let Some(api) = manage.callback_address.as_ref().filter(|api| !api.managers.is_empty()) else {
        return;
    };
    for section in named(top, "source") {
        let source = section.peek("name").and_then(|name| sources.get(name));
        let routed = |source: &&Arc<Source>| source.recipe.sender().routing().address.is_some();
        let limited =
            |source: &Source| api.managers.iter().any(|one| source.recipe.knows(&one.key));
        if source.filter(routed).is_some_and(|source| !limited(source)) {
            let what = "has no manager's key: callbacks of every company are delivered to the \
                        company's address";
            let remedy = "write the keys of the managers whose companies it is for, and replace a \
                          key here before the manager's \
                          (docs/management.md#callback-addresses)";
            section.advice("secrets", what, remedy);
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

/// The table at `item`. Anything else was reported where it was read.
fn table<'a>(item: &Item<'a>) -> Option<Section<'a>> {
    item.section("").ok()
}

/// Sources of tokens, and of the roles of accounts, that are none of the file.
fn patterns_without_sources(top: &Section<'_>, sources: &BTreeMap<String, Arc<Source>>) {
    let Some(admin) = top.item("admin").and_then(|item| table(&item)) else { return };
    let oidc = admin.item("oidc").and_then(|item| table(&item));
    let holders = [admin.item("token"), oidc.and_then(|oidc| oidc.item("roles"))];
    let holders = holders.into_iter().flatten().flat_map(Item::elements);
    let lists = holders.filter_map(|holder| table(&holder)?.item("sources"));
    for item in lists.flat_map(Item::elements) {
        let Ok(pattern) = SourcePattern::read(&item) else { continue };
        if !sources.keys().any(|name| pattern.fits(name)) {
            let what = "fits no source of this file: it lets nothing be seen, unless a source was \
                        created over the API";
            let remedy = "write the name of a source, or a beginning such as \"acme-*\"";
            item.advice(what, remedy);
        }
    }
}

/// Whether a source delivers to `to`: every event, or those of a route.
fn uses(source: &Source, to: &Destination) -> bool {
    let routed = source.routes.iter().flat_map(|route| &route.to);
    source.destinations.iter().chain(routed).any(|name| *name == to.name)
}

/// A destination that only an API could name.
fn unused_destination(
    section: &Section<'_>,
    to: &Destination,
    sources: &BTreeMap<String, Arc<Source>>,
) {
    if to.push.apps.is_empty() && !sources.values().any(|source| uses(source, to)) {
        let what = "is a destination of no source: nothing is delivered to it, unless a source \
                    was created over the API";
        let remedy = format!("write destinations = [{:?}] into a source, or omit it", to.name);
        section.advice("name", what, remedy);
    }
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

/// Pinned amounts that are not decimals.
fn rewards_by_text(section: &Section<'_>, source: &Source) {
    for item in source.recipe.rewards_by_text() {
        const REMEDY: &str =
            "write the number alone, such as 10, unless the sender sends this very text";
        let what = "is not a decimal: only a callback with the same text matches it";
        section.advice(&format!("rewards.{item}"), what, REMEDY);
    }
}

/// A name that a callback of `source` does not have, and one that it has and that was probably
/// meant. A callback may bring names that its sender's file does not read, so an unknown one alone
/// says nothing.
fn misspelled(source: &Source, name: &str, also: &[&str]) -> Option<String> {
    let read = source.recipe.parameter_names();
    let first = name.split('.').next().unwrap_or_default();
    let known: Vec<&str> = read.iter().map(String::as_str).chain(also.iter().copied()).collect();
    let is_known =
        known.iter().any(|known| *known == name || known.split('.').next() == Some(first));
    if is_known {
        return None;
    }
    // Short names are near to one another by chance.
    nearest(name, &known).filter(|_| name.len() >= NAME_LENGTH_MIN).map(str::to_owned)
}

/// Characters of a name from which on a near one was probably meant.
const NAME_LENGTH_MIN: usize = 4;

/// Advice about a placeholder that nothing fills.
fn advise_misspelled(section: &Section<'_>, key: &str, written: &str, near: &str) {
    let what = format!("`{written}` is nothing that the source's sender sends or events have");
    section.advice(key, what, format!("did you mean {near}?"));
}

/// Names in a source's template that its sender does not send.
fn misspelled_template(section: &Section<'_>, source: &Source) {
    let Some(text) = section.peek("template") else { return };
    // An error of the template was reported where the source was read.
    let Ok(template) = UrlTemplate::parse(&format!("http://template/?{text}")) else { return };
    for Written { key, bracket, .. } in template.placeholders() {
        if bracket == Bracket::Known {
            continue;
        }
        if let Some(near) = misspelled(source, key, &[]) {
            advise_misspelled(section, "template", &format!("{{{key}}}"), &format!("{{{near}}}"));
        } else if Role::from_name(key).is_some()
            && !source.recipe.parameter_names().contains(&key.to_owned())
        {
            advise_misspelled(section, "template", &format!("{{{key}}}"), &format!("[{key}]"));
        }
    }
}

/// Names in a destination's URL that are neither a member of events nor a parameter.
fn misspelled_url(section: &Section<'_>, to: &Destination, using: &[&Arc<Source>]) {
    let Ok(template) = UrlTemplate::parse(&to.url) else { return };
    for Written { key, bracket, .. } in template.placeholders() {
        let near_of = |source: &&Arc<Source>| match Placeholder::of(bracket, key) {
            Placeholder::Member(_) => None,
            Placeholder::Parameter(name) if name != key => misspelled(source, name, &[]),
            Placeholder::Parameter(name) => misspelled(source, name, &EVENT_MEMBERS),
            Placeholder::Resolved(name) => {
                let made = source.recipe.template_names();
                (!made.contains(&name)).then(|| name.to_owned())
            }
            // One that nothing fills is an error.
            Placeholder::Known(_) => None,
        };
        // A name of one of the sources is right for that one.
        let near: Option<Vec<String>> = using.iter().map(near_of).collect();
        let near = near.and_then(|near| near.into_iter().next());
        if let (Some(name), true) = (&near, key.starts_with("resolved.")) {
            let what = format!("`[{key}]` is not a pair of any source's template");
            let remedy = format!("write {name}=… into the template of the source");
            section.advice("url", what, remedy);
        } else if let Some(near) = near {
            let (start, end) = match bracket {
                Bracket::Came => ("{", "}"),
                Bracket::Known => ("[", "]"),
            };
            advise_misspelled(section, "url", &format!("{start}{key}{end}"), &near);
        }
    }
}

/// Conditions of routes that no event of the source meets.
fn misspelled_conditions(section: &Section<'_>, source: &Source) {
    for route in named(section, "route") {
        let Some(list) = route.item("when") else { continue };
        for item in list.elements() {
            let Some(text) = item.value.as_str() else { continue };
            let Ok(condition) = EventCondition::parse(text) else { continue };
            match condition.operand() {
                Some(Operand::Value(name)) => {
                    let roles: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
                    if let Some(near) = misspelled(source, name, &roles) {
                        let (written, near) = (format!("{{{name}}}"), format!("{{{near}}}"));
                        advise_misspelled(&route, "when", &written, &near);
                    }
                }
                Some(Operand::Fact("effect")) => {
                    let word = condition.word().unwrap_or("none");
                    if !EFFECTS.contains(&word) {
                        let what = format!("`{text}` never holds: no event has that effect");
                        route.advice("when", what, format!("write one of {}", EFFECTS.join(", ")));
                    }
                }
                _ => {}
            }
        }
    }
}

/// The effects of events.
const EFFECTS: [&str; 3] = ["grant", "revoke", "none"];

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
    for source in sources.values().filter(|source| uses(source, to)) {
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

/// A secret that a source has too: that source accepts what this gateway signs with it.
fn shared_secret(section: &Section<'_>, to: &Destination, sources: &BTreeMap<String, Arc<Source>>) {
    let written =
        |secret: &Secret| Secret::new(format!("whsec_{}", STANDARD.encode(secret.expose())));
    let shares = |source: &&Arc<Source>| {
        to.secrets.iter().any(|own| source.recipe.knows(&written(own)) || source.recipe.knows(own))
    };
    if let Some(source) = sources.values().find(shares) {
        let what = format!(
            "is a secret of the source {}, too: that source accepts a delivery that is signed \
             with it, if its sender signs as Standard Webhooks says",
            source.name
        );
        section.advice("secret", what, "give each its own secret");
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
