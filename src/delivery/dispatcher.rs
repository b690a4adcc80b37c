//! The dispatcher: one task that leases due deliveries and starts an attempt for each.
//!
//! The dispatcher, all attempts and the settler run on one thread: none of them has to wake another
//! thread for each delivery.

mod orders;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::attempt::{AttemptReport, DestinationClient};
use super::attempt_tasks::{AttemptEnd, AttemptOrder, AttemptTasks, InFlight};
use super::attempt_trace::AttemptTrace;
use super::breaker::Change;
use super::control::{Control, Order};
use super::destination_state::{AttemptPurpose, DestinationState};
use super::destination_table::DestinationTable;
use super::pauses::Pause;
use super::settler::{Settler, postponed};
use super::verdict_recorder::{self, VerdictRecorder};
use crate::clock::{Backoff, instant, now_ms};
use crate::config::Config;
use crate::host;
use crate::ledger::{
    Attempt, BatchedLedger, Due, EventId, Lease, LeaseAsk, LeaseBatch, LeaseResult, LedgerError,
    NodeId, Settlement, TargetFilter, TargetId,
};
use crate::lifecycle::Lifecycle;
use crate::telemetry::{DeliveryOutcome, Metrics};
use crate::verdict::Verdicts;

/// Deliveries of one lease: about 0.5 MB at 2 kB per event.
const BATCH: usize = 256;

/// The first pause after the ledger failed. It doubles up to the last: a ledger that recovers is
/// found within 30 s.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The shortest sleep until something is due. Prevents a busy loop on a ledger that reports due
/// deliveries and leases none.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// The time that one call waits for changed documents; the next call follows at once.
const WATCH_TIME: Duration = Duration::from_secs(60 * 60);

/// The time limit for releasing leases during a drain.
const RELEASE_TIME: Duration = Duration::from_secs(2);

/// The handle of the delivery service.
#[derive(Debug)]
pub struct Dispatcher {
    config: watch::Sender<Arc<Config>>,
    control: Control,
    ended: oneshot::Receiver<()>,
}

/// Dependencies of the delivery service.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The ledger.
    pub ledger: BatchedLedger,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The life cycle of the process.
    pub life: Arc<Lifecycle>,
    /// Where callbacks wait for the verdicts of inline backends.
    pub verdicts: Verdicts,
    /// Whether events are delivered.
    pub deliveries: Deliveries,
}

/// Whether events are delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deliveries {
    /// Due deliveries are made.
    #[default]
    On,
    /// Deliveries wait, whatever is due.
    Off,
}

impl Dispatcher {
    /// Starts to deliver, on a thread of its own. Stops leasing when `life` begins to drain, and
    /// lets attempts in flight end. When `life` has stopped, releases the leases of the unfinished
    /// ones.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(config: &Arc<Config>, tools: Tools) -> io::Result<Self> {
        let (sender, changes) = watch::channel(Arc::clone(config));
        let (control, orders) = Control::new(tools.ledger.clone(), tools.deliveries);
        let own = control.clone();
        let (begin, begun) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("deliver".to_owned());
        thread.spawn(move || match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let task = runtime.block_on(async move {
                    let round = DispatchLoop::new(changes, tools, own, orders);
                    let _ = begin.send(Ok(()));
                    // A task, not the runtime's first future: that one is polled before the
                    // attempts that have just ended.
                    tokio::spawn(round.run()).await
                });
                match task {
                    Ok(()) => drop(end.send(())),
                    Err(error) => {
                        tracing::error!(%error, "the delivery service stopped unexpectedly");
                    }
                }
                // A read from a hanging disk may still block; its result is no longer needed.
                runtime.shutdown_background();
            }
            Err(error) => drop(begin.send(Err(error))),
        })?;
        // The metrics of all destinations exist on return.
        begun.recv().unwrap_or_else(|_| Err(io::Error::other("deliveries could not start")))?;
        Ok(Self { config: sender, control, ended })
    }

    /// The handle for operations on destinations.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Applies another configuration.
    pub fn applier(&self) -> impl Fn(&Arc<Config>) + Send + Sync + use<> {
        let changes = self.config.clone();
        move |config| drop(changes.send_replace(Arc::clone(config)))
    }

    /// Waits until the service has ended, which it does after a drain.
    pub async fn ended(self) {
        // An unexpected end is logged where it happens.
        let _ = self.ended.await;
    }
}

