//! The courier: one task that leases what is due and starts an attempt for each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};

use super::attempt::Report;
use super::breaker::Change;
use super::clerk::Clerk;
use super::lanes::Lanes;
use crate::clock::instant;
use crate::config::Config;
use crate::ledger::{
    Attempt, Book, Due, EventId, Lease, LeaseAsk, LeaseBatch, LedgerError, NodeId, Settlement,
    TargetFilter, TargetId, Verdict,
};
use crate::lifecycle::Lifecycle;
use crate::telemetry::{DeliveryOutcome, Metrics};

/// Deliveries of one lease: with 2 kB an event that is half a megabyte.
const BATCH: usize = 256;

/// The first pause after the ledger failed; it doubles up to the last, so that a ledger that comes
/// back is found within half a minute.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The shortest sleep until something is due, so that a ledger that promises what it does not hand
/// out is not asked in a circle.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// How long the ledger may take to be given back its leases at the end.
const RELEASE_TIME: Duration = Duration::from_secs(2);

/// The handle of the delivery service.
#[derive(Debug)]
pub struct Courier {
    config: watch::Sender<Arc<Config>>,
    task: JoinHandle<()>,
}

impl Courier {
    /// Starts to deliver what `book` holds. It stops leasing when `life` begins to drain and lets
    /// what is under way end; when `life` has stopped it gives back what has not ended.
    ///
    /// Must be called within a tokio runtime with time and I/O enabled.
    #[must_use]
    pub fn start(
        config: &Arc<Config>,
        book: Book,
        metrics: &Arc<Metrics>,
        life: Arc<Lifecycle>,
    ) -> Self {
        let (sender, changes) = watch::channel(Arc::clone(config));
        let round = Round::new(changes, book, Arc::clone(metrics), life);
        Self { config: sender, task: tokio::spawn(round.run()) }
    }

    /// What has it go on under another configuration.
    pub fn applier(&self) -> impl Fn(&Arc<Config>) + Send + Sync + use<> {
        let changes = self.config.clone();
        move |config| drop(changes.send_replace(Arc::clone(config)))
    }

    /// Waits until it has ended, which it does after a drain.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the delivery service broke down");
        }
    }
}

/// What the courier's task holds.
struct Round {
    changes: watch::Receiver<Arc<Config>>,
    book: Book,
    due: Due,
    who: NodeId,
    life: Arc<Lifecycle>,
    metrics: Arc<Metrics>,
    lanes: Lanes,
    clerk: Clerk,
    settled: Arc<Notify>,
    attempts: JoinSet<Report>,
    flights: HashMap<Id, Flight>,
    /// Something may be due that nobody has looked for.
    look: bool,
    wake: Wake,
}

/// When to look again without being told.
#[derive(Debug)]
struct Wake {
    at: Option<Instant>,
    /// Not before this, whatever happens: the ledger has failed.
    held: Option<Instant>,
    pause: Duration,
}

/// A delivery that is under way.
struct Flight {
    event: EventId,
    target: TargetId,
    token: u64,
    number: u32,
    retry: crate::config::Retry,
}

impl Round {
    fn new(
        changes: watch::Receiver<Arc<Config>>,
        book: Book,
        metrics: Arc<Metrics>,
        life: Arc<Lifecycle>,
    ) -> Self {
        let who = node();
        let settled = Arc::new(Notify::new());
        let bell = Arc::clone(&settled);
        let clerk = Clerk::start(book.clone(), who.clone(), move || bell.notify_one());
        let lanes = Lanes::new(&changes.borrow(), Arc::clone(&metrics));
        Self {
            due: book.due(),
            wake: Wake { at: None, held: None, pause: PAUSE_FIRST },
            attempts: JoinSet::new(),
            flights: HashMap::new(),
            look: true,
            changes,
            book,
            who,
            life,
            metrics,
            lanes,
            clerk,
            settled,
        }
    }

