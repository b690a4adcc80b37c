//! Expiry of deduplication keys, source by source, from where the last sweep ended.
//!
//! An index by source and time finds expired keys: keys that are kept forever cost nothing. A mark
//! per source (`swept`) skips the range of earlier sweeps. The gateway that locks the mark's row
//! sweeps that source; others skip it.
//!
//! A key stays as long as its event. The mark passes it, and returns to the beginning of the
//! event's day when that event is deleted ([`rewind`]).

use super::link::{PooledSession, Session};
use super::query_error::QueryError;
use crate::clock::UnixMillis;
use crate::ledger::{Retention, SourceId, Swept};

/// The lag of a mark: a key is committed at most this long after its time stamp.
const LATE_MS: i64 = 600_000;

/// Expired keys of a source.
struct Old<'p> {
    source: &'p SourceId,
    /// Received before this.
    before: UnixMillis,
    /// The limit of the mark.
    mark_max: UnixMillis,
    /// Keys of one step.
    most: i64,
}

/// Deletes expired keys, at most `budget` of each source; `days_before`: days that end before this
/// have been swept.
pub(super) async fn sweep_keys(
    session: &mut PooledSession<'_>,
    policy: &Retention,
    days_before: UnixMillis,
    budget: usize,
    swept: &mut Swept,
) -> Result<(), QueryError> {
    for (source, before) in policy.all_keys_before() {
        let old = Old {
            source,
            before: before.min(days_before),
            mark_max: policy.now_ms.saturating_sub(LATE_MS),
            most: i64::try_from(budget).unwrap_or(i64::MAX),
        };
        if !old.is_there(session).await? {
            continue;
        }
        session.begin().await?;
        match old.sweep(session).await {
            Ok(Step { gone, is_full }) => {
                session.commit().await?;
                swept.keys += gone;
                swept.more |= is_full;
            }
            Err(fault) => {
                session.undo().await?;
                return Err(fault);
            }
        }
    }
    Ok(())
}

struct Step {
    gone: u64,
    is_full: bool,
}

impl Old<'_> {
    /// Whether a step would find anything; checked without a writing transaction.
    async fn is_there(&self, session: &Session) -> Result<bool, QueryError> {
        let sql = "select exists (select 1 from dedupe where source = $1 and seen_ms < $2
            and seen_ms >= coalesce((select before_ms from swept where source = $1), 0))";
        Ok(session.row(sql, &[&self.source.as_str(), &self.before]).await?.get(0))
    }

    async fn sweep(&self, session: &Session) -> Result<Step, QueryError> {
        let source = self.source.as_str();
        let sql = "insert into swept (source, before_ms) values ($1, 0) on conflict do nothing";
        session.run(sql, &[&source]).await?;
        let sql = "select before_ms from swept where source = $1 for update skip locked";
        let rows = session.rows(sql, &[&source]).await?;
        // Another gateway sweeps this source.
        let Some(row) = rows.first() else { return Ok(Step { gone: 0, is_full: false }) };
        let mark: UnixMillis = row.get(0);
        // By row position: a key is deleted without a lookup in the index of all keys.
        let sql = "with old as (
                select ctid, id, seen_ms from dedupe
                where source = $1 and seen_ms >= $2 and seen_ms < $3
                order by seen_ms limit $4 for update
            ), gone as (
                delete from dedupe d using old o where d.ctid = o.ctid
                    and not exists (select 1 from event e where e.id = o.id)
                returning 1
            )
            select count(*), max(seen_ms), (select count(*) from gone) from old";
        let row = session.row(sql, &[&source, &mark, &self.before, &self.most]).await?;
        let (seen, last, gone): (i64, Option<i64>, i64) = (row.get(0), row.get(1), row.get(2));
        let is_full = seen == self.most;
        let next = match last {
            // All have the same millisecond, and none of them may be deleted.
            Some(last) if is_full && gone == 0 => last.max(mark + 1),
            Some(last) if is_full => last,
            _ => self.before,
        };
        let next = next.min(self.mark_max);
        if next > mark {
            let sql = "update swept set before_ms = $2 where source = $1";
            session.run(sql, &[&source, &next]).await?;
        }
        // A mark that stays finds the same again.
        Ok(Step { gone: gone.cast_unsigned(), is_full: is_full && (next > mark || gone > 0) })
    }
}

/// Rewinds marks: keys from `from_ms` on have expired, or arrived, after sweeps passed them.
pub(super) async fn rewind(session: &Session, from_ms: UnixMillis) -> Result<(), QueryError> {
    let sql = "update swept set before_ms = $1 where before_ms > $1";
    session.run(sql, &[&from_ms]).await.map(drop)
}
