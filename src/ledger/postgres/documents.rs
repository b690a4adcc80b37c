//! Documents, and the revision that says that one has changed.

use bytes::Bytes;
use tokio_postgres::Row;

use super::Core;
use super::fault::Fault;
use super::link::{Held, Session};
use crate::ledger::{Document, DocumentChange, Documents, Kind, LedgerError, Revision};

const COLUMNS: &str = "id, version, at_ms, who, body";

impl Core {
    pub(super) async fn document_on(
        &self,
        session: &Session,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Document>, Fault> {
        let sql = format!("select {COLUMNS} from document where kind = $1 and id = $2");
        let rows = session.rows(&sql, &[&kind.as_str(), &id.as_bytes()]).await?;
        rows.first().map(|row| document(row, 0)).transpose()
    }

    /// In one statement, so that documents and revision belong together.
    pub(super) async fn documents_on(
        &self,
        session: &Session,
        kind: Kind,
    ) -> Result<Documents, Fault> {
        let sql = "select m.v, d.id, d.version, d.at_ms, d.who, d.body
            from meta m left join document d on d.kind = $1
            where m.k = 'revision' order by d.id";
        let rows = session.rows(sql, &[&kind.as_str()]).await?;
        let revision = rows.first().map_or(0, |row| row.get::<_, i64>(0));
        let there = rows.iter().filter(|row| row.get::<_, Option<&[u8]>>(1).is_some());
        let documents = there.map(|row| document(row, 1)).collect::<Result<_, _>>()?;
        Ok(Documents { documents, revision: Revision(revision.cast_unsigned()) })
    }

    /// Whoever changes documents holds the revision until the end, so that changes go one by one.
    pub(super) async fn change_on(
        &self,
        held: &mut Held<'_>,
        changes: &[DocumentChange],
    ) -> Result<Revision, Fault> {
        held.begin().await?;
        let revision = next_revision(held).await?;
        for change in changes {
            let key = (change.kind.as_str(), change.id.as_bytes());
            let sql = "select version from document where kind = $1 and id = $2";
            let current = held.rows(sql, &[&key.0, &key.1]).await?;
            let current = current.first().map(|row| Revision(row.get::<_, i64>(0).cast_unsigned()));
            if !change.expect.holds(current) {
                held.undo().await?;
                return Err(LedgerError::Conflict { current }.into());
            }
        }
        for change in changes {
            put(held, change, revision).await?;
        }
        held.run("select pg_notify($1, '')", &[&self.dialer.channel()]).await?;
        held.commit().await?;
        let revision = Revision(revision.cast_unsigned());
        self.pulse.saw(revision);
        Ok(revision)
    }
}

async fn next_revision(session: &Session) -> Result<i64, Fault> {
    let sql = "update meta set v = v + 1 where k = 'revision' returning v";
    Ok(session.row(sql, &[]).await?.get(0))
}

async fn put(session: &Session, change: &DocumentChange, revision: i64) -> Result<(), Fault> {
    let (kind, id) = (change.kind.as_str(), change.id.as_bytes());
    match &change.body {
        Some(body) => {
            let sql = "insert into document (kind, id, version, at_ms, who, body)
                values ($1, $2, $3, $4, $5, $6)
                on conflict (kind, id) do update set version = excluded.version,
                    at_ms = excluded.at_ms, who = excluded.who, body = excluded.body";
            let who = change.who.as_bytes();
            session.run(sql, &[&kind, &id, &revision, &change.at_ms, &who, &&body[..]]).await?;
        }
        None => {
            let sql = "delete from document where kind = $1 and id = $2";
            session.run(sql, &[&kind, &id]).await?;
        }
    }
    Ok(())
}

/// The document whose columns begin at `at`.
pub(super) fn document(row: &Row, at: usize) -> Result<Document, Fault> {
    let text = |at: usize| -> Result<String, Fault> {
        let text = std::str::from_utf8(row.get(at)).map(str::to_owned);
        text.or(Err(Fault::Said(LedgerError::Corrupt("a document's id is no text".into()))))
    };
    Ok(Document {
        id: text(at)?,
        version: Revision(row.get::<_, i64>(at + 1).cast_unsigned()),
        at_ms: row.get(at + 2),
        who: text(at + 3)?,
        body: Bytes::copy_from_slice(row.get(at + 4)),
    })
}
