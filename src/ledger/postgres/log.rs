//! Queries: the log, single events, lists of deliveries.
//!
//! Pages use keys. A filter without an index reads a window of events at a time: one query never
//! reads a whole table. A page may then be short and have a next one.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Core;
use super::link::Session;
use super::query_error::QueryError;
use super::row_cipher::{Place, RowSealer, malformed};
use super::sql::{hash8, id_of, uuid_of};
use crate::clock::UnixMillis;
use crate::ledger::codec::{Put as _, Take};
use crate::ledger::{
    Attempt, Cursor, Delivery, DeliveryPage, DeliveryQuery, DeliveryState, EventDetail, EventId,
    EventState, LogPage, LogQuery, Logged, SourceId, TargetId,
};

/// Events that one statement reads.
const WINDOW: usize = 10_000;
/// Windows that one call reads before it returns an empty page.
const WINDOWS_MAX: usize = 20;
/// An id is created when its event is received; another clock may have set the time of receipt.
const SKEW_MS: i64 = 60_000;

/// Parameters of a statement under construction.
#[derive(Default)]
struct With(Vec<Box<dyn ToSql + Sync + Send>>);

impl With {
    /// Adds a parameter; returns its position in the statement.
    fn put(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.0.push(Box::new(value));
        format!("${}", self.0.len())
    }

    fn all(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }
}

/// The sealed columns of an event, for [`Core::event_piece`].
pub(super) const EVENT_PIECE: &str = "e.body, e.transaction, e.player, e.source";

/// The sealed part of an event.
pub(super) struct EventPiece {
    pub(super) transaction: String,
    pub(super) user: Option<String>,
    pub(super) body: Bytes,
}

impl EventPiece {
    /// The piece of an event.
    pub(super) fn write(&self, place: Place<'_>, pen: &RowSealer<'_>) -> Vec<u8> {
        write_event(pen, place, &self.transaction, self.user.as_deref(), &self.body)
    }
}

/// The piece of an event.
pub(super) fn write_event(
    pen: &RowSealer<'_>,
    place: Place<'_>,
    transaction: &str,
    user: Option<&str>,
    body: &[u8],
) -> Vec<u8> {
    let mut piece = Vec::new();
    put_event(&mut piece, pen, place, transaction, user, body);
    piece
}

/// Adds the piece of an event.
pub(super) fn put_event(
    to: &mut Vec<u8>,
    pen: &RowSealer<'_>,
    place: Place<'_>,
    transaction: &str,
    user: Option<&str>,
    body: &[u8],
) {
    pen.put(to, place, |to| {
        to.put_bytes(transaction.as_bytes());
        to.put_opt(user);
        to.extend_from_slice(body);
    });
}

/// The sealed part of an attempt; empty if there is none.
pub(super) fn response_piece(
    pen: &RowSealer<'_>,
    place: Place<'_>,
    attempt: &Attempt,
) -> Option<Vec<u8>> {
    let silent = attempt.head.is_empty() && attempt.error.is_none();
    (!silent).then(|| {
        pen.write(place, |to| {
            to.put_opt(attempt.error.as_deref());
            to.extend_from_slice(&attempt.head);
        })
    })
}

impl Core {
    /// The sealed part of an event from the columns of [`EVENT_PIECE`], which begin at `at`.
    pub(super) fn event_piece(
        &self,
        id: EventId,
        row: &Row,
        at: usize,
    ) -> Result<EventPiece, QueryError> {
        let body: &[u8] = row.get(at);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // As written by versions without pieces.
        if let Some(transaction) = row.get::<_, Option<&[u8]>>(at + 1) {
            let user = row.get::<_, Option<&[u8]>>(at + 2).map(text);
            let body = Bytes::copy_from_slice(body);
            return Ok(EventPiece { transaction: text(transaction), user, body });
        }
        let place = Place::Event { id, source: row.get(at + 3) };
        let piece = self.vault.open(place, body)?;
        let mut from = Take(&piece);
        let mut read = || {
            let (transaction, user) = (from.text()?.to_owned(), from.opt()?.map(str::to_owned));
            Ok(EventPiece { transaction, user, body: Bytes::copy_from_slice(from.0) })
        };
        read().map_err(malformed(place))
    }

