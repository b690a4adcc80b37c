//! Importing what another store has exported.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::super::accept::{BODIES_MAX, insert_keys, joined, piece_of};
use super::super::documents::DocumentRow;
use super::super::expiry::rewind;
use super::super::link::{PooledSession, Session};
use super::super::log::response_piece;
use super::super::migrate::OLDER_KEYS;
use super::super::query_error::{Cause, QueryError};
use super::super::row_cipher::{Place, under};
use super::super::sql::{NOW, event_of, hash8, id_of, int, key_of, key_uuid, uuid_of};
use super::super::{Core, TARGETS_BETWEEN};
use super::{IMPORT_BYTES, IMPORT_ITEMS};
use crate::ledger::portable::ImportRevisions;
use crate::ledger::{
    Attempt, DedupeKey, Delivery, DeliveryState, DifferingDocument, Document, EventId, FaultCode,
    Imported, Item, LedgerError, NewEvent, Nonce, PastEvent, Revision,
};

/// Until every gateway looks for keys of an older form: each asks the server once a second, and its
/// receiving path asks it as often.
const HEARD_TIME: Duration = Duration::from_secs(5);

// === Importing ===

/// Splits items by transaction. Documents that were changed together stay together.
pub(in crate::ledger::postgres) fn pieces(items: Vec<Item>) -> Result<Vec<Vec<Item>>, LedgerError> {
    let mut pieces: Vec<Vec<Item>> = Vec::new();
    let mut size = 0;
    for item in items {
        if item.size() > BODIES_MAX {
            return Err(LedgerError::TooLarge { size: item.size(), max: BODIES_MAX });
        }
        size += item.size();
        let revision = item.revision();
        let has_room = |piece: &[Item]| {
            let is_of_change =
                revision.is_some() && piece.last().and_then(Item::revision) == revision;
            is_of_change || (size <= IMPORT_BYTES && piece.len() < IMPORT_ITEMS)
        };
        match pieces.last_mut().filter(|piece| has_room(piece.as_slice())) {
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

impl Taken<'_> {
    /// Whether none of its keys is known.
    fn is_new(&self, known: &HashSet<DedupeKey>) -> bool {
        self.past.keys.iter().all(|key| !known.contains(key))
    }
}

impl Core {
    pub(in crate::ledger::postgres) async fn import_on(
        &self,
        session: &mut PooledSession<'_>,
        items: &[Item],
    ) -> Result<Imported, QueryError> {
        let ids = items.iter().filter_map(|item| match item {
            Item::Event { event, .. } => Some(event.id),
            _ => None,
        });
        self.days_for(session, ids).await?;
        self.announce_older_keys(session, items).await?;
        session.begin().await?;
        let imported = match self.import_all(session, items).await {
            Ok(imported) => imported,
            Err(fault) => {
                session.undo().await?;
                return Err(fault);
            }
        };
        session.commit().await?;
        Ok(imported)
    }

    /// Notes that keys of an older form may exist, before the first of them does, and waits until
    /// gateways look for them: another gateway would take a repetition for new.
    async fn announce_older_keys(
        &self,
        session: &Session,
        items: &[Item],
    ) -> Result<(), QueryError> {
        if self.row_cipher.may_hold_older_keys() || unknown(session, items).await?.is_empty() {
            return Ok(());
        }
        session.run(OLDER_KEYS, &[]).await?;
        let sql = format!("select exists (select 1 from gateway where until_ms > {NOW})");
        if session.row(&sql, &[&self.clock.fixed()]).await?.get(0) {
            tokio::time::sleep(HEARD_TIME).await;
        }
        self.row_cipher.note_older_keys();
        Ok(())
    }

    async fn import_all(&self, session: &Session, items: &[Item]) -> Result<Imported, QueryError> {
        self.server_watch.required().check(session).await?;
        let (mut taken, mut differing) = (0, Vec::new());
        let mut revisions = ImportRevisions::default();
        for item in items {
            let Item::Document { kind, document } = item else { continue };
            match self.stored_as_new(session, kind, document).await? {
                Some(stored) => {
                    differing.extend(DifferingDocument::between(kind, &stored, document));
                }
                None => {
                    self.import_document(session, kind, document, &mut revisions).await?;
                    taken += 1;
                }
            }
        }
        // Before events, as decisions and a change of the master key lock the tables.
        for item in items {
            taken += u64::from(match item {
                Item::Held(held) => self.insert_held(session, held).await?,
                Item::Mark(mark) => self.insert_mark(session, mark).await?,
                _ => false,
            });
        }
        let events = unknown(session, items).await?;
        let past: Vec<&PastEvent> = events.iter().map(|taken| &taken.past).collect();
        let keys: usize = past.iter().map(|past| past.keys.len()).sum();
        // A gateway took one of them meanwhile: all are evaluated again.
        if insert_keys(session, &past, self.server_watch.required()).await? != keys as u64 {
            return Err(taken_meanwhile());
        }
        // Sweeps may have passed the time of these keys.
        if let Some(oldest) = past.iter().map(|past| past.received_ms).min() {
            rewind(session, oldest).await?;
        }
        self.insert_events(session, &events).await?;
        self.insert_deliveries(session, &events).await?;
        taken += events.len() as u64;
        let nonces: Vec<&Nonce> = items
            .iter()
            .filter_map(|item| if let Item::Nonce(nonce) = item { Some(nonce) } else { None })
            .collect();
        taken += insert_nonces(session, &nonces).await?;
        Ok(Imported { taken, known: items.len() as u64 - taken, differing })
    }

    /// The stored document of that name, if it is as new. No other change of one begins until the end
    /// of the transaction.
    async fn stored_as_new(
        &self,
        session: &Session,
        kind: &str,
        offered: &Document,
    ) -> Result<Option<Document>, QueryError> {
        session.row("select v from meta where k = 'revision' for update", &[]).await?;
        let stored = self.document_on(session, kind, &offered.id).await?;
        Ok(stored.filter(|stored| stored.version >= offered.version))
    }

    /// A document that is newer than the stored one, under a version not used here yet.
    async fn import_document(
        &self,
        session: &Session,
        kind: &str,
        document: &Document,
        revisions: &mut ImportRevisions,
    ) -> Result<(), QueryError> {
        let sql = "select v from meta where k = 'revision' for update";
        let newest: i64 = session.row(sql, &[]).await?.get(0);
        let id = document.id.as_bytes();
        let newest = Revision(newest.cast_unsigned());
        let new = revisions.of(document.version, newest).0.cast_signed();
        let sql = "update meta set v = greatest(v, $1) where k = 'revision'";
        session.run(sql, &[&new]).await?;
        let (at_ms, who, body) = (document.at_ms, document.who.as_str(), &document.body[..]);
        let row = DocumentRow { kind, id, version: new, at_ms, who, body };
        self.write_document(session, row).await?;
        session.run("select pg_notify($1, '')", &[&self.dialer.channel()]).await.map(drop)
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

/// The items, complete or past, of which no key is known, each key once. An event is known by its id
/// too: a released conflict has no keys, and neither has an event of a source that was forgotten.
async fn unknown<'i>(session: &Session, items: &'i [Item]) -> Result<Vec<Taken<'i>>, QueryError> {
    let mut offered: Vec<Taken<'i>> = items
        .iter()
        .filter_map(|item| match item {
            Item::Past(past) => Some(Taken { past: past.clone(), whole: None }),
            Item::Event { event, deliveries } => {
                let past = PastEvent::of(event);
                Some(Taken { past, whole: Some((event, deliveries)) })
            }
            Item::Document { .. } | Item::Nonce(_) | Item::Held(_) | Item::Mark(_) => None,
        })
        .collect();
    let keys: Vec<Uuid> = offered.iter().flat_map(|one| &one.past.keys).map(key_uuid).collect();
    let rows = session.rows("select k from dedupe where k = any($1)", &[&keys]).await?;
    let mut known: HashSet<DedupeKey> = rows.iter().map(|row| key_of(row.get(0))).collect();
    offered.retain(|one| one.is_new(&known));
    let mut stored = recorded(session, &offered).await?;
    offered.retain(|one| {
        let fresh = one.is_new(&known) && (one.whole.is_none() || stored.insert(one.past.id));
        if fresh {
            known.extend(one.past.keys.iter().copied());
        }
        fresh
    });
    Ok(offered)
}

/// The events that are recorded already, each looked up by its id.
async fn recorded(
    session: &Session,
    offered: &[Taken<'_>],
) -> Result<HashSet<EventId>, QueryError> {
    let whole = offered.iter().filter(|one| one.whole.is_some());
    let ids: Vec<Uuid> = whole.map(|one| uuid_of(one.past.id)).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = format!("select e.id from unnest($1::uuid[]) as w(id) {}", event_of("w.id"));
    let rows = session.rows(&sql, &[&ids]).await?;
    Ok(rows.iter().map(|row| id_of(row.get(0))).collect())
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
        let sealer = self.row_cipher.sealer()?;
        let body: Vec<Vec<u8>> = each().map(|event| piece_of(event, &sealer)).collect();
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
        let key = sealer.number();
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
        let sealer = self.row_cipher.sealer()?;
        let said: Vec<Option<Vec<u8>>> = rows
            .iter()
            .map(|(one, token, attempt)| {
                let (event, target) = (one.event, one.target.as_str());
                response_piece(&sealer, Place::Attempt { event, target, token: *token }, attempt)
            })
            .collect();
        let sql = format!(
            "insert into attempt (event_id, target, token, at_ms, latency_ms, status, said)
         select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
            $6::smallint[], $7::bytea[]) where {}",
            under("$8")
        );
        let key = sealer.number();
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn documents_of_one_change_are_in_one_transaction() {
        let document = |n: usize| {
            // Two of each revision, but for the first one.
            let version = Revision(n.div_ceil(2) as u64 + 1);
            let (id, who, body) = (n.to_string(), String::new(), Bytes::new());
            Item::Document {
                kind: "rule".into(),
                document: Document { id, version, at_ms: 0, who, body },
            }
        };
        let pieces = pieces((0..2 * IMPORT_ITEMS).map(document).collect()).unwrap();
        let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
        assert_eq!(lengths, [IMPORT_ITEMS + 1, IMPORT_ITEMS - 1]);
    }
}
