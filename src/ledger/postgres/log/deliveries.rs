//! Lists of deliveries in one state, newest event first.

use tokio_postgres::Row;
use uuid::Uuid;

use super::{WINDOW, WINDOWS_MAX, With, done, names, open_as};
use crate::ledger::log::DeliveryKey;
use crate::ledger::postgres::Core;
use crate::ledger::postgres::link::Session;
use crate::ledger::postgres::query_error::QueryError;
use crate::ledger::postgres::sql::{event_of, id_of, uuid_of};
use crate::ledger::{
    Cursor, Delivery, DeliveryPage, DeliveryQuery, DeliveryState, EventId, TargetId,
};

/// Rows of pending or dead deliveries that one statement joins with their events.
const OPEN_WINDOW: usize = 2_000;
/// Sorts after every name of a destination.
const LAST_NAME: &str = "\u{10ffff}";

impl Core {
    pub(in crate::ledger::postgres) async fn deliveries_on(
        &self,
        session: &Session,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, QueryError> {
        let limit = limit.max(1);
        let mut after = cursor.map(Cursor::delivery).transpose()?;
        if query.state != DeliveryState::Done {
            return match &query.among {
                None => open_page(session, query, after, limit).await,
                Some(_) => open_among(session, query, after, limit).await,
            };
        }
        for _ in 0..WINDOWS_MAX {
            let (page, last) = done_page(session, query, after.as_ref(), limit).await?;
            if !page.deliveries.is_empty() || last.is_none() {
                return Ok(page);
            }
            // After every destination of that event.
            after = last.map(|event| DeliveryKey { event, target: TargetId::from(LAST_NAME) });
        }
        let next = after.map(|key| Cursor::behind(&done(key.event, key.target)));
        Ok(DeliveryPage { deliveries: Vec::new(), next })
    }
}

/// Pending or dead deliveries: each has a row.
async fn open_page(
    session: &Session,
    query: &DeliveryQuery,
    after: Option<DeliveryKey>,
    limit: usize,
) -> Result<DeliveryPage, QueryError> {
    let mut with = With::default();
    let sql = open_rows(query, after.as_ref(), &mut with, limit + 1);
    let rows = session.rows(&sql, &with.all()).await?;
    Ok(paged(rows.iter().map(open_of).collect(), limit))
}

/// [`open_page`] of some sources. Most dead letters are often of one source, so a narrow window is
/// tried first.
async fn open_among(
    session: &Session,
    query: &DeliveryQuery,
    after: Option<DeliveryKey>,
    limit: usize,
) -> Result<DeliveryPage, QueryError> {
    let narrow = 2 * (limit + 1);
    if narrow < OPEN_WINDOW {
        let page = open_window(session, query, after.clone(), limit, narrow).await?;
        if page.deliveries.len() >= limit || page.next.is_none() {
            return Ok(page);
        }
    }
    open_window(session, query, after, limit, OPEN_WINDOW.max(limit + 1)).await
}

/// Deliveries of some sources among `window` rows. Rows do not have their source, so they are joined
/// with their events.
async fn open_window(
    session: &Session,
    query: &DeliveryQuery,
    after: Option<DeliveryKey>,
    limit: usize,
    window: usize,
) -> Result<DeliveryPage, QueryError> {
    let among = query.among.as_deref().unwrap_or_default();
    let mut with = With::default();
    let rows = open_rows(query, after.as_ref(), &mut with, window);
    let sql = format!(
        "with w as materialized ({rows}), found as (
            select w.* from w {event} where e.source = any({among})
            order by w.event_id desc, w.target limit {}
        )
        select f.event_id, f.target, f.attempt, f.due_ms, s.n, l.event_id, l.target
        from (select count(*) as n from w) s
            left join (select * from w order by event_id, target desc limit 1) l on true
            left join found f on true
        order by f.event_id desc, f.target",
        limit + 1,
        event = event_of("w.event_id"),
        among = with.put(names(among)),
    );
    let rows = session.rows(&sql, &with.all()).await?;
    let found = rows.iter().filter(|row| row.get::<_, Option<Uuid>>(0).is_some());
    let mut page = paged(found.map(open_of).collect(), limit);
    let is_full = |row: &&Row| usize::try_from(row.get::<_, i64>(4)).is_ok_and(|n| n >= window);
    if let Some(row) = rows.first().filter(is_full).filter(|_| page.next.is_none()) {
        let (event, target) = (id_of(row.get(5)), TargetId::from(row.get::<_, &str>(6)));
        page.next = Some(Cursor::behind(&done(event, target)));
    }
    Ok(page)
}

