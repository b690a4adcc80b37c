//! Addresses, ranges, origins and the URLs of destinations.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::uri::{Authority, PathAndQuery};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::file::{Item, Read, ValueError};
use super::{Format, secret};
use crate::sender::{Secret, UrlTemplate};

const RANGE: &str = "an address or a range such as \"10.0.0.0/8\"";
const LISTEN: &str = "an address with a port such as \"0.0.0.0:8080\" or \"[::]:8080\"";
const ORIGIN: &str = "scheme and host only, such as \"https://callbacks.example.com\"";

// ---- readers of items ----

/// An address to listen on.
pub(super) fn listen(item: &Item<'_>) -> Read<SocketAddr> {
    let text = item.text(LISTEN)?;
    text.parse().map_err(|_| not(text, LISTEN))
}

/// An address or a range of addresses.
pub(super) fn range(item: &Item<'_>) -> Read<IpNet> {
    let text = item.text(RANGE)?;
    let range = parse_range(text).ok_or_else(|| not(text, RANGE))?;
    if text.parse::<IpNet>().is_ok_and(|written| written != range) {
        let what = format!("{text} is an address with a prefix, which means all of {range}");
        item.advice(what, format!("write {range}, or the address alone"));
    }
    Ok(range)
}

/// Scheme and authority of a URL; one slash at its end is taken off.
pub(super) fn origin(item: &Item<'_>) -> Read<String> {
    let text = item.text(ORIGIN)?;
    let url = Parts::split(text).ok_or_else(|| not_shown(ORIGIN))?;
    url.authority()?;
    match url.rest {
        "" | "/" => Ok(format!("{}://{}", url.scheme, url.authority)),
        _ => Err(ValueError::new("has a path, a query or a fragment", format!("write {ORIGIN}"))),
    }
}

/// The URL of a destination that wants `format`.
pub(super) fn destination(format: Format) -> impl Fn(&Item<'_>) -> Read<String> {
    move |item| {
        let wanted = "a URL such as \"http://127.0.0.1:7000/rewards\"";
        let text = item.text(wanted)?;
        let url = Parts::split(text).ok_or_else(|| not_shown(wanted))?;
        refuse_forbidden(&url.authority()?)?;
        if url.rest.contains('#') {
            let remedy = "leave out # and what is behind it: it is never sent";
            return Err(ValueError::new("has a fragment", remedy));
        }
        if format == Format::Template {
            UrlTemplate::parse(text).map_err(|fault| {
                let column = fault.column.map(|at| format!(" (column {at})")).unwrap_or_default();
                ValueError::new(format!("is not a template{column}: {}", fault.what), fault.remedy)
            })?;
        } else {
            let path = if url.rest.starts_with('?') { "/" } else { "" };
            let target = format!("{path}{}", url.rest);
            let sound = target.is_empty() || PathAndQuery::try_from(target.as_str()).is_ok();
            if !sound || url.rest.contains(['{', '}', '<', '>']) {
                let remedy = "percent-encode it, or say format = \"template\" for placeholders";
                return Err(ValueError::new("has a path or query that is not a plain URL", remedy));
            }
        }
        Ok(text.to_owned())
    }
}

/// Why deliveries cannot go to a `url` that was set over an API. Its path and query do not matter:
/// those are the backend's own business.
///
/// # Errors
/// The reason, in a few words.
pub fn check_origin(url: &str) -> Result<(), String> {
    let parts = Parts::split(url).ok_or("is not a URL of http or https")?;
    let authority = parts.authority().and_then(|authority| refuse_forbidden(&authority));
    authority.map_err(|problem| problem.what)
}

/// The URL of a list of public keys, which may hold a secret in its path or query.
pub(super) fn key_set(item: &Item<'_>) -> Read<Secret> {
    let wanted = "a URL such as \"https://keys.example.com/list.json\"";
    let secret = secret::public(item)?;
    let text = std::str::from_utf8(secret.expose()).map_err(|_| not_shown(wanted))?;
    let url = Parts::split(text).ok_or_else(|| not_shown(wanted))?;
    let authority = url.authority()?;
    refuse_forbidden(&authority)?;
    let target = if url.rest.is_empty() { "/" } else { url.rest };
    if target.contains('#') || !target.starts_with('/') || PathAndQuery::try_from(target).is_err() {
        return Err(ValueError::new(
            "has a path or query that is not a plain URL",
            "percent-encode it",
        ));
    }
    let host = authority.host();
    let own = host == "localhost" || literal(host).is_some_and(|address| address.is_loopback());
    if url.scheme == "http" && !own {
        let what = "is plain http: anyone on the network path can replace the keys";
        item.warning(what, "write https://");
    }
    Ok(secret)
}

