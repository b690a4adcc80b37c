//! The public halves of the gateway's signing keys, for backends that verify without a secret.

use serde::Serialize;

use super::Admin;
use crate::config::SigningKey;
use crate::manage::http::{Answered, json};

#[derive(Serialize)]
struct Page {
    public_keys: Vec<String>,
}

impl Admin {
    pub(super) fn signing_key(&self) -> Answered {
        let config = self.config();
        let public_keys = config.egress.signing_keys.iter().map(SigningKey::public_text).collect();
        Ok(json(&Page { public_keys }))
    }
}
