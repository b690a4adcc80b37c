//! Queries: the log, single events, lists of deliveries.
//!
//! Pages use keys. A filter without an index reads a window of events at a time: one query never
//! reads a whole table. A page may then be short and have a next one.

mod deliveries;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Core;
use super::link::Session;
use super::query_error::QueryError;
use super::row_cipher::{Place, RowSealer, malformed};
use super::sql::{DEAD, OPEN, PENDING, event_of, hash8, id_of, uuid_of};
use crate::clock::UnixMillis;
use crate::ledger::codec::{Put as _, Take};
use crate::ledger::{
    Attempt, Cursor, Delivery, DeliveryState, EventDetail, EventId, EventState, LogPage, LogQuery,
    Logged, SourceId, TargetId,
};

/// Most events that one statement reads.
const WINDOW: usize = 10_000;
/// Events that the first statement of a call reads, if they have to be examined; each further one reads four times as many.
const FIRST_WINDOW: usize = 400;
/// Windows that one call reads before it returns an empty page.
const WINDOWS_MAX: usize = 20;
/// An id is created when its event is received; another clock may have set the time of receipt.
const SKEW_MS: i64 = 60_000;

/// Events that one statement of a query reads.
struct Window {
    /// Events below this one.
    before: Option<EventId>,
    /// Most events to be examined.
    width: usize,
    /// Most events to be found.
    limit: usize,
}

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
    pub(super) fn write(&self, place: Place<'_>, sealer: &RowSealer<'_>) -> Vec<u8> {
        write_event(sealer, place, &self.transaction, self.user.as_deref(), &self.body)
    }
}

/// The piece of an event.
pub(super) fn write_event(
    sealer: &RowSealer<'_>,
    place: Place<'_>,
    transaction: &str,
    user: Option<&str>,
    body: &[u8],
) -> Vec<u8> {
    let mut piece = Vec::new();
    put_event(&mut piece, sealer, place, transaction, user, body);
    piece
}

/// Adds the piece of an event.
pub(super) fn put_event(
    to: &mut Vec<u8>,
    sealer: &RowSealer<'_>,
    place: Place<'_>,
    transaction: &str,
    user: Option<&str>,
    body: &[u8],
) {
    sealer.put(to, place, |to| {
        to.put_bytes(transaction.as_bytes());
        to.put_opt(user);
        to.extend_from_slice(body);
    });
}

