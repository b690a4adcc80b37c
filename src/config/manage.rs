//! `[manage.*]`: the management APIs and who may use them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::file::{Item, Read, Section, ValueError};
use super::{
    BackgroundChecks, CallbackAddresses, Company, Destination, Manage, Manager, Publisher, PushApp,
    PushConfig, RewardRules, Source, push, secret, unit,
};
use crate::sender::Secret;

pub(super) const KEYS: &[&str] =
    &["reward_rule", "callback_address", "push_config", "background_check"];
pub(super) const REWARD_RULE_KEYS: &[&str] = &["publishers"];
pub(super) const PUBLISHER_KEYS: &[&str] = &["name", "key"];
pub(super) const CALLBACK_ADDRESS_KEYS: &[&str] = &["managers", "prefixes"];
pub(super) const MANAGER_KEYS: &[&str] = &["name", "key", "companies"];
pub(super) const PUSH_CONFIG_KEYS: &[&str] = &["apps"];
pub(super) const APP_KEYS: &[&str] = &["app_id", "secret"];
pub(super) const BACKGROUND_CHECK_KEYS: &[&str] = &["companies", "fonts"];
pub(super) const COMPANY_KEYS: &[&str] = &["key", "token", "enabled"];

/// The table `[manage]`.
pub(super) fn check(section: &Section<'_>) -> Manage {
    Manage {
        reward_rule: section.section("reward_rule").map(|api| reward_rule(&api)),
        callback_address: section.section("callback_address").map(|api| callback_address(&api)),
        push_config: section.section("push_config").map(|api| push_config(&api)),
        background_check: section.section("background_check").map(|api| background_check(&api)),
    }
}

fn reward_rule(section: &Section<'_>) -> RewardRules {
    section.refuse_unknown(REWARD_RULE_KEYS);
    let publishers = users(section, "publishers", PUBLISHER_KEYS, |publisher| {
        let name = publisher.take("name", unit::name);
        let key = need_secret(publisher, "key")?;
        Some(Publisher { name: name.unwrap_or_else(|| digest(&key)), key })
    });
    let names = publishers.iter().map(|publisher| publisher.name.as_str());
    refuse_twice(section, "publishers", names);
    RewardRules { publishers }
}

/// A name that identifies the holder of that key.
fn digest(key: &Secret) -> String {
    let digest = Sha256::digest(key.expose());
    format!("key-{}", const_hex::encode(&digest[..6]))
}

fn refuse_twice<'n>(section: &Section<'_>, key: &str, names: impl Iterator<Item = &'n str>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            section.fault(key, format!("{name} is there twice"), "write each once");
        }
    }
}

fn callback_address(section: &Section<'_>) -> CallbackAddresses {
    section.refuse_unknown(CALLBACK_ADDRESS_KEYS);
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

/// The sender whose rule signs the calls of `[manage.callback_address]`.
const OF_ADDRESSES: &str = "renaren";

/// Refuses sources that take a number outside the signed query under a manager's key. A signed text
/// without a number is a management call; a source that takes it too would make one signature good
/// for both.
pub(super) fn refuse_replayable(
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

/// The same, for one source.
pub(super) fn refuse_replayable_source(section: &Section<'_>, source: &Source, manage: &Manage) {
    let Some(api) = &manage.callback_address else { return };
    let recipe = &source.recipe;
    let mut managers = api.managers.iter().filter(|manager| recipe.knows(&manager.key));
    let Some(manager) = managers.next().filter(|_| recipe.sender().name() == OF_ADDRESSES) else {
        return;
    };
    if recipe.takes_unsigned_identity() {
        let name = &manager.name;
        let what = format!("lets a number come unsigned under the key of the manager {name}");
        let remedy = "leave it out, or give the source a key that no manager has: with it, a \
                      captured callback could set callback addresses";
        section.fault("replayable", what, remedy);
    }
}

/// Warns of destinations for apps that there are not.
pub(super) fn warn_of_strangers(
    sections: &[Section<'_>],
    destinations: &BTreeMap<String, Destination>,
    manage: &Manage,
) {
    let apps = manage.push_config.as_ref().map_or(&[][..], |api| &api.apps);
    for section in sections {
        let found = section.peek("name").and_then(|name| destinations.get(name));
        let Some(Destination { push, .. }) = found else { continue };
        for app in push.apps.iter().filter(|app| apps.iter().all(|known| known.app_id != **app)) {
            let what = format!("names {app}, which is not an app of [manage.push_config]");
            section.warning("push_apps", what, "add the app there, or take it out here");
        }
    }
}

fn push_config(section: &Section<'_>) -> PushConfig {
    section.refuse_unknown(PUSH_CONFIG_KEYS);
    let apps = users(section, "apps", APP_KEYS, |app| {
        let app_id = app.need("app_id", "\"wx…\"", unit::text);
        if app_id.as_deref().is_some_and(|id| !push::is_app_id(id)) {
            app.fault("app_id", "has a slash in it", "write an id such as \"wx…\"");
        }
        let secret = need_secret(app, "secret");
        Some(PushApp { app_id: app_id?, secret: secret? })
    });
    refuse_twice(section, "apps", apps.iter().map(|app| app.app_id.as_str()));
    PushConfig { apps }
}

fn background_check(section: &Section<'_>) -> BackgroundChecks {
    section.refuse_unknown(BACKGROUND_CHECK_KEYS);
    let companies = users(section, "companies", COMPANY_KEYS, |company| {
        let (key, token) = (need_secret(company, "key"), need_secret(company, "token"));
        let enabled = company.take_or("enabled", true, unit::switch);
        Some(Company { key: key?, token: token?, enabled })
    });
    let fonts = section.list("fonts", font).unwrap_or_default();
    BackgroundChecks { companies, fonts }
}

/// The path of a font that reports can be written with.
fn font(item: &Item<'_>) -> Read<PathBuf> {
    let path = item.pass.beside(&unit::text(item)?);
    let remedy = "name a file of TrueType or OpenType fonts (.ttf, .ttc, .otf)";
    let data = std::fs::read(&path).map_err(|error| secret::unreadable(&path, &error))?;
    match ttf_parser::Face::parse(&data, 0) {
        Ok(_) => Ok(path),
        Err(_) => Err(ValueError::new(format!("{} is no font", path.display()), remedy)),
    }
}

/// The users of an API, each a table of `known` keys. An API without users would answer no client.
fn users<'a, T>(
    api: &Section<'a>,
    key: &str,
    known: &[&str],
    read: impl Fn(&Section<'a>) -> Option<T>,
) -> Vec<T> {
    let tables = api.sections(key);
    if tables.is_empty() && api.item(key).is_none_or(|item| item.elements().is_empty()) {
        let what = "names nobody, so that this API would answer nobody";
        api.fault(key, what, format!("write {key} = [{{ … }}], or leave out [{}]", api.path));
    }
    tables
        .iter()
        .filter_map(|user| {
            user.refuse_unknown(known);
            read(user)
        })
        .collect()
}

fn need_secret(section: &Section<'_>, key: &str) -> Option<Secret> {
    section.need(key, "\"env:…\"", secret::secret)
}

fn company_id(item: &Item<'_>) -> Read<u64> {
    let number = item.value.as_integer();
    let id = number.and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
    id.ok_or_else(|| ValueError::new("is no company's number", "write a number such as 42"))
}
