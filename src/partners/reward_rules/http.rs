//! `/v3/advanced/reward_rule`: the rules by which Taku (TopOn) rewards players.
//!
//! A rule becomes a source, `/callback/reward/<id>`, under its own key, with its URL as the
//! destination. Calls are signed as in Taku's open API. A call changes all of its items or none.

mod signature;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::document::{Rule, RuleStatus};
use super::edit::{self, RULES_MAX, Shown};
use super::item::{FieldError, FieldErrorCode, Fields, Wanted, number};
use super::settings::{Publisher, RewardRules};
use crate::ledger::LedgerError;
use crate::manage::failed_auth::{Guess, TooManyAttempts};
use crate::manage::http::{json, with_body};
use crate::partners::{Call, Came};
use crate::registry::{Actor, ChangeError, RunningConfig, StoredDocument};
use crate::wire::Response;

/// Items, or ids, of one call.
const ITEMS_MAX: usize = 100;

/// The error of a call as a whole: the codes of Taku's open API, which are also the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RewardRuleErrorCode {
    /// An internal error.
    Internal = 500,
    /// A header is missing, repeated or outside of its time.
    Header = 600,
    /// The signature is wrong.
    Sign = 601,
    /// A parameter or the body is wrong.
    Parameter = 602,
    /// No publisher has that key.
    Publisher = 603,
    /// The same call was made before.
    Repeated = 606,
    /// Too many wrong keys or signatures: Taku's own reply to too many calls.
    TooMany = 429,
}

/// A call that fails as a whole.
#[derive(Debug)]
struct RewardRuleError(RewardRuleErrorCode, String);

/// The reason that nothing is changed.
enum RewardRuleStop {
    Whole(RewardRuleError),
    Items(Vec<FieldError>),
}

type Answered = Result<Response, RewardRuleStop>;

#[derive(Deserialize)]
struct Items {
    items: Vec<Fields>,
}

#[derive(Deserialize)]
struct Ids {
    ids: Vec<Value>,
}

/// Answers one call.
pub(in crate::partners) async fn answer(
    call: &Call<'_>,
    api: &RewardRules,
    body: Came<'_>,
) -> Response {
    match authenticated(call, api, body).await {
        Ok(response) => response,
        Err(RewardRuleStop::Items(errs)) => json(&json!({ "errs": errs })),
        Err(RewardRuleStop::Whole(refused)) => refused.response(),
    }
}

async fn authenticated(call: &Call<'_>, api: &RewardRules, body: Came<'_>) -> Answered {
    let (publisher, body, claim) = known(call, api, body).await?;
    let ours = Ours { call, publisher, who: Actor::new("publisher", &publisher.name) };
    if call.method() != http::Method::GET {
        ours.parameters(&[])?;
    }
    match call.method().as_str() {
        "GET" => ours.list(),
        "POST" => ours.create(read(&body)?, &claim).await,
        "PUT" => ours.change(read(&body)?, &claim).await,
        "DELETE" => ours.delete(&body, &claim).await,
        _ => Err(refused(
            RewardRuleErrorCode::Parameter,
            "only GET, POST, PUT and DELETE are served",
        )),
    }
}

/// Authenticates a call, after the delay that earlier failures demand.
async fn known<'a>(
    call: &Call<'_>,
    api: &'a RewardRules,
    body: Came<'_>,
) -> Result<(&'a Publisher, Bytes, signature::Claim), RewardRuleStop> {
    let guess = Guess { api: "/v3/advanced/reward_rule", name: "", from: call.client };
    let too_many =
        || refused(RewardRuleErrorCode::TooMany, "too many wrong signatures; wait a minute");
    let turn = call.guesses.turn(guess).await.map_err(|TooManyAttempts| too_many())?;
    let found = async {
        let (publisher, claim) = signature::publisher(call, api)?;
        let body = body
            .await
            .map_err(|fault| refused(RewardRuleErrorCode::Parameter, fault.to_string()))?;
        signature::check(call, publisher, &claim, &body)?;
        Ok((publisher, body, claim))
    };
    match found.await {
        Err(RewardRuleStop::Whole(RewardRuleError(
            RewardRuleErrorCode::Sign | RewardRuleErrorCode::Publisher,
            _,
        ))) if call.guesses.was_wrong(guess, turn) => Err(too_many()),
        Err(stop) => Err(stop),
        Ok(found) => {
            call.guesses.was_right(guess, turn);
            Ok(found)
        }
    }
}

fn refused(fault: RewardRuleErrorCode, why: impl Into<String>) -> RewardRuleStop {
    RewardRuleStop::Whole(RewardRuleError(fault, why.into()))
}

impl RewardRuleError {
    fn response(self) -> Response {
        let code = self.0 as u16;
        let body = json!({ "code": code, "msg": self.1 }).to_string();
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        with_body(status, HeaderValue::from_static("application/json"), body)
    }
}

