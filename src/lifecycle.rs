//! The life cycle of the gateway: starting, ready, lame duck, draining, stopped.
//!
//! All listeners share one [`Lifecycle`]. It tells connections to close and decides `/readyz`. A
//! phase that has begun is never reversed.

mod readiness;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

pub use readiness::{Unready, unready};

/// The phase of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Listeners answer, the ledger is not open yet.
    Starting = 0,
    /// Callbacks are accepted.
    Ready = 1,
    /// Callbacks are accepted, and balancers are asked to send no more.
    LameDuck = 2,
    /// New connections are rejected; requests in flight are answered.
    Draining = 3,
    /// Everything is closed.
    Stopped = 4,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Self; 5] =
        [Self::Starting, Self::Ready, Self::LameDuck, Self::Draining, Self::Stopped];

    /// The name, for `/readyz`, the admin API and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::LameDuck => "lame_duck",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// The phase, with a notification for the beginning of each.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: AtomicU8,
    begun: [Notify; Phase::ALL.len()],
    /// Notifies of a stop requested over the admin API.
    stop_requested: Notify,
    /// The current step of the start.
    step: Mutex<String>,
}

impl Lifecycle {
    /// A gateway that is starting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The current phase. One atomic load, for the hot path.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let phase = usize::from(self.phase.load(Ordering::Acquire));
        Phase::ALL.get(phase).copied().unwrap_or(Phase::Stopped)
    }

    /// Sets the current step of the start, for `/readyz`.
    pub fn step(&self, what: impl Into<String>) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    /// Why this gateway should get no callbacks, whatever its store says; `None`: it is ready.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        match self.phase() {
            Phase::Ready => None,
            Phase::Starting => {
                let step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
                Some(format!("{}: {step}", Phase::Starting.as_str()))
            }
            phase => Some(phase.as_str().to_owned()),
        }
    }

    /// The ledger is open: callbacks are accepted, unless a drain has begun.
    pub fn ready(&self) {
        self.advance(Phase::Ready);
    }

    /// Begins the lame duck: readiness says no. Callbacks are still accepted, and connections end
    /// with their next reply.
    pub fn lame_duck(&self) {
        self.advance(Phase::LameDuck);
    }

    /// Begins the drain: no new connections; requests in flight are answered.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Closes everything that is still open.
    pub fn stopped(&self) {
        self.advance(Phase::Stopped);
    }

    /// Requests an orderly stop, as SIGTERM does. Only the first request counts.
    pub fn ask_to_stop(&self) {
        self.stop_requested.notify_one();
    }

    /// Waits until a stop is requested. Only one task may wait.
    pub async fn asked_to_stop(&self) {
        self.stop_requested.notified().await;
    }

    /// Whether a drain has begun. One atomic load, for the hot path.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Waits until `phase` or a later one has begun.
    pub async fn reached(&self, phase: Phase) {
        let mut begun = pin!(self.begun[phase as usize].notified());
        begun.as_mut().enable();
        if self.phase() < phase {
            begun.await;
        }
    }

    /// Waits for the drain to begin.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits until the gateway has stopped.
    pub async fn ended(&self) {
        self.reached(Phase::Stopped).await;
    }

    fn advance(&self, to: Phase) {
        let before = usize::from(self.phase.fetch_max(to as u8, Ordering::AcqRel));
        for begun in self.begun.iter().take(to as usize + 1).skip(before + 1) {
            begun.notify_waiters();
        }
    }
}

/// SIGTERM and SIGINT: the first begins an orderly stop, the second stops at once.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// Otherwise one that comes early would end the process: the reload of the configuration
    /// listens later.
    _hangup: tokio::signal::unix::Signal,
}

impl Signals {
    /// Installs handlers for both signals that end this process, and for SIGHUP.
    ///
    /// # Errors
    /// If the operating system rejects a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }
}

/// A signal that ends the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: from a service manager or an orchestrator, which has a balancer in front.
    Terminate,
    /// SIGINT: from an operator at a terminal, who waits.
    Interrupt,
}

impl Signal {
    /// The name, for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    /// How the gateway stops on this signal.
    #[must_use]
    pub const fn stopping(self) -> Stopping {
        match self {
            Self::Terminate => Stopping::LameDuckFirst,
            Self::Interrupt => Stopping::DrainNow,
        }
    }
}

/// How a stop begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// As a lame duck, for `server.lame_duck`; then the drain.
    LameDuckFirst,
    /// With the drain.
    DrainNow,
}

/// When to stop: `drain` begins an orderly stop, `now` ends it.
#[derive(Debug)]
pub struct Stop<D, N> {
    /// Completes when the gateway has to stop, and says how.
    pub drain: D,
    /// Completes when the gateway has to stop at once, whatever is in flight.
    pub now: N,
}

impl Stop<(), ()> {
    /// Drains when `drain` completes, for the whole drain time if necessary.
    pub fn when(
        drain: impl Future<Output = ()>,
    ) -> Stop<impl Future<Output = Stopping>, std::future::Pending<()>> {
        let drain = async {
            drain.await;
            Stopping::DrainNow
        };
        Stop { drain, now: std::future::pending() }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_drain_is_never_taken_back() {
        let life = Lifecycle::new();
        assert_eq!(life.phase(), Phase::Starting);
        life.step("opening the store");
        assert_eq!(life.unready().unwrap(), "starting: opening the store");
        life.drain();
        life.ready();
        life.lame_duck();
        assert_eq!(life.phase(), Phase::Draining);
        assert_eq!(life.unready().unwrap(), "draining");
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

    #[tokio::test]
    async fn a_later_phase_notifies_waiters_for_earlier_ones() {
        let life = Lifecycle::new();
        let mut ready = pin!(life.reached(Phase::Ready));
        let mut end = pin!(life.reached(Phase::Stopped));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(ready.as_mut().poll(&mut cx).is_pending());
        assert!(end.as_mut().poll(&mut cx).is_pending());
        life.lame_duck();
        assert!(ready.poll(&mut cx).is_ready());
        assert!(end.as_mut().poll(&mut cx).is_pending());
        life.stopped();
        assert!(end.poll(&mut cx).is_ready());
    }
}
