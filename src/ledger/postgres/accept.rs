//! Accepting: keys, events and deliveries of a whole batch in one statement, and so in one commit.
//!
//! The unique index of `dedupe` decides which callback is first, on every gateway: an insert of a
//! key that is being inserted waits until the other commit is as durable as its own would be.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;

use smallvec::SmallVec;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::durability::{Required, WAITED};
use super::link::Session;
use super::log::put_event;
use super::query_error::{Applied, Cause, QueryError};
use super::row_cipher::{BodyForm, Place, RowSealer, under};
use super::sql::{CLOCK_ONCE, NOW, NOW_ONCE, hash8, id_of, int, key_of, key_uuid, seen, uuid_of};
use super::{Core, TARGETS_BETWEEN};
use crate::ledger::accept::{First, Judged};
use crate::ledger::{
    Accepted, DedupeKey, EventBody, EventId, FaultCode, Fingerprint, NewEvent, Nonce, NonceUse,
    PastEvent, TargetId,
};

/// Bytes of the bodies of one call. PostgreSQL accepts 1 GB in one message.
pub(super) const BODIES_MAX: usize = 256 << 20;

/// A batch that is evaluated in order.
struct Round<'b> {
    batch: &'b [NewEvent],
    answers: Vec<Option<Accepted>>,
    known: HashMap<DedupeKey, First>,
    /// Keys of duplicates, to be added to the first events.
    added: Vec<PastEvent>,
}

impl Core {
    /// Evaluates a batch on one session. May be repeated with the same batch. `applied`
    /// becomes [`Applied::Maybe`] when some of it is recorded, even if the rest fails.
    pub(super) async fn judge(
        &self,
        session: &Session,
        batch: &[NewEvent],
        applied: &mut Applied,
    ) -> Result<Vec<Accepted>, QueryError> {
        let mut round = Round::new(batch);
        // Each turn answers at least one event, unless a sweep deletes the event that it finds.
        for _ in 0..batch.len() + 8 {
            let wave = round.next();
            if wave.is_empty() {
                add_keys(session, std::mem::take(&mut round.added), self.server_watch.required())
                    .await?;
                return Ok(round.answers.into_iter().flatten().collect());
            }
            // Of several keys one may be known: such an event must not leave its other keys.
            let (several, single): (Vec<_>, Vec<_>) =
                wave.into_iter().partition(|at| batch[*at].keys.all().nth(1).is_some());
            let required = self.server_watch.required();
            let unknown = round.look_up(session, several, required).await?;
            add_keys(session, std::mem::take(&mut round.added), required).await?;
            let offered: Vec<usize> = unknown.into_iter().chain(single).collect();
            let fresh = self.record(session, batch, &offered).await?;
            if !fresh.is_empty() {
                *applied = Applied::Maybe;
            }
            let (new, old): (Vec<_>, Vec<_>) =
                offered.into_iter().partition(|at| fresh.contains(&batch[*at].id));
            new.into_iter().for_each(|at| round.recorded(at));
            round.look_up(session, old, required).await?;
        }
        Err(QueryError::Again(Cause::new(FaultCode::Undone, "a sweep took away what was found")))
    }

    /// Records the events at `offered` whose keys are all unknown, and returns their ids.
    async fn record(
        &self,
        session: &Session,
        batch: &[NewEvent],
        offered: &[usize],
    ) -> Result<HashSet<EventId>, QueryError> {
        if offered.is_empty() {
            return Ok(HashSet::new());
        }
        let mut events: Vec<&NewEvent> = offered.iter().map(|at| &batch[*at]).collect();
        let sealer = self.row_cipher.sealer()?;
        let (now, key, required) =
            (self.clock.fixed(), sealer.number(), self.server_watch.required());
        let table = self.event_table(events.iter().map(|event| event.id));
        let mut with: Vec<&(dyn ToSql + Sync)> = vec![&now, &key];
        let is_single = events.iter().all(|event| event.keys.written().count() == 1);
        let rows = if is_single {
            events.sort_by_key(|event| event.keys.written().next());
            let pieces = Pieces::new(&events, &sealer);
            let k: Vec<Uuid> = events
                .iter()
                .flat_map(|event| event.keys.written())
                .map(|k| key_uuid(&k))
                .collect();
            let (rows, due) = (EventColumns::new(&events, &pieces), DeliveryColumns::new(&events));
            with.push(&k);
            with.extend(rows.all());
            with.extend(due.all());
            session.rows(&single_sql(required, &table), &with).await?
        } else {
            let pieces = Pieces::new(&events, &sealer);
            let (keys, rows) = (KeyColumns::new(&events), EventColumns::new(&events, &pieces));
            let due = DeliveryColumns::new(&events);
            let all: Vec<Vec<u8>> =
                events.iter().map(|event| joined(event.keys.written())).collect();
            let count: Vec<i64> =
                events.iter().map(|event| event.keys.written().count() as i64).collect();
            with.extend(keys.all());
            with.extend(rows.all());
            with.extend([&all as &(dyn ToSql + Sync), &count]);
            with.extend(due.all());
            session.rows(&several_sql(required, &table), &with).await?
        };
        Ok(rows.iter().map(|row| id_of(row.get(0))).collect())
    }

