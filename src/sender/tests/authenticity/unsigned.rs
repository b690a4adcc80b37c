//! Unsigned names of conditions, roles and flags: added, removed and changed, before and after the
//! original callback.

use super::call::{Call, Style};
use super::model::{Variant, wrongs};
use super::recut::report;
use super::world::{Dice, Scene, scenes};
use crate::sender::language::vector::OwnedRequest;

const ROUNDS: usize = 4;

#[test]
fn what_nothing_signs_makes_one_event_for_each_state() {
    let mut wrong = Vec::new();
    let mut changed = 0;
    for scene in scenes() {
        let mut dice = Dice::of(&scene);
        for _ in 0..ROUNDS {
            let Some((original, _)) = scene.accepted(&mut dice) else { continue };
            let Some(first) = Variant::of(&scene, original.clone()) else { continue };
            let mut all = vec![first];
            for request in changes(&scene, &original, &mut dice) {
                all.extend(Variant::of(&scene, request));
            }
            // Two names at once.
            for at in 1..all.len().min(6) {
                let again = changes(&scene, &all[at].request.clone(), &mut dice);
                if !again.is_empty() {
                    all.extend(Variant::of(&scene, dice.pick(&again).clone()));
                }
            }
            changed += all.len() - 1;
            let found = wrongs(&scene, &all);
            wrong.extend(found.into_iter().map(|text| format!("{}: {text}", scene.name)));
        }
    }
    report(wrong);
    assert!(changed > 1_500, "{changed}");
}

/// The callback with each name left out, added and changed, under the same signature.
fn changes(scene: &Scene, original: &OwnedRequest, dice: &mut Dice) -> Vec<OwnedRequest> {
    let call = Call::of(original);
    let mut names = scene.names.clone();
    names.extend(call.fields.iter().map(|field| field.name.clone()));
    names.sort();
    names.dedup();
    let mut all = Vec::new();
    for name in names {
        if call.fields.iter().any(|field| field.name == name && scene.is_signature_field(field)) {
            continue;
        }
        let mut values = vec![None, Some(Vec::new()), Some(b"1".to_vec()), Some(b"{a}".to_vec())];
        let words = scene.words.iter().filter(|(known, _)| *known == name);
        values.extend(words.map(|(_, word)| Some(word.clone())));
        for value in values {
            let mut changed = call.clone();
            match &value {
                None => changed.remove(&name),
                Some(value) => changed.set(&name, value),
            }
            all.extend(changed.request(Style::default(), dice));
        }
    }
    all
}
