//! Changes of reward rules, by the API and by the console.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::SENDER;
use super::document::{REWARD_RULE, Rule, RuleStatus};
use super::item;
use super::plan::rule_name;
use crate::config::Config;
use crate::egress::Probe;
use crate::ledger::LedgerError;
use crate::registry::{AuditView, Draft, StoredDocument};
use crate::sender::MacroUrl;

/// Rules of all publishers: each is a source with its counters and a destination with its client.
pub(crate) const RULES_MAX: usize = 2_000;

/// The timeout of a probe of a URL: more than twice the timeout of Taku for a reward.
const PROBE_TIME: Duration = Duration::from_secs(5);

/// Concurrent probes of one call.
const PROBES_AT_ONCE: usize = 32;

/// Characters of a rule's key.
const KEY_LENGTH: usize = 32;

/// A rule as its owner sees it.
#[derive(Serialize)]
pub(crate) struct Shown<'r> {
    id: u64,
    rule_name: &'r str,
    remark: &'r str,
    reward_number: u64,
    reward_name: &'r str,
    reward_url: &'r str,
    reward_sec_key: &'r str,
    status: u8,
}

/// Writes a rule in place of `old`.
///
/// # Errors
/// As [`Draft::put`].
pub(crate) fn put(
    draft: &mut Draft,
    id: u64,
    old: Option<&StoredDocument<Rule>>,
    rule: &Rule,
) -> Result<(), LedgerError> {
    let before = old.map(|old| masked(id, &old.value));
    let after = masked(id, rule);
    let told = AuditView { before: before.as_ref(), after: Some(&after) };
    draft.put(REWARD_RULE, &id.to_string(), old, rule, &told)
}

/// Deletes a rule. Its number is never used again.
pub(crate) fn delete(draft: &mut Draft, id: u64, old: &StoredDocument<Rule>) {
    let before = masked(id, &old.value);
    let told = AuditView { before: Some(&before), after: None };
    draft.delete(REWARD_RULE, &id.to_string(), old, &told);
}

/// A rule for the audit log.
fn masked(id: u64, rule: &Rule) -> Value {
    let mut shown = json!(Shown::of(id, rule));
    shown["reward_sec_key"] = json!(crate::config::MASK);
    shown["source"] = json!(rule_name(id));
    shown
}

/// A new key from the system's random generator; `None` if that fails.
pub(crate) fn sec_key() -> Option<String> {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // Bytes from here on would make the first letters more likely.
    const FAIR: usize = 256 / LETTERS.len() * LETTERS.len();
    let mut key = String::with_capacity(KEY_LENGTH);
    while key.len() < KEY_LENGTH {
        let mut bytes = [0; KEY_LENGTH];
        getrandom::fill(&mut bytes).ok()?;
        let fair = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < FAIR);
        let letters = fair.map(|byte| char::from(LETTERS[byte % LETTERS.len()]));
        key.extend(letters.take(KEY_LENGTH - key.len()));
    }
    Some(key)
}

// === Whether an address answers ===

/// Calls each URL once, as Taku does when a rule is saved: with its macros as they are, and marked
/// as a test. Returns the error of each, if there is one.
///
/// # Errors
/// The reason that no URL can be called.
pub(crate) async fn try_out(
    config: &Config,
    mut distinct: Vec<&str>,
) -> Result<HashMap<String, Option<String>>, String> {
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.is_empty() {
        return Ok(HashMap::new());
    }
    let probe = Probe::new(config.egress.allow.clone())?;
    let macros = config.catalog.get(SENDER);
    let called = |url: &str| {
        let known = |name: &str| macros.is_some_and(|sender| sender.macros().any(|m| m == name));
        let text = MacroUrl::read(url, known).unfilled();
        let join = if text.contains('?') { '&' } else { '?' };
        format!("{text}{join}is_test=1")
    };
    let (mut calls, places) = (JoinSet::new(), Arc::new(Semaphore::new(PROBES_AT_ONCE)));
    for url in distinct {
        let (url, called) = (url.to_owned(), called(url));
        let (probe, places) = (probe.clone(), Arc::clone(&places));
        calls.spawn(async move {
            // The semaphore is never closed.
            let _place = places.acquire_owned().await;
            (url, answered(&probe, &called).await)
        });
    }
    // Probes in flight end with the set if the caller disconnects.
    Ok(calls.join_all().await.into_iter().collect())
}

/// The error in the response of a URL, if there is one.
async fn answered(probe: &Probe, url: &str) -> Option<String> {
    match probe.get(url, PROBE_TIME).await {
        Ok(status) if status.is_success() => None,
        Ok(status) => Some(format!("it answered {}", status.as_u16())),
        Err(why) => Some(why.to_string()),
    }
}

impl<'r> Shown<'r> {
    pub(crate) fn of(id: u64, rule: &'r Rule) -> Self {
        Self {
            id,
            rule_name: &rule.rule_name,
            remark: &rule.remark,
            reward_number: rule.reward_number,
            reward_name: &rule.reward_name,
            reward_url: &rule.reward_url,
            reward_sec_key: &rule.reward_sec_key,
            status: match rule.status {
                RuleStatus::Stopped => item::STOPPED,
                RuleStatus::Running => item::RUNNING,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_lower_case_letters_and_digits() {
        let (one, other) = (sec_key().unwrap(), sec_key().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 32);
        assert!(one.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{one}");
    }
}
