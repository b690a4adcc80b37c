//! Held callbacks: a row each, with the content in a piece until it is decided.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::accept::{joined, piece_of, several};
use super::link::{HeldSession, Session};
use super::query_error::{Cause, QueryError};
use super::row_cipher::{Place, RowSealer, malformed, under};
use super::sql::{CLOCK, NOW, hash8, id_of, int, key_of, key_uuid, uuid_of};
use super::{Core, TARGETS_BETWEEN};
use crate::ledger::codec::Take;
use crate::ledger::{
    Cursor, Decided, Decision, DedupeKey, EventKeys, FaultCode, HeldBounds, HeldId, HeldMark,
    HeldOne, HeldOrder, HeldPage, HeldQuery, HeldStats, HeldWhy, HoldOutcome, NewEvent, NewHeld,
    SourceId, VARIANTS_MAX,
};

/// Columns that [`Core::held_of`] and [`mark_of`] read.
pub(super) const COLUMNS: &str =
    "id, source, why, anchor, variant, body, decision, decided_ms, event_id";

fn uuid(id: HeldId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

fn held_id(id: Uuid) -> HeldId {
    HeldId::from_bytes(id.into_bytes())
}

fn why(code: i16) -> Result<HeldWhy, QueryError> {
    let code = u8::try_from(code).unwrap_or(u8::MAX);
    HeldWhy::from_code(code).map_err(|_| {
        QueryError::Refused(Cause::new(FaultCode::Other, "a held callback of an unknown kind"))
    })
}

/// The sealed part of a held callback.
pub(super) fn held_piece(held: &NewHeld, pen: &RowSealer<'_>) -> Vec<u8> {
    pen.write(Place::Held { id: held.id }, |to| held.put(to))
}

/// The mark of a decided row.
pub(super) fn mark_of(row: &Row) -> Result<Option<HeldMark>, QueryError> {
    let Some(code) = row.get::<_, Option<i16>>(6) else { return Ok(None) };
    let code = u8::try_from(code).unwrap_or(0);
    let decision = Decision::from_code(code)
        .map_err(|_| QueryError::Refused(Cause::new(FaultCode::Other, "an unknown decision")))?;
    Ok(Some(HeldMark {
        id: held_id(row.get(0)),
        source: SourceId::from(row.get::<_, &str>(1)),
        why: why(row.get(2))?,
        anchor: key_of(row.get(3)),
        variant: key_of(row.get(4)),
        decision,
        at_ms: row.get::<_, Option<i64>>(7).unwrap_or(0),
        event: row.get::<_, Option<Uuid>>(8).map(id_of),
    }))
}

// === Holding ===

impl Core {
    pub(super) async fn hold_on(
        &self,
        held: &mut HeldSession<'_>,
        new: &NewHeld,
        bounds: HeldBounds,
    ) -> Result<HoldOutcome, QueryError> {
        held.begin().await?;
        let outcome = match self.hold_within(held, new, bounds).await {
            Ok(outcome) => outcome,
            Err(fault) => {
                held.undo().await?;
                return Err(fault);
            }
        };
        held.commit().await?;
        Ok(outcome)
    }

    async fn hold_within(
        &self,
        session: &Session,
        new: &NewHeld,
        bounds: HeldBounds,
    ) -> Result<HoldOutcome, QueryError> {
        let source = new.event.source.as_str();
        self.pulse.required().check(session).await?;
        let sql = "insert into held_source (source) values ($1)
            on conflict (source) do update set source = excluded.source";
        session.run(sql, &[&source]).await?;
        let sql = "select id from held where variant = $1";
        if let Some(row) = session.rows(sql, &[&key_uuid(&new.variant)]).await?.first() {
            let known = held_id(row.get(0));
            return Ok(match known == new.id {
                true => HoldOutcome::Held(known),
                false => HoldOutcome::Known(known),
            });
        }
        let sql = "select (select count(*) from held where anchor = $1),
            (select count(*) from held where source = $2 and why = $3 and decision is null),
            (select coalesce(sum(size), 0)::bigint from held
                where source = $2 and why = $3 and decision is null)";
        let why = i16::from(new.why.code());
        let row = session.row(sql, &[&key_uuid(&new.anchor), &source, &why]).await?;
        let counts: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
        let [variants, count, bytes] = counts.map(i64::cast_unsigned);
        let full = variants >= VARIANTS_MAX as u64
            || count >= bounds.count
            || bytes.saturating_add(new.size() as u64) > bounds.bytes;
        if full {
            return Ok(HoldOutcome::Full);
        }
        self.insert_held(session, new).await?;
        Ok(HoldOutcome::Held(new.id))
    }

    /// Whether the callback was unknown.
    pub(super) async fn insert_held(
        &self,
        session: &Session,
        new: &NewHeld,
    ) -> Result<bool, QueryError> {
        let pen = self.vault.pen()?;
        let sql = format!(
            "insert into held (id, source, why, anchor, variant, size, body)
             select $1, $2, $3, $4, $5, $6, $7 where {} on conflict do nothing",
            under("$8")
        );
        let (size, why) = (new.size() as i64, i16::from(new.why.code()));
        let (anchor, variant) = (key_uuid(&new.anchor), key_uuid(&new.variant));
        let (source, piece) = (new.event.source.as_str(), held_piece(new, &pen));
        let with: [&(dyn ToSql + Sync); 8] =
            [&uuid(new.id), &source, &why, &anchor, &variant, &size, &piece, &pen.number()];
        Ok(session.run(&sql, &with).await? > 0)
    }

    /// Whether the callback was unknown, or waiting.
    pub(super) async fn insert_mark(
        &self,
        session: &Session,
        mark: &HeldMark,
    ) -> Result<bool, QueryError> {
        let sql = "insert into held (id, source, why, anchor, variant, size, decision, decided_ms,
                event_id) values ($1, $2, $3, $4, $5, 0, $6, $7, $8)
            on conflict (id) do update set body = null, decision = excluded.decision,
                decided_ms = excluded.decided_ms, event_id = excluded.event_id
            where held.decision is null";
        let (why, decision) = (i16::from(mark.why.code()), i16::from(mark.decision.code()));
        let (anchor, variant) = (key_uuid(&mark.anchor), key_uuid(&mark.variant));
        let (source, event) = (mark.source.as_str(), mark.event.map(uuid_of));
        let with: [&(dyn ToSql + Sync); 8] =
            [&uuid(mark.id), &source, &why, &anchor, &variant, &decision, &mark.at_ms, &event];
        Ok(session.run(sql, &with).await? > 0)
    }
}

