//! The courier: one task that leases what is due and starts an attempt for each.

mod orders;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};

use super::attempt::{AttemptReport, DestinationClient};
use super::breaker::Change;
use super::control::{Control, Order};
use super::destination_state::DestinationState;
use super::destination_table::DestinationTable;
use super::judge::{self, Judge};
use super::pauses::Pause;
use super::settler::Settler;
use crate::clock::instant;
use crate::config::{Config, Destination, Mode};
use crate::ledger::{
    Attempt, BatchedLedger, Due, EventId, Lease, LeaseAsk, LeaseBatch, LedgerError, NodeId,
    Settlement, TargetFilter, TargetId, Verdict,
};
use crate::lifecycle::Lifecycle;
use crate::telemetry::{DeliveryOutcome, Metrics};
use crate::verdict::Verdicts;

/// Deliveries of one lease: with 2 kB an event that is half a megabyte.
const BATCH: usize = 256;

/// The first pause after the ledger failed; it doubles up to the last, so that a ledger that comes
/// back is found within half a minute.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The shortest sleep until something is due, so that a ledger that promises what it does not hand
/// out is not asked in a circle.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// How long one call waits for other documents of the ledger; the next call follows at once.
const WATCH_TIME: Duration = Duration::from_secs(60 * 60);

/// How long the ledger may take to be given back its leases at the end.
const RELEASE_TIME: Duration = Duration::from_secs(2);

/// The handle of the delivery service.
#[derive(Debug)]
pub struct Dispatcher {
    config: watch::Sender<Arc<Config>>,
    control: Control,
    task: JoinHandle<()>,
}

/// What the delivery service works with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The ledger.
    pub book: BatchedLedger,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// When to end.
    pub life: Arc<Lifecycle>,
    /// Who waits for the verdicts of inline backends.
    pub verdicts: Verdicts,
}

impl Dispatcher {
    /// Starts to deliver what the ledger holds. It stops leasing when `life` begins to drain and
    /// lets what is under way end; when `life` has stopped it gives back what has not ended.
    ///
    /// Must be called within a tokio runtime with time and I/O enabled.
    #[must_use]
    pub fn start(config: &Arc<Config>, tools: Tools) -> Self {
        let (sender, changes) = watch::channel(Arc::clone(config));
        let (control, orders) = Control::new(tools.book.clone());
        let round = Round::new(changes, tools, (control.clone(), orders));
        Self { config: sender, control, task: tokio::spawn(round.run()) }
    }

    /// The handle for those who look after destinations.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
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
    tools: Tools,
    due: Due,
    who: NodeId,
    lanes: DestinationTable,
    clerk: Settler,
    judge: Judge,
    control: Control,
    orders: mpsc::UnboundedReceiver<Order>,
    /// Destinations for which something has become due at another time, and how long until then.
    moved: mpsc::UnboundedReceiver<(TargetId, Duration)>,
    attempts: JoinSet<AttemptReport>,
    flights: HashMap<Id, Flight>,
    /// Pauses that are in force and not written down yet.
    unwritten: HashMap<TargetId, Pause>,
    /// Something may be due that nobody has looked for.
    look: bool,
    wake: Wake,
}

/// When to look again without being told.
#[derive(Debug)]
struct Wake {
    at: Option<Instant>,
    /// When something is due for those who are asked for together.
    calm: Option<Instant>,
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
    destination: Arc<Destination>,
}

