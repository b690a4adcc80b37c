//! Held callbacks, and forgetting a source.

use std::convert::Infallible;

use super::Model;
use crate::ledger::{
    Cursor, Decided, Decision, DedupeKey, HeldBounds, HeldId, HeldOne, HeldOrder, HeldPage,
    HeldQuery, HoldOutcome, LedgerError, NewHeld, SourceId,
};
use crate::sender::Reason;

impl Model {
    pub(in crate::ledger::memory) fn hold(
        &mut self,
        held: &NewHeld,
        bounds: HeldBounds,
    ) -> HoldOutcome {
        if let Some(outcome) = self.held.judge(held, bounds) {
            return outcome;
        }
        self.held.insert(held, held.clone());
        HoldOutcome::Held(held.id)
    }

    pub(in crate::ledger::memory) fn note_reason(&mut self, id: HeldId, reason: Reason) {
        self.held.note_reason(id, reason);
        self.held.waiting_mut(id).into_iter().for_each(|held| held.reason = Some(reason));
    }

    pub(in crate::ledger::memory) fn held(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<HeldPage, LedgerError> {
        let before = cursor.map(Cursor::held).transpose()?;
        let mut found = self.held.find(query, before);
        let held: Vec<NewHeld> =
            found.by_ref().take(limit.max(1)).map(|(_, held)| held.clone()).collect();
        let more = found.next().is_some();
        let next = held.last().filter(|_| more).map(|last| Cursor::behind_held(last.id));
        Ok(HeldPage { held, next })
    }

    pub(in crate::ledger::memory) fn held_one(&self, id: HeldId) -> Option<HeldOne> {
        let waiting = self.held.waiting(id).map(|held| HeldOne::Waiting(Box::new(held.clone())));
        waiting.or_else(|| self.held.mark(id).cloned().map(HeldOne::Decided))
    }

    pub(in crate::ledger::memory) fn decide(&mut self, order: &HeldOrder) -> Decided {
        if let Some(mark) = self.held.mark(order.id) {
            return Decided::Already(mark.clone());
        }
        let Some(held) = self.held.waiting(order.id).cloned() else { return Decided::Unknown };
        let mark = held.mark(order);
        self.held.decide(mark.clone());
        if order.decision == Decision::Release {
            let unknown = |key: &DedupeKey| Ok::<_, Infallible>(!self.keys.contains_key(key));
            let Ok(event) = held.released(unknown);
            // An import may have brought the event without the decision.
            if !self.events.contains_key(&event.id) {
                self.record(&event);
            }
        }
        Decided::Done(mark)
    }

    pub(in crate::ledger::memory) fn forget(&mut self, source: &SourceId) -> u64 {
        let keys = self.keys.len();
        self.keys.retain(|_, known| known.0.source != *source);
        for stored in self.events.values_mut().filter(|stored| stored.event.source == *source) {
            stored.event.keys = crate::ledger::EventKeys::default();
        }
        (keys - self.keys.len()) as u64 + self.held.forget(source)
    }
}
