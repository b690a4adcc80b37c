//! `[[source]]`: the inbound endpoints.

mod guards;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use toml::de::DeValue;

use self::guards::{
    allow, refuse_forgotten, refuse_repeating_signatures, refuse_unknown_url, refuse_unprotected,
    warn_of_strangers, warn_of_undated_age,
};
use super::file::{Item, Read, Section, ValueError, nearest};
use super::keep::{self, StoreKeep};
use super::pass::Writer;
use super::route::{self, Allowed};
use super::secret;
use super::senders::{self, CUSTOM};
use super::{Origin, Source, Superseded, Tls, client_ca, limits, network, quarantine, shown, unit};
use crate::clock;
use crate::sender::{Catalog, Confirming, LiveSecret, Recipe, Replay, Sender, Terms, Weak};

pub(super) const KEYS: &[&str] = &[
    "name",
    "id",
    "sender",
    "recipe",
    "secrets",
    "destinations",
    "template",
    "enabled",
    "params",
    "allow",
    "client_ca",
    "max_age",
    "rate",
    "require",
    "unsigned",
    "reply",
    "rewards",
    "body",
    "key_set_url",
    "confirmed",
    "replayable",
    "weak",
    "confirm",
    "quarantine",
    "route",
    "keep_events",
    "keep_transactions",
    "sids",
    "supersedes",
];

pub(super) const SECRET_KEYS: &[&str] = &["value", "id", "until"];

/// Names that people give to what is called `secrets` here.
const SECRET_WORDS: &[&str] =
    &["secret", "sec_key", "appSecret", "app_secret", "token", "key", "manager_key", "secret_key"];

/// The context that the sources are checked against.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) catalog: &'a Catalog,
    /// The destinations' names, also of those that have errors of their own.
    pub(super) destinations: &'a BTreeSet<String>,
    /// Which of them a sender waits for.
    pub(super) inline: &'a BTreeSet<String>,
    pub(super) keep: Option<StoreKeep>,
    pub(super) body_bytes: usize,
    pub(super) unverified_body_bytes: usize,
    /// Scheme and host as senders see them.
    pub(super) public_url: Option<&'a str>,
    /// TLS of the callback listener.
    pub(super) tls: Option<&'a Tls>,
    pub(super) written: Written,
}

/// When a source was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Now: everything is checked.
    Now,
    /// By an earlier version, which checked less. It goes on as it is.
    Before,
}

/// A source, and the others that it takes precedence over.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) source: Source,
    pub(super) sids: Vec<String>,
    pub(super) supersedes: Vec<String>,
}

/// One table of `[[source]]`.
pub(super) fn check(section: &Section<'_>, known: &Known<'_>) -> Option<Draft> {
    let name = section.need("name", "\"level-end\"", unit::name);
    let sender = sender_of(section, known.catalog);
    refuse_unknown(section, sender, known.catalog);
    let allow = allow(section, sender);
    let client_ca = client_ca::read(section, known.tls);
    let terms = terms(section, sender);
    let destinations = destinations(section, sender, known);
    let allowed = Allowed { destinations: known.destinations, inline: known.inline };
    let routes = route::read(section, allowed);
    let rate = section.take("rate", unit::rate);
    let body_bytes = body(section, known);
    let id = section.take("id", unit::name);
    let quarantine = quarantine::read(section);
    let keep = keep::read(section, known.keep);
    let enabled = section.take_or("enabled", true, unit::switch);
    let sids = section.list("sids", unit::text).unwrap_or_default();
    let supersedes = section.list("supersedes", unit::name).unwrap_or_default();

    let sender = sender?;
    warn_of_strangers(section, sender);
    let recipe = compile(section, sender, &terms);
    let kept = keep.transactions.or(known.keep.map(|store| store.transactions));
    refuse_forgotten(section, sender, recipe.as_ref(), kept);
    refuse_unprotected(section, sender, &terms, &allow);
    let (name, recipe) = (name?, recipe?);
    refuse_unknown_url(section, &recipe, known.public_url);
    if known.written == Written::Now {
        refuse_repeating_signatures(section, &recipe, &allow);
        if let Some(unusable) = recipe.unusable_value() {
            let what = "has a value that the sender never sends: every callback would be rejected";
            section.fault(unusable.setting, what, unusable.remedy);
        }
    }
    warn_of_undated_age(section, &recipe);
    let source = Source {
        origin: Origin::File,
        shown: shown::source(section, recipe.sender()),
        app_id: app_id(&terms),
        id: id.unwrap_or_else(|| name.clone()),
        superseded: Superseded::Never,
        quarantine,
        keep,
        name,
        enabled,
        recipe,
        destinations,
        routes,
        allow,
        client_ca,
        rate,
        body_bytes,
    };
    Some(Draft { source, sids, supersedes })
}

