//! An idle connection closes when its listener is at its limit and others wait.
//!
//! Connections idle for long, because the senders' proxies should be the ones that close them. At
//! the limit one host could hold every place that way.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Context;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Notifies a connection that another one waits for its place.
#[derive(Debug, Default)]
pub(super) struct IdleReclaim {
    notified: AtomicU32,
    waiting: Notify,
}

/// One connection's subscription. Costs one load between its first poll and a notification.
pub(super) struct ReclaimWaiter<'c, 'p> {
    reclaim: &'c IdleReclaim,
    notified: Pin<&'p mut Notified<'c>>,
    seen: Option<u32>,
}

impl IdleReclaim {
    /// Notifies that a connection waits.
    pub(super) fn notify(&self) {
        self.notified.fetch_add(1, Ordering::Release);
        self.waiting.notify_waiters();
    }

    /// A future for a [`ReclaimWaiter`], to be pinned by its connection.
    pub(super) fn listen(&self) -> Notified<'_> {
        self.waiting.notified()
    }
}

impl<'c, 'p> ReclaimWaiter<'c, 'p> {
    /// A waiter for notifications from now on.
    pub(super) fn new(reclaim: &'c IdleReclaim, notified: Pin<&'p mut Notified<'c>>) -> Self {
        Self { reclaim, notified, seen: None }
    }

    /// Whether there was a notification since the last poll. Registers the task for the next one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let notified = self.reclaim.notified.load(Ordering::Acquire);
        let before = self.seen.replace(notified);
        if before == Some(notified) {
            return false;
        }
        // The new listener catches a notification between the two lines.
        self.notified.set(self.reclaim.listen());
        while self.notified.as_mut().poll(cx).is_ready() {
            self.notified.set(self.reclaim.listen());
        }
        before.is_some()
    }
}