/// The state of the dispatcher's task.
struct DispatchLoop {
    changes: watch::Receiver<Arc<Config>>,
    tools: Tools,
    due: Due,
    who: NodeId,
    table: DestinationTable,
    settler: Settler,
    recorder: VerdictRecorder,
    control: Control,
    orders: mpsc::UnboundedReceiver<Order>,
    /// Destinations whose next delivery moved to another time, and the time until then.
    moved: mpsc::UnboundedReceiver<(TargetId, Duration)>,
    attempts: AttemptTasks,
    /// Pauses that are applied and not persisted yet.
    unpersisted: HashMap<TargetId, Pause>,
    /// Whether deliveries may be due.
    may_be_due: bool,
    wake: Wake,
}

/// When to look for due deliveries without being woken.
#[derive(Debug)]
struct Wake {
    at: Option<Instant>,
    /// When deliveries of the grouped destinations are due.
    grouped: Option<Instant>,
    /// The earliest time, whatever happens: the ledger has failed.
    held: Option<Instant>,
    backoff: Backoff,
}

impl DispatchLoop {
    fn new(
        changes: watch::Receiver<Arc<Config>>,
        tools: Tools,
        control: Control,
        orders: mpsc::UnboundedReceiver<Order>,
    ) -> Self {
        let who = node();
        let (moved_sender, moved) = mpsc::unbounded_channel();
        let verdicts = tools.verdicts.clone();
        let settler = Settler::start(&tools.ledger, &who, move |batch, answers| {
            verdict_recorder::notify_settled(&verdicts, batch, answers);
            for one in batch {
                if let LeaseResult::Retry { after } | LeaseResult::Postpone { after } = one.result {
                    let _ = moved_sender.send((one.target.clone(), after));
                }
            }
        });
        let table = DestinationTable::new(&changes.borrow(), Arc::clone(&tools.metrics));
        Self {
            table,
            due: tools.ledger.due(),
            recorder: VerdictRecorder::new(tools.verdicts.clone()),
            wake: Wake { at: None, grouped: None, held: None, backoff: backoff() },
            attempts: AttemptTasks::new(),
            unpersisted: HashMap::new(),
            may_be_due: true,
            changes,
            tools,
            who,
            settler,
            control,
            orders,
            moved,
        }
    }