// ---- the sender and its keys ----

/// The sender that a source names, or that is in its own file.
fn sender_of<'k>(section: &Section<'_>, catalog: &'k Catalog) -> Option<&'k Arc<Sender>> {
    let custom = section.peek("sender") == Some(CUSTOM) && catalog.get(CUSTOM).is_none();
    match (custom, section.item("recipe")) {
        (true, None) => {
            let remedy = "write recipe = \"my-sender.toml\": the file that says how it signs";
            section.fault("recipe", "is missing: a custom sender is a file of your own", remedy);
            None
        }
        // Errors of the file were reported where the catalog was put together.
        (true, Some(recipe)) => {
            let sender = section.peek("recipe").and_then(senders::name_of);
            let sender = sender.and_then(|name| catalog.get(name));
            // No file was read for a source that came over an API.
            if sender.is_none() && recipe.pass.writer() != Writer::Operator {
                let remedy = "write senders = [\"my-sender.toml\"] in the configuration file, and \
                              its name here: sender = \"my-sender\"";
                recipe.fault("is a file that the configuration file does not name", remedy);
            }
            sender
        }
        (false, recipe) => {
            if let Some(recipe) = recipe {
                recipe.fault("is for sender = \"custom\" alone", "take one of the two out");
            }
            // The errors of its file were reported where the catalog was put together.
            let broken = section.peek("sender").filter(|name| catalog.is_broken(name));
            if let Some(name) = broken {
                return catalog.get(name);
            }
            section.need("sender", "\"taku\"", |item| sender(item, catalog))
        }
    }
}

fn sender<'k>(item: &Item<'_>, catalog: &'k Catalog) -> Read<&'k Arc<Sender>> {
    let name = item.text("a sender's name such as \"taku\"")?;
    catalog.get(name).ok_or_else(|| {
        let names: Vec<&str> = catalog.iter().map(|sender| sender.name()).collect();
        let also = catalog.also_called(name).map(|sender| {
            let own = sender.name();
            format!("write sender = {own:?}: {}", sender.title())
        });
        let near = || nearest(name, &names).map(|near| format!("did you mean {near}?"));
        let remedy = also.or_else(near).unwrap_or_else(|| {
            String::from("`postern senders` lists those there are; senders = [\"…\"] adds one")
        });
        ValueError::new(format!("there is no sender {name:?}"), remedy)
    })
}

/// Refuses keys that neither a source nor its sender has. Where the sender is not known, a
/// setting of any sender passes: its error is the sender's name.
fn refuse_unknown(section: &Section<'_>, sender: Option<&Arc<Sender>>, all: &Catalog) {
    let own = sender.map_or_else(|| all.iter().collect(), |sender| vec![sender]);
    let settings = own.iter().flat_map(|sender| sender.settings());
    let known: Vec<&str> =
        KEYS.iter().copied().chain(settings.map(|(name, _)| name.as_str())).collect();
    section.refuse_unknown_or(&known, |key| {
        if SECRET_WORDS.contains(&key) {
            return Some(String::from("write secrets, whatever the sender calls it"));
        }
        let has = |sender: &&Arc<Sender>| sender.settings().iter().any(|(k, _)| k == key);
        let other = all.iter().find(has)?;
        Some(format!("it is a setting of the sender {}", other.name()))
    });
}

