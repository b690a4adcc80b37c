//! The configuration file and the documents, put together: what the gateway runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::documents::{Address, Documents, Push, Rule, RuleStatus, StoredDocument};
use super::push::{self, OutOfReach};
use crate::config::{
    self, Config, Destination, Format, Mode, Origin, Reach, Retry, Routing, Shown, Source,
    Superseded, TemplateMethod, limits,
};
use crate::ledger::Revision;
use crate::sender::{LiveSecret, Recipe, Secret, Terms};

/// The sender whose rules the reward-rule API keeps.
const OF_RULES: &str = "taku";
/// The sender whose callbacks go to callback addresses.
const OF_ADDRESSES: &str = "renaren";
/// The sender whose callbacks a push configuration routes.
const OF_PUSHES: &str = "wechat-push";

/// Sources that were compiled from a document, by name, with its version.
pub(super) type Compiled = BTreeMap<String, (Revision, Arc<Source>)>;

/// What came of it.
pub(super) struct Merged {
    pub config: Config,
    pub compiled: Compiled,
    /// What is left out, and why: a name that the file takes, or what no longer passes a check.
    pub problems: Vec<String>,
    /// Push configurations that name what is not theirs.
    pub out_of_reach: Vec<OutOfReach>,
}

/// Puts `file` and `documents` together. Where both have a name, the file's stays. `compiled` is
/// what was made under the same file before.
pub(super) fn merge(file: &Config, documents: &Documents, compiled: &Compiled) -> Merged {
    let mut merged = Merged {
        config: file.clone(),
        compiled: Compiled::new(),
        problems: Vec::new(),
        out_of_reach: Vec::new(),
    };
    for (name, kept) in &documents.destinations {
        merged.add_destination(name, config::check_destination(file, name, &kept.value));
    }
    for (name, kept) in &documents.addresses {
        merged.add_address(name, &kept.value);
    }
    for (id, kept) in &documents.rules {
        merged.add_rule(*id, kept, compiled);
    }
    for (name, kept) in &documents.sources {
        let made = match known(compiled, name, kept.version) {
            Some(source) => Ok(source),
            None => config::check_source(&merged.config, name, &kept.value).map(Arc::new),
        };
        merged.add_source(name, kept.version, made);
    }
    merged.route_messages(&documents.pushes);
    merged.route_addresses(&documents.addresses);
    merged
}

/// The name of a rule's source and destination.
#[must_use]
pub fn rule_name(id: u64) -> String {
    format!("reward/{id}")
}

/// The name of the destination of an address.
pub(super) fn address_name(key: &str) -> String {
    format!("address/{key}")
}

fn known(compiled: &Compiled, name: &str, version: Revision) -> Option<Arc<Source>> {
    let (of, source) = compiled.get(name)?;
    (*of == version).then(|| Arc::clone(source))
}

fn told(findings: &[config::ConfigIssue]) -> String {
    let told = |finding: &config::ConfigIssue| format!("{} {}", finding.key, finding.what);
    findings.iter().map(told).collect::<Vec<_>>().join(", ")
}

// === What is made of a document ===

impl Merged {
    fn add_destination(&mut self, name: &str, made: Result<Destination, Vec<config::ConfigIssue>>) {
        if self.config.destinations.contains_key(name) {
            self.problems
                .push(format!("the destination {name} is in the file and was made over an API"));
            return;
        }
        match made {
            Ok(made) => drop(self.config.destinations.insert(name.to_owned(), Arc::new(made))),
            Err(faults) => {
                self.problems.push(format!("the destination {name}: {}", told(&faults)));
            }
        }
    }

    fn add_source(
        &mut self,
        name: &str,
        version: Revision,
        made: Result<Arc<Source>, Vec<config::ConfigIssue>>,
    ) {
        if self.config.sources.contains_key(name) {
            self.problems
                .push(format!("the source {name} is in the file and was made over an API"));
            return;
        }
        let source = match made {
            Ok(source) => source,
            Err(faults) => {
                self.problems.push(format!("the source {name}: {}", told(&faults)));
                return;
            }
        };
        if let Some(other) = self.config.sources.values().find(|other| other.id == source.id) {
            self.problems.push(format!("the source {name} has the id of {}", other.name));
            return;
        }
        self.compiled.insert(name.to_owned(), (version, Arc::clone(&source)));
        self.config.sources.insert(name.to_owned(), source);
    }

    fn add_rule(&mut self, id: u64, kept: &StoredDocument<Rule>, compiled: &Compiled) {
        let name = rule_name(id);
        let allow = &self.config.egress.allow;
        let destination = Destination {
            origin: Origin::RewardRule,
            reach: Reach::Public(allow.clone()),
            format: Format::Macros,
            macros: self.macros(),
            signing_keys: self.config.egress.signing_keys.clone(),
            ..plain(&name, &kept.value.reward_url)
        };
        let made = match known(compiled, &name, kept.version) {
            Some(source) => Ok(source),
            None => self.rule_source(&name, &kept.value).map(Arc::new),
        };
        match made {
            Ok(source) => {
                self.compiled.insert(name.clone(), (kept.version, Arc::clone(&source)));
                self.config.sources.insert(name.clone(), source);
                self.config.destinations.insert(name, Arc::new(destination));
            }
            Err(why) => self.problems.push(format!("the reward rule {id}: {why}")),
        }
    }

