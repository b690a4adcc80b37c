//! `[store]` and `[egress]`: where the ledger is, and what deliveries may reach.

use std::path::PathBuf;

use super::file::{Item, Read, Section, ValueError};
use super::pass::Pass;
use super::{
    ConfigIssue, Egress, MASTER_KEY, OLD_MASTER_KEY, PostgresStore, Store, StoreEngine, limits,
    network, secret, signing, unit,
};
use crate::ledger::{PostgresOptions, ScrubShare};
use crate::sender::Secret;

pub(super) const KEYS: &[&str] = &[
    "engine",
    "path",
    "url",
    "schema",
    "ca",
    "writers",
    "readers",
    "read_timeout",
    "require_replicated",
    "keep_events",
    "keep_transactions",
    "scrub",
];

/// Keys that only a PostgreSQL server has.
const POSTGRES_KEYS: &[&str] =
    &["url", "schema", "ca", "writers", "readers", "read_timeout", "require_replicated"];

pub(super) const EGRESS_KEYS: &[&str] = &["allow", "signing_key"];

/// The name of the file that the token of this machine is kept in.
const TOKEN_FILE: &str = "admin-token";

const ENGINES: &[(&str, Engine)] =
    &[("embedded", Engine::Embedded), ("postgres", Engine::Postgres)];

#[derive(Clone, Copy, Debug)]
enum Engine {
    Embedded,
    Postgres,
}

/// The table `[store]`, or what holds without one. Nothing where its engine cannot be known.
pub(super) fn check(section: &Section<'_>) -> Option<Store> {
    let keep = unit::duration(limits::KEEP_BOUND);
    let keep_events = section.take_or("keep_events", limits::KEEP_EVENTS, &keep);
    let default = limits::KEEP_TRANSACTIONS.max(keep_events);
    let keep_transactions = section.take_or("keep_transactions", default, &keep);
    if keep_transactions < keep_events {
        let what = format!(
            "is {}, less than keep_events ({}): a callback could be taken twice while its first \
             event is still kept",
            unit::show(keep_transactions),
            unit::show(keep_events)
        );
        section.fault("keep_transactions", what, "keep transactions at least as long as events");
    }
    let scrub = section.take_or("scrub", Some(limits::SCRUB), scrub);
    let engine = match section.take_or("engine", Engine::Embedded, unit::word(ENGINES)) {
        Engine::Embedded => embedded(section),
        Engine::Postgres => postgres(section),
    };
    let [master_key, old_master_key] =
        [MASTER_KEY, OLD_MASTER_KEY].map(|name| sealing(section, name));
    Some(Store {
        engine: engine?,
        keep_events,
        keep_transactions,
        scrub,
        master_key,
        old_master_key,
    })
}

/// Where the token of this machine is kept: with the store, or where that would be by default.
pub(super) fn token_file(pass: &Pass<'_>, store: Option<&Store>) -> PathBuf {
    let folder = match store.map(|store| &store.engine) {
        Some(StoreEngine::Embedded { path }) => path.clone(),
        Some(StoreEngine::Postgres(_)) | None => pass.beside(limits::STORE_PATH),
    };
    folder.join(TOKEN_FILE)
}

/// A share of the time in percent, or `off`.
fn scrub(item: &Item<'_>) -> Read<Option<ScrubShare>> {
    let wanted = format!("\"1%\" to \"{}%\", or \"off\"", ScrubShare::MAX);
    let text = item.text(&wanted)?;
    if text == "off" {
        return Ok(None);
    }
    let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
    let share = percent.and_then(ScrubShare::percent);
    let what = || ValueError::new(format!("{text:?} is not a share"), format!("write {wanted}"));
    share.map(Some).ok_or_else(what)
}

/// A master key, which is in no file: an error in it has no line.
fn sealing(section: &Section<'_>, name: &str) -> Option<Secret> {
    section.pass.master_key(name).unwrap_or_else(|what| {
        section.pass.fault(ConfigIssue {
            file: section.pass.file().to_owned(),
            line: None,
            column: None,
            key: name.to_owned(),
            what,
            remedy: String::from("make one: openssl rand -base64 32"),
        });
        None
    })
}

