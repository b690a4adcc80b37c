//! Orders of operators that take a while: they run in the background, report their progress, and
//! can be cancelled.
//!
//! An order belongs to the process that it was given to. Giving it again after a restart repeats
//! nothing: what it has done is in the ledger. So is its [`Account`], which every gateway can read.

mod account;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::ledger::LedgerError;

pub use account::{Account, AccountId, OpenAccount, Outcome};

/// Concurrent orders of one kind: each reads through the ledger.
const RUNNING_MAX: usize = 4;

/// Remembered orders of one kind, the running ones included.
const KEPT_MAX: usize = 100;

/// How long a cancelled order has to end: it finishes what it is working on.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// The state of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderState {
    /// The order is running.
    Running,
    /// The order is complete.
    Done,
    /// An operator cancelled it. What it has done stays.
    Cancelled,
    /// The ledger failed. The same order may be given again.
    Failed(LedgerError),
    /// Its gateway has not written to its account for a while: it was stopped, or cannot reach the
    /// ledger. The same order may be given again.
    Interrupted,
}

/// The progress of orders of one kind.
pub trait Progress: Clone + fmt::Debug + Send + Sync + 'static {
    /// The id of an order.
    type Id: Copy + Eq;

    /// The order.
    fn id(&self) -> Self::Id;

    /// Its state.
    fn state(&self) -> &OrderState;

    /// Notes the state.
    fn set_state(&mut self, state: OrderState);

    /// The progress to show of an order that this process knows, and that has this one in its
    /// account: its own while it runs, and as long as no other gateway ended it otherwise.
    #[must_use]
    fn or_account(self, account: Option<Self>) -> Self {
        match account {
            Some(account)
                if *self.state() != OrderState::Running
                    && self.state().as_str() != account.state().as_str() =>
            {
                account
            }
            _ => self,
        }
    }
}

/// Why an order is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginError {
    /// The id is that of an order with another filter.
    Other,
    /// Too many orders are running.
    Busy,
}

/// One order: its selection and its progress.
#[derive(Debug)]
pub struct Order<F, P> {
    /// The selection that it works on.
    pub filter: F,
    progress: watch::Sender<P>,
    cancelled: AtomicBool,
}

/// The orders of one kind that this process remembers. Clones share them.
#[derive(Debug)]
pub struct Orders<F, P>(Arc<Mutex<Kept<F, P>>>);

/// Remembered orders, the oldest first.
type Kept<F, P> = VecDeque<Arc<Order<F, P>>>;

impl<F, P> Clone for Orders<F, P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F, P> Default for Orders<F, P> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl OrderState {
    /// The name in the admin API. An interrupted order has failed: its error says how.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed(_) | Self::Interrupted => "failed",
        }
    }
}

impl<F: PartialEq, P: Progress> Orders<F, P> {
    fn kept(&self) -> MutexGuard<'_, Kept<F, P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: P::Id) -> Option<Arc<Order<F, P>>> {
        self.kept().iter().find(|kept| kept.progress.borrow().id() == id).cloned()
    }

    /// The order to run, or `None` if the one of that id is running or complete. One that was
    /// cancelled or has failed begins again.
    ///
    /// # Errors
    /// If the id is that of an order with another filter, or too many are running.
    pub fn begin(&self, filter: F, progress: P) -> Result<Option<Arc<Order<F, P>>>, BeginError> {
        let mut kept = self.kept();
        let earlier = kept.iter().position(|kept| kept.id() == progress.id());
        if let Some(order) = earlier.map(|at| &kept[at]) {
            if order.filter != filter {
                return Err(BeginError::Other);
            }
            if matches!(order.state(), OrderState::Running | OrderState::Done) {
                return Ok(None);
            }
        }
        if kept.iter().filter(|kept| kept.is_running()).count() >= RUNNING_MAX {
            return Err(BeginError::Busy);
        }
        let ended = || kept.iter().position(|kept| !kept.is_running());
        let replaced = earlier.or_else(|| (kept.len() >= KEPT_MAX).then(ended).flatten());
        if let Some(at) = replaced {
            kept.remove(at);
        }
        let progress = watch::Sender::new(progress);
        let order = Arc::new(Order { filter, progress, cancelled: AtomicBool::new(false) });
        kept.push_back(Arc::clone(&order));
        Ok(Some(order))
    }

    /// The progress of an order; `None`: the id is unknown or forgotten.
    #[must_use]
    pub fn progress(&self, id: P::Id) -> Option<P> {
        self.find(id).map(|order| order.progress())
    }

    /// The progress of every remembered order, the latest first.
    #[must_use]
    pub fn all(&self) -> Vec<P> {
        self.kept().iter().rev().map(|order| order.progress()).collect()
    }

    /// The progress of an order when it has ended or after `wait`.
    pub async fn ended(&self, id: P::Id, wait: Duration) -> Option<P> {
        let order = self.find(id)?;
        let mut progress = order.progress.subscribe();
        let ended = progress.wait_for(|progress| *progress.state() != OrderState::Running);
        let _ = tokio::time::timeout(wait, ended).await;
        Some(order.progress())
    }

    /// Cancels an order, which ends with what it is working on; `None`: the id is unknown.
    pub async fn cancel(&self, id: P::Id) -> Option<P> {
        self.find(id)?.cancelled.store(true, Ordering::Relaxed);
        self.ended(id, CANCEL_WAIT).await
    }
}

