//! A callback with several events: all of them are good or none is recorded, and one answer tells
//! the worst of their outcomes.
//!
//! The events are recorded side by side, each as if it had come alone. If some cannot be recorded,
//! the sender receives its "try later". On its retry those that are known are duplicates, and the
//! others are recorded. So nothing is lost and nothing counts twice, whatever happens between.

use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join_all;

use super::callback_log::CallbackRecord;
use super::judging::{
    Decision, EarlyReply, Readings, Slot, end_unrecorded, judge, note_reply, verified,
};
use super::received::Received;
use super::reply::{Proof, Reply, Unacknowledged, salt};
use crate::ledger::{BatchedLedger, EventId};
use crate::sender::{Callback, Outcome, Resolved};

/// The events of a verified callback.
pub(super) struct Several<'p> {
    whole: &'p Callback<'p>,
    received: &'p Received,
    parts: Vec<Part<'p>>,
}

/// One of the events.
pub(super) struct Part<'p> {
    pub callback: Callback<'p>,
    pub id: EventId,
    pub resolved: Box<Resolved>,
    pub readings: Readings,
}

impl<'p> Several<'p> {
    /// The events whose bodies are `bodies`, verified and resolved. What is only a test is left
    /// out.
    ///
    /// # Errors
    /// What becomes of the callback, if one of its events is not good.
    pub(super) fn judge(
        whole: &'p Callback<'p>,
        received: &'p Received,
        bodies: &'p [Bytes],
    ) -> Result<Self, EarlyReply> {
        let mut parts = Vec::with_capacity(bodies.len());
        for body in bodies {
            let id = EventId::new(received.at_ms());
            parts.extend(Part::judge(whole, received, body, id)?);
        }
        Ok(Self { whole, received, parts })
    }

    /// Records the events, and answers the callback.
    pub(super) async fn record(
        mut self,
        slot: &mut Slot,
        ledger: &BatchedLedger,
        judged: Instant,
    ) -> Reply {
        let Self { whole, received, .. } = self;
        if self.parts.is_empty() {
            return end_unrecorded(
                slot,
                whole,
                received,
                EarlyReply::Unacknowledged(Unacknowledged::Test),
            );
        }
        let mut slots = slots(slot, self.parts.len());
        let recording = self.parts.drain(..).zip(&mut slots).map(|(part, slot)| async move {
            let Part { callback, id, resolved, readings } = part;
            let verified = verified(id, &callback, received, resolved, judged);
            let proof = verified.record_part(slot, ledger, readings).await;
            if let (Some(record), Err(outcome)) = (slot, proof) {
                record.set_outcome(outcome.outcome());
            }
            proof
        });
        let proofs = join_all(recording).await;
        // An event that could not be recorded outweighs all others.
        let worst = proofs.into_iter().max_by_key(|proof| weight(outcome_of(proof)));
        let reply = match worst.unwrap_or(Err(Unacknowledged::Unavailable)) {
            Ok(proof) => {
                Reply::acknowledge(whole.draft_reply(proof.outcome(), None, &salt), &proof)
            }
            Err(outcome) => Reply::unacknowledged(whole, outcome, None),
        };
        slots.iter_mut().fold(reply, |reply, slot| note_reply(slot, reply))
    }
}

impl<'p> Part<'p> {
    /// The part of `whole` with that body; `None` if it is only a test.
    ///
    /// # Errors
    /// What becomes of the callback, if it is not good.
    pub(super) fn judge(
        whole: &Callback<'p>,
        received: &'p Received,
        body: &'p Bytes,
        id: EventId,
    ) -> Result<Option<Self>, EarlyReply> {
        let recipe = &received.route().source.recipe;
        let mut callback = recipe.read_part(whole, body);
        let (id, resolved, readings) = match judge(&mut callback, || id) {
            Decision::Event(id, resolved) => (id, resolved, Readings::One),
            Decision::Ambiguous(id, resolved) => (id, resolved, Readings::Many),
            Decision::Early(EarlyReply::Unacknowledged(Unacknowledged::Test))
            | Decision::AddressCheck => {
                return Ok(None);
            }
            Decision::Early(early) => return Err(early),
            // A part has one element, so it is one event.
            Decision::Several(_) => {
                return Err(EarlyReply::Unacknowledged(Unacknowledged::Unavailable));
            }
        };
        Ok(Some(Self { callback, id, resolved, readings }))
    }
}

/// A record for each event: each is counted and logged like a callback of its own.
fn slots(first: &mut Slot, count: usize) -> Vec<Slot> {
    let another = |record: &CallbackRecord| {
        CallbackRecord::new(record.route.clone(), record.client, record.began, record.at_ms)
    };
    let others: Vec<Slot> = (1..count).map(|_| first.as_ref().map(another)).collect();
    std::iter::once(first.take()).chain(others).collect()
}

fn outcome_of(proof: &Result<Proof, Unacknowledged>) -> Outcome {
    proof.map_or_else(Unacknowledged::outcome, |proof| proof.outcome())
}

/// The order of outcomes in one answer: what its sender has to do something about comes first.
const fn weight(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Unavailable => 5,
        Outcome::Conflict | Outcome::Ambiguous => 4,
        Outcome::Accepted => 3,
        Outcome::Duplicate => 2,
        _ => 1,
    }
}
