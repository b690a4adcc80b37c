//! Retention: what goes, what stays, and what a crash in between leaves.

use std::os::unix::fs::MetadataExt as _;

use futures_util::FutureExt as _;

use super::*;
use crate::ledger::embedded::files::faulty::Faults;
use crate::ledger::{DeliveryState, Expect};

const DAY: Duration = Duration::from_secs(86_400);
const DAY_MS: i64 = 86_400_000;
const KIND: Kind = Kind::new("rule");

/// A ledger with many closed segments of the first day, and its clock.
struct Old {
    dir: TempDir,
    clock: StoreClock,
    ledger: Embedded,
    events: Vec<NewEvent>,
}

/// The result of an event's delivery: every 50th is dead, every 51st still pending.
fn fate(n: usize) -> LeaseResult {
    if n.is_multiple_of(50) {
        LeaseResult::Dead
    } else if n.is_multiple_of(51) {
        LeaseResult::Retry { after: 1000 * DAY }
    } else {
        LeaseResult::Done
    }
}

impl Old {
    async fn new(count: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let clock = StoreClock::manual(START_MS + DAY_MS / 2);
        let ledger = Embedded::open(options(&dir, clock.clone())).unwrap();
        let put = |n: u64, expect| DocumentChange {
            kind: KIND,
            id: "1".into(),
            expect,
            body: Some(format!("version {n}").into()),
            who: "me".into(),
            at_ms: START_MS,
        };
        let first = ledger.change(&put(1, Expect::Absent)).await.unwrap();
        let events = fill(&ledger, 0..count, 1500).await;
        ledger.change(&put(2, Expect::Version(first))).await.unwrap();
        let leases = ledger.lease(&node(), &ask(events.len())).await.unwrap().leases;
        for lease in &leases {
            let n = events.iter().position(|event| event.id == lease.event).unwrap();
            let settlement = conformance::settlement(lease, fate(n));
            ledger.settle(&node(), &[settlement]).await.unwrap();
        }
        Self { dir, clock, ledger, events }
    }

    fn reopen(self) -> Self {
        let Self { dir, clock, ledger, events } = self;
        drop(ledger);
        let ledger = Embedded::open(options(&dir, clock.clone())).unwrap();
        Self { dir, clock, ledger, events }
    }

    /// Advances time: three more events `days` after the first, so large that each fills a
    /// segment and closes the one before.
    async fn at_day(&self, days: i64) {
        self.clock.advance(START_MS + days * DAY_MS - self.clock.ms());
        for n in 0..3 {
            let mut late = event((days * DAY_MS + n) as u64, &[]);
            late.body = vec![1; 60_000].into();
            self.ledger.accept(&[late]).await.unwrap();
        }
    }

    fn policy(&self, sources: &[&str]) -> Retention {
        Retention {
            now_ms: self.clock.ms(),
            keep_events: 30 * DAY,
            keep_keys: conformance::keep(sources, 90 * DAY),
            held: crate::ledger::HeldRetention::default(),
        }
    }

    /// Sweeps until nothing is left to do; a closed segment may still be on its way to the index.
    async fn sweep(&self, sources: &[&str]) -> Swept {
        let mut sum = Swept::default();
        while self.ledger.core().all_runs().iter().rev().skip(1).any(is_open) {
            std::thread::yield_now();
        }
        loop {
            let swept = self.ledger.sweep(&self.policy(sources), 50).await.unwrap();
            sum.events += swept.events;
            sum.keys += swept.keys;
            sum.bytes += swept.bytes;
            if !swept.more {
                return sum;
            }
        }
    }

    /// Events whose delivery is not done are whole, the others are gone.
    async fn assert_events_are_swept(&self) {
        for (n, event) in self.events.iter().enumerate() {
            let detail = self.ledger.event(event.id).await.unwrap();
            if fate(n) == LeaseResult::Done {
                assert_eq!(detail, None);
                continue;
            }
            let detail = detail.unwrap();
            assert_eq!(detail.event.body, event.body);
            let dead = fate(n) == LeaseResult::Dead;
            let state = if dead { DeliveryState::Dead } else { DeliveryState::Pending };
            assert_eq!((detail.deliveries[0].state, detail.deliveries[0].attempt), (state, 1));
            assert_eq!(detail.deliveries[0].attempts.len(), 1);
        }
        let document = self.ledger.document(KIND, "1").await.unwrap().unwrap();
        assert_eq!(document.body, "version 2");
    }

