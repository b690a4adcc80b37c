//! Every accepted vector is such that the provider can send it, unless it says why not.

use super::super::run;
use super::call::Call;
use super::recut::report;
use super::world::{Facts, scenes};

/// Vectors with values that the provider does not send, by sender and what they are about, each with
/// a reason.
const KNOWN: &[(&str, &str, &str)] = &[
    (
        "standard-webhooks",
        "own; under the names that Svix gives them",
        "its shapes are about the names of the standard, and this one has none of those",
    ),
    ("oppo", "own key; nothing attached", "its made-up notifyId has a hyphen"),
    (
        "alipay",
        "own; the payer's return does not take the place of the notification",
        "a return lacks names that every notification has",
    ),
    ("imur-http", "a plus sign that is one", LOGIN),
    ("imur-http", "msdk, info not signed, and a plus sign that is one", LOGIN),
];

const LOGIN: &str =
    "a made-up login: it lacks one of three values that come together (unconfirmed)";

#[test]
fn every_accepted_vector_has_values_that_fit() {
    let mut wrong = Vec::new();
    let mut excused: Vec<&str> = Vec::new();
    for scene in scenes() {
        let call = Call::of(&scene.request);
        let came = run(&scene.recipe, &scene.request, scene.now_ms);
        let misfits = came.resolved.map(|one| one.misfits().to_vec()).unwrap_or_default();
        if scene.fits(&call, Facts::All) {
            // The time has a shape that the file need not write down.
            let time = scene.recipe.time.iter().flat_map(|time| time.r#in.spots());
            let times: Vec<&str> = time.map(|spot| &*spot.name).collect();
            if misfits.iter().any(|name| !times.contains(&name.as_str())) {
                wrong.push(format!("{}, {}: only misfits: {misfits:?}", scene.name, scene.about));
            }
        } else if let Some((_, about, _)) =
            KNOWN.iter().find(|(name, about, _)| *name == scene.name && *about == scene.about)
        {
            excused.push(about);
        } else {
            wrong.push(format!("{}, {}: {misfits:?}", scene.name, scene.about));
        }
    }
    report(wrong);
    for (name, about, why) in KNOWN {
        assert!(excused.contains(about), "{name}, {about}: need not be excused ({why})");
    }
}
