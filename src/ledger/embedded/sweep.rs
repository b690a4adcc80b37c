//! Retention: closed segments are rewritten without expired data.
//!
//! Two lifetimes: when an event expires, its keys stay in a separate record until they expire too.
//! An event with a pending or dead delivery stays complete, whatever its age, and so do its
//! attempts. Documents stay in their newest version, nonces until their end.
//!
//! Segments are swept strictly from the oldest on, up to the last that has expired: no result is
//! removed before its event. A clock that was ahead may have stamped events among them as newer than
//! they are. Those stay until their stamps are old, and hold up no others: nothing else says how old
//! they are, because later segments may have the stamps of a clock that was behind, or of an import. A
//! segment that does not match the index stays, and so do all later ones: retention fails until the
//! damage is repaired. The new form of a segment is complete, synced and named before the old one
//! is removed. A crash leaves at least one of them, and the newer one counts.
//!
//! Ages use a time that the ledger has observed to pass (`age`): a clock that jumped ahead expires
//! nothing. An old segment that is not full is closed, so its events can expire.

mod rewrite;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, mpsc};

use tokio::sync::oneshot;

use super::age::DAY_MS;
use super::call::{Answer, Call};
use super::core::Core;
use super::index::IndexedRun;
use super::record::Record;
use super::run::Run;
use super::segment::Segment;
use crate::clock::{UnixMillis, millis};
use crate::ledger::{
    Erasure, EventId, KeepKeys, LedgerError, MasterKey, NewHeld, Retention, SourceId, Swept,
};

/// The state of a segment at its last sweep: unless it changes, the segment is not checked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastSweep {
    live: usize,
    /// The sources whose keys may be old, and how long the keys of each are kept.
    old: Vec<SourceId>,
    keep_keys: Vec<KeepKeys>,
    /// Records of decided held callbacks.
    decided: usize,
    /// The day before which its events expired; of a segment with newer ones, the moment.
    until: i64,
}

/// The policy of a sweep.
pub(super) struct Policy<'p> {
    events_before: UnixMillis,
    keys: Option<&'p Retention>,
    /// The source whose keys are deleted.
    forgotten: Option<&'p SourceId>,
    /// Events that expire now, whatever their age. Their deliveries end before they are gone.
    erased: Option<&'p BTreeSet<EventId>>,
    /// The order to erase them. Kept callbacks of the user go too.
    erasure: Option<&'p Erasure>,
}

impl Core {
    /// Deletes data that `policy` does not keep, until about `budget` events and keys are gone.
    pub(super) fn sweep(
        &self,
        policy: &Retention,
        budget: usize,
        calls: &mpsc::Sender<Call>,
    ) -> Result<Swept, LedgerError> {
        if let Err(error) = self.note_end() {
            tracing::warn!(%error, "could not note the end of the journal in the manifest");
        }
        self.close_if_old(calls)?;
        let runs = self.all_runs();
        let newest = runs.iter().filter_map(Run::newest_ms).max().unwrap_or(UnixMillis::MIN);
        let counted_now = self.counted_now(policy.now_ms);
        self.held().expire(counted_now, &policy.held);
        let at = |ms: UnixMillis| {
            let now_ms = ms.min(newest.saturating_add(DAY_MS));
            Retention { now_ms, ..policy.clone() }
        };
        let of_keys = at(self.observed_now(policy.now_ms));
        let policy = Policy {
            events_before: at(counted_now).events_before(),
            keys: Some(&of_keys),
            forgotten: None,
            erased: None,
            erasure: None,
        };
        let mut swept = Swept::default();
        let last = runs.len().saturating_sub(1);
        let last_old = runs.iter().rposition(|run| policy.has_expired(run));
        for (at, run) in runs.into_iter().enumerate() {
            // A segment that is being written, or is not indexed yet, ends the sweep: order
            // matters.
            let run = match run {
                Run::Indexed(run) => run,
                run @ Run::Open(_) => {
                    if at < last {
                        self.check_whole(run.segment())?;
                    }
                    let old = run.newest_ms().is_some_and(|newest| newest < policy.events_before);
                    // One that waits for its index may wait long.
                    swept.more = at < last && old && self.waits_for_index().is_none();
                    break;
                }
            };
            if run.newest_ms() >= policy.events_before {
                if last_old.is_none_or(|last_old| at > last_old) {
                    break;
                }
                if run.oldest().ms() >= policy.events_before {
                    // All its events stay, and so do their results, wherever these are.
                    continue;
                }
            }
            if swept.events + swept.keys >= budget as u64 {
                swept.more = true;
                break;
            }
            let before = swept;
            if let Err(error) = self.sweep_one(&run, &policy, &mut swept, calls) {
                // Earlier deletions are reported first; the next call fails at once.
                if before == Swept::default() {
                    return Err(error);
                }
                swept = Swept { more: true, ..before };
                break;
            }
        }
        if let Some(last) = self.all_runs().last() {
            self.index.prune(last.segment().header.number);
        }
        Ok(swept)
    }

