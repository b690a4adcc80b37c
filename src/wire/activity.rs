//! The activity of a connection. One timer per connection is enough.
//!
//! hyper's own timeout for heads creates and drops a timer for every request. It cannot tell a slow
//! head from a connection that idles between two requests. Here a request costs two stores, which
//! the connection's one timer reads.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::idle_reclaim::IdleReclaim;

/// The length of a body that comes in chunks.
const UNKNOWN: u64 = u64::MAX;

/// The activity of a connection, and since when.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    origin: Instant,
    /// Milliseconds after `origin` of the last change.
    since_ms: AtomicU64,
    /// Requests in progress.
    busy: AtomicU32,
    /// Requests so far, modulo the counter's range.
    begun: AtomicU32,
    /// Whether a part of a head has arrived.
    head: AtomicBool,
    /// Bytes of the body of the last request that hyper read, or [`UNKNOWN`].
    body_len: AtomicU64,
    reclaim: IdleReclaim,
}

/// The action for an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleAction {
    /// None; check again after this time.
    Wait(Duration),
    /// The connection idled for too long: close it gracefully.
    Finish,
    /// The head took too long: close the connection.
    Close,
}

/// The activity of a connection without a request in progress, and its duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leisure {
    /// No head yet, or a part of one.
    OwesHead(Duration),
    /// Nothing, between two requests.
    Idle(Duration),
}

/// Marks a request as in progress until it is dropped.
#[derive(Debug)]
pub(super) struct InProgress<'a>(&'a ConnectionActivity);

impl ConnectionActivity {
    /// A new connection that has sent no head.
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            since_ms: AtomicU64::new(0),
            busy: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            head: AtomicBool::new(true),
            body_len: AtomicU64::new(0),
            reclaim: IdleReclaim::default(),
        }
    }

    /// Whether a request is in progress.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// The number of requests so far, modulo the counter's range.
    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    /// The length of the body of the last request that hyper read, if its head says it.
    pub(super) fn body_len(&self) -> Option<u64> {
        Some(self.body_len.load(Ordering::Relaxed)).filter(|len| *len != UNKNOWN)
    }

    /// Records the length of the body of a request that hyper reads, if its head says it.
    pub(super) fn saw_body(&self, len: Option<u64>) {
        self.body_len.store(len.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// Records the first bytes of an incomplete head. A complete head, as nearly all are, becomes a
    /// request at once and needs no time stamp.
    pub(super) fn head(&self) {
        if !self.head.swap(true, Ordering::Relaxed) {
            self.stamp();
        }
    }

    /// Records that a request begins.
    pub(super) fn begin(&self) -> InProgress<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.head.store(false, Ordering::Relaxed);
        InProgress(self)
    }

    /// The action for now, when a head may take `head` and a connection may idle for `idle`.
    pub(super) fn action(&self, now: Instant, head: Duration, idle: Duration) -> IdleAction {
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

    /// The activity while no request is in progress; `None` while one is.
    pub(super) fn leisure(&self, now: Instant) -> Option<Leisure> {
        let kind = match self.head.load(Ordering::Relaxed) {
            true => Leisure::OwesHead,
            false => Leisure::Idle,
        };
        (!self.is_busy()).then(|| kind(self.lasted(now)))
    }

    /// How the connection learns that others wait for its place.
    pub(super) fn reclaim(&self) -> &IdleReclaim {
        &self.reclaim
    }

    /// The time since the last change.
    fn lasted(&self, now: Instant) -> Duration {
        let since = Duration::from_millis(self.since_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.origin).saturating_sub(since)
    }

    fn stamp(&self) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since_ms.store(now, Ordering::Relaxed);
    }
}

impl Drop for InProgress<'_> {
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
        let activity = ConnectionActivity::new();
        drop(activity.begin());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(activity.action(Instant::now(), HEAD, IDLE), IdleAction::Wait(HEAD));
        activity.head();
        tokio::time::advance(Duration::from_secs(9)).await;
        activity.head();
        assert_eq!(
            activity.action(Instant::now(), HEAD, IDLE),
            IdleAction::Wait(Duration::from_secs(1))
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(activity.action(Instant::now(), HEAD, IDLE), IdleAction::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_speaks_is_a_head_that_never_comes() {
        let activity = ConnectionActivity::new();
        tokio::time::advance(HEAD).await;
        assert_eq!(activity.action(Instant::now(), HEAD, IDLE), IdleAction::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn idling_is_not_a_slow_head_and_ends_in_good_order() {
        let activity = ConnectionActivity::new();
        let busy = activity.begin();
        tokio::time::advance(Duration::from_secs(500)).await;
        assert_eq!(activity.action(Instant::now(), HEAD, IDLE), IdleAction::Wait(HEAD));
        drop(busy);
        tokio::time::advance(IDLE).await;
        assert_eq!(activity.action(Instant::now(), HEAD, IDLE), IdleAction::Finish);
    }
}
