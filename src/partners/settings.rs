//! The table `[manage]`: which management APIs are served, and to whom. An API that is not
//! configured is not served.

use std::collections::BTreeSet;

use super::background_checks::settings::{self as background_checks, BackgroundChecks};
use super::callback_addresses::settings::{self as callback_addresses, CallbackAddresses};
use super::push_configuration::settings::{self as push_configuration, PushConfig};
use super::reward_rules::settings::{self as reward_rules, RewardRules};
use crate::config::file::Section;
use crate::config::secret;
use crate::sender::Secret;

/// The management APIs and their users.
#[derive(Clone, Debug, Default)]
pub struct Manage {
    /// The reward-rule API.
    pub reward_rule: Option<RewardRules>,
    /// The callback-address API.
    pub callback_address: Option<CallbackAddresses>,
    /// The push-configuration API.
    pub push_config: Option<PushConfig>,
    /// The background-check API.
    pub background_check: Option<BackgroundChecks>,
}

/// The keys of `[manage]`.
pub(crate) const KEYS: &[&str] =
    &["reward_rule", "callback_address", "push_config", "background_check"];

/// Each table below `[manage]`, as it is written, with its keys.
pub(crate) const TABLES: [(&str, &[&str]); 9] = [
    ("[manage]", KEYS),
    ("[manage.reward_rule]", reward_rules::KEYS),
    ("[[manage.reward_rule.publishers]]", reward_rules::PUBLISHER_KEYS),
    ("[manage.callback_address]", callback_addresses::KEYS),
    ("[[manage.callback_address.managers]]", callback_addresses::MANAGER_KEYS),
    ("[manage.push_config]", push_configuration::KEYS),
    ("[[manage.push_config.apps]]", push_configuration::APP_KEYS),
    ("[manage.background_check]", background_checks::KEYS),
    ("[[manage.background_check.companies]]", background_checks::COMPANY_KEYS),
];

/// Checks the table `[manage]`.
pub(crate) fn check(section: &Section<'_>) -> Manage {
    let api = |key| section.section(key);
    Manage {
        reward_rule: api("reward_rule").map(|api| reward_rules::check(&api)),
        callback_address: api("callback_address").map(|api| callback_addresses::check(&api)),
        push_config: api("push_config").map(|api| push_configuration::check(&api)),
        background_check: api("background_check").map(|api| background_checks::check(&api)),
    }
}

/// The users of an API, each a table of `known` keys. An API without users is an error.
pub(super) fn users<'a, T>(
    api: &Section<'a>,
    key: &str,
    known: &[&str],
    read: impl Fn(&Section<'a>) -> Option<T>,
) -> Vec<T> {
    let tables = api.sections(key);
    if tables.is_empty() && api.item(key).is_none_or(|item| item.elements().is_empty()) {
        let remedy = format!("write {key} = [{{ … }}], or omit [{}]", api.path);
        api.fault(key, "is empty: no client could use this API", remedy);
    }
    tables
        .iter()
        .filter_map(|user| {
            user.refuse_unknown(known);
            read(user)
        })
        .collect()
}

/// Rejects names that are written twice under `key`.
pub(super) fn refuse_twice<'n>(
    section: &Section<'_>,
    key: &str,
    names: impl Iterator<Item = &'n str>,
) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            section.fault(key, format!("{name} is there twice"), "write each once");
        }
    }
}

/// The secret of `key`, which is required.
pub(super) fn need_secret(section: &Section<'_>, key: &str) -> Option<Secret> {
    section.need(key, "\"env:…\"", secret::secret)
}