impl<F, P: Progress> Order<F, P> {
    /// Its id.
    pub fn id(&self) -> P::Id {
        self.progress.borrow().id()
    }

    /// How far it is.
    pub fn progress(&self) -> P {
        self.progress.borrow().clone()
    }

    fn state(&self) -> OrderState {
        self.progress.borrow().state().clone()
    }

    fn is_running(&self) -> bool {
        *self.progress.borrow().state() == OrderState::Running
    }

    /// Whether it is to end.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Notes progress.
    pub fn note(&self, change: impl FnOnce(&mut P)) {
        self.progress.send_modify(change);
    }

    /// The state in which it ends after this work.
    pub fn state_after(&self, worked: Result<(), LedgerError>) -> OrderState {
        match worked {
            Err(error) => OrderState::Failed(error),
            Ok(()) if self.is_cancelled() => OrderState::Cancelled,
            Ok(()) => OrderState::Done,
        }
    }

    /// Ends it: those who wait for that get its last progress.
    pub fn end(&self, state: OrderState) {
        self.note(|progress| progress.set_state(state));
    }

    /// Fails it when the guard is dropped before it has ended, as by a panic: it would run for ever,
    /// and take the place of another.
    #[must_use]
    pub fn or_failed(&self) -> OrFailed<'_, F, P> {
        OrFailed(self)
    }
}

/// Fails an order that has not ended when this is dropped.
#[derive(Debug)]
pub struct OrFailed<'o, F, P: Progress>(&'o Order<F, P>);

impl<F, P: Progress> Drop for OrFailed<'_, F, P> {
    fn drop(&mut self) {
        if self.0.is_running() {
            self.0.end(OrderState::Failed(LedgerError::Unknown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Count {
        id: u32,
        state: OrderState,
    }

    impl Progress for Count {
        type Id = u32;

        fn id(&self) -> u32 {
            self.id
        }

        fn state(&self) -> &OrderState {
            &self.state
        }

        fn set_state(&mut self, state: OrderState) {
            self.state = state;
        }
    }

    fn count(id: u32) -> Count {
        Count { id, state: OrderState::Running }
    }

    #[test]
    fn an_order_runs_once_and_again_only_if_it_did_not_end_well() {
        let orders = Orders::default();
        let first = orders.begin("a", count(1)).unwrap().unwrap();
        assert!(orders.begin("a", count(1)).unwrap().is_none(), "it is running");
        assert_eq!(orders.begin("b", count(1)).unwrap_err(), BeginError::Other);
        first.end(first.state_after(Err(LedgerError::Overloaded)));
        let again = orders.begin("a", count(1)).unwrap().unwrap();
        again.end(again.state_after(Ok(())));
        assert!(orders.begin("a", count(1)).unwrap().is_none(), "it is complete");
        assert_eq!(orders.all(), [Count { id: 1, state: OrderState::Done }]);
    }

    #[test]
    fn orders_are_bounded_and_the_oldest_that_has_ended_is_forgotten() {
        let orders = Orders::default();
        let running: Vec<_> = (0..4).map(|id| orders.begin((), count(id)).unwrap()).collect();
        assert_eq!(orders.begin((), count(4)).unwrap_err(), BeginError::Busy);
        running.into_iter().flatten().for_each(|order| order.end(OrderState::Done));
        for id in 4..150 {
            orders.begin((), count(id)).unwrap().unwrap().end(OrderState::Done);
        }
        assert_eq!(orders.all().len(), KEPT_MAX);
        assert_eq!(orders.progress(49), None);
        assert_eq!(orders.progress(50).map(|count| count.id), Some(50));
    }

    #[test]
    fn a_failed_order_is_remembered_while_there_is_no_room_to_repeat_it() {
        let orders = Orders::default();
        let failed = orders.begin((), count(9)).unwrap().unwrap();
        failed.end(OrderState::Failed(LedgerError::Overloaded));
        for id in 0..4 {
            orders.begin((), count(id)).unwrap();
        }
        assert_eq!(orders.begin((), count(9)).unwrap_err(), BeginError::Busy);
        let state = orders.progress(9).map(|count| count.state);
        assert_eq!(state, Some(OrderState::Failed(LedgerError::Overloaded)));
    }

    #[tokio::test]
    async fn an_order_whose_task_panics_has_failed() {
        let orders = Orders::default();
        let order = orders.begin((), count(1)).unwrap().unwrap();
        let task = tokio::spawn(async move {
            let _failed = order.or_failed();
            panic!("a mistake");
        });
        assert!(task.await.unwrap_err().is_panic());
        let state = orders.progress(1).map(|count| count.state);
        assert_eq!(state, Some(OrderState::Failed(LedgerError::Unknown)));
        let order = orders.begin((), count(1)).unwrap().unwrap();
        let failed = order.or_failed();
        order.end(OrderState::Done);
        drop(failed);
        assert_eq!(order.state(), OrderState::Done);
    }

    #[tokio::test]
    async fn a_cancelled_order_is_waited_for() {
        let orders = Orders::default();
        let order = orders.begin((), count(1)).unwrap().unwrap();
        let work = async {
            while !order.is_cancelled() {
                tokio::task::yield_now().await;
            }
            order.end(order.state_after(Ok(())));
        };
        let (ended, ()) = tokio::join!(orders.cancel(1), work);
        assert_eq!(ended.unwrap().state, OrderState::Cancelled);
        assert!(orders.cancel(2).await.is_none());
    }
}
