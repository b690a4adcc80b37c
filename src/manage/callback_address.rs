//! Seed 000, `/api/backdoor/callback/get` and `/set`: where a company's assessments are told of.
//!
//! An address is a destination: genuine callbacks of the sender `renaren` about that company and
//! assessment are delivered to it as they came. The query of a call is signed by its manager; the
//! form is not, which is the original's own weakness. So a call has exactly its own parameters, its
//! signature changes something once, and one that was used to look changes nothing: see
//! [`super::spent`].

mod form;

use http::header;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::form::Fields;
use super::failed_auth::{Guess, TooManyAttempts};
use super::http::json;
use super::partners::{Call, Came};
use super::spent::{Rule, Signature};
use crate::config::{CallbackAddresses, Manager};
use crate::ledger::NonceUse;
use crate::operator::addresses::{self, Change, Expected};
use crate::registry::{Actor, ChangeError};
use crate::sender::{Judgement, LiveSecret, Reason, Recipe, Request, Terms};
use crate::wire::Response;

/// The sender whose rule signs these calls.
const SENDER: &str = "renaren";

/// The parameters of a call, all in the query. A callback has a number besides.
const PARAMETERS: [&str; 5] =
    ["manager_sign", "manager_name", "company_id", "time_stamp", "prefix"];

/// The fields of a body that sets something.
const FIELDS: [&str; 3] = ["notify_url", "code_number", "report_number"];

/// Characters of an unknown field's name that an answer shows.
const FIELD_NAME_MAX: usize = 64;

/// How long a call is good for, before and after its time.
const WINDOW_MS: i64 = 10 * 60 * 1000;

/// What is done to addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// They are shown.
    Get,
    /// One is set.
    Set,
}

/// Why a call fails: our own codes, for the original publishes none but 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// Something of ours.
    Internal = 1000,
    /// The signature is wrong, or nobody has that name.
    Sign = 1001,
    /// A parameter is missing.
    Missing = 1002,
    /// A parameter cannot be read, or is there twice.
    Parameter = 1003,
    /// `time_stamp` is more than ten minutes off.
    Time = 1004,
    /// The manager does not manage that company.
    Company = 1005,
    /// There is no such assessment.
    Prefix = 1006,
    /// Another method is needed.
    Method = 1007,
    /// The address is no URL that may be called.
    Url = 1008,
    /// Too many wrong signatures.
    Failures = 1009,
    /// The signature was used before.
    Repeated = 1010,
}

/// A call that fails.
#[derive(Debug)]
struct CallbackAddressError(Code, String);

type Answered = Result<Value, CallbackAddressError>;

/// A call whose signature is right, by a manager of the company.
struct Signed<'c> {
    manager: &'c Manager,
    company: u64,
    prefix: Option<String>,
    /// What tells its signature from others: its key and its digest.
    signature: Vec<u8>,
}

/// Answers one call.
pub(super) async fn answer(
    call: &Call<'_>,
    api: &CallbackAddresses,
    action: Action,
    body: Came<'_>,
) -> Response {
    let answered = match signed(call, api, action).await {
        Err(refused) => Err(refused),
        Ok(signed) => match action {
            Action::Get => get(call, api, &signed).await,
            Action::Set => set(call, &signed, body).await,
        },
    };
    match answered {
        Ok(Value::Null) => json(&json!({ "code": 0, "msg": "success" })),
        Ok(data) => json(&json!({ "code": 0, "msg": "success", "data": data })),
        Err(CallbackAddressError(code, why)) => json(&json!({ "code": code as u16, "msg": why })),
    }
}

fn refused(code: Code, why: impl Into<String>) -> CallbackAddressError {
    CallbackAddressError(code, why.into())
}

// === Who calls, and for whom ===

