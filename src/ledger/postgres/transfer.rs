//! Export and import.
//!
//! An export reads the tables one after the other by key: a cursor is the table and the last key.
//! An import takes its items in transactions, each completely or not at all.

use std::collections::{HashMap, HashSet};

use smallvec::SmallVec;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::accept::{BODIES_MAX, insert_keys, joined, piece_of};
use super::documents::DocumentRow;
use super::expiry::rewind;
use super::held;
use super::link::{HeldSession, Session};
use super::log::{ATTEMPT, EVENT_PIECE, EventPiece, response_piece};
use super::migrate::OLDER_KEYS;
use super::query_error::{Cause, QueryError};
use super::row_cipher::{Place, under};
use super::sql::{NOW, hash8, id_of, int, key_of, key_uuid, uuid_of};
use super::{Core, TARGETS_BETWEEN};
use crate::ledger::codec::{Put as _, Take};
use crate::ledger::{
    Attempt, Cursor, DedupeKey, Delivery, DeliveryState, EventId, EventKeys, ExportPage, FaultCode,
    Fingerprint, Imported, Item, LedgerError, NewEvent, Nonce, PastEvent, Revision, SourceId,
    TargetId,
};

/// Maximum of rows that one statement of an export reads.
const ROWS: i64 = 1000;
/// Maximum of held callbacks that one statement of an export reads.
const HELD_ROWS: i64 = 50;
/// Bytes of the items of one transaction of an import.
const IMPORT_BYTES: usize = 8 << 20;
/// Items of one transaction of an import.
const IMPORT_ITEMS: usize = 2000;

/// The tables, in the order of an export.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Documents,
    Past,
    Events,
    Nonces,
    Held,
}

const STAGES: [Stage; 5] =
    [Stage::Documents, Stage::Past, Stage::Events, Stage::Nonces, Stage::Held];

/// The result of one statement of an export, and its last key; `None`: at the end.
pub(super) type Found = (Vec<Item>, Option<Vec<u8>>);

impl Core {
    pub(super) async fn export_on(
        &self,
        session: &Session,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, QueryError> {
        let (mut at, mut after) = match cursor {
            Some(Cursor(text)) => {
                let (stage, key) = text.split_first().ok_or(LedgerError::BadCursor)?;
                (usize::from(*stage), Some(key.to_vec()).filter(|key| !key.is_empty()))
            }
            None => (0, None),
        };
        let mut page = ExportPage::default();
        let mut size = 0;
        while size < bytes || page.items.is_empty() {
            let Some(stage) = STAGES.get(at) else { return Ok(page) };
            let (items, end) = self.stage(session, *stage, after, bytes - size.min(bytes)).await?;
            size += items.iter().map(Item::size).sum::<usize>();
            page.items.extend(items);
            at += usize::from(end.is_none());
            after = end;
        }
        if at < STAGES.len() {
            let mut next = vec![at as u8];
            next.extend(after.unwrap_or_default());
            page.next = Some(Cursor(next));
        }
        Ok(page)
    }

    async fn stage(
        &self,
        session: &Session,
        stage: Stage,
        after: Option<Vec<u8>>,
        bytes: usize,
    ) -> Result<Found, QueryError> {
        match stage {
            Stage::Documents => self.documents(session, after.as_deref()).await,
            Stage::Past => past(session, after.as_deref()).await,
            Stage::Events => self.events(session, after.as_deref(), bytes).await,
            Stage::Nonces => self.nonces(session, after.as_deref()).await,
            Stage::Held => self.held(session, after.as_deref()).await,
        }
    }

    /// Held callbacks and marks, some at a time: each may be as large as an event.
    async fn held(&self, session: &Session, after: Option<&[u8]>) -> Result<Found, QueryError> {
        let after = after.map(key_after).transpose()?;
        let sql = format!(
            "select {} from held where $1::uuid is null or id > $1 order by id limit {HELD_ROWS}",
            held::COLUMNS
        );
        let rows = session.rows(&sql, &[&after]).await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            items.extend(match self.held_of(row)? {
                Some(held) => Some(Item::Held(Box::new(held))),
                None => held::mark_of(row)?.map(Item::Mark),
            });
        }
        Ok((items, rows.last().filter(|_| rows.len() as i64 >= HELD_ROWS).map(end_key)))
    }