    /// Records nonces, of which no two are equal, and returns those used for the first time.
    pub(super) async fn note_nonces(
        &self,
        session: &Session,
        nonces: &[&Nonce],
    ) -> Result<HashSet<DedupeKey>, QueryError> {
        let keys: Vec<Uuid> = nonces.iter().map(|nonce| key_uuid(&nonce.key)).collect();
        // If this gateway's clock is slow, an end by the server's clock would come too early.
        let behind = if self.clock.fixed().is_some() { 0 } else { self.server_watch.behind_ms() };
        let end = |nonce: &&Nonce| nonce.expires_ms.saturating_add(behind);
        let ends: Vec<i64> = nonces.iter().map(end).collect();
        let sql = format!(
            "insert into nonce (k, exp_ms)
             select k, exp_ms from unnest($2::uuid[], $3::bigint[]) as o(k, exp_ms)
             where {durable} order by k
             on conflict (k) do update set exp_ms = excluded.exp_ms where nonce.exp_ms <= {NOW}
             returning k",
            durable = self.server_watch.required().condition()
        );
        let rows = session.rows(&sql, &[&self.clock.fixed(), &keys, &ends]).await?;
        Ok(rows.iter().map(|row| key_of(row.get(0))).collect())
    }
}

impl<'b> Round<'b> {
    fn new(batch: &'b [NewEvent]) -> Self {
        Self { batch, answers: vec![None; batch.len()], known: HashMap::new(), added: Vec::new() }
    }

    /// The next events to offer: those that share no key with an earlier undecided one.
    fn next(&mut self) -> Vec<usize> {
        let mut taken = HashSet::new();
        let mut wave = Vec::new();
        for (at, event) in self.batch.iter().enumerate() {
            // Only the first key decides without asking for the others.
            if self.answers[at].is_none()
                && event.keys.identity.first().is_some_and(|key| self.known.contains_key(key))
            {
                self.answer(at);
            }
            if self.answers[at].is_some() {
                continue;
            }
            if event.keys.all().all(|key| !taken.contains(key)) {
                wave.push(at);
            }
            taken.extend(event.keys.all().copied());
        }
        wave
    }

    /// Decides an event by its known keys; returns whether one is known.
    fn answer(&mut self, at: usize) -> bool {
        let event = &self.batch[at];
        let known = |key: &DedupeKey| Ok::<_, Infallible>(self.known.get(key).copied());
        let Ok(judged) = event.judge(known);
        match &judged {
            Judged::New => return false,
            Judged::Duplicate { first, missing } if !missing.is_empty() => {
                self.added.push(PastEvent {
                    id: first.id,
                    source: event.source.clone(),
                    keys: missing.clone(),
                    fingerprint: event.fingerprint,
                    received_ms: first.received_ms,
                });
                let first = First { fingerprint: event.fingerprint, ..*first };
                self.known.extend(missing.iter().map(|key| (*key, first)));
            }
            _ => {}
        }
        self.answers[at] = Some(judged.accepted());
        true
    }

    fn recorded(&mut self, at: usize) {
        let event = &self.batch[at];
        let (id, received_ms, fingerprint) = (event.id, event.received_ms, event.fingerprint);
        let first = First { id, received_ms, fingerprint };
        self.known.extend(event.keys.written().map(|key| (key, first)));
        self.answers[at] = Some(Accepted::New);
    }

