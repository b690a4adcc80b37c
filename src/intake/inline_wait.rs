//! Waits for an inline backend's verdict on a recorded callback, while its sender waits.

use std::time::{Duration, Instant};

use super::route::{Inline, Route};
use crate::clock;
use crate::config::Late;
use crate::ledger::{
    BatchedLedger, DedupResult, Delivery, DeliveryState, EventId, LedgerError, Recorded,
};
use crate::verdict::{self, Timing, Verdict, Verdicts, Waited, Waiter};

/// Ids have milliseconds, and deadlines are finer: by how much a first sender's time may seem longer.
const ROUNDED: Duration = Duration::from_millis(2);

/// The answer that the sender is to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InlineReply {
    Accepted,
    Rejected,
    Unavailable,
}

/// A question to an inline backend.
pub(super) struct InlineWait<'r> {
    route: &'r Route,
    inline: &'r Inline,
    verdicts: &'r Verdicts,
    own: EventId,
    waiter: Waiter,
    until: Instant,
}

impl<'r> InlineWait<'r> {
    /// Begins to wait before the event is recorded, so no verdict is too early; `None`: the source
    /// has no inline destination.
    pub(super) fn begin(
        route: &'r Route,
        verdicts: &'r Verdicts,
        own: EventId,
        until: Instant,
    ) -> Option<Self> {
        let inline = route.inline.as_ref()?;
        let waiter = verdicts.expect(own, until, inline.late);
        Some(Self { route, inline, verdicts, own, waiter, until })
    }

    /// Ends it: the callback is held, and no backend is asked about it.
    pub(super) fn withdraw(self) {
        self.verdicts.forget(self.own);
    }

    /// Ends it: the callback repeats one that was held, and that an operator made `event` of. A sender
    /// that was asked to retry gets the verdict on that; another one has its answer.
    pub(super) async fn end_as(self, ledger: &BatchedLedger, event: EventId) -> InlineReply {
        self.verdicts.forget(self.own);
        match self.inline.late {
            Late::Unavailable => self.again(ledger, event).await,
            late => told(None, late),
        }
    }

    /// The answer about the recorded callback.
    pub(super) async fn end(self, ledger: &BatchedLedger, recorded: &Recorded) -> InlineReply {
        match recorded.result() {
            DedupResult::New => waited(self.waiter.wait().await, self.inline.late),
            DedupResult::Duplicate | DedupResult::Conflict | DedupResult::Ambiguous => {
                self.verdicts.forget(self.own);
                self.again(ledger, recorded.first()).await
            }
        }
    }

    /// The answer that the first sender received; waits for it while it is open.
    async fn again(&self, ledger: &BatchedLedger, first: EventId) -> InlineReply {
        let late = self.inline.late;
        // Before the ledger is asked: a verdict that comes in between is not missed.
        let waiter = self.verdicts.join(first, self.until, late).or_else(|| self.reopen(first));
        let delivery = self.delivery(ledger, first).await;
        let found = match &delivery {
            Ok(Some(delivery)) => verdict::recorded(delivery),
            Ok(None) | Err(_) => None,
        };
        match (found, waiter) {
            (Some((verdict, Timing::InTime)), _) => told(Some(verdict), late),
            // There may be a verdict that cannot be read: the sender has to ask again.
            (None, Some(waiter)) if delivery.is_err() => match waiter.wait().await {
                Waited::Told(verdict) => told(Some(verdict), late),
                Waited::Late | Waited::Unsettled => InlineReply::Unavailable,
            },
            (None, None) if delivery.is_err() => InlineReply::Unavailable,
            (Some((_, Timing::Late)), _) | (None, None) => told(None, late),
            // The event has expired or has ended without a verdict, or it was recorded before this
            // destination existed.
            (None, Some(waiter)) if !is_open(&delivery) => waited(waiter.give_up().await, late),
            (None, Some(waiter)) => waited(waiter.wait().await, late),
        }
    }

    /// Waits for the verdict of an event for which no callback waits here, unless its first sender
    /// has its answer: such a verdict stays late.
    fn reopen(&self, first: EventId) -> Option<Waiter> {
        let opens = || self.verdicts.expect(first, self.until, self.inline.late);
        (!self.was_told_late(first)).then(opens)
    }

    async fn delivery(
        &self,
        ledger: &BatchedLedger,
        first: EventId,
    ) -> Result<Option<Delivery>, LedgerError> {
        let deliveries = ledger.event(first).await?.map(|detail| detail.deliveries);
        let mut deliveries = deliveries.into_iter().flatten();
        Ok(deliveries.find(|delivery| delivery.target == self.inline.target))
    }

    /// Whether the first sender's time ended before this callback came. Then the first sender
    /// received the configured answer, for good.
    fn was_told_late(&self, first: EventId) -> bool {
        let age = clock::now_ms().saturating_sub(first.ms());
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        self.inline.late != Late::Unavailable && age + ROUNDED >= self.route.patience
    }
}

impl InlineReply {
    /// The answer for a held callback: as if it were accepted, or as if the inline backend were
    /// late.
    pub(super) fn of_held(route: &Route) -> Self {
        route.inline.as_ref().map_or(Self::Accepted, |inline| told(None, inline.late))
    }
}

/// Whether a verdict may still come.
fn is_open(delivery: &Result<Option<Delivery>, LedgerError>) -> bool {
    let delivery = delivery.as_ref().ok().and_then(Option::as_ref);
    delivery.is_some_and(|delivery| delivery.state == DeliveryState::Pending)
}

/// The answer after a wait. A verdict that may still be lost is not told, and the sender has to ask
/// again.
fn waited(waited: Waited, late: Late) -> InlineReply {
    match waited {
        Waited::Told(verdict) => told(Some(verdict), late),
        Waited::Late => told(None, late),
        Waited::Unsettled => InlineReply::Unavailable,
    }
}

/// In the sender's outcomes.
fn told(verdict: Option<Verdict>, late: Late) -> InlineReply {
    match (verdict, late) {
        (Some(Verdict::Valid), _) => InlineReply::Accepted,
        (Some(Verdict::Invalid), _) => InlineReply::Rejected,
        (None | Some(Verdict::Unreadable), Late::Accepted) => InlineReply::Accepted,
        (None | Some(Verdict::Unreadable), Late::Rejected) => InlineReply::Rejected,
        (None | Some(Verdict::Unreadable), Late::Unavailable) => InlineReply::Unavailable,
    }
}