    /// The head and the error of an attempt: the last three columns of [`ATTEMPT`], from `at`.
    fn response(
        &self,
        place: Place<'_>,
        row: &Row,
        at: usize,
    ) -> Result<(Bytes, Option<String>), QueryError> {
        if let Some(head) = row.get::<_, Option<&[u8]>>(at + 1) {
            let error = row.get::<_, Option<&[u8]>>(at + 2);
            let error = error.map(|text| String::from_utf8_lossy(text).into_owned());
            return Ok((Bytes::copy_from_slice(head), error));
        }
        let Some(piece) = row.get::<_, Option<&[u8]>>(at) else { return Ok((Bytes::new(), None)) };
        let piece = self.vault.open(place, piece)?;
        let mut from = Take(&piece);
        let error = from.opt().map_err(malformed(place))?.map(str::to_owned);
        Ok((Bytes::copy_from_slice(from.0), error))
    }
}

const SHOWN: &str = "e.id, e.received_ms, e.test,
    exists (select 1 from delivery d where d.event_id = e.id),
    exists (select 1 from dead d where d.event_id = e.id)";
/// Columns of [`SHOWN`] and [`EVENT_PIECE`].
const SHOWN_COLUMNS: usize = 9;

impl Core {
    /// An event, if the query matches it: indexes have only short hashes.
    fn logged(&self, row: &Row, query: &LogQuery) -> Result<Option<Logged>, QueryError> {
        let state = match (row.get(3), row.get(4)) {
            (true, _) => EventState::Pending,
            (false, true) => EventState::Dead,
            (false, false) => EventState::Done,
        };
        let id = id_of(row.get(0));
        let EventPiece { transaction, user, body } = self.event_piece(id, row, 5)?;
        let wanted = query.transaction.as_ref().is_none_or(|text| *text == transaction)
            && query.user.as_ref().is_none_or(|text| Some(text) == user.as_ref());
        Ok(wanted.then(|| Logged {
            id,
            source: SourceId::from(row.get::<_, &str>(8)),
            received_ms: row.get(1),
            test: row.get(2),
            state,
            body,
        }))
    }

