//! Mistakes between sources: another one's secret, another one's rule.

use std::sync::Arc;

use crate::sender::acts::explain::case::{Budget, Case, live_secrets};
use crate::sender::acts::explain::{Mistake, MistakeKind, Other};
use crate::sender::language::definition::Sender;
use crate::sender::language::recipe::{MaxAge, Recipe, Terms};
use crate::sender::request::callback::Callback;

/// Digests that each other sender may cost.
const PER_SENDER: usize = 32;

/// The secret of another configured source, under this source's own rule.
pub(super) fn secret(
    case: &Case<'_>,
    others: &[Other<'_>],
    budget: &mut Budget,
) -> Option<Mistake> {
    for other in others {
        for secret in live_secrets(other.recipe, case.callback.now_ms) {
            if case.materials.contains(&secret) || !case.matches_under(&case.draft, secret, budget)
            {
                continue;
            }
            let advice = format!(
                "It was signed with the secret of the source `{}`: paste this source's own secret \
                 where it is signed, or add that one to this source's `secrets`.",
                other.source
            );
            return Some(Mistake::new(MistakeKind::OtherSecret, None, advice));
        }
    }
    None
}

/// A secret of this source that has ended.
pub(super) fn ended(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let now_ms = case.callback.now_ms;
    for secret in &case.callback.recipe.secrets {
        let Some(until_ms) = secret.until_ms.filter(|until| *until <= now_ms) else { continue };
        let value = secret.value.expose();
        if case.materials.contains(&value) || !case.matches_under(&case.draft, value, budget) {
            continue;
        }
        let since = jiff::Timestamp::from_millisecond(until_ms)
            .map_or_else(|_| String::from("before it came"), |since| format!("at {since}"));
        let advice = format!(
            "It was signed with the secret `{}`, which ended {since}: set the new one in the \
             sender's console, or give this one a later `until`.",
            secret.id
        );
        return Some(Mistake::new(MistakeKind::EndedSecret, None, advice));
    }
    None
}

/// Another sender's rule, under its own secrets or under those of this source.
pub(super) fn sender(callback: &Callback<'_>, others: &[Other<'_>]) -> Option<Mistake> {
    let (recipe, now_ms) = (callback.recipe, callback.now_ms);
    let secrets = live_secrets(recipe, now_ms);
    for other in others.iter().filter(|other| other.recipe.sender.name != recipe.sender.name) {
        let mut callback = other.recipe.read(callback.request, now_ms);
        callback.use_keys(other.keys);
        let mut budget = Budget::of(PER_SENDER);
        for case in Case::all(&callback) {
            let own = case.matches(&case.draft, &mut budget);
            let ours =
                secrets.iter().any(|secret| case.matches_under(&case.draft, secret, &mut budget));
            if !own && !ours {
                continue;
            }
            let shared = ours || case.materials.iter().any(|known| secrets.contains(known));
            let advice = if shared {
                format!(
                    "It is signed by the rule of the sender `{}`: set `sender` of this source to \
                     it, or have the callback signed as this source's sender does.",
                    other.recipe.sender.name
                )
            } else {
                format!(
                    "It is a callback for the source `{0}` (sender `{1}`): paste the address of \
                     `{0}` into that sender's console.",
                    other.source, other.recipe.sender.name
                )
            };
            return Some(Mistake::new(MistakeKind::OtherSender, None, advice));
        }
    }
    None
}

impl Recipe {
    /// This source's secrets under the rule of another `sender`, to be tried by
    /// [`super::explain`]. `None` where that sender cannot use them, or needs settings of its own.
    #[must_use]
    pub fn under(&self, sender: &Arc<Sender>) -> Option<Self> {
        let terms = Terms {
            source: sender.name.clone(),
            secrets: if sender.secret.is_some() { self.secrets.clone() } else { Vec::new() },
            max_age: Some(MaxAge::Off),
            ..Terms::default()
        };
        Self::compile(sender, &terms).ok()
    }
}
