//! What callers hand to the committer. As much as possible is prepared on the caller's thread:
//! payloads are encoded and texts hashed before the call crosses over.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::record::{self, attempt_detail};
use super::run::Run;
use super::segment::Position;
use super::tables::{EventRow, FullRow, hash, tag};
use crate::ledger::{
    Accepted, DedupeKey, DocumentChange, EventId, LedgerError, NewEvent, NodeId, Nonce, NonceUse,
    ReplayId, ReplayPage, Revision, Settled, Settlement, TargetId,
};

/// Where the answer to a call goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, LedgerError>>;

/// A call to the committer.
pub(super) enum Call {
    Accept(AcceptCall, Answer<Vec<Accepted>>),
    Nonces(Vec<Nonce>, Answer<Vec<NonceUse>>),
    Settle(SettleCall, Answer<Vec<Settled>>),
    Replay(ReplayCall, Answer<ReplayPage>),
    Change(Vec<DocumentChange>, Answer<Revision>),
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

impl AcceptCall {
    /// Encodes a batch.
    pub(super) fn new(batch: &[NewEvent], payload_max: usize) -> Result<Self, LedgerError> {
        let size: usize = batch.iter().map(record::size_of_event).sum();
        let mut call =
            Self { items: Vec::with_capacity(batch.len()), payloads: Vec::with_capacity(size) };
        for event in batch {
            let start = call.payloads.len();
            record::put_event(&mut call.payloads, event);
            call.items.push(Item::new(event, start..call.payloads.len()));
        }
        let size = call.payloads.len() + 8 * batch.len();
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
        let encoded = settlements.iter().map(|one| (one.clone(), attempt_detail(one)));
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
