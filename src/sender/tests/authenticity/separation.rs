//! A signature that one source accepted is worth nothing at another with the same secret, unless
//! `check` refuses the two beside each other. The management APIs that share a rule with a sender are
//! tried in `tests/it/callback_address.rs` and `tests/it/background_check.rs`.

use super::super::run;
use super::call::{Call, Style};
use super::recut::report;
use super::world::{Dice, SECRET, Scene, scenes, secret};

#[test]
fn what_one_source_accepted_no_other_one_accepts() {
    let all: Vec<Scene> = scenes().iter().filter_map(with_the_secret).collect();
    let (mut wrong, mut tried, mut shared) = (Vec::new(), 0, 0);
    for one in &all {
        let mut dice = Dice::of(one);
        let call = Call::of(&one.request);
        let Some(request) = one.sign(&call, Style::default(), &mut dice, None) else { continue };
        if run(&one.recipe, &request, one.now_ms).resolved.is_none() {
            continue;
        }
        for other in all.iter().filter(|other| other.name != one.name) {
            tried += 1;
            let came = run(&other.recipe, &request, one.now_ms);
            if came.resolved.is_none() {
                continue;
            }
            shared += 1;
            // `check` goes by the sources as they are configured, in either order.
            let is_refused = one.recipe.shares_signatures(&other.recipe)
                && other.recipe.shares_signatures(&one.recipe);
            if !is_refused {
                wrong.push(format!(
                    "{} takes what {} accepted: {:?}",
                    other.name, one.name, came.outcome
                ));
            }
        }
    }
    report(wrong);
    assert!(tried > 3_000 && shared > 0, "{tried}, {shared}");
}

/// The first scene's source under the secret of all; `None` where a key has a form of its own.
fn with_the_secret(scene: &Scene) -> Option<Scene> {
    let mut terms = scene.terms.clone();
    terms.secrets = vec![secret("1", SECRET)];
    scene.under(&scene.sender, terms)
}
