//! The life cycle of the gateway: starting, ready, draining, stopped.
//!
//! All listeners share one [`Lifecycle`]. It tells connections to close and decides `/readyz`. A
//! drain begins once and is never reversed.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// The phase of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Listeners are bound, the ledger is not open yet.
    Starting = 0,
    /// The gateway accepts callbacks.
    Ready = 1,
    /// New connections are rejected; requests in flight are answered.
    Draining = 2,
    /// Everything is closed.
    Stopped = 3,
}

impl Phase {
    /// The name, for `/readyz` and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// The phase, and a notification when the drain begins.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: AtomicU8,
    draining: AtomicBool,
    drained: Notify,
    end: Notify,
}

impl Lifecycle {
    /// A gateway that is starting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    /// The ledger is open: the gateway accepts callbacks, unless a drain has begun.
    pub fn ready(&self) {
        self.advance(Phase::Ready);
    }

    /// Begins the drain: no new connections; requests in flight are answered.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
        self.draining.store(true, Ordering::Release);
        self.drained.notify_waiters();
    }

    /// Closes everything that is still open.
    pub fn stopped(&self) {
        self.drain();
        self.advance(Phase::Stopped);
        self.end.notify_waiters();
    }

    /// Whether a drain has begun. One atomic load, for the hot path.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Waits for the drain to begin.
    pub async fn draining(&self) {
        let mut drained = pin!(self.drained.notified());
        drained.as_mut().enable();
        if !self.is_draining() {
            drained.await;
        }
    }

    /// Waits until the gateway has stopped.
    pub async fn ended(&self) {
        let mut end = pin!(self.end.notified());
        end.as_mut().enable();
        if self.phase() != Phase::Stopped {
            end.await;
        }
    }

    fn advance(&self, to: Phase) {
        self.phase.fetch_max(to as u8, Ordering::AcqRel);
    }
}

/// SIGTERM and SIGINT: the first begins a drain, the second stops at once.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Installs handlers for both signals of this process.
    ///
    /// # Errors
    /// If the operating system rejects a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// When to stop: `drain` begins a drain, `now` ends it.
#[derive(Debug)]
pub struct Stop<D, N> {
    /// Completes when the drain has to begin.
    pub drain: D,
    /// Completes when the gateway has to stop at once, whatever is in flight.
    pub now: N,
}

impl<D: Future<Output = ()>> Stop<D, std::future::Pending<()>> {
    /// Drains when `drain` completes, for the whole drain time if necessary.
    pub fn when(drain: D) -> Self {
        Self { drain, now: std::future::pending() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_never_taken_back() {
        let life = Lifecycle::new();
        assert_eq!(life.phase(), Phase::Starting);
        life.drain();
        life.ready();
        assert_eq!(life.phase(), Phase::Draining);
        life.stopped();
        life.drain();
        assert_eq!(life.phase(), Phase::Stopped);
    }

    #[tokio::test]
    async fn the_drain_is_noticed_before_and_after_it_begins() {
        let life = std::sync::Arc::new(Lifecycle::new());
        let waiting = tokio::spawn({
            let life = std::sync::Arc::clone(&life);
            async move { life.draining().await }
        });
        tokio::task::yield_now().await;
        life.drain();
        waiting.await.unwrap();
        life.draining().await;
    }
}
