//! Releases: the callbacks in a source's quarantine are verified again, the oldest first, until
//! none is left or an operator cancels.
//!
//! Giving an order again, after a crash or a cancellation, repeats nothing. A callback that became
//! an event has left the quarantine. One that was recorded but not settled is found to be known.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::handler::CallbackHandler;
use super::release::{ReleaseMode, Released};
use crate::clock::UnixMillis;
use crate::ledger::{
    BatchedLedger, HeldId, HeldOne, HeldQuery, HeldWhy, LedgerError, ReleaseId, SourceId,
};
use crate::sender::Reason;

/// Callbacks that are verified together: they share a commit.
const TOGETHER: usize = 64;

/// Callbacks of one question for what there is.
const PAGE: usize = 500;

/// Concurrent orders.
const RUNNING_MAX: usize = 4;

/// Orders that are remembered, those that run included.
const KEPT_MAX: usize = 100;

/// Which callbacks in quarantine to release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseFilter {
    /// Of this source.
    pub source: SourceId,
    /// Rejected for one of these; empty: for any.
    pub reasons: Vec<Reason>,
    /// Received at this time or later.
    pub since_ms: Option<UnixMillis>,
    /// Received before this time.
    pub until_ms: Option<UnixMillis>,
    /// Only these ids; empty: any.
    pub ids: Vec<HeldId>,
    /// Whether anything is recorded.
    pub mode: ReleaseMode,
}

/// How far an order is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseProgress {
    /// The order.
    pub id: ReleaseId,
    /// The source whose callbacks are released.
    pub source: SourceId,
    /// When it was given.
    pub at_ms: UnixMillis,
    /// Whether it goes on.
    pub state: ReleaseState,
    /// Whether anything is recorded.
    pub mode: ReleaseMode,
    /// Callbacks to verify, where their number is known.
    pub of: Option<u64>,
    /// Callbacks that were verified again.
    pub seen: u64,
    /// Callbacks that became events.
    pub released: u64,
    /// Callbacks whose transaction was known.
    pub duplicates: u64,
    /// Callbacks that verify and dispute an event: they are now held for that.
    pub disputed: u64,
    /// Callbacks that stay in quarantine.
    pub refused: u64,
}

/// Whether an order goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseState {
    /// The order goes on.
    Running,
    /// The order is complete.
    Done,
    /// An operator cancelled the order. Released callbacks stay released.
    Cancelled,
    /// The ledger failed. The same order may be given again.
    Failed(LedgerError),
}

/// Too many orders run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("four releases are running; wait for one, or cancel it")]
pub struct BusyError;

/// All orders of this process.
#[derive(Clone, Debug)]
pub struct Releases {
    book: BatchedLedger,
    gate: CallbackHandler,
    kept: Arc<Mutex<VecDeque<Arc<Running>>>>,
}

#[derive(Debug)]
struct Running {
    filter: ReleaseFilter,
    progress: watch::Sender<ReleaseProgress>,
    cancelled: AtomicBool,
}

impl ReleaseState {
    /// Its name in the admin API.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed(_) => "failed",
        }
    }
}

// === Orders ===

impl Releases {
    /// No orders yet.
    #[must_use]
    pub fn new(book: BatchedLedger, gate: CallbackHandler) -> Self {
        Self { book, gate, kept: Arc::default() }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Running>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: ReleaseId) -> Option<Arc<Running>> {
        self.kept().iter().find(|kept| kept.progress.borrow().id == id).cloned()
    }

    /// Begins an order. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Too many run.
    pub fn begin(
        &self,
        id: ReleaseId,
        filter: ReleaseFilter,
        at_ms: UnixMillis,
    ) -> Result<(), BusyError> {
        let running = {
            let mut kept = self.kept();
            let runs = |kept: &&Arc<Running>| kept.state() == ReleaseState::Running;
            if kept.iter().filter(runs).count() >= RUNNING_MAX {
                return Err(BusyError);
            }
            if kept.len() >= KEPT_MAX
                && let Some(at) = kept.iter().position(|kept| kept.state() != ReleaseState::Running)
            {
                kept.remove(at);
            }
            let progress = ReleaseProgress {
                id,
                source: filter.source.clone(),
                at_ms,
                state: ReleaseState::Running,
                mode: filter.mode,
                of: None,
                seen: 0,
                released: 0,
                duplicates: 0,
                disputed: 0,
                refused: 0,
            };
            let progress = watch::Sender::new(progress);
            let running = Arc::new(Running { filter, progress, cancelled: AtomicBool::new(false) });
            kept.push_back(Arc::clone(&running));
            running
        };
        let (book, gate) = (self.book.clone(), self.gate.clone());
        tokio::spawn(async move { running.run(&book, &gate).await });
        Ok(())
    }

