//! The row cipher: pieces of rows, plain or sealed under a master key.
//!
//! The first byte of a piece tells the two apart. A sealed piece names its key and is bound to its
//! row. The database names the key for writing (`meta`, row `key`), not the gateway: each statement
//! that writes pieces names their key, and fails if the database has another. So all gateways
//! change it at once, and none writes what the others cannot read.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError, RwLock};

use super::link::{PooledSession, Session};
use super::query_error::QueryError;
use super::{Core, PostgresError, READ_PATIENCE};
use crate::clock::instant;
use crate::ledger::codec::{DecodeError, Put as _};
use crate::ledger::seal::{KeyId, Keyring, MasterKey, Nonces};
use crate::ledger::{EventId, HeldId, LedgerError};

const CLEAR: u8 = 0;
const SEALED: u8 = 1;
/// The limit of waiting: writers wait for a change of the key, and the change for writers.
const CHANGE_TIME: &str = "set local lock_timeout = '2s'";

/// Seals and opens pieces.
pub(super) struct RowCipher {
    keys: Keyring,
    nonces: Mutex<Nonces>,
    used: RwLock<Used>,
}

/// The keys that the database uses, as each check of the server reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// The key for writing; `None`: plain.
    pub(super) current: Option<KeyId>,
    /// Keys of existing sealed data.
    pub(super) all: Vec<KeyId>,
    /// The form of bodies for writing.
    pub(super) body_form: BodyForm,
    /// Whether deduplication keys of an older form may exist.
    pub(super) older_keys: bool,
}

/// The form in which bodies of events are written. Both are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum BodyForm {
    /// Version 1, with the JSON of the event: gateways of an earlier version may work beside this
    /// one, and read no other.
    #[default]
    WithJson,
    /// Version 2 too, from which the JSON is derived: the upgrade is finished.
    Derived,
}

/// The row of `meta` that says that an upgrade is finished.
pub(super) const BODIES: &str = "bodies";

/// The row of `meta` that says that deduplication keys of an older form may exist. It stays for ever.
pub(super) const OLDER_KEYS_ROW: &str = "older_keys";

/// Writes pieces under one key.
pub(super) struct RowSealer<'v> {
    nonces: &'v Mutex<Nonces>,
    key: Option<MasterKey>,
    body_form: BodyForm,
}

/// The place that a piece is bound to.
#[derive(Clone, Copy)]
pub(super) enum Place<'p> {
    Event { id: EventId, source: &'p str },
    Attempt { event: EventId, target: &'p str, token: i64 },
    Document { kind: &'p str, id: &'p [u8], version: i64 },
    Held { id: HeldId },
}

impl Place<'_> {
    fn bytes(self) -> Vec<u8> {
        let mut to = Vec::with_capacity(64);
        match self {
            Self::Event { id, source } => {
                to.put_bytes(b"event");
                to.extend_from_slice(id.as_bytes());
                to.put_bytes(source.as_bytes());
            }
            Self::Attempt { event, target, token } => {
                to.put_bytes(b"attempt");
                to.extend_from_slice(event.as_bytes());
                to.extend_from_slice(&token.to_le_bytes());
                to.put_bytes(target.as_bytes());
            }
            Self::Document { kind, id, version } => {
                to.put_bytes(b"document");
                to.put_bytes(kind.as_bytes());
                to.extend_from_slice(&version.to_le_bytes());
                to.put_bytes(id);
            }
            Self::Held { id } => {
                to.put_bytes(b"held");
                to.extend_from_slice(id.as_bytes());
            }
        }
        to
    }
}

impl Used {
    /// Reads the keys from the database.
    pub(super) async fn read(session: &Session) -> Result<Self, QueryError> {
        let sql = "select k, v from meta where k in ('key', $1, $2) or k like 'key %'";
        let rows = session.rows(sql, &[&BODIES, &OLDER_KEYS_ROW]);
        let mut used = Self::default();
        for row in rows.await? {
            let id = Some(row.get::<_, i64>(1)).filter(|id| *id != 0).map(key_id);
            match row.get(0) {
                "key" => used.current = id,
                BODIES => used.body_form = BodyForm::Derived,
                OLDER_KEYS_ROW => used.older_keys = true,
                _ => used.all.extend(id),
            }
        }
        used.all.sort_unstable_by_key(|id| id.0);
        Ok(used)
    }

    /// The error if some data cannot be read with these keys, with the remedy.
    pub(super) fn lacking(&self, keys: &Keyring) -> Option<String> {
        let missing = self.all.iter().find(|id| keys.find(**id).is_none())?;
        Some(format!("the database {}", keys.missing(*missing)))
    }
}