    /// The macros of the sender whose rules there are.
    fn macros(&self) -> Arc<[String]> {
        let sender = self.config.catalog.get(OF_RULES);
        sender.map(|sender| sender.macros().map(str::to_owned).collect()).unwrap_or_default()
    }

    fn rule_source(&self, name: &str, rule: &Rule) -> Result<Source, String> {
        let sender = self.config.catalog.get(OF_RULES);
        let sender = sender.ok_or_else(|| format!("there is no sender {OF_RULES}"))?;
        let value = Secret::new(rule.reward_sec_key.as_bytes());
        let secret = LiveSecret { id: String::from("1"), value, until_ms: None };
        let terms = Terms { source: name.to_owned(), secrets: vec![secret], ..Terms::default() };
        let recipe = Recipe::compile(sender, &terms);
        let recipe = recipe
            .map_err(|faults| faults.first().map_or_else(String::new, ToString::to_string))?;
        Ok(Source {
            origin: Origin::RewardRule,
            shown: Shown::default(),
            app_id: None,
            name: name.to_owned(),
            id: name.to_owned(),
            enabled: rule.status == RuleStatus::Running,
            recipe,
            destinations: vec![name.to_owned()],
            allow: Vec::new(),
            rate: None,
            body_bytes: self.config.server.limits.body_bytes,
            quarantine: None,
            superseded: Superseded::Never,
        })
    }

    fn add_address(&mut self, key: &str, address: &Address) {
        let Some(url) = &address.notify_url else { return };
        let destination = Destination {
            origin: Origin::CallbackAddress,
            reach: Reach::Public(self.config.egress.allow.clone()),
            format: Format::Forward,
            signing_keys: self.config.egress.signing_keys.clone(),
            ..plain(&address_name(key), url)
        };
        self.config.destinations.insert(destination.name.clone(), Arc::new(destination));
    }
}

/// A destination with nothing but a URL.
fn plain(name: &str, url: &str) -> Destination {
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
        push: config::PushGrant::default(),
    }
}

// === Where an event goes ===

impl Merged {
    fn sources_of(&self, sender: &str) -> Vec<Arc<Source>> {
        let all = self.config.sources.values();
        all.filter(|source| source.recipe.sender().name() == sender).cloned().collect()
    }

    fn route_addresses(&mut self, addresses: &BTreeMap<String, StoredDocument<Address>>) {
        let set = addresses.iter().filter(|(_, kept)| kept.value.notify_url.is_some());
        let all: BTreeMap<String, String> =
            set.map(|(key, _)| (key.clone(), address_name(key))).collect();
        if all.is_empty() {
            return;
        }
        for source in self.sources_of(OF_ADDRESSES) {
            let mut reached = all.clone();
            if let Some(companies) = self.companies(&source) {
                let of = |key: &str| key.split('/').next().and_then(|company| company.parse().ok());
                reached.retain(|key, _| of(key).is_some_and(|of| companies.contains(&of)));
            }
            let routing = Routing::ByAddress(Arc::new(reached));
            self.config.routing.insert(source.name.clone(), routing);
        }
    }

    /// The companies that a source may speak of: those of the managers whose keys it knows. One
    /// that knows no manager's key has a secret of its own, and speaks of all.
    fn companies(&self, source: &Source) -> Option<Vec<u64>> {
        let api = self.config.manage.callback_address.as_ref()?;
        let known = api.managers.iter().filter(|manager| source.recipe.knows(&manager.key));
        let companies: Vec<&Vec<u64>> = known.map(|manager| &manager.companies).collect();
        (!companies.is_empty()).then(|| companies.into_iter().flatten().copied().collect())
    }

    fn route_messages(&mut self, pushes: &BTreeMap<String, StoredDocument<Push>>) {
        for (app, kept) in pushes {
            let routed = push::route(&self.config.destinations, app, &kept.value);
            self.out_of_reach.extend(routed.out_of_reach);
            let made = routed.destinations.into_iter();
            self.config.destinations.extend(made.map(|one| (one.name.clone(), Arc::new(one))));
            let routes = Arc::new(routed.routes);
            for source in self.sources_of(OF_PUSHES) {
                if source.app_id.as_deref() == Some(app) {
                    let routing = Routing::ByMessage(Arc::clone(&routes));
                    self.config.routing.insert(source.name.clone(), routing);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Machine, Table, load_str};

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
            ("lost", source("nobody", "lost")),
            ("twin", source("game", "file")),
        ]);
        let names: Vec<&String> = made.config.sources.keys().collect();
        assert_eq!(names, ["api", "file"]);
        assert_eq!(made.config.sources["file"].origin, Origin::File);
        for (problem, word) in made.problems.iter().zip(["file", "nobody", "id of file"]) {
            assert!(problem.contains(word), "{problem}");
        }
        assert_eq!(made.problems.len(), 3);
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
