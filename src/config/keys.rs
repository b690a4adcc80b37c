//! Every key that a configuration may have, by table. The reference page is held against it.

use super::file::nearest;
use super::{admin, alert, archive, destination, oidc, route, server, source, store, telemetry};
use crate::partners::settings;

/// Keys that stand above every table.
pub(super) const TOP: &[&str] = &[
    "senders",
    "server",
    "admin",
    "store",
    "egress",
    "source",
    "destination",
    "alert",
    "telemetry",
    "archive",
    "manage",
];

/// Each table that is not below `[manage]`, as it is written, with its keys. A source has the
/// settings of its sender besides.
const TABLES: &[(&str, &[&str])] = &[
    ("[server]", server::KEYS),
    ("[server.tls]", server::TLS_KEYS),
    ("[server.admin_tls]", server::TLS_KEYS),
    ("[server.limits]", server::LIMIT_KEYS),
    ("[admin]", admin::KEYS),
    ("[[admin.token]]", admin::TOKEN_KEYS),
    ("[admin.oidc]", oidc::KEYS),
    ("[[admin.oidc.roles]]", oidc::ROLE_KEYS),
    ("[store]", store::KEYS),
    ("[egress]", store::EGRESS_KEYS),
    ("[[source]]", source::KEYS),
    ("[[source.secrets]]", source::SECRET_KEYS),
    ("[[source.route]]", route::KEYS),
    ("[[destination]]", destination::KEYS),
    ("[destination.retry]", destination::RETRY_KEYS),
    ("[[alert]]", alert::KEYS),
    ("[telemetry]", telemetry::KEYS),
    ("[archive]", archive::KEYS),
];

/// Every table, as it is written, with its keys.
pub fn tables() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    TABLES.iter().copied().chain(settings::TABLES)
}

/// The table that `key` belongs to, for one that was written elsewhere.
pub(super) fn home(key: &str) -> Option<String> {
    if TOP.contains(&key) {
        return Some(String::from("it belongs at the top of the file, above every table"));
    }
    if let Some((table, _)) = tables().find(|(_, keys)| keys.contains(&key)) {
        return Some(format!("it belongs under {table}"));
    }
    let near = tables().find_map(|(table, keys)| Some((table, nearest(key, keys)?)));
    near.map(|(table, near)| format!("did you mean {near}, under {table}?"))
}
