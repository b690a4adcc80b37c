//! Every accepted vector is such that the provider can send it, unless it says why not.

use super::super::run;
use super::call::Call;
use super::recut::report;
use super::world::{Facts, scenes};

/// Vectors with a value that the provider does not send, each with a reason.
const KNOWN: &[(&str, &str)] = &[
    ("standard-webhooks", "one vector writes the headers as Svix names them"),
    ("oppo", "what is not attached comes as an empty text"),
    ("imur-http", "a login with one of three values that come together"),
];

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
        } else if let Some((name, _)) = KNOWN.iter().find(|(name, _)| *name == scene.name) {
            excused.push(name);
        } else {
            wrong.push(format!("{}, {}: {misfits:?}", scene.name, scene.about));
        }
    }
    report(wrong);
    for (name, why) in KNOWN {
        assert!(excused.contains(name), "{name} is fine: it need not be excused ({why})");
    }
}
