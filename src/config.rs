//! Configuration: the file as written becomes the checked configuration, in one pass that reports
//! every fault at once and binds nothing.
//!
//! ```text
//! text ─▶ file (tables with places) ─▶ one checker a table ─▶ Config, or all ConfigErrors
//! ```
//!
//! What a configuration reads besides its own text (the environment, secrets, sender files,
//! certificates) goes through [`Input`], so that tests feed maps, and every file it read is in
//! [`Loaded::files`], so that [`Watcher`] knows what to look at again. No error, warning or
//! `Debug` shows a secret.

mod admin;
mod advice;
mod alert;
mod archive;
mod checked;
mod client_ca;
mod destination;
mod environment;
pub(crate) mod file;
mod issue;
mod keep;
mod key_pair;
mod keys;
pub mod limits;
mod master;
mod network;
mod oidc;
mod pass;
mod quarantine;
mod reload;
mod remote;
mod restart;
mod route;
pub(crate) mod secret;
mod secret_path;
mod senders;
mod server;
mod shown;
mod signing;
mod slip;
mod source;
mod source_scope;
mod store;
mod supersede;
mod telemetry;
mod template;
pub(crate) mod unit;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use file::Section;
use pass::{ConfigIssues, Pass};

use crate::partners::callback_addresses::settings as callback_addresses;
use crate::partners::push_configuration::settings as push_configuration;
use crate::partners::settings as manage;

pub use alert::{
    Alert, AlertChannel, AlertCondition, AlertLanguage, Hook, MailSecurity, MailServer,
};
pub use checked::*;
pub use client_ca::ClientCa;
pub use environment::{Environment, PLACEHOLDER, placeholder_digest};
pub use file::nearest;
pub use issue::{ConfigErrors, ConfigIssue, Paint};
pub use keep::Keep;
pub use key_pair::{KeyPairError, Validity, key_pair, validity};
pub use keys::tables;
pub use master::{MASTER_KEY, MASTER_KEY_BYTES, OLD_MASTER_KEY, master_key};
pub use network::{check_origin, client_network, forbidden, parse_range, wrapped};
pub use pass::{Access, Contents, Files, Input, Machine, Secrets};
pub(crate) use quarantine::held_reason;
pub use quarantine::{HeldAnswer, KEEP as QUARANTINE_KEEP, Quarantine};
pub use reload::{Applied, Watcher};
pub use remote::{
    ConfusedSources, Table, check_destination, check_new_source, check_source, confused_sources,
};
pub use route::RouteRule;
pub use secret_path::{concealed, digest_of, is_secret_path, without_name};
pub use shown::{MASK, is_same_server, mask_destination, mask_source, unmask};
pub use signing::SigningKey;
pub(crate) use signing::of_destination;
pub use source_scope::{SourcePattern, SourceScope};
pub use template::{EventNature, UrlFacts, Withheld};
pub use unit::{parse_duration, show, show_size};

/// A configuration that can be used, with what was remarked upon and read.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings: nothing stops for them.
    pub warnings: Vec<ConfigIssue>,
    /// Warnings that only `postern check` shows, not each start of a gateway.
    pub advice: Vec<ConfigIssue>,
    /// The files that it was made of.
    pub files: Files,
    /// Secrets that are missing, where they are optional.
    pub missing: Vec<ConfigIssue>,
}

/// Reads and checks the configuration at `path`, with this machine's environment and files.
///
/// # Errors
/// Every error in it, at once.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    load_from(&Machine, path)
}

/// Reads and checks the configuration at `path` as `input` holds it.
///
/// # Errors
/// Every error in it, at once.
pub fn load_from(input: &dyn Input, path: &Path) -> Result<Loaded, ConfigErrors> {
    load_with(input, path, Secrets::Required)
}

