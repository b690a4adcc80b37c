//! Reading: the log, single events, lists of deliveries.
//!
//! Pages go by keys. A filter that no index serves looks through a window of events at a time, so
//! that one question never reads a whole table; a page may then be short and have a next one.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Core;
use super::fault::Fault;
use super::link::Session;
use super::sql::{hash8, id_of, uuid_of};
use crate::clock::UnixMillis;
use crate::ledger::{
    Attempt, Cursor, Delivery, DeliveryPage, DeliveryQuery, DeliveryState, EventDetail, EventId,
    EventState, LogPage, LogQuery, Logged, SourceId, TargetId,
};

/// Events that one statement looks through.
const WINDOW: usize = 10_000;
/// Windows that one call looks through before it hands back a page with nothing in it.
const WINDOWS_MAX: usize = 20;
/// An id was made when its event was received; another clock may have stamped that.
const SKEW_MS: i64 = 60_000;

/// Parameters of a statement that is put together.
#[derive(Default)]
struct With(Vec<Box<dyn ToSql + Sync + Send>>);

impl With {
    /// Adds one; its place in the statement.
    fn put(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.0.push(Box::new(value));
        format!("${}", self.0.len())
    }

    fn all(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }
}

const SHOWN: &str = "e.id, e.source, e.received_ms, e.test, e.body,
    exists (select 1 from delivery d where d.event_id = e.id),
    exists (select 1 from dead d where d.event_id = e.id)";

fn logged(row: &Row) -> Logged {
    let state = match (row.get(5), row.get(6)) {
        (true, _) => EventState::Pending,
        (false, true) => EventState::Dead,
        (false, false) => EventState::Done,
    };
    Logged {
        id: id_of(row.get(0)),
        source: SourceId::from(row.get::<_, &str>(1)),
        received_ms: row.get(2),
        test: row.get(3),
        state,
        body: Bytes::copy_from_slice(row.get(4)),
    }
}