fn number(id: Option<KeyId>) -> i64 {
    id.map_or(0, |id| i64::from_le_bytes(id.0))
}

fn key_id(number: i64) -> KeyId {
    KeyId(number.to_le_bytes())
}

/// A condition that holds while `parameter` is the key for writing, and otherwise fails the
/// statement ([`QueryError::Torn`]).
pub(super) fn under(parameter: &str) -> String {
    format!(
        "1 / (case when {parameter}::bigint = (select v from meta where k = 'key') then 1 else 0 \
         end) = 1"
    )
}

impl RowCipher {
    pub(super) fn new(keys: Keyring, used: Used) -> Result<Self, PostgresError> {
        let nonces = Nonces::new().map_err(|_| {
            PostgresError::Options("the system gives no random bytes to seal with".to_owned())
        })?;
        Ok(Self { keys, nonces: Mutex::new(nonces), used: RwLock::new(used) })
    }

    /// The keys of this process.
    pub(super) fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// Records the keys of the database.
    pub(super) fn heard(&self, mut used: Used) {
        let mut known = self.used.write().unwrap_or_else(PoisonError::into_inner);
        // An import of this process may have written it since the keys were read.
        used.older_keys |= known.older_keys;
        if (known.current, &known.all) != (used.current, &used.all) {
            let key = used.current.map_or_else(|| "none".to_owned(), |id| id.to_string());
            tracing::info!(key, "the database is sealed with another key");
        }
        if *known != used {
            *known = used;
        }
    }

    /// Records that deduplication keys of an older form may exist.
    pub(super) fn note_older_keys(&self) {
        self.used.write().unwrap_or_else(PoisonError::into_inner).older_keys = true;
    }

    /// Whether deduplication keys of an older form may exist, at the last check of the server.
    pub(super) fn may_hold_older_keys(&self) -> bool {
        self.used.read().unwrap_or_else(PoisonError::into_inner).older_keys
    }

    /// The error if some data cannot be read, with the remedy.
    pub(super) fn lacking(&self) -> Option<String> {
        self.used.read().unwrap_or_else(PoisonError::into_inner).lacking(&self.keys)
    }

    /// A sealer with the key for writing.
    pub(super) fn sealer(&self) -> Result<RowSealer<'_>, QueryError> {
        let (current, body_form) = {
            let used = self.used.read().unwrap_or_else(PoisonError::into_inner);
            (used.current, used.body_form)
        };
        let key = match current {
            None => None,
            Some(id) => Some(self.keys.find(id).cloned().ok_or_else(|| {
                let missing = self.keys.missing(id);
                QueryError::Ledger(LedgerError::Sealed(format!("the database {missing}")))
            })?),
        };
        Ok(RowSealer { nonces: &self.nonces, key, body_form })
    }

    /// The content of a piece.
    pub(super) fn open<'b>(
        &self,
        place: Place<'_>,
        piece: &'b [u8],
    ) -> Result<Cow<'b, [u8]>, QueryError> {
        let broken = || LedgerError::Corrupt(format!("a piece of {place} does not unseal"));
        match piece.split_first() {
            Some((&CLEAR, rest)) => Ok(Cow::Borrowed(rest)),
            Some((&SEALED, rest)) => {
                let (id, rest) = rest.split_first_chunk().ok_or_else(broken)?;
                let key = self.keys.find(KeyId(*id)).ok_or_else(|| {
                    LedgerError::Sealed(format!("{place} {}", self.keys.missing(KeyId(*id))))
                })?;
                Ok(Cow::Owned(key.open(&place.bytes(), rest).ok_or_else(broken)?))
            }
            _ => Err(broken().into()),
        }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Event { id, .. } | Self::Attempt { event: id, .. } => write!(f, "event {id}"),
            Self::Document { kind, id, .. } => {
                write!(f, "document {kind} {}", String::from_utf8_lossy(id))
            }
            Self::Held { id } => write!(f, "held callback {id}"),
        }
    }
}