    /// Whether each event's key is known; nothing is recorded by asking.
    async fn known(&self) -> Vec<bool> {
        let mut known = Vec::new();
        for event in &self.events {
            // Offered beside a key that is certainly known, it is a repetition of the one or the
            // other, and with an own fingerprint a conflict, which writes nothing.
            let mut again = conformance::event(1 << 40, &[]);
            let both = [event, &self.events[0]].map(|event| event.keys.identity[0]);
            again.keys = both.into_iter().collect();
            match &self.ledger.accept(&[again]).await.unwrap()[0] {
                Accepted::Conflict { first, .. } => known.push(*first == event.id),
                _ => known.push(false),
            }
        }
        known
    }
}

/// The files of keys of segments that were rewritten once, with their inodes.
fn rewritten_key_files(dir: &TempDir) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(core::index_dir(dir.path()).join("period-0000000000-1")).unwrap();
    let mut files: Vec<(PathBuf, u64)> = entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("keys-"))
        .map(|entry| (entry.path(), entry.metadata().unwrap().ino()))
        .collect();
    files.sort();
    files
}

fn is_open(run: &run::Run) -> bool {
    matches!(run, run::Run::Open(_))
}

#[tokio::test]
async fn events_go_after_their_time_and_keys_after_theirs() {
    let old = Old::new(300).await;
    old.at_day(20).await;
    assert_eq!(old.sweep(&["s"]).await, Swept::default());
    old.at_day(40).await;
    let swept = old.sweep(&["s"]).await;
    assert_eq!((swept.events, swept.keys), (289, 0));
    assert!(swept.bytes > 300_000, "{swept:?}");
    old.assert_events_are_swept().await;
    assert!(old.known().await.into_iter().all(|known| known));
    // Rewritten segments keep the files of their keys, however often they are loaded.
    let files = rewritten_key_files(&old.dir);
    assert!(files.len() > 3, "{files:?}");
    let old = old.reopen().reopen();
    assert_eq!(rewritten_key_files(&old.dir), files);
    assert_eq!(old.ledger.health().await.unwrap().mended, [""; 0]);
    assert!(old.known().await.into_iter().all(|known| known));
    // The same after a restart, with the index and without.
    let old = old.reopen();
    old.assert_events_are_swept().await;
    assert!(old.known().await.into_iter().all(|known| known));
    fs::remove_dir_all(core::index_dir(old.dir.path())).unwrap();
    let old = old.reopen();
    old.assert_events_are_swept().await;
    assert!(old.known().await.into_iter().all(|known| known));
    // Nothing more goes until the keys are old.
    assert_eq!(old.sweep(&["s"]).await.events, 0);
    old.at_day(100).await;
    let kept = old.sweep(&[]).await;
    assert_eq!(
        (kept.events, kept.keys),
        (6, 0),
        "the events of day 20 and 40 go, and no key of `s`"
    );
    assert!(old.known().await.into_iter().all(|known| known));
    let swept = old.sweep(&["s"]).await;
    assert_eq!((swept.events, swept.keys), (0, 289));
    let known = old.known().await;
    assert!(known.iter().enumerate().all(|(n, known)| *known == (fate(n) != LeaseResult::Done)));
    let old = old.reopen();
    old.assert_events_are_swept().await;
    assert_eq!(old.known().await, known);
}

