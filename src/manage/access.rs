//! Who may ask.

use std::net::IpAddr;

use constant_time_eq::constant_time_eq_32;
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::http::Problem;
use crate::config::{AdminRight, AdminToken};

/// Who makes a change where no token is needed.
const NOBODY: &str = "loopback";

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing that needs a token.
    Nothing,
    /// Look.
    Look,
    /// Change something.
    Change,
}

/// Refuses a request that a browser was tricked into: on loopback, whoever comes under another
/// name than loopback's was led here by a name that somebody else's DNS answers for.
pub(super) fn check_host(address: IpAddr, head: &http::request::Parts) -> Result<(), Problem> {
    if comes_from_another_site(head) {
        let status = StatusCode::FORBIDDEN;
        return Err(Problem::new(status, "a page of another site may not call this listener"));
    }
    if !address.is_loopback() {
        return Ok(());
    }
    let named = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default()),
    };
    // Browsers always say a name; what says none is no browser.
    if named.is_none_or(is_loopback) {
        return Ok(());
    }
    let status = StatusCode::MISDIRECTED_REQUEST;
    Err(Problem::new(status, "call this listener localhost, 127.0.0.1 or [::1]"))
}

/// Whether a browser says that a page of another site made the request: without a token nothing
/// else would stop it.
fn comes_from_another_site(head: &http::request::Parts) -> bool {
    let field = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = field("host").unwrap_or_default();
    let foreign = |origin: &str| origin.split_once("://").is_none_or(|(_, named)| named != host);
    field("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"))
        || field("origin").is_some_and(foreign)
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
pub(super) fn check_token(
    tokens: &[AdminToken],
    head: &http::request::Parts,
    need: Need,
) -> Result<String, Problem> {
    if need == Need::Nothing || tokens.is_empty() {
        return Ok(String::from(NOBODY));
    }
    let Some(given) = head.headers.get(header::AUTHORIZATION).and_then(bearer) else {
        return Err(unauthorized("a bearer token is needed"));
    };
    // Digests are compared, all of them: the time says nothing about a token or its length.
    let given = Sha256::digest(given);
    let mut found = None;
    for token in tokens {
        let own = Sha256::digest(token.value.expose());
        if constant_time_eq_32(&given.into(), &own.into()) {
            found = Some(token);
        }
    }
    match (found, need) {
        (None, _) => Err(unauthorized("that token is not known")),
        (Some(AdminToken { right: AdminRight::Read, .. }), Need::Change) => {
            Err(Problem::new(StatusCode::FORBIDDEN, "that token may only look"))
        }
        (Some(token), _) => Ok(token.name.clone()),
    }
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
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
            assert!(check_host(loopback, &head(&[("host", host)])).is_ok(), "{host}");
        }
        for host in ["evil.example", "evil.example:9090", "localhost.evil.example", "", "10.0.0.1"]
        {
            assert!(check_host(loopback, &head(&[("host", host)])).is_err(), "{host}");
            assert!(check_host(IpAddr::from([10, 0, 0, 1]), &head(&[("host", host)])).is_ok());
        }
        assert!(check_host(loopback, &head(&[])).is_ok());
    }

    #[test]
    fn a_token_has_to_be_one_of_ours() {
        let tokens = [AdminToken {
            name: "ci".to_owned(),
            value: Secret::new("s3cret-token"),
            right: AdminRight::Read,
        }];
        let with = |value: &str| head(&[("authorization", value)]);
        assert!(check_token(&tokens, &with("Bearer s3cret-token"), Need::Look).is_ok());
        assert!(check_token(&tokens, &with("bearer s3cret-token"), Need::Look).is_ok());
        for bad in ["Bearer s3cret-toke", "Bearer s3cret-token ", "Basic s3cret-token", "Bearer"] {
            let refused = check_token(&tokens, &with(bad), Need::Look).unwrap_err();
            assert_eq!(refused.response().status(), 401, "{bad}");
        }
        let refused = check_token(&tokens, &head(&[]), Need::Look).unwrap_err().response();
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
        assert!(check_token(&tokens, &head(&[]), Need::Nothing).is_ok());
        assert!(check_token(&[], &head(&[]), Need::Look).is_ok());
    }
}
