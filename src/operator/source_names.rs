//! Names of sources and their ids: people use the names, the ledger knows the ids.

use crate::config::Config;
use crate::ledger::SourceId;

/// The present name of the source `id`; the id itself of one that is not configured any more.
#[must_use]
pub fn source_name<'c>(config: &'c Config, id: &'c SourceId) -> &'c str {
    let named = config.sources.values().find(|source| source.id == id.as_str());
    named.map_or(id.as_str(), |source| source.name.as_str())
}

/// The id of the source called `name`. A name that no source has is taken as an id: that of a source
/// which is not configured any more.
#[must_use]
pub fn source_id(config: &Config, name: &str) -> SourceId {
    SourceId::from(config.sources.get(name).map_or(name, |source| source.id.as_str()))
}
