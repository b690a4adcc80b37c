//! Floors: for each destination the time below which nothing of it is due. Leases begin there.
//!
//! While a dump or a long report holds an old snapshot, PostgreSQL keeps the index entries
//! of every delivery that was made since. A lease that began at the start of the index would walk
//! over all of them, and would take longer with each delivery.
//!
//! Nothing is missed below a floor. A statement reads a due time from the clock
//! ([`super::sql::CLOCK`]) after its transaction has a number ([`super::sql::NUMBERED`]). A lease
//! knows the number and the start of its own transaction. Once no transaction with that number or a
//! smaller one is in progress, all others read later times: nothing new appears below that start.
//! Existing deliveries are queried. A floor is the smaller of the two.
//!
//! A crash of the server loses what was written without waiting for the disk, including deliveries.
//! So a new session begins with the floors in `queue_floor`: they survive a crash only together
//! with everything that they depend on.
//!
//! The search finds the rest (an import with old due times, a clock that is set back, a gateway of
//! version 3). It begins at the start of the index, beside the leases, and makes such deliveries
//! due now, above the floors of all gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Core;
use super::dialer::SessionRole;
use super::link::Session;
use super::query_error::QueryError;
use super::sql::{CLOCK, NOW};
use crate::clock::{UnixMillis, instant};
use crate::ledger::{TargetFilter, TargetId};

/// The interval of searches for unknown destinations.
const DISCOVER_EVERY: Duration = Duration::from_millis(250);
/// The distance of a floor from what is certain: a server's clock is set back by small steps.
const SLACK_MS: i64 = 10;
/// The minimum interval of searches.
const SEARCH_EVERY: Duration = Duration::from_secs(30);
/// The same as a multiple of their duration: a search costs the server 1 % of a core.
const SEARCH_REST: u32 = 100;
/// Deliveries that a search makes due in one statement.
const RAISED_ROWS: usize = 10_000;
/// The time limit of a search.
const SEARCH_TIME: Duration = Duration::from_secs(300);
/// Sorts after every name: names are letters, digits and `._-/`.
const BEHIND_NAMES: &str = "~";
/// Before every time.
const NO_FLOOR: UnixMillis = UnixMillis::MIN;

type Floors = BTreeMap<String, UnixMillis>;

/// The floors, as known to all leases of this gateway.
#[derive(Default)]
pub(super) struct FloorTable {
    state: Mutex<State>,
}

struct State {
    floors: Floors,
    /// Increases when floors begin again: earlier requests do not count any more.
    generation: u64,
    /// Every transaction that read a time before this has ended.
    certain_ms: UnixMillis,
    /// A lease that waits until no older transaction is in progress.
    waits: Option<Mark>,
    discovered: Option<Instant>,
    search_at: Instant,
}

impl Default for State {
    fn default() -> Self {
        Self {
            floors: Floors::new(),
            generation: 0,
            certain_ms: NO_FLOOR,
            waits: None,
            discovered: None,
            search_at: instant() + SEARCH_EVERY,
        }
    }
}

/// The transaction of a lease: its number, and its start by the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) number: i64,
    pub(super) began_ms: UnixMillis,
}

/// Destinations to lease for, with their floors.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeaseTargets {
    pub(super) targets: Vec<String>,
    pub(super) floors: Vec<UnixMillis>,
    generation: u64,
}

/// The results of a lease.
pub(super) struct LeaseFindings {
    /// Its own transaction, if it wrote.
    pub(super) mark: Option<Mark>,
    /// No transaction with a smaller number was in progress.
    pub(super) oldest: i64,
    /// The first due time of each requested destination, if there is one soon.
    pub(super) firsts: Vec<(String, Option<UnixMillis>)>,
}

impl FloorTable {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins again with these floors.
    fn adopt(&self, floors: Floors) {
        let mut state = self.state();
        state.floors = floors;
        state.generation += 1;
        (state.certain_ms, state.waits, state.discovered) = (NO_FLOOR, None, None);
    }