    /// Looks up the keys of some events, decides those with a known key, and returns the others.
    async fn look_up(
        &mut self,
        session: &Session,
        events: Vec<usize>,
        required: Required,
    ) -> Result<Vec<usize>, QueryError> {
        let keys = events.iter().flat_map(|at| self.batch[*at].keys.all());
        let keys: Vec<Uuid> = keys.map(key_uuid).collect();
        if !keys.is_empty() {
            // Nothing is waited for if no row is found.
            let sql = format!(
                "with {WAITED} select k, id, seen_ms, fingerprint, (select count(*) from waited)
                 from dedupe where k = any($1) and {durable}",
                durable = required.condition()
            );
            for row in session.rows(&sql, &[&keys]).await? {
                let first = First {
                    id: id_of(row.get(1)),
                    received_ms: row.get(2),
                    fingerprint: Fingerprint(row.get::<_, i64>(3).cast_unsigned()),
                };
                self.known.insert(key_of(row.get(0)), first);
            }
        }
        Ok(events.into_iter().filter(|at| !self.answer(*at)).collect())
    }
}

/// The sealed parts of events, in one buffer.
struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Pieces {
    /// Bytes of a piece beyond its body, about.
    const BESIDE_BODY: usize = 128;

    fn new(events: &[&NewEvent], sealer: &RowSealer<'_>) -> Self {
        let size = events.iter().map(|event| event.body.len() + Self::BESIDE_BODY).sum();
        let mut pieces =
            Self { bytes: Vec::with_capacity(size), ends: Vec::with_capacity(events.len()) };
        for event in events {
            put_piece(&mut pieces.bytes, event, sealer);
            pieces.ends.push(pieces.bytes.len());
        }
        pieces
    }

    fn all(&self) -> Vec<&[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let ranges = starts.zip(&self.ends).map(|(start, end)| *start..*end);
        ranges.map(|range| self.bytes.get(range).unwrap_or_default()).collect()
    }
}

/// The keys of events, one row each, in the order of the keys: inserts in that order never
/// deadlock.
struct KeyColumns<'e> {
    k: Vec<Uuid>,
    id: Vec<Uuid>,
    seen_ms: Vec<i64>,
    fingerprint: Vec<i64>,
    source: Vec<&'e str>,
    keys: Vec<Option<Vec<u8>>>,
}

impl<'e> KeyColumns<'e> {
    fn new(events: &[&'e NewEvent]) -> Self {
        let pairs =
            events.iter().flat_map(|event| event.keys.written().map(move |key| (key, *event)));
        let mut rows: Vec<(DedupeKey, &NewEvent)> = pairs.collect();
        rows.sort_by_key(|(key, _)| *key);
        Self {
            k: rows.iter().map(|(key, _)| key_uuid(key)).collect(),
            id: rows.iter().map(|(_, event)| uuid_of(event.id)).collect(),
            seen_ms: rows.iter().map(|(_, event)| event.received_ms).collect(),
            fingerprint: rows.iter().map(|(_, event)| int(event.fingerprint)).collect(),
            source: rows.iter().map(|(_, event)| event.source.as_str()).collect(),
            keys: rows.iter().map(|(_, event)| several(event.keys.written())).collect(),
        }
    }

    fn all(&self) -> [&(dyn ToSql + Sync); 6] {
        [&self.k, &self.id, &self.seen_ms, &self.fingerprint, &self.source, &self.keys]
    }
}

/// Events, one row each.
struct EventColumns<'e> {
    id: Vec<Uuid>,
    source: Vec<&'e str>,
    tx: Vec<i64>,
    usr: Vec<Option<i64>>,
    received_ms: Vec<i64>,
    test: Vec<bool>,
    fingerprint: Vec<i64>,
    targets: Vec<Cow<'e, str>>,
    body: Vec<&'e [u8]>,
}