/// The issuer identifier of an OpenID provider, which is compared as it is written.
pub(super) fn issuer(item: &Item<'_>) -> Read<String> {
    let wanted = "a URL such as \"https://login.example.com\"";
    let text = item.text(wanted)?;
    let url = Parts::split(text).ok_or_else(|| not_shown(wanted))?;
    let authority = url.authority()?;
    refuse_forbidden(&authority)?;
    let sound = url.rest.is_empty() || PathAndQuery::try_from(url.rest).is_ok();
    if !sound || url.rest.contains(['?', '#']) {
        return Err(ValueError::new("has a query or a fragment", format!("write {wanted}")));
    }
    let host = authority.host();
    let own = host == "localhost" || literal(host).is_some_and(|address| address.is_loopback());
    if url.scheme == "http" && !own {
        return Err(ValueError::new(
            "is plain http: an attacker on the network could sign in",
            "write https://",
        ));
    }
    Ok(text.to_owned())
}

/// The URL that an alert is posted to, which holds a secret or is one.
pub(super) fn hook(item: &Item<'_>) -> Read<Secret> {
    let wanted = "a URL such as \"https://hooks.example.com/…\"";
    let secret = secret::secret(item)?;
    let text = std::str::from_utf8(secret.expose()).map_err(|_| not_shown(wanted))?;
    let url = Parts::split(text).ok_or_else(|| not_shown(wanted))?;
    refuse_forbidden(&url.authority()?)?;
    let target = if url.rest.starts_with('/') { url.rest } else { "/" };
    if url.rest.contains('#') || PathAndQuery::try_from(target).is_err() {
        let what = "has a path or query that is not a plain URL";
        return Err(ValueError::new(what, "percent-encode it"));
    }
    Ok(secret)
}

fn not(text: &str, wanted: &str) -> ValueError {
    ValueError::new(format!("{text:?} cannot be read"), format!("write {wanted}"))
}

/// A URL may hold a password, so that one that cannot be read is not shown.
fn not_shown(wanted: &str) -> ValueError {
    ValueError::new("is not a URL of http or https", format!("write {wanted}"))
}

// ---- grammars ----

/// `203.0.113.7`, `203.0.113.0/24`, `2001:db8::/32`.
#[must_use]
pub fn parse_range(text: &str) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().map(IpNet::from).ok();
    address.or_else(|| text.parse::<IpNet>().ok()).map(|range| range.trunc())
}

/// A URL in three pieces, of which only the last may be a template.
struct Parts<'t> {
    scheme: &'t str,
    authority: &'t str,
    rest: &'t str,
}

impl<'t> Parts<'t> {
    fn split(text: &'t str) -> Option<Self> {
        let (scheme, behind) = text.split_once("://")?;
        let scheme =
            ["http", "https"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known))?;
        let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        let (authority, rest) = behind.split_at(end);
        (!authority.is_empty()).then_some(Self { scheme, authority, rest })
    }

    fn authority(&self) -> Read<Authority> {
        if self.authority.contains('@') {
            let remedy = "say them in headers = { Authorization = \"env:…\" }";
            return Err(ValueError::new("has a user or a password in it", remedy));
        }
        if self.authority.contains(['{', '}', '<', '>']) {
            let remedy = "write placeholders into path and query only";
            return Err(ValueError::new("has a placeholder in its host", remedy));
        }
        let authority = Authority::try_from(self.authority).ok();
        let sound = authority.filter(|authority| {
            !authority.host().is_empty()
                && authority.as_str().strip_prefix(authority.host()).is_some_and(port_or_none)
        });
        sound.ok_or_else(|| {
            ValueError::new("has no host that can be read", "write host or host:port")
        })
    }
}

fn port_or_none(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()).is_some_and(|p| p > 0)
}

// ---- what deliveries never reach ----

fn refuse_forbidden(authority: &Authority) -> Read<()> {
    let Some(why) = literal(authority.host()).and_then(forbidden) else { return Ok(()) };
    Err(ValueError::new(
        format!("points at {}, {why}", authority.host()),
        "deliveries never go there; give the backend's own address",
    ))
}

/// The address that `host` is, where it is one and no name: also in the old spellings
/// (`0xa9fea9fe`, `169.16689662`), which resolvers still read.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    bare.parse().ok().or_else(|| old_spelling(bare).map(IpAddr::V4))
}

