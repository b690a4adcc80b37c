//! Explain: why a signature does not match.
//!
//! This module splits the signed text into parts, tries the usual mistakes one by one, and reports
//! the one under which the signature would match: a mistake within the sender's rule before another
//! sender's rule. The report never contains a secret or a valid signature.
//!
//! Not part of the verify path. Bounded by [`DIGESTS_MAX`].

mod case;
mod draft;
mod keys;
mod message;
mod others;
mod parts;
mod public;
mod record;
mod rewrite;
mod separators;
mod shown;
mod twice;
mod values;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::outcome::{Outcome, Reason};
use crate::sender::crypto::key_set::KeySet;
use crate::sender::language::recipe::{Also, Recipe, WhenBody};
use crate::sender::request::Request;
use crate::sender::request::callback::{Callback, CallbackError, Judgement, Resolution};
use case::{Budget, Case};
use shown::Scrubber;

pub use case::DIGESTS_MAX;

/// The diagnosis of a callback.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Whether the callback verifies and is acceptable.
    pub verdict: Verdict,
    /// The outcome at the gateway.
    #[serde(serialize_with = "word")]
    pub outcome: Outcome,
    /// The reason for the rejection.
    #[serde(serialize_with = "reason")]
    pub reason: Option<Reason>,
    /// The parameter that the reason is about.
    pub parameter: Option<String>,
    /// The text that the sender signs, secrets masked, cut to a length that can be shown.
    pub signed_text: Option<String>,
    /// The purpose of the signature variant that was used; `None` for the usual one.
    pub reading: Option<String>,
    /// The parameters that were read, signatures masked.
    pub parameters: Vec<Shown>,
    /// The mistake under which the signature would match.
    pub mistake: Option<Mistake>,
}

/// Whether a callback verifies and is acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
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

/// A mistake in the signing of a callback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Its kind.
    pub kind: MistakeKind,
    /// The parameter that it is about, where it is one.
    pub parameter: Option<String>,
    /// The change to make, and its place.
    pub advice: Cow<'static, str>,
}

/// The usual mistakes: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MistakeKind {
    /// Values signed encoded, where the sender signs them decoded.
    RawValues,
    /// Values signed decoded, where the sender signs them encoded.
    DecodedValues,
    /// `+` signed as a space, where it is a plus sign.
    PlusAsBlank,
    /// `+` signed as a plus sign, where it is a space.
    PlusKept,
    /// White space at an end of the secret.
    SecretWhitespace,
    /// Another source's secret.
    OtherSecret,
    /// The secret decoded or not, in another case, with its prefix or without.
    SecretEncoding,
    /// Empty parameters signed, where the sender omits them.
    EmptyKept,
    /// Empty parameters omitted, where the sender signs them.
    EmptyDropped,
    /// A parameter signed that the sender does not sign.
    ExtraParameterSigned,
    /// A parameter omitted that the sender signs.
    ParameterNotSigned,
    /// The parts in another order, the secret on the other side included.
    Order,
    /// Other separators, or names where there are none, or the reverse.
    Separator,
    /// Another digest.
    OtherDigest,
    /// The signature written in another way: hex, base64, cut.
    OtherEncoding,
    /// Another sender's rule.
    OtherSender,
    /// A number, a JSON text or the case of letters rewritten.
    ValueReformatted,
    /// A sealed message that the key of the source does not open.
    SealingKey,
    /// A sealed message that ends with another id than the source's.
    SealedForAnother,
    /// A body in another format than the sender's file reads.
    ContentType,
    /// A changed value or a wrong secret: nothing that was tried matches.
    Unknown,
}

impl MistakeKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 21] = [
        Self::RawValues,
        Self::DecodedValues,
        Self::PlusAsBlank,
        Self::PlusKept,
        Self::SecretWhitespace,
        Self::OtherSecret,
        Self::SecretEncoding,
        Self::EmptyKept,
        Self::EmptyDropped,
        Self::ExtraParameterSigned,
        Self::ParameterNotSigned,
        Self::Order,
        Self::Separator,
        Self::OtherDigest,
        Self::OtherEncoding,
        Self::OtherSender,
        Self::ValueReformatted,
        Self::SealingKey,
        Self::SealedForAnother,
        Self::ContentType,
        Self::Unknown,
    ];

    /// The name in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RawValues => "raw_values",
            Self::DecodedValues => "decoded_values",
            Self::PlusAsBlank => "plus_as_blank",
            Self::PlusKept => "plus_kept",
            Self::SecretWhitespace => "secret_whitespace",
            Self::OtherSecret => "other_secret",
            Self::SecretEncoding => "secret_encoding",
            Self::EmptyKept => "empty_kept",
            Self::EmptyDropped => "empty_dropped",
            Self::ExtraParameterSigned => "extra_parameter_signed",
            Self::ParameterNotSigned => "parameter_not_signed",
            Self::Order => "order",
            Self::Separator => "separator",
            Self::OtherDigest => "other_digest",
            Self::OtherEncoding => "other_encoding",
            Self::OtherSender => "other_sender",
            Self::ValueReformatted => "value_reformatted",
            Self::SealingKey => "sealing_key",
            Self::SealedForAnother => "sealed_for_another",
            Self::ContentType => "content_type",
            Self::Unknown => "unknown",
        }
    }
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

