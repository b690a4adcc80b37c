//! Keeps what this gateway counted in the ledger, and reads what the others counted.
//!
//! One record for each gateway, replaced every few seconds: the cost does not depend on the number
//! of callbacks. A crash loses the counts since the last record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::{Occasional, now_ms};
use crate::ledger::{
    BatchedLedger, EventId, GatewayRecord, GatewayReport, GatewaySlot, LedgerError, NodeId,
};
use crate::telemetry::{Metrics, Peers};

/// The interval of records: a crash loses the counts of 10 s, and other gateways are known as they
/// were 10 s ago.
const EVERY: Duration = Duration::from_secs(10);

/// How long a gateway counts as alive after a record: two may be late.
const TTL: Duration = Duration::from_secs(30);

/// The time limit of the last record during a stop.
const LAST_TIME: Duration = Duration::from_secs(2);

/// The interval of log lines about a ledger that takes no records.
const FAILURES_EVERY: Duration = Duration::from_secs(60);

/// The handle of the task.
#[derive(Debug)]
pub(super) struct Recorder {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// The problems that only this gateway sees, for the gateway that leads.
pub(super) type OwnView = Box<dyn Fn() -> Bytes + Send + Sync>;

struct Task {
    ledger: BatchedLedger,
    metrics: Arc<Metrics>,
    problems: OwnView,
    peers: watch::Sender<Peers>,
    who: NodeId,
    failures: Occasional,
}

impl Recorder {
    /// Starts the task: continues the counts of a gateway that has ended, then keeps its own.
    /// `peers` receives what is known of the others.
    pub(super) fn start(
        ledger: BatchedLedger,
        metrics: Arc<Metrics>,
        problems: OwnView,
        peers: watch::Sender<Peers>,
    ) -> Self {
        let (end, ended) = oneshot::channel();
        let who = NodeId::from(EventId::new(now_ms()).to_string());
        let failures = Occasional::new(FAILURES_EVERY);
        let task = Task { ledger, metrics, problems, peers, who, failures };
        Self { end, task: tokio::spawn(task.run(ended)) }
    }

    /// Writes the last record. Call it when nothing is counted any more.
    pub(super) async fn end(self) {
        let _ = self.end.send(());
        if tokio::time::timeout(LAST_TIME, self.task).await.is_err() {
            tracing::warn!("could not keep the last counts in time");
        }
    }
}

impl Task {
    async fn run(self, mut ended: oneshot::Receiver<()>) {
        let mut slot = None;
        loop {
            match slot {
                None => slot = self.noted(self.join().await),
                Some(own) => match self.noted(self.report(own, TTL).await) {
                    Some(true) | None => {}
                    Some(false) => {
                        // This gateway stood still, and another one continues its counts.
                        tracing::warn!("another gateway took over the counts of this one");
                        slot = None;
                        continue;
                    }
                },
            }
            let rest = if slot.is_some() { EVERY } else { EVERY / 10 };
            tokio::select! {
                _ = &mut ended => break,
                () = tokio::time::sleep(rest) => {}
            }
        }
        if let Some(own) = slot {
            self.noted(self.report(own, Duration::ZERO).await);
        }
    }

    /// Takes a slot, and goes on with what its last gateway counted.
    async fn join(&self) -> Result<GatewaySlot, LedgerError> {
        let GatewayRecord { slot, body, .. } = self.ledger.join(&self.who, TTL).await?;
        self.metrics.adopt_record(&body);
        self.report(slot, TTL).await?;
        Ok(slot)
    }

    /// Writes the record and reads those of the others; `false`: the slot is lost.
    async fn report(&self, slot: GatewaySlot, ttl: Duration) -> Result<bool, LedgerError> {
        let body = self.metrics.gateway_record(now_ms(), &(self.problems)());
        let who = self.who.clone();
        let others = self.ledger.report(&GatewayReport { slot, who, ttl, body }).await?;
        let Some(others) = others else { return Ok(false) };
        let said = self.metrics.set_other_records(others.iter().map(|other| &other.body[..]));
        let living = others.iter().zip(said).filter(|(other, _)| other.is_live);
        let leads = !others.iter().any(|other| other.is_live && other.slot < slot);
        let notes = living.filter_map(|(_, notes)| notes).collect();
        self.peers.send_replace(Peers { leads, notes });
        Ok(true)
    }

    fn noted<T>(&self, result: Result<T, LedgerError>) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(error) => {
                if let Some(others) = self.failures.admit() {
                    tracing::warn!(%error, others, "could not keep the counts of this gateway");
                }
                None
            }
        }
    }
}
