//! Erasure: closed segments are rewritten without the content of a user's events, or of a source's
//! events that are kept for a shorter time.
//!
//! The events expire early: their keys stay, as those of an event that retention removed. Of a source,
//! an event with an unsettled delivery stays. Of an erased user, deliveries are suspended first, so no
//! attempt is recorded that the rewrite would miss. They end, durably, when the new form of their
//! segment is complete: an erasure that has no space leaves them as they were, and a crash delivers
//! nothing that is gone.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, MutexGuard, PoisonError, mpsc};

use super::call::Call;
use super::core::Core;
use super::deliveries::Suspended;
use super::record::Record;
use super::run::Run;
use super::segment::Segment;
use super::sweep::Policy;
use super::{Embedded, whole};
use crate::clock::{UnixMillis, millis};
use crate::ledger::{EarlyExpiry, Erased, Erasure, EventId, LedgerError, SourceId, Swept};

/// Parts of the time that a source keeps its events: a segment that is expiring is rewritten at most
/// once in each.
const STEPS: u32 = 8;

/// How long deliveries are suspended at most: longer than a large journal is read and written.
const SUSPENDED_MS: i64 = 3_600_000;

/// Deliveries of events that are being erased. Those that have not ended go on when it is dropped.
struct Suspension {
    core: Arc<Core>,
    suspended: Vec<Suspended>,
}

impl Suspension {
    fn begin(core: &Arc<Core>, events: &BTreeSet<EventId>) -> Self {
        let until_ms = core.now().saturating_add(SUSPENDED_MS);
        let suspended = core.deliveries().suspend(events, until_ms);
        Self { core: Arc::clone(core), suspended }
    }
}

impl Drop for Suspension {
    fn drop(&mut self) {
        self.core.deliveries().resume(&self.suspended);
    }
}

impl Embedded {
    /// As [`Ledger::erase`](crate::ledger::Ledger::erase).
    pub(super) async fn erase_user(&self, erasure: &Erasure) -> Result<Erased, LedgerError> {
        let (own, erasure) = (self.clone(), erasure.clone());
        whole(async move { own.erase_locked(erasure).await }).await
    }

    async fn erase_locked(&self, erasure: Erasure) -> Result<Erased, LedgerError> {
        self.core().poison.check()?;
        let lock = self.lock_rewrites().await;
        let Some(calls) = self.shared.calls.clone() else { return Ok(Erased::default()) };
        let wanted = erasure.clone();
        let events = self.read(move |core| core.covered_by(&wanted)).await?;
        // The deliveries of an event that was written a moment ago exist after this.
        self.call(Call::Flush).await?;
        let suspension = Suspension::begin(self.core(), &events);
        self.call(Call::Roll).await?;
        let own = self.clone();
        self.read_in(lock, move |core| {
            own.wait_until_indexed()?;
            let erased = core.erase(&erasure, &events, &calls);
            drop(suspension);
            erased
        })
        .await
    }

    /// As [`Ledger::expire_early`](crate::ledger::Ledger::expire_early).
    pub(super) async fn expire_source(
        &self,
        early: &EarlyExpiry,
        budget: usize,
    ) -> Result<Swept, LedgerError> {
        self.core().poison.check()?;
        let lock = self.lock_rewrites().await;
        let Some(calls) = self.shared.calls.clone() else { return Ok(Swept::default()) };
        let early = early.clone();
        self.read_in(lock, move |core| core.expire_early(&early, budget, &calls)).await
    }
}

impl Core {
    /// The events to erase.
    pub(super) fn covered_by(&self, erasure: &Erasure) -> Result<BTreeSet<EventId>, LedgerError> {
        let mut events = BTreeSet::new();
        for run in self.all_runs() {
            scan(run.segment(), &mut |record| {
                if let Record::Event(event) = record
                    && erasure.covers(event.head.source, event.user)
                {
                    events.insert(event.head.id);
                }
            })?;
        }
        Ok(events)
    }

