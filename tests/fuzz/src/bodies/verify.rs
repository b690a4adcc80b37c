//! Any request to a source of any sender: nothing panics, nothing that is not signed verifies, and
//! no reply holds a secret.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::support::{NOW_MS, Parts, replies};
use postern::sender::{Catalog, Judgement, LiveSecret, Recipe, Secret, Sender, Terms, Weak};

/// Texts that one sender or another takes as a secret or a setting: plain, Standard Webhooks' form,
/// base64 of 32 bytes with and without padding, 32 characters, 32 bytes in hex, public keys, a URL.
const VALUES: [&str; 9] = [
    "q8Zr3vTn1XbW6kLs0fHd5mJy",
    "whsec_cThacjN2VG4xWGJXNmtMczBmSGQ1bUp5",
    "cThacjN2VG4xWGJXNmtMczBmSGQ1bUp5UDJhQzRlRzY=",
    "cThacjN2VG4xWGJXNmtMczBmSGQ1bUp5UDJhQzRlRzY",
    "q8Zr3vTn1XbW6kLs0fHd5mJyP2aC4eG6",
    "71385a723376546e31586257366b4c7330664864356d4a795032614334654736",
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAES+LLMNGaNIZUZmTKHwIAqUByEGIdw2R+rmL+69G3x0m9L9PFAoS2xyeD4ghMuEVwQySdkfZyJetFTJus3W4nnA==",
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAo2D0a7f/1FAPjpmTI64sDs1UTs4VSEXefHRDxHuFrXKeKrjHcQmjIRr7VL1GSEakK1GLbA4QCAIZmm542wZWnf4B0sHPS1MYGI2qYp4c9pf4319+3ZMaqzJUeysWtr8/K/cJ6buMGyP8DYb2S6buCirAw3bMxTaBv8ydq6gjNU5D8QeX9v3crMyi/ugJR6YcLKhRWHLbHWg1NZoklo2qHRlO424yR1wwAfuptSnC2QfgkTRR3N39ZHuB0nf0N4+qy/sujEcWK5JDorN9CbcdIdD4pfs9bbqTL6l1b1RerzxN3VAxMeACAR6RS3XSUNPi47/XMAwfOsZDpuNYplIK4wIDAQAB",
    "https://keys.example.com/set",
];

/// The number of secret ones: keys of others and URLs are not.
const SECRETS: usize = 6;

static RECIPES: LazyLock<Vec<Recipe>> = LazyLock::new(|| {
    let catalog = Catalog::embedded().expect("the embedded senders are right");
    // Under a sender that signs nothing every callback verifies.
    let signed =
        catalog.iter().filter(|sender| sender.secret().is_some() || !sender.may_be_unsigned());
    let recipes: Vec<Recipe> = signed.flat_map(recipes).collect();
    assert!(!recipes.is_empty(), "without senders nothing is tested");
    recipes
});

/// The recipes of `sender`, with and without its settings, under the first values that it takes.
fn recipes(sender: &Arc<Sender>) -> Vec<Recipe> {
    let with = |settings: bool| {
        VALUES.iter().find_map(|secret| {
            VALUES.iter().find_map(|value| {
                let settings = sender.settings().iter().filter(|_| settings);
                let terms = Terms {
                    secrets: sender.secret().map(|_| live(secret)).into_iter().collect(),
                    settings: settings
                        .map(|(name, _)| (name.clone(), Secret::new(*value)))
                        .collect::<BTreeMap<_, _>>(),
                    weak: Weak::Accepted,
                    ..Terms::default()
                };
                Recipe::compile(sender, &terms).ok()
            })
        })
    };
    let found: Vec<Recipe> = [with(false), with(true)].into_iter().flatten().collect();
    assert!(!found.is_empty(), "{} takes none of the values: add one", sender.name());
    found
}

fn live(value: &str) -> LiveSecret {
    LiveSecret { id: "fuzz".to_owned(), value: Secret::new(value), until_ms: None }
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let Some(parts) = Parts::parse(data) else { return };
    if VALUES.iter().any(|value| contains(data, value)) {
        return; // a caller that knows the secret may sign
    }
    for recipe in &*RECIPES {
        let mut callback = recipe.read(parts.request(), NOW_MS);
        let forged = matches!(callback.verify(), Judgement::Verified(_));
        assert!(!forged, "{} took a callback that is not signed", recipe.sender().name());
        for (outcome, body) in replies(recipe, &parts) {
            let told = VALUES[..SECRETS].iter().any(|value| contains(&body, value));
            assert!(!told, "{}: the reply for {outcome} holds a secret", recipe.sender().name());
        }
    }
}