    /// Starts a new segment if the last one is old. One that a clock ahead of this one began would
    /// not be old before that time has come. On a full disk there may be no room for another one: that
    /// ends no sweep, because what it deletes makes some.
    fn close_if_old(&self, calls: &mpsc::Sender<Call>) -> Result<(), LedgerError> {
        let age = millis(self.options.segment_age);
        let runs = self.all_runs();
        let created = runs.last().map(|run| run.segment().header.created_ms);
        let now = self.now();
        let old = |created: UnixMillis| created > now || created.saturating_add(age) <= now;
        if created.filter(|created| old(*created)).is_none() {
            return Ok(());
        }
        match ask(calls, Call::Roll) {
            Err(error) if !error.is_fatal() => {
                if let Some(others) = self.unrolled.admit() {
                    tracing::warn!(%error, others, "an old segment could not be closed");
                }
                Ok(())
            }
            closed => closed,
        }
    }

    fn sweep_one(
        &self,
        run: &Arc<IndexedRun>,
        policy: &Policy<'_>,
        swept: &mut Swept,
        calls: &mpsc::Sender<Call>,
    ) -> Result<(), LedgerError> {
        if run.scan().records == 0 && self.is_oldest(run) {
            // The segment was emptied while an older one existed.
            let number = run.segment.header.number;
            self.last_sweeps.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            ask(calls, |answer| Call::Swap(number, None, answer))?;
            self.set_retiring(None);
            return self.retire(run);
        }
        self.check_whole(&run.segment)?;
        let Some(found) = self.worth_it(run, policy)? else { return Ok(()) };
        let number = run.segment.header.number;
        self.last_sweeps.lock().unwrap_or_else(PoisonError::into_inner).insert(number, found);
        let written = self.rewrite(run, policy, swept, calls);
        if written.is_err() {
            self.last_sweeps.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        }
        written.map(drop)
    }

    /// Deletes the keys and held callbacks of a source; returns their number.
    pub(super) fn forget(
        &self,
        source: &SourceId,
        calls: &mpsc::Sender<Call>,
    ) -> Result<u64, LedgerError> {
        let held = self.held().forget(source);
        let policy = Policy::keeping_all(Some(source));
        let mut swept = Swept::default();
        for run in self.all_runs() {
            if let Run::Indexed(run) = run
                && mentions(&run.segment, source)?
            {
                self.rewrite(&run, &policy, &mut swept, calls)?;
            }
        }
        Ok(swept.keys + held)
    }

