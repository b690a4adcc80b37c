//! Deliveries of some events, counted by state.

use uuid::Uuid;

use super::link::Session;
use super::query_error::QueryError;
use super::sql::uuid_of;
use crate::ledger::{DeliveryCounts, EventId, TargetId};

/// A delivery that is neither in `delivery` nor in `dead` is done.
const SQL: &str = "with named as (
        select w.id, e.targets, e.id is null as gone
        from unnest($1::uuid[]) as w(id)
            left join lateral (select id, targets from event where id = w.id offset 0) e on true
    ), wanted as (
        select n.id, t.target
        from named n cross join lateral unnest(coalesce($2::text[], n.targets)) as t(target)
        where not n.gone
    )
    select (select count(*) from named where gone),
        count(*), count(p.event_id), count(d.event_id)
    from wanted w
        left join delivery p on p.event_id = w.id and p.target = w.target
        left join dead d on d.event_id = w.id and d.target = w.target";

pub(super) async fn count_deliveries_on(
    session: &Session,
    events: &[EventId],
    targets: Option<&[TargetId]>,
) -> Result<DeliveryCounts, QueryError> {
    let ids: Vec<Uuid> = events.iter().map(|event| uuid_of(*event)).collect();
    let names: Option<Vec<&str>> =
        targets.map(|targets| targets.iter().map(TargetId::as_str).collect());
    let row = session.row(SQL, &[&ids, &names]).await?;
    let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    let (gone, all, pending, dead) = (count(0), count(1), count(2), count(3));
    Ok(DeliveryCounts { done: all.saturating_sub(pending + dead), dead, pending, gone })
}
