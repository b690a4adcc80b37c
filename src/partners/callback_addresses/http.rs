//! `/api/backdoor/callback/get` and `/set`: the URLs that receive the callbacks about a company's
//! assessments.
//!
//! An address is a destination: verified callbacks of the sender `renaren` about that company and
//! assessment are forwarded to it. The manager signs the query of a call but not its form, a
//! weakness of the original. So a call has exactly its own parameters, its signature changes
//! something once, and a signature that was used to read changes nothing: see
//! [`crate::partners::used_signatures`].

mod form;

use http::header;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::form::Fields;
use super::SENDER;
use super::edit::{self, Change, Expected};
use super::settings::{CallbackAddresses, Manager};
use crate::ledger::NonceUse;
use crate::manage::failed_auth::{Guess, TooManyAttempts};
use crate::manage::http::json;
use crate::partners::used_signatures::{Rule, Signature};
use crate::partners::{Call, Came};
use crate::registry::{Actor, ChangeError};
use crate::sender::{Judgement, LiveSecret, Reason, Recipe, Request, Terms};
use crate::wire::Response;

/// The parameters of a call, all in the query. A callback has a number besides.
const PARAMETERS: [&str; 5] =
    ["manager_sign", "manager_name", "company_id", "time_stamp", "prefix"];

/// The fields of a body that sets an address.
const FIELDS: [&str; 3] = ["notify_url", "code_number", "report_number"];

/// Characters of an unknown field's name that a reply shows.
const FIELD_NAME_MAX: usize = 64;

/// The validity of a call, before and after its time.
const WINDOW_MS: i64 = 10 * 60 * 1000;

/// An action on addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::partners) enum Action {
    /// Read addresses.
    Get,
    /// Set an address.
    Set,
}

/// The error of a call: our own codes, because the original publishes none but 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// An internal error.
    Internal = 1000,
    /// The signature is wrong, or no manager has that name.
    Sign = 1001,
    /// A parameter is missing.
    Missing = 1002,
    /// A parameter is not valid, or is repeated.
    Parameter = 1003,
    /// `time_stamp` is more than ten minutes off.
    Time = 1004,
    /// The manager does not manage that company.
    Company = 1005,
    /// The assessment does not exist.
    Prefix = 1006,
    /// Another method is needed.
    Method = 1007,
    /// The URL is not valid, or must not be called.
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
    /// The bytes that identify its signature: digests of the key and of the text.
    signature: Vec<u8>,
}

/// Answers one call.
pub(in crate::partners) async fn answer(
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

/// The fields of a body of that type, if it can be read.
pub(in crate::partners) fn form_fields(
    content_type: &str,
    body: &[u8],
) -> Option<Vec<(String, String)>> {
    let fields = Fields::read(content_type, body).ok()?;
    Some(
        fields
            .names()
            .filter_map(|name| Some((name.to_owned(), fields.get(name)?.to_owned())))
            .collect(),
    )
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
        company.parse().map_err(|_| refused(Code::Parameter, "company_id is not a number"))?;
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

/// Verifies the signature of the named manager, after the delay that earlier failures demand.
async fn verify(call: &Call<'_>, manager: Option<&Manager>) -> Result<(), CallbackAddressError> {
    let name = manager.map_or("", |manager| manager.name.as_str());
    let guess = Guess { api: "/api/backdoor/callback", name, from: call.client };
    let too_many = || refused(Code::Failures, "too many wrong signatures; wait a minute");
    let turn = call.guesses.turn(guess).await.map_err(|TooManyAttempts| too_many())?;
    let rejected_for = match manager {
        Some(manager) => rejection_reason(call, manager)?,
        None => Some(Reason::BadSignature),
    };
    match rejected_for {
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
    /// Uses the signature. A call that reads may be repeated; one that sets needs an unused
    /// signature.
    async fn spend(&self, call: &Call<'_>, action: Action) -> Result<(), CallbackAddressError> {
        let signature = Signature {
            rule: Rule::CallbackAddress,
            bytes: &self.signature,
            // Its time may be ahead of ours by as much as it may be behind.
            good_until_ms: call.at_ms.saturating_add(2 * WINDOW_MS),
        };
        let ledger = call.registry.ledger();
        let used = match action {
            Action::Get => signature.use_to_read(ledger).await,
            Action::Set => signature.use_to_write(ledger).await,
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

/// The value of a required parameter.
fn one<'p>(pairs: &'p [(String, String)], name: &str) -> Result<&'p str, CallbackAddressError> {
    let value = pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let value = value.filter(|value| !value.is_empty());
    value.ok_or_else(|| refused(Code::Missing, format!("{name} is missing")))
}

/// Verifies the query by the rule of the sender's callbacks.
fn rejection_reason(
    call: &Call<'_>,
    manager: &Manager,
) -> Result<Option<Reason>, CallbackAddressError> {
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
        Judgement::Rejected(error) => Some(error.reason),
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
    let state = call.registry.running();
    let wanted = |prefix: &&String| signed.prefix.as_ref().is_none_or(|one| one == *prefix);
    let shown = api.prefixes.iter().filter(wanted).map(|prefix| {
        let kept = state.documents.addresses.get(&edit::key(signed.company, prefix));
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
    let key = edit::key(signed.company, prefix);
    let who = Actor::new("manager", &signed.manager.name);
    let failed = match edit::set(call.registry, &who, &key, Expected::Any, &change).await {
        Ok(()) => return Ok(Value::Null),
        Err(failed) => failed,
    };
    if let ChangeError::Ledger(error) = failed {
        tracing::warn!(%error, "a callback address could not be written");
    }
    Err(refused(Code::Internal, "the outcome is unknown; check the current state before retrying"))
}

/// The change that a call makes.
fn read(call: &Call<'_>, fields: &Fields) -> Result<Change, CallbackAddressError> {
    if let Some(name) = fields.names().find(|name| !FIELDS.contains(name)) {
        let name: String = name.chars().take(FIELD_NAME_MAX).collect();
        return Err(refused(Code::Parameter, format!("there is no field {name:?} here")));
    }
    let number = |name: &str| match fields.get(name) {
        None => Ok(None),
        Some(text) if edit::is_count(text) => Ok(Some(text.to_owned())),
        Some(_) => Err(refused(Code::Parameter, format!("{name} is not a number"))),
    };
    let url = |text| {
        let url = edit::checked_url(call.config, text);
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
