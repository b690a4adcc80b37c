//! Problems of the moment: those that only this gateway sees, and those that all would see.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::board::Board;
use super::incident::{Detail, Incident, Key, Past, Paused, Subject};
use super::rules::{self, Already, Counts};
use crate::clock::{UnixMillis, instant, now_ms};
use crate::config::{AlertCondition, Config, Source};
use crate::keys::Keys;
use crate::ledger::{BatchedLedger, DiskSpace, Health, Stats};
use crate::sender::Outcome;
use crate::telemetry::{ArchiveDelay, History, Metrics, Peers, Span, is_verified};

/// How long a destination that took deliveries before may fail before operators are notified: a
/// restart of its backend is over by then.
const FAILING_MS: i64 = 5 * 60_000;
/// A failed attempt of this age still says how the destination is now.
const RECENT_MS: i64 = 2 * 60_000;
/// The age of the oldest overdue delivery of which operators are notified.
const OVERDUE_SECONDS: u64 = 10 * 60;
/// The time before a certificate expires: renewals begin 30 days before, and fail for two
/// weeks by then.
const CERTIFICATE_MS: i64 = 14 * 86_400_000;
/// A store has little space below this many times its reserve: time to act before it stops.
const SPACE_TIMES: u64 = 2;
/// How long a store may be away: a failover of a database takes less.
const STORE_AWAY_MS: i64 = 30_000;
/// Bytes of the reason that a store stopped, or that a segment waits for its index.
const WHY_BYTES_MAX: usize = 200;

/// Everything that is looked at.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub(super) metrics: Arc<Metrics>,
    pub(super) keys: Keys,
    pub(super) ledger: BatchedLedger,
}

/// The answers of the store in this round.
pub(super) struct Store {
    pub(super) health: Option<Health>,
    pub(super) stats: Option<Stats>,
}

/// Problems as they are written into a gateway's record.
pub(super) fn written(problems: &[Incident]) -> Bytes {
    serde_json::to_vec(problems).unwrap_or_default().into()
}

/// The problems of another gateway's record.
fn read(bytes: &[u8]) -> Vec<Incident> {
    serde_json::from_slice(bytes).unwrap_or_default()
}

