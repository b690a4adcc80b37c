//! Sign-in with accounts of an OpenID provider: the authorization code flow with PKCE.
//!
//! ```text
//! begin ─▶ provider's page ─▶ finish: state, browser ─▶ code for ID token ─▶ account ─▶ session
//! ```
//!
//! The gateway uses an account once, to open a session of its own. It keeps no token of the provider.

mod account;
mod provider;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use constant_time_eq::constant_time_eq;
use sha2::{Digest as _, Sha256};

pub(super) use self::account::Account;
use self::account::Expected;
pub(super) use self::provider::ProviderError;
use self::provider::{Exchange, Provider};
use super::session::random;
use crate::clock::now_ms;
use crate::config::Oidc;

/// The cookie that binds a sign-in to the browser that began it.
pub(super) const COOKIE: &str = "postern_oidc";

/// The path to which the provider sends the browser back.
pub(super) const CALLBACK: &str = "/console/sign-in/oidc/callback";

/// The time for signing in at the provider.
const PENDING_TIME: Duration = Duration::from_secs(10 * 60);

/// Sign-ins that are begun and not finished. Any caller can begin one.
const PENDING_MAX: usize = 1000;

/// Longest answer of a provider in a URL, in bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

type Digest = [u8; 32];

/// The sign-ins that are begun, and what is known of the provider.
#[derive(Default)]
pub(super) struct SignIns {
    pending: Mutex<HashMap<Digest, Pending>>,
    provider: Provider,
}

/// A sign-in that is begun.
struct Pending {
    /// Digest of the cookie of the browser that began it.
    browser: Digest,
    nonce: String,
    verifier: String,
    redirect: String,
    next: String,
    began: Instant,
}

/// The beginning of a sign-in.
#[derive(Debug)]
pub(super) struct Begun {
    /// The page of the provider.
    pub url: String,
    /// The value of the cookie.
    pub cookie: String,
}

/// The answer of the provider in the URL of the callback.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer<'a> {
    pub state: Option<&'a str>,
    pub code: Option<&'a str>,
    pub issuer: Option<&'a str>,
    pub error: Option<&'a str>,
}

/// Why an account is not signed in.
#[derive(Debug, thiserror::Error)]
pub(super) enum OidcError {
    /// The sign-in was not begun in this browser, too long ago, or before a restart.
    #[error("the sign-in was not begun in this browser, or too long ago")]
    Unknown,
    /// The provider refused.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// The provider cannot be used.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The ID token is not believed.
    #[error("the ID token is rejected: {0}")]
    Token(String),
    /// The account has none of the configured roles.
    #[error("the account {0} has none of the configured roles")]
    NoRole(String),
    /// No randomness from the operating system.
    #[error("no randomness from the operating system")]
    NoRandom,
}

