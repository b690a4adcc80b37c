//! Evidence about one callback: the signature that came beside the one expected, and the values of
//! an accepted event under which the signature that came is right.
//!
//! A whole expected signature would be an oracle: any reader could send the callback with it. Shown
//! are at most four characters at each end, and only as many as leave [`HIDDEN_BITS`] unknown: enough
//! to see that two signatures differ, or that one is a part of the other, and too few to forge one.
//! Eight characters of a digest do let a reader check guesses of a weak secret. So they are only for
//! callers that may have whole signatures made (`POST /admin/v1/sign`), who learn nothing new by them.

use std::borrow::Cow;

use crate::sender::acts::explain::case::{Budget, Case, is_large, live_secrets};
use crate::sender::acts::explain::shown::Scrubber;
use crate::sender::acts::explain::{Around, keys, scrubber};
use crate::sender::acts::signature;
use crate::sender::crypto::key_set::KeySet;
use crate::sender::language::bound::Scope;
use crate::sender::language::definition::{First, Writing};
use crate::sender::language::recipe::{Recipe, WhenBody};
use crate::sender::request::Request;
use crate::sender::request::callback::Callback;
use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::parameters::{Parameter, Place, Value};

/// Characters that are shown of each end of a signature.
const END_CHARACTERS_MAX: usize = 4;

/// Bits of an expected signature that stay unknown: more than anybody can try. Of the digest with
/// the fewest, MD5 in hex, 24 of 32 characters.
const HIDDEN_BITS: usize = 96;

/// Signatures that are shown side by side: a few variants, each under a few secrets.
const BESIDE_MAX: usize = 4;

/// Values that may be exchanged for those of an accepted event; each, all, and every two are tried.
const VALUES_MAX: usize = 16;

/// The shortest secret that a signature which came is searched for.
const SECRET_MIN: usize = 4;

/// The evidence about one callback.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The signatures that came, each beside what was expected.
    pub signatures: Vec<Beside>,
    /// The values under which the signature that came is right.
    pub changes: Option<Changes>,
}

/// A signature that came beside the one expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The signature that came; `None` where it holds a secret.
    pub came: Option<Ends>,
    /// The expected one.
    pub expected: Expected,
    /// The id of the secret that the expected one is made with, where the source has several.
    pub secret: Option<String>,
}

/// An expected signature, as far as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Its ends.
    Ends(Ends),
    /// Unknown: only the sender has the private key.
    PrivateKey,
    /// Never shown: the sender sends the secret itself.
    Secret,
}

/// The ends of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Its first characters.
    pub start: String,
    /// Its last characters.
    pub end: String,
    /// Characters of all of it.
    pub characters: usize,
}

/// Values of an accepted event under which the signature that came is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The values that differ.
    pub values: Vec<ChangedValue>,
    /// The text that the signature that came is right for, secrets masked.
    pub text: String,
}

/// A value that differs from the accepted event's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedValue {
    /// The parameter.
    pub name: String,
    /// The value that came.
    pub came: String,
    /// The value of the accepted event.
    pub accepted: String,
}

