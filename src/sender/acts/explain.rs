//! Explain: why a signature does not match.
//!
//! This module splits the signed text into parts, tries the usual mistakes one by one, and reports
//! the one under which the signature would match: a mistake within the sender's rule before another
//! sender's rule. Where several would make the same signature, it reports them all. The report never
//! contains a secret or a valid signature.
//!
//! Not part of the verify path. Bounded by [`DIGESTS_MAX`], by the bytes that are composed and hashed,
//! and by the caller's [`Deadline`]; a request of more than 64 KiB has its reason and no search.

mod advice;
mod case;
mod decoding;
mod draft;
mod evidence;
mod keys;
mod message;
mod missing;
mod mistake;
mod others;
mod parts;
mod public;
mod reasons;
mod record;
mod renamed;
mod rewrite;
mod separators;
mod shown;
mod twice;
mod urls;
mod values;

#[cfg(test)]
mod tests;

use serde::{Serialize, Serializer};

use super::outcome::{Outcome, Reason};
use super::parts::resolve_parts;
use crate::sender::crypto::key_set::KeySet;
use crate::sender::language::recipe::{Also, Recipe, WhenBody};
use crate::sender::request::Request;
use crate::sender::request::callback::{Callback, CallbackError, Judgement, Resolution};
use case::{Budget, Case, is_large};
use shown::Scrubber;

pub use advice::Advice;
pub use case::{DIGESTS_MAX, Deadline};
pub use evidence::{Beside, ChangedValue, Changes, Ends, Evidence, Expected, evidence};
pub use mistake::{Mistake, MistakeKind};

/// The diagnosis of a callback.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Whether the callback verifies and is acceptable.
    pub verdict: Verification,
    /// The outcome at the gateway.
    #[serde(serialize_with = "word")]
    pub outcome: Outcome,
    /// The reason for the rejection.
    #[serde(serialize_with = "reason")]
    pub reason: Option<Reason>,
    /// The parameter that the reason is about.
    pub parameter: Option<String>,
    /// The usual cause of the reason, and the remedy; `None` for a bad signature, of which the
    /// mistake says more.
    pub advice: Option<Advice>,
    /// The text that the sender signs, secrets masked, cut to a length that can be shown.
    pub signed_text: Option<String>,
    /// The purpose of the signature variant that was used; `None` for the usual one.
    pub reading: Option<String>,
    /// The parameters that were read, signatures masked.
    pub parameters: Vec<Shown>,
    /// The mistake under which the signature would match.
    pub mistake: Option<Mistake>,
    /// Further mistakes under which it would match just so: nothing here tells which one was made.
    pub alternatives: Vec<Mistake>,
}

/// Whether a callback verifies and is acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Verified.
    Verified,
    /// Rejected.
    Rejected,
}

/// A parameter as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its name on the wire.
    pub name: String,
    /// The place: `query`, `form`, `json` or `xml`.
    pub r#in: &'static str,
    /// Its decoded value.
    pub value: String,
}

/// Another source, whose secret or rule may have been used by mistake.
#[derive(Clone, Copy, Debug)]
pub struct Other<'o> {
    /// Its name; for a sender of the catalog that no source has, the sender's.
    pub source: &'o str,
    /// Its recipe; for a sender of the catalog see [`Recipe::under`].
    pub recipe: &'o Recipe,
    /// The public keys of its sender, where it has some.
    pub keys: Option<&'o KeySet>,
}

/// The surroundings of a source: what a callback may have been mistaken for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<'o> {
    /// The other configured sources, and the other senders of the catalog under this source's
    /// secrets.
    pub others: &'o [Other<'o>],
    /// Schemes with authorities that the callback may have been sent to, besides the gateway's.
    pub bases: &'o [&'o str],
    /// The end of the time for the search, if there is one. What was not tried until then is said.
    pub deadline: Option<Deadline>,
}