impl SignIns {
    /// Begins a sign-in: the provider sends the browser back to `redirect`, and the console then to
    /// `next`.
    pub(super) async fn begin(
        &self,
        oidc: &Oidc,
        redirect: String,
        next: &str,
        now: Instant,
    ) -> Result<Begun, OidcError> {
        let metadata = self.provider.metadata(oidc, now).await?;
        let [state, cookie, nonce, verifier] = [token()?, token()?, token()?, token()?];
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let query = serde_urlencoded::to_string([
            ("response_type", "code"),
            ("client_id", &oidc.client_id),
            ("redirect_uri", &redirect),
            ("scope", &oidc.scopes),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let mark = if metadata.authorization_endpoint.contains('?') { '&' } else { '?' };
        let url = format!("{}{mark}{}", metadata.authorization_endpoint, query.unwrap_or_default());
        let pending = Pending {
            browser: digest(&cookie),
            nonce,
            verifier,
            redirect,
            next: next.to_owned(),
            began: now,
        };
        self.keep(digest(&state), pending, now);
        Ok(Begun { url, cookie })
    }

    /// Finishes a sign-in of the browser with this cookie: the account, and where to go.
    pub(super) async fn finish(
        &self,
        oidc: &Oidc,
        answer: Answer<'_>,
        cookie: Option<&str>,
        now: Instant,
    ) -> Result<(Account, String), OidcError> {
        let pending = self.take(answer.state, cookie, now).ok_or(OidcError::Unknown)?;
        if let Some(error) = answer.error {
            return Err(OidcError::Refused(error.chars().take(200).collect()));
        }
        // RFC 9207: an answer of another provider is not used with this one.
        if answer.issuer.is_some_and(|issuer| issuer != oidc.issuer) {
            return Err(OidcError::Token(String::from("the answer is of another issuer")));
        }
        let code = answer.code.filter(|code| code.len() <= ANSWER_BYTES_MAX);
        let code = code.ok_or_else(|| OidcError::Refused(String::from("there is no code")))?;
        let exchange = Exchange { code, redirect: &pending.redirect, verifier: &pending.verifier };
        let token = self.provider.exchange(oidc, exchange, now).await?;
        let payload = self.provider.open(oidc, &token, now).await?;
        let expected = Expected { oidc, nonce: &pending.nonce, now_s: now_ms() / 1000 };
        Ok((expected.account(&payload)?, pending.next))
    }

    fn keep(&self, state: Digest, pending: Pending, now: Instant) {
        let mut all = self.all();
        all.retain(|_, one| one.is_alive(now));
        if all.len() >= PENDING_MAX {
            let oldest = all.iter().min_by_key(|(_, one)| one.began).map(|(state, _)| *state);
            oldest.map(|state| all.remove(&state));
        }
        all.insert(state, pending);
    }

    /// The sign-in with that state, once, and only for the browser that began it.
    fn take(&self, state: Option<&str>, cookie: Option<&str>, now: Instant) -> Option<Pending> {
        let found = self.all().remove(&digest(state?))?;
        let is_of_browser = constant_time_eq(&found.browser, &digest(cookie?));
        (is_of_browser && found.is_alive(now)).then_some(found)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Digest, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) < PENDING_TIME
    }
}

impl std::fmt::Debug for SignIns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIns").field("pending", &self.all().len()).finish_non_exhaustive()
    }
}

fn token() -> Result<String, OidcError> {
    Ok(URL_SAFE_NO_PAD.encode(random().ok_or(OidcError::NoRandom)?))
}

fn digest(text: &str) -> Digest {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_state_is_good_once_for_its_browser_and_for_ten_minutes() {
        let (sign_ins, now) = (SignIns::default(), clock::instant());
        let begin = || {
            let pending = Pending {
                browser: digest("browser"),
                nonce: String::new(),
                verifier: String::new(),
                redirect: String::new(),
                next: String::from("/console"),
                began: now,
            };
            sign_ins.keep(digest("state"), pending, now);
        };
        let take = |state, cookie, at| sign_ins.take(state, cookie, at).is_some();
        begin();
        assert!(!take(Some("another"), Some("browser"), now));
        assert!(take(Some("state"), Some("browser"), now));
        assert!(!take(Some("state"), Some("browser"), now), "once");
        for (cookie, at) in
            [(Some("another"), now), (None, now), (Some("browser"), now + PENDING_TIME)]
        {
            begin();
            assert!(!take(Some("state"), cookie, at));
            assert!(!take(Some("state"), Some("browser"), now), "a wrong try ends it");
        }
        for n in 0..=PENDING_MAX {
            let pending = Pending { began: now + Duration::from_millis(n as u64), ..begun(now) };
            sign_ins.keep(digest(&n.to_string()), pending, now);
        }
        assert_eq!(sign_ins.all().len(), PENDING_MAX);
        assert!(!take(Some("0"), Some(""), now), "the oldest makes room");
    }

    fn begun(now: Instant) -> Pending {
        let empty = String::new;
        let (nonce, verifier, redirect, next) = (empty(), empty(), empty(), empty());
        Pending { browser: digest(""), nonce, verifier, redirect, next, began: now }
    }
}