#[tokio::test]
async fn a_rewrite_keeps_its_turn_when_its_caller_is_gone() {
    let old = Old::new(120).await;
    old.at_day(40).await;
    let Old { dir, clock, ledger, events } = old;
    drop(ledger);
    let faults = Faults::default();
    let ledger = Embedded::open_with(options(&dir, clock.clone()), Arc::new(faults.clone()));
    let old = Old { dir, clock, ledger: ledger.unwrap(), events };
    let policy = old.policy(&["s"]);
    {
        // The new form of a segment waits for its sync.
        let _hold = faults.hold.lock().unwrap();
        assert!(old.ledger.sweep(&policy, 1000).now_or_never().is_none());
        assert!(old.ledger.shared.rewrite_lock.try_lock().is_err(), "the rewrite goes on");
    }
    // This sweep waits for the other, which leaves nothing to do.
    assert_eq!(old.sweep(&["s"]).await.events, 0);
    old.assert_events_are_swept().await;
    assert!(old.known().await.into_iter().all(|known| known));
}

#[tokio::test]
async fn a_segment_with_nothing_left_is_removed() {
    let old = Old::new(60).await;
    old.at_day(2).await;
    for n in 0..2 {
        // Now the dead and the pending are done too.
        old.clock.advance(2000 * DAY_MS * n);
        for lease in old.ledger.lease(&node(), &ask(100)).await.unwrap().leases {
            let done = conformance::settlement(&lease, LeaseResult::Done);
            old.ledger.settle(&node(), &[done]).await.unwrap();
        }
    }
    let order = ReplayOrder {
        id: crate::ledger::ReplayId::new(1),
        what: crate::ledger::ReplayWhat::Events(vec![old.events[0].id, old.events[50].id]),
        targets: None,
        only: None,
    };
    old.ledger.replay(&order, None, 10).await.unwrap();
    for lease in old.ledger.lease(&node(), &ask(100)).await.unwrap().leases {
        let done = conformance::settlement(&lease, LeaseResult::Done);
        old.ledger.settle(&node(), &[done]).await.unwrap();
    }
    old.at_day(2200).await;
    let swept = old.sweep(&["s"]).await;
    assert!(swept.events >= 60 && swept.keys >= 60, "{swept:?}");
    // The document in the first segment was superseded, so that segment is gone.
    assert!(!segments(&old.dir)[0].ends_with(journal::file_name(0, 0)));
    let old = old.reopen();
    assert_eq!(old.ledger.health().await.unwrap().mended, [""; 0]);
    assert_eq!(old.ledger.document(KIND, "1").await.unwrap().unwrap().body, "version 2");
}

#[tokio::test]
async fn a_crash_between_the_new_form_and_the_old_leaves_the_new_one() {
    let old = Old::new(100).await;
    old.at_day(40).await;
    let saved: Vec<(PathBuf, Vec<u8>)> = segments(&old.dir)
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    old.sweep(&["s"]).await;
    let Old { dir, clock, ledger, events } = old;
    drop(ledger);
    // As if the machine had died before the old forms were removed.
    for (path, bytes) in saved {
        if !path.exists() {
            fs::write(path, bytes).unwrap();
        }
    }
    let ledger = Embedded::open(options(&dir, clock.clone())).unwrap();
    let old = Old { dir, clock, ledger, events };
    old.assert_events_are_swept().await;
    assert!(old.known().await.into_iter().all(|known| known));
}

#[tokio::test]
async fn a_clock_that_jumped_ahead_expires_nothing() {
    let old = Old::new(100).await;
    old.clock.advance(1000 * DAY_MS);
    assert_eq!(old.sweep(&["s"]).await, Swept::default());
    assert!(old.known().await.into_iter().all(|known| known));
}

#[tokio::test]
async fn duplicates_are_found_while_their_keys_move() {
    let old = Old::new(200).await;
    old.at_day(40).await;
    while old.ledger.core().all_runs().iter().rev().skip(1).any(is_open) {
        std::thread::yield_now();
    }
    let (ledger, policy) = (old.ledger.clone(), old.policy(&["s"]));
    let sweeping = tokio::spawn(async move { ledger.sweep(&policy, usize::MAX).await });
    let mut rounds = 0;
    while !sweeping.is_finished() || rounds == 0 {
        assert!(old.known().await.into_iter().all(|known| known));
        rounds += 1;
    }
    assert_eq!(sweeping.await.unwrap().unwrap().events, 193);
}

