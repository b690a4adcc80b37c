//! Statistics of the server: what it holds, and its own state.
//!
//! One gateway counts for all: it finds the counts old, claims the row in `figure` for a while,
//! counts, and writes the result there. The others read that row. So more gateways or scrapers do
//! not increase the load, and a slow count is made rarely.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dialer::SessionRole;
use super::held::held_stats;
use super::link::Session;
use super::query_error::{Cause, QueryError};
use super::sql::NOW;
use super::{Core, READ_PATIENCE};
use crate::clock::{instant, millis};
use crate::ledger::{FaultCode, Stats, TargetId, TargetStats};

/// Rows up to this are counted; above it the server's own estimate is sufficient.
const COUNTED: i64 = 100_000;
/// The minimum age of counts before they are made again.
const FRESH_MS: i64 = 1_000;
/// The same as a multiple of their duration: counting takes at most 5 % of a core.
const FRESH_REST: i64 = 20;
/// Counts older than this, and than twice the minimum age, are not shown.
const STALE_MS: i64 = 60_000;
/// The time limit of a count. A claim lasts as long.
const COUNT_TIME: Duration = Duration::from_secs(120);
/// How long a caller waits for new counts if old ones exist.
const COUNT_PATIENCE: Duration = Duration::from_secs(1);
/// The polling interval for new counts.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Counts, as `figure` keeps them.
#[derive(Debug, Serialize, Deserialize)]
struct Counts {
    events: u64,
    keys: u64,
    /// Pending and dead deliveries, by destination.
    targets: BTreeMap<String, (u64, u64)>,
}

/// Counts, and their age.
struct Kept {
    counts: Counts,
    age_ms: i64,
    took_ms: i64,
}

impl Kept {
    fn fresh_ms(&self) -> i64 {
        self.took_ms.saturating_mul(FRESH_REST).max(FRESH_MS)
    }

    fn is_fresh(&self) -> bool {
        // Old counts must not become new when the server's clock is set back.
        (0..=self.fresh_ms()).contains(&self.age_ms)
    }

    fn is_stale(&self) -> bool {
        self.age_ms > self.fresh_ms().saturating_mul(2).max(STALE_MS)
    }
}

/// Figures that are read once a minute.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// Size of the tables with their indexes, in bytes.
    pub(super) bytes: u64,
    /// Age of the oldest transaction that keeps dead rows.
    pub(super) oldest_snapshot: Duration,
    /// Transactions since the oldest unfrozen row of a table.
    pub(super) transaction_age: u64,
}

async fn figures(session: &Session) -> Result<Figures, QueryError> {
    let sql = "select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint,
            coalesce(max(age(relfrozenxid)), 0)::bigint,
            (select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8
                from pg_stat_activity
                where backend_xmin is not null and pid <> pg_backend_pid()
                    and backend_type = 'client backend')
        from pg_class where relnamespace = current_schema()::regnamespace and relkind = 'r'";
    let row = session.row(sql, &[]).await?;
    Ok(Figures {
        bytes: row.get::<_, i64>(0).cast_unsigned(),
        transaction_age: row.get::<_, i64>(1).cast_unsigned(),
        oldest_snapshot: Duration::try_from_secs_f64(row.get(2)).unwrap_or_default(),
    })
}

impl Core {
    /// `None`: the server does not respond.
    pub(super) async fn figures(&self) -> Option<Figures> {
        let mut session = self.read.session(instant() + READ_PATIENCE).await.ok()?;
        let figures = figures(&session).await;
        session.heed(figures).ok()
    }

    pub(super) async fn stats_on(self: &Arc<Self>, session: &Session) -> Result<Stats, QueryError> {
        let counts = match self.clock.fixed() {
            Some(_) => count_all(session).await?,
            None => self.counts(session).await?,
        };
        let mut targets: BTreeMap<String, TargetStats> = BTreeMap::new();
        for (name, (pending, dead)) in counts.targets {
            let target = TargetStats::new(TargetId::from(name.as_str()));
            targets.insert(name, TargetStats { pending, dead, ..target });
        }
        for (name, overdue) in self.overdue(session, targets.keys().cloned().collect()).await? {
            if let Some(target) = targets.get_mut(&name) {
                target.oldest_due = u64::try_from(overdue).ok().map(Duration::from_millis);
            }
        }
        let held = held_stats(session).await?;
        Ok(Stats::sum(counts.events, counts.keys, targets.into_values().collect(), held))
    }

