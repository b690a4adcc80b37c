//! Any request to a source of any sender: nothing panics, nothing that is not signed verifies, and
//! no reply holds a secret.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::support::{NOW_MS, Parts, replies};
use postern::sender::{Catalog, Judgement, LiveSecret, Recipe, Secret, Sender, Terms};

/// Texts that one sender or another takes as a secret or a setting: plain, Standard Webhooks' form,
/// base64 of 32 bytes with and without padding, a URL.
const VALUES: [&str; 5] = [
    "q8Zr3vTn1XbW6kLs0fHd5mJy",
    "whsec_cThacjN2VG4xWGJXNmtMczBmSGQ1bUp5",
    "cThacjN2VG4xWGJXNmtMczBmSGQ1bUp5UDJhQzRlRzY=",
    "cThacjN2VG4xWGJXNmtMczBmSGQ1bUp5UDJhQzRlRzY",
    "https://keys.example.com/set",
];

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
            let told = VALUES[..4].iter().any(|value| contains(&body, value));
            assert!(!told, "{}: the reply for {outcome} holds a secret", recipe.sender().name());
        }
    }
}
