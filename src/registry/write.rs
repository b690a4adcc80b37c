//! Changes of documents: all or nothing, on the newest state, each with an entry in the audit log.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::audit::{self, Action, Actor, AuditSubject, Entry, Removals, Stamp};
use super::documents::{AUDIT, HEAD, HEAD_ID, Head, StoredDocument};
use super::{Registry, RunningConfig};
use crate::clock::{UnixMillis, now_ms};
use crate::ledger::{DocumentChange, Expect, Kind, LedgerError, Revision};

/// Retries of a change after concurrent changes. Each retry means that another change succeeded, so
/// more than this many at once are improbable.
const TRIES: usize = 16;

/// The reason that nothing was changed.
#[derive(Debug)]
pub enum ChangeError<E> {
    /// The plan of the change rejected it.
    Refused(E),
    /// The ledger failed.
    Ledger(LedgerError),
}

impl<E> From<LedgerError> for ChangeError<E> {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

/// The error of a plan that rejects nothing.
enum Never {}

/// A change that is being planned.
#[derive(Debug)]
pub struct Draft {
    who: Actor,
    at_ms: UnixMillis,
    head: Head,
    expect: Expect,
    changes: Vec<DocumentChange>,
    entries: Vec<Entry>,
}

/// A document before and after a change, masked, for the audit log.
#[derive(Clone, Copy, Debug)]
pub struct AuditView<'t> {
    /// Before; `None` if it is new.
    pub before: Option<&'t Value>,
    /// After; `None` if it is deleted.
    pub after: Option<&'t Value>,
}