/// `inet_aton`: one to four parts, decimal, octal or hexadecimal; the last fills what is left.
fn old_spelling(host: &str) -> Option<Ipv4Addr> {
    let parts = host.split('.').map(old_number).collect::<Option<Vec<u64>>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 255) {
        return None;
    }
    let left = 4 - first.len();
    let last = u32::try_from(*last).ok().filter(|last| u64::from(*last) < 1 << (8 * left))?;
    let high = first.iter().fold(0_u32, |all, part| (all << 8) | u32::try_from(*part).unwrap_or(0));
    let high = high.checked_shl(u32::try_from(8 * left).unwrap_or(0)).unwrap_or(0);
    Some(Ipv4Addr::from(high | last))
}

fn old_number(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("0x") {
        Some("") => Some(0),
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if lower.len() > 1 && lower.starts_with('0') => u64::from_str_radix(&lower, 8).ok(),
        None => lower.parse().ok(),
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 4], tail: u16, prefix: u8) -> Ipv6Net {
    let [a, b, c, d] = head;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, tail), prefix)
}

const fn host(address: [u16; 8]) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = address;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), 128)
}

const METADATA: &str = "which is a cloud's metadata service";

/// IPv4 ranges that deliveries never reach. Nearly all clouds keep their metadata at a link-local
/// address: AWS, Azure, Google, Oracle, IBM, Huawei, OpenStack, Linode and others at
/// 169.254.169.254, AWS also at 169.254.170.2 and 169.254.170.23 (containers), Tencent at
/// 169.254.0.23, Scaleway at 169.254.42.42. The others have an entry each.
const FORBIDDEN_V4: [(Ipv4Net, &str); 9] = [
    (v4(0, 0, 0, 0, 8), "which is unspecified"),
    (v4(169, 254, 0, 0, 16), "which is link-local, where clouds keep their metadata"),
    // Alibaba Cloud.
    (v4(100, 100, 100, 200, 32), METADATA),
    // Volcengine and BytePlus.
    (v4(100, 96, 0, 96, 32), METADATA),
    // UCloud.
    (v4(100, 80, 80, 80, 32), METADATA),
    // Azure's wire server: it hands out the machine's certificates and the settings of extensions.
    (v4(168, 63, 129, 16, 32), METADATA),
    // Oracle Cloud, classic.
    (v4(192, 0, 0, 192, 32), METADATA),
    (v4(224, 0, 0, 0, 4), "which is multicast"),
    (v4(255, 255, 255, 255, 32), "which is broadcast"),
];

/// IPv6 ranges that deliveries never reach.
const FORBIDDEN_V6: [(Ipv6Net, &str); 9] = [
    (v6([0, 0, 0, 0], 0, 128), "which is unspecified"),
    (v6([0xfe80, 0, 0, 0], 0, 10), "which is link-local"),
    (v6([0xff00, 0, 0, 0], 0, 8), "which is multicast"),
    // AWS: metadata at ::254, credentials of pods at ::23.
    (v6([0xfd00, 0xec2, 0, 0], 0, 32), METADATA),
    // Google Cloud.
    (host([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]), METADATA),
    // Alibaba Cloud.
    (host([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200]), METADATA),
    // Oracle Cloud.
    (host([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]), METADATA),
    // Scaleway.
    (host([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]), METADATA),
    // Linode.
    (host([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1]), METADATA),
];

/// Why deliveries never reach `address`, if they never do: link-local, metadata, multicast and
/// unspecified, however the address is wrapped. Nothing in a configuration lifts this.
#[must_use]
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => forbidden_v4(address),
        IpAddr::V6(address) => {
            let own = FORBIDDEN_V6.iter().find(|(range, _)| range.contains(&address));
            own.map(|(_, why)| *why).or_else(|| wrapped(address).and_then(forbidden_v4))
        }
    }
}

/// The network that counts as one client: for IPv6 the /64, because its owner has 2^64 addresses.
#[must_use]
pub fn client_network(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    FORBIDDEN_V4.iter().find(|(range, _)| range.contains(&address)).map(|(_, why)| *why)
}

