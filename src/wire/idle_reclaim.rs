//! The crowd at a listener's bound: while connections wait for room, idle ones make it.
//!
//! Connections are kept idle for long, because it is the senders' proxies who should close them.
//! That is a courtesy for quiet times: one host could hold every place with it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Context;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Rings whenever somebody waits for room.
#[derive(Debug, Default)]
pub(super) struct IdleReclaim {
    rung: AtomicU32,
    bell: Notify,
}

/// One connection's ear. Between its first poll and a ring it costs one load.
pub(super) struct ReclaimWaiter<'c, 'p> {
    crowd: &'c IdleReclaim,
    ring: Pin<&'p mut Notified<'c>>,
    heard: Option<u32>,
}

impl IdleReclaim {
    /// Somebody waits for room.
    pub(super) fn ring(&self) {
        self.rung.fetch_add(1, Ordering::Release);
        self.bell.notify_waiters();
    }

    /// What an [`Ear`] needs, to be pinned by its connection.
    pub(super) fn listen(&self) -> Notified<'_> {
        self.bell.notified()
    }
}

impl<'c, 'p> ReclaimWaiter<'c, 'p> {
    /// An ear for rings from now on.
    pub(super) fn new(crowd: &'c IdleReclaim, ring: Pin<&'p mut Notified<'c>>) -> Self {
        Self { crowd, ring, heard: None }
    }

    /// Whether it rang since the last poll. The task is woken when it rings the next time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let rung = self.crowd.rung.load(Ordering::Acquire);
        let before = self.heard.replace(rung);
        if before == Some(rung) {
            return false;
        }
        // A ring between the two lines is heard by the new one: it listens from here on.
        self.ring.set(self.crowd.listen());
        while self.ring.as_mut().poll(cx).is_ready() {
            self.ring.set(self.crowd.listen());
        }
        before.is_some()
    }
}
