//! Marks of a URL, escapes and second supplied signatures, at every position of a signed callback.

use super::call::Style;
use super::model::{Variant, written, wrongs};
use super::recut::report;
use super::world::{Dice, Scene, scenes};
use crate::sender::language::bound::Input;
use crate::sender::language::vector::OwnedRequest;

/// Changes of one callback.
const TRIED_MAX: usize = 900;

#[test]
fn what_is_put_between_is_rejected_or_the_same_event() {
    let mut wrong = Vec::new();
    let mut senders: Vec<String> = Vec::new();
    for scene in scenes() {
        // One source of each sender: the tokenizer is the same for all.
        if senders.contains(&scene.name) {
            continue;
        }
        senders.push(scene.name.clone());
        let mut dice = Dice::of(&scene);
        let Some(original) =
            scene.sign(&super::call::Call::of(&scene.request), Style::default(), &mut dice, None)
        else {
            continue;
        };
        let Some(first) = Variant::of(&scene, original.clone()) else {
            wrong.push(format!("{}: {}", scene.name, written(&original)));
            continue;
        };
        let mut all = vec![first];
        let mut tried = changed(&scene, &original);
        while tried.len() > TRIED_MAX {
            tried.swap_remove(dice.below(tried.len()));
        }
        all.extend(tried.into_iter().filter_map(|request| Variant::of(&scene, request)));
        let found = wrongs(&scene, &all);
        wrong.extend(found.into_iter().map(|text| format!("{}: {text}", scene.name)));
    }
    report(wrong);
}

fn changed(scene: &Scene, original: &OwnedRequest) -> Vec<OwnedRequest> {
    let mut insertions: Vec<Vec<u8>> =
        ["?", "#", "&", "=", "%26", "%3D", "%", "&&", ";", "+", "%00"].map(Into::into).into();
    for variant in &scene.recipe.variants {
        let Input::Parameter { slot, .. } = &variant.supplied.input else { continue };
        let name = String::from_utf8_lossy(scene.recipe.names.name(*slot)).into_owned();
        let (first, rest) = name.split_at(1);
        let escaped = format!("%{:02X}{rest}", first.as_bytes()[0]);
        let texts = [format!("&{escaped}=x"), format!("&{name}=x"), format!("{escaped}=x&")];
        insertions.extend(texts.map(String::into_bytes));
    }
    let start = original.target.iter().position(|byte| *byte == b'?').unwrap_or(0);
    let mut all = Vec::new();
    for at in start..=original.target.len() {
        for text in &insertions {
            let mut request = original.clone();
            request.target.splice(at..at, text.iter().copied());
            all.push(request);
        }
        // An escaped spelling of what is there.
        if let Some(byte) = original.target.get(at).filter(|byte| byte.is_ascii_alphanumeric()) {
            let mut request = original.clone();
            request.target.splice(at..=at, format!("%{byte:02x}").bytes());
            all.push(request);
        }
    }
    all
}
