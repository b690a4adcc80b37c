//! Replays.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Core;
use super::durability::Required;
use super::link::Session;
use super::query_error::QueryError;
use super::sql::{CLOCK_ONCE, NOW_ONCE, id_of, uuid_of};
use crate::ledger::{
    Cursor, DeliveryState, EventId, ReplayOrder, ReplayPage, ReplayWhat, TargetId,
};

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
        let sql = replay_sql(self.server_watch.required(), order.only);
        for row in session.rows(&sql, &with).await? {
            page.events += 1;
            page.deliveries += u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
        }
        Ok(page)
    }
}

/// The events are locked while their deliveries are made: no sweep deletes them meanwhile.
fn replay_sql(required: Required, only: Option<DeliveryState>) -> String {
    format!(
        "with held as (
            select id, targets from event where id = any($2::uuid[]) and {durable} for key share
        ), wanted as (
            select distinct h.id, t.target
            from held h cross join lateral unnest(coalesce($4::text[], h.targets)) as t(target)
        ), chosen as ({chosen}), renewed as (
            insert into replayed (event_id, replay_id, target)
            select event_id, $3::uuid, target from chosen order by event_id, target
            on conflict do nothing
            returning event_id, target
        ), risen as (
            delete from dead d using renewed a
            where d.event_id = a.event_id and d.target = a.target
        ), due as ({due}), named as (
            update event e set targets =
                (select array_agg(distinct o.t order by o.t) from unnest(e.targets || $4::text[]) as o(t))
            where $4::text[] is not null and e.id in (select event_id from renewed)
                and not e.targets @> $4::text[]
        )
        select count(*) from due group by event_id",
        durable = required.condition(),
        chosen = chosen_sql(only),
        due = due_sql(only),
    )
}

/// The deliveries of `wanted` that are in the state `only`. Their rows are locked: of two orders, the
/// second waits here and finds that a delivery has left the state. One that is leased is in flight.
/// The concatenation is for the same plan as in [`super::deliveries`].
fn chosen_sql(only: Option<DeliveryState>) -> &'static str {
    match only {
        None => "select id as event_id, target from wanted",
        Some(DeliveryState::Dead) => {
            "select d.event_id, d.target
            from dead d join wanted w on d.event_id = w.id and d.target = w.target
            order by d.event_id, d.target for update of d"
        }
        Some(DeliveryState::Pending) => {
            "select d.event_id, d.target
            from delivery d join wanted w on d.event_id = w.id and d.target || '' = w.target
            where d.owner is null order by d.event_id, d.target for update of d"
        }
        Some(DeliveryState::Done) => {
            "select w.id as event_id, w.target from wanted w
            where not exists
                (select 1 from delivery d where d.event_id = w.id and d.target || '' = w.target)
            and not exists (select 1 from dead d where d.event_id = w.id and d.target = w.target)"
        }
    }
}

/// Makes the deliveries of `renewed` due. Only an order for all of them ends leases.
fn due_sql(only: Option<DeliveryState>) -> String {
    let conflict = match only {
        Some(DeliveryState::Pending) => {
            return format!(
                "update delivery d set due_ms = {CLOCK_ONCE}, attempt = 0 from renewed a
                where d.event_id = a.event_id and d.target || '' = a.target
                returning d.event_id"
            );
        }
        Some(DeliveryState::Dead | DeliveryState::Done) => "do nothing",
        None => {
            "do update set due_ms = excluded.due_ms, attempt = 0,
                token = greatest(delivery.token + 1, excluded.token), owner = null"
        }
    };
    format!(
        "insert into delivery (event_id, target, due_ms, attempt, token, owner)
            select event_id, target, {CLOCK_ONCE}, 0, greatest({NOW_ONCE} * 1024, (select max(token)
                from attempt t where t.event_id = a.event_id and t.target = a.target)), null
            from renewed a order by event_id, target
            on conflict (event_id, target) {conflict}
            returning event_id"
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
