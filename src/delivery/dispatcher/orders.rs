//! Orders to the dispatcher: pauses, probes, and requests of the admin API.

use std::sync::Arc;

use super::{DispatchLoop, PAUSE_MAX, WATCH_TIME, backoff};
use crate::clock::{instant, now_ms};
use crate::delivery::control::{Condition, Control, Order};
use crate::delivery::pauses::{Changed, Pause, PauseReason, Pauses};
use crate::ledger::{LedgerError, Revision, TargetId};
use crate::lifecycle::Lifecycle;

impl DispatchLoop {
    /// Loads the pauses. No delivery starts before they are known.
    pub(super) async fn begin(&mut self) {
        let life = Arc::clone(&self.tools.life);
        let mut backoff = backoff();
        while let Err(error) = self.load_pauses().await {
            let pause = backoff.next_pause();
            tracing::warn!(%error, ?pause, "could not read pauses");
            tokio::select! {
                () = life.draining() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn load_pauses(&mut self) -> Result<(), LedgerError> {
        let mut pauses = Pauses::load(&self.tools.ledger).await?;
        for (target, pause) in &self.unpersisted {
            pauses.add(target.clone(), pause.clone());
        }
        self.table.pause(pauses);
        self.may_be_due = true;
        Ok(())
    }

    pub(super) async fn execute(&mut self, order: Order) {
        match order {
            Order::Reload(written, done) => {
                if let Some(target) = written {
                    self.unpersisted.remove(&target);
                }
                if let Err(error) = self.load_pauses().await {
                    tracing::warn!(%error, "could not read pauses, the old ones stay");
                }
                let _ = done.send(());
            }
            Order::Probe(targets) => {
                self.table.probe(targets, instant());
                self.may_be_due = true;
            }
            Order::Answered(target) => self.note_answer(&target),
            Order::Show(target, answer) => {
                if let Some(state) = self.table.get(&target) {
                    let paused = state.paused().cloned();
                    let (breaker, in_flight) = (state.breaker(), state.in_flight());
                    let health = state.metrics.health.view();
                    let _ = answer.send(Condition { breaker, paused, in_flight, health });
                }
            }
            Order::Lend(target, answer) => {
                if let Some(state) = self.table.get(&target) {
                    let _ = answer.send(Arc::clone(&state.client));
                }
            }
        }
    }

    /// Pauses a backend that answered 410.
    pub(super) fn leave(&mut self, target: &TargetId) {
        if self.table.get(target).is_none_or(|state| state.paused().is_some()) {
            return;
        }
        tracing::error!(
            destination = target.as_str(),
            "paused: the backend answered 410, that it wants no more deliveries; resume it over \
             the admin API when it does"
        );
        let (why, who) = (PauseReason::Gone, String::from("postern"));
        let pause = Pause { why, at_ms: now_ms(), who, note: None };
        self.unpersisted.insert(target.clone(), pause.clone());
        let mut pauses = self.table.pauses().clone();
        pauses.add(target.clone(), pause);
        self.table.pause(pauses);
        let (control, target) = (self.control.clone(), target.clone());
        tokio::spawn(async move {
            if let Err(error) = control.leave(&target).await {
                let destination = target.as_str();
                tracing::error!(destination, %error, "could not persist pause, it ends on restart");
            }
        });
    }

    /// Resumes a backend that answered 410 and then accepted a manual replay.
    pub(super) fn return_to(&self, target: &TargetId) {
        let (control, target) = (self.control.clone(), target.clone());
        tokio::spawn(async move {
            let destination = target.as_str();
            match control.return_to(&target).await {
                Ok(Changed::Yes) => {
                    tracing::info!(
                        destination,
                        "destination resumed: its backend accepts deliveries again"
                    );
                }
                // An operator paused it meanwhile, or has resumed it.
                Ok(Changed::No) => {}
                Err(error) => tracing::warn!(destination, %error, "could not resume destination"),
            }
        });
    }
}

/// Applies pauses that another gateway wrote.
pub(super) async fn watch_pauses(control: Control, life: Arc<Lifecycle>) {
    let mut seen = Revision(0);
    while !life.is_draining() {
        match control.reload_after(seen, WATCH_TIME).await {
            Ok(revision) => seen = revision,
            Err(_) => tokio::time::sleep(PAUSE_MAX).await,
        }
    }
}
