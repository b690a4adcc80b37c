//! Change of the master key, in small steps, while gateways run.
//!
//! First the key for writing changes, for all gateways at once; then existing rows are rewritten in
//! the order of their keys. Progress needs no record: a piece names its key, so an interrupted run
//! starts again and skips finished rows.

use tokio_postgres::Row;
use uuid::Uuid;

use super::dialer::SessionRole;
use super::documents::document_piece;
use super::gateway::gateways_without;
use super::held::{COLUMNS, held_piece};
use super::link::{Pool, PooledSession, Session};
use super::log::{ATTEMPT, EVENT_PIECE, response_piece};
use super::query_error::QueryError;
use super::row_cipher::{Place, Used, change_key, forget_others, under};
use super::sql::{event_of, id_of, uuid_of};
use super::{CHANGE_PATIENCE, Core, Postgres, PostgresError, PostgresOptions};
use crate::clock::instant;
use crate::ledger::seal::MasterKey;
use crate::ledger::{Attempt, EventId, LedgerError};

/// Rows of one step.
const ROWS: i64 = 500;
/// Held callbacks of one step: each may be as large as an event.
const HELD_ROWS: i64 = 50;
/// Bytes of one step, except for a single larger row.
const BYTES: i64 = 8 << 20;

/// The key of an attempt's row.
struct AttemptKey {
    event: Uuid,
    target: String,
    token: i64,
}

impl Postgres {
    /// Seals everything with the current key of `options`, or unseals it without one. Reports and
    /// returns the number of rewritten rows: zero if nothing had to change. Gateways with both keys
    /// run meanwhile.
    ///
    /// # Errors
    /// If a key is missing here or in a gateway that is at work, or the server fails; finished rows
    /// stay, and the rest may be retried.
    pub async fn rekey(
        options: PostgresOptions,
        tell: &mut dyn FnMut(u64),
    ) -> Result<u64, PostgresError> {
        let to = options.keys.current().map(MasterKey::id);
        let open_time = options.open_time;
        let core = Self::connect(options).await?;
        let pool = Pool::new(std::sync::Arc::clone(&core.dialer), SessionRole::Migrate, 1);
        let mut session = pool.session(instant() + open_time).await?;
        if let Some(new) = to {
            let count = gateways_without(&session, new).await?;
            if count > 0 {
                return Err(PostgresError::GatewaysLackKey { count });
            }
        }
        let until = instant() + CHANGE_PATIENCE;
        loop {
            let used = Used::read(&session).await?;
            match change_key(&mut session, used.current, to).await {
                Ok(true) => break,
                Ok(false) | Err(QueryError::Again(_)) if instant() < until => {}
                Ok(false) => return Err(PostgresError::Server(IN_USE.to_owned())),
                Err(fault) => return Err(fault.into()),
            }
        }
        core.row_cipher.heard(Used::read(&session).await?);
        let mut done = 0;
        let rekeyed = core.rekey_all(&mut session, &mut done, tell).await;
        session.heed(rekeyed).map_err(sealed)?;
        forget_others(&session, to).await?;
        Ok(done)
    }
}

/// Another run changes the key for writing.
const IN_USE: &str = "another rekey is in progress; wait for its end";

/// Maps the error of a missing key.
fn sealed(fault: QueryError) -> PostgresError {
    match fault {
        QueryError::Ledger(LedgerError::Sealed(what)) => PostgresError::Sealed(what),
        QueryError::Torn(_) => PostgresError::Server(IN_USE.to_owned()),
        fault => fault.into(),
    }
}

impl Core {
    async fn rekey_all(
        &self,
        session: &mut PooledSession<'_>,
        done: &mut u64,
        tell: &mut dyn FnMut(u64),
    ) -> Result<(), QueryError> {
        let mut after = Uuid::nil();
        while let Some((last, rows)) = self.rekey_events(session, after).await? {
            after = last;
            *done += rows;
            tell(*done);
        }
        let mut after = AttemptKey { event: Uuid::nil(), target: String::new(), token: i64::MIN };
        while let Some((last, rows)) = self.rekey_attempts(session, after).await? {
            after = last;
            *done += rows;
            tell(*done);
        }
        let mut after = Uuid::nil();
        while let Some((last, rows)) = self.rekey_held(session, after).await? {
            after = last;
            *done += rows;
            tell(*done);
        }
        loop {
            let rows = self.rekey_documents(session).await?;
            if rows == 0 {
                return Ok(());
            }
            *done += rows;
            tell(*done);
        }
    }

    /// A condition that holds if the key in parameter `number` is the key for writing and the commit
    /// will be durable: a row that a crash restores would need the discarded key.
    fn allowed(&self, number: &str) -> String {
        format!("{} and {}", under(number), self.server_watch.required().condition())
    }