/// The evidence about `request`, which came at `now_ms`, under `recipe`. `accepted` are the
/// parameters of an accepted event of the same transaction.
#[must_use]
pub fn evidence(
    (recipe, keys): (&Recipe, Option<&KeySet>),
    (request, now_ms): (&Request<'_>, i64),
    around: Around<'_>,
    accepted: &[(String, String)],
) -> Evidence {
    let mut callback = recipe.read(*request, now_ms);
    callback.use_keys(keys);
    if recipe.body == WhenBody::AfterVerification {
        let _ = callback.read_body();
    }
    let cases = Case::all(&callback);
    let scrubber = scrubber(&callback, around.others, cases.iter());
    Evidence {
        signatures: beside(&cases, around),
        changes: changes(&callback, accepted, &scrubber, &mut Budget::until(around.deadline)),
    }
}

// === Signatures ===

fn beside(cases: &[Case<'_>], around: Around<'_>) -> Vec<Beside> {
    // Few digests, and without a deadline: none of them may be missing.
    let budget = &mut Budget::default();
    let mut all: Vec<Beside> = Vec::new();
    for case in cases {
        let several = case.materials.len() > 1;
        for material in &case.materials {
            let expected = Whole::of(case, material, budget);
            for supplied in &case.supplied_signatures {
                let one = Beside {
                    came: came(case, around, supplied, &expected),
                    expected: expected.shown(),
                    secret: several.then(|| id_of(case.callback.recipe, material)).flatten(),
                };
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        }
    }
    all.truncate(BESIDE_MAX);
    all
}

/// A whole expected signature. Never shown.
enum Whole {
    Written { text: String, writing: Writing },
    PrivateKey,
    Secret,
}

impl Whole {
    fn of(case: &Case<'_>, material: &[u8], budget: &mut Budget) -> Self {
        let variant = case.variant;
        if variant.public.is_some() {
            return Self::PrivateKey;
        }
        if variant.with.first == First::Equal || variant.writing == Writing::Text {
            return Self::Secret;
        }
        let Some(output) = keys::own_output(case, material, budget) else {
            return Self::Secret;
        };
        let mut text = signature::written(&output, variant.writing);
        text.truncate(variant.cut.unwrap_or(text.len()));
        Self::Written { text, writing: variant.writing }
    }

    fn shown(&self) -> Expected {
        match self {
            Self::Written { text, writing } => Expected::Ends(ends(text, count(text, *writing))),
            Self::PrivateKey => Expected::PrivateKey,
            Self::Secret => Expected::Secret,
        }
    }
}

/// The ends of a signature that came. One as long as the expected one is shown like it; of any
/// other, what its characters hold is unknown, so the fewest bits are assumed.
fn came(case: &Case<'_>, around: Around<'_>, supplied: &[u8], expected: &Whole) -> Option<Ends> {
    let now_ms = case.callback.now_ms;
    let others = around.others.iter().flat_map(|other| live_secrets(other.recipe, now_ms));
    let own = case.callback.recipe.secrets.iter().map(|secret| secret.value.expose());
    let holds = |secret: &[u8]| {
        secret.len() >= SECRET_MIN && memchr::memmem::find(supplied, secret).is_some()
    };
    if matches!(expected, Whole::Secret) || others.chain(own).any(holds) {
        return None;
    }
    let text = String::from_utf8_lossy(supplied);
    let shown = match expected {
        Whole::Written { text: whole, writing } if whole.len() == supplied.len() => {
            count(whole, *writing)
        }
        _ => count(&text, Writing::Hex),
    };
    Some(ends(&text, shown))
}

/// Characters of each end of `text` that may be shown.
pub(super) fn count(text: &str, writing: Writing) -> usize {
    let bits = match writing {
        Writing::Hex | Writing::Text => 4,
        Writing::Base64 | Writing::Base64Url => 6,
    };
    let characters = text.trim_end_matches('=').chars().count();
    let hidden = HIDDEN_BITS.div_ceil(bits);
    (characters.saturating_sub(hidden) / 2).min(END_CHARACTERS_MAX)
}

fn ends(text: &str, shown: usize) -> Ends {
    let characters: Vec<char> = text.trim_end_matches('=').chars().collect();
    let shown = shown.min(characters.len() / 2);
    Ends {
        start: characters[..shown].iter().collect(),
        end: characters[characters.len() - shown..].iter().collect(),
        characters: text.chars().count(),
    }
}

fn id_of(recipe: &Recipe, material: &[u8]) -> Option<String> {
    let found = recipe.secrets.iter().find(|secret| secret.value.expose() == material);
    found.map(|secret| secret.id.to_string())
}

// === Values ===

/// A parameter whose value differs from the accepted event's.
struct Exchange<'a> {
    name: &'a [u8],
    came: Vec<u8>,
    accepted: &'a str,
}

/// The fewest values of the accepted event under which the signature that came is right.
fn changes(
    callback: &Callback<'_>,
    accepted: &[(String, String)],
    scrubber: &Scrubber,
    budget: &mut Budget,
) -> Option<Changes> {
    if is_large(&callback.request) {
        return None;
    }
    if Case::all(callback).iter().any(|case| case.matches(&case.draft, budget)) {
        return None;
    }
    let all = exchanges(callback, accepted);
    let tried = |some: Vec<&Exchange<'_>>, budget: &mut Budget| {
        let text = text_with(callback, &some, budget)?;
        let values = some.iter().map(|exchange| ChangedValue {
            name: scrubber.short(&String::from_utf8_lossy(exchange.name)),
            came: scrubber.text_of_value(&exchange.came),
            accepted: scrubber.text_of_value(exchange.accepted.as_bytes()),
        });
        Some(Changes { values: values.collect(), text: scrubber.text(&text) })
    };
    if let Some(one) = all.iter().find_map(|exchange| tried(vec![exchange], budget)) {
        return Some(one);
    }
    for (at, one) in all.iter().enumerate() {
        let two = all.iter().skip(at + 1).find_map(|other| tried(vec![one, other], budget));
        if two.is_some() {
            return two;
        }
    }
    if all.len() > 2 { tried(all.iter().collect(), budget) } else { None }
}

/// The values of query and form that differ from those of the accepted event.
fn exchanges<'a>(
    callback: &'a Callback<'_>,
    accepted: &'a [(String, String)],
) -> Vec<Exchange<'a>> {
    let recipe = callback.recipe;
    let (parameters, buffers) = callback.side(Scope::Outer);
    let differing = parameters.iter_known(buffers).filter_map(|(slot, parameter)| {
        let is_pair = matches!(parameter.place, Place::Query | Place::Form);
        let is_signature = slot.is_some_and(|slot| recipe.supplied_signatures.contains(&slot));
        let came = decoded(callback, parameter).filter(|_| is_pair && !is_signature)?;
        let name = parameter.name;
        let (_, accepted) = accepted.iter().find(|(other, _)| other.as_bytes() == name)?;
        (came != accepted.as_bytes()).then_some(Exchange { name, came, accepted })
    });
    differing.take(VALUES_MAX).collect()
}

