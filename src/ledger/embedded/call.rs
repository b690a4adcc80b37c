//! Calls to the committer. What can be prepared on the caller's thread is prepared there.

use tokio::sync::oneshot;

use super::commit_queue::HandOver;
use super::documents::Written;
use super::record::{Outcome, attempt_detail};
use super::run::Run;
use super::segment::Position;
use crate::ledger::{
    Accepted, Cursor, Decided, DedupeKey, Delivery, DeliveryState, DocumentChange, EventId, HeldId,
    HeldMark, HeldOrder, HoldOutcome, Holding, Imported, LedgerError, NewEvent, NewHeld, NodeId,
    Nonce, NonceUse, PastEvent, ReplayId, ReplayPage, Revision, Settled, Settlement, TargetId,
    portable,
};
use crate::sender::Reason;

/// Where the answer to a call goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, LedgerError>>;

/// A call to the committer.
pub(super) enum Call {
    /// A queue has events.
    Events(HandOver),
    Accept(Vec<NewEvent>, Answer<Vec<Accepted>>),
    Nonces(Vec<Nonce>, Answer<Vec<NonceUse>>),
    Settle(SettleCall, Answer<Vec<Settled>>),
    Replay(ReplayCall, Answer<ReplayPage>),
    Change(Vec<DocumentChange>, Answer<Revision>),
    Import(ImportCall, Answer<Imported>),
    Hold(Vec<Holding>, Answer<Vec<HoldOutcome>>),
    NoteReason(HeldId, Reason, Answer<()>),
    Decide(HeldOrder, Answer<Decided>),
    /// End the unsettled deliveries of these events; the answer is their number.
    End(Vec<EventId>, Answer<u64>),
    /// Start a new segment, so this one can be closed.
    Roll(Answer<()>),
    /// Write lazy records.
    Flush(Answer<()>),
    /// Use another run from now on, or none; the old segment stays readable.
    Swap(u32, Option<Run>, Answer<()>),
    /// Keys have moved.
    Move(Vec<Move>, Answer<()>),
}

/// A key that moves or is deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) key: DedupeKey,
    pub(super) from: Position,
    pub(super) to: Option<Position>,
}

/// Results with their attempts, encoded.
pub(super) struct SettleCall {
    pub(super) who: NodeId,
    pub(super) settlements: Vec<(Settlement, Vec<u8>)>,
}

/// Events to replay, already selected but for the states of their deliveries.
pub(super) struct ReplayCall {
    pub(super) id: ReplayId,
    pub(super) chosen: Vec<(EventId, Vec<TargetId>)>,
    /// Only deliveries in this state.
    pub(super) only: Option<DeliveryState>,
    /// Where the next page begins.
    pub(super) next: Option<Cursor>,
}

/// An export of another ledger, encoded as far as possible.
pub(super) struct ImportCall {
    pub(super) items: Vec<ImportItem>,
    /// The maximum of bytes and number of the records.
    pub(super) size: usize,
    pub(super) records: usize,
}

/// One item of an [`ImportCall`].
pub(super) enum ImportItem {
    Event(Box<EventImport>),
    Past(PastEvent),
    Document(Written),
    Nonce(Nonce),
    Held(Box<NewHeld>),
    Mark(HeldMark),
}

/// An event with the states of its deliveries.
pub(super) struct EventImport {
    pub(super) event: NewEvent,
    pub(super) deliveries: Vec<DeliveryImport>,
}

/// The state of a delivery.
pub(super) struct DeliveryImport {
    pub(super) target: TargetId,
    pub(super) outcome: Outcome,
    pub(super) attempt: u32,
    /// Attempts, encoded.
    pub(super) attempts: Vec<Vec<u8>>,
}

impl SettleCall {
    pub(super) fn new(who: &NodeId, settlements: &[Settlement]) -> Self {
        let encoded = settlements
            .iter()
            .map(|one| (one.clone(), attempt_detail(one.event, &one.target, &one.attempt)));
        Self { who: who.clone(), settlements: encoded.collect() }
    }

    /// The approximate size of its records in bytes.
    pub(super) fn size(&self) -> usize {
        self.settlements.iter().map(|(_, detail)| detail.len() + 16).sum()
    }
}

impl ReplayCall {
    /// The approximate size of its records in bytes.
    pub(super) fn size(&self) -> usize {
        let names = |targets: &[TargetId]| -> usize {
            targets.iter().map(|target| target.as_str().len() + 5).sum()
        };
        self.chosen.iter().map(|(_, targets)| 48 + names(targets)).sum()
    }
}

impl ImportCall {
    /// Encodes items.
    pub(super) fn new(items: Vec<portable::Item>) -> Self {
        let mut call = Self { items: Vec::with_capacity(items.len()), size: 0, records: 0 };
        for item in items {
            call.size += item.size();
            call.records += 1;
            call.items.push(match item {
                portable::Item::Document { kind, document } => {
                    ImportItem::Document(Written::imported(kind, document))
                }
                portable::Item::Event { event, deliveries } => {
                    call.records +=
                        deliveries.iter().map(|one| 1 + one.attempts.len()).sum::<usize>();
                    ImportItem::Event(Box::new(EventImport::new(event, deliveries)))
                }
                portable::Item::Past(past) => ImportItem::Past(past),
                portable::Item::Nonce(nonce) => ImportItem::Nonce(nonce),
                portable::Item::Held(held) => ImportItem::Held(held),
                portable::Item::Mark(mark) => ImportItem::Mark(mark),
            });
        }
        call
    }
}

impl ImportCall {
    /// Whether deduplication keys are in it.
    pub(super) fn has_keys(&self) -> bool {
        self.items.iter().any(|item| matches!(item, ImportItem::Event(_) | ImportItem::Past(_)))
    }
}

impl EventImport {
    fn new(event: NewEvent, deliveries: Vec<Delivery>) -> Self {
        let id = event.id;
        let deliveries = deliveries.into_iter().map(|delivery| DeliveryImport {
            outcome: match delivery.state {
                DeliveryState::Pending => Outcome::Retry { due_ms: delivery.due_ms.unwrap_or(0) },
                DeliveryState::Dead => Outcome::Dead,
                DeliveryState::Done => Outcome::Done,
            },
            attempt: delivery.attempt,
            attempts: {
                let detail = |attempt| attempt_detail(id, &delivery.target, attempt);
                delivery.attempts.iter().map(detail).collect()
            },
            target: delivery.target,
        });
        Self { deliveries: deliveries.collect(), event }
    }
}

/// Splits items into batches that each fit into a segment.
pub(super) fn import_batches(
    items: Vec<portable::Item>,
    max: usize,
) -> Result<Vec<Vec<portable::Item>>, LedgerError> {
    let mut batches: Vec<Vec<portable::Item>> = Vec::new();
    let mut filled = usize::MAX;
    for item in items {
        let size = item.stored_size();
        if size > max {
            return Err(LedgerError::TooLarge { size, max });
        }
        filled = filled.saturating_add(size);
        match batches.last_mut().filter(|_| filled <= max) {
            Some(batch) => batch.push(item),
            None => {
                filled = size;
                batches.push(vec![item]);
            }
        }
    }
    Ok(batches)
}
