//! How long callers wait when events come at random times, beside a log that does nothing else.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use postern::clock::instant;
use postern::ledger::{BatchedLedger, LedgerError, NewEvent};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::event::{self, BODY};
use super::{ROUND, ROUNDS, quantile, runtime};

/// The time for which a network card gathers arrivals before it interrupts, and so does this bench.
const GATHERED: Duration = Duration::from_micros(50);
/// Events that [`measure`] records.
pub(super) const RECORDED: u64 = ROUNDS as u64 * ROUND;

/// Records [`RECORDED`] events from `from` on, at `rate` a second; answers the median of all rounds
/// of: microseconds of one sync of the disk, and in units of it, measured in turn with it, the
/// slowest sync in a thousand, and how long callers waited for `ledger` and for a [`BareLog`].
pub(super) fn measure(dir: &Path, ledger: &BatchedLedger, mut from: u64, rate: f64) -> Value {
    let path = dir.join("bare.log");
    let mut waits = [const { Vec::new() }; 6];
    for _ in 0..ROUNDS {
        let [sync, slow] = one_sync(dir);
        let mut took = arrive(|n, event| record_one(ledger.clone(), n, event), from, rate);
        let log = BareLog::new(&path, ROUND as usize * BODY);
        let mut took_bare = arrive(|_, event| log.record(event), from, rate);
        let in_syncs = |nanos: f64| (nanos / sync * 1e6) as u64;
        waits[0].push(sync as u64);
        waits[1].push(in_syncs(slow));
        for (at, took) in [(2, &mut took), (4, &mut took_bare)] {
            waits[at].push(in_syncs(quantile(took, 0.5)));
            waits[at + 1].push(in_syncs(quantile(took, 0.99)));
        }
        from += ROUND;
    }
    fs::remove_file(path).expect("removed");
    let [sync, slow, p50, p99, bare_p50, bare_p99] =
        waits.map(|mut rounds| quantile(&mut rounds, 0.5));
    json!({
        "sync_us": sync / 1e3,
        "slow_syncs": slow / 1e6,
        "syncs": [p50 / 1e6, p99 / 1e6],
        "bare_syncs": [bare_p50 / 1e6, bare_p99 / 1e6],
    })
}

/// Records [`ROUND`] events from `from` on, which arrive at `rate` a second on average, at random
/// times, whether or not earlier ones are answered. Returns the latency of each, from its arrival,
/// in nanoseconds.
///
/// Events arrive as from a network card: an interrupt wakes the runtime that records, which finds
/// everything since the previous one. A sending thread would compete for the measured cores and
/// distort the result. The runtime's timer would too: it counts in milliseconds. All events are
/// built before the first arrives, so building is not measured.
fn arrive<F, R>(record: F, from: u64, rate: f64) -> Vec<u64>
where
    F: Fn(u64, NewEvent) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    let coming: Vec<_> = (from..from + ROUND).map(|n| (n, event::new(n, &[]))).collect();
    let mut coming = coming.into_iter().peekable();
    let took = Arc::new(Mutex::new(Vec::with_capacity(ROUND as usize)));
    let (left, mut all_left) = tokio::sync::mpsc::channel::<()>(1);
    runtime().block_on(async {
        let interrupts = interrupts();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut due = instant();
        while coming.peek().is_some() {
            let mut ready = interrupts.readable().await.expect("a timer");
            if rustix::io::read(&interrupts, &mut [0; 8]).is_err() {
                ready.clear_ready();
                continue;
            }
            let now = instant();
            while due <= now
                && let Some((n, event)) = coming.next()
            {
                let (recorded, came) = (record(n, event), due);
                let (took, left) = (Arc::clone(&took), left.clone());
                tokio::spawn(async move {
                    recorded.await;
                    took.lock().expect("no panic").push(came.elapsed().as_nanos() as u64);
                    drop(left);
                });
                // Times between arrivals that know nothing of each other: exponential ones.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let part = ((random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
                due += Duration::from_secs_f64(-part.ln() / rate);
            }
        }
        drop(left);
        assert!(all_left.recv().await.is_none(), "no message comes");
    });
    let took = std::mem::take(&mut *took.lock().expect("no panic"));
    assert_eq!(took.len() as u64, ROUND, "not all were recorded");
    took
}

/// A timer of the kernel that is ready each time that [`GATHERED`] has passed.
fn interrupts() -> AsyncFd<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags).expect("a timer");
    let time = Timespec { tv_sec: 0, tv_nsec: GATHERED.as_nanos() as i64 };
    let times = Itimerspec { it_interval: time, it_value: time };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times).expect("a time");
    #[expect(deprecated, reason = "the other way is unsafe code, and the timer stays open")]
    AsyncFd::new(timer).expect("a runtime")
}

async fn record_one(ledger: BatchedLedger, n: u64, event: NewEvent) {
    let mut recorded = ledger.record(event).await;
    // A machine that stood still for so long that the queue is full is waited for too.
    while let Err(LedgerError::Overloaded) = recorded {
        tokio::time::sleep(Duration::from_millis(1)).await;
        recorded = ledger.record(event::new(n, &[])).await;
    }
    recorded.expect("recorded");
}

/// The minimum that a ledger needs: a file of zeros, and one thread that writes the waiting bodies
/// to it, syncs, and answers. No lookup, no check, no reading back.
struct BareLog {
    waiting: mpsc::Sender<(Bytes, oneshot::Sender<()>)>,
}

impl BareLog {
    /// A log for `bytes` of bodies at `path`.
    fn new(path: &Path, bytes: usize) -> Self {
        let file = File::create(path).expect("a file");
        let zeros = vec![0; 1 << 20];
        for at in (0..bytes).step_by(zeros.len()) {
            file.write_all_at(&zeros, at as u64).expect("zeros");
        }
        file.sync_all().expect("a sync");
        let (waiting, bodies) = mpsc::channel::<(Bytes, oneshot::Sender<()>)>();
        std::thread::spawn(move || {
            let (mut frame, mut callers, mut at) = (Vec::new(), Vec::new(), 0);
            while let Ok(first) = bodies.recv() {
                for (body, caller) in std::iter::once(first).chain(bodies.try_iter()) {
                    frame.extend_from_slice(&body);
                    callers.push(caller);
                }
                file.write_all_at(&frame, at).expect("a write");
                file.sync_data().expect("a sync");
                at += frame.len() as u64;
                frame.clear();
                callers.drain(..).for_each(|caller| caller.send(()).expect("a caller"));
            }
        });
        Self { waiting }
    }

    fn record(&self, event: NewEvent) -> impl Future<Output = ()> + Send + 'static {
        let (caller, written) = oneshot::channel();
        self.waiting.send((event.body, caller)).expect("a log");
        async { written.await.expect("written") }
    }
}

/// The usual time of one write and sync of 4 kB on the disk that `dir` is on, and that of the
/// slowest in a thousand.
fn one_sync(dir: &Path) -> [f64; 2] {
    let path = dir.join("sync.tmp");
    let file = File::create(&path).expect("a file");
    file.write_all_at(&vec![0; 8 << 20], 0).expect("zeros");
    file.sync_all().expect("a sync");
    let mut times: Vec<u64> = (0..2000_u64)
        .map(|n| {
            let begun = instant();
            file.write_all_at(&[7; 4096], n % 2000 * 4096).expect("a write");
            file.sync_data().expect("a sync");
            begun.elapsed().as_nanos() as u64
        })
        .collect();
    fs::remove_file(path).expect("removed");
    [0.5, 0.999].map(|part| quantile(&mut times, part))
}
