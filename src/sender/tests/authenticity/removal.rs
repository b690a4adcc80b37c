//! Each shape of a file is needed: without it, less is called authentic or less is held.

use std::sync::Arc;

use super::super::run;
use super::recut::report;
use super::world::{Dice, Scene, scenes};
use crate::sender::{Outcome, Sender};

/// Shapes that change nothing in the callbacks drawn here, each with a reason.
const KNOWN: &[(&str, &str, &str)] = &[
    ("wechat-ad", "nonce", SET),
    ("wecom", "nonce", SET),
    ("wecom", "Encrypt", SET),
    ("wecom", "encrypt", SET),
    ("wechat-pay", "header.Wechatpay-Nonce", PASTED),
    ("paypal", "header.PAYPAL-TRANSMISSION-ID", PASTED),
    ("pollfish", "cpa", PASTED),
    ("pollfish", "tx_id", PASTED),
    ("admost", "created_at", PASTED),
    ("dingtalk", "nonce", SET),
    ("dingtalk", "encrypt", SET),
    ("applovin", "cc", PASTED),
    ("applovin", "amount", PASTED),
    ("applovin", "ad_unit_id", PASTED),
    ("standard-webhooks", "header.webhook-id", "shows where a body holds a time between dots"),
    ("pubscale", "value", "the integer in the text has a form of its own"),
    ("admob", "ad_network", ASCENDING),
    ("admob", "timestamp", ASCENDING),
    ("admob", "reward_item", ASCENDING),
    ("taku", "trans_id", "shows where a value holds all that follows it"),
    ("taku", "placement_id", "shows where a value holds all that follows it"),
];

const SET: &str =
    "a set is closed by the size of its parts: the shape says what the provider sends";
const PASTED: &str = "shows where nothing but shaped values is pasted";
const ASCENDING: &str = "names that are always there stand on both sides";

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
            let excused = KNOWN
                .iter()
                .any(|(sender, known, why)| *sender == name && known == shape && !why.is_empty());
            if !excused && !own.iter().any(|scene| shows(scene, shape)) {
                wrong.push(format!("{name}: the shape of `{shape}` changes nothing"));
            }
        }
    }
    report(wrong);
}

/// Whether some callback is judged otherwise without the shape, if every shape is confirmed.
fn shows(scene: &Scene, shape: &str) -> bool {
    let mut terms = scene.terms.clone();
    terms.confirmed = scene.shapes.keys().cloned().collect();
    let Some(with) = scene.under(&scene.sender, terms.clone()) else { return false };
    let Some(without) = without(scene.sender.text(), shape) else { return true };
    // A file that cannot be read without the shape needs it.
    let Ok(sender) = Sender::parse(&scene.name, &without) else { return true };
    terms.confirmed.retain(|name| name != shape);
    let Some(without) = scene.under(&Arc::new(sender), terms) else { return true };
    let mut dice = Dice::of(scene);
    (0..ROUNDS).any(|_| {
        let Some((request, came)) = with.accepted(&mut dice) else { return false };
        let other = run(&without.recipe, &request, scene.now_ms);
        let proven = |came: &super::super::Came| {
            let one = came.resolved.as_ref()?;
            Some(one.authenticated().len() + one.covered().len())
        };
        let held = came.outcome == Outcome::Ambiguous && other.outcome != Outcome::Ambiguous;
        held || proven(&came) > proven(&other)
    })
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
