//! Deliveries that end without a settlement: their event is erased.

use super::Committer;
use crate::ledger::embedded::record::{self, Outcome, StateRecord};
use crate::ledger::embedded::tables::{Note, half_id};
use crate::ledger::{EventId, LedgerError, TargetId};

impl Committer {
    /// Ends the unsettled deliveries of `events`; returns their number.
    pub(super) fn end_deliveries(&mut self, events: &[EventId]) -> Result<u64, LedgerError> {
        let live: Vec<(EventId, TargetId)> = {
            let deliveries = self.core.deliveries();
            let of = |event: &EventId| {
                let event = *event;
                deliveries.live_targets(event).into_iter().map(move |target| (event, target))
            };
            events.iter().flat_map(of).collect()
        };
        let size = live.iter().map(|(_, target)| 32 + target.as_str().len()).sum();
        self.make_room(size, live.len())?;
        for (event, target) in &live {
            let (outcome, target) = (Outcome::Done, target.as_str());
            let state = StateRecord { outcome, attempt: 0, event: *event, target };
            let at = self.journal.frame.append(|to| record::put_state(to, &state));
            self.staged.notes.push(Note { event: half_id(*event), offset: at.offset() });
        }
        // At once, not after the sync: the result of an attempt in flight, written after these
        // records, must not count. If the sync fails, nothing is leased either.
        let mut deliveries = self.core.deliveries();
        live.iter().for_each(|(event, target)| deliveries.end(*event, target));
        Ok(live.len() as u64)
    }
}
