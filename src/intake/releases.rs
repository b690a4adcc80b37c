//! Releases: the callbacks in a source's quarantine are verified again, the oldest first, until
//! none is left or an operator cancels.
//!
//! Giving an order again, after a crash or a cancellation, repeats nothing. A callback that became
//! an event has left the quarantine. One that was recorded but not settled is found to be known.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use super::handler::CallbackHandler;
use super::release::{ReleaseMode, Released, ReleasedCallback};
use crate::clock::{UnixMillis, now_ms};
use crate::ledger::{
    BatchedLedger, HeldId, HeldOne, HeldQuery, HeldWhy, LedgerError, ReleaseId, SourceId,
};
use crate::orders::{Account, OpenAccount, Order, OrderState, Orders, Outcome, Progress};
use crate::sender::Reason;

/// Callbacks that are verified together: they share a commit.
const TOGETHER: usize = 64;

/// Callbacks of one question for what there is.
const PAGE: usize = 500;

/// Names of numbers in the account of a release.
const DUPLICATES: &str = "duplicates";
const DISPUTED: &str = "disputed";
const STILL_HELD: &str = "refused";

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
    pub state: OrderState,
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
    pub still_held: u64,
}

/// A release, with the outcome of its deliveries.
#[derive(Clone, Debug)]
pub struct FoundRelease {
    /// Its progress.
    pub progress: ReleaseProgress,
    /// The outcome of its deliveries so far; `None`: it makes none.
    pub outcome: Option<Outcome>,
}

/// Too many orders run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("four releases are running; wait for one, or cancel it")]
pub struct BusyError;

/// All orders of this process.
#[derive(Clone, Debug)]
pub struct Releases {
    ledger: BatchedLedger,
    handler: CallbackHandler,
    orders: Orders<ReleaseFilter, ReleaseProgress>,
}

type ReleaseOrder = Order<ReleaseFilter, ReleaseProgress>;

impl Progress for ReleaseProgress {
    type Id = ReleaseId;

    fn id(&self) -> ReleaseId {
        self.id
    }

    fn state(&self) -> &OrderState {
        &self.state
    }

    fn set_state(&mut self, state: OrderState) {
        self.state = state;
    }
}

// === Orders ===

impl Releases {
    /// No orders yet.
    #[must_use]
    pub fn new(ledger: BatchedLedger, handler: CallbackHandler) -> Self {
        Self { ledger, handler, orders: Orders::default() }
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
        let progress = ReleaseProgress {
            id,
            source: filter.source.clone(),
            at_ms,
            state: OrderState::Running,
            mode: filter.mode,
            of: None,
            seen: 0,
            released: 0,
            duplicates: 0,
            disputed: 0,
            still_held: 0,
        };
        if let Some(order) = self.orders.begin(filter, progress).map_err(|_| BusyError)? {
            let (ledger, handler) = (self.ledger.clone(), self.handler.clone());
            tokio::spawn(async move { order.run(&ledger, &handler).await });
        }
        Ok(())
    }

    /// An order, with the outcome of its deliveries so far; `None`: none of that id is kept.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn find(&self, id: ReleaseId) -> Result<Option<FoundRelease>, LedgerError> {
        let (account, outcome) = Account::with_outcome(&self.ledger, id).await?.unzip();
        let there = account.as_ref().and_then(|account| ReleaseProgress::of(id, account));
        let progress = match self.orders.progress(id) {
            Some(here) => Some(here.or_account(there)),
            None => there,
        };
        Ok(progress.map(|progress| FoundRelease { progress, outcome }))
    }

    /// How far an order is when it has ended, or `wait` is over.
    pub async fn ended(&self, id: ReleaseId, wait: Duration) -> Option<ReleaseProgress> {
        self.orders.ended(id, wait).await
    }

    /// Cancels an order, which ends with what it is looking at; `None`: there is none of that id.
    pub async fn cancel(&self, id: ReleaseId) -> Option<ReleaseProgress> {
        self.orders.cancel(id).await
    }
}

// === One order ===

impl ReleaseOrder {
    async fn run(&self, ledger: &BatchedLedger, handler: &CallbackHandler) {
        let _failed = self.or_failed();
        let state = self.state_after(self.release_with_account(ledger, handler).await);
        let ReleaseProgress { id, seen, released, duplicates, still_held, .. } = self.progress();
        tracing::info!(
            release = %id, state = state.as_str(), seen, released, duplicates,
            refused = still_held,
            "a release ended"
        );
        self.end(state);
    }

    async fn release_with_account(
        &self,
        ledger: &BatchedLedger,
        handler: &CallbackHandler,
    ) -> Result<(), LedgerError> {
        if self.filter.mode == ReleaseMode::DryRun {
            return self.release_all(ledger, handler, None).await;
        }
        let ReleaseProgress { id, at_ms, source, .. } = self.progress();
        let mut account =
            OpenAccount::begin(ledger, id, Account::new(at_ms, Some(&[source]))).await?;
        let worked = self.release_all(ledger, handler, Some(&mut account)).await;
        account.count(self.progress().numbers());
        account.save(&self.state_after(worked.clone())).await?;
        worked
    }

