//! Access tokens: issued for an app's secret, valid for 2 h, and for 5 min after the next one was
//! issued. Only the digest of a token is stored.

use constant_time_eq::constant_time_eq_32;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Answered, Code, PushConfigError, answered, busy, parameters, refused, value};
use crate::clock::UnixMillis;
use crate::ledger::{BatchedLedger, DocumentChange, Expect, Kind, LedgerError, Revision};
use crate::manage::failed_auth::{Guess, TooManyAttempts};
use crate::partners::Call;
use crate::partners::push_configuration::settings::{PushApp, PushConfig};
use crate::wire::Response;

/// The tokens of an app, by its id.
const TOKENS: Kind = Kind::new("push_token");

/// The parameters of a call for a token.
const PARAMETERS: [&str; 3] = ["grant_type", "appid", "secret"];

/// The validity of a token.
const LIFE_SECONDS: i64 = 7200;

/// The time for which the previous token stays valid.
const OVERLAP_MS: i64 = 5 * 60 * 1000;

/// Retries after another gateway issued a token concurrently.
const TRIES: usize = 16;

/// The tokens of an app.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tokens {
    current: Token,
    previous: Option<Token>,
}

/// A token as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Token {
    digest: String,
    until_ms: UnixMillis,
}

/// Answers a call to `/cgi-bin/token`.
pub(in crate::partners) async fn answer(call: &Call<'_>, api: &PushConfig) -> Response {
    answered(make(call, api).await)
}

async fn make(call: &Call<'_>, api: &PushConfig) -> Answered {
    if call.method() != http::Method::GET {
        return Err(refused(Code::NotGet, "require GET method"));
    }
    let pairs = parameters(call, &PARAMETERS)?;
    let parameter = |name| value(&pairs, name);
    if parameter("grant_type") != Some("client_credential") {
        return Err(refused(Code::GrantType, "invalid grant_type"));
    }
    let id = parameter("appid").ok_or_else(|| refused(Code::NoAppId, "appid missing"))?;
    let secret = parameter("secret");
    let secret = secret.ok_or_else(|| refused(Code::NoSecret, "appsecret missing"))?;
    let app = known(call, api.apps.iter().find(|app| app.app_id == id), secret).await?;
    let token = random().ok_or_else(|| refused(Code::Busy, "system error"))?;
    let kept = keep(call.registry.ledger(), &app.app_id, &token, call.at_ms).await;
    kept.map_err(|error| busy(&error))?;
    Ok(json!({ "access_token": token, "expires_in": LIFE_SECONDS }))
}

/// The app with that secret, after the delay that earlier failures demand.
async fn known<'a>(
    call: &Call<'_>,
    app: Option<&'a PushApp>,
    secret: &str,
) -> Result<&'a PushApp, PushConfigError> {
    let name = app.map_or("", |app| app.app_id.as_str());
    let guess = Guess { api: "/cgi-bin/token", name, from: call.client };
    let too_many = || refused(Code::Quota, "too many wrong secrets; wait a minute");
    let turn = call.guesses.turn(guess).await.map_err(|TooManyAttempts| too_many())?;
    let is_its = |app: &&PushApp| {
        constant_time_eq_32(&digest(app.secret.expose()), &digest(secret.as_bytes()))
    };
    match (app, app.filter(is_its)) {
        (_, Some(app)) => {
            call.guesses.was_right(guess, turn);
            Ok(app)
        }
        _ if call.guesses.was_wrong(guess, turn) => Err(too_many()),
        (None, _) => Err(refused(Code::AppId, "invalid appid")),
        (Some(_), None) => Err(refused(Code::Secret, "invalid appsecret")),
    }
}

/// The app of a valid token.
pub(super) async fn app<'a>(
    ledger: &BatchedLedger,
    api: &'a PushConfig,
    token: &str,
    at_ms: UnixMillis,
) -> Result<&'a PushApp, PushConfigError> {
    let given = digest(token.as_bytes());
    for app in &api.apps {
        let kept = read(ledger, &app.app_id).await.map_err(|error| busy(&error))?;
        let Some((Tokens { current, previous }, _)) = kept else { continue };
        let is_it = |token: &&Token| {
            let mut known = [0; 32];
            const_hex::decode_to_slice(&token.digest, &mut known).is_ok()
                && constant_time_eq_32(&known, &given)
        };
        match [Some(&current), previous.as_ref()].into_iter().flatten().find(is_it) {
            Some(token) if token.until_ms > at_ms => return Ok(app),
            Some(_) => return Err(refused(Code::Expired, "access_token expired")),
            None => {}
        }
    }
    Err(refused(Code::Token, "invalid access_token"))
}

