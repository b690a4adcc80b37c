//! Open roles are open: a role that the signature reads, and that does not count as authenticated,
//! has another value in some callback that the provider can have signed.

use std::collections::BTreeMap;

use super::model::{EventFacts, Variant, written};
use super::moves::recuts;
use super::recut::{around, report};
use super::world::{Dice, scenes};
use crate::sender::Role;

/// Rounds in which one callback has to be found that shows it.
const ROUNDS: usize = 30;

const SPELLED: &str = "what is escaped without need is read in two ways";

/// Roles that are read, never called authentic, and never found with two values, each with a
/// reason.
const KNOWN: &[(&str, Role, &str)] = &[
    ("admob", Role::Transaction, SPELLED),
    ("admob", Role::Amount, SPELLED),
    ("applovin", Role::Transaction, "40 characters of a neighbour have to be hex"),
    ("imur-idip", Role::User, "that an answer's id has a shape is not confirmed"),
];

#[test]
fn what_is_called_open_has_a_second_value() {
    let mut open: BTreeMap<(String, Role), bool> = BTreeMap::new();
    let mut example: BTreeMap<(String, Role), String> = BTreeMap::new();
    let excused = |sender: &str, role: Role| {
        KNOWN.iter().any(|(name, known, _)| *name == sender && *known == role)
    };
    for scene in scenes() {
        let mut dice = Dice::of(&scene);
        let read = |role: Role| {
            let texts = scene.recipe.roles.texts.get(role).map(Vec::as_slice).unwrap_or_default();
            let mut spots = texts.iter().take(1).flat_map(|text| text.of.spots());
            let covers = |spot| {
                scene.recipe.variants.iter().any(|one| one.signed.may_cover(spot, &scene.recipe))
            };
            spots.next().is_some_and(covers)
        };
        let roles: Vec<Role> = Role::ALL.into_iter().filter(|role| read(*role)).collect();
        let done = |open: &BTreeMap<_, bool>| {
            roles.iter().all(|role| open.get(&(scene.name.clone(), *role)) == Some(&true))
        };
        for _ in 0..ROUNDS {
            if done(&open) {
                break;
            }
            let Some(all) = around(&scene, &mut dice, 16) else { continue };
            let Some(first) = all.first().filter(|first| first.fits) else { continue };
            let own = EventFacts::of(first.resolved());
            // Many cuts, where the usual moves show nothing.
            let mut many: Option<Vec<Variant>> = None;
            for role in &roles {
                let is_open = own.roles[*role as usize].is_some()
                    && !first.resolved().authenticated().contains(role)
                    && first.resolved().misfits().is_empty();
                let key = (scene.name.clone(), *role);
                if !is_open || open.get(&key) == Some(&true) {
                    continue;
                }
                let differs = |other: &Variant| {
                    let theirs = EventFacts::of(other.resolved());
                    other.fits && theirs.roles[*role as usize] != own.roles[*role as usize]
                };
                let is_excused = excused(&scene.name, *role);
                let found = all.iter().skip(1).any(differs)
                    || (!is_excused
                        && many
                            .get_or_insert_with(|| recuts(&scene, &first.request, &mut dice))
                            .iter()
                            .any(differs));
                *open.entry(key.clone()).or_default() |= found;
                if !found {
                    example.insert(key, written(&first.request));
                }
            }
        }
    }
    let mut wrong: Vec<String> = open
        .iter()
        .filter(|((sender, role), found)| !**found && !excused(sender, *role))
        .map(|((sender, role), _)| {
            let key = (sender.clone(), *role);
            format!(
                "{sender}: {role:?} is called open, and nothing shows it: {:?}",
                example.get(&key)
            )
        })
        .collect();
    wrong.extend(needless(&open));
    report(wrong);
}

/// Excuses that are not needed.
fn needless(open: &BTreeMap<(String, Role), bool>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (sender, role, why) in KNOWN {
        let found = open.get(&((*sender).to_owned(), *role));
        if found != Some(&false) {
            wrong.push(format!("{sender}: {role:?} need not be excused ({why}): {found:?}"));
        }
    }
    wrong
}
