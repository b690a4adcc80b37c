//! A sender bound to one source, compiled once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Callback, Fault, Request, Secret, Sender};

/// What a source says to its sender: the keys of a `[[source]]` that the sender reads.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Its secrets; any that is still valid may match. At most [`Terms::SECRETS_MAX`].
    pub secrets: Vec<LiveSecret>,
    /// The sender's own settings: `aes_key`, `app_id`, …
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
}

impl Terms {
    /// Live secrets a source may have: with four readings that bounds the digests of one callback.
    pub const SECRETS_MAX: usize = 4;
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

/// A sender bound to one source, compiled once: texts, secrets with their keyed states, replies.
#[derive(Debug)]
pub struct Recipe {
    pub(super) sender: Arc<Sender>,
}

impl Recipe {
    /// Compiles `sender` under the `terms` of one source.
    ///
    /// # Errors
    /// Every mistake in `terms`, at once.
    pub fn compile(sender: &Arc<Sender>, terms: &Terms) -> Result<Self, Vec<Fault>> {
        let _ = (sender, terms);
        todo!()
    }

    /// The sender.
    #[must_use]
    pub fn sender(&self) -> &Arc<Sender> {
        &self.sender
    }

    /// The ids of its secrets, in the order of [`super::Resolved::secret`].
    pub fn secret_ids(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// Reads a request that came at `now_ms` (Unix time in milliseconds). It cannot fail: what is
    /// wrong with the request is said by [`Callback::verify`], and it can be answered all the same.
    #[must_use]
    pub fn read<'a>(&'a self, request: Request<'a>, now_ms: i64) -> Callback<'a> {
        let _ = (request, now_ms);
        todo!()
    }
}
