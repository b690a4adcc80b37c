//! Why a callback to a source verifies or does not, with everything else to tell it apart from.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::pasted::Misdirected;
use crate::config::{Config, Source};
use crate::sender::{
    Around, Evidence, Explanation, KeySet, Other, Recipe, Request, Sender, evidence, explain_under,
};

/// The public keys of a source's sender, where it has some.
pub(crate) type KeysOf<'k> = dyn Fn(&Recipe) -> Option<Arc<KeySet>> + 'k;

/// Why a callback verifies or does not, and whether it reaches its source at all.
#[derive(Debug, Serialize)]
pub(crate) struct Explained {
    /// The explanation, for a callback at the source's own path.
    #[serde(flatten)]
    pub(crate) explanation: Explanation,
    /// The reason why it does not reach that source; in JSON a sentence or `null`.
    #[serde(rename = "note", serialize_with = "sentence")]
    pub(crate) misdirected: Option<Misdirected>,
}

fn sentence<S: Serializer>(of: &Option<Misdirected>, serializer: S) -> Result<S::Ok, S::Error> {
    of.as_ref().map(Misdirected::english).serialize(serializer)
}

/// Explains a request to `source`, with the other sources of `config` and the other senders of its
/// catalog to tell apart from. As at the gateway, scheme and host are those of
/// `server.public_url`; what the request says of them is one more address to try.
pub(crate) fn explained(
    config: &Config,
    source: &Source,
    request: &Request<'_>,
    at_ms: i64,
    keys: &KeysOf<'_>,
) -> Explained {
    let explanation = with_others(config, source, request, keys, |request, own, around| {
        explain_under(&source.recipe, own, request, at_ms, around)
    });
    Explained { explanation, misdirected: Misdirected::of(config, source, request.target) }
}

/// The evidence about a request to `source`, as [`explained`] reads it. `accepted` are the
/// parameters of an accepted event of the same transaction.
pub(crate) fn evidence_of(
    config: &Config,
    source: &Source,
    (request, at_ms): (&Request<'_>, i64),
    keys: &KeysOf<'_>,
    accepted: &[(String, String)],
) -> Evidence {
    with_others(config, source, request, keys, |request, own, around| {
        evidence((&source.recipe, own), (request, at_ms), around, accepted)
    })
}

/// The result of `read` for the request as the gateway sees it, with the callbacks to tell it apart
/// from.
fn with_others<R>(
    config: &Config,
    source: &Source,
    request: &Request<'_>,
    keys: &KeysOf<'_>,
    read: impl FnOnce(&Request<'_>, Option<&KeySet>, Around<'_>) -> R,
) -> R {
    let known = |sender: &Arc<Sender>| {
        config.sources.values().any(|other| other.recipe.sender().name() == sender.name())
    };
    let unused = config.catalog.iter().filter(|sender| !known(sender));
    let catalog: Vec<_> = unused.filter_map(|sender| source.recipe.under(sender)).collect();
    let configured = config.sources.values().filter(|other| other.name != source.name);
    let configured: Vec<_> = configured.map(|other| (other, keys(&other.recipe))).collect();
    let others: Vec<Other<'_>> = configured
        .iter()
        .map(|(other, keys)| Other {
            source: &other.name,
            recipe: &other.recipe,
            keys: keys.as_deref(),
        })
        .chain(catalog.iter().map(|recipe| Other {
            source: recipe.sender().name(),
            recipe,
            keys: None,
        }))
        .collect();
    let own = keys(&source.recipe);
    let seen = request.base;
    let base = config.server.public_url.as_deref().unwrap_or(seen);
    let request = Request { base, ..*request };
    let bases = if seen.is_empty() { &[][..] } else { &[seen][..] };
    read(&request, own.as_deref(), Around { others: &others, bases })
}
