//! Documents, and the revision that counts their changes.

use bytes::Bytes;
use tokio_postgres::Row;

use super::Core;
use super::durability::Required;
use super::link::{PooledSession, Session};
use super::query_error::QueryError;
use super::row_cipher::{Place, RowSealer, malformed, under};
use crate::ledger::codec::{Put as _, Take};
use crate::ledger::{
    Document, DocumentChange, DocumentQuery, Documents, Kind, LedgerError, Revision,
};

const COLUMNS: &str = "kind, id, version, at_ms, who, body";

/// A document as a row.
pub(super) struct DocumentRow<'d> {
    pub(super) kind: &'d str,
    pub(super) id: &'d [u8],
    pub(super) version: i64,
    pub(super) at_ms: i64,
    pub(super) who: &'d str,
    pub(super) body: &'d [u8],
}

impl Core {
    pub(super) async fn document_on(
        &self,
        session: &Session,
        kind: &str,
        id: &str,
    ) -> Result<Option<Document>, QueryError> {
        let sql = format!("select {COLUMNS} from document where kind = $1 and id = $2");
        let rows = session.rows(&sql, &[&kind, &id.as_bytes()]).await?;
        rows.first().map(|row| self.document_of(row, 0)).transpose()
    }

    /// In one statement: documents and revision are consistent.
    pub(super) async fn documents_on(
        &self,
        session: &Session,
        kind: Kind,
    ) -> Result<Documents, QueryError> {
        let sql = "select m.v, d.kind, d.id, d.version, d.at_ms, d.who, d.body
            from meta m left join document d on d.kind = $1
            where m.k = 'revision' order by d.id";
        let rows = session.rows(sql, &[&kind.as_str()]).await?;
        let revision = rows.first().map_or(0, |row| row.get::<_, i64>(0));
        let there = rows.iter().filter(|row| row.get::<_, Option<&str>>(1).is_some());
        let documents = there.map(|row| self.document_of(row, 1)).collect::<Result<_, _>>()?;
        Ok(Documents { documents, revision: Revision(revision.cast_unsigned()) })
    }

    /// Ids are ASCII where their order matters, so bytes sort as the texts do.
    pub(super) async fn latest_documents_on(
        &self,
        session: &Session,
        query: &DocumentQuery,
        limit: usize,
    ) -> Result<Vec<Document>, QueryError> {
        let sql = format!(
            "select {COLUMNS} from document where kind = $1
                and ($2::bytea is null or id < $2)
                and ($3::bigint is null or at_ms >= $3) and ($4::bigint is null or at_ms < $4)
             order by id desc limit $5"
        );
        let before = query.before.as_ref().map(String::as_bytes);
        let most = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
        let (kind, since, until) = (query.kind.as_str(), query.since_ms, query.until_ms);
        let rows = session.rows(&sql, &[&kind, &before, &since, &until, &most]).await?;
        rows.iter().map(|row| self.document_of(row, 0)).collect()
    }

    /// A change holds the revision until its end, so changes are serialized.
    pub(super) async fn change_on(
        &self,
        session: &mut PooledSession<'_>,
        changes: &[DocumentChange],
    ) -> Result<Revision, QueryError> {
        session.begin().await?;
        let revision = next_revision(session, self.server_watch.required()).await?;
        for change in changes {
            let key = (change.kind.as_str(), change.id.as_bytes());
            let sql = "select version from document where kind = $1 and id = $2";
            let current = session.rows(sql, &[&key.0, &key.1]).await?;
            let current = current.first().map(|row| Revision(row.get::<_, i64>(0).cast_unsigned()));
            if !change.expect.holds(current) {
                session.undo().await?;
                return Err(LedgerError::Conflict { current }.into());
            }
        }
        for change in changes {
            self.put(session, change, revision).await?;
        }
        session.run("select pg_notify($1, '')", &[&self.dialer.channel()]).await?;
        session.commit().await?;
        let revision = Revision(revision.cast_unsigned());
        self.server_watch.saw(revision);
        Ok(revision)
    }
}

impl Core {
    async fn put(
        &self,
        session: &Session,
        change: &DocumentChange,
        revision: i64,
    ) -> Result<(), QueryError> {
        let (kind, id) = (change.kind.as_str(), change.id.as_bytes());
        let Some(body) = &change.body else {
            let sql = "delete from document where kind = $1 and id = $2";
            return session.run(sql, &[&kind, &id]).await.map(drop);
        };
        let (at_ms, who) = (change.at_ms, &*change.who);
        let row = DocumentRow { kind, id, version: revision, at_ms, who, body };
        self.write_document(session, row).await
    }

    /// Writes a document in this version; actor and content may be sealed.
    pub(super) async fn write_document(
        &self,
        session: &Session,
        row: DocumentRow<'_>,
    ) -> Result<(), QueryError> {
        let DocumentRow { kind, id, version, at_ms, who, body } = row;
        let sealer = self.row_cipher.sealer()?;
        let piece = document_piece(&sealer, Place::Document { kind, id, version }, who, body);
        let sql = format!(
            "insert into document (kind, id, version, at_ms, who, body)
             select $1, $2, $3, $4, null, $5 where {}
             on conflict (kind, id) do update set version = excluded.version,
                at_ms = excluded.at_ms, who = null, body = excluded.body",
            under("$6")
        );
        session.run(&sql, &[&kind, &id, &version, &at_ms, &piece, &sealer.number()]).await.map(drop)
    }

    /// The document whose columns begin at `at`.
    pub(super) fn document_of(&self, row: &Row, at: usize) -> Result<Document, QueryError> {
        let (kind, id, version): (&str, &[u8], i64) =
            (row.get(at), row.get(at + 1), row.get(at + 2));
        let text = |bytes: &[u8]| -> Result<String, QueryError> {
            let text = std::str::from_utf8(bytes).map(str::to_owned);
            text.or(Err(QueryError::Ledger(LedgerError::Corrupt(
                "a document's text is none".into(),
            ))))
        };
        let body: &[u8] = row.get(at + 5);
        let (who, body) = match row.get::<_, Option<&[u8]>>(at + 4) {
            // As written by versions without pieces.
            Some(who) => (text(who)?, Bytes::copy_from_slice(body)),
            None => {
                let place = Place::Document { kind, id, version };
                let piece = self.row_cipher.open(place, body)?;
                let mut from = Take(&piece);
                let who = from.text().map_err(malformed(place))?.to_owned();
                (who, Bytes::copy_from_slice(from.0))
            }
        };
        let version = Revision(version.cast_unsigned());
        Ok(Document { id: text(id)?, version, at_ms: row.get(at + 3), who, body })
    }
}

/// The sealed part of a document.
pub(super) fn document_piece(
    sealer: &RowSealer<'_>,
    place: Place<'_>,
    who: &str,
    body: &[u8],
) -> Vec<u8> {
    sealer.write(place, |to| {
        to.put_bytes(who.as_bytes());
        to.extend_from_slice(body);
    })
}

async fn next_revision(session: &Session, required: Required) -> Result<i64, QueryError> {
    let sql = format!(
        "update meta set v = v + 1 where k = 'revision' and {} returning v",
        required.condition()
    );
    Ok(session.row(&sql, &[]).await?.get(0))
}
