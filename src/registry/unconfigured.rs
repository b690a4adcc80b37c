//! Deliveries to destinations that the configuration does not have, mostly after one was renamed or
//! removed: they wait until it has the name again.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Registry;
use crate::config::Config;
use crate::ledger::{Stats, TargetStats};

/// Names with a warning of their own: more of them have one cause, and would fill the log.
const NAMED_MAX: usize = 20;

impl Registry {
    /// Warns of each such destination.
    pub(crate) fn warn_of_unconfigured(&self) {
        self.warn_of(|_| true);
    }

    /// Warns of those among them that `before` had: a change over an API has removed them.
    pub(super) fn warn_of_removed(&self, before: &Config) {
        let config = self.config();
        let names = before.destinations.keys();
        let is_removed = |name: &&String| !config.destinations.contains_key(*name);
        let removed: BTreeSet<String> = names.filter(is_removed).cloned().collect();
        if !removed.is_empty() {
            self.warn_of(move |target| removed.contains(target.target.as_str()));
        }
    }

    /// Warns of those that `is_meant` selects. The deliveries are counted in the background: on
    /// PostgreSQL that may take seconds, and nothing depends on it.
    fn warn_of(&self, is_meant: impl Fn(&TargetStats) -> bool + Send + 'static) {
        let (ledger, config) = (self.ledger().clone(), self.config());
        tokio::spawn(async move {
            match ledger.stats().await {
                Ok(stats) => {
                    let mut gone = unconfigured(&config, &stats);
                    gone.retain(|target| is_meant(target));
                    warn_of_each(&gone);
                }
                Err(error) => tracing::warn!(
                    %error,
                    "could not look for deliveries to destinations that are not configured"
                ),
            }
        });
    }
}

/// The destinations of stored deliveries that the configuration does not have, those with the most
/// deliveries first.
pub(crate) fn unconfigured<'s>(config: &Config, stats: &'s Stats) -> Vec<&'s TargetStats> {
    let is_gone = |target: &&TargetStats| !config.destinations.contains_key(target.target.as_str());
    let mut gone: Vec<&TargetStats> = stats.targets.iter().filter(is_gone).collect();
    gone.sort_by_key(|target| Reverse(target.pending.saturating_add(target.dead)));
    gone
}

fn warn_of_each(gone: &[&TargetStats]) {
    for target in gone.iter().take(NAMED_MAX) {
        tracing::warn!(
            destination = target.target.as_str(),
            pending = target.pending,
            dead = target.dead,
            "there are deliveries to a destination that is not configured, and none is sent; \
             configure the name again until they are delivered"
        );
    }
    let others = gone.len().saturating_sub(NAMED_MAX);
    if others > 0 {
        tracing::warn!(
            others,
            "there are deliveries to further destinations that are not configured"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Machine};
    use crate::ledger::TargetId;

    #[test]
    fn destinations_that_the_configuration_lacks_are_found_the_most_deliveries_first() {
        let file = "[[destination]]\nname = \"game\"\nformat = \"forward\"\nurl = \"http://h/\"\n";
        let config = config::load_str(&Machine, Path::new("postern.toml"), file).unwrap().config;
        let target = |name: &str, pending, dead| TargetStats {
            target: TargetId::from(name),
            pending,
            dead,
            oldest_due: None,
        };
        let targets = vec![target("few", 1, 0), target("game", 9, 9), target("ren", 0, 8)];
        let stats = Stats { targets, ..Stats::default() };
        let found = unconfigured(&config, &stats);
        let names: Vec<&str> = found.iter().map(|target| target.target.as_str()).collect();
        assert_eq!(names, ["ren", "few"]);
    }
}
