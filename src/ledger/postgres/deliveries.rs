//! Leases and verdicts.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Core;
use super::durability::Required;
use super::link::{HeldSession, Session};
use super::log::{EVENT_PIECE, said_piece};
use super::query_error::QueryError;
use super::row_cipher::under;
use super::sql::{FOR_EVER_MS, NOW, id_of, uuid_of};
use crate::ledger::upkeep::millis;
use crate::ledger::{
    Attempt, EventId, Lease, LeaseAsk, LeaseBatch, NodeId, Settled, Settlement, TargetFilter,
    TargetId, Verdict,
};

/// The destinations that a filter admits, as a table `wanted`. Those that have deliveries are found
/// by going from name to name in the index, so that a long queue costs no more than a short one.
const ONLY: &str = "wanted as (select distinct target from unnest($2::text[]) as o(target))";
const EXCEPT: &str = "names as (
        (select target from delivery order by target limit 1)
        union all
        select (select d.target from delivery d where d.target > n.target order by d.target limit 1)
        from names n where n.target is not null
    ), wanted as (
        select target from names where target is not null and target <> all($2::text[])
    )";

impl Core {
    pub(super) async fn lease_on(
        &self,
        session: &Session,
        who: &NodeId,
        ask: &LeaseAsk,
    ) -> Result<LeaseBatch, QueryError> {
        let (wanted, names) = wanted(&ask.targets);
        let now = self.clock.fixed();
        let max = i64::try_from(ask.max).unwrap_or(i64::MAX);
        let ttl = millis(ask.ttl).min(FOR_EVER_MS);
        // One destination that is slow must not hide the others: each gives its earliest.
        let lease = format!(
            "with recursive {wanted}, due as (
                select d.* from wanted w cross join lateral (
                    select event_id, target, due_ms from delivery
                    where target = w.target and due_ms <= {NOW}
                    order by due_ms, event_id limit $3 for update skip locked
                ) d
            ), first as (
                select * from due order by due_ms, event_id, target limit $3
            ), held as (
                update delivery d set owner = $4, token = d.token + 1, attempt = d.attempt + 1,
                    due_ms = {NOW} + $5
                from first f where d.event_id = f.event_id and d.target = f.target
                returning d.event_id, d.target, d.attempt, d.token, f.due_ms as was_due
            )
            select h.event_id, h.target, h.attempt, h.token, {EVENT_PIECE}
            from held h join event e on e.id = h.event_id
            order by h.was_due, h.event_id, h.target"
        );
        let next = format!(
            "with recursive {wanted}
            select min(d.due_ms) - {NOW} from wanted w cross join lateral (
                select due_ms from delivery where target = w.target order by due_ms limit 1
            ) d"
        );
        let (lease, next) = (session.prepared(&lease).await?, session.prepared(&next).await?);
        let client = session.client();
        let who = who.as_str();
        let for_lease: [&(dyn ToSql + Sync); 5] = [&now, &names, &max, &who, &ttl];
        let for_next: [&(dyn ToSql + Sync); 2] = [&now, &names];
        // Both are on their way before either is answered, in this order.
        let (leased, next) = tokio::join!(
            biased;
            client.query(&lease, &for_lease),
            client.query_one(&next, &for_next),
        );
        let leases = leased?.iter().map(|row| self.lease_of(row, ask)).collect::<Result<_, _>>()?;
        let next: Option<i64> = next?.get(0);
        let wait = |ms: i64| std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        Ok(LeaseBatch { leases, next_due: next.map(wait) })
    }

    /// Settles on one session, whose commit waits as `waits` says, or for nothing. What is done or dead leaves the queue, the rest goes back into it.
    pub(super) async fn settle_on(
        &self,
        held: &mut HeldSession<'_>,
        who: &NodeId,
        settlements: &[Settlement],
        waits: Option<Required>,
    ) -> Result<Vec<Settled>, QueryError> {
        let unique = first_of_each(settlements);
        let ends = |verdict| matches!(verdict, Verdict::Done | Verdict::Decided | Verdict::Dead);
        let (gone, back): (Vec<_>, Vec<_>) =
            unique.into_iter().partition(|at| ends(settlements[*at].verdict));
        let together = !gone.is_empty() && !back.is_empty();
        if together {
            held.begin().await?;
        }
        let mut applied = HashSet::new();
        for (sql, some) in [(end_sql(waits), gone), (back_sql(waits), back)] {
            if !some.is_empty() {
                let some: Vec<_> = some.into_iter().map(|at| (at, &settlements[at])).collect();
                applied.extend(self.verdicts(held, who, &sql, &some).await?);
            }
        }
        if together {
            held.commit().await?;
        }
        let settled = |at| if applied.contains(&at) { Settled::Applied } else { Settled::Stale };
        Ok((0..settlements.len()).map(settled).collect())
    }

    async fn verdicts(
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
        let verdict: Vec<i16> = some().map(|(_, one)| number(one.verdict)).collect();
        let after: Vec<i64> = some().map(|(_, one)| after_ms(one.verdict)).collect();
        let at_ms: Vec<i64> = attempts.iter().map(|one| one.at_ms).collect();
        let latency: Vec<i64> = attempts.iter().map(|one| i64::from(one.latency_ms)).collect();
        let status: Vec<Option<i16>> =
            attempts.iter().map(|one| one.status.map(u16::cast_signed)).collect();
        let pen = self.vault.pen()?;
        let said: Vec<Option<Vec<u8>>> = some()
            .zip(&attempts)
            .map(|((_, one), attempt)| {
                said_piece(&pen, (one.event, &one.target, one.token.cast_signed()), attempt)
            })
            .collect();
        let (now, key, who) = (self.clock.fixed(), pen.number(), who.as_str());
        let with: [&(dyn ToSql + Sync); 13] = [
            &now, &who, &key, &at, &event, &target, &token, &verdict, &after, &at_ms, &latency,
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
        let event = id_of(row.get(0));
        Ok(Lease {
            event,
            target: TargetId::from(row.get::<_, &str>(1)),
            attempt: u32::try_from(row.get::<_, i32>(2)).unwrap_or(u32::MAX),
            token: row.get::<_, i64>(3).cast_unsigned(),
            body: self.event_piece(event, row, 4)?.body,
            expires_in: ask.ttl,
        })
    }

    pub(super) async fn release_on(
        &self,
        session: &Session,
        who: &NodeId,
    ) -> Result<u64, QueryError> {
        let sql = format!(
            "update delivery set owner = null, attempt = attempt - 1, due_ms = {NOW}
             where owner = $2"
        );
        session.run(&sql, &[&self.clock.fixed(), &who.as_str()]).await
    }
}

