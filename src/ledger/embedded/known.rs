//! Duplicates that are known without the committer.
//!
//! The caller's thread looks the keys up and reads the record of the first event. Only what is
//! published counts: it is synced, and no other answer is possible any more. In any other case (a
//! new key, a conflict, a key that has to be added, a record that is not in memory or not in order)
//! the committer decides, which knows everything.

use std::cell::RefCell;
use std::sync::{Arc, PoisonError};

use super::core::Core;
use super::record;
use super::run::Run;
use super::segment::{Position, Segment};
use crate::ledger::accept::{First, Judged};
use crate::ledger::{DedupeKey, EventId, EventKeys, Fingerprint};

/// Nothing can be said about a key without the committer.
struct Undecided;

impl Core {
    /// The first event that the event `id` with these keys and this content is a duplicate of, if
    /// that is published, and if the duplicate adds no key to the first event.
    pub(super) fn known_duplicate(
        &self,
        id: EventId,
        keys: &EventKeys,
        fingerprint: Fingerprint,
    ) -> Option<First> {
        let mut written = keys.identity.iter().chain(&keys.signatures);
        if !written.all(|key| self.keys.may_have(key)) || self.poison.reason().is_some() {
            return None;
        }
        match keys.judge(id, fingerprint, |key| self.published_owner(key)) {
            Ok(Judged::Duplicate { first, missing }) if missing.is_empty() => Some(first),
            _ => None,
        }
    }

    /// The event that a key belongs to.
    fn published_owner(&self, key: &DedupeKey) -> Result<Option<First>, Undecided> {
        thread_local! {
            /// The record that was read last.
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        for at in self.keys.find(key) {
            let segment = self.published_segment(at).ok_or(Undecided)?;
            let first = BUFFER.with_borrow_mut(|buffer| {
                let payload = segment.read_cached(at.offset(), buffer).ok_or(Undecided)?;
                Ok(record::owner_of(key, &payload))
            })?;
            if first.is_some() {
                return Ok(first);
            }
        }
        Ok(None)
    }

    /// The segment of a position, if everything up to there is synced.
    fn published_segment(&self, at: Position) -> Option<Arc<Segment>> {
        let runs = self.runs.read().unwrap_or_else(PoisonError::into_inner);
        let run = runs.get(&at.segment())?;
        let segment = run.segment();
        let is_published = at.is_in(&segment.header)
            && match run {
                Run::Open(run) => at.offset() < run.published(),
                Run::Indexed(_) => true,
            };
        is_published.then(|| Arc::clone(segment))
    }
}
