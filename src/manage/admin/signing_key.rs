//! The public halves of the gateway's signing keys, for backends that verify without a secret.

use http::request::Parts;
use serde::Serialize;

use super::{Admin, query};
use crate::config::SigningKey;
use crate::manage::http::{Answered, ApiError, Query, json};
use crate::operator::{AccessError, View};

pub(super) const PARAMETERS: [&str; 1] = ["destination"];

#[derive(Serialize)]
struct Page {
    public_keys: Vec<String>,
}

impl Admin {
    /// The keys of one destination, which verify its deliveries; without one, those of the gateway,
    /// from which the others are made. Destinations are for those who see all sources.
    pub(super) fn signing_key(&self, view: &View, head: &Parts) -> Answered {
        let query = Query::read(query(head), &PARAMETERS)?;
        let config = self.config();
        let keys = match query.text("destination") {
            None => &config.egress.signing_keys,
            Some(_) if view.is_bound() => return Err(AccessError::OnlyItsSources.into()),
            Some(name) => match config.destinations.get(name) {
                Some(destination) => &destination.signing_keys,
                None => return Err(ApiError::absent(format!("there is no destination {name:?}"))),
            },
        };
        Ok(json(&Page { public_keys: keys.iter().map(SigningKey::public_text).collect() }))
    }
}