/// Reads and checks the configuration at `path` as `input` holds it, where `secrets` says whether
/// one may be missing.
///
/// # Errors
/// Every error in it, at once.
pub fn load_with(input: &dyn Input, path: &Path, secrets: Secrets) -> Result<Loaded, ConfigErrors> {
    let alone = Pass::new(input, path, "");
    let unreadable = |what: String, remedy: &str| {
        let (file, remedy) = (path.to_owned(), remedy.to_owned());
        ConfigIssue { file, line: None, column: None, key: String::new(), what, remedy }
    };
    let text = match alone.contents(path) {
        Ok(contents) => String::from_utf8(contents.bytes)
            .map_err(|_| unreadable(String::from("is not UTF-8"), "save it as UTF-8")),
        Err(error) => {
            Err(unreadable(format!("cannot be read: {error}"), "name a file with --config FILE"))
        }
    };
    check_env_files(&alone);
    let ConfigIssues { files, faults: in_files, warnings: of_files, .. } = alone.into_findings();
    let mut result = match text {
        Ok(_) if !in_files.is_empty() => {
            Err(ConfigErrors { faults: in_files, ..ConfigErrors::default() })
        }
        Ok(text) => load_text(Pass::new(input, path, &text).with_secrets(secrets), &text),
        Err(fault) => Err(ConfigErrors { faults: vec![fault], ..ConfigErrors::default() }),
    };
    match &mut result {
        Ok(loaded) => {
            loaded.files.add(files);
            loaded.warnings.extend(of_files);
        }
        Err(faults) => {
            faults.files.add(files);
            faults.warnings.extend(of_files);
        }
    }
    result
}

/// Checks the configuration `text` as if it stood at `path`.
///
/// # Errors
/// Every error in it, at once.
pub fn load_str(input: &dyn Input, path: &Path, text: &str) -> Result<Loaded, ConfigErrors> {
    load_text(Pass::new(input, path, text), text)
}

/// Notes which files of variables cannot be read, or hold something else.
fn check_env_files(pass: &Pass<'_>) {
    for file in pass.env_files() {
        let unreadable = |what: String| ConfigIssue {
            file: file.clone(),
            what,
            remedy: String::from("name a readable file of NAME=VALUE lines with --env-file FILE"),
            ..ConfigIssue::default()
        };
        match pass.contents(file).map(|contents| String::from_utf8(contents.bytes)) {
            Ok(Ok(text)) => {
                environment::parse(file, &text).1.into_iter().for_each(|issue| pass.fault(issue));
                let placeholders = environment::placeholders(file, &text);
                placeholders.into_iter().for_each(|issue| pass.warning(issue));
            }
            Ok(Err(_)) => pass.fault(unreadable(String::from("is not UTF-8"))),
            Err(error) => pass.fault(unreadable(format!("cannot be read: {error}"))),
        }
    }
}

fn load_text(pass: Pass<'_>, text: &str) -> Result<Loaded, ConfigErrors> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let config = match errors.is_empty() {
        true => check(&pass, &table),
        false => {
            errors.iter().for_each(|error| not_toml(&pass, error));
            None
        }
    };
    let ConfigIssues { files, mut faults, warnings, advice, missing } = pass.into_findings();
    match config.filter(|_| faults.is_empty()) {
        Some(config) => Ok(Loaded { config, warnings, advice, files, missing }),
        None => {
            // Without any error, the configuration cannot do without what is missing.
            if faults.is_empty() {
                faults = missing;
            }
            Err(ConfigErrors { faults, warnings, files })
        }
    }
}

/// Notes that a line is not TOML. The line is not shown: it may hold a secret.
fn not_toml(pass: &Pass<'_>, error: &toml::de::Error) {
    let span = error.span();
    pass.fault(ConfigIssue {
        file: pass.file().to_owned(),
        line: span.as_ref().map(|span| pass.line(span)),
        column: span.as_ref().map(|span| pass.column(span)),
        key: String::new(),
        what: format!("is not TOML: {}", error.message()),
        remedy: String::from("see https://toml.io"),
    });
}

