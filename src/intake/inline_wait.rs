//! Waits for an inline backend's verdict on a recorded callback, while its sender waits.

use std::time::{Duration, Instant};

use super::route::{Inline, Route};
use crate::clock;
use crate::config::Late;
use crate::ledger::{BatchedLedger, DedupResult, Delivery, DeliveryState, EventId, Recorded};
use crate::verdict::{self, Timing, Verdict, Verdicts, Waiter};

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

    /// The answer about the recorded callback.
    pub(super) async fn end(self, book: &BatchedLedger, recorded: &Recorded) -> InlineReply {
        match recorded.standing() {
            DedupResult::New => told(self.waiter.wait().await, self.inline.late),
            DedupResult::Duplicate | DedupResult::Conflict | DedupResult::Ambiguous => {
                self.verdicts.forget(self.own);
                self.again(book, recorded.first()).await
            }
        }
    }

    /// The answer that the first sender received; waits for it while it is open.
    async fn again(&self, book: &BatchedLedger, first: EventId) -> InlineReply {
        let late = self.inline.late;
        let is_waited_for = self.verdicts.is_expected(first);
        // Before the ledger is asked: a verdict that comes in between is not missed.
        let waiter = self.verdicts.expect(first, self.until, late);
        let Some(delivery) = self.delivery(book, first).await else {
            // The event has expired, or was recorded before this destination existed.
            return told(None, late);
        };
        match verdict::recorded(&delivery) {
            Some((verdict, Timing::InTime)) => told(Some(verdict), late),
            Some((_, Timing::Late)) => told(None, late),
            None if delivery.state != DeliveryState::Pending => told(None, late),
            None if !is_waited_for && self.was_told_late(first) => {
                self.verdicts.forget(first);
                told(None, late)
            }
            None => told(waiter.wait().await, late),
        }
    }

    async fn delivery(&self, book: &BatchedLedger, first: EventId) -> Option<Delivery> {
        let detail = book.event(first).await.ok()??;
        detail.deliveries.into_iter().find(|delivery| delivery.target == self.inline.target)
    }

    /// Whether the first sender's time ended before this callback came. Then the first sender
    /// received the configured answer, for good.
    fn was_told_late(&self, first: EventId) -> bool {
        let age = clock::now_ms().saturating_sub(first.ms());
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        self.inline.late != Late::Unavailable && age >= self.route.patience
    }
}

impl InlineReply {
    /// The answer if the backend has sent nothing in time.
    pub(super) fn late(late: Late) -> Self {
        told(None, late)
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