impl Core {
    pub(super) async fn query_on(
        &self,
        session: &Session,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<LogPage, Fault> {
        let limit = limit.max(1);
        let mut before = cursor.map(Cursor::event).transpose()?;
        for _ in 0..WINDOWS_MAX {
            let (events, last) = window(session, query, before, limit).await?;
            if !events.is_empty() || last.is_none() {
                return Ok(LogPage { events, next: last.map(Cursor::after) });
            }
            before = last;
        }
        Ok(LogPage { events: Vec::new(), next: before.map(Cursor::after) })
    }

    pub(super) async fn event_on(
        &self,
        session: &Session,
        id: EventId,
    ) -> Result<Option<EventDetail>, Fault> {
        let key = uuid_of(id);
        let sql = format!("select {SHOWN}, e.targets from event e where e.id = $1");
        let mut found = session.rows(&sql, &[&key]).await?;
        let Some(row) = found.pop() else { return Ok(None) };
        let names: Vec<String> = row.get(7);
        let sql = "select target, attempt, due_ms from delivery where event_id = $1
            union all select target, attempt, null from dead where event_id = $1";
        let open = session.rows(sql, &[&key]).await?;
        let sql = "select target, at_ms, latency_ms, status, head, error from attempt
            where event_id = $1 order by target, token";
        let mut attempts: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
        for row in session.rows(sql, &[&key]).await? {
            attempts.entry(row.get(0)).or_default().push(attempt_of(&row, 1));
        }
        let mut deliveries = BTreeMap::new();
        for name in names {
            let attempts = attempts.remove(&name).unwrap_or_default();
            let done = Delivery { attempts, ..done(id, TargetId::from(name.as_str())) };
            deliveries.insert(name, done);
        }
        for row in &open {
            let Some(delivery) = deliveries.get_mut(row.get::<_, &str>(0)) else { continue };
            open_as(delivery, row.get(1), row.get(2));
        }
        let deliveries = deliveries.into_values().collect();
        Ok(Some(EventDetail { event: logged(&row), deliveries }))
    }

    pub(super) async fn deliveries_on(
        &self,
        session: &Session,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, Fault> {
        let limit = limit.max(1);
        let mut after = cursor.map(Cursor::delivery).transpose()?;
        if query.state != DeliveryState::Done {
            return open_page(session, query, after, limit).await;
        }
        for _ in 0..WINDOWS_MAX {
            let (page, last) = done_page(session, query, after.as_ref(), limit).await?;
            if !page.deliveries.is_empty() || last.is_none() {
                return Ok(page);
            }
            // Behind every destination of that event.
            after = last.map(|id| (id, TargetId::from(LAST_NAME)));
        }
        let next = after.map(|(event, target)| Cursor::behind(&done(event, target)));
        Ok(DeliveryPage { deliveries: Vec::new(), next })
    }
}

/// No name of a destination comes behind this one.
const LAST_NAME: &str = "\u{10ffff}";

fn done(event: EventId, target: TargetId) -> Delivery {
    let state = DeliveryState::Done;
    Delivery { event, target, state, attempt: 0, due_ms: None, attempts: Vec::new() }
}

fn open_as(delivery: &mut Delivery, attempt: i32, due_ms: Option<UnixMillis>) {
    delivery.state = if due_ms.is_some() { DeliveryState::Pending } else { DeliveryState::Dead };
    delivery.attempt = u32::try_from(attempt).unwrap_or(0);
    delivery.due_ms = due_ms;
}

/// The attempt whose columns begin at `at`.
pub(super) fn attempt_of(row: &Row, at: usize) -> Attempt {
    let error: Option<&[u8]> = row.get(at + 4);
    Attempt {
        at_ms: row.get(at),
        latency_ms: u32::try_from(row.get::<_, i64>(at + 1)).unwrap_or(u32::MAX),
        status: row.get::<_, Option<i16>>(at + 2).map(i16::cast_unsigned),
        head: Bytes::copy_from_slice(row.get(at + 3)),
        error: error.map(|text| String::from_utf8_lossy(text).into_owned()),
    }
}

/// Some of the events of a query, and the id that the next ones are before.
async fn window(
    session: &Session,
    query: &LogQuery,
    before: Option<EventId>,
    limit: usize,
) -> Result<(Vec<Logged>, Option<EventId>), Fault> {
    let mut with = With::default();
    let before = before.map(|id| with.put(uuid_of(id)));
    let indexed = indexed(query, &mut with);
    let filters = filters(query, &mut with);
    // Without a filter that an index cannot serve, every event that is looked at is shown.
    let width = if filters.is_empty() { limit + 1 } else { WINDOW.max(limit + 1) };
    let below = |column: &str| match &before {
        Some(place) => format!("{column} < {place}"),
        None => String::from("true"),
    };
    let all = [&indexed[..], &filters[..]].concat();
    // Events that wait are few and old ones are many: they are found by their deliveries.
    let ids = match query.state {
        Some(EventState::Pending) => ids_of("delivery", &below("event_id")),
        Some(EventState::Dead) => ids_of("dead", &below("event_id")),
        _ => {
            let wanted = [&[below("e.id")], &indexed[..]].concat();
            format!("select e.id from event e where {} order by e.id desc", wanted.join(" and "))
        }
    };
    let narrow = if all.is_empty() { String::from("true") } else { all.join(" and ") };
    let most = limit + 1;
    let sql = format!(
        "with ids as materialized ({ids} limit {width}), found as (
            select e.* from ids i join event e on e.id = i.id where {narrow}
            order by e.id desc limit {most}
        )
        select {SHOWN}, s.n, s.last
        from (select count(*) as n, (select id from ids order by id limit 1) as last from ids) s
            left join found e on true
        order by e.id desc"
    );
    let rows = session.rows(&sql, &with.all()).await?;
    let mut events: Vec<Logged> =
        rows.iter().filter(|row| row.get::<_, Option<Uuid>>(0).is_some()).map(logged).collect();
    if events.len() > limit {
        events.truncate(limit);
        let last = events.last().map(|event| event.id);
        return Ok((events, last));
    }
    let Some(row) = rows.first() else { return Ok((events, None)) };
    let full = usize::try_from(row.get::<_, i64>(7)).is_ok_and(|n| n >= width);
    let last = row.get::<_, Option<Uuid>>(8).filter(|_| full).map(id_of);
    Ok((events, last))
}

fn ids_of(table: &str, below: &str) -> String {
    format!("select distinct event_id as id from {table} where {below} order by event_id desc")
}

/// What an index finds.
fn indexed(query: &LogQuery, with: &mut With) -> Vec<String> {
    let mut wanted = Vec::new();
    if let Some(ms) = query.since_ms {
        let from = EventId::floor(ms.saturating_sub(SKEW_MS));
        wanted.push(format!("e.id >= {}", with.put(uuid_of(from))));
    }
    if let Some(ms) = query.until_ms {
        let to = EventId::floor(ms.saturating_add(SKEW_MS));
        wanted.push(format!("e.id < {}", with.put(uuid_of(to))));
    }
    if let Some(source) = &query.source {
        wanted.push(format!("e.source = {}", with.put(source.as_str().to_owned())));
    }
    if let Some(text) = &query.transaction {
        wanted.push(format!("e.tx = {}", with.put(hash8(text.as_bytes()))));
        wanted.push(format!("e.transaction = {}", with.put(text.as_bytes().to_vec())));
    }
    if let Some(text) = &query.user {
        wanted.push(format!("e.usr = {}", with.put(hash8(text.as_bytes()))));
        wanted.push(format!("e.player = {}", with.put(text.as_bytes().to_vec())));
    }
    wanted
}

/// What is looked at event by event.
fn filters(query: &LogQuery, with: &mut With) -> Vec<String> {
    let mut wanted = Vec::new();
    if let Some(test) = query.test {
        wanted.push(format!("e.test = {}", with.put(test)));
    }
    if let Some(ms) = query.since_ms {
        wanted.push(format!("e.received_ms >= {}", with.put(ms)));
    }
    if let Some(ms) = query.until_ms {
        wanted.push(format!("e.received_ms < {}", with.put(ms)));
    }
    const PENDING: &str = "exists (select 1 from delivery d where d.event_id = e.id)";
    const DEAD: &str = "exists (select 1 from dead d where d.event_id = e.id)";
    wanted.extend(query.state.map(|state| match state {
        EventState::Pending => PENDING.to_owned(),
        EventState::Dead => format!("{DEAD} and not {PENDING}"),
        EventState::Done => format!("not {DEAD} and not {PENDING}"),
    }));
    wanted
}

/// Deliveries that are pending or dead: each has a row.
async fn open_page(
    session: &Session,
    query: &DeliveryQuery,
    after: Option<(EventId, TargetId)>,
    limit: usize,
) -> Result<DeliveryPage, Fault> {
    let mut with = With::default();
    let mut wanted = vec![String::from("true")];
    if let Some((id, name)) = &after {
        wanted.push(behind("event_id", "target", &mut with, *id, name));
    }
    if let Some(target) = &query.target {
        wanted.push(format!("target = {}", with.put(target.as_str().to_owned())));
    }
    let (table, due) = match query.state {
        DeliveryState::Pending => ("delivery", "due_ms"),
        DeliveryState::Dead | DeliveryState::Done => ("dead", "null::bigint"),
    };
    let sql = format!(
        "select event_id, target, attempt, {due} from {table} where {}
         order by event_id desc, target limit {}",
        wanted.join(" and "),
        limit + 1
    );
    let rows = session.rows(&sql, &with.all()).await?;
    let deliveries = rows.iter().map(|row| {
        let mut delivery = done(id_of(row.get(0)), TargetId::from(row.get::<_, &str>(1)));
        open_as(&mut delivery, row.get(2), row.get(3));
        delivery
    });
    Ok(paged(deliveries.collect(), limit))
}

/// Deliveries that are done, in a window of events: what an event had and has no more. Also the
/// last event of the window, if it was full.
async fn done_page(
    session: &Session,
    query: &DeliveryQuery,
    after: Option<&(EventId, TargetId)>,
    limit: usize,
) -> Result<(DeliveryPage, Option<EventId>), Fault> {
    let mut with = With::default();
    let (mut events, mut wanted) = (String::from("true"), vec![String::from("true")]);
    if let Some((id, name)) = after {
        events = format!("id <= {}", with.put(uuid_of(*id)));
        wanted.push(behind("w.id", "t.target", &mut with, *id, name));
    }
    if let Some(target) = &query.target {
        wanted.push(format!("t.target = {}", with.put(target.as_str().to_owned())));
    }
    let sql = format!(
        "with w as materialized (
            select id, targets from event where {events} order by id desc limit {WINDOW}
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

/// Behind a delivery: later names of its event, then smaller ids.
fn behind(id: &str, name: &str, with: &mut With, event: EventId, target: &TargetId) -> String {
    let (event, target) = (with.put(uuid_of(event)), with.put(target.as_str().to_owned()));
    format!("{id} <= {event} and ({id} < {event} or {name} > {target} collate \"C\")")
}

fn paged(mut deliveries: Vec<Delivery>, limit: usize) -> DeliveryPage {
    let more = deliveries.len() > limit;
    deliveries.truncate(limit);
    let next = deliveries.last().filter(|_| more).map(Cursor::behind);
    DeliveryPage { deliveries, next }
}
