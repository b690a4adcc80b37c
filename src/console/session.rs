//! Sessions of signed-in viewers.
//!
//! The browser holds a random session name; the gateway stores only its digest. A session has the
//! rights of its token at the time of each request: removing or changing a token ends its sessions.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use constant_time_eq::constant_time_eq;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::area::Area;
use super::oidc::Account;
use crate::config::{AdminRight, AdminToken, Oidc, SourceScope};
use crate::registry::Actor;

/// The cookie of a session.
pub(super) const COOKIE: &str = "postern_session";

/// Concurrent sessions: more than operators have browsers.
const SESSIONS_MAX: usize = 1000;

/// Session lifetime without activity.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);

/// Maximum session lifetime: a working day.
const LIFETIME_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// Size of session names and of the CSRF key, in bytes.
const SECRET_BYTES: usize = 32;

type Digest = [u8; 32];

/// All sessions of this gateway.
pub(super) struct Sessions {
    /// Key of the CSRF tokens.
    key: [u8; SECRET_BYTES],
    open: Mutex<HashMap<Digest, Session>>,
}

struct Session {
    owner: Owner,
    began: Instant,
    seen: Instant,
}

/// The token or account that opened a session, and gives it its rights.
enum Owner {
    /// The digest of a token.
    Token(Digest),
    /// An account of the OpenID provider.
    Account {
        account: Account,
        /// Digest of the provider that it is of.
        provider: Digest,
    },
}

/// Tokens and provider as they are configured now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Openers<'o> {
    pub tokens: &'o [AdminToken],
    pub oidc: Option<&'o Oidc>,
}

impl Openers<'_> {
    /// Name, right and sources of an owner; `None`: it is no longer configured.
    fn admit(&self, owner: &Owner) -> Option<(Actor, AdminRight, SourceScope)> {
        match owner {
            Owner::Token(digest) => {
                let of = |token: &&AdminToken| {
                    Digest::from(Sha256::digest(token.value.expose())) == *digest
                };
                let token = self.tokens.iter().find(of)?;
                Some((Actor::of_token(&token.name), token.right, token.scope.clone()))
            }
            Owner::Account { account, provider } => {
                let oidc = self.oidc.filter(|oidc| provider_of(oidc) == *provider)?;
                let role = oidc.roles.iter().find(|role| role.value == account.role)?;
                Some((Actor::new("oidc", &account.name), role.right, role.scope.clone()))
            }
        }
    }
}

fn provider_of(oidc: &Oidc) -> Digest {
    digest(&format!("{} {}", oidc.issuer, oidc.client_id))
}

/// The viewer of a page.
#[derive(Clone, Debug)]
pub(super) struct Viewer {
    pub who: Actor,
    pub right: AdminRight,
    /// The sources that are seen.
    pub scope: SourceScope,
    /// CSRF token, required in each form of this viewer.
    pub csrf: String,
    /// Sign-in state.
    pub entry: SignIn,
}

/// The sign-in state of a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignIn {
    /// No sign-in needed.
    Open,
    /// Signed in with a token.
    SignedIn,
    /// Not signed in.
    Outside,
}

/// The origin of a request: decides whether it extends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// A user action, which extends the session.
    User,
    /// A page that refreshes itself.
    AutoRefresh,
}

impl Sessions {
    /// Creates an empty set; `None`: no randomness from the operating system.
    pub(super) fn new() -> Option<Self> {
        Some(Self { key: random()?, open: Mutex::default() })
    }

    /// Opens a session for `token` and returns its name; `None`: no randomness from the operating
    /// system.
    pub(super) fn open(&self, token: &AdminToken, now: Instant) -> Option<String> {
        self.open_for(Owner::Token(Sha256::digest(token.value.expose()).into()), now)
    }

    /// [`Self::open`] for an account of the provider `oidc`.
    pub(super) fn open_account(
        &self,
        oidc: &Oidc,
        account: Account,
        now: Instant,
    ) -> Option<String> {
        self.open_for(Owner::Account { account, provider: provider_of(oidc) }, now)
    }

