//! Leases and their results.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Core;
use super::durability::{AS_DURABLE, Required};
use super::link::{PooledSession, Session};
use super::log::{EVENT_PIECE, response_piece};
use super::query_error::QueryError;
use super::queue::{LeaseFindings, Mark};
use super::row_cipher::{Place, under};
use super::sql::{
    CLOCK, CLOCK_ONCE, FOR_EVER_MS, NOW, NOW_ONCE, NUMBERED, event_of, id_of, uuid_of,
};
use crate::clock::millis;
use crate::ledger::{
    Attempt, EventId, Lease, LeaseAsk, LeaseBatch, LeaseResult, NodeId, Settled, Settlement,
    TargetId,
};

/// How far ahead a lease looks for the next due time: a loop looks again by then
/// ([`crate::ledger::Engine::look_again`]).
const AHEAD_MS: i64 = 500;

/// Destinations and their floors: parameters 2 and 3.
const WANTED: &str =
    "wanted as (select * from unnest($2::text[], $3::bigint[]) as o(target, floor))";

impl Core {
    pub(super) async fn lease_on(
        &self,
        session: &Session,
        who: &NodeId,
        ask: &LeaseAsk,
    ) -> Result<LeaseBatch, QueryError> {
        let wanted = self.lease_targets(session, &ask.targets).await?;
        if wanted.targets.is_empty() {
            return Ok(LeaseBatch::default());
        }
        let (lease, next) = (lease_sql(), next_sql());
        let (lease, next) = (session.prepared(&lease).await?, session.prepared(&next).await?);
        let (client, now, who) = (session.client(), self.clock.fixed(), who.as_str());
        let max = i64::try_from(ask.max).unwrap_or(i64::MAX);
        let ttl = millis(ask.ttl).min(FOR_EVER_MS);
        let ahead = if now.is_some() { FOR_EVER_MS } else { AHEAD_MS };
        let (targets, floors) = (&wanted.targets, &wanted.floors);
        let for_lease: [&(dyn ToSql + Sync); 6] = [&now, targets, floors, &max, &who, &ttl];
        let for_next: [&(dyn ToSql + Sync); 4] = [&now, targets, floors, &ahead];
        // Both are sent before either is answered, in this order.
        let (leased, next) = tokio::join!(
            biased;
            client.query(&lease, &for_lease),
            client.query(&next, &for_next),
        );
        let (leased, next) = (leased?, next?);
        let found = found(leased.first().filter(|_| now.is_none()), &next);
        let after = |row: &Row| Some(row.get::<_, Option<i64>>(1)? - row.get::<_, i64>(2));
        let next_due = next.iter().filter_map(after).min();
        self.floors.learn(&wanted, found);
        let leases = leased.iter().map(|row| self.lease_of(row, ask)).collect::<Result<_, _>>()?;
        let wait = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        Ok(LeaseBatch { leases, next_due: next_due.map(wait) })
    }

    /// Settles on one session, whose commit waits as `waits` says, or not at all. Finished and dead
    /// deliveries leave the queue, the others return to it.
    pub(super) async fn settle_on(
        &self,
        session: &mut PooledSession<'_>,
        who: &NodeId,
        settlements: &[Settlement],
        waits: Option<Required>,
    ) -> Result<Vec<Settled>, QueryError> {
        let unique = first_of_each(settlements);
        let ends =
            |result| matches!(result, LeaseResult::Done | LeaseResult::Decided | LeaseResult::Dead);
        let (gone, back): (Vec<_>, Vec<_>) =
            unique.into_iter().partition(|at| ends(settlements[*at].result));
        let together = !gone.is_empty() && !back.is_empty();
        if together {
            session.begin().await?;
        }
        let mut applied = HashSet::new();
        for (sql, some) in [(end_sql(waits), gone), (back_sql(waits), back)] {
            if !some.is_empty() {
                let some: Vec<_> = some.into_iter().map(|at| (at, &settlements[at])).collect();
                applied.extend(self.apply_settlements(session, who, &sql, &some).await?);
            }
        }
        if together {
            session.commit().await?;
        }
        let settled = |at| if applied.contains(&at) { Settled::Applied } else { Settled::Stale };
        Ok((0..settlements.len()).map(settled).collect())
    }

