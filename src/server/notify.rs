//! Starts the parts that notify operators.

use std::sync::Arc;

use tokio::sync::watch;

use super::Doors;
use super::recorder::Recorder;
use crate::alert::{self, Alerts};
use crate::registry::Registry;
use crate::telemetry::{Metrics, Peers};

/// Starts to notify operators of problems, and to keep what this gateway counted.
pub(super) fn start(
    registry: &Registry,
    metrics: &Arc<Metrics>,
    doors: &Doors,
) -> (Alerts, Recorder) {
    let (peers, known) = watch::channel(Peers::default());
    let tools = alert::Tools {
        registry: registry.clone(),
        metrics: Arc::clone(metrics),
        keys: doors.keys.clone(),
        life: Arc::clone(&doors.life),
        console: alert::console_at(&registry.config(), doors.addresses.admin),
    };
    let problems = Box::new(Alerts::own_problems(&tools, known.clone()));
    let recorder = Recorder::start(registry.book().clone(), Arc::clone(metrics), problems, peers);
    (Alerts::start(tools, known), recorder)
}