impl From<ChangeError<RewardRuleStop>> for RewardRuleStop {
    fn from(failed: ChangeError<Self>) -> Self {
        match failed {
            ChangeError::Refused(stop) => stop,
            ChangeError::Ledger(error) => ledger_error(&error),
        }
    }
}

fn ledger_error(error: &LedgerError) -> RewardRuleStop {
    tracing::warn!(%error, "a reward rule could not be written");
    refused(
        RewardRuleErrorCode::Internal,
        "the outcome is unknown; check the current state before retrying",
    )
}

fn read(body: &[u8]) -> Result<Vec<Fields>, RewardRuleStop> {
    let wrong = |error: serde_json::Error| {
        refused(
            RewardRuleErrorCode::Parameter,
            format!("the body is not {{\"items\": […]}}: {error}"),
        )
    };
    let Items { items } = serde_json::from_slice(body).map_err(wrong)?;
    match items.len() {
        1..=ITEMS_MAX => Ok(items),
        count => Err(refused(
            RewardRuleErrorCode::Parameter,
            format!("{count} items; 1 to {ITEMS_MAX} are taken"),
        )),
    }
}

// === What a publisher does with its own rules ===

struct Ours<'c> {
    call: &'c Call<'c>,
    publisher: &'c Publisher,
    who: Actor,
}