impl Round {
    fn new(
        changes: watch::Receiver<Arc<Config>>,
        tools: Tools,
        (control, orders): (Control, mpsc::UnboundedReceiver<Order>),
    ) -> Self {
        let who = node();
        let (bell, moved) = mpsc::unbounded_channel();
        let verdicts = tools.verdicts.clone();
        let clerk = Settler::start(tools.book.clone(), who.clone(), move |batch, answers| {
            judge::pronounce(&verdicts, batch, answers);
            for one in batch {
                if let Verdict::Retry { after } = one.verdict {
                    let _ = bell.send((one.target.clone(), after));
                }
            }
        });
        let lanes = DestinationTable::new(&changes.borrow(), Arc::clone(&tools.metrics));
        Self {
            lanes,
            due: tools.book.due(),
            judge: Judge::new(tools.verdicts.clone()),
            wake: Wake { at: None, calm: None, held: None, pause: PAUSE_FIRST },
            attempts: JoinSet::new(),
            flights: HashMap::new(),
            unwritten: HashMap::new(),
            look: true,
            changes,
            tools,
            who,
            clerk,
            control,
            orders,
            moved,
        }
    }

    async fn run(mut self) {
        let life = Arc::clone(&self.tools.life);
        let _watch =
            Aborted(tokio::spawn(orders::watch_pauses(self.control.clone(), life.clone())));
        self.begin().await;
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
                Some(order) = self.orders.recv() => self.obey(order).await,
                Some(ended) = self.attempts.join_next_with_id() => self.end_all(ended),
                () = self.due.wait() => self.look = true,
                Some(moved) = self.moved.recv() => self.note_moved(moved),
                () = waited => self.look |= self.wake.calm.is_some_and(|at| at <= instant()),
            }
        }
        self.wind_up().await;
    }

    fn apply(&mut self) {
        let config = self.changes.borrow_and_update().clone();
        self.lanes.apply(&config);
        self.look = true;
    }

    /// What stands apart is looked at when it has a place again; for all others there is a time.
    fn note_moved(&mut self, moved: (TargetId, Duration)) {
        let now = instant();
        let mut next = Some(moved);
        while let Some((target, after)) = next {
            if self.lanes.is_calm(&target) {
                let at = now + after;
                self.wake.calm = Some(self.wake.calm.map_or(at, |calm| calm.min(at)));
            }
            next = self.moved.try_recv().ok();
        }
    }

    /// Lets what is under way end, and gives back what does not.
    async fn wind_up(mut self) {
        // Whoever waits for an answer gets none.
        self.orders.close();
        while self.orders.try_recv().is_ok() {}
        let life = Arc::clone(&self.tools.life);
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
        let (clerk, book, who) = (self.clerk, self.tools.book, self.who);
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
            let due = [self.serve_proven().await?, self.serve_unproven().await?];
            self.wake.calm = due.into_iter().flatten().min();
        }
        let opens_up = self.lanes.opens_up(instant());
        self.wake.at = [self.wake.calm, opens_up].into_iter().flatten().min();
        Ok(())
    }

    /// Fills the places of destinations with a backlog, each for itself: some of them, and then
    /// others have their turn.
    async fn serve_busy(&mut self) -> Result<(), LedgerError> {
        let mut open = self.lanes.open(instant());
        while let Some((target, places)) = open.pop() {
            if let Err(error) = self.serve_one(&target, places).await {
                open.into_iter().for_each(|(target, _)| self.lanes.again(target));
                self.lanes.again(target);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn serve_one(&mut self, target: &TargetId, places: usize) -> Result<(), LedgerError> {
        let max = places.min(BATCH);
        let LeaseBatch { leases, .. } =
            self.lease(TargetFilter::Only(vec![target.clone()]), max).await?;
        if leases.len() < max {
            self.lanes.rejoin(target);
            self.look = true;
        } else {
            self.lanes.again(target.clone());
        }
        self.start_all(leases).await?;
        Ok(())
    }

    /// Starts what is due for those who answered their last attempt; answers when more is.
    async fn serve_proven(&mut self) -> Result<Option<Instant>, LedgerError> {
        while let Some(these) = self.lanes.proven() {
            let LeaseBatch { leases, next_due } = self.lease(these, BATCH).await?;
            let full = leases.len() == BATCH;
            let some_went_back = self.start_all(leases).await?;
            if !full && !some_went_back {
                return Ok(next_due.map(|after| instant() + after.max(SLEEP_MIN)));
            }
            self.serve_busy().await?;
        }
        Ok(None)
    }

    /// Starts some of what is due for those who did not; answers when more is.
    async fn serve_unproven(&mut self) -> Result<Option<Instant>, LedgerError> {
        let Some(these) = self.lanes.unproven() else { return Ok(None) };
        let LeaseBatch { leases, next_due } = self.lease(these, BATCH).await?;
        let full = leases.len() == BATCH;
        if self.start_all(leases).await? || full {
            self.look = true;
            return Ok(Some(instant()));
        }
        Ok(next_due.map(|after| instant() + after.max(SLEEP_MIN)))
    }

    async fn lease(&self, targets: TargetFilter, max: usize) -> Result<LeaseBatch, LedgerError> {
        let ask = LeaseAsk { targets, max, ttl: self.lanes.ttl() };
        self.tools.book.lease(&self.who, &ask).await
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
            match self.lanes.begin(&lease.target, instant()) {
                Some(lane) => {
                    let postal = Arc::clone(&lane.postal);
                    self.start(lease, postal);
                }
                None => back.push(postponed(lease)),
            }
        }
        if back.is_empty() {
            return Ok(false);
        }
        self.tools.book.settle(&self.who, &back).await?;
        Ok(true)
    }

    fn start(&mut self, lease: Lease, postal: Arc<DestinationClient>) {
        let Lease { event, target, token, attempt: number, body, .. } = lease;
        let destination = Arc::clone(&postal.destination);
        let inline = matches!(destination.mode, Mode::Inline { .. });
        let book = inline.then(|| (self.tools.book.clone(), target.clone()));
        let task = self.attempts.spawn(async move {
            let mut report = postal.attempt(event, &body).await;
            if let Some((book, target)) = book {
                report.earlier = judge::earlier(&book, event, &target).await;
            }
            report
        });
        self.flights.insert(task.id(), Flight { event, target, token, number, destination });
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

type Ended = Result<(Id, AttemptReport), JoinError>;

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
        let ending = report.as_ref().ok().map(|report| report.ending);
        if let Some(change) = self.lanes.end(&flight.target, ending, instant()) {
            tell_change(&flight.target, change);
        }
        match report {
            Ok(report) => self.settle(flight, report),
            // The lease ends by itself, and the attempt counts.
            Err(error) => tracing::error!(event = %flight.event, %error, "an attempt broke down"),
        }
    }

    fn settle(&mut self, flight: Flight, report: AttemptReport) {
        let AttemptReport { mut attempt, ending, earlier } = report;
        let (mut verdict, outcome) = ending.verdict(flight.number, flight.destination.retry);
        let seconds = f64::from(attempt.latency_ms) / 1000.0;
        self.tools.metrics.delivery_attempt_seconds.observe(seconds);
        let lane = self.lanes.get(&flight.target);
        if let Some(lane) = lane {
            lane.metrics.count(outcome);
        }
        let judged =
            self.judge.judge((flight.event, earlier), &flight.destination, (ending, &mut attempt));
        if let Some(judged) = judged {
            if outcome == DeliveryOutcome::Done {
                verdict = Verdict::Decided;
            }
            if let Some(lane) = lane {
                lane.metrics.count_verdict(judged);
            }
        }
        tell(&flight, &attempt, outcome);
        match outcome {
            DeliveryOutcome::Gone => self.leave(&flight.target),
            DeliveryOutcome::Done if lane.is_some_and(DestinationState::is_gone) => {
                self.return_to(&flight.target);
            }
            DeliveryOutcome::Done | DeliveryOutcome::Retry | DeliveryOutcome::Dead => {}
        }
        let Flight { event, target, token, .. } = flight;
        self.clerk.settle(Settlement { event, target, token, verdict, attempt });
    }
}

/// A task that ends with what it was started by.
struct Aborted(JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
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
