//! What callers hand to the committer. As much as possible is prepared on the caller's thread:
//! payloads are encoded and texts hashed before the call crosses over.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::documents::Written;
use super::record::{self, Outcome, attempt_detail};
use super::run::Run;
use super::segment::Position;
use super::tables::{EventRow, FullRow, hash, tag};
use crate::ledger::{
    Accepted, DedupeKey, Delivery, DeliveryState, DocumentChange, EventId, Imported, LedgerError,
    NewEvent, NodeId, Nonce, NonceUse, PastEvent, ReplayId, ReplayPage, Revision, Settled,
    Settlement, TargetId, portable, seal,
};

/// Where the answer to a call goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, LedgerError>>;

/// A call to the committer.
pub(super) enum Call {
    Accept(AcceptCall, Answer<Vec<Accepted>>),
    Nonces(Vec<Nonce>, Answer<Vec<NonceUse>>),
    Settle(SettleCall, Answer<Vec<Settled>>),
    Replay(ReplayCall, Answer<ReplayPage>),
    Change(DocumentChange, Answer<Revision>),
    Import(ImportCall, Answer<Imported>),
    /// Go on in a new segment, so that this one can be closed.
    Roll(Answer<()>),
    /// Write what is lazy.
    Flush(Answer<()>),
    /// Read from another run, or from none, from now on; the old segment is kept at hand.
    Swap(u32, Option<Run>, Answer<()>),
    /// Keys are elsewhere now.
    Move(Vec<Move>, Answer<()>),
}

/// A key that moves, or that is forgotten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) key: DedupeKey,
    pub(super) from: Position,
    pub(super) to: Option<Position>,
}

/// Events, encoded.
pub(super) struct AcceptCall {
    pub(super) items: Vec<Item>,
    pub(super) payloads: Vec<u8>,
}

/// One event of an [`AcceptCall`].
pub(super) struct Item {
    pub(super) id: EventId,
    pub(super) keys: SmallVec<[DedupeKey; 2]>,
    pub(super) payload: Range<usize>,
    pub(super) row: FullRow,
    pub(super) targets: SmallVec<[TargetId; 2]>,
    /// Kept for the first attempt where there are targets.
    pub(super) body: Bytes,
}

/// Verdicts with their attempts, encoded.
pub(super) struct SettleCall {
    pub(super) who: NodeId,
    pub(super) settlements: Vec<(Settlement, Vec<u8>)>,
}

/// Events to be delivered again, chosen already.
pub(super) struct ReplayCall {
    pub(super) id: ReplayId,
    pub(super) chosen: Vec<(EventId, Vec<TargetId>)>,
    /// What to answer if all goes well.
    pub(super) page: ReplayPage,
}

/// What another ledger exported, encoded as far as it can be.
pub(super) struct ImportCall {
    pub(super) items: Vec<ImportItem>,
    /// Bytes and count of the records, at most.
    pub(super) size: usize,
    pub(super) records: usize,
}

/// One item of an [`ImportCall`].
pub(super) enum ImportItem {
    Event(Box<EventImport>),
    Past(PastEvent),
    Document(Written),
    Nonce(Nonce),
}

/// An event with how far its deliveries are.
pub(super) struct EventImport {
    pub(super) item: Item,
    pub(super) payload: Vec<u8>,
    pub(super) deliveries: Vec<DeliveryImport>,
}

/// How far a delivery is.
pub(super) struct DeliveryImport {
    pub(super) target: TargetId,
    pub(super) outcome: Outcome,
    pub(super) attempt: u32,
    /// Attempts, encoded.
    pub(super) attempts: Vec<Vec<u8>>,
}

impl AcceptCall {
    /// Encodes a batch.
    pub(super) fn new(batch: &[NewEvent], payload_max: usize) -> Result<Self, LedgerError> {
        let size: usize = batch.iter().map(NewEvent::size).sum();
        let mut call =
            Self { items: Vec::with_capacity(batch.len()), payloads: Vec::with_capacity(size) };
        for event in batch {
            let start = call.payloads.len();
            record::put_event(&mut call.payloads, event);
            call.items.push(Item::new(event, start..call.payloads.len()));
        }
        let size = call.payloads.len() + (8 + seal::OVERHEAD) * batch.len();
        if size > payload_max {
            return Err(LedgerError::TooLarge { size, max: payload_max });
        }
        Ok(call)
    }
}

impl Item {
    fn new(event: &NewEvent, payload: Range<usize>) -> Self {
        let row = EventRow { id: event.id, offset: 0, tag: tag(&event.source, event.test) };
        let transaction = hash(&event.transaction);
        let user = event.user.as_deref().map(hash);
        let has_targets = !event.targets.is_empty();
        Self {
            id: event.id,
            keys: record::distinct_keys(event),
            payload,
            row: FullRow { row, transaction, user },
            targets: event.targets.clone(),
            body: if has_targets { event.body.clone() } else { Bytes::new() },
        }
    }
}

impl SettleCall {
    pub(super) fn new(who: &NodeId, settlements: &[Settlement]) -> Self {
        let encoded = settlements
            .iter()
            .map(|one| (one.clone(), attempt_detail(one.event, &one.target, &one.attempt)));
        Self { who: who.clone(), settlements: encoded.collect() }
    }

    /// About how many bytes its records take.
    pub(super) fn size(&self) -> usize {
        self.settlements.iter().map(|(_, detail)| detail.len() + 16).sum()
    }
}

impl ReplayCall {
    /// About how many bytes its records take.
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
                    ImportItem::Event(Box::new(EventImport::new(&event, deliveries)))
                }
                portable::Item::Past(past) => ImportItem::Past(past),
                portable::Item::Nonce(nonce) => ImportItem::Nonce(nonce),
            });
        }
        call
    }
}

impl EventImport {
    fn new(event: &NewEvent, deliveries: Vec<Delivery>) -> Self {
        let mut payload = Vec::with_capacity(event.size());
        record::put_event(&mut payload, event);
        // How far they are is said by records of their own; bodies are read when they are needed.
        let mut item = Item::new(event, 0..payload.len());
        (item.targets, item.body) = (SmallVec::new(), Bytes::new());
        let deliveries = deliveries.into_iter().map(|delivery| DeliveryImport {
            outcome: match delivery.state {
                DeliveryState::Pending => Outcome::Retry { due_ms: delivery.due_ms.unwrap_or(0) },
                DeliveryState::Dead => Outcome::Dead,
                DeliveryState::Done => Outcome::Done,
            },
            attempt: delivery.attempt,
            attempts: {
                let detail = |attempt| attempt_detail(event.id, &delivery.target, attempt);
                delivery.attempts.iter().map(detail).collect()
            },
            target: delivery.target,
        });
        Self { item, payload, deliveries: deliveries.collect() }
    }
}
