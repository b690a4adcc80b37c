//! The configuration file and the documents, merged: what the gateway runs. Each management API adds
//! what it made in its own folder of `partners`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::documents::{DESTINATION, Documents, SOURCE};
use super::ignored::{IgnoredObject, IgnoredWhy};
use crate::config::{
    self, Config, Destination, Format, Mode, Origin, Reach, Retry, Shown, Source, TemplateMethod,
    limits,
};
use crate::ledger::{Kind, Revision};
use crate::partners::callback_addresses::plan as callback_addresses;
use crate::partners::push_configuration::grant::PushGrant;
use crate::partners::push_configuration::plan::{self as push_configuration, OutOfReach};
use crate::partners::reward_rules::plan as reward_rules;
use crate::plan::RoutingTable;
use crate::sender::Sender;

/// Sources that were compiled from a document, by name, with its version.
pub(crate) type Compiled = BTreeMap<String, (Revision, Arc<Source>)>;

/// A configuration in the making.
pub(crate) struct Merged {
    pub config: Config,
    pub routing: RoutingTable,
    pub compiled: Compiled,
    /// The documents that are ignored.
    pub ignored: Vec<IgnoredObject>,
    /// The push configurations that name destinations of others.
    pub out_of_reach: Vec<OutOfReach>,
}

/// Merges `file` and `documents`. If both have a name, the file's object is kept. `compiled` was
/// made under the same file before.
pub(super) fn merge(file: &Config, documents: &Documents, compiled: &Compiled) -> Merged {
    let mut merged = Merged {
        config: file.clone(),
        routing: RoutingTable::new(),
        compiled: Compiled::new(),
        ignored: Vec::new(),
        out_of_reach: Vec::new(),
    };
    for (name, kept) in &documents.destinations {
        merged.add_destination(name, config::check_destination(file, name, &kept.value));
    }
    callback_addresses::add(&mut merged, &documents.addresses);
    reward_rules::add(&mut merged, &documents.rules, compiled);
    for (name, kept) in &documents.sources {
        let made = match known(compiled, name, kept.version) {
            Some(source) => Ok(source),
            None => config::check_source(&merged.config, name, &kept.value).map(Arc::new),
        };
        merged.add_source(name, kept.version, made);
    }
    push_configuration::add(&mut merged, &documents.pushes);
    callback_addresses::route(&mut merged, &documents.addresses);
    merged
}

/// The source called `name` that was compiled from the same version of its document.
pub(crate) fn known(compiled: &Compiled, name: &str, version: Revision) -> Option<Arc<Source>> {
    let (of, source) = compiled.get(name)?;
    (*of == version).then(|| Arc::clone(source))
}

impl Merged {
    fn add_destination(&mut self, name: &str, made: Result<Destination, Vec<config::ConfigIssue>>) {
        if self.config.destinations.contains_key(name) {
            self.ignore(DESTINATION, name, IgnoredWhy::InFile);
            return;
        }
        match made {
            Ok(made) => drop(self.config.destinations.insert(name.to_owned(), Arc::new(made))),
            Err(issues) => self.ignore(DESTINATION, name, IgnoredWhy::Invalid(issues)),
        }
    }

    fn add_source(
        &mut self,
        name: &str,
        version: Revision,
        made: Result<Arc<Source>, Vec<config::ConfigIssue>>,
    ) {
        if self.config.sources.contains_key(name) {
            self.ignore(SOURCE, name, IgnoredWhy::InFile);
            return;
        }
        let source = match made {
            Ok(source) => source,
            Err(issues) => {
                self.ignore(SOURCE, name, IgnoredWhy::Invalid(issues));
                return;
            }
        };
        if let Some(other) = self.config.sources.values().find(|other| other.id == source.id) {
            let why = IgnoredWhy::SameId(other.name.clone());
            self.ignore(SOURCE, name, why);
            return;
        }
        self.compiled.insert(name.to_owned(), (version, Arc::clone(&source)));
        self.config.sources.insert(name.to_owned(), source);
    }