/// Stores a new token beside the previous one.
async fn keep(
    ledger: &BatchedLedger,
    app: &str,
    token: &str,
    at_ms: UnixMillis,
) -> Result<(), LedgerError> {
    let digest = const_hex::encode(digest(token.as_bytes()));
    for _ in 0..TRIES {
        let kept = read(ledger, app).await?;
        let expect = kept.as_ref().map_or(Expect::Absent, |(_, version)| Expect::Version(*version));
        let previous = kept.map(|(Tokens { current, .. }, _)| Token {
            until_ms: current.until_ms.min(at_ms.saturating_add(OVERLAP_MS)),
            ..current
        });
        let until_ms = at_ms.saturating_add(LIFE_SECONDS * 1000);
        let tokens = Tokens { current: Token { digest: digest.clone(), until_ms }, previous };
        let body = serde_json::to_vec(&tokens).map_err(|_| damaged(app))?;
        let change = DocumentChange {
            kind: TOKENS,
            id: app.to_owned(),
            expect,
            body: Some(body.into()),
            who: format!("app {app}"),
            at_ms,
        };
        match ledger.change(&change).await {
            Ok(_) => return Ok(()),
            Err(LedgerError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(LedgerError::Overloaded)
}

async fn read(
    ledger: &BatchedLedger,
    app: &str,
) -> Result<Option<(Tokens, Revision)>, LedgerError> {
    let Some(document) = ledger.document(TOKENS, app).await? else { return Ok(None) };
    let tokens = serde_json::from_slice(&document.body).map_err(|_| damaged(app))?;
    Ok(Some((tokens, document.version)))
}

fn damaged(app: &str) -> LedgerError {
    LedgerError::Corrupt(format!("the document {TOKENS} {app}"))
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn random() -> Option<String> {
    let mut bytes = [0; 48];
    getrandom::fill(&mut bytes).ok()?;
    Some(const_hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::{BatchOptions, Memory, NoopObserver, StoreClock};
    use crate::sender::Secret;

    const MINUTE: i64 = 60_000;

    #[tokio::test]
    async fn a_token_ends_after_two_hours_or_five_minutes_after_the_next_one() {
        let memory = Memory::new(StoreClock::process());
        let ledger = BatchedLedger::new(memory, BatchOptions::default(), Arc::new(NoopObserver));
        let app = |id: &str| PushApp { app_id: id.to_owned(), secret: Secret::new("s") };
        let api = PushConfig { apps: vec![app("wx1"), app("wx2")] };
        let verdict = async |token: &str, minutes: i64| {
            let found = super::app(&ledger, &api, token, minutes * MINUTE).await;
            found.map(|app| app.app_id.clone()).map_err(|refused| refused.0)
        };
        keep(&ledger, "wx2", "one", 0).await.unwrap();
        assert_eq!(verdict("one", 119).await.as_deref(), Ok("wx2"));
        assert_eq!(verdict("one", 120).await, Err(Code::Expired));
        assert_eq!(verdict("none", 0).await, Err(Code::Token));
        keep(&ledger, "wx2", "two", 10 * MINUTE).await.unwrap();
        assert_eq!(verdict("one", 14).await.as_deref(), Ok("wx2"));
        assert_eq!(verdict("one", 15).await, Err(Code::Expired));
        assert_eq!(verdict("two", 129).await.as_deref(), Ok("wx2"));
        keep(&ledger, "wx2", "three", 11 * MINUTE).await.unwrap();
        assert_eq!(verdict("one", 12).await, Err(Code::Token), "two are remembered");
        assert_eq!(verdict("two", 12).await.as_deref(), Ok("wx2"));
        let kept = ledger.document(TOKENS, "wx2").await.unwrap().unwrap().body;
        assert!(!String::from_utf8_lossy(&kept).contains("three"), "only digests are kept");
    }
}
