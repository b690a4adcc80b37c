//! What a connection is doing, so that one timer a connection is enough.
//!
//! hyper's own time-out for heads makes and drops a timer for every request, and cannot tell a
//! head that trickles in from a connection that idles between two requests. Here a request costs
//! two stores, and the connection's watch looks at them when its one timer fires.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What a connection is doing, and since when.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    origin: Instant,
    /// Milliseconds after `origin` of the last change.
    since_ms: AtomicU64,
    /// Requests being answered.
    busy: AtomicU32,
    /// Requests so far, round and round.
    begun: AtomicU32,
    /// Whether a part of a head has come.
    head: AtomicBool,
    /// Whether a request had a body, so that nobody knows where the next head starts.
    had_body: AtomicBool,
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleAction {
    /// Nothing; look again after this time.
    Wait(Duration),
    /// It did nothing for too long: wind up.
    Finish,
    /// Its head took too long: close.
    Close,
}

/// A request is being answered until this is dropped.
#[derive(Debug)]
pub(super) struct Busy<'a>(&'a ConnectionActivity);

impl ConnectionActivity {
    /// A connection that was opened now and owes a head.
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            since_ms: AtomicU64::new(0),
            busy: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            head: AtomicBool::new(true),
            had_body: AtomicBool::new(false),
        }
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// How many requests have begun, round and round.
    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether a request so far had a body.
    pub(super) fn had_body(&self) -> bool {
        self.had_body.load(Ordering::Relaxed)
    }

    /// A request had a body.
    pub(super) fn saw_body(&self) {
        self.had_body.store(true, Ordering::Relaxed);
    }

    /// The first bytes of a head came, and not all of it. A head that comes whole, as nearly all
    /// do, is a request before anybody could look, and needs no stamp.
    pub(super) fn head(&self) {
        if !self.head.swap(true, Ordering::Relaxed) {
            self.stamp();
        }
    }

    /// A request begins.
    pub(super) fn begin(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.head.store(false, Ordering::Relaxed);
        Busy(self)
    }

    /// What is to be done now, when a head may take `head` and a connection may idle for `idle`.
    pub(super) fn judge(&self, now: Instant, head: Duration, idle: Duration) -> IdleAction {
        let lasted = self.lasted(now);
        if self.is_busy() {
            IdleAction::Wait(head)
        } else if self.head.load(Ordering::Relaxed) {
            head.checked_sub(lasted)
                .filter(|left| !left.is_zero())
                .map_or(IdleAction::Close, IdleAction::Wait)
        } else {
            idle.checked_sub(lasted)
                .filter(|left| !left.is_zero())
                .map_or(IdleAction::Finish, |left| IdleAction::Wait(left.min(head)))
        }
    }

    /// How long it has idled between two requests; `None` while it does anything.
    pub(super) fn idle_for(&self, now: Instant) -> Option<Duration> {
        let idles = !self.is_busy() && !self.head.load(Ordering::Relaxed);
        idles.then(|| self.lasted(now))
    }

    /// Since the last change.
    fn lasted(&self, now: Instant) -> Duration {
        let since = Duration::from_millis(self.since_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.origin).saturating_sub(since)
    }

    fn stamp(&self) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since_ms.store(now, Ordering::Relaxed);
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.stamp();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    #[tokio::test(start_paused = true)]
    async fn a_head_is_timed_from_its_first_byte() {
        let pulse = ConnectionActivity::new();
        drop(pulse.begin());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(pulse.judge(Instant::now(), HEAD, IDLE), IdleAction::Wait(HEAD));
        pulse.head();
        tokio::time::advance(Duration::from_secs(9)).await;
        pulse.head();
        assert_eq!(
            pulse.judge(Instant::now(), HEAD, IDLE),
            IdleAction::Wait(Duration::from_secs(1))
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pulse.judge(Instant::now(), HEAD, IDLE), IdleAction::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_speaks_is_a_head_that_never_comes() {
        let pulse = ConnectionActivity::new();
        tokio::time::advance(HEAD).await;
        assert_eq!(pulse.judge(Instant::now(), HEAD, IDLE), IdleAction::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn idling_is_not_a_slow_head_and_ends_in_good_order() {
        let pulse = ConnectionActivity::new();
        let busy = pulse.begin();
        tokio::time::advance(Duration::from_secs(500)).await;
        assert_eq!(pulse.judge(Instant::now(), HEAD, IDLE), IdleAction::Wait(HEAD));
        drop(busy);
        tokio::time::advance(IDLE).await;
        assert_eq!(pulse.judge(Instant::now(), HEAD, IDLE), IdleAction::Finish);
    }
}
