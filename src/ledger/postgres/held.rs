//! Held callbacks: a row each, with the content in a piece until it is decided.

use std::collections::BTreeSet;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::accept::{joined, piece_of, several};
use super::durability::wait_for_standbys;
use super::link::{PooledSession, Session};
use super::query_error::{Cause, QueryError};
use super::row_cipher::{BodyForm, Place, RowSealer, malformed, under};
use super::sql::{CLOCK, NOW, hash8, id_of, int, key_of, key_uuid, uuid_of};
use super::{Core, TARGETS_BETWEEN};
use crate::ledger::codec::Take;
use crate::ledger::holdings::{HeldGroup, Holdings, Sample, excess};
use crate::ledger::{
    Cursor, Decided, Decision, DedupeKey, EventKeys, FaultCode, HeldBounds, HeldId, HeldMark,
    HeldOne, HeldOrder, HeldPage, HeldQuery, HeldStats, HeldWhy, HoldOutcome, Holding, NewEvent,
    NewHeld, REJECTED_MAX, Retention, SourceId,
};
use crate::sender::Reason;

/// Columns that [`Core::held_of`] and [`mark_of`] read.
pub(super) const COLUMNS: &str =
    "id, source, why, anchor, variant, body, decision, decided_ms, event_id, reason";

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
pub(super) fn held_piece(held: &NewHeld, sealer: &RowSealer<'_>) -> Vec<u8> {
    sealer.write(Place::Held { id: held.id }, |to| held.put(to))
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
        session: &mut PooledSession<'_>,
        batch: &[Holding],
    ) -> Result<Vec<HoldOutcome>, QueryError> {
        session.begin().await?;
        let outcomes = match self.hold_within(session, batch).await {
            Ok(outcomes) => outcomes,
            Err(fault) => {
                session.undo().await?;
                return Err(fault);
            }
        };
        session.commit().await?;
        Ok(outcomes)
    }

    /// Judges a batch by what is there, in its order, and adds what there is room for.
    async fn hold_within(
        &self,
        session: &Session,
        batch: &[Holding],
    ) -> Result<Vec<HoldOutcome>, QueryError> {
        self.server_watch.required().check(session).await?;
        let mut known = known(session, batch).await?;
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut new = Vec::new();
        for Holding { held, bounds } in batch {
            let outcome = known.judge(held, *bounds);
            if outcome.is_none() {
                known.insert(held, ());
                new.push(held);
            }
            outcomes.push(outcome.unwrap_or(HoldOutcome::Held(held.id)));
        }
        self.insert_all(session, &new).await?;
        let samples = new.iter().filter(|held| held.why == HeldWhy::Rejected);
        let sources: BTreeSet<&str> = samples.map(|held| held.event.source.as_str()).collect();
        for source in sources {
            make_room(session, source).await?;
        }
        Ok(outcomes)
    }

    async fn insert_all(&self, session: &Session, new: &[&NewHeld]) -> Result<u64, QueryError> {
        if new.is_empty() {
            return Ok(0);
        }
        let sealer = self.row_cipher.sealer()?;
        let form = |held: &&'_ NewHeld| match sealer.body_form() {
            BodyForm::Derived => NewHeld::clone(held),
            BodyForm::WithJson => held.with_json(),
        };
        let new: Vec<NewHeld> = new.iter().map(form).collect();
        let ids: Vec<Uuid> = new.iter().map(|held| uuid(held.id)).collect();
        let sources: Vec<&str> = new.iter().map(|held| held.event.source.as_str()).collect();
        let whys: Vec<i16> = new.iter().map(|held| i16::from(held.why.code())).collect();
        let anchors: Vec<Uuid> = new.iter().map(|held| key_uuid(&held.anchor)).collect();
        let variants: Vec<Uuid> = new.iter().map(|held| key_uuid(&held.variant)).collect();
        let sizes: Vec<i64> = new.iter().map(|held| held.size() as i64).collect();
        let bodies: Vec<Vec<u8>> = new.iter().map(|held| held_piece(held, &sealer)).collect();
        let reasons: Vec<Option<&str>> =
            new.iter().map(|held| held.reason.map(Reason::as_str)).collect();
        let txs: Vec<i64> =
            new.iter().map(|held| hash8(held.event.transaction.as_bytes())).collect();
        let users: Vec<Option<i64>> = new
            .iter()
            .map(|held| held.event.user.as_deref().map(|user| hash8(user.as_bytes())))
            .collect();
        let times: Vec<i64> = new.iter().map(|held| held.event.received_ms).collect();
        let sql = format!(
            "insert into held (id, source, why, anchor, variant, size, body, reason, tx, usr,
                received_ms)
             select * from unnest($1::uuid[], $2::text[], $3::smallint[], $4::uuid[], $5::uuid[],
                $6::bigint[], $7::bytea[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[])
             where {} on conflict do nothing",
            under("$12")
        );
        let with: [&(dyn ToSql + Sync); 12] = [
            &ids,
            &sources,
            &whys,
            &anchors,
            &variants,
            &sizes,
            &bodies,
            &reasons,
            &txs,
            &users,
            &times,
            &sealer.number(),
        ];
        session.run(&sql, &with).await
    }

    /// Whether the callback was unknown.
    pub(super) async fn insert_held(
        &self,
        session: &Session,
        new: &NewHeld,
    ) -> Result<bool, QueryError> {
        Ok(self.insert_all(session, &[new]).await? > 0)
    }

    /// Whether the callback was unknown, or waiting.
    pub(super) async fn insert_mark(
        &self,
        session: &Session,
        mark: &HeldMark,
    ) -> Result<bool, QueryError> {
        let sql = "insert into held (id, source, why, anchor, variant, size, decision, decided_ms,
                event_id, received_ms) values ($1, $2, $3, $4, $5, 0, $6, $7, $8, $9)
            on conflict (id) do update set body = null, decision = excluded.decision,
                decided_ms = excluded.decided_ms, event_id = excluded.event_id
            where held.decision is null";
        let (why, decision) = (i16::from(mark.why.code()), i16::from(mark.decision.code()));
        let (anchor, variant) = (key_uuid(&mark.anchor), key_uuid(&mark.variant));
        let (source, event) = (mark.source.as_str(), mark.event.map(uuid_of));
        let received = mark.id.ms();
        let with: [&(dyn ToSql + Sync); 9] = [
            &uuid(mark.id),
            &source,
            &why,
            &anchor,
            &variant,
            &decision,
            &mark.at_ms,
            &event,
            &received,
        ];
        Ok(session.run(sql, &with).await? > 0)
    }
}