    async fn run(mut self) {
        let life = Arc::clone(&self.tools.life);
        let _watch =
            Aborted(tokio::spawn(orders::watch_pauses(self.control.clone(), life.clone())));
        if self.tools.deliveries == Deliveries::Off {
            tracing::warn!("deliveries are off: events are recorded, and nothing is delivered");
        }
        self.begin().await;
        while !life.is_draining() {
            self.lease_due().await;
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
                Some(order) = self.orders.recv() => self.execute(order).await,
                Some(ended) = self.attempts.ended() => self.end_all(ended),
                () = self.due.wait() => self.may_be_due = true,
                Some((target, after)) = self.moved.recv() => self.note_moved(target, after),
                Ok(()) = self.settler.changed() => self.may_be_due = true,
                () = waited => self.may_be_due |= self.wake.grouped.is_some_and(|at| at <= instant()),
            }
        }
        self.wind_down().await;
    }

    fn apply(&mut self) {
        let config = self.changes.borrow_and_update().clone();
        self.table.apply(&config);
        self.may_be_due = true;
    }

    /// Schedules the next lease. A separate destination is checked when it has a free slot; the
    /// others have a time.
    fn note_moved(&mut self, target: TargetId, after: Duration) {
        let now = instant();
        let mut next = Some((target, after));
        while let Some((target, after)) = next {
            if self.table.is_grouped(&target) {
                let at = now + after;
                self.wake.grouped = Some(self.wake.grouped.map_or(at, |grouped| grouped.min(at)));
            }
            next = self.moved.try_recv().ok();
        }
    }

    /// Lets attempts in flight end, and releases the leases of the others.
    async fn wind_down(mut self) {
        // Callers that wait for an answer get none.
        self.orders.close();
        while self.orders.try_recv().is_ok() {}
        let life = Arc::clone(&self.tools.life);
        while self.attempts.is_busy() {
            tokio::select! {
                Some(ended) = self.attempts.ended() => self.end_all(ended),
                () = life.ended() => break,
            }
        }
        self.attempts.stop().await;
        let (settler, ledger, who) = (self.settler, self.tools.ledger, self.who);
        let give_back = async {
            settler.end().await;
            ledger.release(&who).await
        };
        match tokio::time::timeout(RELEASE_TIME, give_back).await {
            Ok(Ok(0)) => {}
            Ok(Ok(leases)) => tracing::info!(leases, "released leases"),
            Ok(Err(error)) => tracing::warn!(%error, "could not release leases, they expire"),
            Err(_) => tracing::warn!("could not release leases in time, they expire"),
        }
    }
}

// === Leases ===

impl DispatchLoop {
    /// Leases and starts all due deliveries that have a free slot.
    async fn lease_due(&mut self) {
        if self.tools.deliveries == Deliveries::Off {
            self.may_be_due = false;
            self.wake.at = None;
            return;
        }
        if self.settler.is_behind() {
            // What is leased now would be delivered again. The settler wakes this when it is not.
            self.wake.at = None;
            return;
        }
        if let Some(until) = self.wake.held.filter(|until| *until > instant()) {
            self.wake.at = Some(until);
            return;
        }
        self.wake.held = None;
        match self.try_lease_due().await {
            Ok(()) => self.wake.backoff.reset(),
            Err(error) => {
                let pause = self.wake.backoff.next_pause();
                tracing::warn!(%error, ?pause, "could not lease deliveries");
                self.may_be_due = true;
                self.wake.at = Some(instant() + pause);
                self.wake.held = self.wake.at;
            }
        }
    }

    async fn try_lease_due(&mut self) -> Result<(), LedgerError> {
        self.serve_busy().await?;
        if self.may_be_due {
            self.may_be_due = false;
            let due = [self.serve_proven().await?, self.serve_unproven().await?];
            self.wake.grouped = due.into_iter().flatten().min();
        }
        let opens_at = self.table.opens_at(instant());
        self.wake.at = [self.wake.grouped, opens_at].into_iter().flatten().min();
        Ok(())
    }

