//! Sources and destinations that came over an API: the same keys, in JSON, under the same checks as
//! those of the file. Nothing of this machine is read for them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use toml::de::DeTable;

use super::file::Section;
use super::keep::StoreKeep;
use super::pass::{Pass, Writer};
use super::source::Written;
use super::{
    Config, ConfigIssue, Destination, Machine, Mode, Origin, Reach, Source, destination,
    mask_destination, mask_source, source, template,
};

use crate::partners::callback_addresses::settings::refuse_replayable_source;

/// The keys of a source or a destination, as they came.
pub type Table = serde_json::Map<String, Value>;

/// Keys that say something about other sources, which only the file can.
const OF_THE_FILE: [&str; 2] = ["sids", "supersedes"];

/// Checks a source that was written before, and is to go on: called `name`, against the senders and
/// destinations of `config`.
///
/// # Errors
/// Every error in the source.
pub fn check_source(
    config: &Config,
    name: &str,
    table: &Table,
) -> Result<Source, Vec<ConfigIssue>> {
    check_written(config, name, name, table, Written::Before)
}

/// Checks a source that is written now, in place of the one called `old`. No callback may verify
/// for both this source and another one.
///
/// # Errors
/// Every error in the source.
pub fn check_new_source(
    config: &Config,
    old: &str,
    name: &str,
    table: &Table,
) -> Result<Source, Vec<ConfigIssue>> {
    check_written(config, old, name, table, Written::Now)
}

fn check_written(
    config: &Config,
    old: &str,
    name: &str,
    table: &Table,
    written: Written,
) -> Result<Source, Vec<ConfigIssue>> {
    let known = |destination: &&Arc<Destination>| {
        matches!(destination.origin, Origin::File | Origin::Admin)
    };
    let names = |filter: fn(&Destination) -> bool| -> BTreeSet<String> {
        let all = config.destinations.values().filter(known);
        all.filter(|destination| filter(destination)).map(|found| found.name.clone()).collect()
    };
    let (destinations, inline) =
        (names(|_| true), names(|found| matches!(found.mode, Mode::Inline { .. })));
    let known = source::Known {
        catalog: &config.catalog,
        destinations: &destinations,
        inline: &inline,
        keep: Some(StoreKeep::of(&config.store)),
        public_url: config.server.public_url.as_deref(),
        tls: config.server.tls.as_ref(),
        body_bytes: config.server.limits.body_bytes,
        unverified_body_bytes: config.server.limits.unverified_body_bytes,
        written,
    };
    let writer = match written {
        Written::Now => Writer::Remote,
        Written::Before => Writer::Store,
    };
    let source = check(name, table, writer, |section| {
        for key in OF_THE_FILE.iter().filter(|key| section.has(key)) {
            section.fault(key, "is about other sources", "write it in the configuration file");
        }
        let source = source::check(section, &known)?.source;
        refuse_replayable_source(section, &source, &config.manage);
        if written == Written::Now {
            let mut others = config.sources.values().filter(|other| other.name != old);
            if let Some(other) = others.find(|other| source::are_confused(other, &source)) {
                source::refuse_confused(section, &source, other);
            }
        }
        let named = source.destinations.iter().filter_map(|name| config.destinations.get(name));
        for to in named {
            template::check(section, "destinations", &source, to);
            // What the store has goes on: its deliveries say what is wrong.
            if written == Written::Now {
                let all = config.sources.values().filter(|other| other.name != name);
                let others = all.filter(|other| other.destinations.contains(&to.name));
                let from: Vec<&Source> = others.map(|other| &**other).chain([&source]).collect();
                template::check_known(section, "destinations", &from, to);
            }
        }
        Some(source)
    })?;
    let mut shown = table.clone();
    mask_source(&mut shown, source.recipe.sender());
    Ok(Source { origin: Origin::Admin, shown: Arc::new(shown), ..source })
}

/// Two sources that accept each other's callbacks: one callback can become two events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusedSources([String; 2]);

impl fmt::Display for ConfusedSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([one, other]) = self;
        write!(
            f,
            "the sources {one} and {other} accept each other's callbacks: one callback would be two \
             events; give each its own secret, or write replayable = true in both"
        )
    }
}

