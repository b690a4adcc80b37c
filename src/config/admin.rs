//! `[admin]`: who may use the admin listener.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use toml::de::DeValue;

use super::file::{Item, Section};
use super::limits::TOKEN_BYTES_GOOD;
use super::{
    Admin, AdminRight, AdminToken, SourcePattern, SourceScope, network, oidc, secret, unit,
};

pub(super) const KEYS: &[&str] = &["token", "open_metrics", "public_url", "oidc"];
pub(super) const TOKEN_KEYS: &[&str] = &["name", "value", "right", "sources"];

pub(super) const RIGHTS: &[(&str, AdminRight)] =
    &[("admin", AdminRight::Admin), ("support", AdminRight::Support), ("read", AdminRight::Read)];
const MAKE_ONE: &str = "write token = \"env:POSTERN_ADMIN_TOKEN\" under [admin]";

/// The table `[admin]`, or what holds without one, for a listener at `address` of `server`.
pub(super) fn check(section: &Section<'_>, server: &Section<'_>, address: SocketAddr) -> Admin {
    let tokens = section.item("token").map(|item| tokens(item, address));
    if tokens.is_none() && !address.ip().is_loopback() {
        let what = format!("{address} can be reached from elsewhere, and there is no token");
        server.fault("admin", what, format!("{MAKE_ONE}, or listen on 127.0.0.1"));
    }
    let open_metrics = section.take_or("open_metrics", false, unit::switch);
    let public_url = section.take("public_url", network::origin);
    let oidc = section.section("oidc").and_then(|section| oidc::check(&section));
    let tokens = tokens.unwrap_or_default();
    Admin { tokens, open_metrics, public_url, oidc, ..Admin::default() }
}

fn tokens(item: Item<'_>, address: SocketAddr) -> Vec<AdminToken> {
    let whole = item.clone();
    let mut tokens = Vec::new();
    let mut names = BTreeSet::new();
    let elements = item.elements();
    if elements.is_empty() {
        whole.fault("is an empty list", "write a token, or leave the key out");
    }
    for (at, element) in elements.iter().enumerate() {
        let Some(token) = token(element, at) else { continue };
        if !names.insert(token.name.clone()) {
            element.fault(format!("{} is named twice", token.name), "give each its own name");
        }
        if tokens.iter().any(|other: &AdminToken| other.value == token.value) {
            element.fault("repeats another token", "give each name its own token");
        }
        if token.value.expose().len() < TOKEN_BYTES_GOOD {
            let what =
                format!("has fewer than {TOKEN_BYTES_GOOD} characters, which can be guessed");
            match address.ip().is_loopback() {
                true => element.warning(&what, "make one: openssl rand -hex 32"),
                false => element.fault(what, "make one: openssl rand -hex 32"),
            }
        }
        tokens.push(token);
    }
    tokens
}

fn token(item: &Item<'_>, at: usize) -> Option<AdminToken> {
    if !matches!(item.value, DeValue::Table(_)) {
        let value = item.note(secret::secret(item))?;
        let name = if at == 0 { String::from("admin") } else { format!("admin-{}", at + 1) };
        return Some(AdminToken { name, value, right: AdminRight::Admin, scope: SourceScope::All });
    }
    let section = item.note(item.section(MAKE_ONE))?;
    section.refuse_unknown(TOKEN_KEYS);
    let name = section.need("name", "\"ops\"", unit::name);
    let value = section.need("value", "\"env:POSTERN_OPS_TOKEN\"", secret::secret);
    let right = section.take_or("right", AdminRight::Admin, unit::word(RIGHTS));
    let scope = scope(&section);
    Some(AdminToken { name: name?, value: value?, right, scope })
}

/// The sources of a token. A list without a pattern that can be read covers nothing.
pub(super) fn scope(section: &Section<'_>) -> SourceScope {
    let Some(patterns) = section.list("sources", SourcePattern::read) else {
        return SourceScope::All;
    };
    if section.item("sources").is_some_and(|item| item.elements().is_empty()) {
        let remedy = "write sources = [\"acme-*\"], or leave the key out";
        section.fault("sources", "is an empty list", remedy);
    }
    SourceScope::Bound(patterns.into())
}