/// Explains what becomes of `request`, which came at `now_ms`, under `recipe`. `others` are the
/// other configured sources, and the other senders of the catalog under this source's secrets.
#[must_use]
pub fn explain(
    recipe: &Recipe,
    request: &Request<'_>,
    now_ms: i64,
    others: &[Other<'_>],
) -> Explanation {
    explain_under(recipe, None, request, now_ms, Around { others, ..Around::default() })
}

/// As [`explain`], with the public keys that the sender publishes. Without them, the outcome of a
/// callback signed with a private key is unknown.
#[must_use]
pub fn explain_under(
    recipe: &Recipe,
    keys: Option<&KeySet>,
    request: &Request<'_>,
    now_ms: i64,
    around: Around<'_>,
) -> Explanation {
    let mut callback = recipe.read(*request, now_ms);
    callback.use_keys(keys);
    let (outcome, rejection) = judged(&mut callback);
    let callback = &callback;
    // A decrypted message hides the parameters outside, and those are signed.
    let mut outside = recipe.read(*request, now_ms);
    outside.use_keys(keys);
    if recipe.body == WhenBody::AfterVerification {
        // Nothing of it is signed, which is not what everybody thinks.
        let _ = outside.read_body();
    }
    let (first, second) = (Case::all(&outside), second(callback));
    let scrubber = scrubber(callback, around.others, first.iter().chain(&second));
    let cases = if is_about(rejection.as_ref(), &second) { second } else { first };
    let reason = rejection.as_ref().map(|rejection| rejection.reason);
    let rejected = rejection.as_ref();
    let mut mistakes: Vec<Mistake> = rejected.map_or_else(Vec::new, |rejection| {
        let sealed = message::sealed_otherwise(rejection, callback);
        let mut found = Vec::from_iter(sealed);
        if found.is_empty() {
            found = mistakes(rejection.reason, &outside, &cases, around);
        }
        if found.is_empty() {
            found.extend(message::written_otherwise(rejection, callback));
        }
        found.into_iter().map(|mistake| scrubber.mistake(mistake)).collect()
    });
    let alternatives = mistakes.split_off(mistakes.len().min(1));
    let used = callback.matched_variant().map(|variant| variant.index);
    let used = cases.iter().find(|case| Some(case.variant.index) == used).or(cases.first());
    let secret = callback.matched.as_ref().and_then(|matched| recipe.secrets.get(matched.secret?));
    let text = used.and_then(|case| case.masked(secret.map(|secret| secret.value.expose())));
    let why = used.and_then(|case| recipe.sender.variants.get(case.variant.index));
    Explanation {
        verdict: match rejection.is_some() || outcome == Outcome::Unavailable {
            true => Verification::Rejected,
            false => Verification::Verified,
        },
        outcome,
        reason,
        advice: reason.and_then(|reason| reasons::advice(reason, callback)),
        parameter: rejection
            .and_then(|rejection| rejection.parameter)
            .map(|name| scrubber.short(&name)),
        signed_text: text.map(|text| scrubber.text(&text)),
        reading: why.and_then(|variant| variant.why.clone()),
        parameters: shown::parameters(callback, &scrubber),
        mistake: mistakes.pop(),
        alternatives,
    }
}

/// Hides the secrets, the signatures that came and those that would be right.
fn scrubber<'c>(
    callback: &Callback<'_>,
    others: &[Other<'_>],
    cases: impl Iterator<Item = &'c Case<'c>>,
) -> Scrubber {
    // Without a deadline: what is hidden must not depend on the time.
    let budget = &mut Budget::default();
    let mut scrubber = Scrubber::new(callback.recipe);
    for other in others {
        let secrets = case::live_secrets(other.recipe, callback.now_ms);
        scrubber.take(secrets.into_iter().map(<[u8]>::to_vec));
    }
    for case in cases {
        scrubber.take(case.supplied_signatures.iter().cloned());
        scrubber.take(keys::expected(case, budget));
    }
    scrubber
}

/// The mistakes behind `reason`, if there are some to be named.
fn mistakes(
    reason: Reason,
    outside: &Callback<'_>,
    cases: &[Case<'_>],
    around: Around<'_>,
) -> Vec<Mistake> {
    let budget = &mut Budget::until(around.deadline);
    if is_large(&outside.request) {
        let is_right = cases.iter().any(|case| case.matches(&case.draft, budget));
        return match scope(reason) {
            Search::All if !is_right => vec![Mistake::unsearched()],
            _ => Vec::new(),
        };
    }
    match scope(reason) {
        Search::All => search(outside, cases, around, budget),
        Search::Likely => {
            let mut found = search(outside, cases, around, budget);
            found.retain(|mistake| mistake.kind != MistakeKind::Unknown);
            found
        }
        // What lacks more than the signature may have its names from elsewhere, or be another
        // sender's, if it is not ours.
        Search::OtherSenders => {
            if cases.iter().any(|case| case.matches(&case.draft, budget)) {
                return Vec::new();
            }
            let renamed = renamed::names(outside, budget).map(|found| found.mistake);
            renamed.or_else(|| others::sender(outside, around.others, budget)).into_iter().collect()
        }
    }
}

/// The outcome at the gateway.
fn judged(callback: &mut Callback<'_>) -> (Outcome, Option<CallbackError>) {
    let rejected = match callback.verify() {
        Judgement::Probe => return probe(callback),
        Judgement::Undecided => return (Outcome::Unavailable, None),
        Judgement::Challenge => return (Outcome::Challenge, None),
        Judgement::Rejected(rejection) => rejection,
        Judgement::Verified(mut verified) => match verified.resolve("") {
            Resolution::Event(_) => return (Outcome::Accepted, None),
            Resolution::Several(parts) => {
                match resolve_parts(verified.callback, &parts, "").pop() {
                    Some(Resolution::Rejected(rejection)) => rejection,
                    Some(Resolution::Ambiguous(_)) => return (Outcome::Ambiguous, None),
                    Some(Resolution::Event(_)) => return (Outcome::Accepted, None),
                    Some(_) | None => return (Outcome::Test, None),
                }
            }
            Resolution::Ambiguous(_) => return (Outcome::Ambiguous, None),
            Resolution::Challenge => return (Outcome::Challenge, None),
            Resolution::Test => return (Outcome::Test, None),
            Resolution::Rejected(rejection) => rejection,
        },
    };
    (Outcome::Rejected, Some(rejected))
}

/// A probe has the outcome test; its explanation names the unreplaced macros.
fn probe(callback: &Callback<'_>) -> (Outcome, Option<CallbackError>) {
    let unreplaced = callback.first_unreplaced().map(|name| {
        CallbackError::of(
            Reason::UnresolvedPlaceholder,
            &crate::sender::request::unreplaced::shown(name),
        )
    });
    (Outcome::Test, unreplaced)
}

/// The mistakes to search for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// The whole list; if nothing matches, the report says so.
    All,
    /// The whole list; if nothing matches, the reason is enough.
    Likely,
    /// Only the rules of other senders.
    OtherSenders,
}

/// The search for a reason. A callback that is too old may also have a wrong signature, because
/// captured callbacks are always old. One that lacks this sender's parameters may be another
/// sender's.
fn scope(reason: Reason) -> Search {
    match reason {
        Reason::BadSignature | Reason::Stale | Reason::Future => Search::All,
        Reason::BadEncoding | Reason::UnresolvedPlaceholder => Search::Likely,
        _ => Search::OtherSenders,
    }
}

/// Whether it is the second signature that fails.
fn is_about(rejection: Option<&CallbackError>, second: &[Case<'_>]) -> bool {
    let about = rejection.filter(|rejection| rejection.reason == Reason::BadSignature);
    let name = about.and_then(|rejection| rejection.parameter.as_deref());
    second.iter().any(|case| name == Some(&*case.variant.supplied.name))
}

/// The case of the callback's second signature, if it has one.
fn second<'c>(callback: &'c Callback<'c>) -> Vec<Case<'c>> {
    match callback.kind_here().map(|kind| &kind.also) {
        Some(Also::Signature(variant)) => Case::of(callback, variant).into_iter().collect(),
        _ => Vec::new(),
    }
}

type Family = fn(&Case<'_>, &mut Budget) -> Option<Mistake>;

/// The families of mistakes, in the order in which they are tried: where two of them make the same
/// bytes, the first one is the more usual.
const FAMILIES: &[Family] = &[
    keys::encoding,
    values::encoded_twice,
    values::plus,
    values::raw_or_decoded,
    keys::secret_whitespace,
    keys::secret_quoted,
    values::empties,
    keys::secret_encoding,
    parts::left_out,
    parts::extra,
    parts::order,
    separators::separator,
    keys::key_as_text,
    parts::other_parameter,
    parts::several_left_out,
    keys::other_digest,
    values::reformatted,
];

/// Mistakes that are reported: more than three would say nothing.
const REPORTED_MAX: usize = 3;

/// Finds the mistakes; none where the signature is right after all.
fn search(
    callback: &Callback<'_>,
    cases: &[Case<'_>],
    around: Around<'_>,
    budget: &mut Budget,
) -> Vec<Mistake> {
    if cases.iter().any(|case| case.matches(&case.draft, budget)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    // Few digests, and mistakes that no other search can name.
    let mut certainty = renamed::Certainty::Possible;
    let renamed = budget.traced(|budget| {
        let renamed = renamed::names(callback, budget)?;
        certainty = renamed.certainty;
        Some(renamed.mistake)
    });
    match (renamed, certainty) {
        (Some(renamed), renamed::Certainty::Needed) => return vec![renamed],
        (renamed, _) => found.extend(renamed),
    }
    for case in cases {
        let secret = others::secret(case, around.others, budget);
        found.extend(secret.or_else(|| others::ended(case, budget)));
        found.extend(budget.traced(|budget| urls::other(case, around.bases, budget)));
    }
    for family in FAMILIES {
        // Under another variant the same bytes can be another mistake.
        for case in cases {
            let more = !budget.is_spent();
            found.extend(more.then(|| budget.traced(|budget| family(case, budget))).flatten());
        }
    }
    if found.is_empty() {
        let twice = |case| budget.traced(|budget| twice::twice(case, budget));
        found.extend(cases.iter().find_map(twice));
    }
    if found.is_empty() {
        let other = others::sender(callback, around.others, budget);
        let other = other.or_else(|| missing::parameters(callback));
        found.push(other.unwrap_or_else(|| match budget.was_cut_short() {
            true => Mistake::unfinished(),
            false => Mistake::unknown(),
        }));
    }
    let mut kinds = Vec::new();
    found.retain(|mistake| {
        let is_new = !kinds.contains(&mistake.kind);
        kinds.push(mistake.kind);
        is_new
    });
    found.truncate(REPORTED_MAX);
    found
}

fn word<S: Serializer>(outcome: &Outcome, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(outcome.as_str())
}

fn reason<S: Serializer>(reason: &Option<Reason>, serializer: S) -> Result<S::Ok, S::Error> {
    reason.map(Reason::as_str).serialize(serializer)
}