fn terms(section: &Section<'_>, sender: Option<&Arc<Sender>>) -> Terms {
    let own = sender.map_or(&[][..], |sender| sender.settings());
    let is_open = |name: &str| {
        name.ends_with("_id") || sender.is_some_and(|one| one.ours().any(|ours| ours == name))
    };
    let read = |name: &str| if is_open(name) { secret::public } else { secret::secret };
    let setting = |name: &str| Some((name.to_owned(), section.take(name, read(name))?));
    let mut settings: BTreeMap<_, _> = own.iter().filter_map(|(name, _)| setting(name)).collect();
    let key_set_url = section.take(Terms::KEY_SET_URL, network::key_set);
    settings.extend(key_set_url.map(|url| (Terms::KEY_SET_URL.to_owned(), url)));
    Terms {
        source: section.peek("name").unwrap_or_default().to_owned(),
        secrets: secrets(section),
        settings,
        params: section.map("params", unit::text),
        keys: BTreeMap::new(),
        template: section.take("template", |item| item.text("a text").map(str::to_owned)),
        max_age: section.take("max_age", unit::max_age),
        require: section.list("require", unit::text).unwrap_or_default(),
        unsigned: section.take_or("unsigned", false, unit::switch),
        reply: section.take("reply", table).unwrap_or_default(),
        rewards: section.map("rewards", amount),
        weak: match section.take_or("weak", false, unit::switch) {
            true => Weak::Accepted,
            false => Weak::Rejected,
        },
        confirm: match section.take_or("confirm", false, unit::switch) {
            true => Confirming::ByGateway,
            false => Confirming::ByOperator,
        },
        replayable: match section.take_or("replayable", false, unit::switch) {
            true => Replay::Accepted,
            false => Replay::Rejected,
        },
        confirmed: confirmed(section, sender),
    }
}

/// Names whose unconfirmed shape the source has seen to be right: a list, or `true` for all.
fn confirmed(section: &Section<'_>, sender: Option<&Arc<Sender>>) -> Vec<String> {
    let all = match section.item("confirmed").map(|item| item.value) {
        Some(DeValue::Boolean(all)) => *all,
        _ => return section.list("confirmed", unit::text).unwrap_or_default(),
    };
    let names = sender.into_iter().flat_map(|sender| sender.unconfirmed_shapes());
    let names: Vec<String> = names.filter(|_| all).map(str::to_owned).collect();
    if all && names.is_empty() {
        let what = "has nothing to confirm";
        section.fault("confirmed", what, "omit it: the sender's file has no unconfirmed shape");
    }
    names
}

fn app_id(terms: &Terms) -> Option<String> {
    let setting = terms.settings.get("app_id")?;
    // An app's id is not a secret, though it is read as settings are.
    std::str::from_utf8(setting.expose()).ok().map(str::to_owned)
}

/// Binds the sender to the source. A key that has an error already is not reported twice.
fn compile(section: &Section<'_>, sender: &Arc<Sender>, terms: &Terms) -> Option<Recipe> {
    let faults = match Recipe::compile(sender, terms) {
        Ok(recipe) => return Some(recipe),
        Err(faults) => faults,
    };
    for fault in &faults {
        let first = fault.key.split(['.', '[']).next().unwrap_or_default();
        if !section.is_faulty(first) {
            section.sender_fault(fault);
        }
    }
    None
}

// ---- secrets ----

fn secrets(section: &Section<'_>) -> Vec<LiveSecret> {
    let Some(item) = section.item("secrets") else { return Vec::new() };
    let whole = item.clone();
    let elements = item.elements();
    if elements.is_empty() {
        whole.fault("is an empty list", "write a secret, or leave the key out");
    }
    let mut ids = BTreeSet::new();
    let mut secrets = Vec::new();
    for (at, element) in elements.iter().enumerate() {
        let Some((given, mut live)) = live_secret(element, at) else { continue };
        let same = |other: &LiveSecret| other.value.expose() == live.value.expose();
        if let Some(earlier) = secrets.iter().position(same) {
            let what = format!("is the same secret as the one in place {}", earlier + 1);
            element.warning(what, "give the new secret beside the old one, or take one out");
        }
        if ids.contains(&live.id) && given == Id::Given {
            element.fault(format!("{} is named twice", live.id), "give each its own id");
        } else if ids.contains(&live.id) {
            live.id = format!("{}-{}", live.id, at + 1);
        }
        ids.insert(live.id.clone());
        secrets.push(live);
    }
    let now_ms = section.pass.now_ms();
    let ended = |live: &LiveSecret| live.until_ms.is_some_and(|until| until <= now_ms);
    if !secrets.is_empty() && secrets.iter().all(ended) {
        whole.warning("have all ended: every callback is rejected", "give one that has not");
    }
    secrets
}

