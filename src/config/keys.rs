//! Every key that a configuration may have, by table. The reference page is held against it.

use super::file::nearest;
use super::{admin, destination, manage, server, source, store};

/// Keys that stand above every table.
pub(super) const TOP: &[&str] =
    &["senders", "server", "admin", "store", "egress", "source", "destination", "manage"];

/// Each table, as it is written, with its keys. A source has its sender's settings besides.
pub const TABLES: &[(&str, &[&str])] = &[
    ("[server]", server::KEYS),
    ("[server.tls]", server::TLS_KEYS),
    ("[server.limits]", server::LIMIT_KEYS),
    ("[admin]", admin::KEYS),
    ("[[admin.token]]", admin::TOKEN_KEYS),
    ("[store]", store::KEYS),
    ("[egress]", store::EGRESS_KEYS),
    ("[[source]]", source::KEYS),
    ("[[source.secrets]]", source::SECRET_KEYS),
    ("[[destination]]", destination::KEYS),
    ("[destination.retry]", destination::RETRY_KEYS),
    ("[manage]", manage::KEYS),
    ("[manage.reward_rule]", manage::REWARD_RULE_KEYS),
    ("[[manage.reward_rule.publishers]]", manage::PUBLISHER_KEYS),
    ("[manage.callback_address]", manage::CALLBACK_ADDRESS_KEYS),
    ("[[manage.callback_address.managers]]", manage::MANAGER_KEYS),
    ("[manage.push_config]", manage::PUSH_CONFIG_KEYS),
    ("[[manage.push_config.apps]]", manage::APP_KEYS),
    ("[manage.background_check]", manage::BACKGROUND_CHECK_KEYS),
    ("[[manage.background_check.companies]]", manage::COMPANY_KEYS),
];

/// The table that `key` belongs to, for one that was written elsewhere.
pub(super) fn home(key: &str) -> Option<String> {
    if TOP.contains(&key) {
        return Some(String::from("it belongs at the top of the file, above every table"));
    }
    if let Some((table, _)) = TABLES.iter().find(|(_, keys)| keys.contains(&key)) {
        return Some(format!("it belongs under {table}"));
    }
    let near = TABLES.iter().find_map(|(table, keys)| Some((table, nearest(key, keys)?)));
    near.map(|(table, near)| format!("did you mean {near}, under {table}?"))
}