/// Every two sources of `config` that accept each other's callbacks. The file has none, and neither
/// has an API: each is checked. Both together may have some.
#[must_use]
pub fn confused_sources(config: &Config) -> Vec<ConfusedSources> {
    let mut confused = Vec::new();
    for (at, one) in config.sources.values().enumerate() {
        let later = config.sources.values().skip(at + 1);
        let others = later.filter(|other| source::are_confused(one, other));
        confused
            .extend(others.map(|other| ConfusedSources([one.name.clone(), other.name.clone()])));
    }
    confused
}

/// Checks a destination called `name`.
///
/// # Errors
/// Every error in the destination.
pub fn check_destination(
    config: &Config,
    name: &str,
    table: &Table,
) -> Result<Destination, Vec<ConfigIssue>> {
    let keys = &config.egress.signing_keys;
    let destination = check(name, table, Writer::Store, |section| {
        let destination = destination::check(section, keys)?;
        let all = config.sources.values();
        let from = all.filter(|source| source.destinations.iter().any(|to| to == name));
        let from: Vec<&Source> = from.map(|source| &**source).collect();
        from.iter().for_each(|source| template::check(section, "url", source, &destination));
        template::check_known(section, "url", &from, &destination);
        Some(destination)
    })?;
    let mut shown = table.clone();
    mask_destination(&mut shown);
    let reach = Reach::Public(config.egress.allow.clone());
    Ok(Destination { origin: Origin::Admin, shown: Arc::new(shown), reach, ..destination })
}

/// The result of `read` for a table. The table is written as the file would have it, so one reader
/// and one set of checks serve both.
fn check<T>(
    name: &str,
    table: &Table,
    writer: Writer,
    read: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<T, Vec<ConfigIssue>> {
    let written = written(name, table)?;
    let pass = Pass::new(&Machine, Path::new(""), &written).written_by(writer);
    let (parsed, _) = DeTable::parse_recoverable(&written);
    let checked = read(&Section::top(&pass, &parsed));
    let mut faults = pass.into_findings().faults;
    if checked.is_none() && faults.is_empty() {
        faults.push(unreadable(name));
    }
    // A place in generated text says nothing.
    let placeless = |fault| ConfigIssue { line: None, ..fault };
    checked.filter(|_| faults.is_empty()).ok_or_else(|| faults.into_iter().map(placeless).collect())
}

/// For a table that makes nothing although no key of it is at fault: people are never left without
/// a reason.
fn unreadable(name: &str) -> ConfigIssue {
    ConfigIssue {
        key: name.to_owned(),
        what: String::from("cannot be made of these keys"),
        remedy: String::from("compare them with docs/configuration.md"),
        ..ConfigIssue::default()
    }
}

fn written(name: &str, table: &Table) -> Result<String, Vec<ConfigIssue>> {
    let unfit = |key: &str| {
        vec![ConfigIssue {
            key: key.to_owned(),
            what: String::from("is a number that is too large"),
            remedy: String::from("write it as a text"),
            ..ConfigIssue::default()
        }]
    };
    let mut all = toml::Table::new();
    all.insert(String::from("name"), toml::Value::from(name));
    for (key, value) in table.iter().filter(|(key, value)| *key != "name" && !value.is_null()) {
        all.insert(key.clone(), toml_of(value).ok_or_else(|| unfit(key))?);
    }
    toml::to_string(&all).map_err(|_| unfit(name))
}

fn toml_of(value: &Value) -> Option<toml::Value> {
    Some(match value {
        Value::Null => toml::Value::from(""),
        Value::Bool(on) => toml::Value::from(*on),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => toml::Value::from(whole),
            None if number.is_f64() => toml::Value::from(number.as_f64()?),
            None => return None,
        },
        Value::String(text) => toml::Value::from(text.as_str()),
        Value::Array(list) => {
            toml::Value::Array(list.iter().map(toml_of).collect::<Option<Vec<_>>>()?)
        }
        Value::Object(table) => {
            let there = table.iter().filter(|(_, value)| !value.is_null());
            let pairs = there.map(|(key, value)| Some((key.clone(), toml_of(value)?)));
            toml::Value::Table(pairs.collect::<Option<toml::Table>>()?)
        }
    })
}
