//! `[manage.push_config]`: the apps whose message pushes may be configured.

use std::collections::BTreeMap;

use super::grant::is_app_id;
use crate::config::file::Section;
use crate::config::{Destination, unit};
use crate::partners::settings::{Manage, need_secret, refuse_twice, users};
use crate::sender::Secret;

/// The keys of `[manage.push_config]`.
pub(crate) const KEYS: &[&str] = &["apps"];

/// The keys of an app.
pub(crate) const APP_KEYS: &[&str] = &["app_id", "secret"];

/// The users of the push-configuration API.
#[derive(Clone, Debug)]
pub struct PushConfig {
    /// The apps.
    pub apps: Vec<PushApp>,
}

/// An app whose pushes may be configured.
#[derive(Clone, Debug)]
pub struct PushApp {
    /// The id of the app.
    pub app_id: String,
    /// The secret of the app.
    pub secret: Secret,
}

/// Checks `[manage.push_config]`.
pub(crate) fn check(section: &Section<'_>) -> PushConfig {
    section.refuse_unknown(KEYS);
    let apps = users(section, "apps", APP_KEYS, |app| {
        let app_id = app.need("app_id", "\"wx…\"", unit::text);
        if app_id.as_deref().is_some_and(|id| !is_app_id(id)) {
            app.fault("app_id", "has a slash in it", "write an id such as \"wx…\"");
        }
        let secret = need_secret(app, "secret");
        Some(PushApp { app_id: app_id?, secret: secret? })
    });
    refuse_twice(section, "apps", apps.iter().map(|app| app.app_id.as_str()));
    PushConfig { apps }
}

/// Warns of destinations whose `push_apps` name an app that is not configured.
pub(crate) fn warn_of_unknown_apps(
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
            section.warning("push_apps", what, "add the app there, or remove it here");
        }
    }
}
