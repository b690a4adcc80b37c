//! Paused destinations: nothing is delivered to them until an operator resumes them. An operator
//! paused them, or the backend answered 410.
//!
//! A pause is a document of the ledger: it survives a restart and applies on every gateway.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{UnixMillis, now_ms};
use crate::ledger::{
    BatchedLedger, Document, DocumentChange, Documents, Expect, Kind, LedgerError, TargetId,
};

/// The kind of the documents. Their ids are the names of the destinations.
pub(super) const KIND: Kind = Kind::new("pause");

/// How often a change is tried while others change the same pause concurrently.
const TRIES: usize = 5;

/// A pause of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The reason.
    pub why: PauseReason,
    /// The start.
    pub at_ms: UnixMillis,
    /// The actor.
    pub who: String,
    /// The actor's note.
    pub note: Option<String>,
}

/// A change of a pause.
#[derive(Clone, Copy, Debug)]
pub(super) enum PauseChange<'o> {
    /// An operator pauses the destination, with a note.
    Pause(Option<&'o str>),
    /// An operator resumes it.
    Resume,
    /// The backend answered 410. A pause that exists stays.
    Leave,
    /// The backend accepted a delivery after a 410. The pause of an operator stays.
    Return,
}

/// Whether a pause was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Yes,
    No,
}

/// Why a destination is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// An operator paused it.
    Operator,
    /// The backend answered 410.
    Gone,
}

impl PauseReason {
    /// The name in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Gone => "gone",
        }
    }
}

/// The content of a document.
#[derive(Serialize, Deserialize)]
struct Written {
    why: PauseReason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// All pauses.
#[derive(Clone, Debug, Default)]
pub(super) struct Pauses(HashMap<TargetId, Arc<Pause>>);

impl Pauses {
    /// Loads the pauses from the ledger.
    pub(super) async fn load(ledger: &BatchedLedger) -> Result<Self, LedgerError> {
        let Documents { documents, .. } = ledger.documents(KIND).await?;
        Ok(Self(documents.into_iter().map(read).collect()))
    }

    pub(super) fn get(&self, target: &TargetId) -> Option<Arc<Pause>> {
        self.0.get(target).cloned()
    }

    /// Adds a pause that is not persisted yet.
    pub(super) fn add(&mut self, target: TargetId, pause: Pause) {
        self.0.insert(target, Arc::new(pause));
    }
}

/// Reads a document. One that a later version wrote is a pause as well.
fn read(document: Document) -> (TargetId, Arc<Pause>) {
    let Written { why, note } = written(&document);
    let Document { id, at_ms, who, .. } = document;
    (TargetId::from(id), Arc::new(Pause { why, at_ms, who, note }))
}

fn written(document: &Document) -> Written {
    let unknown = Written { why: PauseReason::Operator, note: None };
    serde_json::from_slice(&document.body).unwrap_or(unknown)
}

/// The document that a change makes.
enum Edit {
    /// Nothing: the document says so already, or the pause of another stays.
    Nothing,
    Pause(Written),
    Remove,
}

impl PauseChange<'_> {
    fn edit(self, known: Option<&Document>) -> Edit {
        match (self, known.map(|known| written(known).why)) {
            (Self::Pause(note), _) => {
                let note = note.map(str::to_owned);
                Edit::Pause(Written { why: PauseReason::Operator, note })
            }
            (Self::Leave, None) => Edit::Pause(Written { why: PauseReason::Gone, note: None }),
            (Self::Resume, Some(_)) | (Self::Return, Some(PauseReason::Gone)) => Edit::Remove,
            (Self::Leave, Some(_))
            | (Self::Resume | Self::Return, None)
            | (Self::Return, Some(PauseReason::Operator)) => Edit::Nothing,
        }
    }
}

/// Makes a change of the pause of `target`, which is durable on return.
pub(super) async fn write(
    ledger: &BatchedLedger,
    target: &TargetId,
    change: PauseChange<'_>,
    who: &str,
) -> Result<Changed, LedgerError> {
    let mut conflict = LedgerError::Unknown;
    for _ in 0..TRIES {
        let known = ledger.document(KIND, target.as_str()).await?;
        let body = match change.edit(known.as_ref()) {
            Edit::Nothing => return Ok(Changed::No),
            // Two texts are always JSON.
            Edit::Pause(pause) => Some(serde_json::to_vec(&pause).unwrap_or_default().into()),
            Edit::Remove => None,
        };
        let change = DocumentChange {
            kind: KIND,
            id: target.as_str().to_owned(),
            expect: known.map_or(Expect::Absent, |known| Expect::Version(known.version)),
            body,
            who: who.to_owned(),
            at_ms: now_ms(),
        };
        match ledger.change(&change).await {
            Ok(_) => return Ok(Changed::Yes),
            Err(error @ LedgerError::Conflict { .. }) => conflict = error,
            Err(error) => return Err(error),
        }
    }
    Err(conflict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{BatchOptions, Memory, NoopObserver, StoreClock};

    /// Makes the changes in turn, and returns the pause that is left.
    async fn after(changes: &[PauseChange<'_>]) -> Option<PauseReason> {
        let memory = Memory::new(StoreClock::manual(0));
        let ledger = BatchedLedger::new(memory, BatchOptions::default(), Arc::new(NoopObserver));
        let game = TargetId::from("game");
        for change in changes {
            write(&ledger, &game, *change, "me").await.unwrap();
        }
        Pauses::load(&ledger).await.unwrap().get(&game).map(|pause| pause.why)
    }

    #[tokio::test]
    async fn the_pause_of_an_operator_ends_only_with_an_operator() {
        use PauseChange::{Leave, Pause, Resume, Return};
        let (operator, gone) = (Some(PauseReason::Operator), Some(PauseReason::Gone));
        assert_eq!(after(&[Pause(None), Leave]).await, operator);
        assert_eq!(after(&[Pause(None), Leave, Return]).await, operator);
        assert_eq!(after(&[Leave, Pause(Some("later")), Return]).await, operator);
        assert_eq!(after(&[Pause(None), Resume]).await, None);
        assert_eq!(after(&[Leave]).await, gone);
        assert_eq!(after(&[Leave, Leave, Return]).await, None);
        assert_eq!(after(&[Leave, Resume, Resume, Return]).await, None);
    }
}
