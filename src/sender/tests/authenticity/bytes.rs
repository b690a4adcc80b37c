//! Two byte strings are one text only if they are equal.

use std::collections::HashMap;

use super::call::{Call, In, Style};
use super::model::{Fate, Gateway};
use super::recut::report;
use super::world::{Dice, Scene, scenes};
use crate::sender::{Outcome, Role};

/// Values that are easily taken for each other.
const VALUES: &[&[u8]] = &[
    b"u",
    b"u\0",
    b"\0u",
    b"\xff",
    b"%FF",
    b"%ff",
    b"\xfe",
    b"\xef\xbf\xbd",
    b"\xc0\xaf",
    b"/",
    b"\xe0\x80\xaf",
    b"\xed\xa0\x80",
    b"\xed\xb0\x80",
    b"\xc4\xe3\xba\xc3",
    "你好".as_bytes(),
    b"%C4%E3%BA%C3",
    b"\xc3\xa9",
    b"e\xcc\x81",
    b"\xef\xbb\xbfu",
    b"u ",
    b" u",
    b"u\r",
    b"u\n",
    b"\x80",
    b"%80",
    b"a%FF",
    b"a\xff",
];

#[test]
fn two_byte_strings_are_two_texts() {
    let mut wrong = Vec::new();
    let mut texts = 0;
    for scene in scenes().into_iter().filter(|scene| scene.recipe.open.is_none()) {
        for role in Role::ALL {
            let Some(name) = parameter(&scene, role) else { continue };
            let mut dice = Dice::of(&scene);
            let mut known: HashMap<(String, bool), &[u8]> = HashMap::new();
            let mut gateway = Gateway::new(&scene);
            let mut taken: HashMap<_, &[u8]> = HashMap::new();
            for value in VALUES {
                let mut call = Call::of(&scene.request);
                let Some(at) = call.position(&name) else { break };
                if call.fields[at].place != In::Query && std::str::from_utf8(value).is_err() {
                    continue;
                }
                call.fields[at].value = value.to_vec();
                let Some(request) = scene.sign(&call, Style::default(), &mut dice, None) else {
                    continue;
                };
                let came = super::super::run(&scene.recipe, &request, scene.now_ms);
                let Some(resolved) = &came.resolved else { continue };
                let Some(text) = resolved.role(role) else { continue };
                let is_the_kinds = scene
                    .recipe
                    .kinds
                    .iter()
                    .any(|kind| kind.name == resolved.kind() && kind.roles.texts.has(role));
                if is_the_kinds {
                    continue;
                }
                texts += 1;
                let key = (text.to_owned(), resolved.escaped().contains(&role));
                let about = |other: &[u8]| {
                    format!("{}: {role:?} {text:?} is {other:x?} and {value:x?}", scene.name)
                };
                if let Some(other) = known.insert(key, value) {
                    wrong.push(about(other));
                }
                match gateway.record(&came) {
                    Fate::Event(id) => drop(taken.insert(id, value)),
                    Fate::Duplicate(id) => wrong.push(about(taken[&id])),
                    _ => assert_ne!(came.outcome, Outcome::Rejected),
                }
            }
        }
    }
    report(wrong);
    assert!(texts > 800, "{texts}");
}

/// The parameter that `role` is, as it comes.
fn parameter(scene: &Scene, role: Role) -> Option<Vec<u8>> {
    let texts = scene.recipe.roles.texts.get(role)?;
    let text = texts.first()?;
    let mut spots = text.of.spots();
    let spot = spots.next().filter(|spot| spot.modifiers.is_empty())?;
    let alone = text.of.pieces.len() == 1 && spots.next().is_none();
    super::world::name_of(&scene.recipe, spot).filter(|_| alone)
}