#[tokio::test]
async fn events_stamped_by_a_clock_that_jumped_do_not_make_the_jump_true() {
    let mut old = Old::new(100).await;
    let wrong = StoreClock::manual(old.clock.ms() + 400 * DAY_MS);
    for round in 0..2 {
        for n in 0..3 {
            let ms = wrong.ms() - START_MS + round * 10 + n;
            let mut late = event(ms as u64, &[]);
            late.body = vec![1; 60_000].into();
            old.ledger.accept(&[late]).await.unwrap();
        }
        old.ledger.wait_until_indexed().unwrap();
        let policy = Retention { now_ms: wrong.ms(), ..old.policy(&["s"]) };
        assert_eq!(old.ledger.sweep(&policy, usize::MAX).await.unwrap(), Swept::default());
        assert!(old.known().await.into_iter().all(|known| known));
        // Nor does a start under the wrong clock.
        old.clock = wrong.clone();
        old = old.reopen();
    }
}

#[tokio::test]
async fn a_clock_that_jumps_after_a_long_uptime_expires_nothing() {
    let old = Old::new(3).await;
    for _ in 0..100 {
        old.clock.advance(DAY_MS);
        old.sweep(&["s"]).await;
    }
    let n = |ms: i64| (old.clock.ms() - START_MS + ms) as u64;
    let today: Vec<_> = (0..3).map(|at| event(n(at), &[])).collect();
    for events in [&[event(n(95 * DAY_MS), &[])][..], &today] {
        old.ledger.accept(events).await.unwrap();
        old.ledger.call(Call::Roll).await.unwrap();
    }
    old.ledger.wait_until_indexed().unwrap();
    let ahead = |ms| Retention { now_ms: old.clock.ms() + ms, ..old.policy(&["s"]) };
    old.ledger.sweep(&ahead(95 * DAY_MS), usize::MAX).await.unwrap();
    for event in &today {
        assert!(old.ledger.event(event.id).await.unwrap().is_some());
    }
    // Within the day for which events expire by the clock, keys stay.
    let hour = DAY / 24;
    let short = Retention {
        keep_events: hour,
        keep_keys: conformance::keep(&["s"], hour),
        ..ahead(DAY_MS / 8)
    };
    assert!(old.ledger.sweep(&short, usize::MAX).await.unwrap().events >= 3);
    for (at, event) in today.iter().enumerate() {
        let again = conformance::repeat(event, n(10 + at as i64));
        let answers = old.ledger.accept(&[again]).await.unwrap();
        assert!(matches!(answers[..], [Accepted::Duplicate { first, .. }] if first == event.id));
    }
}

