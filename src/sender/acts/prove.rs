//! Runs the vectors of a sender's file.

use std::sync::Arc;

use bytes::Bytes;

use super::explain::{MistakeKind, explain};
use super::outcome::{Outcome, Reason};
use super::parts::resolve_parts;
use super::reply::ReplyDraft;
use super::resolved::{Resolved, Role};
use crate::sender::language::definition::Sender;
use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::recipe::Recipe;
use crate::sender::language::vector::Vector;
use crate::sender::request::callback::{Callback, Judgement, Resolution};

/// When a vector is run that names no time of its own: its sender's callbacks have none either.
pub(in crate::sender) const SOME_TIME_MS: i64 = 1_700_000_000_000;

/// Runs all vectors of `sender`. Returns an error for each result that differs from the expected
/// one.
#[must_use]
pub fn prove(sender: &Arc<Sender>) -> Vec<DefinitionError> {
    let mut faults = Vec::new();
    for (index, vector) in sender.vectors.iter().enumerate() {
        match Recipe::compile(sender, &vector.terms()) {
            Ok(recipe) => compare(index, vector, &recipe, &mut faults),
            Err(found) => {
                let at = format!("vector[{index}].source");
                for fault in found {
                    match is_of_file(&fault, vector) {
                        false => faults.push(fault.under(&at)),
                        true if faults.contains(&fault) => {}
                        true => faults.push(fault),
                    }
                }
            }
        }
    }
    faults
}

/// Whether a mistake in the terms of a vector is one of the file: at a key inside a table that the
/// file has, and the vector's source does not.
fn is_of_file(fault: &DefinitionError, vector: &Vector) -> bool {
    const TABLES: [&str; 6] = ["signature", "reply", "roles", "time", "open", "countersign"];
    let table = fault.key.split_once('.').map(|(table, _)| table);
    table.is_some_and(|table| TABLES.contains(&table) && !vector.source.contains_key(table))
}

fn compare(index: usize, vector: &Vector, recipe: &Recipe, faults: &mut Vec<DefinitionError>) {
    let got = came(vector, recipe);
    let outcome = |(name, _): &&(&str, String)| *name == "outcome";
    let outcome = got.iter().find(outcome).map_or("", |(_, outcome)| outcome);
    if let Some(expected) = vector.expected("outcome").filter(|expected| *expected != outcome) {
        // Everything else differs because of this.
        let about = &vector.about;
        let (why, remedy) = why(vector, recipe);
        faults.push(DefinitionError::new(
            format!("vector[{index}].expect.outcome"),
            format!("{about}: is {outcome:?}, expected {expected:?}{why}"),
            remedy,
        ));
        return;
    }
    for key in vector.expectations() {
        let expected = vector.expected(key).unwrap_or_default();
        let got = got.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value);
        if got != expected {
            let about = &vector.about;
            faults.push(DefinitionError::new(
                format!("vector[{index}].expect.{key}"),
                format!("{about}: is {got:?}, expected {expected:?}"),
                "mend the file or the vector",
            ));
        }
    }
}

/// Why the request of a vector comes to what it does, and what to do about it. The secret of the
/// vector is masked in the signed text.
fn why(vector: &Vector, recipe: &Recipe) -> (String, String) {
    let now_ms = vector.now_ms.unwrap_or(SOME_TIME_MS);
    let explanation = explain(recipe, &vector.request.borrow(), now_ms, &[]);
    let mut why = String::new();
    if let Some(reason) = explanation.reason {
        why = format!("; the reason is {}", reason.as_str());
    }
    if let Some(parameter) = &explanation.parameter {
        why.push_str(&format!(" ({parameter})"));
    }
    if let (Some(Reason::BadSignature), Some(text)) = (explanation.reason, &explanation.signed_text)
    {
        why.push_str(&format!("; the file signs {text:?}"));
    }
    let remedy = match explanation.mistake {
        Some(mistake) if mistake.kind != MistakeKind::Unknown => {
            for_the_author(mistake.advice.english())
        }
        _ => String::from("mend the file or the vector"),
    };
    (why, remedy)
}

