//! Paused destinations: nothing is delivered to them until an operator resumes them. An operator
//! paused them, or the backend answered 410.
//!
//! A pause is a document of the ledger: it survives a restart and applies on every gateway. Its end
//! deletes that document and leaves another, which says which pauses have ended: an import of an
//! older export writes the first one again, and the destination stays resumed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::{UnixMillis, now_ms};
use crate::ledger::{
    BatchedLedger, Document, DocumentChange, Documents, Expect, Kind, LedgerError, TargetId,
};

/// The kind of the documents. Their ids are the names of the destinations.
pub(super) const KIND: Kind = Kind::new("pause");

/// The kind of the documents about pauses that have ended, with the same ids. Not the same kind: an
/// earlier version takes every document of [`KIND`] for a pause.
const ENDED: Kind = Kind::new("pause_end");

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

/// The content of a document about pauses that have ended.
#[derive(Serialize, Deserialize)]
struct WrittenEnd {
    /// The start of the latest of them: those that began earlier have ended too.
    paused_ms: UnixMillis,
}

/// All pauses.
#[derive(Clone, Debug, Default)]
pub(super) struct Pauses(HashMap<TargetId, Arc<Pause>>);

impl Pauses {
    /// Loads the pauses from the ledger.
    pub(super) async fn load(ledger: &BatchedLedger) -> Result<Self, LedgerError> {
        let Documents { documents: pauses, .. } = ledger.documents(KIND).await?;
        if pauses.is_empty() {
            return Ok(Self::default());
        }
        // After the pauses: one that ends meanwhile has ended.
        let Documents { documents: ends, .. } = ledger.documents(ENDED).await?;
        let ends: HashMap<&str, UnixMillis> =
            ends.iter().filter_map(|end| Some((end.id.as_str(), ended_ms(end)?))).collect();
        let goes_on = |pause: &Document| !has_ended(pause, ends.get(pause.id.as_str()).copied());
        Ok(Self(pauses.into_iter().filter(goes_on).map(read).collect()))
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

/// The start of the latest pause that has ended; `None` if a later version wrote something else.
fn ended_ms(end: &Document) -> Option<UnixMillis> {
    let WrittenEnd { paused_ms } = serde_json::from_slice(&end.body).ok()?;
    Some(paused_ms)
}

/// Whether a pause is one of those that have ended.
fn has_ended(pause: &Document, ended_ms: Option<UnixMillis>) -> bool {
    ended_ms.is_some_and(|ended_ms| pause.at_ms <= ended_ms)
}

/// The documents about one destination.
struct Known {
    pause: Option<Document>,
    end: Option<Document>,
}

impl Known {
    /// Reads the pause first: if it ends meanwhile, a change of it fails.
    async fn read(ledger: &BatchedLedger, target: &TargetId) -> Result<Self, LedgerError> {
        let pause = ledger.document(KIND, target.as_str()).await?;
        let end = ledger.document(ENDED, target.as_str()).await?;
        Ok(Self { pause, end })
    }

    fn ended_ms(&self) -> Option<UnixMillis> {
        self.end.as_ref().and_then(ended_ms)
    }

    /// The pause, unless it has ended.
    fn pause(&self) -> Option<&Document> {
        self.pause.as_ref().filter(|pause| !has_ended(pause, self.ended_ms()))
    }

    /// The time of a change. A new pause begins after those that have ended, also by a clock that is
    /// behind.
    fn next_ms(&self) -> UnixMillis {
        let before = self.pause.as_ref().map_or(UnixMillis::MIN, |pause| pause.at_ms);
        let ended = self.ended_ms().map_or(UnixMillis::MIN, |ended_ms| ended_ms.saturating_add(1));
        now_ms().max(before).max(ended)
    }
}

/// The edit of the documents that a change makes.
enum Edit {
    /// Nothing: the documents say so already, or the pause of another stays.
    Nothing,
    Pause(Written),
    End(WrittenEnd),
}

impl PauseChange<'_> {
    fn edit(self, known: Option<&Document>) -> Edit {
        match (self, known.map(|known| (known.at_ms, written(known).why))) {
            (Self::Pause(note), _) => {
                let note = note.map(str::to_owned);
                Edit::Pause(Written { why: PauseReason::Operator, note })
            }
            (Self::Leave, None) => Edit::Pause(Written { why: PauseReason::Gone, note: None }),
            (Self::Resume, Some((paused_ms, _)))
            | (Self::Return, Some((paused_ms, PauseReason::Gone))) => {
                Edit::End(WrittenEnd { paused_ms })
            }
            (Self::Leave, Some(_))
            | (Self::Resume | Self::Return, None)
            | (Self::Return, Some((_, PauseReason::Operator))) => Edit::Nothing,
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
        let known = Known::read(ledger, target).await?;
        let at_ms = known.next_ms();
        let put = |kind: Kind, current: Option<&Document>, body: Option<Bytes>| DocumentChange {
            kind,
            id: target.as_str().to_owned(),
            expect: current.map_or(Expect::Absent, |current| Expect::Version(current.version)),
            body,
            who: who.to_owned(),
            at_ms,
        };
        let (pause, end) = (known.pause.as_ref(), known.end.as_ref());
        let changes = match change.edit(known.pause()) {
            Edit::Nothing => return Ok(Changed::No),
            Edit::Pause(new) => vec![put(KIND, pause, Some(json(&new)))],
            Edit::End(new) => vec![put(KIND, pause, None), put(ENDED, end, Some(json(&new)))],
        };
        match ledger.change_all(&changes).await {
            Ok(_) => return Ok(Changed::Yes),
            Err(error @ LedgerError::Conflict { .. }) => conflict = error,
            Err(error) => return Err(error),
        }
    }
    Err(conflict)
}

/// The content of a document. Texts and numbers are always JSON.
fn json(content: &impl Serialize) -> Bytes {
    serde_json::to_vec(content).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{BatchOptions, Item, Ledger as _, Memory, NoopObserver, StoreClock};

    /// A store, and a destination in it.
    struct Game {
        ledger: BatchedLedger,
        target: TargetId,
    }

    impl Game {
        fn new() -> Self {
            let memory = Memory::new(StoreClock::manual(0));
            let observer = Arc::new(NoopObserver);
            let ledger = BatchedLedger::new(memory, BatchOptions::default(), observer);
            Self { ledger, target: TargetId::from("game") }
        }

        /// Makes a change, and returns the pause that is left.
        async fn after(&self, change: PauseChange<'_>) -> Option<PauseReason> {
            write(&self.ledger, &self.target, change, "me").await.unwrap();
            self.pause().await
        }

        async fn pause(&self) -> Option<PauseReason> {
            let pauses = Pauses::load(&self.ledger).await.unwrap();
            pauses.get(&self.target).map(|pause| pause.why)
        }

        async fn export(&self) -> Vec<Item> {
            self.ledger.engine().export(None, usize::MAX).await.unwrap().items
        }

        /// Imports an export, and returns the pause that is left.
        async fn with(&self, export: &[Item]) -> Option<PauseReason> {
            self.ledger.engine().import(export.to_vec()).await.unwrap();
            self.pause().await
        }

        /// The documents that an earlier version takes for pauses.
        async fn seen_by_an_earlier_version(&self) -> usize {
            self.ledger.documents(KIND).await.unwrap().documents.len()
        }
    }

    /// Makes the changes in turn, and returns the pause that is left.
    async fn after(changes: &[PauseChange<'_>]) -> Option<PauseReason> {
        let game = Game::new();
        for change in changes {
            game.after(*change).await;
        }
        game.pause().await
    }

    const OPERATOR: Option<PauseReason> = Some(PauseReason::Operator);
    const GONE: Option<PauseReason> = Some(PauseReason::Gone);

    #[tokio::test]
    async fn the_pause_of_an_operator_ends_only_with_an_operator() {
        use PauseChange::{Leave, Pause, Resume, Return};
        assert_eq!(after(&[Pause(None), Leave]).await, OPERATOR);
        assert_eq!(after(&[Pause(None), Leave, Return]).await, OPERATOR);
        assert_eq!(after(&[Leave, Pause(Some("later")), Return]).await, OPERATOR);
        assert_eq!(after(&[Pause(None), Resume]).await, None);
        assert_eq!(after(&[Leave]).await, GONE);
        assert_eq!(after(&[Leave, Leave, Return]).await, None);
        assert_eq!(after(&[Leave, Resume, Resume, Return]).await, None);
        // At the same moment too, a new pause counts.
        assert_eq!(after(&[Pause(None), Resume, Leave]).await, GONE);
        assert_eq!(after(&[Leave, Return, Pause(None), Resume, Pause(None)]).await, OPERATOR);
    }

    /// 1. A store with a pause is moved to a new one, and the destination is resumed there.
    /// 2. The import is repeated, and the old store gets its own export again: it stays resumed.
    /// 3. It is paused there again, and resumed: the old pause changes nothing.
    #[tokio::test]
    async fn a_pause_that_has_ended_does_not_come_back_with_an_older_export() {
        use PauseChange::{Pause, Resume};
        let (old, new) = (Game::new(), Game::new());
        old.after(Pause(Some("until we have moved"))).await;
        let export = old.export().await;
        assert_eq!(new.with(&export).await, OPERATOR);
        for store in [&new, &old] {
            assert_eq!(store.after(Resume).await, None);
            assert_eq!(store.seen_by_an_earlier_version().await, 0);
            assert_eq!(store.with(&export).await, None);
            assert_eq!(store.after(Pause(None)).await, OPERATOR);
            assert_eq!(store.with(&export).await, OPERATOR);
            assert_eq!(store.after(Resume).await, None);
            assert_eq!(store.with(&export).await, None);
            // Nor is there anything left to resume.
            let again = write(&store.ledger, &store.target, Resume, "me").await.unwrap();
            assert_eq!(again, Changed::No);
        }
        // Of several exports, the newest is imported first, or last.
        let newest = new.export().await;
        let (first, last) = (Game::new(), Game::new());
        assert_eq!(first.with(&newest).await, None);
        assert_eq!(first.with(&export).await, None);
        assert_eq!(last.with(&export).await, OPERATOR);
        assert_eq!(last.with(&newest).await, None);
    }

    #[tokio::test]
    async fn a_backend_that_has_returned_stays_when_an_older_export_is_imported() {
        use PauseChange::{Leave, Return};
        let game = Game::new();
        assert_eq!(game.after(Leave).await, GONE);
        let export = game.export().await;
        assert_eq!(game.after(Return).await, None);
        assert_eq!(game.with(&export).await, None);
        // It may answer 410 again.
        assert_eq!(game.after(Leave).await, GONE);
        assert_eq!(game.after(Return).await, None);
    }
}
