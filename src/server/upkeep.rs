//! Upkeep: deletes expired data, and scrubs the whole store repeatedly to find damage. Both work in
//! small steps with rests between them: callbacks are not delayed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::keyring;
use crate::archive::{self, Archiver};
use crate::clock::{instant, now_ms};
use crate::config::{Config, QUARANTINE_KEEP, Source};
use crate::ledger::{
    BatchedLedger, EarlyExpiry, HeldRetention, KeepKeys, LedgerError, Retention, ScrubShare,
    Scrubber, SourceId, Swept,
};
use crate::lifecycle::Lifecycle;
use crate::registry::Registry;
use crate::telemetry::Metrics;

/// The interval between rounds: data that is kept for days may expire a minute late.
const EVERY: Duration = Duration::from_secs(60);

/// Events and keys of one step. A step is at least one segment of the journal, 64 MiB.
const STEP: usize = 10_000;

/// The minimum rest between steps; otherwise as long as the last step. A sweep works for less than
/// half of the time, and deletes well over 10,000 keys a second if necessary.
const REST: Duration = Duration::from_millis(100);

/// How long samples of rejected callbacks are kept: a week's holiday, and a day to look.
const KEEP_SAMPLES: Duration = Duration::from_secs(8 * 86_400);

/// The handle of the sweep and scrub task.
#[derive(Debug)]
pub(super) struct Upkeep {
    config: watch::Sender<Arc<Config>>,
    share: watch::Sender<Option<ScrubShare>>,
    scrubber: Scrubber,
    task: JoinHandle<()>,
}

impl Upkeep {
    /// Starts the task, which runs until the drain.
    pub(super) fn start(
        config: &Arc<Config>,
        registry: Registry,
        metrics: Arc<Metrics>,
        life: Arc<Lifecycle>,
    ) -> Self {
        let (sender, changes) = watch::channel(Arc::clone(config));
        let (share, shares) = watch::channel(config.store.scrub);
        let scrubber = Scrubber::default();
        let (scrub, engine) = (scrubber.clone(), registry.ledger().engine().clone());
        let (ledger, keys) = (registry.ledger().clone(), keyring(&config.store));
        let archived = Arc::new(Notify::new());
        let archiver = Archiver::new(ledger, Arc::clone(&metrics), keys, Arc::clone(&archived));
        let work = async move {
            let read = |bytes| metrics.store.scrubbed_bytes.inc_by(bytes);
            tokio::select! {
                () = life.draining() => {}
                ((), (), ()) = async {
                    tokio::join!(
                        rounds(&changes, &registry, &metrics, &archived),
                        archiver.run(changes.clone()),
                        scrub.run(engine, shares, read),
                    )
                } => {}
            }
        };
        Self { config: sender, share, scrubber, task: tokio::spawn(work) }
    }

    /// Applies another configuration.
    pub(super) fn applier(&self) -> impl Fn(&Arc<Config>) + Send + Sync + use<> {
        let (changes, share) = (self.config.clone(), self.share.clone());
        move |config| {
            drop(changes.send_replace(Arc::clone(config)));
            share.send_if_modified(|share| {
                let changed = *share != config.store.scrub;
                *share = config.store.scrub;
                changed
            });
        }
    }

    /// The handle of the scrub.
    pub(super) fn scrubber(&self) -> Scrubber {
        self.scrubber.clone()
    }

    /// Waits until the task has ended. A step in progress is not awaited.
    pub(super) async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "retention stopped unexpectedly");
        }
    }
}

async fn rounds(
    changes: &watch::Receiver<Arc<Config>>,
    registry: &Registry,
    metrics: &Metrics,
    archived: &Notify,
) {
    let mut watch = StoreWatch::Ready;
    loop {
        let mut pause = EVERY;
        let config = Arc::clone(&changes.borrow());
        watch.look(registry.ledger()).await;
        let began = instant();
        match round(registry, &config).await {
            Ok(swept) => {
                let Swept { events, keys, bytes, more: _ } = swept;
                metrics.store.swept_events.inc_by(events);
                metrics.store.swept_keys.inc_by(keys);
                metrics.store.swept_bytes.inc_by(bytes);
                if events + keys > 0 {
                    tracing::info!(events, keys, bytes, "deleted expired data");
                }
                if swept.more {
                    pause = began.elapsed().max(REST);
                }
            }
            // The ledger logged its failure when it stopped.
            Err(error) if error.is_fatal() => {}
            Err(error) => tracing::warn!(%error, "could not delete expired data"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = archived.notified() => {}
        }
    }
}

/// Whether the store was ready when it was last looked at: its changes are logged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StoreWatch {
    Ready,
    Unready,
}

impl StoreWatch {
    async fn look(&mut self, ledger: &BatchedLedger) {
        let why = match ledger.health().await {
            Ok(health) => health.unready(),
            Err(error) => Some(error.to_string()),
        };
        match (why, *self) {
            (Some(why), Self::Ready) => {
                tracing::warn!(why, "the store is not ready: /readyz sends load balancers away");
                *self = Self::Unready;
            }
            (None, Self::Unready) => {
                tracing::info!("the store is ready again");
                *self = Self::Ready;
            }
            (Some(_), Self::Unready) | (None, Self::Ready) => {}
        }
    }
}

/// One step: events and keys, and expired notes.
async fn round(registry: &Registry, config: &Config) -> Result<Swept, LedgerError> {
    let (mut policy, mut early) = (retention(config), early(config));
    archive::hold_back(registry.ledger(), config, &mut policy, &mut early).await?;
    let mut swept = registry.ledger().sweep(&policy, STEP).await?;
    for one in &early {
        let Swept { events, bytes, more, .. } = registry.ledger().expire_early(one, STEP).await?;
        swept.events += events;
        swept.bytes += bytes;
        swept.more |= more;
    }
    registry.forget_resolved(policy.keep_events, policy.now_ms).await?;
    Ok(swept)
}

/// The retention policy. A key outlives every moment at which its callback could be accepted again:
/// forever without a time limit, or if its source is not configured any more.
fn retention(config: &Config) -> Retention {
    let dated = config.sources.values().filter_map(|source| {
        let keep = source.keep.transactions.unwrap_or(config.store.keep_transactions);
        let time = keep.max(source.recipe.acceptable_for()?);
        // One that is released from quarantine is compared with what came before it.
        let time = time + source.quarantine.as_ref().map_or(Duration::ZERO, |held| held.keep);
        Some(KeepKeys { source: SourceId::from(source.id.as_str()), time })
    });
    Retention {
        now_ms: now_ms(),
        keep_events: config.store.keep_events,
        keep_keys: dated.collect(),
        held: HeldRetention { samples: Some(KEEP_SAMPLES), quarantined: quarantined(config) },
    }
}

/// Sources that keep their events for a shorter time than the store.
fn early(config: &Config) -> Vec<EarlyExpiry> {
    let now_ms = now_ms();
    let shorter = config.sources.values().filter_map(|source| {
        let keep = source.keep.events.filter(|keep| *keep < config.store.keep_events)?;
        Some(EarlyExpiry { source: SourceId::from(source.id.as_str()), keep, now_ms })
    });
    shorter.collect()
}

/// How long the quarantine of each source is kept. Where a source has none any more, what is held
/// of it stays as long as is usual.
fn quarantined(config: &Config) -> Vec<KeepKeys> {
    let keep = |source: &Source| {
        let time = source.quarantine.as_ref().map_or(QUARANTINE_KEEP, |held| held.keep);
        KeepKeys { source: SourceId::from(source.id.as_str()), time }
    };
    config.sources.values().map(|source| keep(source)).collect()
}