    async fn apply_settlements(
        &self,
        session: &Session,
        who: &NodeId,
        sql: &str,
        some: &[(usize, &Settlement)],
    ) -> Result<Vec<usize>, QueryError> {
        let some = || some.iter().copied();
        let attempts: Vec<Attempt> = some().map(|(_, one)| one.attempt.clone().trimmed()).collect();
        let at: Vec<i64> = some().map(|(at, _)| at as i64).collect();
        let event: Vec<Uuid> = some().map(|(_, one)| uuid_of(one.event)).collect();
        let target: Vec<&str> = some().map(|(_, one)| one.target.as_str()).collect();
        let token: Vec<i64> = some().map(|(_, one)| one.token.cast_signed()).collect();
        let result: Vec<i16> = some().map(|(_, one)| number(one.result)).collect();
        let after: Vec<i64> = some().map(|(_, one)| after_ms(one.result)).collect();
        let at_ms: Vec<i64> = attempts.iter().map(|one| one.at_ms).collect();
        let latency: Vec<i64> = attempts.iter().map(|one| i64::from(one.latency_ms)).collect();
        let status: Vec<Option<i16>> =
            attempts.iter().map(|one| one.status.map(u16::cast_signed)).collect();
        let sealer = self.row_cipher.sealer()?;
        let said: Vec<Option<Vec<u8>>> = some()
            .zip(&attempts)
            .map(|((_, one), attempt)| {
                let (event, target) = (one.event, one.target.as_str());
                let place = Place::Attempt { event, target, token: one.token.cast_signed() };
                response_piece(&sealer, place, attempt)
            })
            .collect();
        let (now, key, who) = (self.clock.fixed(), sealer.number(), who.as_str());
        let with: [&(dyn ToSql + Sync); 13] = [
            &now, &who, &key, &at, &event, &target, &token, &result, &after, &at_ms, &latency,
            &status, &said,
        ];
        Ok(session
            .rows(sql, &with)
            .await?
            .iter()
            .filter_map(|row| usize::try_from(row.get::<_, i64>(0)).ok())
            .collect())
    }

    /// After a try whose answer was lost: what it did, it did, and its attempt says so.
    pub(super) async fn found_settled(
        &self,
        session: &Session,
        settlements: &[Settlement],
        settled: &mut [Settled],
    ) -> Result<(), QueryError> {
        let event: Vec<Uuid> = settlements.iter().map(|one| uuid_of(one.event)).collect();
        let target: Vec<&str> = settlements.iter().map(|one| one.target.as_str()).collect();
        let token: Vec<i64> = settlements.iter().map(|one| one.token.cast_signed()).collect();
        let sql = "select event_id, target, token from attempt where (event_id, target, token) in
            (select * from unnest($1::uuid[], $2::text[], $3::bigint[]))";
        let rows = session.rows(sql, &[&event, &target, &token]).await?;
        let found: HashSet<(EventId, &str, i64)> =
            rows.iter().map(|row| (id_of(row.get(0)), row.get(1), row.get(2))).collect();
        for (one, settled) in settlements.iter().zip(settled) {
            let key = (one.event, one.target.as_str(), one.token.cast_signed());
            if found.contains(&key) {
                *settled = Settled::Applied;
            }
        }
        Ok(())
    }

    fn lease_of(&self, row: &Row, ask: &LeaseAsk) -> Result<Lease, QueryError> {
        let event = id_of(row.get(2));
        Ok(Lease {
            event,
            target: TargetId::from(row.get::<_, &str>(3)),
            attempt: u32::try_from(row.get::<_, i32>(4)).unwrap_or(u32::MAX),
            token: row.get::<_, i64>(5).cast_unsigned(),
            body: self.event_piece(event, row, 6)?.body,
            expires_in: ask.ttl,
        })
    }

    pub(super) async fn release_on(
        &self,
        session: &Session,
        who: &NodeId,
    ) -> Result<u64, QueryError> {
        let sql = format!(
            "update delivery set owner = null, attempt = attempt - 1, due_ms = {CLOCK}
             where owner = $2 and {NUMBERED}"
        );
        session.run(&sql, &[&self.clock.fixed(), &who.as_str()]).await
    }
}

/// One destination that is slow must not hide the others: each gives its earliest. Sessions that lease
/// do not wait for their commits: a lost lease delivers the same event again. See [`AS_DURABLE`].
///
/// The locked rows are found again by their place: by key, a plan that takes the table for empty
/// walks over all dead rows once for each.
fn lease_sql() -> String {
    format!(
        "with {WANTED}, due as (
            select d.* from wanted w cross join lateral (
                select ctid as place, event_id, target, due_ms from delivery
                where target = w.target and due_ms >= w.floor and due_ms <= {NOW}
                order by due_ms limit $4 for update skip locked
            ) d
        ), first as (
            select * from due order by due_ms, event_id, target limit $4
        ), held as (
            update delivery d set owner = $5, token = d.token + 1, attempt = d.attempt + 1,
                due_ms = {CLOCK_ONCE} + $6
            from first f where d.ctid = f.place
            returning d.event_id, d.target, d.attempt, d.token, f.due_ms as was_due
        )
        select (select pg_current_xact_id()::text::bigint), {NOW_ONCE},
            h.event_id, h.target, h.attempt, h.token, {EVENT_PIECE}, (select {AS_DURABLE})
        from held h {event}
        order by h.was_due, h.event_id, h.target",
        event = event_of("h.event_id")
    )
}

