//! Moves between the values of a signed text: no changed role counts as authenticated, no signature
//! makes two events of one kind, and the original callback is not lost.

use super::model::{Gateway, Variant, written, wrongs};
use super::moves::variants;
use super::world::{Dice, Scene, scenes};

/// Callbacks of each source, and variants of each.
const ROUNDS: usize = 12;
const OTHERS: usize = 40;

/// As many as `POSTERN_ROUNDS` says, where a longer search is wanted.
fn rounds() -> usize {
    let wanted = std::env::var("POSTERN_ROUNDS").ok();
    wanted.and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

#[test]
fn nothing_that_is_moved_makes_a_second_event_or_a_false_role() {
    let mut wrong = Vec::new();
    let mut under_one_signature = 0;
    for scene in scenes() {
        let mut dice = Dice::of(&scene);
        for _ in 0..rounds() {
            let Some((original, _)) = scene.accepted(&mut dice) else { continue };
            let all = variants(&scene, &original, &mut dice, OTHERS);
            under_one_signature += all.len().saturating_sub(1);
            let found = wrongs(&scene, &all);
            wrong.extend(found.into_iter().map(|text| format!("{}: {text}", scene.name)));
        }
    }
    report(wrong);
    assert!(under_one_signature > 3_000, "{under_one_signature}");
}

/// Callbacks with different identities are different events.
#[test]
fn different_things_are_different_events() {
    let mut wrong = Vec::new();
    for scene in scenes() {
        let mut dice = Dice::of(&scene);
        let mut gateway = Gateway::new(&scene);
        for _ in 0..30 {
            let Some((original, came)) = scene.accepted(&mut dice) else { continue };
            let said = super::model::EventFacts::of(came.resolved.as_ref().unwrap());
            if let super::model::Fate::Duplicate(first) = gateway.record(&came) {
                let first = gateway.said(&first);
                if (&first.kind, &first.roles) != (&said.kind, &said.roles) {
                    wrong.push(format!(
                        "{}: {first:?}\n  {said:?} {}",
                        scene.name,
                        written(&original)
                    ));
                }
            }
        }
    }
    report(wrong);
}

/// Says what is wrong, a few of each kind.
pub(super) fn report(mut wrong: Vec<String>) {
    let count = wrong.len();
    wrong.sort_by_key(String::len);
    let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    wrong.retain(|text| {
        let key: String = text.chars().take(40).collect();
        let many = seen.entry(key).or_default();
        *many += 1;
        *many <= 2
    });
    assert!(count == 0, "{count} wrong:\n{}", wrong.join("\n"));
}

/// Of one drawn callback, for tests that need no more.
pub(super) fn around(scene: &Scene, dice: &mut Dice, most: usize) -> Option<Vec<Variant>> {
    let (original, _) = scene.accepted(dice)?;
    Some(variants(scene, &original, dice, most))
}