    /// A step: its end, and the number of rewritten rows; `None`: nothing is left.
    async fn rekey_events(
        &self,
        session: &Session,
        after: Uuid,
    ) -> Result<Option<(Uuid, u64)>, QueryError> {
        let sealer = self.row_cipher.sealer()?;
        let prefix = sealer.prefix();
        let sql = format!(
            "with old as (
                select id, octet_length(body) as size from event where id > $1
                    and (transaction is not null or substring(body for {len}) <> $2)
                order by id limit {ROWS}
            ), few as (
                select id, sum(size) over (order by id) - size as before from old
            )
            select e.id, {EVENT_PIECE} from few s {event}
            where s.before <= {BYTES} order by e.id",
            event = event_of("s.id"),
            len = prefix.len()
        );
        let rows = session.rows(&sql, &[&after, &prefix]).await?;
        let (mut ids, mut pieces) = (Vec::new(), Vec::new());
        for row in &rows {
            let id = id_of(row.get(0));
            let piece = self.event_piece(id, row, 1)?;
            ids.push(uuid_of(id));
            pieces.push(piece.write(Place::Event { id, source: row.get(4) }, &sealer));
        }
        let Some(last) = ids.last().copied() else { return Ok(None) };
        let sql = format!(
            "update event e set body = o.body, transaction = null, player = null
             from unnest($1::uuid[], $2::bytea[]) as o(id, body) where e.id = o.id and {}",
            self.allowed("$3")
        );
        let written = session.run(&sql, &[&ids, &pieces, &sealer.number()]).await?;
        Ok(Some((last, written)))
    }

    async fn rekey_attempts(
        &self,
        session: &Session,
        after: AttemptKey,
    ) -> Result<Option<(AttemptKey, u64)>, QueryError> {
        let sealer = self.row_cipher.sealer()?;
        let prefix = sealer.prefix();
        let sql = format!(
            "select event_id, target, {ATTEMPT} from attempt
             where event_id >= $1 and (event_id, target, token) > ($1, $2, $3)
                and (head is not null or substring(said for {}) <> $4)
             order by event_id, target, token limit {ROWS}",
            prefix.len()
        );
        let rows =
            session.rows(&sql, &[&after.event, &after.target, &after.token, &prefix]).await?;
        let key =
            |row: &Row| AttemptKey { event: row.get(0), target: row.get(1), token: row.get(2) };
        let Some(last) = rows.last().map(key) else { return Ok(None) };
        let (mut events, mut targets, mut tokens, mut pieces) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let AttemptKey { event, target, token } = key(row);
            let attempt: Attempt = self.attempt(id_of(event), &target, row, 2)?;
            let id: EventId = id_of(event);
            let place = Place::Attempt { event: id, target: &target, token };
            pieces.push(response_piece(&sealer, place, &attempt));
            events.push(event);
            targets.push(target);
            tokens.push(token);
        }
        let sql = format!(
            "update attempt a set said = o.said, head = null, error = null
             from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bytea[])
                as o(event_id, target, token, said)
             where a.event_id = o.event_id and a.target = o.target and a.token = o.token and {}",
            self.allowed("$5")
        );
        let written =
            session.run(&sql, &[&events, &targets, &tokens, &pieces, &sealer.number()]).await?;
        Ok(Some((last, written)))
    }

    /// Some held callbacks. One that was decided meanwhile has nothing to seal.
    async fn rekey_held(
        &self,
        session: &Session,
        after: Uuid,
    ) -> Result<Option<(Uuid, u64)>, QueryError> {
        let sealer = self.row_cipher.sealer()?;
        let prefix = sealer.prefix();
        let sql = format!(
            "select {COLUMNS} from held where id > $1 and body is not null
                and substring(body for {}) <> $2 order by id limit {HELD_ROWS}",
            prefix.len()
        );
        let rows = session.rows(&sql, &[&after, &prefix]).await?;
        let Some(last) = rows.last().map(|row| row.get(0)) else { return Ok(None) };
        let (mut ids, mut pieces): (Vec<Uuid>, _) = (Vec::new(), Vec::new());
        for row in &rows {
            if let Some(held) = self.held_of(row)? {
                ids.push(row.get(0));
                pieces.push(held_piece(&held, &sealer));
            }
        }
        let sql = format!(
            "update held h set body = o.body
             from unnest($1::uuid[], $2::bytea[]) as o(id, body)
             where h.id = o.id and h.body is not null and {}",
            self.allowed("$3")
        );
        let written = session.run(&sql, &[&ids, &pieces, &sealer.number()]).await?;
        Ok(Some((last, written)))
    }

    /// Some documents; one that changed meanwhile was written under the new key.
    async fn rekey_documents(&self, session: &Session) -> Result<u64, QueryError> {
        let sealer = self.row_cipher.sealer()?;
        let prefix = sealer.prefix();
        let sql = format!(
            "select kind, id, version, at_ms, who, body from document
             where who is not null or substring(body for {}) <> $1 limit {ROWS}",
            prefix.len()
        );
        let rows = session.rows(&sql, &[&prefix]).await?;
        let sql = format!(
            "update document set who = null, body = $4
             where kind = $1 and id = $2 and version = $3 and {}",
            self.allowed("$5")
        );
        for row in &rows {
            let (kind, id, version): (&str, &[u8], i64) = (row.get(0), row.get(1), row.get(2));
            let document = self.document_of(row, 0)?;
            let place = Place::Document { kind, id, version };
            let piece = document_piece(&sealer, place, &document.who, &document.body);
            session.run(&sql, &[&kind, &id, &version, &piece, &sealer.number()]).await?;
        }
        Ok(rows.len() as u64)
    }
}
