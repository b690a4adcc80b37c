//! Verifies one callback with the library: no server, no store, no network.
//!
//! ```sh
//! cargo run --example verify -- '/callback/shop?user=u1&order=o1&coins=10&sign=…'
//! ```
//!
//! Without an argument it takes the callback of the first vector in `examples/shop.toml`.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example prints, and has no clock module"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::SystemTime;

use postern::sender::{
    Catalog, Judgement, LiveSecret, Outcome, OwnedRequest, Recipe, Resolution, Role, Secret, Terms,
};

/// The sender file.
const SHOP: &str = include_str!("shop.toml");
/// The shared secret of `examples/postern.toml`.
const KEY: &str = "example-key";

fn main() -> Result<(), Box<dyn Error>> {
    let recipe = shop()?;
    let target = std::env::args().nth(1).map_or_else(vector, Ok)?;
    let request =
        OwnedRequest::parse(&format!("GET {target}")).map_err(|error| error.to_string())?;
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();

    let mut callback = recipe.read(request.borrow(), i64::try_from(now_ms)?);
    let (outcome, reason) = match callback.verify() {
        Judgement::Verified(mut verified) => match verified.resolve("evt_example") {
            Resolution::Event(event) => {
                let role = |role| event.role(role).unwrap_or("none");
                let (transaction, user) = (role(Role::Transaction), role(Role::User));
                println!(
                    "verified: transaction {transaction}, user {user}, amount {}",
                    role(Role::Amount)
                );
                println!("the signature covers {:?}", event.authenticated());
                (Outcome::Accepted, None)
            }
            other => return Err(format!("not an event: {other:?}").into()),
        },
        Judgement::Rejected(rejection) => {
            println!("rejected: {:?}", rejection.reason);
            (Outcome::Rejected, Some(rejection.reason))
        }
        other => return Err(format!("not a callback of the shop: {other:?}").into()),
    };
    // A gateway persists the event first. The random bytes are for replies that are sealed; the shop's are not.
    println!("reply: {:?}", callback.draft_reply(outcome, reason, &|| [0; 16]));
    Ok(())
}

/// The sender of `examples/shop.toml`, compiled for one source.
fn shop() -> Result<Recipe, Box<dyn Error>> {
    let mut catalog = Catalog::embedded().map_err(|errors| format!("{errors:?}"))?;
    catalog.add("shop", SHOP).map_err(|errors| format!("{errors:?}"))?;
    let sender = catalog.get("shop").ok_or("the catalog has no shop")?;
    let secret = LiveSecret { id: "1".to_owned(), value: Secret::new(KEY), until_ms: None };
    let terms = Terms { source: "shop".to_owned(), secrets: vec![secret], ..Terms::default() };
    Ok(Recipe::compile(sender, &terms).map_err(|errors| format!("{errors:?}"))?)
}

/// The target of the first vector.
fn vector() -> Result<String, Box<dyn Error>> {
    let file: BTreeMap<String, toml::Value> = toml::from_str(SHOP)?;
    let request = file["vector"][0]["request"].as_str().ok_or("the vector has no request")?;
    Ok(request.trim_start_matches("GET ").to_owned())
}
