//! Manual resolutions: an event or a rejected callback that was settled outside of the gateway,
//! with a note.
//!
//! The note on an event is deleted with the event. A rejected callback is kept in the memory of one
//! gateway only. Its note is kept under a digest of the request, so every gateway finds it for the
//! same request to the same source. It is deleted after the retention of events.

use std::convert::Infallible;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::documents::{RESOLVED, StoredDocument};
use super::{Actor, AuditView, ChangeError, Registry};
use crate::clock::UnixMillis;
use crate::ledger::{EventId, LedgerError, RawRequest};

/// Characters of a note: a few sentences.
pub const NOTE_CHARACTERS_MAX: usize = 500;

/// Notes in all: each gateway has them in memory, at up to 2 kB each.
pub const RESOLVED_MAX: usize = 10_000;

/// Notes that one round of upkeep examines.
const ROUND: usize = 200;

/// Bytes of a digest that names a request.
const DIGEST_BYTES: usize = 16;

/// The subject of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A recorded event.
    Event(EventId),
    /// A rejected callback, by the digest of its request.
    Rejection([u8; DIGEST_BYTES]),
}

/// A note. Its author and time are in the stored document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// The source of the callback.
    pub source: String,
    /// The note itself.
    pub note: String,
}

/// The reason that a note is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The note is empty.
    #[error("a note is missing")]
    Empty,
    /// The note is too long.
    #[error("a note has {NOTE_CHARACTERS_MAX} characters at most")]
    TooLong,
    /// The number of notes is at its limit.
    #[error("{RESOLVED_MAX} callbacks are already resolved manually")]
    TooMany,
}

impl Subject {
    /// The rejected `request` to `source`. Headers do not count: some differ on every retry.
    #[must_use]
    pub fn rejection(source: &str, request: &RawRequest) -> Self {
        let mut hasher = Sha256::new();
        let parts =
            [source.as_bytes(), request.method.as_str().as_bytes(), &request.target, &request.body];
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&hasher.finalize()[..DIGEST_BYTES]);
        Self::Rejection(digest)
    }

    /// The id of its document, and its name in the audit log.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Event(id) => id.to_string(),
            Self::Rejection(digest) => format!("refused_{}", const_hex::encode(digest)),
        }
    }
}

impl Registry {
    /// The note on `subject`, if it was settled manually.
    #[must_use]
    pub fn resolution(&self, subject: &Subject) -> Option<StoredDocument<Resolution>> {
        self.running().documents.resolved.get(&subject.id()).cloned()
    }

    /// Records that `who` settled `subject`, a callback to `source`.
    ///
    /// # Errors
    /// The note is rejected, or the ledger fails.
    pub async fn resolve(
        &self,
        who: &Actor,
        subject: &Subject,
        source: &str,
        note: &str,
    ) -> Result<(), ChangeError<NoteError>> {
        let note = note.trim();
        if note.is_empty() {
            return Err(ChangeError::Refused(NoteError::Empty));
        }
        if note.chars().nth(NOTE_CHARACTERS_MAX).is_some() {
            return Err(ChangeError::Refused(NoteError::TooLong));
        }
        let (id, new) =
            (subject.id(), Resolution { source: source.to_owned(), note: note.to_owned() });
        self.write(who, |state, draft| {
            let all = &state.documents.resolved;
            let old = all.get(&id);
            if old.is_none() && all.len() >= RESOLVED_MAX {
                return Err(ChangeError::Refused(NoteError::TooMany));
            }
            let (before, after) = (old.map(|old| json!(*old.value)), json!(new));
            let view = AuditView { before: before.as_ref(), after: Some(&after) };
            Ok(draft.put(RESOLVED, &id, old, &new, &view)?)
        })
        .await
    }

