//! The gateway's own life: starting, ready, draining, stopped.
//!
//! One [`Lifecycle`] is shared by every listener. Connections ask it whether to wind up, `/readyz`
//! asks it whether to be called at all. A drain begins once and is never taken back.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Where in its life the gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Listeners are bound, the ledger is not open yet.
    Starting = 0,
    /// Callbacks are taken.
    Ready = 1,
    /// No new connection is accepted; what is in flight is answered.
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

/// The phase, and a bell that rings when the drain begins.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: AtomicU8,
    draining: AtomicBool,
    bell: Notify,
    end: Notify,
}

impl Lifecycle {
    /// A gateway that is starting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    /// Everything is open: callbacks are taken from now on, unless a drain has begun already.
    pub fn ready(&self) {
        self.advance(Phase::Ready);
    }

    /// Winds up: no new connections, what is in flight is answered.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
        self.draining.store(true, Ordering::Release);
        self.bell.notify_waiters();
    }

    /// Whatever is still open is closed.
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
        let mut bell = pin!(self.bell.notified());
        bell.as_mut().enable();
        if !self.is_draining() {
            bell.await;
        }
    }

    /// Waits for the end.
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

/// SIGTERM and SIGINT: the first asks for a drain, the second for an end at once.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes over both signals of this process.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next of them.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// When to stop: `drain` asks for an orderly end, `now` cuts it short.
#[derive(Debug)]
pub struct Stop<D, N> {
    /// Completes when the gateway is to wind up.
    pub drain: D,
    /// Completes when it is to end at once, whatever is in flight.
    pub now: N,
}

impl<D: Future<Output = ()>> Stop<D, std::future::Pending<()>> {
    /// Winds up when `drain` completes, and takes the whole drain time if it must.
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
    async fn the_bell_is_heard_before_and_after_it_rings() {
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
