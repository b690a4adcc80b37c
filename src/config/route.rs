//! `[[source.route]]`: further destinations of the events that meet a condition.

use std::collections::BTreeSet;

use super::file::{Item, Read, Section, ValueError};
use super::nearest;
use crate::sender::EventCondition;

/// The keys of a route.
pub(super) const KEYS: &[&str] = &["when", "to"];

/// Destinations of the events that meet every condition, besides those of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRule {
    /// The conditions.
    pub when: Vec<EventCondition>,
    /// The names of the destinations.
    pub to: Vec<String>,
}

/// The destinations that a route may name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed<'a> {
    pub(super) destinations: &'a BTreeSet<String>,
    /// Which of them a sender waits for.
    pub(super) inline: &'a BTreeSet<String>,
}

/// The routes of a source.
pub(super) fn read(section: &Section<'_>, allowed: Allowed<'_>) -> Vec<RouteRule> {
    section.sections("route").iter().filter_map(|route| rule(route, allowed)).collect()
}

fn rule(section: &Section<'_>, allowed: Allowed<'_>) -> Option<RouteRule> {
    section.refuse_unknown(KEYS);
    for (key, example) in [("when", "\"{reverses}\""), ("to", "[\"accounting\"]")] {
        if !section.has(key) {
            section.fault(key, "is missing", format!("write {key} = {example}"));
        }
    }
    let when = section.list("when", condition)?;
    let to = section.list("to", |item| target(item, allowed))?;
    (!when.is_empty() && !to.is_empty()).then_some(RouteRule { when, to })
}

fn condition(item: &Item<'_>) -> Read<EventCondition> {
    let text = item.text("a condition such as \"{reverses}\" or \"[kind] is reversal\"")?;
    EventCondition::parse(text).map_err(|error| ValueError::new(error.what, error.remedy))
}

fn target(item: &Item<'_>, allowed: Allowed<'_>) -> Read<String> {
    let name = item.text("a destination's name")?;
    if allowed.inline.contains(name) {
        let what = format!("{name} has mode = \"inline\", and a verdict of a route would be late");
        return Err(ValueError::new(what, "name it in destinations, or remove the mode"));
    }
    if !allowed.destinations.contains(name) {
        let all: Vec<&str> = allowed.destinations.iter().map(String::as_str).collect();
        let near = nearest(name, &all).map(|near| format!("did you mean {near}?"));
        let remedy = near.unwrap_or_else(|| format!("write [[destination]] name = {name:?}"));
        return Err(ValueError::new(format!("there is no destination {name:?}"), remedy));
    }
    Ok(name.to_owned())
}
