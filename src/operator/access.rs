//! Actor may ask.

use std::borrow::Cow;
use std::net::IpAddr;

use constant_time_eq::constant_time_eq_32;
use http::request::Parts;
use http::{HeaderValue, header};
use http_body_util::{BodyExt as _, Collected, Full};
use sha2::{Digest as _, Sha256};

use super::local_token::LocalToken;
use crate::config::{AdminRight, AdminToken, Config, SourceScope, without_name};
use crate::registry::Actor;
use crate::wire::Response;

/// The permission that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Nothing that needs a token.
    Nothing,
    /// Look.
    Read,
    /// Replay recorded events.
    Support,
    /// Change something.
    Write,
}

/// Why access is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// A browser says that a page of another site made the request.
    #[error("a page of another site may not call this listener")]
    AnotherSite,
    /// The request came to loopback under a name that is not loopback's.
    #[error("call this listener localhost, 127.0.0.1 or [::1]")]
    AnotherName,
    /// The token is missing, and the request needs the machine's token.
    #[error(
        "a bearer token is needed: the one in the file admin-token in the folder of the store; the \
         command line sends it by itself"
    )]
    NoLocalToken,
    /// The token is missing.
    #[error("a bearer token is needed")]
    NoToken,
    /// The token is unknown.
    #[error("that token is not known")]
    UnknownToken,
    /// The token is read-only.
    #[error("read-only token")]
    OnlyLooks,
    /// The token may replay events and change nothing.
    #[error("that token may look and replay events; this needs an admin token")]
    OnlySupports,
    /// The token is bound to sources, and the request is about more.
    #[error("that token is bound to its sources; this needs a token without `sources`")]
    OnlyItsSources,
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

/// Refuses a request that a browser was tricked into. On loopback, a request under another name
/// than loopback's was led here by a name that foreign DNS answers for.
///
/// # Errors
/// The request came under such a name.
pub fn check_name(address: IpAddr, head: &Parts) -> Result<(), AccessError> {
    if !address.is_loopback() {
        return Ok(());
    }
    let named = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default()),
    };
    // Browsers always send a name; a client without one is not a browser.
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

/// How much a caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Everything that is shown at all.
    Whole,
    /// Not the names of sources that are a protection: the caller has no token.
    Concealed,
}

/// A caller that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The caller.
    pub who: Actor,
    /// How much of what it sees is concealed.
    pub sight: Sight,
    /// The sources that it sees.
    pub scope: SourceScope,
}

impl Admitted {
    fn all(who: Actor, sight: Sight) -> Self {
        Self { who, sight, scope: SourceScope::All }
    }
}

/// A request, by where it came in.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The address of the listener.
    pub at: IpAddr,
    /// The address that the connection comes from, whatever a proxy forwards.
    pub peer: IpAddr,
    /// Its head.
    pub head: &'a Parts,
    /// The permission that the request needs.
    pub need: Permission,
}

impl Asked<'_> {
    /// Whether this machine asks: a packet from elsewhere has neither an address of loopback nor the
    /// listener's own, which a command has that calls a listener on another address than loopback.
    fn is_from_here(&self) -> bool {
        let peer = self.peer.to_canonical();
        peer.is_loopback() || peer == self.at.to_canonical()
    }
}

/// Whether the request's token allows what it needs, whose it is, and what its bearer sees. The token
/// of the machine allows everything, on that machine alone. Where no token is configured, looking is
/// allowed on loopback without one.
///
/// # Errors
/// When it does not.
pub fn check_token(
    configured: &[AdminToken],
    local: &LocalToken,
    asked: Asked<'_>,
) -> Result<Admitted, AccessError> {
    let Asked { at, head, need, .. } = asked;
    let given = head.headers.get(header::AUTHORIZATION).and_then(bearer);
    match given {
        _ if need == Permission::Nothing => Ok(Admitted::all(Actor::local(), Sight::Concealed)),
        None if !configured.is_empty() => Err(AccessError::NoToken),
        None if need == Permission::Read && at.is_loopback() => {
            Ok(Admitted::all(Actor::local(), Sight::Concealed))
        }
        None => Err(AccessError::NoLocalToken),
        Some(given) => match find_token(configured, given) {
            Some(token) => token_allows(token, need),
            None if asked.is_from_here() && is_local(local, given) => {
                Ok(Admitted::all(Actor::local(), Sight::Whole))
            }
            None => Err(AccessError::UnknownToken),
        },
    }
}