    /// The floors of these destinations.
    pub(super) fn floors_of(&self, names: &[String]) -> Vec<UnixMillis> {
        let state = self.state();
        names.iter().map(|name| state.floors.get(name).copied().unwrap_or(NO_FLOOR)).collect()
    }

    /// The known destinations that a filter matches.
    fn targets(&self, filter: &TargetFilter) -> LeaseTargets {
        let state = self.state();
        let floor = |name: &str| state.floors.get(name).copied().unwrap_or(NO_FLOOR);
        let own = |name: &TargetId| name.as_str().to_owned();
        let targets: Vec<String> = match filter {
            TargetFilter::All => state.floors.keys().cloned().collect(),
            TargetFilter::Except(these) => {
                let not: BTreeSet<&str> = these.iter().map(TargetId::as_str).collect();
                state.floors.keys().filter(|name| !not.contains(name.as_str())).cloned().collect()
            }
            TargetFilter::Only(these) => {
                these.iter().map(own).collect::<BTreeSet<_>>().into_iter().collect()
            }
        };
        let floors = targets.iter().map(|name| floor(name)).collect();
        LeaseTargets { targets, floors, generation: state.generation }
    }

    /// Raises the floors of the requested destinations.
    pub(super) fn learn(&self, wanted: &LeaseTargets, found: LeaseFindings) {
        let mut state = self.state();
        if state.generation != wanted.generation {
            return;
        }
        let marks = [state.waits, found.mark];
        let over = marks.into_iter().flatten().filter(|mark| mark.number < found.oldest);
        if let Some(mark) = over.max_by_key(|mark| mark.began_ms) {
            state.certain_ms = state.certain_ms.max(mark.began_ms - SLACK_MS);
            state.waits = None;
        } else if state.waits.is_none() {
            state.waits = found.mark;
        }
        let certain = state.certain_ms;
        for (target, first) in found.firsts {
            let floor = first.map_or(certain, |first| first.min(certain));
            let known = state.floors.entry(target).or_insert(NO_FLOOR);
            *known = floor.max(*known);
        }
    }

    /// Takes the floors of other gateways, and returns those to publish; `generation` is that from
    /// before they were read.
    fn exchange(&self, generation: u64, shared: &Floors) -> Floors {
        let mut state = self.state();
        if state.generation != generation {
            return Floors::new();
        }
        for (target, floor) in shared {
            let own = state.floors.entry(target.clone()).or_insert(NO_FLOOR);
            *own = (*floor).max(*own);
        }
        let is_news = |name: &String, floor: UnixMillis| {
            floor > NO_FLOOR && shared.get(name).is_none_or(|shared| *shared < floor)
        };
        let news = state.floors.iter().filter(|(name, floor)| is_news(name, **floor));
        news.map(|(name, floor)| (name.clone(), *floor)).collect()
    }

    /// Whether a search is due. No other one begins before it ends or times out.
    fn begins_search(&self) -> bool {
        let (mut state, now) = (self.state(), instant());
        let due = state.search_at <= now;
        if due {
            state.search_at = now + 2 * SEARCH_TIME;
        }
        due
    }

    fn ends_search(&self, began: Instant) {
        let rest = (began.elapsed() * SEARCH_REST).max(SEARCH_EVERY);
        self.state().search_at = instant() + rest;
    }
}

impl Core {
    /// The known destinations that a filter matches.
    pub(super) async fn lease_targets(
        &self,
        session: &Session,
        filter: &TargetFilter,
    ) -> Result<LeaseTargets, QueryError> {
        if session.is_new() {
            self.floors.adopt(self.shared_floors(session).await?);
            session.is_new_no_more();
        }
        if !matches!(filter, TargetFilter::Only(_)) {
            self.discover(session).await?;
        }
        Ok(self.floors.targets(filter))
    }