    /// Rewrites every closed segment that is sealed differently from this process; `progress` is
    /// called with the number done and the total.
    pub(super) fn reseal(
        &self,
        calls: &mpsc::Sender<Call>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(), LedgerError> {
        let policy = Policy::keeping_all(None);
        let key = self.options.keys.current().map(MasterKey::id);
        let others: Vec<Run> =
            self.all_runs().into_iter().filter(|run| run.segment().header.key != key).collect();
        for (done, run) in others.iter().enumerate() {
            progress(done, others.len());
            let Run::Indexed(run) = run else {
                let segment = run.segment();
                return Err(segment.damaged(0, "the segment is not indexed, so it is not sealed"));
            };
            self.rewrite(run, &policy, &mut Swept::default(), calls)?;
        }
        progress(others.len(), others.len());
        Ok(())
    }

    /// Whether anything can be removed from the segment, as far as known without reading it; and
    /// the state to remember if nothing can.
    fn worth_it(
        &self,
        run: &IndexedRun,
        policy: &Policy<'_>,
    ) -> Result<Option<LastSweep>, LedgerError> {
        let mut live = 0;
        let mut block = None;
        for at in 0..run.len() {
            let id = run.row(at, &mut block)?.id;
            live += usize::from(self.deliveries().is_live(id));
        }
        let befores = policy.keys.into_iter().flat_map(Retention::all_keys_before);
        let is_old = |(source, before): (&SourceId, UnixMillis)| {
            (run.keys() > 0 && run.newest_ms() < before).then(|| source.clone())
        };
        let old: Vec<SourceId> = befores.filter_map(is_old).collect();
        let keep_keys = policy.keys.map(|keys| keys.keep_keys.clone()).unwrap_or_default();
        // Once everything in it is old, another day makes no difference. While a part is, each moment
        // does: later segments may have the results of an event that expires now.
        let everything = !old.is_empty() && old.len() == keep_keys.len();
        let until = if everything {
            0
        } else if run.newest_ms() >= policy.events_before {
            policy.events_before
        } else {
            policy.events_before / DAY_MS
        };
        let decided = self.held().dead().get(&run.segment.header.number).copied().unwrap_or(0);
        let anything = live < run.len() || !old.is_empty() || run.notes_len() > 0 || decided > 0;
        let found = LastSweep { live, old, keep_keys, decided, until };
        let last = self.last_sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.get(&run.segment.header.number) == Some(&found);
        Ok(Some(found).filter(|_| anything && !known))
    }
}

impl<'p> Policy<'p> {
    /// Keeps everything except the keys of a source.
    fn keeping_all(forgotten: Option<&'p SourceId>) -> Self {
        let events_before = UnixMillis::MIN;
        Self { events_before, keys: None, forgotten, erased: None, erasure: None }
    }

    /// Keeps everything except the content of these events.
    pub(super) fn erasing(events: &'p BTreeSet<EventId>) -> Self {
        Self { erased: Some(events), ..Self::keeping_all(None) }
    }

    /// Keeps everything except the content of these events of a user, and of kept callbacks.
    pub(super) fn erasing_user(events: &'p BTreeSet<EventId>, erasure: &'p Erasure) -> Self {
        Self { erasure: Some(erasure), ..Self::erasing(events) }
    }

    /// Whether a closed segment has events, all of which have expired.
    fn has_expired(&self, run: &Run) -> bool {
        match run {
            Run::Indexed(run) => run.len() > 0 && run.newest_ms() < self.events_before,
            Run::Open(_) => false,
        }
    }

    fn erases(&self, event: EventId) -> bool {
        self.erased.is_some_and(|events| events.contains(&event))
    }

    fn erases_held(&self, held: &NewHeld) -> bool {
        self.erasure.is_some_and(|erasure| erasure.covers_event(&held.event))
    }
}

/// Whether a segment has keys or held callbacks of a source.
fn mentions(segment: &Segment, source: &SourceId) -> Result<bool, LedgerError> {
    let mut found = false;
    segment.scan(&mut |_, payload| {
        let of = match Record::read(payload) {
            Ok(Record::Held(held)) => held.event.source == *source,
            Ok(Record::Mark(mark)) => mark.source == *source,
            Ok(record) => record.keys().is_some_and(|head| head.source == source.as_str()),
            Err(_) => false,
        };
        found |= of;
        Ok(())
    })?;
    Ok(found)
}

/// Calls the committer from a thread that may block.
pub(super) fn ask<T>(
    calls: &mpsc::Sender<Call>,
    call: impl FnOnce(Answer<T>) -> Call,
) -> Result<T, LedgerError> {
    let (answer, answered) = oneshot::channel();
    let ended = || LedgerError::Fatal("the committer has ended".into());
    calls.send(call(answer)).map_err(|_| ended())?;
    answered.blocking_recv().unwrap_or_else(|_| Err(ended()))
}
