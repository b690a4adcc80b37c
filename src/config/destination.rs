//! `[[destination]]`: the backends that events are delivered to.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::file::{Item, Read, Section, ValueError};
use super::{
    ClientIdentity, Destination, Format, Late, Mode, Origin, Reach, Retry, SigningKey,
    TemplateMethod, key_pair, limits, network, secret, server, shown, signing, unit,
};
use crate::partners::push_configuration::grant;
use crate::sender::Secret;

pub(super) const KEYS: &[&str] = &[
    "name",
    "url",
    "format",
    "method",
    "secret",
    "sign",
    "retry",
    "headers",
    "timeout",
    "concurrency",
    "rate",
    "mode",
    "late",
    "ca",
    "client_cert",
    "client_key",
    "push_apps",
    "push_path",
];

pub(super) const RETRY_KEYS: &[&str] = &["first", "max", "attempts"];

const FORMATS: &[(&str, Format)] =
    &[("event", Format::Event), ("forward", Format::Forward), ("template", Format::Template)];

const METHODS: &[(&str, TemplateMethod)] =
    &[("GET", TemplateMethod::Get), ("POST", TemplateMethod::Post)];

const MODES: &[(&str, ModeKind)] = &[("async", ModeKind::Async), ("inline", ModeKind::Inline)];

const LATE: &[(&str, Late)] = &[
    ("accepted", Late::Accepted),
    ("rejected", Late::Rejected),
    ("unavailable", Late::Unavailable),
];

/// Headers that a delivery sets itself, or that belong to the connection.
const OWN_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "signature",
    "signature-input",
    "postern-signature",
    "postern-signature-input",
];

#[derive(Clone, Copy, Debug)]
enum ModeKind {
    Async,
    Inline,
}

/// One table of `[[destination]]`, of a gateway with these signing `keys`.
pub(super) fn check(section: &Section<'_>, keys: &[SigningKey]) -> Option<Destination> {
    section.refuse_unknown_or(KEYS, |key| (key == "secrets").then(|| String::from("write secret")));
    let format = section.take_or("format", Format::Event, unit::word(FORMATS));
    let method = section.take_or("method", TemplateMethod::Get, unit::word(METHODS));
    if format != Format::Template && section.has("method") {
        let remedy = "omit it, or write format = \"template\"";
        section.fault("method", "belongs to format = \"template\"", remedy);
    }
    let name = section.need("name", "\"game\"", unit::name);
    let example = "\"http://127.0.0.1:7000/rewards\"";
    let url = section.need("url", example, network::destination(format));
    let mut secrets = section.list("secret", secret::webhook_secret).unwrap_or_default();
    let keys = signing::sign(section, keys, &mut secrets);
    let own = |name: &String| signing::of_destination(&keys, name, format);
    if format == Format::Event && !section.has("secret") && !section.has("sign") {
        let remedy =
            "write secret = \"env:…\"; make one: echo \"whsec_$(openssl rand -base64 32)\"";
        section.warning("secret", "is missing: events are delivered without a signature", remedy);
    }
    let timeout = unit::duration(limits::DELIVERY_TIMEOUT_BOUND);
    let concurrency = unit::count(limits::DELIVERY_CONCURRENCY_BOUND);
    let destination = Destination {
        origin: Origin::File,
        shown: shown::destination(section),
        reach: Reach::Private,
        macros: Arc::default(),
        secrets,
        signing_keys: name.as_ref().map(own).unwrap_or_default(),
        headers: headers(section),
        retry: retry(section),
        timeout: section.take_or("timeout", limits::DELIVERY_TIMEOUT, timeout),
        concurrency: section.take_or("concurrency", limits::DELIVERY_CONCURRENCY, concurrency),
        rate: section.take("rate", unit::rate),
        mode: mode(section),
        ca: section.take("ca", server::certificates),
        identity: identity(section),
        push: grant::grant(section, url.as_deref()),
        format,
        method,
        name: name?,
        url: url?,
    };
    let plain = destination.url.get(..5).is_some_and(|head| head.eq_ignore_ascii_case("http:"));
    if plain && (destination.ca.is_some() || destination.identity.is_some()) {
        section.fault("url", "is plain http, which has no certificates", "write https://");
    }
    Some(destination)
}

fn mode(section: &Section<'_>) -> Mode {
    let late = section.take("late", unit::word(LATE));
    match section.take_or("mode", ModeKind::Async, unit::word(MODES)) {
        ModeKind::Inline => Mode::Inline { late: late.unwrap_or(Late::Unavailable) },
        ModeKind::Async => {
            if section.has("late") {
                let remedy = "omit it, or write mode = \"inline\"";
                section.fault("late", "belongs to mode = \"inline\"", remedy);
            }
            Mode::Async
        }
    }
}

fn retry(section: &Section<'_>) -> Retry {
    let default = Retry {
        first: limits::RETRY_FIRST,
        max: limits::RETRY_MAX,
        attempts: limits::RETRY_ATTEMPTS,
    };
    let Some(section) = section.section("retry") else { return default };
    section.refuse_unknown(RETRY_KEYS);
    let gap = unit::duration(limits::RETRY_GAP_BOUND);
    let attempts = section.take("attempts", unit::count(limits::RETRY_ATTEMPTS_BOUND));
    let retry = Retry {
        first: section.take_or("first", default.first, &gap),
        max: section.take_or("max", default.max, &gap),
        attempts: attempts.and_then(|n| u32::try_from(n).ok()).unwrap_or(default.attempts),
    };
    if retry.first > retry.max {
        let what =
            format!("is {}, more than max ({})", unit::show(retry.first), unit::show(retry.max));
        section.fault("first", what, "the first gap is the shortest");
    }
    retry
}

fn identity(section: &Section<'_>) -> Option<ClientIdentity> {
    let cert = section.take("client_cert", server::certificates);
    let key = section.take("client_key", server::private_key);
    for (one, other) in [("client_cert", "client_key"), ("client_key", "client_cert")] {
        if section.has(one) && !section.has(other) {
            section.fault(one, format!("has no {other} beside it"), "give both or neither");
        }
    }
    let (cert, key) = (cert?, key?);
    key_pair::check(section, "client_cert", &cert, &key);
    Some(ClientIdentity { cert, key })
}

fn headers(section: &Section<'_>) -> Vec<(HeaderName, Secret)> {
    let Some(section) = section.section("headers") else { return Vec::new() };
    let read = |(name, item): (&str, Item<'_>)| {
        let name = item.note(header_name(name));
        let value = item.note(secret::verbatim(&item).and_then(header_value));
        Some((name?, value?))
    };
    section.items().filter_map(read).collect()
}

fn header_name(name: &str) -> Read<HeaderName> {
    let header = HeaderName::try_from(name).map_err(|_| {
        ValueError::new("is not a valid header name", "write a name such as X-Game")
    })?;
    if OWN_HEADERS.contains(&header.as_str()) {
        let what = "is a header that deliveries set themselves";
        return Err(ValueError::new(what, "omit it"));
    }
    Ok(header)
}

fn header_value(value: Secret) -> Read<Secret> {
    match HeaderValue::from_bytes(value.expose()) {
        Ok(_) => Ok(value),
        Err(_) => Err(ValueError::new(
            "has a line break or a control character in it",
            "write one line of text",
        )),
    }
}