    /// Looks for destinations between the known names, without reading entries of known ones.
    async fn discover(&self, session: &Session) -> Result<(), QueryError> {
        let (from, to): (Vec<String>, Vec<String>) = {
            let mut state = self.floors.state();
            let fresh = state.discovered.is_some_and(|at| at.elapsed() < DISCOVER_EVERY);
            if fresh && self.clock.fixed().is_none() {
                return Ok(());
            }
            state.discovered = Some(instant());
            let names = || state.floors.keys().cloned();
            let from = std::iter::once(String::new()).chain(names()).collect();
            (from, names().chain(std::iter::once(BEHIND_NAMES.to_owned())).collect())
        };
        let sql = "with recursive found as (
                select (select d.target from delivery d where d.target > g.low and d.target < g.high
                    order by d.target limit 1) as target, g.high
                from unnest($1::text[], $2::text[]) as g(low, high)
                union all
                select (select d.target from delivery d where d.target > f.target
                    and d.target < f.high order by d.target limit 1), f.high
                from found f where f.target is not null
            )
            select target from found where target is not null";
        let rows = session.rows(sql, &[&from, &to]).await?;
        let mut state = self.floors.state();
        for row in rows {
            state.floors.entry(row.get(0)).or_insert(NO_FLOOR);
        }
        Ok(())
    }

    async fn shared_floors(&self, session: &Session) -> Result<Floors, QueryError> {
        // With a test's clock, times of the server's clock mean nothing.
        let sql = format!("select target, least(due_ms, {NOW}) from queue_floor");
        let rows = session.rows(&sql, &[&self.clock.fixed()]).await?;
        Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Publishes the floors to other gateways, and takes theirs.
    pub(super) async fn share_floors(&self) -> Result<(), QueryError> {
        if self.clock.fixed().is_some() {
            return Ok(());
        }
        let mut session = self.lazy.session(instant() + super::READ_PATIENCE).await?;
        let shared = self.exchange_floors(&session).await;
        session.heed(shared)
    }

    async fn exchange_floors(&self, session: &Session) -> Result<(), QueryError> {
        // Its floors may depend on what a crash lost: a lease checks that first.
        if session.is_new() {
            return Ok(());
        }
        let generation = self.floors.state().generation;
        let news = self.floors.exchange(generation, &self.shared_floors(session).await?);
        if news.is_empty() {
            return Ok(());
        }
        let (targets, floors): (Vec<&String>, Vec<i64>) = news.iter().unzip();
        let sql = "insert into queue_floor (target, due_ms)
            select target, due_ms from unnest($1::text[], $2::bigint[]) as o(target, due_ms)
            order by target
            on conflict (target) do update set due_ms = excluded.due_ms
                where queue_floor.due_ms < excluded.due_ms";
        session.run(sql, &[&targets, &floors]).await.map(drop)
    }

    /// Searches everything from the start, if due, on a separate connection.
    pub(super) async fn search_queue(&self) {
        if self.clock.fixed().is_some() || !self.floors.begins_search() {
            return;
        }
        let began = instant();
        let searched = tokio::time::timeout(SEARCH_TIME, self.search()).await;
        if let Ok(Err(fault)) = searched {
            self.faults.count(&fault);
        }
        self.floors.ends_search(began);
    }

    async fn search(&self) -> Result<(), QueryError> {
        let session = self.dialer.dial(SessionRole::Lazy).await?;
        let milliseconds = SEARCH_TIME.as_millis();
        session.batch(&format!("set statement_timeout = {milliseconds}")).await?;
        let before = self.floors.state().floors.clone();
        let sql = "with recursive firsts as (
                (select target, due_ms from delivery order by target, due_ms limit 1)
                union all
                select d.target, d.due_ms from firsts f cross join lateral (
                    select target, due_ms from delivery where target > f.target
                    order by target, due_ms limit 1
                ) d
            )
            select target, due_ms from firsts";
        for row in session.rows(sql, &[]).await? {
            let (target, first): (String, UnixMillis) = (row.get(0), row.get(1));
            match before.get(&target) {
                Some(floor) if first < *floor => self.raise(&session, &target, *floor).await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes deliveries due below a floor due now.
    async fn raise(
        &self,
        session: &Session,
        target: &str,
        floor: UnixMillis,
    ) -> Result<(), QueryError> {
        let sql = format!(
            "update delivery d set due_ms = {CLOCK} from (
                select ctid as place from delivery where target = $2 and due_ms < $3
                order by due_ms limit {RAISED_ROWS} for update skip locked
            ) o where d.ctid = o.place"
        );
        loop {
            let raised = session.run(&sql, &[&self.clock.fixed(), &target, &floor]).await?;
            if raised == 0 {
                return Ok(());
            }
            tracing::debug!(target, raised, "deliveries below the floor are due now");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mark: Option<(i64, i64)>, oldest: i64, first: Option<i64>) -> LeaseFindings {
        let mark = mark.map(|(number, began_ms)| Mark { number, began_ms });
        LeaseFindings { mark, oldest, firsts: vec![("a".to_owned(), first)] }
    }

    fn floor(table: &FloorTable) -> i64 {
        table.targets(&TargetFilter::Only(vec![TargetId::from("a")])).floors[0]
    }

    fn learn(table: &FloorTable, found: LeaseFindings) -> i64 {
        table.learn(&table.targets(&TargetFilter::All), found);
        floor(table)
    }

    #[test]
    fn a_floor_waits_for_older_transactions_and_for_what_is_due() {
        let table = FloorTable::default();
        // Transaction 4 is older, and in progress.
        assert_eq!(learn(&table, found(Some((5, 1000)), 4, None)), NO_FLOOR);
        // Number 9 waits no longer than number 5 did.
        assert_eq!(learn(&table, found(Some((9, 2000)), 6, None)), 1000 - SLACK_MS);
        assert_eq!(learn(&table, found(Some((12, 3000)), 13, None)), 3000 - SLACK_MS);
        assert_eq!(learn(&table, found(Some((14, 5000)), 15, Some(4000))), 4000);
        assert_eq!(learn(&table, found(None, 16, None)), 5000 - SLACK_MS);
        // A lease that began earlier does not lower it.
        assert_eq!(learn(&table, found(None, 16, Some(4000))), 5000 - SLACK_MS);
    }

    #[test]
    fn what_was_found_before_a_crash_raises_nothing() {
        let table = FloorTable::default();
        learn(&table, found(Some((5, 5000)), 6, None));
        let (asked, generation) = (table.targets(&TargetFilter::All), table.state().generation);
        let floors = |ms| Floors::from([("a".to_owned(), ms)]);
        table.adopt(floors(30));
        table.learn(&asked, found(Some((10, 9000)), 11, None));
        assert!(table.exchange(generation, &floors(9000)).is_empty());
        assert_eq!(floor(&table), 30);
    }

    #[test]
    fn floors_are_exchanged_upwards() {
        let table = FloorTable::default();
        learn(&table, found(Some((5, 5000)), 6, None));
        let shared = Floors::from([("a".to_owned(), 10), ("b".to_owned(), 20)]);
        let news = table.exchange(0, &shared);
        assert_eq!(news, Floors::from([("a".to_owned(), 5000 - SLACK_MS)]));
        let news = table.exchange(0, &Floors::from([("a".to_owned(), 9000)]));
        assert_eq!(news, Floors::from([("b".to_owned(), 20)]));
        assert_eq!(floor(&table), 9000);
        let but_a = table.targets(&TargetFilter::Except(vec![TargetId::from("a")]));
        assert_eq!((but_a.targets, but_a.floors), (vec!["b".to_owned()], vec![20]));
    }

    #[test]
    fn one_search_goes_on_at_a_time() {
        let table = FloorTable::default();
        assert!(!table.begins_search());
        table.state().search_at = instant();
        assert!(table.begins_search());
        assert!(!table.begins_search());
        table.ends_search(instant());
        assert!(!table.begins_search());
    }
}