    async fn nonces(&self, session: &Session, after: Option<&[u8]>) -> Result<Found, QueryError> {
        let after = after.map(key_after).transpose()?;
        let sql = format!(
            "select k, exp_ms from nonce where exp_ms > {NOW} and ($2::uuid is null or k > $2)
             order by k limit {ROWS}"
        );
        let rows = session.rows(&sql, &[&self.clock.fixed(), &after]).await?;
        let items = rows
            .iter()
            .map(|row| Item::Nonce(Nonce { key: key_of(row.get(0)), expires_ms: row.get(1) }))
            .collect();
        Ok((items, end_of(&rows, end_key)))
    }
}

/// The key after which a page of keys continues.
fn key_after(bytes: &[u8]) -> Result<Uuid, QueryError> {
    Uuid::from_slice(bytes).or(Err(LedgerError::BadCursor.into()))
}

fn end_key(row: &Row) -> Vec<u8> {
    row.get::<_, Uuid>(0).as_bytes().to_vec()
}

/// The key of the last row, if there may be more.
fn end_of(rows: &[Row], key: impl Fn(&Row) -> Vec<u8>) -> Option<Vec<u8>> {
    rows.last().filter(|_| rows.len() as i64 >= ROWS).map(key)
}

fn keys_of(bytes: &[u8]) -> Result<SmallVec<[DedupeKey; 2]>, QueryError> {
    let key = |bytes: &[u8]| {
        let key = bytes.try_into().map(DedupeKey);
        key.or(Err(QueryError::Ledger(LedgerError::Corrupt("a key of another length".into()))))
    };
    bytes.chunks(16).map(key).collect()
}

impl Core {
    async fn documents(
        &self,
        session: &Session,
        after: Option<&[u8]>,
    ) -> Result<Found, QueryError> {
        let bad = |_| QueryError::Ledger(LedgerError::BadCursor);
        let (mut version, mut kind, mut id) = (-1_i64, "", &[][..]);
        if let Some(after) = after {
            let mut from = Take(after);
            version = from.i64().map_err(bad)?;
            kind = from.text().map_err(bad)?;
            id = from.bytes().map_err(bad)?;
        }
        let sql = format!(
            "select kind, id, version, at_ms, who, body from document
         where (version, kind, id) > ($1, $2, $3) order by version, kind, id limit {ROWS}"
        );
        let rows = session.rows(&sql, &[&version, &kind, &id]).await?;
        let items = rows.iter().map(|row| {
            Ok(Item::Document { kind: row.get(0), document: self.document_of(row, 0)? })
        });
        let items = items.collect::<Result<_, QueryError>>()?;
        let end = end_of(&rows, |row| {
            let mut key = row.get::<_, i64>(2).to_le_bytes().to_vec();
            key.put_bytes(row.get::<_, &str>(0).as_bytes());
            key.put_bytes(row.get(1));
            key
        });
        Ok((items, end))
    }
}

/// Keys without an event: their events expired, or they came with duplicates. The smallest of
/// several that were written together represents all.
async fn past(session: &Session, after: Option<&[u8]>) -> Result<Found, QueryError> {
    let after = after.map(key_after).transpose()?;
    let sql = format!(
        "select d.k, d.id, d.seen_ms, d.fingerprint, d.source, d.keys,
            exists (select 1 from event e
                where e.id = d.id and position(uuid_send(d.k) in e.keys) > 0)
         from dedupe d where $1::uuid is null or d.k > $1 order by d.k limit {ROWS}"
    );
    let rows = session.rows(&sql, &[&after]).await?;
    let mut items = Vec::new();
    for row in rows.iter().filter(|row| !row.get::<_, bool>(6)) {
        let own = key_of(row.get(0));
        let keys = keys_of(row.get::<_, Option<&[u8]>>(5).unwrap_or(&own.0))?;
        if keys.iter().min() == Some(&own) {
            items.push(Item::Past(PastEvent {
                id: id_of(row.get(1)),
                source: SourceId::from(row.get::<_, &str>(4)),
                keys,
                fingerprint: Fingerprint(row.get::<_, i64>(3).cast_unsigned()),
                received_ms: row.get(2),
            }));
        }
    }
    Ok((items, end_of(&rows, end_key)))
}