/// The IPv4 address that `address` leads to: mapped, compatible, translated, NAT64, 6to4, Teredo.
#[must_use]
pub fn wrapped(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match [s0, s1, s2, s3, s4, s5] {
        [0, 0, 0, 0, 0, 0xffff | 0] if address != Ipv6Addr::LOCALHOST => Some(join(s6, s7)),
        [0, 0, 0, 0, 0xffff, 0] => Some(join(s6, s7)),
        [0x64, 0xff9b, 0, 0, 0, 0] | [0x64, 0xff9b, 1, ..] => Some(join(s6, s7)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        [0x2001, 0, ..] => Some(join(!s6, !s7)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(host: &str) -> Option<&'static str> {
        literal(host).and_then(forbidden)
    }

    #[test]
    fn what_is_never_reached_is_known_however_it_is_written() {
        for host in [
            "169.254.169.254",
            "169.254.169.254.",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "[::ffff:168.63.129.16]",
            "192.0.0.192",
            "169.254.170.23",
            "169.254.0.23",
            "169.254.42.42",
            "[fd00:ec2::23]",
            "[fd20:ce::254]",
            "[fd00:c1::a9fe:a9fe]",
            "[fd00:42::42]",
            "[fd00:a9fe:a9fe::1]",
            "[fe80::a9fe:a9fe]",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "169.16689662",
            "0",
            "[::]",
            "[fe80::1]",
            "[febf::1]",
            "[ff02::1]",
            "[fd00:ec2::254]",
            "[::ffff:169.254.169.254]",
            "[::169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::a9fe:a9fe]",
            "[2002:a9fe:a9fe::1]",
            "[2001:0:1::5601:5601]",
            "[::ffff:0:169.254.1.1]",
        ] {
            assert!(why(host).is_some(), "{host}");
        }
    }

    /// The documentation of the clouds, as of 2026-11: where a machine asks for its credentials.
    #[test]
    fn the_metadata_services_of_the_clouds_are_never_reached() {
        for (cloud, addresses) in [
            ("Alibaba Cloud", &["100.100.100.200", "[fd00:100::100:200]"][..]),
            ("AWS, machines", &["169.254.169.254", "[fd00:ec2::254]"]),
            ("AWS, containers", &["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"]),
            ("Azure", &["169.254.169.254", "168.63.129.16"]),
            ("Baidu, DigitalOcean, Exoscale, Hetzner, Huawei", &["169.254.169.254"]),
            ("Google Cloud", &["169.254.169.254", "[fd20:ce::254]"]),
            ("IBM, JD, OVH, OpenStack, Vultr", &["169.254.169.254", "[fe80::a9fe:a9fe]"]),
            ("Linode", &["169.254.169.254", "[fd00:a9fe:a9fe::1]"]),
            ("Oracle Cloud", &["169.254.169.254", "[fd00:c1::a9fe:a9fe]", "192.0.0.192"]),
            ("Scaleway", &["169.254.42.42", "[fd00:42::42]"]),
            ("Tencent Cloud", &["169.254.0.23", "169.254.10.10"]),
            ("UCloud", &["100.80.80.80"]),
            ("Volcengine, BytePlus", &["100.96.0.96"]),
        ] {
            for address in addresses {
                assert!(why(address).is_some(), "{cloud}: {address}");
                let Some(IpAddr::V4(plain)) = literal(address) else { continue };
                let mapped = format!("[{}]", plain.to_ipv6_mapped());
                assert!(why(&mapped).is_some(), "{cloud}: {mapped}");
            }
        }
    }

    #[test]
    fn what_may_be_configured_is_not_refused() {
        for host in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.1.1",
            "8.8.8.8",
            "[::1]",
            "[fd00::1]",
            "localhost",
            "[2001:db8::1]",
            "[::ffff:10.0.0.1]",
            "169.com",
            "backend",
            "1.2.3.4.5",
            "100.100.100.201",
        ] {
            assert_eq!(why(host), None, "{host}");
        }
    }

    #[test]
    fn ranges() {
        let shown = |text| parse_range(text).map(|range| range.to_string());
        assert_eq!(shown("203.0.113.7").as_deref(), Some("203.0.113.7/32"));
        assert_eq!(shown("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(shown("2001:db8::/32").as_deref(), Some("2001:db8::/32"));
        assert_eq!(shown("10.0.0.0/33"), None);
        assert_eq!(shown("example.com"), None);
    }

    #[test]
    fn a_url_is_split_before_anything_in_it_is_read() {
        let split = |text| Parts::split(text).map(|url| (url.scheme, url.authority, url.rest));
        assert_eq!(split("http://a:1/b?c"), Some(("http", "a:1", "/b?c")));
        assert_eq!(split("HTTPS://a?x=1"), Some(("https", "a", "?x=1")));
        assert_eq!(split("ftp://a/"), None);
        assert_eq!(split("http:///a"), None);
        assert_eq!(split("a"), None);
    }

    #[test]
    fn hosts() {
        let sound = |text: &str| Parts::split(text).unwrap().authority().is_ok();
        for url in ["http://a", "http://a.b:80/", "http://[::1]:80/", "http://127.0.0.1:7000/x"] {
            assert!(sound(url), "{url}");
        }
        for url in [
            "http://u:p@a/",
            "http://{h}/",
            "http://a:0/",
            "http://a:99999/",
            "http://a b/",
            "http://:80/",
            "http://a:/",
        ] {
            assert!(!sound(url), "{url}");
        }
    }
}