async fn signed<'c>(
    call: &Call<'_>,
    api: &'c CallbackAddresses,
    action: Action,
) -> Result<Signed<'c>, CallbackAddressError> {
    let method = match action {
        Action::Get => "GET",
        Action::Set => "POST",
    };
    if call.method().as_str() != method {
        return Err(refused(Code::Method, format!("only {method} is served")));
    }
    let pairs = call.parameters(&PARAMETERS);
    let pairs = pairs.map_err(|why| refused(Code::Parameter, why.to_string()))?;
    let name = one(&pairs, "manager_name")?;
    let manager = api.managers.iter().find(|manager| manager.name == name);
    verify(call, manager).await?;
    let manager = manager.ok_or_else(wrong)?;
    let company = one(&pairs, "company_id")?;
    let company: u64 =
        company.parse().map_err(|_| refused(Code::Parameter, "company_id is no number"))?;
    if !manager.companies.contains(&company) {
        return Err(refused(Code::Company, "this manager does not manage that company"));
    }
    let prefix = pairs.iter().find(|(name, _)| name == "prefix").map(|(_, prefix)| prefix.clone());
    let prefix = prefix.filter(|prefix| !prefix.is_empty());
    if prefix.as_ref().is_some_and(|prefix| !api.prefixes.contains(prefix)) {
        return Err(refused(Code::Prefix, "there is no such prefix"));
    }
    let digest = const_hex::decode(one(&pairs, "manager_sign")?).map_err(|_| wrong())?;
    let signature = [&Sha256::digest(manager.key.expose())[..], &digest].concat();
    Ok(Signed { manager, company, prefix, signature })
}

fn wrong() -> CallbackAddressError {
    refused(Code::Sign, "manager_sign is wrong")
}

/// Whether the signature is that of the manager who is named, if there is one; as slowly as the
/// guesses before demand.
async fn verify(call: &Call<'_>, manager: Option<&Manager>) -> Result<(), CallbackAddressError> {
    let name = manager.map_or("", |manager| manager.name.as_str());
    let guess = Guess { api: "/api/backdoor/callback", name, from: call.client };
    let too_many = || refused(Code::Failures, "too many wrong signatures; wait a minute");
    let turn = call.guesses.turn(guess).await.map_err(|TooManyAttempts| too_many())?;
    let verdict = match manager {
        Some(manager) => verdict(call, manager)?,
        None => Some(Reason::BadSignature),
    };
    match verdict {
        Some(Reason::BadSignature) if call.guesses.was_wrong(guess, turn) => Err(too_many()),
        Some(Reason::BadSignature) => Err(wrong()),
        Some(reason) => Err(said(reason)),
        None => {
            call.guesses.was_right(guess, turn);
            Ok(())
        }
    }
}

impl Signed<'_> {
    /// Uses the signature. A call that looks may come again, and one that sets needs an unused one.
    async fn spend(&self, call: &Call<'_>, action: Action) -> Result<(), CallbackAddressError> {
        let signature = Signature {
            rule: Rule::CallbackAddress,
            bytes: &self.signature,
            // Its time may be ahead of ours by as much as it may be behind.
            good_until_ms: call.at_ms.saturating_add(2 * WINDOW_MS),
        };
        let book = call.registry.book();
        let used = match action {
            Action::Get => signature.use_to_read(book).await,
            Action::Set => signature.use_to_write(book).await,
        };
        let used = used.map_err(|error| {
            tracing::warn!(%error, "a signature could not be noted as used");
            refused(Code::Internal, "nothing was changed; try again")
        })?;
        match used {
            NonceUse::First => Ok(()),
            NonceUse::Repeated => {
                let what = "this signature was used before; sign the call with another time_stamp";
                Err(refused(Code::Repeated, what))
            }
        }
    }
}

/// The value of a parameter that has to be there.
fn one<'p>(pairs: &'p [(String, String)], name: &str) -> Result<&'p str, CallbackAddressError> {
    let value = pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let value = value.filter(|value| !value.is_empty());
    value.ok_or_else(|| refused(Code::Missing, format!("{name} is missing")))
}

