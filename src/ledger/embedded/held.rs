//! Held callbacks: waiting and decided ones, and their positions in the journal.

use std::collections::{BTreeMap, HashMap};

use super::core::Core;
use super::record::Record;
use super::segment::Position;
use crate::clock::UnixMillis;
use crate::ledger::holdings::Holdings;
use crate::ledger::{
    Cursor, HeldBounds, HeldId, HeldMark, HeldOne, HeldPage, HeldQuery, HeldRetention, HeldStats,
    HoldOutcome, LedgerError, NewHeld, SourceId,
};
use crate::sender::Reason;

/// The held callbacks, all in memory except their content.
#[derive(Debug, Default)]
pub(super) struct HeldTable {
    holdings: Holdings<Place>,
    /// The records of callbacks, also of decided ones: retention removes them.
    records: BTreeMap<HeldId, Position>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: Position,
    /// Whether its record is synced.
    synced: bool,
}

impl HeldTable {
    /// Adds a callback that is on disk.
    pub(super) fn load(&mut self, held: &NewHeld, at: Position) {
        self.records.insert(held.id, at);
        self.holdings.insert(held, Place { at, synced: true });
    }

    /// Adds a callback of the frame: visible after [`HeldTable::synced`].
    pub(super) fn insert(&mut self, held: &NewHeld, at: Position) {
        self.records.insert(held.id, at);
        self.holdings.insert(held, Place { at, synced: false });
    }

    pub(super) fn synced(&mut self, id: HeldId) {
        if let Some(place) = self.holdings.waiting_mut(id) {
            place.synced = true;
        }
    }

    /// As [`Holdings::judge`].
    pub(super) fn judge(&self, held: &NewHeld, bounds: HeldBounds) -> Option<HoldOutcome> {
        self.holdings.judge(held, bounds)
    }

    /// Whether this callback or its variant is known.
    pub(super) fn knows(&self, held: &NewHeld) -> bool {
        self.holdings.knows(&held.variant)
    }

    /// As [`Holdings::note_reason`].
    pub(super) fn note_reason(&mut self, id: HeldId, reason: Reason) -> bool {
        self.holdings.note_reason(id, reason)
    }

    /// The latest known reason for which a waiting callback was rejected.
    pub(super) fn reason(&self, id: HeldId) -> Option<Reason> {
        self.holdings.reason(id)
    }

    /// As [`Holdings::expire`].
    pub(super) fn expire(&mut self, now_ms: UnixMillis, policy: &HeldRetention) -> u64 {
        self.holdings.expire(now_ms, policy)
    }

    /// Whether the mark of one is needed: as long as it counts, and as long as the record of the
    /// callback is there, which would be read again without it.
    pub(super) fn needs_mark(&self, id: HeldId) -> bool {
        self.holdings.mark(id).is_some() || self.records.contains_key(&id)
    }

    pub(super) fn decide(&mut self, mark: HeldMark) {
        self.holdings.decide(mark);
    }

    pub(super) fn mark(&self, id: HeldId) -> Option<&HeldMark> {
        self.holdings.mark(id)
    }

    /// Whether the callback waits.
    pub(super) fn is_waiting(&self, id: HeldId) -> bool {
        self.holdings.waiting(id).is_some()
    }

    /// The position of a waiting, visible callback.
    fn place(&self, id: HeldId) -> Option<Position> {
        self.holdings.waiting(id).filter(|place| place.synced).map(|place| place.at)
    }

    /// As [`Holdings::remove`].
    pub(super) fn remove(&mut self, id: HeldId) {
        self.holdings.remove(id);
    }

    pub(super) fn stats(&self) -> Vec<HeldStats> {
        self.holdings.stats()
    }

    pub(super) fn forget(&mut self, source: &SourceId) -> u64 {
        self.holdings.forget(source)
    }

    /// The number of records of decided callbacks in each segment.
    pub(super) fn dead(&self) -> HashMap<u32, usize> {
        let mut dead = HashMap::new();
        for (_, at) in self.records.iter().filter(|(id, _)| !self.is_waiting(**id)) {
            *dead.entry(at.segment()).or_default() += 1;
        }
        dead
    }

    /// Updates moved and removed records.
    pub(super) fn moved(&mut self, moves: &[(HeldId, Option<Position>)]) {
        for (id, to) in moves {
            match to {
                Some(to) => {
                    self.records.insert(*id, *to);
                    if let Some(place) = self.holdings.waiting_mut(*id) {
                        place.at = *to;
                    }
                }
                None => {
                    self.records.remove(id);
                }
            }
        }
    }
}

impl Core {
    /// A page of waiting callbacks, newest first.
    pub(super) fn held_page(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<HeldPage, LedgerError> {
        let before = cursor.map(Cursor::held).transpose()?;
        let limit = limit.max(1);
        let ids: Vec<HeldId> = {
            let table = self.held();
            let found = table.holdings.find(query, before).filter(|(_, place)| place.synced);
            found.map(|(id, _)| id).take(limit.saturating_add(1)).collect()
        };
        let mut page = HeldPage::default();
        for id in ids.iter().take(limit) {
            // A callback that was decided meanwhile is omitted.
            page.held.extend(self.read_held(*id)?);
        }
        let last = ids.get(limit - 1).filter(|_| ids.len() > limit);
        page.next = last.map(|id| Cursor::behind_held(*id));
        Ok(page)
    }

    /// A held callback, or its mark.
    pub(super) fn held_one(&self, id: HeldId) -> Result<Option<HeldOne>, LedgerError> {
        if let Some(held) = self.read_held(id)? {
            return Ok(Some(HeldOne::Waiting(Box::new(held))));
        }
        Ok(self.held().mark(id).cloned().map(HeldOne::Decided))
    }

    /// The content of a waiting callback. Retention may move its record meanwhile.
    pub(super) fn read_held(&self, id: HeldId) -> Result<Option<NewHeld>, LedgerError> {
        loop {
            let Some(at) = self.held().place(id) else { return Ok(None) };
            let read = self.segment_at(at).and_then(|segment| {
                let payload = segment.read(at.offset())?;
                match Record::read(&payload) {
                    Ok(Record::Held(held)) => {
                        let reason = self.held().reason(id).or(held.reason);
                        Ok(NewHeld { reason, ..*held })
                    }
                    _ => Err(segment.damaged(at.offset(), "no held callback is here")),
                }
            });
            match read {
                Ok(held) => return Ok(Some(held)),
                Err(_) if self.held().place(id) != Some(at) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
