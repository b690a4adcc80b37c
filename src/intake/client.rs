//! The caller: the address of the connection, or the one that trusted proxies report.
//!
//! Each proxy adds the address that it saw at the right end of the list. From the right, entries
//! are believed as long as the proxy that added them is trusted. The first one that is not a
//! trusted proxy is the caller. Everything to the left of it may be forged.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

use crate::wire::{Peer, PeerName};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Hops that are evaluated: no sane path has more, and a forged list may be as long as a head.
const HOPS_MAX: usize = 32;

/// The caller, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The caller's own address.
    Known(IpAddr),
    /// A caller behind this proxy of ours.
    Behind(IpAddr),
}

impl Caller {
    /// The nearest address that is known.
    #[must_use]
    pub fn address(self) -> IpAddr {
        match self {
            Self::Known(address) | Self::Behind(address) => address,
        }
    }

    /// Whether the caller is in one of `nets`. A caller behind a proxy is in none of them: the
    /// proxy's address does not identify the caller.
    #[must_use]
    pub fn is_in(self, nets: &[IpNet]) -> bool {
        matches!(self, Self::Known(address) if is_in(address, nets))
    }
}

/// The caller behind `peer`. Where a proxy passed TCP on without naming its client, no
/// header is believed: it is the client's own.
#[must_use]
pub fn caller_at(peer: Peer, headers: &HeaderMap, trusted: &[IpNet]) -> Caller {
    match peer.named {
        PeerName::Usual => caller(peer.address.ip(), headers, trusted),
        PeerName::Missing => Caller::Behind(peer.address.ip().to_canonical()),
    }
}

/// The caller.
///
/// If `X-Forwarded-For` and `Forwarded` are both present and disagree, one of them comes from a
/// caller whom the proxy passes through. Neither is believed.
fn caller(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Caller {
    let peer = peer.to_canonical();
    if !is_in(peer, trusted) {
        return Caller::Known(peer);
    }
    let by_list = headers
        .contains_key(&X_FORWARDED_FOR)
        .then(|| walk(peer, right_to_left(headers, &X_FORWARDED_FOR).map(listed), trusted));
    let by_rfc = headers
        .contains_key(FORWARDED)
        .then(|| walk(peer, right_to_left(headers, &FORWARDED).map(forwarded), trusted));
    match (by_list, by_rfc) {
        (Some(one), Some(other)) if one != other => Caller::Behind(peer),
        (Some(found), _) | (None, Some(found)) => found,
        (None, None) => Caller::Known(peer),
    }
}

/// Whether `address` is in one of `nets`.
pub(super) fn is_in(address: IpAddr, nets: &[IpNet]) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// Continues from `peer`, which is trusted, as long as the next hop is trusted too. An entry that
/// is not an address ends the walk: only the last trusted hop is known.
fn walk(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &[IpNet]) -> Caller {
    let mut known = peer;
    for hop in hops.take(HOPS_MAX) {
        let Some(hop) = hop else { return Caller::Behind(known) };
        known = hop;
        if !is_in(hop, trusted) {
            break;
        }
    }
    Caller::Known(known)
}

/// The elements of a list header, the last first. A value that is not text yields one element that
/// is not an address.
fn right_to_left<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let values: Vec<&str> =
        headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
    values.into_iter().rev().flat_map(|value| value.rsplit(','))
}

/// An element of `X-Forwarded-For`: an address, perhaps with a port.
fn listed(element: &str) -> Option<IpAddr> {
    node(element.trim())
}

/// An element of `Forwarded`: its `for` parameter.
fn forwarded(element: &str) -> Option<IpAddr> {
    let mut nodes = element.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let value = nodes.next()?;
    // No proxy writes two `for` in one element.
    nodes.next().is_none().then(|| node(value.trim_matches('"'))).flatten()
}

fn node(text: &str) -> Option<IpAddr> {
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers = &'static [(&'static str, &'static str)];

    fn seen(peer: &str, headers: Headers) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        match caller(peer.parse().unwrap(), &map, &trusted) {
            Caller::Known(address) => address.to_string(),
            Caller::Behind(proxy) => format!("behind {proxy}"),
        }
    }

    #[test]
    fn spoofed_and_honest_headers() {
        const XFF: &str = "x-forwarded-for";
        const RFC: &str = "forwarded";
        let table: &[(&str, Headers, &str)] = &[
            // Not a proxy of ours: nothing that it says counts.
            ("203.0.113.9", &[(XFF, "198.51.100.1")], "203.0.113.9"),
            ("203.0.113.9", &[(RFC, "for=198.51.100.1")], "203.0.113.9"),
            // One trusted proxy; with a forged part to the left.
            ("10.0.0.1", &[(XFF, "198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(XFF, "127.0.0.1, 10.9.9.9, 198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(XFF, "1.1.1.1"), (XFF, "198.51.100.1")], "198.51.100.1"),
            // Two proxies of ours.
            ("10.0.0.1", &[(XFF, "6.6.6.6, 198.51.100.1, 10.0.0.2")], "198.51.100.1"),
            // All of them ours: the first one is the caller.
            ("10.0.0.1", &[(XFF, "10.0.0.3,10.0.0.2")], "10.0.0.3"),
            // No address: a caller behind the last known hop.
            ("10.0.0.1", &[(XFF, "198.51.100.1, unknown")], "behind 10.0.0.1"),
            ("10.0.0.1", &[(XFF, "198.51.100.1, garbage, 10.0.0.2")], "behind 10.0.0.2"),
            ("10.0.0.1", &[(XFF, "")], "behind 10.0.0.1"),
            ("10.0.0.1", &[(XFF, ",,,")], "behind 10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            // Ports, brackets, mapped addresses.
            ("10.0.0.1", &[(XFF, "198.51.100.1:4711")], "198.51.100.1"),
            ("10.0.0.1", &[(XFF, "[2001:db8::1]:443")], "2001:db8::1"),
            ("::ffff:10.0.0.1", &[(XFF, "::ffff:198.51.100.1")], "198.51.100.1"),
            ("fd00::1", &[(XFF, "2001:db8::7")], "2001:db8::7"),
            // RFC 7239.
            ("10.0.0.1", &[(RFC, "for=198.51.100.1;proto=https;by=10.0.0.1")], "198.51.100.1"),
            ("10.0.0.1", &[(RFC, "For=\"[2001:db8::1]:443\"")], "2001:db8::1"),
            ("10.0.0.1", &[(RFC, "for=1.2.3.4, for=198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(RFC, "for=_hidden")], "behind 10.0.0.1"),
            ("10.0.0.1", &[(RFC, "for=1.1.1.1;for=2.2.2.2")], "behind 10.0.0.1"),
            // Both: only where they agree.
            ("10.0.0.1", &[(XFF, "198.51.100.1"), (RFC, "for=198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(XFF, "198.51.100.1"), (RFC, "for=1.1.1.1")], "behind 10.0.0.1"),
        ];
        for (peer, headers, expected) in table {
            assert_eq!(seen(peer, headers), *expected, "{peer} {headers:?}");
        }
    }
}
