//! `[manage.callback_address]`: the managers of callback addresses, and the assessments.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SENDER;
use crate::config::file::{Item, Read, Section, ValueError};
use crate::config::{Source, unit};
use crate::partners::settings::{Manage, need_secret, refuse_twice, users};
use crate::sender::Secret;

/// The keys of `[manage.callback_address]`.
pub(crate) const KEYS: &[&str] = &["managers", "prefixes"];

/// The keys of a manager.
pub(crate) const MANAGER_KEYS: &[&str] = &["name", "key", "companies"];

/// The users of the callback-address API, and the scope of each.
#[derive(Clone, Debug)]
pub struct CallbackAddresses {
    /// The managers.
    pub managers: Vec<Manager>,
    /// The assessments that may have addresses.
    pub prefixes: Vec<String>,
}

/// A manager of callback addresses.
#[derive(Clone, Debug)]
pub struct Manager {
    /// The name that its requests carry.
    pub name: String,
    /// The key that its requests are signed with.
    pub key: Secret,
    /// The companies whose addresses it may see and set.
    pub companies: Vec<u64>,
}

/// Checks `[manage.callback_address]`.
pub(crate) fn check(section: &Section<'_>) -> CallbackAddresses {
    section.refuse_unknown(KEYS);
    let managers = users(section, "managers", MANAGER_KEYS, |manager| {
        let name = manager.need("name", "\"m1\"", unit::text);
        let key = need_secret(manager, "key");
        let companies = manager.list("companies", company_id).unwrap_or_default();
        if !manager.has("companies") {
            manager.fault("companies", "is missing", "write companies = [42]");
        }
        Some(Manager { name: name?, key: key?, companies })
    });
    refuse_twice(section, "managers", managers.iter().map(|manager| manager.name.as_str()));
    let prefixes = section.list("prefixes", unit::name).unwrap_or_default();
    refuse_twice(section, "prefixes", prefixes.iter().map(String::as_str));
    CallbackAddresses { managers, prefixes }
}

fn company_id(item: &Item<'_>) -> Read<u64> {
    let number = item.value.as_integer();
    let id = number.and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
    id.ok_or_else(|| ValueError::new("is not the number of a company", "write a number such as 42"))
}

/// Rejects sources that accept a number outside the signed query under the key of a manager. A
/// signed text without a number is a management call. Such a source would make one signature valid
/// for both.
pub(crate) fn refuse_replayable(
    top: &Section<'_>,
    sources: &BTreeMap<String, Arc<Source>>,
    manage: &Manage,
) {
    for section in top.sections("source") {
        let source = section.peek("name").and_then(|name| sources.get(name));
        if let Some(source) = source {
            refuse_replayable_source(&section, source, manage);
        }
    }
}

/// [`refuse_replayable`] for one source.
pub(crate) fn refuse_replayable_source(section: &Section<'_>, source: &Source, manage: &Manage) {
    let Some(api) = &manage.callback_address else { return };
    let recipe = &source.recipe;
    let mut managers = api.managers.iter().filter(|manager| recipe.knows(&manager.key));
    let Some(manager) = managers.next().filter(|_| recipe.sender().name() == SENDER) else {
        return;
    };
    if recipe.takes_unsigned_identity() {
        let name = &manager.name;
        let what = format!("accepts an unsigned number under the key of the manager {name}");
        let remedy = "omit it, or give the source a key that no manager has: with it, a \
                      captured callback could set callback addresses";
        section.fault("replayable", what, remedy);
    }
}