/// Where a secret's id comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Given,
    Derived,
}

fn live_secret(item: &Item<'_>, at: usize) -> Option<(Id, LiveSecret)> {
    let place = || (at + 1).to_string();
    if !matches!(item.value, DeValue::Table(_)) {
        let value = item.note(secret::secret(item))?;
        let id = secret::origin(item).unwrap_or_else(place);
        return Some((Id::Derived, LiveSecret { id, value, until_ms: None }));
    }
    let section = item.note(item.section("write { value = \"env:…\" }"))?;
    section.refuse_unknown(SECRET_KEYS);
    let value = section.need("value", "\"env:…\"", secret::secret);
    let until_ms = section.take("until", until);
    let given = section.take("id", unit::name);
    let kind = if given.is_some() { Id::Given } else { Id::Derived };
    let origin = || section.item("value").as_ref().and_then(secret::origin);
    let id = given.or_else(origin).unwrap_or_else(place);
    Some((kind, LiveSecret { id, value: value?, until_ms }))
}

/// A date with its offset, as TOML has it or as text.
fn until(item: &Item<'_>) -> Read<i64> {
    const WANTED: &str = "a time with its offset such as 2026-12-31T00:00:00Z";
    let text = match item.value {
        DeValue::Datetime(date) => date.to_string(),
        _ => item.text(WANTED)?.to_owned(),
    };
    let stamp: Result<jiff::Timestamp, _> = text.parse();
    let unread = |_| ValueError::new(format!("{text:?} cannot be read"), format!("write {WANTED}"));
    let stamp = stamp.map_err(unread)?;
    if stamp.as_millisecond() <= item.pass.now_ms() {
        let since = clock::rfc3339(stamp.as_millisecond());
        item.warning(format!("the secret ended at {since}"), "remove it");
    }
    Ok(stamp.as_millisecond())
}

fn body(section: &Section<'_>, known: &Known<'_>) -> usize {
    let size = unit::size(limits::BODY_BYTES_BOUND);
    let bytes = section.take_or("body", known.body_bytes, size);
    if bytes > known.unverified_body_bytes {
        let what = "is more than server.limits.unverified_body, so that it could never be read";
        section.fault("body", what, "raise the one, or lower the other");
    }
    bytes
}

fn destinations(
    section: &Section<'_>,
    sender: Option<&Arc<Sender>>,
    known: &Known<'_>,
) -> Vec<String> {
    let Some(item) = section.item("destinations") else { return Vec::new() };
    let mut names: Vec<String> = Vec::new();
    for element in item.elements() {
        let Some(name) = element.note(element.text("a destination's name")) else { continue };
        if names.iter().any(|other| other == name) {
            element.fault(format!("{name} is named twice"), "name it once");
        } else if !known.destinations.contains(name) {
            let all: Vec<&str> = known.destinations.iter().map(String::as_str).collect();
            let near = nearest(name, &all).map(|near| format!("did you mean {near}?"));
            let remedy = near.unwrap_or_else(|| format!("write [[destination]] name = {name:?}"));
            element.fault(format!("there is no destination {name:?}"), remedy);
        } else {
            if known.inline.contains(name) && sender.is_some_and(|one| one.brings_several()) {
                let remedy = "make the destination asynchronous: one answer has no room for several verdicts";
                element.fault(
                    format!(
                        "{name} is inline, and the sender brings several events in one callback"
                    ),
                    remedy,
                );
            }
            if known.inline.contains(name) && names.iter().any(|n| known.inline.contains(n)) {
                let remedy = "leave mode = \"inline\" with the one whose verdict counts";
                element.fault("is the second one that the sender waits for", remedy);
            }
            names.push(name.to_owned());
        }
    }
    names
}