/// All tables. Nothing where an error leaves no usable configuration; there may be errors
/// on the list all the same.
fn check<'a>(pass: &'a Pass<'a>, table: &'a Spanned<DeTable<'a>>) -> Option<Config> {
    let top = Section::top(pass, table);
    top.refuse_unknown(keys::TOP);
    let part = |key: &str, known: &[&str]| {
        let section = top.section(key).unwrap_or_else(|| Section::absent(pass, key));
        section.refuse_unknown(known);
        section
    };
    let listeners = part("server", server::KEYS);
    let server = server::check(&listeners);
    let mut admin = admin::check(&part("admin", admin::KEYS), &listeners, server.admin);
    let store = store::check(&part("store", store::KEYS));
    admin.token_file = store::token_file(pass, store.as_ref());
    let egress = store::check_egress(&part("egress", store::EGRESS_KEYS));
    let manage = manage::check(&part("manage", manage::KEYS));
    let alerts = alert::all(&top.sections("alert"));
    let archive = archive::check(&part("archive", archive::KEYS));
    let spans_and_lines = part("telemetry", telemetry::KEYS);
    let traces = telemetry::check(&spans_and_lines);
    let callback_lines = telemetry::lines(&spans_and_lines);
    let catalog = senders::check(&top);
    let sections = top.sections("destination");
    let (names, destinations) = destinations(&sections, &egress.signing_keys);
    let inline = |d: &&Destination| matches!(d.mode, Mode::Inline { .. });
    let sources = catalog.as_ref().map(|catalog| {
        let known = source::Known {
            catalog,
            destinations: &names,
            inline: &destinations.values().filter(inline).map(|d| d.name.clone()).collect(),
            keep: store.as_ref().map(keep::StoreKeep::of),
            body_bytes: server.limits.body_bytes,
            unverified_body_bytes: server.limits.unverified_body_bytes,
            public_url: server.public_url.as_deref(),
            tls: server.tls.as_ref(),
            written: source::Written::Now,
        };
        sources(&top, &known)
    });
    if let Some(sources) = &sources {
        callback_addresses::refuse_replayable(&top, sources, &manage);
        check_templates(&sections, sources, &destinations);
    }
    push_configuration::warn_of_unknown_apps(&sections, &destinations, &manage);
    if let Some(sources) = &sources {
        advice::give(&top, sources, &destinations);
        advice::companies_of_any_manager(&top, sources, &manage);
    }
    Some(Config {
        server,
        admin,
        store: store?,
        egress,
        catalog: Arc::new(catalog?),
        sources: sources?,
        destinations: destinations.into_iter().map(|(name, d)| (name, Arc::new(d))).collect(),
        alerts: alerts.into_iter().map(Arc::new).collect(),
        traces,
        callback_lines,
        archive,
        manage,
    })
}

/// The destinations, and the names of all of them, also of those that have errors.
fn destinations(
    sections: &[Section<'_>],
    keys: &[SigningKey],
) -> (BTreeSet<String>, BTreeMap<String, Destination>) {
    let mut names = BTreeSet::new();
    let mut lines = BTreeMap::new();
    for section in sections {
        let Some(name) = section.peek("name") else { continue };
        if names.insert(name.to_owned()) {
            lines.insert(name, section.place("name"));
        } else {
            let first = lines.get(name).map_or("", String::as_str);
            let what = format!("{name} is the name of another destination{first}");
            section.fault("name", what, "give each its own name");
        }
    }
    let checked = sections.iter().filter_map(|section| destination::check(section, keys));
    (names, checked.map(|destination| (destination.name.clone(), destination)).collect())
}

/// Holds the URL of each destination against the sources that deliver to it.
fn check_templates(
    sections: &[Section<'_>],
    sources: &BTreeMap<String, Arc<Source>>,
    destinations: &BTreeMap<String, Destination>,
) {
    for section in sections {
        let Some(to) = section.peek("name").and_then(|name| destinations.get(name)) else {
            continue;
        };
        let from = sources.values().filter(|source| source.destinations.contains(&to.name));
        let from: Vec<&Source> = from.map(|source| &**source).collect();
        from.iter().for_each(|source| template::check(section, "url", source, to));
        template::check_known(section, "url", &from, to);
    }
}

fn sources(top: &Section<'_>, known: &source::Known<'_>) -> BTreeMap<String, Arc<Source>> {
    let sections = top.sections("source");
    source::refuse_shared(&sections);
    supersede::check(&sections, known.catalog);
    let mut drafts: Vec<source::Draft> =
        sections.iter().filter_map(|section| source::check(section, known)).collect();
    source::refuse_shared_signatures(&sections, &drafts);
    supersede::settle(&mut drafts);
    drafts.into_iter().map(|d| (d.source.name.clone(), Arc::new(d.source))).collect()
}
