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

/// An order to pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct PauseOrder<'o> {
    pub why: PauseReason,
    pub note: Option<&'o str>,
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
    let written = serde_json::from_slice::<Written>(&document.body);
    let unknown = Written { why: PauseReason::Operator, note: None };
    let Written { why, note } = written.unwrap_or(unknown);
    let Document { id, at_ms, who, .. } = document;
    (TargetId::from(id), Arc::new(Pause { why, at_ms, who, note }))
}

/// Writes that `target` is paused by `order`, or with `None` that it is not. Durable on return.
pub(super) async fn write(
    ledger: &BatchedLedger,
    target: &TargetId,
    order: Option<PauseOrder<'_>>,
    who: &str,
) -> Result<(), LedgerError> {
    // A pause without a reason cannot be written, and none exists.
    let written = |PauseOrder { why, note }: PauseOrder<'_>| {
        let written = Written { why, note: note.map(str::to_owned) };
        serde_json::to_vec(&written).unwrap_or_default().into()
    };
    let body = order.map(written);
    let mut conflict = LedgerError::Unknown;
    for _ in 0..TRIES {
        let known = ledger.document(KIND, target.as_str()).await?;
        if body.is_none() && known.is_none() {
            return Ok(());
        }
        let change = DocumentChange {
            kind: KIND,
            id: target.as_str().to_owned(),
            expect: known.map_or(Expect::Absent, |known| Expect::Version(known.version)),
            body: body.clone(),
            who: who.to_owned(),
            at_ms: now_ms(),
        };
        match ledger.change(&change).await {
            Ok(_) => return Ok(()),
            Err(error @ LedgerError::Conflict { .. }) => conflict = error,
            Err(error) => return Err(error),
        }
    }
    Err(conflict)
}
