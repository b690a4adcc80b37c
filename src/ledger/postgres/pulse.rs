//! The pulse: one task that looks every second whether the server is there, what it promises, and
//! whether a document has changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Core;
use super::fault::Fault;
use super::figures::{self, Promise};
use super::link::{Role, Session};
use super::vault::Used;
use crate::clock::instant;
use crate::ledger::{Durability, Health, Revision};

/// Documents changed on another gateway are seen within this time at most.
const BEAT: Duration = Duration::from_secs(1);
/// A server that does not answer one question in this time is out of reach.
const ANSWER_TIME: Duration = Duration::from_secs(4);
/// Beats between two looks at what the server promises, …
const PROMISE_BEATS: u64 = 5;
/// … at how large it is, …
const SIZE_BEATS: u64 = 60;
/// … and at the partitions of the days that come.
const DAYS_BEATS: u64 = 900;
/// A commit that takes longer waits for a standby that is not there, or for a lock that nobody
/// should hold; senders have stopped waiting.
const STUCK: Duration = Duration::from_secs(10);

/// What is known of the server.
pub(super) struct Pulse {
    seen: Mutex<Seen>,
    revision: watch::Sender<Revision>,
}

struct Seen {
    /// Why it is out of reach.
    down: Option<String>,
    promise: Promise,
    /// Whether only what is replicated may be acknowledged.
    strict: bool,
    bytes: u64,
    /// Commits that are under way, by number, and when they began.
    commits: BTreeMap<u64, Instant>,
    last: u64,
}

/// A commit that is under way, until it is dropped.
pub(super) struct Commit<'p> {
    pulse: &'p Pulse,
    number: u64,
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        self.pulse.seen().commits.remove(&self.number);
    }
}

impl Pulse {
    pub(super) fn new(promise: Promise, require_replicated: bool, revision: Revision) -> Self {
        let seen = Seen {
            down: None,
            promise,
            strict: require_replicated,
            bytes: 0,
            commits: BTreeMap::new(),
            last: 0,
        };
        Self { seen: Mutex::new(seen), revision: watch::Sender::new(revision) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit begins.
    pub(super) fn commit(&self) -> Commit<'_> {
        let mut seen = self.seen();
        seen.last += 1;
        let number = seen.last;
        seen.commits.insert(number, instant());
        Commit { pulse: self, number }
    }

    /// Why the server is out of reach.
    pub(super) fn down(&self) -> Option<String> {
        self.seen().down.clone()
    }

    /// Why nothing may be acknowledged of what the server would take.
    pub(super) fn barred(&self) -> Option<String> {
        self.seen().barred()
    }

    /// Documents are at `revision`, at least.
    pub(super) fn saw(&self, revision: Revision) {
        self.revision.send_if_modified(|newest| {
            let newer = revision > *newest;
            *newest = revision.max(*newest);
            newer
        });
    }

    pub(super) fn revisions(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    pub(super) fn health(&self) -> Health {
        let seen = self.seen();
        let oldest = seen.commits.values().next().map(|began| instant() - *began);
        let stuck = oldest.filter(|age| *age > STUCK).map(|age| {
            format!(
                "a commit has been waiting for {} s; is a synchronous standby missing?",
                age.as_secs()
            )
        });
        Health {
            stopped: seen.down.clone().or_else(|| seen.barred()).or(stuck),
            durability: seen.promise.durability,
            bytes: seen.bytes,
            room: None,
            mended: Vec::new(),
            damage: Vec::new(),
        }
    }

    fn heard(&self, beat: Result<Beat, Fault>) {
        let mut seen = self.seen();
        match beat {
            Ok(beat) => {
                if seen.down.take().is_some() {
                    tracing::info!("PostgreSQL is back");
                }
                if let Some(promise) = beat.promise.filter(|new| *new != seen.promise) {
                    tracing::warn!(said = promise.said, "what PostgreSQL promises has changed");
                    seen.promise = promise;
                }
                seen.bytes = beat.bytes.unwrap_or(seen.bytes);
                drop(seen);
                self.saw(beat.revision);
            }
            Err(fault) => {
                let why = match fault {
                    Fault::Down(why) | Fault::Elsewhere(why) | Fault::Refused(why) => why,
                    _ => "the connection to PostgreSQL was lost".to_owned(),
                };
                if seen.down.is_none() {
                    tracing::error!(why, "PostgreSQL is out of reach");
                }
                seen.down = Some(why);
            }
        }
    }
}

impl Seen {
    fn barred(&self) -> Option<String> {
        let bad = self.strict && self.promise.durability != Durability::Replicated;
        bad.then(|| unreplicated(&self.promise))
    }
}

/// Why a server is not good enough for `require_replicated`.
pub(super) fn unreplicated(promise: &Promise) -> String {
    format!(
        "store.require_replicated is set and PostgreSQL does not replicate synchronously: {}",
        promise.said
    )
}

/// What one look found.
struct Beat {
    revision: Revision,
    used: Used,
    promise: Option<Promise>,
    bytes: Option<u64>,
}

/// Beats until the engine is gone.
pub(super) async fn beat(core: Weak<Core>) {
    let mut session = None;
    for count in 0_u64.. {
        let Some(core) = core.upgrade() else { return };
        let looked = tokio::time::timeout(ANSWER_TIME, look(&core, &mut session, count)).await;
        let looked =
            looked.unwrap_or_else(|_| Err(Fault::Down("PostgreSQL does not answer".to_owned())));
        if looked.is_err() {
            session = None;
        }
        if let Ok(beat) = &looked {
            core.vault.heard(beat.used.clone());
        }
        core.pulse.heard(looked);
        if count % DAYS_BEATS == DAYS_BEATS - 1 {
            core.prepare_days().await;
        }
        let bell = Arc::clone(&core.dialer.bell);
        drop(core);
        tokio::select! {
            () = bell.notified() => {}
            () = tokio::time::sleep(BEAT) => {}
        }
    }
}

async fn look(core: &Arc<Core>, session: &mut Option<Session>, count: u64) -> Result<Beat, Fault> {
    let fresh = session.as_ref().is_none_or(|session| session.client().is_closed());
    if fresh {
        let new = core.dialer.dial(Role::Read).await?;
        // To be woken early; where the server has no such thing, the beat is enough.
        if let Err(fault) = new.batch(&format!("listen \"{}\"", core.dialer.channel())).await {
            tracing::debug!(?fault, "no notifications");
        }
        *session = Some(new);
    }
    let Some(session) = session else { return Err(Fault::Lost) };
    let row = session.row("select v from meta where k = 'revision'", &[]).await?;
    let revision = Revision(row.get::<_, i64>(0).cast_unsigned());
    let used = Used::read(session).await?;
    let promise = match fresh || count.is_multiple_of(PROMISE_BEATS) {
        true => Some(figures::promise(session).await?),
        false => None,
    };
    let bytes = match count.is_multiple_of(SIZE_BEATS) {
        true => Some(figures::size(session).await?),
        false => None,
    };
    Ok(Beat { revision, used, promise, bytes })
}
