//! Senders: how a platform calls, signs, identifies a transaction and wants to be answered.
//!
//! A sender is one TOML file under `src/sender/catalog/` (see [`Catalog`]). A [`Sender`] is that
//! file, checked. A [`Recipe`] is a sender bound to one source: its secrets, names, settings and
//! replies, compiled once. A [`Callback`] is one request read by a recipe.
//!
//! This module is pure: bytes in, values out. It imports nothing of ours, reads no clock, does no
//! I/O and is never async, so it can be fuzzed, property-tested and benchmarked alone.
//!
//! # The life of a callback here
//!
//! ```text
//! Recipe::read(Request) ─▶ Callback::verify ─▶ Verified::resolve ─▶ Resolved
//!                             └──────────────▶ Callback::reply ◀──────┘
//! ```

mod bound;
mod callback;
mod catalog;
mod cipher;
mod condition;
mod content;
mod contract;
mod coverage;
mod definition;
mod definition_error;
mod digest;
mod encoding;
mod evaluate;
mod explain;
mod file;
mod identity;
mod json;
mod json_object;
mod key_set;
mod marks;
mod modifier;
mod names;
mod outcome;
mod parameters;
mod prove;
mod public_key;
mod reads;
mod recipe;
mod recut;
mod reply;
mod request;
mod resolve;
mod resolved;
mod secret;
mod shape;
mod sign;
mod signature;
mod text;
mod time;
mod unreplaced;
mod url;
mod value_shape;
mod vector;
mod xml;

pub use callback::{Callback, CallbackError, Judgement, Resolution, Verified};
pub use catalog::Catalog;
pub use contract::{Cell, Contract, Part, index};
pub use definition::{Basis, Sender, SenderRetries};
pub use definition_error::DefinitionError;
pub use explain::{
    DIGESTS_MAX, Explanation, Mistake, MistakeKind, Other, Shown, Verdict, explain, explain_under,
};
pub use identity::{OlderKeys, RepeatingSignature};
pub use json_object::{JsonObject, put_json_text};
pub use key_set::{KEY_ID_MAX, KEYS_MAX, KeyList, KeyRequest, KeySet, KeySetError, UrlOrigin};
pub use outcome::{Outcome, Reason};
pub use prove::prove;
pub use recipe::{LiveSecret, MaxAge, Recipe, Replay, Terms};
pub use reply::{Answer, Reply};
pub use request::Request;
pub use resolved::{AmountUnit, Effect, Fact, KeyForm, KeyLookup, KeyRole, Resolved, Role};
pub use secret::Secret;
pub use sign::{Composing, Field, Signing};
pub use url::{Bracket, DotSegment, MacroUrl, Placeholder, UrlTemplate, Written};
pub use vector::OwnedRequest;

#[cfg(test)]
mod tests;