/// The advice of a diagnosis, turned around. It tells the one who signs to do as the file says; but
/// the request of a vector is what the sender really does, so the file has to say what that is.
fn for_the_author(advice: &str) -> String {
    // Behind the colon it says what to change where the callback is signed.
    let diagnosis = match advice.split_once(": ") {
        Some((diagnosis, _)) if !diagnosis.starts_with(SEVERAL) => diagnosis,
        _ => advice.trim_end_matches('.'),
    };
    format!("{diagnosis}: correct the file if the request is the sender's own, else the vector")
}

/// The start of advice that names its changes as the diagnosis.
const SEVERAL: &str = "Two things differ";

/// Facts of a resolved callback that a vector can expect.
fn said(resolved: &Resolved, got: &mut Vec<(&'static str, String)>) {
    let roles = resolved.authenticated().iter().map(|role| role.as_str());
    let covered = roles.chain(resolved.covered().iter().map(|fact| fact.as_str()));
    got.push(("authenticated", covered.collect::<Vec<_>>().join(" ")));
    got.push(("effect", resolved.effect().as_str().to_owned()));
    got.push(("test", resolved.test.to_string()));
    got.push(("kind", resolved.kind.clone().unwrap_or_default()));
    got.push(("recut", resolved.recut().join(" ")));
    got.push(("misfits", resolved.misfits().join(" ")));
    got.push(("unresolved", resolved.unresolved().join(" ")));
    let value = |role| resolved.role(role).unwrap_or_default().to_owned();
    got.extend(Role::ALL.iter().map(|role| (role.as_str(), value(*role))));
}

/// Results of a vector's request, by the names that vectors use.
fn came(vector: &Vector, recipe: &Recipe) -> Vec<(&'static str, String)> {
    let mut callback = recipe.read(vector.request.borrow(), vector.now_ms.unwrap_or(SOME_TIME_MS));
    let mut got = Vec::new();
    let (outcome, reason) = match callback.verify() {
        Judgement::Probe => (Outcome::Test, None),
        Judgement::Undecided => (Outcome::Unavailable, None),
        Judgement::Challenge => (Outcome::Challenge, None),
        Judgement::Rejected(rejection) => (Outcome::Rejected, Some(rejection.reason)),
        Judgement::Verified(mut verified) => match verified.resolve("evt_vector") {
            Resolution::Challenge => (Outcome::Challenge, None),
            Resolution::Test => (Outcome::Test, None),
            Resolution::Rejected(rejection) => (Outcome::Rejected, Some(rejection.reason)),
            Resolution::Several(parts) => came_in_parts(verified.callback, &parts, &mut got),
            Resolution::Event(resolved) => {
                said(&resolved, &mut got);
                (Outcome::Accepted, None)
            }
            Resolution::Ambiguous(resolved) => {
                said(&resolved, &mut got);
                (Outcome::Ambiguous, None)
            }
        },
    };
    got.push(("outcome", outcome.as_str().to_owned()));
    got.push(("reason", reason.map_or(String::new(), |reason| reason.as_str().to_owned())));
    got.push(("reply", shown(&callback.draft_reply(outcome, reason, &|| [0; 16]))));
    got
}

/// The result of a callback with several events: the facts of the first, and how many there are.
fn came_in_parts(
    whole: &Callback<'_>,
    parts: &[Bytes],
    got: &mut Vec<(&'static str, String)>,
) -> (Outcome, Option<Reason>) {
    let all = resolve_parts(whole, parts, "evt_vector");
    got.push(("events", parts.len().to_string()));
    if let Some(Resolution::Event(first) | Resolution::Ambiguous(first)) = all.first() {
        said(first, got);
    }
    match all.last() {
        Some(Resolution::Rejected(rejection)) => (Outcome::Rejected, Some(rejection.reason)),
        Some(Resolution::Ambiguous(_)) => (Outcome::Ambiguous, None),
        Some(Resolution::Event(_)) => (Outcome::Accepted, None),
        Some(_) | None => (Outcome::Test, None),
    }
}

/// A reply as vectors write it: `status body`.
pub(in crate::sender) fn shown(reply: &ReplyDraft) -> String {
    match reply {
        ReplyDraft::Silence => "silence".to_owned(),
        ReplyDraft::Answer(answer) => {
            let body = String::from_utf8_lossy(&answer.body);
            format!("{} {body}", answer.status.as_u16()).trim_end().to_owned()
        }
    }
}