// ---- small readers ----

/// An amount as text or number; a number is kept as it is spelled.
fn amount(item: &Item<'_>) -> Read<String> {
    match item.value {
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        _ => item.text("an amount such as \"10\"").map(str::to_owned),
    }
}

/// A table as written, for those who read it themselves.
fn table(item: &Item<'_>) -> Read<toml::Table> {
    match plain(item.value)? {
        toml::Value::Table(table) => Ok(table),
        _ => Err(item.expected("a table")),
    }
}

fn plain(value: &DeValue<'_>) -> Read<toml::Value> {
    let number = || ValueError::new("has a number that is too large", "write it as a text");
    Ok(match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(integer) => {
            let read = i64::from_str_radix(integer.as_str(), integer.radix());
            toml::Value::Integer(read.map_err(|_| number())?)
        }
        DeValue::Float(float) => toml::Value::Float(float.as_str().parse().map_err(|_| number())?),
        DeValue::Boolean(on) => toml::Value::Boolean(*on),
        DeValue::Datetime(date) => toml::Value::Datetime(*date),
        DeValue::Array(list) => {
            let read: Read<Vec<_>> = list.iter().map(|value| plain(value.get_ref())).collect();
            toml::Value::Array(read?)
        }
        DeValue::Table(table) => {
            let pair = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Ok((key.to_string(), plain(value.get_ref())?))
            };
            toml::Value::Table(table.iter().map(pair).collect::<Read<toml::Table>>()?)
        }
    })
}

// ---- across sources ----

/// Refuses names and ids that two sources have: also where either has errors of its own.
pub(super) fn refuse_shared(sections: &[Section<'_>]) {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut ids: BTreeMap<&str, (&str, String)> = BTreeMap::new();
    for section in sections {
        let Some(name) = section.peek("name") else { continue };
        let id = section.peek("id").unwrap_or(name);
        let key = if section.has("id") { "id" } else { "name" };
        if let Some(first) = names.get(name) {
            let what = format!("{name} is the name of another source{first}");
            section.fault("name", what, "give each its own name");
            continue;
        }
        names.insert(name, section.place("name"));
        if let Some((other, first)) = ids.insert(id, (name, section.place(key))) {
            let what = format!("{id} is the id of the source {other}{first}");
            let remedy = "give this one an id of its own: two sources with one would take each \
                          other's callbacks for duplicates";
            section.fault(key, what, remedy);
        }
    }
}

/// Refuses two sources whose signatures are each other's: what was sent to the one could be sent to
/// the other, and would be another event there.
pub(super) fn refuse_shared_signatures(sections: &[Section<'_>], drafts: &[Draft]) {
    let section_of =
        |name: &str| sections.iter().find(|section| section.peek("name") == Some(name));
    for (at, later) in drafts.iter().enumerate() {
        let other =
            drafts[..at].iter().find(|earlier| are_confused(&earlier.source, &later.source));
        if let (Some(other), Some(section)) = (other, section_of(&later.source.name)) {
            refuse_confused(section, &later.source, &other.source);
        }
    }
}

/// Whether a callback to the one would be taken by the other, and no one has agreed to that.
pub(super) fn are_confused(one: &Source, other: &Source) -> bool {
    let agreed = one.recipe.is_replayable() && other.recipe.is_replayable();
    one.name != other.name && !agreed && one.recipe.shares_signatures(&other.recipe)
}

pub(super) fn refuse_confused(section: &Section<'_>, own: &Source, other: &Source) {
    let (shared, key) = match own.recipe.sender().secret() {
        Some(_) => ("a secret", "secrets"),
        None => ("its list of public keys", "sender"),
    };
    let what = format!(
        "shares {shared} with the source {}: a callback to one of them verifies for the other",
        other.name
    );
    let ours: Vec<&str> = own.recipe.sender().ours().collect();
    let apart = match ours.as_slice() {
        [] => String::from("give each its own secret"),
        names => format!("name different {} in each", names.join(", ")),
    };
    section.fault(key, what, format!("{apart}, or write replayable = true in both"));
}