impl<'e> EventColumns<'e> {
    fn new(events: &[&'e NewEvent], pieces: &'e Pieces) -> Self {
        let user = |event: &'e NewEvent| event.user.as_deref().map(str::as_bytes);
        Self {
            id: events.iter().map(|event| uuid_of(event.id)).collect(),
            source: events.iter().map(|event| event.source.as_str()).collect(),
            tx: events.iter().map(|event| hash8(event.transaction.as_bytes())).collect(),
            usr: events.iter().map(|event| user(event).map(hash8)).collect(),
            received_ms: events.iter().map(|event| event.received_ms).collect(),
            test: events.iter().map(|event| event.test).collect(),
            fingerprint: events.iter().map(|event| int(event.fingerprint)).collect(),
            targets: events.iter().map(|event| targets_of(event)).collect(),
            body: pieces.all(),
        }
    }

    fn all(&self) -> [&(dyn ToSql + Sync); 9] {
        [
            &self.id,
            &self.source,
            &self.tx,
            &self.usr,
            &self.received_ms,
            &self.test,
            &self.fingerprint,
            &self.targets,
            &self.body,
        ]
    }
}

/// The deliveries of events, one row each.
struct DeliveryColumns<'e> {
    event: Vec<Uuid>,
    target: Vec<&'e str>,
}

impl<'e> DeliveryColumns<'e> {
    fn new(events: &[&'e NewEvent]) -> Self {
        let mut columns = Self { event: Vec::new(), target: Vec::new() };
        for event in events {
            for target in target_names(event) {
                columns.event.push(uuid_of(event.id));
                columns.target.push(target);
            }
        }
        columns
    }

    fn all(&self) -> [&(dyn ToSql + Sync); 2] {
        [&self.event, &self.target]
    }
}

/// The sealed part of an event.
pub(super) fn piece_of(event: &NewEvent, sealer: &RowSealer<'_>) -> Vec<u8> {
    let mut piece = Vec::with_capacity(event.body.len() + Pieces::BESIDE_BODY);
    put_piece(&mut piece, event, sealer);
    piece
}

fn put_piece(to: &mut Vec<u8>, event: &NewEvent, sealer: &RowSealer<'_>) {
    let place = Place::Event { id: event.id, source: event.source.as_str() };
    let body = match sealer.body_form() {
        BodyForm::Derived => Ok(Cow::Borrowed(&event.body)),
        BodyForm::WithJson => EventBody::with_json(&event.body).map(Cow::Owned),
    };
    // An unreadable body stays as it is.
    let body = body.as_deref().unwrap_or(&event.body);
    put_event(to, sealer, place, &event.transaction, event.user.as_deref(), body);
}

/// The statement that records events with one key each, in the order of the keys, in the table
/// `event`. The bodies are read once.
fn single_sql(required: Required, event: &str) -> String {
    format!(
        "with fresh as (
            insert into dedupe (k, id, seen_ms, fingerprint, source)
            select k, id, {seen}, fingerprint, source
            from unnest($3::uuid[], $4::uuid[], $8::bigint[], $10::bigint[], $5::text[])
                as o(k, id, seen_ms, fingerprint, source)
            where {under} and {durable}
            on conflict (k) do nothing
            returning id
        ), recorded as (
            insert into {event} (id, source, tx, usr, received_ms, test, fingerprint, keys, targets,
                body)
            select id, source, tx, usr, received_ms, test, fingerprint, uuid_send(k),
                string_to_array(targets, E'\\x1f'), body
            from unnest($3::uuid[], $4::uuid[], $5::text[], $6::bigint[], $7::bigint[],
                $8::bigint[], $9::bool[], $10::bigint[], $11::text[], $12::bytea[])
                as o(k, id, source, tx, usr, received_ms, test, fingerprint, targets, body)
            where id in (select id from fresh)
        ), due as (
            {due}
        )
        select id from fresh",
        under = under("$2"),
        durable = required.condition(),
        seen = seen(),
        due = due_sql("$13", "$14"),
    )
}

/// The statement that records events of which some have several keys. If one of the keys of an
/// event was taken concurrently, the others must not stay: a division by zero rolls the statement
/// back, and the batch is evaluated again.
fn several_sql(required: Required, event: &str) -> String {
    format!(
        "with fresh as (
            insert into dedupe (k, id, seen_ms, fingerprint, source, keys)
            select k, id, {seen}, fingerprint, source, keys
            from unnest($3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[], $7::text[],
                $8::bytea[]) as o(k, id, seen_ms, fingerprint, source, keys)
            where {under} and {durable}
            on conflict (k) do nothing
            returning id
        ), counted as (
            select id, count(*) as n from fresh group by id
        ), recorded as (
            insert into {event} (id, source, tx, usr, received_ms, test, fingerprint, keys, targets,
                body)
            select o.id, source, tx, usr, received_ms, test, fingerprint, keys,
                string_to_array(targets, E'\\x1f'), body
            from unnest($9::uuid[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[],
                $14::bool[], $15::bigint[], $16::text[], $17::bytea[], $18::bytea[])
                as o(id, source, tx, usr, received_ms, test, fingerprint, targets, body, keys)
            where o.id in (select id from counted)
        ), due as (
            {due}
        )
        select c.id from counted c
        join unnest($9::uuid[], $19::bigint[]) as o(id, n) on o.id = c.id
        where 1 / (case when c.n = o.n then 1 else 0 end) = 1",
        under = under("$2"),
        durable = required.condition(),
        seen = seen(),
        due = due_sql("$20", "$21"),
    )
}

