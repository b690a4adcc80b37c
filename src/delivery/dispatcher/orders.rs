//! What the courier is told: pauses, and the orders of those who look after destinations.

use std::sync::Arc;

use super::{PAUSE_FIRST, PAUSE_MAX, Round, WATCH_TIME};
use crate::clock::{instant, now_ms};
use crate::delivery::control::{Condition, Control, Order};
use crate::delivery::pauses::{Pause, PauseReason, Pauses};
use crate::ledger::{LedgerError, Revision, TargetId};
use crate::lifecycle::Lifecycle;

impl Round {
    /// Nothing is delivered before it is known what is paused.
    pub(super) async fn begin(&mut self) {
        let life = Arc::clone(&self.tools.life);
        let mut pause = PAUSE_FIRST;
        while let Err(error) = self.load_pauses().await {
            tracing::warn!(%error, ?pause, "the pauses cannot be read");
            tokio::select! {
                () = life.draining() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    async fn load_pauses(&mut self) -> Result<(), LedgerError> {
        let mut pauses = Pauses::load(&self.tools.book).await?;
        for (target, pause) in &self.unwritten {
            pauses.add(target.clone(), pause.clone());
        }
        self.lanes.pause(pauses);
        self.look = true;
        Ok(())
    }

    pub(super) async fn obey(&mut self, order: Order) {
        match order {
            Order::Reload(written, done) => {
                if let Some(target) = written {
                    self.unwritten.remove(&target);
                }
                if let Err(error) = self.load_pauses().await {
                    tracing::warn!(%error, "the pauses cannot be read; the old ones stay");
                }
                let _ = done.send(());
            }
            Order::Probe(targets) => {
                self.lanes.probe(targets, instant());
                self.look = true;
            }
            Order::Show(target, answer) => {
                if let Some(lane) = self.lanes.get(&target) {
                    let paused = lane.paused.clone();
                    let (breaker, in_flight) = (lane.breaker(), lane.in_flight());
                    let _ = answer.send(Condition { breaker, paused, in_flight });
                }
            }
            Order::Lend(target, answer) => {
                if let Some(lane) = self.lanes.get(&target) {
                    let _ = answer.send(Arc::clone(&lane.postal));
                }
            }
        }
    }

    /// A backend wants no more: it is left alone from now on.
    pub(super) fn leave(&mut self, target: &TargetId) {
        if self.lanes.get(target).is_none_or(|lane| lane.paused.is_some()) {
            return;
        }
        tracing::error!(
            destination = target.as_str(),
            "paused: the backend answered 410, that it wants no more deliveries; resume it over \
             the admin API when it does"
        );
        let (why, who) = (PauseReason::Gone, String::from("postern"));
        let pause = Pause { why, at_ms: now_ms(), who };
        self.unwritten.insert(target.clone(), pause.clone());
        let mut pauses = self.lanes.pauses().clone();
        pauses.add(target.clone(), pause);
        self.lanes.pause(pauses);
        let (control, target) = (self.control.clone(), target.clone());
        tokio::spawn(async move {
            if let Err(error) = control.gone(&target).await {
                let destination = target.as_str();
                tracing::error!(destination, %error, "its pause ends with this process");
            }
        });
    }

    /// A backend that wanted no more took what was replayed by hand.
    pub(super) fn return_to(&self, target: &TargetId) {
        let (control, target) = (self.control.clone(), target.clone());
        tokio::spawn(async move {
            let destination = target.as_str();
            match control.resume(&target, "postern").await {
                Ok(()) => {
                    tracing::info!(destination, "resumed: the backend takes deliveries again");
                }
                Err(error) => tracing::warn!(destination, %error, "it stays paused"),
            }
        });
    }
}

/// Notices pauses that another gateway wrote.
pub(super) async fn watch_pauses(control: Control, life: Arc<Lifecycle>) {
    let mut seen = Revision(0);
    while !life.is_draining() {
        match control.reload_after(seen, WATCH_TIME).await {
            Ok(revision) => seen = revision,
            Err(_) => tokio::time::sleep(PAUSE_MAX).await,
        }
    }
}
