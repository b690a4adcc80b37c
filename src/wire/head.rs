//! Checks of a head beyond hyper's: one Host, and one way to delimit the body (RFC 9112, sections
//! 3.2 and 6.1).

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, StatusCode, Uri, Version, header};
use http_body_util::Full;

use super::connection::Response;
use super::request::WireRequest;
use super::target::Framing;

/// Why a head is rejected with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error("the Host header is missing")]
    NoHost,
    #[error("several Host headers")]
    SeveralHosts,
    #[error("the Host header is not a host")]
    NotAHost,
    #[error("the Host header names another host than the request's authority")]
    AnotherHost,
    #[error("both Content-Length and Transfer-Encoding")]
    TwoLengths,
}

/// Checks a request's head.
pub(super) fn check(request: &WireRequest, framing: Framing) -> Result<(), HeadError> {
    if framing == Framing::Conflicting {
        return Err(HeadError::TwoLengths);
    }
    // To compare the few names of a head is faster than to hash one.
    let mut hosts = request.headers.iter().filter(|(name, _)| *name == header::HOST);
    let mut next = || hosts.next().map(|(_, host)| host);
    match (next(), next()) {
        (_, Some(_)) => Err(HeadError::SeveralHosts),
        (None, None) if request.version == Version::HTTP_11 => Err(HeadError::NoHost),
        (None, None) => Ok(()),
        (Some(host), None) => check_host(request, host),
    }
}

/// Checks the one Host. In HTTP/1.1 the authority of an absolute target takes precedence over it;
/// in HTTP/2 the two must not differ (RFC 9113, section 8.3.1).
fn check_host(request: &WireRequest, host: &HeaderValue) -> Result<(), HeadError> {
    let bytes = host.as_bytes();
    let is_host = bytes.is_empty()
        || is_plain_host(bytes)
        || (Authority::try_from(bytes).is_ok() && !bytes.contains(&b'@'));
    if !is_host {
        return Err(HeadError::NotAHost);
    }
    if request.version != Version::HTTP_2 {
        return Ok(());
    }
    let authority = request.target.parsed().and_then(Uri::authority);
    match authority.map(|authority| authority.as_str().as_bytes()) {
        Some(authority) if !authority.eq_ignore_ascii_case(bytes) => Err(HeadError::AnotherHost),
        _ => Ok(()),
    }
}

/// Whether `host` is a name or an address of IPv4, perhaps with a port: certainly a host.
fn is_plain_host(host: &[u8]) -> bool {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let name = host.iter().take_while(|byte| is_of_name(byte)).count();
    let is_port = match &host[name..] {
        [] => true,
        [b':', port @ ..] => {
            (1..=PORT_DIGITS_MAX).contains(&port.len()) && port.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    name > 0 && is_port
}

/// Digits of a port.
const PORT_DIGITS_MAX: usize = 5;

/// The reply to a rejected head. The connection is closed: what follows may be anything.
pub(super) fn bad_request() -> Response {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::wire::{RequestBody, Target};

    /// A version, a target, the Host headers, and the result.
    type Row<'r> = (Version, &'r str, &'r [&'r [u8]], Result<(), HeadError>);

    fn request(version: Version, target: &str, hosts: &[&[u8]]) -> WireRequest {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_bytes(host).unwrap());
        }
        WireRequest {
            method: Method::GET,
            target: Target::Parsed(target.parse().unwrap()),
            version,
            headers,
            certificates: None,
            body: RequestBody::Empty,
        }
    }

    proptest::proptest! {
        #[test]
        fn a_plain_host_is_an_authority(host in "[a-zA-Z0-9.:@_-]{0,12}(:[0-9]{1,6})?") {
            let is_authority = Authority::try_from(host.as_str()).is_ok() && !host.contains('@');
            proptest::prop_assert!(!is_plain_host(host.as_bytes()) || is_authority, "{host}");
        }
    }

    #[test]
    fn usual_hosts_are_plain() {
        for host in ["a", "a.example", "127.0.0.1:8080", "x-y.example:443"] {
            assert!(is_plain_host(host.as_bytes()), "{host}");
        }
        for host in ["", ":80", "a:", "a:b", "a:80:80", "a@b", "[::1]", "a b", "a:123456"] {
            assert!(!is_plain_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn there_is_one_host() {
        use HeadError::{AnotherHost, NoHost, NotAHost, SeveralHosts};
        const OWN: &str = "https://a.example/b";
        let table: [Row<'_>; 13] = [
            (Version::HTTP_11, "/", &[b"a"], Ok(())),
            (Version::HTTP_11, "/", &[b"a.example:8080"], Ok(())),
            (Version::HTTP_11, "/", &[b"[::1]:80"], Ok(())),
            (Version::HTTP_11, "/", &[b""], Ok(())),
            (Version::HTTP_11, "/", &[], Err(NoHost)),
            (Version::HTTP_11, "/", &[b"a", b"a"], Err(SeveralHosts)),
            (Version::HTTP_11, "/", &[b"a b"], Err(NotAHost)),
            (Version::HTTP_11, "/", &[b"u@a"], Err(NotAHost)),
            (Version::HTTP_10, "/", &[], Ok(())),
            (Version::HTTP_10, "/", &[b"a", b"b"], Err(SeveralHosts)),
            (Version::HTTP_11, OWN, &[b"b.example"], Ok(())),
            (Version::HTTP_2, OWN, &[b"A.example"], Ok(())),
            (Version::HTTP_2, OWN, &[b"b.example"], Err(AnotherHost)),
        ];
        for (version, target, hosts, expected) in table {
            let found = check(&request(version, target, hosts), Framing::Clear);
            assert_eq!(found, expected, "{version:?} {target} {hosts:?}");
        }
        let own = request(Version::HTTP_11, "/", &[b"a"]);
        assert_eq!(check(&own, Framing::Conflicting), Err(HeadError::TwoLengths));
    }
}
