//! Erasure of a user's data.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::ledger::Erased;
use crate::manage::http::{Answered, ApiError, json, read_json};
use crate::operator::{View, erase_user};
use crate::registry::Actor;

/// The data to erase.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    user: String,
    source: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    events: u64,
    deliveries: u64,
    held: u64,
}

impl Admin {
    pub(super) async fn erase(&self, view: &View, body: &Bytes, who: &Actor) -> Answered {
        let order: Order = read_json(body)?;
        if order.user.is_empty() {
            return Err(ApiError::bad("user: is empty; name the user as events do"));
        }
        match &order.source {
            None if view.is_bound() => {
                return Err(ApiError::bad("source: is missing; that token erases in one source"));
            }
            Some(name) if !view.sees_named(name) => {
                return Err(ApiError::absent(format!("there is no source {name:?}")));
            }
            Some(_) | None => {}
        }
        let erased = erase_user(&self.registry, who, &order.user, order.source.as_deref()).await?;
        let Erased { events, deliveries, held } = erased;
        Ok(json(&Shown { events, deliveries, held }))
    }
}
