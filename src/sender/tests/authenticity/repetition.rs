//! A provider's own repetition is a duplicate, answered as the first was: in another order, spelled
//! otherwise, signed again at another time and under another secret, sealed again.

use super::super::run;
use super::call::{Call, In, Style};
use super::model::{Fate, Gateway, written};
use super::recut::report;
use super::world::{Dice, Scene, scenes, secret};
use crate::sender::acts::prove::shown;
use crate::sender::language::bound::{self, Input};
use crate::sender::language::recipe::MaxAge;
use crate::sender::language::vector::OwnedRequest;
use crate::sender::request::callback::Judgement;
use crate::sender::{Outcome, Signing};

const ROUNDS: usize = 10;

#[test]
fn a_repetition_is_a_duplicate_with_the_first_answer() {
    let (mut wrong, mut repeated) = (Vec::new(), 0);
    for scene in scenes() {
        let Some(scene) = lasting(&scene) else { continue };
        // The tests seal with AES-256-CBC.
        if scene.name == "wechat-pay" {
            continue;
        }
        let mut dice = Dice::of(&scene);
        let Some(message) = message(&scene) else {
            wrong.push(format!("{}: not opened", scene.name));
            continue;
        };
        for _ in 0..ROUNDS {
            let Some(first) = signed(&scene, &message, Style::default(), &mut dice, 0) else {
                wrong.push(format!(
                    "{}: not signed: {}",
                    scene.name,
                    written(&message.request(Style::default(), &mut dice).unwrap())
                ));
                break;
            };
            let mut gateway = Gateway::new(&scene);
            let Fate::Event(id) = gateway.take(&first) else {
                wrong.push(format!("{}: no event: {}", scene.name, written(&first)));
                break;
            };
            let mut again = message.clone();
            let mut style = Style::default();
            let mut later = 0;
            for _ in 0..=dice.below(3) {
                repeat(&scene, &mut again, &mut style, &mut later, &mut dice);
            }
            let Some(second) = signed(&scene, &again, style, &mut dice, later) else { continue };
            let came = run(&scene.recipe, &second, scene.now_ms);
            let fate = gateway.record(&came);
            repeated += 1;
            if fate != Fate::Duplicate(id) {
                let texts = (written(&first), written(&second));
                wrong.push(format!(
                    "{}: {fate:?} {:?}\n  {}\n  {}",
                    scene.name, came.rejection, texts.0, texts.1
                ));
            } else if answer(&scene, &first, Outcome::Accepted)
                != answer(&scene, &second, Outcome::Duplicate)
            {
                wrong.push(format!("{}: another answer: {}", scene.name, written(&second)));
            }
        }
    }
    report(wrong);
    assert!(repeated > 500, "{repeated}");
}

/// The scene with a second secret, where the first is not part of a setting, and no limit of age.
fn lasting(scene: &Scene) -> Option<Scene> {
    let mut terms = scene.terms.clone();
    let is_plain = terms.secrets.iter().all(|one| !one.value.expose().starts_with(b"whsec_"));
    if terms.secrets.len() == 1 && is_plain && scene.name != "huawei" {
        terms.secrets.push(secret("second", "another-SECRET-0123456789abcdefg"));
    }
    if scene.recipe.time.as_ref().is_some_and(|time| time.within.is_some()) {
        terms.max_age = Some(MaxAge::Within(std::time::Duration::from_secs(3600)));
    }
    scene.under(&scene.sender, terms)
}

/// The callback, or the message that is sealed in it, unsigned.
pub(super) fn message(scene: &Scene) -> Option<Call> {
    let mut request = scene.request.clone();
    if scene.recipe.open.is_some() {
        let mut callback = scene.recipe.read(scene.request.borrow(), scene.now_ms);
        if !matches!(callback.verify(), Judgement::Verified(_)) {
            return None;
        }
        if let Some(opened) = &callback.opened {
            request.body = opened.message.clone();
            let slot = scene.recipe.open.as_ref().and_then(|opener| opener.slot);
            let name = slot.map(|slot| scene.recipe.names.name(slot).to_vec());
            let mut call = Call::of(&OwnedRequest { body: Vec::new(), ..request.clone() });
            name.iter().for_each(|name| call.remove(name));
            let mut envelope = call.request(Style::default(), &mut Dice::new(1))?;
            envelope.body = request.body;
            if envelope.method == http::Method::GET {
                envelope.method = http::Method::POST;
            }
            request = envelope;
        }
    }
    let mut call = Call::of(&request);
    call.fields.retain(|field| !scene.is_signature_field(field));
    Some(call)
}

