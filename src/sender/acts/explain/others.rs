//! Mistakes between sources: another one's secret, another one's rule.

use std::sync::Arc;

use crate::sender::acts::explain::advice::Advice;
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
            let source = other.source;
            let advice = Advice::new(
                format!(
                    "It was signed with the secret of the source `{source}`: paste this source's \
                     own secret where it is signed, or add that one to this source's `secrets`."
                ),
                format!(
                    "它用来源 `{source}` 的密钥签名：请在签名的一侧换用本来源的密钥，或将该密钥\
                     加入本来源的 `secrets`。"
                ),
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
        let (id, since) = (&secret.id, jiff::Timestamp::from_millisecond(until_ms).ok());
        let (en, zh) = match since {
            Some(since) => (format!("at {since}"), format!("已于 {since} 失效")),
            None => (String::from("before it came"), String::from("在它到达之前已失效")),
        };
        let advice = Advice::new(
            format!(
                "It was signed with the secret `{id}`, which ended {en}: set the new one in the \
                 sender's console, or give this one a later `until`."
            ),
            format!(
                "它用密钥 `{id}` 签名，该密钥{zh}：请在发送方后台设置新密钥，或推迟此密钥的 `until`。"
            ),
        );
        return Some(Mistake::new(MistakeKind::EndedSecret, None, advice));
    }
    None
}

/// Another sender's rule, under its own secrets or under those of this source.
pub(super) fn sender(
    callback: &Callback<'_>,
    others: &[Other<'_>],
    budget: &mut Budget,
) -> Option<Mistake> {
    let (recipe, now_ms) = (callback.recipe, callback.now_ms);
    let secrets = live_secrets(recipe, now_ms);
    let request = callback.request;
    let others = others.iter().filter(|other| other.recipe.sender.name != recipe.sender.name);
    for other in others {
        let signer = budget.apart(PER_SENDER, |budget| {
            if !budget.work(request.target.len() + request.body.len()) {
                return None;
            }
            let mut callback = other.recipe.read(request, now_ms);
            callback.use_keys(other.keys);
            let cases = Case::all(&callback);
            cases.iter().find_map(|case| signer(case, &secrets, budget))
        });
        if let Some(signer) = signer {
            let advice = sent_by(other, signer);
            return Some(Mistake::new(MistakeKind::OtherSender, None, advice));
        }
    }
    None
}

/// The secret that made a signature by another sender's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signer {
    /// One of this source.
    Ours,
    /// One of the other source.
    Theirs,
}

/// The one under whose secret `case`, of another sender, has its signature; `secrets` are ours.
fn signer(case: &Case<'_>, secrets: &[&[u8]], budget: &mut Budget) -> Option<Signer> {
    let is_theirs = case.matches(&case.draft, budget);
    let is_ours = secrets.iter().any(|secret| case.matches_under(&case.draft, secret, budget));
    let is_shared = case.materials.iter().any(|known| secrets.contains(known));
    match (is_ours, is_theirs) {
        (true, _) => Some(Signer::Ours),
        (false, true) if is_shared => Some(Signer::Ours),
        (false, true) => Some(Signer::Theirs),
        (false, false) => None,
    }
}

fn sent_by(other: &Other<'_>, signer: Signer) -> Advice {
    let (name, source) = (&other.recipe.sender.name, other.source);
    match signer {
        Signer::Ours => Advice::new(
            format!(
                "It is signed by the rule of the sender `{name}`: set `sender` of this source to \
                 it, or have the callback signed as this source's sender does."
            ),
            format!(
                "它按发送方 `{name}` 的规则签名：请将本来源的 `sender` 设为 `{name}`，或改为按\
                 本来源发送方的规则签名。"
            ),
        ),
        Signer::Theirs => Advice::new(
            format!(
                "It is a callback for the source `{source}` (sender `{name}`): paste the address \
                 of `{source}` into that sender's console."
            ),
            format!(
                "这是发给来源 `{source}`（发送方 `{name}`）的回调：请在该发送方的后台填写 \
                 `{source}` 的地址。"
            ),
        ),
    }
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
