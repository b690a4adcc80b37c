//! Destinations to which nothing is delivered until somebody resumes them: because an operator says
//! so, or because the backend answered 410, that it wants no more.
//!
//! A pause is a document of the ledger, so that it outlasts a restart and holds on every gateway.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{UnixMillis, now_ms};
use crate::ledger::{
    BatchedLedger, Document, DocumentChange, Documents, Expect, Kind, LedgerError, TargetId,
};

/// The kind of the documents. Their ids are the names of the destinations.
pub(super) const KIND: Kind = Kind::new("pause");

/// How often a change is tried when somebody else changes the same pause at the same time.
const TRIES: usize = 5;

/// A pause of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Why.
    pub why: PauseReason,
    /// Since when.
    pub at_ms: UnixMillis,
    /// Who said so.
    pub who: String,
}

/// Why a destination is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// An operator said so.
    Operator,
    /// The backend answered 410.
    Gone,
}

impl PauseReason {
    /// Its name in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Gone => "gone",
        }
    }
}

/// What a document says.
#[derive(Serialize, Deserialize)]
struct Written {
    why: PauseReason,
}

/// All pauses.
#[derive(Clone, Debug, Default)]
pub(super) struct Pauses(HashMap<TargetId, Arc<Pause>>);

impl Pauses {
    /// What the ledger holds.
    pub(super) async fn load(book: &BatchedLedger) -> Result<Self, LedgerError> {
        let Documents { documents, .. } = book.documents(KIND).await?;
        Ok(Self(documents.into_iter().map(read).collect()))
    }

    pub(super) fn get(&self, target: &TargetId) -> Option<Arc<Pause>> {
        self.0.get(target).cloned()
    }

    /// One that is not written down yet.
    pub(super) fn add(&mut self, target: TargetId, pause: Pause) {
        self.0.insert(target, Arc::new(pause));
    }
}

/// A document that a later program wrote is a pause as well.
fn read(document: Document) -> (TargetId, Arc<Pause>) {
    let written = serde_json::from_slice::<Written>(&document.body);
    let why = written.map_or(PauseReason::Operator, |written| written.why);
    let Document { id, at_ms, who, .. } = document;
    (TargetId::from(id), Arc::new(Pause { why, at_ms, who }))
}

/// Writes that `target` is paused, for `why`, or with `None` that it no longer is. Durable when
/// answered.
pub(super) async fn write(
    book: &BatchedLedger,
    target: &TargetId,
    why: Option<PauseReason>,
    who: &str,
) -> Result<(), LedgerError> {
    // A pause without a reason cannot be written, and there is none.
    let body = why.map(|why| serde_json::to_vec(&Written { why }).unwrap_or_default().into());
    let mut conflict = LedgerError::Unknown;
    for _ in 0..TRIES {
        let known = book.document(KIND, target.as_str()).await?;
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
        match book.change(&change).await {
            Ok(_) => return Ok(()),
            Err(error @ LedgerError::Conflict { .. }) => conflict = error,
            Err(error) => return Err(error),
        }
    }
    Err(conflict)
}