fn wanted(filter: &TargetFilter) -> (&'static str, Vec<&str>) {
    match filter {
        TargetFilter::All => (EXCEPT, Vec::new()),
        TargetFilter::Except(these) => (EXCEPT, these.iter().map(TargetId::as_str).collect()),
        TargetFilter::Only(these) => (ONLY, these.iter().map(TargetId::as_str).collect()),
    }
}

/// The first of the settlements of each lease: it is settled once.
fn first_of_each(settlements: &[Settlement]) -> Vec<usize> {
    let mut seen = HashMap::new();
    for (at, one) in settlements.iter().enumerate() {
        seen.entry((one.event, &one.target, one.token)).or_insert(at);
    }
    let mut first: Vec<usize> = seen.into_values().collect();
    // Rows are locked in one order by everybody.
    first.sort_by_key(|at| (settlements[*at].event, &settlements[*at].target));
    first
}

const DONE: i16 = 0;
const DEAD: i16 = 1;
const RETRY: i16 = 2;
const POSTPONE: i16 = 3;

fn number(verdict: Verdict) -> i16 {
    match verdict {
        Verdict::Done | Verdict::Decided => DONE,
        Verdict::Dead => DEAD,
        Verdict::Retry { .. } => RETRY,
        Verdict::Postpone { .. } => POSTPONE,
    }
}

fn after_ms(verdict: Verdict) -> i64 {
    match verdict {
        Verdict::Done | Verdict::Decided | Verdict::Dead => 0,
        Verdict::Retry { after } | Verdict::Postpone { after } => millis(after).min(FOR_EVER_MS),
    }
}

/// The verdicts as a table `v`.
fn verdicts(waits: Option<Required>) -> String {
    let durable = waits.map_or("true", Required::condition);
    format!(
        "v as (select * from unnest($4::bigint[], $5::uuid[], $6::text[], $7::bigint[],
            $8::smallint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::smallint[],
            $13::bytea[]) as o(n, event_id, target, token, verdict, after_ms, at_ms, latency_ms,
            status, said) where {} and {durable})",
        under("$3")
    )
}

const SAID: &str = "insert into attempt (event_id, target, token, at_ms, latency_ms, status, said)
    select event_id, target, token, at_ms, latency_ms, status, said";

fn end_sql(waits: Option<Required>) -> String {
    format!(
        "with {verdicts}, gone as (
            delete from delivery d using v
            where d.event_id = v.event_id and d.target = v.target and d.token = v.token
                and d.owner = $2
            returning v.*, d.attempt
        ), buried as (
            insert into dead (event_id, target, attempt, died_ms)
            select event_id, target, attempt, {NOW} from gone where verdict = {DEAD}
        ), said as ({SAID} from gone)
        select n from gone",
        verdicts = verdicts(waits)
    )
}

fn back_sql(waits: Option<Required>) -> String {
    format!(
        "with {verdicts}, back as (
            update delivery d set owner = null,
                due_ms = {NOW} + v.after_ms,
                attempt = d.attempt - (case when v.verdict = {POSTPONE} then 1 else 0 end)
            from v
            where d.event_id = v.event_id and d.target = v.target and d.token = v.token
                and d.owner = $2
            returning v.*
        ), said as ({SAID} from back where verdict = {RETRY})
        select n from back",
        verdicts = verdicts(waits)
    )
}