impl Core {
    /// Events of about `bytes`, at least one. Only their bodies are read.
    pub(super) async fn events(
        &self,
        session: &Session,
        after: Option<&[u8]>,
        bytes: usize,
    ) -> Result<Found, QueryError> {
        let after = match after {
            Some(id) => {
                let id: [u8; 16] = id.try_into().or(Err(LedgerError::BadCursor))?;
                Some(Uuid::from_bytes(id))
            }
            None => None,
        };
        let sql = format!(
            "with w as (
            select id, octet_length(body) as size from event
            where $1::uuid is null or id > $1 order by id limit {ROWS}
        ), shown as (
            select id, sum(size) over (order by id) - size as before from w
        )
        select e.id, e.keys, e.fingerprint, e.received_ms, e.test, e.targets, {EVENT_PIECE}
        from shown s join event e on e.id = s.id where s.before <= $2 order by e.id"
        );
        let most = i64::try_from(bytes).unwrap_or(i64::MAX);
        let rows = session.rows(&sql, &[&after, &most]).await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        let mut open = open_rows(session, &ids).await?;
        let mut attempts = self.attempts(session, &open).await?;
        let mut items = Vec::new();
        for row in &rows {
            let event = self.event_of(row)?;
            let own = open.remove(&event.id).unwrap_or_default();
            let names: Vec<String> = row.get(5);
            let deliveries = names.iter().map(|name| {
                let (state, attempt, due_ms) =
                    own.get(name).copied().unwrap_or((DeliveryState::Done, 0, None));
                let attempts = attempts.remove(&(event.id, name.clone())).unwrap_or_default();
                let target = TargetId::from(name.as_str());
                Delivery { event: event.id, target, state, attempt, due_ms, attempts }
            });
            let deliveries = deliveries.collect();
            items.push(Item::Event { event, deliveries });
        }
        Ok((items, ids.last().map(|id| id.as_bytes().to_vec())))
    }
}

impl Core {
    fn event_of(&self, row: &Row) -> Result<NewEvent, QueryError> {
        let id = id_of(row.get(0));
        let names: Vec<String> = row.get(5);
        let EventPiece { transaction, user, body } = self.event_piece(id, row, 6)?;
        Ok(NewEvent {
            id,
            source: SourceId::from(row.get::<_, &str>(9)),
            keys: EventKeys::from_iter(keys_of(row.get(1))?),
            fingerprint: Fingerprint(row.get::<_, i64>(2).cast_unsigned()),
            transaction,
            user,
            received_ms: row.get(3),
            test: row.get(4),
            targets: names.iter().map(|name| TargetId::from(name.as_str())).collect(),
            body,
            seal: Default::default(),
        })
    }
}

/// Unfinished deliveries of some events: state, attempts and due time, by destination.
type Open = HashMap<EventId, HashMap<String, (DeliveryState, u32, Option<i64>)>>;

async fn open_rows(session: &Session, ids: &[Uuid]) -> Result<Open, QueryError> {
    let sql = "select event_id, target, attempt, due_ms from delivery where event_id = any($1)
        union all select event_id, target, attempt, null from dead where event_id = any($1)";
    let mut open = Open::new();
    for row in session.rows(sql, &[&ids]).await? {
        let due_ms: Option<i64> = row.get(3);
        let state = if due_ms.is_some() { DeliveryState::Pending } else { DeliveryState::Dead };
        let attempt = u32::try_from(row.get::<_, i32>(2)).unwrap_or(0);
        let own = open.entry(id_of(row.get(0))).or_default();
        own.insert(row.get(1), (state, attempt, due_ms));
    }
    Ok(open)
}

impl Core {
    /// The attempts of events with unfinished deliveries.
    async fn attempts(
        &self,
        session: &Session,
        open: &Open,
    ) -> Result<HashMap<(EventId, String), Vec<Attempt>>, QueryError> {
        let ids: Vec<Uuid> = open.keys().copied().map(uuid_of).collect();
        let sql = format!(
            "select event_id, target, {ATTEMPT} from attempt where event_id = any($1)
         order by event_id, target, token"
        );
        let mut found: HashMap<_, Vec<Attempt>> = HashMap::new();
        for row in session.rows(&sql, &[&ids]).await? {
            let (event, target): (EventId, String) = (id_of(row.get(0)), row.get(1));
            let attempt = self.attempt(event, &target, &row, 2)?;
            found.entry((event, target)).or_default().push(attempt);
        }
        Ok(found)
    }
}

