//! Senders: how a platform calls, signs, identifies a transaction and expects its replies.
//!
//! A sender is one TOML file under `src/sender/catalog/` (see [`Catalog`]). A [`Sender`] is that
//! file, checked. A [`Recipe`] is a sender bound to one source: its secrets, names, settings and
//! replies, compiled once. A [`Callback`] is one request read by a recipe.
//!
//! This module is pure: bytes in, values out. It imports nothing of ours, reads no clock, does no
//! I/O and is never async, so it can be fuzzed, property-tested and benchmarked alone.
//!
//! | folder | |
//! |---|---|
//! | `language` | sender files: grammar, checks, coverage, compilation into a recipe |
//! | `request` | reading of one request: parameters, JSON, XML, encodings, the callback |
//! | `crypto` | digests, public keys, key sets, ciphers, secrets |
//! | `acts` | verify, resolve, reply, sign, explain, contract |
//!
//! # The life of a callback here
//!
//! ```text
//! Recipe::read(Request) ─▶ Callback::verify ─▶ Verified::resolve ─▶ Resolved
//!                             └──────────────▶ Callback::reply ◀──────┘
//! ```

mod acts;
mod crypto;
mod language;
mod request;

pub use acts::contract::{Cell, Contract, Part, index};
pub use acts::explain::{
    Advice, Around, Beside, ChangedValue, Changes, DIGESTS_MAX, Deadline, Ends, Evidence, Expected,
    Explanation, Mistake, MistakeKind, Other, Shown, Verification, evidence, explain,
    explain_under,
};
pub use acts::identity::{OlderKeys, RepeatingSignature};
pub use acts::json_object::{JsonObject, put_json_text};
pub use acts::outcome::{Outcome, Reason};
pub use acts::params_form::{ParamTexts, ParamsFormError, ShownParams, StoredParams};
pub use acts::prove::prove;
pub use acts::reply::{Answer, ReplyDraft};
pub use acts::resolve::ResolvedTemplate;
pub use acts::resolved::{
    AmountUnit, Effect, Fact, IdentityProof, KeyForm, KeyLookup, KeyRole, Resolved, Role,
};
pub use acts::rounds::try_out;
pub use acts::sign::{Composing, Field, Signing};
pub use acts::without_secrets::without_secrets;
pub use crypto::fetched_certificate::{CertificateError, FetchedCertificate};
pub use crypto::jws::TokenError;
pub use crypto::key_set::{
    KEY_ID_MAX, KEYS_MAX, KeyList, KeyRequest, KeySet, KeySetError, UrlOrigin,
};
pub use crypto::secret::Secret;
pub use language::catalog::Catalog;
pub use language::definition::{
    Basis, Precedence, Sender, SenderEffects, SenderRetries, SenderRouting,
};
pub use language::definition_error::DefinitionError;
pub use language::event_condition::{EventCondition, Operand};
pub use language::nearest::nearest;
pub use language::recipe::{
    Confirming, LiveSecret, MaxAge, Recipe, Replay, Terms, UnusableValue, Weak,
};
pub use language::url::{
    Bracket, MEMBERS as EVENT_MEMBERS, MacroUrl, PathSegmentError, Placeholder, SURVEY_VALUES,
    UrlTemplate, Written,
};
pub use language::vector::OwnedRequest;
pub use request::Request;
pub use request::callback::{
    Callback, CallbackError, Granted, Judgement, ReplyKind, Resolution, Verified,
};
pub use request::encoding::path_segment;
pub use request::recorded::{MessageWriting, PlainMessage, RecordedMessage, recorded_value};

#[cfg(test)]
mod tests;