    async fn release_all(
        &self,
        ledger: &BatchedLedger,
        handler: &CallbackHandler,
        mut account: Option<&mut OpenAccount<'_, ReleaseId>>,
    ) -> Result<(), LedgerError> {
        let ids = self.wanted(ledger, handler, account.as_deref_mut()).await?;
        self.note(|progress| progress.of = u64::try_from(ids.len()).ok());
        for some in ids.chunks(TOGETHER) {
            if self.is_cancelled() {
                break;
            }
            let mut looking = JoinSet::new();
            for id in some {
                let (ledger, handler, id) = (ledger.clone(), handler.clone(), *id);
                let mode = self.filter.mode;
                looking.spawn(async move { release_one(&ledger, &handler, id, mode).await });
            }
            let (mut released, mut failed) = (Vec::new(), None);
            while let Some(looked) = looking.join_next().await {
                match looked.unwrap_or(Err(LedgerError::Unknown)) {
                    Ok(looked) => {
                        let result = looked.as_ref().map(|looked| &looked.result);
                        self.note(|progress| progress.count(result));
                        released.extend(looked.into_iter().flat_map(|looked| looked.events));
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(open) = &mut account {
                open.add(&released, None);
                open.count(self.progress().numbers());
                open.save_progress().await?;
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The callbacks that the order is about, the oldest first.
    async fn wanted(
        &self,
        ledger: &BatchedLedger,
        handler: &CallbackHandler,
        mut account: Option<&mut OpenAccount<'_, ReleaseId>>,
    ) -> Result<Vec<HeldId>, LedgerError> {
        let ReleaseFilter { source, reasons, since_ms, until_ms, ids, .. } = &self.filter;
        handler.rejections().flush().await;
        let query = HeldQuery {
            source: Some(source.clone()),
            why: Some(HeldWhy::Quarantine),
            since_ms: *since_ms,
            until_ms: *until_ms,
            ..HeldQuery::default()
        };
        let (mut found, mut cursor) = (Vec::new(), None);
        while !self.is_cancelled() {
            let page = ledger.held(&query, cursor.as_ref(), PAGE).await?;
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
            if let Some(open) = &mut account {
                open.save_progress().await?;
            }
        }
        found.reverse();
        Ok(found)
    }
}

impl ReleaseProgress {
    /// The number of callbacks that became events, in the account of any release.
    pub const RELEASED: &'static str = "released";
    /// The number of callbacks that were looked at, in the account of any release.
    pub const SEEN: &'static str = "seen";
    /// Numbers of callbacks that did not, in the account of a release by the API.
    pub const OTHER_NUMBERS: [&'static str; 3] = [DUPLICATES, DISPUTED, STILL_HELD];

    /// The progress that the account of a release has.
    fn of(id: ReleaseId, account: &Account) -> Option<Self> {
        Some(Self {
            id,
            source: account.among.as_ref()?.first()?.clone(),
            at_ms: account.at_ms,
            state: account.state(now_ms()),
            mode: ReleaseMode::Real,
            of: None,
            seen: account.number(Self::SEEN),
            released: account.number(Self::RELEASED),
            duplicates: account.number(DUPLICATES),
            disputed: account.number(DISPUTED),
            still_held: account.number(STILL_HELD),
        })
    }

    fn numbers(&self) -> BTreeMap<String, u64> {
        let all = [
            (Self::SEEN, self.seen),
            (Self::RELEASED, self.released),
            (DUPLICATES, self.duplicates),
            (DISPUTED, self.disputed),
            (STILL_HELD, self.still_held),
        ];
        all.map(|(name, number)| (name.to_owned(), number)).into()
    }

    fn count(&mut self, released: Option<&Released>) {
        self.seen += 1;
        match released {
            Some(Released::Event(_)) => self.released += 1,
            Some(Released::Duplicate(_)) => self.duplicates += 1,
            Some(Released::Disputed) => self.disputed += 1,
            Some(Released::Rejected(_) | Released::Undecided) => self.still_held += 1,
            // Another caller has decided it meanwhile.
            None => {}
        }
    }
}

async fn release_one(
    ledger: &BatchedLedger,
    handler: &CallbackHandler,
    id: HeldId,
    mode: ReleaseMode,
) -> Result<Option<ReleasedCallback>, LedgerError> {
    match ledger.held_one(id).await? {
        Some(HeldOne::Waiting(held)) if held.why == HeldWhy::Quarantine => {
            handler.release(&held, mode).await.map(Some)
        }
        _ => Ok(None),
    }
}