/// What the sender's own rule says of the query: the one that its callbacks are verified by.
fn verdict(call: &Call<'_>, manager: &Manager) -> Result<Option<Reason>, CallbackAddressError> {
    let unable = || refused(Code::Internal, "signatures cannot be checked");
    let sender = call.config.catalog.get(SENDER).ok_or_else(unable)?;
    let secret =
        LiveSecret { id: manager.name.clone(), value: manager.key.clone(), until_ms: None };
    let terms = Terms { secrets: vec![secret], ..Terms::default() };
    let recipe = Recipe::compile(sender, &terms).map_err(|_| unable())?;
    let target = [b"/?", call.query()].concat();
    let request = Request {
        method: call.method(),
        target: &target,
        base: "",
        headers: call.headers(),
        body: b"",
    };
    let mut read = recipe.read(request, call.at_ms);
    Ok(match read.verify() {
        Judgement::Verified(_) => None,
        Judgement::Refused(refusal) => Some(refusal.reason),
        Judgement::Probe | Judgement::Challenge | Judgement::Undecided => {
            Some(Reason::BadSignature)
        }
    })
}

fn said(reason: Reason) -> CallbackAddressError {
    match reason {
        Reason::MissingParameter => refused(Code::Missing, "manager_sign or time_stamp is missing"),
        Reason::Stale | Reason::Future => {
            refused(Code::Time, "time_stamp is more than ten minutes off")
        }
        Reason::RepeatedParameter => refused(Code::Parameter, "a parameter is there twice"),
        other => refused(Code::Parameter, other.as_str()),
    }
}

// === What is asked for ===

async fn get(call: &Call<'_>, api: &CallbackAddresses, signed: &Signed<'_>) -> Answered {
    signed.spend(call, Action::Get).await?;
    let state = call.registry.in_force();
    let wanted = |prefix: &&String| signed.prefix.as_ref().is_none_or(|one| one == *prefix);
    let shown = api.prefixes.iter().filter(wanted).map(|prefix| {
        let kept = state.documents.addresses.get(&addresses::key(signed.company, prefix));
        json!({ "type": prefix, "notify_url": kept.and_then(|kept| kept.value.notify_url.as_ref()) })
    });
    Ok(shown.collect())
}

async fn set(call: &Call<'_>, signed: &Signed<'_>, body: Came<'_>) -> Answered {
    let missing = || refused(Code::Missing, "prefix is missing");
    let prefix = signed.prefix.as_deref().ok_or_else(missing)?;
    let body = body.await.map_err(|why| refused(Code::Parameter, why.to_string()))?;
    let content_type = call.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let fields = Fields::read(content_type, &body).map_err(|why| refused(Code::Parameter, why))?;
    let change = read(call, &fields)?;
    signed.spend(call, Action::Set).await?;
    let key = addresses::key(signed.company, prefix);
    let who = Actor::new("manager", &signed.manager.name);
    let failed = match addresses::set(call.registry, &who, (&key, Expected::Any), &change).await {
        Ok(()) => return Ok(Value::Null),
        Err(failed) => failed,
    };
    if let ChangeError::Ledger(error) = failed {
        tracing::warn!(%error, "a callback address could not be written");
    }
    Err(refused(Code::Internal, "nothing was changed for certain; look, and try again"))
}

/// What a call sets; what it does not name stays.
fn read(call: &Call<'_>, fields: &Fields) -> Result<Change, CallbackAddressError> {
    if let Some(name) = fields.names().find(|name| !FIELDS.contains(name)) {
        let name: String = name.chars().take(FIELD_NAME_MAX).collect();
        return Err(refused(Code::Parameter, format!("there is no field {name:?} here")));
    }
    let number = |name: &str| match fields.get(name) {
        None => Ok(None),
        Some(text) if addresses::is_count(text) => Ok(Some(text.to_owned())),
        Some(_) => Err(refused(Code::Parameter, format!("{name} is no number"))),
    };
    let url = |text| {
        let url = addresses::checked_url(call.config, text);
        url.map_err(|why| refused(Code::Url, format!("notify_url {why}")))
    };
    let change = Change {
        notify_url: fields.get("notify_url").map(url).transpose()?,
        code_number: number("code_number")?,
        report_number: number("report_number")?,
    };
    match change {
        Change { notify_url: None, code_number: None, report_number: None } => {
            let what = "notify_url, code_number or report_number is missing";
            Err(refused(Code::Missing, what))
        }
        change => Ok(change),
    }
}