impl Draft {
    fn new(who: &Actor, state: &RunningConfig) -> Self {
        let head = state.documents.head.as_ref();
        Self {
            who: who.clone(),
            at_ms: now_ms(),
            head: state.documents.numbers,
            expect: head.map_or(Expect::Absent, |head| Expect::Version(head.version)),
            changes: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// The number of a new reward rule.
    pub fn rule_number(&mut self) -> u64 {
        let number = self.head.next_rule;
        self.head.next_rule += 1;
        number
    }

    /// Writes a document in place of `old`.
    ///
    /// # Errors
    /// The value has no JSON form. No document has this.
    pub fn put<T: Serialize>(
        &mut self,
        kind: Kind,
        id: &str,
        old: Option<&StoredDocument<T>>,
        new: &T,
        view: &AuditView<'_>,
    ) -> Result<(), LedgerError> {
        let body = written(kind, id, new)?;
        self.add(kind, id, old.map(|old| old.version), Some(body), view);
        Ok(())
    }

    /// Deletes a document.
    pub fn delete<T>(
        &mut self,
        kind: Kind,
        id: &str,
        old: &StoredDocument<T>,
        view: &AuditView<'_>,
    ) {
        self.add(kind, id, Some(old.version), None, view);
    }

    /// Deletes an expired document. The audit log does not record it: no actor did it.
    pub(super) fn forget<T>(&mut self, kind: Kind, id: &str, old: &StoredDocument<T>) {
        let (who, at_ms) = (self.who.as_str().to_owned(), self.at_ms);
        let expect = Expect::Version(old.version);
        self.changes.push(DocumentChange {
            kind,
            id: id.to_owned(),
            expect,
            body: None,
            who,
            at_ms,
        });
    }

    /// Adds an action on something other than a document to the audit log, with `facts` about it.
    pub fn note(&mut self, action: Action, subject: AuditSubject<'_>, facts: &Map<String, Value>) {
        let stamp = Stamp { who: &self.who, at_ms: self.at_ms };
        self.entries.push(Entry::of(stamp, action, subject, facts));
    }

    fn add(
        &mut self,
        kind: Kind,
        id: &str,
        version: Option<Revision>,
        body: Option<Bytes>,
        view: &AuditView<'_>,
    ) {
        let expect = version.map_or(Expect::Absent, Expect::Version);
        let (who, at_ms) = (self.who.as_str().to_owned(), self.at_ms);
        self.changes.push(DocumentChange { kind, id: id.to_owned(), expect, body, who, at_ms });
        let stamp = Stamp { who: &self.who, at_ms: self.at_ms };
        self.entries.push(Entry::new(stamp, AuditSubject::new(kind.as_str(), id), view));
    }

    /// Returns all changes to write: the documents, their entries in the audit log, and the head. A full
    /// audit log loses some entries first: see [`audit::removals`].
    async fn batch(&mut self, registry: &Registry) -> Result<Vec<DocumentChange>, LedgerError> {
        let mut batch = self.changes.clone();
        let added = self.entries.len() as u64;
        if self.head.audit_entries() + added > audit::ENTRIES_MAX {
            let Removals { changes, left } =
                audit::removals(registry.ledger(), added, self.at_ms).await?;
            batch.extend(changes);
            self.head.entries = Some(left);
            // An older gateway counts by the two numbers, and removes what is between them.
            self.head.first_audit = self.head.next_audit.saturating_sub(left);
        }
        self.head.entries = Some(self.head.audit_entries() + added);
        for entry in &self.entries {
            let number = self.head.next_audit;
            self.head.next_audit += 1;
            batch.push(self.own(AUDIT, &audit::id(number), Expect::Absent, entry)?);
        }
        batch.push(self.own(HEAD, HEAD_ID, self.expect, &self.head)?);
        Ok(batch)
    }

    fn own<T: Serialize>(
        &self,
        kind: Kind,
        id: &str,
        expect: Expect,
        value: &T,
    ) -> Result<DocumentChange, LedgerError> {
        let (who, at_ms) = (self.who.as_str().to_owned(), self.at_ms);
        let body = Some(written(kind, id, value)?);
        Ok(DocumentChange { kind, id: id.to_owned(), expect, body, who, at_ms })
    }
}

fn written<T: Serialize>(kind: Kind, id: &str, value: &T) -> Result<Bytes, LedgerError> {
    let body = serde_json::to_vec(value);
    body.map(Bytes::from).map_err(|_| LedgerError::Corrupt(format!("the document {kind} {id}")))
}

impl Registry {
    /// Records an action of `who` in the audit log. Its `subject` is not a document.
    ///
    /// # Errors
    /// The ledger cannot record it.
    pub async fn note(
        &self,
        who: &Actor,
        action: Action,
        subject: AuditSubject<'_>,
    ) -> Result<(), LedgerError> {
        self.note_for(who, action, subject, None).await
    }

    /// [`Self::note`] with the reason that `who` gives.
    ///
    /// # Errors
    /// The ledger cannot write it down.
    pub async fn note_for(
        &self,
        who: &Actor,
        action: Action,
        subject: AuditSubject<'_>,
        reason: Option<&str>,
    ) -> Result<(), LedgerError> {
        let facts = reason.map(|text| (audit::REASON.to_owned(), Value::from(text)));
        self.note_with(who, action, subject, facts.into_iter().collect()).await
    }

    /// [`Self::note`] with `facts` about the subject, by name. They have no secrets. A long value is
    /// cut, except that of `reason`.
    ///
    /// # Errors
    /// The ledger cannot write it down.
    pub async fn note_with(
        &self,
        who: &Actor,
        action: Action,
        subject: AuditSubject<'_>,
        facts: Map<String, Value>,
    ) -> Result<(), LedgerError> {
        let noted = self.write(who, |_, draft| {
            draft.note(action, subject, &facts);
            Ok::<_, ChangeError<Never>>(())
        });
        noted.await.map_err(|failed| match failed {
            ChangeError::Ledger(error) => error,
            ChangeError::Refused(never) => match never {},
        })
    }

    /// Makes a change, all of it or nothing, and applies it here before it returns. `plan` plans
    /// the change on the given state. After a concurrent change it is called again with the new
    /// state.
    ///
    /// # Errors
    /// The error of `plan` or of the ledger.
    pub async fn write<T, E>(
        &self,
        who: &Actor,
        mut plan: impl FnMut(&RunningConfig, &mut Draft) -> Result<T, ChangeError<E>> + Send,
    ) -> Result<T, ChangeError<E>> {
        let lock = self.lock_writes().await;
        self.catch_up(&lock).await?;
        for _ in 0..TRIES {
            let state = self.running();
            let mut draft = Draft::new(who, &state);
            let planned = plan(&state, &mut draft)?;
            if draft.changes.is_empty() && draft.entries.is_empty() {
                return Ok(planned);
            }
            let batch = draft.batch(self).await?;
            match self.ledger().change_all(&batch).await {
                Ok(_) => {
                    tell(&draft.entries);
                    self.catch_up(&lock).await?;
                    self.warn_of_removed(&state.config);
                    return Ok(planned);
                }
                // Not always the head: an import changes documents and may leave the head.
                Err(LedgerError::Conflict { .. }) => self.read_again(&lock).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(LedgerError::Overloaded.into())
    }
}

fn tell(entries: &[Entry]) {
    for Entry { who, action, kind, name, .. } in entries {
        let action = action.as_str();
        tracing::info!(target: "postern::audit", who, action, kind, name, "changed");
    }
}