/// The insert of deliveries of fresh events, given as two parameters. They are due at the same time, so
/// their rows are in the order in which they are to be leased.
fn due_sql(events: &str, targets: &str) -> String {
    format!(
        "insert into delivery (event_id, target, due_ms, attempt, token, owner)
            select o.id, o.target, {CLOCK_ONCE}, 0, {NOW_ONCE} * 1024, null
            from unnest({events}::uuid[], {targets}::text[]) as o(id, target)
            where o.id in (select id from fresh)
            order by o.id"
    )
}

/// The destinations of an event, each once, by name.
fn target_names(event: &NewEvent) -> SmallVec<[&str; 2]> {
    let mut names: SmallVec<[&str; 2]> = event.targets.iter().map(TargetId::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn targets_of(event: &NewEvent) -> Cow<'_, str> {
    match *target_names(event) {
        [] => Cow::Borrowed(""),
        [one] => Cow::Borrowed(one),
        ref names => Cow::Owned(names.join(TARGETS_BETWEEN)),
    }
}

pub(super) fn joined(keys: impl Iterator<Item = DedupeKey>) -> Vec<u8> {
    keys.flat_map(|key| key.0).collect()
}

/// All keys, where there are several.
pub(super) fn several(keys: impl Iterator<Item = DedupeKey>) -> Option<Vec<u8>> {
    let keys = joined(keys);
    (keys.len() > 16).then_some(keys)
}

/// Adds keys of duplicates to the first events. A key that another event took meanwhile stays with
/// it.
async fn add_keys(
    session: &Session,
    added: Vec<PastEvent>,
    required: Required,
) -> Result<(), QueryError> {
    if added.is_empty() {
        return Ok(());
    }
    let added: Vec<&PastEvent> = added.iter().collect();
    insert_keys(session, &added, required).await.map(drop)
}

/// Inserts keys of existing or expired events, one row each; returns the number of unknown ones.
pub(super) async fn insert_keys(
    session: &Session,
    events: &[&PastEvent],
    required: Required,
) -> Result<u64, QueryError> {
    let pairs = events.iter().flat_map(|past| past.keys.iter().map(move |key| (key, *past)));
    let mut rows: Vec<(&DedupeKey, &PastEvent)> = pairs.collect();
    rows.sort_by_key(|(key, _)| **key);
    let k: Vec<Uuid> = rows.iter().map(|(key, _)| key_uuid(key)).collect();
    let id: Vec<Uuid> = rows.iter().map(|(_, past)| uuid_of(past.id)).collect();
    let seen: Vec<i64> = rows.iter().map(|(_, past)| past.received_ms).collect();
    let fingerprint: Vec<i64> = rows.iter().map(|(_, past)| int(past.fingerprint)).collect();
    let source: Vec<&str> = rows.iter().map(|(_, past)| past.source.as_str()).collect();
    let keys: Vec<Option<Vec<u8>>> =
        rows.iter().map(|(_, past)| several(past.keys.iter().copied())).collect();
    let sql = format!(
        "insert into dedupe (k, id, seen_ms, fingerprint, source, keys)
        select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[],
            $6::bytea[]) where {} on conflict (k) do nothing",
        required.condition()
    );
    session.run(&sql, &[&k, &id, &seen, &fingerprint, &source, &keys]).await
}

/// The uses of the nonces of a batch, given the new ones.
pub(super) fn uses(batch: &[Nonce], mut first: HashSet<DedupeKey>) -> Vec<NonceUse> {
    let use_of = |nonce: &Nonce| match first.remove(&nonce.key) {
        true => NonceUse::First,
        false => NonceUse::Repeated,
    };
    batch.iter().map(use_of).collect()
}