impl RowSealer<'_> {
    /// The parameter of [`under`].
    pub(super) fn number(&self) -> i64 {
        number(self.key.as_ref().map(MasterKey::id))
    }

    /// The prefix of its pieces.
    pub(super) fn prefix(&self) -> Vec<u8> {
        let mut prefix = Vec::new();
        self.put_prefix(&mut prefix);
        prefix
    }

    fn put_prefix(&self, to: &mut Vec<u8>) {
        match &self.key {
            None => to.push(CLEAR),
            Some(key) => {
                to.push(SEALED);
                to.extend_from_slice(&key.id().0);
            }
        }
    }

    /// The piece with the output of `put`.
    pub(super) fn write(&self, place: Place<'_>, put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut piece = Vec::new();
        self.put(&mut piece, place, put);
        piece
    }

    /// Adds the piece with the output of `put` to `to`.
    pub(super) fn put(&self, to: &mut Vec<u8>, place: Place<'_>, put: impl FnOnce(&mut Vec<u8>)) {
        self.put_prefix(to);
        let start = to.len();
        put(to);
        if let Some(key) = &self.key {
            let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
            key.seal(&mut nonces, &place.bytes(), to, start);
        }
    }

    /// The form of the bodies of events that are written.
    pub(super) fn body_form(&self) -> BodyForm {
        self.body_form
    }
}

/// The error of an invalid piece.
pub(super) fn malformed(place: Place<'_>) -> impl Fn(DecodeError) -> QueryError {
    move |_| {
        QueryError::Ledger(LedgerError::Corrupt(format!("a piece of {place} is of no known form")))
    }
}

impl Core {
    /// Reads again what a statement's error depends on.
    pub(super) async fn mend(&self, fault: &QueryError) {
        match fault {
            // Another gateway's sweep deleted it.
            QueryError::NoPartition(_) => self.forget_days(),
            QueryError::Torn(_) => {
                let read = async {
                    let mut session = self.read.session(instant() + READ_PATIENCE).await?;
                    let used = Used::read(&session).await;
                    session.heed(used)
                };
                // A failure is retried by the next statement that needs it.
                if let Ok(used) = read.await {
                    self.row_cipher.heard(used);
                }
            }
            _ => {}
        }
    }
}

impl Core {
    /// Starts sealing, if the database names no key and there is one.
    pub(super) async fn begin_sealing(
        &self,
        session: &mut PooledSession<'_>,
    ) -> Result<(), PostgresError> {
        let own = self.row_cipher.keys.current().map(MasterKey::id);
        let used = Used::read(session).await?;
        if own.is_none() || used.current.is_some() || !used.all.is_empty() {
            return self.check(used);
        }
        // Another gateway may do the same with another key.
        let until = instant() + super::CHANGE_PATIENCE;
        loop {
            match change_key(session, None, own).await {
                Ok(_) => break,
                Err(QueryError::Again(_)) if instant() < until => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        self.check(Used::read(session).await?)
    }

    fn check(&self, used: Used) -> Result<(), PostgresError> {
        if let Some(lacking) = used.lacking(&self.row_cipher.keys) {
            return Err(PostgresError::Sealed(lacking));
        }
        let own = self.row_cipher.keys.current().map(MasterKey::id);
        if own != used.current {
            tracing::warn!(
                "the database is sealed with another key than is set: run `postern rekey`"
            );
        }
        self.row_cipher.heard(used);
        Ok(())
    }
}

/// Makes `to` the key for writing if that is still `from`; returns whether it is now. Waits for
/// current writers; later ones find the new key.
pub(super) async fn change_key(
    session: &mut PooledSession<'_>,
    from: Option<KeyId>,
    to: Option<KeyId>,
) -> Result<bool, QueryError> {
    session.begin().await?;
    let changed = match change(session, number(from), to).await {
        Ok(changed) => changed,
        Err(fault) => {
            session.undo().await?;
            return Err(fault);
        }
    };
    match changed {
        true => session.commit().await?,
        false => session.undo().await?,
    }
    Ok(changed)
}

async fn change(session: &Session, from: i64, to: Option<KeyId>) -> Result<bool, QueryError> {
    session.batch(CHANGE_TIME).await?;
    // In the order of a decision, which locks the held callback first.
    session.batch("lock table held, event, attempt, document in share mode").await?;
    if let Some(id) = to {
        let sql = "insert into meta (k, v) values ($1, $2) on conflict (k) do nothing";
        session.run(sql, &[&format!("key {id}"), &number(to)]).await?;
    }
    let sql = "update meta set v = $1 where k = 'key' and v = $2";
    Ok(session.run(sql, &[&number(to), &from]).await? == 1)
}

/// Forgets all keys except the one for writing.
pub(super) async fn forget_others(
    session: &Session,
    current: Option<KeyId>,
) -> Result<(), QueryError> {
    let sql = "delete from meta where k like 'key %' and v <> $1
        and $1 = (select v from meta where k = 'key')";
    session.run(sql, &[&number(current)]).await.map(drop)
}