    /// How long the first delivery of each destination has been due, in milliseconds: current, from
    /// the floors on.
    async fn overdue(
        &self,
        session: &Session,
        names: Vec<String>,
    ) -> Result<Vec<(String, i64)>, QueryError> {
        let floors = self.floors.floors_of(&names);
        let sql = format!(
            "select w.target, {NOW} - d.due_ms
            from unnest($2::text[], $3::bigint[]) as w(target, floor) cross join lateral (
                select due_ms from delivery
                where target = w.target and due_ms >= w.floor and due_ms <= {NOW}
                order by due_ms limit 1
            ) d"
        );
        let rows = session.rows(&sql, &[&self.clock.fixed(), &names, &floors]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Fresh counts, or the existing ones if counting takes too long.
    async fn counts(self: &Arc<Self>, session: &Session) -> Result<Counts, QueryError> {
        let began = instant();
        let mut counting = None;
        loop {
            let kept = kept(session).await?;
            let patience_is_over = began.elapsed() > COUNT_PATIENCE;
            match kept {
                Some(kept) if kept.is_fresh() => return Ok(kept.counts),
                Some(kept) if patience_is_over && !kept.is_stale() => return Ok(kept.counts),
                _ => {}
            }
            match &mut counting {
                None => {
                    let own = Arc::clone(self);
                    // A count continues when its caller is gone: the next caller finds it.
                    let count = async move { own.count().await };
                    let count = tokio::time::timeout(COUNT_TIME, count);
                    counting = Some(self.dialer.handle.spawn(count));
                }
                // A server that accepts no writes keeps no counts, and can be queried all the same.
                Some(task) if task.is_finished() => match task.await {
                    Ok(Ok(Ok(()))) => counting = None,
                    _ => return count_all(session).await,
                },
                Some(_) => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Counts, unless another gateway does.
    async fn count(&self) -> Result<(), QueryError> {
        let claimed = {
            let mut session = self.lazy.session(instant() + READ_PATIENCE).await?;
            let claimed = claim(&session).await;
            session.heed(claimed)?
        };
        if !claimed {
            return Ok(());
        }
        let counted = self.count_claimed().await;
        if counted.is_err() {
            let mut session = self.lazy.session(instant() + READ_PATIENCE).await?;
            let sql = "update figure set claimed_ms = 0 where name = 'counts'";
            let given_back = session.run(sql, &[]).await;
            session.heed(given_back)?;
        }
        counted
    }

    /// Counts on a separate connection.
    async fn count_claimed(&self) -> Result<(), QueryError> {
        let session = self.dialer.dial(SessionRole::Lazy).await?;
        let milliseconds = COUNT_TIME.as_millis();
        // A sequential scan is faster than an index scan.
        let set = format!("set statement_timeout = {milliseconds}; set enable_seqscan = on");
        session.batch(&set).await?;
        let began = instant();
        let counts = count_all(&session).await;
        let took_ms = millis(began.elapsed());
        let counts = counts?;
        let body = serde_json::to_string(&counts).map_err(|error| {
            QueryError::Refused(Cause::new(FaultCode::Other, error.to_string()))
        })?;
        let sql = format!(
            "update figure set at_ms = {NOW}, took_ms = $2, claimed_ms = 0, body = $3
             where name = 'counts'"
        );
        session.run(&sql, &[&None::<i64>, &took_ms, &body]).await.map(drop)
    }
}

/// Claims the counts for this gateway; returns whether it could. A claim of a gateway that died
/// expires after [`COUNT_TIME`].
async fn claim(session: &Session) -> Result<bool, QueryError> {
    let sql = "insert into figure (name, at_ms, took_ms, claimed_ms, body)
        values ('counts', 0, 0, 0, '') on conflict do nothing";
    session.run(sql, &[]).await?;
    let sql = format!(
        "update figure set claimed_ms = {NOW} + $2
         where name = 'counts' and not (claimed_ms between {NOW} and {NOW} + $2)"
    );
    Ok(session.run(&sql, &[&None::<i64>, &millis(COUNT_TIME)]).await? > 0)
}

async fn kept(session: &Session) -> Result<Option<Kept>, QueryError> {
    let sql = format!("select {NOW} - at_ms, took_ms, body from figure where name = 'counts'");
    let rows = session.rows(&sql, &[&None::<i64>]).await?;
    let kept = |row: &tokio_postgres::Row| {
        // Counts do not exist yet, or a version with other counts wrote them.
        let counts = serde_json::from_str(row.get(2)).ok()?;
        Some(Kept { counts, age_ms: row.get(0), took_ms: row.get(1) })
    };
    Ok(rows.first().and_then(kept))
}

async fn count_all(session: &Session) -> Result<Counts, QueryError> {
    let (events, keys) = (count(session, "event").await?, count(session, "dedupe").await?);
    let mut targets: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let of = |row: &tokio_postgres::Row| row.get::<_, i64>(1).cast_unsigned();
    for row in session.rows("select target, count(*) from delivery group by target", &[]).await? {
        targets.entry(row.get(0)).or_default().0 = of(&row);
    }
    for row in session.rows("select target, count(*) from dead group by target", &[]).await? {
        targets.entry(row.get(0)).or_default().1 = of(&row);
    }
    Ok(Counts { events, keys, targets })
}

/// The number of rows of a table, exact if small.
pub(super) async fn count(session: &Session, table: &str) -> Result<u64, QueryError> {
    let sql = format!("select count(*) from (select 1 from {table} limit {}) x", COUNTED + 1);
    let counted: i64 = session.row(&sql, &[]).await?.get(0);
    if counted <= COUNTED {
        return Ok(counted.cast_unsigned());
    }
    let sql = format!(
        "select coalesce(sum(greatest(reltuples, 0)), 0)::bigint from pg_class
         where relnamespace = current_schema()::regnamespace and relkind = 'r'
            and relname ~ '^{table}(_[0-9]+)?$'"
    );
    let estimate: i64 = session.row(&sql, &[]).await?.get(0);
    Ok(estimate.max(counted).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_took_long_are_made_rarely_and_shown_longer() {
        let kept = |age_ms, took_ms| {
            let counts = Counts { events: 0, keys: 0, targets: BTreeMap::new() };
            let kept = Kept { counts, age_ms, took_ms };
            (kept.is_fresh(), kept.is_stale())
        };
        assert_eq!(kept(FRESH_MS, 0), (true, false));
        assert_eq!(kept(FRESH_MS + 1, 0), (false, false));
        assert_eq!(kept(STALE_MS + 1, 0), (false, true));
        assert_eq!(kept(100_000, 6_000), (true, false));
        assert_eq!(kept(200_000, 6_000), (false, false));
        assert_eq!(kept(240_001, 6_000), (false, true));
        assert_eq!(kept(-5, 0), (false, false));
    }
}