/// The sealed part of an attempt; empty if there is none.
pub(super) fn response_piece(
    sealer: &RowSealer<'_>,
    place: Place<'_>,
    attempt: &Attempt,
) -> Option<Vec<u8>> {
    let silent = attempt.head.is_empty() && attempt.error.is_none();
    (!silent).then(|| {
        sealer.write(place, |to| {
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
        let piece = self.row_cipher.open(place, body)?;
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
        let piece = self.row_cipher.open(place, piece)?;
        let mut from = Take(&piece);
        let error = from.opt().map_err(malformed(place))?.map(str::to_owned);
        Ok((Bytes::copy_from_slice(from.0), error))
    }
}

/// The columns of an event before those of its state.
const SHOWN: &str = "e.id, e.received_ms, e.test";
/// Columns of [`SHOWN`], [`PENDING`], [`DEAD`] and [`EVENT_PIECE`].
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
        let mut events = Vec::new();
        let mut width = FIRST_WINDOW;
        for _ in 0..WINDOWS_MAX {
            let window = Window { before, width, limit: limit - events.len() };
            let (found, last) = self.window(session, query, &window).await?;
            events.extend(found);
            before = last;
            let is_widest = width >= WINDOW && !events.is_empty();
            if last.is_none() || events.len() >= limit || is_widest {
                break;
            }
            width = (width * 4).min(WINDOW);
        }
        Ok(LogPage { events, next: before.map(Cursor::after) })
    }

    pub(super) async fn event_on(
        &self,
        session: &Session,
        id: EventId,
    ) -> Result<Option<EventDetail>, QueryError> {
        let mut found = self.events_on(session, &[id]).await?;
        Ok(found.pop().flatten())
    }

    pub(super) async fn events_on(
        &self,
        session: &Session,
        ids: &[EventId],
    ) -> Result<Vec<Option<EventDetail>>, QueryError> {
        let unique: BTreeSet<EventId> = ids.iter().copied().collect();
        let keys: Vec<Uuid> = unique.into_iter().map(uuid_of).collect();
        // One by one: an id is looked up in its day alone, a list in every day.
        let sql = format!(
            "select {SHOWN}, {PENDING}, {DEAD}, {EVENT_PIECE}, e.targets
             from unnest($1::uuid[]) as w(id) {event}",
            event = event_of("w.id")
        );
        let mut found: BTreeMap<EventId, EventDetail> = BTreeMap::new();
        for row in session.rows(&sql, &[&keys]).await? {
            let Some(event) = self.logged(&row, &LogQuery::default())? else { continue };
            let names: Vec<String> = row.get(SHOWN_COLUMNS);
            let targets: BTreeSet<TargetId> =
                names.iter().map(|name| TargetId::from(name.as_str())).collect();
            let deliveries = targets.into_iter().map(|target| done(event.id, target)).collect();
            found.insert(event.id, EventDetail { event, deliveries });
        }
        if found.is_empty() {
            return Ok(ids.iter().map(|_| None).collect());
        }
        for row in &session.rows(OPEN, &[&keys]).await? {
            let delivery = delivery_in(&mut found, row);
            delivery.into_iter().for_each(|one| open_as(one, row.get(2), row.get(3)));
        }
        let sql = format!(
            "select a.event_id, a.target, {ATTEMPT} from unnest($1::uuid[]) as w(id)
                cross join lateral (select * from attempt where event_id = w.id offset 0) a
             order by a.event_id, a.target, a.token"
        );
        for row in &session.rows(&sql, &[&keys]).await? {
            let attempt = self.attempt(id_of(row.get(0)), row.get(1), row, 2)?;
            if let Some(delivery) = delivery_in(&mut found, row) {
                delivery.attempts.push(attempt);
            }
        }
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }
}

fn done(event: EventId, target: TargetId) -> Delivery {
    let state = DeliveryState::Done;
    Delivery { event, target, state, attempt: 0, due_ms: None, attempts: Vec::new() }
}

/// The delivery that a row is about: its event and its destination are the first columns.
fn delivery_in<'f>(
    found: &'f mut BTreeMap<EventId, EventDetail>,
    row: &Row,
) -> Option<&'f mut Delivery> {
    let detail = found.get_mut(&id_of(row.get(0)))?;
    let name: &str = row.get(1);
    detail.deliveries.iter_mut().find(|delivery| delivery.target.as_str() == name)
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
        window: &Window,
    ) -> Result<(Vec<Logged>, Option<EventId>), QueryError> {
        let Window { before, width, limit } = *window;
        let mut with = With::default();
        let before = before.map(|id| with.put(uuid_of(id)));
        let indexed = indexed(query, &mut with);
        let among = query.among.as_ref().map(|among| with.put(names(among)));
        let filters = filters(query, &mut with);
        // Without a filter that needs reading, every event is shown.
        let width = if filters.is_empty() { limit + 1 } else { width.max(limit + 1) };
        let below = |column: &str| match &before {
            Some(place) => format!("{column} < {place}"),
            None => String::from("true"),
        };
        let of_among = among.iter().map(|among| format!("e.source = any({among})"));
        let all: Vec<String> = indexed.iter().chain(&filters).cloned().chain(of_among).collect();
        // Waiting events are few and old ones are many: they are found by their deliveries.
        let ids = match query.state {
            Some(EventState::Pending) => ids_of("delivery", &below("event_id")),
            Some(EventState::Dead) => ids_of("dead", &below("event_id")),
            _ => {
                let of_each = [&[below("e.id")], &indexed[..]].concat().join(" and ");
                newest(query, &of_each, among.as_deref(), width, &mut with)
            }
        };
        let narrow = if all.is_empty() { String::from("true") } else { all.join(" and ") };
        let most = limit + 1;
        let sql = format!(
            "with ids as materialized ({ids} limit {width}), found as (
                select e.* from ids i {event} where {narrow}
                order by e.id desc limit {most}
            )
            select {SHOWN}, {PENDING}, {DEAD}, {EVENT_PIECE}, s.n, s.last
            from (select count(*) as n, (select id from ids order by id limit 1) as last from ids) s
                left join found e on true
            order by e.id desc",
            event = event_of("i.id")
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

/// The statement that finds the ids of events by the indexed conditions `of_each`, the newest first.
/// `among` is the parameter with the sources that the query is about, `width` how many are read.
fn newest(
    query: &LogQuery,
    of_each: &str,
    among: Option<&str>,
    width: usize,
    with: &mut With,
) -> String {
    match (&query.transaction, among) {
        // Few events have it. Without the offset a server that has not yet analysed the table may
        // walk all of it from the newest event.
        (Some(text), _) => format!(
            "select e.id from (select * from event where tx = {} offset 0) e
                where {of_each} order by e.id desc",
            with.put(hash8(text.as_bytes()))
        ),
        (None, None) => format!("select e.id from event e where {of_each} order by e.id desc"),
        // An index has the events of each source in order, but not those of several.
        (None, Some(among)) if query.source.is_none() && query.user.is_none() => format!(
            "select n.id from unnest({among}::text[]) as w(source) cross join lateral (
                select e.id from event e where e.source = w.source and {of_each}
                order by e.id desc limit {width}
            ) n order by n.id desc"
        ),
        (None, Some(among)) => format!(
            "select e.id from (
                select e.id, e.source from event e where {of_each} order by e.id desc offset 0
            ) e where e.source = any({among}) order by e.id desc"
        ),
    }
}

fn ids_of(table: &str, below: &str) -> String {
    format!("select distinct event_id as id from {table} where {below} order by event_id desc")
}

fn names(sources: &[SourceId]) -> Vec<String> {
    sources.iter().map(|one| one.as_str().to_owned()).collect()
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
    wanted.extend(query.state.map(|state| match state {
        EventState::Pending => PENDING.to_owned(),
        EventState::Dead => format!("{DEAD} and not {PENDING}"),
        EventState::Done => format!("not {DEAD} and not {PENDING}"),
    }));
    wanted
}
