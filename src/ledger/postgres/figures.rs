//! What the server says about itself, and what it holds.

use std::collections::BTreeMap;
use std::time::Duration;

use super::held::held_stats;
use super::link::Session;
use super::query_error::QueryError;
use super::sql::NOW;
use super::{Core, READ_PATIENCE};
use crate::clock::instant;
use crate::ledger::{Stats, TargetId, TargetStats};

/// Rows up to this are counted; of more the server's own estimate is good enough.
const COUNTED: i64 = 100_000;

async fn size(session: &Session) -> Result<u64, QueryError> {
    let sql = "select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint from pg_class
        where relnamespace = current_schema()::regnamespace and relkind = 'r'";
    let bytes: i64 = session.row(sql, &[]).await?.get(0);
    Ok(bytes.cast_unsigned())
}

impl Core {
    /// Bytes that the tables take with their indexes; `None`: the server does not say just now.
    pub(super) async fn size(&self) -> Option<u64> {
        let mut held = self.read.session(instant() + READ_PATIENCE).await.ok()?;
        let bytes = size(&held).await;
        held.heed(bytes).ok()
    }

    pub(super) async fn stats_on(&self, session: &Session) -> Result<Stats, QueryError> {
        let events = count(session, "event").await?;
        let keys = count(session, "dedupe").await?;
        let mut targets: BTreeMap<String, TargetStats> = BTreeMap::new();
        let sql =
            format!("select target, count(*), {NOW} - min(due_ms) from delivery group by target");
        for row in session.rows(&sql, &[&self.clock.fixed()]).await? {
            let (name, pending, overdue): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
            let overdue = u64::try_from(overdue).ok().map(Duration::from_millis);
            let stats = of(&mut targets, name);
            (stats.pending, stats.oldest_due) = (pending.cast_unsigned(), overdue);
        }
        let sql = "select target, count(*) from dead group by target";
        for row in session.rows(sql, &[]).await? {
            of(&mut targets, row.get(0)).dead = row.get::<_, i64>(1).cast_unsigned();
        }
        let held = held_stats(session).await?;
        Ok(Stats::sum((events, keys), targets.into_values().collect(), held))
    }
}

fn of(targets: &mut BTreeMap<String, TargetStats>, name: String) -> &mut TargetStats {
    let target = TargetId::from(name.as_str());
    targets.entry(name).or_insert_with(|| TargetStats::new(target))
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
