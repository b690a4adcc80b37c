//! How far the archive has come: a document for each group of sources, and what retention may
//! delete.
//!
//! 1. Before a window of time is archived, its end is written (`next_ms`): after a crash the same
//!    window is archived again, under the same names.
//! 2. When all its files are durable, its end becomes `until_ms`.
//! 3. Retention deletes events of before `until_ms` only, for a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::{UnixMillis, between, millis};
use crate::config::Config;
use crate::ledger::{
    ARCHIVE, BatchedLedger, DocumentChange, EarlyExpiry, Expect, LedgerError, Retention, Revision,
};

/// The group of all sources that keep their events as long as the store. No source has this id.
const USUAL: &str = "*";

/// How long retention waits for an archive that cannot be written: a long holiday. Then it deletes
/// events all the same, because a full disk would stop the gateway.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Sources whose events are archived together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The id of its document: that of its one source, or [`USUAL`].
    id: String,
    /// How long its events are kept.
    pub keep: Duration,
}

/// How far the archive of a group has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Everything received before this is archived.
    pub until_ms: UnixMillis,
    /// The end of the window that is being archived.
    pub next_ms: Option<UnixMillis>,
    /// The gateway that wrote it, and when.
    pub who: String,
    pub at_ms: UnixMillis,
    version: Revision,
}

/// A mark as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    until_ms: UnixMillis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_ms: Option<UnixMillis>,
}

/// The marks of all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(BTreeMap<String, Mark>);

impl Group {
    fn usual(keep: Duration) -> Self {
        Self { id: USUAL.to_owned(), keep }
    }

    /// Its one source; `None`: all that are in no other group.
    pub(super) fn source(&self) -> Option<&str> {
        Some(self.id.as_str()).filter(|id| *id != USUAL)
    }
}

impl Marks {
    /// Reads them.
    pub(super) async fn read(ledger: &BatchedLedger) -> Result<Self, LedgerError> {
        let documents = ledger.documents(ARCHIVE).await?.documents;
        let marks = documents.into_iter().map(|document| {
            let Stored { until_ms, next_ms } = serde_json::from_slice(&document.body)
                .map_err(|_| LedgerError::Corrupt("the mark of an archive".into()))?;
            let (who, at_ms, version) = (document.who, document.at_ms, document.version);
            Ok((document.id, Mark { until_ms, next_ms, who, at_ms, version }))
        });
        marks.collect::<Result<_, LedgerError>>().map(Self)
    }

    /// Writes the mark of a group, if it is still as it was read, and reads it.
    pub(super) async fn write(
        &mut self,
        ledger: &BatchedLedger,
        group: &Group,
        mark: Mark,
    ) -> Result<(), LedgerError> {
        let stored = Stored { until_ms: mark.until_ms, next_ms: mark.next_ms };
        let body = serde_json::to_vec(&stored).map_err(|_| LedgerError::Unknown)?;
        let known = self.0.get(&group.id);
        let version = ledger
            .change(&DocumentChange {
                kind: ARCHIVE,
                id: group.id.clone(),
                expect: known.map_or(Expect::Absent, |known| Expect::Version(known.version)),
                body: Some(Bytes::from(body)),
                who: mark.who.clone(),
                at_ms: mark.at_ms,
            })
            .await?;
        self.0.insert(group.id.clone(), Mark { version, ..mark });
        Ok(())
    }

    /// The mark of a group, if it has one.
    pub(super) fn of(&self, group: &Group) -> Option<&Mark> {
        self.0.get(&group.id)
    }

    /// Everything of a group that was received before this is archived. A source that had no group
    /// of its own was archived with the others.
    pub(super) fn until(&self, group: &Group) -> UnixMillis {
        let mark = self.0.get(&group.id).or_else(|| self.0.get(USUAL));
        mark.map_or(0, |mark| mark.until_ms)
    }