// === Importing ===

/// Splits items by transaction.
pub(super) fn pieces(items: Vec<Item>) -> Result<Vec<Vec<Item>>, LedgerError> {
    let mut pieces: Vec<Vec<Item>> = Vec::new();
    let mut size = 0;
    for item in items {
        if item.size() > BODIES_MAX {
            return Err(LedgerError::TooLarge { size: item.size(), max: BODIES_MAX });
        }
        size += item.size();
        match pieces.last_mut().filter(|piece| size <= IMPORT_BYTES && piece.len() < IMPORT_ITEMS) {
            Some(piece) => piece.push(item),
            None => {
                size = item.size();
                pieces.push(vec![item]);
            }
        }
    }
    Ok(pieces)
}

/// An event with unknown keys, or the keys of an expired one.
struct Taken<'i> {
    past: PastEvent,
    whole: Option<(&'i NewEvent, &'i [Delivery])>,
}

impl Core {
    pub(super) async fn import_on(
        &self,
        held: &mut HeldSession<'_>,
        items: &[Item],
    ) -> Result<Imported, QueryError> {
        let ids = items.iter().filter_map(|item| match item {
            Item::Event { event, .. } => Some(event.id),
            _ => None,
        });
        self.days_for(held, ids).await?;
        held.begin().await?;
        let taken = match self.import_all(held, items).await {
            Ok(taken) => taken,
            Err(fault) => {
                held.undo().await?;
                return Err(fault);
            }
        };
        held.commit().await?;
        Ok(Imported { taken, known: items.len() as u64 - taken })
    }

    async fn import_all(&self, session: &Session, items: &[Item]) -> Result<u64, QueryError> {
        self.pulse.required().check(session).await?;
        let mut taken = 0;
        for item in items {
            if let Item::Document { kind, document } = item {
                taken += u64::from(self.import_document(session, kind, document).await?);
            }
        }
        let events = unknown(session, items).await?;
        if !events.is_empty() {
            session.run(OLDER_KEYS, &[]).await?;
        }
        let past: Vec<&PastEvent> = events.iter().map(|taken| &taken.past).collect();
        let keys: usize = past.iter().map(|past| past.keys.len()).sum();
        // A gateway took one of them meanwhile: all are evaluated again.
        if insert_keys(session, &past, self.pulse.required()).await? != keys as u64 {
            return Err(taken_meanwhile());
        }
        // Sweeps may have passed the time of these keys.
        if let Some(oldest) = past.iter().map(|past| past.received_ms).min() {
            rewind(session, oldest).await?;
        }
        self.insert_events(session, &events).await?;
        self.insert_deliveries(session, &events).await?;
        taken += events.len() as u64;
        for item in items {
            taken += u64::from(match item {
                Item::Held(held) => self.insert_held(session, held).await?,
                Item::Mark(mark) => self.insert_mark(session, mark).await?,
                _ => false,
            });
        }
        let nonces: Vec<&Nonce> = items
            .iter()
            .filter_map(|item| if let Item::Nonce(nonce) = item { Some(nonce) } else { None })
            .collect();
        Ok(taken + insert_nonces(session, &nonces).await?)
    }

    /// A document that is newer than the stored one, under a version not used here yet.
    async fn import_document(
        &self,
        session: &Session,
        kind: &str,
        document: &crate::ledger::Document,
    ) -> Result<bool, QueryError> {
        let sql = "select v from meta where k = 'revision' for update";
        let revision: i64 = session.row(sql, &[]).await?.get(0);
        let id = document.id.as_bytes();
        let sql = "select version from document where kind = $1 and id = $2";
        let current = session.rows(sql, &[&kind, &id]).await?;
        let version = document.version.0.cast_signed();
        if current.first().is_some_and(|row| row.get::<_, i64>(0) >= version) {
            return Ok(false);
        }
        let new = version.max(revision + 1);
        session.run("update meta set v = $1 where k = 'revision'", &[&new]).await?;
        let (at_ms, who, body) = (document.at_ms, document.who.as_str(), &document.body[..]);
        let row = DocumentRow { kind, id, version: new, at_ms, who, body };
        self.write_document(session, row).await?;
        session.run("select pg_notify($1, '')", &[&self.dialer.channel()]).await?;
        self.pulse.saw(Revision(0));
        Ok(true)
    }

