//! Figures of the server: counts of what it holds, and what it says about itself.
//!
//! Counts are made by one gateway for all: the one that finds them old claims the row in `figure`
//! for a while, counts, and writes them there. The others read that row. So neither more gateways nor
//! more scrapes cost the server more, and a count that takes long is made rarely.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dialer::Role;
use super::held::held_stats;
use super::link::Session;
use super::query_error::{Cause, QueryError};
use super::sql::NOW;
use super::{Core, READ_PATIENCE};
use crate::clock::instant;
use crate::ledger::{FaultCode, Stats, TargetId, TargetStats};

/// Rows up to this are counted; of more the server's own estimate is good enough.
const COUNTED: i64 = 100_000;
/// Counts are made again when they are older than this, …
const FRESH_MS: i64 = 1_000;
/// … or than this many times what they took: counting costs the server 5 % of a core at most.
const FRESH_REST: i64 = 20;
/// Counts older than this, and than twice as long as they are fresh, are not shown any more.
const STALE_MS: i64 = 60_000;
/// How long a count may take. A claim lasts as long.
const COUNT_TIME: Duration = Duration::from_secs(120);
/// How long one who asks waits for new counts where there are old ones.
const COUNT_PATIENCE: Duration = Duration::from_secs(1);
/// From one look for new counts to the next.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Counts, as `figure` keeps them.
#[derive(Debug, Serialize, Deserialize)]
struct Counts {
    events: u64,
    keys: u64,
    /// Pending and dead deliveries, by destination.
    targets: BTreeMap<String, (u64, u64)>,
}

/// Counts, and how old they are.
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
        // A server's clock that was set back must not make old counts new.
        (0..=self.fresh_ms()).contains(&self.age_ms)
    }

    fn is_stale(&self) -> bool {
        self.age_ms > self.fresh_ms().saturating_mul(2).max(STALE_MS)
    }
}

/// Figures that are asked for once a minute.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// Bytes that the tables take with their indexes.
    pub(super) bytes: u64,
    /// How long the oldest transaction that keeps dead rows has been open.
    pub(super) oldest_snapshot: Duration,
    /// Transactions since the oldest row of a table that is not frozen.
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
    /// `None`: the server does not say just now.
    pub(super) async fn figures(&self) -> Option<Figures> {
        let mut held = self.read.session(instant() + READ_PATIENCE).await.ok()?;
        let figures = figures(&held).await;
        held.heed(figures).ok()
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
        Ok(Stats::sum((counts.events, counts.keys), targets.into_values().collect(), held))
    }

    /// For how long the first delivery of each of these destinations has been due, in milliseconds:
    /// asked for now, from the floors on.
    async fn overdue(
        &self,
        session: &Session,
        names: Vec<String>,
    ) -> Result<Vec<(String, i64)>, QueryError> {
        let floors = self.queue.floors_of(&names);
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

    /// Counts that are fresh, or those that there are where counting takes longer than people wait.
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
                    // A count goes on when its caller is gone: the next one finds it.
                    let count = async move { own.count().await };
                    let count = tokio::time::timeout(COUNT_TIME, count);
                    counting = Some(self.dialer.handle.spawn(count));
                }
                // A server that takes no writes keeps no counts, and can be asked all the same.
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
            let mut held = self.lazy.session(instant() + READ_PATIENCE).await?;
            let claimed = claim(&held).await;
            held.heed(claimed)?
        };
        if !claimed {
            return Ok(());
        }
        let counted = self.count_claimed().await;
        if counted.is_err() {
            let mut held = self.lazy.session(instant() + READ_PATIENCE).await?;
            let sql = "update figure set claimed_ms = 0 where name = 'counts'";
            let given_back = held.run(sql, &[]).await;
            held.heed(given_back)?;
        }
        counted
    }

    /// Counts on a connection of its own.
    async fn count_claimed(&self) -> Result<(), QueryError> {
        let session = self.dialer.dial(Role::Lazy).await?;
        let milliseconds = COUNT_TIME.as_millis();
        // A table is read faster than its index is walked.
        let set = format!("set statement_timeout = {milliseconds}; set enable_seqscan = on");
        session.batch(&set).await?;
        let began = instant();
        let counts = count_all(&session).await;
        let took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
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

/// Claims the counts for this gateway; whether it could. Who claims them and dies keeps others from
/// it for [`COUNT_TIME`].
async fn claim(session: &Session) -> Result<bool, QueryError> {
    let sql = "insert into figure (name, at_ms, took_ms, claimed_ms, body)
        values ('counts', 0, 0, 0, '') on conflict do nothing";
    session.run(sql, &[]).await?;
    let sql = format!(
        "update figure set claimed_ms = {NOW} + $2
         where name = 'counts' and not (claimed_ms between {NOW} and {NOW} + $2)"
    );
    let time_ms = i64::try_from(COUNT_TIME.as_millis()).unwrap_or(i64::MAX);
    Ok(session.run(&sql, &[&None::<i64>, &time_ms]).await? > 0)
}

async fn kept(session: &Session) -> Result<Option<Kept>, QueryError> {
    let sql = format!("select {NOW} - at_ms, took_ms, body from figure where name = 'counts'");
    let rows = session.rows(&sql, &[&None::<i64>]).await?;
    let kept = |row: &tokio_postgres::Row| {
        // Nothing was counted yet, or by a version that counts otherwise.
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

/// Rows of a table, exactly where they are few.
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