    fn open_for(&self, owner: Owner, now: Instant) -> Option<String> {
        let name = URL_SAFE_NO_PAD.encode(random()?);
        let session = Session { owner, began: now, seen: now };
        let mut open = self.sessions();
        open.retain(|_, session| session.is_alive(now));
        if open.len() >= SESSIONS_MAX {
            let longest_idle = open.iter().min_by_key(|(_, session)| session.seen);
            if let Some(name) = longest_idle.map(|(name, _)| *name) {
                open.remove(&name);
            }
        }
        open.insert(digest(&name), session);
        Some(name)
    }

    /// The viewer of a session, if the session and its owner are still valid.
    pub(super) fn find(
        &self,
        name: &str,
        openers: Openers<'_>,
        now: Instant,
        activity: Activity,
    ) -> Option<Viewer> {
        let name = digest(name);
        let mut open = self.sessions();
        let session = open.get_mut(&name)?;
        let admitted = openers.admit(&session.owner).filter(|_| session.is_alive(now));
        let Some((who, right, scope)) = admitted else {
            open.remove(&name);
            return None;
        };
        if activity == Activity::User {
            session.seen = now;
        }
        Some(Viewer { who, right, scope, csrf: self.csrf(&name), entry: SignIn::SignedIn })
    }

    /// Ends a session.
    pub(super) fn close(&self, name: &str) {
        self.sessions().remove(&digest(name));
    }

    /// The viewer on this machine without a token: read-only.
    pub(super) fn local(&self) -> Viewer {
        let (who, right) = (Actor::local(), AdminRight::Read);
        Viewer {
            who,
            right,
            scope: SourceScope::All,
            csrf: self.csrf(b"local"),
            entry: SignIn::Open,
        }
    }

    /// The viewer before sign-in.
    pub(super) fn outside(&self) -> Viewer {
        let (who, right) = (Actor::local(), AdminRight::Read);
        Viewer {
            who,
            right,
            scope: SourceScope::All,
            csrf: self.csrf(b"outside"),
            entry: SignIn::Outside,
        }
    }

    /// The CSRF token of a session: pages of other sites cannot read it.
    fn csrf(&self, of: &[u8]) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return String::new() };
        mac.update(of);
        const_hex::encode(mac.finalize().into_bytes())
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Digest, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) < LIFETIME_MAX
            && now.saturating_duration_since(self.seen) < IDLE_MAX
    }
}

impl Viewer {
    /// Whether `csrf` is the token of this viewer.
    pub(super) fn owns_form(&self, csrf: &str) -> bool {
        !self.csrf.is_empty() && constant_time_eq(self.csrf.as_bytes(), csrf.as_bytes())
    }

    /// Whether the viewer may replay events and resolve callbacks.
    pub(super) fn may_support(&self) -> bool {
        self.right != AdminRight::Read && self.entry != SignIn::Outside
    }

    /// Whether the viewer sees the pages of `area`.
    pub(super) fn may_see(&self, area: Area) -> bool {
        !self.scope.is_bound() || area.knows_bound_tokens()
    }

    pub(super) fn may_change(&self) -> bool {
        self.right == AdminRight::Admin && self.entry != SignIn::Outside
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("open", &self.sessions().len()).finish_non_exhaustive()
    }
}

fn digest(name: &str) -> Digest {
    Sha256::digest(name).into()
}