    async fn insert_deliveries(
        &self,
        session: &Session,
        events: &[Taken<'_>],
    ) -> Result<(), QueryError> {
        let whole = || events.iter().filter_map(|taken| taken.whole);
        let all: Vec<&Delivery> = whole().flat_map(|(_, deliveries)| deliveries).collect();
        let open = |state| -> Vec<&Delivery> {
            all.iter().copied().filter(|delivery| delivery.state == state).collect()
        };
        let columns = |some: &[&Delivery]| -> (Vec<Uuid>, Vec<String>, Vec<i32>, Vec<i64>) {
            (
                some.iter().map(|one| uuid_of(one.event)).collect(),
                some.iter().map(|one| one.target.as_str().to_owned()).collect(),
                some.iter().map(|one| i32::try_from(one.attempt).unwrap_or(i32::MAX)).collect(),
                some.iter().map(|one| one.due_ms.unwrap_or(0)).collect(),
            )
        };
        let (now, (event, target, attempt, due)) =
            (self.clock.fixed(), columns(&open(DeliveryState::Pending)));
        let sql = format!(
            "insert into delivery (event_id, target, due_ms, attempt, token, owner)
             select event_id, target, due_ms, attempt, {NOW} * 1024, null
             from unnest($2::uuid[], $3::text[], $4::integer[], $5::bigint[])
                as o(event_id, target, attempt, due_ms)"
        );
        session.run(&sql, &[&now, &event, &target, &attempt, &due]).await?;
        let (event, target, attempt, _) = columns(&open(DeliveryState::Dead));
        let sql = format!(
            "insert into dead (event_id, target, attempt, died_ms)
             select event_id, target, attempt, {NOW}
             from unnest($2::uuid[], $3::text[], $4::integer[]) as o(event_id, target, attempt)"
        );
        session.run(&sql, &[&now, &event, &target, &attempt]).await?;
        self.insert_attempts(session, &all).await
    }
}

/// The items, complete or past, of which no key is known, each key once.
async fn unknown<'i>(session: &Session, items: &'i [Item]) -> Result<Vec<Taken<'i>>, QueryError> {
    let offered: Vec<Taken<'i>> = items
        .iter()
        .filter_map(|item| match item {
            Item::Past(past) => Some(Taken { past: past.clone(), whole: None }),
            Item::Event { event, deliveries } => {
                let past = PastEvent {
                    id: event.id,
                    source: event.source.clone(),
                    keys: event.keys.written().collect(),
                    fingerprint: event.fingerprint,
                    received_ms: event.received_ms,
                };
                Some(Taken { past, whole: Some((event, deliveries)) })
            }
            Item::Document { .. } | Item::Nonce(_) | Item::Held(_) | Item::Mark(_) => None,
        })
        .collect();
    let keys: Vec<Uuid> = offered.iter().flat_map(|one| &one.past.keys).map(key_uuid).collect();
    let rows = session.rows("select k from dedupe where k = any($1)", &[&keys]).await?;
    let mut known: HashSet<DedupeKey> = rows.iter().map(|row| key_of(row.get(0))).collect();
    Ok(offered
        .into_iter()
        .filter(|one| {
            let fresh = one.past.keys.iter().all(|key| !known.contains(key));
            if fresh {
                known.extend(one.past.keys.iter().copied());
            }
            fresh
        })
        .collect())
}

fn taken_meanwhile() -> QueryError {
    QueryError::Again(Cause::new(FaultCode::Undone, "another gateway took a key meanwhile"))
}