impl Mistake {
    fn new(
        kind: MistakeKind,
        parameter: Option<&str>,
        advice: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { kind, parameter: parameter.map(str::to_owned), advice: advice.into() }
    }

    fn unknown() -> Self {
        let advice = "Nothing usual explains it: a value was changed after it was signed, or the \
                      secret is another one; compare both with the sender's console.";
        Self::new(MistakeKind::Unknown, None, advice)
    }
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
    explain_under(recipe, None, request, now_ms, others)
}

/// As [`explain`], with the public keys that the sender publishes. Without them, the outcome of a
/// callback signed with a private key is unknown.
#[must_use]
pub fn explain_under(
    recipe: &Recipe,
    keys: Option<&KeySet>,
    request: &Request<'_>,
    now_ms: i64,
    others: &[Other<'_>],
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
    let scrubber = scrubber(callback, others, first.iter().chain(&second));
    let cases = if is_about(rejection.as_ref(), &second) { second } else { first };
    let reason = rejection.as_ref().map(|rejection| rejection.reason);
    let rejected = rejection.as_ref();
    let sealed = rejected.and_then(|rejection| message::sealed_otherwise(rejection, callback));
    let signed = || mistake(reason?, &outside, &cases, others);
    let written = || message::written_otherwise(rejected?, callback);
    let mistake = sealed.or_else(signed).or_else(written);
    let used = callback.matched_variant().map(|variant| variant.index);
    let used = cases.iter().find(|case| Some(case.variant.index) == used).or(cases.first());
    let secret = callback.matched.as_ref().and_then(|matched| recipe.secrets.get(matched.secret?));
    let text = used.and_then(|case| case.masked(secret.map(|secret| secret.value.expose())));
    let why = used.and_then(|case| recipe.sender.variants.get(case.variant.index));
    Explanation {
        verdict: match rejection.is_some() || outcome == Outcome::Unavailable {
            true => Verdict::Rejected,
            false => Verdict::Verified,
        },
        outcome,
        reason,
        parameter: rejection
            .and_then(|rejection| rejection.parameter)
            .map(|name| scrubber.short(&name)),
        signed_text: text.map(|text| scrubber.text(&text)),
        reading: why.and_then(|variant| variant.why.clone()),
        parameters: shown::parameters(callback, &scrubber),
        mistake: mistake.map(|mistake| scrubber.mistake(mistake)),
    }
}

/// Hides the secrets, the signatures that came and those that would be right.
fn scrubber<'c>(
    callback: &Callback<'_>,
    others: &[Other<'_>],
    cases: impl Iterator<Item = &'c Case<'c>>,
) -> Scrubber {
    let mut scrubber = Scrubber::new(callback.recipe);
    for other in others {
        let secrets = case::live_secrets(other.recipe, callback.now_ms);
        scrubber.take(secrets.into_iter().map(<[u8]>::to_vec));
    }
    for case in cases {
        scrubber.take(case.supplied_signatures.iter().cloned());
        scrubber.take(keys::expected(case, &mut Budget::default()));
    }
    scrubber
}

/// The mistake behind `reason`, if there is one to be named.
fn mistake(
    reason: Reason,
    outside: &Callback<'_>,
    cases: &[Case<'_>],
    others: &[Other<'_>],
) -> Option<Mistake> {
    let mut budget = Budget::default();
    match scope(reason) {
        Search::All => search(outside, cases, others, &mut budget),
        Search::Likely => search(outside, cases, others, &mut budget)
            .filter(|mistake| mistake.kind != MistakeKind::Unknown),
        // What lacks more than the signature may be another sender's, if it is not ours.
        Search::OtherSenders => {
            let ours = cases.iter().any(|case| case.matches(&case.draft, &mut budget));
            (!ours).then(|| others::sender(outside, others)).flatten()
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
/// bytes, the first one is the more specific.
const FAMILIES: &[Family] = &[
    keys::encoding,
    values::plus,
    values::raw_or_decoded,
    keys::secret_whitespace,
    values::empties,
    keys::secret_encoding,
    parts::left_out,
    parts::extra,
    parts::order,
    separators::separator,
    parts::several_left_out,
    keys::other_digest,
    values::reformatted,
    twice::twice,
];

/// Finds the mistake; `None` where the signature is right after all.
fn search(
    callback: &Callback<'_>,
    cases: &[Case<'_>],
    others: &[Other<'_>],
    budget: &mut Budget,
) -> Option<Mistake> {
    if cases.iter().any(|case| case.matches(&case.draft, budget)) {
        return None;
    }
    // Few digests, and a mistake that no other search can name.
    let secret = cases.iter().find_map(|case| others::secret(case, others, budget));
    let own = || {
        FAMILIES.iter().find_map(|family| {
            cases.iter().find_map(|case| {
                let more = !budget.is_spent();
                more.then(|| family(case, budget)).flatten()
            })
        })
    };
    let own = secret.or_else(own);
    own.or_else(|| others::sender(callback, others)).or_else(|| Some(Mistake::unknown()))
}

fn word<S: Serializer>(outcome: &Outcome, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(outcome.as_str())
}

fn reason<S: Serializer>(reason: &Option<Reason>, serializer: S) -> Result<S::Ok, S::Error> {
    reason.map(Reason::as_str).serialize(serializer)
}
