//! Export and import.
//!
//! An export reads the tables one after the other by key: a cursor is the table and the last key.
//! An import takes its items in transactions, each completely or not at all.

mod import;

use std::collections::HashMap;

use smallvec::SmallVec;
use tokio_postgres::Row;
use uuid::Uuid;

pub(super) use self::import::pieces;
use super::Core;
use super::held;
use super::link::Session;
use super::log::{ATTEMPT, EVENT_PIECE, EventPiece};
use super::query_error::QueryError;
use super::sql::{NOW, OPEN, event_of, id_of, key_of, uuid_of};
use crate::ledger::codec::{Put as _, Take};
use crate::ledger::{
    Attempt, Cursor, DedupeKey, Delivery, DeliveryState, EventId, EventKeys, ExportPage,
    Fingerprint, Item, LedgerError, NewEvent, Nonce, PastEvent, SourceId, TargetId,
};

/// Maximum of rows that one statement of an export reads.
const ROWS: i64 = 1000;
/// Maximum of held callbacks that one statement of an export reads.
const HELD_ROWS: i64 = 50;
/// Bytes of the items of one transaction of an import.
const IMPORT_BYTES: usize = 8 << 20;
/// Items of one transaction of an import.
const IMPORT_ITEMS: usize = 2000;

/// The tables of an export.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Documents,
    Held,
    Events,
    Past,
    Nonces,
}

/// Their order. What a row becomes while the export is read is in a later table: a released callback
/// becomes an event, and of a deleted event the keys stay. In another order neither table might have
/// it. If both have it, an import takes it once.
const STAGES: [Stage; 5] =
    [Stage::Documents, Stage::Held, Stage::Events, Stage::Past, Stage::Nonces];

/// The first byte of a cursor in the documents, which come first in every version.
const IN_DOCUMENTS: u8 = 0;
/// The first byte of any other cursor; the stage follows. Gateways of older versions have another
/// order: what is a stage to one of the two is a part of a key to the other, which then has another
/// length. Each rejects the other's cursors, so no export goes on in another order.
const AFTER_DOCUMENTS: u8 = 1;

/// The cursor of a stage, after a key in it.
fn cursor_at(stage: usize, key: Option<Vec<u8>>) -> Cursor {
    let mut bytes = match stage {
        0 => vec![IN_DOCUMENTS],
        _ => vec![AFTER_DOCUMENTS, stage as u8],
    };
    bytes.extend(key.unwrap_or_default());
    Cursor(bytes)
}

/// The stage of a cursor, and the key in it.
fn place_of(Cursor(bytes): &Cursor) -> Result<(usize, Option<Vec<u8>>), LedgerError> {
    let (stage, key) = match bytes.as_slice() {
        [IN_DOCUMENTS, key @ ..] => (0, key),
        [AFTER_DOCUMENTS, stage, key @ ..] if (1..STAGES.len()).contains(&usize::from(*stage)) => {
            (usize::from(*stage), key)
        }
        _ => return Err(LedgerError::BadCursor),
    };
    Ok((stage, Some(key.to_vec()).filter(|key| !key.is_empty())))
}

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
            Some(cursor) => place_of(cursor)?,
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
        page.next = (at < STAGES.len()).then(|| cursor_at(at, after));
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
        from shown s {} where s.before <= $2 order by e.id",
            event_of("s.id")
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
    let mut open = Open::new();
    for row in session.rows(OPEN, &[&ids]).await? {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_one_of_another_order_is_refused() {
        for (stage, _) in STAGES.iter().enumerate() {
            for key in [None, Some(vec![7; 16])] {
                assert_eq!(place_of(&cursor_at(stage, key.clone())), Ok((stage, key)));
            }
        }
        // Older gateways wrote the number of the stage, and the key.
        let older = |stage: u8, key: &[u8]| Cursor([&[stage][..], key].concat());
        for stage in 1..=4 {
            assert!(place_of(&older(stage, &[])).is_err());
            assert!(place_of(&older(stage, &[0xff; 16])).is_err());
        }
        // What they write in the keys may look as if it was one of these, but for its length.
        let (_, key) = place_of(&older(1, &[3; 16])).unwrap();
        assert!(key_after(&key.unwrap()).is_err());
        // And they read these as if they were in the keys.
        for key in [None, Some(vec![7; 16])] {
            assert!(key_after(&cursor_at(3, key).0[1..]).is_err());
        }
    }
}