    /// The groups: one for each source that keeps its events for a shorter time than the store, and
    /// one for all others. A source that lost its own time keeps its group until the others have
    /// come as far.
    pub(super) fn groups(&self, config: &Config) -> Vec<Group> {
        let keep = config.store.keep_events;
        let usual = Group::usual(keep);
        let early = config.sources.values().filter_map(|source| {
            let own = source.keep.events.filter(|own| *own < keep)?;
            Some(Group { id: source.id.clone(), keep: own })
        });
        let mut groups: Vec<Group> = early.collect();
        let known: BTreeSet<String> = groups.iter().map(|group| group.id.clone()).collect();
        let reached = self.until(&usual);
        let behind = |(id, mark): &(&String, &Mark)| {
            *id != USUAL && !known.contains(*id) && mark.until_ms < reached
        };
        let others = self.0.iter().filter(behind);
        groups.extend(others.map(|(id, _)| Group { id: id.clone(), keep }));
        groups.push(usual);
        groups
    }

    /// Whether an event of `source`, received at `ms`, is archived with `group`, one of `groups`.
    pub(super) fn belongs(
        &self,
        group: &Group,
        groups: &[Group],
        source: &str,
        ms: UnixMillis,
    ) -> bool {
        match group.source() {
            Some(own) => own == source,
            None => {
                let has_own = groups.iter().any(|other| other.id == source);
                let archived = self.0.get(source).map_or(UnixMillis::MIN, |mark| mark.until_ms);
                !has_own && ms >= archived
            }
        }
    }

    /// Keeps retention from events that are not archived yet. `margin`: the clock that retention
    /// goes by may be that much ahead.
    pub(super) fn hold_back(
        &self,
        config: &Config,
        margin: Duration,
        policy: &mut Retention,
        early: &mut [EarlyExpiry],
    ) {
        let groups = self.groups(config);
        let now_ms = policy.now_ms;
        let bounded = |keep: Duration, until_ms: UnixMillis| {
            let wanted = between(until_ms, now_ms).saturating_add(margin);
            keep.max(wanted).min(keep.saturating_add(WAIT_MAX))
        };
        // Retention of the store goes over all events, whatever their group.
        let least = groups.iter().map(|group| self.until(group)).min().unwrap_or(0);
        policy.keep_events = bounded(policy.keep_events, least);
        for one in early {
            let group = groups.iter().find(|group| group.id == one.source.as_str());
            let until_ms = group.map_or(least, |group| self.until(group));
            one.keep = bounded(one.keep, until_ms);
        }
    }

    /// For how long events have waited for the archive, of the group that waits longest.
    pub(super) fn overdue(&self, config: &Config, now_ms: UnixMillis) -> Duration {
        let late = |group: &Group| {
            let mark = self.0.get(&group.id).or_else(|| self.0.get(USUAL))?;
            // Before the first window is archived, its end says since when.
            let since = if mark.until_ms == 0 { mark.next_ms? } else { mark.until_ms };
            Some(between(since, now_ms.saturating_sub(millis(group.keep))))
        };
        self.groups(config).iter().filter_map(late).max().unwrap_or(Duration::ZERO)
    }
}