fn is_local(local: &LocalToken, given: &[u8]) -> bool {
    local.own().is_some_and(|own| find_token(&[own], given).is_some())
}

fn token_allows(token: &AdminToken, need: Permission) -> Result<Admitted, AccessError> {
    match (token.right, need) {
        (AdminRight::Read, Permission::Support | Permission::Write) => Err(AccessError::OnlyLooks),
        (AdminRight::Support, Permission::Write) => Err(AccessError::OnlySupports),
        _ => {
            let (who, scope) = (Actor::of_token(&token.name), token.scope.clone());
            Ok(Admitted { who, sight: Sight::Whole, scope })
        }
    }
}

/// Puts digests in place of the names that are a protection, and of what is nearly such a name,
/// wherever a response holds them.
pub async fn conceal(config: &Config, response: Response) -> Response {
    let hidden = config.sources.values().filter(|source| matches!(source.label(), Cow::Owned(_)));
    let hidden: Vec<&str> = hidden.map(|source| &*source.name).collect();
    if hidden.is_empty() {
        return response;
    }
    let (head, body) = response.into_parts();
    // It is there already: reading it neither waits nor fails.
    let mut bytes = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    for name in hidden {
        if let Some(without) = without_name(&bytes, name) {
            bytes = without.into();
        }
    }
    Response::from_parts(head, Full::new(bytes))
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
    use crate::config::SourceScope;
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
            scope: SourceScope::All,
        }];
        let folder = tempfile::tempdir().unwrap();
        let local = LocalToken::new(&folder.path().join("admin-token"));
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let ask = |tokens: &[AdminToken], head: &Parts, need| {
            check_token(tokens, &local, Asked { at: loopback, peer: loopback, head, need })
        };
        let with = |value: &str| head(&[("authorization", value)]);
        assert!(ask(&tokens, &with("Bearer s3cret-token"), Permission::Read).is_ok());
        assert!(ask(&tokens, &with("bearer s3cret-token"), Permission::Read).is_ok());
        for bad in ["Bearer s3cret-toke", "Bearer s3cret-token ", "Bearer "] {
            let refused = ask(&tokens, &with(bad), Permission::Read);
            assert_eq!(refused, Err(AccessError::UnknownToken), "{bad}");
        }
        for bad in ["Basic s3cret-token", "Bearer"] {
            assert_eq!(
                ask(&tokens, &with(bad), Permission::Read),
                Err(AccessError::NoToken),
                "{bad}"
            );
        }
        assert_eq!(ask(&tokens, &head(&[]), Permission::Read), Err(AccessError::NoToken));
        let change = ask(&tokens, &with("Bearer s3cret-token"), Permission::Write);
        assert_eq!(change, Err(AccessError::OnlyLooks));
        let replay = ask(&tokens, &with("Bearer s3cret-token"), Permission::Support);
        assert_eq!(replay, Err(AccessError::OnlyLooks));
        let [token] = tokens.clone();
        let support = [AdminToken { right: AdminRight::Support, ..token }];
        assert!(ask(&support, &with("Bearer s3cret-token"), Permission::Support).is_ok());
        let change = ask(&support, &with("Bearer s3cret-token"), Permission::Write);
        assert_eq!(change, Err(AccessError::OnlySupports));
        assert!(ask(&tokens, &head(&[]), Permission::Nothing).is_ok());
    }

    #[test]
    fn where_no_token_is_configured_looking_is_free_and_the_rest_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let local = LocalToken::new(&folder.path().join("admin-token"));
        local.ensure(&[]);
        let own = String::from_utf8(local.own().unwrap().value.expose().to_vec()).unwrap();
        let (loopback, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 1]));
        let bearing = head(&[("authorization", &format!("Bearer {own}"))]);
        let (bare, wrong) = (head(&[]), head(&[("authorization", "Bearer wrong")]));
        let ask =
            |at, head, need| check_token(&[], &local, Asked { at, peer: loopback, head, need });
        let seen = |sight| Ok(Admitted::all(Actor::local(), sight));
        assert_eq!(ask(loopback, &bare, Permission::Read), seen(Sight::Concealed));
        assert_eq!(ask(loopback, &bare, Permission::Write), Err(AccessError::NoLocalToken));
        assert_eq!(ask(other, &bare, Permission::Read), Err(AccessError::NoLocalToken));
        for need in [Permission::Read, Permission::Write] {
            assert_eq!(ask(loopback, &bearing, need), seen(Sight::Whole));
            assert_eq!(ask(loopback, &wrong, need), Err(AccessError::UnknownToken));
        }
    }

    #[test]
    fn the_token_of_the_machine_is_accepted_from_that_machine_alone() {
        let configured = [AdminToken {
            name: "wall".to_owned(),
            value: Secret::new("s3cret-token"),
            right: AdminRight::Read,
            scope: SourceScope::All,
        }];
        let folder = tempfile::tempdir().unwrap();
        let local = LocalToken::new(&folder.path().join("admin-token"));
        let bearing = |token: &[u8]| {
            let token = format!("Bearer {}", str::from_utf8(token).unwrap());
            head(&[("authorization", token.as_str()), ("x-forwarded-for", "127.0.0.1")])
        };
        local.ensure(&configured);
        let first = bearing(local.own().unwrap().value.expose());
        let wall = bearing(configured[0].value.expose());
        let ask = |at: &str, peer: &str, head| {
            let (at, peer) = (at.parse().unwrap(), peer.parse().unwrap());
            let asked = Asked { at, peer, head, need: Permission::Read };
            check_token(&configured, &local, asked).map(|admitted| admitted.who)
        };
        for (at, peer) in [
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("::", "::1"),
            ("::", "::ffff:127.0.0.1"),
            // A command calls a listener on one address under it.
            ("10.0.0.5", "10.0.0.5"),
            ("::ffff:10.0.0.5", "10.0.0.5"),
        ] {
            assert_eq!(ask(at, peer, &first), Ok(Actor::local()), "{peer} to {at}");
        }
        for (at, peer) in [
            ("0.0.0.0", "10.0.0.9"),
            ("10.0.0.5", "10.0.0.9"),
            ("127.0.0.1", "203.0.113.9"),
            ("::", "::ffff:10.0.0.9"),
            ("::", "2001:db8::9"),
        ] {
            assert_eq!(ask(at, peer, &first), Err(AccessError::UnknownToken), "{peer} to {at}");
            assert_eq!(ask(at, peer, &wall), Ok(Actor::of_token("wall")), "{peer} to {at}");
        }
        std::fs::remove_file(folder.path().join("admin-token")).unwrap();
        local.ensure(&configured);
        let refused = ask("127.0.0.1", "127.0.0.1", &first);
        assert_eq!(refused, Err(AccessError::UnknownToken), "it is that of an earlier file");
    }

    #[test]
    fn a_bound_token_is_admitted_with_its_scope() {
        let scope = SourceScope::Bound(std::sync::Arc::from([]));
        let tokens = [AdminToken {
            name: "acme".to_owned(),
            value: Secret::new("s3cret-token"),
            right: AdminRight::Admin,
            scope: scope.clone(),
        }];
        let folder = tempfile::tempdir().unwrap();
        let local = LocalToken::new(&folder.path().join("admin-token"));
        let head = head(&[("authorization", "Bearer s3cret-token")]);
        let at = IpAddr::from([127, 0, 0, 1]);
        for need in [Permission::Read, Permission::Support, Permission::Write] {
            let asked = Asked { at, peer: at, head: &head, need };
            let admitted = check_token(&tokens, &local, asked).unwrap();
            assert_eq!((admitted.who, admitted.scope), (Actor::of_token("acme"), scope.clone()));
        }
    }
}