    /// Deletes the note on `subject`, if there is one.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn reopen(&self, who: &Actor, subject: &Subject) -> Result<(), LedgerError> {
        let id = subject.id();
        let written = self.write(who, |state, draft| {
            if let Some(old) = state.documents.resolved.get(&id) {
                let before = json!(*old.value);
                draft.delete(RESOLVED, &id, old, &AuditView { before: Some(&before), after: None });
            }
            Ok::<_, ChangeError<Infallible>>(())
        });
        written.await.map_err(of_ledger)
    }

    /// Deletes notes on expired callbacks: on events that are not in the ledger, and on rejected
    /// callbacks that are older than `keep`. Returns their number.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn forget_resolved(
        &self,
        keep: Duration,
        now_ms: UnixMillis,
    ) -> Result<usize, LedgerError> {
        let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let before = now_ms.saturating_sub(keep_ms);
        let state = self.running().documents.resolved.clone();
        let mut gone = Vec::new();
        for (id, kept) in state {
            let is_gone = match id.parse::<EventId>() {
                Ok(event) => event.ms() < before && self.ledger().event(event).await?.is_none(),
                Err(_) => kept.at_ms < before,
            };
            if is_gone {
                gone.push(id);
            }
            if gone.len() >= ROUND {
                break;
            }
        }
        if gone.is_empty() {
            return Ok(0);
        }
        let gateway = Actor::gateway();
        let written = self.write(&gateway, |state, draft| {
            for id in &gone {
                if let Some(old) = state.documents.resolved.get(id) {
                    draft.forget(RESOLVED, id, old);
                }
            }
            Ok::<_, ChangeError<Infallible>>(())
        });
        written.await.map_err(of_ledger)?;
        Ok(gone.len())
    }
}