    /// Fills the slots of some destinations with a backlog, each separately; the others have their
    /// turn next.
    async fn serve_busy(&mut self) -> Result<(), LedgerError> {
        let mut open = self.table.open(instant());
        while let Some((target, slots)) = open.pop() {
            if let Err(error) = self.serve_one(&target, slots).await {
                open.into_iter().for_each(|(target, _)| self.table.again(&target));
                self.table.again(&target);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn serve_one(&mut self, target: &TargetId, slots: usize) -> Result<(), LedgerError> {
        let max = slots.min(BATCH);
        let LeaseBatch { leases, .. } =
            self.lease(TargetFilter::Only(vec![target.clone()]), max).await?;
        if leases.len() < max {
            self.table.rejoin(target);
            self.may_be_due = true;
        } else {
            self.table.again(target);
        }
        self.start_all(leases).await?;
        Ok(())
    }

    /// Starts due deliveries of the grouped destinations that answered last; returns when more are
    /// due.
    async fn serve_proven(&mut self) -> Result<Option<Instant>, LedgerError> {
        while let Some(these) = self.table.proven() {
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

    /// Starts some due deliveries of the others; returns when more are due.
    async fn serve_unproven(&mut self) -> Result<Option<Instant>, LedgerError> {
        let Some(these) = self.table.unproven() else { return Ok(None) };
        let LeaseBatch { leases, next_due } = self.lease(these, BATCH).await?;
        let full = leases.len() == BATCH;
        if self.start_all(leases).await? || full {
            self.may_be_due = true;
            return Ok(Some(instant()));
        }
        Ok(next_due.map(|after| instant() + after.max(SLEEP_MIN)))
    }

    async fn lease(&self, targets: TargetFilter, max: usize) -> Result<LeaseBatch, LedgerError> {
        let ask = LeaseAsk { targets, max, ttl: self.table.ttl() };
        self.tools.ledger.lease(&self.who, &ask).await
    }

    /// Starts an attempt for each lease that has a free slot, and releases the others; returns
    /// whether any were released.
    async fn start_all(&mut self, leases: Vec<Lease>) -> Result<bool, LedgerError> {
        let ttl = self.table.ttl();
        // A lease may be younger than the newest configuration: it is tried under that one.
        if self.changes.has_changed().unwrap_or(false) {
            self.apply();
        }
        let mut back = Vec::new();
        let now = instant();
        for lease in leases {
            // Under a longer timeout the lease could end before its attempt: it is leased again.
            if self.table.ttl() > ttl {
                back.push(postponed(lease));
                continue;
            }
            match self.table.begin(&lease.target, now) {
                Some((purpose, state)) => {
                    let client = Arc::clone(&state.client);
                    self.start(lease, purpose, client);
                }
                None => back.push(postponed(lease)),
            }
        }
        if back.is_empty() {
            return Ok(false);
        }
        let released = self.tools.ledger.settle(&self.who, &back).await;
        if released.is_err() {
            // A lease that expires uses up an attempt.
            back.into_iter().for_each(|one| self.settler.settle(one));
        }
        released.map(|_| true)
    }

    fn start(&mut self, lease: Lease, purpose: AttemptPurpose, client: Arc<DestinationClient>) {
        let Lease { event, target, token, attempt: number, body, .. } = lease;
        let destination = Arc::clone(&client.destination);
        let trace = AttemptTrace::begin(&self.tools.metrics, event, number);
        let flight = InFlight { event, target, token, number, destination, purpose };
        let order = AttemptOrder { flight, client, body, trace };
        self.attempts.start(order, &self.tools.ledger);
    }
}

// === Results ===

impl DispatchLoop {
    /// Handles the end of an attempt, and of all others that have ended.
    fn end_all(&mut self, ended: AttemptEnd) {
        let now = instant();
        let mut next = Some(ended);
        while let Some(ended) = next {
            self.end(ended, now);
            next = self.attempts.next_ended();
        }
    }

    fn end(&mut self, ended: AttemptEnd, now: Instant) {
        let AttemptEnd { flight, report } = ended;
        let result = report.as_ref().map(|report| report.result);
        if let Some(change) = self.table.end(&flight.target, result, now) {
            self.note_breaker(&flight.target, change);
        }
        match report {
            Some(report) => self.settle(flight, report, now),
            // The lease expires, and the attempt counts.
            None => tracing::error!(event = %flight.event, "an attempt stopped unexpectedly"),
        }
    }

    /// Notes that a destination answered outside of its deliveries.
    fn note_answer(&mut self, target: &TargetId) {
        if let Some(change) = self.table.answered(target, instant()) {
            self.note_breaker(target, change);
        }
        self.may_be_due = true;
    }

    fn note_breaker(&self, target: &TargetId, change: Change) {
        if let Some(state) = self.table.get(target) {
            match change {
                Change::Opened(_) => state.metrics.health.breaker_opened(now_ms()),
                Change::Closed => state.metrics.health.breaker_closed(),
            }
        }
        log_breaker_change(target, change);
    }

    fn settle(&mut self, flight: InFlight, mut report: AttemptReport, now: Instant) {
        let (mut result, outcome) =
            report.result.lease_result(flight.number, flight.destination.retry);
        let seconds = f64::from(report.attempt.latency_ms) / 1000.0;
        self.tools.metrics.delivery_attempt_seconds.observe(seconds);
        let state = self.table.get(&flight.target);
        if let Some(state) = state {
            let took = Duration::from_millis(u64::from(report.attempt.latency_ms));
            state.metrics.count(outcome, now, took);
            state.note(report.result, &report.attempt, result);
        }
        let recorded = self.recorder.record(flight.event, &flight.destination, &mut report);
        if let Some(recorded) = recorded {
            if outcome == DeliveryOutcome::Done {
                result = LeaseResult::Decided;
            }
            if let Some(state) = state {
                state.metrics.count_verdict(recorded);
            }
        }
        log_result(&flight, &report.attempt, outcome);
        match outcome {
            DeliveryOutcome::Gone => self.leave(&flight.target),
            // Others may have begun before the 410.
            DeliveryOutcome::Done
                if flight.purpose == AttemptPurpose::Trial
                    && state.is_some_and(DestinationState::is_gone) =>
            {
                self.return_to(&flight.target);
            }
            DeliveryOutcome::Done | DeliveryOutcome::Retry | DeliveryOutcome::Dead => {}
        }
        let InFlight { event, target, token, .. } = flight;
        let attempt = report.attempt;
        self.settler.settle(Settlement { event, target, token, result, attempt });
    }
}

/// A task that is aborted when its handle is dropped.
struct Aborted(JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn log_breaker_change(target: &TargetId, change: Change) {
    let destination = target.as_str();
    match change {
        Change::Opened(time) => {
            tracing::warn!(
                destination,
                ?time,
                "circuit breaker opened after ten failures in a row"
            );
        }
        Change::Closed => tracing::info!(destination, "circuit breaker closed"),
    }
}

/// Logs the result of an attempt: `debug` for a retry.
fn log_result(flight: &InFlight, attempt: &Attempt, outcome: DeliveryOutcome) {
    // As text, which the log takes as it is.
    let (mut id, destination) = ([0; EventId::TEXT_BYTES], flight.target.as_str());
    let event = flight.event.encode(&mut id);
    let (number, status, millis) = (flight.number, attempt.status, attempt.latency_ms);
    let error = attempt.error.as_deref();
    match outcome {
        DeliveryOutcome::Done => {
            tracing::info!(event, destination, attempt = number, status, millis, "delivered");
        }
        DeliveryOutcome::Retry => {
            tracing::debug!(
                event,
                destination,
                attempt = number,
                status,
                millis,
                error,
                "delivery will be retried"
            );
        }
        DeliveryOutcome::Dead | DeliveryOutcome::Gone => {
            tracing::warn!(
                event,
                destination,
                attempt = number,
                status,
                millis,
                error,
                "delivery dead-lettered"
            );
        }
    }
}

/// The pauses after the ledger failed.
fn backoff() -> Backoff {
    Backoff::new(PAUSE_FIRST, PAUSE_MAX)
}

/// The name of this process among those that share a ledger.
fn node() -> NodeId {
    let host = host::name().unwrap_or_else(|| String::from("postern"));
    // Without random bytes the process id and the start time tell two processes apart.
    let random = getrandom::u64().unwrap_or_else(|_| {
        u64::from(std::process::id()) ^ u64::try_from(crate::clock::now_ms()).unwrap_or(0)
    });
    NodeId::from(format!("{host}-{random:016x}"))
}
