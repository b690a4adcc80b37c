//! Checks of who may call a source, and of what its signature protects.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::super::file::{Read, Section, ValueError};
use super::super::{network, secret_path, unit};
use crate::sender::{Recipe, RepeatingSignature, Sender, Terms};

// ---- guards ----

/// Addresses that a source accepts callbacks from; `sender` means those that the sender publishes.
pub(super) fn allow(section: &Section<'_>, sender: Option<&Arc<Sender>>) -> Vec<IpNet> {
    let Some(item) = section.item("allow") else { return Vec::new() };
    let whole = item.clone();
    let elements = item.elements();
    if elements.is_empty() {
        whole.fault("is an empty list", "omit it, or write enabled = false");
    }
    let ranges = elements.iter().filter_map(|element| match element.value.as_str() {
        Some("sender") => sender.and_then(|sender| element.note(published(sender))),
        _ => element.note(network::range(element)).map(|range| vec![range]),
    });
    ranges.flatten().collect()
}

fn published(sender: &Sender) -> Read<Vec<IpNet>> {
    let ranges: Vec<IpNet> =
        sender.addresses().iter().filter_map(|text| network::parse_range(text)).collect();
    if ranges.is_empty() {
        let what = format!("{} publishes no addresses", sender.name());
        return Err(ValueError::new(what, "write the ranges that its calls come from"));
    }
    Ok(ranges)
}

/// A sender that signs the whole URL signs the one that it sees, which the gateway cannot guess.
pub(super) fn refuse_unknown_url(section: &Section<'_>, recipe: &Recipe, public_url: Option<&str>) {
    if recipe.signs_url() && public_url.is_none() {
        let what = "signs the whole URL, and server.public_url is not set";
        section.fault("sender", what, "set it to scheme and host as this sender calls them");
    }
}

/// A source that checks no signature has to be protected in another way, and to say so. That one
/// of a sender that signs has its secret is the sender's own check.
pub(super) fn refuse_unprotected(
    section: &Section<'_>,
    sender: &Sender,
    terms: &Terms,
    allow: &[IpNet],
) {
    if !terms.unsigned && sender.variants().next().is_none() {
        let what = format!("is missing: nothing signs what {} sends", sender.name());
        section.fault("unsigned", what, "write unsigned = true, and what protects it instead");
    }
    let allowed = !allow.is_empty() || section.has("allow");
    if terms.unsigned && !allowed && !secret_path::is_secret_path(&terms.source) {
        let remedy = format!(
            "write allow = [\"203.0.113.0/24\"], or a name that cannot be guessed, of 128 random \
             bits: {} hexadecimal digits, or {} of base64url, in one run (openssl rand -hex 16)",
            secret_path::HEX_DIGITS,
            secret_path::BASE64_DIGITS
        );
        section.fault("unsigned", "lets everybody send events", remedy);
    }
}

/// One signature of some senders serves several transactions: who has seen one call can send it
/// again under new ids, without bound.
pub(super) fn refuse_repeating_signatures(section: &Section<'_>, recipe: &Recipe, allow: &[IpNet]) {
    const REMEDY: &str = "write allow = [\"203.0.113.0/24\"], the addresses that it calls from, or \
                          replayable = true";
    let allowed = !allow.is_empty() || section.has("allow");
    if recipe.is_replayable() || allowed || !section.has("secrets") {
        return;
    }
    match recipe.repeats() {
        Some(RepeatingSignature::Always(why)) => {
            let what = format!("accepts one signature under any number of ids: {why}");
            section.fault("sender", what, REMEDY);
        }
        Some(RepeatingSignature::Sometimes(why)) => {
            let what = format!("accepts some signatures under any number of ids: {why}");
            section.warning("sender", what, REMEDY);
        }
        None => {}
    }
}

/// Where the signature does not cover the time, a replay attack can make a callback fresh.
pub(super) fn warn_of_undated_age(section: &Section<'_>, recipe: &Recipe) {
    let is_off = section.peek("max_age") == Some("off");
    if section.has("max_age") && !is_off && !recipe.is_dated() {
        let what = "does not protect against replay attacks: not every signature of the sender \
                    covers the time";
        section.warning("max_age", what, "keep in mind that it only filters late callbacks");
    }
}

/// A sender that signs for everybody alike, and a source that does not say what is its own.
pub(super) fn warn_of_strangers(section: &Section<'_>, sender: &Sender) {
    if !sender.publishes_keys() {
        return;
    }
    for name in sender.ours().filter(|name| !section.has(name)) {
        let what = format!(
            "is missing: {} signs for all its publishers, and callbacks of any of them are accepted",
            sender.name()
        );
        section.warning(name, what, "name your own, separated by spaces");
    }
}

/// A key that is forgotten before its callback is too old lets it be accepted twice.
pub(super) fn refuse_forgotten(
    section: &Section<'_>,
    sender: &Sender,
    recipe: Option<&Recipe>,
    keep: Option<Duration>,
) {
    let Some(keep) = keep else { return };
    let fault = |key: &str, what: String| {
        let forgotten = unit::show(keep);
        let what = format!("{what}, and transactions are forgotten after {forgotten}");
        let remedy = match section.has("keep_transactions") {
            true => "raise keep_transactions",
            false => "raise store.keep_transactions",
        };
        section.fault(key, what, remedy);
    };
    if let Some(horizon) = sender.retries().horizon.filter(|horizon| *horizon > keep) {
        return fault("sender", format!("{} retries for {}", sender.name(), unit::show(horizon)));
    }
    if let Some(time) = recipe.and_then(Recipe::acceptable_for).filter(|time| *time > keep) {
        let key = if section.has("max_age") { "max_age" } else { "sender" };
        fault(key, format!("a callback can be accepted for {}", unit::show(time)));
    }
}