/// The state that a batch's bounds depend on, with the sources locked. The sums are those that triggers
/// keep (`held_sum`): what this costs does not depend on how much is held.
async fn known(session: &Session, batch: &[Holding]) -> Result<Holdings<()>, QueryError> {
    let of = batch.iter().map(|one| &one.held);
    let sources: BTreeSet<&str> = of.clone().map(|held| held.event.source.as_str()).collect();
    let sources: Vec<&str> = sources.into_iter().collect();
    let anchors: BTreeSet<Uuid> = of.clone().map(|held| key_uuid(&held.anchor)).collect();
    let anchors: Vec<Uuid> = anchors.into_iter().collect();
    let variants: Vec<Uuid> = of.map(|held| key_uuid(&held.variant)).collect();
    // In one order: no two transactions wait for each other.
    let sql = "insert into held_source (source) select s from unnest($1::text[]) as o(s) order by s
        on conflict (source) do update set source = excluded.source";
    session.run(sql, &[&sources]).await?;
    let mut known = Holdings::default();
    let sql = "select variant, id from held where variant = any($1)";
    for row in session.rows(sql, &[&variants]).await? {
        known.know_variant(key_of(row.get(0)), held_id(row.get(1)));
    }
    let sql = "select source, why, waiting, bytes from held_sum
        where anchor = $2 and source = any($1)";
    for row in session.rows(sql, &[&sources, &Uuid::nil()]).await? {
        let (source, why) = (SourceId::from(row.get::<_, &str>(0)), why(row.get(1))?);
        known.know_sum(HeldGroup { source, why }, bounds_of(&row, 2));
    }
    let sql = "select anchor, sum(variants)::bigint, sum(waiting)::bigint, sum(bytes)::bigint
        from held_sum where anchor = any($1) group by anchor";
    for row in session.rows(sql, &[&anchors]).await? {
        let variants = usize::try_from(row.get::<_, i64>(1)).unwrap_or(usize::MAX);
        known.know_anchor(key_of(row.get(0)), variants, bounds_of(&row, 2));
    }
    Ok(known)
}