    async fn run(mut self) {
        let life = Arc::clone(&self.life);
        while !life.is_draining() {
            self.hand_out().await;
            let wake = self.wake.at;
            let waited = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = life.draining() => {}
                Ok(()) = self.changes.changed() => self.apply(),
                Some(ended) = self.attempts.join_next_with_id() => self.end_all(ended),
                () = self.due.wait() => self.look = true,
                () = self.settled.notified() => self.look = true,
                () = waited => self.look = true,
            }
        }
        self.wind_up().await;
    }

    fn apply(&mut self) {
        let config = self.changes.borrow_and_update().clone();
        self.lanes.apply(&config);
        self.look = true;
    }

    /// Lets what is under way end, and gives back what does not.
    async fn wind_up(mut self) {
        let life = Arc::clone(&self.life);
        loop {
            tokio::select! {
                ended = self.attempts.join_next_with_id() => match ended {
                    Some(ended) => self.end_all(ended),
                    None => break,
                },
                () = life.ended() => break,
            }
        }
        self.attempts.shutdown().await;
        let (clerk, book, who) = (self.clerk, self.book, self.who);
        let give_back = async {
            clerk.end().await;
            book.release(&who).await
        };
        match tokio::time::timeout(RELEASE_TIME, give_back).await {
            Ok(Ok(0)) => {}
            Ok(Ok(leases)) => tracing::info!(leases, "deliveries were given back"),
            Ok(Err(error)) => tracing::warn!(%error, "leases end by themselves"),
            Err(_) => tracing::warn!("the ledger took too long; leases end by themselves"),
        }
    }
}

// === Leases ===