#[tokio::test]
async fn an_event_that_a_clock_ahead_stamped_holds_up_no_others() {
    let old = Old::new(100).await;
    let ahead = event((300 * DAY_MS) as u64, &["a"]);
    old.ledger.accept(std::slice::from_ref(&ahead)).await.unwrap();
    // Its result comes in a later segment.
    let behind = fill(&old.ledger, 10_000..10_100, 1500).await;
    let leases = old.ledger.lease(&node(), &ask(1000)).await.unwrap().leases;
    let settlements: Vec<_> =
        leases.iter().map(|lease| conformance::settlement(lease, LeaseResult::Done)).collect();
    old.ledger.settle(&node(), &settlements).await.unwrap();
    old.ledger.call(Call::Roll).await.unwrap();
    old.at_day(40).await;
    assert_eq!(old.sweep(&["s"]).await.events, 97 + 100);
    old.assert_events_are_swept().await;
    for event in &behind {
        assert_eq!(old.ledger.event(event.id).await.unwrap(), None);
    }
    assert!(old.known().await.into_iter().all(|known| known));
    // It stays, and is not delivered again, until its stamp is old.
    let old = old.reopen();
    let detail = old.ledger.event(ahead.id).await.unwrap().unwrap();
    let delivery = &detail.deliveries[0];
    assert_eq!((delivery.state, delivery.attempts.len()), (DeliveryState::Done, 1));
    assert_eq!(old.ledger.lease(&node(), &ask(9)).await.unwrap().leases, []);
    assert_eq!(old.sweep(&["s"]).await.events, 0);
    old.at_day(331).await;
    old.sweep(&["s"]).await;
    assert_eq!(old.ledger.event(ahead.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_result_goes_after_its_event_where_a_segment_expires_in_parts() {
    let old = Old::new(3).await;
    // One segment with an event of today and one that a clock ahead stamped; the results of both
    // come in a later segment, beside expired events, of which one is dead and stays.
    let today = event((10 * DAY_MS + 1000) as u64, &["a"]);
    let ahead = event((300 * DAY_MS) as u64, &["a"]);
    old.ledger.accept(&[today.clone(), ahead]).await.unwrap();
    old.ledger.call(Call::Roll).await.unwrap();
    let stays = fill(&old.ledger, 10_000..10_010, 1500).await[0].id;
    for lease in old.ledger.lease(&node(), &ask(1000)).await.unwrap().leases {
        let result = if lease.event == stays { LeaseResult::Dead } else { LeaseResult::Done };
        let settlement = conformance::settlement(&lease, result);
        old.ledger.settle(&node(), &[settlement]).await.unwrap();
    }
    old.ledger.call(Call::Roll).await.unwrap();
    old.at_day(40).await;
    old.sweep(&["s"]).await;
    assert!(old.ledger.event(today.id).await.unwrap().is_some());
    // Later on that day it expires.
    old.clock.advance(60_000);
    old.sweep(&["s"]).await;
    assert_eq!(old.ledger.event(today.id).await.unwrap(), None);
    let old = old.reopen();
    assert_eq!(old.ledger.lease(&node(), &ask(9)).await.unwrap().leases, []);
    assert_eq!(old.ledger.event(today.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_segment_that_a_clock_ahead_began_is_closed() {
    let dir = TempDir::new().unwrap();
    let ahead = StoreClock::manual(START_MS + 400 * DAY_MS);
    let ledger = Embedded::open(options(&dir, ahead)).unwrap();
    fill(&ledger, 0..3, 10).await;
    drop(ledger);
    assert_eq!(segments(&dir).len(), 1);
    let clock = StoreClock::manual(START_MS + DAY_MS / 2);
    let old = Old {
        ledger: Embedded::open(options(&dir, clock.clone())).unwrap(),
        dir,
        clock,
        events: Vec::new(),
    };
    assert_eq!(old.sweep(&["s"]).await, Swept::default());
    assert_eq!(segments(&old.dir).len(), 2);
}

#[tokio::test]
async fn a_sweep_goes_on_where_no_segment_can_be_begun() {
    let dir = TempDir::new().unwrap();
    let clock = StoreClock::manual(START_MS);
    let faults = Faults::default();
    let ledger = Embedded::open_with(options(&dir, clock.clone()), Arc::new(faults.clone()));
    let old = Old { dir, clock, ledger: ledger.unwrap(), events: Vec::new() };
    faults.create.store(true, Ordering::SeqCst);
    for n in 0..3 {
        // The first may take the file that was prepared before.
        fill(&old.ledger, n..n + 1, 10).await;
        old.clock.advance(2 * DAY_MS);
        assert_eq!(old.sweep(&["s"]).await, Swept::default());
    }
    assert!(segments(&old.dir).len() < 3);
}

#[tokio::test]
async fn a_ledger_that_was_swept_while_it_was_empty_expires_later() {
    let dir = TempDir::new().unwrap();
    let clock = StoreClock::manual(START_MS);
    let old = Old {
        ledger: Embedded::open(options(&dir, clock.clone())).unwrap(),
        dir,
        clock,
        events: Vec::new(),
    };
    assert_eq!(old.sweep(&["s"]).await, Swept::default());
    let old = old.reopen();
    old.at_day(1).await;
    old.at_day(40).await;
    assert!(old.sweep(&["s"]).await.events > 0);
}
