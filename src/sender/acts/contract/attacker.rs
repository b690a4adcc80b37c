//! Capabilities of an attacker with one captured callback.

use std::sync::Arc;

use super::coverage::{Coverage, Proof, list};
use crate::sender::acts::identity::RepeatingSignature;
use crate::sender::acts::resolved::{Fact, Role};
use crate::sender::language::bound::Gate;
use crate::sender::language::condition::Condition;
use crate::sender::language::definition::{First, Sender};
use crate::sender::language::recipe::Recipe;
use crate::sender::language::recut::Separation;

pub(super) const CAN: &str = "With one captured callback, an attacker can";
pub(super) const CANNOT: &str = "With one captured callback, an attacker cannot";

/// Possible attacks, and their results.
pub(super) fn can(sender: &Arc<Sender>, covers: &Coverage) -> Vec<String> {
    let Some(recipe) = covers.recipe() else {
        return vec![String::from("forge any event: nothing is signed")];
    };
    if sender.variants.iter().any(|variant| variant.with.first == First::Equal) {
        return vec![String::from(
            "forge any other event: the callback contains the secret itself",
        )];
    }
    let mut can = Vec::new();
    match recipe.repeats() {
        Some(RepeatingSignature::Always(why)) => {
            can.push(format!("replay it under new ids, each time as a new event: {why}"));
        }
        Some(RepeatingSignature::Sometimes(why)) => {
            can.push(format!("replay some callbacks under new ids, as new events: {why}"));
        }
        None => {}
    }
    let unsigned = unsigned_roles(sender, covers, recipe);
    if !unsigned.is_empty() {
        can.push(format!(
            "change {} if the changed callback arrives first: it is delivered, `authenticated` \
             omits the changed fields, and the original callback is quarantined",
            list(&unsigned)
        ));
    }
    let moved = touching_values(recipe);
    if !moved.is_empty() {
        can.push(format!(
            "move characters between {} if that callback arrives first: it is delivered, \
             `authenticated` omits the changed fields, and the original callback is quarantined",
            list(&moved)
        ));
    }
    if covers.fact_proof(Fact::Kind) != Proof::Whole {
        let kinds = sender.kinds.iter().filter(|kind| kind.unsigned.is_some());
        let kinds: Vec<String> = kinds.map(|kind| kind.name.clone()).collect();
        if !kinds.is_empty() {
            can.push(format!(
                "send a callback as kind {}, or one of that kind as a plain one: a separate event, \
                 without \"kind\" in `authenticated`; the original callback is delivered too",
                list(&kinds)
            ));
        }
    }
    if sender.test.unsigned.is_some() {
        can.push(String::from(
            "mark a callback as a test: a test event, without \"test\" in `authenticated`; the \
             original callback is delivered too",
        ));
    }
    if is_open_gate(&recipe.test, recipe) {
        can.push(String::from(
            "get a callback answered as a test: it is not stored, and the original is delivered",
        ));
    }
    can
}

/// Impossible attacks, and the reasons.
pub(super) fn cannot(sender: &Arc<Sender>, covers: &Coverage) -> Vec<String> {
    let Some(recipe) = covers.recipe() else { return Vec::new() };
    if sender.variants.iter().any(|variant| variant.with.first == First::Equal) {
        return Vec::new();
    }
    let mut cannot = Vec::new();
    let proven = Role::ALL
        .into_iter()
        .filter(|role| sender.roles.texts.has(*role) && covers.proof(*role) == Proof::Whole);
    let proven: Vec<String> = proven.map(|role| role.as_str().to_owned()).collect();
    if !proven.is_empty() {
        cannot.push(format!("change {}: covered by the signature", list(&proven)));
    }
    if covers.fact_proof(Fact::Kind) == Proof::Whole {
        cannot.push(String::from("change the kind: covered by the signature"));
    }
    if touching_values(recipe).is_empty() && has_borders(recipe) {
        cannot.push(String::from(
            "forge another event by moving characters between values: such a callback is rejected \
             or quarantined, and the original callback is delivered",
        ));
    }
    if recipe.repeats().is_none() {
        cannot.push(match recipe.window() {
            Some(_) => {
                String::from("have it counted twice: a replay is a duplicate, and later too old")
            }
            None => String::from("have it counted twice: a replay is a duplicate at any time"),
        });
    }
    cannot
}

/// Roles that no signature reads unchanged.
fn unsigned_roles(sender: &Sender, covers: &Coverage, recipe: &Recipe) -> Vec<String> {
    let always_repeats = matches!(recipe.repeats(), Some(RepeatingSignature::Always(_)));
    let is_unsigned = |role: &Role| {
        let texts = recipe.roles.texts.get(*role).into_iter().flatten();
        let mut spots = texts.flat_map(|text| text.of.spots());
        sender.roles.texts.has(*role)
            && covers.proof(*role) != Proof::Whole
            && spots.any(|spot| {
                !recipe.variants.iter().all(|variant| variant.signed.may_cover(spot, recipe))
            })
            && !(*role == Role::Transaction && always_repeats)
    };
    let roles = Role::ALL.into_iter().filter(is_unsigned);
    roles.map(|role| role.as_str().to_owned()).collect()
}

/// Values without a separator between them, by all facts: even unmodified ones can be re-cut.
fn touching_values(recipe: &Recipe) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for variant in &recipe.variants {
        let signed = &variant.signed;
        if signed.separation == Separation::Touching && !signed.is_sorted() {
            names.extend(signed.open_by_all_facts());
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether a signed text has several values.
fn has_borders(recipe: &Recipe) -> bool {
    recipe.variants.iter().any(|variant| variant.signed.values.len() > 1)
        || recipe.variants.iter().any(|variant| variant.signed.chain.is_some())
}

fn is_open_gate(gate: &Gate, recipe: &Recipe) -> bool {
    let Gate::Any(conditions) = gate else { return false };
    let open = |condition: &Condition<_>| {
        condition.spots().any(|spot| {
            !recipe.variants.iter().all(|variant| variant.signed.may_cover(spot, recipe))
        })
    };
    conditions.iter().any(open)
}
