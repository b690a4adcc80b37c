//! A window of time, whose events are read for an archive, and the documents of archives.

use super::{DocumentChange, EventId, Expect, Kind, Ledger, LedgerError};
use crate::clock::UnixMillis;

/// Documents that say how far an archive has come.
pub const ARCHIVE: Kind = Kind::new("archive");

/// How often documents are read again that another writer changes meanwhile. An archive writes each
/// of its own every few minutes.
const TRIES: usize = 10;

/// A half-open range of time, by the ids of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventWindow {
    /// Its beginning.
    pub from_ms: UnixMillis,
    /// Its end, which is not in it.
    pub to_ms: UnixMillis,
}

impl EventWindow {
    /// The smallest id in it, and the smallest after it.
    #[must_use]
    pub fn ids(self) -> [EventId; 2] {
        [EventId::floor(self.from_ms), EventId::floor(self.to_ms)]
    }
}

/// Gives the documents of archives another version. A window that is being archived is then not
/// completed, but archived again: without the events that were erased meanwhile.
pub(super) async fn interrupt_archives(ledger: &impl Ledger) -> Result<(), LedgerError> {
    for _ in 0..TRIES {
        match rewrite_all(ledger).await {
            Err(LedgerError::Conflict { .. }) => {}
            rewritten => return rewritten,
        }
    }
    Err(LedgerError::Unknown)
}

async fn rewrite_all(ledger: &impl Ledger) -> Result<(), LedgerError> {
    let documents = ledger.documents(ARCHIVE).await?.documents;
    let again = documents.into_iter().map(|document| DocumentChange {
        kind: ARCHIVE,
        expect: Expect::Version(document.version),
        id: document.id,
        body: Some(document.body),
        who: document.who,
        at_ms: document.at_ms,
    });
    let again: Vec<DocumentChange> = again.collect();
    match again.is_empty() {
        true => Ok(()),
        false => ledger.change_all(&again).await.map(drop),
    }
}