pub(super) fn random() -> Option<[u8; SECRET_BYTES]> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::config::OidcRole;
    use crate::sender::Secret;

    fn token(name: &str, value: &str) -> AdminToken {
        let (name, right) = (name.to_owned(), AdminRight::Read);
        AdminToken { name, value: Secret::new(value), right, scope: SourceScope::All }
    }

    fn of(tokens: &[AdminToken]) -> Openers<'_> {
        Openers { tokens, oidc: None }
    }

    #[test]
    fn a_session_of_an_account_has_the_right_of_its_role_while_that_is_configured() {
        let oidc = |client: &str, role: &str| Oidc {
            issuer: String::from("https://login.example"),
            client_id: client.to_owned(),
            client_secret: None,
            scopes: String::new(),
            roles_claim: String::new(),
            name_claim: String::new(),
            ca: None,
            roles: vec![OidcRole {
                value: role.to_owned(),
                right: AdminRight::Support,
                scope: SourceScope::All,
            }],
        };
        let (sessions, now) = (Sessions::new().unwrap(), clock::instant());
        let account =
            || Account { name: String::from("a@example.com"), role: String::from("desk") };
        let opened_with = oidc("postern", "desk");
        let find = |oidc: Option<&Oidc>| {
            let name = sessions.open_account(&opened_with, account(), now).unwrap();
            sessions.find(&name, Openers { tokens: &[], oidc }, now, Activity::User)
        };
        let viewer = find(Some(&oidc("postern", "desk"))).unwrap();
        assert_eq!(viewer.who.as_str(), "oidc a@example.com");
        assert!(viewer.may_support() && !viewer.may_change());
        assert!(find(Some(&oidc("postern", "ops"))).is_none(), "the role is gone");
        assert!(find(Some(&oidc("another", "desk"))).is_none(), "another client");
        assert!(find(None).is_none());
    }

    #[test]
    fn a_session_ends_with_its_token_its_lifetime_or_inactivity() {
        let sessions = Sessions::new().unwrap();
        let (now, tokens) = (clock::instant(), [token("a", "one"), token("b", "two")]);
        let name = sessions.open(&tokens[1], now).unwrap();
        let find = |tokens: &[AdminToken], at, sign| sessions.find(&name, of(tokens), at, sign);
        let viewer = find(&tokens, now, Activity::User).unwrap();
        assert_eq!(viewer.who.as_str(), "token b");
        assert!(!viewer.may_change());
        assert!(
            viewer.owns_form(&viewer.csrf.clone())
                && !viewer.owns_form("")
                && !viewer.owns_form("x")
        );
        assert!(find(&[token("renamed", "two")], now, Activity::User).is_some(), "the same token");
        assert!(sessions.find("another", of(&tokens), now, Activity::User).is_none());

        let mut at = now;
        for _ in 0..12 {
            at += IDLE_MAX - Duration::from_secs(1);
            assert!(find(&tokens, at, Activity::User).is_some());
        }
        assert!(
            find(&tokens, now + LIFETIME_MAX, Activity::User).is_none(),
            "its lifetime is over"
        );
        let name = sessions.open(&tokens[1], now).unwrap();
        let find = |tokens: &[AdminToken], at, sign| sessions.find(&name, of(tokens), at, sign);
        let half = now + IDLE_MAX / 2;
        assert!(find(&tokens, half, Activity::AutoRefresh).is_some());
        assert!(find(&tokens, now + IDLE_MAX, Activity::User).is_none(), "no activity");
        let name = sessions.open(&tokens[1], now).unwrap();
        let find = |tokens: &[AdminToken]| sessions.find(&name, of(tokens), now, Activity::User);
        assert!(find(&[token("b", "three")]).is_none(), "another token");
        assert!(find(&tokens).is_none(), "and the session does not come back");
        let name = sessions.open(&tokens[0], now).unwrap();
        sessions.close(&name);
        assert!(sessions.find(&name, of(&tokens), now, Activity::User).is_none());
    }

    #[test]
    fn the_longest_idle_session_is_evicted() {
        let sessions = Sessions::new().unwrap();
        let (now, token) = (clock::instant(), token("a", "one"));
        let names: Vec<String> = (0..=SESSIONS_MAX as u64)
            .map(|n| sessions.open(&token, now + Duration::from_millis(n)).unwrap())
            .collect();
        let at = now + Duration::from_secs(2);
        let is_open = |name| {
            sessions.find(name, of(std::slice::from_ref(&token)), at, Activity::User).is_some()
        };
        assert!(!is_open(&names[0]) && is_open(&names[1]) && is_open(&names[SESSIONS_MAX]));
        assert_ne!(sessions.local().csrf, sessions.outside().csrf);
        assert_ne!(sessions.local().csrf, Sessions::new().unwrap().local().csrf);
    }
}
