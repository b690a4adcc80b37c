//! The public halves of the gateway's signing keys, for backends that verify without a secret.

use http::request::Parts;
use serde::Serialize;

use super::{Admin, query};
use crate::config::SigningKey;
use crate::manage::http::{Answered, ApiError, Query, json};

pub(super) const PARAMETERS: [&str; 1] = ["destination"];

#[derive(Serialize)]
struct Page {
    public_keys: Vec<String>,
}

impl Admin {
    /// The keys of one destination, which verify its deliveries; without one, those of the gateway,
    /// from which the others are made.
    pub(super) fn signing_key(&self, head: &Parts) -> Answered {
        let query = Query::read(query(head), &PARAMETERS)?;
        let config = self.config();
        let keys = match query.text("destination") {
            None => &config.egress.signing_keys,
            Some(name) => match config.destinations.get(name) {
                Some(destination) => &destination.signing_keys,
                None => return Err(ApiError::absent(format!("there is no destination {name:?}"))),
            },
        };
        Ok(json(&Page { public_keys: keys.iter().map(SigningKey::public_text).collect() }))
    }
}