fn decoded(callback: &Callback<'_>, parameter: Parameter<'_>) -> Option<Vec<u8>> {
    let value = Value { place: parameter.place, raw: parameter.raw.into() };
    value.text(callback.plus()).ok().flatten().map(Cow::into_owned)
}

/// The signed text, secrets masked, if the signature that came is right with the values of `some`.
fn text_with(
    callback: &Callback<'_>,
    some: &[&Exchange<'_>],
    budget: &mut Budget,
) -> Option<Vec<u8>> {
    let request = callback.request;
    // Written with other values, and read again.
    if !budget.work(2 * (request.target.len() + request.body.len())) {
        return None;
    }
    let (path, query) = request.target.split_at(request.target.len() - callback.query.len());
    let target = [path, &with_values(query, some)].concat();
    let is_form = callback.side(Scope::Outer).0.iter_places().any(|place| place == Place::Form);
    let body = match is_form {
        true => with_values(request.body, some),
        false => request.body.to_vec(),
    };
    let request = Request { target: &target, body: &body, ..request };
    let mut changed = callback.recipe.read(request, callback.now_ms);
    changed.use_keys(callback.keys);
    if callback.recipe.body == WhenBody::AfterVerification {
        let _ = changed.read_body();
    }
    let is_right = Case::all(&changed).iter().any(|case| case.matches(&case.draft, budget));
    budget.matched().filter(|_| is_right)
}

fn with_values(pairs: &[u8], some: &[&Exchange<'_>]) -> Vec<u8> {
    let written = pairs.split(|byte| *byte == b'&').map(|pair| {
        let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let name = encoding::unpercented(&pair[..end], Plus::Space);
        let exchange = some.iter().find(|exchange| exchange.name == &*name);
        let mut out = pair.to_vec();
        if let Some(exchange) = exchange {
            out.truncate(end);
            out.push(b'=');
            encoding::percent(exchange.accepted.as_bytes(), &mut out);
        }
        out
    });
    written.collect::<Vec<_>>().join(&b'&')
}
