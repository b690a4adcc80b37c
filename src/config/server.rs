//! `[server]`: listeners, their TLS and their limits.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::file::{Item, Read, Section, ValueError};
use super::pass::Writer;
use super::secret::unreadable;
use super::{Limits, ProxyProtocol, Readiness, Server, Tls, key_pair, limits, network, unit};

pub(super) const KEYS: &[&str] = &[
    "callbacks",
    "admin",
    "management",
    "management_url",
    "public_url",
    "trusted_proxies",
    "lame_duck",
    "drain",
    "readiness",
    "health_path",
    "tls",
    "admin_tls",
    "proxy_protocol",
    "limits",
];

const READINESS: &[(&str, Readiness)] =
    &[("store", Readiness::Store), ("gateway", Readiness::Gateway)];

pub(super) const TLS_KEYS: &[&str] = &["cert", "key"];

pub(super) const LIMIT_KEYS: &[&str] =
    &["connections", "body", "unverified_body", "head", "head_timeout", "body_timeout", "held"];

/// The table `[server]`, or what holds without one.
pub(super) fn check(section: &Section<'_>) -> Server {
    let server = Server {
        callbacks: listener(section, "callbacks", limits::CALLBACKS),
        admin: listener(section, "admin", limits::ADMIN),
        management: section.take("management", network::listen),
        management_url: section.take("management_url", network::origin),
        public_url: section.take("public_url", network::origin),
        trusted_proxies: section.list("trusted_proxies", network::range).unwrap_or_default(),
        lame_duck: section.take_or(
            "lame_duck",
            limits::LAME_DUCK,
            unit::duration(limits::LAME_DUCK_BOUND),
        ),
        readiness: section.take_or("readiness", Readiness::Store, unit::word(READINESS)),
        health_path: section.take("health_path", health_path),
        drain: section.take_or("drain", limits::DRAIN, unit::duration(limits::DRAIN_BOUND)),
        tls: section.section("tls").and_then(|tls| check_tls(&tls)),
        admin_tls: section.section("admin_tls").and_then(|tls| check_tls(&tls)),
        proxy_protocol: match section.take_or("proxy_protocol", false, unit::switch) {
            true => ProxyProtocol::On,
            false => ProxyProtocol::Off,
        },
        limits: check_limits(section),
    };
    if let Some(range) = server.trusted_proxies.iter().find(|range| range.prefix_len() == 0) {
        let what = format!("{range} believes every address that a caller makes up");
        section.warning("trusted_proxies", what, "name the proxies' own ranges");
    }
    if server.proxy_protocol == ProxyProtocol::On && server.trusted_proxies.is_empty() {
        let what = "needs the addresses of the proxies: from others, no client is believed";
        section.fault("proxy_protocol", what, "write trusted_proxies = [\"10.0.0.0/8\"]");
    }
    refuse_shared_ports(section, &server);
    if server.management.is_some() && server.management_url.is_none() {
        let remedy = "write management_url = \"https://…\", as partners see it";
        section.warning("management", "has no URL for the links that it hands out", remedy);
    }
    server
}

/// A path of the callback listener that does not belong to a callback.
fn health_path(item: &Item<'_>) -> Read<String> {
    let path = unit::text(item)?;
    let remedy = "write a path such as \"/healthz\"";
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if !path.starts_with('/') || path.len() > limits::HEALTH_PATH_BYTES_MAX {
        return Err(ValueError::new(format!("{path:?} is not a path"), remedy));
    }
    if !path.bytes().all(fits) {
        let what = format!("{path:?} has characters that a URL would escape");
        return Err(ValueError::new(what, remedy));
    }
    if path == "/callback" || path.starts_with("/callback/") {
        return Err(ValueError::new(format!("{path} belongs to the sources"), remedy));
    }
    Ok(path)
}

fn listener(section: &Section<'_>, key: &str, default: &str) -> SocketAddr {
    let fallback = default.parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    section.take_or(key, fallback, network::listen)
}

