//! Which addresses may be reached.
//!
//! Checked when connecting, after the name was resolved. A name that has changed is caught, and so
//! is an address in a spelling that only resolvers read. The connector connects to exactly the
//! checked addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::{forbidden, wrapped};

/// The origin of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The configuration file: the machine's own backends are reachable, and plain http.
    File,
    /// An API: only public addresses, unless `egress.allow` says otherwise.
    Api,
}

/// The scheme of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain http.
    Http,
    /// http over TLS.
    Https,
}

/// Decides which addresses the requests to one URL may reach.
#[derive(Clone, Debug)]
pub struct Guard {
    trust: Trust,
    allow: Vec<IpNet>,
}

/// Why an address is not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} may not be reached, {why}")]
pub struct EgressError {
    address: IpAddr,
    why: &'static str,
}

impl Guard {
    /// A guard for URLs of that origin; `allow` are the private ranges that URLs set over an API
    /// may reach.
    #[must_use]
    pub fn new(trust: Trust, allow: Vec<IpNet>) -> Self {
        Self { trust, allow }
    }

    /// Checks whether `address` may be reached with this scheme.
    ///
    /// # Errors
    /// The address and the reason, if it may not.
    pub fn check(&self, address: IpAddr, scheme: Scheme) -> Result<(), EgressError> {
        let refused = |why| Err(EgressError { address, why });
        if let Some(why) = forbidden(address) {
            return refused(why);
        }
        if self.trust == Trust::File || self.is_allowed(address) {
            return Ok(());
        }
        if !is_public(address) {
            return refused("which is private; see egress.allow");
        }
        match scheme {
            Scheme::Https => Ok(()),
            Scheme::Http => refused("which is not in egress.allow, by plain http"),
        }
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        let plain = address.to_canonical();
        self.allow.iter().any(|range| range.contains(&address) || range.contains(&plain))
    }
}

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// IPv4 ranges that are not the public Internet, besides those that are never reached.
const PRIVATE_V4: [Ipv4Net; 12] = [
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 88, 99, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    v4(240, 0, 0, 4),
];

/// The only public IPv6 addresses: global unicast, and IPv4 behind NAT64.
const PUBLIC_V6: [Ipv6Net; 2] = [v6(0x2000, 0, 3), v6(0x64, 0xff9b, 96)];

/// Ranges for documentation: not public although they are in the ranges above.
const PRIVATE_V6: [Ipv6Net; 2] = [v6(0x2001, 0xdb8, 32), v6(0x3fff, 0, 20)];

/// Whether `address` is on the public Internet, in whatever form.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    let of_v4 = |address| !PRIVATE_V4.iter().any(|range| range.contains(&address));
    match address.to_canonical() {
        _ if forbidden(address).is_some() => false,
        IpAddr::V4(address) => of_v4(address),
        IpAddr::V6(address) => {
            PUBLIC_V6.iter().any(|range| range.contains(&address))
                && !PRIVATE_V6.iter().any(|range| range.contains(&address))
                && wrapped(address).is_none_or(of_v4)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// `v4` in every form in which IPv6 carries it.
    fn forms(v4: Ipv4Addr) -> Vec<IpAddr> {
        let [a, b, c, d] = v4.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        vec![
            v4.into(),
            v4.to_ipv6_mapped().into(),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low).into(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into(),
            Ipv6Addr::new(0x64, 0xff9b, 1, 7, 8, 9, high, low).into(),
            Ipv6Addr::new(0x2002, high, low, 1, 2, 3, 4, 5).into(),
            Ipv6Addr::new(0x2001, 0, 1, 2, 3, 4, !high, !low).into(),
        ]
    }

    fn is_never(v4: Ipv4Addr) -> bool {
        v4.is_link_local() || v4.is_multicast() || v4.is_unspecified() || v4.is_broadcast()
    }

    fn is_inside(v4: Ipv4Addr) -> bool {
        v4.is_private() || v4.is_loopback() || v4.is_documentation()
    }

    /// Any IPv4 address, those of special ranges as often as others.
    fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
        let heads = prop_oneof![
            Just([169, 254]),
            Just([127, 0]),
            Just([10, 1]),
            Just([192, 168]),
            Just([172, 20]),
            Just([224, 0]),
            Just([0, 0]),
            Just([255, 255]),
            any::<[u8; 2]>(),
        ];
        (heads, any::<[u8; 2]>()).prop_map(|([a, b], [c, d])| Ipv4Addr::new(a, b, c, d))
    }

    proptest! {
        #[test]
        fn no_form_of_an_address_is_let_through_where_it_is_not(v4 in any_v4()) {
            let all = "0.0.0.0/0".parse().unwrap();
            let file = Guard::new(Trust::File, vec![]);
            let everything = Guard::new(Trust::Api, vec![all, "::/0".parse().unwrap()]);
            let api = Guard::new(Trust::Api, vec![]);
            for address in forms(v4) {
                if is_never(v4) {
                    prop_assert!(file.check(address, Scheme::Https).is_err(), "{}", address);
                    prop_assert!(everything.check(address, Scheme::Https).is_err(), "{}", address);
                }
                if is_never(v4) || is_inside(v4) {
                    prop_assert!(!is_public(address), "{}", address);
                    prop_assert!(api.check(address, Scheme::Https).is_err(), "{}", address);
                }
                prop_assert!(api.check(address, Scheme::Http).is_err(), "{}", address);
            }
        }

        #[test]
        fn link_local_and_multicast_v6_are_never_reached(tail in any::<[u16; 7]>()) {
            let [b, c, d, e, f, g, h] = tail;
            for head in [0xfe80_u16, 0xfebf, 0xff02, 0xff0e] {
                let address = Ipv6Addr::new(head, b, c, d, e, f, g, h).into();
                let guard = Guard::new(Trust::File, vec!["::/0".parse().unwrap()]);
                prop_assert!(guard.check(address, Scheme::Https).is_err(), "{}", address);
            }
        }
    }

    #[test]
    fn what_the_file_says_may_be_private_and_plain() {
        let guard = Guard::new(Trust::File, vec![]);
        for text in ["127.0.0.1", "::1", "10.0.0.1", "::ffff:10.0.0.1", "fd00::1", "8.8.8.8"] {
            assert_eq!(guard.check(at(text), Scheme::Http), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_an_api_says_is_public_or_allowed() {
        let guard = Guard::new(Trust::Api, vec!["10.1.0.0/16".parse().unwrap()]);
        for text in ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"] {
            assert_eq!(guard.check(at(text), Scheme::Https), Ok(()), "{text}");
            assert!(guard.check(at(text), Scheme::Http).is_err(), "{text}");
        }
        for text in ["10.1.2.3", "::ffff:10.1.2.3"] {
            assert_eq!(guard.check(at(text), Scheme::Http), Ok(()), "{text}");
        }
        for text in ["10.2.0.1", "::1", "fd00::1", "fec0::1", "2001:db8::1", "2002:a00:1::"] {
            let refused = guard.check(at(text), Scheme::Https).unwrap_err().to_string();
            assert!(refused.contains("private"), "{refused}");
        }
    }
}