    /// Erases `events`, whose deliveries are suspended, and kept callbacks.
    pub(super) fn erase(
        &self,
        erasure: &Erasure,
        events: &BTreeSet<EventId>,
        calls: &mpsc::Sender<Call>,
    ) -> Result<Erased, LedgerError> {
        let policy = Policy::erasing_user(events, erasure);
        let mut erased = Erased { events: events.len() as u64, ..Erased::default() };
        for run in self.all_runs() {
            let Run::Indexed(run) = run else { continue };
            if is_touched(&run.segment, erasure, events)? {
                let rewritten = self.rewrite(&run, &policy, &mut Swept::default(), calls)?;
                erased.deliveries += rewritten.deliveries;
                erased.held += rewritten.held;
            }
        }
        if let Some(last) = self.all_runs().last() {
            self.index.prune(last.segment().header.number);
        }
        Ok(erased)
    }

    /// Deletes settled events of a source that are older than it keeps them. A segment is read once
    /// after each start, and again when a part of the time has passed.
    pub(super) fn expire_early(
        &self,
        early: &EarlyExpiry,
        budget: usize,
        calls: &mpsc::Sender<Call>,
    ) -> Result<Swept, LedgerError> {
        let counted = EarlyExpiry { now_ms: self.counted_now(early.now_ms), ..early.clone() };
        let before = counted.before();
        let step = millis(early.keep / STEPS);
        let mut swept = Swept::default();
        for run in self.all_runs() {
            let Run::Indexed(run) = run else { continue };
            let number = run.segment.header.number;
            let key = (number, early.source.clone());
            let done = self.expired_early().get(&key).copied().unwrap_or(UnixMillis::MIN);
            if done > run.newest_ms() || before < done.saturating_add(step) {
                continue;
            }
            if swept.events >= budget as u64 {
                swept.more = true;
                break;
            }
            let events = self.settled_before(&run.segment, &early.source, before)?;
            if !events.is_empty() {
                self.rewrite(&run, &Policy::erasing(&events), &mut swept, calls)?;
            }
            self.expired_early().insert(key, before);
        }
        let numbers: BTreeSet<u32> =
            self.all_runs().iter().map(|run| run.segment().header.number).collect();
        self.expired_early().retain(|(number, _), _| numbers.contains(number));
        Ok(swept)
    }

    /// The time up to which the events of a source in a segment are deleted.
    fn expired_early(&self) -> MutexGuard<'_, HashMap<(u32, SourceId), UnixMillis>> {
        self.expired_early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settled_before(
        &self,
        segment: &Segment,
        source: &SourceId,
        before: UnixMillis,
    ) -> Result<BTreeSet<EventId>, LedgerError> {
        let mut events = BTreeSet::new();
        scan(segment, &mut |record| {
            if let Record::Event(event) = record
                && event.head.source == source.as_str()
                && event.head.received_ms < before
                && !self.deliveries().is_live(event.head.id)
            {
                events.insert(event.head.id);
            }
        })?;
        Ok(events)
    }
}

/// Whether a segment has data that is to be erased.
fn is_touched(
    segment: &Segment,
    erasure: &Erasure,
    events: &BTreeSet<EventId>,
) -> Result<bool, LedgerError> {
    let mut found = false;
    scan(segment, &mut |record| {
        found |= match record {
            Record::Event(event) => events.contains(&event.head.id),
            Record::Attempt(attempt) => events.contains(&attempt.event),
            Record::Replay(replay) => events.contains(&replay.event),
            Record::State(state) => events.contains(&state.event),
            // Also of a decided one, whose content is still there.
            Record::Held(held) => erasure.covers_event(&held.event),
            Record::Keys(_)
            | Record::Document(_)
            | Record::Nonce(_)
            | Record::Mark(_)
            | Record::Reason(..) => false,
        };
    })?;
    Ok(found)
}

fn scan(segment: &Segment, visit: &mut dyn FnMut(&Record<'_>)) -> Result<(), LedgerError> {
    segment.scan(&mut |offset, payload| {
        let record = Record::read(payload);
        let record =
            record.map_err(|_| segment.damaged(offset, "the record is of no known form"))?;
        visit(&record);
        Ok(())
    })?;
    Ok(())
}
