//! Holding callbacks, and deciding on them.

use super::Committer;
use crate::ledger::embedded::record::{self, StateRecord};
use crate::ledger::embedded::segment::Position;
use crate::ledger::embedded::tables::{Note, half_id};
use crate::ledger::{
    Decided, Decision, HeldBounds, HeldId, HeldMark, HeldOrder, HoldOutcome, Holding, LedgerError,
    NewEvent, NewHeld,
};
use crate::sender::Reason;

/// Maximum of bytes that a release adds to an event's body.
const RELEASED_BYTES: usize = 64;
/// Maximum size of the record of another reason.
const REASON_BYTES: usize = 64;
/// Maximum size of the record of a delivery, without the destination's name.
const STATE_BYTES: usize = 40;

impl Committer {
    /// Holds the callbacks of a batch, each unless it is known or a bound is reached.
    pub(super) fn hold_all(&mut self, batch: &[Holding]) -> Result<Vec<HoldOutcome>, LedgerError> {
        batch.iter().map(|one| self.hold(&one.held, one.bounds)).collect()
    }

    /// Notes why a kept callback would now be rejected.
    pub(super) fn note_reason(&mut self, id: HeldId, reason: Reason) -> Result<(), LedgerError> {
        if !self.core.held().is_waiting(id) {
            return Ok(());
        }
        self.make_room(REASON_BYTES, 1)?;
        if self.core.held().note_reason(id, reason) {
            self.journal.frame.append(|to| record::put_reason(to, id, reason));
        }
        Ok(())
    }

    /// Holds a callback, unless it is known or a bound is reached.
    pub(super) fn hold(
        &mut self,
        held: &NewHeld,
        bounds: HeldBounds,
    ) -> Result<HoldOutcome, LedgerError> {
        self.make_room(held.size(), 1)?;
        if let Some(outcome) = self.core.held().judge(held, bounds) {
            return Ok(outcome);
        }
        self.add_held(held);
        Ok(HoldOutcome::Held(held.id))
    }

    /// Adds a held callback. It is known from now on and visible after the sync. If the sync fails,
    /// nothing more is answered.
    pub(super) fn add_held(&mut self, held: &NewHeld) -> Position {
        let at = self.journal.frame.append(|to| record::put_held(to, held));
        self.core.held().insert(held, at);
        self.staged.held.push(held.id);
        at
    }

    pub(super) fn add_mark(&mut self, mark: HeldMark) {
        self.journal.frame.append(|to| record::put_mark(to, &mark));
        self.core.held().decide(mark);
    }

    /// Decides on a held callback, in one frame: a crash leaves both the event and the mark, or
    /// neither.
    pub(super) fn decide(&mut self, order: &HeldOrder) -> Result<Decided, LedgerError> {
        let Some(held) = self.core.read_held(order.id)? else {
            let mark = self.core.held().mark(order.id).cloned();
            return Ok(mark.map_or(Decided::Unknown, Decided::Already));
        };
        let mark = held.mark(order);
        let targets = held.event.targets.len();
        // Each name is in the event and in a separate record.
        let size = 2 * held.event.size() + RELEASED_BYTES + targets * STATE_BYTES + mark.size();
        self.make_room(size - held.event.body.len(), 2 + targets)?;
        // An import may have brought the event without the decision.
        if order.decision == Decision::Release && !self.recorded_events().has(held.event.id)? {
            let event = held.released(|key| self.find(key).map(|first| first.is_none()))?;
            self.release(event);
        }
        self.add_mark(mark.clone());
        Ok(Decided::Done(mark))
    }

    /// Adds a released event. Its deliveries are due now, not from its receipt.
    fn release(&mut self, event: NewEvent) {
        self.add(&event);
        let outcome = record::Outcome::Retry { due_ms: self.core.now() };
        for target in &event.targets {
            let state =
                StateRecord { outcome, attempt: 0, event: event.id, target: target.as_str() };
            let at = self.journal.frame.append(|to| record::put_state(to, &state));
            self.staged.notes.push(Note { event: half_id(event.id), offset: at.offset() });
        }
        if !event.targets.is_empty() {
            self.staged.fresh.push((event.id, event.targets, event.body));
        }
    }
}
