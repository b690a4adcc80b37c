//! `/tcb/getcallbackconfig` and `/tcb/setcallbackconfig`: the routes of an app's messages.
//! `/cgi-bin/token` gives the holder of the app's secret a token for them.
//!
//! `functionName` and `qbase_env` are names of destinations: a function's message goes to the
//! destination of that name, a container's to the one of its environment, at the path that was set.
//! Only destinations that name the app in `push_apps` are reached, below the path that they say.

mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::document::{ContainerConfig, FunctionCallback, FunctionConfig, PUSH_CONFIG, Push};
use super::grant::check_push_path;
use super::plan::{PushBarrier, push_barrier};
use super::settings::PushConfig;
use crate::config::Destination;
use crate::manage::http::json;
use crate::partners::{Call, Came};
use crate::registry::{Actor, AuditView, ChangeError};
use crate::wire::Response;

pub(in crate::partners) use token::answer as answer_token;

/// Kinds of messages of one configuration: WeChat has some dozens.
const CALLBACKS_MAX: usize = 200;

/// Characters of any text in it.
const TEXT_MAX: usize = 256;

/// An action on a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::partners) enum Action {
    /// Read the configuration.
    Get,
    /// Set the configuration.
    Set,
}

/// The error of a call: WeChat's own codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Code {
    /// The ledger cannot record it now.
    Busy = -1,
    /// The configuration is not possible: functions while a container is enabled.
    System = -1000,
    /// The grant type of a token is not known.
    GrantType = 40002,
    /// No app has that id.
    AppId = 40013,
    /// The token is not one of ours.
    Token = 40014,
    /// A parameter is missing or not valid.
    Missing = 40101,
    /// The secret is wrong.
    Secret = 40125,
    /// The token is missing.
    NoToken = 41001,
    /// The app id is missing.
    NoAppId = 41002,
    /// The secret is missing.
    NoSecret = 41004,
    /// The token has expired.
    Expired = 42001,
    /// GET is needed.
    NotGet = 43001,
    /// POST is needed.
    NotPost = 43002,
    /// Too many wrong secrets.
    Quota = 45009,
}

/// A call that fails.
#[derive(Debug)]
struct PushConfigError(Code, String);

type Answered = Result<Value, PushConfigError>;

/// The members to set. Omitted members stay.
#[derive(Debug, Deserialize)]
struct Wanted {
    function_config: Option<WantedFunctions>,
    container_config: Option<WantedContainer>,
}

#[derive(Debug, Deserialize)]
struct WantedFunctions {
    enable: bool,
    #[serde(default)]
    callbacks: Vec<FunctionCallback>,
}

#[derive(Debug, Deserialize)]
struct WantedContainer {
    enable: bool,
    #[serde(default)]
    qbase_env: String,
    /// The document's example has a space at its end.
    #[serde(default, alias = "qbase_container_path ")]
    qbase_container_path: String,
    #[serde(default = "json_mode")]
    text_mode: u8,
}

fn json_mode() -> u8 {
    1
}

fn refused(code: Code, why: impl Into<String>) -> PushConfigError {
    PushConfigError(code, why.into())
}

fn answered(result: Answered) -> Response {
    match result {
        Ok(value) => json(&value),
        Err(PushConfigError(code, why)) => json(&json!({ "errcode": code as i32, "errmsg": why })),
    }
}

/// Answers one call.
pub(in crate::partners) async fn answer(
    call: &Call<'_>,
    api: &PushConfig,
    action: Action,
    body: Came<'_>,
) -> Response {
    answered(act(call, api, action, body).await)
}

async fn act(call: &Call<'_>, api: &PushConfig, action: Action, body: Came<'_>) -> Answered {
    if call.method() != http::Method::POST {
        return Err(refused(Code::NotPost, "require POST method"));
    }
    let pairs = parameters(call, &["access_token"])?;
    let token = value(&pairs, "access_token");
    let token = token.ok_or_else(|| refused(Code::NoToken, "access_token missing"))?;
    let app = token::app(call.registry.ledger(), api, token, call.at_ms).await?;
    match action {
        Action::Get => Ok(get(call, &app.app_id)),
        Action::Set => {
            let body = body.await.map_err(|why| refused(Code::Missing, why.to_string()))?;
            set(call, &app.app_id, &body).await
        }
    }
}

fn parameters(call: &Call<'_>, known: &[&str]) -> Result<Vec<(String, String)>, PushConfigError> {
    call.parameters(known).map_err(|why| refused(Code::Missing, why.to_string()))
}

/// The value of a parameter of the query, if it is there and not empty.
fn value<'p>(pairs: &'p [(String, String)], name: &str) -> Option<&'p str> {
    let value = pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    value.filter(|value| !value.is_empty())
}

fn get(call: &Call<'_>, app: &str) -> Value {
    let state = call.registry.running();
    let kept = state.documents.pushes.get(app);
    let push = kept.map_or_else(Push::default, |kept| Push::clone(&kept.value));
    json!({ "errcode": 0, "errmsg": "ok", "data": push })
}

