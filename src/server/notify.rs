//! Starts the parts that notify operators.

use std::sync::Arc;

use tokio::sync::watch;

use super::open_listeners::OpenListeners;
use super::recorder::Recorder;
use crate::alert::{self, Alerts};
use crate::registry::Registry;
use crate::telemetry::{Metrics, Peers};

/// Starts to notify operators of problems, and to keep what this gateway counted.
pub(super) fn start(
    registry: &Registry,
    metrics: &Arc<Metrics>,
    listeners: &OpenListeners,
) -> (Alerts, Recorder) {
    let (peers, known) = watch::channel(Peers::default());
    let tools = alert::Tools {
        registry: registry.clone(),
        metrics: Arc::clone(metrics),
        keys: listeners.keys.clone(),
        life: Arc::clone(&listeners.life),
        console: alert::console_at(&registry.config(), listeners.addresses.admin),
    };
    let problems = Box::new(Alerts::own_problems(&tools, known.clone()));
    let recorder = Recorder::start(registry.ledger().clone(), Arc::clone(metrics), problems, peers);
    (Alerts::start(tools, known), recorder)
}
