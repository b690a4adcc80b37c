//! Replays.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Core;
use super::durability::Required;
use super::link::Session;
use super::query_error::QueryError;
use super::sql::{CLOCK_ONCE, NOW_ONCE, id_of, uuid_of};
use crate::ledger::{Cursor, EventId, ReplayOrder, ReplayPage, ReplayWhat, TargetId};

impl Core {
    pub(super) async fn replay_on(
        &self,
        session: &Session,
        order: &ReplayOrder,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<ReplayPage, QueryError> {
        let (ids, next) = match &order.what {
            ReplayWhat::Events(ids) => page_of_ids(session, ids, cursor, limit).await?,
            ReplayWhat::Matching(query) => {
                let page = self.query_on(session, query, cursor, limit).await?;
                (page.events.iter().map(|event| event.id).collect(), page.next)
            }
        };
        let mut page = ReplayPage { next, ..ReplayPage::default() };
        let targets = order.targets.as_ref().map(|targets| {
            let unique: BTreeSet<&str> = targets.iter().map(TargetId::as_str).collect();
            unique.into_iter().collect::<Vec<_>>()
        });
        let ids: Vec<Uuid> = ids.into_iter().map(uuid_of).collect();
        let replay = Uuid::from_bytes(*order.id.as_bytes());
        let with: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&self.clock.fixed(), &ids, &replay, &targets];
        for row in session.rows(&replay_sql(self.server_watch.required()), &with).await? {
            page.events += 1;
            page.deliveries += u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
        }
        Ok(page)
    }
}

/// The events are locked while their deliveries are made: no sweep deletes them meanwhile.
fn replay_sql(required: Required) -> String {
    format!(
        "with held as (
            select id, targets from event where id = any($2::uuid[]) and {durable} for key share
        ), wanted as (
            select distinct h.id, t.target
            from held h cross join lateral unnest(coalesce($4::text[], h.targets)) as t(target)
        ), renewed as (
            insert into replayed (event_id, replay_id, target)
            select id, $3::uuid, target from wanted order by id, target
            on conflict do nothing
            returning event_id, target
        ), risen as (
            delete from dead d using renewed a
            where d.event_id = a.event_id and d.target = a.target
        ), due as (
            insert into delivery (event_id, target, due_ms, attempt, token, owner)
            select event_id, target, {CLOCK_ONCE}, 0, greatest({NOW_ONCE} * 1024, (select max(token)
                from attempt t where t.event_id = a.event_id and t.target = a.target)), null
            from renewed a order by event_id, target
            on conflict (event_id, target) do update set due_ms = excluded.due_ms, attempt = 0,
                token = greatest(delivery.token + 1, excluded.token), owner = null
        ), named as (
            update event e set targets =
                (select array_agg(distinct o.t order by o.t) from unnest(e.targets || $4::text[]) as o(t))
            where $4::text[] is not null and e.id in (select event_id from renewed)
                and not e.targets @> $4::text[]
        )
        select count(*) from renewed group by event_id",
        durable = required.condition()
    )
}

async fn page_of_ids(
    session: &Session,
    ids: &[EventId],
    cursor: Option<&Cursor>,
    limit: usize,
) -> Result<(Vec<EventId>, Option<Cursor>), QueryError> {
    let before = cursor.map(Cursor::event).transpose()?.map(uuid_of);
    let limit = limit.max(1);
    let ids: Vec<Uuid> = ids.iter().copied().map(uuid_of).collect();
    let sql = "select id from event where id = any($1::uuid[]) and ($2::uuid is null or id < $2)
        order by id desc limit $3";
    let most = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let rows = session.rows(sql, &[&ids, &before, &most]).await?;
    let mut page: Vec<EventId> = rows.iter().map(|row| id_of(row.get(0))).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|id| Cursor::after(*id));
    Ok((page, next))
}
