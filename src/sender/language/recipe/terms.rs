//! What a source says to its sender: secrets, settings, names, limits, replies.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sender::crypto::secret::Secret;

/// What a source says to its sender: the keys of a `[[source]]` that the sender reads.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The source's name, for `[source]` in its template.
    pub source: String,
    /// Its secrets; any that is still valid may match. At most [`Terms::SECRETS_MAX`].
    pub secrets: Vec<LiveSecret>,
    /// Public keys by id, as written, that are known without being fetched: vectors have some.
    pub keys: BTreeMap<String, String>,
    /// The sender's own settings: `aes_key`, `app_id`, …; and [`Terms::KEY_SET_URL`].
    pub settings: BTreeMap<String, Secret>,
    /// Renamed parameters: role or name of the file to the name on the wire.
    pub params: BTreeMap<String, String>,
    /// Custom parameters, `type=1&who={user_id}`.
    pub template: Option<String>,
    /// The age allowed, in place of the sender's own.
    pub max_age: Option<MaxAge>,
    /// Parameters or claims that must be there.
    pub require: Vec<String>,
    /// The source says `unsigned = true`: callbacks are taken without a signature.
    pub unsigned: bool,
    /// Replies in place of the sender's own, by outcome or reason, as written.
    pub reply: toml::Table,
    /// Item to amount: another amount is refused.
    pub rewards: BTreeMap<String, String>,
    /// The source says `replayable = true`.
    pub replayable: Replay,
    /// Names of the file whose unconfirmed shape the source has seen to be right.
    pub confirmed: Vec<String>,
}

impl Terms {
    /// Live secrets a source may have: with four readings that bounds the digests of one callback.
    pub const SECRETS_MAX: usize = 4;

    /// The setting of every sender that publishes public keys: where they are, in place of its own
    /// URL.
    pub const KEY_SET_URL: &str = "key_set_url";
}

/// Whether a source accepts what its sender's signatures do not tell apart from a replay attack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    /// It does not.
    #[default]
    Refused,
    /// It does: something else protects it, or nothing of worth comes.
    Accepted,
}

/// A secret with the name that the metrics show and the date it ends.
#[derive(Clone, Debug)]
pub struct LiveSecret {
    /// Its name in metrics and events; never its value.
    pub id: String,
    /// The secret.
    pub value: Secret,
    /// From this Unix time in milliseconds on it is no longer accepted.
    pub until_ms: Option<i64>,
}

/// How old a callback may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAge {
    /// Its age is not checked.
    Off,
    /// At most that far in the past or in the future.
    Within(Duration),
}