impl Survey {
    /// Problems that only this gateway sees.
    pub(super) fn own(&self, peers: &Peers) -> Vec<Incident> {
        let now = now_ms();
        let mut found = self.destinations(peers, now);
        for (sender, age) in self.keys.stale() {
            let seconds = age.as_secs();
            let since = now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(0));
            let subject = Subject::Sender(sender);
            found.push(Incident::new(
                AlertCondition::Keys,
                subject,
                since,
                Detail::Keys { seconds },
            ));
        }
        for (listener, expires_ms) in self.metrics.program.certificates() {
            if expires_ms.saturating_sub(now) < CERTIFICATE_MS {
                let since = expires_ms.saturating_sub(CERTIFICATE_MS).min(now);
                let subject = Subject::Listener(listener.to_owned());
                let detail = Detail::Certificate { expires_ms };
                found.push(Incident::new(AlertCondition::Certificate, subject, since, detail));
            }
        }
        if let Some(since) = self.metrics.program.reload_failed_ms() {
            let detail = Detail::Reload;
            found.push(Incident::new(AlertCondition::Reload, Subject::Gateway, since, detail));
        }
        if let Some(ArchiveDelay { overdue, deleted_after }) = self.metrics.archive.late() {
            let since = now.saturating_sub(i64::try_from(overdue.as_millis()).unwrap_or(0));
            let days = deleted_after.as_secs() / 86_400;
            let detail = Detail::Archive { seconds: overdue.as_secs(), days };
            found.push(Incident::new(AlertCondition::Archive, Subject::Gateway, since, detail));
        }
        found
    }

    fn destinations(&self, peers: &Peers, now: UnixMillis) -> Vec<Incident> {
        let mut elsewhere: HashMap<&str, UnixMillis> = HashMap::new();
        for (name, view) in peers.notes.iter().flat_map(|notes| &notes.destinations) {
            let latest = elsewhere.entry(name).or_default();
            *latest = view.delivered_ms.unwrap_or(0).max(*latest);
        }
        let mut found = Vec::new();
        for (name, view) in self.metrics.destination_health.views() {
            let subject = || Subject::Destination(name.clone());
            if let Some(since) = view.open_ms {
                let detail = Detail::Breaker;
                found.push(Incident::new(AlertCondition::Breaker, subject(), since, detail));
            }
            let Some(since) = view.failing_ms else { continue };
            let elsewhere = elsewhere.get(name.as_str()).copied().unwrap_or(0);
            let failed_ms = view.failed_ms.unwrap_or(since);
            // Another gateway may have delivered what failed here.
            let counts = failed_ms > elsewhere || now.saturating_sub(failed_ms) < RECENT_MS;
            let past = match view.delivered_ms.unwrap_or(0).max(elsewhere) {
                0 => Past::Never,
                _ => Past::Delivered,
            };
            if counts && (past == Past::Never || now.saturating_sub(since) >= FAILING_MS) {
                let detail = Detail::Failing { status: view.status, past };
                found.push(Incident::new(AlertCondition::Failing, subject(), since, detail));
            }
        }
        found
    }

    /// The destinations that an operator has paused, on whichever gateway.
    pub(super) fn paused(&self) -> Paused {
        let all = self.metrics.destination_health.views();
        all.into_iter().filter(|(_, view)| view.paused_ms.is_some()).map(|(name, _)| name).collect()
    }

    /// Asks the store, once for all conditions.
    pub(super) async fn ask(&self) -> Store {
        let (health, stats) = tokio::join!(self.ledger.health(), self.ledger.stats());
        Store { health: health.ok(), stats: stats.ok() }
    }

    /// Problems that every gateway would see.
    pub(super) fn shared(&self, config: &Config, store: &Store, board: &Board) -> Vec<Incident> {
        let now = now_ms();
        let mut found = Vec::new();
        for source in config.sources.values().filter(|source| source.enabled) {
            if let Some(history) = self.metrics.histories.find(&source.label()) {
                found.extend(refusals(source, &history, board, now));
                found.extend(silence(source, &history, board, now));
            }
        }
        if let Some(stats) = &store.stats {
            found.extend(deliveries(stats, now));
            found.extend(quarantine(config, stats, now));
        }
        found
    }

    /// Problems of the store, which has been away since `away_ms` if it is.
    pub(super) fn store(store: &Store, away_ms: Option<UnixMillis>) -> Vec<Incident> {
        let now = now_ms();
        let problem =
            |since, detail| Incident::new(AlertCondition::Store, Subject::Gateway, since, detail);
        let away = away_ms.filter(|since| now.saturating_sub(*since) >= STORE_AWAY_MS);
        if let Some(since) = away {
            let stopped = store.health.as_ref().and_then(|health| health.stopped.clone());
            let why = shortened(stopped.unwrap_or_else(|| String::from("it does not answer")));
            return vec![problem(since, Detail::StoreStopped { why })];
        }
        let Some(health) = &store.health else { return Vec::new() };
        if !health.damage.is_empty() {
            let places = health.damage.len() as u64;
            return vec![problem(now, Detail::StoreDamaged { places })];
        }
        let is_low =
            |room: &DiskSpace| room.short || room.free < room.reserve.saturating_mul(SPACE_TIMES);
        if let Some(room) = health.room.filter(is_low) {
            let (free_mib, reserve_mib) = (room.free >> 20, room.reserve >> 20);
            return vec![problem(now, Detail::StoreNearlyFull { free_mib, reserve_mib })];
        }
        let unindexed = health.unindexed.clone().map(shortened);
        unindexed.map(|why| problem(now, Detail::StoreUnindexed { why })).into_iter().collect()
    }
}

/// A cause, as far as an incident keeps it.
fn shortened(mut why: String) -> String {
    why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
    why
}

/// Problems that other gateways see.
pub(super) fn of_peers(peers: &Peers) -> impl Iterator<Item = Incident> {
    peers.notes.iter().flat_map(|notes| read(&notes.problems))
}

