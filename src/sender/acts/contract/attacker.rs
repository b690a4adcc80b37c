//! What an attacker who has seen one callback can do, and what he cannot.

use std::sync::Arc;

use super::coverage::{Coverage, Proof, list};
use crate::sender::acts::identity::RepeatingSignature;
use crate::sender::acts::resolved::{Fact, Role};
use crate::sender::language::bound::Gate;
use crate::sender::language::condition::Condition;
use crate::sender::language::definition::{First, Sender};
use crate::sender::language::recipe::Recipe;
use crate::sender::language::recut::Separation;

pub(super) const CAN: &str = "With one captured call an attacker can";
pub(super) const CANNOT: &str = "With one captured call an attacker cannot";

/// What he can do, and what becomes of it.
pub(super) fn can(sender: &Arc<Sender>, covers: &Coverage) -> Vec<String> {
    let Some(recipe) = covers.recipe() else {
        return vec![String::from("make any event: nothing is signed")];
    };
    if sender.readings.iter().any(|reading| reading.with.first == First::Equal) {
        return vec![String::from("make any other event: the secret itself is in the call")];
    }
    let mut can = Vec::new();
    match recipe.repeats() {
        Some(RepeatingSignature::Always(why)) => {
            can.push(format!("send it again under new ids, each time as a new event: {why}"));
        }
        Some(RepeatingSignature::Sometimes(why)) => {
            can.push(format!("send some calls again under new ids, as new events: {why}"));
        }
        None => {}
    }
    let unsigned = unsigned_roles(sender, covers, recipe);
    if !unsigned.is_empty() {
        can.push(format!(
            "change {} if the changed call comes first: it is delivered, `authenticated` does not \
             list what was changed, and the genuine call is held",
            list(&unsigned)
        ));
    }
    let moved = touching_values(recipe);
    if !moved.is_empty() {
        can.push(format!(
            "move characters between {} if that call comes first: it is delivered, \
             `authenticated` does not list what was changed, and the genuine call is held",
            list(&moved)
        ));
    }
    if covers.fact_proof(Fact::Kind) != Proof::Whole {
        let kinds = sender.kinds.iter().filter(|kind| kind.unsigned.is_some());
        let kinds: Vec<String> = kinds.map(|kind| kind.name.clone()).collect();
        if !kinds.is_empty() {
            can.push(format!(
                "make a call one of kind {}, or a plain one of it: an event of its own, without \
                 \"kind\" in `authenticated`; the genuine call is delivered too",
                list(&kinds)
            ));
        }
    }
    if sender.test.unsigned.is_some() {
        can.push(String::from(
            "mark a call as a test: an event marked as such, without \"test\" in `authenticated`; \
             the genuine call is delivered too",
        ));
    }
    if is_open_gate(&recipe.test, recipe) {
        can.push(String::from(
            "have a call answered as a test: it is not stored, and the genuine call is delivered",
        ));
    }
    can
}

/// What he cannot do, and why.
pub(super) fn cannot(sender: &Arc<Sender>, covers: &Coverage) -> Vec<String> {
    let Some(recipe) = covers.recipe() else { return Vec::new() };
    if sender.readings.iter().any(|reading| reading.with.first == First::Equal) {
        return Vec::new();
    }
    let mut cannot = Vec::new();
    let proven = Role::ALL
        .into_iter()
        .filter(|role| sender.roles.texts.has(*role) && covers.proof(*role) == Proof::Whole);
    let proven: Vec<String> = proven.map(|role| role.as_str().to_owned()).collect();
    if !proven.is_empty() {
        cannot.push(format!("change {}: the signature covers it", list(&proven)));
    }
    if covers.fact_proof(Fact::Kind) == Proof::Whole {
        cannot.push(String::from("make a call one of another kind: the signature covers it"));
    }
    if touching_values(recipe).is_empty() && has_borders(recipe) {
        cannot.push(String::from(
            "make another event by moving characters between values: such a call is rejected, or \
             held for a decision, and the genuine call is delivered",
        ));
    }
    if recipe.repeats().is_none() {
        cannot.push(match recipe.window() {
            Some(_) => String::from(
                "have it counted twice: sent again it is a duplicate, and too old after that",
            ),
            None => {
                String::from("have it counted twice: sent again it is a duplicate, however late")
            }
        });
    }
    cannot
}

/// Roles that no signature reads as they are.
fn unsigned_roles(sender: &Sender, covers: &Coverage, recipe: &Recipe) -> Vec<String> {
    let always_repeats = matches!(recipe.repeats(), Some(RepeatingSignature::Always(_)));
    let is_unsigned = |role: &Role| {
        let texts = recipe.roles.texts.get(*role).into_iter().flatten();
        let mut spots = texts.flat_map(|text| text.of.spots());
        sender.roles.texts.has(*role)
            && covers.proof(*role) != Proof::Whole
            && spots.any(|spot| {
                !recipe.readings.iter().all(|reading| reading.signed.may_cover(spot, recipe))
            })
            && !(*role == Role::Transaction && always_repeats)
    };
    let roles = Role::ALL.into_iter().filter(is_unsigned);
    roles.map(|role| role.as_str().to_owned()).collect()
}

/// Values without a border between them, by all facts, so that honest ones can be re-cut too.
fn touching_values(recipe: &Recipe) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for reading in &recipe.readings {
        let signed = &reading.signed;
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
    recipe.readings.iter().any(|reading| reading.signed.values.len() > 1)
        || recipe.readings.iter().any(|reading| reading.signed.chain.is_some())
}

fn is_open_gate(gate: &Gate, recipe: &Recipe) -> bool {
    let Gate::Any(conditions) = gate else { return false };
    let open = |condition: &Condition<_>| {
        condition.spot().is_some_and(|spot| {
            !recipe.readings.iter().all(|reading| reading.signed.may_cover(spot, recipe))
        })
    };
    conditions.iter().any(open)
}