fn embedded(section: &Section<'_>) -> Option<StoreEngine> {
    misplaced(section, POSTGRES_KEYS, "postgres");
    let path = match section.has("path") {
        true => section.take("path", folder)?,
        false => limits::STORE_PATH.to_owned(),
    };
    Some(StoreEngine::Embedded { path: section.pass.beside(&path) })
}

/// A folder that is there or can be made.
fn folder(item: &Item<'_>) -> Read<String> {
    let text = unit::text(item)?;
    let path = item.pass.beside(&text);
    let nearest = path.ancestors().find_map(|one| Some((one, std::fs::metadata(one).ok()?)));
    match nearest {
        Some((there, what)) if !what.is_dir() => {
            let what = format!("{} is a file", there.display());
            Err(ValueError::new(what, "name a folder; it is made if it does not exist"))
        }
        _ => Ok(text),
    }
}

fn postgres(section: &Section<'_>) -> Option<StoreEngine> {
    misplaced(section, &["path", "scrub"], "embedded");
    let connections = unit::count(limits::STORE_CONNECTIONS_BOUND);
    let read_timeout = unit::duration(limits::STORE_READ_TIMEOUT_BOUND);
    let schema = section.take_or("schema", limits::STORE_SCHEMA.to_owned(), schema);
    let ca = section.take("ca", |item| unit::text(item).map(|path| item.pass.beside(&path)));
    let writers = section.take_or("writers", limits::STORE_WRITERS, &connections);
    let readers = section.take_or("readers", limits::STORE_READERS, &connections);
    let read_timeout = section.take_or("read_timeout", limits::STORE_READ_TIMEOUT, &read_timeout);
    let require_replicated = section.take_or("require_replicated", false, unit::switch);
    let url = section.need("url", "\"env:POSTERN_DATABASE_URL\"", postgres_url);
    Some(StoreEngine::Postgres(PostgresStore {
        url,
        schema,
        ca,
        writers,
        readers,
        read_timeout,
        require_replicated,
    }))
}

/// A name that needs no quotes in SQL.
fn schema(item: &Item<'_>) -> Read<String> {
    let name = unit::text(item)?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    let short = name.len() <= limits::STORE_SCHEMA_BYTES_MAX;
    if begins && short && name.bytes().all(fits) && !name.starts_with("pg_") {
        return Ok(name);
    }
    let remedy = format!(
        "write a small letter, then small letters, digits and underscores, {} at most",
        limits::STORE_SCHEMA_BYTES_MAX
    );
    Err(ValueError::new(format!("{name:?} is not a valid name for a schema"), remedy))
}

fn misplaced(section: &Section<'_>, keys: &[&str], engine: &str) {
    for key in keys.iter().filter(|key| section.has(key)) {
        let what = format!("belongs to engine = \"{engine}\"");
        section.fault(key, what, format!("omit it, or write engine = \"{engine}\""));
    }
}

fn postgres_url(item: &Item<'_>) -> Read<Secret> {
    let url = secret::public(item)?;
    let remedy = "write postgres://user@host/database";
    let schemes: [&[u8]; 2] = [b"postgres://", b"postgresql://"];
    if !schemes.iter().any(|scheme| url.expose().starts_with(scheme)) {
        return Err(ValueError::new("does not begin with postgres://", remedy));
    }
    let text =
        std::str::from_utf8(url.expose()).or(Err(ValueError::new("is not UTF-8", remedy)))?;
    if text.split_once('@').is_some_and(|(user, _)| user.matches(':').count() > 1) {
        secret::note(item); // user:password@
    }
    match PostgresOptions::check_url(text) {
        Ok(()) => Ok(url),
        Err(what) => Err(ValueError::new(what, remedy)),
    }
}

/// The table `[egress]`, or what holds without one.
pub(super) fn check_egress(section: &Section<'_>) -> Egress {
    let allow = section.list("allow", |item| {
        let range = network::range(item)?;
        match network::forbidden(range.network()) {
            Some(why) if range.prefix_len() > 0 => {
                let what = format!("{range} begins with an address {why}");
                Err(ValueError::new(what, "omit it: nothing lifts that"))
            }
            _ => Ok(range),
        }
    });
    let signing_keys = section.list("signing_key", signing::key).unwrap_or_default();
    Egress { allow: allow.unwrap_or_default(), signing_keys }
}
