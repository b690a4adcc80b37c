//! A configuration that was read, until it is applied or rejected.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Occasional;
use crate::config::Config;
use crate::registry::{Registry, ReloadError};
use crate::telemetry::Metrics;

/// The interval of tries while the ledger cannot be read: the file is not read again for it, so
/// nothing else would apply it.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// The interval of log lines about tries of one configuration.
const FAILURES_EVERY: Duration = Duration::from_secs(60);

/// A configuration that was read and is not applied yet.
#[derive(Debug)]
pub(super) struct Pending {
    file: Arc<Config>,
    failures: Occasional,
}

/// The result of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReloadProgress {
    /// Applied, or rejected.
    Settled,
    /// Neither: the ledger could not be read.
    Retry,
}

impl Pending {
    pub(super) fn new(file: Arc<Config>) -> Self {
        Self { file, failures: Occasional::new(FAILURES_EVERY) }
    }

    /// Applies the configuration. Bound sockets stay. Nothing is half applied if this is dropped.
    pub(super) async fn apply(&self, registry: &Registry, metrics: &Metrics) -> ReloadProgress {
        let failed = match registry.reload(Arc::clone(&self.file)).await {
            Ok(()) => {
                tracing::info!("applied the configuration");
                metrics.program.reloaded();
                registry.warn_of_unconfigured();
                return ReloadProgress::Settled;
            }
            Err(failed) => failed,
        };
        metrics.program.reload_failed();
        match failed {
            ReloadError::Clash(clashes) => {
                for clash in clashes {
                    tracing::error!(clash, "the configuration clashes with an object of an API");
                }
                tracing::error!("could not apply the new configuration, the old one stays");
                ReloadProgress::Settled
            }
            ReloadError::Ledger(error) => {
                if let Some(others) = self.failures.admit() {
                    tracing::error!(%error, others, "could not apply the new configuration yet");
                }
                ReloadProgress::Retry
            }
        }
    }
}