impl Ours<'_> {
    fn rule<'s>(&self, state: &'s RunningConfig, id: u64) -> Option<&'s StoredDocument<Rule>> {
        let rule = state.documents.rules.get(&id);
        rule.filter(|rule| rule.value.publisher == self.publisher.name)
    }

    fn list(&self) -> Answered {
        let state = self.call.registry.running();
        let wanted = self.ids_of_query()?;
        let all = state.documents.rules.iter();
        let mine = all.filter(|(id, rule)| {
            rule.value.publisher == self.publisher.name
                && wanted.as_ref().is_none_or(|wanted| wanted.contains(id))
        });
        let items: Vec<Shown<'_>> = mine.map(|(id, rule)| Shown::of(*id, &rule.value)).collect();
        Ok(json(&json!({ "items": items })))
    }

    fn parameters(&self, known: &[&str]) -> Result<Vec<(String, String)>, RewardRuleStop> {
        let pairs = self.call.parameters(known);
        pairs.map_err(|why| refused(RewardRuleErrorCode::Parameter, why.to_string()))
    }

    /// `ids=1,2`; `None` if it is missing.
    fn ids_of_query(&self) -> Result<Option<Vec<u64>>, RewardRuleStop> {
        let wrong = |what: &str| Err(refused(RewardRuleErrorCode::Parameter, what));
        let pairs = self.parameters(&["ids"])?;
        let Some((_, list)) = pairs.first() else { return Ok(None) };
        let list = list.trim().trim_start_matches('[').trim_end_matches(']');
        let ids: Option<Vec<u64>> = list.split(',').map(|id| id.trim().parse().ok()).collect();
        match ids {
            Some(ids) if ids.len() <= ITEMS_MAX => Ok(Some(ids)),
            Some(_) => wrong("ids may have 100 numbers"),
            None => wrong("ids is not a list of numbers such as 1,2"),
        }
    }

    async fn create(&self, items: Vec<Fields>, claim: &signature::Claim) -> Answered {
        let wanted = all(items.iter().map(Fields::new_rule))?;
        signature::use_once(self.call, claim).await?;
        self.try_out(wanted.iter().map(|wanted| Some(wanted.reward_url.as_str()))).await?;
        let keys: Option<Vec<String>> = wanted.iter().map(|_| edit::sec_key()).collect();
        let keys = keys
            .ok_or_else(|| refused(RewardRuleErrorCode::Internal, "there are no random numbers"))?;
        let made = self.call.registry.write(&self.who, |state, draft| {
            if state.documents.rules.len() + wanted.len() > RULES_MAX {
                return Err(ChangeError::Refused(RewardRuleStop::Items(vec![
                    FieldErrorCode::TooMany.at(0),
                ])));
            }
            let mut made = Vec::with_capacity(wanted.len());
            for (wanted, key) in wanted.iter().zip(&keys) {
                let rule = self.made(wanted, key, RuleStatus::Running);
                let id = draft.rule_number();
                edit::put(draft, id, None, &rule)?;
                made.push(json!({ "id": id, "reward_sec_key": rule.reward_sec_key }));
            }
            Ok(made)
        });
        Ok(json(&json!({ "items": made.await? })))
    }

    async fn change(&self, items: Vec<Fields>, claim: &signature::Claim) -> Answered {
        let wanted = all(items.iter().map(Fields::changed_rule))?;
        refuse_twice(wanted.iter().map(|(id, ..)| *id))?;
        {
            let state = self.call.registry.running();
            let known = |(id, ..): &(u64, _, _)| self.rule(&state, *id).is_some();
            all(wanted.iter().map(|one| {
                if known(one) { Ok(()) } else { Err(FieldErrorCode::Unknown.slip("id")) }
            }))?;
        }
        signature::use_once(self.call, claim).await?;
        let addresses = self.new_addresses(&wanted);
        self.try_out(addresses.iter().map(Option::as_deref)).await?;
        let written = self.call.registry.write(&self.who, |state, draft| {
            for (index, (id, wanted, status)) in wanted.iter().enumerate() {
                let unknown = || {
                    ChangeError::Refused(RewardRuleStop::Items(vec![
                        FieldErrorCode::Unknown.at(index),
                    ]))
                };
                let old = self.rule(state, *id).ok_or_else(unknown)?;
                let rule = self.made(wanted, &old.value.reward_sec_key, *status);
                if rule != *old.value {
                    edit::put(draft, *id, Some(old), &rule)?;
                }
            }
            Ok(())
        });
        written.await?;
        Ok(json(&json!({})))
    }

    /// The new URL of each rule, if it changes.
    fn new_addresses(&self, wanted: &[(u64, Wanted, RuleStatus)]) -> Vec<Option<String>> {
        let state = self.call.registry.running();
        let changed = |(id, wanted, _): &(u64, Wanted, RuleStatus)| {
            let old = self.rule(&state, *id).map(|old| &old.value.reward_url);
            (old != Some(&wanted.reward_url)).then(|| wanted.reward_url.clone())
        };
        wanted.iter().map(changed).collect()
    }

    async fn delete(&self, body: &[u8], claim: &signature::Claim) -> Answered {
        let wrong = |error: serde_json::Error| {
            refused(
                RewardRuleErrorCode::Parameter,
                format!("the body is not {{\"ids\": […]}}: {error}"),
            )
        };
        let Ids { ids } = serde_json::from_slice(body).map_err(wrong)?;
        if ids.is_empty() || ids.len() > ITEMS_MAX {
            return Err(refused(
                RewardRuleErrorCode::Parameter,
                format!("1 to {ITEMS_MAX} ids are taken"),
            ));
        }
        let ids = all(ids.iter().map(|id| number(id).ok_or(FieldErrorCode::Type.slip("id"))))?;
        refuse_twice(ids.iter().copied())?;
        signature::use_once(self.call, claim).await?;
        let written = self.call.registry.write(&self.who, |state, draft| {
            let known = |id: &u64| self.rule(state, *id).ok_or(FieldErrorCode::Unknown.slip("id"));
            let rules = all(ids.iter().map(known)).map_err(ChangeError::Refused)?;
            for (id, old) in ids.iter().zip(rules) {
                edit::delete(draft, *id, old);
            }
            Ok(())
        });
        written.await?;
        Ok(json(&json!({})))
    }

    fn made(&self, wanted: &Wanted, key: &str, status: RuleStatus) -> Rule {
        let Wanted { rule_name, reward_name, reward_number, reward_url, remark } = wanted.clone();
        Rule {
            publisher: self.publisher.name.clone(),
            rule_name,
            reward_name,
            reward_number,
            reward_url,
            reward_sec_key: key.to_owned(),
            remark,
            status,
        }
    }

    /// Calls each new URL, as Taku does when a rule is saved.
    async fn try_out<'u>(
        &self,
        urls: impl Iterator<Item = Option<&'u str>>,
    ) -> Result<(), RewardRuleStop> {
        let urls: Vec<Option<&str>> = urls.collect();
        let said = edit::try_out(self.call.config, urls.iter().copied().flatten().collect()).await;
        let said = said.map_err(|why| refused(RewardRuleErrorCode::Internal, why))?;
        let bad = |url: &&str| said.get(*url).cloned().flatten();
        all(urls.iter().map(|url| match url.as_ref().and_then(bad) {
            None => Ok(()),
            Some(why) => Err(FieldErrorCode::NoAnswer.because("reward_url", &why)),
        }))?;
        Ok(())
    }
}

/// The results of all items, or all errors with their positions.
fn all<T>(items: impl Iterator<Item = Result<T, FieldError>>) -> Result<Vec<T>, RewardRuleStop> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (index, item) in items.enumerate() {
        match item {
            Ok(item) => good.push(item),
            Err(slip) => bad.push(FieldError { index, ..slip }),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(RewardRuleStop::Items(bad)) }
}

fn refuse_twice(ids: impl Iterator<Item = u64>) -> Result<(), RewardRuleStop> {
    let mut seen = std::collections::HashSet::new();
    all(ids.map(|id| if seen.insert(id) { Ok(()) } else { Err(FieldErrorCode::Twice.slip("id")) }))?;
    Ok(())
}