/// The statement that reads at most `most` rows of pending or dead deliveries.
fn open_rows(
    query: &DeliveryQuery,
    after: Option<&DeliveryKey>,
    with: &mut With,
    most: usize,
) -> String {
    let mut wanted = vec![String::from("true")];
    if let Some(key) = after {
        wanted.push(behind("event_id", "target", with, key));
    }
    if let Some(target) = &query.target {
        wanted.push(format!("target = {}", with.put(target.as_str().to_owned())));
    }
    let (table, due) = match query.state {
        DeliveryState::Pending => ("delivery", "due_ms"),
        DeliveryState::Dead | DeliveryState::Done => ("dead", "null::bigint as due_ms"),
    };
    format!(
        "select event_id, target, attempt, {due} from {table} where {}
         order by event_id desc, target limit {most}",
        wanted.join(" and ")
    )
}

/// The delivery of a row of [`open_rows`].
fn open_of(row: &Row) -> Delivery {
    let mut delivery = done(id_of(row.get(0)), TargetId::from(row.get::<_, &str>(1)));
    open_as(&mut delivery, row.get(2), row.get(3));
    delivery
}

/// Finished deliveries in a window of events: destinations of an event without a row. Also returns
/// the last event of the window, if it was full.
async fn done_page(
    session: &Session,
    query: &DeliveryQuery,
    after: Option<&DeliveryKey>,
    limit: usize,
) -> Result<(DeliveryPage, Option<EventId>), QueryError> {
    let mut with = With::default();
    let (mut events, mut wanted) = (String::from("true"), vec![String::from("true")]);
    if let Some(key) = after {
        events = format!("id <= {}", with.put(uuid_of(key.event)));
        wanted.push(behind("w.id", "t.target", &mut with, key));
    }
    if let Some(target) = &query.target {
        wanted.push(format!("t.target = {}", with.put(target.as_str().to_owned())));
    }
    if let Some(among) = &query.among {
        wanted.push(format!("w.source = any({})", with.put(names(among))));
    }
    let sql = format!(
        "with w as materialized (
            select id, source, targets from event where {events} order by id desc limit {WINDOW}
        ), found as (
            select w.id, t.target
            from w cross join lateral unnest(w.targets) as t(target)
            where {} and not exists
                (select 1 from delivery d where d.event_id = w.id and d.target = t.target)
            and not exists (select 1 from dead d where d.event_id = w.id and d.target = t.target)
            order by w.id desc, t.target collate \"C\" limit {}
        )
        select f.id, f.target, s.n, s.last
        from (select count(*) as n, (select id from w order by id limit 1) as last from w) s
            left join found f on true
        order by f.id desc, f.target collate \"C\"",
        wanted.join(" and "),
        limit + 1
    );
    let rows = session.rows(&sql, &with.all()).await?;
    let found = rows.iter().filter_map(|row| {
        let id: Option<Uuid> = row.get(0);
        id.map(|id| done(id_of(id), TargetId::from(row.get::<_, &str>(1))))
    });
    let mut page = paged(found.collect(), limit);
    let Some(row) = rows.first() else { return Ok((page, None)) };
    let full = usize::try_from(row.get::<_, i64>(2)).is_ok_and(|n| n >= WINDOW);
    let last = row.get::<_, Option<Uuid>>(3).filter(|_| full).map(id_of);
    if page.next.is_none() {
        let end = last.map(|id| done(id, TargetId::from(LAST_NAME)));
        page.next = end.as_ref().map(Cursor::behind);
    }
    Ok((page, last))
}

/// After a delivery: later names of its event, then smaller ids.
fn behind(id: &str, name: &str, with: &mut With, key: &DeliveryKey) -> String {
    let event = with.put(uuid_of(key.event));
    let target = with.put(key.target.as_str().to_owned());
    format!("{id} <= {event} and ({id} < {event} or {name} > {target} collate \"C\")")
}

fn paged(mut deliveries: Vec<Delivery>, limit: usize) -> DeliveryPage {
    let more = deliveries.len() > limit;
    deliveries.truncate(limit);
    let next = deliveries.last().filter(|_| more).map(Cursor::behind);
    DeliveryPage { deliveries, next }
}
