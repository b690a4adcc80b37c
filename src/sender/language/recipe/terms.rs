//! The terms of one source: secrets, settings, names, limits, replies.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sender::crypto::secret::Secret;

/// The terms of one source: the keys of a `[[source]]` that its sender reads.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The source's name, for `[source]` in its template.
    pub source: String,
    /// The secrets; any that is still valid may match. At most [`Terms::SECRETS_MAX`].
    pub secrets: Vec<LiveSecret>,
    /// Public keys by id, as written, that are known without being fetched: vectors have some.
    pub keys: BTreeMap<String, String>,
    /// The sender's settings: `aes_key`, `app_id`, …; and [`Terms::KEY_SET_URL`].
    pub settings: BTreeMap<String, Secret>,
    /// Renamed parameters: role or name of the file to the name on the wire.
    pub params: BTreeMap<String, String>,
    /// Custom parameters, `type=1&who={user_id}`.
    pub template: Option<String>,
    /// The age allowed, in place of the sender's own.
    pub max_age: Option<MaxAge>,
    /// Required parameters.
    pub require: Vec<String>,
    /// The source says `unsigned = true`: callbacks are accepted without a signature.
    pub unsigned: bool,
    /// Replies in place of the sender's own, by outcome or reason, as written.
    pub reply: toml::Table,
    /// Item to amount: another amount is rejected.
    pub rewards: BTreeMap<String, String>,
    /// The source says `replayable = true`.
    pub replayable: Replay,
    /// The source says `weak = true`.
    pub weak: Weak,
    /// The source says `confirm = true`.
    pub confirm: Confirming,
    /// Names of the file whose unconfirmed shape the source confirms.
    pub confirmed: Vec<String>,
}

impl Terms {
    /// Live secrets of a source. With four signature variants, this bounds the digests of one
    /// callback.
    pub const SECRETS_MAX: usize = 4;

    /// The setting of every sender that publishes public keys: the URL to fetch them from. Of
    /// certificates and confirmations, a mirror of the sender's hosts.
    pub const KEY_SET_URL: &str = "key_set_url";
}

/// Whether a source accepts callbacks that its sender's signatures cannot distinguish from a replay
/// attack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    /// Rejected.
    #[default]
    Rejected,
    /// Accepted: something else protects the source, or its callbacks are worth nothing.
    Accepted,
}

/// Whether a source accepts signatures that are weak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weak {
    /// Rejected: the source is not configured completely.
    #[default]
    Rejected,
    /// Accepted: its sender has nothing better.
    Accepted,
}

/// Whether the gateway confirms subscriptions by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirming {
    /// An operator does: the event of the request has the URL.
    #[default]
    ByOperator,
    /// The gateway does, once the request verified.
    ByGateway,
}

/// A secret with its id in metrics and its end.
#[derive(Clone, Debug)]
pub struct LiveSecret {
    /// Its name in metrics and events; never its value.
    pub id: String,
    /// The secret.
    pub value: Secret,
    /// From this Unix time in milliseconds on it is no longer accepted.
    pub until_ms: Option<i64>,
}

/// The allowed age of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAge {
    /// Not checked.
    Off,
    /// The largest distance in the past or in the future.
    Within(Duration),
}
