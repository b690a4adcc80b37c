//! Partitions, one per day of the ids: created ahead, dropped when they expire.

use std::collections::{BTreeSet, HashMap};
use std::sync::{MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::expiry::{rewind, sweep_keys};
use super::link::{PooledSession, Session};
use super::query_error::QueryError;
use super::sql::{DEAD, PENDING, uuid_of};
use super::{Core, figures};
use crate::clock::{UnixMillis, instant, rfc3339};
use crate::ledger::{EventId, NewEvent, Retention, Swept};

const DAY_MS: i64 = 86_400_000;
/// Days for which partitions are created ahead: enough for a weekend of failures.
const AHEAD: i64 = 3;
/// Partitioned tables, and their partitioning id.
const TABLES: [&str; 3] = ["event", "attempt", "replayed"];
/// How long the drop of a day waits for rows: others sweep beside it.
const ROW_PATIENCE: &str = "set local lock_timeout = '500ms'";
/// How long it then waits for transactions on each of its tables: leases queue behind it.
const DROP_PATIENCE: &str = "set local lock_timeout = '100ms'";
/// How far ahead a past day with late events is protected.
const LATE_MS: i64 = 5 * 60_000;
/// The interval of renewals while late events arrive. The rest is longer than any commit takes.
const LATE_AGAIN: Duration = Duration::from_secs(60);
const MAKE_PATIENCE: &str = "set local lock_timeout = '5s'";

fn day_of(ms: UnixMillis) -> i32 {
    i32::try_from(ms.div_euclid(DAY_MS)).unwrap_or(i32::MAX)
}

/// The ids of that day, as a half-open range.
fn bounds(day: i32) -> (Uuid, Uuid) {
    let begin = |day: i64| uuid_of(EventId::floor(day.saturating_mul(DAY_MS)));
    (begin(i64::from(day)), begin(i64::from(day) + 1))
}

/// `event_20260102`.
fn table_of(table: &str, day: i32) -> String {
    let date: String = rfc3339(i64::from(day) * DAY_MS).chars().take(10).collect();
    format!("{table}_{}", date.replace('-', ""))
}

impl Core {
    /// Ensures the partitions of these ids.
    pub(super) async fn days_for(
        &self,
        session: &mut PooledSession<'_>,
        ids: impl Iterator<Item = EventId>,
    ) -> Result<(), QueryError> {
        let wanted: BTreeSet<i32> = ids.map(|id| day_of(id.ms())).collect();
        let missing: Vec<i32> = {
            let known = self.known_days();
            wanted.into_iter().filter(|day| !known.contains(day)).collect()
        };
        for day in missing {
            self.make_day(session, day).await?;
        }
        Ok(())
    }

    /// Ensures the partitions of the coming days.
    pub(super) async fn days_ahead(
        &self,
        session: &mut PooledSession<'_>,
    ) -> Result<(), QueryError> {
        let sql = format!("select {}", super::sql::NOW);
        let now: UnixMillis = session.row(&sql, &[&self.clock.fixed()]).await?.get(0);
        let days = (-1..=AHEAD).map(|ahead| EventId::floor(now + ahead * DAY_MS));
        self.days_for(session, days).await
    }

    /// Protects days of ids that are past by the server's clock: their events are not as old,
    /// because this gateway's clock may be wrong.
    pub(super) async fn keep_late(
        &self,
        session: &Session,
        batch: &[NewEvent],
    ) -> Result<(), QueryError> {
        let now = self.clock.fixed().unwrap_or_else(|| self.server_watch.server_ms());
        let today = day_of(now);
        let late = batch.iter().map(|event| day_of(event.id.ms())).filter(|day| *day < today);
        for day in late.collect::<BTreeSet<_>>() {
            let noted = self.late().get(&day).copied();
            if noted.is_some_and(|noted| noted.elapsed() < LATE_AGAIN) {
                continue;
            }
            let sql = "insert into meta (k, v) values ($1, $2)
                on conflict (k) do update set v = greatest(meta.v, excluded.v)";
            session.run(sql, &[&late_key(day), &(now + LATE_MS)]).await?;
            let mut late = self.late();
            late.retain(|_, noted| noted.elapsed() < LATE_AGAIN);
            late.insert(day, instant());
        }
        Ok(())
    }

    /// The table for events with these ids: the partition of their day, or the whole table if they
    /// have several days.
    pub(super) fn event_table(&self, ids: impl Iterator<Item = EventId>) -> String {
        let mut days = ids.map(|id| day_of(id.ms()));
        match days.next() {
            Some(day) if days.all(|other| other == day) => table_of(TABLES[0], day),
            _ => TABLES[0].to_owned(),
        }
    }

    fn late(&self) -> MutexGuard<'_, HashMap<i32, Instant>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the known partitions, because one was missing: another gateway's sweep dropped it.
    pub(super) fn forget_days(&self) {
        self.days_mut().clear();
        self.late().clear();
    }

    /// Creates the tables of a day. The row of a day is inserted first; concurrent gateways wait
    /// for it and find the tables.
    async fn make_day(&self, session: &mut PooledSession<'_>, day: i32) -> Result<(), QueryError> {
        let known = session.rows("select n from day where n = $1", &[&day]).await?;
        if known.is_empty() {
            session.begin().await?;
            let mut made = make_tables(session, day).await;
            if made.is_ok() {
                made = session.commit().await;
            } else {
                session.undo().await?;
            }
            made?;
        }
        self.days_mut().insert(day);
        Ok(())
    }

    fn known_days(&self) -> RwLockReadGuard<'_, BTreeSet<i32>> {
        self.days.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn days_mut(&self) -> RwLockWriteGuard<'_, BTreeSet<i32>> {
        self.days.write().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn make_tables(session: &Session, day: i32) -> Result<(), QueryError> {
    session.batch(MAKE_PATIENCE).await?;
    let sql = "insert into day (n) values ($1) on conflict do nothing";
    if session.run(sql, &[&day]).await? == 0 {
        return Ok(());
    }
    let (from, to) = bounds(day);
    for table in TABLES {
        let part = table_of(table, day);
        // Attached, not created in place: that would block concurrent transactions on the table.
        session
            .batch(&format!(
                "create table {part} (like {table} including defaults including constraints)
                    with (autovacuum_freeze_min_age = 0);
                 alter table {table} attach partition {part} for values from ('{from}') to ('{to}')"
            ))
            .await?;
    }
    Ok(())
}

// === Sweeping ===

impl Core {
    pub(super) async fn sweep_on(
        &self,
        session: &mut PooledSession<'_>,
        policy: &Retention,
        budget: usize,
    ) -> Result<Swept, QueryError> {
        let mut swept = Swept::default();
        let policy = self.believable(session, policy).await?;
        let events_before = policy.events_before();
        let old = day_of(events_before);
        let days = session.rows("select n from day where n < $1 order by n", &[&old]).await?;
        let mut are_read = 0;
        for row in days {
            let day: i32 = row.get(0);
            if swept.events >= budget as u64 {
                swept.more = true;
                break;
            }
            // Its protection for late events has not ended.
            if is_late(session, day, events_before).await? {
                continue;
            }
            match self.drop_day(session, day, events_before, &mut swept).await {
                Ok(true) => {}
                // A delivery of that day is unfinished: its other events are deleted one by one.
                Ok(false) => thin_out(session, day, budget, &mut swept).await?,
                // A dump, or a report, reads it: it is left for the next sweep. One that reads
                // several days must not block leases for each.
                Err(QueryError::Again(_)) if are_read == 0 => are_read += 1,
                Err(QueryError::Again(_)) => break,
                Err(fault) => return Err(fault),
            }
        }
        let days_before = i64::from(old).saturating_mul(DAY_MS);
        sweep_keys(session, &policy, days_before, budget, &mut swept).await?;
        super::held::expire(session, &policy).await?;
        let sql = format!("delete from nonce where exp_ms <= {}", super::sql::NOW);
        session.run(&sql, &[&self.clock.fixed()]).await?;
        Ok(swept)
    }

    /// The time limit, checked with the server's clock: a gateway with a wrong clock must not
    /// delete what the others keep.
    async fn believable(
        &self,
        session: &Session,
        policy: &Retention,
    ) -> Result<Retention, QueryError> {
        let mut policy = policy.clone();
        if self.clock.fixed().is_none() {
            let sql = format!("select {}", super::sql::NOW);
            let now: UnixMillis = session.row(&sql, &[&None::<i64>]).await?.get(0);
            policy.now_ms = now;
        }
        Ok(policy)
    }

    /// Drops a day without pending or dead deliveries; returns whether it did.
    async fn drop_day(
        &self,
        session: &mut PooledSession<'_>,
        day: i32,
        events_before: UnixMillis,
        swept: &mut Swept,
    ) -> Result<bool, QueryError> {
        if is_open(session, day).await? {
            return Ok(false);
        }
        session.begin().await?;
        let dropped = drop_tables(session, day, events_before).await;
        match dropped {
            Ok(Some((events, bytes))) => {
                session.commit().await?;
                self.days_mut().remove(&day);
                swept.events += events;
                swept.bytes += bytes;
                Ok(true)
            }
            Ok(None) => session.undo().await.map(|()| false),
            Err(fault) => {
                session.undo().await?;
                Err(fault)
            }
        }
    }
}

/// The key in `meta` of the end of a past day's protection.
fn late_key(day: i32) -> String {
    format!("late {day}")
}

/// Whether that day has events that are not old, whatever their ids say.
async fn is_late(
    session: &Session,
    day: i32,
    events_before: UnixMillis,
) -> Result<bool, QueryError> {
    let sql = "select exists (select 1 from meta where k = $1 and v >= $2)";
    Ok(session.row(sql, &[&late_key(day), &events_before]).await?.get(0))
}

/// Whether that day has unfinished deliveries.
async fn is_open(session: &Session, day: i32) -> Result<bool, QueryError> {
    let (from, to) = bounds(day);
    let sql = "select exists (select 1 from delivery where event_id >= $1 and event_id < $2)
        or exists (select 1 from dead where event_id >= $1 and event_id < $2)";
    Ok(session.row(sql, &[&from, &to]).await?.get(0))
}

/// Within a transaction: no event can be added to the day any more, so the checks hold.
async fn drop_tables(
    session: &Session,
    day: i32,
    events_before: UnixMillis,
) -> Result<Option<(u64, u64)>, QueryError> {
    session.batch(ROW_PATIENCE).await?;
    let sql = "delete from day where n = $1";
    if session.run(sql, &[&day]).await? == 0 {
        return Ok(Some((0, 0)));
    }
    // Before the tables are locked: a sweep of keys holds a mark and looks for their events.
    rewind(session, i64::from(day) * DAY_MS).await?;
    session.batch(DROP_PATIENCE).await?;
    let parts: Vec<String> = TABLES.iter().map(|table| table_of(table, day)).collect();
    session.batch(&format!("lock table {} in access exclusive mode", parts.join(", "))).await?;
    if is_open(session, day).await? || is_late(session, day, events_before).await? {
        return Ok(None);
    }
    session.run("delete from meta where k = $1", &[&late_key(day)]).await?;
    let sizes = parts.iter().map(|part| format!("pg_total_relation_size('{part}')"));
    let sql = format!("select {}", sizes.collect::<Vec<_>>().join(" + "));
    let bytes: i64 = session.row(&sql, &[]).await?.get(0);
    // All others wait behind this lock, so a large day is not counted.
    let events = figures::count(session, &parts[0]).await?;
    session.batch(&format!("drop table {}", parts.join(", "))).await?;
    Ok(Some((events, bytes.cast_unsigned())))
}

/// Deletes finished events of a day. They are locked first and checked then: a concurrent replay
/// either finds its event or skips it.
async fn thin_out(
    session: &mut PooledSession<'_>,
    day: i32,
    budget: usize,
    swept: &mut Swept,
) -> Result<(), QueryError> {
    let (from, to) = bounds(day);
    let left = i64::try_from(budget).unwrap_or(i64::MAX).saturating_sub(swept.events.cast_signed());
    session.begin().await?;
    let sql = format!(
        "select id from event e where id >= $1 and id < $2 and not {PENDING} and not {DEAD}
         order by id limit $3 for update skip locked"
    );
    let rows = session.rows(&sql, &[&from, &to, &left.max(0)]).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let sql = format!(
        "with gone as (
            delete from event e where id = any($1::uuid[]) and not {PENDING} and not {DEAD}
            returning id
        ), silent as (
            delete from attempt where event_id in (select id from gone)
        ), forgotten as (
            delete from replayed where event_id in (select id from gone)
        )
        select count(*) from gone"
    );
    let gone: i64 = session.row(&sql, &[&ids]).await?.get(0);
    if gone > 0 {
        rewind(session, i64::from(day) * DAY_MS).await?;
    }
    session.commit().await?;
    swept.events += gone.cast_unsigned();
    swept.more |= gone > 0 && gone == left;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_holds_its_ids_and_no_others() {
        let midnight = 1_767_312_000_000;
        let day = day_of(midnight);
        assert_eq!(table_of("event", day), "event_20260102");
        let (from, to) = bounds(day);
        for (ms, within) in [(midnight - 1, false), (midnight, true), (midnight + DAY_MS, false)] {
            let id = uuid_of(EventId::new(ms));
            assert_eq!(from <= id && id < to, within, "{ms}");
        }
    }
}
