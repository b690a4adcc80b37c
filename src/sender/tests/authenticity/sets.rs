//! Parts that are hashed in the order of their bytes: exchanged, and cut elsewhere.

use super::super::run;
use super::call::{Call, Style};
use super::model::{Gateway, Variant, wrongs};
use super::recut::report;
use super::world::{Dice, Scene, scenes};
use crate::sender::language::vector::OwnedRequest;

#[test]
fn parts_of_a_set_are_exchanged_and_cut_elsewhere() {
    let mut wrong = Vec::new();
    let mut sets = 0;
    for scene in scenes() {
        let is_sorted = scene.recipe.variants.iter().any(|variant| !variant.sorted.is_empty());
        if !is_sorted {
            continue;
        }
        sets += 1;
        let mut dice = Dice::of(&scene);
        for nonce in [&b"12345"[..], b"1700000000", b"1700000007000", b"9"] {
            let mut call = Call::of(&scene.request);
            if let Some(at) = nonce_of(&call) {
                call.fields[at].value = nonce.to_vec();
            }
            let Some(original) = scene.sign(&call, Style::default(), &mut dice, None) else {
                continue;
            };
            let Some(first) = Variant::of(&scene, original.clone()) else { continue };
            let mut all = vec![first];
            let moved = moved(&scene, &Call::of(&original), &mut dice);
            later(&scene, &original, &moved, &mut wrong);
            all.extend(moved.into_iter().filter_map(|request| Variant::of(&scene, request)));
            let found = wrongs(&scene, &all);
            wrong.extend(found.into_iter().map(|text| format!("{}: {text}", scene.name)));
        }
    }
    report(wrong);
    assert!(sets >= 4, "{sets}");
}

fn nonce_of(call: &Call) -> Option<usize> {
    call.fields.iter().position(|field| field.name.to_ascii_lowercase().ends_with(b"nonce"))
}

/// Every exchange of two parts, and every run of characters moved between two of them.
fn moved(scene: &Scene, call: &Call, dice: &mut Dice) -> Vec<OwnedRequest> {
    let parts: Vec<usize> = scene
        .recipe
        .variants
        .iter()
        .flat_map(|variant| variant.sorted.iter())
        .flat_map(crate::sender::language::text::Text::spots)
        .filter_map(|spot| super::world::name_of(&scene.recipe, spot))
        .filter_map(|name| call.position(&name))
        .collect();
    let mut all = Vec::new();
    for one in &parts {
        for other in &parts {
            if one == other {
                continue;
            }
            let (left, right) =
                (call.fields[*one].value.clone(), call.fields[*other].value.clone());
            let mut with = |left: Vec<u8>, right: Vec<u8>| {
                let mut moved = call.clone();
                moved.fields[*one].value = left;
                moved.fields[*other].value = right;
                all.extend(moved.request(Style::default(), dice));
            };
            with(right.clone(), left.clone());
            let lens = (1..=left.len().min(96)).filter(|len| *len <= 24 || len % 4 == 0);
            for len in lens {
                let (head, tail) = left.split_at(left.len() - len);
                with(head.to_vec(), [tail, &right].concat());
                with(head.to_vec(), [right.as_slice(), tail].concat());
                let (head, tail) = left.split_at(len);
                with(tail.to_vec(), [right.as_slice(), head].concat());
                with(tail.to_vec(), [head, &right].concat());
            }
        }
    }
    all
}

/// Sends them at every time that a run of their digits spells, after the original.
fn later(scene: &Scene, original: &OwnedRequest, all: &[OwnedRequest], wrong: &mut Vec<String>) {
    let mut gateway = Gateway::new(scene);
    gateway.take(original);
    let before = gateway.events().count();
    for request in all {
        let mut times: Vec<i64> = Vec::new();
        let runs = request.target.split(|byte| !byte.is_ascii_digit());
        for digits in runs.filter_map(|run| std::str::from_utf8(run).ok()) {
            for at in 0..digits.len() {
                times.extend(
                    digits.get(at..at + 10).and_then(|s| s.parse().ok()).map(|s: i64| s * 1000),
                );
                times.extend(digits.get(at..at + 13).and_then(|ms| ms.parse::<i64>().ok()));
            }
        }
        times.sort_unstable();
        times.dedup();
        // The signature of most is wrong at any time.
        let unlimited = run(&scene.recipe, request, scene.now_ms);
        let rejected = unlimited.rejection.map(|rejection| rejection.reason);
        if rejected == Some(crate::sender::Reason::BadSignature) {
            continue;
        }
        for now_ms in times {
            let came = run(&scene.recipe, request, now_ms);
            if came.resolved.is_some() {
                gateway.record(&came);
            }
        }
    }
    let known = scene.recipe.repeats().is_some();
    if gateway.events().count() > before.max(1) && !known {
        let all: Vec<_> = gateway.events().collect();
        wrong.push(format!("{}: a second event at another time: {all:?}", scene.name));
    }
}
