//! Erasure: the rows of a user's events, or of a source's old ones, are deleted; those of their keys
//! stay.
//!
//! A page is one transaction. The server reuses the space of deleted rows after its next vacuum, and
//! that of its write-ahead log and backups by its own rules.

use uuid::Uuid;

use super::Core;
use super::expiry::rewind;
use super::held::COLUMNS;
use super::link::{PooledSession, Session};
use super::log::EVENT_PIECE;
use super::query_error::QueryError;
use super::sql::{DEAD, NOW, PENDING, hash8, id_of, uuid_of};
use crate::clock::UnixMillis;
use crate::ledger::{EarlyExpiry, Erased, Erasure, EventId, Swept};

/// Events of one transaction.
const ROWS: i64 = 500;
/// Kept callbacks of one statement: each may be as large as an event.
const HELD_ROWS: i64 = 50;

/// How far the time in an id may be from the time of receipt.
const SKEW_MS: i64 = 60_000;

/// Which events of a page go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PageScope {
    All,
    /// Without an unsettled delivery.
    Settled,
}

/// Events of a page that are to be erased.
struct Page {
    ids: Vec<Uuid>,
    oldest_ms: UnixMillis,
    /// The last event of the page; `None`: there is no next page.
    next: Option<Uuid>,
}

impl Core {
    pub(super) async fn erase_on(
        &self,
        session: &mut PooledSession<'_>,
        erasure: &Erasure,
    ) -> Result<Erased, QueryError> {
        let mut erased = Erased::default();
        let mut after = Some(Uuid::nil());
        while let Some(from) = after {
            let page = self.page_to_erase(session, erasure, from).await?;
            if !page.ids.is_empty() {
                let gone = erase_page(session, &page, PageScope::All).await?;
                erased.events += gone.events;
                erased.deliveries += gone.deliveries;
            }
            after = page.next;
        }
        erased.held = self.erase_held(session, erasure).await?;
        Ok(erased)
    }

    /// Deletes settled events of a source that are older than it keeps them.
    pub(super) async fn expire_early_on(
        &self,
        session: &mut PooledSession<'_>,
        early: &EarlyExpiry,
        budget: usize,
    ) -> Result<Swept, QueryError> {
        let now_ms = match self.clock.fixed() {
            Some(_) => early.now_ms,
            // A gateway with a wrong clock must not delete what the others keep.
            None => {
                let sql = format!("select {NOW}");
                session.row(&sql, &[&None::<i64>]).await?.get(0)
            }
        };
        let before = EarlyExpiry { now_ms, ..early.clone() }.before();
        // An id is created when its event is received; another clock may have set the time.
        let last = uuid_of(EventId::floor(before.saturating_add(SKEW_MS)));
        let sql = format!(
            "select e.id, e.received_ms from event e
             where e.source = $1 and e.id < $2 and e.received_ms < $3
                and not {PENDING} and not {DEAD}
             order by e.id limit {ROWS}"
        );
        let mut swept = Swept::default();
        while swept.events < budget as u64 {
            let rows = session.rows(&sql, &[&early.source.as_str(), &last, &before]).await?;
            let oldest_ms = rows.iter().map(|row| row.get(1)).min().unwrap_or(UnixMillis::MAX);
            let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
            if ids.is_empty() {
                return Ok(swept);
            }
            let page = Page { ids, oldest_ms, next: None };
            swept.events += erase_page(session, &page, PageScope::Settled).await?.events;
        }
        swept.more = true;
        Ok(swept)
    }

    async fn page_to_erase(
        &self,
        session: &Session,
        erasure: &Erasure,
        after: Uuid,
    ) -> Result<Page, QueryError> {
        let sql = format!(
            "select e.id, {EVENT_PIECE}, e.received_ms from event e
             where e.usr = $1 and e.id > $2 and ($3::text is null or e.source = $3)
             order by e.id limit {ROWS}"
        );
        let source = erasure.source.as_ref().map(crate::ledger::SourceId::as_str);
        let user = hash8(erasure.user.as_bytes());
        let rows = session.rows(&sql, &[&user, &after, &source]).await?;
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= ROWS);
        let next = rows.last().map(|row| row.get(0)).filter(|_| is_full);
        let mut page = Page { ids: Vec::new(), oldest_ms: UnixMillis::MAX, next };
        for row in &rows {
            let id: Uuid = row.get(0);
            let piece = self.event_piece(id_of(id), row, 1)?;
            // The column holds a hash of the user.
            if erasure.covers(row.get(4), piece.user.as_deref()) {
                page.ids.push(id);
                page.oldest_ms = page.oldest_ms.min(row.get(5));
            }
        }
        Ok(page)
    }

    async fn erase_held(&self, session: &Session, erasure: &Erasure) -> Result<u64, QueryError> {
        let user = hash8(erasure.user.as_bytes());
        // Callbacks that were held before version 5 of the tables have no hashes.
        let sql = format!(
            "select {COLUMNS} from held where (usr = $1 or tx is null) and id > $2
                and body is not null
             order by id limit {HELD_ROWS}"
        );
        let (mut after, mut gone) = (Uuid::nil(), 0);
        loop {
            let rows = session.rows(&sql, &[&user, &after]).await?;
            let Some(last) = rows.last().map(|row| row.get(0)) else { return Ok(gone) };
            let mut ids: Vec<Uuid> = Vec::new();
            for row in &rows {
                let held = self.held_of(row)?;
                if held.is_some_and(|held| erasure.covers_event(&held.event)) {
                    ids.push(row.get(0));
                }
            }
            gone += session.run("delete from held where id = any($1)", &[&ids]).await?;
            after = last;
        }
    }
}

/// Deletes everything of some events but their keys, in one transaction; returns what is gone.
async fn erase_page(
    session: &mut PooledSession<'_>,
    page: &Page,
    scope: PageScope,
) -> Result<Erased, QueryError> {
    session.begin().await?;
    match erase_within(session, page, scope).await {
        Ok(gone) => session.commit().await.map(|()| gone),
        Err(fault) => {
            session.undo().await?;
            Err(fault)
        }
    }
}

/// The events are locked first: a replay either finds none of them, or its deliveries are found here.
async fn erase_within(
    session: &Session,
    page: &Page,
    scope: PageScope,
) -> Result<Erased, QueryError> {
    let sql = "select id from event where id = any($1) order by id for update";
    let mut rows = session.rows(sql, &[&page.ids]).await?;
    if scope == PageScope::Settled {
        // Another statement: it sees what was committed while the first one waited.
        let sql = format!(
            "select e.id from event e where e.id = any($1) and not {PENDING} and not {DEAD}"
        );
        rows = session.rows(&sql, &[&page.ids]).await?;
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let mut gone = Erased::default();
    for table in ["delivery", "dead"] {
        let sql = format!("delete from {table} where event_id = any($1)");
        gone.deliveries += session.run(&sql, &[&ids]).await?;
    }
    // In the order in which a change of the master key locks the tables.
    gone.events = session.run("delete from event where id = any($1)", &[&ids]).await?;
    for table in ["attempt", "replayed"] {
        let sql = format!("delete from {table} where event_id = any($1)");
        session.run(&sql, &[&ids]).await?;
    }
    // Their keys expire by themselves from now on.
    rewind(session, page.oldest_ms).await?;
    Ok(gone)
}
