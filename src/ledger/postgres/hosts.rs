//! The hosts of the URL, and the one that accepts writes on the newest timeline.
//!
//! An old primary that returns unfenced also accepts writes. A promotion begins a new timeline: the
//! server with the highest one is used. A server on an older timeline than one seen before is never
//! used again by this process. With a single host nothing is compared.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;

use super::dialer::{Dialer, SessionRole};
use super::link::Session;
use super::url;

/// The interval of checks of a host: a promotion is seen within this time and the answer's.
const LOOK: Duration = Duration::from_secs(1);
/// The time limit of a host's answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The hosts of the URL.
pub(super) struct Hosts {
    all: Vec<Host>,
    /// The newest timeline seen; 0: none yet.
    newest: watch::Sender<u32>,
}

/// A server, and its state at the last check.
struct Host {
    name: String,
    config: Config,
    seen: Mutex<Seen>,
}

/// The state of a host, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    /// Accepts no writes.
    Standby,
    /// Not reached, or not asked.
    Unknown,
    /// Accepts writes, on this timeline.
    Primary(u32),
}

impl Host {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hosts {
    pub(super) fn new(config: &Config) -> Self {
        let all = url::hosts(config).into_iter();
        let host = |(name, config)| Host { name, config, seen: Mutex::new(Seen::Unknown) };
        Self { all: all.map(host).collect(), newest: watch::Sender::new(0) }
    }

    /// Whether timelines of several hosts have to be compared.
    pub(super) fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// The order of connection tries. It rotates with each failed try, so a host that accepts
    /// connections and then stays silent is not always first.
    pub(super) fn order(&self, failed: usize) -> Vec<usize> {
        let count = self.all.len();
        let mut order: Vec<usize> = (0..count).collect();
        let turn = |at: usize| (at + count - failed % count) % count;
        order.sort_by_key(|at| (Reverse(*self.all[*at].seen()), turn(*at)));
        order
    }

    pub(super) fn config(&self, at: usize) -> &Config {
        &self.all[at].config
    }

    pub(super) fn name(&self, at: usize) -> &str {
        &self.all[at].name
    }

    /// Records the state of a host; `None`: not reached.
    pub(super) fn saw(&self, at: usize, state: Option<State>) {
        let seen = match state {
            None => Seen::Unknown,
            Some(State { refuses: Some(_), .. }) => Seen::Standby,
            Some(State { timeline, .. }) => Seen::Primary(timeline),
        };
        *self.all[at].seen() = seen;
        if let Seen::Primary(timeline) = seen {
            self.newest.send_if_modified(|newest| {
                let newer = timeline > *newest;
                if newer && *newest > 0 {
                    let (host, before) = (&self.all[at].name, *newest);
                    tracing::warn!(host, timeline, before, "PostgreSQL has failed over");
                }
                *newest = timeline.max(*newest);
                newer
            });
        }
    }

    /// Why a server on this timeline must not be used. A server without a timeline is not known to
    /// be old.
    pub(super) fn superseded(&self, timeline: u32) -> Option<String> {
        let newest = *self.newest.borrow();
        (timeline > 0 && timeline < newest).then(|| {
            format!(
                "is an old primary: it is on timeline {timeline}, and timeline {newest} was seen; \
                 stop it, or restart the gateway if it is the right one"
            )
        })
    }

    /// The newest timeline and its changes.
    pub(super) fn newest(&self) -> watch::Receiver<u32> {
        self.newest.subscribe()
    }
}

/// The state of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Why it accepts no writes.
    pub(super) refuses: Option<&'static str>,
    /// The process of the session.
    pub(super) process: i32,
    /// The timeline; 0 if not asked or unknown.
    pub(super) timeline: u32,
}

/// Checks all hosts once, concurrently, before the first choice.
pub(super) async fn survey(dialer: &Arc<Dialer>) {
    if !dialer.hosts.are_several() {
        return;
    }
    let mut looks = JoinSet::new();
    for at in dialer.hosts.order(0) {
        let dialer = Arc::clone(dialer);
        looks.spawn(async move { look(&dialer, at, &mut None).await });
    }
    while looks.join_next().await.is_some() {}
}

/// Checks each host repeatedly until the dialer is dropped.
pub(super) fn watch(dialer: &Arc<Dialer>) -> Vec<AbortHandle> {
    if !dialer.hosts.are_several() {
        return Vec::new();
    }
    let follow = |at| dialer.handle.spawn(follow(Arc::downgrade(dialer), at)).abort_handle();
    dialer.hosts.order(0).into_iter().map(follow).collect()
}

async fn follow(dialer: Weak<Dialer>, at: usize) {
    let mut session = None;
    loop {
        let Some(dialer) = dialer.upgrade() else { return };
        look(&dialer, at, &mut session).await;
        drop(dialer);
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(dialer: &Arc<Dialer>, at: usize, session: &mut Option<Session>) {
    let ask = async {
        let known = session.take().filter(|session| !session.client().is_closed());
        let known = match known {
            Some(known) => known,
            None => dialer.dial_host(at, SessionRole::Watch, TargetSessionAttrs::Any).await?,
        };
        let state = dialer.state(&known).await?;
        *session = Some(known);
        Ok::<_, super::query_error::QueryError>(state)
    };
    let state = tokio::time::timeout(ANSWER, ask).await.ok().and_then(Result::ok);
    dialer.hosts.saw(at, state);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(timeline: u32) -> Option<State> {
        Some(State { refuses: None, process: 1, timeline })
    }

    #[test]
    fn the_newest_timeline_comes_first_and_an_older_one_is_refused() {
        let hosts = Hosts::new(&url::parse("postgres://u@a,b,c/d").unwrap());
        assert_eq!(hosts.order(0), [0, 1, 2]);
        assert_eq!(hosts.order(1), [1, 2, 0]);
        hosts.saw(0, state(1));
        hosts.saw(1, Some(State { refuses: Some("is a standby"), process: 1, timeline: 0 }));
        assert_eq!((hosts.order(0), hosts.superseded(1)), (vec![0, 2, 1], None));
        hosts.saw(1, state(2));
        assert_eq!(hosts.order(0), [1, 0, 2]);
        assert!(hosts.superseded(1).unwrap().contains("timeline 2 was seen"));
        // The newest timeline stays: what the old server accepts would be lost with it.
        hosts.saw(1, None);
        assert!(hosts.superseded(1).is_some() && hosts.superseded(2).is_none());
    }
}