/// Signs as the provider does: some seconds later, under one of the secrets, sealed at random.
pub(super) fn signed(
    scene: &Scene,
    call: &Call,
    style: Style,
    dice: &mut Dice,
    later: i64,
) -> Option<OwnedRequest> {
    let mut call = call.clone();
    let time = scene.recipe.time.iter().flat_map(|time| time.r#in.spots());
    if later > 0 && scene.recipe.time.as_ref().is_some_and(|time| time.within.is_some()) {
        for spot in time {
            match &spot.input {
                Input::Parameter { slot, .. } => call.remove(scene.recipe.names.name(*slot)),
                Input::Header(name) => call.remove(name.as_str().as_bytes()),
                _ => {}
            }
        }
        call.fields.retain(|field| !field.name.to_ascii_lowercase().ends_with(b"nonce"));
    }
    let request = call.request(style, dice)?;
    let salt = std::array::from_fn(|_| u8::try_from(dice.below(256)).unwrap());
    let signing = Signing {
        secret: Some(dice.below(scene.terms.secrets.len())),
        salt,
        ..Signing::at(scene.now_ms + later * 1000)
    };
    scene.recipe.sign(&request, &signing).ok()
}

/// Changes what a provider may change when it sends the same again.
fn repeat(scene: &Scene, call: &mut Call, style: &mut Style, later: &mut i64, dice: &mut Dice) {
    match dice.below(4) {
        0 if !scene_is_ordered(scene) && !by_bytes(scene) => {
            for at in (1..call.fields.len()).rev() {
                call.fields.swap(at, dice.below(at + 1));
            }
        }
        1 => {
            let drawn = match by_bytes(scene) {
                true => Style::default(),
                false => Style::drawn(dice),
            };
            // A plus sign is a space only if the variant that matches says so.
            let plus = drawn.plus
                && scene
                    .recipe
                    .variants
                    .iter()
                    .all(|one| one.plus == crate::sender::request::encoding::Plus::Space);
            *style = Style { plus, ..drawn };
        }
        2 => *later += 1 + i64::try_from(dice.below(60)).unwrap(),
        _ => {
            for name in &scene.recipe.identity.volatile {
                if let Some(at) = call.position(name.as_bytes()) {
                    let is_text = matches!(call.fields[at].place, In::Json | In::Query | In::Xml);
                    call.fields[at].value = if is_text { b"other".to_vec() } else { b"7".to_vec() };
                }
            }
        }
    }
}

/// Whether the file says that the bytes of the body tell one event from another.
fn by_bytes(scene: &Scene) -> bool {
    let texts = scene.recipe.roles.texts.get(crate::sender::Role::Transaction);
    let mut spots = texts.into_iter().flatten().flat_map(|text| text.of.spots());
    spots.any(|spot| matches!(spot.input, Input::Gateway(bound::Gateway::BodySha256)))
}

/// Whether the provider writes its names in one order.
fn scene_is_ordered(scene: &Scene) -> bool {
    scene.name == "admob"
}

/// The answer, where it says nothing that is new each time.
fn answer(scene: &Scene, request: &OwnedRequest, outcome: Outcome) -> Option<String> {
    if scene.recipe.countersign.is_some() || scene.recipe.open.is_some() {
        return None;
    }
    let mut callback = scene.recipe.read(request.borrow(), scene.now_ms);
    assert!(matches!(callback.verify(), Judgement::Verified(_)));
    if callback.has_own_answer(Outcome::Duplicate) {
        return None;
    }
    Some(shown(&callback.draft_reply(outcome, None, &|| [7; 16])))
}
