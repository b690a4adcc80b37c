//! Sources and destinations as people manage them: shown, written, removed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::documents::{DESTINATION, SOURCE, StoredDocument};
use super::write::{AuditView, ChangeError, Draft};
use super::{Actor, Registry, RunningConfig};
use crate::clock::rfc3339;
use crate::config::{self, Config, ConfigIssue, Destination, Origin, Table};
use crate::egress::{Guard, Scheme, Trust};
use crate::ledger::{Kind, Revision};

/// Sources or destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// Sources.
    Source,
    /// Destinations.
    Destination,
}

/// The state that the writer expects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Whatever it is.
    #[default]
    None,
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// One of these versions.
    OneOf(Vec<u64>),
}

/// Why a source or a destination is not written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentError {
    /// No object has that name.
    Absent,
    /// The object is in the configuration file, or another API made it.
    Foreign(Origin),
    /// Another one has the name that it is to have.
    Taken(String),
    /// The object is not in the expected version.
    Stale(Option<u64>),
    /// The object is used by these sources.
    Used(Vec<String>),
    /// The table has errors.
    Wrong(Vec<ConfigIssue>),
}

/// The result of a write.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Whether it is new.
    pub created: bool,
    /// The name that it has now.
    pub name: String,
}

/// Members that are shown and cannot be set. Requests may contain them.
const READ_ONLY: [&str; 10] = [
    "origin",
    "version",
    "changed_at",
    "changed_by",
    "path",
    "callback_url",
    "push_refused",
    "last_callback_at",
    "counts",
    "rejections",
];

impl Managed {
    /// The word for one.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.kind().as_str()
    }

    const fn kind(self) -> Kind {
        match self {
            Self::Source => SOURCE,
            Self::Destination => DESTINATION,
        }
    }

    fn documents(self, state: &RunningConfig) -> &BTreeMap<String, StoredDocument<Table>> {
        match self {
            Self::Source => &state.documents.sources,
            Self::Destination => &state.documents.destinations,
        }
    }

    fn names(self, config: &Config) -> Vec<String> {
        match self {
            Self::Source => config.sources.keys().cloned().collect(),
            Self::Destination => config.destinations.keys().cloned().collect(),
        }
    }

    fn origin(self, config: &Config, name: &str) -> Option<Origin> {
        match self {
            Self::Source => config.sources.get(name).map(|source| source.origin),
            Self::Destination => config.destinations.get(name).map(|found| found.origin),
        }
    }

    /// `table` as people see it, if the object that was called `old` can use it.
    fn check(
        self,
        state: &RunningConfig,
        old: &str,
        name: &str,
        table: &Table,
    ) -> Result<Table, Vec<ConfigIssue>> {
        let config: &Config = &state.config;
        let shown = match self {
            Self::Source => {
                let source = config::check_new_source(config, old, name, table)?;
                let mut others = config.sources.values().filter(|other| other.name != old);
                if let Some(other) = others.find(|other| other.id == source.id) {
                    let what = format!("{} is the id of the source {}", source.id, other.name);
                    return Err(vec![fault("id", &what, "give this one an id of its own")]);
                }
                source.shown
            }
            Self::Destination => {
                let destination = config::check_destination(config, name, table)?;
                let what = check_reach(config, &destination.url);
                what.map_err(|what| vec![fault("url", &what, "see egress.allow")])?;
                let shown = Arc::clone(&destination.shown);
                check_users(state, destination)?;
                shown
            }
        };
        Ok(Table::clone(&shown))
    }
}