impl Core {
    async fn insert_events(
        &self,
        session: &Session,
        events: &[Taken<'_>],
    ) -> Result<(), QueryError> {
        let whole: Vec<(&NewEvent, &[Delivery])> =
            events.iter().filter_map(|taken| taken.whole).collect();
        let each = || whole.iter().map(|(event, _)| *event);
        let user = |event: &NewEvent| event.user.as_deref().map(|user| hash8(user.as_bytes()));
        let id: Vec<Uuid> = each().map(|event| uuid_of(event.id)).collect();
        let source: Vec<&str> = each().map(|event| event.source.as_str()).collect();
        let tx: Vec<i64> = each().map(|event| hash8(event.transaction.as_bytes())).collect();
        let usr: Vec<Option<i64>> = each().map(user).collect();
        let received: Vec<i64> = each().map(|event| event.received_ms).collect();
        let test: Vec<bool> = each().map(|event| event.test).collect();
        let fingerprint: Vec<i64> = each().map(|event| int(event.fingerprint)).collect();
        let keys: Vec<Vec<u8>> = each().map(|event| joined(event.keys.written())).collect();
        let pen = self.vault.pen()?;
        let body: Vec<Vec<u8>> = each().map(|event| piece_of(event, &pen)).collect();
        let targets: Vec<String> = whole
            .iter()
            .map(|(_, deliveries)| {
                let mut names: Vec<&str> =
                    deliveries.iter().map(|one| one.target.as_str()).collect();
                names.sort_unstable();
                names.join(TARGETS_BETWEEN)
            })
            .collect();
        let sql = format!(
        "insert into event (id, source, tx, usr, received_ms, test, fingerprint, keys, targets, body)
         select id, source, tx, usr, received_ms, test, fingerprint, keys,
            string_to_array(targets, E'\\x1f'), body
         from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bool[],
            $7::bigint[], $8::bytea[], $9::text[], $10::bytea[])
            as o(id, source, tx, usr, received_ms, test, fingerprint, keys, targets, body)
         where {}",
        under("$11")
    );
        let key = pen.number();
        let with: [&(dyn ToSql + Sync); 11] =
            [&id, &source, &tx, &usr, &received, &test, &fingerprint, &keys, &targets, &body, &key];
        session.run(&sql, &with).await.map(drop)
    }
}

impl Core {
    /// Attempts in order; the tokens of future leases are larger than these.
    async fn insert_attempts(
        &self,
        session: &Session,
        deliveries: &[&Delivery],
    ) -> Result<(), QueryError> {
        let rows = deliveries.iter().flat_map(|delivery| {
            (1_i64..)
                .zip(&delivery.attempts)
                .map(move |(token, attempt)| (*delivery, token, attempt))
        });
        let rows: Vec<(&Delivery, i64, &Attempt)> = rows.collect();
        let event: Vec<Uuid> = rows.iter().map(|(one, ..)| uuid_of(one.event)).collect();
        let target: Vec<&str> = rows.iter().map(|(one, ..)| one.target.as_str()).collect();
        let token: Vec<i64> = rows.iter().map(|(_, token, _)| *token).collect();
        let at: Vec<i64> = rows.iter().map(|(.., attempt)| attempt.at_ms).collect();
        let latency: Vec<i64> =
            rows.iter().map(|(.., attempt)| i64::from(attempt.latency_ms)).collect();
        let status: Vec<Option<i16>> =
            rows.iter().map(|(.., attempt)| attempt.status.map(u16::cast_signed)).collect();
        let pen = self.vault.pen()?;
        let said: Vec<Option<Vec<u8>>> = rows
            .iter()
            .map(|(one, token, attempt)| {
                let (event, target) = (one.event, one.target.as_str());
                response_piece(&pen, Place::Attempt { event, target, token: *token }, attempt)
            })
            .collect();
        let sql = format!(
            "insert into attempt (event_id, target, token, at_ms, latency_ms, status, said)
         select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
            $6::smallint[], $7::bytea[]) where {}",
            under("$8")
        );
        let key = pen.number();
        let with: [&(dyn ToSql + Sync); 8] =
            [&event, &target, &token, &at, &latency, &status, &said, &key];
        session.run(&sql, &with).await.map(drop)
    }
}

async fn insert_nonces(session: &Session, nonces: &[&Nonce]) -> Result<u64, QueryError> {
    let mut latest: HashMap<DedupeKey, i64> = HashMap::new();
    for nonce in nonces {
        let end = latest.entry(nonce.key).or_insert(nonce.expires_ms);
        *end = nonce.expires_ms.max(*end);
    }
    let mut latest: Vec<_> = latest.into_iter().collect();
    latest.sort_unstable();
    let k: Vec<Uuid> = latest.iter().map(|(key, _)| key_uuid(key)).collect();
    let end: Vec<i64> = latest.iter().map(|(_, end)| *end).collect();
    let sql = "insert into nonce (k, exp_ms) select * from unnest($1::uuid[], $2::bigint[])
        on conflict (k) do update set exp_ms = excluded.exp_ms where nonce.exp_ms < excluded.exp_ms";
    session.run(sql, &[&k, &end]).await
}