    /// Leaves a document out.
    pub(crate) fn ignore(&mut self, kind: Kind, name: &str, why: IgnoredWhy) {
        self.ignored.push(IgnoredObject { kind, name: name.to_owned(), why });
    }

    /// The sources whose sender meets `wanted`.
    pub(crate) fn sources_of(&self, wanted: impl Fn(&Sender) -> bool) -> Vec<Arc<Source>> {
        let all = self.config.sources.values();
        all.filter(|source| wanted(source.recipe.sender())).cloned().collect()
    }
}

/// A destination of an API, with a URL and defaults.
pub(crate) fn plain(name: &str, url: &str) -> Destination {
    Destination {
        origin: Origin::Admin,
        shown: Shown::default(),
        reach: Reach::Public(Vec::new()),
        name: name.to_owned(),
        url: url.to_owned(),
        format: Format::Event,
        method: TemplateMethod::Get,
        macros: Arc::default(),
        secrets: Vec::new(),
        signing_keys: Vec::new(),
        headers: Vec::new(),
        retry: Retry {
            first: limits::RETRY_FIRST,
            max: limits::RETRY_MAX,
            attempts: limits::RETRY_ATTEMPTS,
        },
        timeout: limits::DELIVERY_TIMEOUT,
        concurrency: limits::DELIVERY_CONCURRENCY,
        rate: None,
        mode: Mode::Async,
        ca: None,
        identity: None,
        push: PushGrant::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Machine, Table, load_str};
    use crate::registry::StoredDocument;

    const FILE: &str = r#"
[[source]]
name = "file"
sender = "taku"
secrets = "s"
destinations = "game"
[[destination]]
name = "game"
url = "http://127.0.0.1:1/"
"#;

    fn kept<T>(value: T) -> StoredDocument<T> {
        StoredDocument {
            value: Arc::new(value),
            version: Revision(1),
            at_ms: 0,
            who: String::new(),
        }
    }

    fn source(destination: &str, id: &str) -> StoredDocument<Table> {
        let table = serde_json::json!({
            "sender": "taku", "secrets": "s", "destinations": [destination], "id": id,
        });
        kept(table.as_object().unwrap().clone())
    }

    fn merged(sources: &[(&str, StoredDocument<Table>)]) -> Merged {
        let file = load_str(&Machine, Path::new("postern.toml"), FILE).unwrap().config;
        let sources = sources.iter().map(|(name, kept)| ((*name).to_owned(), kept.clone()));
        let documents = Documents { sources: sources.collect(), ..Documents::default() };
        merge(&file, &documents, &Compiled::new())
    }

    #[test]
    fn what_clashes_with_the_file_is_left_out_and_named() {
        let made = merged(&[
            ("api", source("game", "api")),
            ("file", source("game", "other")),
            ("lost", source("absent", "lost")),
            ("twin", source("game", "file")),
        ]);
        let names: Vec<&String> = made.config.sources.keys().collect();
        assert_eq!(names, ["api", "file"]);
        assert_eq!(made.config.sources["file"].origin, Origin::File);
        let ignored: Vec<String> = made.ignored.iter().map(ToString::to_string).collect();
        assert_eq!(
            ignored,
            [
                "the source file is in the file and was made over an API",
                "the source lost: destinations[0]: there is no destination \"absent\"",
                "the source twin has the id of file",
            ]
        );
    }

    #[test]
    fn what_is_known_is_not_made_again() {
        let first = merged(&[("api", source("game", "api"))]);
        let file = load_str(&Machine, Path::new("postern.toml"), FILE).unwrap().config;
        let sources = BTreeMap::from([(String::from("api"), source("game", "api"))]);
        let documents = Documents { sources, ..Documents::default() };
        let again = merge(&file, &documents, &first.compiled);
        let (one, other) = (&first.config.sources["api"], &again.config.sources["api"]);
        assert!(Arc::ptr_eq(one, other));
    }
}