/// Rejects a destination with which a source of the admin API no longer passes its checks. That
/// source goes on until its document is read again, at the next start, and would then be ignored.
fn check_users(state: &RunningConfig, changed: Destination) -> Result<(), Vec<ConfigIssue>> {
    let users = users(&state.config, &changed.name);
    if users.is_empty() {
        return Ok(());
    }
    let mut config = Config::clone(&state.config);
    config.destinations.insert(changed.name.clone(), Arc::new(changed));
    let mut faults = Vec::new();
    for name in users {
        let Some(kept) = state.documents.sources.get(&name) else { continue };
        let check = |config: &Config| config::check_source(config, &name, &kept.value);
        let Err(issues) = check(&config) else { continue };
        // One that fails already is not lost by this change, which may be a part of its repair.
        if check(&state.config).is_err() {
            continue;
        }
        // Its URL was compared with the sources before: what is left is the mode.
        faults.extend(issues.into_iter().map(|ConfigIssue { key, what, remedy, .. }| {
            fault("mode", &format!("breaks the source {name}: {key}: {what}"), &remedy)
        }));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn fault(key: &str, what: &str, remedy: &str) -> ConfigIssue {
    let [key, what, remedy] = [key, what, remedy].map(str::to_owned);
    ConfigIssue { key, what, remedy, ..ConfigIssue::default() }
}

/// Refuses a URL over an API that names an address which deliveries to it may not reach. What a
/// name leads to is asked when it is called: by plain http, nothing but what `egress.allow` names.
///
/// # Errors
/// Why not.
pub fn check_reach(config: &Config, url: &str) -> Result<(), String> {
    let Ok(uri) = url.parse::<http::Uri>() else { return Ok(()) };
    let host = uri.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = uri.scheme_str().is_none_or(|scheme| scheme.eq_ignore_ascii_case("http"));
    let Ok(address) = bare.parse::<IpAddr>() else {
        return match plain && config.egress.allow.is_empty() {
            true => Err(String::from("is plain http, which reaches only what egress.allow names")),
            false => Ok(()),
        };
    };
    let scheme = if plain { Scheme::Http } else { Scheme::Https };
    let guard = Guard::new(Trust::Api, config.egress.allow.clone());
    guard.check(address, scheme).map_err(|refused| refused.to_string())
}

// === Shown ===

impl RunningConfig {
    /// Every source or destination, of the file, of the admin API and of the management APIs.
    #[must_use]
    pub fn list(&self, managed: Managed) -> Vec<Value> {
        let mut names = managed.names(&self.config);
        // Ignored managed objects are shown all the same: they have to be corrected.
        names.extend(managed.documents(self).keys().cloned());
        names.sort_unstable();
        names.dedup();
        names.iter().filter_map(|name| self.show(managed, name)).collect()
    }

    /// One of them, secrets masked.
    #[must_use]
    pub fn show(&self, managed: Managed, name: &str) -> Option<Value> {
        let kept = managed.documents(self).get(name);
        let origin = managed.origin(&self.config, name);
        let kept = kept.filter(|_| origin.is_none_or(|origin| origin == Origin::Admin));
        let mut shown = match managed {
            Managed::Source => self.show_source(name),
            Managed::Destination => self.show_destination(name),
        }
        .or_else(|| kept.map(|_| Table::new()))?;
        let origin = origin.unwrap_or(Origin::Admin);
        let own = [
            ("name", json!(name)),
            ("origin", json!(origin.as_str())),
            ("version", json!(kept.map(|kept| kept.version.0))),
            ("changed_at", json!(kept.map(|kept| rfc3339(kept.at_ms)))),
            ("changed_by", json!(kept.map(|kept| &kept.who))),
        ];
        shown.extend(own.map(|(key, value)| (key.to_owned(), value)));
        Some(Value::Object(shown))
    }

    /// The version of one that the admin API made.
    #[must_use]
    pub fn version(&self, managed: Managed, name: &str) -> Option<Revision> {
        managed.documents(self).get(name).map(|kept| kept.version)
    }

    fn show_source(&self, name: &str) -> Option<Table> {
        let source = self.config.sources.get(name)?;
        let mut shown = Table::clone(&source.shown);
        let base = self.config.server.public_url.as_ref();
        let own = [
            ("id", json!(source.id)),
            ("sender", json!(source.recipe.sender().name())),
            ("enabled", json!(source.enabled)),
            ("destinations", json!(source.destinations)),
            ("path", json!(source.path())),
            ("callback_url", json!(base.map(|base| format!("{base}{}", source.path())))),
        ];
        shown.extend(own.map(|(key, value)| (key.to_owned(), value)));
        Some(shown)
    }

    fn show_destination(&self, name: &str) -> Option<Table> {
        let destination = self.config.destinations.get(name)?;
        let mut shown = Table::clone(&destination.shown);
        let own = [("url", json!(destination.url)), ("format", json!(destination.format.as_str()))];
        shown.extend(own.map(|(key, value)| (key.to_owned(), value)));
        let refused = self.out_of_reach.iter().filter(|one| one.destination == name);
        let refused: Vec<&str> = refused.map(|one| one.app.as_str()).collect();
        if !refused.is_empty() {
            shown.insert(String::from("push_refused"), json!(refused));
        }
        Some(shown)
    }
}

// === Changed ===

impl Registry {
    /// Writes the source or destination called `name`. A source whose table has another `name` is
    /// renamed; it stays the same source to its sender's transactions.
    ///
    /// # Errors
    /// Why not; nothing changed then.
    pub async fn put(
        &self,
        who: &Actor,
        managed: Managed,
        name: &str,
        table: &Table,
        precondition: &Precondition,
    ) -> Result<Written, ChangeError<DocumentError>> {
        self.write(who, |state, draft| {
            let old = standing(state, managed, name, precondition)?;
            plan(state, draft, managed, name, old, table.clone())
        })
        .await
    }

    /// Deletes the source or destination called `name`. The transactions of a source stay known.
    ///
    /// # Errors
    /// Why not; nothing changed then.
    pub async fn remove(
        &self,
        who: &Actor,
        managed: Managed,
        name: &str,
        precondition: &Precondition,
    ) -> Result<(), ChangeError<DocumentError>> {
        self.write(who, |state, draft| {
            let old = standing(state, managed, name, precondition)?;
            let old = old.ok_or(ChangeError::Refused(DocumentError::Absent))?;
            let users = match managed {
                Managed::Source => Vec::new(),
                Managed::Destination => users(&state.config, name),
            };
            if !users.is_empty() {
                return Err(ChangeError::Refused(DocumentError::Used(users)));
            }
            let before = written(state, managed, name);
            let view = AuditView { before: Some(&before), after: None };
            draft.delete(managed.kind(), name, old, &view);
            Ok(())
        })
        .await
    }
}

/// Returns the sources that deliver to a destination.
fn users(config: &Config, destination: &str) -> Vec<String> {
    let uses = |names: &[String]| names.iter().any(|name| name == destination);
    let all = config.sources.values().filter(|source| {
        uses(&source.destinations) || source.routes.iter().any(|route| uses(&route.to))
    });
    all.map(|source| source.name.clone()).collect()
}

/// The current document of a name, if it may be changed.
fn standing<'s>(
    state: &'s RunningConfig,
    managed: Managed,
    name: &str,
    precondition: &Precondition,
) -> Result<Option<&'s StoredDocument<Table>>, ChangeError<DocumentError>> {
    let origin = managed.origin(&state.config, name);
    if let Some(origin) = origin.filter(|origin| *origin != Origin::Admin) {
        return Err(ChangeError::Refused(DocumentError::Foreign(origin)));
    }
    let kept = managed.documents(state).get(name);
    let version = kept.map(|kept| kept.version.0);
    let holds = match precondition {
        Precondition::None => true,
        Precondition::Absent => version.is_none(),
        Precondition::Present => version.is_some(),
        Precondition::OneOf(versions) => version.is_some_and(|version| versions.contains(&version)),
    };
    holds.then_some(kept).ok_or(ChangeError::Refused(DocumentError::Stale(version)))
}