async fn set(call: &Call<'_>, app: &str, body: &[u8]) -> Answered {
    let wanted: Wanted = serde_json::from_slice(body)
        .map_err(|error| refused(Code::Missing, format!("missing parameter: {error}")))?;
    if wanted.function_config.is_none() && wanted.container_config.is_none() {
        let what = "missing parameter: function_config or container_config";
        return Err(refused(Code::Missing, what));
    }
    let functions = wanted.function_config.map(WantedFunctions::checked).transpose()?;
    let container = wanted.container_config.map(WantedContainer::checked).transpose()?;
    let who = Actor::new("app", app);
    let written = call.registry.write(&who, |state, draft| {
        let known = &state.config.destinations;
        refuse_foreign(known, app, functions.as_ref(), container.as_ref())
            .map_err(ChangeError::Refused)?;
        let old = state.documents.pushes.get(app);
        let before = old.map(|old| Push::clone(&old.value));
        let mut after = before.clone().unwrap_or_default();
        after.function_config = functions.clone().unwrap_or(after.function_config);
        after.container_config = container.clone().unwrap_or(after.container_config);
        if after.function_config.enable && after.container_config.enable {
            let what = "system error: functions cannot be enabled while a container is";
            return Err(ChangeError::Refused(refused(Code::System, what)));
        }
        if before.as_ref() != Some(&after) {
            let (before, told) = (before.map(|before| json!(before)), json!(after));
            let told = AuditView { before: before.as_ref(), after: Some(&told) };
            draft.put(PUSH_CONFIG, app, old, &after, &told)?;
        }
        Ok(after)
    });
    match written.await {
        Ok(push) => {
            tell_of_missing(call, app, &push);
            Ok(json!({ "errcode": 0, "errmsg": "ok" }))
        }
        Err(ChangeError::Refused(refused)) => Err(refused),
        Err(ChangeError::Ledger(error)) => Err(busy(&error)),
    }
}

fn busy(error: &crate::ledger::LedgerError) -> PushConfigError {
    tracing::warn!(%error, "a push configuration could not be written or read");
    refused(Code::Busy, "system error")
}

/// Rejects a configuration that names a destination of others. A destination that does not exist
/// yet is checked when it is created.
fn refuse_foreign(
    known: &BTreeMap<String, Arc<Destination>>,
    app: &str,
    functions: Option<&FunctionConfig>,
    container: Option<&ContainerConfig>,
) -> Result<(), PushConfigError> {
    let named = functions.map_or(&[][..], |functions| &functions.callbacks);
    for callback in named.iter().filter(|callback| callback.enable) {
        let found = known.get(&callback.function_name);
        if found.is_some_and(|found| push_barrier(found, app, None).is_some()) {
            return Err(missing("functionName: a destination that names this app in push_apps"));
        }
    }
    let Some(container) = container.filter(|container| container.enable) else { return Ok(()) };
    let found = known.get(&container.qbase_env);
    let barrier =
        found.and_then(|found| push_barrier(found, app, Some(&container.qbase_container_path)));
    match barrier {
        None => Ok(()),
        Some(PushBarrier::NotNamed) => {
            Err(missing("qbase_env: a destination that names this app in push_apps"))
        }
        Some(PushBarrier::Path) => {
            Err(missing("qbase_container_path: a path below the destination's push_path"))
        }
    }
}

/// Warns of destinations that do not exist yet: their messages wait.
fn tell_of_missing(call: &Call<'_>, app: &str, push: &Push) {
    let config = call.registry.config();
    let functions = push.function_config.callbacks.iter().filter(|callback| callback.enable);
    let functions = functions.map(|callback| callback.function_name.as_str());
    let container = &push.container_config;
    let names = functions.chain(container.enable.then_some(container.qbase_env.as_str()));
    let missing: BTreeSet<&str> =
        names.filter(|name| !config.destinations.contains_key(*name)).collect();
    for destination in missing {
        tracing::warn!(app, destination, "messages wait for a destination that there is not yet");
    }
}

fn missing(what: &str) -> PushConfigError {
    refused(Code::Missing, format!("missing parameter: {what}"))
}

impl WantedFunctions {
    fn checked(self) -> Result<FunctionConfig, PushConfigError> {
        if self.callbacks.len() > CALLBACKS_MAX {
            return Err(missing("callbacks has more than 200 entries"));
        }
        let mut kinds = BTreeSet::new();
        for callback in &self.callbacks {
            let FunctionCallback { msg_type, event, env, function_name, .. } = callback;
            if msg_type.is_empty() {
                return Err(missing("msgType"));
            }
            if !is_name(function_name) {
                return Err(missing("functionName: letters, digits, dots, dashes, underscores"));
            }
            if [msg_type, event, env].iter().any(|text| text.chars().count() > TEXT_MAX) {
                return Err(missing("a text has more than 256 characters"));
            }
            if !kinds.insert((msg_type, event)) {
                return Err(missing("one msgType and event are there twice"));
            }
        }
        Ok(FunctionConfig { enable: self.enable, callbacks: self.callbacks })
    }
}

/// Whether a text can be a destination's name: those of other APIs have a slash in them.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=TEXT_MAX).contains(&text.len()) && text.bytes().all(fits)
}

impl WantedContainer {
    fn checked(self) -> Result<ContainerConfig, PushConfigError> {
        let Self { enable, qbase_env, qbase_container_path, text_mode } = self;
        let path = qbase_container_path.as_str();
        let fault = match check_push_path(path) {
            _ if path.is_empty() && !enable => None,
            _ if path.len() > TEXT_MAX => Some(String::from("has more than 256 bytes")),
            checked => checked.err().map(|why| why.to_string()),
        };
        if let Some(why) = fault {
            return Err(missing(&format!("qbase_container_path: it {why}")));
        }
        if !(is_name(&qbase_env) || qbase_env.is_empty() && !enable) {
            return Err(missing("qbase_env"));
        }
        if !matches!(text_mode, 1 | 2) {
            return Err(missing("text_mode: 1 is JSON, 2 is XML"));
        }
        Ok(ContainerConfig { enable, qbase_env, qbase_container_path, text_mode })
    }
}