fn bounds_of(row: &Row, at: usize) -> HeldBounds {
    let [count, bytes]: [i64; 2] = [row.get(at), row.get(at + 1)];
    HeldBounds { count: count.cast_unsigned(), bytes: bytes.cast_unsigned() }
}

/// Removes samples of a source that is over its bounds.
async fn make_room(session: &Session, source: &str) -> Result<(), QueryError> {
    let sql = "select id, anchor, reason, size from held where source = $1 and why = 3
        and decision is null order by id";
    let rows = session.rows(sql, &[&source]).await?;
    let sample = |row: &Row| Sample {
        id: held_id(row.get(0)),
        caller: key_of(row.get(1)),
        reason: row.get::<_, Option<&str>>(2).and_then(Reason::from_name),
        bytes: row.get::<_, i64>(3).cast_unsigned(),
    };
    let samples: Vec<Sample> = rows.iter().map(sample).collect();
    let gone = excess(&samples, REJECTED_MAX);
    if !gone.is_empty() {
        let gone: Vec<Uuid> = gone.into_iter().map(uuid).collect();
        session.run("delete from held where id = any($1) and why = 3", &[&gone]).await?;
    }
    Ok(())
}

/// Notes why a kept callback would now be rejected.
pub(super) async fn note_reason(
    session: &Session,
    id: HeldId,
    reason: Reason,
) -> Result<(), QueryError> {
    let sql = "update held set reason = $2 where id = $1 and decision is null
        and reason is distinct from $2";
    session.run(sql, &[&uuid(id), &reason.as_str()]).await.map(drop)
}

/// Removes rejected callbacks whose time is over, and the marks of those that were decided.
pub(super) async fn expire(session: &Session, policy: &Retention) -> Result<(), QueryError> {
    let now_ms = policy.now_ms;
    let none = SourceId::from("");
    if let Some(before) = policy.held.before(now_ms, HeldWhy::Rejected, &none) {
        session.run("delete from held where why = 3 and received_ms < $1", &[&before]).await?;
    }
    for keep in &policy.held.quarantined {
        let before = policy.held.before(now_ms, HeldWhy::Quarantine, &keep.source);
        let sql = "delete from held where source = $1 and why = 0 and received_ms < $2";
        session.run(sql, &[&keep.source.as_str(), &before]).await?;
    }
    session.run("delete from held_sum where variants <= 0", &[]).await?;
    Ok(())
}

// === Reading ===

