//! Open roles are open: a role that the signature reads, and that does not count as authenticated,
//! has another value in some callback that the provider can have signed.

use std::collections::BTreeMap;

use super::model::EventFacts;
use super::recut::{around, report};
use super::world::{Dice, scenes};
use crate::sender::Role;

/// Rounds in which one callback has to be found that shows it.
const ROUNDS: usize = 30;

const UNCONFIRMED: &str = "that a transaction holds no `_` is not confirmed";

/// Cautious: such a role counts as open. That it has to be is not shown.
const UNEXAMINED: &str = "not examined: no second value was found in the rounds of this test";

const SPELLED: &str = "what is escaped without need is read in two ways";

/// Roles that are read, never called authentic, and never found with two values, each with a
/// reason.
const KNOWN: &[(&str, Role, &str)] = &[
    ("pubscale", Role::Transaction, "that a token holds no dot is not confirmed"),
    ("pubscale", Role::User, "that a token holds no dot is not confirmed"),
    ("pubscale", Role::Amount, "only its integer part is signed"),
    ("admob", Role::Transaction, SPELLED),
    ("admob", Role::Amount, SPELLED),
    ("applovin", Role::Transaction, "40 characters of a neighbour have to be hex"),
    ("imur-idip", Role::Transaction, "that an answer's id has a shape is not confirmed"),
    ("huawei", Role::Transaction, "a neighbour has to hold all names that follow it"),
    ("huawei", Role::User, "a neighbour has to hold all names that follow it"),
    ("huawei", Role::Item, "a neighbour has to hold all names that follow it"),
    ("huawei", Role::Custom, "a neighbour has to hold all names that follow it"),
    ("huawei", Role::Amount, "a neighbour has to hold all names that follow it"),
    ("imur-idip", Role::User, "that an answer's id has a shape is not confirmed"),
    ("mintegral", Role::User, UNCONFIRMED),
    ("mintegral", Role::Amount, UNCONFIRMED),
    ("mintegral", Role::Transaction, UNCONFIRMED),
    ("alipay", Role::Amount, UNEXAMINED),
    ("alipay", Role::Custom, UNEXAMINED),
    ("alipay", Role::Item, UNEXAMINED),
    ("alipay", Role::Transaction, UNEXAMINED),
    ("pollfish", Role::Custom, UNEXAMINED),
    ("sns", Role::Custom, UNEXAMINED),
    ("sns", Role::Item, UNEXAMINED),
    ("twilio", Role::Item, UNEXAMINED),
    ("twilio", Role::User, UNEXAMINED),
    ("vivo", Role::Amount, UNEXAMINED),
    ("vivo", Role::Custom, UNEXAMINED),
    ("vivo", Role::Item, UNEXAMINED),
    ("vivo", Role::Transaction, UNEXAMINED),
    ("vivo", Role::User, UNEXAMINED),
    ("xiaomi", Role::Custom, UNEXAMINED),
    ("xiaomi", Role::Item, UNEXAMINED),
];

#[test]
fn what_is_called_open_has_a_second_value() {
    let mut open: BTreeMap<(String, Role), bool> = BTreeMap::new();
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
            for role in &roles {
                let is_open = own.roles[*role as usize].is_some()
                    && !first.resolved().authenticated().contains(role)
                    && first.resolved().misfits().is_empty();
                let key = (scene.name.clone(), *role);
                if !is_open || open.get(&key) == Some(&true) {
                    continue;
                }
                let differs = |other: &&super::model::Variant| {
                    let theirs = EventFacts::of(other.resolved());
                    other.fits && theirs.roles[*role as usize] != own.roles[*role as usize]
                };
                *open.entry(key).or_default() |= all.iter().skip(1).any(|other| differs(&other));
            }
        }
    }
    let excused = |sender: &str, role: Role| {
        KNOWN.iter().any(|(name, known, why)| *name == sender && *known == role && !why.is_empty())
    };
    let wrong: Vec<String> = open
        .iter()
        .filter(|((sender, role), found)| !**found && !excused(sender, *role))
        .map(|((sender, role), _)| {
            format!("{sender}: {role:?} is called open, and nothing shows it")
        })
        .collect();
    report(wrong);
}