/// The first due time of each destination, and the oldest transaction that is in progress.
fn next_sql() -> String {
    format!(
        "with {WANTED}
        select w.target, d.due_ms, {NOW}, pg_snapshot_xmin(pg_current_snapshot())::text::bigint
        from wanted w left join lateral (
            select due_ms from delivery
            where target = w.target and due_ms >= w.floor and due_ms <= {NOW} + $4
            order by due_ms limit 1
        ) d on true"
    )
}

/// The state of the queue in the rows of [`lease_sql`] and [`next_sql`].
fn found(leased: Option<&Row>, next: &[Row]) -> LeaseFindings {
    LeaseFindings {
        mark: leased.map(|row| Mark { number: row.get(0), began_ms: row.get(1) }),
        oldest: next.first().map_or(0, |row| row.get(3)),
        firsts: next.iter().map(|row| (row.get(0), row.get(1))).collect(),
    }
}

/// The first of the settlements of each lease: it is settled once.
fn first_of_each(settlements: &[Settlement]) -> Vec<usize> {
    let mut seen = HashMap::new();
    for (at, one) in settlements.iter().enumerate() {
        seen.entry((one.event, &one.target, one.token)).or_insert(at);
    }
    let mut first: Vec<usize> = seen.into_values().collect();
    // All gateways lock rows in the same order.
    first.sort_by_key(|at| (settlements[*at].event, &settlements[*at].target));
    first
}

const DONE: i16 = 0;
const DEAD: i16 = 1;
const RETRY: i16 = 2;
const POSTPONE: i16 = 3;

fn number(result: LeaseResult) -> i16 {
    match result {
        LeaseResult::Done | LeaseResult::Decided => DONE,
        LeaseResult::Dead => DEAD,
        LeaseResult::Retry { .. } => RETRY,
        LeaseResult::Postpone { .. } => POSTPONE,
    }
}

fn after_ms(result: LeaseResult) -> i64 {
    match result {
        LeaseResult::Done | LeaseResult::Decided | LeaseResult::Dead => 0,
        LeaseResult::Retry { after } | LeaseResult::Postpone { after } => {
            millis(after).min(FOR_EVER_MS)
        }
    }
}

/// The settlements as a table `v`.
fn settlements_sql(waits: Option<Required>) -> String {
    let durable = waits.map_or("true", Required::condition);
    format!(
        "v as (select * from unnest($4::bigint[], $5::uuid[], $6::text[], $7::bigint[],
            $8::smallint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::smallint[],
            $13::bytea[]) as o(n, event_id, target, token, result, after_ms, at_ms, latency_ms,
            status, said) where {} and {durable} and {NUMBERED})",
        under("$3")
    )
}

/// The places `found` of the deliveries of `v`. Found by event and token: the concatenation keeps a
/// server that takes the queue for empty from looking for the destination instead, where it would walk
/// over all dead rows.
const FOUND: &str = "found as materialized (
            select v.*, d.place from v cross join lateral (
                select ctid as place from delivery d
                where d.event_id = v.event_id and d.target || '' = v.target
                    and d.token = v.token and d.owner = $2
                offset 0
            ) d
        )";

/// Whether the delivery `d` is the one of the row `f` of [`FOUND`], and was not leased or replayed
/// meanwhile.
const IS_FOUND: &str = "d.ctid = f.place and d.token = f.token and d.owner = $2";

const SAID: &str = "insert into attempt (event_id, target, token, at_ms, latency_ms, status, said)
    select event_id, target, token, at_ms, latency_ms, status, said";

fn end_sql(waits: Option<Required>) -> String {
    format!(
        "with {settlements}, {FOUND}, gone as (
            delete from delivery d using found f where {IS_FOUND}
            returning f.*, d.attempt
        ), buried as (
            insert into dead (event_id, target, attempt, died_ms)
            select event_id, target, attempt, {NOW_ONCE} from gone where result = {DEAD}
        ), said as ({SAID} from gone)
        select n from gone",
        settlements = settlements_sql(waits)
    )
}

fn back_sql(waits: Option<Required>) -> String {
    format!(
        "with {settlements}, {FOUND}, back as (
            update delivery d set owner = null,
                due_ms = {CLOCK_ONCE} + f.after_ms,
                attempt = d.attempt - (case when f.result = {POSTPONE} then 1 else 0 end)
            from found f where {IS_FOUND}
            returning f.*
        ), said as ({SAID} from back where result = {RETRY})
        select n from back",
        settlements = settlements_sql(waits)
    )
}
