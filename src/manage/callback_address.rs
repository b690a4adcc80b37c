//! Seed 000, `/api/backdoor/callback/get` and `/set`: where a company's assessments are told of.
//!
//! An address is a destination: genuine callbacks of the sender `renaren` about that company and
//! assessment are delivered to it as they came. The query of a call is signed by its manager; the
//! form is not, which is the original's own weakness.

mod form;

use http::header;
use serde_json::{Value, json};

use self::form::Fields;
use super::http::json;
use super::partners::{Call, Came, Guesses};
use crate::config::{CallbackAddresses, Manager};
use crate::operator::addresses::{self, Change, Expected};
use crate::registry::{Failed, Who};
use crate::sender::{Judgement, LiveSecret, Reason, Recipe, Request, Terms};
use crate::wire::Response;

/// The sender whose rule signs these calls.
const SENDER: &str = "renaren";

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
}

/// A call that fails.
#[derive(Debug)]
struct Refused(Code, String);

type Answered = Result<Value, Refused>;

/// A call whose signature is right, by a manager of the company.
struct Signed<'c> {
    manager: &'c Manager,
    company: u64,
    prefix: Option<String>,
}

/// Answers one call.
pub(super) async fn answer(
    call: &Call<'_>,
    (api, guesses): (&CallbackAddresses, &Guesses),
    action: Action,
    body: Came<'_>,
) -> Response {
    let answered = match signed(call, api, guesses, action) {
        Err(refused) => Err(refused),
        Ok(signed) => match action {
            Action::Get => get(call, api, &signed),
            Action::Set => set(call, &signed, body).await,
        },
    };
    match answered {
        Ok(Value::Null) => json(&json!({ "code": 0, "msg": "success" })),
        Ok(data) => json(&json!({ "code": 0, "msg": "success", "data": data })),
        Err(Refused(code, why)) => json(&json!({ "code": code as u16, "msg": why })),
    }
}

fn refused(code: Code, why: impl Into<String>) -> Refused {
    Refused(code, why.into())
}

// === Who calls, and for whom ===

fn signed<'c>(
    call: &Call<'_>,
    api: &'c CallbackAddresses,
    guesses: &Guesses,
    action: Action,
) -> Result<Signed<'c>, Refused> {
    let method = match action {
        Action::Get => "GET",
        Action::Set => "POST",
    };
    if call.method().as_str() != method {
        return Err(refused(Code::Method, format!("only {method} is served")));
    }
    let pairs: Vec<(String, String)> = serde_urlencoded::from_bytes(call.query())
        .map_err(|_| refused(Code::Parameter, "the query cannot be read"))?;
    // PHP changes such names before it signs them, so that nobody means the same by them.
    if pairs.iter().any(|(name, _)| name.contains(['.', ' '])) {
        return Err(refused(Code::Parameter, "a name has a dot or a blank in it"));
    }
    let name = one(&pairs, "manager_name")?;
    let manager = api.managers.iter().find(|manager| manager.name == name);
    let wrong = || match guesses.is_one_too_many(manager.map_or("", |m| &m.name), call.client) {
        true => refused(Code::Failures, "too many wrong signatures; wait a minute"),
        false => refused(Code::Sign, "manager_sign is wrong"),
    };
    let manager = manager.ok_or_else(wrong)?;
    match verdict(call, manager)? {
        Some(Reason::BadSignature) => return Err(wrong()),
        Some(reason) => return Err(said(reason)),
        None => {}
    }
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
    Ok(Signed { manager, company, prefix })
}

/// The value of a parameter that has to be there.
fn one<'p>(pairs: &'p [(String, String)], name: &str) -> Result<&'p str, Refused> {
    let value = pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let value = value.filter(|value| !value.is_empty());
    value.ok_or_else(|| refused(Code::Missing, format!("{name} is missing")))
}

/// What the sender's own rule says of the query: the one that its callbacks are verified by.
fn verdict(call: &Call<'_>, manager: &Manager) -> Result<Option<Reason>, Refused> {
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

fn said(reason: Reason) -> Refused {
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

fn get(call: &Call<'_>, api: &CallbackAddresses, signed: &Signed<'_>) -> Answered {
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
    let key = addresses::key(signed.company, prefix);
    let who = Who::new("manager", &signed.manager.name);
    let failed = match addresses::set(call.registry, &who, (&key, Expected::Any), &change).await {
        Ok(()) => return Ok(Value::Null),
        Err(failed) => failed,
    };
    if let Failed::Ledger(error) = failed {
        tracing::warn!(%error, "a callback address could not be written");
    }
    Err(refused(Code::Internal, "nothing was changed for certain; look, and try again"))
}

/// What a call sets; what it does not name stays.
fn read(call: &Call<'_>, fields: &Fields) -> Result<Change, Refused> {
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
