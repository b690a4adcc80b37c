//! Additions of reward rules to the running configuration: each is a source,
//! `/callback/reward/<id>`, under its own key, with its URL as the destination.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SENDER;
use super::document::{REWARD_RULE, Rule, RuleStatus};
use crate::config::{
    Destination, Format, Keep, Origin, Reach, Shown, Source, Superseded, of_destination,
};
use crate::registry::merge::{Compiled, Merged, known, plain};
use crate::registry::{IgnoredWhy, StoredDocument};
use crate::sender::{LiveSecret, Recipe, Secret, Terms};

/// The name of a rule's source and destination.
#[must_use]
pub fn rule_name(id: u64) -> String {
    format!("reward/{id}")
}

/// Adds the source and the destination of each rule.
pub(crate) fn add(
    merged: &mut Merged,
    rules: &BTreeMap<u64, StoredDocument<Rule>>,
    compiled: &Compiled,
) {
    let macros = macros(merged);
    for (id, kept) in rules {
        let name = rule_name(*id);
        let made = match known(compiled, &name, kept.version) {
            Some(source) => Ok(source),
            None => source(merged, &name, &kept.value).map(Arc::new),
        };
        match made {
            Ok(source) => {
                let destination =
                    destination(merged, &name, &kept.value.reward_url, Arc::clone(&macros));
                merged.compiled.insert(name.clone(), (kept.version, Arc::clone(&source)));
                merged.config.sources.insert(name.clone(), source);
                merged.config.destinations.insert(name, Arc::new(destination));
            }
            Err(why) => {
                merged.ignore(REWARD_RULE, &id.to_string(), IgnoredWhy::Other(why));
            }
        }
    }
}

/// The macros of the sender, which rules may have in their URLs.
fn macros(merged: &Merged) -> Arc<[String]> {
    let sender = merged.config.catalog.get(SENDER);
    sender.map(|sender| sender.macros().map(str::to_owned).collect()).unwrap_or_default()
}

fn destination(merged: &Merged, name: &str, url: &str, macros: Arc<[String]>) -> Destination {
    let egress = &merged.config.egress;
    Destination {
        origin: Origin::RewardRule,
        reach: Reach::Public(egress.allow.clone()),
        format: Format::Macros,
        macros,
        signing_keys: of_destination(&egress.signing_keys, name, Format::Macros),
        ..plain(name, url)
    }
}

fn source(merged: &Merged, name: &str, rule: &Rule) -> Result<Source, String> {
    let sender = merged.config.catalog.get(SENDER);
    let sender = sender.ok_or_else(|| format!("there is no sender {SENDER}"))?;
    let value = Secret::new(rule.reward_sec_key.as_bytes());
    let secret = LiveSecret { id: String::from("1"), value, until_ms: None };
    let terms = Terms { source: name.to_owned(), secrets: vec![secret], ..Terms::default() };
    let recipe = Recipe::compile(sender, &terms)
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
        client_ca: None,
        rate: None,
        body_bytes: merged.config.server.limits.body_bytes,
        quarantine: None,
        routes: Vec::new(),
        keep: Keep::default(),
        superseded: Superseded::Never,
    })
}