impl Round {
    /// Leases and starts whatever is due and has a place.
    async fn hand_out(&mut self) {
        if let Some(until) = self.wake.held.filter(|until| *until > instant()) {
            self.wake.at = Some(until);
            return;
        }
        self.wake.held = None;
        match self.try_hand_out().await {
            Ok(()) => self.wake.pause = PAUSE_FIRST,
            Err(error) => {
                let pause = self.wake.pause;
                tracing::warn!(%error, ?pause, "no deliveries can be leased");
                self.look = true;
                self.wake.at = Some(instant() + pause);
                self.wake.held = self.wake.at;
                self.wake.pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    async fn try_hand_out(&mut self) -> Result<(), LedgerError> {
        self.serve_busy().await?;
        if self.look {
            self.look = false;
            self.wake.at = self.serve_calm().await?;
        }
        self.wake.at = [self.wake.at, self.lanes.opens_up()].into_iter().flatten().min();
        Ok(())
    }

    /// Fills the places of destinations with a backlog, each for itself.
    async fn serve_busy(&mut self) -> Result<(), LedgerError> {
        loop {
            let open = self.lanes.open(instant());
            if open.is_empty() {
                return Ok(());
            }
            for (target, places) in open {
                let max = places.min(BATCH);
                let batch = self.lease(TargetFilter::Only(vec![target.clone()]), max).await?;
                if batch.leases.len() < max
                    && let Some(lane) = self.lanes.get_mut(&target)
                {
                    lane.busy = false;
                    self.look = true;
                }
                self.start_all(batch.leases).await?;
            }
        }
    }

    /// Starts what is due for all others; answers when more is.
    async fn serve_calm(&mut self) -> Result<Option<Instant>, LedgerError> {
        loop {
            let calm = self.lanes.calm(instant());
            let LeaseBatch { leases, next_due } = self.lease(calm, BATCH).await?;
            let full = leases.len() == BATCH;
            let turned_busy = self.start_all(leases).await?;
            if turned_busy {
                self.serve_busy().await?;
            }
            if !full && !turned_busy {
                return Ok(next_due.map(|after| instant() + after.max(SLEEP_MIN)));
            }
        }
    }

    async fn lease(&self, targets: TargetFilter, max: usize) -> Result<LeaseBatch, LedgerError> {
        let ask = LeaseAsk { targets, max, ttl: self.lanes.ttl() };
        self.book.lease(&self.who, &ask).await
    }

    /// Starts an attempt for each lease that its destination has a place for, and gives back the
    /// others; answers whether there were any.
    async fn start_all(&mut self, leases: Vec<Lease>) -> Result<bool, LedgerError> {
        // What was leased may be younger than the newest configuration: it is tried under that.
        if self.changes.has_changed().unwrap_or(false) {
            self.apply();
        }
        let mut back = Vec::new();
        for lease in leases {
            let now = instant();
            if self.lanes.has_place(&lease.target, now) {
                self.start(lease, now);
            } else {
                back.push(postponed(lease));
            }
        }
        if back.is_empty() {
            return Ok(false);
        }
        self.book.settle(&self.who, &back).await?;
        Ok(true)
    }

    fn start(&mut self, lease: Lease, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&lease.target) else { return };
        lane.begin(now);
        let postal = Arc::clone(&lane.postal);
        let Lease { event, target, token, attempt: number, body, .. } = lease;
        let retry = postal.destination.retry;
        let task = self.attempts.spawn(async move { postal.attempt(event, &body).await });
        self.flights.insert(task.id(), Flight { event, target, token, number, retry });
    }
}

/// A lease that was not tried.
fn postponed(lease: Lease) -> Settlement {
    Settlement {
        event: lease.event,
        target: lease.target,
        token: lease.token,
        verdict: Verdict::Postpone { after: Duration::ZERO },
        attempt: Attempt::default(),
    }
}

// === Endings ===

type Ended = Result<(Id, Report), JoinError>;

impl Round {
    /// An attempt has ended, and perhaps others with it.
    fn end_all(&mut self, ended: Ended) {
        self.end(ended);
        while let Some(ended) = self.attempts.try_join_next_with_id() {
            self.end(ended);
        }
    }

    fn end(&mut self, ended: Ended) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(flight) = self.flights.remove(&id) else { return };
        let report = ended.map(|(_, report)| report);
        if let Some(lane) = self.lanes.get_mut(&flight.target) {
            let ending = report.as_ref().ok().map(|report| report.ending);
            if let Some(change) = lane.end(ending, instant()) {
                tell_change(&flight.target, change);
            }
        }
        match report {
            Ok(report) => self.settle(flight, report),
            // The lease ends by itself, and the attempt counts.
            Err(error) => tracing::error!(event = %flight.event, %error, "an attempt broke down"),
        }
    }

    fn settle(&mut self, flight: Flight, report: Report) {
        let Report { attempt, ending } = report;
        let (verdict, outcome) = ending.verdict(flight.number, flight.retry);
        let seconds = f64::from(attempt.latency_ms) / 1000.0;
        self.metrics.delivery_attempt_seconds.observe(seconds);
        if let Some(lane) = self.lanes.get_mut(&flight.target) {
            lane.metrics.count(outcome);
        }
        tell(&flight, &attempt, outcome);
        let Flight { event, target, token, .. } = flight;
        self.clerk.settle(Settlement { event, target, token, verdict, attempt });
    }
}

fn tell_change(target: &TargetId, change: Change) {
    let destination = target.as_str();
    match change {
        Change::Opened(time) => {
            tracing::warn!(destination, ?time, "the breaker opened: ten failures in a row");
        }
        Change::Closed => tracing::info!(destination, "the breaker closed"),
    }
}

/// One line for a final outcome; a retry is for those who look closely.
fn tell(flight: &Flight, attempt: &Attempt, outcome: DeliveryOutcome) {
    let (event, destination) = (flight.event, flight.target.as_str());
    let (number, status, millis) = (flight.number, attempt.status, attempt.latency_ms);
    let error = attempt.error.as_deref();
    match outcome {
        DeliveryOutcome::Done => {
            tracing::info!(%event, destination, attempt = number, status, millis, "delivered");
        }
        DeliveryOutcome::Retry => {
            tracing::debug!(
                %event, destination, attempt = number, status, millis, error, "to be tried again"
            );
        }
        DeliveryOutcome::Dead | DeliveryOutcome::Gone => {
            tracing::warn!(
                %event, destination, attempt = number, status, millis, error, "given up"
            );
        }
    }
}

/// The name of this process among those that share a ledger.
fn node() -> NodeId {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "postern",
        host => host,
    };
    // Without random numbers the process id and the start tell two of them apart.
    let random = getrandom::u64().unwrap_or_else(|_| {
        u64::from(std::process::id()) ^ u64::try_from(crate::clock::now_ms()).unwrap_or(0)
    });
    NodeId::from(format!("{host}-{random:016x}"))
}