// === Reading ===

impl Core {
    /// The content of a waiting row.
    pub(super) fn held_of(&self, row: &Row) -> Result<Option<NewHeld>, QueryError> {
        let Some(piece) = row.get::<_, Option<&[u8]>>(5) else { return Ok(None) };
        let place = Place::Held { id: held_id(row.get(0)) };
        let opened = self.vault.open(place, piece)?;
        let mut from = Take(&opened);
        let held = NewHeld::take(&mut from).map_err(malformed(place))?;
        from.end().map_err(malformed(place))?;
        Ok(Some(held))
    }

    pub(super) async fn held_on(
        &self,
        session: &Session,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<HeldPage, QueryError> {
        let before = cursor.map(Cursor::held).transpose()?.map(uuid);
        let limit = limit.max(1);
        let source = query.source.as_ref().map(SourceId::as_str);
        let why = query.why.map(|why| i16::from(why.code()));
        let most = i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1;
        let sql = format!(
            "select {COLUMNS} from held where decision is null
                and ($1::uuid is null or id < $1) and ($2::text is null or source = $2)
                and ($3::smallint is null or why = $3)
             order by id desc limit $4"
        );
        let rows = session.rows(&sql, &[&before, &source, &why, &most]).await?;
        let mut page = HeldPage::default();
        for row in rows.iter().take(limit) {
            page.held.extend(self.held_of(row)?);
        }
        let last = page.held.last().filter(|_| rows.len() > limit);
        page.next = last.map(|last| Cursor::behind_held(last.id));
        Ok(page)
    }

    pub(super) async fn held_one_on(
        &self,
        session: &Session,
        id: HeldId,
    ) -> Result<Option<HeldOne>, QueryError> {
        let sql = format!("select {COLUMNS} from held where id = $1");
        let rows = session.rows(&sql, &[&uuid(id)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        match self.held_of(row)? {
            Some(held) => Ok(Some(HeldOne::Waiting(Box::new(held)))),
            None => Ok(mark_of(row)?.map(HeldOne::Decided)),
        }
    }
}

/// The number of waiting callbacks, by source.
pub(super) async fn held_stats(session: &Session) -> Result<Vec<HeldStats>, QueryError> {
    let sql = "select source, count(*) from held where decision is null group by source
        order by source";
    let stats = session.rows(sql, &[]).await?.into_iter().map(|row| HeldStats {
        source: SourceId::from(row.get::<_, &str>(0)),
        count: row.get::<_, i64>(1).cast_unsigned(),
    });
    Ok(stats.collect())
}

// === Deciding ===

impl Core {
    /// Decides in one transaction. A concurrent decision waits for its end.
    pub(super) async fn decide_on(
        &self,
        held: &mut HeldSession<'_>,
        order: &HeldOrder,
    ) -> Result<Decided, QueryError> {
        let waits = match self.held_one_on(held, order.id).await? {
            None => return Ok(Decided::Unknown),
            Some(HeldOne::Decided(mark)) => return Ok(Decided::Already(mark)),
            Some(HeldOne::Waiting(waits)) => waits,
        };
        if order.decision == Decision::Release {
            self.days_for(held, std::iter::once(waits.event.id)).await?;
        }
        held.begin().await?;
        let decided = match self.decide_within(held, order, *waits).await {
            Ok(decided) => decided,
            Err(fault) => {
                held.undo().await?;
                return Err(fault);
            }
        };
        held.commit().await?;
        Ok(decided)
    }

    async fn decide_within(
        &self,
        session: &Session,
        order: &HeldOrder,
        waits: NewHeld,
    ) -> Result<Decided, QueryError> {
        self.pulse.required().check(session).await?;
        let sql = format!("select {COLUMNS} from held where id = $1 for update");
        let rows = session.rows(&sql, &[&uuid(order.id)]).await?;
        let Some(row) = rows.first() else { return Ok(Decided::Unknown) };
        if let Some(mark) = mark_of(row)? {
            return Ok(Decided::Already(mark));
        }
        let mark = waits.mark(order);
        self.insert_mark(session, &mark).await?;
        if order.decision == Decision::Release {
            self.release_held(session, waits).await?;
        }
        Ok(Decided::Done(mark))
    }

    /// Makes the event of a held callback, with those of its keys that no event has.
    async fn release_held(&self, session: &Session, waits: NewHeld) -> Result<(), QueryError> {
        let mut keys: Vec<DedupeKey> = waits.event.keys.written().collect();
        keys.sort_unstable();
        let uuids: Vec<Uuid> = keys.iter().map(key_uuid).collect();
        let (id, seen) = (uuid_of(waits.event.id), waits.event.received_ms);
        let (print, source) = (int(waits.event.fingerprint), waits.event.source.clone());
        let sql = "insert into dedupe (k, id, seen_ms, fingerprint, source)
            select k, $2, $3, $4, $5 from unnest($1::uuid[]) as o(k) order by k
            on conflict (k) do nothing returning k";
        let rows = session.rows(sql, &[&uuids, &id, &seen, &print, &source.as_str()]).await?;
        let own: EventKeys = rows.iter().map(|row| key_of(row.get(0))).collect();
        let all = several(own.written());
        if all.is_some() {
            let sql = "update dedupe set keys = $2 where id = $1 and k = any($3)";
            session.run(sql, &[&id, &all, &uuids]).await?;
        }
        let event = waits.released(|key| Ok::<_, QueryError>(own.identity.contains(key)))?;
        self.insert_released(session, &event).await
    }

    async fn insert_released(&self, session: &Session, event: &NewEvent) -> Result<(), QueryError> {
        let pen = self.vault.pen()?;
        let mut names: Vec<&str> =
            event.targets.iter().map(crate::ledger::TargetId::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let (names, user) = (names.join(TARGETS_BETWEEN), event.user.as_deref());
        let sql = format!(
            "with recorded as (
                insert into event (id, source, tx, usr, received_ms, test, fingerprint, keys, targets,
                    body)
                select $2, $3, $4, $5, $6, $7, $8, $9, string_to_array($10, E'\\x1f'), $11
                where {}
            )
            insert into delivery (event_id, target, due_ms, attempt, token, owner)
            select $2, t.target, {CLOCK}, 0, {NOW} * 1024, null
            from unnest(string_to_array($10, E'\\x1f')) as t(target)",
            under("$12")
        );
        let (now, id, source) = (self.clock.fixed(), uuid_of(event.id), event.source.as_str());
        let (tx, usr) =
            (hash8(event.transaction.as_bytes()), user.map(|one| hash8(one.as_bytes())));
        let (print, keys) = (int(event.fingerprint), joined(event.keys.written()));
        let body = piece_of(event, &pen);
        let with: [&(dyn ToSql + Sync); 12] = [
            &now,
            &id,
            &source,
            &tx,
            &usr,
            &event.received_ms,
            &event.test,
            &print,
            &keys,
            &names,
            &body,
            &pen.number(),
        ];
        session.run(&sql, &with).await.map(drop)
    }

    /// Deletes the keys and held callbacks of a source.
    pub(super) async fn forget_on(
        &self,
        session: &Session,
        source: &SourceId,
    ) -> Result<u64, QueryError> {
        let source = source.as_str();
        let mut gone = 0;
        for table in ["dedupe", "held"] {
            // In steps: gateways continue meanwhile.
            let key = if table == "dedupe" { "k" } else { "id" };
            let sql = format!(
                "delete from {table} where {key} in
                    (select {key} from {table} where source = $1 limit {FORGET_ROWS})"
            );
            loop {
                let some = session.run(&sql, &[&source]).await?;
                gone += some;
                if some == 0 {
                    break;
                }
            }
        }
        let sql = "update event set keys = '' where source = $1 and keys <> ''";
        session.run(sql, &[&source]).await?;
        Ok(gone)
    }
}

/// Rows that one statement deletes.
const FORGET_ROWS: i64 = 10_000;
