//! `[store]` and `[egress]`: where the ledger is, and what deliveries may reach.

use super::file::{Item, Problem, Read, Section};
use super::{
    Egress, Finding, MASTER_KEY, OLD_MASTER_KEY, Store, StoreEngine, limits, network, secret, unit,
};
use crate::sender::Secret;

pub(super) const KEYS: &[&str] =
    &["engine", "path", "url", "require_replicated", "keep_events", "keep_transactions"];

pub(super) const EGRESS_KEYS: &[&str] = &["allow"];

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
    let engine = match section.take_or("engine", Engine::Embedded, unit::word(ENGINES)) {
        Engine::Embedded => embedded(section),
        Engine::Postgres => postgres(section),
    };
    let [master_key, old_master_key] =
        [MASTER_KEY, OLD_MASTER_KEY].map(|name| sealing(section, name));
    Some(Store { engine: engine?, keep_events, keep_transactions, master_key, old_master_key })
}

/// A master key, which stands in no file: a mistake in it has no line.
fn sealing(section: &Section<'_>, name: &str) -> Option<Secret> {
    section.pass.master_key(name).unwrap_or_else(|what| {
        section.pass.fault(Finding {
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
    misplaced(section, &["url", "require_replicated"], "postgres");
    let path = match section.has("path") {
        true => section.take("path", unit::text)?,
        false => limits::STORE_PATH.to_owned(),
    };
    Some(StoreEngine::Embedded { path: section.pass.beside(&path) })
}

fn postgres(section: &Section<'_>) -> Option<StoreEngine> {
    misplaced(section, &["path"], "embedded");
    let require_replicated = section.take_or("require_replicated", false, unit::switch);
    let url = section.need("url", "\"env:POSTERN_DATABASE_URL\"", postgres_url)?;
    Some(StoreEngine::Postgres { url, require_replicated })
}

fn misplaced(section: &Section<'_>, keys: &[&str], engine: &str) {
    for key in keys.iter().filter(|key| section.has(key)) {
        let what = format!("belongs to engine = \"{engine}\"");
        section.fault(key, what, format!("leave it out, or write engine = \"{engine}\""));
    }
}

fn postgres_url(item: &Item<'_>) -> Read<Secret> {
    let url = secret::secret(item)?;
    let schemes: [&[u8]; 2] = [b"postgres://", b"postgresql://"];
    if schemes.iter().any(|scheme| url.expose().starts_with(scheme)) {
        return Ok(url);
    }
    Err(Problem::new("does not begin with postgres://", "write postgres://user@host/database"))
}

/// The table `[egress]`, or what holds without one.
pub(super) fn check_egress(section: &Section<'_>) -> Egress {
    let allow = section.list("allow", |item| {
        let range = network::range(item)?;
        match network::forbidden(range.network()) {
            Some(why) if range.prefix_len() > 0 => {
                let what = format!("{range} begins with an address {why}");
                Err(Problem::new(what, "leave it out: nothing lifts that"))
            }
            _ => Ok(range),
        }
    });
    Egress { allow: allow.unwrap_or_default() }
}