/// Open alerts whose subject is not configured any more, so nothing can be seen of it. Dead and
/// overdue deliveries are in the store, whatever is configured.
pub(super) fn removed(config: &Config, board: &Board) -> BTreeSet<Key> {
    use AlertCondition::{Breaker, Failing, Quarantine};
    let sources: HashMap<_, _> =
        config.sources.values().map(|source| (source.label(), source.enabled)).collect();
    let has_sender = |name: &str| {
        let mut enabled = config.sources.values().filter(|source| source.enabled);
        enabled.any(|source| source.recipe.sender().name() == name)
    };
    let is_removed = |key: &&Key| match (&key.subject, key.condition) {
        (Subject::Source(name), Quarantine) => !sources.contains_key(name.as_str()),
        (Subject::Source(name), _) => sources.get(name.as_str()) != Some(&true),
        (Subject::Destination(name), Failing | Breaker) => !config.destinations.contains_key(name),
        (Subject::Sender(name), _) => !has_sender(name),
        (Subject::Destination(_) | Subject::Gateway | Subject::Listener(_), _) => false,
    };
    board.open().filter(is_removed).cloned().collect()
}

fn key(condition: AlertCondition, source: &Source) -> Key {
    Key { condition, subject: Subject::Source(source.label().into_owned()) }
}

fn refusals(
    source: &Source,
    history: &History,
    board: &Board,
    now: UnixMillis,
) -> Option<Incident> {
    let key = key(AlertCondition::Refusals, source);
    let at = instant();
    let sum = |span: Span, of: &dyn Fn(Outcome) -> bool| {
        let mut sums = vec![0; span.periods()];
        for outcome in Outcome::ALL.iter().filter(|outcome| of(**outcome)) {
            history.add_to(&mut sums, *outcome, span, at);
        }
        sums
    };
    let rejected = |outcome| outcome == Outcome::Rejected;
    let decided = |outcome| rejected(outcome) || is_verified(outcome);
    let counts = Counts {
        rejected_minutes: sum(Span::Hour, &rejected),
        all_minutes: sum(Span::Hour, &decided),
        rejected_hours: sum(Span::Days, &rejected),
        all_hours: sum(Span::Days, &decided),
    };
    let since = board.open_since(&key);
    let already = if since.is_some() { Already::Open } else { Already::Closed };
    let rules::Refused { rejected, all, usual_percent } = rules::refused(&counts, already)?;
    let reason = history.main_reason(at).map(|reason| reason.as_str().to_owned());
    let detail = Detail::Refusals { rejected, all, usual_percent, reason };
    Some(Incident { key, since_ms: since.unwrap_or(now), detail })
}

fn silence(source: &Source, history: &History, board: &Board, now: UnixMillis) -> Option<Incident> {
    let key = key(AlertCondition::Silent, source);
    let last_ms = history.verified_ms()?;
    let mut hours = vec![0; Span::Days.periods()];
    for outcome in Outcome::ALL.iter().filter(|outcome| is_verified(**outcome)) {
        history.add_to(&mut hours, *outcome, Span::Days, instant());
    }
    // After three days nothing is usual any more, and the source is as silent as before.
    let still = board.open_since(&key).filter(|since| *since >= last_ms);
    let usual = rules::silent(&hours, last_ms, now).map(|usual| usual.as_secs());
    let usual_seconds = usual.or(still.map(|_| 0))?;
    Some(Incident { key, since_ms: last_ms, detail: Detail::Silent { usual_seconds } })
}

fn deliveries(stats: &Stats, now: UnixMillis) -> Vec<Incident> {
    let mut found = Vec::new();
    for target in &stats.targets {
        let subject = || Subject::Destination(target.target.as_str().to_owned());
        if target.dead > 0 {
            let detail = Detail::Dead { count: target.dead };
            found.push(Incident::new(AlertCondition::Dead, subject(), now, detail));
        }
        let seconds = target.oldest_due.map_or(0, |due| due.as_secs());
        if seconds >= OVERDUE_SECONDS {
            let since = now.saturating_sub(i64::try_from(seconds * 1000).unwrap_or(0));
            let detail = Detail::Overdue { seconds, pending: target.pending };
            found.push(Incident::new(AlertCondition::Overdue, subject(), since, detail));
        }
    }
    found
}