fn of_ledger(failed: ChangeError<Infallible>) -> LedgerError {
    match failed {
        ChangeError::Ledger(error) => error,
        ChangeError::Refused(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::config::{Machine, load_str};
    use crate::ledger::{
        BatchOptions, BatchedLedger, DocumentChange, Expect, Memory, NewEvent, NoopObserver,
        SourceId, StoreClock,
    };
    use crate::registry::{Action, AuditQuery, AuditSubject, Managed, Precondition};

    fn ledger() -> BatchedLedger {
        let engine = Memory::new(StoreClock::process());
        BatchedLedger::new(engine, BatchOptions::default(), Arc::new(NoopObserver))
    }

    async fn registry() -> Registry {
        over(ledger()).await
    }

    async fn over(ledger: BatchedLedger) -> Registry {
        let loaded = load_str(&Machine, std::path::Path::new("postern.toml"), "").unwrap();
        Registry::open(ledger, Arc::new(loaded.config)).await.unwrap()
    }

    fn event(received_ms: UnixMillis) -> NewEvent {
        let source = SourceId::from("s");
        let mut event = NewEvent::sample(EventId::new(received_ms), &source, 1);
        event.body = bytes::Bytes::from_static(b"x");
        event
    }

    #[tokio::test]
    async fn a_note_is_kept_told_and_taken_away() {
        let (registry, who) = (registry().await, Actor::of_token("ops"));
        let subject = Subject::Event(EventId::new(1));
        for (bad, why) in [(" ", NoteError::Empty), (&*"é".repeat(501), NoteError::TooLong)] {
            let refused = registry.resolve(&who, &subject, "s", bad).await;
            assert!(matches!(refused, Err(ChangeError::Refused(found)) if found == why));
        }
        registry.resolve(&who, &subject, "s", &"é".repeat(500)).await.unwrap();
        registry.resolve(&who, &subject, "s", " granted manually ").await.unwrap();
        let kept = registry.resolution(&subject).unwrap();
        assert_eq!(
            (kept.value.note.as_str(), kept.who.as_str()),
            ("granted manually", "token ops")
        );
        registry.reopen(&who, &subject).await.unwrap();
        registry.reopen(&who, &subject).await.unwrap();
        assert!(registry.resolution(&subject).is_none());
        let (log, _) =
            super::super::audit_log(registry.ledger(), AuditQuery::default(), 10, |_| true)
                .await
                .unwrap();
        let actions: Vec<&str> = log.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(actions, ["deleted", "changed", "created"]);
        assert_eq!(log[1].changes["note"][1], "granted manually");
    }

    #[tokio::test]
    async fn what_changes_no_configuration_activates_none() {
        let (registry, who) = (registry().await, Actor::of_token("ops"));
        let applied = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&applied);
        registry.on_change(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let before = registry.config();
        let subject = Subject::Event(EventId::new(1));
        registry.resolve(&who, &subject, "s", "note").await.unwrap();
        let game = AuditSubject::new("destination", "game");
        registry.note(&who, Action::Tried, game).await.unwrap();
        assert!(registry.resolution(&subject).is_some());
        assert!(Arc::ptr_eq(&before, &registry.config()));
        let table = serde_json::json!({ "url": "https://game.example/" });
        let (kind, name) = (Managed::Destination, "game");
        let table = table.as_object().unwrap();
        registry.put(&who, kind, name, table, &Precondition::None).await.unwrap();
        assert!(registry.config().destinations.contains_key("game"));
        registry.remove(&who, kind, name, &Precondition::None).await.unwrap();
        assert!(!registry.config().destinations.contains_key("game"));
        assert_eq!(applied.load(Ordering::Relaxed), 2, "once for each change");
    }

    #[tokio::test]
    async fn a_note_goes_with_what_it_is_about() {
        const DAY_MS: i64 = 86_400_000;
        let (registry, who) = (registry().await, Actor::of_token("ops"));
        let now_ms = crate::clock::now_ms();
        let (kept, gone) = (event(now_ms - 40 * DAY_MS), EventId::new(now_ms - 40 * DAY_MS));
        let young = Subject::Event(EventId::new(now_ms));
        registry.ledger().record(kept.clone()).await.unwrap();
        let refused = Subject::rejection("s", &RawRequest::default());
        let all = [Subject::Event(kept.id), Subject::Event(gone), young, refused];
        for subject in &all {
            registry.resolve(&who, subject, "s", "note").await.unwrap();
        }
        let keep = Duration::from_secs(30 * 86_400);
        assert_eq!(registry.forget_resolved(keep, now_ms).await.unwrap(), 1);
        let left = |registry: &Registry| {
            all.iter().map(|one| registry.resolution(one).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(left(&registry), [true, false, true, true]);
        let later = crate::clock::now_ms() + 31 * DAY_MS;
        assert_eq!(registry.forget_resolved(keep, later).await.unwrap(), 2);
        assert_eq!(left(&registry), [true, false, false, false]);
        let (log, _) =
            super::super::audit_log(registry.ledger(), AuditQuery::default(), 10, |_| true)
                .await
                .unwrap();
        assert_eq!(log.len(), 4, "upkeep has no actor");
    }

    #[tokio::test]
    async fn there_is_an_end_to_what_is_kept() {
        let (ledger, who) = (ledger(), Actor::of_token("ops"));
        let id = |n: usize| EventId::new(n as i64);
        let ids: Vec<EventId> = (0..RESOLVED_MAX).map(id).collect();
        let note = Resolution { source: String::from("s"), note: String::from("n") };
        let body = Some(bytes::Bytes::from(serde_json::to_vec(&note).unwrap()));
        let changes = ids.iter().map(|id| DocumentChange {
            kind: RESOLVED,
            id: id.to_string(),
            expect: Expect::Absent,
            body: body.clone(),
            who: who.as_str().to_owned(),
            at_ms: 0,
        });
        ledger.change_all(&changes.collect::<Vec<_>>()).await.unwrap();
        let registry = over(ledger).await;
        let (new, old) = (Subject::Event(EventId::new(1)), Subject::Event(ids[7]));
        let refused = registry.resolve(&who, &new, "s", "note").await;
        assert!(matches!(refused, Err(ChangeError::Refused(NoteError::TooMany))));
        registry.resolve(&who, &old, "s", "another").await.unwrap();
        registry.reopen(&who, &old).await.unwrap();
        registry.resolve(&who, &new, "s", "note").await.unwrap();
    }

    #[test]
    fn a_refused_callback_is_known_by_what_came_and_where() {
        let request = |target: &'static str, body: &'static str| RawRequest {
            target: bytes::Bytes::from_static(target.as_bytes()),
            body: bytes::Bytes::from_static(body.as_bytes()),
            ..RawRequest::default()
        };
        let one = Subject::rejection("s", &request("/callback/s?a=1", "b"));
        assert_eq!(one, Subject::rejection("s", &request("/callback/s?a=1", "b")));
        for other in [
            Subject::rejection("t", &request("/callback/s?a=1", "b")),
            Subject::rejection("s", &request("/callback/s?a=1b", "")),
            Subject::rejection("s", &request("/callback/s?a=2", "b")),
        ] {
            assert_ne!(one, other);
        }
    }
}
