//! Who may ask.

use std::net::IpAddr;

use constant_time_eq::constant_time_eq_32;
use http::request::Parts;
use http::{HeaderValue, header};
use sha2::{Digest as _, Sha256};

use crate::config::{AdminRight, AdminToken};
use crate::registry::Actor;

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Nothing that needs a token.
    Nothing,
    /// Look.
    Read,
    /// Change something.
    Write,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// A browser says that a page of another site made the request.
    #[error("a page of another site may not call this listener")]
    AnotherSite,
    /// It came to loopback under a name that is not loopback's.
    #[error("call this listener localhost, 127.0.0.1 or [::1]")]
    AnotherName,
    /// There is no token.
    #[error("a bearer token is needed")]
    NoToken,
    /// There is one, and it is none of ours.
    #[error("that token is not known")]
    UnknownToken,
    /// The token is for looking only.
    #[error("that token may only look")]
    OnlyLooks,
}

/// Refuses a request that a page of another site had a browser make: without a token nothing else
/// would stop it.
///
/// # Errors
/// When a browser says so.
pub fn check_site(head: &Parts) -> Result<(), AccessError> {
    let field = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = field("host").unwrap_or_default();
    let foreign = |origin: &str| origin.split_once("://").is_none_or(|(_, named)| named != host);
    let comes_from_another = field("sec-fetch-site")
        .is_some_and(|site| !matches!(site, "same-origin" | "none"))
        || field("origin").is_some_and(foreign);
    if comes_from_another { Err(AccessError::AnotherSite) } else { Ok(()) }
}

/// Refuses a request that a browser was tricked into: on loopback, whoever comes under another
/// name than loopback's was led here by a name that somebody else's DNS answers for.
///
/// # Errors
/// When it came under such a name.
pub fn check_name(address: IpAddr, head: &Parts) -> Result<(), AccessError> {
    if !address.is_loopback() {
        return Ok(());
    }
    let named = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default()),
    };
    // Browsers always say a name; what says none is no browser.
    if named.is_none_or(is_loopback) { Ok(()) } else { Err(AccessError::AnotherName) }
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether the request's token allows what it needs, and whose it is. Where no token is configured,
/// which is only on loopback, everything is allowed.
///
/// # Errors
/// When it does not.
pub fn check_token(
    tokens: &[AdminToken],
    head: &Parts,
    need: Permission,
) -> Result<Actor, AccessError> {
    if need == Permission::Nothing || tokens.is_empty() {
        return Ok(Actor::local());
    }
    let given = head.headers.get(header::AUTHORIZATION).and_then(bearer);
    let token =
        find_token(tokens, given.ok_or(AccessError::NoToken)?).ok_or(AccessError::UnknownToken)?;
    match (token.right, need) {
        (AdminRight::Read, Permission::Write) => Err(AccessError::OnlyLooks),
        _ => Ok(Actor::of_token(&token.name)),
    }
}

/// The token that is `given`. Digests are compared, all of them: the time says nothing about a
/// token or its length.
#[must_use]
pub fn find_token<'t>(tokens: &'t [AdminToken], given: &[u8]) -> Option<&'t AdminToken> {
    let given = Sha256::digest(given);
    let mut found = None;
    for token in tokens {
        let own = Sha256::digest(token.value.expose());
        if constant_time_eq_32(&given.into(), &own.into()) {
            found = Some(token);
        }
    }
    found
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::Secret;

    fn head(headers: &[(&'static str, &str)]) -> http::request::Parts {
        let mut request = http::Request::new(());
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        request.into_parts().0
    }

    #[test]
    fn a_rebound_name_is_refused_on_loopback_only() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let ours = ["localhost", "LOCALHOST:9090", "127.0.0.1:9090", "[::1]:9090", "127.8.8.8"];
        for host in ours {
            assert!(check_name(loopback, &head(&[("host", host)])).is_ok(), "{host}");
        }
        for host in ["evil.example", "evil.example:9090", "localhost.evil.example", "", "10.0.0.1"]
        {
            assert!(check_name(loopback, &head(&[("host", host)])).is_err(), "{host}");
            assert!(check_name(IpAddr::from([10, 0, 0, 1]), &head(&[("host", host)])).is_ok());
        }
        assert!(check_name(loopback, &head(&[])).is_ok());
    }

    #[test]
    fn a_page_of_another_site_is_told_by_its_browser() {
        for ours in [
            &[][..],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://a:9090"), ("host", "a:9090")],
            &[("sec-fetch-site", "none")],
        ] {
            assert!(check_site(&head(ours)).is_ok(), "{ours:?}");
        }
        for foreign in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "http://a:8080"), ("host", "a:9090")],
            &[("origin", "null"), ("host", "null")],
        ] {
            assert_eq!(check_site(&head(foreign)), Err(AccessError::AnotherSite), "{foreign:?}");
        }
    }

    #[test]
    fn a_token_has_to_be_one_of_ours() {
        let tokens = [AdminToken {
            name: "ci".to_owned(),
            value: Secret::new("s3cret-token"),
            right: AdminRight::Read,
        }];
        let with = |value: &str| head(&[("authorization", value)]);
        assert!(check_token(&tokens, &with("Bearer s3cret-token"), Permission::Read).is_ok());
        assert!(check_token(&tokens, &with("bearer s3cret-token"), Permission::Read).is_ok());
        for bad in ["Bearer s3cret-toke", "Bearer s3cret-token ", "Bearer "] {
            let refused = check_token(&tokens, &with(bad), Permission::Read);
            assert_eq!(refused, Err(AccessError::UnknownToken), "{bad}");
        }
        for bad in ["Basic s3cret-token", "Bearer"] {
            assert_eq!(
                check_token(&tokens, &with(bad), Permission::Read),
                Err(AccessError::NoToken),
                "{bad}"
            );
        }
        assert_eq!(check_token(&tokens, &head(&[]), Permission::Read), Err(AccessError::NoToken));
        let change = check_token(&tokens, &with("Bearer s3cret-token"), Permission::Write);
        assert_eq!(change, Err(AccessError::OnlyLooks));
        assert!(check_token(&tokens, &head(&[]), Permission::Nothing).is_ok());
        assert!(check_token(&[], &head(&[]), Permission::Read).is_ok());
    }
}