    /// How far an order is; `None`: there is none of that id (any more).
    #[must_use]
    pub fn progress(&self, id: ReleaseId) -> Option<ReleaseProgress> {
        self.find(id).map(|running| running.progress.borrow().clone())
    }

    /// How far every order is that is remembered, the latest first.
    #[must_use]
    pub fn all(&self) -> Vec<ReleaseProgress> {
        self.kept().iter().rev().map(|running| running.progress.borrow().clone()).collect()
    }

    /// How far an order is when it has ended, or `wait` is over.
    pub async fn ended(&self, id: ReleaseId, wait: Duration) -> Option<ReleaseProgress> {
        let running = self.find(id)?;
        let mut progress = running.progress.subscribe();
        let ended = progress.wait_for(|progress| progress.state != ReleaseState::Running);
        let _ = tokio::time::timeout(wait, ended).await;
        Some(running.progress.borrow().clone())
    }

    /// Cancels an order, which ends with what it is looking at; `None`: there is none of that id.
    pub async fn cancel(&self, id: ReleaseId) -> Option<ReleaseProgress> {
        self.find(id)?.cancelled.store(true, Ordering::Relaxed);
        self.ended(id, Duration::from_secs(5)).await
    }
}

// === One order ===

impl Running {
    fn state(&self) -> ReleaseState {
        self.progress.borrow().state.clone()
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    async fn run(&self, book: &BatchedLedger, gate: &CallbackHandler) {
        let state = match self.release_all(book, gate).await {
            Err(error) => ReleaseState::Failed(error),
            Ok(()) if self.is_cancelled() => ReleaseState::Cancelled,
            Ok(()) => ReleaseState::Done,
        };
        let ReleaseProgress { id, seen, released, duplicates, refused, .. } =
            self.progress.borrow().clone();
        tracing::info!(
            release = %id, state = state.as_str(), seen, released, duplicates, refused,
            "a release ended"
        );
        self.progress.send_modify(|progress| progress.state = state);
    }

    async fn release_all(
        &self,
        book: &BatchedLedger,
        gate: &CallbackHandler,
    ) -> Result<(), LedgerError> {
        let ids = self.wanted(book, gate).await?;
        self.progress.send_modify(|progress| progress.of = u64::try_from(ids.len()).ok());
        for some in ids.chunks(TOGETHER) {
            if self.is_cancelled() {
                break;
            }
            let mut looking = JoinSet::new();
            for id in some {
                let (book, gate, id) = (book.clone(), gate.clone(), *id);
                let mode = self.filter.mode;
                looking.spawn(async move { release_one(&book, &gate, id, mode).await });
            }
            while let Some(looked) = looking.join_next().await {
                let looked = looked.unwrap_or(Err(LedgerError::Unknown))?;
                self.note(looked.as_ref());
            }
        }
        Ok(())
    }

    /// The callbacks that the order is about, the oldest first.
    async fn wanted(
        &self,
        book: &BatchedLedger,
        gate: &CallbackHandler,
    ) -> Result<Vec<HeldId>, LedgerError> {
        let ReleaseFilter { source, reasons, since_ms, until_ms, ids, .. } = &self.filter;
        gate.rejections().flush().await;
        let query = HeldQuery {
            source: Some(source.clone()),
            why: Some(HeldWhy::Quarantine),
            since_ms: *since_ms,
            until_ms: *until_ms,
            ..HeldQuery::default()
        };
        let (mut found, mut cursor) = (Vec::new(), None);
        while !self.is_cancelled() {
            let page = book.held(&query, cursor.as_ref(), PAGE).await?;
            let wanted = page.held.iter().filter(|held| {
                (ids.is_empty() || ids.contains(&held.id))
                    && (reasons.is_empty()
                        || held.reason.is_some_and(|reason| reasons.contains(&reason)))
            });
            found.extend(wanted.map(|held| held.id));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    fn note(&self, released: Option<&Released>) {
        self.progress.send_modify(|progress| {
            progress.seen += 1;
            match released {
                Some(Released::Event(_)) => progress.released += 1,
                Some(Released::Duplicate(_)) => progress.duplicates += 1,
                Some(Released::Disputed) => progress.disputed += 1,
                Some(Released::Rejected(_) | Released::Undecided) => progress.refused += 1,
                // Another caller has decided it meanwhile.
                None => {}
            }
        });
    }
}

async fn release_one(
    book: &BatchedLedger,
    gate: &CallbackHandler,
    id: HeldId,
    mode: ReleaseMode,
) -> Result<Option<Released>, LedgerError> {
    match book.held_one(id).await? {
        Some(HeldOne::Waiting(held)) if held.why == HeldWhy::Quarantine => {
            gate.release(&held, mode).await.map(Some)
        }
        _ => Ok(None),
    }
}