fn quarantine(config: &Config, stats: &Stats, now: UnixMillis) -> Vec<Incident> {
    let held = stats.held.iter().filter(|held| held.count > 0);
    let problem = |held: &crate::ledger::HeldStats| {
        let mut sources = config.sources.values();
        let source = sources.find(|source| source.id == held.source.as_str())?;
        let key = key(AlertCondition::Quarantine, source);
        Some(Incident { key, since_ms: now, detail: Detail::Quarantine { count: held.count } })
    };
    held.filter_map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Durability;

    fn health() -> Health {
        Health {
            stopped: None,
            durability: Durability::Local,
            bytes: None,
            room: None,
            mended: Vec::new(),
            server: None,
            damage: Vec::new(),
            unindexed: None,
        }
    }

    fn found(health: Option<Health>, away_ms: Option<UnixMillis>) -> Option<Detail> {
        let mut found = Survey::store(&Store { health, stats: None }, away_ms);
        assert!(found.len() <= 1);
        found.pop().map(|problem| problem.detail)
    }

    fn why(detail: Option<Detail>) -> String {
        match detail {
            Some(Detail::StoreStopped { why }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_disk_with_less_than_twice_the_reserve_is_nearly_full() {
        const MIB: u64 = 1 << 20;
        let with = |free, short| {
            let room = DiskSpace { free: free * MIB, reserve: 256 * MIB, short };
            found(Some(Health { room: Some(room), ..health() }), None)
        };
        let nearly_full = |free_mib| Some(Detail::StoreNearlyFull { free_mib, reserve_mib: 256 });
        assert_eq!(with(512, false), None);
        assert_eq!(with(511, false), nearly_full(511));
        assert_eq!(with(600, true), nearly_full(600), "it accepts nothing yet");
        assert_eq!(found(Some(health()), None), None, "a store without a disk of its own");
    }

    #[test]
    fn what_is_not_configured_is_removed_and_dead_letters_stay() {
        let file = "[[source]]\nname = \"ads\"\nsender = \"taku\"\nenabled = false\n\
                    secrets = \"0123456789abcdefghijklmnopqrstuv\"\n\
                    [[destination]]\nname = \"game\"\nformat = \"forward\"\nurl = \"http://h/\"\n";
        let path = std::path::Path::new("postern.toml");
        let config = crate::config::load_str(&crate::config::Machine, path, file).unwrap().config;
        let source = || Subject::Source(String::from("ads"));
        let destination = |name: &str| Subject::Destination(name.to_owned());
        let [kept, gone] = [
            [
                (AlertCondition::Quarantine, source()),
                (AlertCondition::Failing, destination("game")),
                (AlertCondition::Dead, destination("old")),
                (AlertCondition::Reload, Subject::Gateway),
            ],
            [
                (AlertCondition::Refusals, source()),
                (AlertCondition::Failing, destination("old")),
                (AlertCondition::Breaker, destination("old")),
                (AlertCondition::Keys, Subject::Sender(String::from("taku"))),
            ],
        ]
        .map(|some| {
            some.map(|(condition, subject)| Incident::new(condition, subject, 0, Detail::Test))
        });
        let mut board = Board::default();
        let all = kept.iter().chain(&gone).cloned().collect();
        board.update(all, &Paused::default(), &BTreeSet::new(), 0);
        assert_eq!(removed(&config, &board), BTreeSet::from(gone.map(|problem| problem.key)));
    }

    #[test]
    fn a_segment_without_its_index_counts_where_the_disk_has_room() {
        const MIB: u64 = 1 << 20;
        let with = |free| {
            let room = DiskSpace { free: free * MIB, reserve: 256 * MIB, short: false };
            let unindexed = Some(String::from("no storage space"));
            found(Some(Health { room: Some(room), unindexed, ..health() }), None)
        };
        let why = String::from("no storage space");
        assert_eq!(with(512), Some(Detail::StoreUnindexed { why }));
        assert!(matches!(with(511), Some(Detail::StoreNearlyFull { .. })));
    }

    #[test]
    fn a_store_that_is_away_counts_after_a_failover_would_be_over() {
        let now = now_ms();
        assert_eq!(found(None, Some(now - STORE_AWAY_MS + 10_000)), None);
        let silent = why(found(None, Some(now - STORE_AWAY_MS)));
        assert_eq!(silent, "it does not answer");
        let stopped = Health { stopped: Some("é".repeat(500)), ..health() };
        let long = why(found(Some(stopped), Some(now - STORE_AWAY_MS)));
        assert_eq!(long.len(), WHY_BYTES_MAX);
    }
}