impl Mark {
    /// A mark to be written by `who` at `at_ms`.
    pub(super) fn new(
        until_ms: UnixMillis,
        next_ms: Option<UnixMillis>,
        who: &str,
        at_ms: UnixMillis,
    ) -> Self {
        Self { until_ms, next_ms, who: who.to_owned(), at_ms, version: Revision(0) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Machine, load_str};
    use crate::ledger::{HeldRetention, SourceId};

    const DAY_MS: i64 = 86_400_000;
    const DAY: Duration = Duration::from_secs(86_400);

    /// Sources that keep their events for 10 days, but for `quick`, which keeps them for 2.
    fn config(early: &str) -> Config {
        let sources = ["quick", "slow"].map(|name| {
            let own = if name == early { "keep_events = \"2d\"\n" } else { "" };
            format!("[[source]]\nname = \"{name}\"\nsender = \"taku\"\nsecrets = \"{name}\"\n{own}")
        });
        let text = format!("[store]\nkeep_events = \"10d\"\n{}", sources.concat());
        load_str(&Machine, Path::new("postern.toml"), &text).unwrap().config
    }

    fn marks(of: &[(&str, i64)]) -> Marks {
        let mark =
            |(id, days): &(&str, i64)| ((*id).to_owned(), Mark::new(days * DAY_MS, None, "g", 0));
        Marks(of.iter().map(mark).collect())
    }

    fn ids(groups: &[Group]) -> Vec<&str> {
        groups.iter().map(|group| group.id.as_str()).collect()
    }

    /// Where the policies of retention end, in days: of the store, and of `quick`.
    fn kept(marks: &Marks, config: &Config, day: i64) -> (i64, i64) {
        let (now_ms, held) = (day * DAY_MS, HeldRetention::default());
        let mut policy = Retention { now_ms, keep_events: 10 * DAY, keep_keys: Vec::new(), held };
        let source = SourceId::from("quick");
        let mut early = [EarlyExpiry { source, keep: 2 * DAY, now_ms }];
        marks.hold_back(config, Duration::ZERO, &mut policy, &mut early);
        let before = |keep: Duration| day - i64::try_from(keep.as_secs()).unwrap() / 86_400;
        (before(policy.keep_events), before(early[0].keep))
    }

    #[test]
    fn each_source_with_a_time_of_its_own_is_a_group() {
        let none = Marks::default();
        assert_eq!(ids(&none.groups(&config(""))), ["*"]);
        assert_eq!(ids(&none.groups(&config("quick"))), ["quick", "*"]);
        // It had one, and its archive is behind that of the others.
        assert_eq!(ids(&marks(&[("*", 50), ("quick", 40)]).groups(&config(""))), ["quick", "*"]);
        assert_eq!(ids(&marks(&[("*", 50), ("quick", 60)]).groups(&config(""))), ["*"]);
    }

    #[test]
    fn every_event_belongs_to_one_group() {
        let marks = marks(&[("*", 50), ("quick", 58)]);
        for (config, day, expected) in [
            (config("quick"), 55, "quick"),
            (config("quick"), 59, "quick"),
            // Without a time of its own it is archived with the others, but for what was archived.
            (config(""), 59, "*"),
            (config(""), 55, ""),
        ] {
            let groups = marks.groups(&config);
            let own = |group: &&Group| marks.belongs(group, &groups, "quick", day * DAY_MS);
            let found: Vec<&str> = groups.iter().filter(own).map(|group| &*group.id).collect();
            assert_eq!(found.concat(), expected, "day {day}");
            let others = |group: &&Group| marks.belongs(group, &groups, "slow", day * DAY_MS);
            let found: Vec<&str> = groups.iter().filter(others).map(|group| &*group.id).collect();
            assert_eq!(found, ["*"], "day {day}");
        }
    }

    #[test]
    fn retention_waits_for_the_archive_but_not_forever() {
        let config = config("quick");
        // Day 100: the store keeps from day 90 on, `quick` from day 98 on.
        assert_eq!(kept(&marks(&[("*", 90), ("quick", 98)]), &config, 100), (90, 98));
        assert_eq!(kept(&marks(&[("*", 95), ("quick", 99)]), &config, 100), (90, 98));
        assert_eq!(kept(&marks(&[("*", 88), ("quick", 97)]), &config, 100), (88, 97));
        // The store's retention goes over events of every source.
        assert_eq!(kept(&marks(&[("*", 90), ("quick", 89)]), &config, 100), (89, 91));
        assert_eq!(kept(&marks(&[("*", 20), ("quick", 20)]), &config, 100), (83, 91));
        assert_eq!(kept(&Marks::default(), &config, 100), (83, 91));
    }

    #[test]
    fn a_wait_is_measured_from_the_end_of_what_is_archived() {
        let config = config("quick");
        let overdue = |marks: &Marks| marks.overdue(&config, 100 * DAY_MS).as_secs() / 86_400;
        assert_eq!(overdue(&marks(&[("*", 90), ("quick", 98)])), 0);
        assert_eq!(overdue(&marks(&[("*", 90), ("quick", 93)])), 5);
        assert_eq!(overdue(&marks(&[("*", 87), ("quick", 98)])), 3);
        assert_eq!(overdue(&Marks::default()), 0);
        let mut first = marks(&[("*", 0), ("quick", 98)]);
        first.0.get_mut("*").unwrap().next_ms = Some(86 * DAY_MS);
        assert_eq!(overdue(&first), 4);
    }
}