/// Whether what was masked goes where it went: to the same server, and under the same rule. Another
/// sender may show the secret, and another server gets it.
fn goes_nowhere_else(old: &Table, new: &Table) -> bool {
    let text = |table: &Table, key: &str| {
        table.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let same_server = |key| {
        let (old, new) = (text(old, key), text(new, key));
        new == config::MASK || config::is_same_server(&old, &new)
    };
    let same = |key| text(old, key) == text(new, key);
    same_server("url") && same_server("key_set_url") && same("sender") && same("recipe")
}

fn plan(
    state: &RunningConfig,
    draft: &mut Draft,
    managed: Managed,
    name: &str,
    old: Option<&StoredDocument<Table>>,
    mut table: Table,
) -> Result<Written, ChangeError<DocumentError>> {
    let wrong = |fault| ChangeError::Refused(DocumentError::Wrong(vec![fault]));
    READ_ONLY.iter().for_each(|key| drop(table.remove(*key)));
    let wanted = table.remove("name");
    let new_name = renamed(state, managed, name, old, wanted.as_ref())?;
    let nothing = Table::new();
    let masked = old.map(|old| &*old.value).filter(|old| goes_nowhere_else(old, &table));
    config::unmask(&mut table, masked.unwrap_or(&nothing)).map_err(|keys| {
        let what = match old {
            Some(_) if masked.is_none() => "is masked, and would go to another server or sender",
            _ => "is masked, and stands for nothing",
        };
        let faults = keys.iter().map(|key| fault(key, what, "send the secret itself")).collect();
        ChangeError::Refused(DocumentError::Wrong(faults))
    })?;
    if managed == Managed::Source {
        if !settle_id(&mut table, &new_name, old) {
            let what = "of a source cannot be changed: its transactions are known by it";
            return Err(wrong(fault("id", what, "omit it")));
        }
        name_secrets(&mut table);
    }
    let shown = managed.check(state, name, &new_name, &table);
    let mut shown = shown.map_err(|faults| ChangeError::Refused(DocumentError::Wrong(faults)))?;
    let mut before = old.map(|_| written(state, managed, name));
    if let (Some(old), Some(before)) = (old, &before) {
        mark_replaced(before, &mut shown, |key| old.value.get(key) == table.get(key));
    }
    let mut replaced = old;
    if new_name != name
        && let Some(old) = replaced.take()
    {
        let view = AuditView { before: before.as_ref(), after: None };
        draft.delete(managed.kind(), name, old, &view);
        if let Some(before) = before.as_mut().and_then(Value::as_object_mut) {
            before.insert(String::from("name"), json!(name));
            shown.insert(String::from("name"), json!(new_name));
        }
    }
    let shown = Value::Object(shown);
    let view = AuditView { before: before.as_ref(), after: Some(&shown) };
    draft.put(managed.kind(), &new_name, replaced, &table, &view)?;
    Ok(Written { created: old.is_none(), name: new_name })
}

/// The table of an object as it was written, secrets masked: for the audit log, which compares it
/// with another one. Members that are derived are not part of it.
fn written(state: &RunningConfig, managed: Managed, name: &str) -> Value {
    let shown = match managed {
        Managed::Source => state.config.sources.get(name).map(|source| &source.shown),
        Managed::Destination => state.config.destinations.get(name).map(|found| &found.shown),
    };
    Value::Object(shown.map(|shown| Table::clone(shown)).unwrap_or_default())
}

/// Marks secrets that were replaced and look the same, because both are masked.
///
/// `is_kept` says whether the value of a key stays the same.
fn mark_replaced(before: &Value, after: &mut Table, is_kept: impl Fn(&str) -> bool) {
    for (key, value) in after {
        let looks_same = before.get(key).is_some_and(|before| before == value);
        if looks_same && !is_kept(key) {
            *value = json!({ "replaced": value.take() });
        }
    }
}

/// The name that it is to have.
fn renamed(
    state: &RunningConfig,
    managed: Managed,
    name: &str,
    old: Option<&StoredDocument<Table>>,
    wanted: Option<&Value>,
) -> Result<String, ChangeError<DocumentError>> {
    let wanted = match wanted {
        None | Some(Value::Null) => name,
        Some(Value::String(wanted)) => wanted,
        Some(_) => "",
    };
    if wanted == name {
        return Ok(name.to_owned());
    }
    let wrong = |what: &str, remedy: &str| {
        ChangeError::Refused(DocumentError::Wrong(vec![fault("name", what, remedy)]))
    };
    if old.is_none() {
        return Err(wrong("is not that of the path", "write the same name, or none"));
    }
    if managed == Managed::Destination {
        let remedy = "make another one: deliveries wait for this one under its name";
        return Err(wrong("of a destination cannot be changed", remedy));
    }
    let taken = managed.origin(&state.config, wanted).is_some();
    if taken || managed.documents(state).contains_key(wanted) {
        return Err(ChangeError::Refused(DocumentError::Taken(wanted.to_owned())));
    }
    Ok(wanted.to_owned())
}

/// A source is known to the ledger by its id, which stays what it was. Whether the table says so.
fn settle_id(table: &mut Table, name: &str, old: Option<&StoredDocument<Table>>) -> bool {
    let kept = old.and_then(|old| old.value.get("id"));
    let wanted = table.get("id").filter(|id| !id.is_null());
    if kept.is_some() && wanted.is_some() && kept != wanted {
        return false;
    }
    let id = kept.or(wanted).cloned().unwrap_or_else(|| Value::from(name));
    table.insert(String::from("id"), id);
    true
}

/// Gives every secret an id, so that it can be kept, by its id, when others come and go.
fn name_secrets(table: &mut Table) {
    let Some(secrets) = table.get_mut("secrets") else { return };
    let list = match secrets.take() {
        Value::Array(list) => list,
        one => vec![one],
    };
    let used = |id: &str, list: &[Value]| list.iter().any(|value| value["id"] == id);
    let mut number = 0;
    let mut next = || {
        number += 1;
        number.to_string()
    };
    let mut named = Vec::with_capacity(list.len());
    for value in &list {
        let mut value = match value {
            Value::String(_) => json!({ "value": value }),
            other => other.clone(),
        };
        if let Some(secret) = value.as_object_mut().filter(|secret| !secret.contains_key("id")) {
            let free = std::iter::repeat_with(&mut next).find(|id| !used(id, &list));
            secret.insert(String::from("id"), Value::from(free));
        }
        named.push(value);
    }
    *secrets = Value::Array(named);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_get_ids_that_nobody_has() {
        let mut table = json!({ "secrets": ["a", { "id": "1", "value": "b" }, "c"] });
        let table = table.as_object_mut().unwrap();
        name_secrets(table);
        assert_eq!(
            table["secrets"],
            json!([
                { "id": "2", "value": "a" }, { "id": "1", "value": "b" }, { "id": "3", "value": "c" }
            ])
        );
    }
}
