//! Each shape of a file is needed: without it, less is called authentic or less is held.

use std::sync::Arc;
use std::time::Duration;

use super::super::run;
use super::call::{Call, Style};
use super::recut::report;
use super::world::{Dice, Scene, scenes};
use crate::sender::language::recipe::MaxAge;
use crate::sender::{Outcome, Sender};

/// Shapes that change nothing in the callbacks drawn here, each with a reason.
const KNOWN: &[(&str, &str, &str)] = &[
    ("wechat-ad", "nonce", SET),
    ("wecom", "nonce", SET),
    ("wecom", "Encrypt", SET),
    ("wecom", "encrypt", SET),
    ("dingtalk", "nonce", SET),
    ("dingtalk", "encrypt", SET),
    ("wechat-pay", "header.Wechatpay-Nonce", "a line end follows it, and no header holds one"),
    ("pollfish", "tx_id", UNNAMED),
    ("admost", "created_at", "closes a value that no role, window or condition reads so far"),
    ("pubscale", "value", "what is signed of it is an integer, which has a form of its own"),
    ("admob", "reward_item", "names that are always there stand on both sides"),
];

/// A sorted set is closed by the size of its parts, whatever they hold. The shape makes a wrong fact
/// visible: a misfit is counted.
const SET: &str = "a set is closed by the size of its parts";

/// Pollfish signs values without names. Other shapes close what is authenticated in the callbacks
/// drawn here; this one tells where fewer macros are pasted.
const UNNAMED: &str = "its neighbours close the transaction in every callback drawn here";

/// Callbacks that are drawn until the shape shows.
const ROUNDS: usize = 60;

#[test]
fn each_shape_of_a_file_is_needed() {
    let mut wrong = Vec::new();
    let scenes = scenes();
    let mut names: Vec<&str> = scenes.iter().map(|scene| scene.name.as_str()).collect();
    names.dedup();
    for name in names {
        let own: Vec<&Scene> = scenes.iter().filter(|scene| scene.name == name).collect();
        for shape in own[0].shapes.keys() {
            let excused = KNOWN.iter().any(|(sender, known, _)| *sender == name && known == shape);
            match (excused, own.iter().any(|scene| shows(scene, shape))) {
                (false, false) => {
                    wrong.push(format!("{name}: the shape of `{shape}` changes nothing"));
                }
                (true, true) => {
                    wrong.push(format!("{name}: the shape of `{shape}` need not be excused"));
                }
                _ => {}
            }
        }
    }
    for (sender, shape, _) in KNOWN {
        let is_it = |scene: &&Scene| scene.name == *sender;
        if !scenes.iter().find(is_it).is_some_and(|scene| scene.shapes.contains_key(*shape)) {
            wrong.push(format!("{sender}: has no shape of `{shape}` to be excused"));
        }
    }
    report(wrong);
}

/// Whether some callback is judged otherwise without the shape, or keys kept for another time, if
/// every shape is confirmed.
fn shows(scene: &Scene, shape: &str) -> bool {
    let mut terms = scene.terms.clone();
    terms.confirmed = scene.shapes.keys().cloned().collect();
    let Some(with) = scene.under(&scene.sender, terms.clone()) else { return false };
    let Some(without) = without(scene.sender.text(), shape) else { return true };
    // A file that cannot be read without the shape needs it.
    let Ok(sender) = Sender::parse(&scene.name, &without) else { return true };
    terms.confirmed.retain(|name| name != shape);
    let Some(without) = scene.under(&Arc::new(sender), terms) else { return true };
    // A shape may close the time, and so tell how long keys have to be kept.
    if is_dated(&with) != is_dated(&without) {
        return true;
    }
    let mut dice = Dice::of(scene);
    // The vector first: no shape is missed there.
    let vector = with.sign(&Call::of(&scene.request), Style::default(), &mut dice, None);
    let vector = vector.map(|request| {
        let came = run(&with.recipe, &request, scene.now_ms);
        (request, came)
    });
    let mut vector = vector.filter(|(_, came)| came.resolved.is_some());
    (0..ROUNDS).any(|_| {
        let drawn = vector.take().or_else(|| with.accepted(&mut dice));
        let Some((request, came)) = drawn else { return false };
        let other = run(&without.recipe, &request, scene.now_ms);
        let proven = |came: &super::super::Came| {
            let one = came.resolved.as_ref()?;
            Some(one.authenticated().len() + one.covered().len())
        };
        let held = came.outcome == Outcome::Ambiguous && other.outcome != Outcome::Ambiguous;
        held || proven(&came) > proven(&other)
    })
}

/// Whether callbacks are dated where the source has a window.
fn is_dated(scene: &Scene) -> bool {
    let mut terms = scene.terms.clone();
    terms.max_age = Some(MaxAge::Within(Duration::from_secs(3600)));
    let scene = scene.under(&scene.sender, terms).filter(|scene| scene.recipe.time.is_some());
    scene.is_some_and(|scene| scene.recipe.is_dated())
}

/// The file without the line of that shape.
fn without(text: &str, shape: &str) -> Option<String> {
    let start = text.find("\n[shapes]\n")? + 1;
    let end = text[start + 1..].find("\n[").map_or(text.len(), |at| start + 1 + at);
    let is_it = |line: &&str| {
        let key = line.split('=').next().unwrap_or_default().trim().trim_matches('"');
        key == shape && line.contains('=')
    };
    let kept: Vec<&str> = text[start..end].lines().filter(|line| !is_it(line)).collect();
    // Names that come together have shapes.
    let kept =
        kept.into_iter().filter(|line| !(line.starts_with("together") && line.contains(shape)));
    let kept: Vec<&str> = kept.collect();
    Some(format!("{}{}{}", &text[..start], kept.join("\n"), &text[end..]))
}