    pub(super) async fn query_on(
        &self,
        session: &Session,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<LogPage, QueryError> {
        let limit = limit.max(1);
        let mut before = cursor.map(Cursor::event).transpose()?;
        for _ in 0..WINDOWS_MAX {
            let (events, last) = self.window(session, query, before, limit).await?;
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
    ) -> Result<Option<EventDetail>, QueryError> {
        let key = uuid_of(id);
        let sql = format!("select {SHOWN}, {EVENT_PIECE}, e.targets from event e where e.id = $1");
        let mut found = session.rows(&sql, &[&key]).await?;
        let Some(row) = found.pop() else { return Ok(None) };
        let Some(event) = self.logged(&row, &LogQuery::default())? else { return Ok(None) };
        let names: Vec<String> = row.get(SHOWN_COLUMNS);
        let sql = "select target, attempt, due_ms from delivery where event_id = $1
            union all select target, attempt, null from dead where event_id = $1";
        let open = session.rows(sql, &[&key]).await?;
        let sql = format!(
            "select target, {ATTEMPT} from attempt where event_id = $1 order by target, token"
        );
        let mut attempts: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
        for row in session.rows(&sql, &[&key]).await? {
            let target: String = row.get(0);
            let attempt = self.attempt(id, &target, &row, 1)?;
            attempts.entry(target).or_default().push(attempt);
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
        Ok(Some(EventDetail { event, deliveries }))
    }

    pub(super) async fn deliveries_on(
        &self,
        session: &Session,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, QueryError> {
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
            // After every destination of that event.
            after = last.map(|id| (id, TargetId::from(LAST_NAME)));
        }
        let next = after.map(|(event, target)| Cursor::behind(&done(event, target)));
        Ok(DeliveryPage { deliveries: Vec::new(), next })
    }
}

/// Sorts after every name of a destination.
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

/// The columns of an attempt, for [`Core::attempt`].
pub(super) const ATTEMPT: &str = "token, at_ms, latency_ms, status, said, head, error";

impl Core {
    /// The attempt whose columns begin at `at`.
    pub(super) fn attempt(
        &self,
        event: EventId,
        target: &str,
        row: &Row,
        at: usize,
    ) -> Result<Attempt, QueryError> {
        let place = Place::Attempt { event, target, token: row.get(at) };
        let (head, error) = self.response(place, row, at + 4)?;
        Ok(Attempt {
            at_ms: row.get(at + 1),
            latency_ms: u32::try_from(row.get::<_, i64>(at + 2)).unwrap_or(u32::MAX),
            status: row.get::<_, Option<i16>>(at + 3).map(i16::cast_unsigned),
            head,
            error,
        })
    }

    /// Some of the events of a query, and the id that the next ones are before.
    async fn window(
        &self,
        session: &Session,
        query: &LogQuery,
        before: Option<EventId>,
        limit: usize,
    ) -> Result<(Vec<Logged>, Option<EventId>), QueryError> {
        let mut with = With::default();
        let before = before.map(|id| with.put(uuid_of(id)));
        let indexed = indexed(query, &mut with);
        let filters = filters(query, &mut with);
        // Without a filter that needs reading, every event is shown.
        let width = if filters.is_empty() { limit + 1 } else { WINDOW.max(limit + 1) };
        let below = |column: &str| match &before {
            Some(place) => format!("{column} < {place}"),
            None => String::from("true"),
        };
        let all = [&indexed[..], &filters[..]].concat();
        // Waiting events are few and old ones are many: they are found by their deliveries.
        let ids = match query.state {
            Some(EventState::Pending) => ids_of("delivery", &below("event_id")),
            Some(EventState::Dead) => ids_of("dead", &below("event_id")),
            _ => {
                let wanted = [&[below("e.id")], &indexed[..]].concat();
                format!(
                    "select e.id from event e where {} order by e.id desc",
                    wanted.join(" and ")
                )
            }
        };
        let narrow = if all.is_empty() { String::from("true") } else { all.join(" and ") };
        let most = limit + 1;
        let sql = format!(
            "with ids as materialized ({ids} limit {width}), found as (
                select e.* from ids i join event e on e.id = i.id where {narrow}
                order by e.id desc limit {most}
            )
            select {SHOWN}, {EVENT_PIECE}, s.n, s.last
            from (select count(*) as n, (select id from ids order by id limit 1) as last from ids) s
                left join found e on true
            order by e.id desc"
        );
        let rows = session.rows(&sql, &with.all()).await?;
        let found = rows.iter().filter(|row| row.get::<_, Option<Uuid>>(0).is_some());
        let shown = found.clone().take(limit).map(|row| self.logged(row, query));
        let events: Vec<Logged> = shown.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        if found.clone().count() > limit {
            let last = found.take(limit).last().map(|row| id_of(row.get(0)));
            return Ok((events, last));
        }
        let Some(row) = rows.first() else { return Ok((events, None)) };
        let full = usize::try_from(row.get::<_, i64>(SHOWN_COLUMNS)).is_ok_and(|n| n >= width);
        let last = row.get::<_, Option<Uuid>>(SHOWN_COLUMNS + 1).filter(|_| full).map(id_of);
        Ok((events, last))
    }
}

fn ids_of(table: &str, below: &str) -> String {
    format!("select distinct event_id as id from {table} where {below} order by event_id desc")
}

/// Conditions that an index serves.
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
    if let Some(among) = &query.among {
        let names: Vec<String> = among.iter().map(|one| one.as_str().to_owned()).collect();
        wanted.push(format!("e.source = any({})", with.put(names)));
    }
    if let Some(text) = &query.transaction {
        wanted.push(format!("e.tx = {}", with.put(hash8(text.as_bytes()))));
    }
    if let Some(text) = &query.user {
        wanted.push(format!("e.usr = {}", with.put(hash8(text.as_bytes()))));
    }
    wanted
}

/// Conditions that are checked event by event.
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

/// Pending or dead deliveries: each has a row.
async fn open_page(
    session: &Session,
    query: &DeliveryQuery,
    after: Option<(EventId, TargetId)>,
    limit: usize,
) -> Result<DeliveryPage, QueryError> {
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

/// Finished deliveries in a window of events: destinations of an event without a row. Also returns
/// the last event of the window, if it was full.
async fn done_page(
    session: &Session,
    query: &DeliveryQuery,
    after: Option<&(EventId, TargetId)>,
    limit: usize,
) -> Result<(DeliveryPage, Option<EventId>), QueryError> {
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

/// After a delivery: later names of its event, then smaller ids.
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