impl Core {
    /// The content of a waiting row.
    pub(super) fn held_of(&self, row: &Row) -> Result<Option<NewHeld>, QueryError> {
        let Some(piece) = row.get::<_, Option<&[u8]>>(5) else { return Ok(None) };
        let place = Place::Held { id: held_id(row.get(0)) };
        let opened = self.row_cipher.open(place, piece)?;
        let mut from = Take(&opened);
        let held = NewHeld::take(&mut from).map_err(malformed(place))?;
        from.end().map_err(malformed(place))?;
        let reason = row.get::<_, Option<&str>>(9).and_then(Reason::from_name);
        Ok(Some(NewHeld { reason: reason.or(held.reason), ..held }))
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
        let among = query.among.as_ref();
        let among: Option<Vec<&str>> =
            among.map(|among| among.iter().map(SourceId::as_str).collect());
        let whys: Vec<i16> = query.whys().map(|why| i16::from(why.code())).collect();
        let reason = query.reason.map(Reason::as_str);
        let hash = |text: &Option<String>| text.as_deref().map(|text| hash8(text.as_bytes()));
        let (tx, usr) = (hash(&query.transaction), hash(&query.user));
        let claims = hash(&query.claims);
        let most = i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1;
        let sql = format!(
            "select {COLUMNS} from held where decision is null
                and ($1::uuid is null or id < $1) and ($2::text is null or source = $2)
                and why = any($3::smallint[]) and ($5::text is null or reason = $5)
                and ($6::bigint is null or tx = $6) and ($7::bigint is null or usr = $7)
                and ($8::bigint is null or received_ms >= $8)
                and ($9::bigint is null or received_ms < $9)
                and ($10::bigint is null or tx = $10 or usr = $10)
                and ($11::text[] is null or source = any($11))
             order by id desc limit $4"
        );
        let (since, until) = (&query.since_ms, &query.until_ms);
        let with: [&(dyn ToSql + Sync); 11] =
            [&before, &source, &whys, &most, &reason, &tx, &usr, since, until, &claims, &among];
        let rows = session.rows(&sql, &with).await?;
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
    let sql = "select source, sum(waiting)::bigint from held_sum where anchor = $1
        group by source having sum(waiting) > 0 order by source";
    let stats = session.rows(sql, &[&Uuid::nil()]).await?.into_iter().map(|row| HeldStats {
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
        session: &mut PooledSession<'_>,
        order: &HeldOrder,
    ) -> Result<Decided, QueryError> {
        let waits = match self.held_one_on(session, order.id).await? {
            None => return Ok(Decided::Unknown),
            Some(HeldOne::Decided(mark)) => {
                // Perhaps by this order, whose answer was lost while its commit waited.
                wait_for_standbys(session).await?;
                return Ok(Decided::Already(mark));
            }
            Some(HeldOne::Waiting(waits)) => waits,
        };
        if order.decision == Decision::Release {
            self.days_for(session, std::iter::once(waits.event.id)).await?;
        }
        session.begin().await?;
        let decided = match self.decide_within(session, order, *waits).await {
            Ok(decided) => decided,
            Err(fault) => {
                session.undo().await?;
                return Err(fault);
            }
        };
        session.commit().await?;
        Ok(decided)
    }

    async fn decide_within(
        &self,
        session: &Session,
        order: &HeldOrder,
        waits: NewHeld,
    ) -> Result<Decided, QueryError> {
        self.server_watch.required().check(session).await?;
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

    /// Records a released event, unless an import has brought it without the decision.
    async fn insert_released(&self, session: &Session, event: &NewEvent) -> Result<(), QueryError> {
        let sealer = self.row_cipher.sealer()?;
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
                on conflict do nothing returning id
            )
            insert into delivery (event_id, target, due_ms, attempt, token, owner)
            select r.id, t.target, {CLOCK}, 0, {NOW} * 1024, null
            from recorded r, unnest(string_to_array($10, E'\\x1f')) as t(target)",
            under("$12")
        );
        let (now, id, source) = (self.clock.fixed(), uuid_of(event.id), event.source.as_str());
        let (tx, usr) =
            (hash8(event.transaction.as_bytes()), user.map(|one| hash8(one.as_bytes())));
        let (print, keys) = (int(event.fingerprint), joined(event.keys.written()));
        let body = piece_of(event, &sealer);
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
            &sealer.number(),
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