/// Two listeners cannot share a port, unless each has an address of its own or the port is
/// chosen by the system.
fn refuse_shared_ports(section: &Section<'_>, server: &Server) {
    let listeners = [
        ("callbacks", Some(server.callbacks)),
        ("admin", Some(server.admin)),
        ("management", server.management),
    ];
    for (at, (key, address)) in listeners.iter().enumerate() {
        let taken = listeners[..at].iter().find(|(_, other)| clash(*other, *address));
        if let Some((other, _)) = taken {
            section.fault(key, format!("takes the port of {other}"), "give each a port of its own");
        }
    }
}

fn clash(one: Option<SocketAddr>, other: Option<SocketAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    let overlap =
        one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && overlap
}

// ---- TLS ----

fn check_tls(section: &Section<'_>) -> Option<Tls> {
    section.refuse_unknown(TLS_KEYS);
    let cert = section.need("cert", "\"chain.pem\"", certificates);
    let key = section.need("key", "\"key.pem\"", private_key);
    let (cert, key) = (cert?, key?);
    key_pair::check(section, "cert", &cert, &key);
    Some(Tls { cert, key })
}

/// The path of a PEM file that has a certificate in it.
pub(super) fn certificates(item: &Item<'_>) -> Read<PathBuf> {
    pem::<CertificateDer<'static>>(item, "certificate")
}

/// The path of a PEM file that has a private key in it.
pub(super) fn private_key(item: &Item<'_>) -> Read<PathBuf> {
    pem::<PrivateKeyDer<'static>>(item, "private key")
}

fn pem<T: PemObject>(item: &Item<'_>, wanted: &str) -> Read<PathBuf> {
    let text = item.text("the path of a PEM file")?;
    if item.pass.writer() != Writer::Operator {
        let what = "is a file of the gateway, which an API does not read";
        return Err(ValueError::new(what, "write it in the configuration file"));
    }
    let path = item.pass.beside(text.strip_prefix("file:").unwrap_or(text));
    let contents = item.pass.contents(&path);
    let contents = contents.map_err(|error| unreadable(&path, &error).missing())?;
    if T::pem_slice_iter(&contents.bytes).next().is_some_and(|found| found.is_ok()) {
        return Ok(path);
    }
    let what = format!("there is no {wanted} in {}", path.display());
    Err(ValueError::new(what, "give a PEM file that has one"))
}

// ---- limits ----

fn check_limits(server: &Section<'_>) -> Limits {
    let Some(section) = server.section("limits") else { return Limits::default() };
    section.refuse_unknown(LIMIT_KEYS);
    let limits = Limits {
        connections: section.take_or(
            "connections",
            limits::CONNECTIONS,
            unit::count(limits::CONNECTIONS_BOUND),
        ),
        unverified_body_bytes: section.take_or(
            "unverified_body",
            limits::UNVERIFIED_BODY_BYTES,
            unit::size(limits::UNVERIFIED_BODY_BYTES_BOUND),
        ),
        body_bytes: section.take_or(
            "body",
            limits::BODY_BYTES,
            unit::size(limits::BODY_BYTES_BOUND),
        ),
        head_bytes: section.take_or(
            "head",
            limits::HEAD_BYTES,
            unit::size(limits::HEAD_BYTES_BOUND),
        ),
        head_timeout: arrival(&section, "head_timeout", limits::HEAD_TIMEOUT),
        body_timeout: arrival(&section, "body_timeout", limits::BODY_TIMEOUT),
        held: section.take_or("held", limits::HELD, unit::count(limits::HELD_BOUND)),
    };
    if limits.body_bytes > limits.unverified_body_bytes {
        let what = "is more than all bodies may hold together, so that it could never be read";
        section.fault("body", what, "raise unverified_body, or lower body");
    }
    limits
}

fn arrival(section: &Section<'_>, key: &str, default: std::time::Duration) -> std::time::Duration {
    section.take_or(key, default, unit::duration(limits::ARRIVAL_BOUND))
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS,
            unverified_body_bytes: limits::UNVERIFIED_BODY_BYTES,
            body_bytes: limits::BODY_BYTES,
            head_bytes: limits::HEAD_BYTES,
            head_timeout: limits::HEAD_TIMEOUT,
            body_timeout: limits::BODY_TIMEOUT,
            held: limits::HELD,
        }
    }
}
